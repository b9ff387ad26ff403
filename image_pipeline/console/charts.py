"""Charts of the metrics: axes with round numbers, and shapes for the SVG in the page.

Coordinates are those of a view box that is as wide as there are periods, and 100 high.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from image_pipeline.console.metrics import Period, Summary

HEIGHT: Final = 100
MIN_BAR: Final = 1.0
"""Minimum height of a bar, so that one image beside a million can still be seen."""

MAX_STEPS: Final = 4
"""Maximum steps on the axis of values."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A value on the axis; `y` is in the view box."""

    label: str
    y: float


@dataclass(frozen=True, slots=True)
class Line:
    """A series as a line: `path` is the `d` of an SVG path, `dots` that of the values alone."""

    name: str
    label: str
    path: str
    dots: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A period's bar, from the bottom up."""

    x: int
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of bars or of lines. `texts` are what its periods have, in words."""

    name: str
    title: str
    start: datetime
    ticks: list[Tick]
    bars: list[Bar]
    lines: list[Line]
    texts: list[str]


def charts(summary: Summary) -> list[Chart]:
    """Return the charts of a summary, without those whose numbers are unknown."""
    failed = "upload" if summary.by_upload else "attempt"
    found = [
        _bars("images", "Images processed", "image", summary.periods, lambda each: each.images),
        _bars(
            "failed",
            f"Failed {failed}s",
            f"failed {failed}",
            summary.periods,
            lambda each: each.failed,
        ),
        _durations(summary.periods),
    ]
    return [each for each in found if each]


def _bars(
    name: str,
    title: str,
    noun: str,
    periods: Sequence[Period],
    count: Callable[[Period], int | None],
) -> Chart | None:
    counts = [each for each in map(count, periods) if each is not None]
    if len(counts) < len(periods):
        return None
    top, ticks = axis(max(counts), compact, whole=True)
    return Chart(
        name,
        title,
        periods[0].start,
        ticks,
        [Bar(x, max(HEIGHT * each / top, MIN_BAR)) for x, each in enumerate(counts) if each],
        [],
        [f"{each:,} {noun}{'' if each == 1 else 's'}" for each in counts],
    )


def _durations(periods: Sequence[Period]) -> Chart | None:
    if periods[0].images is None:
        return None
    top, ticks = axis(max(each.p95 or 0 for each in periods), _in_unit)
    series = (("p95", "95th percentile"), ("p50", "Median"))
    return Chart(
        "duration",
        "Duration of an image",
        periods[0].start,
        ticks,
        [],
        [
            _line(name, label, [getattr(each, name) for each in periods], top)
            for name, label in series
        ],
        [
            (
                "no images"
                if each.p50 is None
                else f"median {duration(each.p50)}, 95th percentile {duration(each.p95)}"
            )
            for each in periods
        ],
    )


def _line(name: str, label: str, values: Sequence[float | None], top: float) -> Line:
    """Return the line through values; it has gaps where there are none."""
    path, dots = "", ""
    padded = [None, *values, None]
    for x, (before, value, after) in enumerate(zip(padded, values, padded[2:], strict=False)):
        if value is None:
            continue
        place = f"{x + 0.5} {HEIGHT * (1 - value / top):.1f}"
        if before is None and after is None:
            dots += f"M{place}h0"
        else:
            path += f"{'M' if before is None else 'L'}{place}"
    return Line(name, label, path, dots)


def axis(
    maximum: float, label: Callable[[float, float], str], *, whole: bool = False
) -> tuple[float, list[Tick]]:
    """Return the end of an axis that starts at zero, and round values on it up to its end.

    `label` gets a value and the end. With `whole` the values are whole numbers.
    """
    step = _round_up(maximum / MAX_STEPS) if maximum > 0 else 1.0
    if whole:
        step = max(step, 1.0)
    steps = max(math.ceil(maximum / step - 1e-9), 1)
    top = step * steps
    return top, [
        Tick(label(step * each, top), HEIGHT * (1 - each / steps)) for each in range(steps + 1)
    ]


def _round_up(value: float) -> float:
    """Return the next number that is 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return power * next(each for each in (1, 2, 5, 10) if each * power >= value * (1 - 1e-9))


def compact(value: float, _: float = 0) -> str:
    """Write a round count with k for thousands and M for millions."""
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _in_unit(milliseconds: float, top: float) -> str:
    """Write a duration in the unit of the largest one on the axis."""
    return f"{milliseconds / 1000:,g} s" if top >= 1000 else f"{milliseconds:g} ms"  # noqa: PLR2004


def duration(milliseconds: float | None) -> str:
    """Format milliseconds as ms or s; None is an en dash."""
    if milliseconds is None:
        return "–"
    if milliseconds < 1000:  # noqa: PLR2004
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:,.1f} s"


def dollars(amount: float) -> str:
    """Format an amount with two digits after the point or, below one dollar, with four."""
    if 0 < amount < 0.0001:  # noqa: PLR2004
        return "< $0.0001"
    return f"${amount:,.2f}" if amount >= 1 or not amount else f"${amount:.4f}"
