"""Limits processes to the CPU and memory of a Lambda function, by Linux cgroups (v1 or v2)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
PERIOD_US: Final = 20_000
"""Microseconds of a scheduling period: a share of a CPU is a part of each period. An assumption,
because Lambda's own period is not documented."""

_numbers = count()


class LimitUnavailable(Exception):
    """Processes cannot be limited on this machine or by this user; the message says why."""


@contextmanager
def limited(*, cpu: float | None = None, memory_mb: int | None = None) -> Iterator[tuple[str, ...]]:
    """Yield the beginning of a command line that limits the rest of it.

    `cpu` is a share of one CPU, `memory_mb` in MB. A process that exceeds its memory is killed
    (SIGKILL), as in Lambda; there is no swap.

    Raises LimitUnavailable where cgroups cannot be created, usually because the user is not root.
    """
    wanted: dict[str, dict[str, str]] = {}
    if cpu is not None:
        quota = str(round(PERIOD_US * cpu))
        wanted["cpu"] = {
            "cpu.cfs_period_us": str(PERIOD_US),
            "cpu.cfs_quota_us": quota,
            "cpu.max": f"{quota} {PERIOD_US}",
        }
    if memory_mb is not None:
        limit = str(memory_mb * 1024**2)
        wanted["memory"] = {
            "memory.limit_in_bytes": limit,
            "memory.memsw.limit_in_bytes": limit,
            "memory.max": limit,
            "memory.swap.max": "0",
        }
    groups: dict[Path, Path] = {}  # by parent: version 2 has one group for all controllers
    try:
        for controller, values in wanted.items():
            parent = _parent(controller)
            if parent not in groups:
                groups[parent] = _new_group(parent)
            _set(groups[parent], values)
        # The shell joins the groups and then replaces itself by the command.
        joins = " && ".join(f"echo $$ > '{group}/cgroup.procs'" for group in groups.values())
        yield ("/bin/sh", "-c", f'{joins} && exec "$@"', "sh")
    finally:
        for group in groups.values():
            group.rmdir()


def _new_group(parent: Path) -> Path:
    group = parent / f"image-pipeline-{os.getpid()}-{next(_numbers)}"
    try:
        group.mkdir()
    except OSError as error:
        raise LimitUnavailable(f"cannot make a cgroup: {error}") from error
    return group


def _set(group: Path, values: dict[str, str]) -> None:
    """Write the values whose files exist: versions 1 and 2 have different names for them."""
    files = {name: value for name, value in values.items() if (group / name).exists()}
    if not files:
        raise LimitUnavailable(f"{group.parent} has none of {', '.join(values)}")
    for name, value in files.items():
        try:
            (group / name).write_text(value)
        except OSError as error:
            raise LimitUnavailable(f"{group / name} cannot be set: {error}") from error


def _parent(controller: str) -> Path:
    """The folder in which a new group has this controller."""
    for version_1 in (controller, f"{controller},{controller}acct"):
        if (CGROUPS / version_1 / "cgroup.procs").exists():
            return CGROUPS / version_1
    if (CGROUPS / "cgroup.controllers").exists():
        return CGROUPS
    raise LimitUnavailable(f"{CGROUPS} has no {controller} controller")
