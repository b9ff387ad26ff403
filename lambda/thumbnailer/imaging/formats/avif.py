"""AVIF, still and animated."""

import io
import math
import struct
from typing import Any, Final

from PIL import AvifImagePlugin, ImageFile

from thumbnailer.errors import ImageTooLarge, UnsupportedImage
from thumbnailer.imaging.cicp import from_nclx
from thumbnailer.imaging.formats import av1
from thumbnailer.imaging.formats.format import DECODER_ERRORS, Format
from thumbnailer.imaging.formats.isobmff import (
    AVIF_BRANDS,
    Boxes,
    CodePoints,
    boxes_of,
    brands,
    items_of_type,
    nclx,
    peak,
    plane_bytes,
    primary_item,
    properties_of_item,
    properties_of_track,
    streams,
    without_exif,
)
from thumbnailer.imaging.limits import OTHER_BYTES, pixels
from thumbnailer.imaging.spec import PixelSize
from thumbnailer.imaging.time_limit import FULL_CPU_MB

PIXEL_BYTES: Final = {"RGB": 8.2, "RGBA": 9.7}
"""For each pixel beside the decoder's planes: RGB, its copy, and Pillow's picture."""

LARGER_STREAM: Final = 1.25
"""What the planes of a picture cost that is larger than its container says: dav1d adds margins."""

MAX_SIDE: Final = 32_768
MAX_PIXELS: Final = 16_384**2
"""What libavif decodes at most (https://github.com/AOMediaCodec/libavif, avif.h:
AVIF_DEFAULT_IMAGE_DIMENSION_LIMIT and AVIF_DEFAULT_IMAGE_SIZE_LIMIT)."""

EVERY_CPU: Final = 0
"""Threads of Pillow's decoder by default: as many as there are CPUs (AvifImagePlugin)."""

SIZE: Final = b"ispe"
"""Property with the size of a picture (ISO/IEC 23008-12, 6.5.3)."""

NOT_CONVERTED: Final = "Reformat failed"
"""What libavif says of planes that it decoded and cannot convert to RGB."""

MATRIX_NAMES: Final[dict[int | None, str]] = {
    0: "RGB, with subsampled colour",
    3: "reserved",
    10: "BT.2020, constant luminance",
    11: "Y′D′zD′x",
    13: "constant luminance, derived from the primaries",
    14: "ICtCp",
    16: "YCgCo-Re, of another depth than 10 bits",
    17: "YCgCo-Ro, of another depth than 9 bits",
}
"""MatrixCoefficients (ITU-T H.273, table 4) that libavif cannot convert to RGB of 8 bits."""

BYTE_SECONDS: Final = 70e-9
PIXEL_SECONDS: Final = 100e-9
"""For each byte of the file and each pixel of a picture, of noise at quality 100 (measured)."""


def recognise(data: bytes) -> bool:
    """See Format."""
    return bool(brands(data) & AVIF_BRANDS)


class AvifFile(AvifImagePlugin.AvifImageFile):
    """Pillow's reader. `copied_bytes` is the size of a copy of the file that it reads from.

    `boxes` are those of the file, and `code_points` are what it says of its colour.
    """

    copied_bytes = 0
    boxes: Boxes
    code_points: CodePoints | None = None

    def load(self) -> Any:
        """Decode a frame. Raises UnsupportedImage for colours that libavif cannot convert."""
        try:
            return super().load()
        except RuntimeError as error:
            if NOT_CONVERTED not in str(error):
                raise
            raise _unsupported_colours(self.code_points) from error


def open_avif(data: bytes, memory_mb: int) -> ImageFile.ImageFile:
    """See Format. An ICC profile counts more than code points, as in browsers.

    With less than one CPU there is one thread: more would only cost (ADR 39). Pillow has no
    parameter for it.

    An Exif item that cannot be read is ignored: it is metadata.
    """
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1 if memory_mb < FULL_CPU_MB else EVERY_CPU
    boxes = boxes_of(data)
    image = _open(data, boxes)
    number = primary_item(data, boxes)
    properties = (
        properties_of_track(data, boxes)
        if image.is_animated
        else properties_of_item(data, boxes, number)
    )
    image.boxes = boxes
    image.code_points = nclx(data, properties) or _code_points_of_stream(data, boxes, number)
    if image.code_points and "icc_profile" not in image.info:
        numbers = from_nclx(*image.code_points, peak(data, properties))
        image.info |= {"cicp": numbers} if numbers else {}
    return image


def _open(data: bytes, boxes: Boxes) -> AvifFile:
    try:
        return AvifFile(io.BytesIO(data))
    except DECODER_ERRORS:
        _refuse_large(data, boxes)
        if (plain := without_exif(data, boxes)) is None:
            raise
    image = AvifFile(io.BytesIO(plain))
    image.copied_bytes = len(plain)
    return image


def _refuse_large(data: bytes, boxes: Boxes) -> None:
    """Raise ImageTooLarge where the size is what libavif refuses: it does not say so itself."""
    for each in properties_of_item(data, boxes, primary_item(data, boxes)):
        if each.name == SIZE and each.end >= each.start + 12:
            width, height = struct.unpack_from(">2I", data, each.start + 4)
            if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
                raise ImageTooLarge(
                    f"AVIF of {width} × {height} pixels: the decoder reads at most {MAX_SIDE:,} in "
                    f"one direction, and {MAX_PIXELS:,} in all."
                )


def _unsupported_colours(found: CodePoints | None) -> UnsupportedImage:
    number = found[2] if found else None
    name = MATRIX_NAMES.get(number, "unknown")
    return UnsupportedImage(
        f"Unsupported kind of AVIF: its matrix coefficients are {number} ({name}), which the "
        "decoder cannot convert to RGB. Save the picture in sRGB, or as a JPEG."
    )


def _code_points_of_stream(data: bytes, boxes: Boxes, number: int | None) -> CodePoints | None:
    """Return what the stream of an item says, or of what comes first; None where it does not."""
    items = (item for item in items_of_type(data, boxes, b"av01") if item.number == number)
    place = next((item.place for item in items), None)
    if place is None:
        place = next(streams(data, boxes), len(data))
    return av1.code_points(data[place : place + av1.HEADER_BYTES])


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, _decoded: PixelSize) -> float:
    """See Format."""
    rgb = PIXEL_BYTES.get(image.mode, PIXEL_BYTES["RGBA"])
    return pixels(image.size) * (rgb - OTHER_BYTES) + planes(image, data)


def held_bytes(image: ImageFile.ImageFile, data: bytes) -> float:
    """See Format: the decoder keeps its planes and a copy of the picture."""
    return pixels(image.size) * len(image.getbands()) + planes(image, data)


def call_seconds(image: ImageFile.ImageFile, data: bytes) -> float:
    """See Format: the whole picture is one call.

    Only a still picture whose streams are as simple as they usually are can be estimated.
    """
    boxes = _boxes(image)
    if b"moov" in boxes:
        return math.inf
    total = 0
    for item in items_of_type(data, boxes, b"av01"):
        if item.bytes is None:
            return math.inf
        stream = data[item.place : item.place + item.bytes if item.bytes else None]
        found = av1.sequence(stream)
        if found is None or not av1.is_one_frame(stream):
            return math.inf
        total += pixels(found.size)
    return total * PIXEL_SECONDS + len(data) * BYTE_SECONDS if total else math.inf


def planes(image: ImageFile.ImageFile, data: bytes) -> float:
    """Return the bytes of the decoder's planes: as the container and the streams say, the larger.

    The container may understate the size or the depth of what is in its streams.
    """
    found = {
        stream
        for place in streams(data, _boxes(image))
        if (stream := av1.sequence(data[place : place + av1.HEADER_BYTES]))
    }
    stated = pixels(image.size) * plane_bytes(data)
    largest = max((pixels(each.size) for each in found), default=0)
    if largest > pixels(image.size):  # scaled down afterwards, into other planes
        stated += LARGER_STREAM * largest * max(each.plane_bytes for each in found)
    deepest = pixels(image.size) * sum({each.plane_bytes for each in found})
    return max(stated, deepest)


def _boxes(image: ImageFile.ImageFile) -> Boxes:
    assert isinstance(image, AvifFile)  # noqa: S101 - open_avif made it
    return image.boxes


FORMAT: Final = Format(
    name="AVIF",
    title="AVIF",
    recognise=recognise,
    open=open_avif,
    decoder_bytes=decoder_bytes,
    held_bytes=held_bytes,
    call_seconds=call_seconds,
)
