"""Attention: which part of a picture a crop keeps, and that it is the same on every machine."""

import hashlib
import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import decoded, encoded
from PIL import Image, ImageDraw

from thumbnailer.imaging import attention, make_thumbnails, parse_sizes, thumbnail_spec
from thumbnailer.imaging.attention import Salience, focus, salience

SKIN_TONES = ((255, 219, 187), (224, 172, 138), (198, 134, 96), (141, 85, 54), (96, 58, 40))
"""From light to dark."""


def cropped(picture: Image.Image, shape: str = "100x100") -> Image.Image:
    """Return the crop of a picture by attention."""
    [size] = parse_sizes(f"{shape}:cover:attention")
    spec = thumbnail_spec(size, "webp", 95, animated=True)
    [made] = make_thumbnails(encoded(picture, "PNG", compress_level=1), [spec], 512).thumbnails
    return decoded(made.data).convert("RGB")


def share_of(picture: Image.Image, colour: tuple[int, ...]) -> float:
    """Return which share of the pixels has about this colour."""
    pixels = list(zip(*(band.tobytes() for band in picture.split()), strict=True))
    alike = sum(all(abs(a - b) < 30 for a, b in zip(each, colour, strict=True)) for each in pixels)
    return alike / len(pixels)


def with_disc(
    size: tuple[int, int], at: tuple[int, int], colour: tuple[int, ...], ground: tuple[int, ...]
) -> Image.Image:
    """Draw a disc of 60 pixels in one colour."""
    picture = Image.new("RGB", size, ground)
    box = (at[0] - 30, at[1] - 30, at[0] + 30, at[1] + 30)
    ImageDraw.Draw(picture).ellipse(box, fill=colour)
    return picture


@pytest.mark.parametrize("at", [(40, 50), (150, 50), (360, 50)])
@pytest.mark.parametrize("colour", [(20, 20, 20), (220, 40, 40), SKIN_TONES[1]])
@pytest.mark.parametrize("upright", [True, False])
def test_a_crop_keeps_the_only_thing_in_a_picture(
    at: tuple[int, int], colour: tuple[int, ...], upright: bool  # noqa: FBT001
) -> None:
    """By its edges, its colour or its skin, left or right, above or below."""
    picture = with_disc((400, 100), at, colour, (128, 128, 128))
    if upright:
        picture = picture.transpose(Image.Transpose.TRANSPOSE)
    expected = 3.14 * 30 * 30 / 100**2
    assert share_of(cropped(picture), colour) > 0.9 * expected


@pytest.mark.parametrize("tone", SKIN_TONES)
def test_skin_of_any_shade_is_found_beside_something_as_large(tone: tuple[int, int, int]) -> None:
    """A face wins against a disc that is as bright and as saturated, and bluish."""
    ground = (sum(tone) // 3,) * 3
    picture = with_disc((400, 100), (50, 50), tone[::-1], ground)
    picture.paste(with_disc((100, 100), (50, 50), tone, ground), (300, 0))
    assert share_of(cropped(picture), tone) > 0.2


def test_what_is_above_wins_over_what_is_as_strong_below() -> None:
    """A head is above the shoes: the top row counts twice as much as the bottom row."""
    picture = with_disc((100, 400), (50, 50), (40, 40, 40), (150, 150, 150))
    picture.paste(with_disc((100, 100), (50, 50), (40, 40, 40), (150, 150, 150)), (0, 300))
    rows = salience(picture).rows
    assert sum(rows[:50]) > 1.5 * sum(rows[50:]) > 0
    shoes_nearer_the_middle = picture.crop((0, 0, 100, 385))
    assert focus(salience(shoes_nearer_the_middle), (1.0, 0.3))[1] < 0.5


def test_a_crop_has_headroom() -> None:
    """It begins a twelfth of its height above the best part, unless the picture ends there."""
    for start, middle in ((50, 0.60), (1, 0.12), (0, 0.12)):
        rows = [10 if start <= y < start + 24 else 0 for y in range(100)]
        assert focus(Salience([1], rows), (1.0, 0.24)) == (0.5, pytest.approx(middle))


def test_an_empty_picture_is_cropped_in_its_middle() -> None:
    """Of equal parts, the nearest to the middle is taken."""
    found = salience(Image.new("RGB", (400, 100), (90, 90, 90)))
    assert focus(found, (0.25, 1.0))[0] == pytest.approx(0.5, abs=0.01)


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=100),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=100),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_focus_is_always_inside_the_picture(
    columns: list[int], rows: list[int], across: float, down: float
) -> None:
    """Whatever the sums and the shares are."""
    x, y = focus(Salience(columns, rows), (across, down))
    assert 0 <= x <= 1
    assert 0 <= y <= 1


def noisy(mode: str, size: tuple[int, int]) -> Image.Image:
    """Draw noise that is the same on every machine."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    data = random.Random(1).randbytes(size[0] * size[1] * bands)  # noqa: S311 - not secret
    return Image.frombytes(mode, size, data)


@pytest.mark.parametrize(("mode", "digest"), [("RGB", "5f623dc478e7"), ("RGBA", "ae1dba6ff00a")])
def test_every_machine_measures_the_same(mode: str, digest: str) -> None:
    """The sums are whole numbers, and these are those of x86-64: CI compares them on arm64."""
    picture = noisy(mode, (333, 217))
    found = salience(picture.convert("RGBa") if mode == "RGBA" else picture)
    assert all(isinstance(value, int) for value in (*found.columns, *found.rows))
    assert hashlib.sha256(repr(found).encode()).hexdigest()[:12] == digest


def test_the_copy_that_is_searched_is_small() -> None:
    """However large the picture is, at most MAX_SIDE columns and rows are summed."""
    for size in ((2000, 1000), (101, 100), (1, 16_383), (16_383, 1), (3, 2)):
        found = salience(Image.new("RGB", size))
        assert len(found.columns) <= attention.MAX_SIDE
        assert len(found.rows) <= attention.MAX_SIDE


def test_the_first_frame_of_an_animation_decides() -> None:
    """The later frames would have been cropped elsewhere."""
    frames = [
        with_disc((400, 100), (x, 50), (220, 40, 40), (128, 128, 128)) for x in (50, 300, 350)
    ]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    [size] = parse_sizes("100x100:cover:attention")
    spec = thumbnail_spec(size, "webp", 95, animated=True)
    [made] = make_thumbnails(data, [spec], 512).thumbnails
    assert made.frames == 3
    assert made.focus is not None
    assert made.focus[0] < 0.2
    image = Image.open(io.BytesIO(made.data))
    image.seek(1)
    assert share_of(image.convert("RGB"), (220, 40, 40)) == 0
