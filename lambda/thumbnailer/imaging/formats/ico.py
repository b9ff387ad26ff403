"""Windows icons (ICO): the largest picture."""

import io
import struct
from typing import Final

from PIL import IcoImagePlugin, ImageFile

from thumbnailer.imaging.formats import png
from thumbnailer.imaging.formats.format import Format
from thumbnailer.imaging.formats.isobmff import brands
from thumbnailer.imaging.limits import OTHER_BYTES, pixels, refuse_over

MAGIC: Final = b"\0\0\1\0"

PIXEL_BYTES: Final = 3 * OTHER_BYTES
"""The bitmap, the same with alpha, and its bytes in the file."""


def recognise(data: bytes) -> bool:
    """See Format. A box of 256 bytes, with which an ISO media file may begin, starts alike."""
    return data.startswith(MAGIC) and not brands(data)


def open_ico(data: bytes, memory_mb: int) -> ImageFile.ImageFile:
    """See Format. Where the largest picture is a PNG file, that file is opened.

    Pillow would decode it at once, at the size that it claims.
    """
    largest = IcoImagePlugin.IcoFile(io.BytesIO(data)).entry[0]
    picture = data[largest.offset :]
    if png.recognise(picture):
        return png.open_png(picture, memory_mb)
    width, height = struct.unpack_from("<ii", picture, 4)
    size = (abs(width), abs(height) // 2)  # the height counts the mask too
    refuse_over(pixels(size) * PIXEL_BYTES, f"ICO of {size[0]} × {size[1]} pixels", memory_mb)
    return IcoImagePlugin.IcoImageFile(io.BytesIO(data))


FORMAT: Final = Format(name="ICO", title="ICO", recognise=recognise, open=open_ico)
