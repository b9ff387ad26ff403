"""PNG and APNG: chunks (PNG specification, third edition, sections 5 and 11)."""

import random
import zlib
from collections.abc import Sequence
from functools import partial
from typing import Final

from fuzz.bytewise import damage_bytes
from fuzz.formats import tiff
from fuzz.formats.parts import Grammar, Part, damage

MAGIC: Final = b"\x89PNG\r\n\x1a\n"

MAX_INFLATED_BYTES: Final = 10_000_000
"""Of a chunk's compressed data that is repeated."""

NUMBERED: Final = (b"fcTL", b"fdAT")
"""Chunks of APNG that begin with a sequence number."""

RENUMBERED: Final = 0.8
"""Share of the files whose sequence numbers are put right: readers check them."""


def split(data: bytes) -> list[Part]:
    """Return the chunks of a PNG, without their checksums."""
    parts, at = [], len(MAGIC)
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        body = data[at + 8 : at + 8 + length]
        stated = length if len(body) < length else None
        parts.append(Part(data[at + 4 : at + 8], body, length=stated))
        at += 12 + length
    return parts


def join(parts: Sequence[Part]) -> bytes:
    """Build a PNG with correct checksums: decoders skip a chunk whose checksum is wrong."""
    return MAGIC + b"".join(map(_chunk, parts))


def _chunk(part: Part) -> bytes:
    body = part.body + b"".join(map(_chunk, part.children))
    length = len(body) if part.length is None else part.length % 2**32
    return length.to_bytes(4) + part.name + body + zlib.crc32(part.name + body).to_bytes(4)


def damage_chunks(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage a chunk of a PNG, or the order of its chunks."""
    parts = split(data)
    damage(parts, split(rng.choice(others)), GRAMMAR, rng)
    if rng.random() < RENUMBERED:
        _renumber(parts)
    return join(parts)


def _renumber(parts: list[Part]) -> None:
    numbered = [part for part in parts if part.name in NUMBERED]
    for number, part in enumerate(numbered):
        part.body = number.to_bytes(4) + part.body[4:]


def _damage_inflated(body: bytes, rng: random.Random, *, after: bytes | int) -> bytes:
    """Damage what the zlib stream of a chunk contains, or repeat it.

    The stream begins `after` these bytes, or after this number of bytes.
    """
    start = after if isinstance(after, int) else body.find(after) + len(after)
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(body[start:], MAX_INFLATED_BYTES)
    except zlib.error:
        return damage_bytes(body, [body], rng)
    times = rng.choice((1, 1, 1, 10, 1000))
    content *= max(1, min(times, MAX_INFLATED_BYTES // max(1, len(content))))
    return body[:start] + zlib.compress(damage_bytes(content, [content], rng))


GRAMMAR: Final = Grammar(
    "big",
    {
        b"IHDR": (4, 4, 1, 1, 1, 1, 1),
        b"acTL": (4, 4),
        b"fcTL": (4, 4, 4, 4, 4, 2, 2, 1, 1),
        b"fdAT": (4,),
        b"tRNS": (2, 2, 2),
        b"PLTE": (1, 1, 1),
        b"pHYs": (4, 4, 1),
        b"gAMA": (4,),
        b"cHRM": (4,) * 8,
        b"sRGB": (1,),
        b"sBIT": (1,) * 4,
        b"bKGD": (2, 2, 2),
        b"cICP": (1,) * 4,
    },
    {
        b"IDAT": partial(_damage_inflated, after=0),
        b"fdAT": partial(_damage_inflated, after=4),
        b"iCCP": partial(_damage_inflated, after=b"\0\0"),
        b"zTXt": partial(_damage_inflated, after=b"\0\0"),
        b"iTXt": partial(_damage_inflated, after=b"\0\1\0\0\0"),
        b"eXIf": tiff.damage_exif,
    },
)
