"""JPEG 2000: files (JP2) and bare codestreams."""

import io
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from PIL import Image, ImageFile, ImagePalette, Jpeg2KImagePlugin

from thumbnailer.errors import UnsupportedImage
from thumbnailer.imaging.formats import jp2
from thumbnailer.imaging.formats.format import Format
from thumbnailer.imaging.formats.isobmff import siblings
from thumbnailer.imaging.limits import pixels
from thumbnailer.imaging.resize import Box, divided
from thumbnailer.imaging.spec import PixelSize

FILE_MAGIC: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
START: Final = b"\xff\x4f\xff\x51"
"""SOC, and SIZ, which always follows it (ISO/IEC 15444-1, A.5)."""

COMPONENTS_AT: Final = 40
"""Where the codestream has the number of its components, and behind it their depths (A.5.1)."""

SOT, SOD, COD, COC, EOC = 0xFF90, 0xFF93, 0xFF52, 0xFF53, 0xFFD9
"""Markers: start of a tile-part, start of its data, coding styles, end (A.2)."""

MAX_TILE_PARTS: Final = 1_000_000
MAX_LEVELS: Final = 32
MAX_WIDE_COMPONENTS: Final = 257
"""With this many components, the number of one takes two bytes (A.6.2)."""

CUSTOM_PRECINCTS: Final = 1
LARGEST_PRECINCT: Final = b"\xff"
"""Of the coding style (A.6.1)."""

SAMPLE_BYTES: Final = 5.2
"""For each sample of a tile at the decoded scale: OpenJPEG's 32-bit integer, and Pillow's byte."""

BLOCK_BYTES: Final = 450
"""For each code block of a tile, at every scale (opj_tcd_init_tile)."""


BANDS: Final = 3 / 4
"""Of a level's samples: the lowest band is that of the level below (B.5)."""

PRECINCT_BLOCKS: Final = 0.5
"""A precinct takes half as much as a code block."""

TILE_BYTES: Final = 6_000
TILE_COMPONENT_BYTES: Final = 1_100
"""For each tile of the image, and each component in it: its parameters (opj_tcp_t, opj_tccp_t)."""


class Codestream(NamedTuple):
    """How an image is divided into what its decoder works on.

    `levels` is how often the image can be halved. `tile` is the size of what is decoded at once, of
    `tiles` in all. `blocks` is the number of parts in a tile that are coded on their own, for each
    component. Tiles and components may be coded differently: it is the largest number of all.
    `coded_bytes` is the size of the largest tile in the file.
    """

    levels: int
    tile: PixelSize
    tiles: int
    blocks: float
    coded_bytes: int


def codestream(data: bytes) -> Codestream:
    """Read SIZ (A.5.1) and every COD and COC (A.6.1, A.6.2), those of tiles included.

    Raises ValueError where they are not there or are cut off.
    """
    try:
        start = codestream_start(data)
        if data[start : start + 4] != START:
            raise ValueError("the codestream does not begin with its size")
        width, height, left, top, *grid = struct.unpack_from(">8I", data, start + 8)
        (components,) = struct.unpack_from(">H", data, start + COMPONENTS_AT)
        if not grid[0] or not grid[1]:
            raise ValueError("tiles of no size")
        tile = (min(grid[0], width - left), min(grid[1], height - top))
        coded: Counter[int] = Counter()
        found = [_style(data, *each, tile, components) for each in _styles(data, start + 2, coded)]
    except struct.error as error:
        raise ValueError("the header of the codestream is cut off") from error
    if not found:
        raise ValueError("the codestream has no coding style")
    levels = min(each[0] for each in found)
    blocks = max(each[1] for each in found)
    tiles = -(-(width - grid[2]) // grid[0]) * -(-(height - grid[3]) // grid[1])
    # With an offset the scaled size is not that of the image's own pixels.
    coded_bytes = min(len(data), max(coded.values(), default=0))
    return Codestream(0 if left or top else levels, tile, tiles, blocks, coded_bytes)


def codestream_start(data: bytes) -> int:
    """Return where the codestream begins: in a file, in the first box jp2c (I.5.4).

    Raises ValueError where there is none.
    """
    if data.startswith(START):
        return 0
    for name, start, _ in siblings(data, 0, len(data)):
        if name == b"jp2c":
            return start
    raise ValueError("the file has no codestream")


def _styles(data: bytes, at: int, coded: Counter[int]) -> Iterator[tuple[int, int]]:
    """Yield marker and place of each COD and COC from the marker at `at` on.

    The bytes of each tile are added to `coded`.

    Raises struct.error where a marker is cut off, but not for tile-parts that are not there.
    """
    tile_part = 0
    for _ in range(MAX_TILE_PARTS):
        while (marker := _number(data, at)) not in (SOT, SOD, EOC):
            if marker in (COD, COC):
                yield marker, at
            at += 2 + max(2, _number(data, at + 2))
        if marker == SOT:
            tile_part = at
            at += 2 + max(2, _number(data, at + 2))
            continue
        number, length = struct.unpack_from(">HI", data, tile_part + 4)
        coded[number] += length or len(data) - tile_part
        at = tile_part + length
        if marker == EOC or length <= 12 or at + 12 > len(data):  # noqa: PLR2004 - SOT itself
            return
        if _number(data, at) != SOT:
            return
    raise ValueError("more tile-parts than can be read")


def _number(data: bytes, at: int) -> int:
    return int(struct.unpack_from(">H", data, at)[0])


def _style(
    data: bytes, marker: int, at: int, tile: PixelSize, components: int
) -> tuple[int, float]:
    """Return the levels and the blocks of one COD or COC."""
    if marker == COD:
        style, at = data[at + 4], at + 9
    else:
        at += 5 if components < MAX_WIDE_COMPONENTS else 6
        style, at = data[at], at + 1
    levels, block_width, block_height = struct.unpack_from(">3B", data, at)
    if levels > MAX_LEVELS:
        raise ValueError(f"{levels} levels of resolution")
    precincts = data[at + 5 : at + 6 + levels] if style & CUSTOM_PRECINCTS else b""
    blocks = 0.0
    for level, precinct in enumerate(precincts.ljust(levels + 1, LARGEST_PRECINCT)):
        area = tile[0] * tile[1] / 4 ** (levels - level) * (BANDS if level else 1)
        halved = 1 if level else 0  # a precinct's part in each of the three bands (B.7)
        across, down = (max(0, bits - halved) for bits in (precinct & 15, precinct >> 4))
        block_bits = min(block_width + 2, across) + min(block_height + 2, down)
        blocks += max(1, area / 2**block_bits)
        blocks += PRECINCT_BLOCKS * max(1, area / 2 ** (across + down))
    return levels, blocks


class Jpeg2KFile(Jpeg2KImagePlugin.Jpeg2KImageFile):
    """Pillow's reader. `copied_bytes` is the size of a copy of the file that it reads from."""

    copied_bytes = 0


def recognise(data: bytes) -> bool:
    """See Format."""
    return data.startswith((FILE_MAGIC, START))


def open_jpeg2000(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format."""
    if jp2.has_palette(data):
        return open_with_palette(data)
    jp2.refuse(data, components_of(data))
    return Jpeg2KFile(io.BytesIO(data))


def components_of(data: bytes) -> int:
    """Read the number of components. Raises struct.error or ValueError where it is not there."""
    (components,) = struct.unpack_from(">H", data, codestream_start(data) + COMPONENTS_AT)
    return int(components)


def open_with_palette(data: bytes) -> ImageFile.ImageFile:
    """Open the colour numbers of a file, and give them its palette.

    Raises UnsupportedImage for a palette that cannot be read, and ValueError for a broken one.
    """
    try:
        start = codestream_start(data)
        components, kind = struct.unpack_from(">HB", data, start + COMPONENTS_AT)
        if components != 1 or kind & jp2.SIGNED:
            raise UnsupportedImage(
                "Unsupported palette of a JPEG 2000 file: "
                f"{components} components, of which only one is allowed, without a sign."
            )
        colours = jp2.colours(data, kind + 1)
    except struct.error as error:
        raise ValueError("the palette is cut off") from error
    plain = jp2.without_palette(data)
    image = Jpeg2KFile(io.BytesIO(plain))
    image.copied_bytes = len(plain)
    image._mode = "P"  # noqa: SLF001
    image.palette = ImagePalette.ImagePalette(colours.mode, colours.data)
    image.palette.dirty = 1
    return image


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, decoded: PixelSize) -> float:
    """See Format."""
    stream = codestream(data)
    scale = image.size[0] / decoded[0]
    samples = min(pixels(decoded), pixels(stream.tile) / scale**2)
    components = len(image.getbands())
    return (
        components * (samples * SAMPLE_BYTES + stream.blocks * BLOCK_BYTES)
        + stream.coded_bytes
        + stream.tiles * (TILE_BYTES + components * TILE_COMPONENT_BYTES)
    )


def max_scale(data: bytes) -> int:
    """See Format. Colour numbers cannot be averaged."""
    return 1 if jp2.has_palette(data) else int(2 ** codestream(data).levels)


def decode(image: ImageFile.ImageFile, _size: PixelSize, scale: int) -> tuple[Image.Image, Box]:
    """See Format.

    Pillow's own `reduce` rounds the size where the standard rounds it up (B.5), and then fails. So
    the size and the decoder's arguments are set here.
    """
    box = (0.0, 0.0, image.size[0] / scale, image.size[1] / scale)
    if scale > 1:
        file: Any = image
        file._size = divided(image.size, (scale, scale))  # noqa: SLF001
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
    needs_child=True,
    max_scale=max_scale,
    decode=decode,
)
