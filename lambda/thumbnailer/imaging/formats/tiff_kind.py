"""How a TIFF stores its samples, and which of Pillow and `tiff_samples` reads them correctly."""

from typing import Any, Final, NamedTuple

from PIL.TiffImagePlugin import COMPRESSION_INFO, OPEN_INFO, ImageFileDirectory_v2

from thumbnailer.errors import UnsupportedImage

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
SAMPLES, PLANAR, PREDICTOR, EXTRA_SAMPLES, SAMPLE_FORMAT = 277, 284, 317, 338, 339
SUBSAMPLING: Final = 530
"""Tags of TIFF 6.0."""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
"""Values of PhotometricInterpretation (TIFF 6.0)."""

COLOURS: Final = {RGB: 3, SEPARATED: 4, YCBCR: 3, LAB: 3}
"""Samples of a pixel that are not extra; all others have one."""

PHOTOMETRIC_NAMES: Final = {
    WHITE_IS_ZERO: "grey",
    BLACK_IS_ZERO: "grey",
    RGB: "RGB",
    PALETTE: "palette",
    4: "mask",
    SEPARATED: "CMYK",
    YCBCR: "YCbCr",
    LAB: "CIELAB",
    9: "ICC LAB",
    10: "ITU LAB",
    32844: "LogL",
    32845: "LogLuv",
}
"""TIFF 6.0, its supplements, and libtiff's tiff.h."""

UNSIGNED, SIGNED, FLOAT = 1, 2, 3
FORMAT_NAMES: Final = {
    UNSIGNED: "unsigned ",
    SIGNED: "signed ",
    FLOAT: "floating-point ",
    5: "complex integer ",
    6: "complex floating-point ",
}
"""Values of SampleFormat (TIFF 6.0, section 19)."""

SEPARATE_PLANES: Final = 2
ASSOCIATED, UNASSOCIATED = 1, 2
"""Values of ExtraSamples: premultiplied alpha, and alpha that is not."""

RAW: Final = "raw"
LOSSLESS: Final = (
    RAW,
    "tiff_lzw",
    "tiff_adobe_deflate",
    "tiff_deflate",
    "packbits",
    "lzma",
    "zstd",
)
"""Pillow's names of compressions of plain bytes, whatever these bytes mean."""

JPEGS: Final = ("jpeg", "tiff_jpeg")
JPEG_BITS: Final = 8
"""Pillow's names of JPEG in a TIFF, and the bits of its samples that are decoded."""

NOT_DECODED: Final = {
    32809: "ThunderScan",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv",
    34712: "JPEG 2000",
    34715: "JBIG",
    34887: "LERC",
    34892: "lossy JPEG of DNG",
    34927: "WebP",
    34933: "PNG",
    34934: "JPEG XR",
    22610: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
"""Values of Compression without a decoder in Pillow's wheel (tiff.h of libtiff 4.7; tifffile)."""

PREDICTORS: Final = (1, 2, 3)
"""None, horizontal differencing (TIFF 6.0) and floating point (TIFF Technical Note 3)."""

ADVICE: Final = "Save it as 8-bit RGB or grey, without compression or with LZW or Deflate."

# Pillow misses some kinds that its decoders can read as they are. `resize.in_8_bits` inverts those
# in which white is zero.
for _order in (b"II", b"MM"):
    for _photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        OPEN_INFO[_order, _photometric, (1,), 1, (12,), ()] = ("I;16", "I;12")
OPEN_INFO[b"MM", WHITE_IS_ZERO, (1,), 1, (16,), ()] = ("I;16B", "I;16B")


class Kind(NamedTuple):
    """How the samples of a TIFF are stored. `bits` has a value for each sample of a pixel."""

    order: bytes
    photometric: int
    sample_format: int
    bits: tuple[int, ...]
    extra: tuple[int, ...]
    planar: bool
    fill_order: int
    compression: str
    predictor: int

    @classmethod
    def of(cls, tags: ImageFileDirectory_v2) -> "Kind":
        """Read the tags.

        Raises UnsupportedImage for a compression that is not decoded, and ValueError where the size
        is missing or a tag has no number.
        """
        if WIDTH not in tags or LENGTH not in tags:
            raise ValueError("the picture has no size")
        number = tags.get(COMPRESSION, 1)
        if number in NOT_DECODED or number not in COMPRESSION_INFO:
            name = NOT_DECODED.get(number, f"compression {number}")
            raise UnsupportedImage(
                f"Unsupported file type: a TIFF that is compressed with {name}. {ADVICE}"
            )
        compression = COMPRESSION_INFO[number]
        photometric = _integer(tags, PHOTOMETRIC, 0)
        colours = COLOURS.get(photometric, 1)
        if compression == "tiff_jpeg":
            photometric = YCBCR
        bits = _integers(tags, BITS, (1,))
        samples = _integer(tags, SAMPLES, colours if compression == "tiff_jpeg" else 1)
        formats = set(_integers(tags, SAMPLE_FORMAT, (UNSIGNED,)))
        return cls(
            tags.prefix,
            photometric,
            formats.pop() if len(formats) == 1 else 0,
            bits * samples if len(bits) == 1 and samples <= MAX_SAMPLES else bits[:samples],
            _integers(tags, EXTRA_SAMPLES, ()),
            samples > 1 and _integer(tags, PLANAR, 1) == SEPARATE_PLANES,
            _integer(tags, FILL_ORDER, 1),
            compression,
            _integer(tags, PREDICTOR, 1),
        )

    @property
    def colours(self) -> int:
        """Count the samples of a pixel that are not extra."""
        return COLOURS.get(self.photometric, 1)

    @property
    def alpha(self) -> int | None:
        """Return which sample is alpha, or None."""
        for index, meaning in enumerate(self.extra):
            if meaning in (ASSOCIATED, UNASSOCIATED):
                return self.colours + index
        return None

    @property
    def premultiplied(self) -> bool:
        """Whether the other samples are multiplied by alpha."""
        return self.alpha is not None and self.extra[self.alpha - self.colours] == ASSOCIATED

    def describe(self) -> str:
        """Describe the kind in words, for an error."""
        bits = " and ".join(str(each) for each in sorted(set(self.bits)))
        number = f"photometric interpretation {self.photometric}"
        colour = PHOTOMETRIC_NAMES.get(self.photometric, number)
        extra = len(self.bits) - self.colours
        return (
            f"a TIFF with {FORMAT_NAMES.get(self.sample_format, '')}{bits}-bit {colour} samples"
            f"{f', {extra} of them extra' if extra > 0 else ''}"
            f"{', in separate planes' if self.planar else ''}"
            f"{', compressed with JPEG' if self.compression in JPEGS else ''}"
        )


MAX_SAMPLES: Final = 16
"""Samples of a pixel that are read, those that are skipped included."""


def refuse(kind: Kind) -> UnsupportedImage:
    """Return the error for a kind that neither Pillow nor `tiff_samples` reads correctly."""
    return UnsupportedImage(f"Unsupported file type: {kind.describe()}. {ADVICE}")


def read_by_pillow(kind: Kind) -> bool:
    """Whether Pillow, as `tiff.Tiff` corrects it, reads this kind correctly."""
    bits, extra = kind.bits, kind.extra
    if kind.planar and extra and max(extra) == 0:  # Pillow leaves out such planes
        if kind.compression == RAW:
            return False
        bits, extra = bits[: kind.colours], ()
    key = (kind.order, kind.photometric, (kind.sample_format,), kind.fill_order, bits, extra)
    mode, _ = OPEN_INFO.get(key, ("", ""))
    if not mode or (kind.sample_format == SIGNED and bits == (8,)):
        return False
    if kind.sample_format == UNSIGNED and bits == (32,):
        return False
    if kind.compression in JPEGS and max(bits) > JPEG_BITS:
        return False
    if not kind.planar or mode in ("RGB", "CMYK"):
        return True
    return mode == "RGBA" and kind.alpha == kind.colours and not kind.premultiplied


def read_by_samples(kind: Kind) -> bool:
    """Whether `tiff_samples` reads this kind."""
    widths = (8, 16) if kind.sample_format == UNSIGNED else (16, 32, 64)
    colours = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, SEPARATED)
    return (
        kind.compression in LOSSLESS
        and kind.predictor in PREDICTORS
        and kind.fill_order == 1
        and kind.photometric in (colours if kind.sample_format == UNSIGNED else colours[:3])
        and kind.sample_format in (UNSIGNED, FLOAT)
        and len(set(kind.bits)) == 1
        and kind.bits[0] in widths
        and kind.colours + len(kind.extra) == len(kind.bits) <= MAX_SAMPLES
        and not (kind.photometric == WHITE_IS_ZERO and kind.premultiplied)
    )


def _integer(tags: ImageFileDirectory_v2, tag: int, default: int) -> int:
    value: Any = tags.get(tag, default)
    if not isinstance(value, int):
        raise ValueError(f"the value of tag {tag} is not a number")  # noqa: TRY004 - damaged
    return value


def _integers(tags: ImageFileDirectory_v2, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
    value: Any = tags.get(tag, default)
    values = value if isinstance(value, tuple) else (value,)
    if not values and default:
        values = default
    if not all(isinstance(each, int) for each in values):
        raise ValueError(f"the values of tag {tag} are not numbers")
    return values
