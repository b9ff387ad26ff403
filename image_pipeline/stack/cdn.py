"""What the CDN of a stack serves, asked for as browsers ask."""

import json
import time
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from image_pipeline.errors import CommandError
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.distribution import Answer, send
from image_pipeline.stack.uploads import Outcome
from thumbnailer.imaging import Size
from thumbnailer.urls import thumbnail_url

CLIENTS: Final = {
    "Chrome": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
    "Safari 15": "image/webp,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5",
    "Safari 13": "image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5",
}
"""The Accept header of each kind of browser: with AVIF, with WebP, and with neither.
https://developer.mozilla.org/en-US/docs/Web/HTTP/Guides/Content_negotiation/List_of_default_Accept_values"""

MANIFEST_SECONDS: Final = 20.0
"""The function writes the manifest right after the last thumbnail, and a CDN that was asked too
early keeps its answer of 403 for a second."""

POLL_SECONDS: Final = 0.2


class Served(NamedTuple):
    """What one kind of client got: `format` is `avif`, `webp` or `jpeg`, and empty for an error."""

    status: int
    format: str
    bytes: int


def negotiated_url(stack: Stack, upload: Outcome, size: Size) -> str:
    """Return the URL of a thumbnail at which each client gets the best format that it shows."""
    settings = stack.settings
    version = settings.picture_version(upload.etag, upload.focus)
    return settings.url(negotiated_key(stack, upload.key, size), version)


def negotiated_key(stack: Stack, source_key: str, size: Size) -> str:
    """Return the key of a thumbnail of `source_key` without its format."""
    name = stack.settings.formats[0]
    return stack.settings.thumbnail_key(source_key, size, name).removesuffix(f".{name}")


def for_each_client(url: str) -> dict[str, Served]:
    """Request `url` once as each of CLIENTS; what each got, by its name."""
    return {name: _served(send("GET", url, Accept=each)) for name, each in CLIENTS.items()}


def manifest(stack: Stack, upload: Outcome) -> dict[str, Any]:
    """Wait for the manifest of an upload whose thumbnails are there, and return it.

    Raises CommandError if it is not there after MANIFEST_SECONDS.
    """
    url = thumbnail_url(str(stack.thumbnails_url), stack.settings.manifest_key(upload.key))
    deadline = time.monotonic() + MANIFEST_SECONDS
    while (answer := send("GET", url)).status != HTTPStatus.OK:
        if time.monotonic() > deadline:
            raise CommandError(f"{url} has status {answer.status}.")
        time.sleep(POLL_SECONDS)
    found: dict[str, Any] = json.loads(answer.body)
    return found


def _served(answer: Answer) -> Served:
    kind, _, name = answer.headers.get("content-type", "").partition("/")
    return Served(answer.status, name if kind == "image" else "", len(answer.body))
