"""Measures what `image-pipeline thumbs` costs beyond the image code: folders, processes, files.

    python -m bench.thumbs FOLDER          (or make bench-thumbs PHOTOS=FOLDER)

The image code alone (here: the engine) and `thumbs` process the same photos, the engine in one
process and `thumbs` on every core. The ratio compares core-seconds per image. Runs alternate, and
the medians are printed.
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
"""Copies of each photo, so that a run takes some seconds."""

out = Console(highlight=False)
SETTINGS = Settings(output_bucket="", dead_letter_queue_url="")


def engine(photos: list[Path]) -> float:
    """Seconds per image in this process, including the reading of files."""
    started = time.perf_counter()
    for photo in photos:
        make_thumbnails(photo.read_bytes(), SETTINGS.specs, 512)
    return (time.perf_counter() - started) / len(photos)


def thumbs(folder: Path, images: int, workers: int) -> float:
    """Seconds per image with all workers together, from the start of processes to the last file."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        jobs = thumbnails.plan([folder], Path(out), SETTINGS, workers)
        with thumbnails.writing_to(Path(out)):
            for _ in thumbnails.run(jobs, workers):
                pass
        return (time.perf_counter() - started) / images


def main() -> None:
    """Measure, and print a line for each run and the medians."""
    photos = sorted(Path(sys.argv[1]).glob("*.jpg"))
    if not photos:
        sys.exit(f"There are no .jpg files in {sys.argv[1]}: run `make bench-thumbs PHOTOS=FOLDER`")
    workers = os.process_cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        for copy in range(COPIES):
            for photo in photos:
                (Path(folder) / f"{copy}-{photo.name}").write_bytes(photo.read_bytes())
        copies = sorted(Path(folder).iterdir())
        engine(photos)
        rows = []
        for _ in range(RUNS):
            alone, wall = engine(copies), thumbs(Path(folder), len(copies), workers)
            ratio = wall * workers / alone
            rows.append((alone, wall, ratio))
            out.print(
                f"engine {alone * 1000:6.1f} ms   thumbs {wall * 1000:6.1f} ms   ratio {ratio:.2f}"
            )
    alone, wall, ratio = (statistics.median(column) for column in zip(*rows, strict=True))
    out.print(
        f"{len(copies)} photos, medians of {RUNS} runs, time per image: "
        f"engine {alone * 1000:.1f} ms in one process; "
        f"thumbs {wall * 1000:.1f} ms in {workers} processes: "
        f"{alone / wall:.2f} times as fast, with {ratio:.2f} times the core-seconds"
    )


if __name__ == "__main__":
    main()
