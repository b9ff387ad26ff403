"""EXIF orientation → what makes a picture upright (CIPA DC-008, 4.6.4)."""

from typing import Final

from PIL import Image

TRANSPOSE: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → Pillow's operation; 1 and unknown values need none."""

FIRST_ROTATED: Final = 5
"""From this value on, width and height are exchanged."""


def swaps_sides(orientation: int) -> bool:
    """Whether making the picture upright exchanges its width and height."""
    return orientation in TRANSPOSE and orientation >= FIRST_ROTATED
