"""What an image needs in memory, estimated from its header before any pixel is decoded.

The figures were measured, format by format, with `make bench-memory`; tests/test_memory.py
holds the estimate to a real limit of memory.
"""

from typing import TYPE_CHECKING, Final

from thumbnailer.errors import ImageTooLarge
from thumbnailer.imaging.encoders.webp import LARGE_PIXELS
from thumbnailer.imaging.formats.jpeg2000 import codestream
from thumbnailer.imaging.resize import BAND_PIXELS, averageable_mode

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

type Size = tuple[int, int]

BASE_MB: Final = 60
"""Resident memory of the function with Lambda's runtime client before it decodes anything."""

LARGEST_MB: Final = 10_240
"""The most memory that a Lambda function can have."""

STORED_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes of a pixel in Pillow's memory, by mode; the others have OTHER_BYTES."""
OTHER_BYTES: Final = 4

ROW_BYTES: Final = 8
"""A pointer to each row: most of a picture that is a pixel wide."""

DIRECT: Final = ("1", "RGBX", "RGBA", "LA", "I;16", "I;16L", "I;16B", "I;16N")
"""Modes that are converted to an averageable one at once."""

ENCODER_BYTES: Final = {"RGB": 26, "RGBa": 49}
LARGE_ENCODER_BYTES: Final = {"RGB": 13, "RGBa": 38}
"""For each pixel of the largest thumbnail while it is encoded, itself included; at most (noise).
Large ones are encoded in another way (`webp.LARGE_PIXELS`)."""

BAND_BYTES: Final = 12
"""For each pixel of a band of rows that is converted: itself, and by way of RGBA."""

AVIF_BYTES: Final = {"RGB": 8.2, "RGBA": 9.7}
HEIF_BYTES: Final = 6.2
"""For each pixel, beside the planes that the video decoder gives: RGB, copied, and in Pillow."""

LOSSY_WEBP_BYTES: Final = 12.4
LOSSLESS_WEBP_BYTES: Final = 14.6
ALPHA_WEBP_BYTES: Final = 16.8
"""For each pixel: two canvases, the copy that is taken of one, and what is decoded of a frame."""
ANIMATED_WEBP_BYTES: Final = 18.4

TWO_ROWS_BYTES: Final = 8
"""For each pixel of a PNG's row, which is unfiltered by means of the one above it (ZipDecode.c)."""

JPEG_BYTES: Final = 0.3
"""For each pixel of the file: libjpeg-turbo decodes strip by strip, at the scale asked for."""

COEFFICIENT_BYTES: Final = 2
"""For each sample of a progressive JPEG, whose coefficients are all kept (jdcoefct.c)."""

SAMPLE_BYTES: Final = 5.2
"""For each sample of a JPEG 2000 tile at the decoded scale: OpenJPEG's 32-bit integer, and a byte
for Pillow."""
BLOCK_BYTES: Final = 450
"""For each code block of a JPEG 2000 tile, whatever the scale (opj_tcd_init_tile)."""


def need(
    image: "ImageFile", data: bytes, *, decoded: Size, reduced: Size, thumbnail: Size
) -> float:
    """Bytes at the peak, beside the function's own: of decoding, of reducing, or of encoding.

    Sizes are (width, height) in pixels: `decoded` is what the decoder gives (less than the file's
    where it can scale), `reduced` what is left when whole rows and columns are averaged,
    `thumbnail` the largest one.
    """
    stored = _picture_bytes(decoded, STORED_BYTES.get(image.mode, OTHER_BYTES))
    averageable = averageable_mode(image)
    if averageable == image.mode and reduced == decoded:
        converted = 0.0  # resized as it is
    elif reduced == decoded:
        # Converted whole; a palette with transparency by way of RGBA.
        each = _picture_bytes(decoded, STORED_BYTES.get(averageable, OTHER_BYTES))
        converted = each * (1 if image.mode in DIRECT else 2)
    else:
        converted = _picture_bytes(reduced) + BAND_BYTES * max(BAND_PIXELS, decoded[0])
    half_resized = _picture_bytes((thumbnail[0], reduced[1]))
    # Samples of 32 bits are scaled to 8 in two more pictures.
    made = _picture_bytes(thumbnail) * (3 if averageable in ("I", "F") else 1)
    encoder = LARGE_ENCODER_BYTES if _pixels(thumbnail) > LARGE_PIXELS else ENCODER_BYTES
    encoded = _pixels(thumbnail) * encoder["RGBa" if averageable in ("RGBa", "La") else "RGB"]
    peak = max(
        _decoder_bytes(image, data, decoded) + stored,
        _held_bytes(image, data) + stored + converted + half_resized + made,
        encoded,
    )
    return len(data) + peak


def _decoder_bytes(image: "ImageFile", data: bytes, decoded: Size) -> float:
    """What the decoder needs beside the pixels that it gives."""
    pixels = _pixels(image.size)
    match str(image.format):
        case "JPEG":
            need = pixels * _jpeg_bytes(image)
        case "JPEG2000":
            need = _jpeg2000_bytes(image, decoded, data)
        case "TIFF":
            need = _strip_bytes(image)
        case "WEBP":
            need = pixels * (webp_bytes(data) - OTHER_BYTES)
        case "PNG":
            need = image.size[0] * TWO_ROWS_BYTES
        case "AVIF":
            rgb = AVIF_BYTES.get(image.mode, AVIF_BYTES["RGBA"])
            need = pixels * (rgb + plane_bytes(data) - OTHER_BYTES)
        case "HEIF":
            need = pixels * (HEIF_BYTES + plane_bytes(data) - OTHER_BYTES)
        case _:
            need = 0.0
    return need


def _held_bytes(image: "ImageFile", data: bytes) -> float:
    """What the decoder keeps for as long as the image is there."""
    if image.format != "AVIF":
        return 0.0
    return _pixels(image.size) * (plane_bytes(data) + len(image.getbands()))


def most_pixels(memory_mb: int) -> int:
    """How many pixels there can be of the smallest kind, twice: decoded, and kept to go back to."""
    return (memory_mb - BASE_MB) * 1024**2 // 2


def refuse_over(need_bytes: float, what: str, memory_mb: int) -> None:
    """Raise ImageTooLarge, naming need, limit and what would do, where memory does not allow it."""
    need_mb = BASE_MB + need_bytes / 1024**2
    if need_mb > memory_mb:
        raise ImageTooLarge(
            f"{what} needs about {need_mb:.0f} MB of memory; the function has {memory_mb} MB. "
            + memory_advice(need_mb)
        )


def memory_advice(need_mb: float) -> str:
    """Which LambdaMemorySize would do for `need_mb` MB, if any."""
    if need_mb > LARGEST_MB:
        return "None would do"
    return f"LambdaMemorySize={max(need_mb, 128):.0f} would do"


def _picture_bytes(size: Size, pixel_bytes: int = OTHER_BYTES) -> float:
    """What Pillow's own memory takes for a picture (Storage.c): rows begin at multiples of 4."""
    row = -(-size[0] * pixel_bytes // 4) * 4
    return float(size[1] * (row + ROW_BYTES))


def _pixels(size: Size) -> int:
    return size[0] * size[1]


def webp_bytes(data: bytes) -> float:
    """Peak for each pixel of a WebP, by what its chunks tell (RFC 9649, 2.7)."""
    if b"ANIM" in data[:64]:
        return ANIMATED_WEBP_BYTES
    if data[12:16] == b"VP8X" and data[20] & 0x10:
        return ALPHA_WEBP_BYTES
    return LOSSLESS_WEBP_BYTES if b"VP8L" in data[12:] else LOSSY_WEBP_BYTES


AV1_SAMPLES: Final = (3.0, 3.0, 2.0, 1.5)
HEVC_SAMPLES: Final = (1.0, 1.5, 2.0, 3.0)
"""For each pixel, by how colour is subsampled."""


def plane_bytes(data: bytes) -> float:
    """Bytes for each pixel of the planes of an AVIF or HEIC, those of alpha included.

    From the decoders' configurations: av1C (AV1-ISOBMFF 1.3, 2.3.3) and hvcC (ISO/IEC 14496-15,
    8.3.2.1.2).
    """
    planes: set[float] = set()
    for name in (b"av1C", b"hvcC"):
        at = data.find(name)
        while 0 <= at < len(data) - 22:
            if name == b"av1C":
                flags = data[at + 6]
                deep = flags & 0x40
                samples = 1.0 if flags & 0x10 else AV1_SAMPLES[flags >> 2 & 3]
            else:
                deep = data[at + 21] & 7
                samples = HEVC_SAMPLES[data[at + 20] & 3]
            planes.add(samples * (2 if deep else 1))
            at = data.find(name, at + 4)
    return sum(planes) or AV1_SAMPLES[3]


def _jpeg_bytes(image: "ImageFile") -> float:
    if not image.info.get("progressive"):
        return JPEG_BYTES
    samples = [horizontal * vertical for _, horizontal, vertical, _ in image.layer]  # type: ignore[attr-defined]
    return float(JPEG_BYTES + COEFFICIENT_BYTES * sum(samples) / max(samples))


def _jpeg2000_bytes(image: "ImageFile", decoded: Size, data: bytes) -> float:
    stream = codestream(data)
    scale = image.size[0] / decoded[0]
    samples = min(_pixels(decoded), _pixels(stream.tile) / scale**2)
    return len(image.getbands()) * (samples * SAMPLE_BYTES + stream.blocks * BLOCK_BYTES)


ROWS_PER_STRIP: Final = 278
TILE_WIDTH, TILE_LENGTH = 322, 323
"""Tags of TIFF 6.0."""


def _strip_bytes(image: "ImageFile") -> float:
    """A strip or a row of tiles, which libtiff holds whole beside the picture."""
    if image.info.get("compression") == "raw":
        return 0.0
    tags = image.tag_v2  # type: ignore[attr-defined]
    width, height = image.size
    rows = int(tags.get(TILE_LENGTH) or tags.get(ROWS_PER_STRIP) or height)
    return width * min(rows, height) * STORED_BYTES.get(image.mode, OTHER_BYTES)
