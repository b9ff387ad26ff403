"""A lock that a process holds for life, so that others can tell whether it lives."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[int | None]:
    """Hold the lock at `path` for the block, or get None where somebody else holds it.

    A child process that inherits the descriptor holds it on. Others who merely look hold it for no
    longer than an instant, so it is tried again.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        for _ in range(5):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.01)
            else:
                yield descriptor
                return
        yield None
    finally:
        os.close(descriptor)
