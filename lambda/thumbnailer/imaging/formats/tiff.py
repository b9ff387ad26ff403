"""TIFF: its first page."""

import io
import math
from typing import Any, Final

from PIL import ImageFile, TiffImagePlugin

from thumbnailer.errors import UnsupportedImage
from thumbnailer.imaging.formats.format import UPRIGHT, Format
from thumbnailer.imaging.limits import picture_bytes, refuse_over, stored_bytes
from thumbnailer.imaging.spec import PixelSize

MAGICS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Of TIFF 6.0 and BigTIFF, in both byte orders."""

CANON_RAW: Final = b"CR"
"""At byte 8 of a Canon CR2, which begins like a TIFF."""

NEW_SUBFILE_TYPE, PHOTOMETRIC, MAKE, SUB_IFDS, DNG_VERSION = 254, 262, 271, 330, 50706
WIDTH, LENGTH, BITS, ORIENTATION = 256, 257, 258, 274
SAMPLES, ROWS_PER_STRIP, PLANAR = 277, 278, 284
TILE_WIDTH, TILE_LENGTH = 322, 323
"""Tags of TIFF 6.0 and DNG 1.7."""

PARTS: Final = (273, 279, 324, 325)
"""Tags with a value for each strip or tile: where it is, and how long (TIFF 6.0)."""

PART_BYTES: Final = 600
"""For each strip or tile that a tag names: Python's objects for it."""

VALUE_BYTES: Final = 60
"""For each number in any other tag, which Pillow makes a Python object."""

FEW_TAG_BYTES: Final = 32 * 1024**2
"""Below this, tags fit into any function, and count as a part of the whole estimate."""

BYTE_TYPES: Final = (1, 2, 7)
"""BYTE, ASCII and UNDEFINED (TIFF 6.0, section 2): values that stay bytes."""

SEPARATE_PLANES: Final = 2
YCBCR: Final = 6
JPEG_COMPRESSIONS: Final = ("jpeg", "tiff_jpeg")
RGBA_BYTES: Final = 4
"""Pixels in YCbCr are converted by libtiff, except those of a JPEG."""

RAW_PHOTOMETRIC: Final = (32803, 34892)
"""Colour filter array and linear raw (TIFF/EP, ISO 12234-2; DNG 1.7)."""


def recognise(data: bytes) -> bool:
    """See Format."""
    return data.startswith(MAGICS) and data[8:10] != CANON_RAW


def open_tiff(data: bytes, memory_mb: int) -> ImageFile.ImageFile:
    """See Format.

    Raises UnsupportedImage for a camera's RAW file: its first page is a tiny preview or a mosaic.
    """
    tags = TiffImagePlugin.ImageFileDirectory_v2(
        data[:16] if data[2:4] in (b"+\0", b"\0+") else data[:8]
    )
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    if (need := tag_bytes(tags)) > FEW_TAG_BYTES:
        refuse_over(need, "A TIFF with this many values in its tags", memory_mb)
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


def tag_bytes(tags: TiffImagePlugin.ImageFileDirectory_v2) -> float:
    """Return the memory for the tags' values as Python objects, before any of them is made."""
    need = 0.0
    for tag, value in tags._tagdata.items():  # noqa: SLF001 - reading a value makes its objects
        kind = tags.tagtype[tag]
        if tag in PARTS:
            need += PART_BYTES / 2 * values_in(value, kind)
        elif kind not in BYTE_TYPES:
            need += VALUE_BYTES * values_in(value, kind)
    return need


def values_in(value: bytes, kind: int) -> int:
    """Count the values of a tag of this type."""
    size, _ = TiffImagePlugin.ImageFileDirectory_v2._load_dispatch[kind]  # noqa: SLF001
    return len(value) // size


def decoder_bytes(image: ImageFile.ImageFile, _data: bytes, _decoded: PixelSize) -> float:
    """See Format: libtiff holds a strip or a tile whole, beside the picture and the tags.

    Once decoded, Pillow turns the picture upright, into another one.
    """
    file: Any = image
    tags = file.tag_v2
    turned = picture_bytes(image.size, stored_bytes(image.mode))
    return tag_bytes(tags) + max(
        part_bytes(image) if image.info.get("compression") != "raw" else 0.0,
        turned if tags.get(ORIENTATION, UPRIGHT) != UPRIGHT else 0.0,
    )


def part_bytes(image: ImageFile.ImageFile) -> float:
    """Return the bytes of a strip or a tile as libtiff decodes it, which may exceed the picture.

    Raises ValueError where the tags do not give its size.
    """
    file: Any = image
    tags = file.tag_v2
    if TILE_WIDTH in tags or TILE_LENGTH in tags:
        width, rows = tags.get(TILE_WIDTH), tags.get(TILE_LENGTH)
    else:
        width, rows = tags[WIDTH], min(tags.get(ROWS_PER_STRIP, tags[LENGTH]), tags[LENGTH])
    if not isinstance(width, int) or not isinstance(rows, int):
        raise ValueError("the size of a strip or a tile is not a number")  # noqa: TRY004
    bits = tags.get(BITS, (1,))
    samples = 1 if tags.get(PLANAR) == SEPARATE_PLANES else tags.get(SAMPLES, len(bits))
    need = rows * -(-width * samples * max(bits) // 8)
    if tags.get(PHOTOMETRIC) == YCBCR and image.info["compression"] not in JPEG_COMPRESSIONS:
        need += rows * width * RGBA_BYTES
    return float(need)


def call_seconds(image: ImageFile.ImageFile, _data: bytes) -> float:
    """See Format: libtiff decodes everything in one call, and knows many compressions."""
    return 0.0 if image.info.get("compression") == "raw" else math.inf


def orientation(_image: ImageFile.ImageFile) -> int:
    """See Format. Pillow turns the picture upright itself, and leaves the tag as it is."""
    return UPRIGHT


FORMAT: Final = Format(
    name="TIFF",
    title="TIFF",
    recognise=recognise,
    open=open_tiff,
    decoder_bytes=decoder_bytes,
    call_seconds=call_seconds,
    orientation=orientation,
)
