"""What Ctrl-C and other signals do to a command that is at work."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from image_pipeline.cli.output import ask, err


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the block like an exception, so that it cleans up."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has one
    before = {name: signal.signal(getattr(signal, name), leave) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def leave_or_stop(
    command: str, execution: str, stop: Callable[[], None], options: str = ""
) -> NoReturn:
    """After Ctrl-C: ask whether to `stop` the execution that `command` waits for, or leave it.

    `options` name the stack, after a space. Where there is no terminal the execution is left
    running. Raises typer.Exit with code 130.
    """
    again = f"image-pipeline {command}{options}"
    if sys.stdin.isatty() and ask(f"\nStop the {command}?", default=True):
        stop()
        err.print(f"Stopped {execution}; nothing is lost. To continue: {again}")
    else:
        err.print(f"The {command} continues as {execution}. To follow it: {again}")
    raise typer.Exit(130)
