"""The filters of PNG's rows, undone by libspng with SIMD.

Pillow undoes them byte by byte, which takes longer than inflating. libspng
(https://github.com/randy408/libspng), which libvips and sharp use too, needs a fifth of that time.
It is a part of pyspng's extension module, called here through ctypes: pyspng itself imports numpy
and decodes whole files only.

libspng never sees an upload. It decodes PNGs that are made here, each of a band of rows: a header,
the row above as it is, and the filtered rows, in deflate blocks without compression. So one picture
can be decoded in bands, with the inflater of png.py (ADR 39).
"""

import ctypes
import struct
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

MAGIC: Final = b"\x89PNG\r\n\x1a\n"

IGNORE_ADLER32: Final = 1
USE_UNCHECKED: Final = 2
RAW: Final = 512
"""SPNG_CTX_IGNORE_ADLER32, SPNG_CRC_USE and SPNG_FMT_RAW of libspng 0.7 (spng.h). Checksums are
neither computed nor compared, and samples stay as they are in the file."""

COLOURS: Final = {1: (8, 0), 2: (8, 4), 3: (8, 2), 4: (8, 6), 6: (16, 2), 8: (16, 6)}
"""Bits of a sample and colour type of a PNG (third edition, 11.2.1), by the bytes of a pixel: a
filter depends on nothing else."""

ZLIB_HEADER: Final = b"\x78\x01"
"""Header of a stream with little compression (RFC 1950, 2.2)."""

BLOCK_BYTES: Final = 65_535
"""Maximum bytes in a block without compression (RFC 1951, 3.2.4)."""

LAST_BLOCK: Final = b"\1\0\0\xff\xff"
"""An empty block, marked as the last (RFC 1951, 3.2.3)."""

NO_CHECKSUM: Final = bytes(4)

OUT_OF_MEMORY: Final = 2
"""SPNG_EMEM."""


@cache
def library() -> Any:
    """Load libspng; None where it is not installed."""
    found = find_spec("pyspng")
    folders = found.submodule_search_locations if found else None
    for path in (path for folder in folders or () for path in Path(folder).glob("_pyspng_c.*")):
        try:
            spng: Any = ctypes.CDLL(str(path))
        except OSError:
            continue
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        spng.spng_ctx_new.restype = pointer
        spng.spng_ctx_free.argtypes = [pointer]
        spng.spng_set_crc_action.argtypes = [pointer, ctypes.c_int, ctypes.c_int]
        spng.spng_set_png_buffer.argtypes = [pointer, pointer, size]
        spng.spng_decode_image.argtypes = [pointer, pointer, size, ctypes.c_int, ctypes.c_int]
        return spng
    return None


class Filters:
    """Undoes the filters of a picture's rows, band by band from top to bottom.

    A row has `row_bytes`, its filter not counted, and a pixel has `pixel_bytes`: 1, 2, 3, 4, 6 or
    8, and 1 where it has less. A band has at most `max_rows`.
    """

    def __init__(self, row_bytes: int, pixel_bytes: int, max_rows: int) -> None:
        self._row_bytes = row_bytes
        self._pixel_bytes = pixel_bytes
        self._above = bytes(row_bytes)
        # Reused for every band: new memory costs more time than the filters themselves.
        self._pixels = bytearray((max_rows + 1) * row_bytes)
        self._at = (ctypes.c_char * len(self._pixels)).from_buffer(self._pixels)

    def undo(self, parts: Sequence[bytes | memoryview], rows: int) -> memoryview:
        """Return `rows` without their filters, of which `parts` are all bytes.

        A part has at most BLOCK_BYTES. What is returned is overwritten by the next call. Raises
        OSError where a filter is unknown, and MemoryError.
        """
        above = memoryview(b"\0" + self._above)
        cut = range(0, len(above), BLOCK_BYTES)
        blocks = [*(above[start : start + BLOCK_BYTES] for start in cut), *parts]
        stream = [ZLIB_HEADER]
        for block in blocks:
            stream += [block_header(len(block)), block]  # type: ignore[list-item]
        stream += [LAST_BLOCK, NO_CHECKSUM]
        depth, colour = COLOURS[self._pixel_bytes]
        width = self._row_bytes // self._pixel_bytes
        header = struct.pack(">IIBBBBB", width, rows + 1, depth, colour, 0, 0, 0)
        png = b"".join(
            [MAGIC, *_chunk(b"IHDR", [header]), *_chunk(b"IDAT", stream), *_chunk(b"IEND", [])]
        )
        size = (rows + 1) * self._row_bytes
        _decode(png, self._at, size)
        self._above = bytes(self._pixels[size - self._row_bytes : size])
        return memoryview(self._pixels)[self._row_bytes : size]


def block_header(length: int) -> bytes:
    """Build the header of a block without compression that is not the last (RFC 1951, 3.2.4)."""
    return struct.pack("<BHH", 0, length, length ^ 0xFFFF)


def _chunk(name: bytes, parts: Sequence[bytes]) -> list[bytes]:
    return [struct.pack(">I", sum(map(len, parts))), name, *parts, NO_CHECKSUM]


def _decode(png: bytes, to: Any, size: int) -> None:
    spng = library()
    context = spng.spng_ctx_new(IGNORE_ADLER32)
    if not context:
        raise MemoryError
    try:
        spng.spng_set_crc_action(context, USE_UNCHECKED, USE_UNCHECKED)
        spng.spng_set_png_buffer(context, png, len(png))
        failed = spng.spng_decode_image(context, to, size, RAW, 0)
    finally:
        spng.spng_ctx_free(context)
    if failed == OUT_OF_MEMORY:
        raise MemoryError
    if failed:
        raise OSError("the pixels are damaged")
