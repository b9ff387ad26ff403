"""Image bytes → thumbnails. Knows no AWS.

This is the public face of the package: nothing outside imports its modules (import-linter checks).
"""

from thumbnailer.imaging.decode import check_supported, identify, upright_size
from thumbnailer.imaging.encoders import ENCODERS, HEAD_BYTES
from thumbnailer.imaging.hard_limit import impose as impose_hard_limit
from thumbnailer.imaging.limits import check_file_size, max_file_size
from thumbnailer.imaging.spec import PixelSize, Size, ThumbnailSpec, digest, fingerprint
from thumbnailer.imaging.thumbnails import Made, Thumbnail, make_thumbnails
from thumbnailer.imaging.time_limit import FULL_CPU_MB

__all__ = [
    "ENCODERS",
    "FULL_CPU_MB",
    "HEAD_BYTES",
    "Made",
    "PixelSize",
    "Size",
    "Thumbnail",
    "ThumbnailSpec",
    "check_file_size",
    "check_supported",
    "digest",
    "fingerprint",
    "identify",
    "impose_hard_limit",
    "make_thumbnails",
    "max_file_size",
    "upright_size",
]
