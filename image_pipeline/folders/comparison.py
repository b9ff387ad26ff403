"""Thumbnails of one original by the current and by the proposed settings: bytes, CPU time, score.

They are made by the function's own image code. The score compares each thumbnail with the same
thumbnail before the loss of its encoder.
"""

import io
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image

from image_pipeline.folders.lossless import LOSSLESS, lossless_format
from image_pipeline.folders.score import SCALED_SIDE, import_scorer, score
from thumbnailer.errors import PipelineError
from thumbnailer.imaging import (
    ENCODERS,
    Made,
    PixelSize,
    Point,
    ThumbnailSpec,
    make_thumbnails,
)

ROUNDS: Final = 3
"""Times that each set of thumbnails is made, in turns: the median leaves out the first, which
imports modules, and what else the machine does."""

ROUND_SECONDS: Final = 2.0
"""Seconds after which no further round begins: work that takes this long needs one round only."""

MARK: Final = bytes(8)
"""Stands for the provenance mark, so that files have the size that they have in the bucket."""

HAS_ALARM: Final = hasattr(os, "fork")
"""Whether the time of an image can be limited as in the function: not on Windows."""


@dataclass(frozen=True, slots=True)
class Original:
    """An original: its name or key, its bytes, and the focus in its metadata, if any."""

    name: str
    data: bytes
    focus: Point | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An original without thumbnails: its name or key, and the error."""

    name: str
    error_type: str
    error_message: str

    @classmethod
    def because(cls, name: str, error: Exception) -> "Unreadable":
        """The original `name` that failed with `error`."""
        return cls(name, type(error).__name__, str(error))


@dataclass(frozen=True, slots=True)
class Task:
    """An original, and what to make of it with `memory_mb` MB of memory in `seconds`."""

    original: Original | Unreadable
    current: tuple[ThumbnailSpec, ...]
    proposed: tuple[ThumbnailSpec, ...]
    memory_mb: int
    seconds: float
    scored: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail: its file, its size, and its score if it could be had."""

    spec: ThumbnailSpec
    data: bytes
    size: PixelSize
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """All thumbnails by one of both settings.

    `cpu_ms` is the CPU time of this machine in milliseconds. `format_cpu_ms` is the part of each
    format, where there are several: what making the thumbnails takes longer than without it.
    """

    pictures: tuple[Picture, ...]
    cpu_ms: float
    format_cpu_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """An original (its kind, upright size and bytes), and its thumbnails by both settings."""

    name: str
    format: str
    size: PixelSize
    bytes: int
    current: Thumbnails
    proposed: Thumbnails
    notes: tuple[str, ...] = ()


def compare(task: Task) -> Comparison | Unreadable:
    """Make the thumbnails of one original by both settings, and measure them."""
    original = task.original
    if isinstance(original, Unreadable):
        return original
    try:
        return _compare(task, original)
    except PipelineError as error:
        return Unreadable.because(original.name, error)


def died(task: Task) -> Unreadable:
    """Return what is known of an original that kills the process."""
    return Unreadable(task.original.name, "ProcessDied", "The process was killed.")


def _compare(task: Task, original: Original) -> Comparison:
    sets = {
        specs: [0.0] * 0
        for both in (task.current, task.proposed)
        for specs in (both, *_without_each_format(both).values())
    }
    made: dict[Sequence[ThumbnailSpec], Made] = {}
    began = time.monotonic()
    for number in range(ROUNDS):
        if number and time.monotonic() - began > ROUND_SECONDS:
            break
        for specs, times in sets.items():
            before = _cpu_seconds()
            made[specs] = _make(task, original, specs)
            times.append((_cpu_seconds() - before) * 1000)
    cpu_ms = {specs: statistics.median(times) for specs, times in sets.items()}
    current, proposed = made[task.current], made[task.proposed]
    files = {
        each.spec: ENCODERS[each.spec.format].mark(each.data, MARK)
        for both in (current, proposed)
        for each in both.thumbnails
    }
    references = _references(task, original) if task.scored and import_scorer() else {}
    scores = {spec: _score(references, spec, data) for spec, data in files.items()}

    def thumbnails(specs: tuple[ThumbnailSpec, ...]) -> Thumbnails:
        return Thumbnails(
            tuple(
                Picture(each.spec, files[each.spec], each.size, scores[each.spec])
                for each in made[specs].thumbnails
            ),
            cpu_ms[specs],
            {
                name: max(0.0, cpu_ms[specs] - cpu_ms[others])
                for name, others in _without_each_format(specs).items()
            },
        )

    return Comparison(
        original.name,
        proposed.format,
        proposed.size,
        len(original.data),
        thumbnails(task.current),
        thumbnails(task.proposed),
        tuple(dict.fromkeys((*current.notes, *proposed.notes))),
    )


def _make(task: Task, original: Original, specs: Sequence[ThumbnailSpec]) -> Made:
    seconds = task.seconds if HAS_ALARM else None
    return make_thumbnails(original.data, specs, task.memory_mb, seconds, original.focus)


def _without_each_format(
    specs: tuple[ThumbnailSpec, ...],
) -> dict[str, tuple[ThumbnailSpec, ...]]:
    """Return, for each of several formats, the specs of the others."""
    names = dict.fromkeys(spec.format for spec in specs)
    if len(names) == 1:
        return {}
    return {name: tuple(spec for spec in specs if spec.format != name) for name in names}


def _cpu_seconds() -> float:
    """CPU time of this process, and of the children that it has waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _reference(spec: ThumbnailSpec) -> ThumbnailSpec:
    """The spec of a thumbnail's picture before the loss of its encoder."""
    return spec._replace(quality=100, animated=False, format=LOSSLESS)


def _references(task: Task, original: Original) -> dict[ThumbnailSpec, bytes]:
    """Make the picture of each thumbnail before its loss; nothing where that is too large."""
    specs = list(dict.fromkeys(_reference(spec) for spec in (*task.current, *task.proposed)))
    try:
        with lossless_format():
            made = _make(task, original, specs)
    except PipelineError:
        return {}
    return {each.spec: each.data for each in made.thumbnails}


def _score(
    references: Mapping[ThumbnailSpec, bytes], spec: ThumbnailSpec, data: bytes
) -> float | None:
    found = references.get(_reference(spec))
    if found is None:
        return None
    reference = Image.open(io.BytesIO(found)).convert("RGBA")
    if min(reference.size) < SCALED_SIDE:
        return None
    encoder = ENCODERS[spec.format]
    if not encoder.has_alpha:
        behind = Image.new("RGBA", reference.size, spec.background)
        reference = Image.alpha_composite(behind, reference)
    return score(reference, encoder.open(data))
