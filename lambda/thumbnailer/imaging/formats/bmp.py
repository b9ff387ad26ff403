"""Windows bitmap (BMP)."""

import io
from typing import Final

from PIL import BmpImagePlugin, ImageFile

from thumbnailer.imaging.formats.format import Format


def recognise(data: bytes) -> bool:
    """See Format."""
    return data.startswith(b"BM")


def open_bmp(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format."""
    return BmpImagePlugin.BmpImageFile(io.BytesIO(data))


FORMAT: Final = Format(name="BMP", title="BMP", recognise=recognise, open=open_bmp)
