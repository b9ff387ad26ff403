"""The files that a command takes, and the key of each in a bucket or below an output folder."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from image_pipeline.errors import CommandError


@dataclass(frozen=True, slots=True)
class File:
    """A file on disk and its object key."""

    path: Path
    key: str


def plan(paths: Iterable[Path], prefix: str, *, may_be_empty: bool = False) -> list[File]:
    """Find the files in `paths` and give each a key under `prefix`.

    `photo.jpg` becomes `{prefix}photo.jpg`. A folder is read recursively and keeps its name:
    `a/b.jpg` in `trip/` becomes `{prefix}trip/a/b.jpg`. Hidden files in folders are left out.

    Raises CommandError for a path that does not exist, for a folder without files unless
    `may_be_empty`, and for two files with the same key.
    """
    files: list[File] = []
    for path in paths:
        if path.is_dir():
            within = _files_in(path.resolve(), prefix)
            if not (within or may_be_empty):
                raise CommandError(f"There are no files in {path}. Name a folder with images.")
            files += within
        elif path.is_file():
            files.append(File(path, prefix + path.name))
        else:
            raise CommandError(f"There is no file or folder {path}. Check the path.")
    for key, count in Counter(file.key for file in files).items():
        if count > 1:
            same = ", ".join(str(file.path) for file in files if file.key == key)
            raise CommandError(f"{same} would all become {key}. Run the command once for each.")
    return files


def _files_in(folder: Path, prefix: str) -> list[File]:
    return [
        File(path, prefix + path.relative_to(folder.parent).as_posix())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
