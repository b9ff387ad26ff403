"""WebP: chunks, and those of each frame (RFC 9649, section 2)."""

import random
from collections.abc import Sequence
from typing import Final

from fuzz.formats import tiff
from fuzz.formats.parts import Grammar, Part, damage

HEAD_BYTES: Final = 12
FRAME: Final = b"ANMF"
FRAME_BYTES: Final = 16
"""Before the chunks in a frame."""


def split(data: bytes) -> list[Part]:
    """Return the chunks of a WebP."""
    return _chunks(data[HEAD_BYTES:])


def _chunks(data: bytes) -> list[Part]:
    parts, at = [], 0
    while at + 8 <= len(data):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + length]
        stated = length if len(body) < length else None
        children = _chunks(body[FRAME_BYTES:]) if name == FRAME else []
        parts.append(Part(name, body[:FRAME_BYTES] if children else body, children, stated))
        at += 8 + length + length % 2
    return parts


def join(parts: Sequence[Part]) -> bytes:
    """Build a WebP."""
    body = b"WEBP" + b"".join(map(_chunk, parts))
    return b"RIFF" + (len(body) % 2**32).to_bytes(4, "little") + body


def _chunk(part: Part) -> bytes:
    body = part.body + b"".join(map(_chunk, part.children))
    length = len(body) if part.length is None else part.length % 2**32
    return part.name + length.to_bytes(4, "little") + body + bytes(len(body) % 2)


def damage_chunks(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage a chunk of a WebP, or the order of its chunks."""
    parts = split(data)
    damage(parts, split(rng.choice(others)), GRAMMAR, rng)
    return join(parts)


GRAMMAR: Final = Grammar(
    "little",
    {
        b"VP8X": (1, 3, 3, 3),  # flags, width, height
        b"ANIM": (4, 2),  # background, loops
        FRAME: (3, 3, 3, 3, 3, 1),  # x, y, width, height, duration, blending and disposal
        b"VP8 ": (3, 3, 2, 2),  # frame tag, start code, width, height
        b"VP8L": (1, 4),  # signature, width and height
        b"ALPH": (1,),
    },
    {b"EXIF": tiff.damage_exif},
)
