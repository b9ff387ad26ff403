"""What attracts attention in a picture, for crops: edges, saturated colours and skin tones.

All sums are of whole numbers, so that every machine makes the same crop of the same pixels.
ADR 28 compares the crops with those of other programs.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from PIL import Image, ImageChops

from thumbnailer.imaging.resize import flattened
from thumbnailer.imaging.spec import CENTER, Point

MAX_SIDE: Final = 100
"""Pixels of the copy that is searched: enough for a face that is a tenth of the picture wide."""

EDGE_WEIGHT: Final = 2
COLOUR_WEIGHT: Final = 1
SKIN_WEIGHT: Final = 4
"""How much each counts, for a sample of 0 to 255."""

GREY: Final = "#808080"


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
    return Salience(columns, rows)


def focus(found: Salience, shares: tuple[float, float]) -> Point:
    """Return the middle of the best part that has these shares of the width and the height."""
    x, y = (_best(each, share) for each, share in zip(found, shares, strict=True))
    return x, y


def _best(sums: Sequence[int], share: float) -> float:
    length = len(sums)
    window = max(1, round(share * length))
    if window >= length:
        return CENTER[0]
    best = max(
        range(length - window + 1),
        key=lambda at: (sum(sums[at : at + window]), -abs(2 * at + window - length), -at),
    )
    return (2 * best + window) / (2 * length)


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
