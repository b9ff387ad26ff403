"""Pictures → WebP, still and animated."""

import io
import struct
from collections.abc import Sequence
from typing import Any, Final

from PIL import Image, ImageFile, WebPImagePlugin

METHOD: Final = 4
"""Effort of the encoder, 0 (fast) to 6 (small)."""
FAST_METHOD: Final = 2
"""Half the time of 4, for up to 4 % more bytes; and half the memory, as it keeps no tokens."""

LARGE_PIXELS: Final = 2_000_000
"""Beyond so many a picture is encoded with FAST_METHOD, as animations are."""

STAMP: Final = b"PROV"
"""Name of the chunk that tells thumbnails of different provenance apart."""


def size_of(head: bytes) -> tuple[int, int] | None:
    """Width and height in pixels that the first 30 bytes of a WebP tell, None if they do not."""
    # Private, but public is only to open it, canvas and all.
    return WebPImagePlugin._get_size(head[:30])  # noqa: SLF001


def still(image: ImageFile.ImageFile) -> Image.Image | None:
    """The pixels of a WebP that is not animated, without a further copy of them; else None.

    Pillow would keep the decoder with its two canvases meanwhile: 16 bytes a pixel at the peak,
    not 12. Raises EOFError for damaged pixels.
    """
    if getattr(image, "n_frames", 1) > 1:
        return None
    file: Any = image
    data, _, _ = file._get_next()  # noqa: SLF001
    file._decoder = None  # noqa: SLF001
    mode = file.rawmode
    return Image.frombuffer(mode, image.size, data, "raw", mode, 0, 1)


def encode(
    pictures: Sequence[Image.Image], quality: int, durations: Sequence[float], loop: int
) -> bytes:
    """One picture, or the frames of an animation, each RGB or premultiplied RGBa.

    `quality` is 1 to 100, `durations` are in ms, `loop` is how often they are played (0: for ever).
    """
    buffer = io.BytesIO()
    straight = [_straight(picture) for picture in pictures]
    first = straight[0]
    # What Image.save does, without its import of five decoders first.
    if len(straight) == 1:
        method = METHOD if first.width * first.height <= LARGE_PIXELS else FAST_METHOD
        first.encoderinfo = {"quality": quality, "method": method}
        Image.SAVE["WEBP"](first, buffer, "")
        return buffer.getvalue()
    first.encoderinfo = {
        "quality": quality,
        "method": FAST_METHOD,
        "append_images": straight[1:],
        "duration": list(durations),
        "loop": loop,
        "background": (0, 0, 0, 0),
    }
    Image.SAVE_ALL["WEBP"](first, buffer, "")
    return buffer.getvalue()


def _straight(picture: Image.Image) -> Image.Image:
    return picture.convert("RGBA") if picture.mode == "RGBa" else picture


def stamped(webp: bytes, stamp: bytes) -> bytes:
    """The same picture with `stamp` in a chunk of its own, which decoders pass over.

    Chunks of other names are allowed in the extended format, so a simple file becomes one
    (RFC 9649, 2.7).
    """
    chunks = webp[12:]
    if chunks[:4] != b"VP8X":
        width, height = _vp8_size(chunks)
        canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        chunks = _chunk(b"VP8X", bytes(4) + canvas) + chunks
    chunks += _chunk(STAMP, stamp)
    return b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WEBP" + chunks


def _chunk(name: bytes, payload: bytes) -> bytes:
    return name + len(payload).to_bytes(4, "little") + payload + bytes(len(payload) % 2)


def _vp8_size(chunk: bytes) -> tuple[int, int]:
    """Width and height of a lossy frame (RFC 6386, 9.1), in pixels."""
    width, height = struct.unpack_from("<HH", chunk, 14)
    return width & 0x3FFF, height & 0x3FFF
