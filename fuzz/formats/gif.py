"""GIF: its screen, extensions and images (GIF89a specification, sections 17 to 27)."""

import random
from collections.abc import Sequence
from typing import Final

from fuzz.formats.parts import Grammar, Part, damage

SCREEN_BYTES: Final = 7
IMAGE_BYTES: Final = 9

SCREEN, IMAGE, EXTENSION, TRAILER = b"GIF89a", b",", b"!", b";"
CONTROL: Final = b"!\xf9"


def split(data: bytes) -> list[Part]:
    """Return the screen with its palette, and each block whole with what it contains."""
    end = len(SCREEN) + SCREEN_BYTES + _palette_bytes(data[10:11])
    parts, at = [Part(data[: len(SCREEN)], data[len(SCREEN) : end])], end
    while at < len(data):
        name = data[at : at + (2 if data[at : at + 1] == EXTENSION else 1)]
        start = at + len(name)
        if name == IMAGE:
            pixels = start + IMAGE_BYTES + _palette_bytes(data[start + 8 : start + 9])
            end = _after_sub_blocks(data, pixels + 1)
        elif name[:1] == EXTENSION:
            end = _after_sub_blocks(data, start)
        elif name == TRAILER:
            end = start
        else:
            name, end = b"", len(data)
            start = at
        parts.append(Part(name, data[start:end]))
        at = end
    return parts


def _palette_bytes(flags: bytes) -> int:
    """Return the size of the palette that follows a screen or an image with these flags."""
    return 3 * 2 ** (1 + (flags[0] & 7)) if flags and flags[0] & 0x80 else 0


def _after_sub_blocks(data: bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def join(parts: Sequence[Part]) -> bytes:
    """Build a GIF."""
    return b"".join(part.name + part.body + join(part.children) for part in parts)


def damage_blocks(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage a block of a GIF, or the order of its blocks."""
    parts = split(data)
    damage(parts, split(rng.choice(others)), GRAMMAR, rng)
    return join(parts)


GRAMMAR: Final = Grammar(
    "little",
    {
        SCREEN: (2, 2, 1, 1, 1),
        b"GIF87a": (2, 2, 1, 1, 1),
        IMAGE: (2, 2, 2, 2, 1),
        CONTROL: (1, 1, 2, 1),  # length, disposal, delay, transparent colour
    },
)
