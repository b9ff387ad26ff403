"""AVIF, still pictures only."""

import io
from collections.abc import Sequence
from typing import Final

from PIL import AvifImagePlugin, Image

from thumbnailer.imaging.encoders.encoder import Encoder
from thumbnailer.imaging.spec import MAX_SIDE, PixelSize, ThumbnailSpec

SPEED: Final = 8
"""Effort of the encoder, 0 (small) to 10 (fast). ADR 29 compares them."""

PIXEL_BYTES: Final = {False: 50, True: 60}
"""Peak memory for each pixel, the picture included, without and with alpha. These are the maxima
over noise (`make bench-memory`)."""

PIXEL_SECONDS: Final = 1400e-9
"""Noise with alpha at quality 85, which takes the longest (measured)."""

FREE: Final = b"free"
"""A box whose content readers ignore (ISO/IEC 14496-12, 8.1.2)."""

SIZE: Final = b"ispe"
"""Property with the size of a picture (ISO/IEC 23008-12, 6.5.3)."""


def encode(
    pictures: Sequence[Image.Image], spec: ThumbnailSpec, _durations: Sequence[float], _loop: int
) -> bytes:
    """Encode the first picture: see `Encoder`."""
    picture = pictures[0]
    if picture.mode == "RGBa":
        picture = picture.convert("RGBA")
    buffer = io.BytesIO()
    picture.encoderinfo = {
        "quality": spec.quality,
        "speed": SPEED,
        "subsampling": "4:4:4",
        "max_threads": 1,  # more would compete for the function's CPU, and change the bytes
        "autotiling": False,
        "icc_profile": b"",  # else the source's would be written
    }
    Image.SAVE["AVIF"](picture, buffer, "")
    return buffer.getvalue()


def memory_bytes(pixels: int, alpha: bool) -> float:  # noqa: FBT001 - see Encoder
    """Estimate the peak memory of encoding: see `Encoder`."""
    return float(pixels * PIXEL_BYTES[alpha])


def mark(data: bytes, mark: bytes) -> bytes:
    """Add the provenance mark as the last box. No offset in the file changes."""
    return data + mark_ending(mark)


def mark_ending(mark: bytes) -> bytes:
    """Return the box that a marked file ends with."""
    return (8 + len(mark)).to_bytes(4) + FREE + mark


def open_avif(data: bytes) -> Image.Image:
    """Decode a thumbnail: see `Encoder`."""
    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))


def size_of(head: bytes) -> PixelSize | None:
    """Read the size of a thumbnail from its first bytes: see `Encoder`."""
    at = head.find(SIZE)  # the encoder writes the picture's own size first
    size = head[at + 8 : at + 16]
    if head[4:8] != b"ftyp" or at < 0 or len(size) < 8:  # noqa: PLR2004
        return None
    return int.from_bytes(size[:4]), int.from_bytes(size[4:])


ENCODER: Final = Encoder(
    content_type="image/avif",
    extension="avif",
    max_side=MAX_SIDE,
    animates=False,
    has_alpha=True,
    encode=encode,
    memory_bytes=memory_bytes,
    pixel_seconds=PIXEL_SECONDS,
    mark=mark,
    mark_ending=mark_ending,
    open=open_avif,
    size_of=size_of,
)
