"""Windows bitmaps, icons and cursors: bit fields, depths and masks, built byte by byte."""

import io
import struct
from collections.abc import Callable
from typing import Any

import pytest
from pictures import decoded, encoded, near, thumbnails_of
from PIL import Image

from thumbnailer.errors import CorruptImage, UnsupportedImage
from thumbnailer.imaging import identify
from thumbnailer.imaging.decode import open_image
from thumbnailer.imaging.formats import load
from thumbnailer.imaging.formats.bmp import BIT_FIELD_BYTES
from thumbnailer.imaging.resize import BAND_PIXELS

WIDTH, HEIGHT = 7, 5
V3, V4, V5 = 56, 108, 124
"""Sizes of the headers with a mask for alpha."""

type Masks = tuple[int, ...]
type Pixel = tuple[int, ...]


def colour(x: int, y: int) -> Pixel:
    """Return the colour that a pixel of the test picture should have, with alpha."""
    return (x * 255 // (WIDTH - 1), y * 255 // (HEIGHT - 1), (x + y) * 20, 255 - 40 * y)


def packed(pixel: Pixel, masks: Masks) -> int:
    """Put samples of 8 bits where the masks say, with as many bits as they have."""
    value = 0
    for sample, mask in zip(pixel, masks, strict=False):
        if mask:
            lowest = (mask & -mask).bit_length() - 1
            value |= round(sample * (mask >> lowest) / 255) << lowest
    return value


def bit_fields(
    bits: int, masks: Masks, size: int = V4, *, top_down: bool = False, compression: int = 3
) -> bytes:
    """Write the test picture as a BMP of 16 or 32 bits, with a header of `size` bytes."""
    code = {16: "H", 32: "I"}[bits]
    rows = b""
    for y in range(HEIGHT) if top_down else reversed(range(HEIGHT)):
        row = b"".join(struct.pack(f"<{code}", packed(colour(x, y), masks)) for x in range(WIDTH))
        rows += row.ljust(-(-len(row) // 4) * 4, b"\0")
    height = -HEIGHT if top_down else HEIGHT
    head = struct.pack("<IiiHHIIiiII", size, WIDTH, height, 1, bits, compression, 0, 0, 0, 0, 0)
    head += struct.pack(f"<{len(masks)}I", *masks)
    head = head.ljust(size, b"\0")
    offset = 14 + len(head)
    return struct.pack("<2sIHHI", b"BM", offset + len(rows), 0, 0, offset) + head + rows


def picture_of(data: bytes) -> Image.Image:
    """Decode a file as the pipeline does."""
    image = open_image(data, 512)
    image.load()
    return image


LAYOUTS: dict[str, tuple[int, Masks, int]] = {
    "565": (16, (0xF800, 0x7E0, 0x1F), 40),
    "555": (16, (0x7C00, 0x3E0, 0x1F), 40),
    "444": (16, (0xF00, 0xF0, 0xF), 40),
    "565, blue first": (16, (0x1F, 0x7E0, 0xF800), 40),
    "1555": (16, (0x7C00, 0x3E0, 0x1F, 0x8000), V4),
    "4444": (16, (0xF00, 0xF0, 0xF, 0xF000), V3),
    "4444, alpha last": (16, (0xF000, 0xF00, 0xF0, 0xF), V5),
    "332": (16, (0xE0, 0x1C, 0x3), 40),
    "8888": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), V5),
    "8888, red first": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000), V4),
    "888, red first": (32, (0xFF, 0xFF00, 0xFF0000), 40),
    "8888, alpha first": (32, (0xFF00, 0xFF0000, 0xFF000000, 0xFF), V4),
    "10 bits": (32, (0x3FF00000, 0xFFC00, 0x3FF), 52),
    "10 bits, alpha of 2": (32, (0x3FF, 0xFFC00, 0x3FF00000, 0xC0000000), V4),
    "odd places": (32, (0x1F000000, 0xFE000, 0x7F), 40),
    "red alone": (32, (0xFF0000, 0, 0), 40),
}


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_bit_fields_of_any_masks_are_read(
    name: str,
    top_down: bool,  # noqa: FBT001
) -> None:
    """Each sample is scaled to 8 bits from as many bits as its mask has; alpha counts if it is."""
    bits, masks, size = LAYOUTS[name]
    image = picture_of(bit_fields(bits, masks, size, top_down=top_down))
    alpha = len(masks) == 4
    assert image.mode == ("RGBA" if alpha else "RGB")
    for x in range(WIDTH):
        for y in range(HEIGHT):
            expected = []
            for sample, mask in zip(colour(x, y), masks, strict=False):
                most = mask // (mask & -mask) if mask else 0
                expected.append(round(round(sample * most / 255) * 255 / most) if mask else 0)
            got = image.getpixel((x, y))
            assert near(got, tuple(expected), 1), (x, y, got, expected)  # type: ignore[arg-type]


def test_bit_fields_with_alpha_behind_an_old_header_are_read() -> None:
    """BI_ALPHABITFIELDS puts four masks behind a header of 40 bytes."""
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    image = picture_of(bit_fields(32, masks, 40, compression=6))
    assert near(image.getpixel((3, 2)), colour(3, 2), 1)  # type: ignore[arg-type]


def test_a_picture_of_several_bands_of_rows_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are decoded a band at a time are where they are in a picture of one band."""
    data = bit_fields(16, (0xF00, 0xF0, 0xF))
    whole = picture_of(data)
    monkeypatch.setattr("thumbnailer.imaging.formats.bmp.BAND_PIXELS", 2 * WIDTH)
    assert picture_of(data).tobytes() == whole.tobytes()


def test_alpha_that_is_zero_everywhere_is_not_alpha() -> None:
    """A thumbnail with nothing to see would help nobody: such a bitmap is opaque."""
    for masks in ((0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xF00, 0xF0, 0xF, 0xF000)):
        bits = 32 if masks[0] > 0xFFFF else 16
        data = bytearray(bit_fields(bits, (*masks[:3], 0)))
        data[14 + 52 : 14 + 56] = masks[3].to_bytes(4, "little")
        assert picture_of(bytes(data)).getchannel("A").getextrema() == (255, 255)


COLOURS = {"green": (0, 255, 0), "blue": (0, 0, 255), "red": (255, 0, 0)}
"""The palette of a bitmap of 8 or 4 bits here."""


def with_palette(body: bytes, compression: int, colours: int, bits: int = 8) -> bytes:
    """Write a BMP of 4 × 3 pixels with COLOURS, whose header claims that there are `colours`."""
    palette = b"".join(bytes((*rgb[::-1], 0)) for rgb in COLOURS.values())
    palette = palette.ljust(4 * min(colours, 300), b"\0")
    head = struct.pack("<IiiHHIIiiII", 40, 4, 3, 1, bits, compression, len(body), 0, 0, colours, 0)
    offset = 14 + len(head) + len(palette)
    file_head = struct.pack("<2sIHHI", b"BM", offset + len(body), 0, 0, offset)
    return file_head + head + palette + body


def names_of(image: Image.Image) -> list[str]:
    """Return the rows of a picture, the first letter of a colour for each pixel; "k" is black."""
    letters = {rgb: name[0] for name, rgb in COLOURS.items()} | {(0, 0, 0): "k"}
    pixels = image.convert("RGB").load()
    assert pixels is not None
    return ["".join(letters[pixels[x, y]] for x in range(4)) for y in range(3)]  # type: ignore[index]


@pytest.mark.parametrize("colours", [257, 300, 305_402_420])
def test_a_palette_of_more_colours_than_pixels_can_name_is_cut(colours: int) -> None:
    """Browsers show such a bitmap: the colours that it uses are there."""
    data = with_palette(bytes((0, 1, 2, 0) * 3), 0, colours)
    assert names_of(picture_of(data)) == ["gbrg"] * 3
    image = open_image(data, 512)
    assert load("BMP").decoder_bytes(image, data, image.size) == len(data)  # a copy of the file


@pytest.mark.parametrize(
    ("runs", "rows"),
    [
        (b"\4\1\0\0\2\2\2\0\0\0\0\4\2\1\0\2\0\1", ["rbgr", "rrgg", "bbbb"]),
        (b"\4\1\0\0\2\2\0\1", ["kkkk", "rrkk", "bbbb"]),
        (b"\2\1\0\0\4\2\0\0\1\1\0\1", ["bkkk", "rrrr", "bbkk"]),
        (b"\1\1\0\2\2\1\1\2\0\1", ["kkkk", "kkkr", "bkkk"]),
        (b"\1\1\0\2\0\7\0\1", ["kkkk", "kkkk", "bkkk"]),
        (b"\7\1\0\0\0\5\2\2\2\2\2\0\0\0\4\1", ["bbbb", "rrrr", "bbbb"]),
        (b"\4\1\4\2\0\0\4\2\0\1", ["kkkk", "rrrr", "bbbb"]),
    ],
    ids=["plain", "end", "line", "delta", "delta out", "overlong", "no line end"],
)
def test_run_lengths_may_leave_out_pixels(runs: bytes, rows: list[str]) -> None:
    """What no run covers is black, and what is longer than its row is cut, as in Chromium."""
    assert names_of(picture_of(with_palette(runs, 1, 3))) == rows


def test_run_lengths_of_four_bits_are_read() -> None:
    """Two pixels take turns in a run; pixels that are stored as they are fill whole words."""
    runs = b"\4\x12\0\0\0\3\x01\x20\1\x10\0\0\0\2\1\0\1\0\0\1"
    data = with_palette(runs, 2, 3, bits=4)
    assert names_of(picture_of(data)) == ["kgkk", "gbrb", "brbr"]


def test_a_palette_without_black_gets_it() -> None:
    """Of 256 colours none is free: then pixels that no run covers have the first one."""
    data = bytearray(with_palette(b"\4\1\0\1", 1, 256))
    assert names_of(picture_of(bytes(data))) == ["kkkk", "kkkk", "bbbb"]
    data[54 : 54 + 1024] = b"\xff\0\0\0" * 256
    assert names_of(picture_of(bytes(data))) == ["bbbb"] * 3


@pytest.mark.parametrize("cut", [b"\4\1\0\0\4", b"\4\1\0\0\0\2", b"\4\1\0\0\0\4\1\1"])
def test_run_lengths_that_are_cut_off_are_corrupt(cut: bytes) -> None:
    """Nothing says that the picture ends there; the message says how much of it there is."""
    with pytest.raises(CorruptImage, match="only 1 of 3 rows are there"):
        thumbnails_of(with_palette(cut, 1, 3), (64,), 90, 512)


def test_black_and_white_run_lengths_are_read() -> None:
    """Pixels are numbers of colours, also where the palette is black and white."""
    data = bytearray(with_palette(b"\4\1\0\0\4\0\0\0\4\1\0\1", 1, 2))
    data[54:62] = b"\0\0\0\0\xff\xff\xff\0"
    assert [picture_of(bytes(data)).convert("L").getpixel((1, y)) for y in range(3)] == [
        255,
        0,
        255,
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"masks": (0xF0F00, 0xF0, 0xF)}, "bit fields"),
        ({"masks": (0xFF00, 0xFFF0, 0xF)}, "bit fields"),
        ({"compression": 4}, "JPEG"),
        ({"compression": 5}, "PNG"),
        ({"compression": 11}, "CMYK"),
        ({"size": 64}, "Huffman"),
        ({"size": 16}, "header of 16 bytes"),
    ],
)
def test_a_valid_bitmap_that_nothing_decodes_is_refused_by_name(
    change: dict[str, Any], words: str
) -> None:
    """It is not corrupt: the message says which kind of BMP it is, and what to do."""
    masks = change.pop("masks", (0xFF0000, 0xFF00, 0xFF))
    data = bytearray(bit_fields(32, masks, change.pop("size", 40), **change))
    with pytest.raises(UnsupportedImage, match=f"Unsupported kind of BMP.*{words}.*Save"):
        thumbnails_of(bytes(data), (64,), 90, 512)


def test_the_memory_of_bit_fields_is_that_of_a_band() -> None:
    """However large the picture is, no second one of full size is made."""
    data = bytearray(bit_fields(16, (0xF00, 0xF0, 0xF)))
    data[18:26] = struct.pack("<ii", 4000, 4000)
    image = open_image(bytes(data), 512)
    need = load("bmp").decoder_bytes(image, bytes(data), image.size)
    assert need == BIT_FIELD_BYTES * BAND_PIXELS


# --- icons --------------------------------------------------------------------------------------
SIDE = 16


def icon_bitmap(bits: int, rgb: tuple[int, int, int], *, alpha: int = 255) -> bytes:
    """Write a plain bitmap of an icon. Its mask makes the upper half transparent."""
    head = struct.pack("<IiiHHIIiiII", 40, SIDE, 2 * SIDE, 1, bits, 0, 0, 0, 0, 0, 0)
    blue_first = bytes(rgb[::-1])
    if bits <= 8:
        pixels = (blue_first + b"\0") * 2**bits + bytes(-(-SIDE * bits // 32) * 4 * SIDE)
    elif bits == 24:
        pixels = blue_first * SIDE * SIDE
    else:
        pixels = (blue_first + bytes([alpha])) * SIDE * SIDE
    mask = b"\0\0\0\0" * (SIDE // 2) + b"\xff\xff\0\0" * (SIDE // 2)  # the last row is the first
    return head + pixels + mask


def icon(*pictures: tuple[int, bytes], kind: int = 1, stated: bool = True) -> bytes:
    """Write an icon (kind 1) or a cursor (2) of bitmaps, each with its bits for a pixel."""
    directory = struct.pack("<HHH", 0, kind, len(pictures))
    place = len(directory) + 16 * len(pictures)
    for bits, data in pictures:
        numbers = (3, 4) if kind == 2 else (1, bits if stated else 0)
        directory += struct.pack("<4B2H2I", SIDE, SIDE, 0, 0, *numbers, len(data), place)
        place += len(data)
    return directory + b"".join(data for _, data in pictures)


RGB_OF = {1: (255, 0, 0), 4: (0, 255, 0), 8: (0, 0, 255), 24: (255, 255, 0), 32: (0, 255, 255)}


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("order", [(1, 4, 8, 24, 32), (32, 24, 8, 4, 1), (4, 24, 1, 8)])
def test_the_deepest_of_equally_large_pictures_is_shown(
    kind: int,
    stated: bool,  # noqa: FBT001
    order: tuple[int, ...],
) -> None:
    """In an icon and a cursor, in any order, also where the directory does not say the depth."""
    data = icon(
        *((bits, icon_bitmap(bits, RGB_OF[bits])) for bits in order), kind=kind, stated=stated
    )
    assert identify(data) == "ICO"
    image = picture_of(data)
    deepest = max(order)
    assert image.getpixel((3, SIDE - 2)) == (*RGB_OF[deepest], 255)
    upper: Any = image.getpixel((3, 2))
    assert upper[3] == (255 if deepest == 32 else 0)


def test_a_picture_that_is_a_png_counts_as_the_deepest() -> None:
    """Where the directory does not say the depth, a PNG is shown in place of a bitmap of 8 bits."""
    png = encoded(Image.new("RGBA", (SIDE, SIDE), (9, 200, 9, 255)), "PNG")
    for order in ((0, 1), (1, 0)):
        pictures = [(8, icon_bitmap(8, (255, 0, 0))), (0, png)]
        data = icon(*(pictures[at] for at in order), stated=False)
        assert picture_of(data).getpixel((2, 2)) == (9, 200, 9, 255)


def test_alpha_of_an_icon_that_is_zero_everywhere_leaves_the_mask() -> None:
    """An icon of 32 bits without alpha is not invisible: its mask says what is transparent."""
    image = picture_of(icon((32, icon_bitmap(32, (255, 0, 0), alpha=0))))
    assert image.getpixel((3, SIDE - 2)) == (255, 0, 0, 255)
    assert image.getpixel((3, 2)) == (255, 0, 0, 0)


@pytest.mark.parametrize("sizes", [[(16, 16), (48, 48)], [(256, 256), (32, 32)]])
@pytest.mark.parametrize("bitmap_format", ["bmp", "png"])
def test_the_largest_picture_of_an_icon_of_pillow_is_shown(
    sizes: list[tuple[int, int]], bitmap_format: str
) -> None:
    """Icons that Pillow writes look as Pillow itself reads them."""
    drawn = Image.radial_gradient("L").convert("RGBA")
    drawn.putalpha(Image.linear_gradient("L"))
    buffer = io.BytesIO()
    drawn.save(buffer, "ICO", sizes=sizes, bitmap_format=bitmap_format)
    assert picture_of(buffer.getvalue()).tobytes() == decoded(buffer.getvalue()).tobytes()


@pytest.mark.parametrize("make", [bytes, lambda: b"\0\0\2\0\0\0\0\0\0\0\0\0\x10\0\x10\0\x18\0"])
def test_a_tga_is_no_cursor(make: Callable[[], bytes]) -> None:
    """A TGA image begins like a cursor without pictures, and is not one."""
    assert identify(make()) is None
