"""URLs of thumbnails that a CDN serves, in AWS and in the local stack."""

import re
from urllib.parse import urlsplit

from thumbnailer.srcset import url_path


def base_url(thumbnails_url: str, endpoint_url: str | None = None) -> str:
    """Return where a browser gets the thumbnails, without a slash at the end.

    `thumbnails_url` is the stack's output ThumbnailsUrl. `endpoint_url` is where a local AWS
    answers (AWS_ENDPOINT_URL), and None in an account. The local AWS serves
    https://LABEL.cloudfront.net at http://LABEL.cloudfront.localhost on its own port, which
    browsers connect to loopback (RFC 6761, 6.3).
    """
    url = thumbnails_url.rstrip("/")
    label = re.fullmatch(r"https://([a-z0-9]+)\.cloudfront\.net", url)
    if endpoint_url and label:
        return f"http://{label[1]}.cloudfront.localhost:{urlsplit(endpoint_url).port}"
    return url


def is_addressable(key: str) -> bool:
    """Whether a URL can name a key: browsers resolve the segments `.` and `..` of a path."""
    return not {".", ".."} & set(key.split("/"))


def thumbnail_url(base: str, key: str) -> str:
    """Return the URL of an object of the output bucket; `base` is what `base_url` returns.

    A key without its `.{format}` gives the URL at which the CDN chooses the format.
    """
    return f"{base}/{url_path(key)}"
