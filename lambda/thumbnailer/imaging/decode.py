"""Files → images whose header is read, and no pixel yet."""

import io
import struct
from importlib import import_module
from typing import Final

from PIL import ImageFile, JpegImagePlugin  # noqa: F401 - most uploads: loaded at init, at full CPU

from thumbnailer.errors import CorruptImage, UnsupportedImage
from thumbnailer.imaging import limits
from thumbnailer.imaging.encoders import webp
from thumbnailer.imaging.sniff import DECODERS, describe, identify

type Size = tuple[int, int]

NEW_SUBFILE_TYPE, PHOTOMETRIC, MAKE, SUB_IFDS, DNG_VERSION = 254, 262, 271, 330, 50706
"""Tags of TIFF 6.0 and DNG 1.7."""
RAW_PHOTOMETRIC: Final = (32803, 34892)
"""Colour filter array and linear raw (TIFF/EP, ISO 12234-2; DNG 1.7)."""

PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"


def open_image(data: bytes, memory_mb: int) -> ImageFile.ImageFile:
    """The image of a file's first picture; `memory_mb` is what the function has.

    Raises UnsupportedImage for what is not decoded, CorruptImage for an empty file, ImageTooLarge
    where opening alone would need more, and what the decoder raises (`formats.DECODER_ERRORS`).
    """
    name = identify(data)
    if not data:
        raise CorruptImage("The file is empty")
    if name is None:
        raise UnsupportedImage(
            f"The file is {describe(data)} and begins {data[:8]!r}; "
            f"decoded are {', '.join(DECODERS)}"
        )
    if name == "WEBP" and (size := webp.size_of(data)):
        # Opening a WebP allocates its whole canvas.
        _refuse_bitmap(name, size, limits.webp_bytes(data), memory_mb)
    if name == "ICO":
        data = _icon(data, memory_mb)
        name = identify(data) or name
    if name == "TIFF":
        _refuse_raw(data)
    module_name, class_name = DECODERS[name]
    decoder = getattr(import_module(module_name), class_name)
    image: ImageFile.ImageFile = decoder(io.BytesIO(data))
    if name == "JPEG":
        # Fed whole, which is no copy of it, a JPEG takes 1 % less CPU than in pieces of 64 KB.
        image.decodermaxblock = len(data)
    if name == "PNG" and image.mode != "P" and "transparency" in image.info:
        image.info["transparency"] = _in_8_bits(image.info["transparency"], depth=data[24])
    return image


def _refuse_raw(data: bytes) -> None:
    """Raise UnsupportedImage for a camera's TIFF: its first page is a tiny preview, or a mosaic."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2  # noqa: PLC0415 - for TIFF only

    tags = ImageFileDirectory_v2(data[:16] if data[2:4] in (b"+\0", b"\0+") else data[:8])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    if (
        DNG_VERSION in tags
        or tags.get(PHOTOMETRIC) in RAW_PHOTOMETRIC
        or (tags.get(NEW_SUBFILE_TYPE) == 1 and SUB_IFDS in tags)
    ):
        maker = str(tags.get(MAKE, "of an unnamed camera")).strip("\0 ")
        raise UnsupportedImage(f"The file is a camera's RAW file ({maker}), in a TIFF")


def _icon(data: bytes, memory_mb: int) -> bytes:
    """The largest picture of an icon where that is a PNG file, else the icon as it is.

    Pillow would decode it at once, at the size that it claims itself.
    """
    from PIL.IcoImagePlugin import IcoFile  # noqa: PLC0415 - for icons only

    largest = IcoFile(io.BytesIO(data)).entry[0]
    picture = data[largest.offset :]
    if picture.startswith(PNG_MAGIC):
        return picture
    width, height = struct.unpack_from("<ii", picture, 4)
    # Height counts the mask too; the bitmap, with alpha, and its bytes.
    _refuse_bitmap("ICO", (abs(width), abs(height) // 2), 3 * limits.OTHER_BYTES, memory_mb)
    return data


def _refuse_bitmap(name: str, size: Size, pixel_bytes: float, memory_mb: int) -> None:
    what = f"{name} of {size[0]} × {size[1]} pixels"
    limits.refuse_over(size[0] * size[1] * pixel_bytes, what, memory_mb)


def _in_8_bits(key: int | tuple[int, ...], depth: int) -> int | tuple[int, ...]:
    """A PNG's transparent colour (tRNS), of `depth` bits a sample, as Pillow's pixels have it."""
    if isinstance(key, tuple):
        return tuple(sample >> 8 if depth == 16 else sample for sample in key)  # noqa: PLR2004
    match depth:
        case 16:
            return key >> 8
        case 2 | 4:
            return key * 255 // (2**depth - 1)
    return key  # of 8 bits, or of 1, which Pillow scales itself
