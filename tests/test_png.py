"""PNG: data that ISA-L inflates is decoded to the same pixels as with Pillow alone."""

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
TRUNCATED, FLIPPED = "truncated", "flipped"


def rgb_png(stream: bytes, size: tuple[int, int], cuts: Sequence[int] = ()) -> bytes:
    """Build an RGB file whose zlib stream is split at `cuts` into chunks, followed by a text."""
    ends = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parts = [(b"IDAT", stream[start:end]) for start, end in pairwise(ends)]
    head = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    return png((b"IHDR", head), *parts, (b"tEXt", b"Title\0After the pixels"))


def outcome(kind: type[PngImagePlugin.PngImageFile], data: bytes) -> object:
    """Decode with `kind`: mode, pixels and texts of all frames, or None if the file is refused."""
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
    """Check that PngFile has the same outcome as Pillow's own class, be it pixels or an error."""
    return outcome(PngFile, data) == outcome(PngImagePlugin.PngImageFile, data)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (3, 700), (640, 481)])
def test_every_pixel_mode_is_decoded_as_by_pillow(mode: str, size: tuple[int, int]) -> None:
    """Pixels are the same for any bit depth and number of channels, in one block or in many."""
    image = Image.radial_gradient("L").resize(size)
    image = quadrants(size, mode) if mode == "P" else image.convert(mode)
    data = encoded(image, "PNG")
    assert outcome(PngFile, data) is not None
    assert decodes_as_pillow_does(data)


def test_every_frame_of_an_animation_is_decoded_as_by_pillow() -> None:
    """Each frame after the first is a stream of its own, in chunks of another name (fdAT)."""
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
def test_a_stream_in_any_chunks_is_decoded_as_by_pillow(  # noqa: PLR0913
    *, pixels: bytes, width: int, height: int, level: int, cuts: list[int], filtered: int
) -> None:
    """Chunks may be empty and end anywhere, even inside the stream's header (specification, 10.1).

    The text after the pixels is found too, so no more of the file is read than by Pillow.
    """
    row = bytes([filtered]) + (pixels * (width // 10 + 1))[: 3 * width]
    data = rgb_png(zlib.compress(row * height, level), (width, height), cuts)
    assert (outcome(PngFile, data) is None) == (filtered > 4)
    assert decodes_as_pillow_does(data)


@example(seed=bytes(90), damage=FLIPPED, at=0.39)
@example(seed=b"\1" * 90, damage=TRUNCATED, at=144.5 / 149)
@given(
    seed=st.binary(min_size=90, max_size=90),
    damage=st.sampled_from([TRUNCATED, FLIPPED]),
    at=st.floats(0, 1, exclude_max=True),
)
def test_a_damaged_stream_is_refused_or_decoded_correctly(
    seed: bytes, damage: str, at: float
) -> None:
    """A truncated stream, or one with a flipped bit, never gives half a picture or another one.

    Whether it is refused may differ from Pillow in rare cases: ISA-L accepts an incomplete set of
    codes that zlib refuses, and has already read more of the last bytes. Then the pixels are those
    of the undamaged file.
    """
    size = (100, 60)
    stream = undamaged = zlib.compress((b"\0" + seed * 4)[:301] * size[1])
    where = int(at * len(stream))
    if damage == TRUNCATED:
        stream = stream[:where]
    else:
        stream = stream[:where] + bytes([stream[where] ^ 0x10]) + stream[where + 1 :]
    found = outcome(PngFile, rgb_png(stream, size))
    by_pillow = outcome(PngImagePlugin.PngImageFile, rgb_png(stream, size))
    whole = outcome(PngImagePlugin.PngImageFile, rgb_png(undamaged, size))
    assert found is None or found == (whole if by_pillow is None else by_pillow)


@pytest.mark.parametrize(
    "header",
    [b"\x78\xbb", b"\x77\x85", b"\x88\x1c", b"\x78\x02", b"\x78", b""],
    ids=lambda each: each.hex(),
)
def test_a_stream_with_another_header_has_the_same_outcome_as_with_pillow(header: bytes) -> None:
    """Preset dictionary, other method, too large a window, wrong check bits, incomplete header."""
    stream = header + zlib.compress(bytes(301 * 60))[2:] if len(header) > 1 else header
    assert decodes_as_pillow_does(rgb_png(stream, (100, 60)))


def test_a_stream_is_inflated_in_blocks_of_bounded_size() -> None:
    """A bomb that inflates to a thousand times its size needs no more memory than another file."""
    with PngFile(
        io.BytesIO(rgb_png(zlib.compress(bytes(301 * 60 * 1000)), (100, 60_000)))
    ) as image:
        image.load_prepare()
        parts = [image.load_read(65536) for _ in range(200)]
    assert max(len(part) for part in parts) <= 65_540
    assert sum(len(part) for part in parts) > 200 * 60_000


def test_an_image_is_freed_with_its_last_reference() -> None:
    """Its pixels may fill most of the memory, so they must not wait for the garbage collector."""
    image = PngFile(io.BytesIO(encoded(quadrants((300, 200)), "PNG")))
    image.load()
    reference = weakref.ref(image)
    gc.disable()
    try:
        del image
        assert reference() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real images is not here")
def test_the_corpus_is_decoded_as_by_pillow() -> None:
    """Other programs' files: interlaced, animated, of all bit depths, and damaged."""
    files = {path: path.read_bytes() for path in CORPUS.rglob("*.png")}
    small = {path: data for path, data in files.items() if _is_small(data)}
    assert small
    assert [path.name for path, data in small.items() if not decodes_as_pillow_does(data)] == []


def _is_small(data: bytes) -> bool:
    """Check for a PNG of at most one megapixel."""
    if not data.startswith(PNG_MAGIC) or len(data) < len(PNG_MAGIC) + 16:
        return False
    width, height = struct.unpack_from(">II", data, 16)
    return int(width) * int(height) <= 10**6
