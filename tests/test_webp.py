"""WebP stills: libwebp decodes them at the size that is needed, as Pillow does at their own."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import encoded, quadrants, thumbnails_of
from PIL import Image, ImageChops, ImageStat, WebPImagePlugin

from thumbnailer.errors import CorruptImage, ImageTooLarge
from thumbnailer.imaging import Made
from thumbnailer.imaging.formats import DECODER_ERRORS, libwebp, load
from thumbnailer.imaging.formats.webp import StillWebp, WebpFile, open_webp

SIZE = (300, 200)
BOX = Image.Resampling.BOX
KINDS: dict[str, dict[str, Any]] = {
    "lossy": {},
    "lossless": {"lossless": True},
    "metadata": {"exif": b"Exif\0\0II*\0", "icc_profile": b"profile", "xmp": b"<x/>"},
}


def picture(mode: str) -> Image.Image:
    """Draw a picture with soft and hard edges; with alpha, the right half fades out."""
    image = ImageChops.add(quadrants(SIZE), Image.radial_gradient("L").resize(SIZE).convert("RGB"))
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").rotate(90).resize(SIZE))
    return image


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_still_is_decoded_as_by_pillow(kind: str, mode: str) -> None:
    """At its own size it has the same pixels, mode and metadata."""
    data = encoded(picture(mode), "WEBP", **KINDS[kind])
    image = open_webp(data, 512)
    pillow = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    assert isinstance(image, StillWebp)
    assert (image.mode, image.size) == (pillow.mode, pillow.size)
    assert image.tobytes() == pillow.tobytes()
    keys = ("exif", "icc_profile", "xmp", "loop")
    assert [image.info.get(key) for key in keys] == [pillow.info.get(key) for key in keys]


@pytest.mark.parametrize("kind", ["lossy", "lossless"])
@pytest.mark.parametrize("by", [2, 3, 7])
def test_a_smaller_decode_is_an_average_and_is_not_shifted(by: int, kind: str) -> None:
    """It is that of the whole picture. Lossy colours differ at hard edges: they are not blurred."""
    data = encoded(picture("RGB"), "WEBP", **KINDS[kind])
    target = (SIZE[0] // by // 2, SIZE[1] // by // 2)
    found, box = load("webp").decode(open_webp(data, 512), target, 1)
    assert found.size == (-(-SIZE[0] // by), -(-SIZE[1] // by))
    assert box == (0, 0, *found.size)
    whole = Image.open(io.BytesIO(data))
    difference = ImageChops.difference(found, whole.resize(found.size, BOX))
    assert max(ImageStat.Stat(difference).mean) <= (3 if kind == "lossy" else 0.6)
    if kind == "lossless":
        assert max(high for _, high in difference.getextrema()) <= 1


def test_a_smaller_decode_weighs_colours_by_their_alpha() -> None:
    """The average is that of premultiplied samples: what is transparent has no colour."""
    data = encoded(picture("RGBA"), "WEBP", lossless=True)
    found, _ = load("webp").decode(open_webp(data, 512), (50, 33), 1)
    exact = Image.open(io.BytesIO(data)).resize(found.size, BOX)
    one, other = (
        Image.frombytes("RGBX", found.size, each.convert("RGBa").tobytes())
        for each in (found, exact)
    )
    assert max(high for _, high in ImageChops.difference(one, other).getextrema()) <= 2


def test_what_is_transparent_does_not_count() -> None:
    """The colour of a lossy picture under what is transparent would darken its edges."""
    image = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (151, 0, *SIZE))
    data = encoded(image, "WEBP", exact=True)
    (small,) = thumbnails_of(data, (30,)).thumbnails
    edge = Image.open(io.BytesIO(small.data)).convert("RGBA").getpixel((15, 10))
    assert isinstance(edge, tuple)
    assert min(edge[:3]) >= 240


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_without_libwebp_the_thumbnails_look_the_same(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow decodes the picture where its library cannot be called."""
    data = encoded(picture(mode), "WEBP")
    found = thumbnails_of(data, (40,)).thumbnails[0]
    monkeypatch.setattr(libwebp, "library", lambda: None)
    assert isinstance(open_webp(data, 512), WebpFile)
    other = thumbnails_of(data, (40,)).thumbnails[0]
    both = (Image.open(io.BytesIO(each.data)).convert("RGBA") for each in (found, other))
    assert max(high for _, high in ImageChops.difference(*both).getextrema()) <= 16


def test_an_animation_of_one_frame_is_left_to_pillow() -> None:
    """Its frame may cover a part of the canvas only."""
    frames = [quadrants(SIZE), Image.new("RGB", SIZE)]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=9)
    assert isinstance(open_webp(data, 512), WebpFile)


@given(cut=st.floats(0, 1, exclude_max=True), flip=st.integers(0, 7) | st.none())
def test_a_damaged_still_is_refused_where_pillow_refuses_it(cut: float, flip: int | None) -> None:
    """Cut off anywhere, or with a flipped bit: the same pixels, or an error in both."""
    data = bytearray(encoded(quadrants((64, 48)), "WEBP"))
    where = int(cut * len(data))
    if flip is None:
        del data[where:]
    else:
        data[where] ^= 1 << flip

    def outcome(kind: Any) -> object:
        try:
            image = kind(bytes(data))
            return image.size, image.tobytes()
        except DECODER_ERRORS:
            return None

    def own(data: bytes) -> Image.Image:
        if (header := libwebp.read_header(data)) is None:
            raise OSError
        return StillWebp(data, header)

    pillow = outcome(lambda data: WebPImagePlugin.WebPImageFile(io.BytesIO(data)))
    assert outcome(own) == pillow


def test_a_lossy_still_needs_memory_for_its_thumbnails_only() -> None:
    """16 megapixels fit into 128 MB. With alpha they need more, which the error says."""
    large = Image.new("RGB", (4800, 3300), "red")
    data = encoded(large, "WEBP", method=0)
    assert isinstance(thumbnails_of(data, (128,), memory_mb=128), Made)
    large.putalpha(128)
    with pytest.raises(ImageTooLarge, match="needs about"):
        thumbnails_of(encoded(large, "WEBP", method=0), (128,), memory_mb=128)
    with pytest.raises(CorruptImage):
        thumbnails_of(encoded(quadrants(SIZE), "WEBP")[:-900], (128,))
