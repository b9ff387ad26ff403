"""Requests to a distribution of the local AWS, as a browser sends them."""

from typing import NamedTuple
from urllib.parse import urlsplit

from image_pipeline.stack.aws import Aws
from image_pipeline.stack.distribution import send
from thumbnailer.urls import base_url


class Answer(NamedTuple):
    """What came back; header names in lower case."""

    host: str
    status: int
    headers: dict[str, str]
    body: bytes


def at_distribution(aws: Aws, domain: str, method: str, path: str, **headers: str) -> Answer:
    """Ask the distribution `domain`, with headers by names with underscores."""
    base = base_url(f"https://{domain}", aws.endpoint_url)
    return Answer(urlsplit(base).netloc, *send(method, f"{base}{path}", **headers))
