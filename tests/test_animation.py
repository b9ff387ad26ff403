"""Animated images: frames, timing, loops, and the budget over which one frame stands for all."""

import io
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

from thumbnailer.imaging import Made, animation

COLOURS = (RED, GREEN, BLUE, YELLOW)
KINDS = ("GIF", "PNG", "WEBP", "AVIF")


def animated(
    kind: str,
    size: tuple[int, int] = (300, 200),
    durations: tuple[int, ...] = (100, 250, 70, 400),
    **options: Any,
) -> bytes:
    """A file of one plain frame for each duration (ms), in four colours by turns."""
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
    return thumbnails_of(data, widths, 90, options.pop("memory_mb", 512), **options)


def shown(webp: bytes) -> list[tuple[tuple[int, ...], int]]:
    """The colour in the middle of each frame of a WebP, as RGBA, and its duration in ms."""
    image = decoded(webp)
    seen = []
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        image.load()
        pixel = image.convert("RGBA").getpixel((image.width // 2, image.height // 2))
        assert isinstance(pixel, tuple)
        seen.append((pixel, image.info["duration"]))
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_keeps_its_picture_and_its_time(kind: str) -> None:
    """Each kind of animation becomes an animated WebP at every width, timing and all."""
    result = made(animated(kind))
    assert result.notes == ()
    assert [thumbnail.size for thumbnail in result.thumbnails] == [(64, 43), (128, 85)]
    for thumbnail in result.thumbnails:
        assert decoded(thumbnail.data).size == thumbnail.size
        seen = shown(thumbnail.data)
        assert [duration for _, duration in seen] == [100, 250, 70, 400]
        for (colour, _), expected in zip(seen, COLOURS, strict=True):
            assert near(colour, (*expected, 255), 8)


@pytest.mark.parametrize("kind", KINDS)
def test_animation_can_be_turned_off(kind: str) -> None:
    """With ANIMATED=false the first frame stands for all, and that is no news for the log."""
    result = made(animated(kind), animated=False)
    assert result.notes == ()
    for thumbnail in result.thumbnails:
        assert not getattr(decoded(thumbnail.data), "is_animated", False)
        assert near(shown(thumbnail.data)[0][0], (*RED, 255), 8)


@pytest.mark.parametrize(
    ("kind", "told", "plays"),
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
def test_it_is_played_as_often(kind: str, told: int | None, plays: int) -> None:
    """A GIF counts repetitions, PNG and WebP how often it is played; 0 is for ever."""
    options = {} if told is None else {"loop": told}
    data = made(animated(kind, **options)).thumbnails[0].data
    assert decoded(data).info["loop"] == plays


def test_disposal_is_done() -> None:
    """Frames that leave, clear and restore what was there come out as a browser shows them."""
    size = (100, 100)
    base = Image.new("RGBA", size, (*RED, 255))
    patches = []
    for colour in (GREEN, BLUE, YELLOW):
        patch = Image.new("RGBA", size, (0, 0, 0, 0))
        ImageDraw.Draw(patch).rectangle((30, 30, 70, 70), fill=(*colour, 255))
        patches.append(patch)
    data = encoded(
        base,
        "PNG",
        save_all=True,
        append_images=patches,
        duration=100,
        disposal=[0, 2, 1, 0],
        blend=[0, 1, 1, 1],
    )
    image = decoded(made(data, (100,)).thumbnails[0].data)
    expected = []
    source = Image.open(io.BytesIO(data))
    for index in range(4):
        source.seek(index)
        expected.append(source.convert("RGBA").getpixel((5, 5)))
        image.seek(index)
        got = image.convert("RGBA").getpixel((5, 5))
        assert near(got[3:], expected[-1][3:], 4)  # type: ignore[index]
        if expected[-1][3]:  # type: ignore[index]
            assert near(got, expected[-1], 12)  # type: ignore[arg-type]
    assert expected[1] != expected[3]  # so that the disposal shows


def test_transparency_of_a_gif_is_kept_in_every_frame() -> None:
    """A sticker on nothing stays on nothing, throughout."""
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


def test_a_frame_without_a_time_is_shown_as_browsers_do() -> None:
    """A duration of 0 becomes 100 ms, rather than a frame that is never seen."""
    data = made(animated("GIF", durations=(0, 0, 200))).thumbnails[0].data
    assert [duration for _, duration in shown(data)] == [100, 100, 200]


def test_orientation_and_profile_reach_every_frame() -> None:
    """A turned animation with a profile is upright sRGB in each frame, not in the first alone."""
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
    for turn in (0, 180):
        image.seek(turn // 180)
        frame = image.convert("RGB").rotate(turn)
        for point in ((25, 40), (75, 40), (25, 110), (75, 110)):
            assert near(frame.getpixel(point), upright.getpixel(point), 10)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bound", ["MAX_FRAMES", "MAX_DECODED_PIXELS", "MAX_ENCODED_PIXELS"])
def test_over_the_budget_the_first_frame_stands_for_all(
    kind: str, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each bound alone turns an animation into a still, and the log says so."""
    value = {"MAX_FRAMES": 3, "MAX_DECODED_PIXELS": 3 * 60_000, "MAX_ENCODED_PIXELS": 3 * 13_632}
    monkeypatch.setattr(animation, bound, value[bound])
    result = made(animated(kind))
    assert len(shown(result.thumbnails[0].data)) == 1
    assert near(shown(result.thumbnails[1].data)[0][0], (*RED, 255), 8)
    [note] = result.notes
    assert "first frame" in note
    assert "budget" in note
    monkeypatch.setattr(animation, bound, value[bound] * 4 // 3)
    assert len(shown(made(animated(kind)).thumbnails[0].data)) == 4


def test_frames_are_held_against_the_memory_too() -> None:
    """Forty frames of 2,000 px need more than 160 MB, and less than 512."""
    data = animated("GIF", (2000, 300), tuple(range(100, 140)))
    assert made(data, (2000,), memory_mb=160).notes
    assert not made(data, (2000,), memory_mb=512).notes


def test_a_damaged_animation_is_its_first_frame() -> None:
    """A frame that cannot be read costs the animation, not the picture; the log says so."""
    data = animated("GIF")
    result = made(data[: int(len(data) * 0.7)])
    assert near(shown(result.thumbnails[0].data)[0][0], (*RED, 255), 8)


def test_an_apng_that_promises_too_many_frames_is_its_first_one() -> None:
    """The header's count of a billion frames costs nothing."""
    data = animated("PNG")
    at = data.index(b"acTL") - 4
    control = png_chunk(b"acTL", struct.pack(">II", 1_000_000_000, 0))
    result = made(data[:at] + control + data[at + len(control) :])
    assert "budget" in result.notes[0]
    assert len(shown(result.thumbnails[0].data)) == 1


def test_the_still_of_an_apng_is_no_frame() -> None:
    """An APNG may begin with a picture for those who cannot show the others: it is left out."""
    frames = [Image.new("RGB", (100, 100), colour) for colour in (YELLOW, RED, GREEN)]
    data = encoded(
        frames[0], "PNG", save_all=True, append_images=frames[1:], duration=100, default_image=True
    )
    seen = shown(made(data, (100,)).thumbnails[0].data)
    assert len(seen) == 2
    assert near(seen[0][0], (*RED, 255), 8)
    assert near(seen[1][0], (*GREEN, 255), 8)


def test_further_pictures_of_a_file_are_no_animation() -> None:
    """A MPO, a TIFF of several pages and a HEIF of several pictures give their first picture."""
    for kind in ("MPO", "TIFF", "HEIF"):
        frames = [Image.new("RGB", (200, 100), colour) for colour in COLOURS]
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        result = made(data)
        assert result.format == {"MPO": "JPEG"}.get(kind, kind)
        assert result.notes == ()
        seen = shown(result.thumbnails[0].data)
        assert len(seen) == 1
        assert near(seen[0][0], (*RED, 255), 12)


def test_one_frame_is_a_still() -> None:
    """An animation of a single frame is a plain WebP."""
    for kind in ("GIF", "PNG", "WEBP", "AVIF"):
        data = made(animated(kind, durations=(100,))).thumbnails[0].data
        assert not getattr(decoded(data), "is_animated", False)
