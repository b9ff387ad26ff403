"""The local stack's own console: a process beside it, started by `up` and stopped by `down`.

It holds a lock for life, so as with the stack itself (local_stack.py) a lock that is free says that
it is gone, and a recycled process id is never signalled. If it is not stopped it ends by itself
soon after the stack.
"""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from image_pipeline.errors import CommandError
from image_pipeline.locks import locked
from image_pipeline.ports import HOST, preferred_port

SECRET: Final = "secret"  # noqa: S105 - its name
"""Parameter of the address that opens a console; a cookie takes its place."""

SECRET_VARIABLE: Final = "IMAGE_PIPELINE_CONSOLE_SECRET"  # noqa: S105 - its name
"""By which a console is told its secret: a process's environment is for its owner's eyes."""

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 5.0


class ConsoleProcess:
    """The console of the local stack in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = directory / "console.lock"
        self._state = directory / "console.json"
        self._log = directory / "console.log"

    @property
    def url(self) -> str | None:
        """Where it answers, or None where it does not run."""
        told = self._running()
        return address(told["port"], told["secret"]) if told else None

    def start(self, port: int) -> str:
        """Start it on `port` of loopback, or another one if that is taken, and tell its URL.

        Raises CommandError with the end of its log.
        """
        with locked(self._lock) as lock:
            if lock is None:
                raise CommandError("A console of this stack runs already.")
            self._state.unlink(missing_ok=True)  # of an earlier one, whose number may be another's
            port, secret = preferred_port(port), secrets.token_urlsafe()
            with self._log.open("wb") as log:
                process = subprocess.Popen(  # noqa: S603 - our own command
                    [
                        *(sys.executable, "-m", "image_pipeline.cli.app", "console", "--local"),
                        *("--no-browser", "--port", str(port)),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ
                    | {"IMAGE_PIPELINE_DIRECTORY": str(self._directory), SECRET_VARIABLE: secret},
                    pass_fds=[lock],
                    start_new_session=True,
                )
            told = {"pid": process.pid, "port": port, "secret": secret}
            self._state.touch(mode=0o600)  # for its owner's eyes
            self._state.write_text(json.dumps(told) + "\n")
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
                return address(port, secret)
            time.sleep(0.05)
        raise CommandError(f"The console did not start.\n{self._log.read_text(errors='replace')}")

    def stop(self) -> None:
        """End it, if it runs."""
        deadline = time.monotonic() + STOP_SECONDS
        number: int = signal.SIGTERM
        while told := self._running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(told["pid"], number)
            time.sleep(0.05)
            if time.monotonic() > deadline:
                number = signal.SIGKILL
        self._state.unlink(missing_ok=True)

    def _running(self) -> dict[str, Any] | None:
        """Its process id, port and secret, or None where it does not run."""
        if not self._directory.is_dir():
            return None
        with locked(self._lock) as free:
            try:
                told: dict[str, Any] = json.loads(self._state.read_text())
            except (OSError, ValueError):
                return None
            return told if free is None else None


def address(port: int, secret: str) -> str:
    """What opens a console."""
    return f"http://{HOST}:{port}/?{SECRET}={secret}"
