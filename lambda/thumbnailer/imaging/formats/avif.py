"""AVIF, still and animated."""

import io
import math
from typing import Final

from PIL import AvifImagePlugin, ImageFile

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

PIXEL_BYTES: Final = {"RGB": 8.2, "RGBA": 9.7}
"""For each pixel beside the decoder's planes: RGB, its copy, and Pillow's picture."""

LARGER_STREAM: Final = 1.25
"""What the planes of a picture cost that is larger than its container says: dav1d adds margins."""


BYTE_SECONDS: Final = 70e-9
PIXEL_SECONDS: Final = 100e-9
"""For each byte of the file and each pixel of a picture, of noise at quality 100 (measured)."""


def recognise(data: bytes) -> bool:
    """See Format."""
    return bool(brands(data) & AVIF_BRANDS)


class AvifFile(AvifImagePlugin.AvifImageFile):
    """Pillow's reader. `copied_bytes` is the size of a copy of the file that it reads from."""

    copied_bytes = 0


def open_avif(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format. An ICC profile counts more than code points, as in browsers.

    An Exif item that cannot be read is ignored: it is metadata.
    """
    image = _open(data)
    if "icc_profile" not in image.info:
        boxes = boxes_of(data)
        number = primary_item(data, boxes)
        properties = (
            properties_of_track(data, boxes)
            if image.is_animated
            else properties_of_item(data, boxes, number)
        )
        found = nclx(data, properties) or _code_points_of_stream(data, boxes, number)
        numbers = from_nclx(*found, peak(data, properties)) if found else None
        image.info |= {"cicp": numbers} if numbers else {}
    return image


def _open(data: bytes) -> AvifFile:
    try:
        return AvifFile(io.BytesIO(data))
    except DECODER_ERRORS:
        if (plain := without_exif(data)) is None:
            raise
    image = AvifFile(io.BytesIO(plain))
    image.copied_bytes = len(plain)
    return image


def _code_points_of_stream(data: bytes, boxes: Boxes, number: int | None) -> CodePoints | None:
    """Return what the stream of an item says, or of what comes first; None where it does not."""
    items = (item for item in items_of_type(data, boxes, b"av01") if item.number == number)
    place = next((item.place for item in items), None)
    if place is None:
        place = next(streams(data), len(data))
    return av1.code_points(data[place : place + av1.HEADER_BYTES])


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, _decoded: PixelSize) -> float:
    """See Format."""
    rgb = PIXEL_BYTES.get(image.mode, PIXEL_BYTES["RGBA"])
    copied = getattr(image, "copied_bytes", 0)
    return pixels(image.size) * (rgb - OTHER_BYTES) + planes(image, data) + copied


def held_bytes(image: ImageFile.ImageFile, data: bytes) -> float:
    """See Format: the decoder keeps its planes and a copy of the picture."""
    copied = getattr(image, "copied_bytes", 0)
    return pixels(image.size) * len(image.getbands()) + planes(image, data) + copied


def call_seconds(_image: ImageFile.ImageFile, data: bytes) -> float:
    """See Format: the whole picture is one call.

    Only a still picture whose streams are as simple as they usually are can be estimated.
    """
    boxes = boxes_of(data)
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
        for place in streams(data)
        if (stream := av1.sequence(data[place : place + av1.HEADER_BYTES]))
    }
    stated = pixels(image.size) * plane_bytes(data)
    largest = max((pixels(each.size) for each in found), default=0)
    if largest > pixels(image.size):  # scaled down afterwards, into other planes
        stated += LARGER_STREAM * largest * max(each.plane_bytes for each in found)
    deepest = pixels(image.size) * sum({each.plane_bytes for each in found})
    return max(stated, deepest)


FORMAT: Final = Format(
    name="AVIF",
    title="AVIF",
    recognise=recognise,
    open=open_avif,
    decoder_bytes=decoder_bytes,
    held_bytes=held_bytes,
    call_seconds=call_seconds,
)
