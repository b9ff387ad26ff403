"""Input formats: one module per format, and one line in this registry.

`Image.open` is not used: it tries every decoder that Pillow has. No other decoder than these can be
reached by an upload.
"""

from importlib import import_module
from typing import Final

from thumbnailer.imaging.formats import jpeg  # noqa: F401 - most uploads: loaded at init
from thumbnailer.imaging.formats.format import DECODER_ERRORS, Format

FORMATS: Final = (
    "jpeg",
    "png",
    "webp",
    "gif",
    "avif",
    "heif",
    "tiff",
    "jpeg2000",
    "bmp",
    "ico",
    "svg",
)
"""Modules of this package, the most frequent first. Each is imported when a file needs it."""


def load(name: str) -> Format:
    """Import a module of FORMATS and return its format. Pillow's name for it does as well."""
    module = import_module(f"{__name__}.{name.lower()}")
    found: Format = module.FORMAT
    return found


def recognise(data: bytes) -> Format | None:
    """Return the format that a file begins like, or None. Its name is never considered."""
    for name in FORMATS:
        if (found := load(name)).recognise(data):
            return found
    return None


__all__ = ["DECODER_ERRORS", "FORMATS", "Format", "load", "recognise"]
