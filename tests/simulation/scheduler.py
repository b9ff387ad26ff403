"""Tasks of which one runs at a time, until it pauses.

Each task has a thread, and the threads hand over to each other explicitly. The operating system
never decides which one runs, so a run is the same each time.
"""

import threading
from collections.abc import Callable
from typing import Any, Final


class Task:
    """Work that stops at each `pause` until it is resumed.

    It begins with the first `resume`. When `ended` is true, it has returned `result` or raised
    `error`.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._interrupt: BaseException | None = None
        self._worker = IDLE.pop() if IDLE else _Worker()
        self._worker.task = self
        self.ended = False
        self.result: Any = None
        self.error: BaseException | None = None

    def resume(self, interrupt: BaseException | None = None) -> None:
        """Run to the next pause or to the end; `interrupt` is raised in the paused work."""
        self._interrupt = interrupt
        self._worker.go.release()
        self._worker.back.acquire()
        if self.ended:
            IDLE.append(self._worker)

    def pause(self) -> None:
        """Let others run; called by the work itself. Raises the interrupt of `resume`."""
        self._worker.back.release()
        self._worker.go.acquire()
        self._check()

    def _check(self) -> None:
        if self._interrupt is not None:
            raise self._interrupt

    def run(self) -> None:
        """Do the work; called by the thread."""
        try:
            self._check()
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001 - handled by the caller of `resume`
            self.error = error
        self.ended = True


class _Worker(threading.Thread):
    """A thread that runs one task after another: starting a thread costs more than a whole task."""

    task: Task

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.go, self.back = threading.Lock(), threading.Lock()
        self.go.acquire()
        self.back.acquire()
        self.start()

    def run(self) -> None:
        while True:
            self.go.acquire()
            self.task.run()
            self.back.release()


IDLE: Final[list[_Worker]] = []
"""Threads without a task."""
