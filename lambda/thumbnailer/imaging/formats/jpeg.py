"""JPEG, and the first picture of an MPO."""

import io
import math
from typing import Any, Final

from PIL import Image, ImageFile, JpegImagePlugin

from thumbnailer.imaging.formats.format import Format, whole
from thumbnailer.imaging.limits import pixels
from thumbnailer.imaging.resize import REDUCING_GAP, Box
from thumbnailer.imaging.spec import PixelSize

MAGIC: Final = b"\xff\xd8\xff"

MAX_SCALE: Final = 8
"""libjpeg-turbo decodes at 1/2, 1/4 and 1/8."""

PIXEL_BYTES: Final = 0.3
"""For each pixel of the file: libjpeg-turbo decodes strip by strip, at the scale asked for."""

COEFFICIENT_BYTES: Final = 2
"""For each sample of a JPEG with several scans, whose coefficients are all kept (jdcoefct.c)."""

START_OF_SCAN: Final = b"\xff\xda"
"""SOS (ITU T.81, B.2.3): this marker, the length, the number of components, two bytes for each, and
three bytes more."""


ARITHMETIC: Final = (b"\xff\xc9", b"\xff\xca")
"""SOF9 and SOF10 (ITU T.81, table B.1): entropy-coded by arithmetic, of which few bytes may cost
any time."""

BYTE_SECONDS: Final = 20e-9
BLOCK_SECONDS: Final = 6e-9
"""For each byte of entropy-coded data, and for each block of 8 × 8 samples in each scan: the least
that a scan without data takes (a picture of noise, and one of 2,000 empty scans, measured)."""

PIXEL_SECONDS: Final = 5e-9
BLOCK_PIXELS: Final = 64


def recognise(data: bytes) -> bool:
    """See Format."""
    return data.startswith(MAGIC)


def open_jpeg(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    # Fed whole, which copies nothing, a JPEG takes 1 % less CPU than in pieces of 64 KB.
    image.decodermaxblock = len(data)
    return image


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, _decoded: PixelSize) -> float:
    """See Format."""
    need = PIXEL_BYTES
    if has_several_scans(image, data):
        file: Any = image
        components = [(horizontal, vertical) for _, horizontal, vertical, _ in file.layer]
        largest = max(each[0] for each in components) * max(each[1] for each in components)
        samples = sum(horizontal * vertical for horizontal, vertical in components)
        need += COEFFICIENT_BYTES * samples / largest
    return pixels(image.size) * need


def call_seconds(image: ImageFile.ImageFile, data: bytes) -> float:
    """See Format: the whole picture is one call."""
    file: Any = image
    header = data[: file.fp.tell()]
    if any(marker in header for marker in ARITHMETIC):
        return math.inf
    scans = len(file.layer)
    if has_several_scans(image, data):
        # Within a scan's data, no marker can be found by accident. Those in metadata do not harm.
        scans = max(scans, data.count(START_OF_SCAN) * scans)
    blocks = pixels(image.size) / BLOCK_PIXELS * scans
    return len(data) * BYTE_SECONDS + blocks * BLOCK_SECONDS + pixels(image.size) * PIXEL_SECONDS


def has_several_scans(image: ImageFile.ImageFile, data: bytes) -> bool:
    """Whether the decoder must keep all coefficients: as libjpeg decides it (jdinput.c).

    The picture is progressive, or its first scan leaves components for further ones. The reader
    has stopped after the header of the first scan.
    """
    file: Any = image
    components = len(file.layer)
    header = START_OF_SCAN + bytes((0, 6 + 2 * components, components))
    start = file.fp.tell() - 2 * components - 8
    return "progressive" in image.info or data[start : start + len(header)] != header


def max_scale(_data: bytes) -> int:
    """See Format."""
    return MAX_SCALE


def decode(image: ImageFile.ImageFile, size: PixelSize, scale: int) -> tuple[Image.Image, Box]:
    """See Format.

    The box is fractional where the scaled size is. Without that the picture would shift.
    """
    wanted = (round(size[0] * REDUCING_GAP), round(size[1] * REDUCING_GAP))
    draft = image.draft(None, wanted)
    picture, box = whole(image, size, scale)
    return picture, draft[1] if draft else box


FORMAT: Final = Format(
    name="JPEG",
    title="JPEG",
    recognise=recognise,
    open=open_jpeg,
    decoder_bytes=decoder_bytes,
    call_seconds=call_seconds,
    max_scale=max_scale,
    decode=decode,
)
