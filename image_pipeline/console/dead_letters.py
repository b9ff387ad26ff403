"""Dead letters for pages: read by one at a time, for a look hides messages from the others."""

import threading
import time
from typing import Final

from image_pipeline.stack import dead_letters
from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.deployed import Stack

LEAST_SECONDS: Final = 2.0
"""For so long a look is good: pages that wait for uploads ask often."""

RESTING: Final = 10
"""Times as long as a look took it is good: thousands of letters are not read without a pause."""

MOST: Final = 1000


class Letters:
    """The failures on all queues of a stack; `lock` is held by whoever receives messages."""

    def __init__(self, stack: Stack) -> None:
        self.lock = threading.Lock()
        self._stack = stack
        self._found: list[Failure] = []
        self._good_until = float("-inf")

    def read(self) -> list[Failure]:
        """Up to MOST failures, oldest first, as they were a moment ago."""
        with self.lock:
            began = time.monotonic()
            if began > self._good_until:
                self._found = dead_letters.failures(self._stack, MOST)
                took = time.monotonic() - began
                self._good_until = time.monotonic() + max(LEAST_SECONDS, RESTING * took)
            return self._found

    def forget(self) -> None:
        """Read again next time: a replay has ended."""
        with self.lock:
            self._good_until = float("-inf")
