"""SSIMULACRA 2, a score of how much a picture looks like its reference.

100 means identical, 90 visually lossless, 70 high quality (https://github.com/cloudinary/ssimulacra2).
It needs the package ssimulacra2, which is optional: `import_scorer` says whether it is there.
"""

import io
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from PIL import Image

BACKGROUNDS: Final = (26, 230)
"""Grey levels of 10 % and 90 %: a picture with alpha is composited on a dark and on a light
background, and the lower score counts, as in the reference implementation. The package itself would
ignore alpha."""

SCALED_SIDE: Final = 225
"""Pixels of the shorter side from which on a score means what it says.

The weights are those of six scales, each half as large as the one before and rounded up, and scales
below 8 pixels are left out: the sixth has 8 pixels from 7 × 32 + 1 on. With fewer scales, weights
meet the wrong ones: a photo scores 35 at 128 × 85 pixels, and 82 at 384 × 256 (measured)."""


def import_scorer() -> Callable[[Any, Any], float] | None:
    """Return the package's function, or None where the package is missing or cannot be imported."""
    try:
        found: Callable[[Any, Any], float] = import_module("ssimulacra2").compute_ssimulacra2
    except ImportError:
        return None
    return found


def score(reference: Image.Image, picture: Image.Image) -> float | None:
    """Score a picture beside its reference. None if sizes differ, or if the package is missing."""
    compute = import_scorer()
    if compute is None or reference.size != picture.size:
        return None
    pair = reference.convert("RGBA"), picture.convert("RGBA")
    opaque = pair[0].getchannel("A").getextrema()[0] == 255  # noqa: PLR2004 - a sample's maximum
    return min(
        float(compute(*(_on(each, grey) for each in pair)))
        for grey in (BACKGROUNDS[:1] if opaque else BACKGROUNDS)
    )


def _on(picture: Image.Image, grey: int) -> io.BytesIO:
    """The picture on a grey background, as a file, because the package accepts only files."""
    composite = Image.alpha_composite(Image.new("RGBA", picture.size, (grey,) * 3), picture)
    file = io.BytesIO()
    composite.convert("RGB").save(file, "PNG", compress_level=1)
    file.seek(0)
    return file
