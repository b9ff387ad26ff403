"""URLs of thumbnails: that they are safe, and cost no image library to make."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from thumbnailer.imaging import parse_sizes
from thumbnailer.srcset import Candidate, picture, url_path, views

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


def test_thumbnails_are_grouped_by_what_they_show() -> None:
    """Widths and `contain` are one group, the first; each other shape, fit and rule is one more."""
    sizes = parse_sizes(
        "2x2,4x4,4x2,3x3:cover:attention,3x3p=3x3:pad,9,8x1:contain,8x4:pad,16x8:pad"
    )
    names = [[size.name for size in view] for view in views(sizes, lambda size: size)]
    assert names == [
        ["9w", "8x1"],
        ["2x2", "4x4"],
        ["4x2"],
        ["3x3"],
        ["3x3p"],
        ["8x4", "16x8"],
    ]
    assert views([], lambda size: size) == []


@pytest.mark.parametrize(
    ("formats", "sources", "image"),
    [
        ("webp", [], "webp"),
        ("avif", [], "avif"),
        ("webp,avif", ["avif"], "webp"),
        ("avif,jpeg", ["avif"], "jpeg"),
        ("jpeg,webp", ["webp"], "jpeg"),
        ("jpeg,webp,avif", ["avif", "webp"], "jpeg"),
    ],
)
def test_a_picture_offers_the_smallest_format_first(
    formats: str, sources: list[str], image: str
) -> None:
    """AVIF comes before WebP; the `<img>` has the format that most browsers show."""
    made = [
        Candidate(name, f"a_{width}w.{name}", width, width // 2)
        for width in (128, 512)
        for name in formats.split(",")
    ]
    markup = picture(made)
    assert re.findall('<source type="image/(.*?)"', markup) == sources
    for name in sources:
        assert (
            f'<source type="image/{name}" srcset="a_128w.{name} 128w, a_512w.{name} 512w" '
            'sizes="(max-width: 512px) 100vw, 512px">'
        ) in markup
    assert (
        f'<img src="a_512w.{image}" srcset="a_128w.{image} 128w, a_512w.{image} 512w" '
        'sizes="(max-width: 512px) 100vw, 512px" width="512" height="256" alt="" loading="lazy" '
        'decoding="async">'
    ) in markup
    assert markup.startswith("<picture>") == bool(sources)


def test_a_picture_takes_the_page_s_own_sizes_and_a_colour() -> None:
    """Whatever is typed for `sizes`, it stays one attribute; the colour is behind the picture."""
    markup = picture([Candidate("webp", "a.webp", 9, 9)], '50vw"><script>', "#102030")
    assert 'sizes="50vw&quot;&gt;&lt;script&gt;"' in markup
    assert 'style="background-color:#102030"' in markup


def test_the_module_imports_no_image_library() -> None:
    """The console and a CDN's URLs need it where no image is decoded."""
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM, str(LAMBDA)], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"
