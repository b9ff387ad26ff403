"""Image bytes → thumbnails.

Every image takes the same path. It is decoded at the smallest scale that the thumbnails allow
(`decode`, `formats`, `estimate`), scaled to the largest size at which one of them needs it
(`resize`), and converted to upright sRGB (`colour`, `orientation`), frame by frame if it is
animated (`animation`). Each thumbnail is made from the smallest picture so far that shows all of
it, and encoded (`encoders`). Expensive steps work on the small picture, or on bands of the large
one. ADR 1 has the measurements, ADR 28 the crops.
"""

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from PIL import Image, ImageFile

from thumbnailer.errors import CorruptImage, ImageTooLarge, PermanentError, UnsupportedImage
from thumbnailer.imaging import animation, formats, hard_limit, lanczos, limits
from thumbnailer.imaging.colour import to_srgb
from thumbnailer.imaging.decode import check_supported, identify, open_image
from thumbnailer.imaging.encoders import ENCODERS
from thumbnailer.imaging.estimate import Encoding, Stages, peak_bytes
from thumbnailer.imaging.formats import DECODER_ERRORS
from thumbnailer.imaging.formats.format import notes
from thumbnailer.imaging.limits import picture_bytes, pixels
from thumbnailer.imaging.orientation import TRANSPOSE, swaps_sides
from thumbnailer.imaging.resize import (
    REDUCING_GAP,
    Box,
    Placement,
    contains,
    cut,
    divided,
    factors,
    in_8_bits,
    is_reduced,
    padded,
    place,
    rgba,
    shrink,
)
from thumbnailer.imaging.spec import CENTER, PixelSize, Point, Size, ThumbnailSpec
from thumbnailer.imaging.time_limit import CHILD_MB, LongCall, alarm, in_child, refuse_long_call


class Thumbnail(NamedTuple):
    """An encoded thumbnail. `size` is its real size.

    `frames` is the number of frames. `focus` is the middle of a crop in the upright picture, and
    None where nothing was cut off.
    """

    spec: ThumbnailSpec
    size: PixelSize
    data: bytes
    frames: int = 1
    focus: Point | None = None


class Made(NamedTuple):
    """The thumbnails of an image in the order of their specs, and what the image was.

    `format` is a name of `identify`; `size` is the size of the upright image. `notes` say, for the
    log, what could not be kept (a broken profile, an animation over the budget). `animated` says
    whether the image is an animation, and is None where no spec asks for one.
    """

    format: str
    size: PixelSize
    thumbnails: tuple[Thumbnail, ...]
    notes: tuple[str, ...] = ()
    animated: bool | None = None


class _Geometry(NamedTuple):
    """How an image is turned, its size then, and what each thumbnail shows of it."""

    orientation: int
    upright: PixelSize
    placements: tuple[Placement, ...]

    @classmethod
    def of(
        cls,
        size: PixelSize,
        orientation: int,
        specs: Sequence[ThumbnailSpec],
        focus: Point | None,
    ) -> "_Geometry":
        upright = size[::-1] if swaps_sides(orientation) else size
        return cls(
            orientation,
            upright,
            tuple(
                place(spec.size, upright, ENCODERS[spec.format].max_side, focus or CENTER)
                for spec in specs
            ),
        )

    @property
    def whole(self) -> PixelSize:
        """Size of the whole upright picture, at the largest scale that a thumbnail needs."""
        return (
            max(each.whole[0] for each in self.placements),
            max(each.whole[1] for each in self.placements),
        )

    @property
    def whole_as_stored(self) -> PixelSize:
        """The same before the picture is turned upright."""
        return self.whole[::-1] if swaps_sides(self.orientation) else self.whole

    def at_attention(self, specs: Sequence[ThumbnailSpec], picture: Image.Image) -> "_Geometry":
        """Move the crops whose rule it is to what attracts attention in the upright picture."""
        from thumbnailer.imaging import attention  # noqa: PLC0415 - few sizes ask for it

        salience = attention.salience(picture)
        width, height = self.upright
        moved = []
        for spec, placed in zip(specs, self.placements, strict=True):
            if spec.size.focus != "attention":
                moved.append(placed)
                continue
            left, upper, right, lower = placed.box
            focus = attention.focus(salience, ((right - left) / width, (lower - upper) / height))
            moved.append(place(spec.size, self.upright, ENCODERS[spec.format].max_side, focus))
        return self._replace(placements=tuple(moved))


class _Picture(NamedTuple):
    """The frames of a picture that shows `box` of the upright picture (pixels of the latter).

    `whole` is the size of the whole upright picture at the same scale.
    """

    box: Box
    whole: PixelSize
    frames: list[Image.Image]


def make_thumbnails(
    data: bytes,
    specs: Sequence[ThumbnailSpec],
    memory_mb: int,
    seconds: float | None = None,
    focus: Point | None = None,
) -> Made:
    """Make a thumbnail for every spec, in their order.

    Thumbnails are upright, in sRGB, without metadata; alpha is kept where the format has it. The
    picture is never enlarged, and never higher than the format allows: such a thumbnail is narrower
    than its spec. `memory_mb` is the memory that the process may use; it bounds the pixels that are
    decoded. `seconds` is the time that it may take, of any length if None. `focus` is what crops
    have in their middle, as far as the picture's edges allow; it replaces the rules of the sizes.

    Raises UnsupportedImage, CorruptImage, ImageTooLarge or ImageTooSlow.
    """
    if seconds is None:
        return _make(data, specs, memory_mb, focus)
    began = time.monotonic()
    with suppress(LongCall), alarm(seconds):
        return _make(data, specs, memory_mb, focus, seconds=seconds)
    spent = time.monotonic() - began
    return in_child(
        lambda: _make(data, specs, memory_mb, focus, copied_mb=CHILD_MB), seconds, spent
    )


def _make(  # noqa: PLR0913 - those of make_thumbnails, and one more
    data: bytes,
    specs: Sequence[ThumbnailSpec],
    memory_mb: int,
    focus: Point | None,
    *,
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
        geometry = _Geometry.of(image.size, file_format.orientation(image), specs, focus)
        scale, need = _scale_and_need(image, data, geometry, specs)
        what = f"{image.format} of {image.size[0]} × {image.size[1]} pixels"
        limits.refuse_over(need + copied_mb * 1024**2, what, memory_mb)
        encoding = sum(
            pixels(placed.canvas) * ENCODERS[spec.format].pixel_seconds
            for placed, spec in zip(geometry.placements, specs, strict=True)
        )
        refuse_long_call(file_format.call_seconds(image, data) + encoding, memory_mb, seconds)
        _limit_pillow(pixels(image.size))  # no frame may be larger than the first
        animated = animation.is_animated(image) if any(each.animated for each in specs) else None
        if animated and any(map(_animates, specs)):
            available = (memory_mb - limits.BASE_MB) * 1024**2 - need
            pictures, durations, note = _decode_frames(image, geometry, specs, available)
        else:
            fault = animation.show_first(image)
            picture, note = _decode_picture(image, geometry, scale)
            note = fault or note
            pictures, durations = [picture], [0.0]
        loop = animation.loops(image)
        faults = notes(image)
        del image  # its pixels are the largest part of the memory

        if focus is None and any(spec.size.focus == "attention" for spec in specs):
            geometry = geometry.at_attention(specs, pictures[0])
        encoded = _encode_all(pictures, durations, loop, geometry, specs)
    faults += lanczos.take_faults()
    found = (*faults, note) if note else faults
    return Made(str(identify(data)), geometry.upright, encoded, found, animated)


def _encode_all(
    frames: list[Image.Image],
    durations: list[float],
    loop: int,
    geometry: _Geometry,
    specs: Sequence[ThumbnailSpec],
) -> tuple[Thumbnail, ...]:
    """Make every thumbnail, the largest scale first. `frames` is emptied.

    Each is cut from the smallest picture that shows all of it and has its frames. A picture is kept
    until a smaller one shows as much. Thumbnails that differ in their name alone share bytes, and
    those that differ in their format alone share what is encoded.
    """
    everything = (0.0, 0.0, float(geometry.upright[0]), float(geometry.upright[1]))
    kept = [_Picture(everything, geometry.whole, frames.copy())]
    frames.clear()  # the caller would keep the largest ones until the end
    encoded: dict[tuple[Placement, ThumbnailSpec], bytes] = {}
    prepared: dict[tuple[Placement, int, str | None], list[Image.Image]] = {}
    wanted = list(zip(geometry.placements, specs, strict=True))
    for placed, spec in sorted(wanted, key=lambda each: each[0].whole, reverse=True):
        count = len(durations) if _animates(spec) else 1
        shown = (placed, count, spec.background if spec.size.fit == "pad" else None)
        if shown not in prepared:
            prepared.clear()  # frees the last one before the next picture is made
        source = min(
            (each for each in kept if _serves(each, placed.box, count)),
            key=lambda each: pixels(each.whole),
        )
        made = _Picture(
            placed.box,
            placed.whole,
            [cut(each, source.box, placed.box, placed.size) for each in source.frames[:count]],
        )
        kept = [each for each in kept if not _serves(made, each.box, len(each.frames))]
        del source
        kept.append(made)
        if (placed, _bytes_of(spec)) not in encoded:
            if shown not in prepared:
                prepared[shown] = _prepared(made.frames, placed, spec)
            encoded[placed, _bytes_of(spec)] = ENCODERS[spec.format].encode(
                prepared[shown], spec, durations[:count], loop
            )
    return tuple(
        Thumbnail(
            spec,
            placed.canvas,
            encoded[placed, _bytes_of(spec)],
            len(durations) if _animates(spec) else 1,
            None if placed.box == everything else _middle(placed.box, geometry.upright),
        )
        for placed, spec in wanted
    )


def _prepared(
    frames: list[Image.Image], placed: Placement, spec: ThumbnailSpec
) -> list[Image.Image]:
    """Return what the encoders of all formats get: padded, or with straight alpha.

    The frames of an animation stay premultiplied: its encoder converts one at a time.
    """
    if spec.size.fit == "pad":
        return [padded(each, placed.canvas, spec.background) for each in frames]
    if len(frames) == 1 and frames[0].mode == "RGBa":
        return [rgba(frames[0])]
    return frames


def _animates(spec: ThumbnailSpec) -> bool:
    return spec.animated and ENCODERS[spec.format].animates


def _serves(picture: _Picture, box: Box, frames: int) -> bool:
    """Whether a picture shows all of `box`, in at least as many frames."""
    return len(picture.frames) >= frames and contains(picture.box, box)


def _bytes_of(spec: ThumbnailSpec) -> ThumbnailSpec:
    """Return what decides on a thumbnail's bytes, beside what it shows: not its size's name."""
    return spec._replace(size=Size("", 0, fit=spec.size.fit))


def _middle(box: Box, upright: PixelSize) -> Point:
    return (box[0] + box[2]) / 2 / upright[0], (box[1] + box[3]) / 2 / upright[1]


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
            f"{identify(data)}: more pixels than the available memory allows."
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
    image: ImageFile.ImageFile, data: bytes, geometry: _Geometry, specs: Sequence[ThumbnailSpec]
) -> tuple[int, float]:
    """Return how far the decoder should scale down (1, 2, 4, …), and the memory needed (bytes)."""
    file_format = formats.load(str(image.format))
    thumbnail = geometry.whole_as_stored
    scale = 1
    max_scale = file_format.max_scale(data)
    while scale < max_scale and _leaves_enough(image.size, thumbnail, 2 * scale):
        scale *= 2
    decoded = thumbnail if file_format.draws else divided(image.size, (scale, scale))
    reduced = decoded
    if file_format.reduces(image) or is_reduced(image):
        reduced = divided(decoded, factors((0, 0, *decoded), thumbnail))
    if file_format.reduces(image):
        decoded = reduced
    stages = Stages(decoded, reduced, thumbnail)
    need = peak_bytes(file_format, image, data, stages, _encodings(geometry, specs))
    return scale, need


def _encodings(geometry: _Geometry, specs: Sequence[ThumbnailSpec]) -> list[Encoding]:
    """List what is encoded, with the memory of the pictures that are kept beside.

    A whole picture replaces its source. A crop does not, and padding needs a picture of its own.
    """
    sizes = {geometry.whole, *(each.size for each in geometry.placements)}
    crops = any(each.size != each.whole for each in geometry.placements)
    kept = sum(map(picture_bytes, sizes)) if crops else 0.0
    return [
        Encoding(
            ENCODERS[spec.format],
            pixels(placed.canvas),
            kept + (picture_bytes(placed.size) if placed.canvas != placed.size else 0.0),
        )
        for placed, spec in zip(geometry.placements, specs, strict=True)
    ]


def _leaves_enough(size: PixelSize, thumbnail: PixelSize, scale: int) -> bool:
    """Whether `size` divided by `scale` is still large enough for a careful resize."""
    return all(
        side >= scale * round(least * REDUCING_GAP)
        for side, least in zip(size, thumbnail, strict=True)
    )


def _decode_frames(
    image: ImageFile.ImageFile,
    geometry: _Geometry,
    specs: Sequence[ThumbnailSpec],
    available_bytes: float,
) -> tuple[list[Image.Image], list[float], str | None]:
    """Decode all frames at the largest scale, with their durations (ms).

    Where that is not possible, only the first frame is returned. The note says why.
    """
    animated = {
        placed for placed, spec in zip(geometry.placements, specs, strict=True) if _animates(spec)
    }
    sizes = [each.canvas for each in animated]
    sources = [geometry.whole] if all(each.size != geometry.whole for each in animated) else []
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
            limit = animation.max_frames(
                image.size, sizes, available_bytes, alpha=alpha, sources=sources
            )
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
    """Return the upright picture in sRGB at the largest scale, RGB or premultiplied RGBa.

    The decoder scales down by `scale` (1, 2, 4, …). The note says why the colour profile was
    ignored, if it was.
    """
    size = geometry.whole_as_stored
    pixels, box = formats.load(str(image.format)).decode(image, size, scale)
    small = in_8_bits(shrink(pixels, size, box), image)
    picture, note = to_srgb(small, image.info)
    if geometry.orientation in TRANSPOSE:
        picture = picture.transpose(TRANSPOSE[geometry.orientation])
    return picture, note
