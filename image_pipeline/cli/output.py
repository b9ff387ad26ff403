"""What commands print, and what they ask.

Names of objects and files, metadata and messages come from strangers. A control character in one
could set the terminal's title, clear its screen, or hide or forge a line. So everything for people
is printed by `out` or `err`, and everything for scripts by `print_json` or `json_text`: no control
character passes any of them. Text from outside is inserted as `foreign(text)`, which shows line
breaks as well and no markup.
"""

import json
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console, ConsoleOptions, RenderableType
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
from rich.segment import Segment
from rich.text import Text

from image_pipeline.cli import streams
from image_pipeline.cli.tables import Table
from image_pipeline.errors import CommandError

if TYPE_CHECKING:
    from image_pipeline.folders.results import Result
    from image_pipeline.stack.dead_letters import Failure

UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that a terminal does not show as themselves: the control characters C0, C1 and DEL
(ECMA-48) except tab and line feed, the bidirectional controls (Unicode Standard Annex 9, 2), line
and paragraph separators, and surrogates, which have no encoding."""


class SafeConsole(Console):
    r"""A console that shows each character of UNSAFE as an escape such as `\x1b`.

    Control codes of Rich's own, such as those of a progress bar, are not text and stay.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Turn anything that can be printed into safe segments."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=_safe(segment.text))

    def on_broken_pipe(self) -> None:
        """End quietly if the reader of the results has ended; go on without one of messages."""
        streams.drop(sys.stderr if self.stderr else sys.stdout)
        del self._buffer[:]
        if not self.stderr:
            raise SystemExit(0)


out = SafeConsole(highlight=False, emoji=False)
err = SafeConsole(highlight=False, emoji=False, stderr=True)


def visible(text: str) -> str:
    r"""Return `text` in one line, with an escape such as `\x1b` for each control character."""
    return re.sub(r"[\n\t]", _escape, _safe(text))


def foreign(text: str) -> str:
    """Return text from outside as Rich's markup that shows it as it is, and visibly."""
    text = visible(text)
    body = text.rstrip("\\")
    # A tag at the end, before which Rich reads two backslashes as one.
    return f"[none]{escape(body)}{2 * text[len(body) :]}[/none]"


def _safe(text: str) -> str:
    return UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    """Return the escape for one character, as in a string of Python."""
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def print_json(data: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Print `data` on standard output, for scripts."""
    _print(json_text(data, indent=2))


def print_json_with_list(
    data: dict[str, Any], name: str, items: Iterable[Mapping[str, Any]]
) -> None:
    """Print `data` like `print_json`, and then a list `name` of any length, item by item."""
    _print(json_text(data, indent=2).removesuffix("\n}") + f',\n  "{name}": [', end="")
    comma = ""
    for item in items:
        _print(f"{comma}\n    {json_text(dict(item))}", end="")
        comma = ","
    _print("\n  ]\n}")


def print_exports(variables: Mapping[str, str]) -> None:
    """Print environment variables on standard output, as commands of a shell."""
    for name, value in variables.items():
        _print(f"export {name}={shlex.quote(value)}")


def print_json_line(data: dict[str, Any]) -> None:
    """Print `data` in one line on standard output, for scripts that read it while it grows."""
    _print(json_text(data), flush=True)


def _print(text: str, *, end: str = "\n", flush: bool = False) -> None:
    """Print text; characters that the stream's encoding does not have are escaped as in JSON."""
    if not streams.encodes(sys.stdout, text):
        text = "".join(map(_ascii, text))
    try:
        print(text, end=end, flush=flush)
    except BrokenPipeError:
        out.on_broken_pipe()


def _ascii(character: str) -> str:
    return character if character.isascii() else json.dumps(character)[1:-1]


def json_text(data: dict[str, Any] | list[dict[str, Any]], indent: int | None = None) -> str:
    """Return `data` as JSON, in which each character of UNSAFE is escaped."""
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


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
    for failure in failures:
        table.add_row(
            f"[bold]{foreign(failure.key)}[/]\n{error_markup(failure)}",
            str(failure.attempts),
            f"{failure.sent_at:%Y-%m-%d %H:%M:%S}",
        )
        table.add_section()
    out.print(table)


def error_markup(failure: "Failure | Result") -> str:
    """Type and message of an error in Rich's markup."""
    return f"[red]{foreign(failure.error_type)}[/]: {foreign(failure.error_message)}"
