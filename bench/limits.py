"""A process held to the CPU and memory that Lambda gives to a function, by Linux cgroups."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
PERIOD: Final = 20_000
"""µs in which a share of a CPU is handed out."""

_numbers = count()


class LimitUnavailable(Exception):
    """The machine, or its user, cannot limit a process; the message says why."""


@contextmanager
def limited(*, cpu: float | None = None, memory_mb: int | None = None) -> Iterator[tuple[str, ...]]:
    """Yield the beginning of a command line that holds the rest of it to a share of one CPU or MB.

    Beyond its memory a process is killed (SIGKILL), as Lambda does; there is no swap.

    Raises LimitUnavailable where cgroups cannot be made: by others than root, mostly.
    """
    wanted: dict[str, dict[str, str]] = {}
    if cpu is not None:
        quota = str(round(PERIOD * cpu))
        wanted["cpu"] = {
            "cpu.cfs_period_us": str(PERIOD),
            "cpu.cfs_quota_us": quota,
            "cpu.max": f"{quota} {PERIOD}",
        }
    if memory_mb is not None:
        limit = str(memory_mb * 1024**2)
        wanted["memory"] = {
            "memory.limit_in_bytes": limit,
            "memory.memsw.limit_in_bytes": limit,
            "memory.max": limit,
            "memory.swap.max": "0",
        }
    groups: dict[Path, Path] = {}  # by their parents: version 2 has one for all controllers
    try:
        for controller, values in wanted.items():
            parent = _parent(controller)
            if parent not in groups:
                groups[parent] = _new_group(parent)
            _set(groups[parent], values)
        # The shell joins the groups and becomes the command.
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
    """Write those values whose files the group has: version 1 and version 2 name them apart."""
    files = {name: value for name, value in values.items() if (group / name).exists()}
    if not files:
        raise LimitUnavailable(f"{group.parent} has none of {', '.join(values)}")
    for name, value in files.items():
        try:
            (group / name).write_text(value)
        except OSError as error:
            raise LimitUnavailable(f"{group / name} cannot be set: {error}") from error


def _parent(controller: str) -> Path:
    """Where a new group gets this controller."""
    for version_1 in (controller, f"{controller},{controller}acct"):
        if (CGROUPS / version_1 / "cgroup.procs").exists():
            return CGROUPS / version_1
    if (CGROUPS / "cgroup.controllers").exists():
        return CGROUPS
    raise LimitUnavailable(f"there are no {controller} cgroups at {CGROUPS}")
