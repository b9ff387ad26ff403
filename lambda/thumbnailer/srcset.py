"""What web pages say of a picture's thumbnails: the srcset attribute, and HTML to copy.

It imports no image library: the console needs it where no image is decoded.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from thumbnailer.imaging import Size

SMALLEST_FIRST: Final = ("avif", "webp", "jpeg")
"""Formats in the order in which a page offers them: a browser takes the first that it shows."""

MOST_SHOWN_FIRST: Final = ("webp", "jpeg", "avif")
"""Formats in the order in which one is chosen that a browser of today shows, of few bytes."""


class Candidate(NamedTuple):
    """A thumbnail that a page may use: its format, URL, and real width and height in pixels.

    `Settings.url` gives the URL.
    """

    format: str
    url: str
    width: int
    height: int


def shows_everything(size: "Size") -> bool:
    """Whether a thumbnail of this size is the whole picture and nothing else."""
    return size.height is None or size.fit == "contain"


def _view(size: "Size") -> tuple[int, int, str, str] | None:
    """Return what is equal for sizes that show the same; None for the whole picture."""
    if size.height is None or shows_everything(size):
        return None
    divisor = math.gcd(size.width, size.height)  # fractions.Fraction would import decimal
    return size.width // divisor, size.height // divisor, size.fit, size.focus


def views[T](thumbnails: Iterable[T], size_of: Callable[[T], "Size"]) -> list[list[T]]:
    """Group thumbnails by what they show: a browser may choose from those of one group only.

    The group that shows the whole picture is first, if there is any; the others are in the order of
    their first thumbnails. Crops and padded pictures of one shape and focus rule show the same.
    """
    groups: dict[tuple[int, int, str, str] | None, list[T]] = {}
    for each in thumbnails:
        size = size_of(each)
        groups.setdefault(_view(size), []).append(each)
    return [groups.pop(None), *groups.values()] if None in groups else [*groups.values()]


def picture(thumbnails: Sequence[Candidate], sizes: str = "", colour: str = "") -> str:
    """Return HTML that shows thumbnails of one view: an `<img>`, in a `<picture>` if needed.

    With several formats there is a `<source>` for each but the one that most browsers show, which
    is the `<img>`'s. Without thumbnails it is empty. `sizes` says how wide the page shows them; by
    default as wide as the screen and at most as wide as the largest one. `colour`, `#rrggbb`, is
    shown until the picture is there. `alt` is left to the page's author.
    """
    by_format = {
        name: found
        for name in SMALLEST_FIRST
        if (found := [each for each in thumbnails if each.format == name])
    }
    if not by_format:
        return ""
    *others, last = by_format
    sizes = _escaped(sizes or default_sizes(each.width for each in thumbnails))
    img = _img(by_format[last], sizes, colour)
    if not others:
        return img
    sources = (
        f'  <source type="image/{name}" srcset="{_srcset(by_format[name])}" sizes="{sizes}">\n'
        for name in others
    )
    return f"<picture>\n{''.join(sources)}  {img}\n</picture>"


def default_sizes(widths: Iterable[int]) -> str:
    """Return the value of `sizes` for a picture that is as wide as the screen allows.

    `widths` are those of its thumbnails in pixels, at least one.
    """
    widest = max(widths)
    return f"(max-width: {widest}px) 100vw, {widest}px"


def _img(thumbnails: Sequence[Candidate], sizes: str, colour: str) -> str:
    largest = max(thumbnails, key=lambda each: each.width)
    style = f' style="background-color:{colour}"' if colour else ""
    return (
        f'<img src="{_escaped(largest.url)}" srcset="{_srcset(thumbnails)}" sizes="{sizes}" '
        f'width="{largest.width}" height="{largest.height}" alt="" loading="lazy" '
        f'decoding="async"{style}>'
    )


def _srcset(thumbnails: Sequence[Candidate]) -> str:
    return _escaped(srcset([(each.url, each.width) for each in thumbnails]))


def _escaped(text: str) -> str:
    from html import escape  # noqa: PLC0415 - it reads all of HTML's entities, for few stacks

    return escape(text)


def srcset(thumbnails: Iterable[tuple[str, int]]) -> str:
    """Return the value of `srcset` for URLs and real widths in pixels, each width once.

    In URLs of `url_path` commas and spaces are percent-encoded. They would end a URL
    (https://html.spec.whatwg.org/multipage/images.html#srcset-attributes).
    """
    by_width: dict[int, str] = {}
    for url, width in sorted(thumbnails, key=lambda each: each[1]):
        by_width.setdefault(width, url)
    return ", ".join(f"{url} {width}w" for width, url in by_width.items())


def url_path(key: str) -> str:
    """Return the percent-encoded URL of a key, relative to the bucket's root.

    A leading slash is encoded too. Otherwise the URL would be a path from the host's root, and
    `//` would even name another host.
    """
    url = quote(key)
    return "%2F" + url[1:] if url.startswith("/") else url
