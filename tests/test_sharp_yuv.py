"""WebP's sharp conversion of colour: where it is used, what it keeps, and what happens without."""

import io
from typing import Any

import numpy as np
import pytest
from pictures import decoded, encoded, thumbnails_of
from PIL import Image, ImageDraw, ImageFont

from thumbnailer.imaging import ENCODERS, Size, ThumbnailSpec, sharp_yuv
from thumbnailer.imaging.encoders import webp

SIZE = (256, 160)
SPEC = ThumbnailSpec(Size.of_width(SIZE[0]), 85, animated=False)


def letters(ink: str, paper: str = "#ffffff") -> Image.Image:
    """Draw lines of small letters."""
    picture = Image.new("RGB", SIZE, paper)
    draw = ImageDraw.Draw(picture)
    for top in range(4, SIZE[1], 16):
        draw.text((6, top), "Sale: everything must go!", ink, ImageFont.load_default(14))
    return picture


def encode(picture: Image.Image) -> bytes:
    """Encode a still as the image code does."""
    return ENCODERS["webp"].encode([picture], SPEC, [0.0], 0)


def by_pillow(picture: Image.Image) -> bytes:
    """Encode it with Pillow's own options."""
    return encoded(picture, "WEBP", quality=85, method=webp.METHOD)


def luminance(picture: Image.Image) -> Any:
    """Relative luminance of each pixel, 0 to 1 (IEC 61966-2-1, with its curve as a power)."""
    return (np.asarray(picture.convert("RGB")) / 255) ** 2.2 @ (0.2126, 0.7152, 0.0722)


def error_of(picture: Image.Image, data: bytes) -> float:
    """Return the mean difference of a decoded thumbnail's luminance."""
    return float(np.abs(luminance(picture) - luminance(decoded(data))).mean())


@pytest.mark.parametrize(("ink", "paper"), [("#e00000", "#ffffff"), ("#ffffff", "#e00000")])
def test_red_and_white_letters_keep_their_brightness(ink: str, paper: str) -> None:
    """The error of their luminance is less than two thirds of the ordinary conversion's."""
    picture = letters(ink, paper)
    assert error_of(picture, encode(picture)) < 0.66 * error_of(picture, by_pillow(picture))


@pytest.mark.parametrize("ink", ["#000000", "#707070", "#60788c"])
def test_pictures_without_colour_edges_have_the_bytes_of_pillow(ink: str) -> None:
    """The sharp conversion takes time, and shows where saturated colours meet alone."""
    picture = letters(ink)
    assert encode(picture) == by_pillow(picture)


def test_a_few_colour_edges_are_not_enough() -> None:
    """One red square on grey is not worth the time."""
    picture = Image.new("RGB", SIZE, "#808080")
    picture.paste("#e00000", (40, 40, 80, 80))
    assert encode(picture) == by_pillow(picture)


def test_a_picture_with_alpha_or_one_column_has_no_colour_edges() -> None:
    """The sharp conversion ignores alpha; one column has no neighbours."""
    assert webp.has_colour_edges(letters("#e00000"))
    assert not webp.has_colour_edges(letters("#e00000").convert("RGBA"))
    assert not webp.has_colour_edges(letters("#e00000").resize((1, 100)))


def test_large_pictures_are_encoded_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their time and memory are bounded."""
    picture = letters("#e00000")
    monkeypatch.setattr(webp, "LARGE_PIXELS", SIZE[0] * SIZE[1] - 1)
    assert encode(picture) == encoded(picture, "WEBP", quality=85, method=webp.FAST_METHOD)


def test_the_settings_are_those_of_pillow_but_for_the_conversion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a word that is set and means nothing, the bytes are Pillow's: the layout is right."""
    hint = 3  # `image_hint`, for pictures without loss alone
    picture = letters("#e00000")
    monkeypatch.setattr(sharp_yuv, "SHARP_YUV_AT", hint)
    assert sharp_yuv.encode(picture, 85, webp.METHOD) == by_pillow(picture)


def test_another_libwebp_costs_the_sharpness_and_not_the_thumbnail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It refuses a program for structures of another version."""
    picture = letters("#e00000")
    monkeypatch.setattr(sharp_yuv, "ABI", 0x0300)
    assert sharp_yuv.encode(picture, 85, webp.METHOD) is None
    assert encode(picture) == by_pillow(picture)


def test_an_error_of_libwebp_is_left_to_pillow() -> None:
    """There is no such method, and no exception."""
    assert sharp_yuv.encode(letters("#e00000"), 85, method=200) is None


def test_a_libwebp_that_is_linked_into_pillow_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows the library has none of the functions."""
    monkeypatch.setattr("PIL._webp.__file__", io.__file__)
    picture = letters("#e00000")
    assert sharp_yuv.encode(picture, 85, webp.METHOD) is None
    assert encode(picture) == by_pillow(picture)


def test_the_image_code_uses_it() -> None:
    """A thumbnail of red letters has other bytes than Pillow would give it."""
    picture = letters("#e00000")
    (made,) = thumbnails_of(encoded(picture, "PNG"), SIZE[:1], 85, 512).thumbnails
    assert made.size == SIZE
    assert made.data != by_pillow(picture)
    assert made.data == sharp_yuv.encode(picture, 85, webp.METHOD)
