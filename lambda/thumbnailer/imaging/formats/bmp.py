"""Windows bitmap (BMP)."""

import io
import struct
from itertools import combinations
from typing import Any, Final, NamedTuple

from PIL import BmpImagePlugin, Image, ImageChops, ImageFile

from thumbnailer.errors import UnsupportedImage
from thumbnailer.imaging.formats.format import Format
from thumbnailer.imaging.limits import pixels
from thumbnailer.imaging.resize import BAND_PIXELS
from thumbnailer.imaging.spec import PixelSize

FILE_HEADER_BYTES: Final = 14
INFO_BYTES: Final = 40
"""Sizes of BITMAPFILEHEADER and BITMAPINFOHEADER ([MS-WMF] 2.2.2.3)."""

OS2_BYTES: Final = 64
ALPHA_BYTES: Final = 56
"""Sizes of the headers of OS/2, and of the smallest one with a mask for alpha."""

RUN_LENGTHS: Final = (1, 2)
"""Compression RLE8 and RLE4 ([MS-WMF] 2.1.1.7)."""

RUN_LENGTH_BYTES: Final = 2.7
"""For each pixel with run lengths: Pillow expands all of them, and copies the result."""

BIT_FIELDS, ALPHA_BIT_FIELDS = 3, 6
"""Compression BI_BITFIELDS and BI_ALPHABITFIELDS ([MS-WMF] 2.1.1.7; wingdi.h of Windows CE)."""

ALPHA_COPY_BYTES: Final = 1
"""For each pixel with alpha: a copy of its alpha, which is checked."""

BIT_FIELD_BYTES: Final = 24
"""For each pixel of a band of rows: its bytes, each of them as a picture, the samples, and RGBA."""

BIT_FIELD_CODEC: Final = "bit fields"
"""Name of a tile that this module decodes. Pillow has no decoder of that name."""

BYTES_OF: Final = {16: "LA", 32: "RGBA"}
"""Bits of a pixel → a mode that has its bytes as bands, the lowest first."""

READ_BY_PILLOW: Final = (
    (16, (0xF800, 0x7E0, 0x1F, 0)),
    (16, (0x7C00, 0x3E0, 0x1F, 0)),
    (32, (0xFF0000, 0xFF00, 0xFF, 0)),
    (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    (32, (0, 0, 0, 0)),
)
"""Bits of a pixel and its masks of red, green, blue and alpha: the layouts that are common."""

RARE: Final = {
    4: "a JPEG inside",
    5: "a PNG inside",
    11: "CMYK colours",
    12: "CMYK colours",
    13: "CMYK colours",
}
RARE_OF_OS2: Final = {3: "Huffman compression", 4: "run lengths of 24 bits"}
"""Compressions that are valid and that nothing here decodes ([MS-WMF] 2.1.1.7)."""

RARE_BITS: Final = (2, 64)
"""Bits of a pixel in bitmaps of Windows CE and GDI+."""

OS2_SIZES: Final = range(16, OS2_BYTES)
"""Sizes of a shortened OS22XBITMAPHEADER."""


Tile: Final = ImageFile._Tile  # noqa: SLF001 - no decoder can be described without it


class Header(NamedTuple):
    """What a bitmap's header (of `size` bytes) says. `masks` are those of red, green, blue, alpha.

    `height` is negative where the first row is the upper one. `end` is where the header and its
    masks end, from the header's beginning.
    """

    size: int
    width: int
    height: int
    bits: int
    compression: int
    masks: tuple[int, ...]
    end: int


def header(data: bytes) -> Header | None:
    """Read a header (BITMAPINFOHEADER or a later one); None where it is older or cut off."""
    try:
        size, width, height, _, bits, compression = struct.unpack_from("<IiiHHI", data)
        if size < INFO_BYTES:
            return None
        masks: tuple[int, ...] = ()
        if compression in (BIT_FIELDS, ALPHA_BIT_FIELDS) and size != OS2_BYTES:
            with_alpha = size >= ALPHA_BYTES or compression == ALPHA_BIT_FIELDS
            masks = struct.unpack_from("<4I" if with_alpha else "<3I", data, INFO_BYTES)
    except struct.error:
        return None
    end = max(size, INFO_BYTES + 4 * len(masks))
    whole = (1 << min(bits, 32)) - 1
    masks = tuple(mask & whole for mask in (*masks, 0)[:4]) if masks else ()
    return Header(size, width, height, bits, compression, masks, end)


class BmpFile(BmpImagePlugin.DibImageFile):
    """Pillow's reader, and bit fields of any masks.

    As in browsers, alpha that is 0 everywhere is not alpha: the picture is opaque.
    """

    format = "BMP"
    header_at = FILE_HEADER_BYTES
    found: Header | None = None

    def _open(self) -> None:
        file: Any = self.fp
        start = self.header_at
        head = file.read(start + INFO_BYTES + ALPHA_BYTES)
        (offset,) = struct.unpack_from("<I", head, FILE_HEADER_BYTES - 4) if start else (0,)
        self.found = found = header(head[start:])
        refuse(found, head[start:])
        file.seek(start)
        if found is None or not found.masks or is_read_by_pillow(found):
            self._bitmap(offset=offset)
            return
        self._size = (found.width, abs(found.height))
        self._mode = "RGBA" if found.masks[3] else "RGB"
        self.info["compression"] = found.compression
        pixels_at = offset or start + found.end
        self.tile = [Tile(BIT_FIELD_CODEC, (0, 0, *self.size), pixels_at)]

    def load(self) -> Any:
        """Decode the pixels."""
        if self.found and self.tile and self.tile[0].codec_name == BIT_FIELD_CODEC:
            self.load_prepare()
            self._load_fields(self.found, self.tile[0].offset)
            self.tile = []
            self.load_end()
        return super().load()

    def load_end(self) -> None:
        """Drop alpha that is 0 everywhere."""
        if self.mode == "RGBA" and self.im.getband(3).getextrema() == (0, 0):
            self.im.fillband(3, 255)

    def _load_fields(self, found: Header, offset: int) -> None:
        """Decode in bands of rows, so that no second picture of full size is made."""
        file: Any = self.fp
        file.seek(offset)
        width, height = self.size
        row_bytes = -(-width * found.bits // 32) * 4
        rows = max(1, BAND_PIXELS // width)
        for first in range(0, height, rows):
            count = min(rows, height - first)
            data = file.read(count * row_bytes)
            if len(data) < count * row_bytes:
                raise OSError(f"only {first + len(data) // row_bytes} of {height} rows are there")
            layout = BYTES_OF[found.bits]
            direction = 1 if found.height < 0 else -1
            band = Image.frombytes(
                layout, (width, count), data, "raw", layout, row_bytes, direction
            )
            samples = [_sample(band.split(), mask) for mask in found.masks]
            picture = Image.merge(self.mode, samples[: len(self.mode)])
            top = first if found.height < 0 else height - first - count
            self.im.paste(picture.im, (0, top, width, top + count))


def refuse(found: Header | None, data: bytes) -> None:
    """Raise UnsupportedImage for a bitmap that is valid and that nothing here decodes.

    `data` begins with its header, and `found` is what `header` made of it.
    """
    size = int.from_bytes(data[:4], "little")
    rare = None
    if size in OS2_SIZES and size not in (INFO_BYTES, 52, ALPHA_BYTES):
        rare = f"a header of {size} bytes"
    elif found is not None:
        compressions = RARE_OF_OS2 if found.size == OS2_BYTES else RARE
        rare = compressions.get(found.compression)
        if found.bits in RARE_BITS and rare is None:
            rare = f"{found.bits} bits for each pixel"
        if found.masks and not rare and not _are_fields(found):
            masks = ", ".join(f"{mask:#x}" for mask in found.masks)
            rare = f"bit fields of {found.bits} bits that are not separate runs of bits ({masks})"
    if rare:
        raise UnsupportedImage(
            f"Unsupported kind of BMP: {rare}. Save the picture as a BMP of 24 bits, or as a PNG."
        )


def is_read_by_pillow(found: Header) -> bool:
    """Whether Pillow itself reads these bit fields."""
    return found.compression == BIT_FIELDS and (found.bits, found.masks) in READ_BY_PILLOW


def _are_fields(found: Header) -> bool:
    """Whether each mask is one run of bits, and none has bits of another."""
    runs = all((mask + (mask & -mask)) & mask == 0 for mask in found.masks)
    apart = all(one & other == 0 for one, other in combinations(found.masks, 2))
    return found.bits in BYTES_OF and runs and apart


def _sample(parts: tuple[Image.Image, ...], mask: int) -> Image.Image:
    """Take the bits of `mask` out of pixels whose bytes are `parts`, and scale them to 8 bits."""
    picture = Image.new("L", parts[0].size)
    if not mask:
        return picture
    lowest = (mask & -mask).bit_length() - 1
    bits = mask.bit_length() - lowest
    lowest += max(0, bits - 8)  # of more than 8 bits, the highest 8 are kept
    for at, part in enumerate(parts):
        own = mask >> 8 * at & 0xFF
        values = [(value & own) << 8 * at >> lowest for value in range(256)]
        if any(values):
            picture = ImageChops.add(picture, part.point(values))
    highest = (1 << min(bits, 8)) - 1
    return picture.point([min(255, round(value * 255 / highest)) for value in range(256)])


def recognise(data: bytes) -> bool:
    """See Format."""
    return data.startswith(b"BM")


def open_bmp(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format."""
    return BmpFile(io.BytesIO(data))


def decoder_bytes(image: ImageFile.ImageFile, _data: bytes, _decoded: PixelSize) -> float:
    """See Format."""
    if image.info.get("compression") in RUN_LENGTHS:
        return pixels(image.size) * RUN_LENGTH_BYTES
    alpha = pixels(image.size) * ALPHA_COPY_BYTES if image.mode == "RGBA" else 0
    if image.info.get("compression") in (BIT_FIELDS, ALPHA_BIT_FIELDS):
        band = min(pixels(image.size), max(BAND_PIXELS, image.size[0]))
        return float(max(BIT_FIELD_BYTES * band, alpha))
    return float(alpha)


FORMAT: Final = Format(
    name="BMP",
    title="BMP",
    recognise=recognise,
    open=open_bmp,
    decoder_bytes=decoder_bytes,
)
