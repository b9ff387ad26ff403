"""Open a page in the user's web browser."""

import html
import os
import subprocess
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import Final

from image_pipeline.cli.output import err

REDIRECT_SECONDS: Final = 60
"""Seconds until the file that redirects to a page is deleted. A browser that starts first takes
several; the address in the file works once."""

REDIRECT: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={url}">
<title>Image pipeline</title>
<p><a href="{url}">Open the console</a></p>
</html>
"""

DELETE: Final = (
    "import shutil, sys, time; time.sleep(float(sys.argv[2])); shutil.rmtree(sys.argv[1])"
)


def open_page(url: str) -> None:
    """Open `url` if there is a screen; a text browser would take the terminal of the command.

    `url` may have a secret, and other users of the machine can read the arguments of a browser's
    process. So the browser opens a file of this user's that redirects to `url`, as Jupyter does.
    """
    if _has_screen():
        webbrowser.open(_redirect(url).as_uri())


def open_file(path: Path) -> None:
    """Open a page of this user's own if there is a screen: see open_page."""
    if _has_screen():
        webbrowser.open(path.resolve().as_uri())


def _has_screen() -> bool:
    screen = sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    return bool(screen) and err.is_terminal


def _redirect(url: str) -> Path:
    """Write a file that redirects to `url`, and have it deleted, even if the command has ended."""
    folder = Path(tempfile.mkdtemp(prefix="image-pipeline-"))  # with mode 0700
    file = folder / "console.html"
    file.touch(mode=0o600)  # before the address is in it
    file.write_text(REDIRECT.format(url=html.escape(url)), encoding="utf-8")
    deletion = subprocess.Popen(  # noqa: S603 - this Python
        [sys.executable, "-I", "-c", DELETE, str(folder), str(REDIRECT_SECONDS)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    threading.Thread(target=deletion.wait, daemon=True).start()  # so that no zombie is left
    return file
