"""Decoded images → small pictures, whose samples are averaged as light and cover are.

No second picture of full size is made on the way.
"""

from itertools import product
from typing import Final

from PIL import Image

type Size = tuple[int, int]
type Box = tuple[float, float, float, float]

REDUCING_GAP: Final = 1.3
"""How much larger than the target a picture may stay before the last, careful resize."""

WHOLE_GAP: Final = 2.0
"""The same for a picture that is decoded whole: next to that the better resize costs little, 1 % of
a PNG's time to 14 % of a TIFF's. It scores 1.2 to 2.4 more (SSIMULACRA 2) than 1.3 does."""

BAND_PIXELS: Final = 512 * 1024
"""That are converted at a time, or a row of more: few enough to stay in the CPU's cache."""

PART_COLUMNS: Final = 256
"""Pixels of a band's row that are looked at together."""


def resized(picture: Image.Image, size: Size) -> Image.Image:
    """A smaller picture, RGB or premultiplied RGBa, of `size` (width, height) in pixels."""
    if picture.size == size:
        return picture
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)


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
"""Mode → one whose samples can be averaged; the others are such themselves."""


def factors(box: Box, size: Size) -> Size:
    """By what whole numbers a picture can be reduced and still be larger than `size` by the gap.

    No further than a band has rows: the rest is the careful resize's.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    return (
        max(1, int(width / size[0] / WHOLE_GAP)),
        max(1, min(int(height / size[1] / WHOLE_GAP), _band_rows(int(width)))),
    )


def _band_rows(width: int) -> int:
    return max(1, BAND_PIXELS // max(1, width))


def shrunk(image: Image.Image, size: Size, box: Box) -> Image.Image:
    """`box` of the image at `size`, in a mode whose samples can be averaged.

    What must be converted first is converted and reduced in bands of rows, so that no second
    picture of full size is made.
    """
    by = factors(box, size)
    if by == (1, 1) or averageable_mode(image) == image.mode:
        return _averageable(image).resize(
            size, Image.Resampling.LANCZOS, box=box, reducing_gap=WHOLE_GAP
        )
    width, height = image.size
    rows = max(1, _band_rows(width) // by[1]) * by[1]
    # Parts of a band, where they may be opaque or empty though the band is neither.
    columns = max(1, PART_COLUMNS // by[0]) * by[0] if image.mode == "RGBA" else width
    reduced = Image.new(averageable_mode(image), (-(-width // by[0]), -(-height // by[1])))
    for top, left in product(range(0, height, rows), range(0, width, columns)):
        part = image.crop((left, top, min(left + columns, width), min(top + rows, height)))
        if (small := _reduced(part, by)) is not None:
            reduced.paste(small, (left // by[0], top // by[1]))
    scaled = (box[0], box[1], box[2] / by[0], box[3] / by[1])
    return reduced.resize(size, Image.Resampling.LANCZOS, box=scaled)


def _reduced(part: Image.Image, by: Size) -> Image.Image | None:
    """A part in a mode whose samples can be averaged, by whole numbers smaller; None if empty.

    Alpha is looked at first: to premultiply takes longer than all else, and mostly changes nothing.
    """
    if part.mode == "RGBA":
        cover = part.getchannel("A").tobytes()
        if cover == bytes(len(cover)):
            return None
        if cover == b"\xff" * len(cover):
            return part.convert("RGB").reduce(by).convert("RGBA").convert("RGBa")
    return _averageable(part).reduce(by)


def averageable_mode(image: Image.Image) -> str:
    """A mode whose samples can be averaged: no palette, no single bits, premultiplied alpha."""
    if image.mode in ("P", "PA"):
        return "RGBa" if image.has_transparency_data else "RGB"
    if "transparency" in image.info and image.mode not in ("LA", "RGBA"):
        return "RGBa"
    return AVERAGEABLE.get(image.mode, image.mode)


def _averageable(image: Image.Image) -> Image.Image:
    mode = averageable_mode(image)
    if mode == image.mode:
        return image
    if image.mode.startswith("I;16") and mode == "RGBa":
        grey = image.convert("I").point(lambda value: value / 256).convert("L")
        grey.info = image.info
        image = grey
    if mode == "RGBa" and image.mode != "RGBA":
        image = image.convert("RGBA")  # the only way there
    return image.convert(mode)


BITS_PER_SAMPLE: Final = 258
"""Tag of TIFF 6.0."""


def in_8_bits_a_sample(picture: Image.Image, image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits as grey of 8.

    16 bits (or 12, of a TIFF) have a white that is agreed. 32 have none: floating point is taken
    from 0 to 1 where it keeps within that, all else from its darkest to its lightest sample.
    """
    if picture.mode not in ("I", "F"):
        return picture
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))[0]
        low, high = 0.0, float(2 ** min(bits, 16) - 1)
    else:
        low, high = (float(value) for value in picture.getextrema())  # type: ignore[arg-type]
        if picture.mode == "F" and low >= 0 and high <= 1:
            low, high = 0.0, 1.0
    factor = 255 / (high - low) if high > low else 0.0
    grey = picture.convert("F").point(lambda value: value * factor + (0.5 - low * factor))
    return grey.convert("L")
