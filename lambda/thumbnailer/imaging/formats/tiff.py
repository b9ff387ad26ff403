"""TIFF: its first page."""

import io
from typing import Any, Final

from PIL import ImageFile, TiffImagePlugin

from thumbnailer.errors import UnsupportedImage
from thumbnailer.imaging.formats.format import UPRIGHT, Format
from thumbnailer.imaging.limits import stored_bytes
from thumbnailer.imaging.spec import PixelSize

MAGICS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Of TIFF 6.0 and BigTIFF, in both byte orders."""

CANON_RAW: Final = b"CR"
"""At byte 8 of a Canon CR2, which begins like a TIFF."""

NEW_SUBFILE_TYPE, PHOTOMETRIC, MAKE, SUB_IFDS, DNG_VERSION = 254, 262, 271, 330, 50706
ROWS_PER_STRIP, TILE_LENGTH = 278, 323
"""Tags of TIFF 6.0 and DNG 1.7."""

RAW_PHOTOMETRIC: Final = (32803, 34892)
"""Colour filter array and linear raw (TIFF/EP, ISO 12234-2; DNG 1.7)."""


def recognise(data: bytes) -> bool:
    """See Format."""
    return data.startswith(MAGICS) and data[8:10] != CANON_RAW


def open_tiff(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format.

    Raises UnsupportedImage for a camera's RAW file: its first page is a tiny preview or a mosaic.
    """
    tags = TiffImagePlugin.ImageFileDirectory_v2(
        data[:16] if data[2:4] in (b"+\0", b"\0+") else data[:8]
    )
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    if (
        DNG_VERSION in tags
        or tags.get(PHOTOMETRIC) in RAW_PHOTOMETRIC
        or (tags.get(NEW_SUBFILE_TYPE) == 1 and SUB_IFDS in tags)
    ):
        maker = str(tags.get(MAKE, "unknown camera")).strip("\0 ")
        raise UnsupportedImage(
            f"Unsupported file type: a camera's RAW file ({maker}) in a TIFF container. "
            "Export it as JPEG or HEIC."
        )
    return TiffImagePlugin.TiffImageFile(io.BytesIO(data))


def decoder_bytes(image: ImageFile.ImageFile, _data: bytes, _decoded: PixelSize) -> float:
    """See Format: libtiff holds a strip or a row of tiles whole, beside the picture."""
    if image.info.get("compression") == "raw":
        return 0.0
    file: Any = image
    width, height = image.size
    rows = int(file.tag_v2.get(TILE_LENGTH) or file.tag_v2.get(ROWS_PER_STRIP) or height)
    return float(width * min(rows, height) * stored_bytes(image.mode))


def orientation(_image: ImageFile.ImageFile) -> int:
    """See Format. Pillow turns the picture upright itself, and leaves the tag as it is."""
    return UPRIGHT


FORMAT: Final = Format(
    name="TIFF",
    title="TIFF",
    recognise=recognise,
    open=open_tiff,
    decoder_bytes=decoder_bytes,
    orientation=orientation,
)
