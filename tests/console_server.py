"""The console served for tests, and a client that sends requests as its pages do."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests

from image_pipeline.console.guard import TOKEN_HEADER
from image_pipeline.console.server import serve
from image_pipeline.ports import listening
from image_pipeline.stack.deployed import Stack

SECRET = "console-secret"


@contextmanager
def serving(stack: Stack) -> Iterator[str]:
    """Serve the console of `stack` for the block, and yield its URL; SECRET opens it."""
    ended = threading.Event()
    with listening(0) as listener:
        thread = threading.Thread(target=serve, args=(stack, listener, SECRET, ended))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


class Pages:
    """A client of the console at `url` that has opened a page."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        page = self._session.get(f"{url}/?secret={SECRET}", timeout=10).text
        token = re.search(r'name="csrf-token" content="(.*?)"', page)
        assert token
        self._headers = {"Origin": url, TOKEN_HEADER: token[1], "Accept": "text/html"}

    def get(self, path: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
        """Request a page or a fragment of one."""
        headers = {"Accept": "text/html"} | (headers or {})
        return self._session.get(self.url + path, headers=headers, timeout=10, **more)

    def post(self, path: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
        """Send a POST request with the page's origin and token."""
        headers = self._headers | (headers or {})
        return self._session.post(self.url + path, headers=headers, timeout=10, **more)
