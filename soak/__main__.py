"""Thousands of uploads through the local stack; at the end every one of them is accounted for."""

import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from image_pipeline.cli.common import (
    Json,
    bar,
    err,
    main,
    new_app,
    out,
    print_json,
    start,
    stopped_by_signals,
)
from image_pipeline.console.metrics import Figures
from image_pipeline.local.stack import LocalStack
from image_pipeline.ports import free_ports
from image_pipeline.stack import executions, replay
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.executions import Execution
from soak.environments import Environments, Killer
from soak.faults import FaultyProxy
from soak.load import send, settle
from soak.plan import Upload, drawn
from soak.reconciliation import MOST_LETTERS, Accounts, reconcile

PATIENCE: Final = 15.0
"""Seconds after which a folder of uploads is left behind though something of it is missing."""

REST_SECONDS: Final = 300.0
REPLAYS: Final = 20
"""Most replays until what failed for now is done: with faults a replay may fail as well."""

SILENT_SECONDS: Final = 100.0
"""For so long nothing may be seen of an event whose requests hang: three attempts of 30 s each."""

FLAT_MB: Final = 8.0
"""Growth of an environment that passes for none: allocators keep a little here and there."""

SHOWN: Final = 20
"""Faults that are printed."""

REQUEST: Final = re.compile(r'"([A-Z]+) /[^"]*" (\d{3}) \S+ "[^"]*" "object_store')
"""A request of the function's in the local AWS's access log."""

app = new_app()


@dataclass(frozen=True, slots=True)
class Report:
    """What a run found; durations in milliseconds, `rate` is uploads a second."""

    seed: int
    seconds: float
    rate: float
    accounts: Accounts
    p50: float | None
    p95: float | None
    p99: float | None
    requests: dict[str, float]
    """Of the function to S3, by method, for each upload."""
    peak_mb: float
    growth_mb: dict[int, float]
    faults_met: dict[str, int]
    killed: int

    @property
    def clean(self) -> bool:
        """Whether everything is accounted for, and memory did not grow."""
        grown = any(each > FLAT_MB for each in self.growth_mb.values())
        disturbed = bool(self.faults_met or self.killed)
        needless = self.accounts.needless_letters and not disturbed
        return not self.accounts.faults and not needless and not grown


@app.command()
def soak(  # noqa: PLR0913 - options
    *,
    images: Annotated[int, typer.Option(min=1, help="Uploads.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the uploads, and of the faults.")] = 1,
    share: Annotated[
        float,
        typer.Option(
            "--faults", min=0, max=0.5, help="Share of the function's requests that fail."
        ),
    ] = 0.0,
    kill: Annotated[
        bool, typer.Option("--kill", help="Kill an environment of the function every 3 s.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Environments at a time.")] = 2
    * (os.process_cpu_count() or 1),
    as_json: Json = False,
) -> None:
    """Upload many images to a local stack of its own, and account for every one of them.

    5 % are broken, 5 % overwritten, 2 % deleted, some of them while the function is at work. At the
    end each upload must have thumbnails of its newest bytes, or a letter that names it; nothing
    else may be there; and the function's memory must not have grown. Else the exit code is 1.

    With --faults its requests to S3 and SQS hang, are reset, refused or cut short; what failed for
    now is replayed at the end, and a letter of a lost reply, beside thumbnails, is but counted.

    **Examples**

    `make soak`

    `python -m soak --images 1000 --faults 0.05 --kill --seed 7`
    """
    with stopped_by_signals():
        report = run(images, seed, share, concurrency, kill=kill)
    if as_json:
        print_json(asdict(report) | {"clean": report.clean})
    else:
        show(report)
    if not report.clean:
        raise typer.Exit(1)


def run(images: int, seed: int, share: float, concurrency: int, *, kill: bool = False) -> Report:
    """Deploy a stack, upload, wait, replay what failed for now, and account for everything."""
    port, proxy_port = free_ports(2)
    variables = {
        "LAMBDA_ACCOUNT_CONCURRENCY": str(concurrency),
        "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.5",
        "AUTH": "true",
    }
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-"))
        proxy = None
        if share:
            proxy = stack.enter_context(FaultyProxy(proxy_port, port, 0.0, seed))
            variables["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy_port}"
        local = LocalStack(
            Path(folder), parameters={"DeleteWithOriginal": "true"}, variables=variables
        )
        stack.callback(local.stop)
        start(local, port, detach=False)
        server = local.server()
        assert server  # noqa: S101 - it was just started
        environments = stack.enter_context(Environments(server.pid))
        killer = stack.enter_context(Killer(environments, seed)) if kill else None
        if proxy:
            proxy.share = share
        return _measured(local, images, seed, environments, proxy, killer)


def _measured(  # noqa: PLR0913, PLR0917 - what a run has
    local: LocalStack,
    images: int,
    seed: int,
    environments: Environments,
    proxy: FaultyProxy | None,
    killer: Killer | None,
) -> Report:
    target = local.stack()
    folders = list(drawn(images, seed, target.settings.input_prefix))
    figures = Figures(target)
    began = time.monotonic()
    with bar() as shown:
        task = shown.add_task("Uploads", total=images)
        told = Told(images)

        def progress(count: int) -> None:
            shown.advance(task, count)
            told(count)
            figures.read()

        send(target, folders, seed, PATIENCE, progress)
    seconds = time.monotonic() - began
    with err.status("Waiting for the last events"):
        settle(target, REST_SECONDS)
        if killer:
            killer.stop()
    with err.status("Replaying what failed for now, accounting for everything"):
        uploads = [each for folder in folders for each in folder]
        accounts = accounted(target, uploads, disturbed=bool(proxy or killer))
    while (found := figures.read()).behind:
        pass
    log = (local.directory / "requests.log").read_text(errors="replace")
    requests = Counter(method for method, _ in REQUEST.findall(log))
    return Report(
        seed,
        round(seconds, 1),
        round(images / seconds, 1),
        accounts,
        found.p50,
        found.p95,
        found.p99,
        {method: round(count / images, 3) for method, count in sorted(requests.items())},
        round(environments.peak_mb, 1),
        {pid: round(each, 1) for pid, each in environments.growth_mb().items()},
        {str(fault): count for fault, count in proxy.met.items()} if proxy else {},
        killer.killed if killer else 0,
    )


def accounted(stack: Stack, uploads: Sequence[Upload], *, disturbed: bool) -> Accounts:
    """The accounts; where it was disturbed, after a replay, and again until they are right.

    What is still wrong after SILENT_SECONDS stays so.
    """
    deadline = time.monotonic() + SILENT_SECONDS
    while True:
        if disturbed:
            replay_all(stack)
            settle(stack, REST_SECONDS)
        accounts = reconcile(stack, uploads)
        if not disturbed or not accounts.faults or time.monotonic() > deadline:
            return accounts


def replay_all(stack: Stack) -> None:
    """Replay until no letter is left that trying again may help; the faults go on meanwhile."""
    states = stack.aws.states

    def follow(execution: Execution) -> Execution:
        return executions.follow(states, execution.arn, lambda: None)

    for _ in range(REPLAYS):
        letters = replay.letters(stack, MOST_LETTERS, None)
        if all(each.permanent for each in letters):
            return
        for _ in replay.replays(stack, None, None, None, follow):
            pass


class Told:
    """Progress in a log, a line each tenth, where nobody sees a bar."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def __call__(self, count: int) -> None:
        """Say how far it is, if another tenth is done."""
        before, self._done = self._done, self._done + count
        if not err.is_terminal and before * 10 // self._total != self._done * 10 // self._total:
            err.print(f"{self._done:,} of {self._total:,} uploads")


def show(report: Report) -> None:
    """The accounts, for a person."""
    accounts = report.accounts
    table = Table("", "", show_header=False)
    table.columns[1].justify = "right"
    rows: dict[str, str] = {
        "uploads": f"{accounts.uploads:,} in {report.seconds:,.0f} s, {report.rate:.1f} a second",
        "thumbnails": f"{accounts.thumbnails:,}",
        "letters": f"{accounts.letters:,}; {accounts.stale_letters} of replaced bodies, "
        f"{accounts.doubled_letters} doubled, {accounts.needless_letters} needless",
        "duration p50, p95, p99": " ".join(
            f"{each:,.0f} ms" for each in (report.p50, report.p95, report.p99) if each is not None
        ),
        "requests an upload": ", ".join(f"{n:g} {name}" for name, n in report.requests.items()),
        "environments, peak": f"{report.peak_mb:.0f} MB",
        "environments, growth": ", ".join(f"{each:+.1f}" for each in report.growth_mb.values())
        + " MB",
    }
    if report.faults_met:
        rows["faults met"] = "\n".join(f"{n} {name}" for name, n in report.faults_met.items())
    if report.killed:
        rows["environments killed"] = str(report.killed)
    for name, value in rows.items():
        table.add_row(name, value)
    out.print(table)
    for fault in accounts.faults[:SHOWN]:
        out.print(f"[red]✗[/] {escape(fault)}", soft_wrap=True)
    if len(accounts.faults) > SHOWN:
        out.print(f"… and {len(accounts.faults) - SHOWN:,} more: --json has them all")
    verdict = "[green]Everything is accounted for[/]" if report.clean else "[red]Not right[/]"
    out.print(f"{verdict} (seed {report.seed})")


if __name__ == "__main__":
    main(app)
