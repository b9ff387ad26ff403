"""What the main header of a JPEG 2000 codestream tells of the cost of decoding it."""

import struct
from typing import Final, NamedTuple

START: Final = b"\xff\x4f\xff\x51"
"""SOC, and SIZ, which always follows it (ISO/IEC 15444-1, A.5)."""

COD: Final = b"\xff\x52"
MOST_LEVELS: Final = 32
CUSTOM_PRECINCTS: Final = 1
LARGEST_PRECINCT: Final = b"\xff"


class Codestream(NamedTuple):
    """How an image is cut: what its decoder works on.

    `levels` is how often it can be halved, `tile` the (width, height) in pixels of what is decoded
    at once, `blocks` the number of parts in a tile that are coded on their own, for each component.
    """

    levels: int
    tile: tuple[int, int]
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
    if levels > MOST_LEVELS:
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
