"""The container of AVIF and HEIC files (ISO/IEC 14496-12)."""

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Final, NamedTuple

BRANDS_END: Final = 256
"""Bytes of a file in which brands are searched: real files name a handful."""

AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
"""A still picture and a sequence (https://aomediacodec.github.io/av1-avif/)."""

HEIF_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
"""ISO/IEC 23008-12, annex B and 10.2. An AVIF has some of them too, beside its own."""

AV1_SAMPLES: Final = (3.0, 3.0, 2.0, 1.5)
HEVC_SAMPLES: Final = (1.0, 1.5, 2.0, 3.0)
"""Samples for each pixel, by how colour is subsampled."""


def brands(data: bytes) -> set[bytes]:
    """Return the brands of a file (4.3); none for files that are not in this container."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4]), BRANDS_END)
    return {data[at : at + 4] for at in (8, *range(16, end, 4))}


def plane_bytes(data: bytes) -> float:
    """Return the bytes for each pixel of a picture's planes, those of alpha included.

    From the decoders' configurations: av1C (AV1-ISOBMFF 1.3, 2.3.3) and hvcC (ISO/IEC 14496-15,
    8.3.2.1.2).
    """
    planes: set[float] = set()
    for name in (b"av1C", b"hvcC"):
        at = data.find(name)
        while 0 <= at < len(data) - 22:
            if name == b"av1C":
                flags = data[at + 6]
                deep = flags & 0x40
                samples = 1.0 if flags & 0x10 else AV1_SAMPLES[flags >> 2 & 3]
            else:
                deep = data[at + 21] & 7
                samples = HEVC_SAMPLES[data[at + 20] & 3]
            planes.add(samples * (2 if deep else 1))
            at = data.find(name, at + 4)
    return sum(planes) or AV1_SAMPLES[3]


CONTAINERS: Final = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"meta", b"iprp")
MAX_BOXES: Final = 10_000
MAX_ITEMS: Final = 10_000
"""Boxes and items that are visited. Real files have at most hundreds."""

ITEM_TYPES: Final = b"iinf"
"""A container too: of one entry for each item, behind their number (8.11.6)."""

EXIF, SKIPPED = b"Exif", b"skip"
"""Type of an item with metadata (ISO/IEC 23008-12, annex A.2.1), and one that says nothing."""

IN_FILE, IN_IDAT = 0, 1
"""Where an item is (8.11.3.3)."""


type CodePoints = tuple[int, int, int]
"""ColourPrimaries, TransferCharacteristics, MatrixCoefficients (ITU-T H.273)."""

VISUAL_ENTRY_BYTES: Final = 78
"""Fields of a sample entry that stand before its boxes (12.1.3.2)."""

type Box = tuple[bytes, int, int]
"""Name of a box, and start and end of its content."""

type Boxes = dict[bytes, list[tuple[int, int]]]
"""Start and end of each box's content, by the box's name."""


class Item(NamedTuple):
    """An item's number, and where its data begins in the file.

    `bytes` is None where the data is in several pieces; 0 means up to the end.
    """

    number: int
    place: int
    bytes: int | None


def streams(data: bytes, boxes: Boxes) -> Iterator[int]:
    """Yield where each item and each track begins in a file.

    Yields nothing more where a box is damaged: the decoder will find that too.
    """
    yield from (item.place for item in _items(data, boxes))
    with suppress(struct.error):
        for name, number in ((b"stco", ">I"), (b"co64", ">Q")):
            for start, _ in boxes.get(name, []):
                if struct.unpack_from(">I", data, start + 4)[0]:
                    yield struct.unpack_from(number, data, start + 8)[0]


def type_of_item(data: bytes, boxes: Boxes, number: int | None) -> bytes | None:
    """Return the type of an item, such as `hvc1`; None where there is no such item."""
    places = (place for found, place in _entries(data, boxes) if found == number)
    place = next(places, None)
    return None if place is None else data[place : place + 4]


def items_of_type(data: bytes, boxes: Boxes, kind: bytes) -> list[Item]:
    """List the items of a type, such as `av01`."""
    numbers = {number for number, _ in _types(data, boxes, kind)}
    return [item for item in _items(data, boxes) if item.number in numbers]


class Property(NamedTuple):
    """A property of an item: its name, and where its content is in the file.

    `place` and `bytes` are those of the number that associates it with the item.
    """

    name: bytes
    start: int
    end: int
    place: int
    bytes: int


def properties_of_item(data: bytes, boxes: Boxes, number: int | None) -> list[Property]:
    """List the properties of an item in their order (ISO/IEC 23008-12, 9.3).

    The list ends where a box is damaged: the decoder will find that too.
    """
    found: list[Property] = []
    with suppress(struct.error, IndexError):
        for start, end in boxes.get(b"iprp", []):
            parts = list(islice(siblings(data, start, end), MAX_BOXES))
            known = [
                each
                for name, at, until in parts
                if name == b"ipco"
                for each in islice(siblings(data, at, until), MAX_BOXES)
            ]
            for name, at, _ in parts:
                if name != b"ipma":
                    continue
                for item, place, width in _associations(data, at):
                    index = int.from_bytes(data[place : place + width])
                    index &= (1 << 8 * width - 1) - 1  # without the flag "essential"
                    if item == number and index:
                        found.append(Property(*known[index - 1], place, width))
    return found


def _associations(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield the item of each association, and the place and bytes of the property's number."""
    wide_items, wide = data[at] > 0, data[at + 3] & 1
    (count,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(min(count, MAX_ITEMS)):
        (item,) = struct.unpack_from(">I" if wide_items else ">H", data, at)
        at += 4 if wide_items else 2
        width = 2 if wide else 1
        for place in range(at + 1, at + 1 + width * data[at], width):
            yield item, place, width
        at += 1 + width * data[at]


def without_exif(data: bytes, boxes: Boxes) -> bytes | None:
    """Return a copy of a file whose Exif items have a type that decoders skip; None without one.

    Some decoders refuse a picture for the sake of its metadata.
    """
    places = [place for _, place in _types(data, boxes, EXIF)]
    if not places:
        return None
    copy = bytearray(data)
    for place in places:
        copy[place : place + len(EXIF)] = SKIPPED
    return bytes(copy)


def _types(data: bytes, boxes: Boxes, kind: bytes) -> Iterator[tuple[int, int]]:
    """Yield the number of each item of a type, and the place of its type in the file."""
    for number, place in _entries(data, boxes):
        if data[place : place + len(kind)] == kind:
            yield number, place


def _entries(data: bytes, boxes: Boxes) -> Iterator[tuple[int, int]]:
    """Yield the number of each item, and the place of its type, of version 2 or 3 (8.11.6.2)."""
    for start, _ in boxes.get(b"infe", []):
        width = 2 if data[start : start + 1] == b"\2" else 4
        yield int.from_bytes(data[start + 4 : start + 4 + width]), start + 6 + width


def _items(data: bytes, boxes: Boxes) -> Iterator[Item]:
    idat = boxes.get(b"idat", [(0, 0)])[0][0]
    with suppress(struct.error):
        for start, end in boxes.get(b"iloc", []):
            yield from _located(data[start:end], idat)


def boxes_of(data: bytes) -> Boxes:
    """Find the boxes of a file, up to MAX_BOXES."""
    boxes: Boxes = {}
    for name, start, end in _boxes(data):
        boxes.setdefault(name, []).append((start, end))
    return boxes


def _boxes(data: bytes) -> Iterator[Box]:
    """Yield name, start and end of each box, and of those in CONTAINERS."""
    spans = [(0, len(data))]
    visited = 0
    while spans:
        for name, start, until in siblings(data, *spans.pop()):
            if visited == MAX_BOXES:
                return
            visited += 1
            yield name, start, until
            if name in CONTAINERS:
                spans.append((start + (4 if name == b"meta" else 0), until))
            elif name == ITEM_TYPES and start < until:
                spans.append((start + (8 if data[start] else 6), until))


def siblings(data: bytes, at: int, end: int) -> Iterator[Box]:
    """Yield name, start and end of the boxes from one place to another (4.2)."""
    while at + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1 and at + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        until = end if size == 0 else min(end, at + max(size, start - at))
        yield name, start, until
        at = until


def primary_item(data: bytes, boxes: Boxes) -> int | None:
    """Return the number of the primary item (8.11.4); None where there is none."""
    for start, end in boxes.get(b"pitm", []):
        width = 4 if data[start : start + 1] != b"\0" else 2
        return int.from_bytes(data[start + 4 : min(end, start + 4 + width)])
    return None


def properties_of_track(data: bytes, boxes: Boxes) -> list[Box]:
    """List the boxes in the first sample entry that has any (ISO/IEC 14496-12, 8.5.2)."""
    for start, end in boxes.get(b"stsd", []):
        for _, entry, until in islice(siblings(data, start + 8, end), MAX_BOXES):
            if found := list(islice(siblings(data, entry + VISUAL_ENTRY_BYTES, until), MAX_BOXES)):
                return found
    return []


def nclx(data: bytes, properties: Iterable[Box | Property]) -> CodePoints | None:
    """Return the code points of the first colr box that has them (12.1.5); or None."""
    for name, start, end, *_ in properties:
        if name == b"colr" and data[start : start + 4] == b"nclx" and end >= start + 10:
            primaries, transfer, matrix = struct.unpack_from(">3H", data, start + 4)
            return primaries, transfer, matrix
    return None


def peak(data: bytes, properties: Iterable[Box | Property]) -> float | None:
    """Return the luminance in cd/m² of the brightest pixel, or else of the screen it was made on.

    None where neither clli nor mdcv (12.1.6 and 12.1.7) says it.
    """
    stated = None
    for name, start, end, *_ in properties:
        if name == b"clli" and end >= start + 4 and any(data[start : start + 2]):
            return float(int.from_bytes(data[start : start + 2]))
        if name == b"mdcv" and end >= start + 24:
            stated = int.from_bytes(data[start + 16 : start + 20]) / 10_000
    return stated or None


def _located(box: bytes, idat: int) -> Iterator[Item]:
    """Yield each item that has data, by its first extent (8.11.3).

    Sizes of 0, 4 and 8 bytes are allowed; with any other, nothing is yielded. Raises struct.error
    at the box's end.
    """
    version, sizes = box[0] if box else 0, struct.unpack_from(">H", box, 4)[0]
    offset_size, length_size, base_size, index_size = (
        sizes >> shift & 15 for shift in (12, 8, 4, 0)
    )
    wide = version > 1
    count = struct.unpack_from(">I" if wide else ">H", box, 6)[0]
    at = 10 if wide else 8
    index_size = index_size if version else 0
    for _ in range(min(count, MAX_ITEMS)):
        number = _sized(box, at, 4 if wide else 2)
        at += 4 if wide else 2
        method = IN_FILE
        if version:
            method = struct.unpack_from(">H", box, at)[0] & 15
            at += 2
        base = _sized(box, at + 2, base_size)
        at += 2 + base_size
        extents = struct.unpack_from(">H", box, at)[0]
        extent = at + 2 + index_size
        at += 2 + extents * (index_size + offset_size + length_size)
        if extents and method in (IN_FILE, IN_IDAT):
            place = base + _sized(box, extent, offset_size) + (idat if method == IN_IDAT else 0)
            length = _sized(box, extent + offset_size, length_size)
            yield Item(number, place, length if extents == 1 else None)


def _sized(box: bytes, at: int, size: int) -> int:
    if at + size > len(box):
        raise struct.error("the box is cut off")
    return int.from_bytes(box[at : at + size])
