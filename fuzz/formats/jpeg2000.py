"""JPEG 2000: boxes, and the segments of the codestream (ISO/IEC 15444-1, annexes A and I)."""

import random
from collections.abc import Sequence
from typing import Final

from fuzz.formats import isobmff
from fuzz.formats.parts import Grammar, Part, damage

CONTAINERS: Final = {b"jp2h": 0, b"res ": 0}
CODESTREAM: Final = b"jp2c"

SOC, SIZ, COD, COC, QCD, QCC, RGN, POC, SOT, SOD, EOC = (
    b"\xff" + bytes((code,))
    for code in (0x4F, 0x51, 0x52, 0x53, 0x5C, 0x5D, 0x5E, 0x5F, 0x90, 0x93, 0xD9)
)
"""Markers: start, size, coding styles, quantizations, region, progression order, start of a
tile-part, start of its data, end."""

ALONE: Final = (SOC, EOC)
"""Markers without a length."""

SOT_BYTES: Final = 12
"""Marker, length, tile, length of the tile-part, its number, number of tile-parts."""


def split(data: bytes) -> list[Part]:
    """Return the boxes of a file, or the segments of a bare codestream."""
    if data.startswith(SOC):
        return _segments(data)
    parts = isobmff.split(data, CONTAINERS)
    for part in parts:
        if part.name == CODESTREAM:
            part.children, part.body = _segments(part.body), b""
    return parts


def _segments(data: bytes) -> list[Part]:
    """Return the segments of a codestream. Those of a tile-part are its children."""
    parts, at = [], 0
    while at + 2 <= len(data):
        name, length = data[at : at + 2], int.from_bytes(data[at + 2 : at + 4])
        if name in ALONE:
            end = at + 2
            parts.append(Part(name))
        elif name == SOD:
            end = len(data)
            parts.append(Part(name, data[at + 2 : end]))
        elif name == SOT:
            stated = int.from_bytes(data[at + 6 : at + 10])
            end = at + max(stated, SOT_BYTES) if stated else len(data) - len(EOC)
            children = _segments(data[at + SOT_BYTES : end])
            body = data[at + 4 : at + 6] + data[at + 10 : at + SOT_BYTES]
            parts.append(Part(name, body, children, stated if stated != end - at else None))
        else:
            end = at + 2 + max(2, length)
            body = data[at + 4 : end]
            parts.append(Part(name, body, length=length if len(body) != length - 2 else None))
        at = max(end, at + 2)
    return parts


def join(parts: Sequence[Part]) -> bytes:
    """Build a file, or a bare codestream."""
    if parts and parts[0].name == SOC:
        return _codestream(parts)
    return b"".join(
        (
            isobmff.box(Part(part.name, part.body + _codestream(part.children), length=part.length))
            if part.name == CODESTREAM
            else isobmff.box(part)
        )
        for part in parts
    )


def _codestream(parts: Sequence[Part]) -> bytes:
    return b"".join(map(_segment, parts))


def _segment(part: Part) -> bytes:
    if part.name in ALONE:
        return part.name
    children = _codestream(part.children)
    if part.name == SOD:
        return part.name + part.body + children
    if part.name == SOT:
        length = SOT_BYTES + len(children) if part.length is None else part.length
        tile, numbers = part.body[:2], part.body[2:]
        return part.name + b"\0\x0a" + tile + (length % 2**32).to_bytes(4) + numbers + children
    length = len(part.body) + len(children) + 2 if part.length is None else part.length
    return part.name + (length % 2**16).to_bytes(2) + part.body + children


def damage_boxes(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage a box of a JPEG 2000 file, a segment of its codestream, or their order."""
    parts = split(data)
    segments = [part for part in parts if part.name == CODESTREAM]
    chosen = segments[0].children if segments and rng.random() < 0.5 else parts  # noqa: PLR2004
    damage(chosen, split(rng.choice(others)), GRAMMAR, rng)
    return join(parts)


GRAMMAR: Final = Grammar(
    "big",
    {
        b"ihdr": (4, 4, 2, 1, 1, 1, 1),
        b"colr": (1, 1, 1, 4),
        b"cdef": (2,) * 7,
        b"pclr": (2, 1, 1, 1, 1),
        b"cmap": (2, 1, 1) * 3,
        SIZ: (2, *(4,) * 8, 2) + (1, 1, 1) * 3,  # profile, size and grid; depth and steps
        COD: (1, 1, 2, *(1,) * 6),  # style, order, layers, transform; levels and code blocks
        COC: (1,) * 7,
        QCD: (1, *(2,) * 6),
        QCC: (1, 1, *(2,) * 6),
        RGN: (1, 1, 1),
        POC: (1, 1, 2, 1, 1, 1),
        SOT: (2, 1, 1),
    },
)
