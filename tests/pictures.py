"""Pictures for tests: four quadrants of known colours, so that rotations and shifts are visible."""

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import pillow_heif
from PIL import Image

from thumbnailer.imaging import Made, Size, ThumbnailSpec, make_thumbnails
from thumbnailer.imaging.formats.png_filters import MAGIC as PNG_MAGIC

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 180, 30), (30, 30, 220), (230, 220, 40)
QUADRANTS = ((RED, GREEN), (BLUE, YELLOW))
"""The upper and the lower row that every upright thumbnail of `quadrants` must show."""


def quadrants(size: tuple[int, int] = (800, 600), mode: str = "RGB") -> Image.Image:
    """Draw a picture of four plain quadrants; `size` is in pixels."""
    image = Image.new("RGB", size)
    half = (size[0] // 2, size[1] // 2)
    for y, row in enumerate(QUADRANTS):
        for x, colour in enumerate(row):
            image.paste(colour, (x * half[0], y * half[1], *((x + 1) * half[0], (y + 1) * half[1])))
    return image.convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """Encode `image` with Pillow or, for HEIF, with pillow-heif."""
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
        if "exif" in options:  # an Exif object would not rotate the picture
            options["exif"] = options["exif"].tobytes()
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(size: tuple[int, int] = (800, 600), **options: Any) -> bytes:
    """Encode four quadrants as JPEG."""
    return encoded(quadrants(size), "JPEG", **options)


def png_chunk(name: bytes, payload: bytes) -> bytes:
    """Build a chunk of a PNG file (specification, 5.3)."""
    return len(payload).to_bytes(4) + name + payload + zlib.crc32(name + payload).to_bytes(4)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """Build a PNG file of these chunks (name and payload of each), followed by IEND."""
    return PNG_MAGIC + b"".join(png_chunk(*each) for each in (*chunks, (b"IEND", b"")))


def box(name: bytes, *content: bytes) -> bytes:
    """Return a box of an ISO media file or a JPEG 2000 file."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), name) + body


def decoded(data: bytes) -> Image.Image:
    """Decode the first picture of a file, with all its pixels."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def corners(image: Image.Image) -> list[list[tuple[int, ...]]]:
    """Return the RGB colour in the middle of each quadrant, the upper row first."""
    rgb = image.convert("RGB")
    width, height = rgb.size
    return [
        [rgb.getpixel((x * width // 4, y * height // 4)) for x in (1, 3)]  # type: ignore[misc]
        for y in (1, 3)
    ]


def near(got: tuple[int, ...], expected: tuple[int, ...], tolerance: int = 12) -> bool:
    """Check whether two colours differ by at most `tolerance` (of 255) in every channel."""
    return all(abs(a - b) <= tolerance for a, b in zip(got, expected, strict=True))


def is_upright(image: Image.Image, tolerance: int = 12) -> bool:
    """Check whether a thumbnail of `quadrants` shows each quadrant in its place."""
    return all(
        near(got, expected, tolerance)
        for got_row, row in zip(corners(image), QUADRANTS, strict=True)
        for got, expected in zip(got_row, row, strict=True)
    )


ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
"""XYZ of the red, green and blue primaries, adapted to D50 (Adobe RGB (1998), annex B)."""
ADOBE_GAMMA = 563 / 256


def rgb_profile(
    primaries: tuple[tuple[float, float, float], ...] = ADOBE_RGB, gamma: float = ADOBE_GAMMA
) -> bytes:
    """Build a matrix profile of version 2 (ICC.1:2001-04).

    `primaries` are the XYZ values of red, green and blue, adapted to D50.
    """

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    name = b"Test RGB\0"
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    tags = {b"desc": description, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz((0.9642, 1, 0.8249))}
    for channel, primary in zip("rgb", primaries, strict=True):
        tags[f"{channel}XYZ".encode()] = xyz(primary)
        tags[f"{channel}TRC".encode()] = curve
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(
        ">I4sI4s4s4s", start + len(body), b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ "
    )
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061)  # D50
    return head + bytes(128 - len(head)) + table + body


def specs_of(
    widths: Iterable[int], quality: int = 85, *, animated: bool = True
) -> list[ThumbnailSpec]:
    """Return specs of WebP thumbnails of these widths (pixels), with default names."""
    return [ThumbnailSpec(Size.of_width(width), quality, animated) for width in widths]


def thumbnails_of(
    data: bytes,
    widths: Iterable[int] = (128, 512),
    quality: int = 85,
    memory_mb: int = 512,
    *,
    animated: bool = True,
) -> Made:
    """Make WebP thumbnails of these widths (pixels)."""
    return make_thumbnails(data, specs_of(widths, quality, animated=animated), memory_mb)
