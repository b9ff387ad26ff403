"""HEIF and AVIF: boxes (ISO/IEC 14496-12) that describe items and tracks (ISO/IEC 23008-12)."""

import random
from collections.abc import Mapping, Sequence
from typing import Final

from fuzz.formats.parts import Grammar, Part, damage

CONTAINERS: Final = {
    b"meta": 4,
    b"iprp": 0,
    b"ipco": 0,
    b"iinf": 6,
    b"iref": 4,
    b"grpl": 0,
    b"moov": 0,
    b"trak": 0,
    b"edts": 0,
    b"mdia": 0,
    b"minf": 0,
    b"dinf": 0,
    b"stbl": 0,
    b"stsd": 8,
    b"av01": 78,
    b"hvc1": 78,
}
"""Boxes with boxes in them, and the bytes before these."""

DESCRIPTIONS: Final = (b"meta", b"moov")
"""Boxes of items and of tracks. They say where in the file the coded pictures are."""

IN_PLACE: Final = 0.1
"""Share of the files in which boxes move, so that the places of coded pictures become wrong."""


def split(data: bytes, containers: Mapping[bytes, int] = CONTAINERS) -> list[Part]:
    """Return the boxes of a file, or of a box, and those in `containers`."""
    parts, at = [], 0
    while at + 8 <= len(data):
        length, name = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        end = at + max(8, length) if length > 1 else len(data)
        body = data[at + 8 : end]
        before = containers.get(name, len(body))
        children = split(body[before:], containers)
        stated = None if length == 8 + len(body) else length
        parts.append(Part(name, body[:before] if children else body, children, stated))
        at = end
    return parts


def join(parts: Sequence[Part]) -> bytes:
    """Build a file of these boxes."""
    return b"".join(map(box, parts))


def box(part: Part) -> bytes:
    """Build a box, with those in it."""
    body = part.body + join(part.children)
    length = len(body) + 8 if part.length is None else part.length % 2**32
    return length.to_bytes(4) + part.name + body


def damage_items(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage a box that describes the items or tracks of a HEIF or AVIF, or the boxes' order."""
    parts = split(data)
    other = [part for part in split(rng.choice(others)) if part.name in DESCRIPTIONS]
    copied = [part for each in other for part in each.children]
    described = [part for part in parts if part.name in DESCRIPTIONS]
    if not described or rng.random() < IN_PLACE:
        damage(parts, copied, GRAMMAR, rng)
        return join(parts)
    chosen = rng.choice(described)
    original = box(chosen)
    damage(chosen.children, copied, GRAMMAR, rng)
    return _moved_to_the_end(data, original, box(chosen))


def _moved_to_the_end(data: bytes, original: bytes, damaged: bytes) -> bytes:
    """Add the damaged box at the end, and let free space take the place of the original one.

    So all other boxes stay where they are, which a description says in bytes of the file.
    """
    if len(original) == len(damaged):
        return data.replace(original, damaged, 1)
    free = original[:4] + b"free" + original[8:]
    return data.replace(original, free, 1) + damaged


GRAMMAR: Final = Grammar(
    "big",
    {
        b"ispe": (4, 4, 4),  # version and flags, width, height
        b"pitm": (4, 2),
        b"infe": (4, 2, 2, 4),  # version and flags, item, protection, type
        b"dimg": (2, 2, 2, 2, 2),  # item, number of references, references
        b"auxl": (2, 2, 2),
        b"thmb": (2, 2, 2),
        b"cdsc": (2, 2, 2),
        b"idat": (1, 1, 1, 1, 2, 2),  # a grid: version, flags, rows, columns, width, height
        b"irot": (1,),
        b"imir": (1,),
        b"clap": (4,) * 8,
        b"pixi": (4, 1, 1, 1, 1),
        b"pasp": (4, 4),
        b"av1C": (1, 1, 1, 1),
        b"hvcC": (1,) * 23,
        b"iinf": (4, 2),
        b"stts": (4, 4, 4, 4),
        b"stsz": (4, 4, 4, 4),
        b"stsc": (4, 4, 4, 4, 4),
        b"stco": (4, 4, 4),
        b"mdhd": (4,) * 5,
    },
)
"""Boxes that are not named, such as iloc (extents) and ipma (properties), have fields of variable
sizes."""
