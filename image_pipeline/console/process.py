"""The local stack's console: a process that `up` starts and `down` stops.

Like the local stack (local/stack.py), the process holds a file lock for as long as it lives. A free
lock means that the process is gone, so a process id that the system has reused is never signalled.
The console also exits by itself soon after the stack does.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from image_pipeline.console.session import new_address, new_key
from image_pipeline.errors import CommandError
from image_pipeline.locks import locked
from image_pipeline.ports import HOST, preferred_port

KEY_VARIABLE: Final = "IMAGE_PIPELINE_CONSOLE_SECRET"
"""The environment variable with a console's key, which signs its addresses. Other users can read a
process's arguments, but not its environment."""

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
        """A new URL that opens the console once, or None if it is not running."""
        state = self._running()
        return new_address(state["port"], state["key"]) if state else None

    def start(self, port: int) -> str:
        """Start the console on `port` of loopback, or a free one if that is taken.

        Returns a new URL that opens it once.
        Raises CommandError if a console is running or does not start; the message has its log.
        """
        with locked(self._lock) as lock:
            if lock is None:
                raise CommandError("The console of this stack is already running.")
            self._state.unlink(missing_ok=True)  # its process id may be reused by now
            port, key = preferred_port(port), new_key()
            self._log.unlink(missing_ok=True)
            self._log.touch(mode=0o600)  # errors may quote keys and settings
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
                    | {"IMAGE_PIPELINE_DIRECTORY": str(self._directory), KEY_VARIABLE: key},
                    pass_fds=[lock],
                    start_new_session=True,
                )
            state = {"pid": process.pid, "port": port, "key": key}
            self._state.touch(mode=0o600)  # before the key is in it
            self._state.write_text(json.dumps(state) + "\n")
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
                return new_address(port, key)
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
        """Return the console's "pid", "port" and "key", or None if it is not running."""
        if not self._directory.is_dir():
            return None
        with locked(self._lock) as free:
            try:
                state: dict[str, Any] = json.loads(self._state.read_text())
            except (OSError, ValueError):
                return None
            return state if free is None else None
