"""The memory that is foreseen, held against a real limit of memory."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench.limits import LimitUnavailable, limited
from thumbnailer.imaging.formats.isobmff import plane_bytes
from tools.corpus import CASES

SIDE = 10_000
CACHE = Path(__file__).parents[1] / ".local" / "bench"

PROGRAM = """
import json, os, sys
from pathlib import Path
os.environ |= {"OUTPUT_BUCKET": "thumbs", "DLQ_URL": "https://sqs.example/1/q"}
import handler  # as in the function
from thumbnailer.errors import ImageTooLarge, PermanentError
from thumbnailer.imaging import make_thumbnails
from thumbnailer.settings import Settings, parse_sizes
specs = Settings("", "", sizes=parse_sizes(sys.argv[2])).specs
for path in sys.stdin.read().splitlines():
    print(json.dumps([path, "began", 0]), flush=True)
    try:
        make_thumbnails(Path(path).read_bytes(), specs, int(sys.argv[1]))
        outcome = "thumbnail"
    except PermanentError as error:
        outcome = type(error).__name__
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps([path, outcome, peak]), flush=True)
"""


def attempt(
    files: list[Path], memory_mb: int, prefix: tuple[str, ...] = (), widths: str = "128,512"
) -> dict[Path, Any]:
    """Outcome and peak (MB) of each file, all in one process; a killed one's file is `killed`."""
    ran = subprocess.run(  # noqa: S603
        [*prefix, sys.executable, "-c", PROGRAM, str(memory_mb), widths],
        input="\n".join(map(str, files)),
        capture_output=True,
        text=True,
        check=False,
    )
    told = {Path(path): (got, peak) for path, got, peak in map(json.loads, ran.stdout.splitlines())}
    assert told, ran.stderr
    return {path: ("killed" if got == "began" else got, peak) for path, (got, peak) in told.items()}


@pytest.fixture(params=[512, 1024])
def limit(request: pytest.FixtureRequest) -> Iterator[tuple[int, tuple[str, ...]]]:
    """A limit in MB, and the beginning of a command line that is held to it."""
    try:
        with limited(memory_mb=request.param) as prefix:
            yield request.param, prefix
    except LimitUnavailable as error:
        pytest.skip(f"no limit of memory here: {error}")


def drawn(mode: str) -> Image.Image:
    """100 megapixels that are neither plain nor slow to draw."""
    tile = Image.effect_noise((1000, 1000), 60)
    bands = [tile.rotate(90 * turn) for turn in range(len(Image.new(mode, (1, 1)).getbands()))]
    image = Image.merge(mode, bands) if len(bands) > 1 else tile.convert(mode)
    large = Image.new(mode, (SIDE, SIDE))
    if mode == "P":
        large.putpalette(image.getpalette() or [])
    for x in range(0, SIDE, 1000):
        for y in range(0, SIDE, 1000):
            large.paste(image, (x, y))
    return large


HUGE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "baseline.jpg": ("JPEG", "RGB", {"quality": 50}),
    "progressive.jpg": ("JPEG", "RGB", {"quality": 50, "progressive": True}),
    "rgb.png": ("PNG", "RGB", {"compress_level": 1}),
    "rgba.png": ("PNG", "RGBA", {"compress_level": 1}),
    "palette.png": ("PNG", "P", {"compress_level": 1, "transparency": 7}),
    "lossy.webp": ("WEBP", "RGB", {"method": 0, "quality": 20}),
    "rgb.avif": ("AVIF", "RGB", {"speed": 10, "quality": 20}),
}


@pytest.fixture(scope="module")
def huge() -> list[Path]:
    """Files of 100 megapixels, made once and kept."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for name, (kind, mode, options) in HUGE.items():
        path = CACHE / f"huge-{name}"
        if not path.exists():
            drawn(mode).save(path.with_suffix(".part"), kind, **options)
            path.with_suffix(".part").rename(path)
    return [CACHE / f"huge-{name}" for name in HUGE]


def test_100_megapixels_never_kill_the_function(
    limit: tuple[int, tuple[str, ...]], huge: list[Path]
) -> None:
    """Each is a thumbnail or refused; what was refused would have left less than a quarter free."""
    memory_mb, prefix = limit
    refused = []
    for file in huge:
        [(got, _)] = attempt([file], memory_mb, prefix).values()
        assert got in ("thumbnail", "ImageTooLarge"), file
        if got == "ImageTooLarge":
            refused.append(file)
    for file in refused:
        [(got, peak)] = attempt([file], 10_240).values()
        assert got == "thumbnail"
        assert peak > 0.75 * memory_mb, file
    assert len(refused) < len(huge)


def test_large_thumbnails_never_kill_the_function(
    limit: tuple[int, tuple[str, ...]], tmp_path: Path
) -> None:
    """Widths beyond the usual ones cost more than the decoding: they are foreseen too."""
    memory_mb, prefix = limit
    files = []
    for mode in ("RGB", "RGBA"):
        files.append(tmp_path / f"{mode}.png")
        drawn(mode).crop((0, 0, 6000, 4000)).save(files[-1], compress_level=1)
    for widths in ("4000", "6000"):
        for file in files:
            [(got, _)] = attempt([file], memory_mb, prefix, widths).values()
            assert got in ("thumbnail", "ImageTooLarge"), (file, widths)
            if memory_mb == 1024:
                assert got == "thumbnail"


@pytest.mark.skipif(not CASES.exists(), reason="no corpus of real images here")
def test_no_real_image_kills_the_function(limit: tuple[int, tuple[str, ...]]) -> None:
    """Every file of the corpus, one after the other in one process, as a warm function has them."""
    memory_mb, prefix = limit
    files = [path for path in sorted((CASES.parent / "cases").rglob("*")) if path.is_file()]
    outcomes = attempt(files, memory_mb, prefix)
    assert [path for path, (got, _) in outcomes.items() if got == "killed"] == []
    assert len(outcomes) == len(files)


def test_the_limit_is_real(limit: tuple[int, tuple[str, ...]]) -> None:
    """A process that takes more than the limit is killed: else nothing above showed anything."""
    memory_mb, prefix = limit
    program = f"data = bytes(1) * ({memory_mb} * 2**20 + 2**26); print(len(data))"
    ran = subprocess.run(  # noqa: S603
        [
            *prefix,
            sys.executable,
            "-c",
            f"import os; {program}".replace("bytes(1)", "os.urandom(1)"),
        ],
        capture_output=True,
        check=False,
    )
    assert ran.returncode == -9


@pytest.mark.parametrize(
    ("name", "at", "value", "expected"),
    [
        (b"av1C", 6, 0b0000_1100, 1.5),
        (b"av1C", 6, 0b0100_1100, 3.0),
        (b"av1C", 6, 0b0000_1000, 2.0),
        (b"av1C", 6, 0b0100_0000, 6.0),
        (b"av1C", 6, 0b0001_1100, 1.0),
        (b"hvcC", 20, 3, 3.0),
    ],
)
def test_planes_are_told_by_the_decoder_s_configuration(
    name: bytes, at: int, value: int, expected: float
) -> None:
    """Depth and subsampling of AVIF and HEIC stand in a box each."""
    box = bytearray(64)
    box[:4] = name
    box[at] = value
    assert plane_bytes(bytes(box)) == expected
