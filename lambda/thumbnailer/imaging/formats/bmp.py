"""Windows bitmap (BMP)."""

import io
import struct
from itertools import combinations
from typing import Any, Final, NamedTuple

from PIL import BmpImagePlugin, Image, ImageChops, ImageFile, ImagePalette

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

COLOURS_AT: Final = 32
"""Where BITMAPINFOHEADER says how many colours the palette has, from its beginning."""

MAX_PALETTE_BITS: Final = 8

RUN_LENGTHS: Final = (1, 2)
"""Compression RLE8 and RLE4 ([MS-WMF] 2.1.1.7)."""

END_OF_LINE, END_OF_BITMAP, DELTA = 0, 1, 2
"""Escapes between run lengths; larger ones count pixels that follow as they are (3.1.6)."""

RUN_LENGTH_BYTES: Final = 2.7
"""For each pixel with run lengths: its expanded byte, and the row of each that no run covers."""

BLACK: Final = bytes(3)

NIBBLES: Final = bytes.maketrans(b"0123456789abcdef", bytes(range(16)))
"""Hexadecimal digits → pixels of four bits."""

BIT_FIELDS, ALPHA_BIT_FIELDS = 3, 6
"""Compression BI_BITFIELDS and BI_ALPHABITFIELDS ([MS-WMF] 2.1.1.7; wingdi.h of Windows CE)."""

ALPHA_COPY_BYTES: Final = 1
"""For each pixel with alpha: a copy of its alpha, which is checked."""

BIT_FIELD_BYTES: Final = 24
"""For each pixel of a band of rows: its bytes, each of them as a picture, the samples, and RGBA."""

BIT_FIELD_CODEC, RUN_LENGTH_CODEC = "bit fields", "run lengths"
"""Names of tiles that this module decodes. Pillow has no decoders of these names."""

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
    """Pillow's reader, bit fields of any masks, and run lengths that leave out pixels.

    Alpha that is 0 everywhere is not alpha: the picture is opaque. As in browsers, a palette has no
    more colours than its pixels can name, and pixels that no run covers are black.
    """

    format = "BMP"
    header_at = FILE_HEADER_BYTES
    found: Header | None = None
    is_copied = False
    """Whether the bytes of the file were copied, to correct the header."""

    def _open(self) -> None:
        file: Any = self.fp
        start = self.header_at
        head = file.read(start + INFO_BYTES + ALPHA_BYTES)
        (offset,) = struct.unpack_from("<I", head, FILE_HEADER_BYTES - 4) if start else (0,)
        self.found = found = header(head[start:])
        refuse(found, head[start:])
        file.seek(start)
        if found is None or not found.masks or is_read_by_pillow(found):
            if found is not None and has_excess_colours(found, head[start:]):
                file.seek(start + COLOURS_AT)
                file.write(bytes(4))  # as many as there can be
                file.seek(start)
                self.is_copied = True
            self._bitmap(offset=offset)
            if self.info["compression"] in RUN_LENGTHS:
                self._expect_runs()
            return
        self._size = (found.width, abs(found.height))
        self._mode = "RGBA" if found.masks[3] else "RGB"
        self.info["compression"] = found.compression
        pixels_at = offset or start + found.end
        self.tile = [Tile(BIT_FIELD_CODEC, (0, 0, *self.size), pixels_at)]

    def load(self) -> Any:
        """Decode the pixels."""
        codec = self.tile[0].codec_name if self.tile else None
        if self.found and codec in (BIT_FIELD_CODEC, RUN_LENGTH_CODEC):
            self.load_prepare()
            read = self._load_fields if codec == BIT_FIELD_CODEC else self._load_runs
            read(self.found, self.tile[0].offset)
            self.tile = []
            self.load_end()
        return super().load()

    def load_end(self) -> None:
        """Drop alpha that is 0 everywhere."""
        if self.mode == "RGBA" and self.im.getband(3).getextrema() == (0, 0):
            self.im.fillband(3, 255)

    def _expect_runs(self) -> None:
        self.tile = [self.tile[0]._replace(codec_name=RUN_LENGTH_CODEC)]
        if self.mode == "1":  # pixels are 0 and 1, and not the levels of this mode
            self._mode = "P"
            self.palette = ImagePalette.raw("RGB", b"\0\0\0\xff\xff\xff")

    def _load_runs(self, found: Header, offset: int) -> None:
        """Expand run lengths. Pixels that no run covers are black, if the palette has black."""
        file: Any = self.fp
        file.seek(offset)
        data, gaps = expanded(file, self.size, is_rle4=found.compression == RUN_LENGTHS[1])
        if gaps and self.mode == "P":  # in grey, they are black already
            palette = self.im.getpalette("RGB", "RGB")
            colours = [palette[at : at + 3] for at in range(0, len(palette), 3)]
            # Pillow shows a number that has no colour in black.
            black = [*colours, BLACK].index(BLACK) % 256
            for gap in gaps:
                data[gap.start : gap.stop] = bytes([black]) * len(gap)
        direction = 1 if found.height < 0 else -1
        picture = Image.frombuffer(self.mode, self.size, data, "raw", self.mode, 0, direction)
        self.im.paste(picture.im, (0, 0, *self.size))

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


def expanded(file: Any, size: PixelSize, *, is_rle4: bool) -> tuple[bytearray, list[range]]:
    """Expand run lengths to a byte for each pixel; also return which of them no run covers.

    What is longer than its row is cut off, as in browsers. Raises OSError if rows are missing: the
    file ends, and nothing says that the picture does.
    """
    width, height = size
    data = bytearray()
    gaps: list[range] = []
    x = y = 0
    while y < height:
        count, value = _next(file, 2, data, size)
        if count == 0 and value == END_OF_BITMAP:
            break
        if count == 0 and value == END_OF_LINE:
            x, y = 0, y + 1
        elif count == 0 and value == DELTA:
            right, up = _next(file, 2, data, size)
            x, y = min(width, x + right), y + up
        else:
            if count:
                stored = bytes([value]) * count
            else:
                count = value
                stored_bytes = (count + 1) // 2 if is_rle4 else count
                stored = _next(file, stored_bytes, data, size)
                file.seek(stored_bytes % 2, io.SEEK_CUR)
            if is_rle4:
                stored = stored.hex().encode().translate(NIBBLES)
            _skip_to(y * width + x, data, gaps)
            data += stored[: min(count, width - x)]
            x = min(width, x + count)
            if len(data) == width * height:
                break
    _skip_to(width * height, data, gaps)
    return data, gaps


def _next(file: Any, count: int, data: bytearray, size: PixelSize) -> bytes:
    found: bytes = file.read(count)
    if len(found) < count:
        raise OSError(f"only {len(data) // size[0]} of {size[1]} rows are there")
    return found


def _skip_to(place: int, data: bytearray, gaps: list[range]) -> None:
    if place > len(data):
        gaps.append(range(len(data), place))
        data.extend(bytes(place - len(data)))


def has_excess_colours(found: Header, data: bytes) -> bool:
    """Whether a palette claims more colours than pixels can name. `data` begins with the header."""
    (colours,) = struct.unpack_from("<I", data, COLOURS_AT)
    return found.bits <= MAX_PALETTE_BITS and colours > 1 << found.bits


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


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, _decoded: PixelSize) -> float:
    """See Format."""
    copy = len(data) if getattr(image, "is_copied", False) else 0
    if image.info.get("compression") in RUN_LENGTHS:
        return pixels(image.size) * RUN_LENGTH_BYTES + copy
    alpha = pixels(image.size) * ALPHA_COPY_BYTES if image.mode == "RGBA" else 0
    if image.info.get("compression") in (BIT_FIELDS, ALPHA_BIT_FIELDS):
        band = min(pixels(image.size), max(BAND_PIXELS, image.size[0]))
        return float(max(BIT_FIELD_BYTES * band, alpha))
    return float(alpha + copy)


FORMAT: Final = Format(
    name="BMP",
    title="BMP",
    recognise=recognise,
    open=open_bmp,
    decoder_bytes=decoder_bytes,
)
