"""Pictures of a high dynamic range (PQ and HLG) → sRGB, near what Chromium shows. ADR 21.

Samples become light, relative to the white of a picture without HDR: 203 cd/m². The brightest of a
pixel's three samples, in BT.2020, decides how much the pixel is darkened, so its hue stays. With a
peak of 1,000 cd/m², light up to white is halved. From there on, the curve that SMPTE ST 2094-50
takes where a file has none bends to the peak, which becomes white. What is brighter is clipped.
"""

import math
from functools import cache, partial, reduce
from typing import Any, Final

from PIL import Image, ImageMath

from thumbnailer.imaging import cicp
from thumbnailer.imaging.cicp import NOMINAL_PEAK, Cicp, Vector

WHITE: Final = 203
"""Luminance of white in cd/m² (ITU-R BT.2408, 2.1)."""

MIN_PEAK: Final = WHITE + 1
"""Lowest peak in cd/m². Such a picture has no HDR: the curve is a straight line then."""

WHITE_LEVEL: Final = 0.5
"""What remains of white's light where the peak is NOMINAL_PEAK or more (ST 2094-50)."""

BEND: Final = 0.65
"""Where the middle point of the quadratic Bézier curve lies (ST 2094-50): from white, on the way to
the point in which white's straight line meets the peak's level."""

HLG_GAMMA: Final = 1.2
"""Of the whole system (BT.2100, note 5f)."""

BT2020: Final = 9

BAND_PIXELS: Final = 32 * 1024
"""Pixels that are computed at a time: some twenty pictures of four bytes for each."""


def to_srgb(picture: Image.Image, numbers: Cicp) -> Image.Image:
    """Convert an RGB picture whose transfer is PQ or HLG to sRGB."""
    result = Image.new("RGB", picture.size)
    width, height = picture.size
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = picture.crop((0, top, width, min(top + rows, height)))
        result.paste(_band(band, numbers), (0, top))
    return result


def _band(picture: Image.Image, numbers: Cicp) -> Image.Image:
    table = _light(numbers.transfer)
    light = dict(zip("rgb", (each.point(table, "F") for each in picture.split()), strict=True))
    if numbers.transfer == cicp.HLG:
        weights = cicp.luminances(numbers.primaries)
        shown = ImageMath.lambda_eval(lambda a: _weighted(a, weights) ** (HLG_GAMMA - 1), **light)
        light = {
            name: ImageMath.lambda_eval(lambda a: a["x"] * a["shown"], x=each, shown=shown)
            for name, each in light.items()
        }
    wide = cicp.between(numbers.primaries, BT2020)
    peak = max(numbers.peak, MIN_PEAK) / WHITE
    gain = ImageMath.lambda_eval(
        lambda a: _gain(a, [_weighted(a, row) for row in wide], peak), **light
    )
    return Image.merge(
        "RGB",
        [
            ImageMath.lambda_eval(partial(_level, row=row), gain=gain, **light).convert("L")
            for row in cicp.between(numbers.primaries, cicp.BT709)
        ],
    )


def _weighted(a: dict[str, Any], weights: Vector) -> Any:
    red, green, blue = weights
    return a["r"] * red + a["g"] * green + a["b"] * blue


def _gain(a: dict[str, Any], samples: list[Any], peak: float) -> Any:
    """Return the factor of each pixel's light, from its samples in BT.2020.

    A quadratic Bézier curve leads from white to the peak; its place t follows from the brightness.
    """
    white = 1 - (1 - WHITE_LEVEL) * min(1, math.log(peak) / math.log(NOMINAL_PEAK / WHITE))
    middle_x, middle_y = 1 + BEND * (1 / white - 1), white + BEND * (1 - white)
    square_x, line_x = 1 - 2 * middle_x + peak, 2 * (middle_x - 1)
    square_y, line_y = white - 2 * middle_y + 1, 2 * (middle_y - white)
    brightest = a["max"](reduce(a["max"], samples), 1.0)
    x = a["min"](brightest, peak)
    t = ((x * (4 * square_x) + (line_x**2 - 4 * square_x)) ** 0.5 - line_x) / (2 * square_x)
    return ((t * square_y + line_y) * t + white) / brightest


def _level(a: dict[str, Any], row: Vector) -> Any:
    """Return the levels of sRGB (IEC 61966-2-1) of one channel, what is out of range clipped."""
    light = a["min"](a["max"](_weighted(a, row) * a["gain"], 0.0), 1.0)
    straight = a["min"](light, 0.0031308) * 12.92
    signal = a["max"](straight, light ** (1 / 2.4) * 1.055 - 0.055)
    return a["int"](signal * 255 + 0.5)


@cache
def _light(transfer: int) -> list[float]:
    """Return the light of each level of 8 bits, where white is 1."""
    light = _pq_light if transfer == cicp.PQ else _hlg_light
    return [light(level / 255) for level in range(256)]


def _pq_light(signal: float) -> float:
    """Return the light of PQ's EOTF (BT.2100, table 4)."""
    power = signal ** (32 / 2523)
    ratio = max(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)
    return 10_000 / WHITE * float(ratio ** (16384 / 2610))


def _hlg_light(signal: float) -> float:
    """Return the light of HLG's inverse OETF (BT.2100, table 5), scaled for its OOTF.

    The OOTF multiplies light by the power of its luminance, HLG_GAMMA - 1. The scale is one that
    gives NOMINAL_PEAK for white after that.
    """
    a, b, c, middle = 0.17883277, 0.28466892, 0.55991073, 0.5
    scene = signal**2 / 3 if signal <= middle else (math.exp((signal - c) / a) + b) / 12
    return float((NOMINAL_PEAK / WHITE) ** (1 / HLG_GAMMA) * scene)
