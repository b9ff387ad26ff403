"""TIFF of all kinds: decoded correctly, or refused by name. tifffile writes the files."""

import io
import lzma
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import batched
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from pictures import decoded, jpeg, thumbnails_of
from PIL import Image, ImageCms

from bench.memory import measure
from thumbnailer.errors import CorruptImage, PermanentError, UnsupportedImage
from thumbnailer.imaging.colour import to_srgb
from thumbnailer.imaging.decode import open_image
from thumbnailer.imaging.formats import load
from thumbnailer.imaging.orientation import TRANSPOSE
from thumbnailer.imaging.resize import in_8_bits, shrink

type Pixels = np.ndarray[Any, np.dtype[Any]]

BITS, COMPRESSION, PREDICTOR = "BitsPerSample", "Compression", 317
STAND_IN = 319
"""Tag in place of Predictor, which tifffile does not write as it is told."""
COLOURS = {"minisblack": 1, "miniswhite": 1, "palette": 1, "rgb": 3, "ycbcr": 3, "cielab": 3}
NONE, ASSOCIATED, UNASSOCIATED = 0, 1, 2
RAW, LZW, DEFLATE, JPEG, OLD_DEFLATE, LZMA, ZSTD = 1, 5, 8, 7, 32946, 34925, 50000
PACKBITS = 32773
WORDS = {34887: "LERC", 34712: "JPEG 2000", 33003: "JPEG 2000", 50001: "WebP", 50002: "JPEG XL"}
"""Values of Compression (tiff.h of libtiff 4.7)."""


def packbits(data: bytes) -> bytes:
    """Compress with PackBits (TIFF 6.0, section 9), as literals only."""
    return b"".join(bytes((len(part) - 1, *part)) for part in batched(data, 128, strict=False))


def lzw(data: bytes) -> bytes:
    """Compress with LZW (TIFF 6.0, section 13), as literals of 9 bits only."""
    codes = [code for part in batched(data, 200, strict=False) for code in (256, *part)] + [257]
    bits = "".join(f"{code:09b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


def zstd(data: bytes) -> bytes:
    """Compress with Zstandard (RFC 8878), as one block that is stored."""
    block = (1 | len(data) << 3).to_bytes(3, "little") + data
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data)) + block


ENCODERS = {
    RAW: bytes,
    LZW: lzw,
    DEFLATE: zlib.compress,
    OLD_DEFLATE: zlib.compress,
    PACKBITS: packbits,
    LZMA: lzma.compress,
    ZSTD: zstd,
}


class Kind(NamedTuple):
    """How a TIFF stores its samples. `bits` is for samples that do not fill the type's."""

    photometric: str = "rgb"
    dtype: str = "u1"
    extra: tuple[int, ...] = ()
    planar: bool = False
    order: str = "<"
    compression: int = RAW
    predictor: int = 1
    bits: int = 0
    tiled: bool = False
    big: bool = False

    @property
    def colours(self) -> int:
        """Count the samples of a pixel that are not extra."""
        return COLOURS.get(self.photometric, 4)


def predicted(block: Pixels, kind: Kind) -> bytes:
    """Return the bytes of a strip or a tile (rows, columns, samples), its predictor applied."""
    size = block.dtype.itemsize
    if kind.predictor == 2:
        whole = block.view(f"u{size}")
        changes = np.concatenate([whole[:, :1], whole[:, 1:] - whole[:, :-1]], axis=1)
        return changes.astype(f"{kind.order}u{size}").tobytes()
    data = block.astype(block.dtype.newbyteorder(kind.order))
    if kind.predictor == 3:
        rows, columns, samples = block.shape
        swapped = block.astype(block.dtype.newbyteorder(">")).view("u1")
        planes = swapped.reshape(rows, columns * samples, size).transpose(0, 2, 1)
        flat = planes.reshape(rows, -1, samples)
        return np.concatenate([flat[:, :1], flat[:, 1:] - flat[:, :-1]], axis=1).tobytes()
    if kind.bits:
        rows = data.reshape(len(data), -1)
        wide = (rows[..., None].astype("u2") >> np.arange(kind.bits - 1, -1, -1)) & 1
        return np.packbits(wide.reshape(len(rows), -1).astype("u1"), axis=1).tobytes()
    return data.tobytes()


def blocks(pixels: Pixels, kind: Kind) -> Iterator[bytes]:
    """Yield the strips of 7 rows, or the tiles of 16 × 16 pixels, of each plane."""
    height, width, samples = pixels.shape
    planes = [pixels[:, :, [index]] for index in range(samples)] if kind.planar else [pixels]
    for plane in planes:
        if kind.tiled:
            padded = np.pad(plane, ((0, -height % 16), (0, -width % 16), (0, 0)))
            for top in range(0, height, 16):
                for left in range(0, width, 16):
                    yield predicted(padded[top : top + 16, left : left + 16], kind)
        else:
            for top in range(0, height, 7):
                yield predicted(plane[top : top + 7], kind)


def tiff(
    pixels: Pixels, kind: Kind, palette: Pixels | None = None, tags: Sequence[Any] = ()
) -> bytes:
    """Write a TIFF of these pixels (rows, columns, samples), with further tags.

    tifffile gets compressed bytes, and its names of compressions and bits are replaced, because it
    has no encoders of its own.
    """
    height, width, samples = pixels.shape
    shape = (samples, height, width) if kind.planar else pixels.shape
    predictor = [(STAND_IN, "H", 1, kind.predictor, True)] if kind.predictor > 1 else []
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=kind.order, bigtiff=kind.big) as writer:
        writer.write(
            iter([ENCODERS[kind.compression](block) for block in blocks(pixels, kind)]),
            shape=shape if samples > 1 else shape[:2],
            dtype=pixels.dtype,
            photometric=kind.photometric,
            planarconfig=("separate" if kind.planar else "contig") if samples > 1 else None,
            extrasamples=kind.extra or None,
            compression="zlib",
            colormap=None if palette is None else np.resize(palette, (3, 256)),
            extratags=[*predictor, *tags],
            metadata=None,
            **({"tile": (16, 16)} if kind.tiled else {"rowsperstrip": 7}),
        )
    file.seek(0)
    with tifffile.TiffFile(file, mode="r+") as written:
        page: Any = written.pages[0]
        page.tags[COMPRESSION].overwrite(kind.compression)
        if kind.bits:
            page.tags[BITS].overwrite(kind.bits)
        if palette is not None:
            page.tags["ColorMap"].overwrite(palette.ravel().tolist())
        where = page.tags[STAND_IN].offset if predictor else None
    data = bytearray(file.getvalue())
    if where is not None:
        struct.pack_into(f"{kind.order}H", data, where, PREDICTOR)
    return bytes(data)


def found(data: bytes) -> Pixels:
    """Return the pixels of the picture before it is scaled down: RGBA, multiplied by alpha."""
    image = open_image(data, 512)
    tiff_format = load("tiff")
    picture, box = tiff_format.decode(image, image.size, 1)
    small = in_8_bits(shrink(picture, image.size, box), image)
    upright, note = to_srgb(small, image.info)
    assert note is None
    turn = TRANSPOSE.get(tiff_format.orientation(image))
    upright = upright if turn is None else upright.transpose(turn)
    pixels = np.asarray(upright).astype(float)
    alpha = np.full((*pixels.shape[:2], 1), 255.0)
    return pixels if upright.mode == "RGBa" else np.concatenate([pixels, alpha], axis=2)


def expected(pixels: Pixels, kind: Kind, palette: Pixels | None) -> Pixels:
    """Return the pixels that `found` must return, from those that were written."""
    alpha = np.full(pixels.shape[:2], 255.0)
    colours = pixels[..., : kind.colours].astype(float)
    premultiplied = False
    white = 2.0 ** (kind.bits or 8 * pixels.dtype.itemsize) - 1
    for index, meaning in enumerate(kind.extra):
        if meaning != NONE:
            alpha = pixels[..., kind.colours + index].astype(float)
            alpha *= 255 / (1.0 if pixels.dtype.kind == "f" else white)
            premultiplied = meaning == ASSOCIATED
            break
    if kind.photometric == "palette":
        assert palette is not None
        colours = np.moveaxis(palette, 0, -1)[pixels[..., 0]].astype(float) / 257
    elif pixels.dtype.kind == "u":
        colours *= 255 / white
    else:
        low, high = colours.min(), colours.max()
        if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        colours = (colours - low) * (255 / (high - low) if high > low else 0)
    if premultiplied:
        with np.errstate(divide="ignore", invalid="ignore"):
            divided = colours * 255 / alpha[..., None]
        colours = np.clip(np.where(alpha[..., None] > 0, divided, 0), 0, 255)
    colours = in_rgb(colours, kind)
    return np.concatenate([colours * alpha[..., None] / 255, alpha[..., None]], axis=2)


def in_rgb(colours: Pixels, kind: Kind) -> Pixels:
    """Convert samples between 0 and 255 to RGB, by the formula of their colour space."""
    match kind.photometric:
        case "miniswhite":
            colours = 255 - colours
        case "separated":
            return (255 - colours[..., :3]) * (255 - colours[..., 3:]) / 255
        case "ycbcr":
            luma, blue, red = np.moveaxis(colours - (0, 128, 128), -1, 0)
            parts = (
                luma + 1.402 * red,
                luma - 0.344136 * blue - 0.714136 * red,
                luma + 1.772 * blue,
            )
            return np.clip(np.stack(parts, axis=-1), 0, 255)
        case "cielab":
            samples = colours.astype("u1") ^ np.array((0, 128, 128), "u1")
            image = Image.merge("LAB", [Image.fromarray(samples[..., each]) for each in range(3)])
            lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
            rgb = ImageCms.profileToProfile(
                image,
                lab,
                srgb,
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
            return np.asarray(rgb).astype(float)
    return np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else colours


def noise(size: tuple[int, int], kind: Kind, seed: int = 0, scale: float = 1.0) -> Pixels:
    """Return random pixels (rows, columns, samples). Colours are at most alpha if it demands it."""
    random = np.random.default_rng(seed)
    shape = (size[1], size[0], kind.colours + len(kind.extra))
    dtype = np.dtype(kind.dtype)
    if dtype.kind == "f":
        pixels = random.random(shape).astype(dtype) * np.array(1, dtype)
        pixels[..., : kind.colours] *= dtype.type(scale)
    else:
        ends = np.iinfo(dtype)
        low, high = (0, 2**kind.bits - 1) if kind.bits else (ends.min, ends.max)
        pixels = random.integers(low, high, shape, dtype=dtype, endpoint=True)
    for index, meaning in enumerate(kind.extra):
        if meaning == ASSOCIATED:
            alpha = pixels[..., kind.colours + index, None]
            pixels[..., : kind.colours] = np.minimum(pixels[..., : kind.colours], alpha)
    return pixels


def colour_map(kind: Kind) -> Pixels | None:
    """Return the colours of a palette, of 16 bits each; None for other kinds."""
    if kind.photometric != "palette":
        return None
    colours = np.random.default_rng(5).integers(0, 255, (3, 2 ** (kind.bits or 8)), endpoint=True)
    return (colours * 257).astype("u2")


def is_right(pixels: Pixels, kind: Kind, data: bytes) -> bool:
    """Check the decoded picture. Alpha that is small leaves few of the 8 bits of a colour."""
    palette = colour_map(kind)
    difference = np.abs(found(data) - expected(pixels, kind, palette))
    tolerance = 3.0 if kind.photometric == "ycbcr" or kind.extra else 1.5
    tolerance = 5.0 if kind.photometric == "separated" else tolerance  # rounded three times
    return bool(difference.max() <= tolerance)


@st.composite
def kinds(draw: st.DrawFn) -> Kind:
    """Draw a kind that the format allows, supported or not."""
    photometric = draw(
        st.sampled_from(
            ["minisblack", "miniswhite", "rgb", "palette", "separated", "cielab", "ycbcr"]
        )
    )
    types = ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]
    dtype = draw(st.sampled_from(["u1"] if photometric == "palette" else types))
    extra = draw(
        st.sampled_from([(), (), (NONE,), (ASSOCIATED,), (UNASSOCIATED,), (NONE, UNASSOCIATED)])
    )
    extra = () if photometric == "palette" else extra
    compression = draw(st.sampled_from(list(ENCODERS)))
    bits = 0
    if not extra and photometric in ("minisblack", "miniswhite", "palette"):
        bits = draw(st.sampled_from({"u1": [0, 1, 2, 4], "u2": [0, 12]}.get(dtype, [0])))
        bits = 0 if bits == 12 and photometric == "palette" else bits
    predictors = [1]
    if compression in (LZW, DEFLATE, OLD_DEFLATE, LZMA, ZSTD) and not bits:
        predictors = [1, 3] if dtype.startswith("f") else [1, 2]
    several = COLOURS.get(photometric, 4) + len(extra) > 1
    return Kind(
        photometric,
        dtype,
        extra,
        draw(st.booleans()) and several,
        draw(st.sampled_from("<>")),
        compression,
        draw(st.sampled_from(predictors)),
        bits,
        draw(st.booleans()),
        draw(st.booleans()),
    )


@given(
    kind=kinds(),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    seed=st.integers(0, 99),
    scale=st.sampled_from([1.0, 200.0]),
)
def test_a_tiff_is_decoded_correctly_or_refused_by_name(
    kind: Kind, width: int, height: int, seed: int, scale: float
) -> None:
    """Whatever the samples are, no thumbnail is wrong, and no valid file counts as damaged."""
    pixels = noise((width, height), kind, seed, scale)
    data = tiff(pixels, kind, colour_map(kind))
    refused = ""
    try:
        right = is_right(pixels, kind, data)
    except UnsupportedImage as error:
        refused = str(error)
    named = re.match("Unsupported file type: a (TIFF with .*samples|BigTIFF)", refused)
    assert named if refused else right


CORRECTED = {
    "16 bits in planes": Kind("rgb", "u2", planar=True),
    "16 bits in planes, big-endian": Kind("rgb", "u2", planar=True, order=">", compression=LZW),
    "16 bits in planes with alpha": Kind("rgb", "u2", (UNASSOCIATED,), planar=True),
    "16 bits, white is 0": Kind("miniswhite", "u2"),
    "16 bits, white is 0, big-endian": Kind("miniswhite", "u2", order=">"),
    "16 bits, white is 0, compressed": Kind("miniswhite", "u2", order=">", compression=DEFLATE),
    "12 bits, white is 0": Kind("miniswhite", "u2", bits=12, order=">"),
    "floating point, white is 0": Kind("miniswhite", "f4"),
    "floating point, big-endian": Kind("minisblack", "f4", order=">", compression=DEFLATE),
    "half precision": Kind("minisblack", "f2", predictor=3, compression=DEFLATE),
    "double precision": Kind("minisblack", "f8", order=">", tiled=True),
    "grey in planes with alpha": Kind("minisblack", "u1", (UNASSOCIATED,), planar=True),
    "grey of 16 bits with alpha": Kind("minisblack", "u2", (ASSOCIATED,), order=">"),
    "grey with alpha, white is 0": Kind("miniswhite", "u1", (UNASSOCIATED,), compression=PACKBITS),
    "inks with alpha": Kind("separated", "u1", (UNASSOCIATED,), compression=LZW, predictor=2),
    "inks with premultiplied alpha": Kind("separated", "u1", (ASSOCIATED,)),
    "inks of 16 bits with alpha": Kind("separated", "u2", (UNASSOCIATED,), planar=True, tiled=True),
    "RGB of floating point": Kind("rgb", "f4"),
    "RGB of floating point, big-endian": Kind("rgb", "f4", order=">", compression=LZW),
    "RGB of floating point in planes": Kind("rgb", "f4", planar=True, tiled=True, compression=ZSTD),
    "RGB of floating point, predicted": Kind("rgb", "f4", compression=DEFLATE, predictor=3),
    "RGB of half precision with alpha": Kind("rgb", "f2", (UNASSOCIATED,), compression=LZMA),
    "RGB of 16 bits, five samples": Kind("rgb", "u2", (NONE, UNASSOCIATED)),
    "RGB in planes and one more": Kind("rgb", "u1", (NONE,), planar=True),
    "32-bit integers, big-endian": Kind("minisblack", "i4", order=">", compression=LZW),
    "16-bit signed, big-endian": Kind("minisblack", "i2", order=">", compression=LZW),
}


@pytest.mark.parametrize("kind", CORRECTED.values(), ids=CORRECTED)
@pytest.mark.parametrize("size", [(37, 29), (300, 150)])
def test_kinds_that_pillow_reads_wrongly_are_right(kind: Kind, size: tuple[int, int]) -> None:
    """Each is decoded, and not only refused, in one band of rows and in several."""
    pixels = noise(size, kind, scale=30.0)
    assert is_right(pixels, kind, tiff(pixels, kind))


@pytest.mark.parametrize("order", "<>")
def test_a_palette_of_8_bit_values_has_its_colours(order: str) -> None:
    """Some programs write 0 to 255 where the format has 0 to 65,535. The picture is not black."""
    kind = Kind("palette", "u1", order=order)
    pixels, palette = noise((30, 20), kind), colour_map(kind)
    assert palette is not None
    data = tiff(pixels, kind, palette // 257)
    assert np.abs(found(data) - expected(pixels, kind, palette)).max() <= 1


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("compression", [RAW, DEFLATE])
def test_ycbcr_without_jpeg_is_right_with_any_subsampling(
    subsampling: tuple[int, int], compression: int
) -> None:
    """Its samples lie in blocks: the luma of some pixels, then their two colour differences."""
    across, down = subsampling
    kind = Kind("ycbcr", compression=compression)
    pixels = np.empty((14, 32, 3), "u1")
    pixels[..., 0] = np.random.default_rng(3).integers(60, 200, (14, 32))
    pixels[:, :16, 1:], pixels[:, 16:, 1:] = (120, 140), (135, 110)
    luma = pixels[..., 0].reshape(14 // down, down, 32 // across, across).transpose(0, 2, 1, 3)
    differences = pixels[::down, ::across, 1:]
    units = np.concatenate([luma.reshape(*differences.shape[:2], -1), differences], axis=2)
    data = packed_ycbcr(units.tobytes(), subsampling, compression)
    assert np.abs(found(data) - expected(pixels, kind, None)).max() <= 3


def packed_ycbcr(samples: bytes, subsampling: tuple[int, int], compression: int) -> bytes:
    """Write YCbCr of 32 × 14 pixels, in one strip."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(
            iter([ENCODERS[compression](samples)]),
            shape=(14, 32, 3),
            dtype="u1",
            photometric="ycbcr",
            compression="zlib",
            rowsperstrip=14,
            metadata=None,
        )
    file.seek(0)
    with tifffile.TiffFile(file, mode="r+") as written:
        page: Any = written.pages[0]
        page.tags[COMPRESSION].overwrite(compression)
        page.tags["YCbCrSubSampling"].overwrite(subsampling)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [Kind("rgb", "f4"), Kind("separated", "u1", (UNASSOCIATED,))])
def test_samples_that_pillow_cannot_read_are_turned_upright(kind: Kind, orientation: int) -> None:
    """The size and every pixel are those after the turn, those of alpha too."""
    pixels = noise((30, 20), kind)
    data = tiff(pixels, kind, tags=[(274, "H", 1, orientation, True)])
    plain = Image.new("L", (30, 20))
    plain.putdata(range(600))  # type: ignore[no-untyped-call]
    turned = plain if orientation == 1 else plain.transpose(TRANSPOSE[orientation])
    upright = tiff(pixels, kind)
    assert thumbnails_of(data, (64,)).size == turned.size
    whole = Image.fromarray(found(upright).round().astype("u1"), "RGBA")
    expected_picture = whole if orientation == 1 else whole.transpose(TRANSPOSE[orientation])
    assert np.array_equal(found(data).round(), np.asarray(expected_picture))


REFUSED = {
    "signed 8-bit grey": Kind("minisblack", "i1"),
    "signed 8-bit RGB": Kind("rgb", "i1", planar=True),
    "signed 16-bit RGB": Kind("rgb", "i2"),
    "unsigned 32-bit grey": Kind("minisblack", "u4"),
    "unsigned 32-bit RGB": Kind("rgb", "u4", order=">"),
    "floating-point 32-bit CMYK": Kind("separated", "f4"),
    "unsigned 16-bit CIELAB": Kind("cielab", "u2"),
    "unsigned 8-bit YCbCr samples, in separate planes": Kind("ycbcr", "u1", planar=True),
}


@pytest.mark.parametrize("words", REFUSED)
def test_samples_without_a_decoder_are_refused_by_name(words: str) -> None:
    """The error says what the samples are, and what to do. The file is not damaged."""
    kind = REFUSED[words]
    with pytest.raises(UnsupportedImage, match=f"a TIFF with {words}.* Save it as") as refused:
        thumbnails_of(tiff(noise((30, 20), kind), kind))
    assert not {"(", "{", "'", "_"} & set(str(refused.value))


@pytest.mark.parametrize(("compression", "name"), [*WORDS.items(), (65000, "compression 65000")])
def test_compressions_without_a_decoder_are_refused_by_name(compression: int, name: str) -> None:
    """The error says what the compression is, and what to do."""
    data = tiff(noise((30, 20), Kind()), Kind()).replace(
        struct.pack("<HHIHH", 259, 3, 1, RAW, 0), struct.pack("<HHIHH", 259, 3, 1, compression, 0)
    )
    with pytest.raises(UnsupportedImage, match=f"a TIFF that is compressed with {name}. Save it"):
        thumbnails_of(data)


def test_jpeg_of_12_bits_in_a_tiff_is_refused_by_name() -> None:
    """It is valid, and its decoder is not in Pillow's wheel."""
    kind = Kind("minisblack", "u2", bits=12)
    data = tiff(noise((30, 20), kind), kind).replace(
        struct.pack("<HHIHH", 259, 3, 1, RAW, 0), struct.pack("<HHIHH", 259, 3, 1, JPEG, 0)
    )
    with pytest.raises(UnsupportedImage, match="12-bit grey samples, compressed with JPEG"):
        thumbnails_of(data)


def test_a_big_endian_bigtiff_is_refused_by_name() -> None:
    """Pillow reads BigTIFF in little-endian byte order only."""
    kind = Kind(big=True, order=">")
    with pytest.raises(UnsupportedImage, match="a BigTIFF in big-endian byte order"):
        thumbnails_of(tiff(noise((30, 20), kind), kind))


@pytest.mark.parametrize("compression", [RAW, LZW, DEFLATE])
def test_missing_samples_are_damage(compression: int) -> None:
    """Where strips are cut off, the file is corrupt, also for kinds that Pillow cannot read."""
    kind = Kind("rgb", "f4", compression=compression)
    data = tiff(noise((60, 40), kind), kind)
    with tifffile.TiffFile(io.BytesIO(data)) as written:
        page: Any = written.pages[0]
        last = page.dataoffsets[-1]
    with pytest.raises(CorruptImage, match="ends too early"):
        thumbnails_of(data[: last + 3])


def test_a_thumbnail_of_inks_with_alpha_has_their_colour_and_is_transparent() -> None:
    """Inks that alpha hides do not shine through, neither in a large picture nor at its edges."""
    kind = Kind("separated", "u1", (UNASSOCIATED,), compression=DEFLATE)
    pixels = np.zeros((800, 1000, 5), "u1")
    pixels[:, :501] = (0, 255, 255, 0, 255)
    pixels[:, 501:] = (255, 0, 0, 128, 0)
    thumbnail = decoded(thumbnails_of(tiff(pixels, kind), (128,)).thumbnails[0].data)
    assert thumbnail.mode == "RGBA"
    shown = np.asarray(thumbnail)
    assert np.abs(shown[:, 10:60].astype(int) - (255, 0, 0, 255)).max() <= 8
    assert shown[:, 70:, 3].max() <= 2
    edge = shown[:, 62:66].reshape(-1, 4).astype(int)
    assert np.abs(edge[edge[:, 3] > 100, :3] - (255, 0, 0)).max() <= 30


@pytest.mark.parametrize(
    "kind",
    [
        Kind("rgb", "f4", (ASSOCIATED,)),
        Kind("rgb", "f4", compression=DEFLATE, predictor=3),
        Kind("separated", "u1", (ASSOCIATED,), planar=True),
        Kind("minisblack", "u1", (UNASSOCIATED,), planar=True),
        Kind("rgb", "u2", planar=True),
    ],
    ids=lambda kind: f"{kind.photometric} {kind.dtype}",
)
@pytest.mark.parametrize("widths", ["128,512", "1000"])
def test_the_estimate_covers_what_decoding_needs(kind: Kind, widths: str, tmp_path: Path) -> None:
    """The copy of the file, the bytes of all samples and the channels are counted.

    The lowest of three measurements counts: on a busy machine one was 10 MB above all others.
    """
    pixels = np.tile(noise((64, 64), kind), (16, 24, 1))
    file = tmp_path / "3-large.tif"
    file.write_bytes(tiff(pixels, kind))
    warm_up = tmp_path / "0-warm-up.jpg"
    warm_up.write_bytes(jpeg())
    measured = (measure(file, widths, warm_up) for _ in range(3))
    assert any(each["need_mb"] <= each["foreseen_mb"] + 1 for each in measured)


def test_damage_to_the_tags_never_causes_another_error() -> None:
    """Each byte of the tags of a kind that Pillow cannot read is replaced by others."""
    kind = Kind("rgb", "f4", (UNASSOCIATED,), compression=DEFLATE, predictor=3, tiled=True)
    data = tiff(noise((20, 20), kind), kind)
    end = data.index(zlib.compress(b"")[:2])
    for at in range(4, end):
        for value in (0, 3, 255):
            damaged = data[:at] + bytes((value,)) + data[at + 1 :]
            with suppress(PermanentError):
                thumbnails_of(damaged, (16,))
