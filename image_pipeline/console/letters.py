"""Dead letters for pages: read by one at a time, for a look hides messages from the others."""

import threading
import time
from typing import Final

from image_pipeline import replaying
from image_pipeline.failures import Failure
from image_pipeline.stack import Stack

REMEMBERED: Final = 2.0
"""Seconds; pages that wait for uploads ask often."""

MOST: Final = 1000


class Letters:
    """The failures on all queues of a stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._found: list[Failure] = []
        self._read_at = float("-inf")

    def read(self) -> list[Failure]:
        """Up to MOST failures, oldest first, as they were at most REMEMBERED seconds ago."""
        with self._lock:
            if time.monotonic() - self._read_at > REMEMBERED:
                self._found = replaying.letters(self._stack, MOST, None)
                self._read_at = time.monotonic()
            return self._found

    def forget(self) -> None:
        """Read again next time: a replay has ended."""
        with self._lock:
            self._read_at = float("-inf")
