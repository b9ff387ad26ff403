"""How much memory there is, and the refusal of images that need more.

Every estimate was measured, format by format, with `make bench-memory`. tests/test_memory.py holds
them to a real memory limit.
"""

from typing import Final

from thumbnailer.errors import ImageTooLarge
from thumbnailer.imaging.spec import PixelSize

BASE_MB: Final = 60
"""Resident memory of the function with Lambda's runtime client before it decodes anything
(`make bench-memory`)."""

SOURCE_COPIES: Final = 2.5
"""A file is in memory twice while it is read; the half is a margin, an assumption. Its pixels are
counted once its format is known."""

STORED_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
OTHER_BYTES: Final = 4
"""Bytes of a pixel in Pillow's memory, by mode, and for all other modes (Pillow's Storage.c)."""

ROW_BYTES: Final = 8
"""Pillow keeps a pointer to each row: most of the memory of a picture that is one pixel wide."""


def refuse_over(need_bytes: float, what: str, memory_mb: int) -> None:
    """Raise ImageTooLarge, naming the need and the limit, where `memory_mb` is too little."""
    need_mb = BASE_MB + need_bytes / 1024**2
    if need_mb > memory_mb:
        raise ImageTooLarge(
            f"{what} needs about {need_mb:.0f} MB of memory, and {memory_mb} MB are available.",
            need_mb,
        )


def check_file_size(size: int, memory_mb: int) -> None:
    """Raise ImageTooLarge where a file of `size` bytes is too large even to be read."""
    refuse_over(size * SOURCE_COPIES, f"A file of {size:,} bytes", memory_mb)


def max_file_size(memory_mb: int) -> int:
    """Bytes of the largest file that check_file_size lets pass."""
    return max(0, int((memory_mb - BASE_MB) * 1024**2 / SOURCE_COPIES))


def max_pixels(memory_mb: int) -> int:
    """How many pixels fit at all: at one byte each, decoded once and kept once."""
    return (memory_mb - BASE_MB) * 1024**2 // 2


def stored_bytes(mode: str) -> int:
    """Bytes that Pillow keeps for a pixel of this mode."""
    return STORED_BYTES.get(mode, OTHER_BYTES)


def picture_bytes(size: PixelSize, pixel_bytes: int = OTHER_BYTES) -> float:
    """Bytes that Pillow keeps for a picture: rows are padded to multiples of 4 (Storage.c)."""
    row = -(-size[0] * pixel_bytes // 4) * 4
    return float(size[1] * (row + ROW_BYTES))


def pixels(size: PixelSize) -> int:
    """Count the pixels of a picture."""
    return size[0] * size[1]
