"""A real browser for tests: Debian's Chromium, or whichever is installed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

QUIET: Final = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
"""What keeps it from asking for anything but the pages that it is sent to."""


def executable() -> str | None:
    """Path of the browser; the variable CHROMIUM goes before what is found."""
    found = (shutil.which(name) for name in NAMES)
    return os.environ.get("CHROMIUM") or next(filter(None, found), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """Run the browser for the block. Root may only run it without its sandbox."""
    sandbox = os.geteuid() != 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable(), args=list(QUIET), chromium_sandbox=sandbox
        )
        try:
            yield browser
        finally:
            browser.close()
