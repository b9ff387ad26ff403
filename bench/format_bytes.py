"""Measures the bytes and the CPU time of thumbnails by format and width, at the default qualities.

`image-pipeline cost` counts with the results. The photos are those of bench.formats that are at
least as wide. All formats encode the same picture in turns, so that other load on the machine
affects all of them.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from PIL import Image
from rich.table import Table

from bench.engine import on_one_core
from bench.engine_inputs import reference
from bench.formats import DEFAULTS, in_turns
from bench.photos import for_encoders
from bench.record import RESULTS, circumstances
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import out, print_json, progress_bar

RESULT: Final = RESULTS / "format_bytes.json"

WIDTHS: Final = (128, 256, 512, 1024, 2048)
"""Pixels. The first and the third are the default of ThumbnailSizes."""

app = new_app()


@dataclass(frozen=True, slots=True)
class Encoded:
    """Thumbnails of one format and width: means over the photos, because costs are sums.

    `cpu_ms` is CPU time of the encoder. Of each photo, it is the median of all rounds.
    """

    format: str
    width: int
    photos: int
    pixels: int
    bytes: int
    cpu_ms: float


def measure(photos: Sequence[Path], width: int, rounds: int) -> list[Encoded]:
    """Encode every photo in every format at one width; one row for each format."""
    found: dict[str, list[tuple[int, int, float]]] = {way.format: [] for way in DEFAULTS}
    for photo in photos:
        picture = reference(photo, width)
        for way, data, cpu_ms in in_turns(picture, DEFAULTS, rounds):
            found[way.format].append((picture.width * picture.height, len(data), cpu_ms))
    rows = []
    for name, made in found.items():
        pixels, sizes, times = (statistics.fmean(column) for column in zip(*made, strict=True))
        rows.append(
            Encoded(name, width, len(made), round(pixels), round(sizes), round(times, 2)),
        )
    return rows


def _width(photo: Path) -> int:
    with Image.open(photo) as image:
        return image.width


@app.command()
def format_bytes(
    rounds: Annotated[int, typer.Option(min=1, help="Number of turns of each format.")] = 3,
    *,
    as_json: Json = False,
) -> None:
    """Measure the bytes and the CPU time of each format at several widths, in three minutes.

    The results are written to bench/results/format_bytes.json.

    **Example**

    `python -m bench.format_bytes`
    """
    photos = for_encoders()
    rows: list[Encoded] = []
    with progress_bar() as progress, on_one_core():
        for width in progress.track(WIDTHS, description="Encoding"):
            rows += measure([each for each in photos if _width(each) >= width], width, rounds)
    result = {
        "what": "thumbnails of the photos that are at least as wide, at the default qualities",
        **circumstances(),
        "rounds": rounds,
        "results": [asdict(row) for row in rows],
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        print_json(result)
        return
    table = Table("format", "width", "photos", "bytes", "CPU ms")
    for row in rows:
        table.add_row(
            *(row.format, str(row.width), str(row.photos), f"{row.bytes:,}", f"{row.cpu_ms:.1f}")
        )
    out.print(table)


if __name__ == "__main__":
    run_app(app)
