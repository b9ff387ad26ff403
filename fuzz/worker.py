"""One process that tries cases, one after the other, and tells of each."""

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
from thumbnailer.imaging.sniff import identify

MEMORY_MB: Final = 512
SECONDS: Final = 10.0

FRESH_MB: Final = 150

ADDRESS_SPACE: Final = 6 * 2**30
"""Bytes beyond which a worker may not go, to spare the machine."""

WIDTHS: Final = ((128, 512), (128, 512), (1,), (64, 3000))


class Case(NamedTuple):
    """What is tried: the bytes, and the widths that are asked for."""

    data: bytes
    widths: tuple[int, ...]


class Told(NamedTuple):
    """What came of a case: `kind` is ok, refused, exception, hang or memory."""

    kind: str
    format: str
    detail: str


@cache
def _seeds() -> tuple[tuple[bytes, ...], dict[str | None, list[bytes]]]:
    files = tuple(seeds().values())
    kin: dict[str | None, list[bytes]] = {}
    for data in files:
        kin.setdefault(identify(data), []).append(data)
    return files, kin


def case(seed: int, number: int) -> Case:
    """The case of this number: the same in every run with the same seed and files."""
    rng = random.Random(f"{seed}:{number}")  # noqa: S311 - to be replayed
    files, kin = _seeds()
    data = rng.choice(files)
    return Case(mutated(data, kin[identify(data)], rng), rng.choice(WIDTHS))


def attempt(target: Callable[..., Any], tried: Case) -> Told:
    """Try one case in this process."""
    Path("/proc/self/clear_refs").write_text("5")  # begins the peak of memory anew
    began = time.process_time()  # on a busy machine the clock tells of others
    try:
        target(tried.data, tried.widths, 85, MEMORY_MB)
        kind, detail = "ok", ""
    except PermanentError as error:
        kind, detail = "refused", type(error).__name__
    except Exception as error:  # noqa: BLE001 - it is what is looked for
        frame = traceback.extract_tb(error.__traceback__)[-1]
        kind, detail = "exception", f"{type(error).__name__} at {frame.name}: {error}"
    if (seconds := time.process_time() - began) > SECONDS:
        kind, detail = "hang", f"{seconds:.0f} s"
    elif (peak := memory_mb("VmHWM")) > MEMORY_MB:
        kind, detail = "memory", f"{peak:.0f} MB"
    return Told(kind, identify(tried.data) or "unknown", detail)


def memory_mb(field: str) -> float:
    """VmRSS, what is resident, or VmHWM, the most that was since clear_refs (proc(5))."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def found(name: str) -> Callable[..., Any]:
    """The function that `module:function` names."""
    module, _, function = name.partition(":")
    target: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return target


def work(pipe: Connection, target: str, seed: int, first: int, step: int) -> None:
    """Try every `step`-th case from `first` on, until this process is bloated.

    What an earlier case left behind would else be counted as the next one's.
    """
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    function = found(target)
    number = first
    while memory_mb("VmRSS") < FRESH_MB:
        tried = case(seed, number)
        pipe.send(number)  # before it may take this process along
        pipe.send(attempt(function, tried))
        number += step
    pipe.send(None)
