"""Writes the results of bench.engine as a Markdown page and a plot (SVG)."""

import math
from html import escape
from typing import Any, Final

type Results = dict[str, Any]
"""The content of bench/results/engine.json, or a part of it."""

OURS: Final = "this pipeline"

COLOURS: Final = (
    "#d62728",
    "#7f7f7f",
    "#bcbd22",
    "#8c564b",
    "#17a2b8",
    "#1f77b4",
    "#9467bd",
    "#2ca02c",
)
"""One for each engine, distinguishable on white and on black."""


def markdown(found: Results) -> str:
    """A page with the targets, and tables of CPU, quality, memory and bytes by image and engine."""
    machine = found["machine"]
    widths = " and ".join(map(str, found["widths"]))
    on = f"{machine['cpu']}, {machine['architecture']}, {machine['cores']} cores"
    intro = f"""# Comparison of image engines

`make bench-engine` writes this page. Do not edit it by hand.

Thumbnails {widths} pixels wide, WebP quality {found['quality']}, method 4. {found['rounds']} rounds
in turns on one core ({on}), {found['measured'][:10]}. Compare numbers within a table, as ratios.

![CPU time of each engine as a multiple of this pipeline's, by kind of image](engine.svg)

"Floor" decodes a JPEG at the smallest scale and encodes finished thumbnails: no engine built on
libjpeg-turbo and libwebp can be faster. "Chained" engines make each width from the next larger one.

| target | bound | measured | |
|---|---|---|---|"""
    lines = [intro]
    for target in found["targets"]:
        verdict = "met" if target["met"] else "**missed**"
        lines.append(
            f"| {target['what']} | {target['bound']} | {target['measured']:g} | {verdict} |"
        )
    lines += _table(found, "CPU time of all threads in ms: median (quartiles)", _cpu)
    lines += _table(
        found, "Quality of the largest thumbnail: SSIMULACRA 2 (100: like the reference)", _score
    )
    lines += _table(
        found, "Peak memory of a fresh process in MB", lambda row: f"{row['peak_mb']:.0f}"
    )
    lines += _table(found, "Size of the thumbnails in bytes", lambda row: f"{row['bytes']:,}")
    lines += ["", "## Images", ""]
    lines += [f"- {case['case']}: {case['source']}" for case in found["cases"]]
    lines += [
        "",
        "The reference is scaled from all pixels by Lanczos in floating point, in one step.",
        PROCESSES_DIFFER,
        "",
    ]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return "\n".join([*lines, f"Versions: {versions}.", ""])


def _cpu(row: Results) -> str:
    cpu = row["cpu_ms"]
    return f"{cpu['median']:.0f} ({cpu['q1']:.0f}–{cpu['q3']:.0f})"


def _score(row: Results) -> str:
    return "" if row["score"] is None else f"{row['score']:.1f}"


def _table(found: Results, title: str, cell: Any) -> list[str]:
    engines = _engines(found)
    by = {(row["case"], row["engine"]): row for row in found["results"]}
    lines = [
        "",
        f"## {title}",
        "",
        f"| | {' | '.join(engines)} |",
        "|---" * (len(engines) + 1) + "|",
    ]
    for case in found["cases"]:
        cells = []
        for engine in engines:
            row = by.get((case["case"], engine))
            cells.append(cell(row) if row else "cannot")
        lines.append(f"| {case['case']} | {' | '.join(cells)} |")
    return lines


def _engines(found: Results) -> list[str]:
    return list(dict.fromkeys(row["engine"] for row in found["results"]))


PROCESSES_DIFFER: Final = """Each engine runs in one process per kind of image. Processes of the
same engine differ by up to 3 % at large PNGs; quartiles, of rounds in one process, hide that."""

WIDTH, LEFT, ROW, TOP = 860, 210, 34, 70
"""Pixels of the plot: width, left margin, height of a row, top margin."""

MIN_RATIO, MAX_RATIO = 0.5, 8.0
"""Multiples at the ends of the logarithmic axis."""


def plot(found: Results) -> str:
    """Plot CPU time as a multiple of this pipeline's: a row per kind of image, a dot per engine."""
    engines = _engines(found)
    height = TOP + ROW * len(found["cases"]) + 40
    view = f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view} fill="#808080">',
        "<title>CPU time as a multiple of this pipeline's: lower is better</title>",
    ]
    for at, engine in enumerate(engines):
        x, y = 14 + at % 4 * 215, 18 + at // 4 * 20
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{COLOURS[at]}"/>')
        parts.append(f'<text x="{x + 10}" y="{y}">{escape(engine)}</text>')
    bottom = TOP + ROW * len(found["cases"])
    for tick in (0.5, 1, 2, 4, 8):
        x = _x(tick)
        stroke = f'stroke="#808080" stroke-width="{2 if tick == 1 else 0.5}"'
        parts.append(f'<line x1="{x}" x2="{x}" y1="{TOP - 14}" y2="{bottom}" {stroke}/>')
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">× {tick:g}</text>')
    for row, case in enumerate(found["cases"]):
        y = TOP + ROW * row + ROW // 2 - 8
        parts.append(
            f'<text x="{LEFT - 14}" y="{y + 4}" text-anchor="end">{escape(case["case"])}</text>'
        )
        medians = {
            each["engine"]: each["cpu_ms"]["median"]
            for each in found["results"]
            if each["case"] == case["case"]
        }
        for at, engine in enumerate(engines):
            if engine in medians and OURS in medians:
                ratio = medians[engine] / medians[OURS]
                tip = f"{engine}: {medians[engine]:.0f} ms, × {ratio:.2f}"
                parts.append(
                    f'<circle cx="{_x(ratio)}" cy="{y}" r="5" fill="{COLOURS[at]}" '
                    f'fill-opacity="0.85"><title>{escape(tip)}</title></circle>'
                )
    return "\n".join([*parts, "</svg>", ""])


def _x(ratio: float) -> float:
    clamped = min(max(ratio, MIN_RATIO), MAX_RATIO)
    share = math.log(clamped / MIN_RATIO) / math.log(MAX_RATIO / MIN_RATIO)
    return round(LEFT + share * (WIDTH - LEFT - 30), 1)
