"""Tasks of which one runs at a time, until it pauses: threads that hand over to each other.

Who runs is never left to the operating system, so a run is the same each time.
"""

import threading
from collections.abc import Callable
from typing import Any, Final


class Task:
    """Work that stops at each `pause`, until it is resumed.

    It begins with the first `resume`. Afterwards `ended` tells that it has returned `result` or
    raised `error`.
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
        """Run to the next pause or the end; `interrupt` is raised where it stands."""
        self._interrupt = interrupt
        self._worker.go.release()
        self._worker.back.acquire()
        if self.ended:
            IDLE.append(self._worker)

    def pause(self) -> None:
        """Called by the work itself: let others go on. Raises what it is interrupted by."""
        self._worker.back.release()
        self._worker.go.acquire()
        self._check()

    def _check(self) -> None:
        if self._interrupt is not None:
            raise self._interrupt

    def run(self) -> None:
        """Called by the thread."""
        try:
            self._check()
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001 - whoever resumed it decides
            self.error = error
        self.ended = True


class _Worker(threading.Thread):
    """A thread that does one task after another: starting one costs more than a whole task."""

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
