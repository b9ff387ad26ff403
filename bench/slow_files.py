"""Valid files that take long to decode for their bytes, each by a cause of its own."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image

from bench.hostile_files import (
    PNG_MAGIC,
    START_OF_SCAN,
    jpeg_segment,
    png_chunk,
    tiff_file,
    tiff_size,
)
from fuzz.formats import isobmff
from fuzz.formats.parts import Part

COMMENT: Final = 0xFE
ONE_CODE: Final = bytes([1] + [0] * 15)
"""A Huffman table whose only code is one bit long (ITU T.81, B.2.4.2)."""

BLOCK: Final = 8
RUN: Final = 24_576
"""Blocks that one code of an empty scan skips: the run of EOB14 with 13 of its bits."""


def jpeg_of_scans(scans: int, side: int = 12_000) -> bytes:
    """A progressive JPEG in grey whose scans are empty: 300 bytes for all blocks."""
    blocks = (side // BLOCK) ** 2
    data = b"\xff\xd8" + jpeg_segment(0xDB, b"\0" + bytes([16] * 64))
    data += jpeg_segment(0xC2, struct.pack(">BHHB3B", 8, side, side, 1, 1, 0x11, 0))
    data += jpeg_segment(0xC4, b"\x00" + ONE_CODE + b"\0")
    data += jpeg_segment(0xC4, b"\x10" + ONE_CODE + b"\xe0")
    data += jpeg_segment(START_OF_SCAN, bytes((1, 1, 0, 0, 0, 0))) + bytes(blocks // BLOCK)
    runs = "".join("0" + format(RUN - 2**14, "014b") for _ in range(-(-blocks // RUN)))
    runs += "0" * (-len(runs) % 8)
    empty = int(runs, 2).to_bytes(len(runs) // 8)
    return (
        data
        + (jpeg_segment(START_OF_SCAN, bytes((1, 1, 0, 1, 63, 0))) + empty) * scans
        + (b"\xff\xd9")
    )


def jpeg_of_arithmetic(side: int = 15_000) -> bytes:
    """A JPEG with arithmetic coding that ends at once: the decoder reads zeros."""
    data = b"\xff\xd8" + jpeg_segment(0xDB, b"\0" + bytes([16] * 64))
    data += jpeg_segment(0xC9, struct.pack(">BHHB3B", 8, side, side, 1, 1, 0x11, 0))
    data += jpeg_segment(START_OF_SCAN, bytes((1, 1, 0, 0, 63, 0)))
    return data + bytes(range(1, 255)) * 4 + b"\xff\xd9"


def jpeg_of_comments(count: int) -> bytes:
    """A JPEG with many empty comments before the picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "JPEG")
    data = buffer.getvalue()
    return data[:2] + jpeg_segment(COMMENT, b"") * count + data[2:]


def png_of_chunks(name: bytes, count: int) -> bytes:
    """A PNG with many empty chunks before its pixels."""
    row = b"\0" + bytes(64 * 3)
    return (
        PNG_MAGIC
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0))
        + png_chunk(name, b"") * count
        + png_chunk(b"IDAT", zlib.compress(row * 48))
        + png_chunk(b"IEND", b"")
    )


def apng_of_noise(frames: int, side: int = 447) -> bytes:
    """An animation with alpha whose frames are noise."""
    random = np.random.default_rng(1)
    noise = [random.integers(0, 4, (side, side, 4), dtype=np.uint8) * 85 for _ in range(2)]
    rows = [
        zlib.compress(b"".join(b"\0" + row.tobytes() for row in picture), 1) for picture in noise
    ]
    parts = [
        png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)),
        png_chunk(b"acTL", struct.pack(">II", frames, 0)),
    ]
    sequence = 0
    for number in range(frames):
        control = struct.pack(">IIIIIHHBB", sequence, side, side, 0, 0, 1, 10, 0, 0)
        parts.append(png_chunk(b"fcTL", control))
        if number:
            parts.append(png_chunk(b"fdAT", struct.pack(">I", sequence + 1) + rows[number % 2]))
        else:
            parts.append(png_chunk(b"IDAT", rows[0]))
        sequence += 2 if number else 1
    return PNG_MAGIC + b"".join(parts) + png_chunk(b"IEND", b"")


def gif_of_extensions(count: int) -> bytes:
    """A GIF with many graphic control extensions before its picture."""
    screen = struct.pack("<HHBBB", 16, 16, 0x80, 0, 0) + bytes(6)
    picture = b",\0\0\0\0\x10\0\x10\0\0\x02\x16\x8c\x2d\x99\x87\x2a\x1c\xdc\x33\xa0\x02\x75\xec"
    picture += b"\x95\xfa\xa8\xde\x60\x8c\x04\x91\x4c\x01\0"
    return b"GIF89a" + screen + b"!\xf9\4\0\1\0\0\0" * count + picture + b";"


def bmp_of_line_ends(width: int, height: int) -> bytes:
    """A BMP with run lengths whose lines have one pixel, and are filled up."""
    return _bmp_of_runs(width, height, b"\1\1\0\0" * height)


def bmp_of_short_runs(width: int, height: int) -> bytes:
    """A BMP with run lengths in which every run has one pixel."""
    return _bmp_of_runs(width, height, (b"\1\1" * width + b"\0\0") * height)


def _bmp_of_runs(width: int, height: int, runs: bytes) -> bytes:
    body = runs + b"\0\1"
    start = 14 + 40 + 1024
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + bytes(1024) + body


def tiff_of_jpeg_scans(scans: int, side: int = 12_000) -> bytes:
    """A TIFF whose only strip is a progressive JPEG of empty scans."""
    data = jpeg_of_scans(scans, side)
    tags = {
        **tiff_size(side, side, (8,)),
        259: (3, 1, 7),
        262: (3, 1, 1),
        273: (4, 1, 8),
        278: (4, 1, side),
        279: (4, 1, len(data)),
    }
    return tiff_file(tags, data)


def tiff_of_bytes_tags(count: int) -> bytes:
    """A TIFF of 16 × 16 pixels that names `count` strips, as many as few tag bytes allow."""
    tags = {**tiff_size(16, 16, (8, 8, 8)), 278: (4, 1, 1), 279: (4, 1, 768)}
    return tiff_file({**tags, 259: (3, 1, 1), 273: (1, count, b"\x08" * count)}, bytes(768))


def jp2_of_noise(width: int, height: int) -> bytes:
    """A lossless JPEG 2000 of noise in small blocks, whose decoder cannot scale."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(
        buffer, "JPEG2000", num_resolutions=1, codeblock_size=(16, 16), irreversible=False
    )
    return buffer.getvalue()


def avif_of_frames(frames: int, width: int = 4000, height: int = 3000) -> bytes:
    """An AVIF whose picture is one frame, followed by others that nobody sees."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(
        buffer, "AVIF", speed=10, quality=10
    )
    data = buffer.getvalue()
    start = data.index(b"mdat") + 4
    stream = data[start:]
    at = data.index(b"iloc")
    length = len(stream).to_bytes(4)
    where = data.index(length, at)
    longer = stream * frames
    head = data[:where] + len(longer).to_bytes(4) + data[where + 4 : start]
    head = head[: start - 8] + (8 + len(longer)).to_bytes(4) + head[start - 4 :]
    return head + longer


def heic_of_overlays(count: int, width: int = 4000, height: int = 3000) -> bytes:
    """A HEIC that draws the same picture over itself `count` times (ISO/IEC 23008-12, 6.6.2.2)."""
    import pillow_heif  # noqa: PLC0415 - a development dependency

    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, "HEIF")
    boxes = {part.name: part for part in isobmff.split(buffer.getvalue())}
    described = {part.name: part for part in boxes[b"meta"].children}
    properties = described[b"iprp"].children[0].children
    coded, head = boxes[b"mdat"].body, isobmff.box(boxes[b"ftyp"])
    overlay = struct.pack(">BB4HII", 0, 1, 0, 0, 0, 0, width, height) + bytes(8 * count)
    item, info = struct.Struct(">HHHHII"), struct.Struct(">IHH4sx")
    pictures, whole = range(1, count + 1), count + 1
    places = [item.pack(number, 0, 0, 1, len(head) + 8, len(coded)) for number in pictures]
    places.append(item.pack(whole, 1, 0, 1, 0, len(overlay)))
    infos = [info.pack(2 << 24, number, 0, b"hvc1") for number in pictures]
    infos.append(info.pack(2 << 24, whole, 0, b"iovl"))
    of_picture = bytes(range(1, len(properties) + 1))
    size = next(at for at, part in enumerate(properties, 1) if part.name == b"ispe")
    used = [struct.pack(">HB", number, len(of_picture)) + of_picture for number in pictures]
    used.append(struct.pack(">HBB", whole, 1, size))
    drawn = struct.pack(f">HH{count}H", whole, count, *pictures)
    meta = Part(
        b"meta",
        bytes(4),
        [
            described[b"hdlr"],
            Part(b"pitm", struct.pack(">IH", 0, whole)),
            Part(b"iloc", struct.pack(">IHH", 1 << 24, 0x4400, whole) + b"".join(places)),
            Part(b"iinf", struct.pack(">IH", 0, whole), [Part(b"infe", body) for body in infos]),
            Part(b"iref", bytes(4), [Part(b"dimg", drawn)]),
            Part(
                b"iprp",
                children=[
                    Part(b"ipco", children=list(properties)),
                    Part(b"ipma", struct.pack(">II", 0, whole) + b"".join(used)),
                ],
            ),
            Part(b"idat", overlay),
        ],
    )
    return head + isobmff.join([boxes[b"mdat"], meta])


SLOW: Final[dict[str, Callable[[], bytes]]] = {
    "scans-2000.jpg": lambda: jpeg_of_scans(2000),
    "scans-800.jpg": lambda: jpeg_of_scans(800),
    "arithmetic.jpg": jpeg_of_arithmetic,
    "comments.jpg": lambda: jpeg_of_comments(12_000_000),
    "texts-empty.png": lambda: png_of_chunks(b"tEXt", 3_000_000),
    "idats-empty.png": lambda: png_of_chunks(b"IDAT", 3_000_000),
    "noise-alpha.png": lambda: apng_of_noise(100),
    "extensions.gif": lambda: gif_of_extensions(6_000_000),
    "line-ends.bmp": lambda: bmp_of_line_ends(30_000, 3000),
    "line-ends-tall.bmp": lambda: bmp_of_line_ends(4_600_000, 30),
    "jpeg-scans.tif": lambda: tiff_of_jpeg_scans(2000),
    "tags.tif": lambda: tiff_of_bytes_tags(50_000),
    "noise.jp2": lambda: jp2_of_noise(3000, 2000),
    "overlays.heic": lambda: heic_of_overlays(200),
    "frames.avif": lambda: avif_of_frames(500),
}
"""Name of a file → what makes it."""
