"""Animated images: their complete frames in order, with their timing."""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Final

from PIL import ImageFile

from thumbnailer.errors import CorruptImage
from thumbnailer.imaging.formats import DECODER_ERRORS
from thumbnailer.imaging.limits import OTHER_BYTES, pixels
from thumbnailer.imaging.spec import PixelSize

MAX_FRAMES: Final = 500
"""An assumption: more than twenty seconds of animation is no thumbnail."""

MAX_DECODED_PIXELS: Final = 100_000_000
"""Of all frames together: 1 to 1.5 s of a whole CPU (10 to 14 ms a megapixel)."""

MAX_ENCODED_PIXELS: Final = 50_000_000
"""Of all frames of all thumbnails: 1 to 3 s of a whole CPU, so up to 12 s at 0.29 vCPU (20 to 70 ms
a megapixel)."""

CANVAS_BYTES: Final = 12
"""For each pixel of a frame: what the readers of GIF and PNG keep to compose the next one."""

FRAME_BYTES: Final = {False: 8.6, True: 11.7}
"""For each pixel of a thumbnail's frame, without and with alpha: the pixel, and its encoded bytes
three times (in the encoder, put together, and as the file). Measured with noise at quality 85."""

UNTIMED_MS: Final = 100
"""How long browsers show a frame whose duration is 0
(https://searchfox.org/mozilla-central/source/image/AnimationFrameBuffer.h)."""

MAX_FRAME_MS: Final = 0xFFFFFF
MAX_LOOPS: Final = 0xFFFF
"""Maxima of WebP's fields (RFC 9649, 2.7.1.1 and 2.7.1.2)."""

ENDLESS: Final = 0
"""WebP's loop count of an animation that never ends (RFC 9649, 2.7.1.1)."""


def is_animated(image: ImageFile.ImageFile) -> bool:
    """Whether there is more than one frame to show.

    Further pictures of an MPO or a HEIF and pages of a TIFF are not frames.
    """
    if image.format not in ("GIF", "PNG", "WEBP", "AVIF"):
        return False
    return bool(getattr(image, "is_animated", False)) and _first(image) + 1 != frame_count(image)


def show_first(image: ImageFile.ImageFile) -> str | None:
    """Go to the first frame: past the still with which an APNG may begin.

    Where the frame cannot be read, the still is kept, and it is returned why.
    """
    if first := _first(image):
        try:
            image.seek(first)
            image.load()
        except DECODER_ERRORS as error:
            image.seek(0)
            return f"only the still image was kept: {error or type(error).__name__}"
    return None


def frame_count(image: ImageFile.ImageFile) -> int | None:
    """Read the number of frames, the still of an APNG included, from the header; None for GIF.

    Counting the frames of a GIF would mean reading all of it.
    """
    return None if image.format == "GIF" else int(getattr(image, "n_frames", 1))


def frames(image: ImageFile.ImageFile) -> Iterator[tuple[ImageFile.ImageFile, float]]:
    """Yield each frame as it is shown, disposal and blending done, with its duration in ms.

    What is yielded is `image` itself: it holds the frame until the next one is requested.

    Raises CorruptImage where there are fewer frames than the header says.
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
                f"{image.format}: only {index} of {expected} frames can be read ({error})"
            ) from error
        image.load()
        duration = image.info.get("duration") or UNTIMED_MS
        yield image, min(duration, MAX_FRAME_MS)


def loops(image: ImageFile.ImageFile) -> int:
    """Return how often the animation is played, or ENDLESS.

    A GIF stores how often it is repeated; without that it is played once (as gif2webp reads it,
    https://github.com/webmproject/libwebp/blob/main/examples/gif2webp.c). Pillow does not report
    the loops of an AVIF: they count as endless, as most are.
    """
    found = image.info.get("loop")
    if image.format == "GIF":
        if found is None:
            return 1
        found = found + 1 if found else ENDLESS
    return min(int(found or ENDLESS), MAX_LOOPS)


def _first(image: ImageFile.ImageFile) -> int:
    """Skip the still with which an APNG may begin, for viewers that cannot show its frames."""
    return 1 if getattr(image, "default_image", False) else 0


def max_frames(
    canvas: PixelSize,
    thumbnails: Iterable[PixelSize],
    available_bytes: float,
    *,
    alpha: bool,
    sources: Iterable[PixelSize] = (),
) -> int:
    """Return how many frames the budget allows, at least 1.

    `canvas` is the size of a frame in the file, `thumbnails` are the sizes of its thumbnails, and
    `available_bytes` is the memory that the frames may use. `alpha` says whether the thumbnails
    have alpha. `sources` are the sizes of pictures that thumbnails are cut from, and that are kept
    without being encoded.
    """
    decoded = pixels(canvas)
    encoded = sum(map(pixels, thumbnails))
    frame_bytes = encoded * FRAME_BYTES[alpha] + sum(map(pixels, sources)) * OTHER_BYTES
    for_frames = available_bytes - decoded * CANVAS_BYTES
    return max(
        1,
        min(
            MAX_FRAMES,
            MAX_DECODED_PIXELS // decoded,
            MAX_ENCODED_PIXELS // encoded,
            int(for_frames // frame_bytes),
        ),
    )
