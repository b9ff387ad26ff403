"""What `image-pipeline try` has found out: for its page, its JSON and the terminal."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

from image_pipeline.folders.comparison import Comparison, Thumbnails, Unreadable
from image_pipeline.stack import costs
from image_pipeline.stack.costs import Rates
from image_pipeline.stack.trials import Backfill, Means, Monthly, Payback, rates_of
from thumbnailer.imaging import ThumbnailSpec
from thumbnailer.settings import Settings

DIGITS: Final = 6
"""Decimals of dollars, hours and means in the JSON."""


class Source(NamedTuple):
    """Where the originals are from: in words, and how many were found.

    `stack` is the name of a stack, and None for local files. `images` is what to estimate for: all
    that were found, or what the user says. `timeout` is the function's in seconds.
    """

    where: str
    stack: str | None
    found: int
    images: int
    archived: int
    timeout: int


class Row(NamedTuple):
    """One thumbnail of the originals by either setting: mean bytes and median score, where known.

    A side is None where this size and format is not made.
    """

    size: str
    format: str
    current: tuple[float, float | None] | None
    proposed: tuple[float, float | None] | None


@dataclass(frozen=True)
class Trial:
    """The comparisons of a sample, and what they mean for all originals.

    `rates` are those of the stack. `duration_ms` is what is billed for an original today, if the
    user knows it. `views` are thumbnails shown in a month. `scored` says whether there are scores.
    """

    source: Source
    seed: int
    settings: tuple[Settings, Settings]
    comparisons: Sequence[Comparison]
    unreadable: Sequence[Unreadable]
    rates: Rates
    views: int
    scored: bool
    duration_ms: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def sampled(self) -> int:
        """Originals of the sample."""
        return len(self.comparisons) + len(self.unreadable)

    @property
    def images(self) -> int:
        """Originals that become thumbnails, if as many fail as in the sample."""
        return round(self.source.images * len(self.comparisons) / self.sampled)

    @cached_property
    def means(self) -> tuple[Means, Means]:
        """Means by the current and by the proposed settings."""
        current, proposed = self.settings
        return (
            _means(current, [each.current for each in self.comparisons]),
            _means(proposed, [each.proposed for each in self.comparisons]),
        )

    @cached_property
    def both_rates(self) -> tuple[Rates, Rates]:
        """Rates by the current and by the proposed settings."""
        return rates_of(self.rates, *self.means, self.duration_ms)

    @property
    def cpu_ratio(self) -> float:
        """CPU time by the proposed settings, of that by the current ones."""
        current, proposed = self.means
        return proposed.cpu_ms / current.cpu_ms

    @property
    def monthly(self) -> tuple[Monthly, Monthly]:
        """Costs by the current and by the proposed settings."""
        current, proposed = (
            Monthly.of(rates, means, self.images, self.views)
            for rates, means in zip(self.both_rates, self.means, strict=True)
        )
        return current, proposed

    @property
    def backfill(self) -> Backfill:
        """The backfill to the proposed settings."""
        return Backfill.of(self.both_rates[1], *self.means, self.source.images, self.images)

    @property
    def paybacks(self) -> list[Payback]:
        """When each format pays for itself."""
        return Payback.of_all(self.both_rates[1], *self.means)

    @property
    def longest_ms(self) -> float:
        """What is billed for the slowest original of the sample by the proposed settings."""
        slowest = max(each.proposed.cpu_ms for each in self.comparisons)
        return costs.billed_ms(slowest, self.rates.memory_mb)

    @property
    def all_notes(self) -> list[str]:
        """What the reader should know beside the numbers."""
        found = list(self.notes)
        if self.longest_ms > self.source.timeout * 1000:
            found.append(
                f"The slowest original of the sample would take about {self.longest_ms / 1000:.0f} "
                f"s with {self.rates.memory_mb} MB, and the function has {self.source.timeout} s: "
                "raise LambdaMemorySize or LambdaTimeout."
            )
        if self.source.archived:
            found.append(
                f"{self.source.archived:,} archived objects are left out, as a backfill does."
            )
        return found

    @property
    def rows(self) -> list[Row]:
        """Every thumbnail by either setting: the current ones first, then those that are new."""
        sides = [
            _by_name(means.bytes, _scores([getattr(each, side) for each in self.comparisons]))
            for means, side in zip(self.means, ("current", "proposed"), strict=True)
        ]
        current, proposed = sides
        return [
            Row(*name, current.get(name), proposed.get(name))
            for name in dict.fromkeys((*current, *proposed))
        ]

    def to_json(self) -> dict[str, Any]:
        """Return what --json prints, without the page."""
        return {
            "stack": self.source.stack,
            "originals": self.source.where,
            "found": self.source.found,
            "images": self.source.images,
            "archived": self.source.archived,
            "sample": self.sampled,
            "seed": self.seed,
            "scored": self.scored,
            "settings": {
                "current": settings_json(self.settings[0]),
                "proposed": settings_json(self.settings[1]),
            },
            "cpu_ratio": round(self.cpu_ratio, DIGITS),
            "cpu_ms": {
                name: round(means.cpu_ms, DIGITS)
                for name, means in zip(("current", "proposed"), self.means, strict=True)
            },
            "thumbnails": [
                {"size": row.size, "format": row.format}
                | {"current": _side_json(row.current), "proposed": _side_json(row.proposed)}
                for row in self.rows
            ],
            "memory_mb": self.rates.memory_mb,
            "architecture": self.rates.architecture,
            "prices": {name: costs.PRICES[name] for name in ("as_of", "region", "currency")},
            "backfill": _rounded(asdict(self.backfill)),
            "views": self.views,
            "month": {
                "current": _rounded(asdict(self.monthly[0])),
                "proposed": _rounded(asdict(self.monthly[1])),
            },
            "pays_after": [_rounded(asdict(each)) for each in self.paybacks],
            "notes": self.all_notes,
            "compared": [_comparison_json(each) for each in self.comparisons],
            "unreadable": [
                {"name": each.name}
                | {"error": {"type": each.error_type, "message": each.error_message}}
                for each in self.unreadable
            ],
        }


def settings_json(settings: Settings) -> dict[str, Any]:
    """Return the settings that a trial can change, by the names of its options."""
    return {
        "sizes": ",".join(map(str, settings.sizes)),
        "formats": ",".join(settings.formats),
        "quality": settings.quality,
        "avif_quality": settings.avif_quality,
        "jpeg_quality": settings.jpeg_quality,
        "background": settings.background,
    }


def _means(settings: Settings, sides: Sequence[Thumbnails]) -> Means:
    """Means over the thumbnails of all originals by one of both settings."""
    sizes: dict[ThumbnailSpec, list[int]] = {}
    for side in sides:
        for picture in side.pictures:
            sizes.setdefault(picture.spec, []).append(len(picture.data))
    names = sides[0].format_cpu_ms
    return Means(
        settings,
        statistics.fmean(each.cpu_ms for each in sides),
        {name: statistics.fmean(each.format_cpu_ms[name] for each in sides) for name in names},
        {spec: statistics.fmean(each) for spec, each in sizes.items()},
    )


def _scores(sides: Sequence[Thumbnails]) -> dict[ThumbnailSpec, float]:
    """The median score of each thumbnail that has one."""
    found: dict[ThumbnailSpec, list[float]] = {}
    for side in sides:
        for picture in side.pictures:
            if picture.score is not None:
                found.setdefault(picture.spec, []).append(picture.score)
    return {spec: statistics.median(each) for spec, each in found.items()}


def _by_name(
    sizes: "dict[ThumbnailSpec, float] | Any", scores: dict[ThumbnailSpec, float]
) -> dict[tuple[str, str], tuple[float, float | None]]:
    return {(spec.size.name, spec.format): (size, scores.get(spec)) for spec, size in sizes.items()}


def _side_json(side: tuple[float, float | None] | None) -> dict[str, Any] | None:
    if side is None:
        return None
    size, score = side
    return {"bytes": round(size), "score": None if score is None else round(score, 1)}


def _comparison_json(each: Comparison) -> dict[str, Any]:
    return {
        "name": each.name,
        "format": each.format,
        "width": each.size[0],
        "height": each.size[1],
        "bytes": each.bytes,
        "current": _thumbnails_json(each.current),
        "proposed": _thumbnails_json(each.proposed),
        "notes": each.notes,
    }


def _thumbnails_json(side: Thumbnails) -> dict[str, Any]:
    return {
        "cpu_ms": round(side.cpu_ms, 1),
        "thumbnails": [
            {
                "size": each.spec.size.name,
                "format": each.spec.format,
                "width": each.size[0],
                "height": each.size[1],
                "bytes": len(each.data),
                "score": None if each.score is None else round(each.score, 1),
            }
            for each in side.pictures
        ],
    }


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, DIGITS) if isinstance(value, float) else value
        for name, value in values.items()
    }
