"""What all commands share: options, the stack that is meant, output, errors."""

import json
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from image_pipeline.errors import CommandError
from image_pipeline.local.stack import LocalStack
from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.deployed import Aws, Stack


def new_app(purpose: str | None = None) -> typer.Typer:
    """Make a command line in the manner of all of ours; `main` runs it."""
    return typer.Typer(
        help=purpose,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


app = new_app(
    "Uploads to an S3 bucket become WebP thumbnails in another: try it on this machine, or use a "
    "deployed stack."
)
out = Console(highlight=False)
err = Console(highlight=False, stderr=True)

Local = Annotated[
    bool, typer.Option("--local", help="Use the local stack (the default while one runs).")
]
Name = Annotated[
    str | None, typer.Option("--stack", metavar="NAME", help="Use this stack of your AWS account.")
]
Region = Annotated[str | None, typer.Option(help="Region of --stack, if not your usual one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def chosen(*, local: bool, name: str | None, region: str | None) -> Stack:
    """Find the stack that the options mean. Raises CommandError if there is none."""
    if name and local:
        raise CommandError("--local and --stack exclude each other: leave one of them out.")
    if name:
        return Stack.find(Aws.account(region), name)
    if not local and LocalStack().server() is None:
        raise CommandError(
            "No local stack is running. Start one with `image-pipeline up`, or name a deployed one "
            "with --stack NAME."
        )
    return LocalStack().stack()


def start(local: LocalStack, port: int, *, detach: bool) -> None:
    """Start the local stack, and say what it is doing: in one line, or in a log line by line."""
    if not err.is_terminal:
        local.start(port, detach=detach, report=lambda doing: err.print(f"{doing} …"))
        return
    with err.status("") as spinner:
        local.start(port, detach=detach, report=lambda doing: spinner.update(f"{doing} …"))


@contextmanager
def running(local: LocalStack, port: int) -> Iterator[Stack]:
    """Give the local stack that is up, else one on `port` for as long as the block lasts."""
    started = local.server() is None
    if started:
        start(local, port, detach=False)
    try:
        yield local.stack()
    finally:
        if started:
            local.stop()


class RateColumn(ProgressColumn):
    """How many of a task are done in a second."""

    def render(self, task: Task) -> Text:
        """As the bar shows it; nothing until it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "", style="progress.data.speed")


def bar() -> Progress:
    """A progress bar with rate and remaining time, where somebody looks."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the block like an exception, so that it clears up."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_failures(found: Sequence[Failure]) -> None:
    """One section a failed upload."""
    table = Table("failed upload", "attempts", "when (UTC)")
    table.columns[0].overflow = "fold"
    for failure in found:
        table.add_row(
            f"[bold]{escape(failure.key)}[/]\n{described(failure)}",
            str(failure.attempts),
            f"{failure.sent_at:%Y-%m-%d %H:%M:%S}",
        )
        table.add_section()
    out.print(table)


def described(failure: Failure) -> str:
    """A failure in Rich's markup."""
    return f"[red]{escape(failure.error_type)}[/]: {escape(failure.error_message)}"


def where(stack: Stack) -> str:
    """In words, where the stack is."""
    if stack.aws.endpoint_url:
        return f"on {stack.aws.endpoint_url}"
    return f"in {stack.aws.s3.meta.region_name}"


def print_json(data: dict[str, Any]) -> None:
    """For scripts, on standard output."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def main(command: typer.Typer = app) -> None:
    """Run a command line; a user's mistake ends with one message and exit code 1."""
    # Only a picture's header is read here, so its size is no danger.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    try:
        command()
    except CommandError as error:
        message = str(error)
    except OSError as error:  # a file or folder of the user's, for AWS's errors are translated
        message = f"{error.strerror}: {error.filename}"
    err.print(f"[bold red]Error:[/] {escape(message)}", soft_wrap=True)
    sys.exit(1)
