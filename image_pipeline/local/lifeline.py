"""Runs a command for as long as whoever started it lives: `python lifeline.py COMMAND...`.

Its standard input is a pipe that nobody writes to. When that ends its writer is gone, however that
ended, and this process group is killed, which must be one of its own.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Run the command, and leave with its exit code."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    ran = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, check=False)  # noqa: S603
    sys.exit(ran.returncode)


def _end_with_input() -> None:
    sys.stdin.read()
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
