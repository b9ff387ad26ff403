"""WebP, still and animated."""

import io
from collections.abc import Sequence
from typing import Final

from PIL import Image, WebPImagePlugin

from thumbnailer.imaging.encoders.encoder import Encoder
from thumbnailer.imaging.formats.format import UNCOVERED
from thumbnailer.imaging.formats.webp import ALPHA_FLAG, FLAGS_AT, size_of
from thumbnailer.imaging.spec import MAX_SIDE, ThumbnailSpec

METHOD: Final = 4
"""Effort of the encoder, 0 (fast) to 6 (small). ADR 1 compares them."""

FAST_METHOD: Final = 2
"""Half the time of method 4 for up to 4 % more bytes, and half the memory: libwebp keeps no tokens
(`make bench-engine`, `make bench-memory`)."""

LARGE_PIXELS: Final = 2_000_000
"""A larger picture is encoded with FAST_METHOD, as every animation is: it bounds the memory."""

PIXEL_BYTES: Final = {False: 26, True: 49}
LARGE_PIXEL_BYTES: Final = {False: 13, True: 38}
"""Peak memory for each pixel, the picture included, without and with alpha. These are the maxima
over noise (`make bench-memory`)."""

PIXEL_SECONDS: Final = 350e-9
"""Noise with alpha at quality 100 (measured)."""

PALETTE_COLOURS: Final = 256
LOSSLESS: Final = {"lossless": True, "quality": 0, "method": 0}
"""The fastest way without loss. For frames of at most PALETTE_COLOURS it takes 7 to 64 ms a
megapixel and at most 0.8 of the bytes; quality 85 takes 38 to 169 ms (noise, dithered and flat
pictures of 512 × 512 pixels, measured)."""

OPAQUE: Final = 255

EDGE_LEVELS: Final = 64
EDGE_SHARE: Final = 0.01
"""A picture has colour edges where Cb and Cr differ by more than EDGE_LEVELS, added up, between
neighbours in this share of its pixels. These are signs, logos and coloured letters, and the most
colourful of photos: 1 of the 35 that `make bench-formats` encodes (ADR 41)."""

EDGE_ROWS: Final = 8
"""Of these rows one is examined, which takes a hundredth of the encoder's time."""

MARK_CHUNK: Final = b"PROV"
"""Name of the chunk that holds the provenance mark. The specification reserves none like it."""


def encode(
    pictures: Sequence[Image.Image],
    spec: ThumbnailSpec,
    durations: Sequence[float],
    loop: int,
) -> bytes:
    """Encode a picture or an animation: see `Encoder`.

    Frames of few colours are encoded without loss where the first one leaves a part empty. Others
    keep the bytes that earlier versions of the function made.
    """
    if len(pictures) == 1:
        return _encode_still(pictures[0], spec.quality)
    buffer = io.BytesIO()
    first = pictures[0]
    flat = UNCOVERED in first.info and all(each.getcolors(PALETTE_COLOURS) for each in pictures)
    first.encoderinfo = {
        **(LOSSLESS if flat else {"quality": spec.quality, "method": FAST_METHOD}),
        "append_images": pictures[1:],  # with alpha, each is made straight when its turn comes
        "duration": list(durations),
        "loop": loop,
        "background": (0, 0, 0, 0),
    }
    Image.SAVE_ALL["WEBP"](first, buffer, "")
    if any(map(_is_transparent, pictures)):
        _set_alpha_flag(buffer)
    return buffer.getvalue()


def _encode_still(picture: Image.Image, quality: int) -> bytes:
    """Encode a picture, with the sharp conversion of colour where it shows."""
    large = picture.width * picture.height > LARGE_PIXELS
    if not large and has_colour_edges(picture):
        from thumbnailer.imaging import sharp_yuv  # noqa: PLC0415 - few pictures need it

        if data := sharp_yuv.encode(picture, quality, METHOD):
            return data
    straight = _straight_alpha(picture)
    straight.encoderinfo = {"quality": quality, "method": FAST_METHOD if large else METHOD}
    buffer = io.BytesIO()
    # What Image.save does, without its import of five decoders first.
    Image.SAVE["WEBP"](straight, buffer, "")
    return buffer.getvalue()


def has_colour_edges(picture: Image.Image) -> bool:
    """Whether an opaque picture has enough colour edges for sharp YUV: see EDGE_LEVELS.

    One with alpha never has, because the sharp conversion ignores alpha.
    """
    width, height = picture.width - 1, -(-picture.height // EDGE_ROWS)
    if picture.mode != "RGB" or not width:
        return False
    from PIL import ImageChops  # noqa: PLC0415 - not needed by init

    nearest = Image.Resampling.NEAREST
    rows = picture.resize((picture.width, height), nearest).convert("YCbCr")
    # By resize, because crop refuses more pixels than the decoder may give.
    blue, red = (
        ImageChops.difference(
            chroma.resize((width, height), nearest, box=(0, 0, width, height)),
            chroma.resize((width, height), nearest, box=(1, 0, width + 1, height)),
        )
        for chroma in (rows.getchannel("Cb"), rows.getchannel("Cr"))
    )
    edges = sum(ImageChops.add(blue, red).histogram()[EDGE_LEVELS + 1 :])
    return edges > EDGE_SHARE * width * height


def memory_bytes(pixels: int, alpha: bool) -> float:  # noqa: FBT001 - see Encoder
    """Estimate the peak memory of encoding: see `Encoder`."""
    return float(pixels * (LARGE_PIXEL_BYTES if pixels > LARGE_PIXELS else PIXEL_BYTES)[alpha])


def mark(data: bytes, mark: bytes) -> bytes:
    """Add the provenance mark as the last chunk, which decoders ignore.

    Only the extended format allows further chunks, so a simple file becomes an extended one
    (RFC 9649, 2.7).
    """
    chunks = data[12:]
    if chunks[:4] != b"VP8X":
        size = size_of(data)
        assert size is not None  # noqa: S101 - the encoder wrote it
        width, height = size
        canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        chunks = _chunk(b"VP8X", bytes(4) + canvas) + chunks
    chunks += mark_ending(mark)
    return b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WEBP" + chunks


def mark_ending(mark: bytes) -> bytes:
    """Return the chunk that a marked file ends with."""
    return _chunk(MARK_CHUNK, mark)


def open_webp(data: bytes) -> Image.Image:
    """Decode a thumbnail: see `Encoder`."""
    return WebPImagePlugin.WebPImageFile(io.BytesIO(data))


def _is_transparent(picture: Image.Image) -> bool:
    return picture.mode == "RGBa" and picture.im.getband(3).getextrema()[0] < OPAQUE


def _set_alpha_flag(buffer: io.BytesIO) -> None:
    """Say in VP8X that there is transparency.

    libwebp does not where each frame's own pixels are opaque and leave a part of the canvas empty.
    """
    data = buffer.getbuffer()
    assert bytes(data[12:16]) == b"VP8X"  # noqa: S101 - of every animation
    data[FLAGS_AT] |= ALPHA_FLAG


def _straight_alpha(picture: Image.Image) -> Image.Image:
    return picture.convert("RGBA") if picture.mode == "RGBa" else picture


def _chunk(name: bytes, payload: bytes) -> bytes:
    return name + len(payload).to_bytes(4, "little") + payload + bytes(len(payload) % 2)


ENCODER: Final = Encoder(
    content_type="image/webp",
    extension="webp",
    max_side=MAX_SIDE,
    animates=True,
    has_alpha=True,
    encode=encode,
    memory_bytes=memory_bytes,
    pixel_seconds=PIXEL_SECONDS,
    mark=mark,
    mark_ending=mark_ending,
    open=open_webp,
    size_of=size_of,
)
