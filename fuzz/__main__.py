"""Tries damaged images and saves every outcome but thumbnails or a permanent error."""

import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import psutil
import typer
from rich.markup import escape
from rich.table import Table

from fuzz.worker import (
    MAX_MEMORY_MB,
    MAX_SECONDS,
    Case,
    Outcome,
    attempt,
    case,
    format_of,
    load_target,
    warmed_up_mb,
    work,
)
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import err, out, print_json
from image_pipeline.errors import CommandError

FINDINGS: Final = Path("fuzz/findings")
"""The folder of saved findings, relative to the repository."""

FAULTS: Final = ("exception", "crash", "hang", "memory")
"""Kinds of outcome that are findings."""

PROGRESS_SECONDS: Final = 10
"""Between two lines of progress."""

CHECK_SECONDS: Final = 0.5
"""Between two readings of a process's CPU time."""

OVERTIME: Final = 2.0
"""How far a case may exceed its CPU time before its process is stopped: a factor, an assumption."""

MAX_SLEEP_SECONDS: Final = 60.0
"""Of a process that gains no CPU time: an assumption. However busy a machine is, a process that can
run gets some within a minute."""

app = new_app()


class Worker:
    """A process that tries cases. If a case crashes it, a new process starts with the next case."""

    def __init__(self, target: str, seed: int, max_seconds: float, first: int, step: int) -> None:
        self._settings = (target, seed, max_seconds)
        self._step = step
        self._start(first)

    def _start(self, first: int) -> None:
        parent, child = multiprocessing.Pipe()
        self.pipe: Connection = parent
        args = (child, *self._settings, first, self._step)
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=work, args=args)
        self._process.start()
        child.close()
        self.number = first
        self.busy = False

    def read(self) -> Outcome | None:
        """Read its next message: the outcome of a case, or None if it begins another one.

        If the process ends in a case without an outcome, a new process tries the case again.
        """
        try:
            message: int | Outcome | None = self.pipe.recv()
        except EOFError:
            self._process.join()
            return self._replaced("crash", f"exit code {self._process.exitcode}")
        if message is None:
            self._process.join()
            self._start(self.number if self.busy else self.number + self._step)
            return None
        if isinstance(message, int):
            self.number, self.busy = message, True
            self._began = self._seen = cpu_seconds(self._process.pid)
            self._checked = self._gained = time.monotonic()
            return None
        self.busy = False
        return message

    def overdue(self, overtime: float = OVERTIME) -> Outcome | None:
        """End the process if its case does not end, and return the outcome "hang".

        What counts is CPU time, which a busy machine does not change. Only a process that sleeps
        is stopped by the clock: it gains no CPU time at all.
        """
        now = time.monotonic()
        if not self.busy or now - self._checked < CHECK_SECONDS:
            return None
        self._checked = now
        seconds = cpu_seconds(self._process.pid, with_children=True)
        if seconds > self._seen:
            self._seen, self._gained = seconds, now
        _, _, max_seconds = self._settings
        if seconds - self._began > overtime * max_seconds:
            detail = f"stopped after {seconds - self._began:.1f} s of CPU time"
        elif now - self._gained > MAX_SLEEP_SECONDS:
            detail = f"sleeps: no CPU time in {now - self._gained:.0f} s"
        else:
            return None
        self.stop()
        return self._replaced("hang", detail, seconds - self._began)

    def _replaced(self, kind: str, detail: str, seconds: float = 0.0) -> Outcome:
        """Start a new process with the next case, and return the outcome of this one."""
        _, seed, _ = self._settings
        outcome = Outcome(kind, format_of(case(seed, self.number)), detail, round(seconds, 3))
        self._start(self.number + self._step)
        return outcome

    def stop(self) -> None:
        """End the process and its children."""
        for process in _family(self._process.pid, with_children=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.join()


def cpu_seconds(pid: int | None, *, with_children: bool = False) -> float:
    """CPU time of a process and of its children that have ended, or also of those that run."""
    total = 0.0
    for process in _family(pid, with_children=with_children):
        with suppress(psutil.NoSuchProcess):
            user, system, children_user, children_system, *_ = process.cpu_times()
            total += user + system + children_user + children_system
    return total


def _family(pid: int | None, *, with_children: bool) -> list[psutil.Process]:
    """Return a process and, if wanted, its children and theirs; none if it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *(process.children(recursive=True) if with_children else ())]
    except psutil.NoSuchProcess:
        return []


@app.command()
def fuzz(  # noqa: PLR0913, PLR0917 - options
    minutes: Annotated[float, typer.Option(min=0.01, help="Minutes to run.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Seed of the cases; random by default.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = os.cpu_count() or 1,
    target: Annotated[
        str, typer.Option(metavar="MODULE:FUNCTION", help="The function to call with each case.")
    ] = "thumbnailer.imaging:make_thumbnails",
    max_seconds: Annotated[
        float, typer.Option(min=0.1, help="CPU time that a case may take.")
    ] = MAX_SECONDS,
    findings: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the findings.")
    ] = FINDINGS,
    reproduce: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Try only this saved finding again.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Try damaged images: each must give thumbnails or a permanent error.

    Any other exception, a crash, more than 8 s of CPU time or more than 512 MB of memory is a
    finding. The bytes of each finding are saved with a description, and the exit code is 1.

    Half of the damage knows the format: it changes chunks, segments, boxes, tags and frames, and
    leaves the rest of the file right. The slowest case of each format is shown in seconds of CPU
    time; `--max-seconds` makes cases that take longer findings.

    **Examples**

    `make fuzz MINUTES=10`

    `python -m fuzz --reproduce fuzz/findings/exception-0a1b2c3d.bin`
    """
    if reproduce is not None:
        if not reproduce.is_file():
            raise CommandError(f"{reproduce} does not exist.")
        notes = reproduce.with_suffix(".json")
        widths = tuple(json.loads(notes.read_text())["widths"]) if notes.exists() else (128, 512)
        tried = Case(reproduce.read_bytes(), widths)
        outcome = attempt(load_target(target), tried, max_seconds, warmed_up_mb())
        out.print(f"{described(outcome)} ({outcome.seconds:.1f} s of CPU time)")
        sys.exit(1 if outcome.kind in FAULTS else 0)
    chosen = seed if seed is not None else time.time_ns() % 2**32
    ran = run(minutes * 60, chosen, workers, target, findings, max_seconds)
    if as_json:
        rows = [{"format": f, "outcome": o, "cases": n} for (f, o), n in ran.counts.items()]
        print_json(
            {"seed": chosen, "counts": rows, "slowest": ran.slowest, "findings": ran.findings}
        )
    else:
        show(ran, chosen)
    if ran.findings:
        sys.exit(1)


class Ran(NamedTuple):
    """What a run met.

    `counts` is the number of cases by (format, outcome), and `slowest` the CPU time of the slowest
    case by format in seconds. `findings` are the saved files, one for each kind of finding.
    """

    counts: Counter[tuple[str, str]]
    slowest: dict[str, float]
    findings: list[str]


def run(  # noqa: PLR0913, PLR0917 - as the command's
    seconds: float,
    seed: int,
    workers: int,
    target: str,
    findings: Path,
    max_seconds: float = MAX_SECONDS,
) -> Ran:
    """Try cases for some seconds, at least one of them, from the first one on.

    A case that is not done by then counts if it is over its time.
    """
    ran = Ran(Counter(), {}, [])
    kinds = set[tuple[str, str]]()

    def note(number: int, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        ran.counts[outcome.format, outcome.kind] += 1
        ran.slowest[outcome.format] = max(ran.slowest.get(outcome.format, 0.0), outcome.seconds)
        kind = _kind_of_finding(outcome)
        if outcome.kind in FAULTS and kind not in kinds:
            kinds.add(kind)
            ran.findings.append(save(findings, seed, number, outcome))
            err.print(f"[bold red]{described(outcome)}[/] → {ran.findings[-1]}", soft_wrap=True)

    processes = list[Worker]()
    try:
        processes += (Worker(target, seed, max_seconds, first, workers) for first in range(workers))
        wait([worker.pipe for worker in processes])  # until the first case begins
        began = shown = time.monotonic()
        while time.monotonic() - began < seconds or not ran.counts.total():
            ready = wait([worker.pipe for worker in processes], timeout=CHECK_SECONDS)
            for worker in processes:
                number = worker.number
                note(number, worker.read() if worker.pipe in ready else worker.overdue())
            if time.monotonic() - shown > PROGRESS_SECONDS:
                shown = time.monotonic()
                rate = ran.counts.total() / (shown - began)
                progress = f"{shown - began:.0f} s, {ran.counts.total():,} cases, {rate:.0f}/s"
                err.print(f"{progress}, {len(ran.findings)} findings")
        for worker in processes:
            note(worker.number, worker.overdue(overtime=1.0))
    finally:
        for worker in processes:
            worker.stop()
    return ran


def described(outcome: Outcome) -> str:
    """Return the outcome in a line, as markup."""
    return escape(f"{outcome.kind} {outcome.format} {outcome.detail}".strip())


def _kind_of_finding(outcome: Outcome) -> tuple[str, str]:
    """The outcome with the type and place of its exception, or with the format of the file."""
    if outcome.kind == "exception":
        return outcome.kind, outcome.detail.partition(":")[0]
    return outcome.kind, outcome.format


def save(findings: Path, seed: int, number: int, outcome: Outcome) -> str:
    """Write the bytes of a finding and, as JSON, its description; return the path of the bytes."""
    findings.mkdir(parents=True, exist_ok=True)
    tried = case(seed, number)
    digest = hashlib.sha256(tried.data).hexdigest()[:12]
    file = findings / f"{outcome.kind}-{digest}.bin"
    file.write_bytes(tried.data)
    notes = {"seed": seed, "number": number, "widths": tried.widths, **outcome._asdict()}
    file.with_suffix(".json").write_text(json.dumps(notes, indent=2) + "\n")
    return str(file)


def show(ran: Ran, seed: int) -> None:
    """Print a table of outcomes by format, and the command that reproduces each finding."""
    kinds = sorted({kind for _, kind in ran.counts})
    table = Table("format", *kinds, "slowest, s of CPU time")
    for name, seconds in sorted(ran.slowest.items()):
        table.add_row(name, *(f"{ran.counts[name, kind]:,}" for kind in kinds), f"{seconds:.1f}")
    out.print(table)
    summary = f"{ran.counts.total():,} cases of seed {seed}, {len(ran.findings)} findings"
    out.print(f"{summary}; limit {MAX_MEMORY_MB} MB per case")
    for file in ran.findings:
        out.print(f"python -m fuzz --reproduce {file}", soft_wrap=True)


if __name__ == "__main__":
    run_app(app)
