"""Image bytes → thumbnails. Knows no AWS.

This is the public face of the package: nothing outside imports its modules (import-linter checks).
"""

from thumbnailer.imaging.decode import check_supported, identify, upright_size
from thumbnailer.imaging.encoders import ENCODERS, HEAD_BYTES, OUTPUT_FORMATS, thumbnail_spec
from thumbnailer.imaging.hard_limit import impose as impose_hard_limit
from thumbnailer.imaging.limits import check_file_size, max_file_size
from thumbnailer.imaging.spec import (
    MAX_SIDE,
    WHITE,
    PixelSize,
    Point,
    Size,
    ThumbnailSpec,
    digest,
    fingerprint,
    focus_text,
    parse_colour,
    parse_focus,
    parse_sizes,
)
from thumbnailer.imaging.thumbnails import Made, Thumbnail, make_thumbnails
from thumbnailer.imaging.time_limit import FULL_CPU_MB

__all__ = [
    "ENCODERS",
    "FULL_CPU_MB",
    "HEAD_BYTES",
    "MAX_SIDE",
    "OUTPUT_FORMATS",
    "WHITE",
    "Made",
    "PixelSize",
    "Point",
    "Size",
    "Thumbnail",
    "ThumbnailSpec",
    "check_file_size",
    "check_supported",
    "digest",
    "fingerprint",
    "focus_text",
    "identify",
    "impose_hard_limit",
    "make_thumbnails",
    "max_file_size",
    "parse_colour",
    "parse_focus",
    "parse_sizes",
    "thumbnail_spec",
    "upright_size",
]
