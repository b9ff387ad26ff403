"""Decoded images → small pictures, whole or cropped.

Samples are averaged in a mode that allows it: no palette, premultiplied alpha. No second picture of
full size is made on the way.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from PIL import Image

from thumbnailer.imaging.lanczos import is_fast, lanczos
from thumbnailer.imaging.spec import CENTER, PixelSize, Point, Size

type Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge in pixels, fractions allowed."""

REDUCING_GAP: Final = 1.3
"""How much larger than the target a JPEG is decoded, at least, for the careful resize (ADR 1).
Where Pillow resizes, it averages pictures to no less than that first."""

WHOLE_GAP: Final = 2.0
"""The same for a picture that is decoded whole, where it is reduced at all (`is_reduced`). The
better resize costs little beside the decoding: 1 % of a PNG's time, 14 % of a TIFF's. It scores 1.2
to 2.4 more (SSIMULACRA 2) than a gap of 1.3 (`make bench-engine`)."""

BAND_PIXELS: Final = 512 * 1024
"""Pixels that are converted at a time, or one row of more: few enough for the CPU's cache."""

BAND_BYTES: Final = 12
"""For each pixel of a band of rows that is converted: the pixel itself, and RGBA on the way."""

PART_COLUMNS: Final = 256
"""Columns of a band whose alpha is checked together."""


def resize(picture: Image.Image, size: PixelSize) -> Image.Image:
    """Scale a picture, RGB or premultiplied RGBa, down to `size`."""
    if picture.size == size:
        return picture
    return lanczos(picture, size, None, REDUCING_GAP)


class Placement(NamedTuple):
    """What a thumbnail shows, and how large.

    `box` is the shown part of the upright picture, in its pixels. `size` is the size of that part
    in the thumbnail, and `canvas` the thumbnail's own: it is larger where there is padding. `whole`
    is the size of the whole upright picture at the same scale.
    """

    box: Box
    size: PixelSize
    canvas: PixelSize
    whole: PixelSize


def place(size: Size, upright: PixelSize, max_side: int, focus: Point = CENTER) -> Placement:
    """Place a picture whose upright size is `upright` in a thumbnail. It is never enlarged.

    A crop has `focus` in its middle, as far as the picture's edges allow. Where the picture is
    smaller than the shape, a crop has the shape's ratio, at the picture's own size. Without a
    height, no side is longer than `max_side`.
    """
    width, height = upright
    everything = (0.0, 0.0, float(width), float(height))
    if size.height is None:
        fitted = _scaled(upright, min(1.0, size.width / width, max_side / height))
        return Placement(everything, fitted, fitted, fitted)
    shape = (size.width, size.height)
    if size.fit != "cover":
        fitted = _scaled(upright, min(1.0, size.width / width, size.height / height))
        return Placement(everything, fitted, shape if size.fit == "pad" else fitted, fitted)
    cropped = _scaled(shape, min(1.0, width / size.width, height / size.height))
    scale = max(cropped[0] / width, cropped[1] / height)
    across, down = min(width, cropped[0] / scale), min(height, cropped[1] / scale)
    left = min(max(focus[0] * width - across / 2, 0.0), width - across)
    upper = min(max(focus[1] * height - down / 2, 0.0), height - down)
    box = (left, upper, left + across, upper + down)
    return Placement(box, cropped, cropped, _scaled(upright, scale))


def _scaled(size: PixelSize, scale: float) -> PixelSize:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def contains(outer: Box, inner: Box) -> bool:
    """Whether a box has all of another one."""
    return (
        outer[0] <= inner[0]
        and outer[1] <= inner[1]
        and outer[2] >= inner[2]
        and outer[3] >= inner[3]
    )


def cut(picture: Image.Image, shown: Box, box: Box, size: PixelSize) -> Image.Image:
    """Return `box` of a picture that shows `shown`, scaled down to `size`.

    Boxes are in pixels of the upright picture. At the picture's own scale, whole pixels are cut out
    and nothing is resampled.
    """
    if box == shown:
        return resize(picture, size)
    across = picture.width / (shown[2] - shown[0])
    down = picture.height / (shown[3] - shown[1])
    left, upper = (box[0] - shown[0]) * across, (box[1] - shown[1]) * down
    right, lower = (box[2] - shown[0]) * across, (box[3] - shown[1]) * down
    spare = (picture.width - size[0], picture.height - size[1])
    if max(abs(right - left - size[0]), abs(lower - upper - size[1])) < 1 and min(spare) >= 0:
        x, y = min(round(left), spare[0]), min(round(upper), spare[1])
        return picture.crop((x, y, x + size[0], y + size[1]))
    exact = (left, upper, min(right, picture.width), min(lower, picture.height))
    return lanczos(picture, size, exact, REDUCING_GAP)


def flattened(picture: Image.Image, background: str) -> Image.Image:
    """Put a picture, RGB, RGBA or premultiplied RGBa, on a background (`#rrggbb`): RGB."""
    if picture.mode == "RGB":
        return picture
    straight = rgba(picture)
    flat = Image.new("RGB", picture.size, rgb(background))
    flat.paste(straight, mask=straight.getchannel("A"))
    return flat


def padded(picture: Image.Image, canvas: PixelSize, background: str) -> Image.Image:
    """Put a picture, RGB or premultiplied RGBa, in the middle of a canvas of the background."""
    if picture.size == canvas:
        return flattened(picture, background)
    wide = Image.new("RGB", canvas, rgb(background))
    at = ((canvas[0] - picture.width) // 2, (canvas[1] - picture.height) // 2)
    wide.paste(flattened(picture, background), at)
    return wide


def rgb(colour: str) -> tuple[int, int, int]:
    """Return the samples of a colour, `#rrggbb`."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


AVERAGEABLE: Final = {
    "1": "L",
    "RGBX": "RGB",
    "RGBA": "RGBa",
    "LA": "La",
    "I;16": "I",
    "I;16L": "I",
    "I;16B": "I",
    "I;16N": "I",
}
"""Mode → one whose samples can be averaged. All other modes can be averaged as they are."""


def factors(box: Box, size: PixelSize) -> PixelSize:
    """Return by which whole numbers `box` can be reduced and stay larger than `size` by the gap.

    Vertically they are at most the rows of a band. The careful resize does the rest.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    return (
        max(1, int(width / size[0] / WHOLE_GAP)),
        max(1, min(int(height / size[1] / WHOLE_GAP), band_rows(int(width)))),
    )


def is_reduced(image: Image.Image) -> bool:
    """Whether an image is reduced by whole numbers before the careful resize.

    Not where that is done with SIMD: reducing 10 megapixels takes as long (12.7 and 12.8 ms), and
    costs 0.2 points (SSIMULACRA 2, photos of 512 pixels). What must be converted first is reduced,
    for the memory.
    """
    return not is_fast(image.mode) or averageable_mode(image) != image.mode


def band_rows(width: int, by: int = 1, pixels: int = BAND_PIXELS) -> int:
    """Return how many rows a band of `pixels` has: a multiple of `by`, and at least `by`."""
    return max(1, pixels // max(1, width) // by) * by


def shrink(image: Image.Image, size: PixelSize, box: Box) -> Image.Image:
    """Scale `box` of a decoded image down to `size`, in a mode whose samples can be averaged.

    An image whose mode must be converted first is converted and reduced in bands of rows, so that
    no second picture of full size is made.
    """
    by = factors(box, size) if is_reduced(image) else (1, 1)
    scaled = (box[0] / by[0], box[1] / by[1], box[2] / by[0], box[3] / by[1])
    if by == (1, 1) or averageable_mode(image) == image.mode:
        ready = _averageable(image)
        return lanczos(ready if by == (1, 1) else ready.reduce(by), size, scaled)
    width, height = image.size
    rows = band_rows(width, by[1])
    bands = (image.crop((0, top, width, min(top + rows, height))) for top in range(0, height, rows))
    return lanczos(reduced(bands, image.size, by), size, scaled)


def reduced(bands: Iterable[Image.Image], size: PixelSize, by: PixelSize) -> Image.Image:
    """Reduce a picture of `size` by whole numbers, in a mode that can be averaged.

    `bands` are its rows from top to bottom. A band's number of rows is divisible by that of `by`,
    except for the last. A band is not used any more when the next one is requested.
    """
    made: Image.Image | None = None
    top = 0
    for band in bands:
        if made is None:
            made = Image.new(averageable_mode(band), divided(size, by))
        # A band with alpha is divided further: parts of it are often fully opaque or fully empty.
        columns = max(1, PART_COLUMNS // by[0]) * by[0] if band.mode == "RGBA" else size[0]
        for left in range(0, size[0], columns):
            box = (left, 0, min(left + columns, size[0]), band.height)
            part = band if columns == size[0] else band.crop(box)
            if (small := _reduced(part, by)) is not None:
                made.paste(small, (left // by[0], top // by[1]))
        top += band.height
    assert made is not None  # noqa: S101 - a picture has rows
    return made


def _reduced(part: Image.Image, by: PixelSize) -> Image.Image | None:
    """Reduce a part by whole numbers, in a mode that can be averaged; None if it is transparent.

    Alpha is checked first: premultiplying takes longer than all else, and mostly changes nothing.
    """
    if part.mode == "RGBA":
        cover = part.getchannel("A").tobytes()
        if cover == bytes(len(cover)):
            return None
        if cover == b"\xff" * len(cover):
            return part.convert("RGB").reduce(by).convert("RGBA").convert("RGBa")
    return _averageable(part).reduce(by)


def averageable_mode(image: Image.Image) -> str:
    """Return a mode that can be averaged: no palette, no single bits, premultiplied alpha."""
    if image.mode in ("P", "PA"):
        return "RGBa" if image.has_transparency_data else "RGB"
    if "transparency" in image.info and image.mode not in ("LA", "RGBA"):
        return "RGBa"
    return AVERAGEABLE.get(image.mode, image.mode)


def _averageable(image: Image.Image) -> Image.Image:
    mode = averageable_mode(image)
    if mode == image.mode:
        return image
    if mode == "RGBa":
        image = rgba(image)  # Pillow converts to RGBa from RGBA only
    return image.convert(mode)


def rgba(image: Image.Image) -> Image.Image:
    """Convert to RGBA, what its transparency says included; grey of 16 bits is scaled to 8."""
    if image.mode == "RGBA":
        return image
    if image.mode.startswith("I;16"):
        grey = image.convert("I").point(lambda value: value / 256).convert("L")
        grey.info = image.info
        image = grey
    return image.convert("RGBA")


BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262
"""Tags of TIFF 6.0."""

ALPHA: Final = "alpha"
"""Key of `Image.info` with the alpha of a picture in CMYK, in L: Pillow has no mode for both."""


def in_8_bits(picture: Image.Image, image: Image.Image) -> Image.Image:
    """Scale grey of 16 or 32 bits a sample to 8 bits. `image` is what `picture` was scaled from.

    With 16 bits (12 in some TIFFs) the value of white is defined. With 32 bits it is not: see
    `full_range`. In a TIFF, the lowest value may be white.
    """
    if picture.mode not in ("I", "F"):
        return picture
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
        low, high = 0.0, float(2 ** min(bits, 16) - 1)
    else:
        low, high = (float(value) for value in picture.getextrema())  # type: ignore[arg-type]
        if picture.mode == "F":
            low, high = full_range(low, high)
    grey = scaled_to_8_bits(picture.convert("F"), low, high)
    return grey.point(lambda value: 255 - value) if tags.get(PHOTOMETRIC) == 0 else grey


def full_range(low: float, high: float) -> tuple[float, float]:
    """Return which floating-point samples are black and white, given the extreme ones.

    Samples that stay between 0 and 1 use that range; everything else is stretched from the darkest
    to the lightest.
    """
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def scaled_to_8_bits(picture: Image.Image, low: float, high: float) -> Image.Image:
    """Scale a picture in F to one in L, in which `low` is black and `high` is white."""
    factor = 255 / (high - low) if high > low else 0.0
    return picture.point(lambda value: value * factor + (0.5 - low * factor)).convert("L")


def divided(size: PixelSize, by: PixelSize) -> PixelSize:
    """Divide a width and a height by whole numbers, rounding up."""
    return -(-size[0] // by[0]), -(-size[1] // by[1])
