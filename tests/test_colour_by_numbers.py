"""Colour by numbers: code points (cICP, nclx) and PNG's gAMA and cHRM, as Chromium shows them.

The expected colours are computed here with numpy, from the standards and the curve of ADR 21.
Chromium 156 shows the same patches within 1 level of 255; 3 where the peak is 4,000 cd/m² or more.
"""

import csv
import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import ADOBE_RGB, decoded, encoded, png, rgb_profile, thumbnails_of
from PIL import Image, ImageCms
from test_colour import lab

from thumbnailer.errors import UnsupportedImage
from thumbnailer.imaging import cicp, colour, tone_map
from thumbnailer.imaging.cicp import Cicp

REPORTS = Path(__file__).parents[2] / "shared" / "corpus" / "reports"

type Colour = tuple[int, ...]

D65 = (0.3127, 0.3290)
SPACES = {
    1: (D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    9: (D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: (D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""White, red, green and blue (ITU-T H.273, table 2), all with the white of sRGB."""

COLOURS = [(grey, grey, grey) for grey in (0, 16, 64, 128, 148, 180, 208, 255)]
COLOURS += [(180, 90, 60), (60, 150, 90), (90, 90, 160), (140, 130, 40), (150, 20, 20)]


def to_xyz(space: int) -> np.ndarray:
    """Return the matrix of linear RGB to XYZ (SMPTE RP 177)."""
    white, *primaries = (np.array((x / y, 1, (1 - x - y) / y)) for x, y in SPACES[space])
    matrix = np.array(primaries).T
    return matrix * np.linalg.solve(matrix, white)


def pq(signal: np.ndarray) -> np.ndarray:
    """Return light, 1 being 203 cd/m² (SMPTE ST 2084)."""
    power = signal ** (1 / (2523 / 32))
    light = np.maximum(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)
    return np.asarray(10_000 / 203 * light ** (1 / (2610 / 16384)))


def hlg(signal: np.ndarray, space: int) -> np.ndarray:
    """Return light of a screen of 1,000 cd/m², 1 being 203 (BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return np.asarray(scene * (scene @ to_xyz(space)[1])[:, None] ** 0.2 * 1000 / 203)


def tone_mapped(light: np.ndarray, space: int, peak: float) -> np.ndarray:
    """Map light by the curve of ADR 21, and convert it to linear sRGB."""
    wide = light @ (np.linalg.inv(to_xyz(9)) @ to_xyz(space)).T
    headroom = max(peak / 203, 1.005)
    white = 1 - 0.5 * min(np.log(headroom) / np.log(1000 / 203), 1)
    middle = (0.35 + 0.65 / white, 0.35 * white + 0.65)
    t = np.linspace(0, 1, 20_001)
    x, y = (
        (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        for start, bend, end in ((1, middle[0], headroom), (white, middle[1], 1))
    )
    brightest = np.maximum(wide.max(axis=1), 1)
    gain = np.interp(brightest, x, y) / brightest
    return np.asarray((wide * gain[:, None]) @ (np.linalg.inv(to_xyz(1)) @ to_xyz(9)).T)


CURVES = {
    1: lambda v: v**2.4,
    4: lambda v: v**2.2,
    5: lambda v: v**2.8,
    8: lambda v: v,
    13: lambda v: np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4),
}


def expected(colours: list[Colour], space: int, transfer: int, peak: float = 1000) -> np.ndarray:
    """Return the sRGB of 8 bits that these colours are."""
    signal = np.array(colours) / 255
    if transfer in CURVES:
        light = CURVES[transfer](signal) @ (np.linalg.inv(to_xyz(1)) @ to_xyz(space)).T
    else:
        light = pq(signal) if transfer == 16 else hlg(signal, space)
        light = tone_mapped(light, space, peak)
    light = np.clip(light, 0, 1)
    return np.asarray(
        255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    )


def patches(colours: list[Colour], side: int = 1) -> Image.Image:
    """Draw a row of plain squares."""
    row = np.repeat(np.array([colours], dtype=np.uint8), side, axis=1)
    return Image.fromarray(np.repeat(row, side, axis=0))


def png_of(colour: Colour, *chunks: tuple[bytes, bytes], size: int = 64) -> bytes:
    """Build a plain RGB PNG with these chunks before its pixels."""
    rows = (b"\0" + bytes(colour) * size) * size
    header = struct.pack(">2I5B", size, size, 8, 2, 0, 0, 0)
    return png((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)))


def shown(data: bytes) -> Colour:
    """Return the colour in the middle of a thumbnail."""
    picture = decoded(thumbnails_of(data, (64,), 100).thumbnails[0].data).convert("RGB")
    return picture.getpixel((picture.width // 2, picture.height // 2))  # type: ignore[return-value]


def assert_near(got: Colour, wanted: Colour | np.ndarray, tolerance: float = 3) -> None:
    """Check that all channels are within a tolerance of lossy compression."""
    assert np.abs(np.array(got) - np.array(wanted)).max() <= tolerance, (got, wanted)


@pytest.mark.parametrize("transfer", [1, 4, 5, 8, 13, 16, 18])
@pytest.mark.parametrize("space", [1, 9, 12])
def test_every_patch_has_the_colour_of_its_numbers(space: int, transfer: int) -> None:
    """Each primaries × transfer gives the computed sRGB, within 1.6 of 255 for each channel."""
    picture, note = colour.to_srgb(patches(COLOURS), {"cicp": Cicp(space, transfer)})
    assert note is None
    got = np.asarray(picture, dtype=float)[0]
    assert np.abs(got - expected(COLOURS, space, transfer)).max() <= 1.6


@pytest.mark.parametrize("peak", [100, 203, 400, 1000, 4000, 10_000])
@pytest.mark.parametrize("transfer", [16, 18])
def test_the_curve_bends_to_the_stated_peak(transfer: int, peak: float) -> None:
    """Light up to white and beyond it follows the curve for that peak."""
    picture, _ = colour.to_srgb(patches(COLOURS), {"cicp": Cicp(9, transfer), "peak": peak})
    got = np.asarray(picture, dtype=float)[0]
    assert np.abs(got - expected(COLOURS, 9, transfer, peak)).max() <= 1.6


def test_white_of_203_is_half_as_light_and_the_peak_is_white() -> None:
    """PQ 148 is just under 203 cd/m², and becomes sRGB 187; PQ 192, 1,000 cd/m², becomes 255."""
    picture, _ = colour.to_srgb(patches([(148,) * 3, (192,) * 3]), {"cicp": Cicp(9, 16)})
    assert list(np.asarray(picture)[0, :, 0]) == [187, 255]


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that is tone-mapped in bands of a row equals one that is mapped whole."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    whole = tone_map.to_srgb(Image.fromarray(noise), Cicp(12, 18))
    monkeypatch.setattr(tone_map, "BAND_PIXELS", 1)
    assert tone_map.to_srgb(Image.fromarray(noise), Cicp(12, 18)).tobytes() == whole.tobytes()


@pytest.mark.parametrize("mode", ["RGBa", "La", "L"])
def test_alpha_and_grey_are_kept(mode: str) -> None:
    """HDR with alpha keeps its alpha; grey is mapped like RGB."""
    straight = Image.new("RGBA", (4, 4), (148, 148, 148, 128))
    source = straight.convert(mode) if mode == "RGBa" else straight.convert("LA").convert(mode)
    picture, _ = colour.to_srgb(source, {"cicp": Cicp(9, 16)})
    assert picture.mode == ("RGB" if mode == "L" else "RGBa")
    pixel = picture.convert("RGBA").getpixel((1, 1))
    assert_near(pixel[:3], (187,) * 3, 5)  # type: ignore[index]
    assert pixel[3] == (255 if mode == "L" else 128)  # type: ignore[index]


GREEN = (60, 150, 90)


def cicp_chunk(*numbers: int) -> tuple[bytes, bytes]:
    """Build a cICP chunk."""
    return b"cICP", bytes(numbers)


def gama(gamma: float) -> tuple[bytes, bytes]:
    """Build a gAMA chunk."""
    return b"gAMA", struct.pack(">I", round(gamma * 100_000))


def chrm(space: int) -> tuple[bytes, bytes]:
    """Build a cHRM chunk."""
    values = [round(value * 100_000) for point in SPACES[space] for value in point]
    return b"cHRM", struct.pack(">8I", *values)


SRGB_CHUNK = (b"sRGB", b"\0")
ICC = (b"iCCP", b"x\0\0" + zlib.compress(rgb_profile(ADOBE_RGB, 2.2)))
BROKEN_ICC = (b"iCCP", b"x\0\0" + zlib.compress(b"not a profile"))
BY_ICC = (0, 151, 86)
"""What GREEN in Adobe RGB is in Chromium."""


@pytest.mark.parametrize(
    ("chunks", "wanted"),
    [
        ([cicp_chunk(9, 13, 0, 1)], expected([GREEN], 9, 13)[0]),
        ([cicp_chunk(9, 16, 0, 1)], expected([GREEN], 9, 16)[0]),
        ([cicp_chunk(9, 13, 0, 1), ICC, SRGB_CHUNK, gama(1)], expected([GREEN], 9, 13)[0]),
        ([ICC, cicp_chunk(9, 13, 0, 1)], expected([GREEN], 9, 13)[0]),
        ([cicp_chunk(9, 13, 0, 1), cicp_chunk(1, 8, 0, 1)], expected([GREEN], 9, 13)[0]),
        ([ICC, SRGB_CHUNK, gama(1), chrm(12)], BY_ICC),
        ([SRGB_CHUNK, gama(1), chrm(12)], GREEN),
        ([gama(1)], expected([GREEN], 1, 8)[0]),
        ([gama(1), chrm(12)], expected([GREEN], 12, 8)[0]),
        ([gama(1 / 2.2), chrm(9)], expected([GREEN], 9, 4)[0]),
        ([gama(1 / 2.2)], GREEN),
        ([gama(0.44)], GREEN),
        ([chrm(12)], GREEN),
        ([gama(0)], GREEN),
        ([gama(1), (b"cHRM", bytes(32))], GREEN),
        ([cicp_chunk(9, 13, 0, 0)], GREEN),
        ([cicp_chunk(9, 13, 1, 1)], GREEN),
        ([cicp_chunk(9, 16)], GREEN),
        ([cicp_chunk(9, 2, 0, 1), ICC], BY_ICC),
        ([cicp_chunk(2, 13, 0, 1), gama(1)], expected([GREEN], 1, 8)[0]),
        ([cicp_chunk(9, 16, 0, 1), (b"cLLI", struct.pack(">2I", 4_000_000, 0))],
         expected([GREEN], 9, 16, 400)[0]),
        ([cicp_chunk(9, 16, 0, 1), (b"mDCV", bytes(16) + struct.pack(">2I", 4_000_000, 1))],
         expected([GREEN], 9, 16, 400)[0]),
        ([cicp_chunk(9, 16, 0, 1), (b"cLLI", struct.pack(">2I", 4_000_000, 0)),
          (b"mDCV", bytes(16) + struct.pack(">2I", 40_000_000, 1))],
         expected([GREEN], 9, 16, 400)[0]),
    ],
)  # fmt: skip
def test_the_chunks_of_a_png_count_in_the_order_of_the_standard(
    chunks: list[tuple[bytes, bytes]], wanted: Colour
) -> None:
    """CICP, iCCP, sRGB, then gAMA with cHRM; a chunk that cannot be used is passed over."""
    assert_near(shown(png_of(GREEN, *chunks)), wanted)


def test_a_broken_profile_gives_way_to_gama() -> None:
    """The picture has the colour of gAMA, and a note says that the profile was ignored."""
    data = png_of(GREEN, BROKEN_ICC, gama(1))
    assert_near(shown(data), expected([GREEN], 1, 8)[0])
    [note] = thumbnails_of(data, (64,)).notes
    assert "profile ignored" in note


def test_numbers_of_srgb_change_no_byte() -> None:
    """What means sRGB gives the very thumbnail of a file that says nothing."""
    plain = thumbnails_of(png_of(GREEN), (64,)).thumbnails[0].data
    for chunks in ([cicp_chunk(1, 13, 0, 1)], [SRGB_CHUNK, gama(1 / 2.2)], [gama(1 / 2.2)]):
        assert thumbnails_of(png_of(GREEN, *chunks), (64,)).thumbnails[0].data == plain
    for numbers in ((1, 1), (1, 6), (1, 14), (2, 2), (1, 99), (99, 13)):
        assert cicp.from_nclx(*numbers, 6, None) is None


def avif(colour: Colour = GREEN, **options: object) -> bytes:
    """Encode a plain AVIF, its code points 1/13/6."""
    return encoded(
        Image.new("RGB", (64, 64), colour), "AVIF", quality=100, subsampling="4:4:4", **options
    )


def with_numbers(data: bytes, numbers: tuple[int, int], box: int = 0, matrix: int = 6) -> bytes:
    """Change the code points of the nth colr box."""
    at = [found.end() for found in re.finditer(b"colrnclx", data)][box]
    return data[:at] + struct.pack(">3H", *numbers, matrix) + data[at + 6 :]


@pytest.mark.parametrize("numbers", [(9, 16), (12, 16), (9, 18), (12, 13), (9, 13), (1, 8)])
def test_the_nclx_of_an_avif_counts(numbers: tuple[int, int]) -> None:
    """The primary item's code points decide."""
    assert_near(shown(with_numbers(avif(), numbers)), expected([GREEN], *numbers)[0], 4)


def test_bt709_in_avif_is_shown_as_srgb() -> None:
    """As in browsers: cameras write 1 for what is sRGB. In PNG the same number counts."""
    assert_near(shown(with_numbers(avif(), (9, 1))), expected([GREEN], 9, 13)[0], 4)
    assert_near(shown(png_of(GREEN, cicp_chunk(9, 1, 0, 1))), expected([GREEN], 9, 1)[0])


def test_unspecified_primaries_are_those_of_srgb() -> None:
    """A PQ picture without primaries is tone-mapped."""
    assert_near(shown(with_numbers(avif(), (2, 16))), expected([GREEN], 1, 16)[0], 4)


def test_a_profile_of_an_avif_counts_more_than_its_nclx() -> None:
    """As in browsers, and other than in PNG."""
    data = avif(icc_profile=rgb_profile(ADOBE_RGB, 2.2))
    assert_near(shown(with_numbers(data, (9, 16))), BY_ICC, 4)


def test_numbers_beside_a_derived_matrix_do_not_count() -> None:
    """Chromium shows such an AVIF as if it were sRGB."""
    assert cicp.from_nclx(9, 16, 9, None) == (9, 16, 1000)
    assert cicp.from_nclx(9, 16, 12, None) is None


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (3, "reserved"),
        (10, "BT.2020, constant luminance"),
        (11, "Y′D′zD′x"),
        (13, "constant luminance, derived from the primaries"),
        (14, "ICtCp"),
        (16, "YCgCo-Re, of another depth than 10 bits"),
    ],
)
@pytest.mark.parametrize("profile", [None, rgb_profile()])
def test_a_matrix_that_libavif_cannot_convert_is_refused_by_name(
    matrix: int, words: str, profile: bytes | None
) -> None:
    """Such an AVIF is valid, so it is not corrupt, with a profile or without."""
    data = with_numbers(avif(icc_profile=profile), (9, 16), matrix=matrix)
    expected_words = rf"Unsupported kind of AVIF: its matrix coefficients are {matrix} \({words}\)"
    with pytest.raises(UnsupportedImage, match=expected_words):
        thumbnails_of(data, (64,))


def test_subsampled_rgb_in_an_avif_is_refused_by_name() -> None:
    """The matrix of RGB cannot go with subsampled colour."""
    data = encoded(Image.new("RGB", (64, 64), GREEN), "AVIF", subsampling="4:2:0")
    with pytest.raises(UnsupportedImage, match=r"0 \(RGB, with subsampled colour\)"):
        thumbnails_of(with_numbers(data, (1, 13), matrix=0), (64,))


def test_the_stream_counts_where_the_container_says_nothing() -> None:
    """Code points in the AV1 sequence header are read; those of a colr box win."""
    data = avif()
    at = data.index(b"mdat") + 4
    bits = "".join(f"{byte:08b}" for byte in data[at:])
    old, new = ("".join(f"{number:08b}" for number in (*pair, 6)) for pair in ((1, 13), (9, 16)))
    assert bits.count(old) == 1
    changed = data[:at] + int(bits.replace(old, new), 2).to_bytes(len(data) - at)
    assert_near(shown(changed), GREEN)
    assert_near(shown(changed.replace(b"colrnclx", b"freenclx")), expected([GREEN], 9, 16)[0], 4)


def test_the_track_of_an_animated_avif_counts() -> None:
    """Its frames have the code points of the sample entry, and not those of the still."""
    frames = [Image.new("RGB", (64, 64), GREEN), Image.new("RGB", (64, 64), (90, 90, 90))]
    data = encoded(
        frames[0], "AVIF", save_all=True, append_images=frames[1:], duration=100, quality=100
    )
    assert_near(shown(with_numbers(data, (9, 16), box=1)), expected([GREEN], 9, 16)[0], 4)
    assert_near(shown(with_numbers(data, (9, 16), box=0)), GREEN, 4)


def test_the_peak_of_an_avif_is_read() -> None:
    """CLLI, in the place of another property, moves the curve's end."""
    data = with_numbers(avif(), (9, 16))
    at = data.index(b"pixi") - 4
    light = struct.pack(">I4sHH4x", 16, b"clli", 400, 100)
    assert_near(shown(data[:at] + light + data[at + 16 :]), expected([GREEN], 9, 16, 400)[0], 4)


@pytest.mark.parametrize("full", [0, 1])
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("numbers", [(9, 16), (9, 18), (12, 13)])
def test_the_nclx_of_a_heic_counts(numbers: tuple[int, int], matrix: int, full: int) -> None:
    """Primaries and transfer count here; the decoder honours the matrix and the range."""
    data = encoded(
        Image.new("RGB", (64, 64), GREEN),
        "HEIF",
        quality=100,
        chroma=444,
        color_primaries=numbers[0],
        transfer_characteristics=numbers[1],
        matrix_coefficients=matrix,
        full_range_flag=full,
    )
    assert_near(shown(data), expected([GREEN], *numbers)[0], 6)


NUMBER = st.integers(0, 2**32 - 1) | st.integers(0, 100_000)


@given(NUMBER, st.none() | st.tuples(*[NUMBER] * 8))
def test_any_gamma_and_chromaticities_give_a_profile_or_none(
    gamma: int, values: tuple[int, ...] | None
) -> None:
    """Nothing is raised; what is built is a profile that littlecms reads."""
    points = values and tuple(value / 100_000 for value in values)
    built = cicp.profile_of_gamma(gamma / 100_000, points)
    assert built is None or ImageCms.ImageCmsProfile(io.BytesIO(built)).profile is not None


@given(st.binary(max_size=6))
def test_any_cicp_chunk_is_known_or_nothing(chunk: bytes) -> None:
    """What is returned has a curve and primaries."""
    found = cicp.from_png(chunk)
    assert found is None or (
        found.primaries in cicp.PRIMARIES and (found.is_hdr or found.transfer in cicp.CURVES)
    )


def small(image: Image.Image) -> Image.Image:
    """Scale a picture to a few pixels."""
    return image.convert("RGB").resize((48, 48), Image.Resampling.LANCZOS)


def test_the_reports_are_shown_as_owed() -> None:
    """The mean ΔE*ab to Chromium's picture, which exceeds CIEDE2000, is within the tolerance."""
    if not REPORTS.exists():
        pytest.skip("no corpus")
    with (REPORTS / "reports.tsv").open(newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file, delimiter="\t")
            if row["class"] in ("hdr-by-numbers", "png-colour")
        ]
    assert rows
    for row in rows:
        made = thumbnails_of((REPORTS / row["file"]).read_bytes(), (256,), 100)
        ours, theirs = (
            [lab(pixel) for pixel in np.asarray(small(image)).reshape(-1, 3)]
            for image in (
                decoded(made.thumbnails[0].data),
                Image.open(REPORTS / row["reference"]),
            )
        )
        differences = np.linalg.norm(np.array(ours) - np.array(theirs), axis=1)
        assert differences.mean() <= float(row["tolerance"]), row["file"]
