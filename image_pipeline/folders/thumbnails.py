"""Thumbnails of local files, made by the function's image code on every core, without AWS.

A thumbnail ends with the same mark as in S3: a digest of its source's key, bytes and fingerprint
(`Encoder.mark`). So a run recognises an up-to-date thumbnail by the last bytes of its file, and
needs no clock. A file's size and time stand for its bytes here, as in make and rsync.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from mimetypes import guess_type
from pathlib import Path
from typing import Any, Final

from image_pipeline.folders.plan import Job, Plan
from image_pipeline.folders.results import Result, State, printable
from image_pipeline.folders.stderr import collected_stderr
from image_pipeline.folders.workers import in_processes
from image_pipeline.folders.writing import DiskFull, read_error, write_all, write_error, write_lines
from thumbnailer.errors import (
    CorruptImage,
    ImageTooLarge,
    PermanentError,
    PipelineError,
    SourceUnsettled,
    UnsupportedImage,
    clear_tracebacks,
)
from thumbnailer.imaging import (
    ENCODERS,
    ThumbnailSpec,
    check_file_size,
    check_supported,
    fingerprint,
    make_thumbnails,
)
from thumbnailer.provenance import Provenance
from thumbnailer.settings import DEFAULT_MEMORY_MB

FAILED: Final = "failed.jsonl"
HEAD_BYTES: Final = 4096
"""Bytes that are enough to recognise a format: a video of many gigabytes is not read."""


def memory_of_computer() -> int:
    """Return the MB of memory that this computer has."""
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):  # Linux and macOS: at once
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 - 60 ms, which no worker needs

    machine: int = psutil.virtual_memory().total // 2**20
    return machine


def memory_of_worker(workers: int) -> int:
    """Return the MB that each worker may use: its share of half of the computer's.

    It is not less than the function has by default.
    """
    return max(DEFAULT_MEMORY_MB, memory_of_computer() // 2 // workers)


def run(plan: Plan, workers: int) -> Iterator[Result]:
    """Make what is not up to date, in `workers` processes; yield each result when it is known.

    If a process dies, only its own file fails. If the disk is full, the other files are left out.
    If the caller stops early, files that have been started are finished, and the others are
    cancelled.
    """
    yield from _without_job(plan)
    for result in in_processes(make, _taken(plan), workers, _died):
        yield result
        if result.error_type == DiskFull.__name__:
            return


def would_make(plan: Plan) -> Iterator[Result]:
    """Yield the result that each file would have, as far as that shows before it is decoded.

    Nothing is written.
    """
    yield from _without_job(plan)
    yield from map(partial(_make, dry_run=True), _taken(plan))


def make(job: Job) -> Result:
    """Make the thumbnails of one file, unless they are up to date: all of them, or none."""
    with collected_stderr() as lines:
        result = _make(job)
    return replace(result, stderr=tuple(lines)) if lines else result


def record_failures(out: Path, failures: Iterable[Mapping[str, Any]]) -> None:
    """Write failed.jsonl, one JSON object in each line; remove it where nothing failed.

    Raises OSError, which `writing.write_error` puts in words.
    """
    path = out / FAILED
    write_lines(out, path, (json.dumps(each, ensure_ascii=False) for each in failures))
    if not path.stat().st_size:
        path.unlink()


def is_named_image(path: Path) -> bool:
    """Whether the extension of a file is that of an image."""
    return (guess_type(path.name)[0] or "").startswith("image/")


def _taken(plan: Plan) -> Iterator[Job]:
    """Yield the files whose thumbnails are their own."""
    return (job for job in plan if plan.newer_than(job) is None)


def _without_job(plan: Plan) -> Iterator[Result]:
    """Yield the results of folders that cannot be read, and of files like `a.png` beside `a.jpg`.

    The latter have the same thumbnail names as a newer file.
    """
    for error in plan.unreadable:
        folder = Path(error.filename)
        yield _failed(folder, 0, type(error).__name__, read_error(error, folder))
    for job in plan:
        if newer := plan.newer_than(job):
            note = f"{printable(str(newer))} is newer and has the same thumbnail names"
            yield Result(job.path, State.SUPERSEDED, notes=(note,))


def _make(job: Job, *, dry_run: bool = False) -> Result:
    """Make the thumbnails of one file; in a dry run, end before it is decoded."""
    size = 0
    try:
        targets = job.targets
        with job.path.open("rb") as source:
            about = os.fstat(source.fileno())
            size = about.st_size
            marks = _marks(job, about)
            if current := _current(targets, marks):
                return Result(job.path, State.CURRENT, size, current)
            head = source.read(HEAD_BYTES)
            check_supported(head)
            check_file_size(size, job.memory_mb)
            if dry_run:
                planned = {spec: (path, None) for spec, path in targets.items()}
                return Result(job.path, State.MADE, size, planned)
            data = head + source.read()
            _check_unchanged(job, about, os.fstat(source.fileno()))
        made = make_thumbnails(data, job.settings.specs, job.memory_mb)
        files = {
            targets[each.spec]: ENCODERS[each.spec.format].mark(each.data, marks[each.spec])
            for each in made.thumbnails
        }
    except (PipelineError, OSError) as error:
        clear_tracebacks(error)  # they hold the picture, and the next one needs the memory
        return _unmade(job, size, error)
    try:
        write_all(job.out, files)
    except OSError as error:
        return _failed(job.path, size, type(error).__name__, write_error(error))
    written = {
        each.spec: (targets[each.spec], len(files[targets[each.spec]])) for each in made.thumbnails
    }
    return Result(job.path, State.MADE, size, written, made.notes)


def _check_unchanged(job: Job, before: os.stat_result, after: os.stat_result) -> None:
    """Raise SourceUnsettled where a file was written while it was read."""
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise SourceUnsettled(
            f"{printable(str(job.path))} changed while it was read. Run the command again."
        )


def _unmade(job: Job, size: int, error: PipelineError | OSError) -> Result:
    """Return the result of a file that has no thumbnails because of an error."""
    no_image = isinstance(error, UnsupportedImage) or (not size and isinstance(error, CorruptImage))
    if no_image and not job.named and not is_named_image(job.path):
        return Result(job.path, State.SKIPPED, size)
    if isinstance(error, ImageTooLarge):
        message = f"{error} {_more_memory(error, job)}"
    elif isinstance(error, OSError):
        message = read_error(error, job.path)
    else:
        message = str(error)
    permanent = isinstance(error, PermanentError)
    return _failed(job.path, size, type(error).__name__, message, permanent=permanent)


def _failed(
    path: Path, size: int, error_type: str, message: str, *, permanent: bool = False
) -> Result:
    return Result(
        path,
        State.FAILED,
        size,
        error_type=error_type,
        error_message=printable(message),
        permanent=permanent,
    )


def _more_memory(error: ImageTooLarge, job: Job) -> str:
    """Say what to do about a file that needs more memory than a worker may use."""
    whole = memory_of_worker(1)
    has = f"This computer has {memory_of_computer():,} MB, and all workers together use half of it."
    workers = int(whole // max(error.need_mb or whole, 1))
    if workers and whole > job.memory_mb:
        return f"{has} Run the command again with --workers {workers}."
    return f"{has} Use a computer with more memory, or make the image smaller."


def _died(job: Job) -> Result:
    """Return the result for a file that kills its process."""
    return _failed(
        job.path,
        0,
        "ProcessDied",
        "The process was killed. If this computer ran out of memory, use fewer --workers.",
    )


def _marks(job: Job, about: os.stat_result) -> dict[ThumbnailSpec, bytes]:
    """Return the mark of each thumbnail."""
    modified = datetime.fromtimestamp(about.st_mtime, UTC)
    etag = f"{about.st_size:x}-{about.st_mtime_ns:x}"
    return {
        spec: Provenance(printable(job.key), etag, modified, fingerprint(spec)).digest()
        for spec in job.settings.specs
    }


def _current(
    targets: Mapping[ThumbnailSpec, Path], marks: Mapping[ThumbnailSpec, bytes]
) -> dict[ThumbnailSpec, tuple[Path, int]] | None:
    """Return path and bytes of each thumbnail, if all end with their mark."""
    found = {}
    for spec, path in targets.items():
        ending = ENCODERS[spec.format].mark_ending(marks[spec])
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - len(ending), 0))
                if file.read() != ending:
                    return None
        except OSError:  # none, or none that can be read: writing it says why
            return None
        found[spec] = (path, size)
    return found
