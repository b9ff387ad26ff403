"""Output formats: one module per format, and one line in this registry."""

from collections.abc import Mapping
from typing import Final

from thumbnailer.imaging.encoders.encoder import HEAD_BYTES, Encoder
from thumbnailer.imaging.encoders.webp import WEBP

ENCODERS: Final[Mapping[str, Encoder]] = {"webp": WEBP}
"""The name of each format, as in `ThumbnailSpec.format`."""

__all__ = ["ENCODERS", "HEAD_BYTES", "Encoder"]
