"""The local stack's console: a process that `up` starts and `down` stops.

Like the local stack (local/stack.py), the process holds a file lock for as long as it lives. A free
lock means that the process is gone, so a process id that the system has reused is never signalled.
The console also exits by itself soon after the stack does.
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

SECRET: Final = "secret"  # noqa: S105 - the name of the parameter
"""The query parameter of the URL that opens a console; a cookie replaces it."""

SECRET_VARIABLE: Final = "IMAGE_PIPELINE_CONSOLE_SECRET"  # noqa: S105 - the variable's name
"""The environment variable with a console's secret. Other users can read a process's arguments,
but not its environment."""

START_SECONDS: Final = 20.0
"""Maximum time until a new console listens: Python starts, and the stack is described, within two
seconds on an idle laptop."""

STOP_SECONDS: Final = 5.0
"""Maximum time to stop after SIGTERM. The console itself takes up to two seconds."""


class ConsoleProcess:
    """The console of the local stack in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = directory / "console.lock"
        self._state = directory / "console.json"
        self._log = directory / "console.log"

    @property
    def url(self) -> str | None:
        """The URL that opens the console, or None if it is not running."""
        state = self._running()
        return address(state["port"], state["secret"]) if state else None

    def start(self, port: int) -> str:
        """Start the console on `port` of loopback, or a free one if that is taken; return its URL.

        Raises CommandError if a console is running or does not start; the message has its log.
        """
        with locked(self._lock) as lock:
            if lock is None:
                raise CommandError("The console of this stack is already running.")
            self._state.unlink(missing_ok=True)  # its process id may be reused by now
            port, secret = preferred_port(port), secrets.token_urlsafe()
            with self._log.open("wb") as log:
                process = subprocess.Popen(  # noqa: S603 - this package's own command
                    [
                        *(sys.executable, "-m", "image_pipeline.cli", "console", "--local"),
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
            state = {"pid": process.pid, "port": port, "secret": secret}
            self._state.touch(mode=0o600)  # before the secret is in it
            self._state.write_text(json.dumps(state) + "\n")
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
                return address(port, secret)
            time.sleep(0.05)
        raise CommandError(f"The console did not start.\n{self._log.read_text(errors='replace')}")

    def stop(self) -> None:
        """Stop the console if it is running; kill it after STOP_SECONDS."""
        deadline = time.monotonic() + STOP_SECONDS
        signal_number: int = signal.SIGTERM
        while state := self._running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(state["pid"], signal_number)
            time.sleep(0.05)
            if time.monotonic() > deadline:
                signal_number = signal.SIGKILL
        self._state.unlink(missing_ok=True)

    def _running(self) -> dict[str, Any] | None:
        """Return the console's "pid", "port" and "secret", or None if it is not running."""
        if not self._directory.is_dir():
            return None
        with locked(self._lock) as free:
            try:
                state: dict[str, Any] = json.loads(self._state.read_text())
            except (OSError, ValueError):
                return None
            return state if free is None else None


def address(port: int, secret: str) -> str:
    """Return the URL that opens the console on `port`."""
    return f"http://{HOST}:{port}/?{SECRET}={secret}"
