"""Colours: every colour space is converted to sRGB as its standard says.

The expected colours are computed here from the values in the standards, and not by a second
decoder. Differences are CIE 1976 ΔE*ab (ISO 11664-4); 2.3 is just noticeable.
"""

import struct
from pathlib import Path

import numpy as np
import pytest
from pictures import (
    ADOBE_GAMMA,
    ADOBE_RGB,
    decoded,
    encoded,
    is_upright,
    jpeg,
    near,
    rgb_profile,
    thumbnails_of,
)
from PIL import Image

from thumbnailer.imaging import Made

CORPUS = Path(__file__).parents[2] / "shared" / "corpus" / "cases"

type Colour = tuple[int, ...]

SRGB_D50 = np.array(  # linear sRGB → XYZ at D50 (IEC 61966-2-1, Bradford-adapted)
    (
        (0.4360747, 0.3850649, 0.1430804),
        (0.2225045, 0.7168786, 0.0606169),
        (0.0139322, 0.0971045, 0.7141733),
    )
)
D50 = np.array((0.96422, 1.0, 0.82521))
"""ICC.1:2022, 7.2.16."""

PROPHOTO = (
    (0.7976749, 0.2880402, 0.0),
    (0.1351917, 0.7118741, 0.0),
    (0.0313534, 0.0000857, 0.82521),
)
"""XYZ of the red, green and blue primaries (ROMM RGB, ISO 22028-2); gamma 1.8."""
DISPLAY_P3 = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)
"""XYZ of the red, green and blue primaries, adapted to D50, as in Apple's own profile."""


def to_srgb(linear: np.ndarray) -> Colour:
    """Convert XYZ under D50 to sRGB of 8 bits, clipped."""
    light = np.clip(np.linalg.inv(SRGB_D50) @ linear, 0, 1)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return tuple(round(value * 255) for value in curve)


def from_rgb(colour: Colour, primaries: tuple[tuple[float, ...], ...], gamma: float) -> Colour:
    """Convert a colour of 8 bits in another RGB space to sRGB."""
    return to_srgb(np.array(primaries).T @ (np.array(colour) / 255) ** gamma)


def lab(colour: Colour) -> np.ndarray:
    """Convert an sRGB colour of 8 bits to CIELAB."""
    value = np.array(colour) / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    ratio = SRGB_D50 @ light / D50
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array((116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])))


def from_lab(lightness: float, a: float, b: float) -> Colour:
    """Convert CIELAB under D50 to sRGB of 8 bits."""
    fy = (lightness + 16) / 116
    f = np.array((fy + a / 500, fy, fy - b / 200))
    return to_srgb(D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)))


def difference(one: Colour, other: Colour) -> float:
    """Return ΔE*ab of two sRGB colours."""
    return float(np.linalg.norm(lab(one) - lab(other)))


def made(data: bytes) -> Made:
    """Make WebP thumbnails of 128 and 512 px, with quality 100."""
    return thumbnails_of(data, (128, 512), 100, 512)


def thumbnail_colour(data: bytes) -> Colour:
    """Return the colour in the middle of the larger thumbnail, which must have no notes."""
    result = made(data)
    assert result.notes == ()
    picture = decoded(result.thumbnails[1].data).convert("RGB")
    pixel = picture.getpixel((picture.width // 2, picture.height // 2))
    assert isinstance(pixel, tuple)
    return pixel


SPACES = {
    "Adobe RGB": (ADOBE_RGB, ADOBE_GAMMA),
    "ProPhoto RGB": (PROPHOTO, 1.8),
    "Display P3's primaries": (DISPLAY_P3, 2.2),
}


@pytest.mark.parametrize("colour", [(128, 160, 96), (200, 120, 110), (90, 110, 170), (60, 60, 60)])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_a_profile_is_applied(kind: str, space: str, colour: Colour) -> None:
    """Colours of wide spaces are converted to sRGB within a ΔE of 2.5.

    One step of 8-bit ProPhoto alone may be a ΔE of 1.
    """
    primaries, gamma = SPACES[space]
    options = {
        "HEIF": {"quality": 100, "chroma": 444},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
        "WEBP": {"lossless": True},
    }.get(kind, {})
    profile = rgb_profile(primaries, gamma)
    image = Image.new("RGB", (600, 400), colour)
    expected = from_rgb(colour, primaries, gamma)
    got = thumbnail_colour(encoded(image, kind, icc_profile=profile, **options))
    assert difference(got, expected) < 2.5
    if len(set(colour)) > 1:
        assert difference(colour, expected) > 3  # so the test fails if the profile is ignored


def grey_profile(gamma: float) -> bytes:
    """Build a grey profile of version 2 (ICC.1:2001-04, 6.3.1.1)."""
    name = b"Test grey\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061),
        b"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0",
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    length = start + len(body)
    head = struct.pack(">I4sI4s4s4s", length, b"none", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + table + body


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_grey_profile_is_applied(kind: str) -> None:
    """Grey of gamma 1.8, as scanners produce it, becomes lighter as computed, within a ΔE of 1."""
    expected = to_srgb(D50 * (128 / 255) ** 1.8)
    data = encoded(Image.new("L", (600, 400), 128), kind, icc_profile=grey_profile(1.8))
    assert difference(thumbnail_colour(data), expected) < 1
    assert difference((128, 128, 128), expected) > 4


def test_a_grey_profile_is_applied_to_grey_with_alpha() -> None:
    """Grey is converted by the profile, and alpha stays as it is."""
    image = Image.new("LA", (600, 400), (128, 100))
    picture = decoded(made(encoded(image, "PNG", icc_profile=grey_profile(1.8))).thumbnails[1].data)
    *colour, alpha = picture.getpixel((300, 200))  # type: ignore[misc]
    assert alpha == 100
    assert difference(tuple(colour), to_srgb(D50 * (128 / 255) ** 1.8)) < 3


def test_an_rgb_profile_is_applied_to_a_grey_picture() -> None:
    """Cameras embed Adobe RGB in monochrome pictures too, and its tone curve applies to them."""
    data = encoded(Image.new("L", (600, 400), 100), "JPEG", icc_profile=rgb_profile())
    assert difference(thumbnail_colour(data), from_rgb((100, 100, 100), ADOBE_RGB, ADOBE_GAMMA)) < 1


def test_a_profile_does_not_change_alpha() -> None:
    """Colours are converted by the profile, and alpha stays as it is."""
    image = Image.new("RGBA", (200, 200), (128, 160, 96, 100))
    data = encoded(image, "PNG", icc_profile=rgb_profile())
    picture = decoded(made(data).thumbnails[0].data)
    *colour, alpha = picture.getpixel((50, 50))  # type: ignore[misc]
    assert alpha == 100
    assert near(tuple(colour), from_rgb((128, 160, 96), ADOBE_RGB, ADOBE_GAMMA), 4)


@pytest.mark.parametrize(
    "inks", [(255, 0, 0, 0), (0, 255, 255, 0), (40, 90, 10, 60), (0, 0, 0, 255)]
)
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile_is_converted_as_in_css(kind: str, inks: Colour) -> None:
    """Red is (1 - C)(1 - K) and so on, the naive conversion of CSS Color 5, within a ΔE of 2."""
    data = encoded(Image.new("CMYK", (600, 400), inks), kind, quality=100)
    expected = tuple(round((255 - ink) * (255 - inks[3]) / 255) for ink in inks[:3])
    assert difference(thumbnail_colour(data), expected) < 2


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of real images is not here")
def test_a_cmyk_profile_is_applied() -> None:
    """Solid red of offset print on coated paper (FOGRA39, M 100 Y 100) is #e30613 in its charts.

    The difference is within a ΔE of 3. By the naive formula it would be #ff0000.
    """
    data = (CORPUS / "lovell+sharp/test/fixtures/fogra-0-100-100-0.tif").read_bytes()
    assert difference(thumbnail_colour(data), (0xE3, 0x06, 0x13)) < 3


@pytest.mark.parametrize("colour", [(50, 0, 0), (60, 40, 30), (70, -30, 40), (40, 20, -50)])
def test_lab_is_cielab_under_d50(colour: Colour) -> None:
    """A LAB TIFF is converted by the formula of CIE 1976, within a ΔE of 2."""
    lightness, a, b = colour
    image = Image.new("LAB", (600, 400), (round(lightness * 255 / 100), a + 128, b + 128))
    assert difference(thumbnail_colour(encoded(image, "TIFF")), from_lab(lightness, a, b)) < 2


@pytest.mark.parametrize(
    "profile",
    [
        b"not a profile",
        rgb_profile()[:200],
        rgb_profile().replace(b"RGB XYZ", b"CMYKXYZ"),
        rgb_profile().replace(b"RGB XYZ", b"9CLRXYZ"),
        b"\0" * 10_000_000,
    ],
    ids=["text", "truncated", "for CMYK", "for nine colours", "10 MB"],
)
def test_a_broken_profile_is_ignored_with_a_note(profile: bytes) -> None:
    """The thumbnails are made without the profile, and one note says why it was ignored."""
    result = made(jpeg(icc_profile=profile))
    assert is_upright(decoded(result.thumbnails[1].data))
    [note] = result.notes
    assert "profile" in note
    assert "ignored" in note
    assert ("too large" in note) == (len(profile) > 8 * 2**20)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
@pytest.mark.parametrize("size", [(600, 400), (3000, 2000)])
def test_white_is_65535_in_16_bit_grey(mode: str, size: tuple[int, int]) -> None:
    """Grey of 16 bits keeps its brightness, in pictures that are reduced in bands and in others."""
    values = np.full(size[::-1], 40_000, dtype=">u2" if mode == "I;16B" else "<u2")
    image = Image.frombytes(mode, size, values.tobytes())
    assert near(thumbnail_colour(encoded(image, "TIFF")), (156, 156, 156), 1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.0, 0.5, 1.0), (0, 128, 255)),
        ((0.2, 0.3, 0.4), (51, 77, 102)),
        ((0.0, 50.0, 100.0), (0, 128, 255)),
        ((-1.0, 0.0, 1.0), (0, 128, 255)),
        ((7.0, 7.0, 7.0), (0, 0, 0)),
    ],
)
def test_floating_point_samples_are_0_to_1_or_are_stretched(
    values: tuple[float, ...], expected: Colour
) -> None:
    """Samples between 0 and 1 use that range; others are stretched from black to white."""
    rows = np.repeat(np.array(values, dtype=np.float32), 100)
    image = Image.fromarray(np.tile(rows, (300, 1)))
    picture = decoded(made(encoded(image, "TIFF")).thumbnails[1].data)
    for third, level in enumerate(expected):
        pixel = picture.getpixel((third * 100 + 50, 150))
        assert near(pixel, (level,) * 3, 2)  # type: ignore[arg-type]


def test_32_bit_integers_are_stretched_from_black_to_white() -> None:
    """Their white is not defined, so the darkest sample is black and the lightest is white."""
    rows = np.repeat(np.array((1000, 51_000, 101_000), dtype=np.int32), 100)
    image = Image.fromarray(np.tile(rows, (300, 1)))
    picture = decoded(made(encoded(image, "TIFF")).thumbnails[1].data)
    for third, level in enumerate((0, 128, 255)):
        assert near(picture.getpixel((third * 100 + 50, 150)), (level,) * 3, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_do_not_prevent_thumbnails(value: float) -> None:
    """Instruments mark samples that they could not measure with NaN or infinity."""
    pixels = np.full((300, 300), 0.5, dtype=np.float32)
    pixels[:10] = value
    assert made(encoded(Image.fromarray(pixels), "TIFF")).size == (300, 300)
