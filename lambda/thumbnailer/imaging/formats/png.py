"""PNG and APNG, inflated by ISA-L, and decoded in bands with libspng, or by Pillow.

Pillow's wheel inflates with the system's zlib, although `PIL.features` reports zlib-ng. ISA-L
(https://github.com/pycompression/python-isal) needs less than half the time of zlib. A still
picture is reduced band by band: libspng undoes the filters of a few rows, and the whole picture is
never in memory. Of interlaced and animated pictures, and where there is no libspng, Pillow undoes
the filters: it receives the same samples in deflate blocks without compression (ADR 39).

As in browsers, an ancillary chunk never costs the picture, and neither does a wrong checksum where
all samples are there. Such a chunk is ignored, as PNG (third edition, 13.2) recommends.
"""

import io
import struct
import sys
import zlib
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import IO, Any, Final, override

from isal import isal_zlib
from PIL import Image, ImageFile, PngImagePlugin

from thumbnailer.errors import UnsupportedImage
from thumbnailer.imaging.cicp import from_png
from thumbnailer.imaging.formats.format import (
    DECODER_ERRORS,
    Format,
    exif_orientation,
    orientation_tag,
    whole,
)
from thumbnailer.imaging.formats.png_filters import (
    BLOCK_BYTES,
    LAST_BLOCK,
    MAGIC,
    ZLIB_HEADER,
    Filters,
    block_header,
    library,
)
from thumbnailer.imaging.limits import picture_bytes
from thumbnailer.imaging.resize import (
    BAND_BYTES,
    BAND_PIXELS,
    Box,
    band_rows,
    factors,
    reduced,
    rgba,
)
from thumbnailer.imaging.spec import PixelSize

PngImagePlugin.MAX_TEXT_CHUNK = 4 * 1024**2
"""Maximum bytes of an inflated profile or text. Printers' profiles exceed Pillow's 1 MB."""

READ_BYTES: Final = 64 * 1024
"""Bytes that are read and inflated at a time."""

OPAQUE_BAND_PIXELS: Final = 128 * 1024
"""Pixels that are decoded at a time, if there is no alpha: few enough for the CPU's nearest caches.
With alpha, a band is divided further, and a larger one (BAND_PIXELS) takes less time."""

MAX_ROW_BYTES: Final = 1024**2
"""Bytes of a row up to which a picture is decoded in bands: more than any photo has."""

BAND_COPIES: Final = 3
"""A band is in memory as it was inflated, as the PNG for libspng, and without filters."""

TWO_ROWS_BYTES: Final = 8
"""For each pixel of a row: a row is unfiltered by means of the one above it (ZipDecode.c)."""

CANVASES: Final = 3
"""Pictures of RGBA beside the result: a frame, the same in RGBA, and what it is drawn on."""

TEXT_COPIES: Final = 2
"""A profile or EXIF may be in memory twice: as it was read, and as it is given to its reader."""

UNREAD: Final = (b"tEXt", b"zTXt", b"iTXt")
"""Texts, which nothing here reads. Pillow would keep 64 million characters of them, with up to four
bytes each."""

ANCILLARY: Final = 0x20
"""This bit of a chunk's first letter says that the picture can be shown without the chunk (PNG,
third edition, 5.4)."""

MAX_NOTES: Final = 3
"""How many damaged chunks are named in the log. A file may have any number."""

LENGTHS: Final = {
    b"cICP": 4,
    b"cHRM": 32,
    b"cLLI": 8,
    b"gAMA": 4,
    b"mDCV": 24,
    b"sRGB": 1,
}
"""Bytes of the chunks that describe colour (PNG, third edition, 11.3.2)."""

CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel, by colour type (PNG, third edition, 11.2.1)."""

TRNS_BYTES: Final = {"1": (2,), "L": (2,), "I;16": (2,), "RGB": (6,)}
"""Length of a transparent colour, by mode: 16 bits for each sample (PNG, third edition, 11.3.1.1).
"""

ADAM7: Final = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""Passes of an interlaced picture: first column and row, and their steps (PNG, third edition, 8.2).
"""

CHECKSUM_BYTES: Final = 4
"""Adler-32 at the end of the samples (RFC 1950, 2.2), and CRC-32 at the end of a chunk."""

CHUNK_HEAD_BYTES: Final = 8
"""Length and name (PNG, third edition, 5.3)."""

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

INFLATE_ERROR: Final[Any] = isal_zlib.error
"""An exception class. Its type stub says that it is an instance."""

DEFLATE: Final = 8
PRESET_DICTIONARY: Final = 0x20
"""Method and flag in a zlib header (RFC 1950, 2.2)."""


class Chunks(PngImagePlugin.PngStream):
    """Pillow's reader of chunks, with those of HDR, for which ancillary chunks are optional.

    A chunk with a wrong checksum or content is ignored. `notes` say which. `pixel_bits` is the
    number of bits in a pixel.
    """

    def __init__(self, fp: IO[bytes]) -> None:
        super().__init__(fp)
        self.notes: list[str] = []
        self.pixel_bits = 0

    def chunk_cICP(self, pos: int, length: int) -> bytes:  # noqa: ARG002, N802
        """Read the colour's code points; the first chunk counts."""
        data = self._content(length)
        if (numbers := from_png(data)) is not None:
            self.im_info.setdefault("cicp", numbers)
        return data

    def chunk_cLLI(self, pos: int, length: int) -> bytes:  # noqa: ARG002, N802
        """Read the luminance of the brightest pixel, in 0.0001 cd/m²."""
        data = self._content(length)
        if brightest := int.from_bytes(data[:4]):
            self.im_info["peak"] = brightest / 10_000
        return data

    def chunk_mDCV(self, pos: int, length: int) -> bytes:  # noqa: ARG002, N802
        """Read the luminance of the screen that the picture was made on, the same way."""
        data = self._content(length)
        if brightest := int.from_bytes(data[16:20]):
            self.im_info.setdefault("peak", brightest / 10_000)
        return data

    def read(self) -> tuple[bytes, int, int]:
        """Read a chunk's name, position and length. Raises SyntaxError where there is no chunk."""
        try:
            return super().read()
        except SyntaxError:
            raise SyntaxError("there is no chunk where one should begin") from None

    def call(self, cid: bytes, pos: int, length: int) -> bytes:
        """Read a chunk's content, and return it if the chunk is critical.

        Raises EOFError where the pixels begin, or the file ends.
        """
        if cid in (b"fcTL", b"fdAT") and self.im_n_frames is None:
            return self._skip(length)  # without acTL, there is no animation
        if not cid[0] & ANCILLARY or cid == b"fdAT" or (cid == b"fcTL" and self.im_tile):
            return super().call(cid, pos, length)
        file: Any = self.fp
        body = file.read(length)
        end = pos + len(body)
        checksum = zlib.crc32(body, zlib.crc32(cid)).to_bytes(CHECKSUM_BYTES)
        del body  # it is read again below, and may be large
        if file.read(CHECKSUM_BYTES) != checksum:
            self._ignore(cid, "its checksum is wrong")
        elif length != LENGTHS.get(cid, length):
            self._ignore(cid, "its length is wrong")
        elif self._is_read(cid):
            file.seek(pos)
            try:
                super().call(cid, pos, length)
            except DECODER_ERRORS:
                self._ignore(cid, "its content is invalid")
        file.seek(end)
        return b""

    def _is_read(self, cid: bytes) -> bool:
        """Whether the content of an ancillary chunk counts. After the pixels, only EXIF does."""
        if cid in UNREAD or (self.im_tile and cid != b"eXIf"):
            return False
        return hasattr(self, f"chunk_{cid.decode('ascii')}")

    def crc(self, cid: bytes, data: bytes) -> None:
        """Verify the checksum of a critical chunk. Raises SyntaxError where it is wrong."""
        file: Any = self.fp
        checksum = file.read(CHECKSUM_BYTES)
        wanted = zlib.crc32(data, zlib.crc32(cid)).to_bytes(CHECKSUM_BYTES)
        if not cid[0] & ANCILLARY and checksum != wanted:
            raise SyntaxError(f"the checksum of the chunk {cid.decode('ascii')} is wrong")

    def chunk_IHDR(self, pos: int, length: int) -> bytes:  # noqa: N802 - Pillow's name
        """Read the header."""
        body = super().chunk_IHDR(pos, length)
        self.pixel_bits = body[8] * CHANNELS.get(body[9], 0)
        return body

    def chunk_tRNS(self, pos: int, length: int) -> bytes:  # noqa: N802
        """Read the transparency. Raises ValueError where its length is wrong (11.3.1.1)."""
        palette = len(self.im_palette[1]) // CHANNELS[2] if self.im_palette else 0
        lengths = range(1, palette + 1) if self.im_mode == "P" else TRNS_BYTES.get(self.im_mode, ())
        if length not in lengths:
            raise ValueError("the length does not fit the colour type")
        return super().chunk_tRNS(pos, length)

    def chunk_CgBI(self, pos: int, length: int) -> bytes:  # noqa: ARG002, N802
        """Refuse Apple's variant of PNG."""
        raise UnsupportedImage(
            "Unsupported kind of PNG: optimised for iOS (CgBI). Convert the image to plain PNG and "
            "upload it again."
        )

    def _content(self, length: int) -> bytes:
        """Read the content of a chunk."""
        file: Any = self.fp
        data: bytes = file.read(length)
        return data

    def _skip(self, length: int) -> bytes:
        """Skip the content of a chunk."""
        file: Any = self.fp
        file.seek(length, io.SEEK_CUR)
        return b""

    def _ignore(self, cid: bytes, why: str) -> None:
        """Go on as if the chunk were not there. A broken animation is a still."""
        if cid in (b"acTL", b"fcTL"):
            self.im_n_frames = None
            self.im_info.pop("bbox", None)
        if len(self.notes) < MAX_NOTES:
            self.notes.append(f"the chunk {cid.decode('ascii')} was ignored: {why}")


PngImagePlugin.PngStream = Chunks  # type: ignore[misc]


class PngFile(PngImagePlugin.PngImageFile):
    """Pillow's PNG and APNG reader, given uncompressed samples in place of compressed ones.

    Frames of an APNG are drawn here where Pillow's own way is wrong: it draws over the still that
    is no frame, clears to black where there is no alpha, mixes samples that are half transparent
    with a canvas that is, and undoes a frame to what it has drawn over itself.

    `notes` say what was ignored of a damaged file.
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

    def _open(self) -> None:
        self.notes: list[str] = []
        super()._open()
        stream: Any = self.png
        self.notes += stream.notes
        stream.notes = self.notes

    def load_prepare(self) -> None:
        """Begin a frame. Each frame has a zlib stream of its own."""
        interlaced = bool(self.info.get("interlace"))
        if self.composes:
            self._mode = self._stored_mode
            self._im = None
            if self.palette:
                self.palette.dirty = 1  # the new picture has none yet
        super().load_prepare()
        stream: Any = self.png
        left, top, right, bottom = self.tile[0].extents or (0, 0, *self.size)
        # The generator must not refer to the image: a reference cycle would keep the pixels in
        # memory until the next garbage collection.
        self._samples = Samples(
            sample_bytes((right - left, bottom - top), stream.pixel_bits, interlaced=interlaced)
        )
        self._parts = uncompressed(self._samples)

    def load_read(self, read_bytes: int) -> bytes:  # noqa: ARG002 - Pillow passes it
        """Return the next part of the frame's samples, of any size; empty at the end.

        Reads no further in the file than needed: Pillow relies on the file's position.
        """
        part = next(self._parts)
        while not part:
            try:
                data = super().load_read(READ_BYTES)
            except (struct.error, SyntaxError):
                data = b""  # the file ends here, or what follows is no chunk
            part = self._parts.send(data)
            if not data:
                break
        if self._samples.fault:
            self._accept(self._samples)
        return part

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of samples, its filter not counted."""
        stream: Any = self.png
        return -(-self.size[0] * int(stream.pixel_bits) // 8)

    @property
    def has_bands(self) -> bool:
        """Whether the picture can be decoded in bands: it is a still, and not interlaced."""
        plain = not self.is_animated and not self.info.get("interlace")
        return plain and self.row_bytes <= MAX_ROW_BYTES and library() is not None

    def bands(self, rows: int) -> Iterator[Image.Image]:
        """Decode the picture, once, in bands of this many rows; the last band may have less.

        A band may be overwritten by the next. After the last, what follows in the file is read.
        """
        self.im = Image.new(self.mode, (1, 1)).im  # Pillow would allocate the whole picture
        self.load_prepare()
        self._parts = inflated(self._samples)
        stream: Any = self.png
        filters = Filters(self.row_bytes, max(1, stream.pixel_bits // 8), rows)
        rest = memoryview(b"")
        for top in range(0, self.size[1], rows):
            count = min(rows, self.size[1] - top)
            missing = count * (1 + self.row_bytes)
            parts = []
            while missing:
                rest = rest or memoryview(self.load_read(READ_BYTES))
                if not rest:
                    raise OSError("the file ends too early")
                parts.append(rest[:missing])
                rest = rest[missing:]
                missing -= len(parts[-1])
            samples = filters.undo(parts, count)
            parts.clear()
            yield self._band(samples, count)
        self.tile = []
        self.load_end()

    def _band(self, samples: Any, rows: int) -> Image.Image:
        """Make a picture of rows without filters, without a copy where that is possible."""
        stream: Any = self.png
        size = (self.size[0], rows)
        band = Image.frombuffer(self.mode, size, samples, "raw", stream.im_rawmode, 0, 1)
        band.info = self.info
        if self.palette:
            band.palette = self.palette.copy()
            band.palette.dirty = 1  # the new picture has none yet
        return band

    def load_end(self) -> None:
        """End a frame, and draw it over those before it."""
        if not self.composes:
            self._read_end()
            return
        below, self._prev_im = self._prev_im, None  # Pillow draws over it, if it is there
        self._read_end()
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

    def _accept(self, samples: "Samples") -> None:
        """Note what is wrong at the end of the samples. Raises OSError where they are damaged."""
        file: Any = self.fp
        if samples.checksum and not pixels_are_intact(file.getvalue(), samples.adler_bytes):
            raise OSError("the pixels are damaged: their checksums are wrong")
        self.notes.append(samples.fault)
        samples.fault = ""

    def _read_end(self) -> None:
        """Finish the frame: read the chunks that follow it."""
        file: Any = self.fp
        try:
            super().load_end()
        except DECODER_ERRORS:
            if self.is_animated:
                raise
            self.notes.append("the end of the file is damaged, and all rows are there")
            return
        frame_follows = self.png is not None and bool(self.png.queue)
        file.seek(-CHECKSUM_BYTES, io.SEEK_CUR)
        if file.read(CHECKSUM_BYTES) != b"IEND" and not frame_follows:
            self.notes.append("the end of the file is missing, and all rows are there")


class Samples:
    """What is known of a stream of samples while it is inflated.

    `expected` and `count` are numbers of bytes. At the end, `fault` says what is wrong although all
    samples are there, and `checksum` is the wrong one, if that is it.
    """

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.count = 0
        self.adler = 1
        self.fault = ""
        self.checksum = b""

    def add(self, samples: bytes) -> None:
        """Count the samples, and continue their checksum."""
        self.count += len(samples)
        self.adler = isal_zlib.adler32(samples, self.adler)

    def end(self, checksum: bytes) -> None:
        """Compare the checksum. Raises OSError where samples are missing."""
        if self.count < self.expected:
            raise OSError(f"only {100 * self.count // self.expected} % of the rows are there")
        if len(checksum) < CHECKSUM_BYTES:
            self.fault = "the end of the pixels is missing, and all rows are there"
        elif checksum != self.adler_bytes:
            self.fault = "the checksum of the pixels is wrong, and all rows are there"
            self.checksum = checksum

    @property
    def adler_bytes(self) -> bytes:
        """The right checksum, as it is stored."""
        return self.adler.to_bytes(CHECKSUM_BYTES)


def sample_bytes(size: PixelSize, pixel_bits: int, *, interlaced: bool) -> int:
    """Return how many bytes the samples of a picture have, with the filter of each row."""
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for column, row, across, down in passes:
        columns = max(0, -(-(size[0] - column) // across))
        rows = max(0, -(-(size[1] - row) // down))
        if columns:
            total += rows * (1 + -(-columns * pixel_bits // 8))
    return total


def pixels_are_intact(data: bytes, adler: bytes) -> bool:
    """Whether the checksums of the chunks prove that the pixels are as they were written.

    The checksum of the samples (Adler-32) is wrong, and should be `adler`. Either it was written
    wrong, and all chunks of pixels are right; or it is damaged itself, and the only wrong chunk is
    right once it ends with `adler`.
    """
    view = memoryview(data)  # no copies
    wrong = []
    at = len(MAGIC)
    while len(head := data[at : at + CHUNK_HEAD_BYTES]) == CHUNK_HEAD_BYTES:
        end = at + CHUNK_HEAD_BYTES + int.from_bytes(head[:4])
        checksum = int.from_bytes(view[end : end + CHECKSUM_BYTES])
        if head[4:] in (b"IDAT", b"fdAT") and zlib.crc32(view[at + 4 : end]) != checksum:
            wrong.append((view[at + 4 : end - CHECKSUM_BYTES], checksum))
        at = end + CHECKSUM_BYTES
    return not wrong or (
        len(wrong) == 1 and zlib.crc32(adler, zlib.crc32(wrong[0][0])) == wrong[0][1]
    )


def uncompressed(seen: Samples) -> Generator[bytes, bytes]:
    """Convert a zlib stream, sent in parts, into one without compression.

    Yields empty bytes to ask for the next part. The caller sends empty bytes at the end. A missing
    or wrong checksum is replaced by the right one, which `seen` reports. A whole stream that begins
    with any but a plain header is passed on unchanged. Raises OSError where samples are missing.
    """
    head = yield from _head()
    if _is_plain(head[: len(ZLIB_HEADER)]):
        yield ZLIB_HEADER
        parts: Generator[bytes, bytes | None] = _samples(head[len(ZLIB_HEADER) :], seen)
        data: bytes | None = None
        with suppress(StopIteration):
            while True:
                samples = parts.send(data)
                data = yield _block(samples) if samples else b""
        yield LAST_BLOCK + seen.adler_bytes
    else:
        yield head
    while True:
        yield (yield b"")


def inflated(seen: Samples) -> Generator[bytes, bytes]:
    """Inflate a zlib stream, sent in parts as to `uncompressed`. Yields parts of the samples.

    Raises OSError where the stream does not begin with a plain header, or samples are missing.
    """
    head = yield from _head()
    if len(head) < len(ZLIB_HEADER):
        raise OSError("the file ends too early")
    if not _is_plain(head[: len(ZLIB_HEADER)]):
        raise OSError("the pixels are damaged")
    yield from _samples(head[len(ZLIB_HEADER) :], seen)


def _head() -> Generator[bytes, bytes, bytes]:
    """Ask for parts until the header of the stream is complete, or the stream ends."""
    head = yield b""
    while len(head) < len(ZLIB_HEADER) and (data := (yield b"")):
        head += data
    return head


def _samples(data: bytes, seen: Samples) -> Generator[bytes, Any]:
    """Yield the samples of the deflate stream that begins with `data`, BLOCK_BYTES at most at once.

    The last ones are yielded once the end of the stream has been checked.
    """
    inflater = isal_zlib.decompressobj(-isal_zlib.MAX_WBITS)
    kept = checksum = b""
    ended = False
    while True:
        try:
            samples = inflater.decompress(data, BLOCK_BYTES)
        except INFLATE_ERROR:
            break
        if samples:
            seen.add(samples)
            if kept:
                yield kept
            kept = samples
        if inflater.eof:
            checksum = inflater.unused_data[:CHECKSUM_BYTES]
            while len(checksum) < CHECKSUM_BYTES and (data := (yield b"")):
                checksum = (checksum + data)[:CHECKSUM_BYTES]
            break
        data = inflater.unconsumed_tail
        if not data and len(samples) < BLOCK_BYTES:
            if ended:
                break
            data = yield b""
            ended = not data
    seen.end(checksum)
    yield kept


def _block(samples: bytes) -> bytes:
    """Build a block without compression that is not the last (RFC 1951, 3.2.4)."""
    return block_header(len(samples)) + samples


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


def orientation(image: ImageFile.ImageFile) -> int:
    """See Format. EXIF may follow the pixels; where there are several, the last one counts."""
    file: Any = image.fp
    data = memoryview(file.getvalue())
    found = exif_orientation(image)
    pixels = False
    at = len(MAGIC)
    while len(head := bytes(data[at : at + CHUNK_HEAD_BYTES])) == CHUNK_HEAD_BYTES:
        name = head[4:]
        end = at + CHUNK_HEAD_BYTES + int.from_bytes(head[:4])
        if name == b"IEND" or not name.isalnum() or (pixels and name == CONTROL):
            break
        pixels = pixels or name == b"IDAT"
        if pixels and name == b"eXIf":
            checksum = int.from_bytes(data[end : end + CHECKSUM_BYTES])
            if zlib.crc32(data[at + 4 : end]) == checksum:
                found = orientation_tag(bytes(data[at + CHUNK_HEAD_BYTES : end]))
        at = end + CHECKSUM_BYTES
    return found


def reduces(image: ImageFile.ImageFile) -> bool:
    """See Format."""
    return isinstance(image, PngFile) and image.has_bands


def decode(image: ImageFile.ImageFile, size: PixelSize, scale: int) -> tuple[Image.Image, Box]:
    """See Format."""
    if not isinstance(image, PngFile) or not image.has_bands:
        return whole(image, size, scale)
    by = factors((0, 0, *image.size), size)
    pixels = BAND_PIXELS if image.mode == "RGBA" else OPAQUE_BAND_PIXELS
    bands = image.bands(band_rows(image.size[0], by[1], pixels))
    picture = reduced(bands, image.size, by)
    return picture, (0, 0, image.size[0] / by[0], image.size[1] / by[1])


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, _decoded: PixelSize) -> float:
    """See Format.

    The still with which an APNG may begin is decoded too, and its first frame after it.
    """
    if isinstance(image, PngFile) and image.has_bands:
        rows = min(image.size[1], band_rows(image.size[0]))
        band = BAND_COPIES * rows * image.row_bytes + rows * image.size[0] * BAND_BYTES
        return float(band) + held_bytes(image, data)
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
    orientation=orientation,
    reduces=reduces,
    decode=decode,
)
