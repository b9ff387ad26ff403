"""The files of a run of `image-pipeline thumbs`, and which thumbnails belong to which of them.

They are kept in a temporary database on disk, so that memory does not grow with their number
(docs/adr/0035-thumbs-keeps-its-files-on-disk.md).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from image_pipeline import files
from image_pipeline.errors import CommandError
from image_pipeline.files import File
from image_pipeline.folders.database import TemporaryDatabase, blob, text
from thumbnailer.errors import PermanentError
from thumbnailer.imaging import ThumbnailSpec
from thumbnailer.settings import EXTENSIONS, SIZE_KEY_TEMPLATE, Settings

TABLES: Final = """
CREATE TABLE files (path BLOB, key BLOB, named INTEGER);
CREATE TABLE targets (target BLOB PRIMARY KEY, modified INTEGER, key BLOB, path BLOB) WITHOUT ROWID;
"""

NEW: Final = "INSERT OR IGNORE INTO targets VALUES (?, ?, ?, ?)"
OWN: Final = """
INSERT INTO targets VALUES (?, ?, ?, ?) ON CONFLICT (target) DO UPDATE
SET modified = excluded.modified, key = excluded.key, path = excluded.path
WHERE (excluded.modified, excluded.key) > (modified, key)
"""


class UnusableName(PermanentError):
    """The key template gives a thumbnail a name that it must not have."""


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
        """Return the path of each thumbnail.

        Raises UnusableName where one would be outside the output folder, or would have the
        extension of another image format.
        """
        found = {}
        for spec in self.settings.specs:
            name = self.settings.thumbnail_key(self.key, spec.size, spec.format)
            path = PurePath(name)
            if path.is_absolute() or path.drive or ".." in path.parts:
                raise UnusableName(
                    f"With this --key-template the thumbnail would be {name}, which is not a path "
                    f"inside the output folder. Use another one, such as {SIZE_KEY_TEMPLATE}"
                )
            if EXTENSIONS.get(path.suffix[1:].lower(), spec.format) != spec.format:
                raise UnusableName(
                    f"With this --key-template the thumbnail would be {name}, and it is a "
                    f"{spec.format} file. End the template with .{{format}}"
                )
            found[spec] = self.out / name
        return found


class Plan(TemporaryDatabase):
    """The files to make thumbnails of, in the order in which they were found."""

    def __init__(self, out: Path, settings: Settings, memory_mb: int) -> None:
        self.out, self.settings, self.memory_mb = out, settings, memory_mb
        self.unreadable: list[OSError] = []
        self._shared = False  # whether any two files have a thumbnail name in common: most never do
        super().__init__(TABLES)

    def add(self, file: File, *, named: bool) -> None:
        """Add a file. Of files that share a thumbnail's name, the newer one owns it."""
        job = Job(file.path, file.key, named, self.out, self.settings, self.memory_mb)
        path, key = blob(str(file.path)), blob(file.key)
        self.sql.execute("INSERT INTO files VALUES (?, ?, ?)", (path, key, named))
        try:
            targets = job.targets.values()
        except UnusableName:  # `make` reports it
            return
        try:
            modified = file.path.stat().st_mtime_ns
        except OSError:  # gone or unreadable: `make` reports it
            modified = 0
        rows = [(blob(str(target)), modified, key, path) for target in targets]
        if self.sql.executemany(NEW, rows).rowcount < len(rows):
            self._shared = True
            self.sql.executemany(OWN, rows)

    @property
    def total(self) -> int:
        """Count the files, and the folders that cannot be read."""
        (count,) = self.sql.execute("SELECT COUNT(*) FROM files").fetchone()
        return int(count) + len(self.unreadable)

    def __iter__(self) -> Iterator[Job]:
        """Yield a job for each file."""
        rows = self.sql.execute("SELECT path, key, named FROM files ORDER BY rowid")
        for path, key, named in rows:
            yield Job(
                Path(text(path)), text(key), bool(named), self.out, self.settings, self.memory_mb
            )

    def newer_than(self, job: Job) -> Path | None:
        """Return the file that owns thumbnails with the names of this one's, if another does."""
        if not self._shared:
            return None
        try:
            targets = job.targets.values()
        except UnusableName:
            return None
        owners = {owner for target in targets if (owner := self.owner(target))}
        return min(owners - {job.path}, default=None)

    def owner(self, target: Path) -> Path | None:
        """Return the file that a thumbnail belongs to; None if no file has it."""
        found = self.sql.execute(
            "SELECT path FROM targets WHERE target = ?", (blob(str(target)),)
        ).fetchone()
        return Path(text(found[0])) if found else None


def plan(  # noqa: PLR0913 - what a plan consists of, and how it is found
    paths: Sequence[Path],
    out: Path,
    settings: Settings,
    memory_mb: int,
    *,
    may_be_empty: bool = False,
    found: Callable[[], None] = lambda: None,
) -> Plan:
    """Find the files to make thumbnails of, and call `found` for each.

    Folders are taken whole, without hidden files and without `out`. Raises CommandError where there
    are no files (unless `may_be_empty`), where a folder is inside `out`, and where a thumbnail
    would overwrite one of the files.
    """
    target = out.resolve()
    for path in paths:
        if path.is_dir() and path.resolve().is_relative_to(target):
            raise CommandError(f"{path} is inside the output folder {out}. Choose another --out.")
    named = {path for path in paths if path.is_file()}
    planned = Plan(out, settings, memory_mb)
    try:
        for file in files.scan(
            paths,
            settings.input_prefix,
            may_be_empty=may_be_empty,
            unreadable=planned.unreadable.append,
        ):
            if file.path in named or not file.path.resolve().is_relative_to(target):
                planned.add(file, named=file.path in named)
                found()
        for path in named:
            _check_not_overwritten(path, planned)
    except BaseException:
        planned.close()
        raise
    return planned


def _check_not_overwritten(path: Path, planned: Plan) -> None:
    """Raise CommandError where a thumbnail of another file would have this path."""
    place, target = path.resolve(), planned.out.resolve()
    if place.is_relative_to(target):
        owner = planned.owner(planned.out / place.relative_to(target))
        if owner is not None:
            raise CommandError(
                f"A thumbnail of {owner} would overwrite {path}. Choose another --out, or leave "
                "one of them out."
            )
