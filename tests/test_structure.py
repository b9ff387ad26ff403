"""What makes the function fast, counted instead of timed: imports, decoded pixels and copies.

The times themselves are measured by `make bench` (docs/performance.md).
"""

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from pictures import encoded, quadrants, thumbnails_of
from PIL import Image, JpegImagePlugin

from thumbnailer.handler import Function
from thumbnailer.imaging import (
    OUTPUT_FORMATS,
    ThumbnailSpec,
    make_thumbnails,
    parse_sizes,
    resize,
    thumbnails,
)
from thumbnailer.imaging.lanczos import lanczos
from thumbnailer.imaging.resize import cut, shrink
from thumbnailer.settings import Settings
from thumbnailer.storage import s3_bucket

LAMBDA = Path(__file__).parent.parent / "lambda"

MAX_MODULES = 127
"""Modules that init may import, Python's own included: a few more than it imports today."""

HEAVY = {
    "asyncio",
    "aws_lambda_powertools",
    "boto3",
    "botocore.session",
    "dataclasses",
    "email",
    "hashlib",
    "http.client",
    "inspect",
    "isal",
    "multiprocessing",
    "pathlib",
    "platform",
    "random",
    "ssl",
    "subprocess",
    "tempfile",
    "unittest",
    "urllib.request",
}
"""Modules that take a millisecond or more, and that an upload of a JPEG does not need."""

PROGRAM = """
import gc
import sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import handler
print(len(set(sys.modules) - before))
print(*sorted(name for name in sys.modules if name.startswith("PIL.")))
print(*(name for name, module in sys.modules.items() if module.__spec__))  # no stand-ins
print(gc.isenabled(), gc.get_freeze_count() > 0)
"""


def test_init_imports_no_further_modules_and_freezes_what_it_has_imported() -> None:
    """Each module is a file to find, read and run in a cold start, so a new one needs a reason.

    Dataclasses are not used, because creating one takes 0.4 ms, and a NamedTuple 0.1 ms. What the
    libraries import without need is deferred. Imported objects are frozen, so that no garbage
    collection searches them.
    """
    environment = {"OUTPUT_BUCKET": "output", "DLQ_URL": "https://sqs.example/1/dead-letters"}
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM, str(LAMBDA)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    count, plugins, imported, collector = ran.stdout.splitlines()
    assert HEAVY.isdisjoint(imported.split())
    assert int(count) <= MAX_MODULES
    decoders = [name for name in plugins.split() if name.endswith("Plugin")]
    assert decoders == ["PIL.JpegImagePlugin", "PIL.WebPImagePlugin"]
    assert collector == "True True"


@pytest.mark.parametrize(("variables", "clients"), [({}, 1), ({"INPUT_BUCKET": "input"}, 2)])
@pytest.mark.usefixtures("aws")
def test_init_creates_the_client_of_each_bucket_that_it_knows(
    variables: dict[str, str], clients: int
) -> None:
    """During init the function has a whole CPU, and for its first event only a fraction."""
    s3_bucket.kept_client.cache_clear()
    queue = "https://sqs.example/1/dead-letters"
    Function({"OUTPUT_BUCKET": "output", "DLQ_URL": queue, **variables})
    assert s3_bucket.kept_client.cache_info().currsize == clients


@pytest.mark.parametrize(
    ("size", "widths", "decoded"),
    [
        ((4032, 3024), (128, 512), (1008, 756)),  # a quarter; an eighth would be too small for 512
        ((4272, 2848), (128, 512), (1068, 712)),
        ((6000, 4000), (128, 512), (750, 500)),
        ((6000, 4000), (128,), (750, 500)),  # an eighth is the smallest scale
        ((3000, 2000), (1024,), (1500, 1000)),
        ((600, 400), (512,), (600, 400)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_is_large_enough(
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    widths: tuple[int, ...],
    decoded: tuple[int, int],
) -> None:
    """The decoder gives only as many pixels as the largest thumbnail needs."""
    sizes = decoded_sizes(monkeypatch)
    thumbnails_of(encoded(Image.new("RGB", size), "JPEG"), widths, 85, 512)
    assert set(sizes) == {decoded}


def test_one_decode_serves_all_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sizes in three formats load the picture as often as two sizes in one format."""
    loaded = {}
    for formats in (OUTPUT_FORMATS[:1], OUTPUT_FORMATS):
        sizes = decoded_sizes(monkeypatch)
        specs = Settings("output", "queue", formats=formats).specs
        made = make_thumbnails(encoded(quadrants((4000, 3000)), "JPEG"), specs, 512)
        assert len(made.thumbnails) == 2 * len(formats)
        loaded[formats] = list(sizes)
    assert loaded[OUTPUT_FORMATS] == loaded[OUTPUT_FORMATS[:1]]


@pytest.mark.parametrize("formats", [OUTPUT_FORMATS[:1], OUTPUT_FORMATS])
def test_a_picture_is_resized_once_for_each_size_and_not_copied(
    monkeypatch: pytest.MonkeyPatch, formats: tuple[str, ...]
) -> None:
    """Two sizes take two resizes, in any number of formats, from and to Pillow's own memory."""
    resized: list[tuple[int, int]] = []
    calls: list[str] = []
    stages: list[list[str]] = []

    def resize_and_record(picture: Image.Image, size: tuple[int, int], *rest: Any) -> Image.Image:
        resized.append(size)
        return lanczos(picture, size, *rest)

    def recorded(method: Any) -> Any:
        def call_and_record(*arguments: Any, **options: Any) -> Any:
            calls.append(method.__name__)
            return method(*arguments, **options)

        return call_and_record

    def staged(stage: Any) -> Any:
        def run_and_record(*arguments: Any) -> Any:
            before = len(calls)
            made = stage(*arguments)
            stages.append(calls[before:])
            return made

        return run_and_record

    monkeypatch.setattr(resize, "lanczos", resize_and_record)
    for method in (Image.Image.tobytes, Image.Image.copy, Image.Image.convert, Image.Image.crop):
        monkeypatch.setattr(Image.Image, method.__name__, recorded(method))
    monkeypatch.setattr(Image, "frombytes", recorded(Image.frombytes))
    monkeypatch.setattr(thumbnails, "shrink", staged(shrink))
    monkeypatch.setattr(thumbnails, "cut", staged(cut))
    specs = Settings("output", "queue", formats=formats).specs
    made = make_thumbnails(encoded(quadrants((4000, 3000)), "JPEG"), specs, 512)
    assert len(made.thumbnails) == 2 * len(formats)
    assert resized == [(512, 384), (128, 96)]
    assert len(stages) == 1 + 2 * len(formats)
    assert not any(stages)


@pytest.mark.parametrize(
    ("shapes", "mode", "straightened"),
    [
        ("64,32", "RGBA", 2),  # of each size once, for three formats
        ("64,32", "RGB", 0),
        ("64x64:pad", "RGBA", 1),  # all formats show the background
        ("a=64,b=64", "RGBA", 1),  # two names of one size
    ],
)
def test_formats_share_the_conversions_of_a_size(
    monkeypatch: pytest.MonkeyPatch, shapes: str, mode: str, straightened: int
) -> None:
    """Alpha is made straight once for each size. No other conversion depends on the formats.

    The exceptions are in WebP: an opaque picture is looked at for colour edges in YCbCr.
    """
    conversions = {}
    for formats in (OUTPUT_FORMATS[:1], OUTPUT_FORMATS):
        found = recorded_conversions(monkeypatch)
        settings = Settings(
            "output", "queue", sizes=parse_sizes(shapes), formats=formats, background="#123456"
        )
        make_thumbnails(encoded(quadrants((400, 300), mode), "PNG"), settings.specs, 512)
        conversions[formats] = [each for each in found if each[2] != "YCbCr"]
    in_all = conversions[OUTPUT_FORMATS]
    straight = [each for each in in_all if each[1:] == ("RGBa", "RGBA")]
    assert len(straight) == straightened
    assert set(in_all) - set(straight) <= set(conversions[OUTPUT_FORMATS[:1]])


def recorded_conversions(
    monkeypatch: pytest.MonkeyPatch,
) -> list[tuple[tuple[int, int], str, str | None]]:
    """Return a list to which the size and the modes of each conversion of a picture are added."""
    found: list[tuple[tuple[int, int], str, str | None]] = []
    convert = Image.Image.convert

    def convert_and_record(
        image: Image.Image, mode: str | None = None, *arguments: Any
    ) -> Image.Image:
        found.append((image.size, image.mode, mode))
        return convert(image, mode, *arguments)

    monkeypatch.setattr(Image.Image, "convert", convert_and_record)
    return found


@pytest.mark.parametrize(
    ("size", "shapes", "decoded"),
    [
        ((6000, 2000), "256x256", (1500, 500)),  # the height, 256, needs 768 × 256 pixels
        ((6000, 2000), "256x256:contain", (750, 250)),  # the width, 256, needs 256 × 85
        ((6000, 2000), "256x256:pad", (750, 250)),
        ((2000, 6000), "256x256", (500, 1500)),
        ((6000, 4000), "128,avatar=512x512:cover:attention", (1500, 1000)),
    ],
)
def test_a_crop_is_decoded_at_the_scale_that_it_needs(
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    shapes: str,
    decoded: tuple[int, int],
) -> None:
    """That is more than its width needs where the picture is wider than its shape."""
    sizes = decoded_sizes(monkeypatch)
    specs = [ThumbnailSpec(each, 85, animated=True) for each in parse_sizes(shapes)]
    make_thumbnails(encoded(Image.new("RGB", size), "JPEG"), specs, 512)
    assert set(sizes) == {decoded}


def decoded_sizes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list to which the size of each picture is added that a JPEG is decoded to."""
    sizes: list[tuple[int, int]] = []
    load = JpegImagePlugin.JpegImageFile.load

    def load_and_record(image: JpegImagePlugin.JpegImageFile) -> object:
        sizes.append(image.size)
        return load(image)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", load_and_record)
    return sizes


def test_each_thumbnail_is_made_from_the_next_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The large picture is resized only once, for any number of widths."""
    sources = recorded_sources(monkeypatch)
    thumbnails_of(encoded(quadrants((4000, 3000)), "JPEG"), (64, 128, 256, 512), 85, 512)
    assert sources == [(512, 384), (512, 384), (256, 192), (128, 96)]


def recorded_sources(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list to which the size of each picture is added that a thumbnail is made from."""
    sources: list[tuple[int, int]] = []

    def cut_and_record(picture: Image.Image, *arguments: Any) -> Image.Image:
        sources.append(picture.size)
        return cut(picture, *arguments)

    monkeypatch.setattr(thumbnails, "cut", cut_and_record)
    return sources


def test_each_thumbnail_is_made_from_the_smallest_picture_that_shows_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A crop is never the source of more than it shows; a smaller crop is made from a larger."""
    sources = recorded_sources(monkeypatch)
    sizes = parse_sizes("512,256x256,128x128,128,64x64:pad,portrait=60x120")
    data = encoded(quadrants((4000, 3000)), "JPEG")
    make_thumbnails(data, [ThumbnailSpec(size, 85, animated=True) for size in sizes], 512)
    assert sources == [
        (512, 384),  # 512
        (512, 384),  # 256x256, from the whole picture
        (256, 256),  # 128x128, from the larger square
        (128, 128),  # portrait, which is within the square
        (512, 384),  # 128, from the whole picture
        (128, 96),  # 64x64, padded, from the smallest whole picture
    ]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_file_is_not_copied(kind: str) -> None:
    """A large file is decoded from the bytes that were received, without a copy in Python.

    The test measures what Python itself allocates beside the file, thumbnails included. Pictures
    are in Pillow's own memory, except that of a WebP, which its decoder returns as bytes.
    """
    noise = Image.effect_noise((1800, 1400), 60)
    data = encoded(Image.merge("RGB", (noise, noise.rotate(90), noise)), kind, quality=95)
    assert len(data) > 1_500_000
    thumbnails_of(data, (64,), 85, 1024)  # imports modules, which allocates too
    tracemalloc.start()
    try:
        thumbnails_of(data, (64,), 85, 1024)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(data) / 2


def test_no_two_test_files_have_the_same_name() -> None:
    """Pytest imports test files by their names alone, and refuses the second of a name."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
