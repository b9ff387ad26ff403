"""GIF, still and animated."""

import io
from typing import Final

from PIL import GifImagePlugin, ImageFile

from thumbnailer.imaging.formats.format import Format


def recognise(data: bytes) -> bool:
    """See Format."""
    return data.startswith((b"GIF87a", b"GIF89a"))


def open_gif(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format."""
    return GifImagePlugin.GifImageFile(io.BytesIO(data))


FORMAT: Final = Format(name="GIF", title="GIF", recognise=recognise, open=open_gif)
