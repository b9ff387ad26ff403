"""`image-pipeline thumbs` beside the image code alone: what folders, processes and files cost.

    make bench-thumbs          (PHOTOS=folder)

Both take the same photos, the engine in one process and `thumbs` on every core; the ratio is of
core-seconds an image. Runs alternate, and the median of their ratios is told.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from image_pipeline.folders import thumbnails
from thumbnailer.imaging import make_thumbnails
from thumbnailer.settings import Settings

RUNS = 7
COPIES = 6
out = Console(highlight=False)
SETTINGS = Settings(output_bucket="", dead_letter_queue_url="")


def engine(photos: list[Path]) -> float:
    """Seconds an image, files read included, in this process."""
    started = time.perf_counter()
    for photo in photos:
        make_thumbnails(photo.read_bytes(), SETTINGS.specs, 512)
    return (time.perf_counter() - started) / len(photos)


def thumbs(folder: Path, images: int, workers: int) -> float:
    """Seconds an image, of all workers together, from a cold start to the last file."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        jobs = thumbnails.plan([folder], Path(out), SETTINGS, workers)
        with thumbnails.writing_to(Path(out)):
            for _ in thumbnails.run(jobs, workers):
                pass
        return (time.perf_counter() - started) / images


def main() -> None:
    """Measure, and tell a line a run and the medians."""
    photos = sorted(Path(sys.argv[1]).glob("*.jpg"))
    if not photos:
        sys.exit(f"There are no .jpg files in {sys.argv[1]}: make bench-thumbs PHOTOS=folder")
    workers = os.process_cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        for copy in range(COPIES):
            for photo in photos:
                (Path(folder) / f"{copy}-{photo.name}").write_bytes(photo.read_bytes())
        every = sorted(Path(folder).iterdir())
        engine(photos)
        rows = []
        for _ in range(RUNS):
            alone, wall = engine(every), thumbs(Path(folder), len(every), workers)
            ratio = wall * workers / alone
            rows.append((alone, wall, ratio))
            told = (
                f"engine {alone * 1000:6.1f} ms   thumbs {wall * 1000:6.1f} ms   ratio {ratio:.2f}"
            )
            out.print(told)
    alone, wall, ratio = (statistics.median(column) for column in zip(*rows, strict=True))
    out.print(
        f"{len(every)} photos, medians of {RUNS}: engine {alone * 1000:.1f} ms an image in one "
        f"process; thumbs {wall * 1000:.1f} ms with {workers}: {alone / wall:.2f} times as fast, "
        f"{ratio:.2f} core-seconds for one of the engine's"
    )


if __name__ == "__main__":
    main()
