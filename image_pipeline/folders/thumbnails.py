"""Thumbnails of local files, made by the function's image code on every core, without AWS.

A thumbnail ends with the same mark as in S3: a digest of its source's key, bytes and fingerprint
(`Encoder.mark`). So a run recognises an up-to-date thumbnail by the last bytes of its file, and
needs no clock. A file's size and time stand for its bytes here, as in make and rsync.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from mimetypes import guess_type
from pathlib import Path
from typing import Any, Final

import psutil  # type: ignore[import-untyped]
from filelock import FileLock, Timeout

from image_pipeline import files
from image_pipeline.errors import CommandError
from image_pipeline.folders.workers import in_processes
from thumbnailer.errors import (
    ImageTooLarge,
    PermanentError,
    PipelineError,
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
from thumbnailer.settings import DEFAULT_MEMORY_MB, MAX_MEMORY_MB, Settings

WORK: Final = ".image-pipeline"
"""Folder inside the output folder, for files that are still being written."""

LOCK: Final = ".image-pipeline.lock"
"""File in the output folder that exists while a run writes there."""

FAILED: Final = "failed.jsonl"
HEAD_BYTES: Final = 4096
"""Bytes that are enough to recognise a format: a video of many gigabytes is not read."""


class State(StrEnum):
    """The result for one file."""

    MADE = "made"
    CURRENT = "current"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Not an image, by its content and by its name, in a folder that was given."""
    SUPERSEDED = "superseded"
    """A newer original has thumbnails with the same names."""


@dataclass(frozen=True, slots=True)
class Job:
    """A file, its key below the output folder, and how its thumbnails are made.

    `named` says that the user named the file itself. `memory_mb` limits what decoding may use.
    """

    path: Path
    key: str
    named: bool
    out: Path
    settings: Settings
    memory_mb: int

    @property
    def targets(self) -> dict[ThumbnailSpec, Path]:
        """Return the path of each thumbnail."""
        return {
            spec: self.out / self.settings.thumbnail_key(self.key, spec.size, spec.format)
            for spec in self.settings.specs
        }


@dataclass(frozen=True, slots=True)
class Result:
    """The result for one file: the path and bytes of each thumbnail, or the error.

    `error_type` is a class of `thumbnailer.errors`, or of the operating system's errors.
    """

    path: Path
    state: State
    size: int = 0
    thumbnails: Mapping[ThumbnailSpec, tuple[Path, int]] | None = None
    notes: tuple[str, ...] = ()
    error_type: str = ""
    error_message: str = ""
    permanent: bool = False

    @property
    def name(self) -> str:
        """Return the path for printing: bytes that are not UTF-8 are replaced."""
        return printable(str(self.path))

    @property
    def size_out(self) -> int:
        """Return the bytes of all thumbnails together."""
        return sum(size for _, size in (self.thumbnails or {}).values())

    def to_json(self) -> dict[str, Any]:
        """Return what --json prints, and what failed.jsonl contains."""
        fields: dict[str, Any] = {"path": self.name, "state": self.state, "bytes": self.size}
        if self.thumbnails:
            fields["thumbnails"] = [
                {
                    "size": each.size.name,
                    "format": each.format,
                    "width": each.size.width,
                    "path": printable(str(path)),
                    "bytes": size,
                }
                for each, (path, size) in self.thumbnails.items()
            ]
        if self.notes:
            fields["notes"] = self.notes
        if self.error_type:
            fields["error"] = {
                "type": self.error_type,
                "message": self.error_message,
                "permanent": self.permanent,
            }
        return fields


def printable(name: str) -> str:
    """Convert a file name to text: bytes that are not UTF-8 become question marks."""
    return name.encode(errors="replace").decode()


def plan(
    paths: Sequence[Path],
    out: Path,
    settings: Settings,
    workers: int,
    *,
    may_be_empty: bool = False,
) -> list[Job]:
    """Find the files to make thumbnails of.

    Folders are taken whole, without hidden files and without `out`. Raises CommandError where there
    are no files (unless `may_be_empty`), and where a folder is inside `out`.
    """
    target = out.resolve()
    for path in paths:
        if path.is_dir() and path.resolve().is_relative_to(target):
            raise CommandError(f"{path} is inside the output folder {out}. Choose another --out.")
    named = {path for path in paths if path.is_file()}
    memory_mb = memory_of_worker(workers)
    return [
        Job(file.path, file.key, file.path in named, out, settings, memory_mb)
        for file in files.plan(paths, settings.input_prefix, may_be_empty=may_be_empty)
        if file.path in named or not file.path.resolve().is_relative_to(target)
    ]


def memory_of_worker(workers: int) -> int:
    """Return the MB that each worker may use: its share of half of the machine's.

    It is not less than the function has by default, and not more than it can have.
    """
    machine: int = psutil.virtual_memory().total // 2**20  # os.sysconf exists on Unix only
    return max(DEFAULT_MEMORY_MB, min(machine // 2 // workers, MAX_MEMORY_MB))


def run(jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Make what is not up to date, in `workers` processes; yield each result when it is known.

    If a process dies, only its own file fails. If the caller stops early, files that have been
    started are finished, and the others are cancelled.
    """
    taken, superseded = _newest(jobs)
    yield from superseded
    yield from in_processes(make, taken, workers, _died)


def make(job: Job) -> Result:
    """Make the thumbnails of one file, unless they are up to date."""
    size = 0
    try:
        with job.path.open("rb") as source:
            about = os.fstat(source.fileno())
            size = about.st_size
            marks = _marks(job, about)
            if current := _current(job, marks):
                return Result(job.path, State.CURRENT, size, current)
            head = source.read(HEAD_BYTES)
            check_supported(head)
            check_file_size(size, job.memory_mb)
            data = head + source.read()
        made = make_thumbnails(data, job.settings.specs, job.memory_mb)
        written = {}
        for each in made.thumbnails:
            path = job.targets[each.spec]
            body = ENCODERS[each.spec.format].mark(each.data, marks[each.spec])
            _write(job.out, path, body)
            written[each.spec] = (path, len(body))
    except (PipelineError, OSError) as error:
        clear_tracebacks(error)  # they hold the picture, and the next one needs the memory
        if isinstance(error, UnsupportedImage) and not job.named and not is_named_image(job.path):
            return Result(job.path, State.SKIPPED, size)
        message = str(error)
        if isinstance(error, ImageTooLarge):
            message += (
                " Use fewer --workers: each of them then may use more of this machine's memory."
            )
        if isinstance(error, OSError):
            message = printable(f"{error.strerror}: {error.filename}")
        return Result(
            job.path,
            State.FAILED,
            size,
            error_type=type(error).__name__,
            error_message=message,
            permanent=isinstance(error, PermanentError),
        )
    return Result(job.path, State.MADE, size, written, made.notes)


@contextlib.contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Lock `out` for the block, and remove what a killed run left half-written.

    Raises CommandError where another run holds the lock.
    """
    out.mkdir(parents=True, exist_ok=True)
    work = out / WORK
    lock = FileLock(out / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise CommandError(f"Another run writes to {out}. Wait for it, or stop it.") from None
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        yield
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(PermissionError):  # Windows: an open file; the release removes it
            (out / LOCK).unlink()
        lock.release()


def record_failures(out: Path, failures: Sequence[Result]) -> None:
    """Write failed.jsonl, one JSON object in each line; remove it where nothing failed."""
    path = out / FAILED
    if not failures:
        path.unlink(missing_ok=True)
        return
    lines = (json.dumps(each.to_json(), ensure_ascii=False) + "\n" for each in failures)
    _write(out, path, "".join(lines).encode())


def _newest(jobs: Sequence[Job]) -> tuple[list[Job], list[Result]]:
    """Separate the files whose thumbnails belong to a newer file: `a.png` and `a.jpg`."""
    owners: dict[Path, tuple[int, str, Job]] = {}
    for job in jobs:
        try:
            rank = (job.path.stat().st_mtime_ns, job.key)
        except OSError:  # gone or unreadable: `make` reports it
            rank = (0, job.key)
        for target in job.targets.values():
            if target not in owners or owners[target][:2] < rank:
                owners[target] = (*rank, job)
    taken, superseded = [], []
    for job in jobs:
        newer = {owners[target][2].path for target in job.targets.values()} - {job.path}
        if newer:
            note = (f"{printable(str(min(newer)))} is newer and has the same thumbnail names",)
            superseded.append(Result(job.path, State.SUPERSEDED, notes=note))
        else:
            taken.append(job)
    return taken, superseded


def _died(job: Job) -> Result:
    """Return the result for a file that kills its process."""
    return Result(
        job.path,
        State.FAILED,
        error_type="ProcessDied",
        error_message="The process was killed. If memory ran out, use fewer --workers.",
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
    job: Job, marks: Mapping[ThumbnailSpec, bytes]
) -> dict[ThumbnailSpec, tuple[Path, int]] | None:
    """Return path and bytes of each thumbnail, if all end with their mark."""
    found = {}
    for spec, path in job.targets.items():
        ending = ENCODERS[spec.format].mark_ending(marks[spec])
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - len(ending), 0))
                if file.read() != ending:
                    return None
        except (FileNotFoundError, NotADirectoryError):
            return None
        found[spec] = (path, size)
    return found


def _write(out: Path, path: Path, data: bytes) -> None:
    """Write a file completely or not at all."""
    part = out / WORK / f"{os.getpid()}.part"
    try:
        part.write_bytes(data)
        path.parent.mkdir(parents=True, exist_ok=True)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def is_named_image(path: Path) -> bool:
    """Whether the extension of a file is that of an image."""
    return (guess_type(path.name)[0] or "").startswith("image/")
