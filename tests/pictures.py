"""Pictures that tests draw: four quadrants of known colours, so that turns and shifts show."""

import io
from typing import Any

from PIL import Image

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 180, 30), (30, 30, 220), (230, 220, 40)
QUADRANTS = ((RED, GREEN), (BLUE, YELLOW))
"""Upper row, lower row: what every upright thumbnail of `quadrants` must show."""


def quadrants(size: tuple[int, int] = (800, 600), mode: str = "RGB") -> Image.Image:
    """A picture of four plain quadrants."""
    image = Image.new("RGB", size)
    half = (size[0] // 2, size[1] // 2)
    for y, row in enumerate(QUADRANTS):
        for x, colour in enumerate(row):
            image.paste(colour, (x * half[0], y * half[1], *((x + 1) * half[0], (y + 1) * half[1])))
    return image.convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The file that Pillow writes of `image`."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(size: tuple[int, int] = (800, 600), **options: Any) -> bytes:
    """A JPEG of four quadrants."""
    return encoded(quadrants(size), "JPEG", **options)


def decoded(data: bytes) -> Image.Image:
    """A picture from its file, wholly read."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def corners(image: Image.Image) -> list[list[tuple[int, ...]]]:
    """The colours at the middle of each quadrant, upper row first, as RGB."""
    rgb = image.convert("RGB")
    width, height = rgb.size
    return [
        [rgb.getpixel((x * width // 4, y * height // 4)) for x in (1, 3)]  # type: ignore[misc]
        for y in (1, 3)
    ]


def near(got: tuple[int, ...], expected: tuple[int, ...], tolerance: int = 12) -> bool:
    """Whether two colours differ by at most `tolerance` in every channel."""
    return all(abs(a - b) <= tolerance for a, b in zip(got, expected, strict=True))


def is_upright(image: Image.Image, tolerance: int = 12) -> bool:
    """Whether a thumbnail of `quadrants` shows them where they belong."""
    return all(
        near(got, expected, tolerance)
        for got_row, row in zip(corners(image), QUADRANTS, strict=True)
        for got, expected in zip(got_row, row, strict=True)
    )
