"""A process that tries one case after another and sends the outcome of each to its parent."""

import importlib
import random
import resource
import time
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
from thumbnailer.settings import DEFAULT_MEMORY_MB, Settings

MAX_MEMORY_MB: Final = DEFAULT_MEMORY_MB
"""Memory that a case may take."""

MAX_SECONDS: Final = 10.0
"""CPU time that a case may take: an assumption, a third of the default of LambdaTimeout."""

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
    looks like, or "unknown".
    """

    kind: str
    format: str
    detail: str


@cache
def _seeds() -> tuple[tuple[bytes, ...], dict[str | None, list[bytes]]]:
    """All intact files, and the same by format."""
    files = tuple(seeds().values())
    by_format: dict[str | None, list[bytes]] = {}
    for data in files:
        by_format.setdefault(identify(data), []).append(data)
    return files, by_format


def case(seed: int, number: int) -> Case:
    """The case with this number; it is the same in every run with the same seed and files."""
    rng = random.Random(f"{seed}:{number}")  # noqa: S311 - reproducible, not secret
    files, by_format = _seeds()
    data = rng.choice(files)
    return Case(mutated(data, by_format[identify(data)], rng), rng.choice(WIDTHS))


def attempt(target: Callable[..., Any], tried: Case) -> Outcome:
    """Try one case in this process."""
    specs = Settings("", "", sizes=tuple(map(Size.of_width, tried.widths))).specs
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak of memory
    began = time.process_time()  # CPU time: other processes do not count
    try:
        target(tried.data, specs, MAX_MEMORY_MB)
        kind, detail = "ok", ""
    except PermanentError as error:
        kind, detail = "refused", type(error).__name__
    except Exception as error:  # noqa: BLE001 - this is a finding
        frame = traceback.extract_tb(error.__traceback__)[-1]
        kind, detail = "exception", f"{type(error).__name__} at {frame.name}: {error}"
    if (seconds := time.process_time() - began) > MAX_SECONDS:
        kind, detail = "hang", f"{seconds:.0f} s"
    elif (peak := memory_mb("VmHWM")) > MAX_MEMORY_MB:
        kind, detail = "memory", f"{peak:.0f} MB"
    return Outcome(kind, identify(tried.data) or "unknown", detail)


def memory_mb(field: str) -> float:
    """VmRSS, the resident memory, or VmHWM, its peak since clear_refs, in MB (see proc(5))."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def load_target(name: str) -> Callable[..., Any]:
    """Import the function that `module:function` names."""
    module, _, function = name.partition(":")
    target: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return target


def work(pipe: Connection, target: str, seed: int, first: int, step: int) -> None:
    """Try every `step`-th case from `first` on, until the process has RESTART_MB.

    Sends the number of each case before it and its Outcome after it, and None at the end. Memory
    that earlier cases left behind would be counted against later ones, so the parent starts a new
    process then.
    """
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    function = load_target(target)
    number = first
    while memory_mb("VmRSS") < RESTART_MB:
        tried = case(seed, number)
        pipe.send(number)  # first, because the case may crash this process
        pipe.send(attempt(function, tried))
        number += step
    pipe.send(None)
