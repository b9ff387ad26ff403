"""Image bytes → WebP thumbnails. Knows no AWS.

One path for all: decode at the smallest scale that the largest width allows (opening, memory),
resize to it (reduction), bring that to upright sRGB (colour), for each frame (animation), and make
each smaller width from the one before (webp). Whatever is costly happens on the small picture, or
on bands of the large one. The recipe and its figures come from a measured
comparison with libvips and sharp: JPEG draft mode, its fractional source box, and a reducing gap
of 1.3.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from PIL import Image, ImageFile

from thumbnailer.errors import CorruptImage, ImageTooLarge
from thumbnailer.imaging import animation, limits
from thumbnailer.imaging.colour import to_srgb
from thumbnailer.imaging.decode import open_image
from thumbnailer.imaging.encoders import webp
from thumbnailer.imaging.formats.jpeg2000 import codestream
from thumbnailer.imaging.resize import (
    REDUCING_GAP,
    Box,
    factors,
    in_8_bits_a_sample,
    resized,
    shrunk,
)
from thumbnailer.imaging.sniff import DECODER_ERRORS, identify
from thumbnailer.settings import WEBP_MAX_SIDE

type Size = tuple[int, int]
ORIENTATION_TAG: Final = 0x0112
"""EXIF Orientation (CIPA DC-008, 4.6.4)."""

UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what makes it upright."""

SWAPPING: Final = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)
"""What turns a lying picture into a standing one."""


class Thumbnail(NamedTuple):
    """A WebP picture: `width` is the one asked for, `size` the real (width, height) in pixels."""

    width: int
    size: Size
    data: bytes


class Made(NamedTuple):
    """What became of an image: its thumbnails in the order of the widths, and what it was.

    `format` is a key of DECODERS, `size` the upright image's (width, height) in pixels; `notes`
    say, for the log, what could not be kept (a broken profile, an animation over the budget).
    """

    format: str
    size: Size
    thumbnails: tuple[Thumbnail, ...]
    notes: tuple[str, ...] = ()


class _Geometry(NamedTuple):
    """Where an image goes: how it is turned, how large it is then, and to which sizes it is made.

    `fitted` has the size of each width.
    """

    transpose: Image.Transpose | None
    upright: Size
    fitted: dict[int, Size]

    @classmethod
    def of(cls, size: Size, orientation: int, widths: Sequence[int]) -> "_Geometry":
        transpose = UPRIGHT.get(orientation)
        upright = size[::-1] if transpose in SWAPPING else size
        fitted = {width: _fitted(upright, width) for width in widths}
        return cls(transpose, upright, fitted)

    @property
    def sizes(self) -> list[Size]:
        """Of the thumbnails, each once, the largest first."""
        return sorted(set(self.fitted.values()), reverse=True)

    @property
    def lying(self) -> Size:
        """The largest size, as the file has it."""
        largest = self.sizes[0]
        return largest[::-1] if self.transpose in SWAPPING else largest


def make_thumbnails(
    data: bytes,
    widths: Sequence[int],
    quality: int,
    memory_mb: int,
    *,
    animated: bool = True,
) -> Made:
    """Make a thumbnail of every width (pixels), in their order.

    Upright, sRGB, without metadata, alpha kept; of what is animated, animated too where
    `animated` is set and the budget (see `animation`) allows, else the first frame. Never
    enlarged, and never higher than WebP allows: the picture is then narrower than its width says.
    `quality` is WebP's, 1 to 100; `memory_mb` is what the function has: it bounds the pixels that
    are decoded.

    Raises UnsupportedImage, CorruptImage or ImageTooLarge.
    """
    with _pillow(limits.most_pixels(memory_mb)), _translated(data):
        image = open_image(data, memory_mb)
        # A PNG's orientation may stand behind its pixels: to look for it loads them.
        is_png = image.format == "PNG"
        geometry = _Geometry.of(image.size, 1 if is_png else _orientation(image), widths)
        scale, need = _check_need(image, data, geometry.lying, memory_mb)
        if is_png:
            # Not left to the search for EXIF: there a failure would pass for broken EXIF, and
            # loading again would then succeed with half a picture.
            image.load()
            geometry = _Geometry.of(image.size, _orientation(image), widths)
        _limit(image.size[0] * image.size[1])  # frames may not outgrow their canvas
        if animated and animation.is_animated(image):
            room = (memory_mb - limits.BASE_MB) * 1024**2 - need
            pictures, durations, note = _frames(image, geometry, room)
        else:
            picture, note = _picture(image, geometry, scale)
            pictures, durations = [picture], [0.0]
        loop = animation.loops(image)
        del image  # its pixels: the largest part of all

        encoded: dict[Size, bytes] = {}
        for size in geometry.sizes:
            pictures = [resized(picture, size) for picture in pictures]
            encoded[size] = webp.encode(pictures, quality, durations, loop)
    return Made(
        str(identify(data)),
        geometry.upright,
        tuple(Thumbnail(width, size, encoded[size]) for width, size in geometry.fitted.items()),
        (note,) if note else (),
    )


@contextmanager
def _pillow(most_pixels: int) -> Iterator[None]:
    """Have Pillow refuse more pixels, where it looks, and keep its warnings to itself.

    It warns of oddities that it copes with; what it cannot cope with it raises.
    """
    kept = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _limit(most_pixels)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = kept


def _limit(pixels: int) -> None:
    # Pillow warns of more than its limit, and refuses more than twice as many.
    Image.MAX_IMAGE_PIXELS = -(-pixels // 2)


@contextmanager
def _translated(data: bytes) -> Iterator[None]:
    """Turn what Pillow raises of a file into CorruptImage, and a lack of memory into its own."""
    try:
        yield
    except MemoryError as error:
        raise ImageTooLarge("Memory ran out while the image was decoded") from error
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(f"{identify(data)}: {error}") from error
    except DECODER_ERRORS as error:
        raise CorruptImage(f"{identify(data)}: {error or type(error).__name__}") from error


def _check_need(
    image: ImageFile.ImageFile, data: bytes, thumbnail: Size, memory_mb: int
) -> tuple[int, float]:
    """By how much the decoder is to scale down (1, 2, 4, …), and the memory needed (bytes).

    Raises ImageTooLarge.
    """
    scale = 1
    if image.format in ("JPEG", "JPEG2000"):
        most = 8 if image.format == "JPEG" else 2 ** codestream(data).levels
        while scale < most and _fits(image.size, thumbnail, 2 * scale):
            scale *= 2
    decoded = _divided(image.size, scale)
    by = factors((0, 0, *decoded), thumbnail)
    reduced = (-(-decoded[0] // by[0]), -(-decoded[1] // by[1]))
    need = limits.need(image, data, decoded=decoded, reduced=reduced, thumbnail=thumbnail)
    what = f"{image.format} of {image.size[0]} × {image.size[1]} pixels"
    limits.refuse_over(need, what, memory_mb)
    return scale, need


def _fits(size: Size, thumbnail: Size, scale: int) -> bool:
    """Whether `size` divided by `scale` leaves enough for a careful resize."""
    return all(
        side >= scale * round(least * REDUCING_GAP)
        for side, least in zip(size, thumbnail, strict=True)
    )


def _orientation(image: ImageFile.ImageFile) -> int:
    if image.format == "TIFF":
        return 1  # Pillow turns these itself, and leaves the tag; pi-heif turns HEIC and resets it
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except DECODER_ERRORS:
        return 1  # broken EXIF is common, and no reason to lose the picture


def _fitted(size: Size, width: int) -> Size:
    """`size` scaled down to `width`, never up, and within what WebP can hold."""
    scale = min(1.0, width / size[0], WEBP_MAX_SIDE / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _frames(
    image: ImageFile.ImageFile, geometry: _Geometry, room: float
) -> tuple[list[Image.Image], list[float], str | None]:
    """All frames at the largest size with their durations (ms), or the first one, and why.

    `room` is the memory in bytes that they may take.
    """
    most = animation.most_frames(image.size, geometry.sizes, room)
    told = animation.frame_count(image)
    pictures: list[Image.Image] = []
    durations: list[float] = []
    note = fault = None
    too_many = most == 1 or (told is not None and told > most)
    try:
        for frame, duration in animation.frames(image):
            picture, left_out = _picture(frame, geometry)
            note = note or left_out
            pictures.append(picture)
            durations.append(duration)
            if too_many or len(pictures) > most:
                fault = f"{told or 'more'} frames are over the budget, which allows {most} of "
                fault += f"{image.size[0]} × {image.size[1]} pixels"
                break
    except (CorruptImage, Image.DecompressionBombError, *DECODER_ERRORS) as error:
        if not pictures:
            raise
        fault = str(error) or type(error).__name__
    if fault:
        return pictures[:1], durations[:1], f"the first frame stands for all: {fault}"
    return pictures, durations, note


def _picture(
    image: ImageFile.ImageFile, geometry: _Geometry, scale: int = 1
) -> tuple[Image.Image, str | None]:
    """The upright picture in sRGB at the largest size, RGB or premultiplied RGBa.

    `scale` is by how much the decoder scales down (1, 2, 4, …). Also says why the colour profile
    was left out, if so.
    """
    size = geometry.lying
    box: Box = (0, 0, *image.size)
    if image.format == "JPEG":
        # The box is fractional where the scaled size is: without it the picture shifts.
        want = (round(size[0] * REDUCING_GAP), round(size[1] * REDUCING_GAP))
        draft = image.draft(None, want)
        box = draft[1] if draft else box
    elif image.format == "JPEG2000" and scale > 1:
        box = (0, 0, image.size[0] / scale, image.size[1] / scale)
        _reduce_jpeg2000(image, scale)
    pixels = webp.still(image) if image.format == "WEBP" else None
    if pixels is None:
        image.load()
    small = in_8_bits_a_sample(shrunk(pixels or image, size, box), image)
    picture, note = to_srgb(small, image.info.get("icc_profile"))
    if geometry.transpose is not None:
        picture = picture.transpose(geometry.transpose)
    return picture, note


def _reduce_jpeg2000(image: ImageFile.ImageFile, scale: int) -> None:
    """Have a JPEG 2000 decoded at a lower resolution.

    Pillow's own `reduce` rounds the size, where the standard's is rounded up (B.5), and then fails.
    """
    image._size = _divided(image.size, scale)  # noqa: SLF001 - Pillow's own way to resize a file
    tile = image.tile[0]
    assert isinstance(tile.args, tuple)  # noqa: S101 - of this decoder they are
    codec, _, *others = tile.args
    args = (codec, scale.bit_length() - 1, *others)
    image.tile = [tile._replace(extents=(0, 0, *image.size), args=args)]


def _divided(size: Size, by: int) -> Size:
    return -(-size[0] // by), -(-size[1] // by)
