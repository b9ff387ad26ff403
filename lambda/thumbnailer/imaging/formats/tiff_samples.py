"""TIFF samples that Pillow has no mode or decoder for.

Such samples are floating point in colour or of 16 and 64 bits, grey with alpha in separate planes
or of 16 bits, and CMYK with alpha. libtiff only decompresses: it reads a copy of the file whose
tags describe a grey picture of plain bytes. The samples are picked from these bytes, a band of rows
at a time, and scaled to 8 bits.
"""

import io
import struct
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from PIL import Image, TiffImagePlugin

from thumbnailer.imaging.formats.tiff_kind import (
    BITS,
    BLACK_IS_ZERO,
    COMPRESSION,
    FLOAT,
    LENGTH,
    PHOTOMETRIC,
    RAW,
    RGB,
    SAMPLES,
    SEPARATED,
    WHITE_IS_ZERO,
    WIDTH,
    Kind,
)
from thumbnailer.imaging.limits import picture_bytes
from thumbnailer.imaging.resize import ALPHA, full_range, scaled_to_8_bits, shrink
from thumbnailer.imaging.spec import PixelSize

STRIP_OFFSETS, STRIP_COUNTS, ROWS_PER_STRIP = 273, 279, 278
TILE_OFFSETS, TILE_COUNTS, TILE_WIDTH, TILE_LENGTH = 324, 325, 322, 323
ICC_PROFILE: Final = 34675
"""Tags of TIFF 6.0."""

HORIZONTAL, FLOATING = 2, 3
"""Values of Predictor."""

BAND_PIXELS: Final = 16 * 1024
"""Pixels that are picked at a time, or one row of more."""

BAND_SAMPLE_BYTES: Final = 80
"""For each sample of a band: its bytes, the sums of a predictor, and Python's objects for it."""

MERGED_PICTURES: Final = 3.5
INK_PICTURES: Final = 3.3
"""Pictures of four bytes a pixel that are made when channels are merged and divided by alpha; and
of CMYK, when it is scaled down beside its alpha."""

SUM_BYTES: Final = 8
MAX_SUM: Final = (1 << 64) - 1
CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""Bytes of a sample → type code of `array` and `memoryview`. Every machine that is supported is
little-endian."""

LONG, LONG8 = 4, 16
"""Types of a tag's values (TIFF 6.0 and BigTIFF)."""


class Shape(NamedTuple):
    """How the bytes of a page lie.

    `width`, `height` and `tile`, which is the width of a tile or of the page, are in pixels.
    `stride` counts the samples of a pixel that lie side by side; `sample` is their size in bytes.
    """

    width: int
    height: int
    tile: int
    stride: int
    sample: int

    @property
    def padded(self) -> int:
        """The width, rounded up to whole tiles (pixels)."""
        return -(-self.width // self.tile) * self.tile

    @property
    def row_bytes(self) -> int:
        """Bytes of a row with its padding."""
        return self.padded * self.stride * self.sample


class Page(TiffImagePlugin.TiffImageFile):
    """Pillow's reader of a TIFF, whose errors are in words."""

    def load(self) -> Any:
        """Decode the page. Raises OSError, which says in words that libtiff failed."""
        try:
            return super().load()
        except OSError as error:
            if "decoder error" not in str(error):
                raise
            raise OSError("its pixels cannot be decoded; it is damaged or truncated") from error


class SampledTiff(TiffImagePlugin.TiffImageFile):
    """The first page of a TIFF as it is stored, with 8 bits a sample once it is loaded.

    The alpha of CMYK is in `info`, as `resize.ALPHA`, because Pillow has no mode for both.
    """

    def _setup(self) -> None:
        """Read the tags of the page. Pillow calls this."""
        self.kind = Kind.of(self.tag_v2)
        self.shape = _shape(self.tag_v2, self.kind)
        self._size = (self.shape.width, self.shape.height)
        self._mode = _mode(self.kind)
        self.info["compression"] = self.kind.compression
        if ICC_PROFILE in self.tag_v2:
            self.info["icc_profile"] = self.tag_v2[ICC_PROFILE]
        self.tile = []
        self.use_load_libtiff = self.kind.compression != RAW

    def load(self) -> Any:
        """Decode the page."""
        if self._im is None:
            file: Any = self.fp
            channels = self._channels(file.getvalue())
            if self.mode == "CMYK" and self.kind.alpha is not None:
                *channels, self.info[ALPHA] = _divided_inks(channels, self.kind)
            self.im = _merged(channels, self.mode, self.kind).im
        return Image.Image.load(self)

    def _channels(self, data: bytes) -> list[Image.Image]:
        """Return the colours and alpha, each as a picture in L."""
        kind, shape = self.kind, self.shape
        planes = [
            _decompressed(data, self.tag_v2, shape, plane, self._planes)
            for plane in range(self._planes)
        ]
        wanted = [*range(kind.colours), *([] if kind.alpha is None else [kind.alpha])]
        if kind.predictor in (HORIZONTAL, FLOATING):
            for plane in planes:
                _undo_predictor(plane, kind, shape)
        low, high = self._range(planes)
        channels = [Image.new("L", self._size) for _ in wanted]
        for box in _boxes(shape):
            parts = [_band(plane, box) for plane in planes]
            for channel, index in zip(channels, wanted, strict=True):
                band = _picked(parts, kind, shape, index)
                if band.mode == "F":
                    of_alpha = index == kind.alpha
                    band = scaled_to_8_bits(band, *((0.0, 1.0) if of_alpha else (low, high)))
                if kind.photometric == WHITE_IS_ZERO and index != kind.alpha:
                    band = band.point(lambda value: 255 - value)
                channel.paste(band, (0, box[1]))
        return channels

    @property
    def _planes(self) -> int:
        return len(self.kind.bits) if self.kind.planar else 1

    def _range(self, planes: list[Image.Image]) -> tuple[float, float]:
        """Return the samples that are black and white, over all colours."""
        kind = self.kind
        low, high = 0.0, 1.0
        if kind.sample_format == FLOAT:
            found = [
                _picked(parts, kind, self.shape, index).getextrema()
                for parts in ([_band(plane, box) for plane in planes] for box in _boxes(self.shape))
                for index in range(kind.colours)
            ]
            low = min(float(least) for least, _ in found)  # type: ignore[arg-type]
            high = max(float(most) for _, most in found)  # type: ignore[arg-type]
        return full_range(low, high)

    def decoding_bytes(self, data: bytes) -> float:
        """Estimate the memory that decoding needs beside the picture, in bytes."""
        kind, shape = self.kind, self.shape
        channels = (kind.colours + (kind.alpha is not None)) * picture_bytes(self.size, 1)
        bytes_picture = picture_bytes((shape.row_bytes, shape.height), 1) * self._planes
        band = max(BAND_PIXELS, shape.padded) * len(kind.bits) * BAND_SAMPLE_BYTES
        inks = self.mode == "CMYK" and not kind.premultiplied
        merged = (INK_PICTURES if inks else MERGED_PICTURES) * picture_bytes(self.size)
        loaded = bytes_picture + max(len(data), band + channels)
        return max(loaded, merged + (0 if inks else channels))


def decode_inks(image: Image.Image, alpha: Image.Image, size: PixelSize) -> Image.Image:
    """Scale CMYK and its alpha down to `size`: inks are averaged as far as they cover.

    The alpha is in `info` of the result, as `resize.ALPHA`.
    """
    box = (0.0, 0.0, *image.size)
    cyan, magenta, yellow, black = image.split()
    inks = Image.merge("RGBA", (cyan, magenta, yellow, alpha))
    del cyan, magenta, yellow
    inks = inks.convert("RGBa")  # here, as below, so that what it is converted from is freed
    *colours, cover = shrink(inks, size, box).convert("RGBA").split()
    del inks
    shades = Image.merge("LA", (black, alpha)).convert("La")
    del black
    grey = shrink(shades, size, box).convert("LA").getchannel(0)
    small = Image.merge("CMYK", (*colours, grey))
    small.info[ALPHA] = cover
    return small


def _shape(tags: TiffImagePlugin.ImageFileDirectory_v2, kind: Kind) -> Shape:
    """Read the sizes. Raises ValueError where they are not numbers above 0."""
    width, height, tile = tags[WIDTH], tags[LENGTH], tags.get(TILE_WIDTH, tags[WIDTH])
    for each in (width, height, tile):
        if not isinstance(each, int) or each <= 0:
            raise ValueError("a size of the picture or its tiles is not a number above 0")
    return Shape(width, height, tile, 1 if kind.planar else len(kind.bits), kind.bits[0] // 8)


def _mode(kind: Kind) -> str:
    if kind.photometric == SEPARATED:
        return "CMYK"
    return ("RGB" if kind.photometric == RGB else "L") + ("" if kind.alpha is None else "A")


class _Bytes(Page):
    """A picture of plain bytes. It has more pixels than Pillow's limit, which counts real ones."""

    def load_prepare(self) -> None:
        """Allocate the pixels. Pillow calls this."""
        if self._im is None:
            core: Any = Image.core  # type: ignore[attr-defined]
            self.im = core.new(self.mode, self.size)
        super().load_prepare()


def _decompressed(
    data: bytes,
    tags: TiffImagePlugin.ImageFileDirectory_v2,
    shape: Shape,
    plane: int,
    planes: int,
) -> Image.Image:
    """Decompress a plane into a picture in L, whose rows are those of the file.

    Raises OSError for damaged data, and ValueError where a plane has no strips or tiles.
    """
    tiled = TILE_OFFSETS in tags
    values: dict[int, Sequence[int]] = {
        WIDTH: [shape.row_bytes],
        LENGTH: [shape.height],
        BITS: [8],
        COMPRESSION: [tags.get(COMPRESSION, 1)],
        PHOTOMETRIC: [BLACK_IS_ZERO],
        SAMPLES: [1],
    }
    if tiled:
        values[TILE_WIDTH] = [shape.tile * shape.stride * shape.sample]
        values[TILE_LENGTH] = [tags[TILE_LENGTH]]
    else:
        values[ROWS_PER_STRIP] = [min(tags.get(ROWS_PER_STRIP, shape.height), shape.height)]
    for tag in (TILE_OFFSETS, TILE_COUNTS) if tiled else (STRIP_OFFSETS, STRIP_COUNTS):
        if tag in tags:
            parts = len(tags[tag]) // planes
            values[tag] = tags[tag][plane * parts : (plane + 1) * parts]
            if not parts:
                raise ValueError("a plane has no strips or tiles")
    file = _Bytes(io.BytesIO(_with_tags(data, values)))
    file.load()
    return _picture_of(file.im)


def _picture_of(core: Any) -> Image.Image:
    """Return a picture of these pixels, which holds no file."""
    return Image.Image()._new(core)  # noqa: SLF001 - as all of Pillow's operations do


def _with_tags(data: bytes, values: dict[int, Sequence[int]]) -> bytes:
    """Return a copy of a TIFF that begins with a page of these tags."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    size, code, kind = (8, "Q", LONG8) if big else (4, "I", LONG)
    start = len(data) + len(data) % 2
    further = start + (16 if big else 6) + len(values) * (20 if big else 12)
    entries, rest = [], b""
    for tag, numbers in sorted(values.items()):
        field = struct.pack(f"{order}{len(numbers)}{code}", *numbers)
        if len(field) > size:
            rest, field = rest + field, struct.pack(order + code, further + len(rest))
        entries.append(struct.pack(f"{order}HH{code}", tag, kind, len(numbers)) + field)
    count = struct.pack(f"{order}{'Q' if big else 'H'}", len(values))
    head = data[: 8 if big else 4] + struct.pack(order + code, start)
    whole = memoryview(data)[len(head) :]
    return b"".join((head, whole, bytes(len(data) % 2), count, *entries, bytes(size), rest))


def _boxes(shape: Shape) -> Iterator[tuple[int, int, int, int]]:
    """Yield bands of rows as boxes in a picture of bytes."""
    rows = max(1, BAND_PIXELS // shape.padded)
    for top in range(0, shape.height, rows):
        yield 0, top, shape.row_bytes, min(top + rows, shape.height)


def _band(plane: Image.Image, box: tuple[int, int, int, int]) -> bytes:
    # Image.crop would compare the bytes with Pillow's limit of pixels.
    return _picture_of(plane.im.crop(box)).tobytes()


def _undo_predictor(plane: Image.Image, kind: Kind, shape: Shape) -> None:
    """Undo the predictor in place. It begins anew in each row of each tile."""
    undo = _sums if kind.predictor == HORIZONTAL else _float_sums
    length = shape.tile * shape.stride * shape.sample
    for box in _boxes(shape):
        data = _band(plane, box)
        rows = [undo(data[at : at + length], kind, shape) for at in range(0, len(data), length)]
        size = (shape.row_bytes, box[3] - box[1])
        plane.paste(Image.frombytes("L", size, b"".join(rows)), box)


def _sums(row: bytes, kind: Kind, shape: Shape) -> bytes:
    """Undo horizontal differencing (TIFF 6.0, section 14)."""
    values = array(CODES[shape.sample], row)
    if kind.order == b"MM":
        values.byteswap()
    for index in range(shape.stride):
        values[index :: shape.stride] = _added(values[index :: shape.stride])
    if kind.order == b"MM":
        values.byteswap()
    return values.tobytes()


def _float_sums(row: bytes, kind: Kind, shape: Shape) -> bytes:
    """Undo the floating-point predictor (TIFF Technical Note 3).

    It sums up bytes, which lie in planes: the most significant bytes of all samples first.
    """
    values = array("B", row)
    for index in range(shape.stride):
        values[index :: shape.stride] = _added(values[index :: shape.stride])
    count = shape.tile * shape.stride
    samples = bytearray(len(row))
    for byte in range(shape.sample):
        at = byte if kind.order == b"MM" else shape.sample - 1 - byte
        samples[at :: shape.sample] = values[byte * count : (byte + 1) * count].tobytes()
    return bytes(samples)


def _added(values: "array[int]") -> "array[int]":
    """Return the sums of each value and all before it, in as many bytes as the values have."""
    size = values.itemsize
    if size == SUM_BYTES:
        return array("Q", accumulate(values, lambda total, each: (total + each) & MAX_SUM))
    # Their lower bytes are the sums in fewer bytes. No row is so long that these overflow.
    sums: Any = memoryview(array("Q", accumulate(values))).cast("B")
    return array(values.typecode, sums.cast(values.typecode)[:: SUM_BYTES // size].tobytes())


def _picked(parts: list[bytes], kind: Kind, shape: Shape, index: int) -> Image.Image:
    """Return one sample of each pixel of a band: in L, or in F if it is floating point.

    Of 16 bits, the upper 8 are kept, as Pillow does for RGB.
    """
    data, first = (parts[index], 0) if kind.planar else (parts[0], index)
    little = kind.order == b"II"
    size = (shape.padded, len(data) // shape.row_bytes)
    step, width = shape.stride, shape.sample
    if kind.sample_format != FLOAT:
        upper = width - 1 if little else 0
        samples = data[first * width + upper :: step * width]
        band = Image.frombytes("L", size, samples)
    else:
        values: Any = memoryview(data)
        samples = values.cast(CODES[width])[first::step].tobytes()
        if width == struct.calcsize("e"):
            halves = struct.unpack(f"{'<' if little else '>'}{len(samples) // 2}e", samples)
            samples, order = array("f", halves).tobytes(), "N"
        else:
            order = "" if little else "B"
        raw = f"F;{max(32, 8 * width)}{order}F"
        band = Image.frombytes("F", size, samples, "raw", raw)
    return band if shape.padded == shape.width else band.crop((0, 0, shape.width, size[1]))


def _divided_inks(channels: list[Image.Image], kind: Kind) -> list[Image.Image]:
    """Return cyan, magenta, yellow, black and alpha, with the inks not multiplied by alpha."""
    if not kind.premultiplied:
        return channels
    cyan, magenta, yellow, black, alpha = channels
    inks = Image.merge("RGBa", (cyan, magenta, yellow, alpha)).convert("RGBA")
    grey = Image.merge("La", (black, alpha)).convert("LA")
    return [*inks.split()[:3], grey.getchannel(0), alpha]


def _merged(channels: list[Image.Image], mode: str, kind: Kind) -> Image.Image:
    """Merge colours and alpha to a picture of this mode."""
    if len(channels) == 1:
        return channels[0]
    if mode.endswith("A") and kind.premultiplied:
        return Image.merge(f"{mode[:-1]}a", channels).convert(mode)
    return Image.merge(mode, channels)
