"""What attracts attention in a picture, for crops: edges, saturated colours and skin tones.

All sums are of whole numbers, so that every machine makes the same crop of the same pixels.
ADR 28 compares the crops with those of other programs.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from PIL import Image, ImageChops

from thumbnailer.imaging.resize import flattened
from thumbnailer.imaging.spec import Point

MAX_SIDE: Final = 100
"""Pixels of the copy that is searched: enough for a face that is a tenth of the picture wide."""

EDGE_WEIGHT: Final = 2
COLOUR_WEIGHT: Final = 1
SKIN_WEIGHT: Final = 4
"""How much each counts, for a sample of 0 to 255."""

TOP_WEIGHT: Final = 2
"""How much more the top row counts than the bottom row: heads are above bodies, and the ground has
more edges than the sky."""

HEADROOM: Final = 12
"""A crop begins higher by this part of its own height, so that what is at its top is not cut."""

GREY: Final = "#808080"
"""Behind transparent pictures: as far from black as from white."""


class Salience(NamedTuple):
    """How much attention each column and each row of a picture attracts."""

    columns: Sequence[int]
    rows: Sequence[int]


def _is_between(low: int, high: int) -> list[int]:
    return [255 if low <= value <= high else 0 for value in range(256)]


SKIN: Final = (_is_between(50, 235), _is_between(80, 122), _is_between(136, 168))
"""Y, Cb and Cr of skin, of any shade (after Chai and Ngan, "Face segmentation using skin-color map
in videophone applications", 1999: 77 to 127 and 133 to 173; a little narrower)."""


def salience(picture: Image.Image) -> Salience:
    """Measure an upright picture, RGB or premultiplied RGBa."""
    small = picture.reduce(-(-max(picture.size) // MAX_SIDE))
    small = flattened(small, GREY)
    columns, rows = [0] * small.width, [0] * small.height
    for weight, found in (
        (EDGE_WEIGHT, _edges(small.convert("L"))),
        (COLOUR_WEIGHT, _saturation(small)),
        (SKIN_WEIGHT, _skin(small)),
    ):
        samples = found.tobytes()
        for x in range(small.width):
            columns[x] += weight * sum(samples[x :: small.width])
        for y in range(small.height):
            rows[y] += weight * sum(samples[y * small.width : (y + 1) * small.width])
    last = max(1, small.height - 1)
    rows = [value * (TOP_WEIGHT * last - (TOP_WEIGHT - 1) * y) for y, value in enumerate(rows)]
    return Salience(columns, rows)


def focus(found: Salience, shares: tuple[float, float]) -> Point:
    """Return the middle of the part that attracts most, and has these shares of width and height.

    Of equal parts it is the one nearest to the picture's middle.
    """
    across, down = _best(found.columns, shares[0]), _best(found.rows, shares[1])
    headroom = len(down) // HEADROOM
    upper = max(0, down.start - headroom)
    return (
        _middle(across, len(found.columns)),
        _middle(range(upper, upper + len(down)), len(found.rows)),
    )


def _best(sums: Sequence[int], share: float) -> range:
    """Return the columns or rows of the best part."""
    length = len(sums)
    window = min(length, max(1, round(share * length)))
    parts = (range(start, start + window) for start in range(length - window + 1))
    return max(
        parts,
        key=lambda part: (
            sum(sums[part.start : part.stop]),
            -abs(part.start + part.stop - length),
            -part.start,
        ),
    )


def _middle(part: range, length: int) -> float:
    return (part.start + part.stop) / (2 * length)


def _edges(grey: Image.Image) -> Image.Image:
    """Differences between neighbours, across and down."""
    width, height = grey.size
    across, down = Image.new("L", grey.size), Image.new("L", grey.size)
    if width > 1:
        left, right = grey.crop((0, 0, width - 1, height)), grey.crop((1, 0, width, height))
        across.paste(ImageChops.difference(left, right), (0, 0))
    if height > 1:
        upper, lower = grey.crop((0, 0, width, height - 1)), grey.crop((0, 1, width, height))
        down.paste(ImageChops.difference(upper, lower), (0, 0))
    return ImageChops.add(across, down)


def _saturation(picture: Image.Image) -> Image.Image:
    """Differences between the largest and the smallest of red, green and blue."""
    red, green, blue = picture.split()
    largest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    smallest = ImageChops.darker(ImageChops.darker(red, green), blue)
    return ImageChops.difference(largest, smallest)


def _skin(picture: Image.Image) -> Image.Image:
    bands = picture.convert("YCbCr").split()
    luma, blue, red = (band.point(table) for band, table in zip(bands, SKIN, strict=True))
    return ImageChops.darker(ImageChops.darker(luma, blue), red)
