"""libwebp, for still WebPs: decoded at the size that is needed, without a canvas.

Pillow decodes every WebP as an animation: with two canvases, at full size. This module calls the
same library, which Pillow's wheel brings, through ctypes. libwebp averages samples while it
decodes, before it converts them to RGB. So a scaled picture needs two thirds of the time, and
hardly any memory where it is lossy (ADR 39).
"""

import ctypes
from functools import cache
from typing import Any, Final, NamedTuple

from thumbnailer.imaging.spec import PixelSize

DECODER_ABI: Final = 0x0209
DEMUX_ABI: Final = 0x0107
"""Versions of the structures below (webp/decode.h and webp/demux.h of libwebp 1.6). libwebp refuses
a call with another major version, which is the first byte."""

FORMAT_FLAGS, WIDTH, HEIGHT, LOOP_COUNT, FRAME_COUNT = 0, 1, 2, 3, 5
"""WebPFormatFeature (webp/demux.h)."""

MODE_RGB, MODE_RGBA = 0, 1
"""WEBP_CSP_MODE (webp/decode.h)."""

CHUNKS: Final = {"icc_profile": b"ICCP", "exif": b"EXIF", "xmp": b"XMP "}
"""Keys of Pillow's `Image.info`, and the names of their chunks (RFC 9649, 2.7)."""

OUT_OF_MEMORY: Final = 1
"""VP8_STATUS_OUT_OF_MEMORY (webp/decode.h)."""

NAMES: Final = (
    "WebPDemuxInternal",
    "WebPDemuxGetI",
    "WebPDemuxGetChunk",
    "WebPDemuxReleaseChunkIterator",
    "WebPDemuxDelete",
    "WebPInitDecoderConfigInternal",
    "WebPDecode",
)

_INT, _POINTER, _SIZE = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t


class _Data(ctypes.Structure):
    """WebPData (webp/mux_types.h)."""

    _fields_ = (("bytes", _POINTER), ("size", _SIZE))


class _Chunk(ctypes.Structure):
    """WebPChunkIterator (webp/demux.h)."""

    _fields_ = (
        ("number", _INT),
        ("count", _INT),
        ("chunk", _Data),
        ("padding", ctypes.c_uint32 * 6),
        ("private", _POINTER),
    )


class _Features(ctypes.Structure):
    """WebPBitstreamFeatures (webp/decode.h)."""

    _fields_ = (
        ("width", _INT),
        ("height", _INT),
        ("has_alpha", _INT),
        ("has_animation", _INT),
        ("format", _INT),
        ("padding", ctypes.c_uint32 * 5),
    )


class _Buffer(ctypes.Structure):
    """WebPDecBuffer with samples of RGB. `rest` is what its union has beyond them."""

    _fields_ = (
        ("colorspace", _INT),
        ("width", _INT),
        ("height", _INT),
        ("is_external_memory", _INT),
        ("samples", _POINTER),
        ("stride", _INT),
        ("size", _SIZE),
        ("rest", _SIZE * 7),
        ("padding", ctypes.c_uint32 * 4),
        ("private_memory", _POINTER),
    )


class _Options(ctypes.Structure):
    """WebPDecoderOptions (webp/decode.h)."""

    _fields_ = (
        ("bypass_filtering", _INT),
        ("no_fancy_upsampling", _INT),
        ("use_cropping", _INT),
        ("crop", _INT * 4),
        ("use_scaling", _INT),
        ("scaled_width", _INT),
        ("scaled_height", _INT),
        ("use_threads", _INT),
        ("dithering_strength", _INT),
        ("flip", _INT),
        ("alpha_dithering_strength", _INT),
        ("padding", ctypes.c_uint32 * 5),
    )


class _Config(ctypes.Structure):
    """WebPDecoderConfig (webp/decode.h)."""

    _fields_ = (("input", _Features), ("output", _Buffer), ("options", _Options))


class Header(NamedTuple):
    """What a WebP says of itself. `flags` are those of VP8X; `info` is for `Image.info`."""

    size: PixelSize
    flags: int
    frames: int
    info: dict[str, Any]


@cache
def library() -> Any:
    """Load libwebp, as a part of what Pillow links; None where it has not all of NAMES."""
    from PIL import _webp  # noqa: PLC0415 - a part of Pillow that may be missing

    try:
        webp: Any = ctypes.CDLL(_webp.__file__)
        for name in NAMES:
            getattr(webp, name)
    except (OSError, AttributeError):
        return None
    webp.WebPDemuxInternal.restype = _POINTER
    webp.WebPDemuxInternal.argtypes = [_POINTER, _INT, _POINTER, _INT]
    webp.WebPDemuxGetI.restype = ctypes.c_uint32
    webp.WebPDemuxGetI.argtypes = [_POINTER, _INT]
    webp.WebPDemuxGetChunk.argtypes = [_POINTER, ctypes.c_char_p, _INT, _POINTER]
    webp.WebPDemuxReleaseChunkIterator.argtypes = [_POINTER]
    webp.WebPDemuxDelete.argtypes = [_POINTER]
    webp.WebPInitDecoderConfigInternal.argtypes = [_POINTER, _INT]
    webp.WebPDecode.argtypes = [ctypes.c_char_p, _SIZE, _POINTER]
    return webp


def read_header(data: bytes) -> Header | None:
    """Read what a whole file says of itself; None where its structure is invalid."""
    webp = library()
    view = _Data(ctypes.cast(ctypes.c_char_p(data), _POINTER), len(data))
    demuxer = webp.WebPDemuxInternal(ctypes.byref(view), 0, None, DEMUX_ABI)
    if not demuxer:
        return None
    try:
        flags, width, height, loop, frames = (
            webp.WebPDemuxGetI(demuxer, each)
            for each in (FORMAT_FLAGS, WIDTH, HEIGHT, LOOP_COUNT, FRAME_COUNT)
        )
        info: dict[str, Any] = {"loop": loop}
        for key, name in CHUNKS.items():
            found = _Chunk()
            if webp.WebPDemuxGetChunk(demuxer, name, 1, ctypes.byref(found)):
                info[key] = ctypes.string_at(found.chunk.bytes, found.chunk.size)
                webp.WebPDemuxReleaseChunkIterator(ctypes.byref(found))
    finally:
        webp.WebPDemuxDelete(demuxer)
    return Header((width, height), flags, frames, info)


def decode(data: bytes, size: PixelSize, *, scaled: bool, alpha: bool) -> bytearray:
    """Decode a still at `size`: RGB, or RGBA with `alpha`, one byte a sample.

    It is smaller than the picture where it is `scaled`, and the picture's own size otherwise.
    Raises EOFError where the picture is damaged or cut off, and MemoryError.
    """
    webp = library()
    config = _Config()
    if not webp.WebPInitDecoderConfigInternal(ctypes.byref(config), DECODER_ABI):
        raise RuntimeError("this version of libwebp is not supported")
    stride = size[0] * (4 if alpha else 3)
    samples = bytearray(stride * size[1])
    output, options = config.output, config.options
    output.colorspace = MODE_RGBA if alpha else MODE_RGB
    output.is_external_memory = 1
    output.samples = ctypes.addressof((ctypes.c_char * len(samples)).from_buffer(samples))
    output.stride, output.size = stride, len(samples)
    options.use_scaling = scaled  # which loses detail of colour, even at the own size
    options.scaled_width, options.scaled_height = size
    status = webp.WebPDecode(data, len(data), ctypes.byref(config))
    if status == OUT_OF_MEMORY:
        raise MemoryError
    if status:
        raise EOFError("failed to decode next frame in WebP file")  # in the words of Pillow
    return samples
