"""Sends thousands of uploads through a local stack and accounts for each of them."""

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

from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import err, out, print_json, progress_bar
from image_pipeline.cli.signals import stopped_by_signals
from image_pipeline.cli.targets import start
from image_pipeline.console.metrics import SPANS, Metrics
from image_pipeline.local.stack import LocalStack
from image_pipeline.ports import free_ports
from image_pipeline.stack.dead_letters import failures
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.replay import replay_all
from soak.environments import Environments, Killer
from soak.faults import FaultyProxy
from soak.load import send, settle
from soak.plan import Upload, drawn
from soak.reconciliation import MAX_MESSAGES, Accounts, reconcile

FOLDER_SECONDS: Final = 15.0
"""Time after which a folder with missing thumbnails counts as finished: an assumption."""

MAX_SETTLE_SECONDS: Final = 300.0
"""Time that the last events may take: an assumption."""

MAX_REPLAYS: Final = 20
"""Replays until all transient failures are processed: an assumption; faults affect replays too."""

MAX_SILENT_SECONDS: Final = 100.0
"""Time for which an event whose requests hang may show no effect: three attempts of 30 s each."""

MAX_GROWTH_MB: Final = 8.0
"""Growth of an environment's memory that is no leak: an assumption; allocators vary a little."""

MAX_PRINTED_FAULTS: Final = 20

REQUEST: Final = re.compile(r'"([A-Z]+) /[^"]*" (\d{3}) \S+ "[^"]*" "object_store')
"""A request of the function in the access log of the local AWS: its method and status."""

app = new_app()


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a run. `rate` is uploads per second; `p50` and `p95` are durations in ms."""

    seed: int
    seconds: float
    rate: float
    accounts: Accounts
    p50: float | None
    p95: float | None
    requests: dict[str, float]
    """The function's requests to S3 per upload, by method."""
    peak_mb: float
    growth_mb: dict[int, float]
    """Growth of an environment's memory by process id."""
    faults_met: dict[str, int]
    """Number of requests with each kind of fault."""
    killed: int
    """Number of environments killed."""

    @property
    def clean(self) -> bool:
        """Whether nothing was lost and memory did not grow."""
        grown = any(each > MAX_GROWTH_MB for each in self.growth_mb.values())
        disturbed = bool(self.faults_met or self.killed)
        needless = self.accounts.needless_letters and not disturbed
        return not self.accounts.faults and not needless and not grown


@app.command()
def soak(  # noqa: PLR0913 - options
    *,
    images: Annotated[int, typer.Option(min=1, help="Number of uploads.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the uploads and the faults.")] = 1,
    share: Annotated[
        float,
        typer.Option(
            "--faults",
            min=0,
            max=0.5,
            help="Share of the function's requests that fail, such as 0.05.",
        ),
    ] = 0.0,
    kill: Annotated[
        bool,
        typer.Option("--kill", help="Kill an environment of the function every 3 s on average."),
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Maximum number of environments.")] = 2
    * (os.process_cpu_count() or 1),
    as_json: Json = False,
) -> None:
    """Upload many images to a new local stack and account for each of them.

    Of the uploads 5 % are broken, 5 % overwritten and 2 % deleted, some during processing. At the
    end each upload must have thumbnails of its newest bytes or a dead-letter message. Nothing else
    may exist, and the function's memory must not have grown. Otherwise the exit code is 1.

    With --faults, requests of the function to S3 and SQS hang, are reset, refused or cut short.
    Transient failures are replayed at the end. A message about an upload that has its thumbnails is
    then counted but is no fault, because the response to a write may have been lost.

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
    """Deploy a stack, upload, wait, replay transient failures, and account for each upload."""
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


def _measured(  # noqa: PLR0913, PLR0917 - the parts of a run
    local: LocalStack,
    images: int,
    seed: int,
    environments: Environments,
    proxy: FaultyProxy | None,
    killer: Killer | None,
) -> Report:
    target = local.stack()
    folders = list(drawn(images, seed, target.settings.input_prefix))
    began = time.monotonic()
    with progress_bar() as shown:
        task = shown.add_task("Uploads", total=images)
        log_progress = ProgressLog(images)

        def progress(count: int) -> None:
            shown.advance(task, count)
            log_progress(count)

        send(target, folders, seed, FOLDER_SECONDS, progress)
    seconds = time.monotonic() - began
    with err.status("Waiting for the last events"):
        settle(target, MAX_SETTLE_SECONDS)
        if killer:
            killer.stop()
    with err.status("Replaying transient failures and accounting for each upload"):
        uploads = [each for folder in folders for each in folder]
        accounts = reconciled(target, uploads, disturbed=bool(proxy or killer))
    durations = Metrics(target, SPANS["24h"]).read().totals
    log = (local.directory / "requests.log").read_text(errors="replace")
    requests = Counter(method for method, _ in REQUEST.findall(log))
    return Report(
        seed,
        round(seconds, 1),
        round(images / seconds, 1),
        accounts,
        durations.p50,
        durations.p95,
        {method: round(count / images, 3) for method, count in sorted(requests.items())},
        round(environments.peak_mb, 1),
        {pid: round(each, 1) for pid, each in environments.growth_mb().items()},
        {str(fault): count for fault, count in proxy.met.items()} if proxy else {},
        killer.killed if killer else 0,
    )


def reconciled(stack: Stack, uploads: Sequence[Upload], *, disturbed: bool) -> Accounts:
    """Compare the stack with the uploads.

    If requests failed or environments were killed (`disturbed`), replay first, and repeat both
    until no faults are left or MAX_SILENT_SECONDS have passed.
    """
    deadline = time.monotonic() + MAX_SILENT_SECONDS
    while True:
        if disturbed:
            replay_transient(stack)
            settle(stack, MAX_SETTLE_SECONDS)
        accounts = reconcile(stack, uploads)
        if not disturbed or not accounts.faults or time.monotonic() > deadline:
            return accounts


def replay_transient(stack: Stack) -> None:
    """Replay until only permanent failures are on the queue; requests still fail meanwhile."""
    for _ in range(MAX_REPLAYS):
        if all(each.permanent for each in failures(stack, MAX_MESSAGES)):
            return
        for _ in replay_all(stack):
            pass


class ProgressLog:
    """Prints a line for each tenth of the uploads where stderr is no terminal to show a bar."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def __call__(self, count: int) -> None:
        """Add `count` uploads; print a line if another tenth is done."""
        before, self._done = self._done, self._done + count
        if not err.is_terminal and before * 10 // self._total != self._done * 10 // self._total:
            err.print(f"{self._done:,} of {self._total:,} uploads")


def show(report: Report) -> None:
    """Print the report as a table."""
    accounts = report.accounts
    table = Table("", "", show_header=False)
    table.columns[1].justify = "right"
    rows: dict[str, str] = {
        "uploads": f"{accounts.uploads:,} in {report.seconds:,.0f} s, {report.rate:.1f} per second",
        "thumbnails": f"{accounts.thumbnails:,}",
        "messages": f"{accounts.letters:,}; {accounts.stale_letters} of replaced bodies, "
        f"{accounts.doubled_letters} duplicates, {accounts.needless_letters} needless",
        "duration p50, p95": " ".join(
            f"{each:,.0f} ms" for each in (report.p50, report.p95) if each is not None
        ),
        "requests per upload": ", ".join(f"{n:g} {name}" for name, n in report.requests.items()),
        "peak memory": f"{report.peak_mb:.0f} MB",
        "growth of memory": ", ".join(f"{each:+.1f}" for each in report.growth_mb.values()) + " MB",
    }
    if report.faults_met:
        rows["requests that failed"] = "\n".join(
            f"{n} {name}" for name, n in report.faults_met.items()
        )
    if report.killed:
        rows["environments killed"] = str(report.killed)
    for name, value in rows.items():
        table.add_row(name, value)
    out.print(table)
    for fault in accounts.faults[:MAX_PRINTED_FAULTS]:
        out.print(f"[red]✗[/] {escape(fault)}", soft_wrap=True)
    if len(accounts.faults) > MAX_PRINTED_FAULTS:
        out.print(f"… and {len(accounts.faults) - MAX_PRINTED_FAULTS:,} more (--json prints all)")
    verdict = "[green]Nothing was lost[/]" if report.clean else "[red]Faults found[/]"
    out.print(f"{verdict} (seed {report.seed})")


if __name__ == "__main__":
    run_app(app)
