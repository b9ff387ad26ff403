"""Ways to damage a file: little enough that decoders do not reject it at once."""

import random
import zlib
from collections.abc import Callable, Sequence
from typing import Final

INTERESTING: Final = (
    0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 257, 511, 512, 1023, 1024, 4095,
    4096, 16_383, 16_384, 32_767, 32_768, 65_535, 65_536, 2**24 - 1, 2**24, 2**31 - 1, 2**31,
    2**32 - 2, 2**32 - 1,
)  # fmt: skip
"""Numbers at the limits of integers, buffers and formats (WebP: 16,383 pixels)."""

HEADER_BYTES: Final = 512
"""Headers are at the beginning of a file, so half of all damage is done there: an assumption."""


def mutated(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage a copy of `data` one to eight times; `others` are files of its format to copy from."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5, 8))):
        rng.choice(MUTATIONS)(result, others, rng)
    if data.startswith(b"\x89PNG") and rng.random() < 0.9:  # noqa: PLR2004
        return _with_checksums(bytes(result))
    return bytes(result)


def _place(data: bytearray, rng: random.Random) -> int:
    end = max(1, len(data))
    return rng.randrange(min(HEADER_BYTES, end) if rng.random() < 0.5 else end)  # noqa: PLR2004


def _flip(data: bytearray, _others: Sequence[bytes], rng: random.Random) -> None:
    if data:
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, _others: Sequence[bytes], rng: random.Random) -> None:
    at = _place(data, rng)
    data[at : at + rng.choice((1, 2, 4, 16))] = rng.randbytes(rng.choice((1, 2, 4, 16)))


def _number(data: bytearray, _others: Sequence[bytes], rng: random.Random) -> None:
    size = rng.choice((1, 2, 4))
    value = rng.choice(INTERESTING) % 256**size
    at = _place(data, rng)
    data[at : at + size] = value.to_bytes(size, rng.choice(("big", "little")))


def _nudge(data: bytearray, _others: Sequence[bytes], rng: random.Random) -> None:
    size = rng.choice((1, 2, 4))
    at, order = _place(data, rng), rng.choice(("big", "little"))
    value = int.from_bytes(data[at : at + size], order) + rng.randint(-16, 16)
    data[at : at + size] = (value % 256**size).to_bytes(size, order)


def _cut(data: bytearray, _others: Sequence[bytes], rng: random.Random) -> None:
    del data[_place(data, rng) :]


def _remove(data: bytearray, _others: Sequence[bytes], rng: random.Random) -> None:
    at = _place(data, rng)
    del data[at : at + rng.choice((1, 2, 4, 16, 256))]


def _repeat(data: bytearray, _others: Sequence[bytes], rng: random.Random) -> None:
    at = _place(data, rng)
    part = data[at : at + rng.choice((1, 4, 32, 512))]
    data[at:at] = part * rng.choice((1, 2, 50))


def _splice(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    other = rng.choice(others)
    at, start = _place(data, rng), _place(bytearray(other), rng)
    length = rng.choice((4, 64, 1024, len(other)))
    data[at : at + rng.choice((0, length))] = other[start : start + length]


MUTATIONS: Final[tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...]] = (
    _flip,
    _flip,
    _overwrite,
    _number,
    _number,
    _number,
    _nudge,
    _cut,
    _remove,
    _repeat,
    _splice,
)
"""Repeated ones are drawn more often."""


def _with_checksums(png: bytes) -> bytes:
    """The same chunks with correct checksums: decoders skip a chunk whose checksum is wrong."""
    result, at = bytearray(png[:8]), 8
    while at + 8 <= len(png):
        length = int.from_bytes(png[at : at + 4])
        body = png[at + 4 : at + 8 + length]
        result += png[at : at + 4] + body + zlib.crc32(body).to_bytes(4)
        at += 12 + length
    return bytes(result)
