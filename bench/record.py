"""The parts that all results files share: where they are, medians, and the machine of a run."""

import os
import platform
import statistics
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).resolve().parents[1]
WORK: Final = REPOSITORY / ".local" / "bench"
"""Built functions and drawn images, kept between runs."""

RESULTS: Final = REPOSITORY / "bench" / "results"
"""The results files, which are committed; docs/performance.md is written from them."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles."""

    median: float
    q1: float
    q3: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """The spread of at least two values, rounded to one decimal place."""
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
        return cls(*(round(value, 1) for value in (median, q1, q3)))

    def __str__(self) -> str:
        return f"{self.median:,.0f}\n[dim]{self.q1:,.0f}–{self.q3:,.0f}[/]"


def machine() -> dict[str, Any]:
    """Describe this machine: processor, number of cores, architecture, system."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
        cpu = next(line for line in cpuinfo.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    return {
        "cpu": cpu.partition(": ")[2] or cpu,
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
    }


def load() -> float:
    """The load of this machine now: processes that run or want to, mean of a minute."""
    return round(os.getloadavg()[0], 1)


def circumstances() -> dict[str, Any]:
    """What a results file says of its run: when, of which code, where, and beside which load."""
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "load": load(),
    }


def commit() -> str:
    """The last commit that changed the function, with `-dirty` if it has uncommitted changes."""

    def git(*command: str) -> str:
        done = subprocess.run(  # noqa: S603 - no input
            ["git", *command, "--", "lambda"],  # noqa: S607 - the git on PATH
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    return git("log", "-1", "--format=%h") + ("-dirty" if git("status", "--porcelain") else "")
