"""Writes docs/performance.md and its plots from performance.md.j2 and bench/results."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jinja2

from bench.cold_start import LAMBDA_SHARE
from bench.efforts import pays
from bench.engine_inputs import (
    AS_PUBLISHED,
    OURS,
    PHONE,
    PNG_ALPHA,
    PYVIPS,
    SHARP_CHAIN,
    SHARP_PER_SIZE,
    WEBP,
)
from bench.engine_targets import MEMORY
from bench.plots import plots
from bench.record import REPOSITORY, RESULTS
from bench.targets import COMPILED, targets, widths
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.output import out
from image_pipeline.errors import CommandError
from image_pipeline.stack.costs import Rates, of_cold_starts

TEMPLATE: Final = Path(__file__).with_name("performance.md.j2")
PAGE: Final = REPOSITORY / "docs" / "performance.md"
NAMES: Final = (
    "cold_start",
    "function",
    "function_formats",
    "engine",
    "formats",
    "format_bytes",
    "efforts",
    "thumbs",
)
"""The results files that the page is written from."""

app = new_app()


IMGPROXY: Final = {
    "source": "https://gist.github.com/DarthSim/9d971d2859f3714a29cf8ce094b3fc55",
    "date": "2019-04-30",
    "version": "2.2.13",
    "machine": "c5.xlarge",
    "cores": 4,
    "picture": "JPEG, 7360 × 4912 pixels, 29 MB → JPEG that fits 500 × 500",
    "images_a_second": 9.67,
    "peak_mb": 194,
}
"""What the author of imgproxy has published; the version is in BENCHMARK.md of that time."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What another engine would change, None where it was not measured.

    CPU time (by KINDS), peak memory (by MEMORY), bytes and cold start are multiples of this
    pipeline's; the score is a difference.
    """

    name: str
    cpu: tuple[float | None, ...]
    score: float | None
    memory: tuple[float | None, ...]
    cold_start: float | None
    bytes: float | None


KINDS: Final = (AS_PUBLISHED, PHONE, PNG_ALPHA, WEBP)
"""Kinds of image of the columns with CPU time."""

USUAL: Final = "Pillow, thumbnail() per size"
"""The engine that resizes as bench/usual_handler does."""


def choices(engine: Mapping[str, Any], cold: Mapping[str, Any]) -> list[Choice]:
    """What would change with sharp, libvips or the usual handler instead of this pipeline."""
    by = {(each["case"], each["engine"]): each for each in engine["results"]}
    peaks = {(each["case"], each["engine"]): each["peak_mb"]["median"] for each in engine["memory"]}
    starts = {(each["cpu"], each["function"]): each["times_ours"] for each in cold["results"]}
    first = next(case for case, _ in by)

    def ratio(values: Mapping[tuple[str, str], float], case: str, name: str) -> float | None:
        found = values.get((case, name)), values.get((case, OURS))
        return found[0] / found[1] if found[0] and found[1] else None

    cpu = {key: row["cpu_ms"]["median"] for key, row in by.items()}
    size = {key: row["bytes"] for key, row in by.items()}
    scores = {key: row["score"] for key, row in by.items() if row["score"] is not None}
    return [
        Choice(
            name,
            tuple(ratio(cpu, case, engine_name) for case in KINDS),
            (
                round(scores[first, engine_name] - scores[first, OURS], 1)
                if (first, engine_name) in scores
                else None
            ),
            tuple(ratio(peaks, case, engine_name) for case in MEMORY),
            starts.get((LAMBDA_SHARE, COMPILED)) if engine_name == USUAL else None,
            ratio(size, first, engine_name),
        )
        for name, engine_name in (
            ("sharp, as its documentation shows", SHARP_PER_SIZE),
            ("sharp, each size from the larger one", SHARP_CHAIN),
            ("libvips (pyvips), each size from the larger one", PYVIPS),
            ("the usual Pillow handler", USUAL),
        )
    ]


def runs(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """When, where and with which load each part was measured; `load` is at its end."""
    found = []
    for name in NAMES:
        result = results[name]
        load = result.get("load", "")
        found.append(
            {
                "part": name,
                "date": result["measured"][:10],
                "commit": result.get("commit") or result["versions"]["commit"],
                "machine": result["machine"]["cpu"],
                "cores": result["machine"]["cores"],
                "system": result["machine"]["system"],
                "rounds": result["rounds"],
                "load": " to ".join(map(str, load)) if isinstance(load, list) else load,
            }
        )
    return found


def page(results: Mapping[str, Any]) -> str:
    """Render the page in Markdown from the content of the results files, by their names."""
    cold, function, engine = (results[name] for name in ("cold_start", "function", "engine"))
    several, sizes = results["function_formats"], results["format_bytes"]
    thumbs = results["thumbs"]
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Markdown from our own results
    )
    pages.filters["spread"] = _spread
    pages.filters["widths"] = widths
    pages.filters["pays"] = pays
    pages.filters["times"] = _times
    return pages.get_template(TEMPLATE.name).render(
        cold=cold,
        function=function,
        cold_starts=cold_starts(function),
        several=several,
        rates={each["formats"]: each["images_a_minute"] for each in several["throughput"]},
        undelayed={
            each["formats"]: each["p50"] for each in several["waiting"] if not each["wait_ms"]
        },
        formats=results["formats"],
        sizes=sizes,
        webp={each["width"]: each for each in sizes["results"] if each["format"] == "webp"},
        thumbs=thumbs,
        quality={each["tool"]: each for each in thumbs["quality"]},
        efforts=results["efforts"],
        engine=engine,
        kinds=KINDS,
        memory=MEMORY,
        choices=choices(engine, cold),
        imgproxy=IMGPROXY,
        runs=runs(results),
        targets=(found := targets(results)),
        missed=[each for each in found if not each.met],
    )


def cold_starts(function: Any) -> dict[str, float]:
    """Dollars for the inits of 10,000 environments, by memory and architecture: "512 arm64"."""
    inits = {each["memory_mb"]: each["init_ms"]["median"] for each in function["latencies"]}
    found = {}
    for each in function["costs"]:
        rates = Rates(each["memory_mb"], each["architecture"], writes=0, duration_ms=0)
        name = f"{rates.memory_mb} {rates.architecture}"
        found[name] = of_cold_starts(rates, 10_000, inits[rates.memory_mb])
    return found


def _times(value: float | None) -> str:
    return "" if value is None else f"× {value:.2f}"


def _spread(value: Any) -> str:
    return f"{value['median']:,.0f} ({value['q1']:,.0f}–{value['q3']:,.0f})"


def _read(name: str) -> Any:
    path: Path = RESULTS / f"{name}.json"
    if not path.exists():
        raise CommandError(f"{path} does not exist: run `make bench`")
    return json.loads(path.read_text())


@app.command()
def write() -> None:
    """Write docs/performance.md and its plots from the results files of the benchmarks.

    **Example**

    `python -m bench.page`
    """
    results = {name: _read(name) for name in NAMES}
    for name, plot in plots(results).items():
        (PAGE.with_suffix("") / f"{name}.svg").write_text(plot.svg())
    PAGE.write_text(page(results))
    out.print(f"Wrote {PAGE}")


if __name__ == "__main__":
    run_app(app)
