"""Plain files of the kinds that Pillow cannot write, at any size, for `bench.memory`."""

import io
import struct
from collections.abc import Callable
from typing import Final

import numpy as np
import tifffile
from PIL import Image

from bench.hostile_files import png_chunk
from image_pipeline.local.samples import landscape
from thumbnailer.imaging.formats.svg import MAX_BYTES

PNG_HEADER_BYTES: Final = 33
"""Signature and IHDR (PNG, third edition, 5.2 and 11.2.1)."""

BT2020, PQ = 9, 16
"""Code points (ITU-T H.273, tables 2 and 3)."""

FIELDS: Final = (0xF00, 0xF0, 0xF, 0xF000)
"""Masks of red, green, blue and alpha that Pillow does not read."""


def picture(width: int, height: int) -> Image.Image:
    """Draw a landscape."""
    return landscape((1500, 1000)).resize((width, height))


def png_in_pq(width: int, height: int) -> bytes:
    """A PNG whose cICP chunk says BT.2020 and PQ: it is tone-mapped."""
    buffer = io.BytesIO()
    picture(width, height).save(buffer, "PNG", compress_level=1)
    data = buffer.getvalue()
    chunk = png_chunk(b"cICP", bytes((BT2020, PQ, 0, 1)))
    return data[:PNG_HEADER_BYTES] + chunk + data[PNG_HEADER_BYTES:]


def gif_smaller_than_its_screen(width: int, height: int) -> bytes:
    """A GIF whose frame leaves the screen's last row and column empty."""
    buffer = io.BytesIO()
    picture(width - 1, height - 1).quantize(256).save(buffer, "GIF")
    data = buffer.getvalue()
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


def bmp_of_bit_fields(width: int, height: int) -> bytes:
    """A BMP of 16 bits, with four bits for each of red, green, blue and alpha."""
    red, green, blue = (np.asarray(each, np.uint16) for each in picture(width, height).split())
    samples = red >> 4 << 8 | green >> 4 << 4 | blue >> 4 | 0xF000
    rows = np.zeros((height, width + width % 2), "<u2")  # rows are padded to four bytes
    rows[:, :width] = samples[::-1]
    body = rows.tobytes()
    head = struct.pack("<IiiHHIIiiII", 56, width, height, 1, 16, 3, len(body), 0, 0, 0, 0)
    head += struct.pack("<4I", *FIELDS)
    start = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + body


def icon(width: int, height: int) -> bytes:
    """An icon of one bitmap with alpha, whose size is in the bitmap's header alone."""
    alpha = picture(width, height).convert("RGBA")
    body = alpha.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes("raw", "BGRA")
    head = struct.pack("<IiiHHIIiiII", 40, width, 2 * height, 1, 32, 0, len(body), 0, 0, 0, 0)
    mask = bytes(-(-width // 32) * 4 * height)
    entry = struct.pack("<4B2H2I", 0, 0, 0, 0, 1, 32, len(head + body + mask), 22)
    return struct.pack("<3H", 0, 1, 1) + entry + head + body + mask


def tiff_of_planes(width: int, height: int) -> bytes:
    """A TIFF of 16 bits a sample, with a plane for each colour."""
    planes = np.moveaxis(np.asarray(picture(width, height), np.uint16) * 257, 2, 0)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, planes, photometric="rgb", planarconfig="separate", rowsperstrip=64)
    return buffer.getvalue()


def tiff_of_inks(width: int, height: int) -> bytes:
    """A TIFF in CMYK with alpha."""
    inks = np.asarray(picture(width, height).convert("CMYK"))
    alpha = np.full((height, width, 1), 200, np.uint8)
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        np.concatenate([inks, alpha], axis=2),
        photometric="separated",
        extrasamples=["unassalpha"],
        rowsperstrip=64,
    )
    return buffer.getvalue()


def svg(width: int, height: int) -> bytes:
    """An SVG as large as one may be, of elements with attributes."""
    start = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
    parts = [start]
    left = MAX_BYTES - len(start) - len("</svg>")
    number = 0
    while True:
        x, y = number * 37 % width, number * 61 % height
        colour = number * 9973 % 0xFFFFFF
        part = f'<rect x="{x}" y="{y}" width="90" height="60" fill="#{colour:06x}" opacity=".5"/>'
        left -= len(part)
        if left < 0:
            return "".join([*parts, "</svg>"]).encode()
        parts.append(part)
        number += 1


WRITTEN: Final[dict[str, Callable[[int, int], bytes]]] = {
    "pq.png": png_in_pq,
    "uncovered.gif": gif_smaller_than_its_screen,
    "fields.bmp": bmp_of_bit_fields,
    "bitmap.ico": icon,
    "planes.tif": tiff_of_planes,
    "inks.tif": tiff_of_inks,
    "drawing.svg": svg,
}
"""Name of a file → what makes it, for a width and a height in pixels."""
