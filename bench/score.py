"""SSIMULACRA 2 of pictures beside their references, in the environment that has its package.

    python score.py < pairs.json          ([["reference.png", "picture.webp"], …] → [score, …])

100 is identical, 90 visually lossless, 70 high quality (https://github.com/cloudinary/ssimulacra2);
null where the sizes differ. What has alpha is laid on a dark and on a light ground, and the lower
score counts, as there (the package's own way with alpha looks at the colours alone).
"""

import io
import json
import sys
from concurrent.futures import ProcessPoolExecutor

from PIL import Image
from ssimulacra2 import compute_ssimulacra2

GROUNDS = (26, 230)
"""Grey of one tenth and nine tenths."""


def score(pair: tuple[str, str]) -> float | None:
    """That of one picture."""
    reference, picture = (Image.open(path).convert("RGBA") for path in pair)
    if reference.size != picture.size:
        return None
    opaque = reference.getextrema()[3][0] == 255  # noqa: PLR2004 - the most that a sample can be
    return min(
        float(compute_ssimulacra2(_on(reference, ground), _on(picture, ground)))
        for ground in (GROUNDS[:1] if opaque else GROUNDS)
    )


def _on(picture: Image.Image, ground: int) -> io.BytesIO:
    """The picture on a grey ground, as a file: the package takes nothing else."""
    laid = Image.alpha_composite(Image.new("RGBA", picture.size, (ground,) * 3), picture)
    file = io.BytesIO()
    laid.convert("RGB").save(file, "PNG", compress_level=1)
    return file


if __name__ == "__main__":
    with ProcessPoolExecutor() as pool:
        json.dump(list(pool.map(score, json.load(sys.stdin))), sys.stdout)
