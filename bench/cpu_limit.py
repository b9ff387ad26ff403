"""A fraction of a CPU, as Lambda gives it to a function of little memory, by Linux cgroups."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
PERIOD: Final = 20_000
"""µs in which the share is handed out."""


class CpuLimitUnavailable(Exception):
    """The machine, or its user, cannot limit a process; the message says why."""


@contextmanager
def limited_cpu(share: float) -> Iterator[tuple[str, ...]]:
    """Yield the beginning of a command line that holds the rest of it to `share` of one CPU.

    Raises CpuLimitUnavailable where cgroups cannot be made: by others than root, mostly.
    """
    quota = str(round(PERIOD * share))
    group = _parent() / f"image-pipeline-bench-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise CpuLimitUnavailable(f"cannot make a cgroup: {error}") from error
    try:
        try:
            _set_quota(group, quota)
        except OSError as error:
            raise CpuLimitUnavailable(f"{group.parent} hands out no CPU: {error}") from error
        # The shell joins the group and becomes the command.
        yield ("/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"))
    finally:
        group.rmdir()


def _set_quota(group: Path, quota: str) -> None:
    if (group / "cpu.cfs_quota_us").exists():  # version 1
        (group / "cpu.cfs_period_us").write_text(str(PERIOD))
        (group / "cpu.cfs_quota_us").write_text(quota)
    else:  # version 2
        (group / "cpu.max").write_text(f"{quota} {PERIOD}")


def _parent() -> Path:
    """Where a new group gets a CPU quota."""
    for version_1 in ("cpu", "cpu,cpuacct"):
        if (CGROUPS / version_1 / "cpu.cfs_quota_us").exists():
            return CGROUPS / version_1
    if (CGROUPS / "cgroup.controllers").exists():
        return CGROUPS
    raise CpuLimitUnavailable(f"there are no CPU cgroups at {CGROUPS}")
