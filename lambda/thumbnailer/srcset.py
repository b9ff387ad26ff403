"""The srcset attribute of a picture's thumbnails, for web pages."""

from collections.abc import Iterable
from urllib.parse import quote


def srcset(thumbnails: Iterable[tuple[str, int]]) -> str:
    """Return the value of `srcset` for keys and real widths in pixels, each width once.

    URLs are relative to the output bucket's root. Commas and spaces are percent-encoded, because
    they would end a URL (https://html.spec.whatwg.org/multipage/images.html#srcset-attributes).
    """
    by_width: dict[int, str] = {}
    for key, width in sorted(thumbnails, key=lambda each: each[1]):
        by_width.setdefault(width, url_path(key))
    return ", ".join(f"{url} {width}w" for width, url in by_width.items())


def url_path(key: str) -> str:
    """Return the percent-encoded URL of a key, relative to the bucket's root.

    A leading slash is encoded too. Otherwise the URL would be a path from the host's root, and
    `//` would even name another host.
    """
    url = quote(key)
    return "%2F" + url[1:] if url.startswith("/") else url
