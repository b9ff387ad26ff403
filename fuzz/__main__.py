"""Any bytes must give a thumbnail or a permanent error; whatever else they give is kept."""

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

from fuzz.worker import MEMORY_MB, SECONDS, Case, Told, attempt, case, found, work
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import err, out
from image_pipeline.errors import CommandError

FINDINGS: Final = Path("fuzz/findings")
FAULTS: Final = ("exception", "crash", "hang", "memory")

app = new_app()


class Worker:
    """A process that tries cases, and begins again behind one that took it along."""

    def __init__(self, target: str, seed: int, first: int, step: int) -> None:
        self._settings = (target, seed)
        self._step = step
        self.number = first
        self._start(first)

    def _start(self, first: int) -> None:
        ours, theirs = multiprocessing.Pipe()
        self.pipe: Connection = ours
        args = (theirs, *self._settings, first, self._step)
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=work, args=args, daemon=True)
        self._process.start()
        theirs.close()
        self.number = first
        self.busy = False
        self.since = time.monotonic()

    def read(self) -> Told | None:
        """What it told of its case; None if it only began one."""
        try:
            message: int | Told | None = self.pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self._start(self.number + self._step)
            return Told("crash", "unknown", f"exit code {code}")
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

    def overdue(self) -> Told | None:
        """A hang, if it has been silent at its case for too long: it is ended then."""
        if not self.busy or time.monotonic() - self.since < 2 * SECONDS:
            return None
        self.stop()
        self._start(self.number + self._step)
        return Told("hang", "unknown", f"over {2 * SECONDS:.0f} s")

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


@app.command()
def fuzz(  # noqa: PLR0913, PLR0917 - options
    minutes: Annotated[float, typer.Option(min=0.01, help="How long.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Of the cases; another one each time.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    target: Annotated[
        str, typer.Option(metavar="MODULE:FUNCTION", help="What is tried.")
    ] = "image_utils:make_thumbnails",
    findings: Annotated[Path, typer.Option(metavar="DIR", help="Where they are kept.")] = FINDINGS,
    reproduce: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Try this one finding again.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Try damaged images: each must give a thumbnail or a permanent error.

    Another exception, a crash, more than 10 s or more than 512 MB is a finding: its bytes are kept,
    with what happened, and the exit code is 1.

    **Examples**

    `make fuzz MINUTES=10`

    `python -m fuzz --reproduce fuzz/findings/exception-0a1b2c3d.bin`
    """
    if reproduce is not None:
        if not reproduce.is_file():
            raise CommandError(f"There is no finding at {reproduce}.")
        notes = reproduce.with_suffix(".json")
        widths = tuple(json.loads(notes.read_text())["widths"]) if notes.exists() else (128, 512)
        told = attempt(found(target), Case(reproduce.read_bytes(), widths))
        out.print(escape(" ".join(told)))
        sys.exit(1 if told.kind in FAULTS else 0)
    chosen = seed if seed is not None else time.time_ns() % 2**32
    counts, kept = run(minutes * 60, chosen, workers, target, findings)
    if as_json:
        told_counts = [{"format": f, "outcome": o, "cases": n} for (f, o), n in counts.items()]
        print(json.dumps({"seed": chosen, "counts": told_counts, "findings": kept}, indent=2))
    else:
        show(counts, kept, chosen)
    if kept:
        sys.exit(1)


def run(
    seconds: float, seed: int, workers: int, target: str, findings: Path
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Try cases for so long: how many had which outcome by format, and the findings' files."""
    counts: Counter[tuple[str, str]] = Counter()
    kept: dict[tuple[str, str], str] = {}
    team = [Worker(target, seed, first, workers) for first in range(workers)]
    began = shown = time.monotonic()
    try:
        while time.monotonic() - began < seconds:
            ready = wait([worker.pipe for worker in team], timeout=0.5)
            for worker in team:
                number = worker.number
                told = worker.read() if worker.pipe in ready else worker.overdue()
                if told is None:
                    continue
                counts[told.format, told.kind] += 1
                # One of a kind: by the exception's type and place, or by the format.
                place = told.detail.partition(":")[0] if told.kind == "exception" else told.format
                kind = (told.kind, place)
                if told.kind in FAULTS and kind not in kept:
                    kept[kind] = keep(findings, seed, number, told)
                    err.print(
                        f"[bold red]{escape(' '.join(told))}[/] → {kept[kind]}", soft_wrap=True
                    )
            if time.monotonic() - shown > 10:  # noqa: PLR2004 - seconds
                shown = time.monotonic()
                rate = counts.total() / (shown - began)
                doing = f"{shown - began:.0f} s, {counts.total():,} cases, {rate:.0f}/s"
                err.print(f"{doing}, {len(kept)} findings")
    finally:
        for worker in team:
            worker.stop()
    return counts, list(kept.values())


def keep(findings: Path, seed: int, number: int, told: Told) -> str:
    """Write a finding's bytes, and beside them what happened; the name of the file."""
    findings.mkdir(parents=True, exist_ok=True)
    tried = case(seed, number)
    digest = hashlib.sha256(tried.data).hexdigest()[:12]
    file = findings / f"{told.kind}-{digest}.bin"
    file.write_bytes(tried.data)
    about = {"seed": seed, "number": number, "widths": tried.widths, **told._asdict()}
    file.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n")
    return str(file)


def show(counts: Counter[tuple[str, str]], kept: list[str], seed: int) -> None:
    """Print outcomes by format, and how to see a finding again."""
    kinds = sorted({kind for _, kind in counts})
    table = Table("format", *kinds)
    for name in sorted({name for name, _ in counts}):
        table.add_row(name, *(f"{counts[name, kind]:,}" for kind in kinds))
    out.print(table)
    out.print(f"{counts.total():,} cases of seed {seed}, {len(kept)} findings; {MEMORY_MB} MB each")
    for file in kept:
        out.print(f"python -m fuzz --reproduce {file}", soft_wrap=True)


if __name__ == "__main__":
    run_app(app)
