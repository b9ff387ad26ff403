"""Tries damaged images and saves every outcome but thumbnails or a permanent error."""

import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from fuzz.worker import MAX_MEMORY_MB, MAX_SECONDS, Case, Outcome, attempt, case, load_target, work
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

app = new_app()


class Worker:
    """A process that tries cases. If a case crashes it, a new process starts with the next case."""

    def __init__(self, target: str, seed: int, first: int, step: int) -> None:
        self._settings = (target, seed)
        self._step = step
        self.number = first
        self._start(first)

    def _start(self, first: int) -> None:
        parent, child = multiprocessing.Pipe()
        self.pipe: Connection = parent
        args = (child, *self._settings, first, self._step)
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=work, args=args, daemon=True)
        self._process.start()
        child.close()
        self.number = first
        self.busy = False
        self.since = time.monotonic()

    def read(self) -> Outcome | None:
        """Read its next message: the outcome of a case, or None if it begins another one."""
        try:
            message: int | Outcome | None = self.pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self._start(self.number + self._step)
            return Outcome("crash", "unknown", f"exit code {code}")
        self.since = time.monotonic()
        if message is None:
            self._process.join()
            self._start(self.number + self._step)
            return None
        if isinstance(message, int):
            self.number, self.busy = message, True
            return None
        self.busy = False
        return message

    def overdue(self) -> Outcome | None:
        """End the process if its case takes too long, and return the outcome "hang"."""
        if not self.busy or time.monotonic() - self.since < 2 * MAX_SECONDS:
            return None
        self.stop()
        self._start(self.number + self._step)
        return Outcome("hang", "unknown", f"over {2 * MAX_SECONDS:.0f} s")

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


@app.command()
def fuzz(  # noqa: PLR0913, PLR0917 - options
    minutes: Annotated[float, typer.Option(min=0.01, help="Minutes to run.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Seed of the cases; random by default.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = os.cpu_count() or 1,
    target: Annotated[
        str, typer.Option(metavar="MODULE:FUNCTION", help="The function to call with each case.")
    ] = "thumbnailer.imaging:make_thumbnails",
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

    Any other exception, a crash, more than 10 s of CPU time or more than 512 MB of memory is a
    finding. The bytes of each finding are saved with a description, and the exit code is 1.

    **Examples**

    `make fuzz MINUTES=10`

    `python -m fuzz --reproduce fuzz/findings/exception-0a1b2c3d.bin`
    """
    if reproduce is not None:
        if not reproduce.is_file():
            raise CommandError(f"{reproduce} does not exist.")
        notes = reproduce.with_suffix(".json")
        widths = tuple(json.loads(notes.read_text())["widths"]) if notes.exists() else (128, 512)
        outcome = attempt(load_target(target), Case(reproduce.read_bytes(), widths))
        out.print(escape(" ".join(outcome)))
        sys.exit(1 if outcome.kind in FAULTS else 0)
    chosen = seed if seed is not None else time.time_ns() % 2**32
    counts, saved = run(minutes * 60, chosen, workers, target, findings)
    if as_json:
        rows = [{"format": f, "outcome": o, "cases": n} for (f, o), n in counts.items()]
        print_json({"seed": chosen, "counts": rows, "findings": saved})
    else:
        show(counts, saved, chosen)
    if saved:
        sys.exit(1)


def run(
    seconds: float, seed: int, workers: int, target: str, findings: Path
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Try cases for some seconds.

    Returns the number of cases by (format, outcome), and the files of the findings: one for each
    kind of finding.
    """
    counts: Counter[tuple[str, str]] = Counter()
    saved: dict[tuple[str, str], str] = {}
    processes = [Worker(target, seed, first, workers) for first in range(workers)]
    began = shown = time.monotonic()
    try:
        while time.monotonic() - began < seconds:
            ready = wait([worker.pipe for worker in processes], timeout=0.5)
            for worker in processes:
                number = worker.number
                outcome = worker.read() if worker.pipe in ready else worker.overdue()
                if outcome is None:
                    continue
                counts[outcome.format, outcome.kind] += 1
                kind = _kind_of_finding(outcome)
                if outcome.kind in FAULTS and kind not in saved:
                    saved[kind] = save(findings, seed, number, outcome)
                    err.print(
                        f"[bold red]{escape(' '.join(outcome))}[/] → {saved[kind]}", soft_wrap=True
                    )
            if time.monotonic() - shown > PROGRESS_SECONDS:
                shown = time.monotonic()
                rate = counts.total() / (shown - began)
                progress = f"{shown - began:.0f} s, {counts.total():,} cases, {rate:.0f}/s"
                err.print(f"{progress}, {len(saved)} findings")
    finally:
        for worker in processes:
            worker.stop()
    return counts, list(saved.values())


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


def show(counts: Counter[tuple[str, str]], saved: list[str], seed: int) -> None:
    """Print a table of outcomes by format, and the command that reproduces each finding."""
    kinds = sorted({kind for _, kind in counts})
    table = Table("format", *kinds)
    for name in sorted({name for name, _ in counts}):
        table.add_row(name, *(f"{counts[name, kind]:,}" for kind in kinds))
    out.print(table)
    summary = f"{counts.total():,} cases of seed {seed}, {len(saved)} findings"
    out.print(f"{summary}; limit {MAX_MEMORY_MB} MB per case")
    for file in saved:
        out.print(f"python -m fuzz --reproduce {file}", soft_wrap=True)


if __name__ == "__main__":
    run_app(app)
