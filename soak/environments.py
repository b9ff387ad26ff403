"""The function's execution environments on this machine: their memory and its growth."""

import os
import random
import re
import signal
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

SAMPLE_SECONDS: Final = 1.0
"""Between two measurements."""

KILL_SECONDS: Final = 3.0
"""Between two kills, on average: an assumption."""

MIN_SAMPLES: Final = 60
"""Measurements that growth needs, an assumption: with fewer, a warm-up looks like growth."""

RUNTIME: Final = b"awslambdaric"
"""In the command line of every environment: AWS's runtime client."""


class Environments:
    """Measures the function's processes in the process group `leader`; a context manager."""

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
        """The highest resident memory of any environment."""
        return max((max(each) for each in self._megabytes.values()), default=0.0)

    def growth_mb(self) -> dict[int, float]:
        """By process id, the minimum of the last quarter minus the minimum of the second quarter.

        The first quarter is the warm-up, in which each kind of image loads its decoder. Minimums
        are compared because the allocator keeps a varying part of what the last image needed above
        them. A leak raises the minimum.
        """
        found = {}
        for pid, values in self._megabytes.items():
            if len(values) >= MIN_SAMPLES:
                quarter = len(values) // 4
                found[pid] = min(values[-quarter:]) - min(values[quarter : 2 * quarter])
        return found

    def pids(self) -> list[int]:
        """Process ids of the running environments."""
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
        while not self._ended.wait(SAMPLE_SECONDS):
            for pid in self.pids():
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                if resident := re.search(r"VmRSS:\s+(\d+) kB", status):
                    self._megabytes[pid].append(int(resident[1]) / 1024)


class Killer:
    """Kills an environment every few seconds, whether it is busy or not; a context manager."""

    def __init__(self, environments: Environments, seed: int) -> None:
        self.killed = 0
        self._environments = environments
        self._rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._kill, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop killing."""
        self._ended.set()
        self._thread.join()

    def _kill(self) -> None:
        while not self._ended.wait(self._rng.uniform(0, 2 * KILL_SECONDS)):
            if pids := self._environments.pids():
                with suppress(ProcessLookupError):
                    os.kill(self._rng.choice(pids), signal.SIGKILL)
                    self.killed += 1
