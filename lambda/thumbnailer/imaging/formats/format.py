"""What the rest of the image code knows about an input format."""

import struct
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

from PIL import Image, ImageFile

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


def exif_orientation(image: ImageFile.ImageFile) -> int:
    """Read EXIF Orientation, 1 to 8. Broken EXIF is common, and counts as upright."""
    try:
        return int(image.getexif().get(ORIENTATION_TAG, UPRIGHT))
    except DECODER_ERRORS:
        return UPRIGHT


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
    gives, whose size is `decoded`. `held_bytes(image, data)` is what it keeps after that.

    With `needs_child`, a file is even opened in a child process: its decoder may crash, or take any
    time and memory (imaging/time_limit.py).

    `call_seconds(image, data)` estimates the CPU time in seconds that one call of the decoder may
    take: an upper limit, for what nothing but the end of the process can interrupt.

    `orientation(image)` is the EXIF orientation that still has to be applied. With
    `exif_follows_pixels` it may be known only once the pixels are loaded.

    `max_scale(data)` is how far the decoder can scale down (1, 2, 4, …). `decode(image, size,
    scale)` decodes the picture at that scale, for a thumbnail of `size`; it returns the picture and
    the box in it that holds the whole image.
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
    exif_follows_pixels: bool = False
    max_scale: Callable[[bytes], int] = cannot_scale
    decode: Callable[[ImageFile.ImageFile, PixelSize, int], tuple[Image.Image, Box]] = whole
