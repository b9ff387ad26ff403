"""The limit under all estimates: an image that needs more memory than estimated fails cleanly."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pictures import encoded
from PIL import Image

from thumbnailer.imaging import hard_limit

PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, "lambda")
from thumbnailer.errors import PermanentError
from thumbnailer.imaging import (
    Size, ThumbnailSpec, hard_limit, impose_hard_limit, limits, make_thumbnails
)

specs = [ThumbnailSpec(Size.of_width(256), 85, True)]

def outcome(data):
    try:
        make_thumbnails(data, specs, 10_240)
    except PermanentError as error:
        return type(error).__name__
    return "thumbnail"

files = [Path(path).read_bytes() for path in sys.argv[2:]]
outcome(files[0])
impose_hard_limit(limits.BASE_MB + int(sys.argv[1]))
limits.refuse_over = lambda *_: None
print(json.dumps([outcome(data) for data in files]))
"""
"""Arguments: the MB that may be allocated, and files. Estimates are turned off."""

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG": ("JPEG", {"progressive": True, "subsampling": 0}),
    "APNG": ("PNG", {"save_all": True, "append_images": [Image.new("RGB", (9, 9))]}),
    "WebP": ("WEBP", {"method": 0, "lossless": True}),
    "GIF": ("GIF", {}),
    "AVIF": ("AVIF", {"speed": 10}),
    "HEIC": ("HEIF", {}),
    "TIFF": ("TIFF", {"compression": "tiff_lzw"}),
    "TIFF of one strip": ("TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: 4000}}),
    "BMP": ("BMP", {}),
    "JPEG 2000": ("JPEG2000", {"num_resolutions": 1}),
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")


def outcomes(limit_mb: int, *files: Path) -> list[str]:
    """Make thumbnails of the files, one after the other, in one process under the limit."""
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM, str(limit_mb), *map(str, files)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_beyond_the_limit_is_too_large_and_the_next_one_works(
    kind: str, tmp_path: Path
) -> None:
    """In every format, a failed allocation is not taken for damage, and leaves nothing behind."""
    name, options = KINDS[kind]
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(encoded(Image.new("RGB", (300, 200), "red"), name, **options))
    side = 6000 if kind == "GIF" else 4000  # a GIF's pixels take one byte each
    picture = Image.linear_gradient("L").resize((side, side)).convert("RGB")
    large.write_bytes(encoded(picture, name, **options))
    assert outcomes(14, small, large, small, large, small) == [
        "thumbnail",
        "ImageTooLarge",
        "thumbnail",
        "ImageTooLarge",
        "thumbnail",
    ]


@pytest.mark.parametrize(("kind", "little"), [("PNG", 2), ("WEBP", 1)])
def test_a_picture_that_is_reduced_while_it_is_decoded_needs_little(
    kind: str, little: int, tmp_path: Path
) -> None:
    """16 megapixels need less than 14 MB. With too little even for that, it is too large."""
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(encoded(Image.new("RGB", (300, 200), "red"), kind))
    picture = Image.linear_gradient("L").resize((4000, 4000)).convert("RGB")
    large.write_bytes(encoded(picture, kind))
    assert outcomes(14, small, large, large) == ["thumbnail"] * 3
    assert outcomes(little, small, large) == ["thumbnail", "ImageTooLarge"]


def test_a_damaged_image_is_still_called_damaged(tmp_path: Path) -> None:
    """Under the limit, and after an image that was too large."""
    small, large, damaged = tmp_path / "small", tmp_path / "large", tmp_path / "damaged"
    small.write_bytes(encoded(Image.effect_noise((300, 200), 60), "PNG"))
    large.write_bytes(encoded(Image.new("RGB", (4000, 4000)), "BMP"))
    damaged.write_bytes(small.read_bytes()[:9000])
    assert outcomes(14, small, large, damaged) == ["thumbnail", "ImageTooLarge", "CorruptImage"]


def test_without_a_limit_no_allocation_is_watched() -> None:
    """Commands and tests run without it."""
    hard_limit.forget_failures()
    assert not hard_limit.allocation_failed()
