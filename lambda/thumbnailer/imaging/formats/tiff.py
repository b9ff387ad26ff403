"""TIFF: its first page."""

import io
import math
from typing import Any, Final

from PIL import Image, ImageFile, ImagePalette, TiffImagePlugin

from thumbnailer.errors import UnsupportedImage
from thumbnailer.imaging.formats.format import UPRIGHT, Format, whole
from thumbnailer.imaging.formats.tiff_kind import (
    BITS,
    JPEGS,
    LENGTH,
    PHOTOMETRIC,
    PLANAR,
    RAW,
    SAMPLES,
    SEPARATE_PLANES,
    SUBSAMPLING,
    WIDTH,
    YCBCR,
    Kind,
    read_by_pillow,
    read_by_samples,
    refuse,
)
from thumbnailer.imaging.formats.tiff_samples import (
    ROWS_PER_STRIP,
    STRIP_COUNTS,
    STRIP_OFFSETS,
    TILE_COUNTS,
    TILE_LENGTH,
    TILE_OFFSETS,
    TILE_WIDTH,
    Page,
    SampledTiff,
    decode_inks,
)
from thumbnailer.imaging.limits import picture_bytes, refuse_over, stored_bytes
from thumbnailer.imaging.resize import ALPHA, Box
from thumbnailer.imaging.spec import PixelSize

BIG_ENDIAN_BIGTIFF: Final = b"MM\0+"
MAGICS: Final = (b"II*\0", b"MM\0*", b"II+\0", BIG_ENDIAN_BIGTIFF)
"""Of TIFF 6.0 and BigTIFF, in both byte orders. Pillow does not read the last."""

BIGTIFF: Final = 43
"""At byte 2 of a BigTIFF in little-endian byte order."""

CANON_RAW: Final = b"CR"
"""At byte 8 of a Canon CR2, which begins like a TIFF."""

NEW_SUBFILE_TYPE, MAKE, SUB_IFDS, DNG_VERSION = 254, 271, 330, 50706
ORIENTATION, COLOUR_MAP = 274, 320
"""Tags of TIFF 6.0 and DNG 1.7."""

PARTS: Final = (STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS)
"""Tags with a value for each strip or tile: where it is, and how long (TIFF 6.0)."""

PART_BYTES: Final = 600
"""For each strip or tile that a tag names: Python's objects for it."""

VALUE_BYTES: Final = 60
"""For each number in any other tag, which Pillow makes a Python object."""

FEW_TAG_BYTES: Final = 32 * 1024**2
"""Below this, tags fit into any function, and count as a part of the whole estimate."""

BYTE_TYPES: Final = (1, 2, 7)
"""BYTE, ASCII and UNDEFINED (TIFF 6.0, section 2): values that stay bytes."""

RGBA_BYTES: Final = 4
"""Pixels in YCbCr are converted by libtiff, except those of a JPEG."""

RAW_PHOTOMETRIC: Final = (32803, 34892)
"""Colour filter array and linear raw (TIFF/EP, ISO 12234-2; DNG 1.7)."""


def recognise(data: bytes) -> bool:
    """See Format."""
    return data.startswith(MAGICS) and data[8:10] != CANON_RAW


def open_tiff(data: bytes, memory_mb: int) -> ImageFile.ImageFile:
    """See Format.

    Raises UnsupportedImage for a camera's RAW file, whose first page is a tiny preview or a mosaic,
    and for compressions and kinds of samples that would be decoded wrongly or not at all.
    """
    if data.startswith(BIG_ENDIAN_BIGTIFF):
        raise UnsupportedImage(
            "Unsupported file type: a BigTIFF in big-endian byte order. "
            "Save it in little-endian byte order, or as a TIFF of less than 4 GB."
        )
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if data[2] == BIGTIFF else data[:8])
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
    kind = Kind.of(tags)
    if read_by_pillow(kind):
        return Tiff(io.BytesIO(data))
    if read_by_samples(kind):
        return SampledTiff(io.BytesIO(data))
    raise refuse(kind)


class Tiff(Page):
    """Pillow's reader of a TIFF, without its faults."""

    def _setup(self) -> None:
        """Prepare a page. Pillow calls this."""
        super()._setup()
        kind = Kind.of(self.tag_v2)
        subsampled = kind.photometric == YCBCR and self.tag_v2.get(SUBSAMPLING) != (1, 1)
        if kind.compression == RAW and (kind.planar or subsampled):
            # Pillow's own decoder takes every sample for a byte, and every pixel for whole.
            depth = ";16N" if kind.planar and kind.bits[0] == 16 else ""  # noqa: PLR2004 - bits
            self._mode = "RGB" if subsampled else self.mode
            self._decode_by_libtiff("RGBX" if subsampled else f"{self.mode}{depth}")
        elif kind.compression != RAW and self.mode in ("I", "F") and kind.order == b"MM":
            # libtiff gives samples in the machine's byte order.
            raw_mode = {"F": "F;32NF", "I": f"I;{kind.bits[0]}NS"}[self.mode]
            self._decode_by_libtiff(raw_mode)
        if self.palette is not None and max(self.tag_v2[COLOUR_MAP]) < 256:  # noqa: PLR2004
            # Some programs write 8 bits of a colour where the format has 16.
            self.palette = ImagePalette.raw("RGB;L", bytes(self.tag_v2[COLOUR_MAP]))

    def _decode_by_libtiff(self, raw_mode: str) -> None:
        self.use_load_libtiff = True
        box = (0, 0, *self._tile_size)
        arguments = (raw_mode, False, self.tag_v2.offset)
        self.tile = [ImageFile._Tile("libtiff", box, 0, arguments)]  # noqa: SLF001 - what tiles are


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


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, _decoded: PixelSize) -> float:
    """See Format: libtiff holds a strip or a tile whole, beside the picture and the tags.

    Once decoded, Pillow turns the picture upright, into another one.
    """
    file: Any = image
    tags = file.tag_v2
    if isinstance(image, SampledTiff):
        return tag_bytes(tags) + part_bytes(image) + image.decoding_bytes(data)
    turned = picture_bytes(image.size, stored_bytes(image.mode))
    return tag_bytes(tags) + max(
        part_bytes(image) if file.use_load_libtiff else 0.0,
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
    if tags.get(PHOTOMETRIC) == YCBCR and image.info["compression"] not in JPEGS:
        need += rows * width * RGBA_BYTES
    return float(need)


def call_seconds(image: ImageFile.ImageFile, _data: bytes) -> float:
    """See Format: libtiff decodes everything in one call, and knows many compressions."""
    file: Any = image
    return math.inf if file.use_load_libtiff else 0.0


def orientation(image: ImageFile.ImageFile) -> int:
    """See Format. Pillow turns its pictures upright itself, and leaves the tag as it is."""
    if not isinstance(image, SampledTiff):
        return UPRIGHT
    turned = image.tag_v2.get(ORIENTATION, UPRIGHT)
    return turned if isinstance(turned, int) else UPRIGHT


def decode(image: ImageFile.ImageFile, size: PixelSize, scale: int) -> tuple[Image.Image, Box]:
    """See Format. CMYK with alpha is scaled down here."""
    picture, box = whole(image, size, scale)
    alpha = image.info.get(ALPHA)
    if alpha is None:
        return picture, box
    return decode_inks(picture, alpha, size), (0, 0, *size)


FORMAT: Final = Format(
    name="TIFF",
    title="TIFF",
    recognise=recognise,
    open=open_tiff,
    decoder_bytes=decoder_bytes,
    call_seconds=call_seconds,
    orientation=orientation,
    decode=decode,
)
