"""Scores pictures against their references by SSIMULACRA 2. bench.engine runs it.

    python engine_score.py < pairs.json      ([["reference.png", "picture.webp"], …] → [score, …])

It runs in the environment .tools/bench, which has the package. 100 means identical, 90 visually
lossless, 70 high quality (https://github.com/cloudinary/ssimulacra2), and null that the sizes
differ. Pictures with alpha are composited on a dark and on a light background, and the lower score
counts, as in the reference implementation; the package itself would ignore alpha.
"""

import io
import json
import sys
from concurrent.futures import ProcessPoolExecutor

from PIL import Image
from ssimulacra2 import compute_ssimulacra2

BACKGROUNDS = (26, 230)
"""Grey levels of 10 % and 90 %."""


def score(pair: tuple[str, str]) -> float | None:
    """Score one (reference, picture) pair of paths."""
    reference, picture = (Image.open(path).convert("RGBA") for path in pair)
    if reference.size != picture.size:
        return None
    opaque = reference.getextrema()[3][0] == 255  # noqa: PLR2004 - the maximum of a sample
    return min(
        float(compute_ssimulacra2(_on(reference, grey), _on(picture, grey)))
        for grey in (BACKGROUNDS[:1] if opaque else BACKGROUNDS)
    )


def _on(picture: Image.Image, grey: int) -> io.BytesIO:
    """The picture on a grey background, as a file, because the package accepts only files."""
    composite = Image.alpha_composite(Image.new("RGBA", picture.size, (grey,) * 3), picture)
    file = io.BytesIO()
    composite.convert("RGB").save(file, "PNG", compress_level=1)
    return file


if __name__ == "__main__":
    with ProcessPoolExecutor() as pool:
        json.dump(list(pool.map(score, json.load(sys.stdin))), sys.stdout)
