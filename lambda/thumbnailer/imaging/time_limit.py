"""The limit on an image's time: its work is stopped at the deadline, wherever it is.

An alarm stops what Python does, between the calls of a decoder or an encoder. It cannot interrupt
such a call. So a call that may take long for its file is made in a child process, which can be
killed. ADR 19 has the measurements.
"""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from thumbnailer.errors import CorruptImage, ImageTooLarge, ImageTooSlow
from thumbnailer.imaging.hard_limit import OUT_OF_MEMORY

FULL_CPU_MB: Final = 1769
"""Memory in MB of a function with one whole CPU; with less, its share is proportional
(https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html)."""

LONG_SHARE: Final = 0.5
"""Share of the time left that a call may be estimated to take in the function's own process."""

ALARM_AGAIN_SECONDS: Final = 1.0
"""The alarm is repeated, because Python ignores an exception in a finalizer."""

CHILD_MB: Final = 8
"""Memory that a child copies, because it writes to what it shares with its parent: 3 MB, measured
(ADR 19), and a margin."""


class LongCall(Exception):
    """A call of the decoder or the encoder may take too long for the function's own process."""


def refuse_long_call(cpu_seconds: float, memory_mb: int, seconds: float) -> None:
    """Raise LongCall where `cpu_seconds` at this memory's share of a CPU are long for `seconds`."""
    if cpu_seconds * max(1.0, FULL_CPU_MB / memory_mb) > LONG_SHARE * seconds:
        raise LongCall


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise ImageTooSlow in the block after `seconds` (at least 0).

    Only the main thread can be interrupted, which is where Lambda calls the function.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> NoReturn:
        raise _too_slow(seconds)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), ALARM_AGAIN_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # also where the alarm came in the lines above
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_child[T](work: Callable[[], T], seconds: float, spent: float = 0.0) -> T:
    """Do `work` in a child process, and return or raise what it returns or raises.

    The child is killed after `seconds`, of which `spent` are over: ImageTooSlow. Raises
    ImageTooLarge or CorruptImage where the child is killed or crashes.
    """
    import multiprocessing  # noqa: PLC0415 - most images need no child
    from multiprocessing.connection import Connection  # noqa: PLC0415

    context = multiprocessing.get_context("fork")
    receiver: Connection[Any, Any]
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(work, sender, seconds))
    with warnings.catch_warnings():
        # Python warns of threads beside a fork: the child would miss them, or find a lock held.
        # It only decodes and encodes, and glibc's own locks are safe.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    sender.close()
    try:
        if not receiver.poll(max(seconds - spent, 0.0)):
            raise _too_slow(seconds)
        done, outcome = receiver.recv()
    except EOFError as error:
        child.join()
        if child.exitcode == -signal.SIGKILL:
            raise ImageTooLarge(OUT_OF_MEMORY) from error
        raise CorruptImage(f"The decoder crashed (exit code {child.exitcode}).") from error
    finally:
        child.kill()
        child.join()
        child.close()
        receiver.close()
    if done:
        result: T = outcome
        return result
    raise outcome


def _work(work: Callable[[], Any], sender: Any, seconds: float) -> None:
    """Do the child's work. It sends its result or its error."""
    import resource  # noqa: PLC0415 - not on Windows

    # A child that outlives its parent ends all the same.
    cpu_seconds = int(seconds + 1) * (os.cpu_count() or 1)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_DATA, (soft - CHILD_MB * 1024**2, hard))
    try:
        outcome = (True, work())
    except Exception as error:  # noqa: BLE001 - the parent raises it
        outcome = (False, error)
    sender.send(outcome)


def _too_slow(seconds: float) -> ImageTooSlow:
    return ImageTooSlow(f"The thumbnails were not made within {seconds:.0f} s.")
