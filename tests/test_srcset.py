"""URLs of thumbnails: that they are safe, and cost no image library to make."""

import subprocess
import sys
from pathlib import Path

import pytest

from thumbnailer.srcset import url_path

LAMBDA = Path(__file__).parents[1] / "lambda"
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import thumbnailer.srcset
print(sorted({"PIL", "thumbhash", "boto3"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("a/photo_128w.webp", "a/photo_128w.webp"),
        ("a b,c.webp", "a%20b%2Cc.webp"),
        ("/a.webp", "%2Fa.webp"),
        ("//evil.example/a.webp", "%2F/evil.example/a.webp"),
        ("https://evil.example/a.webp", "https%3A//evil.example/a.webp"),
        ("é<&\">'.webp", "%C3%A9%3C%26%22%3E%27.webp"),
    ],
)
def test_a_url_path_is_relative_and_encoded(key: str, url: str) -> None:
    """Characters with a meaning in URLs, `srcset` or HTML are encoded, and a leading slash."""
    assert url_path(key) == url


def test_the_module_imports_no_image_library() -> None:
    """The console and a CDN's URLs need it where no image is decoded."""
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM, str(LAMBDA)], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"
