"""What an AV1 stream says of its own pictures (AV1 Bitstream & Decoding Process, version 1.0.0)."""

from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from thumbnailer.imaging.formats.isobmff import CodePoints
from thumbnailer.imaging.spec import PixelSize

SEQUENCE_HEADER: Final = 1
FRAMES: Final = (3, 6)
"""Types of OBU (6.2.2): a sequence header, and what follows it, a frame's header or a frame."""

MAX_UNITS: Final = 8
"""OBUs in which the sequence header is searched: it is the first or the second one."""

MAX_FRAME_UNITS: Final = 256
"""OBUs of a picture: a frame may be divided into as many as 128 tile groups, for example."""

HEADER_BYTES: Final = 512
"""More than any sequence header has."""

MAX_OPERATING_TIER: Final = 7
BT709, SRGB, IDENTITY = 1, 13, 0
"""Colour primaries, transfer and matrix of RGB (6.4.2)."""

HIGH_PROFILE, PROFESSIONAL_PROFILE = 1, 2


class Sequence(NamedTuple):
    """The size of a stream's pictures, and the bytes for each pixel of their planes."""

    size: PixelSize
    plane_bytes: float


class _Bits:
    """Reads bits, the highest first. Raises ValueError at the end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def __call__(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("an AV1 header is cut off")
        return self._value >> self._left & ((1 << count) - 1)


def sequence(data: bytes) -> Sequence | None:
    """Read the sequence header that a stream begins with; None where there is none."""
    found = _header(data)
    return found and found[0]


def code_points(data: bytes) -> CodePoints | None:
    """Read the code points of a stream's sequence header; None where it has none."""
    found = _header(data)
    return found and found[1]


def _header(data: bytes) -> tuple[Sequence, CodePoints | None] | None:
    for kind, at, size in islice(_units(data), MAX_UNITS):
        if kind == SEQUENCE_HEADER:
            try:
                return _sequence_header(_Bits(data[at : at + min(size, HEADER_BYTES)]))
            except ValueError:
                return None
        if kind in FRAMES:
            return None
    return None


def is_one_frame(stream: bytes) -> bool:
    """Whether a stream contains one frame: others may be hidden, and take time as well."""
    kinds = [kind for kind, _, _ in islice(_units(stream), MAX_FRAME_UNITS)]
    few = len(kinds) < MAX_FRAME_UNITS and kinds.count(SEQUENCE_HEADER) == 1
    return few and sum(kind in FRAMES for kind in kinds) == 1


def _units(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield type, place and size of each OBU (5.3)."""
    at = 0
    while at < len(data):
        header = data[at]
        at += 2 if header & 4 else 1
        size = len(data) - at
        if header & 2:
            size, at = _leb128(data, at)
        yield header >> 3 & 15, at, size
        at += size


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of up to eight bytes (4.10.5), and return what follows it."""
    value = 0
    for shift, byte in enumerate(data[at : at + 8]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:  # noqa: PLR2004 - the highest bit says that more follows
            return value, at + shift + 1
    return value, at + 8


def _sequence_header(bits: _Bits) -> tuple[Sequence, CodePoints | None]:
    """Read a sequence header (5.5.1), and the code points in it."""
    profile, _, reduced = bits(3), bits(1), bits(1)
    if reduced:
        bits(5)
    else:
        _operating_points(bits)
    width_bits, height_bits = bits(4) + 1, bits(4) + 1
    size = (bits(width_bits) + 1, bits(height_bits) + 1)
    if not reduced and bits(1):
        bits(7)
    bits(3)
    if not reduced:
        _tools(bits)
    bits(3)
    plane_bytes, colour = _colour_configuration(bits, profile)
    return Sequence(size, plane_bytes), colour


def _operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits(1):  # timing
        bits(64)
        if bits(1):
            zeros = 0
            while not bits(1):
                zeros += 1
            bits(zeros)
        if bits(1):
            delay_bits = bits(5) + 1
            bits(42)
    display_delay = bits(1)
    for _ in range(bits(5) + 1):
        bits(12)
        if bits(5) > MAX_OPERATING_TIER:
            bits(1)
        if delay_bits and bits(1):
            bits(2 * delay_bits + 1)
        if display_delay and bits(1):
            bits(4)


def _tools(bits: _Bits) -> None:
    bits(4)
    order_hint = bits(1)
    if order_hint:
        bits(2)
    forced_content = 1 if bits(1) else bits(1)
    if forced_content and not bits(1):
        bits(1)
    if order_hint:
        bits(3)


def _colour_configuration(bits: _Bits, profile: int) -> tuple[float, CodePoints | None]:
    """Read the colour configuration (5.5.2): bytes of a pixel's samples, and code points."""
    deep = bits(1)
    twelve = bits(1) if profile == PROFESSIONAL_PROFILE and deep else 0
    grey = 0 if profile == HIGH_PROFILE else bits(1)
    colour = (bits(8), bits(8), bits(8)) if bits(1) else None
    if grey:
        samples = 1.0
    elif colour == (BT709, SRGB, IDENTITY) or profile == HIGH_PROFILE:
        samples = 3.0
    elif profile != PROFESSIONAL_PROFILE:
        samples = 1.5
    elif twelve:
        bits(1)
        samples = (1.5 if bits(1) else 2.0) if bits(1) else 3.0
    else:
        samples = 2.0
    return samples * (2 if deep else 1), colour
