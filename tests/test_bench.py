"""The benchmark's own arithmetic: targets, plots, prices of efforts, and the choice of photos.

The measurements are made by `make bench`. What they are turned into is checked here.
"""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bench import engine_targets, page
from bench.efforts import Effort, _priced, at_score, pays
from bench.engine_inputs import AS_PUBLISHED, FLOOR, JPEG_100, OURS, SHARP_CHAIN, evenly
from bench.formats import Made
from bench.plots import COLOURS, Plot, multiples, plots, up_to
from bench.target import at_least, at_most
from image_pipeline.stack.costs import PRICES

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"


def results() -> dict[str, Any]:
    """The results of the last runs."""
    return {
        name: json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())
        for name in page.NAMES
    }


def engine_of(ours: float, sharp: float, floor: float, peak: float = 50.0) -> dict[str, Any]:
    """Results of bench.engine for the photos as published, with these CPU times in ms."""
    rows = [
        {"case": AS_PUBLISHED, "engine": name, "cpu_ms": {"median": cpu}, "score": 73.0, "bytes": 9}
        for name, cpu in ((OURS, ours), (SHARP_CHAIN, sharp), (FLOOR, floor))
    ]
    peaks = [
        {"case": JPEG_100, "engine": name, "peak_mb": {"median": mb}, "start_mb": 20.0}
        for name, mb in ((OURS, peak), (SHARP_CHAIN, 80.0))
    ]
    return {"results": rows, "memory": peaks}


def test_what_limits_a_target_is_said_only_where_it_is_missed() -> None:
    """The text has the numbers of the run, so that it cannot outlive them."""
    met = {each.what: each for each in engine_targets.engine_targets(engine_of(40, 60, 35))}
    assert [each.limit for each in met.values()] == [""] * len(met)
    missed = {each.what: each for each in engine_targets.engine_targets(engine_of(90, 60, 35, 99))}
    name = f"{AS_PUBLISHED}: CPU ÷ {SHARP_CHAIN}"
    assert (missed[name].met, missed[name].measured, missed[name].bound) == (False, "1.5", "≤ 0.8")
    assert "35 of 90 ms" in missed[name].limit
    assert "99 MB" in missed[f"{JPEG_100}: peak memory ÷ {SHARP_CHAIN}"].limit
    assert missed[f"{AS_PUBLISHED}: score − {SHARP_CHAIN}"].met


def test_a_target_is_met_at_its_bound() -> None:
    """`≤` and `≥` include the bound."""
    assert at_most("a", 0.8, 0.8, "no").met
    assert at_least("b", 2000, 2000, "no").met
    assert at_least("c", 1999, 2000, "why").limit == "why"


def test_an_effort_is_compared_at_the_score_of_the_default() -> None:
    """Half-way between two scores lie half the quality and CPU time. Bytes grow exponentially."""
    found = at_score(75, (81, 89), Made(100, 10, 70), Made(400, 20, 80))
    assert (found.quality, found.cpu_ms) == (85, 15)
    assert found.bytes == pytest.approx(200)


@pytest.mark.parametrize(
    ("more_cpu", "bytes_saved", "words"),
    [
        (0.002, 0.001, "from 2 views"),
        (-0.002, 0.001, "always"),
        (-0.002, -0.001, "up to 2 views"),
        (0.002, -0.001, "never"),
        (0.002, 0.0, "never"),
    ],
)
def test_an_effort_pays_for_its_time_by_the_bytes_of_views(
    more_cpu: float, bytes_saved: float, words: str
) -> None:
    """CPU time is paid once, transfer for each view."""
    usual = Effort("webp", "method 4", *MIDDLE, arm64=0.01, x86_64=0.01, storage=0, view=0.02)
    other = replace(usual, arm64=0.01 + more_cpu, view=0.02 - bytes_saved)
    assert pays(asdict(_priced(other, usual)) | {"default": False}) == words


MIDDLE: Any = (True, 85, 1, (1, 1), 1, 1, 1)
"""Values of an Effort that its price does not depend on."""


def test_the_prices_of_efforts_are_those_of_the_price_list() -> None:
    """The committed table was made with today's prices."""
    for row in results()["efforts"]["results"]:
        ratio = row["x86_64"] / row["arm64"]
        prices = PRICES["lambda_gb_second"]
        assert ratio == pytest.approx(prices["x86_64"] / prices["arm64"], rel=0.02)


def test_a_plot_can_be_read_aloud_and_in_the_dark() -> None:
    """It has a title, every value in its description, and colours for both modes."""
    rows = {"a": {"x": 1.0, "y": 2.0}, "b": {"x": 9.0}}
    tree = ET.fromstring(Plot("Title & more", "Rows.", multiples(rows), rows).svg())  # noqa: S314
    assert tree.get("role") == "img"
    assert tree.get("aria-labelledby") == "title description"
    assert tree.findtext(f"{SVG}title") == "Title & more"
    assert tree.findtext(f"{SVG}desc") == "Rows. a: x × 1, y × 2; b: x × 9."
    assert "prefers-color-scheme: dark" in str(tree.findtext(f"{SVG}style"))


def test_the_axis_of_multiples_has_every_value() -> None:
    """No dot stands at the end of an axis for a value beyond it."""
    assert multiples({"a": {"x": 0.19, "y": 1.0}, "b": {"x": 10.3}}).ticks == (
        *(0.125, 0.25, 0.5, 1, 2, 4, 8, 16),
    )
    assert multiples({"a": {"x": 1.0}}).ticks == (0.5, 1, 2)


@pytest.mark.parametrize("paper", ["#ffffff", "#0d1117"])
def test_the_colours_of_plots_can_be_told_from_both_backgrounds(paper: str) -> None:
    """WCAG 2.2 asks for a contrast of 3:1 of graphics (1.4.11)."""
    assert all(contrast(colour, paper) >= 3 for colour in COLOURS)


def contrast(one: str, other: str) -> float:
    """The contrast of two colours (WCAG 2.2)."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2)."""
    samples = (each / 255 for each in bytes.fromhex(colour[1:]))
    linear = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in samples)
    return sum(each * share for each, share in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def test_the_parts_of_a_bar_add_up() -> None:
    """The total is beside it, within the picture."""
    drawn = Plot("t", "d.", up_to(926, "{:,.0f}"), {"a": {"x": 300.0, "y": 626.0}}, bars=True)
    assert drawn.axis.ticks[-1] >= 926
    tree = ET.fromstring(drawn.svg())  # noqa: S314
    bars = [each for each in tree.iter(f"{SVG}rect") if len(each)]
    first, second = ((float(each.get("x", 0)), float(each.get("width", 0))) for each in bars)
    assert sum(first) == pytest.approx(second[0], abs=0.2)
    assert "926" in [each.text for each in tree.iter(f"{SVG}text")]


def test_the_page_and_its_plots_are_those_of_the_results() -> None:
    """docs/performance.md and docs/performance/*.svg are generated (python -m bench.page)."""
    found = results()
    assert page.PAGE.read_text() == page.page(found)
    for name, drawn in plots(found).items():
        assert (page.PAGE.with_suffix("") / f"{name}.svg").read_text() == drawn.svg()


def test_photos_are_chosen_evenly_by_size() -> None:
    """The smallest and the largest are among them; few are all taken."""
    paths = [Path(f"{number:02}.jpg") for number in range(40)]
    chosen = evenly(paths, 8)
    assert (len(set(chosen)), chosen[0], chosen[-1]) == (8, paths[0], paths[-1])
    assert evenly(paths[:3], 8) == paths[:3]


def test_a_folder_without_photos_is_an_error_before_anything_is_measured(tmp_path: Path) -> None:
    """Drawn pictures instead of the user's photos would mislead."""
    (tmp_path / "text.txt").write_text("no photo")
    ran = subprocess.run(
        [sys.executable, "-m", "bench.everything", "--check"],
        env=os.environ | {"PHOTOS": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "There are no JPEGs in" in ran.stderr
    assert "Traceback" not in ran.stderr
