"""HEIC and other HEIF files with HEVC pictures."""

import io
import struct
from fractions import Fraction
from typing import Any, Final, NamedTuple

from pi_heif.as_plugin import HeifImageFile  # type: ignore[import-untyped]
from PIL import Image, ImageFile

from thumbnailer.errors import UnsupportedImage
from thumbnailer.imaging.cicp import from_nclx
from thumbnailer.imaging.formats.format import Format
from thumbnailer.imaging.formats.isobmff import (
    AVIF_BRANDS,
    HEIF_BRANDS,
    Property,
    boxes_of,
    brands,
    peak,
    plane_bytes,
    primary_item,
    properties_of_item,
    type_of_item,
)
from thumbnailer.imaging.limits import OTHER_BYTES, pixels
from thumbnailer.imaging.spec import PixelSize

PIXEL_BYTES: Final = 6.2
"""For each pixel beside the decoder's planes: RGB, its copy, and Pillow's picture."""

NCLX_FIELDS: Final = ("color_primaries", "transfer_characteristics", "matrix_coefficients")
"""Names of the code points in pi-heif."""

CROP: Final = b"clap"
SIZE, ROTATION, MIRROR = b"ispe", b"irot", b"imir"
"""Properties of a picture (ISO/IEC 23008-12, 6.5): its size before the others, which follow."""

CODING_UNIT: Final = 64
"""Pixels by which libheif 1.23.0 lets a decoded picture be larger in each direction than what its
crop leaves (https://github.com/strukturag/libheif/issues/1856). It refuses larger ones."""

SINGLE: Final = (b"hvc1", b"hev1")
"""Types of an item that is one picture of HEVC, and not made of others."""

OTHER_CODECS: Final[dict[bytes | None, str]] = {
    b"av01": "AV1, but the file does not say that it is an AVIF",
    b"avc1": "AVC (H.264)",
    b"evc1": "EVC",
    b"j2k1": "JPEG 2000",
    b"jpeg": "JPEG",
    b"lhv1": "layered HEVC",
    b"unci": "no compression",
    b"vvc1": "VVC (H.266)",
}
"""Type of an item whose codec pi-heif does not have → its name
(ISO/IEC 23008-12, annexes; 23001-17, 9)."""

type IntBox = tuple[int, int, int, int]


class Crop(NamedTuple):
    """A crop of the primary picture, whose size before it is `coded`.

    `box` is what the crop leaves of the picture that has been turned upright.
    """

    coded: PixelSize
    box: IntBox


class HeifFile(HeifImageFile):  # type: ignore[misc]
    """pi-heif's reader. `coded_size` is the size of what is decoded, before a crop.

    `copied_bytes` is the size of a copy of the file that it reads from.
    """

    coded_size: PixelSize | None = None
    copied_bytes = 0


class CroppedHeifFile(HeifFile):
    """The reader of a file without its crop, which is made here."""

    box: IntBox | None = None
    _heif_file: Any
    im: Any

    def crop_to(self, box: IntBox) -> None:
        """Take the size of `box`, to which the picture will be cropped."""
        self.box = box
        self._size = (box[2] - box[0], box[3] - box[1])

    def load(self) -> Any:
        """Decode the picture and crop it, once."""
        if self.box is None or self._heif_file is None:
            return Image.Image.load(self)
        super().load()
        self._heif_file = None
        self.im = self.im.crop(self.box)
        self._size = self.im.size
        return Image.Image.load(self)


def recognise(data: bytes) -> bool:
    """See Format."""
    found = brands(data)
    return bool(found & HEIF_BRANDS) and not found & AVIF_BRANDS


def open_heif(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format. pi-heif turns the picture upright itself, and resets EXIF Orientation."""
    boxes = boxes_of(data)
    number = primary_item(data, boxes)
    kind = type_of_item(data, boxes, number)
    if kind in OTHER_CODECS:
        raise UnsupportedImage(
            f"Unsupported kind of HEIF: its picture is coded with {OTHER_CODECS[kind]}. Supported "
            "are HEVC (HEIC) and AV1 (AVIF). Save the picture as one of them, or as a JPEG."
        )
    properties = properties_of_item(data, boxes, number)
    crop = crop_of(data, properties)
    if crop and is_refused(crop) and kind in SINGLE:
        plain = bytearray(data)
        for each in properties:
            if each.name == CROP:
                plain[each.place : each.place + each.bytes] = bytes(each.bytes)
        cropped = CroppedHeifFile(io.BytesIO(plain))
        cropped.copied_bytes = len(plain)
        cropped.coded_size = crop.coded
        cropped.crop_to(crop.box)
        image: HeifFile = cropped
    else:
        image = HeifFile(io.BytesIO(data))
        image.coded_size = crop.coded if crop else None
    nclx = image.info.get("nclx_profile")  # absent where there is an ICC profile
    if nclx is not None:
        primaries, transfer, matrix = (nclx[name] for name in NCLX_FIELDS)
        numbers = from_nclx(primaries, transfer, matrix, peak(data, properties))
        image.info |= {"cicp": numbers} if numbers else {}
    return image


def is_refused(crop: Crop) -> bool:
    """Whether libheif refuses to decode the picture because of its crop."""
    left, upper, right, lower = crop.box
    return (right - left + CODING_UNIT) * (lower - upper + CODING_UNIT) < pixels(crop.coded)


def crop_of(data: bytes, properties: list[Property]) -> Crop | None:
    """Read the crop of a picture with these properties; None where there is none, or a wrong one.

    The properties of the crop are the width and height that are left, and how far their centre is
    from that of the picture, as fractions (ISO/IEC 14496-12, 12.1.4).
    """
    coded: PixelSize | None = None
    size: PixelSize = (0, 0)
    box: IntBox | None = None
    try:
        for each in properties:
            if each.name == SIZE:
                coded = size = struct.unpack_from(">2I", data, each.start + 4)
            elif each.name == CROP:
                box = clean_aperture(size, struct.unpack_from(">4IiIiI", data, each.start))
            elif each.name == ROTATION:
                for _ in range(data[each.start] & 3):
                    box, size = box and _turned(box, size[0]), size[::-1]
            elif each.name == MIRROR and box:
                box = _mirrored(box, size, data[each.start] & 1)
    except (struct.error, IndexError, ZeroDivisionError):
        return None
    return Crop(coded, box) if coded and box else None


def clean_aperture(size: PixelSize, numbers: tuple[int, ...]) -> IntBox | None:
    """Return the box that is left of a picture of `size`; None where it is not inside.

    `numbers` are width, height, and the offset of the centre to the right and down, as numerators
    and denominators. Raises ZeroDivisionError.
    """
    width, height, right, down = (
        Fraction(*numbers[at : at + 2]) for at in range(0, len(numbers), 2)
    )
    left = round((size[0] - width) / 2 + right)
    upper = round((size[1] - height) / 2 + down)
    box = (left, upper, left + round(width), upper + round(height))
    inside = 0 <= left < box[2] <= size[0] and 0 <= upper < box[3] <= size[1]
    return box if inside else None


def _turned(box: IntBox, width: int) -> IntBox:
    """Turn a box with its picture of this width by 90 degrees, anticlockwise."""
    left, upper, right, lower = box
    return upper, width - right, lower, width - left


def _mirrored(box: IntBox, size: PixelSize, axis: int) -> IntBox:
    """Mirror a box with its picture: exchange upper and lower edge (0), or left and right (1)."""
    left, upper, right, lower = box
    if axis:
        return size[0] - right, upper, size[0] - left, lower
    return left, size[1] - lower, right, size[1] - upper


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, _decoded: PixelSize) -> float:
    """See Format. The decoder works on the picture before its crop."""
    coded = pixels(getattr(image, "coded_size", None) or image.size)
    return coded * (PIXEL_BYTES + plane_bytes(data)) - pixels(image.size) * OTHER_BYTES


FORMAT: Final = Format(
    name="HEIF",
    title="HEIC",
    recognise=recognise,
    open=open_heif,
    decoder_bytes=decoder_bytes,
    needs_child=True,
)
