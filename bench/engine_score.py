"""Scores pictures against their references by SSIMULACRA 2. bench.engine runs it.

    python engine_score.py < pairs.json      ([["reference.png", "picture.webp"], …] → [score, …])

It runs in the environment .tools/bench, which has the package ssimulacra2, but not this project: so
the project's folder is put on the path. Null means that the sizes differ.
"""

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from image_pipeline.folders.score import score


def score_files(pair: tuple[str, str]) -> float | None:
    """Score one (reference, picture) pair of paths."""
    reference, picture = (Image.open(path) for path in pair)
    return score(reference, picture)


if __name__ == "__main__":
    with ProcessPoolExecutor() as pool:
        json.dump(list(pool.map(score_files, json.load(sys.stdin))), sys.stdout)
