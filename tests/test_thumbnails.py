"""Thumbnails: size, orientation, colour and alpha; and files that cannot become thumbnails."""

import subprocess
import sys
import zlib
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import (
    BLUE,
    RED,
    corners,
    decoded,
    encoded,
    is_upright,
    jpeg,
    near,
    png,
    png_chunk,
    quadrants,
    thumbnails_of,
)
from PIL import Image, ImageCms, ImageDraw

from thumbnailer.errors import CorruptImage, ImageTooLarge, PermanentError, UnsupportedImage
from thumbnailer.imaging import ENCODERS, Size, Thumbnail, ThumbnailSpec, identify
from thumbnailer.imaging.formats import FORMATS, load
from thumbnailer.imaging.resize import resize, shrink

TRANSPOSED = {  # EXIF orientation → how the camera stored the upright picture
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

FORMAT_NAMES = [load(name).name for name in FORMATS if name != "svg"]
"""Formats that Pillow can write, with the plugins of the tests."""


def thumbnails(
    data: bytes, widths: tuple[int, ...] = (128, 512), quality: int = 85, memory_mb: int = 512
) -> tuple[Thumbnail, ...]:
    """Make WebP thumbnails of these widths, and return them without the notes."""
    return thumbnails_of(data, widths, quality, memory_mb).thumbnails


@pytest.mark.parametrize("kind", FORMAT_NAMES)
def test_every_input_format_becomes_webp_thumbnails_of_both_widths(kind: str) -> None:
    """Each format of the registry is decoded; its thumbnails are upright WebP of the right size."""
    image = quadrants((256, 192) if kind == "ICO" else (800, 600), "P" if kind == "GIF" else "RGB")
    options = {"sizes": [image.size]} if kind == "ICO" else {}
    made = thumbnails_of(encoded(image, kind, **options), (128, 512), 85, 512)
    small, large = made.thumbnails
    assert (made.format, made.size, made.notes) == (kind, image.size, ())
    assert (small.spec.size.width, small.size) == (128, (128, 96))
    assert (large.spec.size.width, large.size) == (512, (256, 192) if kind == "ICO" else (512, 384))
    for thumbnail in (small, large):
        picture = decoded(thumbnail.data)
        assert picture.format == "WEBP"
        assert picture.size == thumbnail.size
        assert is_upright(picture, tolerance=16)


def test_thumbnails_are_returned_in_the_order_of_their_specs() -> None:
    """They are made from the largest to the smallest, and returned in the caller's order."""
    assert [t.spec.size.width for t in thumbnails(jpeg(), (64, 512, 128))] == [64, 512, 128]


def test_a_picture_is_never_enlarged() -> None:
    """A picture of 300 px has a thumbnail of 300 px for every larger width, encoded only once."""
    small, large, larger = thumbnails(jpeg((300, 200)), (128, 512, 1024))
    assert small.size == (128, 85)
    assert large.size == larger.size == (300, 200)
    assert large.data is larger.data


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1201, 803), (640, 1999), (300, 20)])
def test_plain_widths_have_the_bytes_that_they_have_always_had(
    size: tuple[int, int], mode: str
) -> None:
    """The largest is scaled from the image, each smaller one from the next larger: version 0.1.0.

    Deployed stacks make nothing again after an update, so bytes must not depend on its version.
    """
    noise = [Image.effect_noise(size, 70).rotate(90 * turn) for turn in range(4)]
    image = Image.merge("RGBA", noise).convert(mode)
    widths = [width for width in (512, 200, 64) if width <= size[0]]
    spec = ThumbnailSpec(Size.of_width(1), 85, animated=True)
    expected, picture = [], None
    for width in widths:
        scaled = (width, round(size[1] * (width / size[0])))
        if picture is None:
            picture = shrink(image, scaled, (0, 0, *size))
        picture = resize(picture, scaled)
        expected.append(ENCODERS["webp"].encode([picture], spec, [0.0], 0))
    made = thumbnails(encoded(image, "PNG", compress_level=1), tuple(widths))
    assert [each.data for each in made] == expected


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2), (127, 129)])
def test_no_side_of_a_thumbnail_is_rounded_to_zero(size: tuple[int, int]) -> None:
    """Extreme shapes have thumbnails of at least one pixel in each direction."""
    for thumbnail in thumbnails(encoded(quadrants(size), "PNG")):
        assert min(thumbnail.size) >= 1
        assert thumbnail.size[0] <= thumbnail.spec.size.width


def test_a_very_tall_picture_is_scaled_down_to_the_maximum_height_of_webp() -> None:
    """WebP allows 16,383 px: a picture of 100 × 20,000 becomes narrower instead of failing."""
    (thumbnail,) = thumbnails(encoded(Image.new("L", (100, 20_000)), "PNG"), (128,))
    assert thumbnail.size == (82, 16_383)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", TRANSPOSED)
def test_thumbnails_are_upright_for_every_exif_orientation(orientation: int, kind: str) -> None:
    """All eight EXIF orientations are applied, in every format that can contain EXIF."""
    operation = TRANSPOSED[orientation]
    image = quadrants() if operation is None else quadrants().transpose(operation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for thumbnail in thumbnails(encoded(image, kind, exif=exif)):
        assert thumbnail.size == (thumbnail.spec.size.width, thumbnail.spec.size.width * 3 // 4)
        assert is_upright(decoded(thumbnail.data), tolerance=16)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"]
)
def test_broken_exif_counts_as_upright(exif: bytes) -> None:
    """EXIF that cannot be read costs only the orientation, never the thumbnails."""
    assert is_upright(decoded(thumbnails(jpeg(exif=exif))[0].data))


def test_metadata_is_stripped() -> None:
    """Thumbnails contain no EXIF (phones write their position there), profile or XMP."""
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8825)[1] = "N"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    original = jpeg(exif=exif, icc_profile=profile, xmp=b"<x:xmpmeta/>")
    metadata = {"exif", "icc_profile", "xmp"}
    assert metadata <= set(decoded(original).info)
    for thumbnail in thumbnails(original):
        assert not metadata & set(decoded(thumbnail.data).info)
        assert b"EXIF" not in thumbnail.data


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_alpha_is_kept_and_edges_do_not_darken(kind: str) -> None:
    """A red disc on transparent black stays red up to its edge: alpha weights the average."""
    image = Image.new("RGBA", (800, 800), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((100, 100, 700, 700), fill=(*RED, 255))
    lossless = {"lossless": True} if kind == "WEBP" else {}
    (thumbnail,) = thumbnails(encoded(image, kind, **lossless), (128,), quality=100)
    picture = decoded(thumbnail.data)
    assert picture.mode == "RGBA"
    pixels = picture.load()
    assert pixels is not None
    assert pixels[0, 0][3] == 0  # type: ignore[index]
    assert pixels[64, 64][3] == 255  # type: ignore[index]
    edge = [pixels[x, 64] for x in range(128) if 40 < pixels[x, 64][3] < 255]  # type: ignore[index]
    assert edge
    assert all(near(pixel[:3], RED, 40) for pixel in edge)  # type: ignore[index]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_the_picture_is_the_same_in_every_pixel_mode(mode: str) -> None:
    """Grey, palettes, single bits, 16 bits and CMYK have thumbnails with the right colours."""
    if mode == "I;16":
        image = Image.new("I;16", (800, 600), 40_000)
    elif mode == "PA":
        image = quadrants(mode="P").convert("PA")
    else:
        image = quadrants(mode=mode)
    kind = {"CMYK": "JPEG", "YCbCr": "TIFF", "PA": "TIFF"}.get(mode, "PNG")
    picture = decoded(thumbnails(encoded(image, kind))[1].data)
    if mode == "I;16":
        assert near(picture.getpixel((50, 50)), (156, 156, 156), 2)  # type: ignore[arg-type]
    elif mode in ("1", "L", "LA"):
        grey = quadrants(mode="L").convert("RGB")
        got, expected = corners(picture), corners(grey)
        tolerance = 60 if mode == "1" else 4
        assert all(
            near(a, b, tolerance)
            for row, other in zip(got, expected, strict=True)
            for a, b in zip(row, other, strict=True)
        )
    else:
        assert is_upright(picture, tolerance=25)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_the_transparent_colour_of_a_palette_is_transparent(kind: str, bits: int) -> None:
    """The transparent colour of a GIF or PNG is transparent in the thumbnail, at any bit depth."""
    image = Image.new("P", (400, 400), 0)
    greys = [shade for shade in range(2**bits - 2) for _ in "rgb"]
    image.putpalette([*greys, *RED, *BLUE])
    red = 2**bits - 2
    image.paste(red, (0, 0, 200, 400))
    image.paste(red + 1, (200, 0, 400, 400))
    picture = decoded(thumbnails(encoded(image, kind, transparency=red), (128,))[0].data)
    assert picture.getpixel((20, 60))[3] == 0  # type: ignore[index]
    assert near(picture.getpixel((100, 60)), (*BLUE, 255))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "L"), ("PNG", "L"), ("PNG", "1"), ("PNG", "P"), ("PNG", "RGBA")]
)
def test_reducing_before_resizing_does_not_shift_the_picture(kind: str, mode: str) -> None:
    """A thumbnail shows exactly the whole picture, although reduced sizes are rounded up.

    1,025 px at 1/8 are 128.125 px, and are stored as 129. If the last pixel counted as a whole one,
    the picture would shrink to the left, and the thumbnail would be darker: nine tenths are white.
    """
    image = Image.new("L", (1025, 1025))
    image.paste(255, (0, 0, round(1025 * 0.9), 1025))
    (thumbnail,) = thumbnails(encoded(image.convert(mode), kind, quality=95), (96,), quality=100)
    grey = np.asarray(decoded(thumbnail.data).convert("L"), dtype=float)
    assert abs(grey.mean() / 255 - round(1025 * 0.9) / 1025) < 0.003


def test_pixels_are_averaged_and_not_sampled() -> None:
    """Fine lines become an even grey at a quarter of the width, and not a moiré pattern."""
    lines = np.zeros((512, 512), dtype=np.uint8)
    lines[:, ::2] = 255
    small, _ = thumbnails(encoded(Image.fromarray(lines), "PNG"), quality=100)
    grey = np.asarray(decoded(small.data).convert("L"), dtype=float)
    assert grey[8:-8, 8:-8].std() < 4
    assert abs(grey.mean() - 127.5) < 4


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", CorruptImage),
        (b"hello, I am text\n", UnsupportedImage),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", CorruptImage),
        (b"%PDF-1.7", UnsupportedImage),
        (b"\xff\xd8\xff", CorruptImage),
        (b"\x89PNG\r\n\x1a\n", CorruptImage),
        (b"RIFF\0\0\0\0WEBPVP8 ", CorruptImage),
        (b"GIF89a", CorruptImage),
        (b"BM", CorruptImage),
        (b"II*\0", CorruptImage),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", CorruptImage),
    ],
)
def test_a_file_without_a_picture_raises_a_permanent_error(
    data: bytes, error: type[PermanentError]
) -> None:
    """Text, other formats and headers without pixels each raise a permanent error with a reason."""
    with pytest.raises(error) as raised:
        thumbnails(data)
    assert str(raised.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF", "GIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_corrupt(kind: str, share: float) -> None:
    """A file with only a part of its pixels is CorruptImage, and never half a thumbnail."""
    image = Image.effect_noise((400, 400), 80).convert("P" if kind == "GIF" else "RGB")
    data = encoded(image, kind)
    with pytest.raises(CorruptImage):
        thumbnails(data[: int(len(data) * share)])


@pytest.mark.parametrize("at", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("exif", [False, True])
def test_a_damaged_png_is_corrupt(at: float, exif: bool) -> None:  # noqa: FBT001
    """A changed byte in the pixels is CorruptImage, with or without EXIF.

    Pillow loads a PNG to find EXIF after the pixels. If that fails, a second attempt to load it
    succeeds, with half of the pixels.
    """
    tags = Image.Exif()
    tags[0x010F] = "Camera"
    image = Image.effect_noise((300, 300), 80).convert("RGB")
    data = bytearray(encoded(image, "PNG", **({"exif": tags} if exif else {})))
    data[int(len(data) * at)] ^= 0xFF
    with pytest.raises(CorruptImage):
        thumbnails(bytes(data))


@pytest.mark.parametrize("order", ["<u2", ">u2"])
@pytest.mark.parametrize("size", [(800, 600), (3000, 2000)])
def test_16_bit_grey_keeps_its_brightness_at_any_size(order: str, size: tuple[int, int]) -> None:
    """The value is scaled to 8 bits in both byte orders of TIFF, in small and in large pictures."""
    values = np.full(size[::-1], 40_000, dtype=order)
    image = Image.frombytes("I;16B" if order == ">u2" else "I;16", size, values.tobytes())
    for kind in ("TIFF", "PNG"):
        if kind == "PNG" and order == ">u2":
            continue  # Pillow writes a PNG, whose byte order is fixed, from native samples only
        picture = decoded(thumbnails(encoded(image, kind))[1].data)
        assert near(picture.getpixel((50, 50)), (156, 156, 156), 2)  # type: ignore[arg-type]


def raw_png(depth: int, colour: int, row: bytes, side: int, key: bytes) -> bytes:
    """Build a square PNG of identical rows, in which the colour `key` is transparent (tRNS)."""
    head = side.to_bytes(4) * 2 + bytes((depth, colour, 0, 0, 0))
    pixels = zlib.compress((b"\0" + row) * side)
    return png((b"IHDR", head), (b"tRNS", key), (b"IDAT", pixels))


@pytest.mark.parametrize(
    ("depth", "colour", "row", "key", "alpha"),
    [
        (1, 0, b"\xff" * 8, b"\0\1", 0),
        (1, 0, b"\xff" * 8, b"\0\0", 255),
        (2, 0, b"\xaa" * 16, b"\0\2", 0),
        (8, 0, b"\x80" * 64, b"\0\x80", 0),
        (16, 0, b"\x9c\x40" * 64, b"\x9c\x40", 0),
        (8, 2, b"\x40\x2c\x57" * 64, b"\0\x40\0\x2c\0\x57", 0),
        (16, 2, b"\x40\1\x2c\1\x57\1" * 64, b"\x40\1\x2c\1\x57\1", 0),
        (16, 2, b"\x40\1\x2c\1\x57\1" * 64, b"\0\x40\0\x2c\0\x57", 255),
    ],
)
def test_the_transparent_colour_of_a_png_is_transparent_at_any_bit_depth(
    depth: int, colour: int, row: bytes, key: bytes, alpha: int
) -> None:
    """A tRNS colour has the bit depth of the file; only that colour becomes transparent."""
    picture = decoded(thumbnails(raw_png(depth, colour, row, 64, key), (64,))[0].data)
    assert picture.convert("RGBA").getpixel((32, 32))[3] == alpha  # type: ignore[index]


@pytest.mark.parametrize("progressive", [False, True])
def test_progressive_jpegs_are_refused_at_fewer_pixels(progressive: bool) -> None:  # noqa: FBT001
    """With 512 MB, 100 megapixels of 4:4:4 are decoded as a baseline but not a progressive JPEG."""
    data = bytearray(jpeg((64, 64), progressive=progressive, subsampling=0))
    frame = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[frame + 5 : frame + 9] = (10_000).to_bytes(2) * 2
    if progressive:
        with pytest.raises(ImageTooLarge, match="needs about"):
            thumbnails(bytes(data))
    else:
        assert len(thumbnails(bytes(data))) == 2  # libjpeg fills in missing pixels


def test_the_provenance_mark_changes_the_bytes_but_not_the_picture() -> None:
    """Decoders ignore the chunk with the mark, in WebP files with and without alpha."""
    opaque = thumbnails(jpeg())[0]
    transparent = thumbnails(encoded(Image.new("RGBA", (300, 200), (9, 9, 200, 90)), "PNG"))[0]
    for thumbnail in (opaque, transparent):
        one, other = (ENCODERS["webp"].mark(thumbnail.data, digest * 8) for digest in (b"1", b"2"))
        assert one != other
        assert len(one) - len(thumbnail.data) <= 40
        assert decoded(one).tobytes() == decoded(thumbnail.data).tobytes()
        assert decoded(one).size == thumbnail.size
        assert int.from_bytes(one[4:8], "little") == len(one) - 8


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP"])
def test_an_image_with_too_many_pixels_is_refused_from_its_header(kind: str) -> None:
    """The dimensions decide, before any pixel is decoded; the error says how much is needed."""
    side = 16_000 if kind == "WEBP" else 30_000
    if kind == "PNG":
        data = encoded(Image.new("1", (8, 8)), "PNG")
        data = data[:8] + png_chunk(b"IHDR", side.to_bytes(4) * 2 + data[24:29]) + data[33:]
    elif kind == "WEBP":
        packed = (side - 1) | (side - 1) << 14
        data = b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f" + packed.to_bytes(4, "little") + bytes(12)
    elif kind == "GIF":
        data = b"GIF89a" + side.to_bytes(2, "little") * 2 + b"\0\0\0,"
        data += bytes(4) + side.to_bytes(2, "little") * 2 + b"\0\x02\0;"
    else:
        data = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
        data[18:26] = side.to_bytes(4, "little") * 2
        data = bytes(data)
    with pytest.raises(
        ImageTooLarge, match=r"needs about \d+ MB .* 512 MB are available"
    ) as raised:
        thumbnails(data)
    assert raised.value.need_mb
    assert raised.value.need_mb > 512


def test_more_memory_allows_more_pixels() -> None:
    """An image that is refused with 128 MB has its thumbnails with 256 MB."""
    data = encoded(Image.new("L", (6000, 6000)), "WEBP", lossless=True, method=0)
    with pytest.raises(ImageTooLarge):
        thumbnails(data, memory_mb=128)
    assert len(thumbnails(data, memory_mb=256)) == 2


OTHER_FORMATS = (b"8BPS\0\x01", b"%!PS-Adobe-3.0", b"icns", b"P6 1 1 255\n", b"\n\5\1\1")
"""How files begin for which Pillow has a decoder, but the registry has no format."""


def test_no_other_decoder_of_pillow_can_be_reached() -> None:
    """PSD, EPS, ICNS, PPM and PCX are refused, and Pillow's plugins for them are not imported."""
    for head in OTHER_FORMATS:
        assert identify(head + bytes(64)) is None
        with pytest.raises(UnsupportedImage):
            thumbnails(head + bytes(64))
    program = (
        "import sys\n"
        "from thumbnailer.errors import UnsupportedImage\n"
        "from thumbnailer.imaging import make_thumbnails\n"
        "from thumbnailer.settings import Settings\n"
        "for head in sys.argv[1:]:\n"
        "    try:\n"
        "        make_thumbnails(bytes.fromhex(head) + bytes(64), Settings('', '').specs, 512)\n"
        "    except UnsupportedImage:\n"
        "        print(*(name for name in sys.modules if name.endswith('Plugin')))"
    )
    heads = [head.hex() for head in OTHER_FORMATS]
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program, *heads], capture_output=True, check=True, text=True
    )
    imported = [set(line.split()) for line in ran.stdout.splitlines()]
    supported = ("Avif", "Bmp", "Gif", "Jpeg", "Jpeg2K", "Png", "Tiff", "WebP")
    assert imported == [{f"PIL.{name}ImagePlugin" for name in supported}] * len(heads)


def test_a_jpeg_imports_no_decoder_but_its_own() -> None:
    """Cold starts stay short: other decoders and what converts other colours are not imported."""
    program = (
        "import sys\n"
        "from thumbnailer.imaging import make_thumbnails\n"
        "from thumbnailer.settings import Settings\n"
        "make_thumbnails(sys.stdin.buffer.read(), Settings('', '').specs, 512)\n"
        "names = ('Plugin', 'pi_heif', 'ImageCms', 'ImageMath', 'cicp', 'tone_map')\n"
        "print(*sorted(name for name in sys.modules if name.endswith(names)))"
    )
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], input=jpeg(), capture_output=True, check=True
    )
    assert ran.stdout.split() == [b"PIL.JpegImagePlugin", b"PIL.WebPImagePlugin"]


@cache
def _small(kind: str) -> bytes:
    """Return a valid file of 64 × 48 pixels in this format."""
    return encoded(quadrants((64, 48), "P" if kind == "GIF" else "RGB"), kind)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(st.sampled_from(FORMAT_NAMES), st.data())
def test_a_damaged_file_gives_thumbnails_or_a_permanent_error(kind: str, data: Any) -> None:
    """Whichever bytes of a file are overwritten, no other error than a permanent one is raised."""
    original = bytearray(_small(kind))
    for _ in range(data.draw(st.integers(1, 8))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    try:
        made = thumbnails(bytes(original))
    except PermanentError:
        return
    assert len(made) == 2
