"""Shapes: thumbnails that are cropped, fitted inside or padded, in every format."""

import io
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import BLUE, GREEN, RED, YELLOW, decoded, encoded, is_upright, near, quadrants
from PIL import Image, ImageChops, ImageSequence, ImageStat
from test_thumbnails import TRANSPOSED

from thumbnailer.errors import ImageTooLarge
from thumbnailer.imaging import (
    OUTPUT_FORMATS,
    Made,
    Point,
    Size,
    Thumbnail,
    ThumbnailSpec,
    make_thumbnails,
    parse_sizes,
    thumbnail_spec,
)
from thumbnailer.imaging.resize import place
from tools import shape_pictures


def made(  # noqa: PLR0913 - options of the settings
    data: bytes,
    sizes: str,
    formats: Sequence[str] = ("webp",),
    *,
    memory_mb: int = 512,
    background: str = "#ffffff",
    focus: Point | None = None,
    animated: bool = True,
) -> Made:
    """Make thumbnails of these sizes, each in these formats."""
    specs = [
        thumbnail_spec(size, name, 90, animated=animated, background=background)
        for size in parse_sizes(sizes)
        for name in formats
    ]
    return make_thumbnails(data, specs, memory_mb, focus=focus)


def thumbnail(data: bytes, size: str, **options: Any) -> Thumbnail:
    """Make a single thumbnail."""
    [found] = made(data, size, **options).thumbnails
    return found


def png(picture: Image.Image) -> bytes:
    """Encode a picture without loss."""
    return encoded(picture, "PNG", compress_level=1)


def stripes(size: tuple[int, int], *, across: bool = True) -> Image.Image:
    """Draw five stripes of equal width: red, green, blue, yellow, red; from left to right."""
    picture = Image.new("RGB", size)
    length = size[0] if across else size[1]
    for number, colour in enumerate((RED, GREEN, BLUE, YELLOW, RED)):
        start, end = length * number // 5, length * (number + 1) // 5
        box = (start, 0, end, size[1]) if across else (0, start, size[0], end)
        picture.paste(colour, box)
    return picture


def colour_at(picture: Image.Image, x: float, y: float) -> tuple[int, ...]:
    """Return the RGB colour at a place, in fractions of the width and the height."""
    at = (int(x * picture.width), int(y * picture.height))
    return picture.convert("RGB").getpixel(at)  # type: ignore[return-value]


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ("400x200", (400, 200)),
        ("200x400", (200, 400)),
        ("400x200:contain", (300, 200)),
        ("200x400:contain", (200, 133)),
        ("400x200:pad", (400, 200)),
        ("256x256:cover:attention", (256, 256)),
        ("300", (300, 200)),
    ],
)
def test_a_thumbnail_has_exactly_the_shape_of_its_size(
    name: str, size: str, shape: tuple[int, int]
) -> None:
    """`cover` and `pad` give the shape itself, `contain` the largest size inside it."""
    found = thumbnail(png(quadrants((900, 600))), size, formats=[name])
    assert found.size == decoded(found.data).size == shape
    assert (found.focus is not None) == (
        size.count(":contain") + size.count(":pad") == 0 < (size.count("x"))
    )


@pytest.mark.parametrize(
    ("size", "cropped"),
    [
        ((300, 100), (100, 100)),
        ((100, 300), (100, 100)),
        ((300, 300), (256, 256)),
        ((255, 256), (255, 255)),
        ((1, 16_383), (1, 1)),
        ((16_383, 1), (1, 1)),
    ],
)
def test_a_smaller_picture_is_cropped_to_the_ratio_at_its_own_size(
    size: tuple[int, int], cropped: tuple[int, int]
) -> None:
    """No crop is enlarged."""
    assert thumbnail(png(Image.new("RGB", size)), "256x256").size == cropped


def test_a_smaller_picture_is_neither_enlarged_inside_its_shape_nor_on_its_canvas() -> None:
    """`contain` leaves it as it is, and `pad` puts it on a canvas of the full shape."""
    data = png(Image.new("RGB", (30, 20), RED))
    assert thumbnail(data, "256x256:contain").size == (30, 20)
    found = decoded(thumbnail(data, "90x80:pad", background="#102030").data)
    assert found.size == (90, 80)
    inside = found.crop((32, 32, 58, 48)).convert("RGB")
    assert all(near(colour, RED) for _, colour in inside.getcolors())  # type: ignore[union-attr]
    for at in ((0.1, 0.1), (0.9, 0.9), (0.5, 0.2), (0.2, 0.5)):
        assert near(colour_at(found, *at), (16, 32, 48), 5)


SIDES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@given(
    SIDES,
    SIDES,
    st.sampled_from(["cover", "contain", "pad"]),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_every_shape_of_every_picture_can_be_placed(
    upright: tuple[int, int], shape: tuple[int, int], fit: str, focus: Point
) -> None:
    """The box is inside the picture, its ratio is the shape's, and nothing is enlarged."""
    (width, height), (across, down) = upright, shape
    placed = place(Size("any", across, down, fit), upright, 16_383, focus)
    left, upper, right, lower = placed.box
    assert 0 <= left < right <= width
    assert 0 <= upper < lower <= height
    assert 1 <= placed.size[0] <= min(across, width)
    assert 1 <= placed.size[1] <= min(down, height)
    assert placed.whole[0] <= width
    assert placed.whole[1] <= height
    assert placed.size[0] <= placed.whole[0]
    assert placed.size[1] <= placed.whole[1]
    if fit == "cover":
        assert placed.size == placed.canvas
        assert max((right - left) / width, (lower - upper) / height) == pytest.approx(1)
        ratio = placed.size[0] / placed.size[1]
        assert (right - left) / (lower - upper) == pytest.approx(ratio)
    else:
        assert placed.box == (0, 0, width, height)


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", TRANSPOSED)
def test_crops_are_upright_for_every_exif_orientation(
    orientation: int, kind: str, name: str
) -> None:
    """The crop is that of the upright picture, not of the stored one."""
    upright = quadrants((800, 600))
    upright.paste((255, 255, 255), (0, 0, 90, 600))  # outside the square in the middle
    operation = TRANSPOSED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if operation is None else upright.transpose(operation)
    found = thumbnail(encoded(stored, kind, exif=exif), "120x120", formats=[name])
    assert found.size == (120, 120)
    assert is_upright(decoded(found.data), tolerance=20)
    assert not near(colour_at(decoded(found.data), 0.01, 0.5), (255, 255, 255), 40)


@pytest.mark.parametrize("size", ["100", "50x50", "120x30", "90x90:contain"])
def test_turning_a_picture_costs_no_detail(size: str) -> None:
    """A picture that is stored on its side is scaled to the same thumbnail as an upright one."""
    upright = Image.effect_noise((900, 300), 90).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    found, expected = (
        decoded(thumbnail(data, size).data).convert("RGB")
        for data in (encoded(turned, "PNG", exif=exif, compress_level=1), png(upright))
    )
    [difference] = ImageStat.Stat(ImageChops.difference(found, expected).convert("L")).mean
    assert difference < 3


def test_a_spec_may_ask_for_an_animation_that_its_format_does_not_have() -> None:
    """It gets the first frame, also beside frames that another format needs."""
    [size] = parse_sizes("40x40")
    specs = [ThumbnailSpec(size, 80, animated=True, format=name) for name in OUTPUT_FORMATS]
    found = make_thumbnails(animation(), specs, 512).thumbnails
    assert [each.frames for each in found] == [4, 1, 1]


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("focus", "colour"),
    [((0.0, 0.5), RED), ((0.3, 0.0), GREEN), ((0.5, 1.0), BLUE), ((0.7, 0.5), YELLOW)],
)
def test_a_focus_is_a_place_in_the_upright_picture(
    focus: Point, colour: tuple[int, ...], orientation: int
) -> None:
    """It is in the middle of the crop, as far as the edges allow; and it beats the size's rule."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    operation = TRANSPOSED[orientation]
    picture = stripes((1000, 200))
    stored = picture if operation is None else picture.transpose(operation)
    for rule in ("center", "attention"):
        found = thumbnail(encoded(stored, "JPEG", exif=exif), f"100x100:cover:{rule}", focus=focus)
        assert near(colour_at(decoded(found.data), 0.5, 0.5), colour, 20)
        assert found.focus == pytest.approx((max(focus[0], 0.1), 0.5))


def test_a_focus_moves_a_crop_down_too() -> None:
    """In a picture that is higher than its shape."""
    data = png(stripes((200, 1000), across=False))
    for y, colour in ((0.0, RED), (0.3, GREEN), (0.5, BLUE), (0.7, YELLOW), (1.0, RED)):
        found = decoded(thumbnail(data, "100x100", focus=(0.5, y)).data)
        assert near(colour_at(found, 0.5, 0.5), colour, 20)


def test_a_crop_has_the_pixels_of_the_whole_thumbnail() -> None:
    """At the same scale, a crop is cut out of the whole picture and not resampled."""
    data = png(Image.effect_noise((800, 400), 80))
    whole, square = made(data, "200,100x100", ["webp"], focus=(0.3, 0.5)).thumbnails
    assert (whole.size, square.size) == ((200, 100), (100, 100))
    expected = decoded(whole.data).crop((10, 0, 110, 100))
    difference = [
        abs(a - b) for a, b in zip(expected.tobytes(), decoded(square.data).tobytes(), strict=True)
    ]
    assert sum(difference) / len(difference) < 6  # WebP's loss, of noise


@pytest.mark.parametrize("sizes", ["100,200", "100,200,64x64,200x300:pad,50x20:contain"])
def test_a_shape_beside_them_does_not_change_plain_widths(sizes: str) -> None:
    """Unless it needs more pixels than the largest of them, which they are then made from."""
    data = encoded(quadrants((900, 600)))
    small, large = made(data, "100,200").thumbnails
    found = {each.spec.size.name: each.data for each in made(data, sizes).thumbnails}
    assert (found["100w"], found["200w"]) == (small.data, large.data)


@pytest.mark.parametrize("name", ["webp", "avif"])
def test_the_alpha_of_a_crop_is_kept(name: str) -> None:
    """The transparent part stays transparent, and no colour leaks out of it."""
    picture = Image.new("RGBA", (400, 200), (*GREEN, 255))
    picture.paste((255, 0, 0, 0), (200, 0, 400, 200))
    found = decoded(thumbnail(png(picture), "100x100", formats=[name]).data).convert("RGBA")
    left, right = found.getpixel((20, 50)), found.getpixel((80, 50))
    assert near(left, (*GREEN, 255), 8)  # type: ignore[arg-type]
    assert right[3] < 8  # type: ignore[index]


@pytest.mark.parametrize("size", ["120x60:pad", "100x100:pad", "50x50:pad"])
def test_a_padded_picture_is_opaque(size: str) -> None:
    """The background is behind the picture too, so that there is no hole in the canvas."""
    picture = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    found = decoded(thumbnail(png(picture), size, background="#306090").data)
    assert found.mode == "RGB"
    assert all(near(colour_at(found, x, 0.5), (48, 96, 144), 4) for x in (0.1, 0.5, 0.9))


def animation(frames: int = 4, size: tuple[int, int] = (300, 100)) -> bytes:
    """Encode an animated GIF of stripes, in which a black bar moves down."""
    pictures = [stripes(size) for _ in range(frames)]
    for number, picture in enumerate(pictures):
        picture.paste(
            (0, 0, 0), (0, size[1] * number // frames, size[0], size[1] * (number + 1) // frames)
        )
    return encoded(
        pictures[0], "GIF", save_all=True, append_images=pictures[1:], duration=100, loop=0
    )


@pytest.mark.parametrize("size", ["50x50", "50x50:cover:attention", "80x80:pad", "90x20:contain"])
def test_every_frame_of_an_animation_has_the_same_shape(size: str) -> None:
    """Frames are the crops of the frames: the choice is made once, by the first frame."""
    found = thumbnail(animation(), size)
    stills = [
        decoded(thumbnail(png(frame.convert("RGB")), size, focus=found.focus).data).convert("RGB")
        for frame in ImageSequence.Iterator(Image.open(io.BytesIO(animation())))
    ]
    frames = [
        frame.convert("RGB") for frame in ImageSequence.Iterator(Image.open(io.BytesIO(found.data)))
    ]
    assert found.frames == len(frames) == len(stills) == 4
    for frame, still in zip(frames, stills, strict=True):
        assert frame.size == still.size == found.size
        assert all(
            near(colour_at(frame, x / 10, 0.5), colour_at(still, x / 10, 0.5), 60)
            for x in range(1, 10)
        )


def test_formats_that_do_not_animate_show_the_first_frame() -> None:
    """Beside an animated WebP of the same size, whose frames are all there."""
    found = made(animation(), "100,40x40", OUTPUT_FORMATS).thumbnails
    assert [each.frames for each in found] == [4, 1, 1, 4, 1, 1]
    for each in found:
        picture = decoded(each.data)
        assert getattr(picture, "n_frames", 1) == each.frames
    still = decoded(found[1].data)
    assert near(colour_at(still, 0.3, 0.1), (0, 0, 0), 20)
    assert near(colour_at(still, 0.3, 0.5), GREEN, 20)


def test_the_frames_of_a_crop_are_counted_in_the_budget() -> None:
    """A small crop of frames that are large at its scale needs memory for those frames."""
    data = animation(40, (2000, 100))
    assert thumbnail(data, "100x100").frames == 40
    assert thumbnail(data, "100x100", memory_mb=85).frames == 1


def test_a_canvas_that_does_not_fit_is_refused_by_its_need() -> None:
    """However small the picture is, the padding counts, and the message has the need."""
    data = png(Image.new("RGB", (10, 10)))
    with pytest.raises(ImageTooLarge, match=r"needs about \d+ MB"):
        made(data, "16383x16383:pad")
    assert thumbnail(data, "1000x1000:pad").size == (1000, 1000)


def need_mb(data: bytes, sizes: str) -> float:
    """Return the memory in MB that thumbnails are estimated to need."""
    with pytest.raises(ImageTooLarge) as raised:
        made(data, sizes, memory_mb=61)
    assert raised.value.need_mb is not None
    return raised.value.need_mb


def test_the_pictures_that_crops_are_cut_from_are_counted() -> None:
    """Plain widths replace one another; crops and canvases are kept beside the whole picture."""
    data = png(Image.new("RGB", (2000, 2000)))
    picture = 2000 * 2000 * 4 / 1024**2
    plain = need_mb(data, "2000")
    assert need_mb(data, "2000,1900") == plain
    assert need_mb(data, "2000,1900x1800") > plain + 0.9 * picture
    assert need_mb(data, "2000,1900x1800,1950x1500") > plain + 1.5 * picture
    assert need_mb(data, "2000x2001:pad") > plain + 0.9 * picture


@pytest.mark.parametrize(
    "size", [(1, 16_383), (16_383, 1), (2, 5000), (5000, 3), (1, 1), (127, 129)]
)
def test_extreme_pictures_have_thumbnails_of_every_shape(size: tuple[int, int]) -> None:
    """Of at least one pixel in each direction, in all formats."""
    sizes = "128,256x256:cover:attention,a=600x2,b=2x600,c=64x64:contain,d=64x64:pad"
    for each in made(png(Image.new("RGB", size, RED)), sizes, OUTPUT_FORMATS).thumbnails:
        assert decoded(each.data).size == each.size
        assert min(each.size) >= 1


def test_equal_pictures_are_encoded_once() -> None:
    """Sizes that differ in their names alone share bytes; others do not."""
    found = made(encoded(quadrants()), "a=64x64,b=64x64,c=64x64:contain,d=64x64:pad").thumbnails
    assert found[0].data is found[1].data
    assert len({each.data for each in found}) == 3


@pytest.mark.parametrize("name", ["width", "center", "attention", "contain", "pad"])
def test_the_pictures_of_the_documentation_are_thumbnails(name: str) -> None:
    """docs/images.md shows what the sizes of its table give (python -m tools.shape_pictures)."""
    found = {each.spec.size.name: each for each in shape_pictures.thumbnails().thumbnails}[name]
    committed = shape_pictures.path_of(name).read_bytes()
    assert len(committed) < 5_000
    shown, expected = (decoded(data).convert("RGB") for data in (committed, found.data))
    assert shown.size == expected.size
    difference = ImageChops.difference(shown, expected)
    assert max(high for _, high in difference.getextrema()) < 40  # type: ignore[union-attr]
