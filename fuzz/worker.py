"""A process that tries one case after another and sends the outcome of each to its parent."""

import importlib
import random
import resource
import traceback
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

from fuzz.mutations import mutated
from fuzz.seeds import seeds
from thumbnailer.errors import PermanentError
from thumbnailer.imaging import Size, identify
from thumbnailer.imaging.limits import BASE_MB
from thumbnailer.settings import DEFAULT_MEMORY_MB, Settings

MAX_MEMORY_MB: Final = DEFAULT_MEMORY_MB
"""Memory that a case may take."""

MAX_SECONDS: Final = 8.0
"""CPU time that a case may take. With MAX_MEMORY_MB a function has 0.29 vCPU, so that the default
of LambdaTimeout, 30 s, is 8.7 s of CPU time."""

DEADLINE_SECONDS: Final = 6.0
"""Time that the function gives an image, at a whole CPU: less than MAX_SECONDS, because it is the
function's own task to stop."""

RESTART_MB: Final = 150
"""Resident memory at which a worker process is replaced: an assumption, about twice the memory of a
process that has tried some dozens of cases."""

ADDRESS_SPACE: Final = 6 * 2**30
"""Bytes of address space that a worker may allocate, to protect the machine: an assumption."""

WIDTHS: Final = ((128, 512), (128, 512), (1,), (64, 3000))
"""Widths of the thumbnails in pixels: mostly the defaults, some very small or large ones."""


class Case(NamedTuple):
    """The input of the target: the bytes of a file, and widths in pixels."""

    data: bytes
    widths: tuple[int, ...]


class Outcome(NamedTuple):
    """The outcome of a case: `kind` is ok, refused, exception, crash, hang or memory.

    `refused` is a PermanentError, which is right for a damaged file. `format` is what the file
    looks like, or "unknown". `seconds` are CPU time.
    """

    kind: str
    format: str
    detail: str
    seconds: float = 0.0


@cache
def _seeds() -> dict[str, list[bytes]]:
    """The intact files by format."""
    by_format = dict[str, list[bytes]]()
    for data in seeds().values():
        if name := identify(data):
            by_format.setdefault(name, []).append(data)
    return by_format


def case(seed: int, number: int) -> Case:
    """The case with this number; it is the same in every run with the same seed and files.

    All formats are as frequent, however many files there are of each.
    """
    rng = random.Random(f"{seed}:{number}")  # noqa: S311 - reproducible, not secret
    files = rng.choice(list(_seeds().values()))
    return Case(mutated(rng.choice(files), files, rng), rng.choice(WIDTHS))


def warmed_up_mb() -> float:
    """Load the intact files and all decoders, and return the memory of this process in MB."""
    _seeds()
    return memory_mb("VmRSS")


def attempt(
    target: Callable[..., Any],
    tried: Case,
    max_seconds: float = MAX_SECONDS,
    own_mb: float = BASE_MB,
) -> Outcome:
    """Try one case in this process, which itself needs `own_mb`, where the function has BASE_MB."""
    specs = Settings("", "", sizes=tuple(map(Size.of_width, tried.widths))).specs
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak of memory
    began, children_mb = cpu_seconds(), _children_mb()
    try:
        target(tried.data, specs, MAX_MEMORY_MB, DEADLINE_SECONDS)
        kind, detail = "ok", ""
    except PermanentError as error:
        kind, detail = "refused", type(error).__name__
    except Exception as error:  # noqa: BLE001 - this is a finding
        frame = traceback.extract_tb(error.__traceback__)[-1]
        kind, detail = "exception", f"{type(error).__name__} at {frame.name}: {error}"
    seconds, peak = cpu_seconds() - began, memory_mb("VmHWM")
    if _children_mb() > children_mb:
        peak = max(peak, _children_mb())
    if seconds > max_seconds:
        kind, detail = "hang", f"{seconds:.1f} s of CPU time"
    elif (need := peak - own_mb + BASE_MB) > MAX_MEMORY_MB:
        kind, detail = "memory", f"{need:.0f} MB"
    return Outcome(kind, format_of(tried), detail, round(seconds, 3))


def format_of(tried: Case) -> str:
    """Return what the file of a case looks like, or "unknown"."""
    return identify(tried.data) or "unknown"


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended, whatever else runs."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def memory_mb(field: str) -> float:
    """VmRSS, the resident memory, or VmHWM, its peak since clear_refs, in MB (see proc(5))."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def _children_mb() -> float:
    """Peak memory of the largest child that has ended, ever, in MB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def load_target(name: str) -> Callable[..., Any]:
    """Import the function that `module:function` names."""
    module, _, function = name.partition(":")
    target: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return target


def work(  # noqa: PLR0913, PLR0917 - the arguments of a process
    pipe: Connection, target: str, seed: int, max_seconds: float, first: int, step: int
) -> None:
    """Try every `step`-th case from `first` on, until the process has RESTART_MB.

    Sends the number of each case before it and its Outcome after it, and None at the end: the
    parent starts a new process then. Memory that earlier cases left behind counts against later
    ones. A case over its memory therefore has no outcome unless it is the first one of its process.
    """
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    function = load_target(target)
    own_mb = warmed_up_mb()
    number, fits = first, True
    while fits and memory_mb("VmRSS") < RESTART_MB:
        tried = case(seed, number)
        pipe.send(number)  # first, because the case may crash this process
        outcome = attempt(function, tried, max_seconds, own_mb)
        fits = outcome.kind != "memory"
        if fits or number == first:
            pipe.send(outcome)
        number += step
    pipe.send(None)
