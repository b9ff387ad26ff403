"""Open a page in the user's web browser."""

import os
import sys
import webbrowser

from image_pipeline.cli.output import err


def open_page(url: str) -> None:
    """Open `url` if there is a screen; a text browser would take the terminal of the command."""
    screen = sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    if screen and err.is_terminal:
        webbrowser.open(url)
