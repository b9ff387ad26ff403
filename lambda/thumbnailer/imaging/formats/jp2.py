"""The palette of a JPEG 2000 file (ISO/IEC 15444-1, annex I.5.3).

Pillow leaves out colours that occur twice, which moves those after them, ignores how channels are
mapped, and enlarges colour numbers of less than 8 bits. So the palette is read here.
"""

import struct
from typing import Final, NamedTuple

from thumbnailer.errors import UnsupportedImage
from thumbnailer.imaging.formats.isobmff import siblings

HEADER, SIZE, COLOUR = b"jp2h", b"ihdr", b"colr"
PALETTE, MAPPING, DEFINITION = b"pclr", b"cmap", b"cdef"

HIDDEN: Final = b"free"
"""Name of a box that decoders skip (ISO/IEC 14496-12, 8.1.2)."""

ENUMERATED: Final = 1
CHANNELS: Final = {16: 3, 17: 1}
"""Enumerated colour space → its channels: sRGB and grey (I.5.3.3)."""

SPACES: Final = {
    12: (4,),
    15: (1, 2),
    16: (3, 4),
    17: (1, 2),
    18: (3, 4),
}
"""Enumerated colour space → the components that Pillow reads of it: CMYK, 1 bit (0 is black),
sRGB, grey and sYCC, some with alpha (I.5.3.3; ISO/IEC 15444-2, table M.25)."""

SPACE_NAMES: Final = {
    0: "1 bit, 0 is white",
    1: "YCbCr",
    3: "YCbCr",
    4: "YCbCr",
    9: "PhotoYCC",
    11: "CMY",
    12: "CMYK",
    13: "YCCK",
    14: "CIELAB",
    15: "1 bit",
    16: "sRGB",
    17: "grey",
    18: "sYCC",
    19: "CIEJab",
    20: "e-sRGB",
    21: "ROMM RGB",
    24: "e-sYCC",
}
"""The same table, for messages."""

MAX_COMPONENTS: Final = 4

SRGB: Final = b"\1\0\0\0\0\0\x10"
"""Content of COLOUR that says sRGB."""

SIGNED: Final = 0x80
"""Flag in the depth of a component or a column."""

THROUGH_PALETTE: Final = 1
OPACITY: Final = 1
"""Type of a channel in MAPPING and in DEFINITION (I.5.3.5, I.5.3.6)."""

MAX_BITS: Final = 16
INDEX_BITS: Final = 8
"""Of a palette's values and of colour numbers: what has more is refused."""

MAX_ENTRIES: Final = 1024
"""Of a palette (I.5.3.4)."""


class Colours(NamedTuple):
    """A palette of 256 colours: three bytes each with mode RGB, four with RGBA."""

    mode: str
    data: bytes


type Places = dict[bytes, tuple[int, int]]
"""Start and end of the content of each box in the header."""


def header(data: bytes) -> Places:
    """Find the boxes of a file's header; none in a bare codestream."""
    for name, start, end in siblings(data, 0, len(data)):
        if name == HEADER:
            places: Places = {}
            for each, at, until in siblings(data, start, end):
                places.setdefault(each, (at, until))
            return places
    return {}


def refuse(data: bytes, components: int) -> None:
    """Raise UnsupportedImage for a picture without a palette that Pillow does not read correctly.

    Where there are several colour spaces, the first one counts, as in OpenJPEG.
    """
    place = header(data).get(COLOUR)
    method, space = struct.unpack_from(">B2xI", data, place[0]) if place else (0, 0)
    stated = method == ENUMERATED
    if components <= MAX_COMPONENTS and (not stated or components in SPACES.get(space, ())):
        return
    name = SPACE_NAMES.get(space, f"number {space}")
    colours = f" in the colour space {name}" if stated else ""
    raise UnsupportedImage(
        f"Unsupported kind of JPEG 2000: {components} components{colours}. Supported are grey, "
        "sRGB, sYCC and CMYK. Save the picture in sRGB."
    )


def has_palette(data: bytes) -> bool:
    """Whether the samples of a file are colour numbers."""
    return PALETTE in header(data)


def without_palette(data: bytes) -> bytes:
    """Return a copy of a file in which decoders find the colour numbers alone.

    Their colour space is sRGB: Pillow decodes colour numbers of no other.
    """
    copy = bytearray(data)
    for name, (start, _) in header(data).items():
        if name in (PALETTE, MAPPING, DEFINITION):
            copy[start - 4 : start] = HIDDEN
        elif name == COLOUR:
            copy[start : start + len(SRGB)] = SRGB
    return bytes(copy)


def colours(data: bytes, bits: int) -> Colours:
    """Read the palette for colour numbers of `bits` bits, which Pillow scales to 8.

    Raises UnsupportedImage for a palette that cannot be read, and struct.error or IndexError where
    it is cut off.
    """
    places = header(data)
    columns = _columns(data, places)
    mapped = _mapped(data, places, len(columns))
    order = _order(data, places, len(mapped))
    channels = [columns[mapped[at]] for at in order]
    if places.get(COLOUR) and data[places[COLOUR][0]] == ENUMERATED:
        (space,) = struct.unpack_from(">I", data, places[COLOUR][0] + 3)
        _refuse_unless(CHANNELS.get(space) in (len(channels), len(channels) - 1), "colour space")
    _refuse_unless(len(channels) in (1, 2, 3, 4), f"{len(channels)} channels")
    _refuse_unless(bits <= INDEX_BITS, f"colour numbers of {bits} bits")
    grey = len(channels) < 3  # noqa: PLR2004
    found = [channels[0]] * 3 + channels[1:] if grey else channels
    last = len(found[0]) - 1
    entries = (min(number >> INDEX_BITS - bits, last) for number in range(256))
    mode = "RGBA" if len(found) > 3 else "RGB"  # noqa: PLR2004
    return Colours(mode, bytes(column[entry] for entry in entries for column in found))


def _columns(data: bytes, places: Places) -> list[list[int]]:
    """Return the columns of the palette, each value scaled to 8 bits."""
    at = places[PALETTE][0]
    entries, count = struct.unpack_from(">HB", data, at)
    kinds = data[at + 3 : at + 3 + count]
    bits = [(kind & 0x7F) + 1 for kind in kinds]
    _refuse_unless(0 < entries <= MAX_ENTRIES and count > 0, f"{entries} entries")
    plain = max(bits) <= MAX_BITS and not any(kind & SIGNED for kind in kinds)
    _refuse_unless(plain, "signed or deep values")
    at += 3 + count
    columns: list[list[int]] = [[] for _ in bits]
    for _ in range(entries):
        for column, depth in zip(columns, bits, strict=True):
            width = -(-depth // 8)
            (value,) = struct.unpack_from(">H" if width > 1 else ">B", data, at)
            column.append(min(255, round(value * 255 / ((1 << depth) - 1))))
            at += width
    return columns


def _mapped(data: bytes, places: Places, columns: int) -> list[int]:
    """Return the column of each channel."""
    if MAPPING not in places:
        return list(range(columns))
    start, end = places[MAPPING]
    mapped = [struct.unpack_from(">HBB", data, at) for at in range(start, end - 3, 4)]
    plain = all(
        component == 0 and kind == THROUGH_PALETTE and column < columns
        for component, kind, column in mapped
    )
    _refuse_unless(plain, "channels that are not in the palette")
    return [column for _, _, column in mapped]


def _order(data: bytes, places: Places, count: int) -> list[int]:
    """Return the numbers of the channels: red, green and blue, or grey; then alpha."""
    if DEFINITION not in places:
        return list(range(count))
    start, end = places[DEFINITION]
    defined = [struct.unpack_from(">3H", data, at) for at in range(start + 2, end - 5, 6)]
    colour = {place: channel for channel, kind, place in defined if kind == 0}
    alpha = [channel for channel, kind, _ in defined if kind == OPACITY]
    order = [colour[place] for place in sorted(colour)] + alpha
    _refuse_unless(sorted(order) == list(range(count)), "channels")
    return order


def _refuse_unless(right: bool, what: str) -> None:  # noqa: FBT001 - a condition
    if not right:
        raise UnsupportedImage(
            f"Unsupported palette of a JPEG 2000 file: {what}. Supported are colour numbers of up "
            "to 8 bits for sRGB or grey, with or without alpha."
        )
