"""A lock that a process and its children hold for life: while it is taken, one of them lives."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ATTEMPTS: Final = 5
PAUSE_SECONDS: Final = 0.01
"""Whoever only checks a lock holds it for an instant: that must not count as taken."""


@contextmanager
def locked(path: Path) -> Iterator[int | None]:
    """Hold the lock at `path` for the block, or get None where another process holds it.

    The value is the lock's file descriptor. On Linux and macOS a child process that inherits it
    keeps the lock after the block, until the child ends.
    """
    from filelock import lock_descriptor  # noqa: PLC0415 - 80 ms, which most commands do not need

    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        for _ in range(ATTEMPTS):
            if lock_descriptor(descriptor, blocking=False):
                yield descriptor
                return
            time.sleep(PAUSE_SECONDS)
        yield None
    finally:
        os.close(descriptor)
