"""The memory estimates, checked against a real memory limit."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench.hostile_files import KINDS
from bench.limits import LimitUnavailable, limited
from bench.memory import RESULT
from bench.memory_files import WRITTEN
from thumbnailer.imaging.formats.isobmff import plane_bytes
from tools.corpus import CASES

SIDE = 10_000
CACHE = Path(__file__).parents[1] / ".local" / "bench"

PROGRAM = """
import json, os, resource, sys
from pathlib import Path
os.environ |= {"OUTPUT_BUCKET": "thumbs", "DLQ_URL": "https://sqs.example/1/q"}
import handler  # as in the function
from thumbnailer.errors import ImageTooLarge, PermanentError
from thumbnailer.imaging import impose_hard_limit, make_thumbnails, parse_sizes
from thumbnailer.settings import Settings
impose_hard_limit(int(sys.argv[1]))  # as in Lambda
settings = Settings("", "", sizes=parse_sizes(sys.argv[2]), formats=tuple(sys.argv[3:]))
specs = settings.specs
for path in sys.stdin.read().splitlines():
    print(json.dumps([path, "began", 0]), flush=True)
    try:
        make_thumbnails(Path(path).read_bytes(), specs, int(sys.argv[1]), 600.0)
        outcome = "thumbnail"
    except PermanentError as error:
        outcome = type(error).__name__
        if str(error).startswith("Memory ran out"):
            outcome = "killed"  # a child was, or an allocation failed: the estimate was too low
    status = Path("/proc/self/status").read_text()
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak = max(child, int(status.partition("VmHWM:")[2].split()[0])) / 1024
    print(json.dumps([path, outcome, peak]), flush=True)
"""


def attempt(
    files: list[Path],
    memory_mb: int,
    prefix: tuple[str, ...] = (),
    widths: str = "128,512",
    formats: tuple[str, ...] = ("webp",),
) -> dict[Path, Any]:
    """Make thumbnails of all files in one process; return the outcome and peak (MB) of each.

    The outcome is "thumbnail", the name of a permanent error, or "killed". The command line begins
    with `prefix`, which sets the memory limit.
    """
    ran = subprocess.run(  # noqa: S603
        [*prefix, sys.executable, "-c", PROGRAM, str(memory_mb), widths, *formats],
        input="\n".join(map(str, files)),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = map(json.loads, ran.stdout.splitlines())
    outcomes = {Path(path): (outcome, peak) for path, outcome, peak in lines}
    assert outcomes, ran.stderr
    return {
        path: ("killed" if outcome == "began" else outcome, peak)
        for path, (outcome, peak) in outcomes.items()
    }


@pytest.fixture(params=[512, 1024])
def limit(request: pytest.FixtureRequest) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield a limit in MB, and the beginning of a command line to which the limit applies."""
    try:
        with limited(memory_mb=request.param) as prefix:
            yield request.param, prefix
    except LimitUnavailable as error:
        pytest.skip(f"memory cannot be limited here: {error}")


def noise(mode: str) -> Image.Image:
    """Draw 100 megapixels: tiles of noise, because drawing all of it would be slow."""
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
    "lzw.tif": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "palette.png": ("PNG", "P", {"compress_level": 1, "transparency": 7}),
    "lossy.webp": ("WEBP", "RGB", {"method": 0, "quality": 20}),
    "rgb.avif": ("AVIF", "RGB", {"speed": 10, "quality": 20}),
}


@pytest.fixture(scope="module")
def huge() -> list[Path]:
    """Return files of 100 megapixels, which are made once and kept."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for name, (kind, mode, options) in HUGE.items():
        path = CACHE / f"huge-{name}"
        if not path.exists():
            part = path.with_name(f"{path.name}.{os.getpid()}.part")  # other workers do the same
            noise(mode).save(part, kind, **options)
            part.rename(path)
    return [CACHE / f"huge-{name}" for name in HUGE]


def test_100_megapixels_never_kill_the_function(
    limit: tuple[int, tuple[str, ...]], huge: list[Path]
) -> None:
    """Each has thumbnails, in 512 MB or in 1,024. What is refused needs more than 3/4 of that."""
    memory_mb, prefix = limit
    refused = []
    for file in huge:
        [(outcome, _)] = attempt([file], memory_mb, prefix).values()
        assert outcome in ("thumbnail", "ImageTooLarge"), file
        if outcome == "ImageTooLarge":
            refused.append(file)
    assert bool(refused) == (memory_mb == 512)
    assert len(refused) < len(huge)
    for file in refused:
        [(outcome, peak)] = attempt([file], 10_240).values()
        assert outcome == "thumbnail"
        assert peak > 0.75 * memory_mb, file


def test_large_thumbnails_never_kill_the_function(
    limit: tuple[int, tuple[str, ...]], tmp_path: Path
) -> None:
    """The estimate includes large widths, which need more memory than decoding does."""
    memory_mb, prefix = limit
    files = []
    for mode in ("RGB", "RGBA"):
        files.append(tmp_path / f"{mode}.png")
        noise(mode).crop((0, 0, 6000, 4000)).save(files[-1], compress_level=1)
    for widths in ("4000", "6000"):
        for file in files:
            [(outcome, _)] = attempt([file], memory_mb, prefix, widths).values()
            assert outcome in ("thumbnail", "ImageTooLarge"), (file, widths)
            if memory_mb == 1024:
                assert outcome == "thumbnail"


@pytest.mark.parametrize(
    ("sizes", "refused_mb"),
    [
        ("3000", 512),  # 6 megapixels: AVIF needs 300 MB, and with alpha 360
        ("2000x2000,900x900:cover:attention,2000x1500:pad", 0),
        ("6000", 1024),
    ],
)
def test_other_formats_and_shapes_never_kill_the_function(
    limit: tuple[int, tuple[str, ...]], tmp_path: Path, sizes: str, refused_mb: int
) -> None:
    """The estimate includes their encoders, crops and canvases; it refuses what cannot fit."""
    memory_mb, prefix = limit
    for mode in ("RGB", "RGBA"):
        file = tmp_path / f"{mode}.png"
        noise(mode).crop((0, 0, 6000, 4000)).save(file, compress_level=1)
        for name in ("avif", "jpeg"):
            [(outcome, peak)] = attempt([file], memory_mb, prefix, sizes, (name,)).values()
            assert outcome in ("thumbnail", "ImageTooLarge"), (mode, name, peak)
            if memory_mb > refused_mb or name == "jpeg":
                assert outcome == "thumbnail", (mode, name)


@pytest.mark.skipif(not CASES.exists(), reason="the corpus of real images is not here")
def test_real_images_never_kill_the_function(limit: tuple[int, tuple[str, ...]]) -> None:
    """All files of the corpus are processed in one process, one by one, as in a warm function."""
    memory_mb, prefix = limit
    files = [path for path in sorted((CASES.parent / "cases").rglob("*")) if path.is_file()]
    outcomes = attempt(files, memory_mb, prefix)
    assert [path for path, (outcome, _) in outcomes.items() if outcome == "killed"] == []
    assert len(outcomes) == len(files) > 100


def test_a_process_over_the_limit_is_killed(limit: tuple[int, tuple[str, ...]]) -> None:
    """Without this the tests above would prove nothing. The process allocates 64 MB too much."""
    memory_mb, prefix = limit
    program = f"import os; data = os.urandom(1) * ({memory_mb} * 2**20 + 2**26)"
    ran = subprocess.run(  # noqa: S603
        [*prefix, sys.executable, "-c", program], capture_output=True, check=False
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
def test_the_bytes_of_planes_follow_from_the_decoder_configuration(
    name: bytes, at: int, value: int, expected: float
) -> None:
    """Bit depth and subsampling are read from the box av1C of an AVIF and hvcC of a HEIC."""
    box = bytearray(64)
    box[:4] = name
    box[at] = value
    assert plane_bytes(bytes(box)) == expected


def test_the_measured_estimates_are_close() -> None:
    """Each kind of image needs about what was estimated when `make bench-memory` ran last."""
    rows = json.loads(RESULT.read_text())
    assert {row["file"] for row in rows} >= KINDS.keys() | WRITTEN.keys()
    ratios = {
        (row["file"], row["widths"], *row.get("formats", ())): row["foreseen_mb"] / row["need_mb"]
        for row in rows
    }
    assert {kind: ratio for kind, ratio in ratios.items() if not 0.95 <= ratio <= 1.35} == {}
