"""JPEG, progressive, without transparency."""

import io
from collections.abc import Sequence
from typing import Final

from PIL import Image, JpegImagePlugin

from thumbnailer.imaging.encoders.encoder import Encoder
from thumbnailer.imaging.resize import flattened
from thumbnailer.imaging.spec import MAX_SIDE, PixelSize, ThumbnailSpec

EFFORT: Final = {"progressive": True, "optimize": True}
"""Options of the encoder that change bytes, not pixels. ADR 41 compares them."""

PIXEL_BYTES: Final = {False: 10, True: 16}
"""Peak memory for each pixel, the picture included, without and with alpha, which is put on the
background. These are the maxima over noise (`make bench-memory`)."""

PIXEL_SECONDS: Final = 60e-9
"""Noise with alpha at quality 100 (measured)."""

START: Final = b"\xff\xd8"
COMMENT: Final = b"\xff\xfe"
END: Final = b"\xff\xd9"
"""SOI, COM and EOI (ITU-T T.81, table B.1)."""

FRAMES: Final = (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2")
"""SOF0 to SOF2, which have the size of the picture (T.81, B.2.2)."""


def encode(
    pictures: Sequence[Image.Image], spec: ThumbnailSpec, _durations: Sequence[float], _loop: int
) -> bytes:
    """Encode the first picture on the spec's background: see `Encoder`."""
    picture = flattened(pictures[0], spec.background)
    buffer = io.BytesIO()
    picture.encoderinfo = {
        "quality": spec.quality,
        "subsampling": "4:2:0",
        **EFFORT,
        "icc_profile": b"",
        "comment": b"",  # else the source's would be written
    }
    Image.SAVE["JPEG"](picture, buffer, "")
    return buffer.getvalue()


def memory_bytes(pixels: int, alpha: bool) -> float:  # noqa: FBT001 - see Encoder
    """Estimate the peak memory of encoding: see `Encoder`."""
    return float(pixels * PIXEL_BYTES[alpha])


def mark(data: bytes, mark: bytes) -> bytes:
    """Add the provenance mark as a comment directly before the end marker."""
    return data.removesuffix(END) + mark_ending(mark)


def mark_ending(mark: bytes) -> bytes:
    """Return the comment and the end marker that a marked file ends with."""
    return COMMENT + (2 + len(mark)).to_bytes(2) + mark + END


def open_jpeg(data: bytes) -> Image.Image:
    """Decode a thumbnail: see `Encoder`."""
    return JpegImagePlugin.JpegImageFile(io.BytesIO(data))


def size_of(head: bytes) -> PixelSize | None:
    """Read the size of a thumbnail from its first bytes: see `Encoder`."""
    at = len(START)
    while head.startswith(START) and at + 9 <= len(head):
        if head[at : at + 2] in FRAMES:
            return int.from_bytes(head[at + 7 : at + 9]), int.from_bytes(head[at + 5 : at + 7])
        at += 2 + int.from_bytes(head[at + 2 : at + 4])
    return None


ENCODER: Final = Encoder(
    content_type="image/jpeg",
    extension="jpeg",
    max_side=MAX_SIDE,
    animates=False,
    has_alpha=False,
    encode=encode,
    memory_bytes=memory_bytes,
    pixel_seconds=PIXEL_SECONDS,
    mark=mark,
    mark_ending=mark_ending,
    open=open_jpeg,
    size_of=size_of,
)
