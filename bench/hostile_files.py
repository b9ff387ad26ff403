"""Valid files of kinds that need more memory than their headers suggest, at any size."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Final

from PIL import Image

MEGABYTE: Final = 2**20

PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
START_OF_SCAN: Final = 0xDA
SHORT: Final = 3
"""Type of a tag of TIFF whose values have two bytes."""


def zeros(size: int) -> bytes:
    """Compress `size` zero bytes with zlib."""
    compressor = zlib.compressobj(9)
    parts = [compressor.compress(bytes(MEGABYTE)) for _ in range(size // MEGABYTE)]
    parts.append(compressor.compress(bytes(size % MEGABYTE)))
    return b"".join(parts) + compressor.flush()


def jpeg_of_separate_scans(width: int, height: int) -> bytes:
    """A baseline JPEG with a scan for each component, so that all coefficients are kept."""
    one_code = bytes([1] + [0] * 15) + b"\0"
    frame = struct.pack(">BHHB", 8, height, width, 3)
    frame += b"".join(bytes((number, 0x11, 0)) for number in (1, 2, 3))
    data = b"\xff\xd8" + jpeg_segment(0xDB, b"\0" + bytes([16] * 64)) + jpeg_segment(0xC0, frame)
    data += jpeg_segment(0xC4, b"\x00" + one_code) + jpeg_segment(0xC4, b"\x10" + one_code)
    blocks = -(-width // 8) * -(-height // 8)
    for number in (1, 2, 3):
        scan = jpeg_segment(START_OF_SCAN, bytes((1, number, 0, 0, 63, 0)))
        data += scan + bytes(-(-blocks * 2 // 8))  # two bits for each block
    return data + b"\xff\xd9"


def jpeg_segment(marker: int, body: bytes) -> bytes:
    """Build a marker segment (ITU T.81, B.1.1.4)."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def tiff_of_one_strip(width: int, height: int) -> bytes:
    """A TIFF in RGBA with 16 bits a sample, in one strip."""
    data = zeros(width * height * 8)
    return tiff_file(
        {
            **tiff_size(width, height, (16, 16, 16, 16)),
            273: (4, 1, 8),
            278: (4, 1, height),
            279: (4, 1, len(data)),
            338: (3, 1, 2),
        },
        data,
    )


def tiff_of_one_tile(width: int, height: int) -> bytes:
    """A TIFF of 16 × 16 pixels in one tile of `width` × `height`."""
    data = zeros(width * height * 3)
    return tiff_file(
        {
            **tiff_size(16, 16, (8, 8, 8)),
            322: (4, 1, width),
            323: (4, 1, height),
            324: (4, 1, 8),
            325: (4, 1, len(data)),
        },
        data,
    )


def tiff_of_strips(count: int) -> bytes:
    """A TIFF of 16 × 16 pixels that names `count` strips, each in one byte."""
    tags = {**tiff_size(16, 16, (8, 8, 8)), 278: (4, 1, 1), 279: (4, 1, 768)}
    return tiff_file({**tags, 259: (3, 1, 1), 273: (1, count, b"\x08" * count)}, bytes(768))


type Tag = tuple[int, int, int | bytes]
"""Type, count and value of a tag."""


def tiff_size(width: int, height: int, bits: tuple[int, ...]) -> dict[int, Tag]:
    """Return the tags of a picture in RGB or RGBA, compressed with deflate."""
    return {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, len(bits), struct.pack(f"<{len(bits)}H", *bits)),
        259: (3, 1, 8),
        262: (3, 1, 2),
        277: (3, 1, len(bits)),
    }


def tiff_file(tags: dict[int, Tag], payload: bytes) -> bytes:
    """Build a TIFF. The payload is at byte 8."""
    payload += bytes(len(payload) % 2)
    directory = 8 + len(payload)
    values = directory + 2 + 12 * len(tags) + 4
    entries = further = b""
    for tag, (kind, count, value) in sorted(tags.items()):
        if isinstance(value, int):
            field = struct.pack("<HH", value, 0) if kind == SHORT else struct.pack("<I", value)
        elif len(value) <= 4:  # noqa: PLR2004 - fits into the entry
            field = value.ljust(4, b"\0")
        else:
            field = struct.pack("<I", values + len(further))
            further += value + bytes(len(value) % 2)
        entries += struct.pack("<HHI", tag, kind, count) + field
    head = b"II*\0" + struct.pack("<I", directory) + payload
    return head + struct.pack("<H", len(tags)) + entries + bytes(4) + further


def bmp_of_runs(width: int, height: int) -> bytes:
    """A BMP with run lengths (RLE8): two bytes for 255 pixels."""
    row = b"\xff\1" * (width // 255) + (bytes((width % 255, 1)) if width % 255 else b"")
    body = (row + b"\0\0") * height + b"\0\1"
    start = 14 + 40 + 1024
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + bytes(1024) + body


def png_of_texts(width: int, height: int) -> bytes:
    """A PNG with 16 texts of 4 million characters, which would take four bytes each."""
    text = zlib.compress(("a" * (4 * MEGABYTE - 8) + "\U0001f600").encode(), 9)
    texts = b"".join(png_chunk(b"iTXt", b"k%d\0\1\0\0\0" % number + text) for number in range(16))
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zeros(height * (3 * width + 1)))
    return PNG_MAGIC + head + texts + pixels + png_chunk(b"IEND", b"")


def png_chunk(name: bytes, body: bytes) -> bytes:
    """Build a chunk with its checksum."""
    return len(body).to_bytes(4) + name + body + zlib.crc32(name + body).to_bytes(4)


def apng_with_a_default_image(width: int, height: int) -> bytes:
    """An APNG that begins with a still for viewers without animation."""
    frames = [Image.new("RGB", (width, height), colour) for colour in ("red", "blue", "green")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], default_image=True)
    return buffer.getvalue()


def webp_with_a_profile(width: int, height: int) -> bytes:
    """An animated WebP whose colour profile stands before what says that it is animated."""
    frames = [Image.new("RGB", (width, height), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], icc_profile=bytes(300))
    return buffer.getvalue()


def jp2_with_another_header(width: int, height: int) -> bytes:
    """A JPEG 2000 of one tile, with the header of tiny tiles in a box that nobody reads."""
    buffer = io.BytesIO()
    grey = Image.new("RGB", (width, height), (90, 90, 90))
    grey.save(buffer, "JPEG2000", no_jp2=False, num_resolutions=1)
    data = buffer.getvalue()
    at = data.index(b"jp2c") - 4
    size = struct.pack(">HH8IH", 47, 0, width, height, 0, 0, 64, 64, 0, 0, 3) + b"\7\1\1" * 3
    coding = struct.pack(">HBBHB5B", 12, 0, 0, 1, 0, 0, 4, 4, 0, 0)
    body = bytes(16) + b"\xff\x4f\xff\x51" + size + b"\xff\x52" + coding
    return data[:at] + (8 + len(body)).to_bytes(4) + b"uuid" + body + data[at:]


def avif_that_understates_its_planes(width: int, height: int) -> bytes:
    """An AVIF in 4:4:4 whose container (av1C) says that it is grey."""
    data = bytearray(_avif(width, height))
    at = data.index(b"av1C") + 6
    data[at] = data[at] & ~0x0C | 0x1C
    return bytes(data)


def avif_that_understates_its_size(width: int, height: int) -> bytes:
    """An AVIF whose container (ispe) says that it has 64 × 64 pixels."""
    data = bytearray(_avif(width, height))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = (64).to_bytes(4) * 2
    return bytes(data)


def _avif(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    picture = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    picture.save(buffer, "AVIF", speed=10, quality=10, subsampling="4:4:4")
    return buffer.getvalue()


KINDS: Final[dict[str, Callable[[int, int], bytes]]] = {
    "scans.jpg": jpeg_of_separate_scans,
    "strip16.tif": tiff_of_one_strip,
    "tile.tif": tiff_of_one_tile,
    "strips.tif": lambda width, height: tiff_of_strips(width * height // 60),
    "runs.bmp": bmp_of_runs,
    "texts.png": png_of_texts,
    "default.png": apng_with_a_default_image,
    "profile.webp": webp_with_a_profile,
    "header.jp2": jp2_with_another_header,
    "planes.avif": avif_that_understates_its_planes,
    "size.avif": avif_that_understates_its_size,
}
"""Name of a file → what makes it, for a width and a height in pixels."""
