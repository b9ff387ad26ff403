"""The failed uploads that the options of a command mean, read from a stack's queues."""

from datetime import UTC, datetime, timedelta

from image_pipeline.cli.options import parsed
from image_pipeline.cli.output import err
from image_pipeline.stack.dead_letters import MAX_READ_SECONDS, Reading, read_all
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.triage import Filter, duration


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
