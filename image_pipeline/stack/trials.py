"""What proposed settings mean for a whole bucket, from means over a sample of its originals."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from image_pipeline.stack import costs
from image_pipeline.stack.backfill import DEFAULT_CONCURRENCY
from image_pipeline.stack.costs import PRICES, STORED_MONTHS, Rates
from thumbnailer.imaging import ThumbnailSpec
from thumbnailer.settings import Settings
from thumbnailer.srcset import SMALLEST_FIRST

NEW_IMAGES: Final = 10_000
"""Number of uploads for which costs are shown, as in `image-pipeline cost`."""

SAMPLE_KEY: Final = "photo.jpg"
"""Name of an original whose thumbnails' keys are compared, below the input prefix."""


@dataclass(frozen=True, slots=True)
class Means:
    """Means over the originals of a sample, by one of both settings.

    `cpu_ms` is CPU time in milliseconds of the machine that measured it, for all thumbnails of an
    original, and `format_cpu_ms` the part of each format where there are several. `bytes` are those
    of each thumbnail.
    """

    settings: Settings
    cpu_ms: float
    format_cpu_ms: Mapping[str, float]
    bytes: Mapping[ThumbnailSpec, float]

    @property
    def image_bytes(self) -> float:
        """Bytes of all thumbnails of an original."""
        return sum(self.bytes.values())

    @property
    def viewed_format(self) -> str:
        """The format that viewers get: the first of SMALLEST_FIRST that is made."""
        return next(name for name in SMALLEST_FIRST if name in self.settings.formats)

    def view_bytes(self, format_name: str) -> float:
        """Bytes of a view in this format. Every size is viewed equally often."""
        sizes = [size for spec, size in self.bytes.items() if spec.format == format_name]
        return sum(sizes) / len(sizes)


@dataclass(frozen=True, slots=True)
class Monthly:
    """What one of both settings costs: milliseconds billed for an original, bytes, and dollars.

    `new_images_dollars` is for NEW_IMAGES uploads. Storage and transfer are of a month.
    """

    duration_ms: float
    new_images_dollars: float
    storage_bytes: int
    storage_dollars: float
    transfer_bytes: int
    transfer_dollars: float

    @classmethod
    def of(cls, rates: Rates, means: Means, images: int, views: int) -> "Monthly":
        """For `images` originals in the bucket and `views` thumbnails shown in a month."""
        stored = round(images * means.image_bytes)
        shown = round(views * means.view_bytes(means.viewed_format))
        return cls(
            rates.duration_ms,
            sum(costs.of_images(rates, NEW_IMAGES).values()),
            stored,
            costs.of_storage(stored),
            shown,
            costs.of_transfer(shown),
        )


@dataclass(frozen=True, slots=True)
class Backfill:
    """A backfill to the proposed settings: of how many originals, for how much, and how long.

    `missing`, `changed` and `current` are thumbnails of an original that it makes, makes again, and
    leaves. `orphaned` are those that are no longer made: they stay until a prune, and take
    `orphaned_bytes` in the bucket.
    """

    images: int
    dollars: float
    hours: float
    missing: int
    changed: int
    current: int
    orphaned: int
    orphaned_bytes: int

    @classmethod
    def of(
        cls, rates: Rates, current: Means, proposed: Means, objects: int, images: int
    ) -> "Backfill":
        """For `objects` under the prefix, of which `images` become thumbnails."""
        was, will = (_outputs(means.settings) for means in (current, proposed))
        kept = was.keys() & will.keys()
        changed = sum(was[key] != will[key] for key in kept)
        missing = len(will) - len(kept)
        to_make = images if missing or changed else 0
        # Each thumbnail is written with a condition. Where one exists, S3 refuses, and its metadata
        # is read. An outdated one is then overwritten, after a look at its original.
        refused = (len(kept) - changed) * PRICES["s3_get_or_head"] + changed * (
            PRICES["s3_put_or_list"] + 2 * PRICES["s3_get_or_head"]
        )
        gone = [
            size for spec, size in current.bytes.items() if _key(current.settings, spec) not in will
        ]
        return cls(
            to_make,
            costs.of_backfill(rates, objects, to_make) + to_make * refused,
            to_make * rates.duration_ms / 3_600_000 / DEFAULT_CONCURRENCY,
            missing,
            changed,
            len(kept) - changed,
            len(gone),
            round(images * sum(gone)),
        )


@dataclass(frozen=True, slots=True)
class Payback:
    """When a format pays for itself.

    A viewer who gets `format` and not `instead_of` saves `saved_bytes`. The format costs `dollars`
    for an original: to make its thumbnails, and to store them for STORED_MONTHS. After `views` of
    an original's thumbnails the saved transfer is worth as much; None if nothing is saved.
    """

    format: str
    instead_of: str
    saved_bytes: float
    dollars: float
    views: int | None

    @classmethod
    def of_all(cls, rates: Rates, current: Means, proposed: Means) -> "list[Payback]":
        """Every proposed format in whose place viewers would get another one."""
        found = []
        for name in sorted(proposed.settings.formats, key=SMALLEST_FIRST.index):
            later = SMALLEST_FIRST[SMALLEST_FIRST.index(name) + 1 :]
            others = [other for other in later if other in proposed.settings.formats]
            if others:
                found.append(cls._beside(rates, proposed, name, others[0]))
        alone = proposed.viewed_format
        if (
            len(proposed.settings.formats) == 1
            and alone not in current.settings.formats
            and proposed.settings.sizes == current.settings.sizes
        ):
            found.append(cls._replacing(rates, current, proposed, alone))
        return found

    @classmethod
    def _beside(cls, rates: Rates, means: Means, name: str, other: str) -> "Payback":
        """A format that is made beside another one."""
        sizes = [size for spec, size in means.bytes.items() if spec.format == name]
        dollars = _dollars(rates, means.format_cpu_ms[name], means.cpu_ms, len(sizes), sum(sizes))
        return cls._after(name, other, means.view_bytes(other) - means.view_bytes(name), dollars)

    @classmethod
    def _replacing(cls, rates: Rates, current: Means, proposed: Means, name: str) -> "Payback":
        """A format that is made in place of the current ones."""
        other = current.viewed_format
        dollars = _dollars(
            rates,
            proposed.cpu_ms - current.cpu_ms,
            proposed.cpu_ms,
            len(proposed.bytes) - len(current.bytes),
            proposed.image_bytes - current.image_bytes,
        )
        return cls._after(
            name, other, current.view_bytes(other) - proposed.view_bytes(name), dollars
        )

    @classmethod
    def _after(cls, name: str, other: str, saved: float, dollars: float) -> "Payback":
        worth = saved / 1e9 * PRICES["cloudfront_transfer_gb"]
        views = max(0, math.ceil(dollars / worth)) if worth > 0 else None
        return cls(name, other, saved, dollars, views)


def rates_of(
    base: Rates, current: Means, proposed: Means, duration_ms: float | None = None
) -> tuple[Rates, Rates]:
    """Return the rates of both settings; `base` are those of the stack.

    With `duration_ms`, what is billed for an original today, the work in it is scaled by the ratio
    of both CPU times. Else it is the CPU time that was measured, at the stack's share of a vCPU.
    """
    today = duration_ms or costs.billed_ms(current.cpu_ms, base.memory_mb)
    work = max(0.0, today - costs.WAIT_MS)
    ratio = proposed.cpu_ms / current.cpu_ms
    return (
        _rates(base, current, today),
        _rates(base, proposed, work * ratio + min(costs.WAIT_MS, today)),
    )


def _rates(base: Rates, means: Means, duration_ms: float) -> Rates:
    writes = len(means.settings.specs) + means.settings.write_manifest
    return replace(base, writes=writes, duration_ms=duration_ms, focus=means.settings.crops)


def _dollars(rates: Rates, cpu_ms: float, all_cpu_ms: float, writes: int, size: float) -> float:
    """Dollars for `cpu_ms` of the `all_cpu_ms` that `rates` bill, `writes`, and storing `size`."""
    work_ms = max(0.0, rates.duration_ms - costs.WAIT_MS)
    seconds = work_ms * cpu_ms / all_cpu_ms / 1000
    time = seconds * rates.memory_mb / 1024 * PRICES["lambda_gb_second"][rates.architecture]
    write = PRICES["s3_put_or_list"] + rates.output_events * PRICES["eventbridge_event"]
    dollars: float = time + writes * write + STORED_MONTHS * costs.of_storage(round(size))
    return dollars


def _outputs(settings: Settings) -> dict[str, str]:
    """Key and fingerprint of each output of an original."""
    return settings.outputs(settings.input_prefix + SAMPLE_KEY)


def _key(settings: Settings, spec: ThumbnailSpec) -> str:
    return settings.thumbnail_key(settings.input_prefix + SAMPLE_KEY, spec.size, spec.format)
