"""What bench.engine found, as a Markdown page and a plot (SVG)."""

import math
from html import escape
from typing import Any, Final

type Found = dict[str, Any]
"""What is in bench/results/engine.json."""

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
"""One for each engine, told apart on white and on black."""


def markdown(found: Found) -> str:
    """Tables: the targets, then CPU, quality, memory and bytes by kind of image and engine."""
    machine = found["machine"]
    widths = " and ".join(map(str, found["widths"]))
    on = f"{machine['cpu']}, {machine['architecture']}, {machine['cores']} cores"
    intro = f"""# Image engines, measured

Written by `make bench-engine`; change nothing here by hand.

Thumbnails {widths} pixels wide, WebP quality {found['quality']}, method 4. {found['rounds']} rounds
in turns on one core ({on}), {found['measured'][:10]}. Compare within a table, as ratios.

![CPU time of each engine as a multiple of this pipeline's, by kind of image](engine.svg)

| target | bound | measured | |
|---|---|---|---|"""
    lines = [intro]
    for target in found["targets"]:
        verdict = "met" if target["met"] else "**missed**"
        lines.append(
            f"| {target['what']} | {target['bound']} | {target['measured']:g} | {verdict} |"
        )
    lines += _table(found, "CPU ms: median (quartiles), all threads", _cpu)
    lines += _table(
        found, "Quality of the largest thumbnail: SSIMULACRA 2, 100 is the reference", _score
    )
    lines += _table(
        found, "Peak memory of a fresh process, MB", lambda row: f"{row['peak_mb']:.0f}"
    )
    lines += _table(found, "Bytes of the thumbnails", lambda row: f"{row['bytes']:,}")
    lines += ["", "## Images", ""]
    lines += [f"- {case['case']}: {case['source']}" for case in found["cases"]]
    lines += [
        "",
        "The reference is made from all pixels by Lanczos in floating point, in one step.",
        PROCESSES_DIFFER,
        "",
    ]
    told = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return "\n".join([*lines, f"Versions: {told}.", ""])


def _cpu(row: Found) -> str:
    cpu = row["cpu_ms"]
    return f"{cpu['median']:.0f} ({cpu['q1']:.0f}–{cpu['q3']:.0f})"


def _score(row: Found) -> str:
    return "" if row["score"] is None else f"{row['score']:.1f}"


def _table(found: Found, title: str, cell: Any) -> list[str]:
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


def _engines(found: Found) -> list[str]:
    return list(dict.fromkeys(row["engine"] for row in found["results"]))


PROCESSES_DIFFER: Final = """An engine is one process for each kind of image, and processes of one
engine differ by up to 3 % at large PNGs: the quartiles, of rounds within it, do not show that."""

WIDTH, LEFT, ROW, TOP = 860, 210, 34, 70
LEAST, MOST = 0.5, 8.0
"""Multiples at the ends of the axis, whose scale is logarithmic."""


def plot(found: Found) -> str:
    """CPU of each engine as a multiple of ours: a row a kind of image, a dot an engine."""
    engines = _engines(found)
    height = TOP + ROW * len(found["cases"]) + 40
    view = f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view} fill="#808080">',
        "<title>CPU time as a multiple of this pipeline's: less is better</title>",
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
                times = medians[engine] / medians[OURS]
                tip = f"{engine}: {medians[engine]:.0f} ms, × {times:.2f}"
                parts.append(
                    f'<circle cx="{_x(times)}" cy="{y}" r="5" fill="{COLOURS[at]}" '
                    f'fill-opacity="0.85"><title>{escape(tip)}</title></circle>'
                )
    return "\n".join([*parts, "</svg>", ""])


def _x(times: float) -> float:
    share = math.log(min(max(times, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return round(LEFT + share * (WIDTH - LEFT - 30), 1)
