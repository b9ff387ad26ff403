"""HEIC and other HEIF files with HEVC pictures."""

import io
from typing import Final

from pi_heif.as_plugin import HeifImageFile  # type: ignore[import-untyped]
from PIL import ImageFile

from thumbnailer.imaging.cicp import from_nclx
from thumbnailer.imaging.formats.format import Format
from thumbnailer.imaging.formats.isobmff import (
    AVIF_BRANDS,
    HEIF_BRANDS,
    boxes_of,
    brands,
    peak,
    plane_bytes,
    primary_item,
    properties_of_item,
)
from thumbnailer.imaging.limits import OTHER_BYTES, pixels
from thumbnailer.imaging.spec import PixelSize

PIXEL_BYTES: Final = 6.2
"""For each pixel beside the decoder's planes: RGB, its copy, and Pillow's picture."""

NCLX_FIELDS: Final = ("color_primaries", "transfer_characteristics", "matrix_coefficients")
"""Names of the code points in pi-heif."""


def recognise(data: bytes) -> bool:
    """See Format."""
    found = brands(data)
    return bool(found & HEIF_BRANDS) and not found & AVIF_BRANDS


def open_heif(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format. pi-heif turns the picture upright itself, and resets EXIF Orientation."""
    image: ImageFile.ImageFile = HeifImageFile(io.BytesIO(data))
    nclx = image.info.get("nclx_profile")  # absent where there is an ICC profile
    if nclx is not None:
        boxes = boxes_of(data)
        properties = properties_of_item(data, boxes, primary_item(data, boxes))
        primaries, transfer, matrix = (nclx[name] for name in NCLX_FIELDS)
        numbers = from_nclx(primaries, transfer, matrix, peak(data, properties))
        image.info |= {"cicp": numbers} if numbers else {}
    return image


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, _decoded: PixelSize) -> float:
    """See Format."""
    return pixels(image.size) * (PIXEL_BYTES + plane_bytes(data) - OTHER_BYTES)


FORMAT: Final = Format(
    name="HEIF",
    title="HEIC",
    recognise=recognise,
    open=open_heif,
    decoder_bytes=decoder_bytes,
    needs_child=True,
)
