"""Pictures of the project's own to try the pipeline with, drawn when they are needed."""

import random
from pathlib import Path
from typing import Final

from PIL import Image, ImageChops, ImageDraw, ImageOps

from thumbnailer.imaging import PixelSize

CORRUPT: Final = "not-a-picture.jpg"
"""The one sample that cannot become thumbnails."""

ORIENTATION: Final = 0x0112
"""EXIF tag (https://exiftool.org/TagNames/EXIF.html)."""

type Colour = tuple[int, int, int]


def draw(directory: Path) -> list[Path]:
    """Write the samples into `directory`, which is created if it is missing; return their paths.

    A photo that is stored sideways and turned by EXIF, a picture with transparency, an animated
    GIF, and a text file named .jpg.
    """
    directory.mkdir(parents=True, exist_ok=True)
    photo, balloon, moon, corrupt = (
        directory / name for name in ("rotated-photo.jpg", "balloon.png", "moonrise.gif", CORRUPT)
    )
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # "turn me clockwise": what a phone held upright writes
    landscape((3000, 2000)).transpose(Image.Transpose.ROTATE_90).save(photo, quality=90, exif=exif)
    hot_air_balloon((900, 1200)).save(balloon)
    frames = [landscape((640, 400), night=step / 7).quantize(128) for step in range(8)]
    frames[0].save(moon, save_all=True, append_images=frames[1:], duration=250, loop=0)
    corrupt.write_text("This is a text, whatever its name says.\n")
    return [photo, balloon, moon, corrupt]


def landscape(size: PixelSize, night: float = 0.0) -> Image.Image:
    """Hills at a lake under a sun that sets, or a moon that rises, as `night` goes from 0 to 1."""
    width, height = size
    horizon = height * 2 // 3
    sky = _gradient(
        (width, horizon),
        _blend((70, 120, 190), (8, 12, 40), night),
        _blend((255, 196, 130), (60, 50, 100), night),
    )
    _disc(sky, (0.68, 0.3 + 0.6 * night), 0.09, (255, 240, 190))
    if night:
        _disc(sky, (0.25, 0.95 - 0.7 * night), 0.06, (235, 238, 245))
    chance = random.Random(7)  # noqa: S311 - hills, not secrets: the same each time
    for far, colour in ((0.62, (96, 110, 140)), (0.76, (66, 88, 100)), (0.88, (38, 60, 62))):
        top = [
            (width * step / 24, horizon * (far + chance.uniform(-0.09, 0.06))) for step in range(25)
        ]
        ImageDraw.Draw(sky).polygon(
            [(0, horizon), *top, (width, horizon)], fill=_blend(colour, (10, 14, 26), night)
        )
    lake = ImageOps.flip(sky).resize((width, height - horizon))
    water = Image.new("RGB", lake.size, _blend((30, 70, 110), (6, 10, 30), night))
    picture = Image.new("RGB", size)
    picture.paste(sky, (0, 0))
    picture.paste(Image.blend(lake, water, 0.35), (0, horizon))
    return picture


def hot_air_balloon(size: PixelSize) -> Image.Image:
    """A striped balloon with its basket, on nothing: all around it is transparent."""
    scale = 2  # drawn larger, for smooth edges
    width, height = size[0] * scale, size[1] * scale
    stripes = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(stripes)
    colours = [(214, 62, 62), (250, 170, 60), (250, 225, 120), (60, 150, 170)]
    for index in range(8, 0, -1):  # ellipses within ellipses look like gores
        half = width * 0.46 * index / 8
        box = (width / 2 - half, 0, width / 2 + half, height * 0.78)
        pen.ellipse(box, fill=colours[index % len(colours)])
    light = ImageOps.colorize(Image.linear_gradient("L").rotate(90), "#606060", "#ffffff")
    stripes = ImageChops.multiply(stripes, light.resize(stripes.size))
    shape = Image.new("L", stripes.size)
    cut = ImageDraw.Draw(shape)
    cut.ellipse((width * 0.04, 0, width * 0.96, height * 0.78), fill=255)
    basket = (width * 0.42, height * 0.88, width * 0.58, height * 0.99)
    for top, bottom in ((0.25, 0.43), (0.75, 0.57)):
        cut.line(
            (width * top, height * 0.68, width * bottom, height * 0.9), fill=255, width=width // 90
        )
    cut.rounded_rectangle(basket, radius=width // 50, fill=255)
    ImageDraw.Draw(stripes).rectangle((0, height * 0.79, width, height), fill=(110, 72, 40))
    stripes.putalpha(shape)
    return stripes.resize(size, Image.Resampling.LANCZOS)


def _gradient(size: PixelSize, top: Colour, bottom: Colour) -> Image.Image:
    return ImageOps.colorize(Image.linear_gradient("L").resize(size), top, bottom)


def _disc(picture: Image.Image, centre: tuple[float, float], radius: float, colour: Colour) -> None:
    width, height = picture.size
    x, y, r = centre[0] * width, centre[1] * height, radius * height
    ImageDraw.Draw(picture).ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _blend(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
