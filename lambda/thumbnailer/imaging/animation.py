"""Animated images: their frames, whole and in order, with their timing."""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Final

from PIL import ImageFile

from thumbnailer.errors import CorruptImage

type Size = tuple[int, int]

MAX_FRAMES: Final = 500

MAX_DECODED_PIXELS: Final = 100_000_000
"""Of all frames: 1 to 1.5 s of a whole CPU (10 to 14 ms a megapixel of GIF, WebP and AVIF)."""

MAX_ENCODED_PIXELS: Final = 50_000_000
"""Of all frames of all widths: 1 to 3 s of a whole CPU, so up to 12 s of 0.29 vCPU (20 to 70 ms a
megapixel)."""

CANVAS_BYTES: Final = 12
"""For each pixel of a frame: what GIF's and PNG's readers keep to compose the next one."""

FRAME_BYTES: Final = 5
"""For each pixel of a thumbnail's frame: itself, and what is encoded of it."""

UNTIMED_MS: Final = 100
"""How long browsers show a frame whose file says 0
(https://searchfox.org/mozilla-central/source/image/AnimationFrameBuffer.h)."""

MAX_FRAME_MS: Final = 0xFFFFFF
MAX_LOOPS: Final = 0xFFFF
"""Bounds of WebP's fields (RFC 9649, 2.7.1.1 and 2.7.1.2)."""

ENDLESS: Final = 0


def is_animated(image: ImageFile.ImageFile) -> bool:
    """Whether there is more than one frame to show.

    A MPO is read as a JPEG, further pages of a TIFF and pictures of a HEIF are no frames.
    """
    if image.format not in ("GIF", "PNG", "WEBP", "AVIF"):
        return False
    return bool(getattr(image, "is_animated", False)) and _first(image) + 1 != frame_count(image)


def frame_count(image: ImageFile.ImageFile) -> int | None:
    """How many frames the header tells, the still of an APNG included; None for GIF.

    To count a GIF's frames is to read all of it.
    """
    return None if image.format == "GIF" else int(getattr(image, "n_frames", 1))


def frames(image: ImageFile.ImageFile) -> Iterator[tuple[ImageFile.ImageFile, float]]:
    """Each frame as it is shown, disposal and blending done, with its duration in ms.

    What is yielded is `image` itself: it is the frame until the next one is asked for.

    Raises CorruptImage where fewer frames come than the header tells.
    """
    expected = frame_count(image)
    for index in count(_first(image)):
        if index == expected:
            return
        try:
            image.seek(index)
        except EOFError as error:
            if expected is None:
                return
            raise CorruptImage(
                f"{image.format}: {index} of {expected} frames are there ({error})"
            ) from error
        image.load()
        duration = image.info.get("duration") or UNTIMED_MS
        yield image, min(duration, MAX_FRAME_MS)


def loops(image: ImageFile.ImageFile) -> int:
    """How often it is played, ENDLESS for ever.

    A GIF tells how often it is repeated, and is played once where it tells nothing (so reads
    gif2webp, https://github.com/webmproject/libwebp/blob/main/examples/gif2webp.c). Pillow tells
    nothing of an AVIF's: they are taken for endless, as most are.
    """
    told = image.info.get("loop")
    if image.format == "GIF":
        if told is None:
            return 1
        told = told + 1 if told else ENDLESS
    return min(int(told or ENDLESS), MAX_LOOPS)


def _first(image: ImageFile.ImageFile) -> int:
    """An APNG may begin with a still for those who cannot show its frames."""
    return 1 if getattr(image, "default_image", False) else 0


def most_frames(canvas: Size, thumbnails: Iterable[Size], room: float) -> int:
    """How many frames the budget allows, at least 1.

    Sizes are (width, height) in pixels, of a frame in the file and of its thumbnails; `room` is
    the memory in bytes that may be used.
    """
    decoded = canvas[0] * canvas[1]
    encoded = sum(width * height for width, height in thumbnails)
    for_frames = room - decoded * CANVAS_BYTES
    return max(
        1,
        min(
            MAX_FRAMES,
            MAX_DECODED_PIXELS // decoded,
            MAX_ENCODED_PIXELS // encoded,
            int(for_frames // (encoded * FRAME_BYTES)),
        ),
    )
