"""What the rest of the image code knows about an output format."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from PIL import Image

from thumbnailer.imaging.spec import PixelSize, ThumbnailSpec

HEAD_BYTES: Final = 512
"""Bytes of a thumbnail that are enough to read its size."""


class Encoder(NamedTuple):
    """An output format.

    `max_side` is the most pixels that a picture may have in either direction. `animates` says
    whether the format has animations here, and `has_alpha` whether it has transparency.

    `encode(pictures, spec, durations, loop)` encodes one picture, or the frames of an animation; a
    format that does not animate encodes the first one. Each picture has its final size already. It
    is RGB or RGBA; the frames of an animation are RGB or premultiplied RGBa. `durations` are in
    milliseconds; `loop` is how often the frames are played (0: endlessly).

    `memory_bytes(pixels, alpha)` estimates the peak memory of encoding a picture of that many
    pixels, the picture itself included.

    `pixel_seconds` is the most CPU time in seconds that encoding takes for a pixel.

    `mark(data, mark)` adds the provenance mark (eight bytes) at the end of an encoded picture,
    where decoders ignore it. The marked file ends with `mark_ending(mark)`.

    `open(data)` decodes a thumbnail again. `size_of(head)` reads its size from its first
    HEAD_BYTES, or returns None.
    """

    content_type: str
    extension: str
    max_side: int
    animates: bool
    has_alpha: bool
    encode: Callable[[Sequence[Image.Image], ThumbnailSpec, Sequence[float], int], bytes]
    memory_bytes: Callable[[int, bool], float]
    pixel_seconds: float
    mark: Callable[[bytes, bytes], bytes]
    mark_ending: Callable[[bytes], bytes]
    open: Callable[[bytes], Image.Image]
    size_of: Callable[[bytes], PixelSize | None]
