"""Originals in local files and folders."""

from collections.abc import Sequence
from pathlib import Path

from image_pipeline import files
from image_pipeline.files import File
from image_pipeline.folders.comparison import Original, Unreadable
from image_pipeline.folders.results import printable
from image_pipeline.folders.thumbnails import HEAD_BYTES, is_named_image
from thumbnailer.errors import PipelineError
from thumbnailer.imaging import check_file_size, check_supported


def find(paths: Sequence[Path]) -> list[File]:
    """Find the images in `paths`, by the rules of `image-pipeline thumbs`.

    Files in folders that are not images, by their content and by their name, are left out. Raises
    CommandError for a path that does not exist, and for a folder without files.
    """
    named = {path for path in paths if path.is_file()}
    return [each for each in files.plan(paths, "") if each.path in named or is_image(each.path)]


def read(file: File, memory_mb: int) -> Original | Unreadable:
    """Read a file, unless it is too large for a function with `memory_mb` MB of memory."""
    name = printable(file.key)
    try:
        check_file_size(file.path.stat().st_size, memory_mb)
        return Original(name, file.path.read_bytes())
    except PipelineError as error:
        return Unreadable.because(name, error)
    except OSError as error:
        return Unreadable(name, type(error).__name__, str(error.strerror))


def is_image(path: Path) -> bool:
    """Whether a file is an image, by its name or by its content."""
    if is_named_image(path):
        return True
    try:
        with path.open("rb") as file:
            check_supported(file.read(HEAD_BYTES))
    except (OSError, PipelineError):
        return False
    return True
