"""What commands print, and what they ask."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer
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

if TYPE_CHECKING:
    from image_pipeline.stack.dead_letters import Failure

out = Console(highlight=False)
err = Console(highlight=False, stderr=True)


def print_json(data: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Print `data` on standard output, for scripts."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def print_error(message: str) -> None:
    """Print why the command cannot continue, on standard error."""
    err.print(f"[bold red]Error:[/] {escape(message)}", soft_wrap=True)


def confirm(question: str) -> None:
    """Ask whether to start.

    Raises typer.Exit with code 1 for a no, CommandError if standard input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise CommandError("Not a terminal: pass --yes to start without asking.")
    if not ask(question, default=False):
        raise typer.Exit(1)


def ask(question: str, *, default: bool) -> bool:
    """Ask a yes-or-no question on standard error; the end of the input is a no.

    Raises KeyboardInterrupt after Ctrl-C.
    """
    try:
        return typer.confirm(question, default=default, err=True)
    except typer.Abort as abort:  # which Typer raises for both
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        return False


class _RateColumn(ProgressColumn):
    """Steps of a task in a second."""

    def render(self, task: Task) -> Text:
        """The rate as text, empty until it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "", style="progress.data.speed")


def progress_bar() -> Progress:
    """A progress bar with rate and remaining time, on standard error if that is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def tracked[T](steps: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Pass on the `total` steps behind a progress bar."""
    with progress_bar() as bar:
        task = bar.add_task(description, total=total)
        for step in steps:
            yield step
            bar.advance(task)


def show_failures(failures: Sequence["Failure"]) -> None:
    """Print a table of failed uploads."""
    table = Table("failed upload", "attempts", "when (UTC)")
    table.columns[0].overflow = "fold"
    for failure in failures:
        table.add_row(
            f"[bold]{escape(failure.key)}[/]\n{error_markup(failure)}",
            str(failure.attempts),
            f"{failure.sent_at:%Y-%m-%d %H:%M:%S}",
        )
        table.add_section()
    out.print(table)


def error_markup(failure: "Failure") -> str:
    """Type and message of an error in Rich's markup."""
    return f"[red]{escape(failure.error_type)}[/]: {escape(failure.error_message)}"
