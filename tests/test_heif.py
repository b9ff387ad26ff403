"""HEIC and AVIF: crops and other transforms of the primary picture, and broken metadata."""

import io
import struct
from contextlib import suppress
from typing import Any

import pytest
from pi_heif.as_plugin import HeifImageFile  # type: ignore[import-untyped]
from pictures import box, decoded, encoded, near, quadrants, thumbnails_of
from PIL import Image, ImageDraw

from thumbnailer.errors import CorruptImage, ImageTooLarge, UnsupportedImage
from thumbnailer.imaging.decode import open_image
from thumbnailer.imaging.formats import load
from thumbnailer.imaging.formats.format import copied_bytes
from thumbnailer.imaging.formats.heif import crop_of, is_refused
from thumbnailer.imaging.formats.isobmff import (
    Property,
    boxes_of,
    items_of_type,
    primary_item,
    properties_of_item,
)

SIZE = (320, 200)


def primary_properties(data: bytes) -> list[Property]:
    """Return the properties of the primary item."""
    boxes = boxes_of(data)
    return properties_of_item(data, boxes, primary_item(data, boxes))


def picture() -> Image.Image:
    """Draw a gradient in each direction, so that each place has a colour of its own."""
    image = Image.merge(
        "RGB", [Image.linear_gradient("L").rotate(turn).resize(SIZE) for turn in (0, 90, 180)]
    )
    ImageDraw.Draw(image).rectangle((150, 90, 170, 110), fill=(250, 250, 250))
    return image


def crop(width: int, height: int, right: int = 0, down: int = 0) -> bytes:
    """Write the property of a crop: its size, and how far its centre is from the picture's."""
    return box(b"clap", struct.pack(">4IiIiI", width, 1, height, 1, 2 * right, 2, 2 * down, 2))


def heic(*transforms: bytes, wide: bool = False) -> bytes:
    """Write a HEIC of `picture` with transforms: 320 × 200 pixels before them.

    With `wide`, the numbers of items and properties have the wider of their two forms.
    """
    plain = encoded(picture(), "HEIF", quality=95)
    boxes = boxes_of(plain)
    [item] = items_of_type(plain, boxes, b"hvc1")
    assert item.bytes
    stream = plain[item.place : item.place + item.bytes]
    [config] = [each for each in primary_properties(plain) if each.name == b"hvcC"]
    size = box(b"ispe", bytes(4), struct.pack(">II", *SIZE))
    properties = [box(b"hvcC", plain[config.start : config.end]), size, *transforms]
    numbers = range(1, len(properties) + 1)
    if wide:
        associations = struct.pack(
            f">IB{len(numbers)}H", 1, len(numbers), *(0x8000 | n for n in numbers)
        )
        ipma = box(b"ipma", b"\1\0\0\1", struct.pack(">I", 1), associations)
    else:
        associations = struct.pack(
            f">HB{len(numbers)}B", 1, len(numbers), *(0x80 | n for n in numbers)
        )
        ipma = box(b"ipma", bytes(4), struct.pack(">I", 1), associations)

    def meta(place: int) -> bytes:
        located = struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, place, len(stream))
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", bytes(4), struct.pack(">H", 1)),
            box(b"iloc", bytes(4), located),
            box(b"iinf", bytes(4), struct.pack(">H", 1), box(b"infe", b"\2\0\0\0\0\1\0\0hvc1\0")),
            box(b"iprp", box(b"ipco", *properties), ipma),
        )

    start = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    place = len(start) + len(meta(0)) + 8
    return start + meta(place) + box(b"mdat", stream)


def loaded(data: bytes) -> Image.Image:
    """Decode a file as the pipeline does."""
    image = open_image(data, 512)
    size = image.size
    image.load()
    assert image.size == size  # the estimate knew it
    return image


TURNS = [
    (),
    (box(b"irot", b"\1"),),
    (box(b"irot", b"\2"),),
    (box(b"irot", b"\3"),),
    (box(b"imir", b"\0"),),
    (box(b"imir", b"\1"),),
    (box(b"irot", b"\1"), box(b"imir", b"\0")),
    (box(b"irot", b"\3"), box(b"imir", b"\1")),
]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("turns", TURNS)
def test_a_crop_that_libheif_refuses_is_made_here(
    turns: tuple[bytes, ...],
    wide: bool,  # noqa: FBT001
) -> None:
    """It is the picture without a crop, cropped, and turned as the file says after that."""
    image = loaded(heic(crop(60, 40, 50, -30), *turns, wide=wide))
    left, upper = (SIZE[0] - 60) // 2 + 50, (SIZE[1] - 40) // 2 - 30
    expected = loaded(heic()).crop((left, upper, left + 60, upper + 40))
    for turn in turns:
        name, value = turn[4:8], turn[8]
        if name == b"irot":
            expected = expected.rotate(90 * value, expand=True)
        else:
            flip = Image.Transpose.FLIP_LEFT_RIGHT if value else Image.Transpose.FLIP_TOP_BOTTOM
            expected = expected.transpose(flip)
    assert image.size == expected.size
    assert image.tobytes() == expected.tobytes()


@pytest.mark.xfail(
    raises=RuntimeError,
    strict=True,
    reason="libheif 1.23.0 in pi-heif 1.4.0: https://github.com/strukturag/libheif/issues/1856",
)
def test_pi_heif_makes_large_crops_itself() -> None:
    """When this passes, delete CroppedHeifFile and `is_refused`: libheif has fixed it."""
    HeifImageFile(io.BytesIO(heic(crop(60, 40)))).load()


@pytest.mark.parametrize("turns", TURNS)
def test_the_box_of_a_small_crop_is_that_of_libheif(turns: tuple[bytes, ...]) -> None:
    """A crop that libheif makes itself leaves what the box says of the picture without one."""
    data = heic(crop(280, 180, 10, -4), *turns)
    found = crop_of(data, primary_properties(data))
    assert found
    assert not is_refused(found)
    assert loaded(data).tobytes() == loaded(heic(*turns)).crop(found.box).tobytes()


def test_a_cropped_picture_becomes_a_thumbnail() -> None:
    """The whole way, with the time limit of the function."""
    made = thumbnails_of(heic(crop(60, 40, 0, 0)), (30,), 95, 512)
    assert made.size == (60, 40)
    image = decoded(made.thumbnails[0].data).convert("RGB")
    assert image.size == (30, 20)
    assert near(image.getpixel((15, 10)), (250, 250, 250), 20)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "numbers", [(0, 1, 40, 1, 0, 1, 0, 1), (60, 0, 40, 1, 0, 1, 0, 1), (60, 1, 40, 1, 999, 1, 0, 1)]
)
def test_a_crop_that_makes_no_sense_is_left_to_libheif(numbers: tuple[int, ...]) -> None:
    """It fails, or ignores it, and nothing here goes wrong."""
    data = heic(box(b"clap", struct.pack(">4IiIiI", *numbers)))
    with suppress(CorruptImage):
        thumbnails_of(data, (30,), 95, 512)


def test_the_memory_of_a_crop_is_that_of_the_whole_picture() -> None:
    """The decoder works on all pixels, and the file is copied."""
    plain, cropped = heic(), heic(crop(60, 40))
    heif = load("heif")
    whole, part = open_image(plain, 512), open_image(cropped, 512)
    decoding = heif.decoder_bytes(whole, plain, SIZE) + SIZE[0] * SIZE[1] * 4
    assert heif.decoder_bytes(part, cropped, (60, 40)) + 60 * 40 * 4 == decoding
    assert copied_bytes(part) == len(cropped)


@pytest.mark.parametrize(
    ("kind", "words"),
    [(b"av01", "AV1"), (b"jpeg", "JPEG"), (b"j2k1", "JPEG 2000"), (b"unci", "no compression")],
)
def test_a_heif_of_another_codec_is_refused_by_name(kind: bytes, words: str) -> None:
    """It is valid, so it is not corrupt; the message says what its codec is."""
    with pytest.raises(UnsupportedImage, match=f"Unsupported kind of HEIF.*{words}"):
        thumbnails_of(heic().replace(b"hvc1\0", kind + b"\0"), (30,), 95, 512)


def test_what_exceeds_the_limits_of_libheif_is_too_large() -> None:
    """The message says so: the file need not be damaged. Here it names 30,000 items."""
    data = heic()
    at = data.index(b"iloc") + 10
    with pytest.raises(ImageTooLarge, match=r"^HEIF: larger.*30000 items.*smaller image\.$"):
        thumbnails_of(data[:at] + (30_000).to_bytes(2) + data[at + 2 :], (30,), 95, 512)


@pytest.mark.parametrize("size", [(40_000, 48), (48, 40_000), (20_000, 20_000)])
def test_what_exceeds_the_limits_of_libavif_is_too_large(size: tuple[int, int]) -> None:
    """The message of libavif only says that it cannot parse the file."""
    data = encoded(quadrants((64, 48)), "AVIF")
    at = data.index(b"ispe") + 8
    changed = data[:at] + struct.pack(">2I", *size) + data[at + 8 :]
    with pytest.raises(ImageTooLarge, match=f"^AVIF of {size[0]} × {size[1]} pixels: the decoder"):
        thumbnails_of(changed, (30,), 95, 512)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
@pytest.mark.parametrize(
    "content", [b"", bytes(4), b"\0\0\0\6Exif\0\0MM", b"x" * 19, b"\xff\xff\xff\xff1234"]
)
def test_broken_exif_costs_no_picture(kind: str, content: bytes) -> None:
    """An Exif item that is empty or wrong is metadata: the picture is shown without it."""
    exif: Any = Image.Exif()
    exif[0x010F] = "maker"
    data = bytearray(encoded(quadrants((64, 64)), kind, exif=exif))
    [item] = items_of_type(bytes(data), boxes_of(bytes(data)), b"Exif")
    assert item.bytes
    data[item.place : item.place + len(content)] = content
    length = data.find(item.bytes.to_bytes(4), data.index(b"iloc"))
    data[length : length + 4] = len(content).to_bytes(4)
    made = thumbnails_of(bytes(data), (64,), 90, 512)
    assert decoded(made.thumbnails[0].data).size == (64, 64)
