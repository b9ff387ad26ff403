"""The careful resize: exact for any box, with and without the library, and never silently wrong."""

import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import PIL
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from thumbnailer.imaging import ThumbnailSpec, formats, lanczos, make_thumbnails, parse_sizes
from thumbnailer.imaging.colour import to_srgb
from thumbnailer.imaging.decode import open_image
from thumbnailer.imaging.resize import Box, shrink

LAMBDA = Path(__file__).parent.parent / "lambda"

LOW, HIGH = 64, 192
"""Samples of test pictures. Lanczos stays within 0 to 255 then, and nothing is clipped."""

BANDS: Final = {"L": 1, "RGB": 3, "RGBa": 4, "CMYK": 4}

LEVELS = 1.25
"""Largest error: half a level for each pass, and what the second makes of the first one's."""

with_the_library = pytest.mark.skipif(
    not lanczos.is_fast("RGB"), reason="cykooz-resizer has no wheel for this machine"
)


@pytest.fixture(params=["library", "Pillow"])
def _engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resize with the library where there is one, and with Pillow."""
    if request.param == "Pillow":
        monkeypatch.setattr(lanczos, "_library", None)
    elif not lanczos.is_fast("RGB"):
        pytest.skip("cykooz-resizer has no wheel for this machine")


def noise(mode: str, size: tuple[int, int], seed: int = 1) -> Image.Image:
    """Return a picture of noise, on which every error shows."""
    generator = np.random.default_rng(seed)
    if mode == "F":
        return Image.fromarray(generator.uniform(LOW, HIGH, size[::-1]).astype(np.float32))
    samples = generator.integers(LOW, HIGH, size[0] * size[1] * BANDS[mode], dtype=np.uint8)
    return Image.frombytes(mode, size, samples.tobytes())


def weights(length: int, start: float, end: float, count: int) -> NDArray[np.float64]:
    """Lanczos with three lobes in floating point: a row of weights for each resized pixel."""
    scale = (end - start) / count
    centre = start + (np.arange(count)[:, None] + 0.5) * scale
    x = (np.arange(length)[None, :] + 0.5 - centre) / max(scale, 1.0)
    found = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def by_formula(picture: Image.Image, size: tuple[int, int], box: Box) -> NDArray[np.float64]:
    """Return the samples of `box`, resized to `size` by the formula."""
    across = weights(picture.width, box[0], box[2], size[0])
    down = weights(picture.height, box[1], box[3], size[1])
    samples = np.asarray(picture, np.float64).reshape(picture.height, picture.width, -1)
    return np.asarray(np.einsum("yh,xw,hwc->yxc", down, across, samples, optimize=True))


def error(picture: Image.Image, expected: NDArray[np.float64]) -> float:
    """Return the largest difference in levels."""
    return float(np.abs(np.asarray(picture, np.float64).reshape(expected.shape) - expected).max())


@pytest.mark.usefixtures("_engine")
@pytest.mark.parametrize("mode", BANDS)
@pytest.mark.parametrize(
    "box", [(0, 0, 211, 140), (0, 0, 210.25, 139.875), (0, 0, 210.5, 140), (17.3, 4.9, 180.1, 99.5)]
)
def test_a_resized_picture_is_that_of_the_formula(mode: str, box: Box) -> None:
    """No box is rounded: a shift by a fiftieth of a pixel would be seen."""
    picture, size = noise(mode, (211, 140)), (101, 61)
    made = lanczos.lanczos(picture, size, box)
    assert (made.mode, made.size) == (mode, size)
    assert error(made, by_formula(picture, size, box)) <= LEVELS
    moved = tuple(edge - 0.04 if box != (0, 0, 211, 140) else edge + 0.04 for edge in box)
    assert error(made, by_formula(picture, size, moved)) > LEVELS  # type: ignore[arg-type]


@pytest.mark.usefixtures("_engine")
@pytest.mark.parametrize(
    ("size", "width"), [((1613, 1021), 100), ((1613, 1021), 300), ((803, 605), 250)]
)
def test_a_jpeg_that_is_decoded_at_a_fraction_of_its_size_does_not_shift(
    size: tuple[int, int], width: int
) -> None:
    """The last decoded column and row stand for less than the others: the box has a fraction.

    So thumbnails are the formula's of that box, for 1/8, 1/4 and 1/2 of sides that it does not
    divide.
    """
    buffer = io.BytesIO()
    noise("RGB", (size[0] // 4, size[1] // 4)).resize(size).save(buffer, "JPEG", quality=95)
    image = open_image(buffer.getvalue(), 512)
    wanted = (width, round(width * size[1] / size[0]))
    pixels, box = formats.load("JPEG").decode(image, wanted, 8)
    scale = round(size[0] / pixels.width)
    assert box == (0, 0, size[0] / scale, size[1] / scale)
    assert pixels.width > box[2]
    assert (
        error(shrink(pixels, wanted, box), by_formula(pixels, wanted, box).clip(0, 255)) <= LEVELS
    )


@st.composite
def resizes(draw: st.DrawFn) -> tuple[Image.Image, tuple[int, int], Box]:
    """Draw a picture of any mode and shape, a size, and a box (0.01 pixels or more)."""
    sides = st.integers(1, 12) | st.integers(1, 200) | st.just(1500)
    width, height = draw(st.tuples(sides, sides).filter(lambda each: each[0] * each[1] < 90_000))
    edges = []
    for side in (width, height):
        start = draw(st.just(0.0) | st.floats(0, side - 0.01))
        edges.append((start, draw(st.just(float(side)) | st.floats(start + 0.01, side))))
    size = draw(st.tuples(st.integers(1, max(2, width)), st.integers(1, max(2, height))))
    picture = noise(draw(st.sampled_from(lanczos.MODES)), (width, height), draw(st.integers(0, 9)))
    return picture, size, (edges[0][0], edges[1][0], edges[0][1], edges[1][1])


@with_the_library
@given(resizes())
def test_the_library_resizes_as_pillow_does(case: tuple[Image.Image, tuple[int, int], Box]) -> None:
    """Any mode, shape, size and box: both round twice, so they differ by two levels at most."""
    picture, size, box = case
    made = lanczos.lanczos(picture, size, box)
    expected = picture.resize(size, lanczos.LANCZOS, box=box)
    assert (made.mode, made.size) == (expected.mode, expected.size)
    assert error(made, np.asarray(expected, np.float64)) <= 2
    assert lanczos.take_faults() == ()


@with_the_library
def test_premultiplied_samples_are_resized_as_they_are() -> None:
    """Alpha weights nothing a second time: each band is what it is alone."""
    picture, size = noise("RGBa", (90, 70)), (31, 23)
    made = lanczos.lanczos(picture, size)
    for number, band in enumerate(np.moveaxis(np.asarray(picture), 2, 0)):
        alone = lanczos.lanczos(Image.fromarray(band), size)
        assert np.abs(np.asarray(made, int)[..., number] - np.asarray(alone, int)).max() <= 1


@pytest.mark.parametrize("mode", ["I", "I;16", "La", "LAB", "YCbCr"])
def test_modes_that_the_library_does_not_know_are_resized_by_pillow(mode: str) -> None:
    """So are those for which it has no SIMD."""
    picture = Image.new(mode, (50, 40))
    picture.paste(
        Image.new(mode, (20, 20), 9 if mode.startswith("I") else (9, 90, 90)[: len(mode)])
    )
    expected = picture.resize((20, 15), lanczos.LANCZOS)
    assert lanczos.lanczos(picture, (20, 15)).tobytes() == expected.tobytes()


def test_what_is_known_about_a_picture_stays() -> None:
    """The alpha of CMYK is there, and what is transparent."""
    picture = noise("CMYK", (50, 40))
    picture.info["alpha"] = mask = Image.new("L", (20, 15))
    made = lanczos.lanczos(picture, (20, 15))
    assert made.info == {"alpha": mask}
    assert to_srgb(made, {})[0].mode == "RGBa"


class PanicException(BaseException):
    """As PyO3 raises it."""


@pytest.mark.parametrize("failure", [RuntimeError("no such box"), PanicException("overflow")])
def test_where_the_library_fails_pillow_resizes_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """An error or a panic costs neither the picture nor the process, and is a note of its image."""

    class Wrapper:
        def __init__(self, _picture: Image.Image) -> None:
            raise failure

    data = io.BytesIO()
    noise("RGB", (300, 200)).save(data, "PNG")
    monkeypatch.setattr(lanczos, "_library", None)
    specs = [ThumbnailSpec(size, 85, animated=False) for size in parse_sizes("299")]
    expected = make_thumbnails(data.getvalue(), specs, 512)
    monkeypatch.setattr(lanczos, "_library", failing_library(Wrapper))
    made = make_thumbnails(data.getvalue(), specs, 512)
    assert made.thumbnails == expected.thumbnails
    assert made.notes == (f"resized by Pillow, because cykooz-resizer failed: {failure}",)


def failing_library(wrapper: Any) -> Any:
    """Return something like the library, with this as its PilImageWrapper."""
    options = SimpleNamespace()
    for name in ("set_resize_alg", "set_crop_box", "set_use_alpha"):
        setattr(options, name, lambda *_: options)
    return SimpleNamespace(RustResizeOptions=lambda: options, PilImageWrapper=wrapper)


def test_what_is_no_fault_of_the_library_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, the alarm of the time limit, and a lack of memory are not taken for failures."""
    for failure in (KeyboardInterrupt, TimeoutError, MemoryError):

        def wrapper(_picture: Image.Image, failure: type[BaseException] = failure) -> None:
            raise failure

        monkeypatch.setattr(lanczos, "_library", failing_library(wrapper))
        with pytest.raises(failure):
            lanczos.lanczos(noise("RGB", (30, 20)), (10, 10))
    assert lanczos.take_faults() == ()


def test_the_library_reads_no_pictures_of_a_pillow_that_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It reads Pillow's memory, whose layout another major version may change. Pillow resizes then.

    So it does where the library is not installed.
    """
    assert lanczos.load("no_such_package") is None
    monkeypatch.setattr(PIL, "__version__", "14.0.0")
    assert lanczos.load() is None


def test_a_box_that_is_not_within_the_picture_is_refused() -> None:
    """The library would read beyond it."""
    for box in [(0, 0, 31, 20), (-1, 0, 30, 20), (0, 0, 30, 21)]:
        with pytest.raises(ValueError, match=r"[Bb]ox"):
            lanczos.lanczos(noise("RGB", (30, 20)), (10, 10), box)


PROGRAM = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from PIL import Image
from thumbnailer.imaging import lanczos
picture = Image.new("RGB", (200, 60_000))
lanczos.lanczos(picture, (100, 1000))
print(len(list(Path("/proc/self/task").iterdir())))
data = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (data + 2**22, data + 2**22))
try:
    lanczos.lanczos(picture, (190, 1))
except MemoryError:
    print("MemoryError")
"""


@with_the_library
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_lack_of_memory_ends_the_image_and_not_the_process() -> None:
    """Rust would end the process. No thread is started, for a large picture neither."""
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM, str(LAMBDA)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["1", "MemoryError"]
