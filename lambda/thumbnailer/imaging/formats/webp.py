"""WebP, still and animated."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from PIL import Image, ImageFile, WebPImagePlugin

from thumbnailer.imaging.formats.format import Format, whole
from thumbnailer.imaging.limits import OTHER_BYTES, pixels, refuse_over
from thumbnailer.imaging.resize import Box, divided, factors
from thumbnailer.imaging.spec import PixelSize

if TYPE_CHECKING:
    from thumbnailer.imaging.formats.libwebp import Header

LOSSY_BYTES: Final = 12.4
LOSSLESS_BYTES: Final = 14.6
ALPHA_BYTES: Final = 16.8
ANIMATED_BYTES: Final = 18.4
"""Peak memory for each pixel: two canvases, a copy of one, and what is decoded of a frame."""

STILL_BYTES: Final = {"RGB": 0.0, "RGBA": 2.0, "lossless": 4.3}
"""For each pixel of a still that libwebp decodes: its alpha, or all of its samples."""

ROW_BYTES: Final = 150
"""For each column: the rows around the one that is decoded."""

BYTE_SECONDS: Final = 30e-9
PIXEL_SECONDS: Final = 60e-9
"""For each byte of the file and each pixel, of noise at quality 100 (measured)."""

ALPHA_FLAG: Final = 0x10
ANIMATION_FLAG: Final = 0x02
"""In the first byte of a VP8X chunk (RFC 9649, 2.7)."""

FLAGS_AT: Final = 20
"""Byte of the flags in a file that begins with VP8X."""

FRAME_HEADER_BYTES: Final = 16
CLEARED_AT, CLEARED = 15, 0x01
"""Byte and flag of a frame that is cleared after it was shown (RFC 9649, 2.7.1.2)."""

CHUNKS_AT: Final = 12
MAX_CHUNKS: Final = 1000
"""Chunks that are searched for the kind of picture. Real files have a handful."""

MAX_COPIED_CHUNKS: Final = 10_000
"""Chunks of a file whose header is corrected: more than any animation has that is kept whole."""

PICTURES: Final = (b"VP8 ", b"VP8L", b"ALPH", b"ANMF")

HEADER_BYTES: Final = 30
"""Bytes that are enough to read the size from any kind of WebP (RFC 9649, 2.5 to 2.7)."""


class WebpFile(WebPImagePlugin.WebPImageFile):
    """Pillow's reader. `copied_bytes` is the size of a copy of the file that it reads from."""

    copied_bytes = 0


class StillWebp(ImageFile.ImageFile):
    """A WebP that is no animation. libwebp decodes it at the size that is needed.

    `copied_bytes` is the size of a copy of the file that it reads from. `scales` says whether
    colours are averaged as they should be: libwebp averages those of a lossy picture with alpha
    without it, so that what is transparent would count.
    """

    format = "WEBP"
    copied_bytes = 0
    is_animated = False
    n_frames = 1

    def __init__(self, data: bytes, header: "Header") -> None:
        self._header = header
        self._data = data
        super().__init__(io.BytesIO(data))

    def _open(self) -> None:
        alpha = bool(self._header.flags & ALPHA_FLAG)
        self._size = self._header.size
        self._mode = "RGBA" if alpha else "RGB"
        self.info.update(self._header.info)
        self.lossless = b"VP8L" in set(chunk_names(self._data))
        self.scales = self.lossless or not alpha

    def decoded(self, size: PixelSize) -> Image.Image:
        """Decode the picture at `size`. Raises EOFError where it is damaged, and MemoryError."""
        from thumbnailer.imaging.formats import libwebp  # noqa: PLC0415 - with ctypes

        alpha = self.mode == "RGBA"
        samples = libwebp.decode(self._data, size, scaled=size != self.size, alpha=alpha)
        return Image.frombuffer(self.mode, size, samples, "raw", self.mode, 0, 1)

    def load(self) -> Any:
        """Decode the picture at its own size."""
        if self._im is None:
            self.im = self.decoded(self.size).im
        return Image.Image.load(self)


def recognise(data: bytes) -> bool:
    """See Format."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def open_webp(data: bytes, memory_mb: int) -> ImageFile.ImageFile:
    """See Format."""
    read = data
    if has_gaps(data):
        flags = bytes([data[FLAGS_AT] | ALPHA_FLAG])
        read = data[:FLAGS_AT] + flags + data[FLAGS_AT + 1 :]
    try:
        image = _open(read, memory_mb)
    except OSError:
        if (sound := with_right_size(read)) is None:
            raise
        read = sound
        image = _open(read, memory_mb)
    image.copied_bytes = len(read) if read is not data else 0
    return image


def _open(data: bytes, memory_mb: int) -> "WebpFile | StillWebp":
    """Open a file as it is. Pillow allocates an animation's canvas: its size is checked first."""
    from thumbnailer.imaging.formats import libwebp  # noqa: PLC0415 - with ctypes

    header = libwebp.read_header(data) if libwebp.library() is not None else None
    if header and not header.flags & ANIMATION_FLAG:
        return StillWebp(data, header)
    if size := size_of(data):
        what = f"WEBP of {size[0]} × {size[1]} pixels"
        refuse_over(pixels(size) * pixel_bytes(data), what, memory_mb)
    return WebpFile(io.BytesIO(data))


def has_gaps(data: bytes) -> bool:
    """Whether an animation that says that it has no alpha leaves a part of its canvas empty.

    Without the alpha flag, Pillow would show that part black.
    """
    if data[12:16] != b"VP8X" or len(data) <= FLAGS_AT:
        return False
    if data[FLAGS_AT] & (ANIMATION_FLAG | ALPHA_FLAG) != ANIMATION_FLAG:
        return False
    canvas = size_of(data)
    empty = True
    for frame in _frames(data):
        x, y, width, height = (
            int.from_bytes(frame[at : at + 3], "little") for at in range(0, 12, 3)
        )
        if empty and (x or y or (width + 1, height + 1) != canvas):
            return True
        empty = bool(frame[CLEARED_AT] & CLEARED)
    return False


def _frames(data: bytes) -> Iterator[bytes]:
    """Yield the header of each frame of an animation (RFC 9649, 2.7.1.2)."""
    at = CHUNKS_AT
    for _ in range(MAX_COPIED_CHUNKS):
        if at + 8 + FRAME_HEADER_BYTES > len(data):
            return
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"ANMF":
            yield data[at + 8 : at + 8 + FRAME_HEADER_BYTES]
        at += 8 + size + size % 2


def with_right_size(data: bytes) -> bytes | None:
    """Return a copy of a file whose RIFF header has the size of the chunks that are there.

    None where the header has that size already, or where a picture is cut off.
    """
    at = CHUNKS_AT
    for _ in range(MAX_COPIED_CHUNKS):
        name = data[at : at + 4]
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size
        if end > len(data) or len(name) < 4 or not name.isascii():  # noqa: PLR2004
            if name in PICTURES:
                return None
            break
        at = end + size % 2
    chunks = data[8:at].ljust(at - 8, b"\0")  # the last byte is padding, and may be missing
    stated = int.from_bytes(data[4:8], "little")
    if stated == len(chunks):
        return None
    return data[:4] + len(chunks).to_bytes(4, "little") + chunks


def size_of(head: bytes) -> PixelSize | None:
    """Read width and height from the first 30 bytes of a WebP; None where they are not there."""
    # Private, but the public way is to open the file, which allocates its canvas.
    return WebPImagePlugin._get_size(head[:HEADER_BYTES])  # noqa: SLF001


def pixel_bytes(data: bytes) -> float:
    """Estimate the peak memory for each pixel from the chunks (RFC 9649, 2.7)."""
    flags = data[20] if data[12:16] == b"VP8X" and len(data) > 20 else 0  # noqa: PLR2004
    kinds = set(chunk_names(data))
    if flags & ANIMATION_FLAG or kinds & {b"ANIM", b"ANMF"}:
        return ANIMATED_BYTES
    if flags & ALPHA_FLAG or b"ALPH" in kinds:
        return ALPHA_BYTES
    return LOSSLESS_BYTES if b"VP8L" in kinds else LOSSY_BYTES


def chunk_names(data: bytes) -> Iterator[bytes]:
    """Yield the name of each chunk up to the picture's, of at most MAX_CHUNKS."""
    at = CHUNKS_AT
    for _ in range(MAX_CHUNKS):
        name = data[at : at + 4]
        yield name
        if name in (b"VP8 ", b"VP8L", b"ANMF", b""):
            return
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, decoded: PixelSize) -> float:
    """See Format."""
    if isinstance(image, StillWebp):
        samples = len(image.getbands()) * pixels(decoded) if image.scales else 0
        kind = "lossless" if image.lossless else image.mode
        return samples + STILL_BYTES[kind] * pixels(image.size) + ROW_BYTES * image.size[0]
    return pixels(image.size) * (pixel_bytes(data) - OTHER_BYTES)


def reduces(image: ImageFile.ImageFile) -> bool:
    """See Format."""
    return isinstance(image, StillWebp) and image.scales


def call_seconds(image: ImageFile.ImageFile, data: bytes) -> float:
    """See Format: a frame is one call."""
    return len(data) * BYTE_SECONDS + pixels(image.size) * PIXEL_SECONDS


def decode(image: ImageFile.ImageFile, size: PixelSize, scale: int) -> tuple[Image.Image, Box]:
    """See Format.

    A picture of one frame is taken without a further copy. Pillow would keep the decoder with its
    two canvases meanwhile: 16 bytes a pixel at the peak, not 12.
    """
    if isinstance(image, StillWebp):
        at = divided(image.size, factors((0, 0, *image.size), size)) if image.scales else image.size
        return image.decoded(at), (0, 0, *at)
    if getattr(image, "n_frames", 1) > 1:
        return whole(image, size, scale)
    file: Any = image
    data, _, _ = file._get_next()  # noqa: SLF001
    file._decoder = None  # noqa: SLF001
    mode = file.rawmode
    picture = Image.frombuffer(mode, image.size, data, "raw", mode, 0, 1)
    return picture, (0, 0, *image.size)


FORMAT: Final = Format(
    name="WEBP",
    title="WebP",
    recognise=recognise,
    open=open_webp,
    decoder_bytes=decoder_bytes,
    call_seconds=call_seconds,
    reduces=reduces,
    decode=decode,
)
