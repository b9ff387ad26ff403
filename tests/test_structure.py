"""What makes the function fast, counted and not timed: a regression of structure fails here.

The times themselves are `make bench`'s (docs/performance.md).
"""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from pictures import encoded, quadrants, thumbnails_of
from PIL import Image, JpegImagePlugin

from thumbnailer.handler import Function
from thumbnailer.imaging import thumbnails
from thumbnailer.storage import s3_bucket

LAMBDA = Path(__file__).parent.parent / "lambda"

MAX_MODULES = 206
"""At init, Python's own included; 203 when this was written."""

PROGRAM = """
import gc
import sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import handler
print(len(set(sys.modules) - before))
print(*sorted(name for name in sys.modules if name.startswith("PIL.")))
print(not {"boto3", "botocore.session", "dataclasses", "isal"} & set(sys.modules))
print(gc.isenabled(), gc.get_freeze_count() > 0)
"""


def test_init_imports_no_more_than_it_did() -> None:
    """Each module is a file to find, read and run in a cold start: more of them need a reason.

    A dataclass takes 0.4 ms to make, a NamedTuple 0.1, and there are eighteen. What is imported is
    not searched for garbage.
    """
    environment = {"OUTPUT_BUCKET": "output", "DLQ_URL": "https://sqs.example/1/letters"}
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM, str(LAMBDA)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    count, plugins, left_out, collector = ran.stdout.splitlines()
    assert int(count) <= MAX_MODULES
    decoders = [name for name in plugins.split() if name.endswith("Plugin")]
    assert decoders == ["PIL.JpegImagePlugin", "PIL.WebPImagePlugin"]
    assert left_out == "True"
    assert collector == "True True"


@pytest.mark.parametrize(("told", "clients"), [({}, 1), ({"INPUT_BUCKET": "input"}, 2)])
def test_init_makes_the_clients_of_its_buckets(
    aws: str, told: dict[str, str], clients: int
) -> None:
    """At full CPU, not at the first event's share of one."""
    del aws
    s3_bucket.kept_client.cache_clear()
    Function({"OUTPUT_BUCKET": "output", "DLQ_URL": "https://sqs.example/1/letters", **told})
    assert s3_bucket.kept_client.cache_info().currsize == clients


@pytest.mark.parametrize(
    ("size", "widths", "decoded"),
    [
        ((4032, 3024), (128, 512), (1008, 756)),  # a quarter; an eighth would be too small for 512
        ((4272, 2848), (128, 512), (1068, 712)),
        ((6000, 4000), (128, 512), (750, 500)),
        ((6000, 4000), (128,), (750, 500)),  # an eighth is the most
        ((3000, 2000), (1024,), (1500, 1000)),
        ((600, 400), (512,), (600, 400)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_serves(
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    widths: tuple[int, ...],
    decoded: tuple[int, int],
) -> None:
    """The decoder's pixels are those of the largest thumbnail with its gap, not the file's."""
    sizes: list[tuple[int, int]] = []
    load = JpegImagePlugin.JpegImageFile.load

    def watched(image: JpegImagePlugin.JpegImageFile) -> object:
        sizes.append(image.size)
        return load(image)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", watched)
    thumbnails_of(encoded(Image.new("RGB", size), "JPEG"), widths, 85, 512)
    assert set(sizes) == {decoded}


def test_each_width_is_made_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The large picture is resized once, however many widths there are."""
    sources: list[tuple[int, int]] = []
    resized = thumbnails.resize

    def watched(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        sources.append(picture.size)
        return resized(picture, size)

    monkeypatch.setattr(thumbnails, "resize", watched)
    thumbnails_of(encoded(quadrants((4000, 3000)), "JPEG"), (64, 128, 256, 512), 85, 512)
    assert sources == [(512, 384), (512, 384), (256, 192), (128, 96)]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_file_is_not_copied(kind: str) -> None:
    """A large file is decoded from the bytes that came: Python makes no second one of them.

    Counted is what Python itself has at once beside the file, thumbnails included; pictures are in
    Pillow's own memory (but for a WebP's, which its decoder gives as bytes).
    """
    noise = Image.effect_noise((1800, 1400), 60)
    data = encoded(Image.merge("RGB", (noise, noise.rotate(90), noise)), kind, quality=95)
    assert len(data) > 1_500_000
    thumbnails_of(data, (64,), 85, 1024)  # what is imported at first
    tracemalloc.start()
    try:
        thumbnails_of(data, (64,), 85, 1024)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(data) / 2
