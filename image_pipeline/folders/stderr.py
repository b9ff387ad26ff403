"""What libraries print on standard error, which would otherwise appear within a progress bar."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Final

STDERR: Final = 2
"""The file descriptor, to which C libraries write directly."""

MAX_BYTES: Final = 4096
"""Bytes that are kept of what is printed about one file."""


@contextmanager
def collected_stderr() -> Iterator[list[str]]:
    """Collect the lines that this process, C libraries included, prints during the block.

    The list is empty until the block ends.
    """
    lines: list[str] = []
    before = os.dup(STDERR)
    with TemporaryFile() as file:
        os.dup2(file.fileno(), STDERR)
        try:
            yield lines
        finally:
            os.dup2(before, STDERR)
            os.close(before)
            file.seek(0)
            lines += file.read(MAX_BYTES).decode(errors="replace").splitlines()
