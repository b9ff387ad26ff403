"""Requests to a stack's distribution, as a browser sends them."""

from typing import Final, NamedTuple
from urllib.parse import urlsplit

from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from image_pipeline.errors import CommandError
from image_pipeline.ports import HOST

SECONDS: Final = 10
"""Time to connect, and between two parts of an answer: much more than a thumbnail takes."""


class Answer(NamedTuple):
    """What came back; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def send(method: str, url: str, **headers: str) -> Answer:
    """Send a request, with headers by names with underscores. Redirects are not followed.

    A browser connects names below `localhost` to loopback. The resolver of the system need not, so
    such a host is in the header only. Others are reached as AWS's services are: with the same
    certificates, and by the proxy of the environment.

    Raises CommandError if there is no answer.
    """
    host, port = urlsplit(url).netloc, urlsplit(url).port
    local = (urlsplit(url).hostname or "").endswith(".localhost")
    address = urlsplit(url)._replace(netloc=f"{HOST}:{port}").geturl() if local else url
    session = URLLib3Session(proxies={} if local else get_environ_proxies(url), timeout=SECONDS)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method=method, url=address, headers={"Host": host, **given})
    try:
        answer = session.send(request.prepare())
        found = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status_code, found, answer.content)
    except BotoCoreError as error:
        raise CommandError(f"There is no answer from {url}: {error}") from error
    finally:
        session.close()
