"""GIF, frame by frame, as browsers draw it: what no frame covers, and how frames end."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from pictures import decoded, specs_of, thumbnails_of
from PIL import Image

from thumbnailer.imaging import ENCODERS
from thumbnailer.imaging.decode import open_image
from thumbnailer.imaging.estimate import Stages, peak_bytes
from thumbnailer.imaging.formats import load
from thumbnailer.imaging.formats.format import UNCOVERED

RED, GREEN, BLUE, GREY = 1, 2, 3, 4
PALETTE = ((255, 0, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90))
"""The first entry is the background colour of the header, which is never to be seen."""

CLEAR = None
KEEP, CLEARED, UNDONE = 1, 2, 3


class Frame(NamedTuple):
    """A frame of one colour, by its number in PALETTE, at a box (left, upper, right, lower)."""

    colour: int
    box: tuple[int, int, int, int] = (0, 0, 20, 20)
    disposal: int = 0
    transparent: int | None = None
    grey: bool = False


def lzw(numbers: Sequence[int]) -> bytes:
    """Encode colour numbers without compressing them: codes of 9 bits, cleared often."""
    codes: list[int] = []
    for at in range(0, len(numbers), 250):
        codes += [256, *numbers[at : at + 250]]
    bits = sum(code << 9 * at for at, code in enumerate([*codes, 257]))
    data = bits.to_bytes(-(-9 * (len(codes) + 1) // 8), "little")
    blocks = [data[at : at + 255] for at in range(0, len(data), 255)]
    return b"\x08" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def gif(*frames: Frame, size: tuple[int, int] = (20, 20)) -> bytes:
    """Write a GIF. A frame that says nothing of itself has no control block at all."""
    table = b"".join(map(bytes, PALETTE)).ljust(24, b"\0")
    data = b"GIF89a" + struct.pack("<HHBBB", *size, 0x82, 0, 0) + table
    for frame in frames:
        left, upper, right, lower = frame.box
        if frame.disposal or frame.transparent is not None or len(frames) > 1:
            flags = frame.disposal << 2 | (frame.transparent is not None)
            data += b"!\xf9\x04" + struct.pack("<BHBB", flags, 10, frame.transparent or 0, 0)
        data += struct.pack("<sHHHH", b",", left, upper, right - left, lower - upper)
        if frame.grey:  # a palette of its own in which each number is its shade of grey
            data += b"\x87" + b"".join(bytes([shade] * 3) for shade in range(256))
        else:
            data += b"\0"
        data += lzw([frame.colour] * ((right - left) * (lower - upper)))
    return data + b";"


def shown(data: bytes, *points: tuple[int, int]) -> list[list[tuple[int, ...] | None]]:
    """Return the colours at some points of each frame; CLEAR where it is transparent."""
    image = open_image(data, 512)
    found: list[list[tuple[int, ...] | None]] = []
    while True:
        try:
            image.seek(len(found))
        except EOFError:
            return found
        image.load()
        pixels = [Image.Image.convert(image, "RGBA").getpixel(point) for point in points]
        found.append([each[:3] if each[3] else CLEAR for each in pixels])  # type: ignore[index]


def rgb(*numbers: int | None) -> list[tuple[int, ...] | None]:
    """Return the colours of numbers in PALETTE."""
    return [CLEAR if number is None else PALETTE[number] for number in numbers]


IN, OUT = (15, 15), (2, 2)
SMALL = (10, 10, 20, 20)


@pytest.mark.parametrize("transparent", [None, 0, BLUE])
def test_what_the_frame_does_not_cover_is_transparent(transparent: int | None) -> None:
    """The background colour and the first entry of the palette are not painted."""
    data = gif(Frame(RED, SMALL, transparent=transparent))
    assert shown(data, IN, OUT) == [rgb(RED, None)]


def test_a_grey_frame_that_does_not_cover_the_screen_leaves_it_transparent() -> None:
    """A palette of greys in order counts as no palette in Pillow, and is the same here."""
    assert shown(gif(Frame(77, SMALL, grey=True)), IN, OUT) == [[(77, 77, 77), CLEAR]]


def test_a_plain_gif_is_decoded_as_before() -> None:
    """A frame that covers the screen keeps its palette: a byte a pixel."""
    image = open_image(gif(Frame(RED)), 512)
    image.load()
    assert image.mode == "P"
    assert open_image(gif(Frame(7, grey=True)), 512).mode == "L"


def test_plain_frames_have_no_alpha() -> None:
    """Frames that only add to a covered screen stay RGB."""
    image = open_image(gif(Frame(RED), Frame(GREEN, SMALL), Frame(BLUE, SMALL)), 512)
    image.seek(2)
    image.load()
    assert image.mode == "RGB"


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ((Frame(RED), Frame(GREEN, SMALL)), [(RED, RED), (GREEN, RED)]),
        (
            (Frame(RED), Frame(GREEN, SMALL, CLEARED), Frame(BLUE, (0, 0, 5, 5))),
            [(RED, RED), (GREEN, RED), (None, BLUE)],
        ),
        (
            (Frame(RED), Frame(GREEN, SMALL, UNDONE), Frame(BLUE, (0, 0, 5, 5))),
            [(RED, RED), (GREEN, RED), (RED, BLUE)],
        ),
        (
            (Frame(RED, disposal=CLEARED), Frame(GREEN, SMALL), Frame(BLUE, (0, 0, 5, 5))),
            [(RED, RED), (GREEN, None), (GREEN, BLUE)],  # the second one does not say CLEARED
        ),
        (
            (Frame(RED, disposal=UNDONE), Frame(GREEN, SMALL)),
            [(RED, RED), (GREEN, None)],  # nothing was there before the first frame
        ),
        (
            (Frame(RED), Frame(GREEN, SMALL, 4), Frame(BLUE, (0, 0, 5, 5))),
            [(RED, RED), (GREEN, RED), (RED, BLUE)],  # some encoders write 4 for 3
        ),
        (
            (Frame(RED, SMALL), Frame(GREEN, (0, 0, 5, 5))),
            [(RED, None), (RED, GREEN)],
        ),
        (
            (Frame(RED), Frame(GREEN, transparent=GREEN), Frame(BLUE, SMALL)),
            [(RED, RED), (RED, RED), (BLUE, RED)],
        ),
        (
            (Frame(RED, transparent=RED), Frame(GREEN, SMALL, UNDONE), Frame(BLUE, (0, 0, 5, 5))),
            [(None, None), (GREEN, None), (None, BLUE)],
        ),
        (
            (
                Frame(RED),
                Frame(GREEN, SMALL, UNDONE),
                Frame(BLUE, disposal=CLEARED),
                Frame(RED, SMALL),
            ),
            [(RED, RED), (GREEN, RED), (BLUE, BLUE), (RED, None)],
        ),
    ],
)
def test_frames_are_disposed_of_as_in_browsers(
    frames: tuple[Frame, ...], expected: list[tuple[int | None, int | None]]
) -> None:
    """Each frame's disposal is its own, and a cleared part is transparent."""
    assert shown(gif(*frames), IN, OUT) == [rgb(*each) for each in expected]


@pytest.mark.parametrize("disposal", [KEEP, CLEARED, UNDONE])
def test_frames_with_grey_palettes_are_drawn(disposal: int) -> None:
    """Grey and coloured frames follow each other in any order."""
    frames = (Frame(9, grey=True), Frame(99, SMALL, disposal, grey=True), Frame(RED, (0, 0, 5, 5)))
    first = (9, 9, 9)
    left = {KEEP: (99, 99, 99), CLEARED: CLEAR, UNDONE: first}[disposal]
    assert shown(gif(*frames), IN, OUT) == [
        [first, first],
        [(99, 99, 99), first],
        [left, PALETTE[RED]],
    ]


@pytest.mark.parametrize("animated", [True, False])
def test_the_thumbnail_of_an_uncovered_animation_is_transparent(
    animated: bool,  # noqa: FBT001
) -> None:
    """Also in an animated thumbnail, and in its header."""
    data = gif(Frame(RED, SMALL), Frame(GREEN, SMALL), Frame(BLUE, SMALL))
    [made] = thumbnails_of(data, (20,), 90, 512, animated=animated).thumbnails
    image = decoded(made.data)
    assert getattr(image, "n_frames", 1) == (3 if animated else 1)
    assert image.mode == "RGBA"
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        assert image.convert("RGBA").getpixel(OUT)[3] == 0  # type: ignore[index]
        assert image.convert("RGBA").getpixel(IN)[3] == 255  # type: ignore[index]


def test_an_uncovered_animation_of_few_colours_is_exact() -> None:
    """Thin lines keep their colours, which subsampled colour would smear."""
    lines = [Frame((RED, BLUE)[at % 2], (at, 4, at + 1, 20), KEEP) for at in range(2, 18)]
    image = decoded(thumbnails_of(gif(*lines), (20,), 10, 512).thumbnails[0].data)
    image.seek(len(lines) - 1)
    found = image.convert("RGBA")
    assert [found.getpixel((at, 10)) for at in (1, 2, 3)] == [
        (0, 0, 0, 0),
        (*PALETTE[RED], 255),
        (*PALETTE[BLUE], 255),
    ]


@pytest.mark.parametrize(("uncovered", "colours"), [(True, 257), (False, 2)])
def test_other_animations_are_lossy(
    uncovered: bool,  # noqa: FBT001
    colours: int,
) -> None:
    """Many colours would take more bytes, and a covered screen keeps the bytes it always had."""
    frames = [Image.new("RGBA", (20, 20)) for _ in range(2)]
    for number in range(colours - 1):
        frames[1].putpixel((number % 20, number // 20), (number, 0, 0, 255 - number // 200))
    frames = [frame.convert("RGBa") for frame in frames]
    if uncovered:
        frames[0].info[UNCOVERED] = True
    assert len(frames[1].getcolors(400) or []) == colours
    [spec] = specs_of((20,))
    assert b"VP8 " in ENCODERS["webp"].encode(frames, spec, [100.0, 100.0], 0)


def test_the_memory_of_an_uncovered_screen_is_counted() -> None:
    """A screen that its frame does not cover becomes RGBA, which needs more than a palette."""
    stages = Stages((4000, 4000), (400, 400), (128, 128))

    def need(box: tuple[int, int, int, int]) -> float:
        data = gif(Frame(RED, box), size=(4000, 4000))
        return peak_bytes(load("gif"), open_image(data, 512), data, stages, [])

    small = need(SMALL)
    assert small > 9 * 4000 * 4000
