"""PNG files, inflated by ISA-L and given on to Pillow's decoder.

Pillow's wheel inflates with the system's zlib, whatever `PIL.features` says of zlib-ng. ISA-L
(https://github.com/pycompression/python-isal) takes less than half of that, a fifth less in all.
Pillow still undoes the filters and judges what is too short or damaged: it gets the same samples in
deflate's blocks without compression.
"""

from collections.abc import Generator
from typing import Any, Final

from isal import isal_zlib
from PIL import PngImagePlugin

PngImagePlugin.MAX_TEXT_CHUNK = 4 * 1024**2
"""Of a profile or text, inflated. Pillow's 1 MB is less than printers' profiles have."""

READ_BYTES: Final = 64 * 1024
"""That are inflated at a time."""

BLOCK_BYTES: Final = 65_535
"""The most that a block without compression holds (RFC 1951, 3.2.4)."""

LAST_BLOCK: Final = b"\1\0\0\xff\xff"
"""An empty one that says so (RFC 1951, 3.2.3)."""

ZLIB_HEADER: Final = b"\x78\x01"
"""Of a stream that was not compressed much (RFC 1950, 2.2)."""

INFLATE_ERROR: Final[Any] = isal_zlib.error
"""A class, which its stub says is an instance."""

DEFLATE: Final = 8
PRESET_DICTIONARY: Final = 0x20
"""Method and flag in a zlib header (RFC 1950, 2.2)."""


class PngFile(PngImagePlugin.PngImageFile):
    """Pillow's PNG, APNG too, with its compressed samples read as uncompressed ones."""

    def load_prepare(self) -> None:
        """Begin a frame, whose zlib stream is its own."""
        super().load_prepare()
        # It knows nothing of the image: a cycle would keep the pixels until garbage is collected.
        self._parts = uncompressed()

    def load_read(self, read_bytes: int) -> bytes:  # noqa: ARG002 - Pillow calls it so
        """The next part of the frame's samples, whatever its size; empty at the end.

        No more of the file is read than it takes: Pillow counts on where the file stands.
        """
        part = next(self._parts)
        while not part:
            data = super().load_read(READ_BYTES)
            part = self._parts.send(data)
            if not data:
                break
        return part


def uncompressed() -> Generator[bytes, bytes]:
    """The zlib stream that is sent in parts, as one without compression.

    Yields empty bytes where it wants the next part sent; the last one is empty. The checksum is
    given on as it is, and a stream that begins with anything but a plain header is so as a whole.
    Raises OSError for what cannot be inflated.
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
    """The blocks of the deflate stream that begins with `data`, up to and with its end."""
    inflater = isal_zlib.decompressobj(-isal_zlib.MAX_WBITS)
    # Kept until it is known whether the stream ends with it: Pillow checks the checksum only where
    # it comes with the last samples.
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
    """A block without compression (RFC 1951, 3.2.4), and not the last."""
    length = len(samples)
    complement = length ^ 0xFFFF
    return b"\0%b%b%b" % (length.to_bytes(2, "little"), complement.to_bytes(2, "little"), samples)


def _is_plain(header: bytes) -> bool:
    """Whether it is a zlib header of two bytes, of deflate and without a preset dictionary."""
    return (
        len(header) == len(ZLIB_HEADER)
        and int.from_bytes(header, "big") % 31 == 0
        and header[0] & 0x8F == DEFLATE  # with a window of at most 32 KB
        and not header[1] & PRESET_DICTIONARY
    )
