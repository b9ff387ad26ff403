"""Thumbnails in an output folder whose originals are gone.

A file counts as a thumbnail only if its name is one that the key template gives, and if it ends
with this pipeline's provenance mark. Its name says which original it was made of. Files of other
folders than the given ones are left alone.
"""

import os
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from image_pipeline import files
from image_pipeline.errors import CommandError
from image_pipeline.files import refuse
from image_pipeline.folders.originals import is_image
from image_pipeline.folders.results import printable
from thumbnailer.imaging import ENCODERS, HEAD_BYTES, OUTPUT_FORMATS
from thumbnailer.settings import Settings, key_template_meaning

DEFAULT_NAME: Final = r"[0-9]+w|[0-9]+x[0-9]+"
"""Names of sizes that have none of their own."""

MARK_BYTES: Final = 8
ENDING_BYTES: Final = 16
"""No format's ending with a mark is longer (`Encoder.mark_ending`)."""

FIELDS: Final = {
    "dir": r"(?:[^/]+/)+",
    "stem": r"[^/]+",
    "ext": r"[^/.]*",
    "width": r"[0-9]+",
    "format": "|".join(ENCODERS[name].extension for name in OUTPUT_FORMATS),
}


@dataclass(frozen=True, slots=True)
class Orphan:
    """A thumbnail, its bytes, and the path that its original had, without the extension."""

    path: Path
    size: int
    original: Path

    def to_json(self) -> dict[str, Any]:
        """Return what --json prints."""
        return {
            "path": printable(str(self.path)),
            "bytes": self.size,
            "original": printable(str(self.original)),
        }


class Orphans:
    """Finds the orphaned thumbnails of `folders` in the folder `out`.

    Raises CommandError where there is no such folder, and where the names of thumbnails do not say
    which folder an original was in.
    """

    def __init__(self, folders: Sequence[Path], out: Path, settings: Settings) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise CommandError(f"--prune takes folders, and {folder} is not one.")
        if not out.is_dir():
            raise CommandError(f"There is no folder {out}. Check the path.")
        template = key_template_meaning(settings.output_key_template)
        if "{dir}" not in template:
            raise CommandError(
                "--prune needs {dir} in the --key-template. Without it, names of thumbnails do not "
                "say which folder their originals were in."
            )
        self._folders, self._out, self._target = folders, out, out.resolve()
        self._parents: dict[str, list[Path]] = {}
        for folder in folders:
            whole = folder.resolve()
            self._parents.setdefault(whole.name, []).append(whole.parent)
        sizes = (DEFAULT_NAME, *(re.escape(size.name) for size in settings.sizes))
        self._names = [_pattern(template, size) for size in dict.fromkeys(sizes)]
        self._listed: tuple[Path, dict[str, list[Path]]] | None = None

    @property
    def empty(self) -> list[Path]:
        """The folders of originals without any file: their disk may be missing."""
        return [
            each
            for each in self._folders
            if next(files.scan([each], "", may_be_empty=True), None) is None
        ]

    def find(self) -> Iterator[Orphan]:
        """Yield the orphaned thumbnails, folder by folder.

        Raises CommandError where a folder cannot be read.
        """
        for parent, folders, names in self._out.walk(on_error=refuse):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = parent / name
                originals = list(self._originals(path))
                if originals and not any(map(self._exists, originals)) and _is_marked(path):
                    directory, stem, _ = originals[0]
                    yield Orphan(path, path.stat().st_size, directory / stem)

    def delete(self, orphan: Orphan) -> bool:
        """Delete a thumbnail, and the folders that are empty then.

        False if it is not orphaned any more. Raises OSError.
        """
        self._listed = None
        if any(map(self._exists, self._originals(orphan.path))) or not _is_marked(orphan.path):
            return False
        orphan.path.unlink()
        for folder in orphan.path.parents:
            if folder == self._out:
                break
            try:
                folder.rmdir()
            except OSError:  # not empty
                break
        return True

    def _originals(self, path: Path) -> Iterator[tuple[Path, str, str | None]]:
        """Yield the folder, stem and extension that the original of a thumbnail may have.

        The extension is None where the template leaves it out. Nothing where the name is not that
        of a thumbnail, or of one from another folder.
        """
        name = path.relative_to(self._out).as_posix()
        for pattern in self._names:
            if found := pattern.fullmatch(name):
                fields = found.groupdict()
                for parent in self._parents.get(fields["dir"].partition("/")[0], []):
                    yield parent / fields["dir"], fields["stem"], fields.get("ext")

    def _exists(self, original: tuple[Path, str, str | None]) -> bool:
        """Whether there is an image with this stem, and this extension if it is known."""
        folder, stem, ext = original
        if self._listed is None or self._listed[0] != folder:
            self._listed = folder, self._images_in(folder)
        return any(
            ext in (None, path.suffix[1:]) and (is_image(path) or not os.access(path, os.R_OK))
            for path in self._listed[1].get(stem, [])
        )

    def _images_in(self, folder: Path) -> dict[str, list[Path]]:
        """Return the files of a folder of originals by their stem; none if it is gone."""
        found: dict[str, list[Path]] = {}
        try:
            if folder.resolve().is_relative_to(self._target):
                return found
            for path in folder.iterdir():
                if path.is_file() and not path.name.startswith("."):
                    found.setdefault(path.name.rpartition(".")[0] or path.name, []).append(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            refuse(error)
        return found


def _pattern(template: str, size: str) -> re.Pattern[str]:
    """Return the names that a template gives to thumbnails of this size."""
    text, seen = "", set()
    for literal, field, *_ in string.Formatter().parse(template):
        text += re.escape(literal)
        if field in seen:
            text += f"(?P={field})"
        elif field is not None:
            text += f"(?P<{field}>{size if field == 'size' else FIELDS[field]})"
            seen.add(field)
    return re.compile(text, re.DOTALL)


def _is_marked(path: Path) -> bool:
    """Whether a file is a picture that ends with a provenance mark, of whatever original."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(max(path.stat().st_size - ENDING_BYTES, 0))
        ending = file.read()
    for encoder in map(ENCODERS.__getitem__, OUTPUT_FORMATS):
        blank = encoder.mark_ending(bytes(MARK_BYTES))
        at = blank.rindex(bytes(MARK_BYTES))
        before, after = blank[:at], blank[at + MARK_BYTES :]
        if (
            ending[-len(blank) :].startswith(before)
            and ending.endswith(after)
            and encoder.size_of(head) is not None
        ):
            return True
    return False
