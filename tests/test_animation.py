"""Animated images: frames, timing and loops, and the budget that limits them."""

import struct
from typing import Any

import pytest
from pictures import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    decoded,
    encoded,
    near,
    png_chunk,
    quadrants,
    rgb_profile,
    thumbnails_of,
)
from PIL import Image, ImageDraw

from thumbnailer.errors import CorruptImage
from thumbnailer.imaging import Made, animation
from thumbnailer.imaging.decode import open_image
from thumbnailer.imaging.formats.format import copied_bytes

COLOURS = (RED, GREEN, BLUE, YELLOW)
KINDS = ("GIF", "PNG", "WEBP", "AVIF")


def animated(
    kind: str,
    size: tuple[int, int] = (300, 200),
    durations: tuple[int, ...] = (100, 250, 70, 400),
    **options: Any,
) -> bytes:
    """Encode one plain frame for each duration (ms), in COLOURS by turns."""
    frames = [Image.new("RGB", size, COLOURS[step % 4]) for step in range(len(durations))]
    if kind == "WEBP":
        options |= {"lossless": True}
    return encoded(
        frames[0],
        kind,
        save_all=True,
        append_images=frames[1:],
        duration=list(durations),
        **options,
    )


def made(data: bytes, widths: tuple[int, ...] = (64, 128), **options: Any) -> Made:
    """Make WebP thumbnails of these widths (pixels), with quality 90."""
    return thumbnails_of(data, widths, 90, options.pop("memory_mb", 512), **options)


def frames_of(webp: bytes) -> list[tuple[tuple[int, ...], int]]:
    """Return the RGBA colour in the middle of each frame of a WebP, and its duration in ms."""
    image = decoded(webp)
    found = []
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        image.load()
        pixel = image.convert("RGBA").getpixel((image.width // 2, image.height // 2))
        assert isinstance(pixel, tuple)
        found.append((pixel, image.info["duration"]))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_keeps_its_picture_and_its_duration(kind: str) -> None:
    """Each animated format becomes an animated WebP at every width, with the same timing."""
    result = made(animated(kind))
    assert result.notes == ()
    assert [thumbnail.size for thumbnail in result.thumbnails] == [(64, 43), (128, 85)]
    for thumbnail in result.thumbnails:
        assert decoded(thumbnail.data).size == thumbnail.size
        frames = frames_of(thumbnail.data)
        assert [duration for _, duration in frames] == [100, 250, 70, 400]
        for (colour, _), expected in zip(frames, COLOURS, strict=True):
            assert near(colour, (*expected, 255), 8)


@pytest.mark.parametrize("kind", KINDS)
def test_animation_can_be_turned_off(kind: str) -> None:
    """With ANIMATED=false only the first frame is kept, and no note is logged."""
    result = made(animated(kind), animated=False)
    assert result.notes == ()
    for thumbnail in result.thumbnails:
        assert not getattr(decoded(thumbnail.data), "is_animated", False)
        assert near(frames_of(thumbnail.data)[0][0], (*RED, 255), 8)


@pytest.mark.parametrize(
    ("kind", "loop", "plays"),
    [
        ("GIF", None, 1),
        ("GIF", 0, 0),
        ("GIF", 3, 4),
        ("PNG", 0, 0),
        ("PNG", 3, 3),
        ("WEBP", 0, 0),
        ("WEBP", 3, 3),
        ("GIF", 65_535, 65_535),
    ],
)
def test_an_animation_is_played_as_often_as_its_original(
    kind: str, loop: int | None, plays: int
) -> None:
    """A GIF stores how often it is repeated, PNG and WebP how often it is played; 0 is endless."""
    options = {} if loop is None else {"loop": loop}
    data = made(animated(kind, **options)).thumbnails[0].data
    assert decoded(data).info["loop"] == plays


def apng(patches: list[tuple[int, tuple[int, int, int]]], **options: Any) -> bytes:
    """Encode 100 × 100 pixels of RED, and a further frame for each patch: its left edge and colour.

    Outside of the patch, which is 41 pixels wide and high, such a frame is transparent.
    """
    frames = []
    for left, colour in patches:
        frame = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
        ImageDraw.Draw(frame).rectangle((left, 30, left + 40, 70), fill=(*colour, 255))
        frames.append(frame)
    red = Image.new("RGBA", (100, 100), (*RED, 255))
    return encoded(red, "PNG", save_all=True, append_images=frames, duration=100, **options)


def test_frames_are_disposed_of_and_blended_as_the_file_says() -> None:
    """Frames that stay, are undone or are cleared look as the specification of PNG says.

    Expected are the colours near the corner and in the middle (third edition, 11.3.6.2).
    """
    patches = [(30, GREEN), (30, BLUE), (30, YELLOW)]
    data = apng(patches, disposal=[0, 2, 1, 0], blend=[0, 1, 1, 1])
    image = decoded(made(data, (100,)).thumbnails[0].data)
    cleared = None
    expected = [(RED, RED), (RED, GREEN), (RED, BLUE), (cleared, YELLOW)]
    for index, colours in enumerate(expected):
        image.seek(index)
        frame = image.convert("RGBA")
        for point, colour in zip(((5, 5), (50, 50)), colours, strict=True):
            *rgb, alpha = frame.getpixel(point)  # type: ignore[misc]
            assert alpha == (0 if colour is cleared else 255)
            assert colour is cleared or near(tuple(rgb), colour)


def test_an_apng_frame_that_is_undone_leaves_no_trace() -> None:
    """After a blended frame whose disposal is "previous", the picture below it is shown again."""
    data = apng([(10, GREEN), (55, BLUE)], disposal=[0, 2, 0], blend=[0, 1, 1])
    image = decoded(made(data, (100,)).thumbnails[0].data)
    image.seek(2)
    frame = image.convert("RGB")
    assert near(frame.getpixel((75, 50)), BLUE)  # type: ignore[arg-type]
    assert near(frame.getpixel((30, 50)), RED)  # type: ignore[arg-type]


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return name and content of each chunk of a PNG."""
    found, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def apng_with_still(
    still: Image.Image, *frames: tuple[Image.Image, tuple[int, int], int, int]
) -> bytes:
    """Write an APNG whose `still` is no frame. A frame is a picture, its place, disposal and blend.

    All pictures have the same mode.
    """
    (name, header), *_ = chunks = chunks_of(encoded(still, "PNG"))
    assert name == b"IHDR"
    parts = [png_chunk(b"IHDR", header), png_chunk(b"acTL", struct.pack(">II", len(frames), 0))]
    parts += [png_chunk(*each) for each in chunks[1:-1]]
    number = 0
    for frame, place, disposal, blend in frames:
        control = struct.pack(">5I2H2B", number, *frame.size, *place, 100, 1000, disposal, blend)
        parts.append(png_chunk(b"fcTL", control))
        for name, content in chunks_of(encoded(frame, "PNG")):
            if name == b"IDAT":
                number += 1
                parts.append(png_chunk(b"fdAT", struct.pack(">I", number) + content))
        number += 1
    return b"".join([b"\x89PNG\r\n\x1a\n", *parts, png_chunk(b"IEND", b"")])


def pixels_of(webp: bytes, *points: tuple[int, int]) -> list[list[tuple[int, ...]]]:
    """Return the RGBA values at some points in each frame of a WebP."""
    image = decoded(webp)
    found: list[list[tuple[int, ...]]] = []
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        frame = image.convert("RGBA")
        found.append([frame.getpixel(point) for point in points])  # type: ignore[misc]
    return found


PALETTE = (RED, GREEN, BLUE, (0, 0, 0), (255, 255, 255))


def plain(mode: str, size: tuple[int, int], colour: tuple[int, int, int]) -> Image.Image:
    """Return a picture of one colour of PALETTE; with mode P, all have the same palette."""
    if mode != "P":
        return Image.new("RGB", size, colour).convert(mode)
    image = Image.new("P", size, PALETTE.index(colour))
    image.putpalette([sample for each in PALETTE for sample in each])
    image.putpixel((0, 0), len(PALETTE) - 1)  # or Pillow would leave colours out
    return image


def is_clear(pixel: tuple[int, ...]) -> bool:
    """Whether a pixel is transparent."""
    return pixel[3] == 0


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
@pytest.mark.parametrize("animated", [True, False])
@pytest.mark.parametrize("count", [1, 2])
def test_the_still_of_an_apng_is_hidden_where_there_is_a_frame(
    mode: str,
    count: int,
    animated: bool,  # noqa: FBT001
) -> None:
    """One frame is enough; what it does not cover is transparent, and not the still."""
    still = plain(mode, (100, 100), (255, 255, 255))
    frame = plain(mode, (50, 100), (0, 0, 0))
    data = apng_with_still(still, *[(frame, (0, 0), 0, 1)] * count)
    result = made(data, (100,), animated=animated)
    assert result.notes == ()
    frames = pixels_of(result.thumbnails[0].data, (20, 50), (80, 50))
    for covered, uncovered in frames:
        assert near(covered, (0, 0, 0, 255))
        assert is_clear(uncovered)


def test_the_still_is_kept_where_the_frame_cannot_be_read() -> None:
    """An APNG without the frames that it announces is its still image, and a note says so."""
    still = Image.new("RGB", (100, 100), RED)
    control = png_chunk(b"acTL", struct.pack(">II", 1, 0))
    (name, header), *others = chunks_of(encoded(still, "PNG"))
    data = b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_chunk(name, header),
            control,
            *(png_chunk(*each) for each in others),
        ]
    )
    result = made(data, (100,))
    assert near(pixels_of(result.thumbnails[0].data, (50, 50))[0][0], (*RED, 255))
    assert "still" in result.notes[0]


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_a_cleared_part_of_an_apng_without_alpha_is_transparent(mode: str) -> None:
    """After disposal "background" nothing covers the frame's place, whatever the pixels' type."""
    red, green = plain(mode, (100, 100), RED), plain(mode, (50, 100), GREEN)
    last = plain(mode, (20, 20), GREEN)
    data = apng_with_still(red, (red, (0, 0), 0, 0), (green, (50, 0), 1, 0), (last, (0, 0), 0, 0))
    first, second, third = pixels_of(made(data, (100,)).thumbnails[0].data, (25, 50), (75, 50))
    assert near(first[1], (*RED, 255))
    assert near(second[1], (*GREEN, 255))
    assert near(third[0], (*RED, 255))
    assert is_clear(third[1])


@pytest.mark.parametrize("key", [0, b"\x00"])
def test_transparent_entries_of_a_palette_show_what_is_below(key: bytes | int) -> None:
    """An APNG with a palette is blended by the alpha of its entries."""
    frames = []
    for colours in ((GREEN, BLUE), (RED, (0, 0, 0))):
        frame = plain("P", (100, 100), colours[0])
        frame.paste(plain("P", (50, 100), colours[1]), (0, 0))
        frames.append(frame)
    below, above = frames
    data = encoded(
        below,
        "PNG",
        save_all=True,
        append_images=[above],
        transparency=key,
        blend=[0, 1],
        duration=100,
    )
    _, second = pixels_of(made(data, (100,)).thumbnails[0].data, (75, 50), (25, 50))
    assert near(second[0], (*GREEN, 255), 16)
    assert near(second[1], (0, 0, 0, 255), 16)


def test_an_animation_with_transparency_says_so_in_its_header() -> None:
    """VP8X has the alpha flag where a pixel is transparent, and else not (RFC 9649, 2.7.1)."""
    frame = Image.new("RGB", (50, 100), RED)
    other = Image.new("RGB", (50, 100), BLUE)
    still = Image.new("RGB", (100, 100), GREEN)
    for place, flag in (((0, 0), 0x10), ((50, 0), 0)):
        first = frame if flag else still
        data = apng_with_still(still, (first, (0, 0), 0, 0), (other, place, 0, 0))
        for thumbnail in made(data, (100,)).thumbnails:
            assert thumbnail.data[12:16] == b"VP8X"
            assert thumbnail.data[20] & 0x10 == flag


def test_half_transparent_frames_are_drawn_over_what_is_below() -> None:
    """Alpha is composed as the specification says: over nothing a colour stays what it is."""
    half = Image.new("RGBA", (100, 100), (*RED, 128))
    blue = Image.new("RGBA", (50, 100), (*BLUE, 255))
    data = apng_with_still(half, (blue, (0, 0), 0, 1), (half, (0, 0), 0, 1))
    _, (over_blue, over_nothing) = pixels_of(
        made(data, (100,)).thumbnails[0].data, (25, 50), (75, 50)
    )
    mixed = tuple((one + other) // 2 for one, other in zip(RED, BLUE, strict=True))
    assert near(over_blue, (*mixed, 255))
    assert near(over_nothing, (*RED, 128))


def test_frames_that_only_add_are_drawn_without_alpha() -> None:
    """A plain APNG costs no more than before: its frames stay RGB."""
    image = open_image(animated("PNG"), 512)
    assert image.mode == "RGB"
    image.seek(2)
    image.load()
    assert image.mode == "RGB"


def test_the_transparency_of_a_gif_is_kept_in_every_frame() -> None:
    """Pixels around a disc are transparent in each frame of the thumbnail, as in the original."""
    frames = []
    for colour in (RED, BLUE):
        frame = Image.new("RGBA", (120, 120), (0, 0, 0, 0))
        ImageDraw.Draw(frame).ellipse((30, 30, 90, 90), fill=(*colour, 255))
        frames.append(frame)
    data = encoded(
        frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100, disposal=2
    )
    image = decoded(made(data, (120,)).thumbnails[0].data)
    assert image.info["background"] == (0, 0, 0, 0)
    for index, colour in enumerate((RED, BLUE)):
        image.seek(index)
        rgba = image.convert("RGBA")
        assert rgba.getpixel((3, 3))[3] == 0  # type: ignore[index]
        assert near(rgba.getpixel((60, 60)), (*colour, 255), 16)  # type: ignore[arg-type]


def test_a_frame_without_a_duration_is_shown_for_100_ms() -> None:
    """Browsers show a frame whose duration is 0 for 100 ms, and so does the thumbnail."""
    data = made(animated("GIF", durations=(0, 0, 200))).thumbnails[0].data
    assert [duration for _, duration in frames_of(data)] == [100, 100, 200]


def test_orientation_and_profile_are_applied_to_every_frame() -> None:
    """A rotated animation with a colour profile is upright and in sRGB in all of its frames."""
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [quadrants((200, 300)).transpose(Image.Transpose.ROTATE_90) for _ in range(2)]
    frames[1] = frames[1].transpose(Image.Transpose.ROTATE_180)
    data = encoded(
        frames[0],
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=100,
        lossless=True,
        exif=exif,
        icc_profile=rgb_profile(),
    )
    result = made(data, (100,))
    assert result.size == (200, 300)
    image = decoded(result.thumbnails[0].data)
    assert image.size == (100, 150)
    still = encoded(quadrants((200, 300)), "PNG", icc_profile=rgb_profile())
    upright = decoded(made(still, (100,)).thumbnails[0].data).convert("RGB")
    for index, degrees in enumerate((0, 180)):
        image.seek(index)
        frame = image.convert("RGB").rotate(degrees)
        for point in ((25, 40), (75, 40), (25, 110), (75, 110)):
            assert near(frame.getpixel(point), upright.getpixel(point), 10)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", ["MAX_FRAMES", "MAX_DECODED_PIXELS", "MAX_ENCODED_PIXELS"])
def test_an_animation_over_the_budget_becomes_its_first_frame(
    kind: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each limit alone makes the thumbnail a still picture, and a note says so."""
    value = {"MAX_FRAMES": 3, "MAX_DECODED_PIXELS": 3 * 60_000, "MAX_ENCODED_PIXELS": 3 * 13_632}
    monkeypatch.setattr(animation, limit, value[limit])
    result = made(animated(kind))
    assert len(frames_of(result.thumbnails[0].data)) == 1
    assert near(frames_of(result.thumbnails[1].data)[0][0], (*RED, 255), 8)
    [note] = result.notes
    assert "first frame" in note
    assert "budget" in note
    monkeypatch.setattr(animation, limit, value[limit] * 4 // 3)
    assert len(frames_of(made(animated(kind)).thumbnails[0].data)) == 4


@pytest.mark.parametrize(
    ("canvas", "thumbnail", "frames"),
    [
        ((10, 10), (10, 10), 500),
        ((1000, 1000), (10, 10), 100),  # 100 megapixels of input
        ((4000, 2500), (10, 10), 10),
        ((1000, 500), (1000, 500), 100),  # 50 megapixels of output
    ],
)
def test_the_budget_is_what_the_documentation_says(
    canvas: tuple[int, int], thumbnail: tuple[int, int], frames: int
) -> None:
    """With any amount of memory: 500 frames, and the pixels of docs/images.md."""
    assert animation.max_frames(canvas, [thumbnail], 10.0**12, alpha=True) == frames


@pytest.mark.parametrize("alpha", [False, True])
def test_the_memory_of_an_animation_includes_the_frame_in_the_file(
    alpha: bool,  # noqa: FBT001
) -> None:
    """What the reader keeps of a canvas of 20 megapixels is not there for the thumbnails."""
    for_canvas = 20_000_000 * animation.CANVAS_BYTES
    for_frames = 2.5 * 512 * 512 * animation.FRAME_BYTES[alpha]
    counted = animation.max_frames((5000, 4000), [(512, 512)], for_canvas + for_frames, alpha=alpha)
    assert counted == 2


def test_the_memory_limits_the_number_of_frames() -> None:
    """Forty frames of 2,000 px are over the budget with 160 MB of memory, but not with 512 MB."""
    data = animated("GIF", (2000, 300), tuple(range(100, 140)))
    assert made(data, (2000,), memory_mb=160).notes
    assert not made(data, (2000,), memory_mb=512).notes


def test_a_damaged_animation_becomes_its_first_frame() -> None:
    """Where a later frame cannot be read, the thumbnail is a still picture, and a note says so."""
    data = animated("GIF")
    result = made(data[: int(len(data) * 0.7)])
    [(colour, _)] = frames_of(result.thumbnails[0].data)
    assert near(colour, (*RED, 255), 8)
    [note] = result.notes
    assert "first frame" in note


def test_an_apng_that_claims_a_billion_frames_becomes_its_first_frame() -> None:
    """The number in the header is over the budget, so that no further frame is decoded."""
    data = animated("PNG")
    at = data.index(b"acTL") - 4
    control = png_chunk(b"acTL", struct.pack(">II", 1_000_000_000, 0))
    result = made(data[:at] + control + data[at + len(control) :])
    assert "budget" in result.notes[0]
    assert len(frames_of(result.thumbnails[0].data)) == 1


def test_the_default_image_of_an_apng_is_not_a_frame() -> None:
    """The still picture for viewers that cannot show animations is left out of the thumbnail."""
    frames = [Image.new("RGB", (100, 100), colour) for colour in (YELLOW, RED, GREEN)]
    data = encoded(
        frames[0], "PNG", save_all=True, append_images=frames[1:], duration=100, default_image=True
    )
    (first, _), (second, _) = frames_of(made(data, (100,)).thumbnails[0].data)
    assert near(first, (*RED, 255), 8)
    assert near(second, (*GREEN, 255), 8)


def test_several_pictures_in_one_file_are_not_an_animation() -> None:
    """The thumbnail of an MPO, or a TIFF or HEIF with several pictures, shows the first one."""
    for kind in ("MPO", "TIFF", "HEIF"):
        frames = [Image.new("RGB", (200, 100), colour) for colour in COLOURS]
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert getattr(decoded(data), "n_frames", 1) == len(frames)
        result = made(data)
        assert result.format == {"MPO": "JPEG"}.get(kind, kind)
        assert result.notes == ()
        [(colour, _)] = frames_of(result.thumbnails[0].data)
        assert near(colour, (*RED, 255), 12)


def test_an_animation_of_one_frame_is_a_still_picture() -> None:
    """Its thumbnail is a WebP without animation, in every animated format."""
    for kind in KINDS:
        data = made(animated(kind, durations=(100,))).thumbnails[0].data
        assert not getattr(decoded(data), "is_animated", False)


def riff(data: bytes, size: int, tail: bytes = b"") -> bytes:
    """Return a WebP whose header says another size, and with bytes after its end."""
    return data[:4] + max(0, size).to_bytes(4, "little") + data[8:] + tail


WEBPS = {
    "lossy": lambda: encoded(quadrants((200, 100)), "WEBP"),
    "lossless": lambda: encoded(quadrants((200, 100)), "WEBP", lossless=True),
    "profile": lambda: encoded(quadrants((200, 100)), "WEBP", icc_profile=rgb_profile()),
    "animated": lambda: animated("WEBP"),
}


@pytest.mark.parametrize("name", WEBPS)
@pytest.mark.parametrize("off", [-10_000, -7, -1, 1, 2, 100, 2**31])
def test_a_webp_whose_header_has_a_wrong_size_is_read(name: str, off: int) -> None:
    """Where all chunks are there, the thumbnails are those of the sound file."""
    data = WEBPS[name]()
    [expected] = made(data, (100,)).thumbnails
    for tail in (b"", b"\0" * 9, b"\xff" * 50):
        [thumbnail] = made(riff(data, len(data) - 8 + off, tail), (100,)).thumbnails
        assert thumbnail.data == expected.data


@pytest.mark.parametrize("name", WEBPS)
def test_a_webp_whose_picture_is_cut_off_stays_corrupt(name: str) -> None:
    """A wrong size hides no damage: a file that ends in its picture is refused as before."""
    data = WEBPS[name]()
    cut = data[: data.rindex(b"VP8") + 20]
    for size in (len(data) - 8, len(cut) - 8 + 1, 4):
        with pytest.raises(CorruptImage):
            made(riff(cut, size))


def test_the_copy_of_a_corrected_webp_is_counted() -> None:
    """It is a copy of the file, which a sound one needs not."""
    data = WEBPS["lossy"]()
    sound, wrong = (open_image(each, 512) for each in (data, riff(data, 0)))
    assert (copied_bytes(sound), copied_bytes(wrong)) == (0, len(data))


@pytest.mark.parametrize("off", [0, 7])
@pytest.mark.parametrize("animated", [True, False])
def test_what_no_frame_of_a_webp_covers_is_transparent(
    off: int,
    animated: bool,  # noqa: FBT001
) -> None:
    """Also where its header has no alpha flag, and where it has a wrong size beside that."""
    frames = [Image.new("RGBA", (100, 100), (0, 0, 0, 0)) for _ in range(2)]
    for frame, colour in zip(frames, (RED, BLUE), strict=True):
        frame.paste((*colour, 255), (50, 0, 100, 100))
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=100)
    assert data[20] & 0x10 == 0
    data = riff(data, len(data) - 8 + off)
    found = pixels_of(made(data, (100,), animated=animated).thumbnails[0].data, (20, 50), (75, 50))
    assert len(found) == (2 if animated else 1)
    for (outside, inside), colour in zip(found, (RED, BLUE), strict=False):
        assert is_clear(outside)
        assert near(inside, (*colour, 255), 16)


def test_a_webp_whose_frames_cover_it_has_no_alpha() -> None:
    """Its frames stay RGB, and the file is not copied."""
    data = animated("WEBP")
    plain = data[:20] + bytes([data[20] & ~0x10]) + data[21:]
    image = open_image(plain, 512)
    assert image.mode == "RGB"
    assert copied_bytes(image) == 0
