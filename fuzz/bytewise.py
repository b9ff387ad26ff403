"""Ways to damage bytes without knowing what they mean."""

import random
from collections.abc import Callable, Sequence
from typing import Final, Literal

INTERESTING: Final = (
    0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 257, 511, 512, 1023, 1024, 4095,
    4096, 16_383, 16_384, 32_767, 32_768, 65_535, 65_536, 2**24 - 1, 2**24, 2**31 - 1, 2**31,
    2**32 - 2, 2**32 - 1,
)  # fmt: skip
"""Numbers at the limits of integers, buffers and formats (WebP: 16,383 pixels)."""

HEADER_BYTES: Final = 512
"""Headers are at the beginning of a file, so half of all damage is done there: an assumption."""


def damage_bytes(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage a copy of `data` in one place; `others` are files of its format to copy from."""
    result = bytearray(data)
    rng.choice(DAMAGES)(result, others, rng)
    return bytes(result)


def another_number(value: int, size: int, rng: random.Random) -> int:
    """Return another number of `size` bytes: a limit, or one that follows from `value`."""
    found: int = rng.choice(
        (
            rng.choice(INTERESTING),
            rng.choice(INTERESTING),
            value + rng.randint(-4, 4),
            value * rng.choice((2, 3, 10)),
            value // 2,
            value ^ 1 << rng.randrange(8 * size),
        )
    )
    wrapped: int = found % 256**size
    return wrapped


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
    order: Literal["big", "little"] = rng.choice(("big", "little"))
    at = _place(data, rng)
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


DAMAGES: Final[tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...]] = (
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
