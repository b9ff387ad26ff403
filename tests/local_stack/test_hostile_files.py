"""Files that take long, in the built function: AWS's runtime client, 512 MB, 0.29 vCPU."""

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cold_start import LocalS3, local_s3
from bench.hostile import attacks, environment
from bench.limits import LimitUnavailable
from bench.photos import drawn_photo
from bench.slow_files import SLOW
from image_pipeline.build.function import build_function
from image_pipeline.local.runtime_emulator import RuntimeEmulator
from image_pipeline.local.tools import TOOLS

pytestmark = pytest.mark.local_stack

TIMEOUT_S = 20
"""The time-out of the function. By default it is 30 s, which makes this test longer."""

PHOTO = drawn_photo(200_000)


@pytest.fixture(scope="module")
def function(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[RuntimeEmulator, LocalS3]]:
    """An execution environment of the built function, and its S3."""
    artefact = tmp_path_factory.mktemp("function") / "artefact"
    architecture = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
    build_function(Path("lambda").resolve(), artefact, architecture, str(TOOLS / "uv/bin/uv"))
    try:
        with local_s3(PHOTO) as s3, environment(artefact, s3, TIMEOUT_S) as emulator:
            yield emulator, s3
    except LimitUnavailable as error:
        pytest.skip(f"CPU and memory cannot be limited here: {error}")


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_file_costs_one_attempt(
    function: tuple[RuntimeEmulator, LocalS3], name: str
) -> None:
    """It ends with thumbnails or one message before the time-out, and a photo after it works."""
    emulator, s3 = function
    (attack,) = attacks(emulator, s3, [(name, SLOW[name])], PHOTO)
    assert attack.attempts == 1
    assert attack.outcome in ("thumbnails", "ImageTooSlow", "ImageTooLarge", "CorruptImage")
    assert attack.billed_s < TIMEOUT_S
