"""TIFF and EXIF: directories of tags (TIFF 6.0, section 2; BigTIFF)."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from fuzz.bytewise import INTERESTING, another_number, damage_bytes

SIZES: Final = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
    16: 8, 17: 8, 18: 8,
}  # fmt: skip
"""Bytes of a value of each type. Rational numbers (5, 10) are two numbers of four bytes."""

RATIONALS: Final = (5, 10)
LITTLE, BIG = b"II", b"MM"
TIFF_VERSION, BIGTIFF_VERSION = 42, 43
MAX_DIRECTORIES: Final = 10

TAGS: Final = (
    254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 282, 284, 292, 296, 317, 320, 322,
    323, 324, 325, 330, 332, 338, 339, 347, 529, 530, 532, 700, 33432, 33723, 34377, 34665, 34675,
    34853, 40965, 50706,
)  # fmt: skip
"""Tags that readers look at: size, layout, compression, colour, metadata, further directories."""

STRIP_OFFSETS, STRIP_LENGTHS, ROWS_PER_STRIP = 273, 279, 278
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_LENGTHS = 322, 323, 324, 325
SUB_DIRECTORIES: Final = (330, 34665, 34853, 40965)
SHORT, LONG = 3, 4

MAX_VALUES_BYTES: Final = 300_000
"""Of a tag whose values are repeated, and of the values that are moved. Others stay in their place:
tags may share a large value."""


@dataclass(slots=True)
class Tag:
    """A tag. Its `value` is in the byte order of the file, as many bytes as type and count say.

    `count` is what the file states, if that is false; `offset` is where it says that the value is.
    """

    number: int
    kind: int
    value: bytes
    count: int | None = None
    offset: int | None = None


@dataclass(slots=True)
class Directories:
    """The chain of a file's directories. The last one is followed by the one at `last_next`."""

    order: Literal["big", "little"]
    bigtiff: bool
    chain: list[list[Tag]] = field(default_factory=list)
    last_next: int = 0

    @property
    def offset_bytes(self) -> int:
        """Size of an offset, and of a value that stands in its place."""
        return 8 if self.bigtiff else 4

    def number(self, value: int, size: int) -> bytes:
        """Encode a number in the byte order of the file."""
        wrapped: int = value % 256**size
        return wrapped.to_bytes(size, self.order)


def split(data: bytes) -> Directories:
    """Read the directories of a TIFF. They end where a loop begins or the file is damaged."""
    order: Literal["big", "little"] = "big" if data[:2] == BIG else "little"
    found = Directories(order, int.from_bytes(data[2:4], order) == BIGTIFF_VERSION)

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    width = found.offset_bytes
    at, visited, moved = number(width, width), set[int](), 0
    while 0 < at < len(data) and at not in visited and len(visited) < MAX_DIRECTORIES:
        visited.add(at)
        count_bytes = 8 if found.bigtiff else 2
        tags = list[Tag]()
        count, at = number(at, count_bytes), at + count_bytes
        entry = 4 + 2 * width
        for _ in range(min(count, (len(data) - at) // entry)):
            kind, values = number(at + 2, 2), number(at + 4, width)
            size = values * SIZES.get(kind, 1)
            place = at + 4 + width
            start = place if size <= width else number(place, width)
            value = data[start : start + size]
            moved += len(value)
            if moved <= MAX_VALUES_BYTES:
                tags.append(Tag(number(at, 2), kind, value))
            else:
                tags.append(Tag(number(at, 2), kind, b"", values, start))
            at += entry
        found.chain.append(tags)
        at = number(at, width)
    return found


def join(data: bytes, directories: Directories) -> bytes:
    """Add the directories to the end of a file, and let its header point to them.

    The coded pictures stay where they are.
    """
    order, width = directories.order, directories.offset_bytes
    version = BIGTIFF_VERSION if directories.bigtiff else TIFF_VERSION
    head = (BIG if order == "big" else LITTLE) + directories.number(version, 2)
    if directories.bigtiff:
        head += directories.number(8, 2) + bytes(2)
    result = bytearray(data + bytes(len(data) % 2))
    pointer = len(head)
    result[:pointer] = head
    for tags in directories.chain:
        at = len(result)
        result[pointer : pointer + width] = directories.number(at, width)
        entries, further = bytearray(), bytearray()
        values = at + (8 if directories.bigtiff else 2) + len(tags) * (4 + 2 * width) + width
        for tag in tags:
            count = len(tag.value) // SIZES.get(tag.kind, 1) if tag.count is None else tag.count
            entries += directories.number(tag.number, 2) + directories.number(tag.kind, 2)
            entries += directories.number(count, width)
            if tag.offset is not None:
                entries += directories.number(tag.offset, width)
            elif len(tag.value) <= width:
                entries += tag.value.ljust(width, b"\0")
            else:
                entries += directories.number(values + len(further), width)
                further += tag.value + bytes(len(tag.value) % 2)
        result += directories.number(len(tags), 8 if directories.bigtiff else 2) + entries
        pointer = len(result)
        result += directories.number(directories.last_next, width) + further
    return bytes(result)


def turn_byte_order(directories: Directories) -> None:
    """Turn the values too, but not pictures: a file with 8 bits a sample stays intact."""
    directories.order = "little" if directories.order == "big" else "big"
    for tag in (tag for tags in directories.chain for tag in tags):
        size = 4 if tag.kind in RATIONALS else SIZES.get(tag.kind, 1)
        values = (tag.value[at : at + size] for at in range(0, len(tag.value), size))
        tag.value = b"".join(value[::-1] for value in values)


def damage_tags(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage a tag of a TIFF, its byte order, its kind, or the chain of its directories."""
    directories = split(data)
    if not any(directories.chain):
        return damage_bytes(data, others, rng)
    other = split(rng.choice(others))
    copied = other.chain if other.order == directories.order else []
    rng.choice(DAMAGES)(directories, [tag for tags in copied for tag in tags], data, rng)
    return join(data, directories)


def damage_exif(data: bytes, rng: random.Random) -> bytes:
    """Damage a tag of EXIF, which is a TIFF without a picture."""
    return damage_tags(data, [data], rng)


def _any_tag(directories: Directories, rng: random.Random) -> Tag:
    return rng.choice([tag for tags in directories.chain for tag in tags])


def _change_value(
    directories: Directories, _others: Sequence[Tag], _data: bytes, rng: random.Random
) -> None:
    tag = _any_tag(directories, rng)
    size = min(4, SIZES.get(tag.kind, 1)) if tag.kind != 16 else 8  # noqa: PLR2004 - LONG8
    if len(tag.value) >= size:
        at = rng.randrange(0, len(tag.value) - size + 1, size)
        value = int.from_bytes(tag.value[at : at + size], directories.order)
        number = directories.number(another_number(value, size, rng), size)
        tag.value = tag.value[:at] + number + tag.value[at + size :]


def _replace_by_long(
    directories: Directories, _others: Sequence[Tag], _data: bytes, rng: random.Random
) -> None:
    """Numbers above 65,535 do not fit into the type that most tags have."""
    tag = _any_tag(directories, rng)
    tag.kind, tag.value = LONG, directories.number(rng.choice(INTERESTING), 4)


def _change_kind(
    directories: Directories, _others: Sequence[Tag], _data: bytes, rng: random.Random
) -> None:
    _any_tag(directories, rng).kind = rng.choice((*SIZES, 0, 14, 99))


def _change_tag(
    directories: Directories, _others: Sequence[Tag], _data: bytes, rng: random.Random
) -> None:
    _any_tag(directories, rng).number = rng.choice(TAGS)


def _misstate_count(
    directories: Directories, _others: Sequence[Tag], _data: bytes, rng: random.Random
) -> None:
    tag = _any_tag(directories, rng)
    tag.count = another_number(len(tag.value), 4, rng)


def _misplace(
    directories: Directories, _others: Sequence[Tag], data: bytes, rng: random.Random
) -> None:
    offset = rng.choice((rng.randrange(len(data) + 1), rng.choice(INTERESTING)))
    _any_tag(directories, rng).offset = offset


def _repeat_values(
    directories: Directories, _others: Sequence[Tag], _data: bytes, rng: random.Random
) -> None:
    """As of a picture with more strips, tiles, samples or colours."""
    tag = _any_tag(directories, rng)
    times = rng.choice((2, 3, 100, 100_000))
    tag.value *= max(1, min(times, MAX_VALUES_BYTES // max(1, len(tag.value))))


def _drop_tag(
    directories: Directories, _others: Sequence[Tag], _data: bytes, rng: random.Random
) -> None:
    tags = rng.choice([tags for tags in directories.chain if tags])
    tags.remove(rng.choice(tags))


def _repeat_tag(
    directories: Directories, _others: Sequence[Tag], _data: bytes, rng: random.Random
) -> None:
    tags = rng.choice([tags for tags in directories.chain if tags])
    tag = rng.choice(tags)
    times = min(rng.choice((1, 2, 1000)), MAX_VALUES_BYTES // (len(tag.value) + 12))
    tags += [replace(tag, number=tag.number + rng.randrange(2) * each) for each in range(times)]
    if rng.random() < 0.5:  # noqa: PLR2004 - readers should not rely on the order
        tags.sort(key=lambda each: each.number)


def _copy_tag(
    directories: Directories, others: Sequence[Tag], _data: bytes, rng: random.Random
) -> None:
    if others:
        rng.choice(directories.chain).append(replace(rng.choice(others)))


def _turn_byte_order(
    directories: Directories, _others: Sequence[Tag], _data: bytes, _rng: random.Random
) -> None:
    turn_byte_order(directories)


def _turn_into_bigtiff(
    directories: Directories, _others: Sequence[Tag], _data: bytes, _rng: random.Random
) -> None:
    directories.bigtiff = not directories.bigtiff


def _turn_strips_into_tiles(
    directories: Directories, _others: Sequence[Tag], _data: bytes, rng: random.Random
) -> None:
    """Or tiles into strips."""
    pairs = {STRIP_OFFSETS: TILE_OFFSETS, STRIP_LENGTHS: TILE_LENGTHS, ROWS_PER_STRIP: TILE_LENGTH}
    pairs |= {tile: strip for strip, tile in pairs.items()}
    for tags in directories.chain:
        for tag in tags:
            tag.number = pairs.get(tag.number, tag.number)
        width = rng.choice((16, 64, 1024, 65_536))
        tags.append(Tag(TILE_WIDTH, LONG, directories.number(width, 4)))


def _lengthen_chain(
    directories: Directories, _others: Sequence[Tag], _data: bytes, rng: random.Random
) -> None:
    tags = rng.choice(directories.chain)
    size = sum(len(tag.value) + 12 for tag in tags) + 6
    times = min(rng.choice((1, 3, 1000)), MAX_VALUES_BYTES // size)
    directories.chain += [[replace(tag) for tag in tags] for _ in range(times)]


def _loop(
    directories: Directories, _others: Sequence[Tag], data: bytes, rng: random.Random
) -> None:
    """Let a directory be followed by itself or contain itself."""
    place = len(data) + len(data) % 2  # where `join` puts the first one
    if rng.random() < 0.5:  # noqa: PLR2004
        directories.last_next = place
    else:
        value = directories.number(place, 4)
        rng.choice(directories.chain).append(Tag(rng.choice(SUB_DIRECTORIES), LONG, value))


DAMAGES: Final[tuple[Callable[[Directories, Sequence[Tag], bytes, random.Random], None], ...]] = (
    *(_change_value,) * 4,
    *(_replace_by_long,) * 2,
    _change_kind,
    _change_tag,
    _misstate_count,
    _misplace,
    _repeat_values,
    _drop_tag,
    _repeat_tag,
    _copy_tag,
    _turn_byte_order,
    _turn_into_bigtiff,
    _turn_strips_into_tiles,
    _lengthen_chain,
    _loop,
)
"""Repeated ones are drawn more often."""
