"""Requests to a distribution of the local AWS, as a browser sends them."""

import http.client
from typing import NamedTuple
from urllib.parse import urlsplit

from image_pipeline.ports import HOST
from image_pipeline.stack.aws import Aws
from thumbnailer.urls import base_url


class Answer(NamedTuple):
    """What came back; header names in lower case."""

    host: str
    status: int
    headers: dict[str, str]
    body: bytes


def at_distribution(aws: Aws, domain: str, method: str, path: str, **headers: str) -> Answer:
    """Ask the distribution `domain`, with headers by names with underscores.

    A browser connects names below `localhost` to loopback. The resolver of the system need not, so
    the host is in the header only.
    """
    base = urlsplit(base_url(f"https://{domain}", aws.endpoint_url))
    connection = http.client.HTTPConnection(HOST, base.port, timeout=10)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers={"Host": base.netloc, **given})
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(base.netloc, answer.status, found, answer.read())
    finally:
        connection.close()
