"""The readers of headers, given arbitrary bytes: they end, and raise only what they say."""

from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, quadrants
from PIL import Image

from bench.hostile_files import KINDS as HOSTILE
from thumbnailer.errors import PermanentError
from thumbnailer.imaging.formats import (
    DECODER_ERRORS,
    av1,
    heif,
    isobmff,
    jpeg2000,
    load,
    recognise,
    webp,
)
from thumbnailer.imaging.formats.format import EXIF_HEADER, orientation_tag

SAMPLES = [
    encoded(quadrants((64, 48)), kind)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "JPEG2000", "BMP")
]
FILES = [
    encoded(quadrants((64, 48)), "HEIF"),
    *SAMPLES,
    *(make(64, 48) for make in HOSTILE.values()),
]


def _damage(data: bytes, places: list[tuple[int, int]], end: int) -> bytes:
    changed = bytearray(data)
    for place, value in places:
        changed[place % len(changed)] = value
    return bytes(changed[: end or None])


damaged = st.builds(
    _damage,
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=6),
    st.integers(0, 10_000),
)


@given(
    order=st.sampled_from(["little", "big"]),
    value=st.integers(0, 9),
    long=st.booleans(),
    before=st.integers(0, 20),
    prefix=st.sampled_from([b"", EXIF_HEADER, EXIF_HEADER * 2]),
    gap=st.integers(0, 9),
)
def test_the_orientation_of_exif_is_read(  # noqa: PLR0913
    *,
    order: Literal["little", "big"],
    value: int,
    long: bool,
    before: int,
    prefix: bytes,
    gap: int,
) -> None:
    """In both byte orders, as SHORT or LONG, after any other tags; what is no orientation is 1."""

    def tag(number: int, kind: int, content: bytes) -> bytes:
        head = number.to_bytes(2, order) + kind.to_bytes(2, order) + (1).to_bytes(4, order)
        return head + content.ljust(4, b"\0")

    tags = [tag(n + 1, 3, b"\5\5") for n in range(before)]
    tags.append(tag(0x0112, 4 if long else 3, value.to_bytes(4 if long else 2, order)))
    start = b"II*\0" if order == "little" else b"MM\0*"
    exif = start + (8 + gap).to_bytes(4, order) + bytes(gap)
    exif += len(tags).to_bytes(2, order) + b"".join(tags)
    assert orientation_tag(prefix + exif) == (value if 1 <= value <= 8 else 1)
    assert orientation_tag(prefix + exif[:-9]) == 1


@given(st.binary(max_size=400) | st.builds(b"II*\0".__add__, st.binary(max_size=80)))
def test_any_bytes_have_an_orientation(data: bytes) -> None:
    """Broken EXIF is upright, and raises nothing."""
    assert orientation_tag(data) in range(1, 9)


@given(st.binary(max_size=400) | damaged)
def test_the_boxes_of_a_file_are_read_to_the_end(data: bytes) -> None:
    """Nothing is raised, and the number of places is bounded."""
    boxes = isobmff.boxes_of(data)
    places = list(isobmff.streams(data, boxes))
    assert len(places) <= isobmff.MAX_BOXES * isobmff.MAX_ITEMS
    assert isobmff.plane_bytes(data) > 0
    properties = isobmff.properties_of_item(data, boxes, isobmff.primary_item(data, boxes))
    crop = heif.crop_of(data, properties)
    assert crop is None or min(crop.coded) > 0
    isobmff.without_exif(data, boxes)
    webp.with_right_size(data)
    webp.has_gaps(data)


@given(st.binary(max_size=400) | damaged, st.none() | st.integers(0, 3))
def test_properties_are_read_or_are_not_there(data: bytes, number: int | None) -> None:
    """Nothing is raised, and numbers are of 16 bits and a luminance above 0."""
    boxes = isobmff.boxes_of(data)
    isobmff.primary_item(data, boxes)
    for properties in (
        isobmff.properties_of_item(data, boxes, number),
        isobmff.properties_of_track(data, boxes),
    ):
        assert len(properties) <= isobmff.MAX_BOXES
        assert all(each < 2**16 for each in isobmff.nclx(data, properties) or ())
        assert (isobmff.peak(data, properties) or 1) > 0


def test_the_primary_item_has_its_own_properties() -> None:
    """Alpha, an item beside it, has no code points."""
    data = encoded(quadrants((64, 48)).convert("RGBA"), "AVIF")
    boxes = isobmff.boxes_of(data)
    assert isobmff.primary_item(data, boxes) == 1
    assert isobmff.nclx(data, isobmff.properties_of_item(data, boxes, 1)) == (1, 13, 6)
    assert isobmff.nclx(data, isobmff.properties_of_item(data, boxes, 2)) is None
    assert isobmff.nclx(data, isobmff.properties_of_item(data, boxes, 3)) is None


@given(st.binary(max_size=100))
def test_an_av1_stream_is_read_or_has_no_header(data: bytes) -> None:
    """A sequence has a size and planes, and three code points or none."""
    assert len(av1.code_points(data) or (0, 0, 0)) == 3
    found = av1.sequence(data)
    assert found is None or (min(found.size) > 0 and found.plane_bytes >= 1)


@given(st.binary(max_size=400) | damaged)
def test_the_chunks_of_a_webp_are_bounded(data: bytes) -> None:
    """The walk ends, wherever sizes point to."""
    assert len(list(islice(webp.chunk_names(data), webp.MAX_CHUNKS + 1))) <= webp.MAX_CHUNKS
    assert webp.pixel_bytes(data) > 0


@given(
    st.builds(
        bytes.__add__,
        st.sampled_from([jpeg2000.START, jpeg2000.FILE_MAGIC, b""]),
        st.binary(max_size=300),
    )
    | damaged
)
def test_a_codestream_is_read_or_is_a_value_error(data: bytes) -> None:
    """Damaged boxes and markers are refused before anything is computed from them."""
    with suppress(ValueError):
        found = jpeg2000.codestream(data)
        assert found.blocks > 0


@pytest.mark.filterwarnings("ignore")  # as make_thumbnails does
@settings(max_examples=300)
@given(damaged)
def test_every_estimate_is_a_number_or_an_error_of_decoders(data: bytes) -> None:
    """Whatever is damaged in a file, its format raises only what the rest of the code expects."""
    found = recognise(data)
    if found is None:
        return
    with suppress(*DECODER_ERRORS, PermanentError, Image.DecompressionBombError):
        image = found.open(data, 512)
        own = load(str(image.format))
        assert own.max_scale(data) >= 1
        assert own.decoder_bytes(image, data, image.size) >= 0
        assert own.held_bytes(image, data) >= 0


@pytest.mark.parametrize(
    ("options", "plane_bytes"),
    [
        ({"subsampling": "4:2:0"}, 1.5),
        ({"subsampling": "4:2:2"}, 2.0),
        ({"subsampling": "4:4:4"}, 3.0),
        ({"subsampling": "4:0:0"}, 1.0),
    ],
)
def test_an_av1_stream_says_its_size_and_its_planes(
    options: dict[str, str], plane_bytes: float
) -> None:
    """They are those of the picture that was encoded, however colour is subsampled."""
    data = encoded(quadrants((200, 100)), "AVIF", **options)
    [place] = isobmff.streams(data, isobmff.boxes_of(data))
    assert av1.sequence(data[place:]) == ((200, 100), plane_bytes)


def test_each_item_of_an_avif_is_found() -> None:
    """Alpha is an item of its own, and an animation has tracks."""
    picture = quadrants((200, 100)).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((200, 100)))
    data = encoded(picture, "AVIF")
    assert [av1.sequence(data[at:]) for at in isobmff.streams(data, isobmff.boxes_of(data))] == [
        ((200, 100), 1.5),
        ((200, 100), 1.0),
    ]
    moving = encoded(
        quadrants((200, 100)),
        "AVIF",
        save_all=True,
        append_images=[quadrants((200, 100)).rotate(90)],
    )
    assert {
        av1.sequence(moving[at:]) for at in isobmff.streams(moving, isobmff.boxes_of(moving))
    } == {((200, 100), 1.5)}


SCANS: dict[str, tuple[Callable[[], bytes], bool]] = {
    "baseline": (lambda: encoded(quadrants((64, 48))), False),
    "grey": (lambda: encoded(quadrants((64, 48), "L")), False),
    "CMYK": (lambda: encoded(quadrants((64, 48), "CMYK")), False),
    "progressive": (lambda: encoded(quadrants((64, 48)), progressive=True), True),
    "a scan for each component": (lambda: HOSTILE["scans.jpg"](64, 48), True),
}


@pytest.mark.parametrize("kind", SCANS)
def test_a_jpeg_whose_coefficients_are_all_kept_is_recognised(kind: str) -> None:
    """It is progressive, or its first scan has not all components."""
    make, expected = SCANS[kind]
    data = make()
    jpeg = load("jpeg")
    image = jpeg.open(data, 512)
    per_pixel = jpeg.decoder_bytes(image, data, image.size) / (64 * 48)
    assert (per_pixel > 1) is expected
