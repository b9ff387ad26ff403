"""The files that a command takes, and the key of each in a bucket or below an output folder."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from image_pipeline.errors import CommandError


@dataclass(frozen=True, slots=True)
class File:
    """A file on disk and its object key."""

    path: Path
    key: str


def plan(paths: Sequence[Path], prefix: str) -> list[File]:
    """Find the files in `paths` and give each a key under `prefix`: see `scan`."""
    return list(scan(paths, prefix))


def refuse(error: OSError) -> NoReturn:
    """Raise CommandError for a folder that cannot be listed."""
    raise CommandError(
        f"The folder {error.filename} cannot be read: {error.strerror}. Change its permissions, or "
        "leave it out."
    ) from error


def scan(
    paths: Sequence[Path],
    prefix: str,
    *,
    may_be_empty: bool = False,
    unreadable: Callable[[OSError], None] = refuse,
) -> Iterator[File]:
    """Yield the files in `paths`, each with a key under `prefix`, without keeping them.

    `photo.jpg` becomes `{prefix}photo.jpg`. A folder is read recursively and keeps its name:
    `a/b.jpg` in `trip/` becomes `{prefix}trip/a/b.jpg`. Hidden files in folders are left out.
    `unreadable` is called with the error of each folder that cannot be listed.

    Raises CommandError for a path that does not exist, for a folder without files unless
    `may_be_empty`, and for two files with the same key.
    """
    named: dict[str, Path] = {}
    folders: list[Path] = []
    for path in paths:
        if path.is_dir():
            folder = path.resolve()
            empty, faults = True, list[OSError]()
            for file in _files_in(folder, prefix, faults.append):
                empty = False
                within = file.path.relative_to(folder)
                _check_keys_differ(
                    [each / within for each in folders if each.name == folder.name], file
                )
                yield file
            if empty and not may_be_empty:
                for fault in faults[:1]:
                    refuse(fault)
                raise CommandError(f"There are no files in {path}. Name a folder with images.")
            for fault in faults:
                unreadable(fault)
            folders.append(folder)
        elif path.is_file():
            file = File(path, prefix + path.name)
            _check_keys_differ([named[file.key]] if file.key in named else [], file)
            named[file.key] = path
            yield file
        else:
            raise CommandError(f"There is no file or folder {path}. Check the path.")


def _check_keys_differ(others: Iterable[Path], file: File) -> None:
    """Raise CommandError where one of the others, which would have the same key, is a file."""
    for other in others:
        if other.is_file():
            raise CommandError(
                f"{other}, {file.path} would all become {file.key}. Run the command once for each."
            )


def _files_in(folder: Path, prefix: str, unreadable: Callable[[OSError], None]) -> Iterator[File]:
    for parent, folders, names in folder.walk(on_error=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = parent / name
            if path.is_file() and not name.startswith("."):
                yield File(path, prefix + path.relative_to(folder.parent).as_posix())
