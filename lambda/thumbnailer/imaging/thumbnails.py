"""Image bytes → thumbnails.

Every image takes the same path. It is decoded at the smallest scale that the largest thumbnail
allows (`decode`, `formats`, `estimate`), scaled to that thumbnail's size (`resize`), and converted
to upright sRGB (`colour`, `orientation`), frame by frame if it is animated (`animation`). Each
smaller thumbnail is made from the next larger one, and encoded (`encoders`). Expensive steps
work on the small picture, or on bands of the large one. ADR 1 has the measurements.
"""

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from PIL import Image, ImageFile

from thumbnailer.errors import CorruptImage, ImageTooLarge, PermanentError, UnsupportedImage
from thumbnailer.imaging import animation, formats, hard_limit, limits
from thumbnailer.imaging.colour import to_srgb
from thumbnailer.imaging.decode import check_supported, identify, open_image
from thumbnailer.imaging.encoders import ENCODERS
from thumbnailer.imaging.estimate import Stages, peak_bytes
from thumbnailer.imaging.formats import DECODER_ERRORS
from thumbnailer.imaging.formats.format import UPRIGHT, notes
from thumbnailer.imaging.limits import pixels
from thumbnailer.imaging.orientation import TRANSPOSE, swaps_sides
from thumbnailer.imaging.resize import (
    REDUCING_GAP,
    divided,
    factors,
    in_8_bits,
    resize,
    shrink,
)
from thumbnailer.imaging.spec import PixelSize, Size, ThumbnailSpec
from thumbnailer.imaging.time_limit import CHILD_MB, LongCall, alarm, in_child, refuse_long_call


class Thumbnail(NamedTuple):
    """An encoded thumbnail. `size` is its real size, at most that of the spec."""

    spec: ThumbnailSpec
    size: PixelSize
    data: bytes


class Made(NamedTuple):
    """The thumbnails of an image in the order of their specs, and what the image was.

    `format` is a name of `identify`; `size` is the size of the upright image. `notes` say, for the
    log, what could not be kept (a broken profile, an animation over the budget).
    """

    format: str
    size: PixelSize
    thumbnails: tuple[Thumbnail, ...]
    notes: tuple[str, ...] = ()


class _Geometry(NamedTuple):
    """How an image is turned, its size then, and the size of each thumbnail."""

    orientation: int
    upright: PixelSize
    fitted: tuple[PixelSize, ...]

    @classmethod
    def of(cls, size: PixelSize, orientation: int, specs: Sequence[ThumbnailSpec]) -> "_Geometry":
        upright = size[::-1] if swaps_sides(orientation) else size
        return cls(orientation, upright, tuple(_fitted(upright, spec) for spec in specs))

    @property
    def sizes(self) -> list[PixelSize]:
        """Sizes of the thumbnails, each once, the largest first."""
        return sorted(set(self.fitted), reverse=True)

    @property
    def largest_as_stored(self) -> PixelSize:
        """The largest thumbnail's size before the picture is turned upright."""
        largest = self.sizes[0]
        return largest[::-1] if swaps_sides(self.orientation) else largest


def make_thumbnails(
    data: bytes, specs: Sequence[ThumbnailSpec], memory_mb: int, seconds: float | None = None
) -> Made:
    """Make a thumbnail for every spec, in their order.

    Thumbnails are upright, in sRGB, without metadata; alpha is kept. They are never enlarged, and
    never higher than their format allows: such a thumbnail is narrower than its spec. `memory_mb`
    is the memory that the process may use; it bounds the pixels that are decoded. `seconds` is the
    time that it may take, of any length if None.

    Raises UnsupportedImage, CorruptImage, ImageTooLarge or ImageTooSlow.
    """
    if seconds is None:
        return _make(data, specs, memory_mb)
    began = time.monotonic()
    with suppress(LongCall), alarm(seconds):
        return _make(data, specs, memory_mb, seconds)
    spent = time.monotonic() - began
    return in_child(lambda: _make(data, specs, memory_mb, copied_mb=CHILD_MB), seconds, spent)


def _make(
    data: bytes,
    specs: Sequence[ThumbnailSpec],
    memory_mb: int,
    seconds: float = math.inf,
    copied_mb: int = 0,
) -> Made:
    """Make the thumbnails. Raises LongCall where one call may take long for `seconds`.

    `copied_mb` is the memory that the process needs beside its estimate.
    """
    with _pillow_limited_to(limits.max_pixels(memory_mb)), _decoder_errors_translated(data):
        if check_supported(data).needs_child:
            refuse_long_call(math.inf, memory_mb, seconds)
        image = open_image(data, memory_mb)
        file_format = formats.load(str(image.format))
        late = file_format.exif_follows_pixels
        orientation = UPRIGHT if late else file_format.orientation(image)
        geometry = _Geometry.of(image.size, orientation, specs)
        scale, need = _scale_and_need(image, data, geometry.largest_as_stored, specs)
        what = f"{image.format} of {image.size[0]} × {image.size[1]} pixels"
        limits.refuse_over(need + copied_mb * 1024**2, what, memory_mb)
        encoding = sum(
            pixels(size) * ENCODERS[spec.format].pixel_seconds
            for size, spec in zip(geometry.fitted, specs, strict=True)
        )
        refuse_long_call(file_format.call_seconds(image, data) + encoding, memory_mb, seconds)
        if late:
            # Loaded here and not by the search for EXIF. There, a damaged picture would pass for
            # broken EXIF, and a second attempt to load it would succeed with half the pixels.
            image.load()
            geometry = _Geometry.of(image.size, file_format.orientation(image), specs)
        _limit_pillow(pixels(image.size))  # no frame may be larger than the first
        if any(spec.animated for spec in specs) and animation.is_animated(image):
            available = (memory_mb - limits.BASE_MB) * 1024**2 - need
            pictures, durations, note = _decode_frames(image, geometry, available)
        else:
            fault = animation.show_first(image)
            picture, note = _decode_picture(image, geometry, scale)
            note = fault or note
            pictures, durations = [picture], [0.0]
        loop = animation.loops(image)
        faults = notes(image)
        del image  # its pixels are the largest part of the memory

        encoded = _encode_all(
            pictures, durations, loop, list(zip(geometry.fitted, specs, strict=True))
        )
    return Made(
        str(identify(data)),
        geometry.upright,
        tuple(
            Thumbnail(spec, size, data)
            for spec, size, data in zip(specs, geometry.fitted, encoded, strict=True)
        ),
        (*faults, note) if note else faults,
    )


def _encode_all(
    pictures: list[Image.Image],
    durations: list[float],
    loop: int,
    wanted: list[tuple[PixelSize, ThumbnailSpec]],
) -> list[bytes]:
    """Encode the frames at every size. Thumbnails that differ in their name alone share bytes."""
    encoded: dict[tuple[PixelSize, ThumbnailSpec], bytes] = {}
    for size, spec in sorted(wanted, key=lambda each: each[0], reverse=True):
        pictures = [resize(picture, size) for picture in pictures]
        if _encoding(size, spec) not in encoded:
            frames = len(pictures) if spec.animated else 1
            encoded[_encoding(size, spec)] = ENCODERS[spec.format].encode(
                pictures[:frames], spec, durations[:frames], loop
            )
    return [encoded[_encoding(size, spec)] for size, spec in wanted]


def _encoding(size: PixelSize, spec: ThumbnailSpec) -> tuple[PixelSize, ThumbnailSpec]:
    """Return what decides on a thumbnail's bytes: its real size, in place of the one asked for."""
    return size, spec._replace(size=Size.of_width(size[0]))


@contextmanager
def _pillow_limited_to(max_pixels: int) -> Iterator[None]:
    """Let Pillow refuse larger pictures wherever it checks, and silence its warnings.

    It warns of oddities that it can handle, and raises for everything else.
    """
    kept = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _limit_pillow(max_pixels)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = kept


def _limit_pillow(max_pixels: int) -> None:
    # Pillow warns of more than its limit, and refuses more than twice the limit.
    Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)


@contextmanager
def _decoder_errors_translated(data: bytes) -> Iterator[None]:
    """Translate what decoders raise to CorruptImage, or UnsupportedImage where they say so.

    A lack of memory is ImageTooLarge.
    """
    hard_limit.forget_failures()
    try:
        yield
    except MemoryError as error:
        raise ImageTooLarge(hard_limit.OUT_OF_MEMORY) from error
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(
            f"{identify(data)}: more pixels than the function's memory allows."
        ) from error
    except DECODER_ERRORS as error:
        if hard_limit.allocation_failed():
            raise ImageTooLarge(hard_limit.OUT_OF_MEMORY) from error
        raise _decoding_failed(str(identify(data)), error) from error


def _decoding_failed(name: str, error: Exception) -> PermanentError:
    """Say what is wrong with a file of this format, and what to do."""
    from thumbnailer.imaging import damage  # noqa: PLC0415 - damaged files only

    if damage.is_beyond_limits(error):
        return ImageTooLarge(
            f"{name}: larger, or of more parts, than the decoder reads "
            f"({str(error).rstrip('.')}). Upload a smaller image."
        )
    if damage.is_unsupported(error):
        return UnsupportedImage(
            f"Unsupported kind of {name}: {error}. Convert the image and upload it again."
        )
    return CorruptImage(f"{name}: {damage.describe(error)}. Upload the file again.")


def _scale_and_need(
    image: ImageFile.ImageFile,
    data: bytes,
    thumbnail: PixelSize,
    specs: Sequence[ThumbnailSpec],
) -> tuple[int, float]:
    """Return how far the decoder should scale down (1, 2, 4, …), and the memory needed (bytes)."""
    file_format = formats.load(str(image.format))
    scale = 1
    max_scale = file_format.max_scale(data)
    while scale < max_scale and _leaves_enough(image.size, thumbnail, 2 * scale):
        scale *= 2
    decoded = thumbnail if file_format.draws else divided(image.size, (scale, scale))
    reduced = divided(decoded, factors((0, 0, *decoded), thumbnail))
    encoders = [ENCODERS[name] for name in {spec.format for spec in specs}]
    need = peak_bytes(file_format, image, data, Stages(decoded, reduced, thumbnail), encoders)
    return scale, need


def _leaves_enough(size: PixelSize, thumbnail: PixelSize, scale: int) -> bool:
    """Whether `size` divided by `scale` is still large enough for a careful resize."""
    return all(
        side >= scale * round(least * REDUCING_GAP)
        for side, least in zip(size, thumbnail, strict=True)
    )


def _fitted(upright: PixelSize, spec: ThumbnailSpec) -> PixelSize:
    """Scale a size down to the spec's width, and to what its format allows."""
    max_side = ENCODERS[spec.format].max_side
    scale = min(1.0, spec.size.width / upright[0], max_side / upright[1])
    return max(1, round(upright[0] * scale)), max(1, round(upright[1] * scale))


def _decode_frames(
    image: ImageFile.ImageFile, geometry: _Geometry, available_bytes: float
) -> tuple[list[Image.Image], list[float], str | None]:
    """Decode all frames at the largest size, with their durations (ms).

    Where that is not possible, only the first frame is returned. The note says why.
    """
    expected = animation.frame_count(image)
    pictures: list[Image.Image] = []
    durations: list[float] = []
    note = fault = None
    alpha = False
    try:
        for frame, duration in animation.frames(image):
            picture, colour_note = _decode_picture(frame, geometry)
            note = note or colour_note
            pictures.append(picture)
            durations.append(duration)
            alpha = alpha or picture.mode == "RGBa"
            limit = animation.max_frames(image.size, geometry.sizes, available_bytes, alpha=alpha)
            if limit == 1 or max(expected or 0, len(pictures)) > limit:
                fault = (
                    f"{expected or 'too many'} frames of {image.size[0]} × {image.size[1]} pixels "
                    f"exceed the budget of {limit}"
                )
                break
    except (CorruptImage, Image.DecompressionBombError, *DECODER_ERRORS) as error:
        if not pictures:
            raise
        from thumbnailer.imaging import damage  # noqa: PLC0415 - damaged files only

        fault = damage.describe(error)
    if fault:
        return pictures[:1], durations[:1], f"only the first frame was kept: {fault}"
    return pictures, durations, note


def _decode_picture(
    image: ImageFile.ImageFile, geometry: _Geometry, scale: int = 1
) -> tuple[Image.Image, str | None]:
    """Return the upright picture in sRGB at the largest size, RGB or premultiplied RGBa.

    The decoder scales down by `scale` (1, 2, 4, …). The note says why the colour profile was
    ignored, if it was.
    """
    size = geometry.largest_as_stored
    pixels, box = formats.load(str(image.format)).decode(image, size, scale)
    small = in_8_bits(shrink(pixels, size, box), image)
    picture, note = to_srgb(small, image.info)
    if geometry.orientation in TRANSPOSE:
        picture = picture.transpose(TRANSPOSE[geometry.orientation])
    return picture, note
