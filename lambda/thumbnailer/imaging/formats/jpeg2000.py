"""JPEG 2000: files (JP2) and bare codestreams."""

import io
import struct
from typing import Any, Final, NamedTuple

from PIL import Image, ImageFile, Jpeg2KImagePlugin

from thumbnailer.imaging.formats.format import Format
from thumbnailer.imaging.limits import pixels
from thumbnailer.imaging.resize import Box, divided
from thumbnailer.imaging.spec import PixelSize

FILE_MAGIC: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
START: Final = b"\xff\x4f\xff\x51"
"""SOC, and SIZ, which always follows it (ISO/IEC 15444-1, A.5)."""

COD: Final = b"\xff\x52"
MAX_LEVELS: Final = 32
CUSTOM_PRECINCTS: Final = 1
LARGEST_PRECINCT: Final = b"\xff"
"""Of the coding style (A.6.1)."""

SAMPLE_BYTES: Final = 5.2
"""For each sample of a tile at the decoded scale: OpenJPEG's 32-bit integer, and Pillow's byte."""

BLOCK_BYTES: Final = 450
"""For each code block of a tile, at every scale (opj_tcd_init_tile)."""


class Codestream(NamedTuple):
    """How an image is divided into what its decoder works on.

    `levels` is how often the image can be halved. `tile` is the size of what is decoded at once.
    `blocks` is the number of parts in a tile that are coded on their own, for each component.
    """

    levels: int
    tile: PixelSize
    blocks: float


def codestream(data: bytes) -> Codestream:
    """Read SIZ (A.5.1) and COD (A.6.1). Raises ValueError where they are not there."""
    start = data.find(START)
    cod = data.find(COD, start)
    if start < 0 or cod < 0:
        raise ValueError("the header of the codestream is not there")
    try:
        width, height, left, top, *grid = struct.unpack_from(">6I", data, start + 8)
        style, levels, block_width, block_height = struct.unpack_from(">B4x3B", data, cod + 4)
    except struct.error as error:
        raise ValueError("the header of the codestream is cut off") from error
    if levels > MAX_LEVELS:
        raise ValueError(f"{levels} levels of resolution")
    tile = (min(grid[0], width - left), min(grid[1], height - top))
    precincts = data[cod + 14 : cod + 15 + levels] if style & CUSTOM_PRECINCTS else b""
    blocks = 0.0
    for level, precinct in enumerate(precincts.ljust(levels + 1, LARGEST_PRECINCT)):
        pixels = tile[0] * tile[1] / 4 ** (levels - level)
        across = min(block_width + 2, precinct & 15)
        down = min(block_height + 2, precinct >> 4)
        blocks += max(1, pixels / 2 ** (across + down))
    # With an offset the scaled size is not that of the image's own pixels.
    return Codestream(0 if left or top else levels, tile, blocks)


def recognise(data: bytes) -> bool:
    """See Format."""
    return data.startswith((FILE_MAGIC, START))


def open_jpeg2000(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format."""
    return Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(data))


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, decoded: PixelSize) -> float:
    """See Format."""
    stream = codestream(data)
    scale = image.size[0] / decoded[0]
    samples = min(pixels(decoded), pixels(stream.tile) / scale**2)
    return len(image.getbands()) * (samples * SAMPLE_BYTES + stream.blocks * BLOCK_BYTES)


def max_scale(data: bytes) -> int:
    """See Format."""
    return int(2 ** codestream(data).levels)


def decode(image: ImageFile.ImageFile, _size: PixelSize, scale: int) -> tuple[Image.Image, Box]:
    """See Format.

    Pillow's own `reduce` rounds the size where the standard rounds it up (B.5), and then fails. So
    the size and the decoder's arguments are set here.
    """
    box = (0.0, 0.0, image.size[0] / scale, image.size[1] / scale)
    if scale > 1:
        file: Any = image
        file._size = divided(image.size, scale)  # noqa: SLF001
        tile = image.tile[0]
        assert isinstance(tile.args, tuple)  # noqa: S101 - always, for this decoder
        codec, _, *others = tile.args
        args = (codec, scale.bit_length() - 1, *others)
        image.tile = [tile._replace(extents=(0, 0, *image.size), args=args)]
    image.load()
    return image, box


FORMAT: Final = Format(
    name="JPEG2000",
    title="JPEG 2000",
    recognise=recognise,
    open=open_jpeg2000,
    decoder_bytes=decoder_bytes,
    max_scale=max_scale,
    decode=decode,
)
