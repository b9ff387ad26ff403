"""How a file is damaged: little enough that decoders do not reject it at once."""

import random
from collections.abc import Sequence
from typing import Final

from fuzz.bytewise import damage_bytes
from fuzz.formats import damage_structure, png

TIMES: Final = (1, 1, 1, 2, 3, 5, 8)
"""How often a file is damaged, each as likely as the others: an assumption."""

STRUCTURED: Final = (0.0, 0.8, 1.0)
"""Share of the damage that knows the format. In a third of the files all of it does: what decoders
check first, such as lengths and checksums, is right then."""

WITH_CHECKSUMS: Final = 0.9
"""Share of the PNG files whose checksums are put right."""


def mutated(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage a copy of `data`; `others` are files of its format to copy from."""
    structured = rng.choice(STRUCTURED)
    for _ in range(rng.choice(TIMES)):
        damage = damage_structure if rng.random() < structured else damage_bytes
        data = damage(data, others, rng)
    if data.startswith(png.MAGIC) and rng.random() < WITH_CHECKSUMS:
        return png.join(png.split(data))
    return data
