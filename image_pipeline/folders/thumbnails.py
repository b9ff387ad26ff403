"""Thumbnails of local files, made by the function's image code on every core, with no AWS.

A thumbnail ends in the same stamp as in the pipeline: a digest of its source's key, bytes and
recipe (webp.stamped), so a run knows what is up to date from the last bytes of a file, whatever
clocks say. Here a file's size and time stand for its bytes, as for make and rsync.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from mimetypes import guess_type
from pathlib import Path
from typing import Any, Final

import psutil  # type: ignore[import-untyped]
from filelock import FileLock, Timeout

from image_pipeline.errors import CommandError
from image_pipeline.stack import uploads
from thumbnailer.errors import PermanentError, PipelineError, UnsupportedImage, release_frames
from thumbnailer.imaging.decode import open_image
from thumbnailer.imaging.encoders.webp import STAMP, stamped
from thumbnailer.imaging.limits import LARGEST_MB, refuse_over
from thumbnailer.imaging.sniff import identify
from thumbnailer.imaging.thumbnails import make_thumbnails
from thumbnailer.provenance import Provenance
from thumbnailer.settings import Settings

WORK: Final = ".image-pipeline"
"""Folder within the output's, for what is still being written."""

LOCK: Final = ".image-pipeline.lock"
"""File in the output folder that exists while a run writes there."""

FAILED: Final = "failed.jsonl"
HEAD_BYTES: Final = 4096
"""Enough to tell a picture from a film of many gigabytes."""

LEAST_MB: Final = 512


class State(StrEnum):
    """What became of a file."""

    MADE = "made"
    CURRENT = "current"
    FAILED = "failed"
    SKIPPED = "skipped"
    """No image, neither by its content nor by its name, in a folder of images."""
    SUPERSEDED = "superseded"
    """A newer original has thumbnails of the same names."""


@dataclass(frozen=True, slots=True)
class Job:
    """A file, its key below the output folder, and how its thumbnails are made.

    `named` says that the user named the file itself; `memory_mb` bounds what decoding may take.
    """

    path: Path
    key: str
    named: bool
    out: Path
    settings: Settings
    memory_mb: int

    @property
    def targets(self) -> dict[int, Path]:
        """Width in pixels → the thumbnail's path."""
        return {
            width: self.out / self.settings.thumbnail_key(self.key, width)
            for width in self.settings.widths
        }


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one file: paths of its thumbnails and their bytes by width, or why none.

    `error_type` is a class of `errors`, or of the operating system's errors.
    """

    path: Path
    state: State
    size: int = 0
    thumbnails: Mapping[int, tuple[Path, int]] | None = None
    notes: tuple[str, ...] = ()
    error_type: str = ""
    error_message: str = ""
    permanent: bool = False

    @property
    def name(self) -> str:
        """The path as it can be printed: what is no UTF-8 in it is replaced."""
        return printable(str(self.path))

    @property
    def size_out(self) -> int:
        """Bytes of all thumbnails."""
        return sum(size for _, size in (self.thumbnails or {}).values())

    def to_json(self) -> dict[str, Any]:
        """As scripts get it, and as a line of failed.jsonl."""
        told: dict[str, Any] = {"path": self.name, "state": self.state, "bytes": self.size}
        if self.thumbnails:
            told["thumbnails"] = [
                {"width": width, "path": printable(str(path)), "bytes": size}
                for width, (path, size) in self.thumbnails.items()
            ]
        if self.notes:
            told["notes"] = self.notes
        if self.error_type:
            told["error"] = {
                "type": self.error_type,
                "message": self.error_message,
                "permanent": self.permanent,
            }
        return told


def printable(name: str) -> str:
    """A name of the file system as text: bytes that are no UTF-8 become question marks."""
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

    Folders are taken whole, but for what is hidden or in `out`. Raises CommandError where there is
    nothing, unless that may be, and where a folder lies in `out`.
    """
    target = out.resolve()
    for path in paths:
        if path.is_dir() and path.resolve().is_relative_to(target):
            raise CommandError(f"{path} is in {out}, where thumbnails go. Choose another --out.")
    named = {path for path in paths if path.is_file()}
    memory_mb = memory_of_worker(workers)
    return [
        Job(file.path, file.key, file.path in named, out, settings, memory_mb)
        for file in uploads.plan(paths, settings.input_prefix, may_be_empty=may_be_empty)
        if file.path in named or not file.path.resolve().is_relative_to(target)
    ]


def memory_of_worker(workers: int) -> int:
    """MB that each worker may take, so that all together take half of the machine's."""
    machine: int = psutil.virtual_memory().total // 2**20  # os.sysconf exists on Unix only
    return max(LEAST_MB, min(machine // 2 // workers, LARGEST_MB))


def run(jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Make what is not up to date, in `workers` processes; each result as it is known.

    A process that dies takes only its own file with it. Whoever leaves early cancels what has not
    begun; what has is finished.
    """
    taken, superseded = _newest(jobs)
    yield from superseded
    queue = deque(taken)
    while queue:
        flying: dict[Future[Result], Job] = {}
        with _pool(workers) as pool, contextlib.suppress(BrokenProcessPool):
            while queue or flying:
                while queue and len(flying) < 2 * workers:
                    flying[pool.submit(make, queue[0])] = queue[0]
                    queue.popleft()
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    del flying[future]
                    yield result
        for future, job in flying.items():  # none, unless a process died
            yield _alone(job) if future.exception() else future.result()


def make(job: Job) -> Result:
    """Make the thumbnails of one file, unless they are up to date."""
    size = 0
    try:
        with job.path.open("rb") as source:
            about = os.fstat(source.fileno())
            size = about.st_size
            stamp = _stamp(job, about)
            if current := _current(job, stamp):
                return Result(job.path, State.CURRENT, size, current)
            head = source.read(HEAD_BYTES)
            if identify(head) is None:
                open_image(head, job.memory_mb)  # tells what it is instead
            refuse_over(size, f"A file of {size:,} bytes", job.memory_mb)
            data = head + source.read()
        made = make_thumbnails(
            data,
            job.settings.widths,
            job.settings.quality,
            job.memory_mb,
            animated=job.settings.animated,
        )
        written = {}
        for thumbnail in made.thumbnails:
            path = job.targets[thumbnail.width]
            body = stamped(thumbnail.data, stamp)
            _write(job.out, path, body)
            written[thumbnail.width] = (path, len(body))
    except (PipelineError, OSError) as error:
        release_frames(error)  # and the picture: the process goes on to the next one
        if isinstance(error, UnsupportedImage) and not job.named and not _is_named_image(job.path):
            return Result(job.path, State.SKIPPED, size)
        message = str(error)
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
    """Make sure that no other run writes to `out` during the block.

    What a killed run left half-written is removed. Raises CommandError if another run writes there.
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
    """Write failed.jsonl, a JSON object a line; where nothing failed there is none."""
    path = out / FAILED
    if not failures:
        path.unlink(missing_ok=True)
        return
    lines = (json.dumps(each.to_json(), ensure_ascii=False) + "\n" for each in failures)
    _write(out, path, "".join(lines).encode())


def _newest(jobs: Sequence[Job]) -> tuple[list[Job], list[Result]]:
    """Jobs, and results of those whose thumbnails a newer file has: `a.png` beside `a.jpg`."""
    owners: dict[Path, tuple[int, str, Job]] = {}
    for job in jobs:
        try:
            rank = (job.path.stat().st_mtime_ns, job.key)
        except OSError:  # gone, or not to be read: `make` says it
            rank = (0, job.key)
        for target in job.targets.values():
            if target not in owners or owners[target][:2] < rank:
                owners[target] = (*rank, job)
    taken, superseded = [], []
    for job in jobs:
        newer = {owners[target][2].path for target in job.targets.values()} - {job.path}
        if newer:
            note = (f"{printable(str(min(newer)))} is newer and has the same thumbnails",)
            superseded.append(Result(job.path, State.SUPERSEDED, notes=note))
        else:
            taken.append(job)
    return taken, superseded


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    # Neither fork, which threads forbid, nor spawn, which imports everything again for each.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(workers, context, initializer=_begin)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Prepare a worker: it is stopped by the process that started it, and ends with it at least."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes

    def end() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def _alone(job: Job) -> Result:
    """Make one file's thumbnails in a process of its own, to see whether it is what kills it."""
    with _pool(1) as pool:
        try:
            return pool.submit(make, job).result()
        except BrokenProcessPool:
            return Result(
                job.path,
                State.FAILED,
                error_type="ProcessDied",
                error_message="its process was killed: too little memory? Try fewer --workers",
            )


def _stamp(job: Job, about: os.stat_result) -> bytes:
    modified = datetime.fromtimestamp(about.st_mtime, UTC)
    etag = f"{about.st_size:x}-{about.st_mtime_ns:x}"
    return Provenance(printable(job.key), etag, modified, job.settings.recipe).digest()


def _current(job: Job, stamp: bytes) -> dict[int, tuple[Path, int]] | None:
    """Paths and bytes of the thumbnails, if each ends in `stamp`."""
    ending = STAMP + len(stamp).to_bytes(4, "little") + stamp
    found = {}
    for width, path in job.targets.items():
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - len(ending), 0))
                if file.read() != ending:
                    return None
        except (FileNotFoundError, NotADirectoryError):
            return None
        found[width] = (path, size)
    return found


def _write(out: Path, path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    part = out / WORK / f"{os.getpid()}.part"
    try:
        part.write_bytes(data)
        path.parent.mkdir(parents=True, exist_ok=True)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _is_named_image(path: Path) -> bool:
    return (guess_type(path.name)[0] or "").startswith("image/")
