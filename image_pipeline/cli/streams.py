"""Standard output and standard error: any encoding, and readers that end early.

Only the standard library is imported, because every start of the command needs this.
"""

import codecs
import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Final, TextIO

REPLACEMENTS: Final = {
    "→": "->",
    "…": "...",
    "×": "x",
    "·": "-",
    "✓": "+",
    "✗": "x",
    "–": "-",
    "—": "-",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
}
"""Symbols that this command and its libraries print → what a terminal without them shows."""

BRAILLE: Final = range(0x2800, 0x2900)
"""Code points of the spinner's symbols (Unicode block Braille Patterns)."""

ERRORS: Final = "image-pipeline"
"""Name of the error handler `replaced` in Python's registry of codecs."""


def prepare() -> None:
    """Let both streams take any character, whatever their encoding is, and let none be missing.

    A stream that the caller has closed becomes the null device: a file that is opened later would
    get its number, and so whatever a library prints.
    """
    codecs.register_error(ERRORS, replaced)
    sys.stdout = _opened(sys.stdout)
    sys.stderr = _opened(sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not _is_unicode(stream):
            stream.reconfigure(errors=ERRORS)


def replaced(error: UnicodeError) -> tuple[str, int]:
    r"""Replace what an encoding does not have: by REPLACEMENTS, else by an escape such as `\xe9`.

    Raises the error if it is not one of encoding.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(_replacement(each) for each in found), error.end


def flush() -> None:
    """Write what is still in the buffers. Nothing is printed if their reader has ended."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            drop(stream)


def drop(stream: TextIO) -> None:
    """Let everything that is written to a stream from now on disappear."""
    with contextlib.suppress(OSError, ValueError):  # it is no file
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def encodes(stream: TextIO, text: str) -> bool:
    """Whether the encoding of a stream has every character of the text."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8", "surrogatepass")
    except UnicodeEncodeError:
        return False
    return True


def _opened(stream: TextIO | None) -> TextIO:
    if stream is not None:
        return stream
    return Path(os.devnull).open("w", encoding="utf-8")


def _is_unicode(stream: io.TextIOWrapper) -> bool:
    return codecs.lookup(stream.encoding).name.startswith("utf-")


def _replacement(character: str) -> str:
    if ord(character) in BRAILLE:
        return "*"
    return REPLACEMENTS.get(character) or character.encode("ascii", "backslashreplace").decode()
