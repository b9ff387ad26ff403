"""Compares the efforts of each output format at equal quality: CPU time, bytes, and their price.

An effort is a setting of an encoder that trades time for bytes. Each photo is encoded at two
qualities around the default one, and bytes and CPU time are interpolated to the score that the
default effort has at the default quality (SSIMULACRA 2). So all efforts of a format are compared at
the same score, photo by photo. The efforts take turns at each photo.

The price of CPU time does not depend on the memory of the function: half a vCPU takes twice as long
and costs half as much for a second.
"""

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import typer
from PIL import Image, ImageDraw, ImageFont
from rich.table import Table

from bench.formats import (
    DEFAULT_EFFORTS,
    DEFAULTS,
    EFFORTS,
    ORDINARY,
    SHARP,
    WIDTH,
    Made,
    Way,
    measure,
)
from bench.photos import for_encoders
from bench.record import RESULTS, circumstances
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import out, print_json
from image_pipeline.stack.costs import PRICES, STORED_MONTHS, of_storage, of_transfer
from thumbnailer.imaging import FULL_CPU_MB

RESULT: Final = RESULTS / "efforts.json"

AROUND: Final = 4
"""Qualities above and below the default one between which is interpolated."""

LETTERS: Final = {
    "red on white": ("#e00000", "#ffffff"),
    "white on red": ("#ffffff", "#e00000"),
    "navy on white": ("#003366", "#ffffff"),
    "black on white": ("#000000", "#ffffff"),
}
"""Pictures of small letters in one colour on another, on which sharp YUV is measured."""

HEIGHT: Final = 340
"""Pixels of these pictures."""

THUMBNAILS: Final = 10_000
"""Thumbnails of the prices."""

app = new_app()


@dataclass(frozen=True, slots=True)
class Effort:
    """An effort at the scores of the default effort: means over the photos, because costs are sums.

    Dollars are for THUMBNAILS thumbnails: `arm64` and `x86_64` for encoding them, `storage` for
    STORED_MONTHS, `view` for one view of each through the CDN. `pays_from` and `pays_to` say for
    how many views of each thumbnail, on arm64, this effort costs less in total than the default
    one. None in `pays_from` means never, and in `pays_to` without end.
    """

    format: str
    effort: str
    default: bool
    quality: float
    cpu_ms: float
    cpu_spread: tuple[float, float]
    """Quartiles over the photos of the CPU time as a multiple of the default effort's."""
    cpu_ratio: float
    bytes: int
    bytes_ratio: float
    arm64: float
    x86_64: float
    storage: float
    view: float
    pays_from: float | None = None
    pays_to: float | None = None


@dataclass(frozen=True, slots=True)
class At:
    """One photo with one effort, at the score of the default one."""

    quality: float
    bytes: float
    cpu_ms: float


def ways() -> Iterator[Way]:
    """Every format at its default, and every effort at two qualities."""
    for default in DEFAULTS:
        yield default
        for effort in _compared_efforts(default.format):
            for quality in (default.quality - AROUND, default.quality + AROUND):
                yield Way(default.format, quality, effort)


def _compared_efforts(name: str) -> list[str]:
    return [effort for effort in EFFORTS[name] if effort != ORDINARY]


def at_score(score: float, qualities: tuple[int, int], low: Made, high: Made) -> At:
    """Interpolate between two encodings of a photo, or extrapolate, to a score.

    Quality and CPU time are taken to be linear in the score, and bytes exponential.
    """
    share = (score - low.score) / (high.score - low.score) if high.score != low.score else 0.5

    def between(first: float, last: float) -> float:
        return first + share * (last - first)

    size = math.exp(between(math.log(low.bytes), math.log(high.bytes)))
    return At(between(*qualities), size, between(low.cpu_ms, high.cpu_ms))


def compared(found: Mapping[Way, Sequence[Made]]) -> list[Effort]:
    """Compare the efforts of each format at the scores of the default way, photo by photo."""
    rows = []
    for default in DEFAULTS:
        scores = [each.score for each in found[default]]
        qualities = (default.quality - AROUND, default.quality + AROUND)
        equal = {
            effort: [
                at_score(score, qualities, low, high)
                for score, low, high in zip(
                    scores,
                    *(found[Way(default.format, quality, effort)] for quality in qualities),
                    strict=True,
                )
            ]
            for effort in _compared_efforts(default.format)
        }
        base = equal[DEFAULT_EFFORTS[default.format]]
        of_format = [_effort(default.format, effort, each, base) for effort, each in equal.items()]
        usual = next(row for row in of_format if row.default)
        rows += [row if row.default else _priced(row, usual) for row in of_format]
    return rows


def _effort(name: str, effort: str, photos: Sequence[At], base: Sequence[At]) -> Effort:
    cpu_ms = statistics.fmean(each.cpu_ms for each in photos)
    size = statistics.fmean(each.bytes for each in photos)
    ratios = [each.cpu_ms / other.cpu_ms for each, other in zip(photos, base, strict=True)]
    q1, median, q3 = statistics.quantiles(ratios, n=4, method="inclusive")
    gb_seconds = cpu_ms / 1000 * FULL_CPU_MB / 1024 * THUMBNAILS
    lambda_prices = PRICES["lambda_gb_second"]
    return Effort(
        name,
        effort,
        effort == DEFAULT_EFFORTS[name],
        round(statistics.fmean(each.quality for each in photos), 1),
        round(cpu_ms, 1),
        (round(q1, 2), round(q3, 2)),
        round(median, 2),
        round(size),
        round(size / statistics.fmean(each.bytes for each in base), 3),
        **{name: round(gb_seconds * price, 5) for name, price in lambda_prices.items()},
        storage=round(of_storage(size * THUMBNAILS) * STORED_MONTHS, 5),
        view=round(of_transfer(size * THUMBNAILS), 5),
    )


def _priced(row: Effort, usual: Effort) -> Effort:
    """Say for how many views an effort costs less than the usual one."""
    more = row.arm64 + row.storage - usual.arm64 - usual.storage
    saved = usual.view - row.view  # with each view
    pays_from: float | None = None
    pays_to: float | None = None
    if saved > 0:
        pays_from = round(max(0.0, more / saved), 1)
    elif more < 0:
        pays_from, pays_to = 0.0, round(more / saved, 1) if saved else None
    values = asdict(row) | {"pays_from": pays_from, "pays_to": pays_to}
    return Effort(**values)


def letters(ink: str, paper: str) -> Image.Image:
    """Draw lines of letters, WIDTH × HEIGHT pixels, with soft edges as after a reduction."""
    picture = Image.new("RGB", (4 * WIDTH, 4 * HEIGHT), paper)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(64)
    for top in range(0, picture.height, 100):
        text = "Small letters show what halving the resolution of colour does: -50 %!"
        draw.text((20 + top % 60, top), text, ink, font)
    return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def measure_letters(rounds: int) -> list[dict[str, Any]]:
    """Encode each of LETTERS with the ordinary and with the sharp conversion of colour."""
    ordinary, sharp = (Way("webp", DEFAULTS[0].quality, each) for each in (ORDINARY, SHARP))
    with TemporaryDirectory() as folder:
        paths = []
        for name, colours in LETTERS.items():
            paths.append(Path(folder) / f"{name}.png")
            letters(*colours).save(paths[-1])
        found = measure(paths, (ordinary, sharp), rounds)
    return [
        {"picture": name, "ordinary": before._asdict(), "sharp": after._asdict()}
        for name, before, after in zip(LETTERS, found[ordinary], found[sharp], strict=True)
    ]


@app.command()
def efforts(
    rounds: Annotated[int, typer.Option(min=1, help="Number of turns of each effort.")] = 3,
    every: Annotated[int, typer.Option(min=1, help="Use every Nth photo.")] = 1,
    *,
    as_json: Json = False,
) -> None:
    """Compare the efforts of WebP, AVIF and JPEG at equal quality, with their price.

    The results are written to bench/results/efforts.json, unless only some photos are used.

    **Examples**

    `python -m bench.efforts`

    `python -m bench.efforts --every 6 --rounds 1 --json`
    """
    photos = for_encoders()[::every]
    rows = compared(measure(photos, tuple(ways()), rounds))
    found: dict[str, Any] = {
        "what": f"{len(photos)} photos, {WIDTH} px wide, at the score of each format's default",
        "photos": len(photos),
        "width": WIDTH,
        **circumstances(),
        "rounds": rounds,
        "thumbnails": THUMBNAILS,
        "stored_months": STORED_MONTHS,
        "prices": {name: PRICES[name] for name in ("as_of", "region")},
        "results": [asdict(row) for row in rows],
        "letters": measure_letters(rounds),
    }
    if every == 1:
        Path(RESULT).write_text(json.dumps(found, indent=2) + "\n")
    if as_json:
        print_json(found)
        return
    table = Table("format", "effort", "CPU ms", "CPU ×", "bytes", "bytes ×", "$ arm64", "pays")
    for row in rows:
        table.add_row(
            *(row.format, row.effort, f"{row.cpu_ms:.1f}", f"{row.cpu_ratio:.2f}"),
            *(f"{row.bytes:,}", f"{row.bytes_ratio:.3f}", f"{row.arm64:.4f}", pays(asdict(row))),
        )
    out.print(table)


def pays(row: Mapping[str, Any]) -> str:
    """For how many views of each thumbnail an effort costs less than the default, in words."""
    if row["default"]:
        return "the default"
    if row["pays_from"] is None:
        return "never"
    if row["pays_to"] is not None:
        return f"up to {row['pays_to']:,g} views"
    return f"from {row['pays_from']:,g} views" if row["pays_from"] else "always"


if __name__ == "__main__":
    run_app(app)
