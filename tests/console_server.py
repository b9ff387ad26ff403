"""The console served for tests, and a client that sends requests as its pages do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests

from image_pipeline.console.guard import SESSION_PATH
from image_pipeline.console.server import serve
from image_pipeline.console.session import new_address
from image_pipeline.ports import listening
from image_pipeline.stack.deployed import Stack

KEY = "console-key"


@contextmanager
def serving(stack: Stack, port: int = 0) -> Iterator[str]:
    """Serve the console of `stack` for the block, and yield its URL; `address` opens it.

    `port` 0 is a free one.
    """
    ended = threading.Event()
    with listening(port) as listener:
        thread = threading.Thread(target=serve, args=(stack, listener, KEY, ended))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


def address(url: str) -> str:
    """Return a new address that opens the console at `url` once."""
    return new_address(int(urlsplit(url).port or 0), KEY)


def secret_of(address: str) -> str:
    """Return the secret of an address, as the script of the page reads it."""
    return urlsplit(address).fragment.removeprefix("secret=")


class Pages:
    """A client of the console at `url` that has opened an address, as its script does."""

    def __init__(self, url: str) -> None:
        self.url = url
        answer = requests.post(
            url + SESSION_PATH,
            json={"secret": secret_of(address(url))},
            headers={"Origin": url},
            timeout=10,
        )
        self.token = answer.json()["token"]
        self._headers = {"Authorization": f"Bearer {self.token}", "Accept": "text/html"}

    def get(self, path: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
        """Request a page or a fragment of one."""
        headers = self._headers | (headers or {})
        return requests.get(self.url + path, headers=headers, timeout=10, **more)

    def post(self, path: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
        """Send a POST request with the page's origin and token."""
        headers = self._headers | {"Origin": self.url} | (headers or {})
        return requests.post(self.url + path, headers=headers, timeout=10, **more)
