"""A real browser: Chromium or Chrome, if one is installed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

OFFLINE_ARGUMENTS: Final = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
"""Arguments that keep the browser from requests of its own."""


def executable() -> str | None:
    """Return the browser's path, or None: the variable CHROMIUM, or the first of NAMES."""
    installed = (shutil.which(name) for name in NAMES)
    return os.environ.get("CHROMIUM") or next(filter(None, installed), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """Run the browser for the block. Its sandbox does not work for root."""
    sandbox = os.geteuid() != 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable(), args=list(OFFLINE_ARGUMENTS), chromium_sandbox=sandbox
        )
        try:
            yield browser
        finally:
            browser.close()


def process_id(browser: Browser) -> int:
    """Return the id of the browser's main process. All others end with it."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return next(int(each["id"]) for each in processes if each["type"] == "browser")
