"""Windows bitmap (BMP)."""

import io
from typing import Final

from PIL import BmpImagePlugin, ImageFile

from thumbnailer.imaging.formats.format import Format
from thumbnailer.imaging.limits import pixels
from thumbnailer.imaging.spec import PixelSize

RUN_LENGTHS: Final = (1, 2)
"""Compression RLE8 and RLE4 ([MS-WMF] 2.1.1.7)."""

RUN_LENGTH_BYTES: Final = 2.7
"""For each pixel with run lengths: Pillow expands all of them, and copies the result."""


def recognise(data: bytes) -> bool:
    """See Format."""
    return data.startswith(b"BM")


def open_bmp(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format."""
    return BmpImagePlugin.BmpImageFile(io.BytesIO(data))


def decoder_bytes(image: ImageFile.ImageFile, _data: bytes, _decoded: PixelSize) -> float:
    """See Format."""
    expanded = image.info.get("compression") in RUN_LENGTHS
    return pixels(image.size) * RUN_LENGTH_BYTES if expanded else 0.0


FORMAT: Final = Format(
    name="BMP",
    title="BMP",
    recognise=recognise,
    open=open_bmp,
    decoder_bytes=decoder_bytes,
)
