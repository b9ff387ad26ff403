"""Runs a command that ends when the process that started it does: `python lifeline.py COMMAND...`.

Standard input is a pipe that the starting process holds and never writes to. When that process
ends, however it ends, the pipe is closed, and this process group is killed. So the group must be
one of its own (`start_new_session`).
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Run the command, and exit with its exit code."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    ran = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, check=False)  # noqa: S603
    sys.exit(ran.returncode)


def _end_with_input() -> None:
    sys.stdin.read()
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
