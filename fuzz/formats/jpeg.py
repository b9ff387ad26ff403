"""JPEG: segments (ITU-T T.81, annex B)."""

import random
import re
from collections.abc import Sequence
from typing import Final

from fuzz.bytewise import damage_bytes
from fuzz.formats import tiff
from fuzz.formats.parts import Grammar, Part, damage

START: Final = b"\xff\xd8"
SCAN: Final = b"\xff\xda"
ALONE: Final = frozenset(
    {START, b"\xff\xd9", b"\xff\x01", *(b"\xff%c" % n for n in range(0xD0, 0xD8))}
)
"""Markers without a length."""

MARKER: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""A marker in a scan, other than those of a restart."""

EXIF: Final = b"Exif\0\0"
"""What the body of an APP1 segment with EXIF begins with."""


def split(data: bytes) -> list[Part]:
    """Return the segments of a JPEG. A scan's body is its length, its header and its samples."""
    parts, at = [], len(START)
    while at + 2 <= len(data):
        name = data[at : at + 2]
        length = int.from_bytes(data[at + 2 : at + 4])
        if name == SCAN:
            following = MARKER.search(data, at + 2 + length)
            end = following.start() if following else len(data)
            parts.append(Part(name, data[at + 2 : end]))
        elif name in ALONE:
            end = at + 2
            parts.append(Part(name))
        elif name[:1] == b"\xff":
            end = at + max(4, 2 + length)
            body = data[at + 4 : end]
            stated = length if len(body) != length - 2 else None
            parts.append(Part(name, body, length=stated))
        else:  # not a marker
            break
        at = end
    if at < len(data):
        parts.append(Part(b"", data[at:]))
    return parts


def join(parts: Sequence[Part]) -> bytes:
    """Build a JPEG."""
    return START + b"".join(map(_segment, parts))


def _segment(part: Part) -> bytes:
    body = part.body + b"".join(map(_segment, part.children))
    if part.name in ALONE or part.name in (SCAN, b""):
        return part.name + body
    length = len(body) + 2 if part.length is None else part.length
    return part.name + (length % 2**16).to_bytes(2) + body


def damage_segments(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage a segment of a JPEG, or the order of its segments."""
    parts = split(data)
    damage(parts, split(rng.choice(others)), GRAMMAR, rng)
    return join(parts)


def _damage_app1(body: bytes, rng: random.Random) -> bytes:
    if body.startswith(EXIF):
        return EXIF + tiff.damage_exif(body.removeprefix(EXIF), rng)
    return damage_bytes(body, [body], rng)


FRAME: Final = (1, 2, 2, 1) + (1, 1, 1) * 3
"""Precision, height, width; number, sampling and table of each component."""

GRAMMAR: Final = Grammar(
    "big",
    {
        b"\xff\xc0": FRAME,  # baseline
        b"\xff\xc1": FRAME,  # extended
        b"\xff\xc2": FRAME,  # progressive
        b"\xff\xc4": (1,) * 20,  # Huffman tables
        b"\xff\xdb": (1,) * 65,  # quantization tables
        SCAN: (2, 1) + (1, 1) * 3 + (1, 1, 1),
        b"\xff\xdd": (2,),  # restart interval
        b"\xff\xee": (1,) * 12,  # Adobe: colour transform
    },
    {b"\xff\xe1": _damage_app1},
)
