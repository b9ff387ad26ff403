"""Windows icons (ICO) and cursors (CUR): the deepest of the largest pictures."""

import io
import struct
from typing import Any, Final, NamedTuple

from PIL import Image, ImageFile

from thumbnailer.imaging.formats import png
from thumbnailer.imaging.formats.bmp import BmpFile, header
from thumbnailer.imaging.formats.format import Format
from thumbnailer.imaging.formats.isobmff import brands
from thumbnailer.imaging.limits import OTHER_BYTES, pixels, refuse_over
from thumbnailer.imaging.spec import PixelSize

ICON: Final = b"\0\0\1\0"
CURSOR: Final = b"\0\0\2\0"

ENTRY: Final = struct.Struct("<4B2H2I")
"""Width, height, colours, a reserved byte, planes, bits of a pixel, bytes and place. A cursor has
its hot spot in place of planes and bits (https://learn.microsoft.com/previous-versions/ms997538)."""

DIRECTORY_AT: Final = 6
LARGEST: Final = 256
"""What a width or height of 0 means."""

HEADER_BYTES: Final = 64
"""More than the part of a bitmap's header that is read."""

ALPHA_BITS: Final = 32
"""Bits of a pixel with alpha. A PNG file counts as such a picture."""

PIXEL_BYTES: Final = 3 * OTHER_BYTES
"""The bitmap, the same with alpha, and its bytes in the file."""


class Entry(NamedTuple):
    """A picture of the icon: its size in pixels, the bits of a pixel, and its place in the file."""

    area: int
    bits: int
    place: int


class IconFile(BmpFile):
    """A bitmap of an icon, which has no file header: its colours, then a mask of one bit a pixel.

    The mask says what is transparent, unless there is alpha that is not 0 everywhere.
    """

    format = "ICO"
    header_at = 0

    def _open(self) -> None:
        super()._open()
        width, height = self._size[0], self._size[1] // 2  # the height counts the mask too
        tile = self.tile[0]
        bits = self.found.bits if self.found else 0
        if bits == ALPHA_BITS and self.mode == "RGB" and tile.codec_name == "raw":
            tile = tile._replace(args=("BGRA", *tile.args[1:]))  # type: ignore[index]
            self._mode = "RGBA"
        self._size = (width, height)
        self._stored_mode = self.mode
        self._mode = "RGBA"
        self._mask_at = tile.offset + -(-width * bits // 32) * 4 * height
        self.tile = [tile._replace(extents=(0, 0, width, height))]

    def load_prepare(self) -> None:
        """Begin with the colours."""
        self._mode = self._stored_mode
        super().load_prepare()

    def load_end(self) -> None:
        """Add the mask, where there is no alpha."""
        if self.mode == "RGBA" and self.im.getband(3).getextrema() != (0, 0):
            return
        if self.mode != "RGBA":
            self.im = self.im.convert("RGBA", Image.Dither.NONE)
            self._mode = "RGBA"
        width, height = self.size
        file: Any = self.fp
        file.seek(self._mask_at)
        row_bytes = -(-width // 32) * 4
        data = file.read(row_bytes * height)
        if len(data) < row_bytes * height:  # some icons have none
            self.im.fillband(3, 255)
            return
        mask = Image.frombytes("1", self.size, data, "raw", "1;I", row_bytes, -1)
        self.im.putband(mask.convert("L").im, 3)


def recognise(data: bytes) -> bool:
    """See Format. A box of 256 bytes, with which an ISO media file may begin, starts alike.

    A TGA image may begin like a cursor that contains no picture.
    """
    if data.startswith(CURSOR):
        return data[4:DIRECTORY_AT] != b"\0\0"
    return data.startswith(ICON) and not brands(data)


def open_ico(data: bytes, memory_mb: int) -> ImageFile.ImageFile:
    """See Format. Where the picture is a PNG file, that file is opened."""
    chosen = max(entries(data), key=lambda each: (each.area, each.bits))
    picture = data[chosen.place :]
    if png.recognise(picture):
        return png.open_png(picture, memory_mb)
    width, height = struct.unpack_from("<ii", picture, 4)
    size = (abs(width), abs(height) // 2)
    refuse_over(pixels(size) * PIXEL_BYTES, f"ICO of {size[0]} × {size[1]} pixels", memory_mb)
    return IconFile(io.BytesIO(picture))


def entries(data: bytes) -> list[Entry]:
    """List the pictures of a file. Raises struct.error where the directory is cut off."""
    (count,) = struct.unpack_from("<H", data, DIRECTORY_AT - 2)
    found = []
    for at in range(DIRECTORY_AT, DIRECTORY_AT + count * ENTRY.size, ENTRY.size):
        width, height, _, _, _, bits, _, place = ENTRY.unpack_from(data, at)
        if not bits or data.startswith(CURSOR):
            bits = _bits(data, place)
        found.append(Entry((width or LARGEST) * (height or LARGEST), bits, place))
    return found


def _bits(data: bytes, place: int) -> int:
    """Read the bits of a pixel where the directory does not have them."""
    if png.recognise(data[place : place + HEADER_BYTES]):
        return ALPHA_BITS
    found = header(data[place : place + HEADER_BYTES])
    return found.bits if found else 0


def decoder_bytes(image: ImageFile.ImageFile, _data: bytes, _decoded: PixelSize) -> float:
    """See Format."""
    return float(pixels(image.size) * (PIXEL_BYTES - OTHER_BYTES))


FORMAT: Final = Format(
    name="ICO",
    title="ICO",
    recognise=recognise,
    open=open_ico,
    decoder_bytes=decoder_bytes,
)
