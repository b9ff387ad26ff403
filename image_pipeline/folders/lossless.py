"""Thumbnails as they are before the loss of their encoder, for comparisons."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

from PIL import Image

from thumbnailer.imaging import ENCODERS, ThumbnailSpec

LOSSLESS: Final = "png"
"""Format of these thumbnails: one picture, RGBA."""


@contextmanager
def lossless_format() -> Iterator[None]:
    """Let specs name the format LOSSLESS for the block.

    It is not an output format: no setting can name it, and nothing is stored in it.
    """
    registry = cast("dict[str, Any]", ENCODERS)
    registry[LOSSLESS] = ENCODERS["webp"]._replace(encode=_encode)
    try:
        yield
    finally:
        del registry[LOSSLESS]


def _encode(
    pictures: Sequence[Image.Image], _spec: ThumbnailSpec, _durations: Sequence[float], _loop: int
) -> bytes:
    buffer = io.BytesIO()
    pictures[0].convert("RGBA").save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
