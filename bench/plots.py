"""The plots of docs/performance (SVG): one for each claim, from the results files.

Each plot has its own background, text for screen readers, and colours that differ in lightness too.
It follows the reader's light or dark mode.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from bench.cold_start import LAMBDA_SHARE
from bench.engine_inputs import OURS
from bench.targets import widths

COLOURS: Final = (
    "#d6304a",
    "#8a8f98",
    "#b38600",
    "#9c6644",
    "#0e9aa7",
    "#2f6fde",
    "#9467bd",
    "#2b9348",
)
"""One for each series. Each has a contrast of 3:1 or more with both backgrounds, as WCAG 2.2 asks
of graphics (1.4.11)."""

STYLE: Final = """<style>
.paper { fill: #ffffff } text { fill: #1f2328 } .line { stroke: #8c959f }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117 } text { fill: #e6edf3 } .line { stroke: #6e7681 }
}
</style>"""

ATTRIBUTES: Final = (
    'role="img" aria-labelledby="title description" font-family="sans-serif" font-size="13"'
)

WIDTH, LEFT, RIGHT, ROW = 860, 230, 36, 34
"""Pixels: width of a plot, its left and right margins, and the height of a row."""

LEGEND_COLUMNS: Final = 3
LEGEND_ROW: Final = 20
TITLE_HEIGHT: Final = 34


@dataclass(frozen=True, slots=True)
class Axis:
    """Ticks of the horizontal axis, the first and the last at its ends; `form` shows a value."""

    ticks: tuple[float, ...]
    form: str
    logarithmic: bool = False
    line: float | None = None
    """The tick that is drawn thicker."""

    def at(self, value: float) -> float:
        """Return where a value is, in pixels; values beyond the ends are at the ends."""
        low, high = self.ticks[0], self.ticks[-1]
        value = min(max(value, low), high)
        if self.logarithmic:
            share = math.log(value / low) / math.log(high / low)
        else:
            share = (value - low) / (high - low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot: in each row, a value for each series (or none), as a dot or as parts of a bar."""

    title: str
    description: str
    axis: Axis
    rows: Mapping[str, Mapping[str, float]]
    bars: bool = False

    @property
    def series(self) -> list[str]:
        """The names of all series, in the order of their first values."""
        return list(dict.fromkeys(name for row in self.rows.values() for name in row))

    def svg(self) -> str:
        """Draw it."""
        series = self.series
        colours = dict(zip(series, COLOURS, strict=False))
        top = TITLE_HEIGHT + LEGEND_ROW * -(-len(series) // LEGEND_COLUMNS) + 18
        bottom = top + ROW * len(self.rows)
        height = bottom + 32
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {ATTRIBUTES}>',
            f'<title id="title">{escape(self.title)}</title>',
            f'<desc id="description">{escape(self._in_words())}</desc>',
            STYLE,
            f'<rect class="paper" width="{WIDTH}" height="{height}" rx="6"/>',
            f'<text x="14" y="22" font-weight="bold">{escape(self.title)}</text>',
        ]
        for number, name in enumerate(series):
            x = 20 + number % LEGEND_COLUMNS * 280
            y = TITLE_HEIGHT + LEGEND_ROW * (number // LEGEND_COLUMNS) + 8
            parts.append(f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{colours[name]}"/>')
            parts.append(f'<text x="{x + 10}" y="{y}">{escape(name)}</text>')
        for tick in self.axis.ticks:
            x_tick = self.axis.at(tick)
            thick = 2 if tick == self.axis.line else 0.5
            parts.append(
                f'<line class="line" x1="{x_tick}" x2="{x_tick}" y1="{top - 8}" y2="{bottom}" '
                f'stroke-width="{thick}"/>'
            )
            label = self.axis.form.format(tick)
            parts.append(
                f'<text x="{x_tick}" y="{bottom + 18}" text-anchor="middle">{label}</text>'
            )
        for number, (label, values) in enumerate(self.rows.items()):
            y = top + ROW * number + ROW // 2 - 2
            parts.append(
                f'<text x="{LEFT - 14}" y="{y + 4}" text-anchor="end">{escape(label)}</text>'
            )
            parts += self._bar(values, y, colours) if self.bars else self._dots(values, y, colours)
        return "\n".join([*parts, "</svg>", ""])

    def _tip(self, name: str, value: float) -> str:
        return f"<title>{escape(f'{name}: {self.axis.form.format(value)}')}</title>"

    def _dots(self, values: Mapping[str, float], y: int, colours: Mapping[str, str]) -> list[str]:
        return [
            f'<circle cx="{self.axis.at(value)}" cy="{y}" r="5.5" fill="{colours[name]}" '
            f'fill-opacity="0.9">{self._tip(name, value)}</circle>'
            for name, value in reversed(values.items())  # the first series is on top
        ]

    def _bar(self, values: Mapping[str, float], y: int, colours: Mapping[str, str]) -> list[str]:
        parts, before = [], 0.0
        for name, value in values.items():
            start, end = self.axis.at(before), self.axis.at(before + value)
            parts.append(
                f'<rect x="{start}" y="{y - 9}" width="{round(end - start, 1)}" height="18" '
                f'fill="{colours[name]}">{self._tip(name, value)}</rect>'
            )
            before += value
        total = self.axis.form.format(before)
        parts.append(f'<text x="{self.axis.at(before) + 5}" y="{y + 4}">{total}</text>')
        return parts

    def _in_words(self) -> str:
        rows = "; ".join(
            f"{label}: "
            + ", ".join(f"{name} {self.axis.form.format(value)}" for name, value in row.items())
            for label, row in self.rows.items()
        )
        return f"{self.description} {rows}."


MOST_TICKS: Final = 6


def multiples(rows: Mapping[str, Mapping[str, float]]) -> Axis:
    """An axis of powers of two that has every value, and 0.5, 1 and 2."""
    values = [value for row in rows.values() for value in row.values()]
    low = min(-1, math.floor(math.log2(min(values))))
    high = max(1, math.ceil(math.log2(max(values))))
    ticks = tuple(2.0**power for power in range(low, high + 1))
    return Axis(ticks, "× {:.3g}", logarithmic=True, line=1)


def up_to(most: float, form: str) -> Axis:
    """An axis from 0 to a round number that is `most` or more."""
    step = 10 ** math.floor(math.log10(most))
    least = most / MOST_TICKS
    step = next(step * each for each in (0.25, 0.5, 1, 2) if step * each >= least)
    count = math.ceil(most * 1.08 / step)  # with room for the total beside the longest bar
    return Axis(tuple(step * number for number in range(count + 1)), form)


def plots(results: Mapping[str, Any]) -> dict[str, Plot]:
    """All plots by the names of their files, from the content of the results files."""
    engine, cold, thumbs = (results[name] for name in ("engine", "cold_start", "thumbs"))
    return {
        "engine": _cpu(engine),
        "quality": _quality(engine),
        "memory": _memory(engine),
        "cold-start": _cold_start(cold),
        "thumbs": _thumbs(thumbs),
        "efforts": _efforts(results["efforts"]),
    }


def _by_case(engine: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in engine["results"]:
        found.setdefault(row["case"], {})[row["engine"]] = row
    return found


def _cpu(engine: Mapping[str, Any]) -> Plot:
    rows = {
        case: {
            name: row["cpu_ms"]["median"] / rows[OURS]["cpu_ms"]["median"]
            for name, row in rows.items()
        }
        for case, rows in _by_case(engine).items()
        if OURS in rows
    }
    return Plot(
        "CPU time of an image, as a multiple of this pipeline's: lower is better",
        "A row for each kind of image, a dot for each engine.",
        multiples(rows),
        rows,
    )


def _quality(engine: Mapping[str, Any]) -> Plot:
    rows = {
        case: {name: row["score"] for name, row in each.items() if row["score"] is not None}
        for case, each in _by_case(engine).items()
    }
    scores = [value for row in rows.values() for value in row.values()]
    low, high = 2 * math.floor(min(scores) / 2), 2 * math.ceil(max(scores) / 2)
    return Plot(
        "Quality of the largest thumbnail (SSIMULACRA 2): higher is better",
        "A row for each kind of image, a dot for each engine.",
        Axis(tuple(float(each) for each in range(low, high + 1, 2)), "{:.3g}"),
        rows,
    )


def _bars(title: str, description: str, form: str, rows: Mapping[str, Mapping[str, float]]) -> Plot:
    """A plot of bars up to the longest; `form` is the format of the numbers on its axis."""
    most = max(sum(row.values()) for row in rows.values())
    return Plot(title, description, up_to(most, form), rows, bars=True)


def _memory(engine: Mapping[str, Any]) -> Plot:
    rows: dict[str, dict[str, float]] = {}
    for peak in engine["memory"]:
        rows[f"{peak['case']}: {peak['engine']}"] = {
            "program and file": peak["start_mb"],
            "decoding and the rest": round(peak["peak_mb"]["median"] - peak["start_mb"], 1),
        }
    return _bars(
        "Peak memory of a fresh process with a large image, MB: lower is better",
        "A bar for each image and engine, in two parts.",
        "{:.0f}",
        rows,
    )


def _cold_start(cold: Mapping[str, Any]) -> Plot:
    rows = {
        f"{each['function']}": {
            "init": each["init_ms"]["median"],
            "first image": each["first_event_ms"]["median"],
        }
        for each in cold["results"]
        if each["cpu"] == LAMBDA_SHARE
    }
    return _bars(
        f"Cold start with the first image at {LAMBDA_SHARE} vCPU, ms: lower is better",
        "A bar for each function, in two parts.",
        "{:,.0f}",
        rows,
    )


def _thumbs(thumbs: Mapping[str, Any]) -> Plot:
    rows: dict[str, dict[str, float]] = {}
    for row in thumbs["tools"]:
        if row["ours_cpu_ratio"] != 1 or row["ours_wall_ratio"] != 1:
            rows[f"{widths(row)}: {row['tool']}"] = {
                "CPU time of thumbs": row["ours_cpu_ratio"],
                "wall time of thumbs": row["ours_wall_ratio"],
            }
    return Plot(
        "`thumbs` as a multiple of other tools: left of the line, thumbs is faster",
        "A row for each set of widths and tool, a dot for CPU time and one for wall time.",
        multiples(rows),
        rows,
    )


def _efforts(efforts: Mapping[str, Any]) -> Plot:
    rows = {
        f"{each['format']}, {each['effort']}": {
            "CPU time": each["cpu_ratio"],
            "bytes": each["bytes_ratio"],
        }
        for each in efforts["results"]
    }
    return Plot(
        "Effort of the encoders at equal quality, as a multiple of the default's",
        "A row for each format and effort, a dot for CPU time and one for bytes.",
        multiples(rows),
        rows,
    )
