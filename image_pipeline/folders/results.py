"""What a run of `image-pipeline thumbs` made of its files, on disk like its plan."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from image_pipeline.folders.database import TemporaryDatabase, blob
from thumbnailer.imaging import ThumbnailSpec

TABLE: Final = """
CREATE TABLE results (
    path BLOB, state TEXT, bytes INTEGER, thumbnails INTEGER, bytes_out INTEGER,
    noted INTEGER, noisy INTEGER, json TEXT
);
"""

CHOSEN: Final = "SELECT json FROM results WHERE {} ORDER BY path"


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
class Result:
    """The result for one file: the path and bytes of each thumbnail, or the error.

    In a dry run, the bytes of thumbnails that would be made are None. `error_type` is a class of
    `thumbnailer.errors`, of this package, or of the operating system's errors. `stderr` has the
    lines that libraries printed.
    """

    path: Path
    state: State
    size: int = 0
    thumbnails: Mapping[ThumbnailSpec, tuple[Path, int | None]] | None = None
    notes: tuple[str, ...] = ()
    error_type: str = ""
    error_message: str = ""
    permanent: bool = False
    stderr: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the path for printing: bytes that are not UTF-8 are replaced."""
        return printable(str(self.path))

    @property
    def size_out(self) -> int:
        """Return the bytes of all thumbnails together, as far as they are known."""
        return sum(size or 0 for _, size in (self.thumbnails or {}).values())

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
        if self.stderr:
            fields["stderr"] = self.stderr
        return fields


@dataclass(frozen=True, slots=True)
class Totals:
    """Files in one state, their bytes, and the number and bytes of their thumbnails."""

    files: int = 0
    bytes: int = 0
    thumbnails: int = 0
    thumbnail_bytes: int = 0


class Results(TemporaryDatabase):
    """The results so far."""

    def __init__(self) -> None:
        super().__init__(TABLE)

    def add(self, result: Result) -> None:
        """Add the result of a file."""
        self.sql.execute(
            "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                blob(str(result.path)),
                result.state,
                result.size,
                len(result.thumbnails or {}),
                result.size_out,
                bool(result.notes),
                bool(result.stderr),
                json.dumps(result.to_json()),
            ),
        )

    def totals(self) -> dict[State, Totals]:
        """Return the sums of each state."""
        rows = self.sql.execute(
            "SELECT state, COUNT(*), SUM(bytes), SUM(thumbnails), SUM(bytes_out)"
            " FROM results GROUP BY state"
        )
        found = {State(state): Totals(*sums) for state, *sums in rows}
        return {state: found.get(state, Totals()) for state in State}

    def every(self) -> Iterator[dict[str, Any]]:
        """Yield each result as `Result.to_json` gives it, sorted by path, as all below."""
        return self._chosen("TRUE")

    def failures(self) -> Iterator[dict[str, Any]]:
        """Yield the results of files that failed."""
        return self._chosen("state = 'failed'")

    def noted(self) -> Iterator[dict[str, Any]]:
        """Yield the results with notes."""
        return self._chosen("noted")

    def noisy(self) -> Iterator[dict[str, Any]]:
        """Yield the results of files about which a library printed something."""
        return self._chosen("noisy")

    def count(self) -> tuple[int, int, int]:
        """Count all results, those with notes, and those about which a library printed."""
        row = self.sql.execute(
            "SELECT COUNT(*), TOTAL(noted), TOTAL(noisy) FROM results"
        ).fetchone()
        return int(row[0]), int(row[1]), int(row[2])

    def _chosen(self, which: str) -> Iterator[dict[str, Any]]:
        for (fields,) in self.sql.execute(CHOSEN.format(which)):
            yield json.loads(fields)


def printable(name: str) -> str:
    """Convert a file name to text: bytes that are not UTF-8 become question marks."""
    return name.encode(errors="replace").decode()
