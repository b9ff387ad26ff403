"""Finds the sources of a deploy: the template, the state machines and the function's code.

In a checkout they are used where they are. An installed wheel holds them in two places,
`image_pipeline/sources` and the package `thumbnailer`, which may be read-only. From there they are
copied into the user's cache folder, in the layout of a checkout, because the template names the
function's folder as `../lambda`.
"""

import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import thumbnailer
from image_pipeline.build.function import build_function, make_readable

PACKAGED: Final = Path(__file__).resolve().parents[1] / "sources"
"""Where a wheel holds what is not a package. A checkout has no such folder."""

CHECKOUT: Final = None if PACKAGED.is_dir() else Path(__file__).resolve().parents[2]
"""The checkout that this code runs from; None where it runs from an installed wheel."""

REQUIREMENTS: Final = (CHECKOUT or PACKAGED) / "requirements"
"""Folder of the files that pin, by hash, the tools of image_pipeline.build.tools."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What is built and deployed."""

    iac: Path
    """Folder of template.yaml and of the files that it names."""

    function: Path
    """Folder of handler.py, requirements.txt and the package thumbnailer."""

    @classmethod
    def below(cls, root: Path) -> "Sources":
        """The sources in a folder that is laid out as a checkout is."""
        return cls(root / "iac", root / "lambda")

    def build(self, folder: Path, architecture: str, uv: str) -> Path:
        """Build the function for `architecture` below `folder`, and return the template beside it.

        The folder is laid out as the sources are, so the template in it names the built function.
        Raises BuildError, or OSError where a file cannot be read or written.
        """
        shutil.copytree(self.iac, folder / "iac")
        build_function(self.function, folder / "lambda", architecture, uv)
        return folder / "iac" / "template.yaml"


def find_sources() -> Sources:
    """Find the sources; those of a wheel are copied into the cache folder unless they are there.

    Raises OSError where the cache folder cannot be written.
    """
    if CHECKOUT:
        return Sources.below(CHECKOUT)
    from platformdirs import user_cache_path  # noqa: PLC0415 - 20 ms, for an installed wheel only

    function = Path(thumbnailer.__file__).parent
    files = _files(PACKAGED) | {
        f"lambda/thumbnailer/{name}": path for name, path in _files(function).items()
    }
    return Sources.below(_cached(files, user_cache_path("image-pipeline")))


def _files(folder: Path) -> dict[str, Path]:
    """Every file below `folder`, by its path from there with slashes; compiled modules aside."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != "__pycache__"
    }


def _cached(files: Mapping[str, Path], cache: Path) -> Path:
    """Copy `files` into a folder of their own in `cache`, unless they are there unchanged."""
    digest = _digest(files)
    target = cache / f"sources-{importlib.metadata.version('image-pipeline')}-{digest[:16]}"
    if _digest(_files(target)) == digest:
        return target
    cache.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".sources-", dir=cache))
    try:
        for name, source in files.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
        # Modes of their own: those of site-packages may be read-only, or hide files from others.
        make_readable(draft)
        shutil.rmtree(target, ignore_errors=True)  # somebody removed or changed files of it
        try:
            draft.rename(target)
        except OSError:
            if _digest(_files(target)) != digest:  # else another process was faster
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _digest(files: Mapping[str, Path]) -> str:
    """A SHA-256 of names and contents, in hexadecimal."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
