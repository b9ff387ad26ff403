"""AVIF, still and animated."""

import io
from typing import Final

from PIL import AvifImagePlugin, ImageFile

from thumbnailer.imaging.formats.format import Format
from thumbnailer.imaging.formats.isobmff import AVIF_BRANDS, brands, plane_bytes
from thumbnailer.imaging.limits import OTHER_BYTES, pixels
from thumbnailer.imaging.spec import PixelSize

PIXEL_BYTES: Final = {"RGB": 8.2, "RGBA": 9.7}
"""For each pixel beside the decoder's planes: RGB, its copy, and Pillow's picture."""


def recognise(data: bytes) -> bool:
    """See Format."""
    return bool(brands(data) & AVIF_BRANDS)


def open_avif(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format."""
    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, _decoded: PixelSize) -> float:
    """See Format."""
    rgb = PIXEL_BYTES.get(image.mode, PIXEL_BYTES["RGBA"])
    return pixels(image.size) * (rgb + plane_bytes(data) - OTHER_BYTES)


def held_bytes(image: ImageFile.ImageFile, data: bytes) -> float:
    """See Format: the decoder keeps its planes and a copy of the picture."""
    return pixels(image.size) * (plane_bytes(data) + len(image.getbands()))


FORMAT: Final = Format(
    name="AVIF",
    title="AVIF",
    recognise=recognise,
    open=open_avif,
    decoder_bytes=decoder_bytes,
    held_bytes=held_bytes,
)
