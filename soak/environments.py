"""The function's environments on this machine: how much memory each has, and how it grows."""

import os
import random
import re
import signal
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

EVERY: Final = 1.0
"""Seconds between two looks."""

KILL_EVERY: Final = 3.0
"""Seconds between two kills, on average."""

LEAST_LOOKS: Final = 60
"""An environment that was seen less often tells nothing of growth."""

RUNTIME: Final = b"awslambdaric"


class Environments:
    """Watches the processes of the function in the process group `leader` for a block."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._megabytes: defaultdict[int, list[float]] = defaultdict(list)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def peak_mb(self) -> float:
        """The most that one of them had resident."""
        return max((max(each) for each in self._megabytes.values()), default=0.0)

    def growth_mb(self) -> dict[int, float]:
        """By process id: the least of the last quarter less that of the second.

        The first quarter warms up: each kind of image imports its decoder. The least, for beyond it
        the allocator keeps now more, now less of what the last image needed; a leak lifts it.
        """
        found = {}
        for pid, values in self._megabytes.items():
            if len(values) >= LEAST_LOOKS:
                quarter = len(values) // 4
                found[pid] = min(values[-quarter:]) - min(values[quarter : 2 * quarter])
        return found

    def pids(self) -> list[int]:
        """Ids of those that live."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
                group = int((process / "stat").read_text().rpartition(")")[2].split()[2])
            except OSError:
                continue  # ended meanwhile
            if group == self._leader and RUNTIME in command:
                found.append(int(process.name))
        return found

    def _watch(self) -> None:
        while not self._ended.wait(EVERY):
            for pid in self.pids():
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                if resident := re.search(r"VmRSS:\s+(\d+) kB", status):
                    self._megabytes[pid].append(int(resident[1]) / 1024)


class Killer:
    """Kills one of the function's environments every few seconds, at work or not, for a block."""

    def __init__(self, environments: Environments, seed: int) -> None:
        self.killed = 0
        self._environments = environments
        self._rng = random.Random(seed)  # noqa: S311 - to be replayed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._kill, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let the others live."""
        self._ended.set()
        self._thread.join()

    def _kill(self) -> None:
        while not self._ended.wait(self._rng.uniform(0, 2 * KILL_EVERY)):
            if pids := self._environments.pids():
                with suppress(ProcessLookupError):
                    os.kill(self._rng.choice(pids), signal.SIGKILL)
                    self.killed += 1
