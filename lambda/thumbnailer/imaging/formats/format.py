"""What the rest of the image code knows about an input format."""

import struct
import zlib
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from PIL import Image, ImageFile

from thumbnailer.imaging.orientation import TRANSPOSE
from thumbnailer.imaging.resize import Box
from thumbnailer.imaging.spec import PixelSize

DECODER_ERRORS: Final = (
    OSError,
    ValueError,
    SyntaxError,
    RuntimeError,
    EOFError,
    TypeError,
    KeyError,
    IndexError,
    ArithmeticError,
    AssertionError,
    struct.error,
    zlib.error,
)
"""What Pillow and pi-heif raise on damaged files, as fuzzing met it (`make fuzz`)."""

ORIENTATION_TAG: Final = 0x0112
"""EXIF Orientation (CIPA DC-008, 4.6.4)."""

UPRIGHT: Final = 1

UNCOVERED: Final = "uncovered"
"""Key of `Image.info` where the first frame of an animation leaves a part of the canvas empty, and
no colour of it is transparent."""

EXIF_HEADER: Final = b"Exif\0\0"
"""What JPEG writes before the EXIF data (CIPA DC-008, 4.7.2). Some programs write it twice."""

BYTE_ORDERS: Final[dict[bytes, Literal["little", "big"]]] = {b"II*\0": "little", b"MM\0*": "big"}
"""How EXIF begins: as a TIFF file (TIFF 6.0, section 2)."""

ENTRY_BYTES: Final = 12
"""A tag in a directory of TIFF: number, type, count and value (TIFF 6.0, section 2)."""

WHOLE_NUMBERS: Final = {3: 2, 4: 4}
"""Bytes of SHORT and LONG, by the number of the type."""


def exif_orientation(image: ImageFile.ImageFile) -> int:
    """Read EXIF Orientation, 1 to 8, from EXIF alone: not from XMP or text, as browsers do."""
    return orientation_tag(image.info.get("exif") or b"")


def orientation_tag(exif: bytes) -> int:
    """Read the Orientation of EXIF data, 1 to 8. Broken EXIF is common, and counts as upright.

    `exif` begins as a TIFF file does, or with EXIF_HEADER before that.
    """
    exif = exif.removeprefix(EXIF_HEADER).removeprefix(EXIF_HEADER)
    order = BYTE_ORDERS.get(exif[:4])
    if order is None:
        return UPRIGHT
    start = int.from_bytes(exif[4:8], order)
    count = int.from_bytes(exif[start : start + 2], order)
    for at in range(start + 2, min(start + 2 + count * ENTRY_BYTES, len(exif)), ENTRY_BYTES):
        if int.from_bytes(exif[at : at + 2], order) == ORIENTATION_TAG:
            width = WHOLE_NUMBERS.get(int.from_bytes(exif[at + 2 : at + 4], order), 0)
            value = int.from_bytes(exif[at + 8 : at + 8 + width], order)
            is_one = int.from_bytes(exif[at + 4 : at + 8], order) == 1
            return value if is_one and value in (UPRIGHT, *TRANSPOSE) else UPRIGHT
    return UPRIGHT


def notes(image: ImageFile.ImageFile) -> tuple[str, ...]:
    """Return what a format's reader has ignored of a damaged file, for the log."""
    return tuple(getattr(image, "notes", ()))


def copied_bytes(image: ImageFile.ImageFile) -> int:
    """Return the bytes of the copy of the file that a format's reader has corrected, or 0."""
    return int(getattr(image, "copied_bytes", 0))


def nothing_more(_image: ImageFile.ImageFile, _data: bytes, _decoded: PixelSize) -> float:
    """For decoders that need no memory beside the pixels."""
    return 0.0


def nothing_held(_image: ImageFile.ImageFile, _data: bytes) -> float:
    """For decoders that keep nothing once the pixels are there."""
    return 0.0


def no_long_call(_image: ImageFile.ImageFile, _data: bytes) -> float:
    """For decoders that get the file in pieces, or a frame at a time."""
    return 0.0


def cannot_scale(_data: bytes) -> int:
    """For decoders that give the whole picture only."""
    return 1


def gives_all(_image: ImageFile.ImageFile) -> bool:
    """For decoders that give the picture at its size, or at a scale."""
    return False


def whole(image: ImageFile.ImageFile, _size: PixelSize, _scale: int) -> tuple[Image.Image, Box]:
    """Decode the whole picture."""
    image.load()
    return image, (0, 0, *image.size)


class Format(NamedTuple):
    """An input format. All functions but the first two have a default that fits most formats.

    `name` is Pillow's name of the format, and the manifest's; `title` is for people.

    `recognise(data)` says whether a file begins like this format. `open(data, memory_mb)` reads
    its header and no pixel; it raises UnsupportedImage, ImageTooLarge, or one of DECODER_ERRORS.

    `decoder_bytes(image, data, decoded)` estimates what the decoder needs beside the pixels that it
    gives, whose size is `decoded`. `held_bytes(image, data)` is what it keeps after that. A copy of
    the file (`copied_bytes`) is not a part of either.

    With `needs_child`, a file is even opened in a child process: its decoder may crash, or take any
    time and memory (imaging/time_limit.py).

    `call_seconds(image, data)` estimates the CPU time in seconds that one call of the decoder may
    take: an upper limit, for what nothing but the end of the process can interrupt.

    `orientation(image)` is the EXIF orientation that still has to be applied.

    `max_scale(data)` is how far the decoder can scale down (1, 2, 4, …). `decode(image, size,
    scale)` decodes the picture at that scale, for a thumbnail of `size`; it returns the picture and
    the box in it that holds the whole image. With `draws`, it gives a picture of `size` itself, and
    there is no scale. Where `reduces(image)`, it gives a picture that is reduced already by what
    `resize.factors` returns, in a mode that can be averaged.
    """

    name: str
    title: str
    recognise: Callable[[bytes], bool]
    open: Callable[[bytes, int], ImageFile.ImageFile]
    decoder_bytes: Callable[[ImageFile.ImageFile, bytes, PixelSize], float] = nothing_more
    held_bytes: Callable[[ImageFile.ImageFile, bytes], float] = nothing_held
    needs_child: bool = False
    call_seconds: Callable[[ImageFile.ImageFile, bytes], float] = no_long_call
    orientation: Callable[[ImageFile.ImageFile], int] = exif_orientation
    max_scale: Callable[[bytes], int] = cannot_scale
    draws: bool = False
    reduces: Callable[[ImageFile.ImageFile], bool] = gives_all
    decode: Callable[[ImageFile.ImageFile, PixelSize, int], tuple[Image.Image, Box]] = whole
