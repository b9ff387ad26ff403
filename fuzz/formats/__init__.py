"""Damage that knows the format of a file: one module for each format.

What knows chunks, boxes or tags reaches code that bytes changed at random do not: the rest of the
file stays right, its lengths, checksums and offsets included.
"""

import random
from collections.abc import Callable, Sequence
from typing import Final

from fuzz.bytewise import damage_bytes
from fuzz.formats import gif, isobmff, jpeg, jpeg2000, png, tiff, webp
from thumbnailer.imaging import identify

DAMAGES: Final[dict[str, Callable[[bytes, Sequence[bytes], random.Random], bytes]]] = {
    "JPEG": jpeg.damage_segments,
    "PNG": png.damage_chunks,
    "WEBP": webp.damage_chunks,
    "GIF": gif.damage_blocks,
    "AVIF": isobmff.damage_items,
    "HEIF": isobmff.damage_items,
    "TIFF": tiff.damage_tags,
    "JPEG2000": jpeg2000.damage_boxes,
}
"""Name of a format → what damages a part of such a file; the others are files to copy from."""


MAX_BYTES: Final = 1_000_000
"""Of a damaged file: small files that are slow or large in memory are the interesting ones."""

ATTEMPTS: Final = 5
"""At changing a file: some damage changes nothing, as when a part is exchanged with itself."""


def damage_structure(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage a part of a file, which still begins like its format afterwards.

    Where the format has no parts, or they are too damaged, bytes are damaged instead.
    """
    name = identify(data)
    if name in DAMAGES:
        for _ in range(ATTEMPTS):
            damaged = DAMAGES[name](data, others, rng)
            if damaged != data and len(damaged) <= MAX_BYTES and identify(damaged) == name:
                return damaged
    return damage_bytes(data, others, rng)
