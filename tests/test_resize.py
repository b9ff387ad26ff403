"""Resizing: shortcuts change no pixel, and pictures are averaged only as far as is good."""

import io
from typing import Any

import numpy as np
import pytest
from pictures import thumbnails_of
from PIL import Image, JpegImagePlugin

from thumbnailer.imaging.lanczos import lanczos
from thumbnailer.imaging.resize import BAND_PIXELS, PART_COLUMNS, cut, factors, shrink

SIZE = (3 * PART_COLUMNS + 77, BAND_PIXELS // (3 * PART_COLUMNS + 77) * 2 + 31)
"""Pixels: several parts in each direction, of which the last is smaller."""


def coloured(alpha: Image.Image) -> Image.Image:
    """Return colour noise with this alpha channel."""
    noise = [Image.effect_noise(alpha.size, 90).rotate(90 * turn) for turn in range(3)]
    return Image.merge("RGBA", [*noise, alpha])


def cut_out() -> Image.Image:
    """Return an alpha channel: opaque in the middle, transparent outside, with a soft edge."""
    distance = Image.radial_gradient("L").resize(SIZE)
    return distance.point([min(255, max(0, (110 - value) * 8)) for value in range(256)])


@pytest.mark.parametrize(
    "alpha",
    [Image.new("L", SIZE, 255), Image.new("L", SIZE, 0), Image.new("L", SIZE, 90), cut_out()],
    ids=["opaque", "transparent", "uniform", "cut out"],
)
def test_the_shortcut_for_opaque_and_transparent_parts_changes_no_pixel(alpha: Image.Image) -> None:
    """Such parts are not premultiplied, and have the same pixels as if they were."""
    image, size = coloured(alpha), (160, 61)
    by = factors((0, 0, *image.size), size)
    assert min(by) > 1
    box = (0, 0, SIZE[0] / by[0], SIZE[1] / by[1])
    expected = lanczos(image.convert("RGBa").reduce(by), size, box)
    made = shrink(image, size, (0, 0, *image.size))
    assert made.mode == "RGBa"
    assert np.array_equal(np.asarray(made), np.asarray(expected))


def test_a_whole_picture_is_averaged_to_at_least_twice_the_size_of_its_thumbnail() -> None:
    """The factor is the largest that leaves the last resize twice the size, as in libvips."""
    for width in range(600, 6000, 97):
        by, _ = factors((0, 0, width, width), (512, 512))
        assert by == 1 or width / by >= 2 * 512
        assert width / (by + 1) < 2 * 512


def test_a_jpeg_is_passed_to_its_decoder_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder reads the file once, and gets the caller's own bytes and not a copy."""
    buffer = io.BytesIO()
    Image.effect_noise((1500, 1000), 90).save(buffer, "JPEG", quality=95)
    data = buffer.getvalue()
    pieces: list[Any] = []
    read = JpegImagePlugin.JpegImageFile.load_read

    def load_read(image: JpegImagePlugin.JpegImageFile, size: int) -> bytes:
        piece = read(image, size)
        pieces.append(piece)
        return piece

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load_read", load_read)
    thumbnails_of(data, (128,), 85, 512)
    assert len(pieces) == 1
    assert pieces[0] is data


def test_a_crop_at_the_same_scale_is_cut_out_without_resampling() -> None:
    """Its pixels are those of the picture, also where the scaled edges are between two pixels."""
    picture = coloured(cut_out()).resize((341, 256)).convert("RGBa")
    shown = (0.0, 0.0, 4032.0, 3024.0)
    found = cut(picture, shown, (504.0, 0.0, 3528.0, 3024.0), (256, 256))
    assert found.tobytes() == picture.crop((43, 0, 299, 256)).tobytes()
    assert cut(picture, shown, shown, (341, 256)) is picture


def test_a_crop_of_a_crop_is_at_its_place() -> None:
    """Boxes are in pixels of the upright picture, whatever the source shows of it."""
    gradient = Image.linear_gradient("L").resize((100, 100))
    picture = Image.merge("RGB", (gradient, gradient.rotate(90), gradient))
    shown = (200.0, 100.0, 400.0, 300.0)  # at half its scale
    found = cut(picture, shown, (220.0, 250.0, 260.0, 290.0), (10, 10))
    expected = picture.crop((10, 75, 30, 95)).resize((10, 10), Image.Resampling.BOX)
    for (low, high), (least, most) in zip(found.getextrema(), expected.getextrema(), strict=True):
        assert abs(low - least) < 6
        assert abs(high - most) < 6
