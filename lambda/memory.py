"""What an image needs in memory, estimated from its header before any pixel is decoded.

The figures were measured, format by format, with `python -m bench.memory`; tests/test_memory.py
holds the estimate to a real limit of memory.
"""

from typing import TYPE_CHECKING, Final

from errors import ImageTooLarge
from jpeg2000 import codestream

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

type Size = tuple[int, int]

BASE_MB: Final = 60
"""Resident memory of the function with Lambda's runtime client before it decodes anything."""

LARGEST_MB: Final = 10_240
"""The most memory that a Lambda function can have."""

STORED_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes of a pixel in Pillow's memory, by mode; the others have OTHER_BYTES."""
OTHER_BYTES: Final = 4

WORK_BYTES: Final = 12
"""For each pixel of a reduced picture: itself, converted, and half resized."""

THUMBNAIL_BYTES: Final = 16
"""For each pixel of the largest thumbnail: itself, without its premultiplied alpha, and in the
encoder."""

DECODER_BYTES: Final = {"WEBP": 16.2, "AVIF": 12.5, "HEIF": 9.5}
"""Peak for each pixel of the decoders that make the whole picture more than once."""

JPEG_BYTES: Final = 0.3
"""For each pixel of the file: libjpeg-turbo decodes strip by strip, at the scale asked for."""

COEFFICIENT_BYTES: Final = 2
"""For each sample of a progressive JPEG, whose coefficients are all kept (jdcoefct.c)."""

SAMPLE_BYTES: Final = 4
"""For each sample of a JPEG 2000 tile at the decoded scale: OpenJPEG works with 32-bit integers."""
BLOCK_BYTES: Final = 450
"""For each code block of a JPEG 2000 tile, whatever the scale (opj_tcd_init_tile)."""


def need(
    image: "ImageFile", data: bytes, *, decoded: Size, reduced: Size, thumbnail: Size
) -> float:
    """Bytes at the peak, beside the function's own.

    Sizes are (width, height) in pixels: `decoded` is what the decoder gives (less than the file's
    where it can scale), `reduced` what is left when bands of it are reduced, `thumbnail` the
    largest one.
    """
    stored = STORED_BYTES.get(image.mode, OTHER_BYTES)
    name = str(image.format)
    total: float = _pixels(reduced) * WORK_BYTES + _pixels(thumbnail) * THUMBNAIL_BYTES
    total += len(data)
    match name:
        case "JPEG":
            total += _pixels(image.size) * _jpeg_bytes(image) + _pixels(decoded) * stored
        case "JPEG2000":
            total += _pixels(decoded) * stored + _jpeg2000_bytes(image, decoded, data)
        case "TIFF":
            total += _pixels(decoded) * stored + _strip_bytes(image)
        case _:
            total += _pixels(decoded) * DECODER_BYTES.get(name, stored)
    return total


def refuse_over(need_bytes: float, what: str, memory_mb: int) -> None:
    """Raise ImageTooLarge, naming need, limit and what would do, where memory does not allow it."""
    need_mb = BASE_MB + need_bytes / 1024**2
    if need_mb > memory_mb:
        raise ImageTooLarge(
            f"{what} needs about {need_mb:.0f} MB to decode; the function has {memory_mb} MB. "
            + memory_advice(need_mb)
        )


def memory_advice(need_mb: float) -> str:
    """Which LambdaMemorySize would do for `need_mb` MB, if any."""
    if need_mb > LARGEST_MB:
        return "None would do"
    return f"LambdaMemorySize={max(need_mb, 128):.0f} would do"


def _pixels(size: Size) -> int:
    return size[0] * size[1]


def _jpeg_bytes(image: "ImageFile") -> float:
    if not image.info.get("progressive"):
        return JPEG_BYTES
    samples = [horizontal * vertical for _, horizontal, vertical, _ in image.layer]  # type: ignore[attr-defined]
    return float(JPEG_BYTES + COEFFICIENT_BYTES * sum(samples) / max(samples))


def _jpeg2000_bytes(image: "ImageFile", decoded: Size, data: bytes) -> float:
    stream = codestream(data)
    scale = image.size[0] / decoded[0]
    samples = min(_pixels(decoded), _pixels(stream.tile) / scale**2)
    return len(image.getbands()) * (samples * SAMPLE_BYTES + stream.blocks * BLOCK_BYTES)


ROWS_PER_STRIP: Final = 278
TILE_WIDTH, TILE_LENGTH = 322, 323
"""Tags of TIFF 6.0."""


def _strip_bytes(image: "ImageFile") -> float:
    """A strip or a row of tiles, which libtiff holds whole beside the picture."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    width, height = image.size
    rows = int(tags.get(TILE_LENGTH) or tags.get(ROWS_PER_STRIP) or height)
    return width * min(rows, height) * STORED_BYTES.get(image.mode, OTHER_BYTES)
