"""JPEG 2000: decoding at a smaller scale, and the header from which memory is estimated."""

import struct
from typing import Any

import pytest
from pictures import box, decoded, encoded, is_upright, near, quadrants, rgb_profile, thumbnails_of
from PIL import Image

from thumbnailer.errors import CorruptImage, UnsupportedImage
from thumbnailer.imaging.decode import open_image
from thumbnailer.imaging.formats import load
from thumbnailer.imaging.formats.format import copied_bytes
from thumbnailer.imaging.formats.jpeg2000 import PRECINCT_BLOCKS, codestream, codestream_start

LAYOUTS: dict[str, dict[str, Any]] = {
    "default": {},
    "bare codestream": {"no_jp2": True},
    "tiles": {"tile_size": (256, 256)},
    "small blocks": {"codeblock_size": (16, 16)},
    "small precincts": {"precinct_size": (64, 64)},
    "few resolutions": {"num_resolutions": 2},
    "one resolution": {"num_resolutions": 1},
}
"""Layout of a file → the encoder's options for it."""


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(33, 25), (801, 601), (2003, 1501), (1501, 2003)])
def test_thumbnails_show_the_whole_picture_for_every_layout_and_size(
    layout: str, size: tuple[int, int]
) -> None:
    """Also where the decoder scales down: odd sizes are rounded up at each halving."""
    data = encoded(quadrants(size), "JPEG2000", **LAYOUTS[layout])
    made = thumbnails_of(data, (64, 256), 85, 512)
    assert made.size == size
    assert all(is_upright(decoded(thumbnail.data), 24) for thumbnail in made.thumbnails)


def test_the_layout_is_read_from_the_header() -> None:
    """Levels, tile size and number of code blocks are those that the encoder was given."""
    data = encoded(
        quadrants((1024, 512)),
        "JPEG2000",
        tile_size=(256, 128),
        codeblock_size=(32, 16),
        num_resolutions=3,
    )
    found = codestream(data)
    assert found[:2] == (2, (256, 128))
    assert found.blocks == 256 * 128 / 512 + 3 * PRECINCT_BLOCKS  # one precinct for each level


@pytest.mark.parametrize("data", [b"", b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x51" + bytes(60)])
def test_a_missing_header_is_an_error(data: bytes) -> None:
    """Reading the header raises ValueError; for the pipeline, such a file is CorruptImage."""
    with pytest.raises(ValueError, match=r"codestream|tiles of no size"):
        codestream(data)
    if data:
        with pytest.raises(CorruptImage):
            thumbnails_of(data, (64,), 85, 512)


@pytest.mark.parametrize("size", ["exact", "to the end", "64 bits", "beyond the end"])
def test_the_codestream_is_found_by_every_size_of_its_box(size: str) -> None:
    """0 means to the end of the file, and 1 that a size of 64 bits follows (I.4)."""
    data = encoded(quadrants((64, 48)), "JPEG2000")
    start = codestream_start(data)
    body = data[start:]
    head = {
        "exact": struct.pack(">I4s", len(body) + 8, b"jp2c"),
        "to the end": struct.pack(">I4s", 0, b"jp2c"),
        "64 bits": struct.pack(">I4sQ", 1, b"jp2c", len(body) + 16),
        "beyond the end": struct.pack(">I4s", len(data) * 2, b"jp2c"),
    }[size]
    other = data[: start - 8] + head + body
    assert other[codestream_start(other) :] == body
    with pytest.raises(ValueError, match="no codestream"):
        codestream_start(data[: start - 8])


def test_an_image_with_an_offset_is_not_scaled_by_the_decoder() -> None:
    """Its scaled size would not be that of its own pixels, so it counts as having no levels."""
    data = bytearray(encoded(quadrants((512, 512)), "JPEG2000", no_jp2=True))
    assert codestream(bytes(data)).levels == 5
    data[16:24] = (8).to_bytes(4) * 2
    assert codestream(bytes(data)).levels == 0


# --- components and colour spaces ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("mode", "space", "words"),
    [
        ("RGB", 14, "3 components in the colour space CIELAB"),
        ("RGB", 24, "3 components in the colour space e-sYCC"),
        ("RGB", 17, "3 components in the colour space grey"),
        ("L", 16, "1 components in the colour space sRGB"),
        ("RGB", 99, "3 components in the colour space number 99"),
    ],
)
def test_a_colour_space_that_is_not_read_is_refused_by_name(
    mode: str, space: int, words: str
) -> None:
    """The file is valid, so it is not corrupt; and it is never shown as if it were sRGB."""
    data = encoded(quadrants((64, 48), mode), "JPEG2000")
    at = data.index(b"colr") + 7
    with pytest.raises(UnsupportedImage, match=f"Unsupported kind of JPEG 2000: {words}"):
        thumbnails_of(data[:at] + space.to_bytes(4) + data[at + 4 :], (64,), 85, 512)


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}])
def test_more_than_four_components_are_refused_by_name(options: dict[str, Any]) -> None:
    """A picture of five inks or spectral bands is valid, and no decoder here reads it."""
    data = encoded(quadrants((64, 48)), "JPEG2000", **options)
    at = data.index(b"\xff\x4f\xff\x51") + 40
    with pytest.raises(UnsupportedImage, match="5 components"):
        thumbnails_of(data[:at] + b"\0\5" + data[at + 2 :], (64,), 85, 512)


# --- palettes -----------------------------------------------------------------------------------
NUMBERS = 12
COLOURS = [(number * 20, 255 - number * 20, number * 70 % 256, 255) for number in range(NUMBERS)]
COLOURS[5] = COLOURS[2]  # a colour that occurs twice moves none of those after it
SRGB = box(b"colr", b"\1\0\0", struct.pack(">I", 16))
GREY = box(b"colr", b"\1\0\0", struct.pack(">I", 17))
PROFILE = box(b"colr", b"\2\0\0", rgb_profile())


def palette_box(columns: int = 3, depth: int = 8) -> bytes:
    """Write the palette of COLOURS with some of its columns, each value with `depth` bits."""
    most, code = (1 << depth) - 1, "H" if depth > 8 else "B"
    rows = [
        struct.pack(f">{columns}{code}", *(round(value * most / 255) for value in each[:columns]))
        for each in COLOURS
    ]
    return box(b"pclr", struct.pack(">HB", NUMBERS, columns), bytes([depth - 1] * columns), *rows)


def mapping(*columns: int, component: int = 0, kind: int = 1) -> bytes:
    """Write which column of the palette is which channel."""
    return box(b"cmap", *(struct.pack(">HBB", component, kind, column) for column in columns))


def with_palette(*boxes: bytes, bits: int = 8, side: int = 10) -> bytes:
    """Write squares of each colour number, 4 × 3 of them, with numbers of `bits` bits."""
    image = Image.new("L", (4 * side, 3 * side))
    for number in range(NUMBERS):
        place = (number % 4 * side, number // 4 * side)
        image.paste(number + 128 - (1 << bits - 1), (*place, place[0] + side, place[1] + side))
    data = bytearray(encoded(image, "JPEG2000", irreversible=False))
    data[data.index(b"ihdr") + 14] = bits - 1
    data[data.index(b"\xff\x4f\xff\x51") + 42] = bits - 1
    start = data.index(b"jp2h") - 4
    end = start + int.from_bytes(data[start : start + 4])
    size = data[start + 8 : start + 30]
    return bytes(data[:start]) + box(b"jp2h", bytes(size), *boxes) + bytes(data[end:])


def squares(data: bytes) -> list[tuple[int, ...]]:
    """Decode a file as the pipeline does, and return the RGBA values of its squares."""
    image = open_image(data, 512)
    image.load()
    rgba = image.convert("RGBA")
    side = rgba.width // 4
    return [
        rgba.getpixel((at % 4 * side + side // 2, at // 4 * side + side // 2))  # type: ignore[misc]
        for at in range(NUMBERS)
    ]


@pytest.mark.parametrize("bits", [4, 5, 8])
@pytest.mark.parametrize("depth", [4, 8, 12, 16])
@pytest.mark.parametrize(
    "boxes",
    [(SRGB, "palette"), ("palette", SRGB), (PROFILE, "palette")],
    ids=["first", "last", "profile"],
)
def test_colours_of_a_palette_are_right(
    bits: int, depth: int, boxes: tuple[bytes | str, ...]
) -> None:
    """With any bits of a number and of a colour, also where the same colour occurs twice."""
    parts = [palette_box(3, depth) if each == "palette" else each for each in boxes]
    data = with_palette(*parts, mapping(0, 1, 2), bits=bits)  # type: ignore[arg-type]
    for got, expected in zip(squares(data), COLOURS, strict=True):
        assert near(got, expected, 255 // (2**depth - 1) // 2 + 1)


def test_channels_of_a_palette_are_mapped_and_defined() -> None:
    """The mapping and the definition of channels say which column is red, green, blue or alpha."""
    reverse = with_palette(SRGB, palette_box(), mapping(2, 1, 0))
    assert squares(reverse) == [(b, g, r, a) for r, g, b, a in COLOURS]
    defined = box(b"cdef", struct.pack(">10H", 3, 0, 0, 3, 1, 0, 2, 2, 0, 1))
    assert squares(with_palette(SRGB, palette_box(), mapping(2, 1, 0), defined)) == COLOURS
    one = with_palette(GREY, palette_box(1), mapping(0))
    assert squares(one) == [(r, r, r, 255) for r, _, _, _ in COLOURS]
    alpha = box(b"cdef", struct.pack(">13H", 4, 0, 1, 0, 1, 0, 1, 2, 0, 2, 3, 0, 3))
    data = with_palette(SRGB, palette_box(4), mapping(1, 0, 2, 3), alpha)
    assert squares(data) == [(r, b, a, g) for r, g, b, a in COLOURS]


def test_a_large_palette_image_is_not_scaled_by_the_decoder() -> None:
    """The mean of two colour numbers is another colour, so the thumbnail is made of colours."""
    data = with_palette(SRGB, palette_box(), mapping(0, 1, 2), side=300)
    assert load("jpeg2000").max_scale(data) == 1
    image = decoded(thumbnails_of(data, (40,), 95, 512).thumbnails[0].data).convert("RGB")
    for at, expected in enumerate(COLOURS):
        assert near(image.getpixel((at % 4 * 10 + 5, at // 4 * 10 + 5)), expected[:3], 24)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "boxes",
    [
        (box(b"colr", b"\1\0\0", struct.pack(">I", 12)), palette_box(4), mapping(0, 1, 2, 3)),
        (box(b"colr", b"\1\0\0", struct.pack(">I", 18)), palette_box(), mapping(0, 1, 2)),
        (SRGB, palette_box(), mapping(0, 1, 2, component=1)),
        (SRGB, palette_box(), mapping(0, 1, 2, kind=0)),
        (SRGB, palette_box(), mapping(0, 1, 3)),
        (SRGB, palette_box(), mapping(0, 1, 2), box(b"cdef", struct.pack(">4H", 1, 7, 0, 1))),
    ],
)
def test_a_palette_that_cannot_be_read_is_refused_by_name(boxes: tuple[bytes, ...]) -> None:
    """CMYK, YCC, and channels that are not in the palette are not supported, and not corrupt."""
    with pytest.raises(UnsupportedImage, match="palette of a JPEG 2000 file"):
        thumbnails_of(with_palette(*boxes), (64,), 85, 512)


def test_a_palette_that_is_cut_off_is_corrupt() -> None:
    """It says that it has more colours than there are."""
    data = bytearray(with_palette(SRGB, palette_box(), mapping(0, 1, 2)))
    place = data.index(b"pclr") + 4
    data[place : place + 2] = (1000).to_bytes(2)
    with pytest.raises(CorruptImage):
        thumbnails_of(bytes(data[: place + 60]), (64,), 85, 512)


def test_the_copy_of_a_file_with_a_palette_is_counted() -> None:
    """The decoder reads a copy without the palette."""
    data = with_palette(SRGB, palette_box(), mapping(0, 1, 2))
    image = open_image(data, 512)
    plain = encoded(Image.new("L", image.size), "JPEG2000", irreversible=False)
    assert copied_bytes(image) == len(data)
    jpeg2000 = load("jpeg2000")
    need = jpeg2000.decoder_bytes(image, data, image.size) - codestream(data).coded_bytes
    grey = jpeg2000.decoder_bytes(open_image(plain, 512), plain, image.size)
    assert need == grey - codestream(plain).coded_bytes
