"""PNG: inflated by another library, and decoded as Pillow alone decodes it."""

import gc
import io
import struct
import weakref
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pictures import encoded, png, quadrants
from PIL import Image, PngImagePlugin

from thumbnailer.imaging.formats import DECODER_ERRORS
from thumbnailer.imaging.formats.png import MAGIC as PNG_MAGIC
from thumbnailer.imaging.formats.png import PngFile

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
CUT, FLIPPED = "cut", "flipped"


def rgb_png(stream: bytes, size: tuple[int, int], cuts: Sequence[int] = ()) -> bytes:
    """An RGB file whose zlib stream is cut into chunks at `cuts`, with text behind it."""
    ends = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parts = [(b"IDAT", stream[start:end]) for start, end in pairwise(ends)]
    head = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    return png((b"IHDR", head), *parts, (b"tEXt", b"Title\0Behind"))


def outcome(kind: type[PngImagePlugin.PngImageFile], data: bytes) -> object:
    """Mode, pixels and texts of all frames; or None where the file is refused."""
    try:
        with kind(io.BytesIO(data)) as image:
            frames = []
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                frames.append((image.mode, image.tobytes(), dict(image.text)))
            return frames
    except DECODER_ERRORS:
        return None


def decodes_as_pillow_does(data: bytes) -> bool:
    """Whether the two agree, and whether the file is read or refused."""
    return outcome(PngFile, data) == outcome(PngImagePlugin.PngImageFile, data)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (3, 700), (640, 481)])
def test_every_mode_has_the_same_pixels(mode: str, size: tuple[int, int]) -> None:
    """Of any depth and number of channels, of one row's bytes or of many blocks."""
    image = Image.radial_gradient("L").resize(size)
    image = quadrants(size, mode) if mode == "P" else image.convert(mode)
    data = encoded(image, "PNG")
    assert outcome(PngFile, data) is not None
    assert decodes_as_pillow_does(data)


def test_every_frame_of_an_animation_has_the_same_pixels() -> None:
    """Each frame has a stream of its own, in chunks of another name (fdAT)."""
    frames = [Image.radial_gradient("L").rotate(angle).convert("RGBA") for angle in (0, 40, 80)]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    found = outcome(PngFile, data)
    assert isinstance(found, list)
    assert len(found) == len(frames)
    assert decodes_as_pillow_does(data)


@given(
    pixels=st.binary(min_size=30, max_size=30) | st.just(bytes(30)),
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    level=st.integers(0, 9),
    cuts=st.lists(st.integers(0, 3000), max_size=6),
    filtered=st.integers(0, 5),
)
def test_however_the_stream_is_cut_the_pixels_are_the_same(  # noqa: PLR0913
    *, pixels: bytes, width: int, height: int, level: int, cuts: list[int], filtered: int
) -> None:
    """Chunks may be empty and end anywhere, within the stream's header too (specification, 10.1).

    What stands behind the pixels is still found: no more of the file is read than Pillow reads.
    """
    row = bytes([filtered]) + (pixels * (width // 10 + 1))[: 3 * width]
    data = rgb_png(zlib.compress(row * height, level), (width, height), cuts)
    assert (outcome(PngFile, data) is None) == (filtered > 4)
    assert decodes_as_pillow_does(data)


@example(seed=bytes(90), damage=FLIPPED, at=0.39)
@example(seed=b"\1" * 90, damage=CUT, at=144.5 / 149)
@given(
    seed=st.binary(min_size=90, max_size=90),
    damage=st.sampled_from([CUT, FLIPPED]),
    at=st.floats(0, 1, exclude_max=True),
)
def test_a_damaged_stream_is_refused_or_read_as_pillow_does(
    seed: bytes, damage: str, at: float
) -> None:
    """Cut short or with a bit turned over: never half a picture, never another one.

    At the edges the two may differ in whether they read it at all: ISA-L takes an incomplete set of
    codes that zlib refuses, and has more of the last bytes in hand. What is read is right.
    """
    size = (100, 60)
    stream = intact = zlib.compress((b"\0" + seed * 4)[:301] * size[1])
    where = int(at * len(stream))
    if damage == CUT:
        stream = stream[:where]
    else:
        stream = stream[:where] + bytes([stream[where] ^ 0x10]) + stream[where + 1 :]
    found = outcome(PngFile, rgb_png(stream, size))
    theirs = outcome(PngImagePlugin.PngImageFile, rgb_png(stream, size))
    whole = outcome(PngImagePlugin.PngImageFile, rgb_png(intact, size))
    assert found is None or found == (whole if theirs is None else theirs)


@pytest.mark.parametrize(
    "header",
    [b"\x78\xbb", b"\x77\x85", b"\x88\x1c", b"\x78\x02", b"\x78", b""],
    ids=lambda each: each.hex(),
)
def test_a_stream_that_is_no_plain_zlib_is_pillows_to_judge(header: bytes) -> None:
    """A preset dictionary, another method, too large a window, a wrong check, and too little."""
    stream = header + zlib.compress(bytes(301 * 60))[2:] if len(header) > 1 else header
    assert decodes_as_pillow_does(rgb_png(stream, (100, 60)))


def test_what_is_inflated_at_a_time_is_bounded() -> None:
    """A stream of 1,000 to 1 is given on in blocks, not whole: a bomb takes no more memory."""
    with PngFile(
        io.BytesIO(rgb_png(zlib.compress(bytes(301 * 60 * 1000)), (100, 60_000)))
    ) as image:
        image.load_prepare()
        parts = [image.load_read(65536) for _ in range(200)]
    assert max(len(part) for part in parts) <= 65_540
    assert sum(len(part) for part in parts) > 200 * 60_000


def test_an_image_goes_with_its_last_reference() -> None:
    """Its pixels, most of a function's memory, do not wait for the garbage collector."""
    image = PngFile(io.BytesIO(encoded(quadrants((300, 200)), "PNG")))
    image.load()
    alive = weakref.ref(image)
    gc.disable()
    try:
        del image
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here")
def test_the_corpus_decodes_as_pillow_decodes_it() -> None:
    """Interlaced, animated, of all depths, and broken: files of other programs."""
    files = {path: path.read_bytes() for path in CORPUS.rglob("*.png")}
    small = {path: data for path, data in files.items() if _is_small(data)}
    assert small
    assert [path.name for path, data in small.items() if not decodes_as_pillow_does(data)] == []


def _is_small(data: bytes) -> bool:
    """A PNG of at most a megapixel."""
    if not data.startswith(PNG_MAGIC) or len(data) < len(PNG_MAGIC) + 16:
        return False
    width, height = struct.unpack_from(">II", data, 16)
    return int(width) * int(height) <= 10**6
