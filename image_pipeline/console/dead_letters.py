"""The failed uploads on a stack's dead-letter queues, shared by all requests to the console.

Reading a queue hides its messages from other readers for a moment, so only one thread reads at a
time, and the result is reused for a while.
"""

import threading
import time
from typing import Final

from image_pipeline.stack import dead_letters
from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.deployed import Stack

MIN_REUSE_SECONDS: Final = 2.0
"""Minimum time that a result is reused: pages that wait for uploads ask often."""

REUSE_FACTOR: Final = 10
"""A result is reused for this many times as long as reading it took, so that the console spends at
most a tenth of its time reading a queue of thousands of messages."""

MAX_FAILURES: Final = 1000
"""Maximum failures to read: 100 requests, because SQS returns up to ten messages in each
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html)."""


class DeadLetters:
    """The failures on all queues of a stack. Whoever receives messages holds `lock`."""

    def __init__(self, stack: Stack) -> None:
        self.lock = threading.Lock()
        self._stack = stack
        self._failures: list[Failure] = []
        self._reuse_until = float("-inf")

    def read(self) -> list[Failure]:
        """Return up to MAX_FAILURES failures, oldest first; the result may be seconds old.

        Raises CommandError if AWS refuses.
        """
        with self.lock:
            started = time.monotonic()
            if started > self._reuse_until:
                self._failures = dead_letters.failures(self._stack, MAX_FAILURES)
                now = time.monotonic()
                self._reuse_until = now + max(MIN_REUSE_SECONDS, REUSE_FACTOR * (now - started))
            return self._failures

    def forget(self) -> None:
        """Make the next `read` read the queues, for example because a replay has ended."""
        with self.lock:
            self._reuse_until = float("-inf")
