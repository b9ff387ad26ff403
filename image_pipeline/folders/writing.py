"""Writes the thumbnails of a picture into the output folder: all of them, or none."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from image_pipeline.errors import CommandError

WORK: Final = ".image-pipeline"
"""Folder inside the output folder, for files that are still being written."""

LOCK: Final = ".image-pipeline.lock"
"""File in the output folder that exists while a run writes there."""

FULL: Final = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
"""Errors that say that nothing more can be written: no space, or no quota (Unix only)."""

DENIED: Final = (errno.EACCES, errno.EPERM)

UNITS: Final = ("bytes", "kB", "MB", "GB", "TB")


class DiskFull(OSError):
    """The disk, or the user's part of it, has no space for a file."""


class OutsideOutput(OSError):
    """A folder of the output folder is a link that leads out of it."""


@contextlib.contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Lock `out` for the block, and remove what a killed run left half-written.

    Raises CommandError where another run holds the lock, or where nothing can be written.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - 60 ms, which no worker needs

    work = out / WORK
    lock = FileLock(out / LOCK, blocking=False)
    try:
        with _about(out), contextlib.suppress(Timeout):
            out.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except OSError as error:
        raise CommandError(write_error(error)) from error
    if not lock.is_locked:
        raise CommandError(f"Another run writes to {out}. Wait for it, or stop it.")
    try:
        shutil.rmtree(work, ignore_errors=True)
        try:
            with _about(work):
                work.mkdir()
        except OSError as error:
            raise CommandError(write_error(error)) from error
        yield
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(PermissionError):  # Windows: an open file; the release removes it
            (out / LOCK).unlink()
        lock.release()


def write_all(out: Path, files: Mapping[Path, bytes]) -> None:
    """Write all files, or none: then those that were there before stay.

    They are written in WORK first, and renamed when all of them are complete. Raises OSError whose
    `filename` is the file that could not be written, DiskFull and OutsideOutput among them.
    """
    inside = out.resolve()
    parts: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            part = out / WORK / f"{os.getpid()}-{len(parts)}.part"
            parts[path] = part
            with _about(path):
                folder = path.parent.resolve()
                if not folder.is_relative_to(inside):
                    raise OutsideOutput(errno.EPERM, f"leads to {folder}", str(path.parent))
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                part.write_bytes(data)
                folder.mkdir(parents=True, exist_ok=True)
        _place(parts)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def write_lines(out: Path, path: Path, lines: Iterable[str]) -> None:
    """Write a text file completely or not at all. Raises OSError like `write_all`."""
    part = out / WORK / f"{os.getpid()}-lines.part"
    try:
        with _about(path):
            with part.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line}\n" for line in lines)
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_error(error: OSError) -> str:
    """Say why a file or folder could not be written, and what to do."""
    path = Path(error.filename or ".")
    if isinstance(error, OutsideOutput):
        return (
            f"{path} {error.strerror}, outside the output folder. Remove this link, or choose "
            "another --out."
        )
    folder = _existing(path)
    if error.errno in FULL:
        return (
            f"The disk of {folder} is full: {_size(shutil.disk_usage(folder).free)} free, or your "
            "quota is used up. Free some space or choose another --out, then run the command again."
        )
    if error.errno in DENIED:
        return (
            f"You have no permission to write to the folder {folder}. Change its permissions, or "
            "choose another --out."
        )
    file = next((each for each in (path, *path.parents) if each.is_file()), path)
    a_file = f"{file} is a file, and a folder would have its name. Move it away."
    others = {
        errno.EROFS: f"The disk of {folder} is read-only. Choose another --out.",
        errno.EISDIR: f"{path} is a folder, and a thumbnail would have its name. Move it away.",
        errno.EEXIST: a_file,
        errno.ENOTDIR: a_file,
        errno.EXDEV: f"{path.parent} is on another disk than the output folder. Make it the --out.",
        errno.ENAMETOOLONG: f"The name {path.name} is too long for this disk. Shorten it.",
    }
    return others.get(error.errno or 0, f"{path} could not be written: {error.strerror}.")


def read_error(error: OSError, path: Path) -> str:
    """Say why an original could not be read, and what to do."""
    if error.errno in DENIED:
        return f"You have no permission to read {path}. Change its permissions, or leave it out."
    if error.errno == errno.ENOENT:
        return f"{path} was removed while the command ran."
    return f"{path} could not be read: {error.strerror}."


def _place(parts: Mapping[Path, Path]) -> None:
    """Rename each part to its path. If one fails, the earlier files come back."""
    earlier: dict[Path, Path] = {}
    placed: list[Path] = []
    try:
        for path, part in parts.items():
            with _about(path):
                copy = part.with_suffix(".before")
                if _keep(path, copy):
                    earlier[path] = copy
                part.replace(path)
                placed.append(path)
    except OSError:
        for path in placed:
            if path not in earlier:
                path.unlink(missing_ok=True)
        for path, copy in earlier.items():
            copy.replace(path)
        raise
    finally:
        for copy in earlier.values():
            copy.unlink(missing_ok=True)


def _keep(path: Path, copy: Path) -> bool:
    """Give a file a second name, or move it where the disk has no hard links; False if none."""
    try:
        os.link(path, copy, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except (OSError, NotImplementedError):
        path.replace(copy)
    return True


@contextlib.contextmanager
def _about(path: Path) -> Iterator[None]:
    """Let an OSError of the block name `path`, and a full disk be DiskFull."""
    try:
        yield
    except OutsideOutput:
        raise
    except OSError as error:
        kind = DiskFull if error.errno in FULL else OSError  # which chooses its subclass
        raise kind(error.errno, error.strerror, str(path)) from error


def _existing(path: Path) -> Path:
    """Return `path` if it is a folder, or else the nearest one above it that exists."""
    return next(each for each in (path, *path.parents, Path()) if each.is_dir())


def _size(number: float) -> str:
    """Return a number of bytes in the largest unit in which it is at least 1."""
    for unit in UNITS:
        if number < 1000 or unit == UNITS[-1]:  # noqa: PLR2004 - SI units
            break
        number /= 1000
    return f"{number:.0f} {unit}"
