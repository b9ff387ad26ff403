"""PNG and APNG, inflated by ISA-L and decoded by Pillow.

Pillow's wheel inflates with the system's zlib, although `PIL.features` reports zlib-ng. ISA-L
(https://github.com/pycompression/python-isal) needs less than half the time of zlib, which makes
the whole decode a fifth faster. Pillow still undoes the filters and detects truncated or damaged
data: it receives the same samples in deflate blocks without compression.
"""

import io
import sys
from collections.abc import Generator
from typing import Any, Final, override

from isal import isal_zlib
from PIL import Image, ImageFile, PngImagePlugin

from thumbnailer.imaging.cicp import from_png
from thumbnailer.imaging.formats.format import Format
from thumbnailer.imaging.limits import picture_bytes
from thumbnailer.imaging.resize import rgba
from thumbnailer.imaging.spec import PixelSize

PngImagePlugin.MAX_TEXT_CHUNK = 4 * 1024**2
"""Maximum bytes of an inflated profile or text. Printers' profiles exceed Pillow's 1 MB."""

MAGIC: Final = b"\x89PNG\r\n\x1a\n"

READ_BYTES: Final = 64 * 1024
"""Bytes that are read and inflated at a time."""

BLOCK_BYTES: Final = 65_535
"""Maximum bytes in a block without compression (RFC 1951, 3.2.4)."""

TWO_ROWS_BYTES: Final = 8
"""For each pixel of a row: a row is unfiltered by means of the one above it (ZipDecode.c)."""

CANVASES: Final = 3
"""Pictures of RGBA beside the result: a frame, the same in RGBA, and what it is drawn on."""

KEPT_TEXTS: Final = (b"exif", b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Keywords of the texts in which Pillow looks for EXIF Orientation."""

MAX_KEYWORD_BYTES: Final = 79
"""PNG (third edition), 11.3.3.1."""

TEXT_COPIES: Final = 2
"""A text is in memory twice: as a value of its own, and with its language."""

CONTROL: Final = b"fcTL"
DISPOSAL_AT: Final = 28
"""Chunk before a frame, and where its name is followed by the frame's disposal (PNG, third edition,
11.3.6.2)."""

KEPT: Final = 0
"""Disposal of a frame that stays as it is."""

BIT_DEPTH_AT: Final = 24
"""Byte of the file that holds the bits of a sample (in IHDR)."""

CLEAR: Final = (0, 0, 0, 0)
"""Transparent black: what a canvas is before its first frame (PNG, third edition, 11.3.6.2)."""

LAST_BLOCK: Final = b"\1\0\0\xff\xff"
"""An empty block, marked as the last (RFC 1951, 3.2.3)."""

ZLIB_HEADER: Final = b"\x78\x01"
"""Header of a stream with little compression (RFC 1950, 2.2)."""

INFLATE_ERROR: Final[Any] = isal_zlib.error
"""An exception class. Its type stub says that it is an instance."""

DEFLATE: Final = 8
PRESET_DICTIONARY: Final = 0x20
"""Method and flag in a zlib header (RFC 1950, 2.2)."""


class Chunks(PngImagePlugin.PngStream):
    """Pillow's reader of chunks, with those of HDR, and without the texts that nothing here reads.

    Pillow would keep 64 million characters of them, with up to four bytes each.
    """

    def chunk_cICP(self, pos: int, length: int) -> bytes:  # noqa: ARG002, N802
        """Read the colour's code points; the first chunk counts."""
        data = self._skip(length)
        if (numbers := from_png(data)) is not None:
            self.im_info.setdefault("cicp", numbers)
        return data

    def chunk_cLLI(self, pos: int, length: int) -> bytes:  # noqa: ARG002, N802
        """Read the luminance of the brightest pixel, in 0.0001 cd/m²."""
        data = self._skip(length)
        if brightest := int.from_bytes(data[:4]):
            self.im_info["peak"] = brightest / 10_000
        return data

    def chunk_mDCV(self, pos: int, length: int) -> bytes:  # noqa: ARG002, N802
        """Read the luminance of the screen that the picture was made on, the same way."""
        data = self._skip(length)
        if brightest := int.from_bytes(data[16:20]):
            self.im_info.setdefault("peak", brightest / 10_000)
        return data

    def chunk_tEXt(self, pos: int, length: int) -> bytes:  # noqa: N802 - Pillow's name
        """Read a text."""
        return super().chunk_tEXt(pos, length) if self._is_kept() else self._skip(length)

    def chunk_zTXt(self, pos: int, length: int) -> bytes:  # noqa: N802
        """Read a compressed text."""
        return super().chunk_zTXt(pos, length) if self._is_kept() else self._skip(length)

    def chunk_iTXt(self, pos: int, length: int) -> bytes:  # noqa: N802
        """Read a text with a language."""
        return super().chunk_iTXt(pos, length) if self._is_kept() else self._skip(length)

    def _is_kept(self) -> bool:
        file: Any = self.fp
        start = file.tell()
        keyword = file.read(MAX_KEYWORD_BYTES + 1).partition(b"\0")[0]
        file.seek(start)
        return keyword in KEPT_TEXTS

    def _skip(self, length: int) -> bytes:
        """Return the chunk's bytes, for its checksum. Raises OSError where it is cut off."""
        file: Any = self.fp
        data: bytes = file.read(length)
        if len(data) < length:
            raise OSError("Truncated File Read")
        return data


PngImagePlugin.PngStream = Chunks  # type: ignore[misc]


class PngFile(PngImagePlugin.PngImageFile):
    """Pillow's PNG and APNG reader, given uncompressed samples in place of compressed ones.

    Frames of an APNG are drawn here where Pillow's own way is wrong: it draws over the still that
    is no frame, clears to black where there is no alpha, mixes samples that are half transparent
    with a canvas that is, and undoes a frame to what it has drawn over itself.
    """

    composes = False
    """Whether frames are drawn on a canvas of RGBA, which begins transparent."""

    def compose(self) -> None:
        """Draw all frames on a canvas of RGBA."""
        self.composes = True
        self._stored_mode = self.mode
        self._mode = "RGBA"

    @override
    def _seek(self, frame: int, rewind: bool = False) -> None:
        super()._seek(frame, rewind)
        if self.composes and frame == 1 and self.default_image:
            self._prev_im = Image.new("RGBA", self.size, CLEAR).im

    def load_prepare(self) -> None:
        """Begin a frame. Each frame has a zlib stream of its own."""
        if self.composes:
            self._mode = self._stored_mode
            self._im = None
            if self.palette:
                self.palette.dirty = 1  # the new picture has none yet
        super().load_prepare()
        # The generator must not refer to the image: a reference cycle would keep the pixels in
        # memory until the next garbage collection.
        self._parts = uncompressed()

    def load_read(self, read_bytes: int) -> bytes:  # noqa: ARG002 - Pillow passes it
        """Return the next part of the frame's samples, of any size; empty at the end.

        Reads no further in the file than needed: Pillow relies on the file's position.
        """
        part = next(self._parts)
        while not part:
            data = super().load_read(READ_BYTES)
            part = self._parts.send(data)
            if not data:
                break
        return part

    def load_end(self) -> None:
        """End a frame, and draw it over those before it."""
        if not self.composes:
            super().load_end()
            return
        below, self._prev_im = self._prev_im, None  # Pillow draws over it, if it is there
        super().load_end()
        self._draw(below)

    def _draw(self, below: Any) -> None:
        """Draw the frame that was loaded over the picture `below`, if there is one."""
        x0, y0, x1, y1 = self.info.get("bbox") or (0, 0, *self.size)
        frame = Image.Image()._new(self.im)  # noqa: SLF001
        self._im = None
        if (x0, y0, x1, y1) != (0, 0, *self.size):
            frame = frame.crop((x0, y0, x1, y1))
        if "transparency" in self.info:
            frame.info["transparency"] = self.info["transparency"]
        frame = rgba(frame)
        undone = self.dispose_op == PngImagePlugin.Disposal.OP_PREVIOUS
        if below is None:
            canvas = Image.new("RGBA", self.size, CLEAR)
        else:
            canvas = Image.Image()._new(below.copy() if undone else below)  # noqa: SLF001
        if self.blend_op == PngImagePlugin.Blend.OP_OVER:
            canvas.alpha_composite(frame, (x0, y0))
        else:
            canvas.paste(frame, (x0, y0))
        self._prev_im = below  # what an undone frame is replaced with
        self.im = canvas.im
        self._mode = "RGBA"


def uncompressed() -> Generator[bytes, bytes]:
    """Convert a zlib stream, sent in parts, into one without compression.

    Yields empty bytes to ask for the next part. The caller sends empty bytes at the end. The
    checksum is passed on unchanged. So is a whole stream that begins with any but a plain header.
    Raises OSError for data that cannot be inflated.
    """
    head = yield b""
    while len(head) < len(ZLIB_HEADER) and (data := (yield b"")):
        head += data
    if _is_plain(head[: len(ZLIB_HEADER)]):
        yield ZLIB_HEADER
        yield from _blocks(head[len(ZLIB_HEADER) :])
    else:
        yield head
    while True:
        yield (yield b"")


def _blocks(data: bytes) -> Generator[bytes, bytes]:
    """Yield the blocks of the deflate stream that begins with `data`, its end included."""
    inflater = isal_zlib.decompressobj(-isal_zlib.MAX_WBITS)
    # One block is kept back until it is known whether the stream ends with it. Pillow verifies the
    # checksum only when it arrives together with the last samples.
    kept = b""
    while True:
        try:
            samples = inflater.decompress(data, BLOCK_BYTES)
        except INFLATE_ERROR as error:
            raise OSError(f"broken data stream: {error}") from error
        block = _block(samples) if samples else b""
        if inflater.eof:
            yield kept + block + LAST_BLOCK + inflater.unused_data
            return
        data = inflater.unconsumed_tail
        kept, block = (block, kept) if data else (b"", kept + block)
        if block:
            yield block
        if not data:
            data = yield b""


def _block(samples: bytes) -> bytes:
    """Build a block without compression that is not the last (RFC 1951, 3.2.4)."""
    length = len(samples)
    complement = length ^ 0xFFFF
    return b"\0%b%b%b" % (length.to_bytes(2, "little"), complement.to_bytes(2, "little"), samples)


def _is_plain(header: bytes) -> bool:
    """Check for a two-byte zlib header: deflate, without a preset dictionary."""
    return (
        len(header) == len(ZLIB_HEADER)
        and int.from_bytes(header, "big") % 31 == 0
        and header[0] & 0x8F == DEFLATE  # with a window of at most 32 KB
        and not header[1] & PRESET_DICTIONARY
    )


def recognise(data: bytes) -> bool:
    """See Format."""
    return data.startswith(MAGIC)


def open_png(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format."""
    image = PngFile(io.BytesIO(data))
    if image.mode != "P" and "transparency" in image.info:
        key = image.info["transparency"]
        image.info["transparency"] = _in_8_bits(key, depth=data[BIT_DEPTH_AT])
    if image.is_animated and needs_canvas(image, data):
        image.compose()
    return image


def needs_canvas(image: PngFile, data: bytes) -> bool:
    """Whether the frames of an APNG may need alpha, or are undone or cleared.

    Others hide what was drawn before, and Pillow draws them as quickly as possible.
    """
    if image.default_image or image.mode in ("RGBA", "LA") or "transparency" in image.info:
        return True
    at = data.find(CONTROL)
    while 0 <= at < len(data) - DISPOSAL_AT:
        if data[at + DISPOSAL_AT] != KEPT:
            return True
        at = data.find(CONTROL, at + 1)
    return False


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, _decoded: PixelSize) -> float:
    """See Format.

    The still with which an APNG may begin is decoded too, and its first frame after it.
    """
    composed = 0.0
    if getattr(image, "default_image", False):
        composed = CANVASES * picture_bytes(image.size)
    return float(image.size[0] * TWO_ROWS_BYTES) + composed + held_bytes(image, data)


def held_bytes(image: ImageFile.ImageFile, _data: bytes) -> float:
    """See Format: the profile, EXIF and texts before the pixels, which are inflated by now.

    Beside the first frame of an APNG with a still, the canvas before it is kept.
    """
    values = [each for each in image.info.values() if isinstance(each, (bytes, str))]
    canvas = picture_bytes(image.size) if getattr(image, "default_image", False) else 0.0
    return canvas + float(TEXT_COPIES * sum(map(sys.getsizeof, values)))


def _in_8_bits(key: int | tuple[int, ...], depth: int) -> int | tuple[int, ...]:
    """Scale a transparent colour (tRNS) of `depth` bits a sample to the bits of Pillow's pixels."""
    if isinstance(key, tuple):
        return tuple(sample >> 8 if depth == 16 else sample for sample in key)  # noqa: PLR2004
    match depth:
        case 16:
            return key >> 8
        case 2 | 4:
            return key * 255 // (2**depth - 1)
    return key  # 8 bits, or 1 bit, which Pillow scales itself


FORMAT: Final = Format(
    name="PNG",
    title="PNG",
    recognise=recognise,
    open=open_png,
    decoder_bytes=decoder_bytes,
    held_bytes=held_bytes,
    exif_follows_pixels=True,
)
