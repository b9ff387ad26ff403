"""Writes docs/performance.md from performance.md.j2 and the files in bench/results."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jinja2

from bench.cold_start import LAMBDA_SHARE
from bench.record import REPOSITORY, RESULTS
from bench.thumbs import SHARP_CLI, VIPS
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
    "thumbs",
)
"""The results files that the page is written from."""

OURS, COMPILED = "this pipeline", "usual handler, with .pyc"

app = new_app()


@dataclass(frozen=True, slots=True)
class Target:
    """A target, its bound, and the measured value."""

    what: str
    bound: str
    measured: str
    met: bool


def targets(cold: Any, function: Any, engine: Any, thumbs: Any) -> list[Target]:
    """All targets: those of bench.engine, and those of the README and the other benchmarks."""
    found = [
        Target(each["what"], each["bound"], f"{each['measured']:g}", each["met"])
        for each in engine["targets"]
    ]
    starts = {(each["cpu"], each["function"]): each for each in cold["results"]}
    ours, plain = starts[LAMBDA_SHARE, OURS], starts[LAMBDA_SHARE, COMPILED]
    full = starts[None, OURS]
    warm = next(each for each in function["latencies"] if each["memory_mb"] == 512)  # noqa: PLR2004
    found += [
        _at_most(
            "init ÷ usual handler's with .pyc, 0.29 vCPU", _ratio(ours, plain, "init_ms"), 0.3
        ),
        _at_most(
            "first image ÷ usual handler's with .pyc, 0.29 vCPU",
            _ratio(ours, plain, "first_event_ms"),
            0.45,
        ),
        _at_most(
            "cold start with first image at full CPU, ms", full["cold_start_ms"]["median"], 250
        ),
        _at_most("init at full CPU, ms", full["init_ms"]["median"], 75),
        _at_most("billed time of a 1 MB JPEG, warm, 512 MB, ms", warm["billed_ms"], 200),
        _at_least("images per minute at concurrency 10", function["at_concurrency_10"], 2000),
        _at_most("cost of 10,000 images, total, $", function["cheapest"]["total"], 0.13),
        _at_most("cost of 10,000 images, Lambda, $", function["cheapest"]["function"], 0.012),
        *(
            _at_most(
                f"thumbs, {_widths(each)}: CPU ÷ {each['tool']}, equal quality",
                each["ours_cpu_ratio"],
                1,
            )
            for each in thumbs["tools"]
            if each["tool"] in (VIPS, SHARP_CLI)
        ),
    ]
    return found


def _widths(row: Any) -> str:
    return " and ".join(map(str, row["widths"]))


def _ratio(ours: Any, plain: Any, name: str) -> float:
    return float(ours[name]["median"] / plain[name]["median"])


def _at_most(what: str, measured: float, bound: float) -> Target:
    return Target(what, f"≤ {bound:g}", f"{measured:.3g}", measured <= bound)


def _at_least(what: str, measured: float, bound: float) -> Target:
    return Target(what, f"≥ {bound:,g}", f"{measured:,.0f}", measured >= bound)


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
    pages.filters["widths"] = _widths
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
        targets=targets(cold, function, engine, thumbs),
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


def _spread(value: Any) -> str:
    return f"{value['median']:,.0f} ({value['q1']:,.0f}–{value['q3']:,.0f})"


def _read(name: str) -> Any:
    path: Path = RESULTS / f"{name}.json"
    if not path.exists():
        raise CommandError(f"{path} does not exist: run `make bench`")
    return json.loads(path.read_text())


@app.command()
def write() -> None:
    """Write docs/performance.md from the results files of the benchmarks.

    **Example**

    `python -m bench.page`
    """
    PAGE.write_text(page({name: _read(name) for name in NAMES}))
    out.print(f"Wrote {PAGE}")


if __name__ == "__main__":
    run_app(app)
