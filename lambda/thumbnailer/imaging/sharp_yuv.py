"""WebP with libwebp's sharp YUV conversion, for which Pillow has no option (ADR 41).

WebP halves the resolution of colour. The ordinary conversion averages the colour of four pixels and
keeps their brightness as it was, so that an edge between saturated colours becomes dark or pale.
The sharp one adapts the brightness to the colour that is left.

The functions are those of the libwebp that Pillow has loaded. The structures are those of
`webp/encode.h`, whose first version number libwebp compares (ABI).
"""

import ctypes
from typing import Any, Final

from PIL import Image, _webp

ABI: Final = 0x0210
"""WEBP_ENCODER_ABI_VERSION of libwebp 1.6. libwebp accepts every 0x02xx."""

CONFIG_WORDS: Final = 29
METHOD_AT: Final = 2
SHARP_YUV_AT: Final = 26
"""WebPConfig: words of four bytes, and which of them are `method` and `use_sharp_yuv`."""

WORD: Final = ctypes.c_int
POINTER: Final = ctypes.c_void_p


class _Picture(ctypes.Structure):
    """WebPPicture."""

    _fields_ = (
        ("use_argb", WORD),
        ("colorspace", WORD),
        ("width", WORD),
        ("height", WORD),
        ("planes", POINTER * 3),
        ("strides", WORD * 2),
        ("alpha", POINTER),
        ("alpha_stride", WORD),
        ("padding_1", WORD * 2),
        ("argb", POINTER),
        ("argb_stride", WORD),
        ("padding_2", WORD * 3),
        ("writer", POINTER),
        ("custom_ptr", POINTER),
        ("extra_info_type", WORD),
        ("extra_info", POINTER),
        ("stats", POINTER),
        ("error_code", WORD),
        ("progress_hook", POINTER),
        ("user_data", POINTER),
        ("padding_3", WORD * 3),
        ("padding_4", POINTER * 2),
        ("padding_5", WORD * 8),
        ("memory", POINTER * 4),
    )


class _Writer(ctypes.Structure):
    """WebPMemoryWriter."""

    _fields_ = (
        ("memory", POINTER),
        ("size", ctypes.c_size_t),
        ("max_size", ctypes.c_size_t),
        ("padding", WORD),
    )


def encode(picture: Image.Image, quality: int, method: int) -> bytes | None:
    """Encode an RGB picture, lossy; return the file.

    Returns None where libwebp cannot do this, for whatever reason: it is linked into Pillow, is of
    another ABI, or lacks memory. Pillow's own encoder then decides on an error.
    """
    try:
        library: Any = ctypes.CDLL(_webp.__file__)  # its symbols, and those of what it loaded
        config = (WORD * CONFIG_WORDS)()
        image, writer = _Picture(), _Writer()
        if not (
            library.WebPConfigInitInternal(config, 0, ctypes.c_float(quality), ABI)
            and library.WebPPictureInitInternal(ctypes.byref(image), ABI)
        ):
            return None
    except (AttributeError, OSError):
        return None
    config[METHOD_AT], config[SHARP_YUV_AT] = method, True
    image.use_argb = True  # converted to YUV by WebPEncode, which knows how
    image.width, image.height = picture.size
    library.WebPMemoryWriterInit(ctypes.byref(writer))
    image.writer = ctypes.cast(library.WebPMemoryWrite, POINTER)
    image.custom_ptr = ctypes.addressof(writer)
    try:
        # Both return 0 for an error.
        if library.WebPPictureImportRGB(
            ctypes.byref(image), picture.tobytes(), 3 * picture.width
        ) and library.WebPEncode(config, ctypes.byref(image)):
            return ctypes.string_at(writer.memory, writer.size)
        return None
    finally:
        library.WebPPictureFree(ctypes.byref(image))
        library.WebPMemoryWriterClear(ctypes.byref(writer))
