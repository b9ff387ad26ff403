"""The failed uploads that the options of a command mean: read from a stack's queues, and shown."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from rich.console import Console

from image_pipeline.cli.options import parsed
from image_pipeline.cli.output import err, foreign, out
from image_pipeline.cli.tables import Table
from image_pipeline.stack.dead_letters import MAX_READ_SECONDS, Reading, read_all
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.triage import MAX_GROUPS, Filter, Group, duration


def parse_filter(
    error: str | None, prefix: str, since: str | None, older_than: str | None
) -> Filter:
    """Return what the options --error, --prefix, --since and --older-than mean together.

    Raises typer.BadParameter for a value that is no duration.
    """

    def time(option: str, text: str | None) -> datetime | None:
        ago: timedelta | None = None if text is None else parsed(option, duration, text)
        return None if ago is None else datetime.now(UTC) - ago

    since_time, until = time("--since", since), time("--older-than", older_than)
    return Filter(prefix, error, since=since_time, until=until)


def read_with_progress(stack: Stack, maximum: int) -> Reading:
    """Read the queues, and say how far the reading is."""
    with err.status("Reading the dead-letter queue") as spinner:
        return read_all(
            stack,
            maximum,
            lambda count: spinner.update(f"Reading the dead-letter queue: {count:,} messages"),
        )


def unread_note(reading: Reading, more: str = "To read more, pass --max.") -> str:
    """Say how many messages were not read and why; empty if all were.

    `more` says what to do if the limit of the command was reached.
    """
    if not reading.unread:
        return ""
    read = f"{reading.messages:,} of about {reading.total:,} messages were read."
    match reading.stopped:
        case "limit":
            return f"{read} {more}"
        case "time":
            return f"{read} Reading stops after {MAX_READ_SECONDS} seconds: run the command again."
        case _:
            return (
                f"{read} The others are in flight, which means that a replay or another reader has "
                "them. They reappear within minutes."
            )


def show_groups(
    groups: Sequence[Group], console: Console = out, rest_by: str = "pass --list."
) -> None:
    """Print a table of failed uploads by cause, the MAX_GROUPS largest groups.

    `rest_by` says how to see the others.
    """
    table = Table("cause, and the latest uploads", "failures", "latest", "oldest")
    table.columns[1].justify = "right"
    for group in groups[:MAX_GROUPS]:
        named = [f"[red]{foreign(group.error_type)}[/]: {foreign(group.cause)}"]
        named += [f"[bold]{foreign(key)}[/]" for key in group.examples]
        named += [f"… of {group.uploads:,} uploads"] * (group.uploads > len(group.examples) > 0)
        table.add_row(
            "\n".join(named), f"{len(group.failures):,}", _age(group.newest), _age(group.oldest)
        )
        table.add_section()
    console.print(table)
    if len(groups) > MAX_GROUPS:
        rest = sum(len(each.failures) for each in groups[MAX_GROUPS:])
        console.print(
            f"{rest:,} more failures in {len(groups) - MAX_GROUPS:,} groups: {rest_by}",
            soft_wrap=True,
        )


def _age(then: datetime) -> str:
    """The time since then in the largest unit that fits, as the options for ages take it."""
    seconds = max(int((datetime.now(UTC) - then).total_seconds()), 0)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
