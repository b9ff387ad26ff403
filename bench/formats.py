"""Compares the output formats: bytes, CPU and SSIMULACRA 2 of each, beside WebP at its default.

The photos are those of ../shared/corpus, 512 pixels wide. All formats encode the same picture in
turns, so that other load on the machine affects all of them.
"""

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, NamedTuple
from unittest.mock import patch

import typer
from PIL import Image
from rich.table import Table

from bench.engine import on_one_core, run_in_bench
from bench.engine_inputs import reference
from bench.photos import for_encoders
from bench.record import RESULTS, circumstances
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import out, print_json, progress_bar
from thumbnailer.imaging import ENCODERS, Size, ThumbnailSpec, thumbnail_spec
from thumbnailer.imaging.encoders import avif, jpeg, webp
from thumbnailer.settings import Settings

RESULT: Final = RESULTS / "formats.json"
WIDTH: Final = 512

app = new_app()


SHARP, ORDINARY = "sharp YUV for all", "sharp YUV for none"

EFFORTS: Final[dict[str, dict[str, tuple[Any, dict[str, Any]]]]] = {
    "webp": {
        **{f"method {method}": (webp, {"METHOD": method}) for method in range(2, 7)},
        SHARP: (webp, {"EDGE_SHARE": -1.0}),
        ORDINARY: (webp, {"EDGE_SHARE": 1.0}),
    },
    "avif": {f"speed {speed}": (avif, {"SPEED": speed}) for speed in range(6, 10)},
    "jpeg": {
        "progressive": (jpeg, {"EFFORT": {"progressive": True, "optimize": True}}),
        "optimised": (jpeg, {"EFFORT": {"optimize": True}}),
        "plain": (jpeg, {"EFFORT": {}}),
    },
}
"""Format → name of an effort → the encoder's module, and its constants that make this effort."""

DEFAULT_EFFORTS: Final = {
    name: next(
        effort
        for effort, (module, constants) in efforts.items()
        if all(getattr(module, constant) == value for constant, value in constants.items())
    )
    for name, efforts in EFFORTS.items()
}
"""The effort of each format that the function uses."""


class Way(NamedTuple):
    """A format with its settings. `effort` is one of EFFORTS, or empty for the default."""

    format: str
    quality: int
    effort: str = ""

    def __str__(self) -> str:
        # The results of earlier runs have AVIF's speed in the name, and that of no other effort.
        effort = self.effort or (DEFAULT_EFFORTS["avif"] if self.format == "avif" else "")
        return f"{self.format} {self.quality}" + (f", {effort}" if effort else "")

    @contextmanager
    def effort_set(self) -> Iterator[None]:
        """Let the encoder make this effort."""
        module, constants = EFFORTS[self.format][self.effort or DEFAULT_EFFORTS[self.format]]
        with patch.multiple(module, **constants):
            yield

    @property
    def spec(self) -> ThumbnailSpec:
        """The spec of a thumbnail that is made in this way."""
        return thumbnail_spec(Size.of_width(WIDTH), self.format, self.quality, animated=False)


DEFAULTS: Final = tuple(
    Way(name, Settings("", "").quality_of(name)) for name in ("webp", "avif", "jpeg")
)
GRID: Final = (
    *(Way("avif", quality) for quality in (62, 64, 66, 68, 70)),
    *(Way("avif", quality, "speed 9") for quality in (66, 68, 70, 72, 74)),
    *(Way("avif", quality, "speed 7") for quality in (64, 66, 68)),
    *(Way("avif", quality, "speed 6") for quality in (62, 64, 66)),
    *(Way("jpeg", quality) for quality in (84, 85, 86, 87, 88)),
)


class Made(NamedTuple):
    """A picture that was encoded: bytes, CPU time in ms (the median of the rounds) and score."""

    bytes: int
    cpu_ms: float
    score: float


def measure(photos: list[Path], ways: tuple[Way, ...], rounds: int) -> dict[Way, list[Made]]:
    """Encode every photo in every way, and score the results. Raises CommandError."""
    encoded: dict[tuple[Way, Path], tuple[int, float]] = {}
    with TemporaryDirectory() as folder, progress_bar() as progress:
        pairs = []
        for photo in progress.track(photos, description="Encoding"):
            picture = reference(photo, WIDTH)
            target = Path(folder) / f"{photo.stem}.png"
            picture.save(target, compress_level=1)
            with on_one_core():
                for way, data, cpu_ms in in_turns(picture, ways, rounds):
                    path = Path(folder) / f"{photo.stem}-{way}.{way.format}"
                    path.write_bytes(data)
                    pairs.append((way, photo, target, path))
                    encoded[way, photo] = (len(data), cpu_ms)
        task = progress.add_task("Scoring", total=None)
        scored = run_in_bench(
            "engine_score.py",
            [(str(target), str(path)) for _, _, target, path in pairs],
            "Scoring failed. Run make bench-formats.",
        )
        progress.remove_task(task)
    found: dict[Way, list[Made]] = {}
    for (way, photo, *_), score in zip(pairs, json.loads(scored), strict=True):
        found.setdefault(way, []).append(Made(*encoded[way, photo], score))
    return found


def in_turns(
    picture: Image.Image, ways: tuple[Way, ...], rounds: int
) -> Iterator[tuple[Way, bytes, float]]:
    """Encode a picture `rounds` times in each way: the bytes, and the median CPU time in ms."""
    times: dict[Way, list[float]] = {way: [] for way in ways}
    data: dict[Way, bytes] = {}
    for _ in range(rounds):
        for way in ways:
            copy = picture.copy()
            began = time.process_time()
            with way.effort_set():
                data[way] = ENCODERS[way.format].encode([copy], way.spec, [0.0], 0)
            times[way].append((time.process_time() - began) * 1000)
    for way in ways:
        yield way, data[way], statistics.median(times[way])


def compared(found: dict[Way, list[Made]], base: Way) -> list[dict[str, Any]]:
    """Compare each way with `base`, photo by photo: medians of the ratios and differences."""
    rows = []
    for way, made in found.items():
        pairs = list(zip(made, found[base], strict=True))
        shares = [each.bytes / other.bytes for each, other in pairs]
        gains = [each.score - other.score for each, other in pairs]
        rows.append(
            {
                "way": str(way),
                "default": way in DEFAULTS,
                "bytes": round(statistics.median(each.bytes for each in made)),
                "bytes_ratio": round(statistics.median(shares), 3),
                "bytes_ratio_worst": round(max(shares), 3),
                "cpu_ms": round(statistics.median(each.cpu_ms for each in made), 1),
                "cpu_ratio": round(
                    statistics.median(each.cpu_ms / other.cpu_ms for each, other in pairs), 2
                ),
                "score": round(statistics.median(each.score for each in made), 1),
                "score_gain": round(statistics.median(gains), 2),
                "score_gain_worst": round(min(gains), 2),
            }
        )
    return rows


@app.command()
def formats(
    rounds: Annotated[int, typer.Option(min=1, help="Number of turns of each format.")] = 5,
    *,
    grid: Annotated[
        bool, typer.Option("--grid", help="Compare other qualities and speeds as well.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare bytes, CPU time and quality of the output formats on the photos of the corpus.

    The results are written to bench/results/formats.json.

    **Example**

    `python -m bench.formats --grid`
    """
    photos = for_encoders()
    others = sorted(
        {*DEFAULTS[1:], *(GRID if grid else ())}, key=lambda way: (way.format, *way[:0:-1])
    )
    ways = (DEFAULTS[0], *others)
    rows = compared(measure(photos, ways, rounds), DEFAULTS[0])
    result = {
        "what": f"{len(photos)} photos, {WIDTH} px wide, beside {DEFAULTS[0]}: compare as ratios",
        "photos": len(photos),
        "width": WIDTH,
        **circumstances(),
        "rounds": rounds,
        "results": rows,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        print_json(result)
        return
    table = Table("format", "bytes ×", "worst", "CPU ×", "CPU ms", "score +", "worst", "score")
    for row in rows:
        table.add_row(
            row["way"],
            f"{row['bytes_ratio']:.2f}",
            f"{row['bytes_ratio_worst']:.2f}",
            f"{row['cpu_ratio']:.1f}",
            f"{row['cpu_ms']:.0f}",
            f"{row['score_gain']:+.2f}",
            f"{row['score_gain_worst']:+.2f}",
            f"{row['score']:.1f}",
        )
    out.print(table)


if __name__ == "__main__":
    run_app(app)
