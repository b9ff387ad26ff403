"""Image bytes → WebP thumbnails. Knows no AWS.

One path for all: decode at the smallest scale that the largest width allows, resize to it, bring
that to upright sRGB, and make each smaller width from the one before. Whatever is costly happens
on the small picture. The recipe and its figures come from a measured comparison with libvips and
sharp: JPEG draft mode, its fractional source box, and a reducing gap of 1.3.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from PIL import Image, ImageFile, JpegImagePlugin, WebPImagePlugin

from errors import CorruptImage, ImageTooLarge, UnsupportedImage
from settings import WEBP_MAX_SIDE

# What is too large is decided here, by the memory that is needed, not by one number for all.
Image.MAX_IMAGE_PIXELS = None

REDUCING_GAP: Final = 1.3
"""How much larger than the target a picture may stay before the last, careful resize."""

STAMP: Final = b"PROV"
"""Name of the chunk that tells thumbnails of different provenance apart."""

WEBP_METHOD: Final = 4
"""Effort of the encoder, 0 (fast) to 6 (small)."""

ORIENTATION_TAG: Final = 0x0112
"""EXIF Orientation (CIPA DC-008, 4.6.4)."""

UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what makes it upright."""

SWAPPING: Final = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)
"""What turns a lying picture into a standing one."""

DECODER_ERRORS: Final = (
    OSError,
    ValueError,
    SyntaxError,
    RuntimeError,
    EOFError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    AssertionError,
    struct.error,
    zlib.error,
)
"""What Pillow raises on damaged files, as met in practice."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """A format that is decoded: Pillow's plugin for it, and what its pixels cost.

    `pixel_bytes` is the memory that decoding takes at its peak for each pixel, where the mode does
    not tell (see `_pixel_bytes`).
    """

    module: str
    cls: str
    pixel_bytes: float | None = None


# The only plugins that any upload can reach: `Image.open`, which tries all that it knows, is not
# used.
DECODERS: Final = {
    "JPEG": Decoder("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": Decoder("PIL.PngImagePlugin", "PngImageFile"),
    "WEBP": Decoder("PIL.WebPImagePlugin", "WebPImageFile", 16.2),
    "GIF": Decoder("PIL.GifImagePlugin", "GifImageFile"),
    "TIFF": Decoder("PIL.TiffImagePlugin", "TiffImageFile"),
    "BMP": Decoder("PIL.BmpImagePlugin", "BmpImageFile"),
    "AVIF": Decoder("PIL.AvifImagePlugin", "AvifImageFile", 12.5),
}

MODE_BYTES: Final = {"1": 2.3, "L": 1.5, "P": 5.4, "I;16": 5.4, "LA": 8.5, "PA": 9.5, "RGBA": 8.5}
"""Peak bytes for each pixel of a mode, conversions included; OTHER_MODE for the rest, and
TRANSPARENCY more where one colour is transparent (half in a palette). Measured with pictures of
24 megapixels."""
OTHER_MODE: Final = 4.6
TRANSPARENCY: Final = 8.0

BASE_MB: Final = 60
"""Resident memory of the function with Lambda's runtime client before it decodes anything."""

LARGEST_MB: Final = 10_240
"""The most memory that a Lambda function can have."""

MAGIC: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A WebP picture: `width` is the one asked for, `size` the real (width, height) in pixels."""

    width: int
    size: tuple[int, int]
    data: bytes


@dataclass(frozen=True, slots=True)
class Made:
    """What became of an image: its thumbnails in the order of the widths, and what it was.

    `format` is a key of DECODERS, `size` the upright image's (width, height) in pixels; `notes`
    say, for the log, what could not be kept (a broken profile, an animation over the budget).
    """

    format: str
    size: tuple[int, int]
    thumbnails: tuple[Thumbnail, ...]
    notes: tuple[str, ...] = ()


def make_thumbnails(
    data: bytes,
    widths: Sequence[int],
    quality: int,
    memory_mb: int,
    *,
    animated: bool = True,
) -> Made:
    """Make a thumbnail of every width (pixels), in their order.

    Upright, sRGB, without metadata, alpha kept, first frame. Never enlarged, and never higher
    than WebP allows: the picture is then narrower than its width says. `quality` is WebP's, 1 to
    100; `memory_mb` bounds the pixels that are decoded.

    Raises UnsupportedImage, CorruptImage or ImageTooLarge.
    """
    with warnings.catch_warnings(), _translated(data):
        # Pillow warns of oddities that it copes with; what it cannot cope with it raises.
        warnings.simplefilter("ignore")
        image = _open(data, max(widths), memory_mb)
        if image.format == "PNG":
            # Reading EXIF may load a PNG's pixels: there a failure would pass for broken EXIF, and
            # loading again would then succeed with half a picture.
            image.load()
        transpose = UPRIGHT.get(_orientation(image))
        upright = image.size[::-1] if transpose in SWAPPING else image.size
        sizes = {width: _fitted(upright, width) for width in widths}
        largest = max(sizes.values())
        picture = _decode(image, largest[::-1] if upright != image.size else largest)
        profile = image.info.get("icc_profile")
        image.close()
        picture = _to_srgb(picture, profile)
        if transpose is not None:
            picture = picture.transpose(transpose)

    encoded: dict[tuple[int, int], bytes] = {}
    for size in sorted(set(sizes.values()), reverse=True):
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
        encoded[size] = _encode(picture, quality)
    return Made(
        str(image.format),
        upright,
        tuple(Thumbnail(width, sizes[width], encoded[sizes[width]]) for width in widths),
    )


def stamped(webp: bytes, stamp: bytes) -> bytes:
    """The same picture with `stamp` in a chunk of its own, which decoders pass over.

    Chunks of other names are allowed in the extended format, so a simple file becomes one
    (RFC 9649, 2.7).
    """
    chunks = webp[12:]
    if chunks[:4] != b"VP8X":
        width, height = _vp8_size(chunks)
        canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        chunks = _chunk(b"VP8X", bytes(4) + canvas) + chunks
    chunks += _chunk(STAMP, stamp)
    return b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WEBP" + chunks


def _chunk(name: bytes, payload: bytes) -> bytes:
    return name + len(payload).to_bytes(4, "little") + payload + bytes(len(payload) % 2)


def _vp8_size(chunk: bytes) -> tuple[int, int]:
    """Width and height of a lossy frame (RFC 6386, 9.1), in pixels."""
    width, height = struct.unpack_from("<HH", chunk, 14)
    return width & 0x3FFF, height & 0x3FFF


def identify(data: bytes) -> str | None:
    """Name of the format that `data` begins like, a key of DECODERS, or None."""
    for magic, name in MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":  # its brands tell AVIF from its kin, such as HEIC
        brands = data[8 : min(int.from_bytes(data[:4]), 256)]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
    return None


def _open(data: bytes, width: int, memory_mb: int) -> ImageFile.ImageFile:
    """Read the header, and no pixels."""
    if not data:
        raise CorruptImage("The file is empty")
    name = identify(data)
    if name is None:
        raise UnsupportedImage(
            f"Not an image of a known format ({', '.join(DECODERS)}); it begins {data[:8]!r}"
        )
    decoder = DECODERS[name]
    if name == "WEBP" and (size := WebPImagePlugin._get_size(data[:30])):  # noqa: SLF001
        # Opening a WebP allocates its whole canvas.
        _check_need(name, size, decoder.pixel_bytes or 0, len(data), memory_mb)
    opener = getattr(import_module(decoder.module), decoder.cls)
    image: ImageFile.ImageFile = opener(io.BytesIO(data))
    # A scaled decode gives less than twice the sides that are asked for.
    target = _fitted(image.size, width)
    decoded = min(
        1.0, (2 * REDUCING_GAP) ** 2 * target[0] / image.size[0] * target[1] / image.size[1]
    )
    _check_need(name, image.size, _pixel_bytes(image, decoded), len(data), memory_mb)
    if name == "PNG" and image.mode != "P" and "transparency" in image.info:
        image.info["transparency"] = _in_8_bits(image.info["transparency"], depth=data[24])
    return image


@contextmanager
def _translated(data: bytes) -> Iterator[None]:
    """Turn what Pillow raises of a file into CorruptImage, and a lack of memory into its own."""
    try:
        yield
    except MemoryError as error:
        raise ImageTooLarge("Memory ran out while the image was decoded") from error
    except DECODER_ERRORS as error:
        raise CorruptImage(f"{identify(data)}: {error or type(error).__name__}") from error


def _pixel_bytes(image: ImageFile.ImageFile, decoded: float) -> float:
    """Peak bytes for each pixel; `decoded` is the share of them that a scaled decode gives."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        # libjpeg-turbo decodes strip by strip, but for a progressive file it keeps two bytes for
        # each coefficient of each channel, at its sampling (jdcoefct.c).
        need = 0.3 + OTHER_MODE * decoded
        if image.info.get("progressive"):
            samples = [horizontal * vertical for _, horizontal, vertical, _ in image.layer]
            need += 2 * sum(samples) / max(samples)
        return need
    if (fixed := DECODERS[str(image.format)].pixel_bytes) is not None:
        return fixed
    need = MODE_BYTES.get(image.mode, OTHER_MODE)
    if "transparency" in image.info:
        need += TRANSPARENCY / 2 if image.mode == "P" else TRANSPARENCY
    return need


def _check_need(
    name: str, size: tuple[int, int], pixel_bytes: float, file_bytes: int, memory_mb: int
) -> None:
    """Refuse, before pixels are decoded, what would not fit into the function's memory."""
    need = BASE_MB + (size[0] * size[1] * pixel_bytes + file_bytes) / 1024**2
    if need > memory_mb:
        raise ImageTooLarge(
            f"{name} of {size[0]} × {size[1]} pixels needs about {need:.0f} MB to decode; the "
            f"function has {memory_mb} MB. {memory_advice(need)}"
        )


def memory_advice(need_mb: float) -> str:
    """Which LambdaMemorySize would do for `need_mb` MB, if any."""
    return f"LambdaMemorySize={need_mb:.0f} would do" if need_mb <= LARGEST_MB else "None would do"


def _in_8_bits(key: int | tuple[int, ...], depth: int) -> int | tuple[int, ...]:
    """A PNG's transparent colour (tRNS), of `depth` bits a sample, as Pillow's pixels have it."""
    if isinstance(key, tuple):
        return tuple(sample >> 8 if depth == 16 else sample for sample in key)  # noqa: PLR2004
    match depth:
        case 16:
            return key >> 8
        case 2 | 4:
            return key * 255 // (2**depth - 1)
    return key  # of 8 bits, or of 1, which Pillow scales itself


def _orientation(image: ImageFile.ImageFile) -> int:
    if image.format == "TIFF":
        return 1  # Pillow turns these, and only these, itself
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except DECODER_ERRORS:
        return 1  # broken EXIF is common, and no reason to lose the picture


def _fitted(size: tuple[int, int], width: int) -> tuple[int, int]:
    """`size` scaled down to `width`, never up, and within what WebP can hold."""
    scale = min(1.0, width / size[0], WEBP_MAX_SIDE / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _decode(image: ImageFile.ImageFile, size: tuple[int, int]) -> Image.Image:
    """Decode and resize to `size`; alpha, where there is any, comes premultiplied."""
    want = (round(size[0] * REDUCING_GAP), round(size[1] * REDUCING_GAP))
    # The box is fractional where the scaled size is: without it the picture shifts.
    draft = image.draft(None, want)
    image.load()
    box = draft[1] if draft else (0, 0, *image.size)
    return _resizable(image).resize(
        size, Image.Resampling.LANCZOS, box=box, reducing_gap=REDUCING_GAP
    )


def _resizable(image: Image.Image) -> Image.Image:
    """A mode whose samples can be averaged: no palette, no single bits, premultiplied alpha."""
    match image.mode:
        case "I" | "F":
            raise UnsupportedImage(f"{image.format} of 32 bits a sample")
        case "1":
            image = image.convert("L")
        case "P" | "PA":
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        case "I;16" | "I;16L" | "I;16B" | "I;16N":
            # The upper byte: half a level of 256 lost, where averaging 16 bits is not offered.
            wide = image if image.mode == "I;16" else image.convert("I")
            grey = wide.point(lambda value: value / 256, "L" if image.mode == "I;16" else None)
            grey.info = image.info
            image = grey.convert("L") if grey.mode != "L" else grey
    if image.mode in ("L", "RGB") and "transparency" in image.info:
        image = image.convert("RGBA")
    match image.mode:
        case "RGBA":
            return image.convert("RGBa")
        case "LA":
            return image.convert("La")
    return image


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB or premultiplied RGBa, in sRGB."""
    if picture.mode == "La":
        picture = picture.convert("LA").convert("RGBA").convert("RGBa")
    if profile and not _is_srgb(profile):
        picture = _through_profile(picture, profile)
    if picture.mode in ("RGB", "RGBa"):
        return picture
    return picture.convert("RGB")


def _is_srgb(profile: bytes) -> bool:
    """Whether the profile calls itself the sRGB of IEC 61966-2-1: by far the most common one."""
    name = "sRGB IEC61966"
    return name.encode() in profile or name.encode("utf-16-be") in profile


def _through_profile(picture: Image.Image, profile: bytes) -> Image.Image:
    from PIL import ImageCms  # noqa: PLC0415 - most pictures need none

    alpha = None
    if picture.mode == "RGBa":
        straight = picture.convert("RGBA")
        alpha = straight.getchannel("A")
        picture = straight.convert("RGB")
    try:
        converted = ImageCms.profileToProfile(
            picture,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, *DECODER_ERRORS):
        converted = picture.convert("RGB")  # broken profiles are common: as if there were none
    assert converted is not None  # noqa: S101 - only inPlace gives None
    if alpha is not None:
        converted.putalpha(alpha)
        return converted.convert("RGBa")
    return converted


def _encode(picture: Image.Image, quality: int) -> bytes:
    if picture.mode == "RGBa":
        picture = picture.convert("RGBA")
    buffer = io.BytesIO()
    picture.encoderinfo = {"quality": quality, "method": WEBP_METHOD}
    # What Image.save does, without its import of five decoders first.
    Image.SAVE["WEBP"](picture, buffer, "")
    return buffer.getvalue()
