"""`image-pipeline discard`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.failures import parse_filter, read_with_progress, show_groups, unread_note
from image_pipeline.cli.options import (
    ErrorType,
    Json,
    KeyPrefix,
    Local,
    MaxRead,
    OlderThan,
    Profile,
    Region,
    Since,
    StackName,
    Yes,
)
from image_pipeline.cli.output import confirm, err, foreign, out, print_json
from image_pipeline.errors import CommandError
from image_pipeline.stack import discard as discards
from image_pipeline.stack.dead_letters import MAX_READ
from image_pipeline.stack.triage import groups, messages_of


def discard(  # noqa: PLR0913 - options of a command
    *,
    error: ErrorType = None,
    prefix: KeyPrefix = "",
    since: Since = None,
    older_than: OlderThan = None,
    everything: Annotated[bool, typer.Option("--all", help="Discard all messages.")] = False,
    maximum: MaxRead = MAX_READ,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Copy the messages to this new file first. Default: discarded-STACK-TIME.jsonl.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be deleted, and delete nothing.")
    ] = False,
    yes: Yes = False,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Delete dead-letter messages that no replay can help, after a copy of them.

    The command shows what it would delete, and asks. It copies the messages to a file before it
    deletes them: one JSON object for each, whose field `body` can be sent to the queue again. If
    the file cannot be written, nothing is deleted. Originals and thumbnails stay as they are.

    Only messages that were shown are deleted. A message that names several uploads is deleted only
    if all of them match. The exit code is 1 if you decline, or if a message could not be deleted
    because a replay or another reader has it.

    **Examples**

    `image-pipeline discard --error UnsupportedImage --dry-run`

    `image-pipeline discard --stack my-pipeline --prefix uploads/test/ --older-than 3d`

    `image-pipeline discard --stack my-pipeline --all --yes --export messages.jsonl --json`
    """
    target = targets.find_stack(local=local, name=stack, region=region, profile=profile)
    chosen = parse_filter(error, prefix, since, older_than)
    if chosen.is_everything and not everything:
        raise CommandError(
            "Say what to discard: --error, --prefix, --since or --older-than, or --all for all "
            "messages."
        )
    reading = read_with_progress(target, maximum)
    messages = set(messages_of(reading.failures, chosen, whole=True))
    found = [each for each in reading.failures if each.message_id in messages]
    grouped = groups(found)
    asks = bool(messages) and not (dry_run or yes)
    if not as_json or asks:
        if found:
            listing = f"image-pipeline dead-letters --list{target.options}"
            show_groups(grouped, err if asks else out, listing)
        if note := unread_note(reading):
            err.print(note)
    discarded = discards.Discarded(0, 0)
    path = export or Path(f"discarded-{target.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl")
    if messages and not dry_run:
        if not yes:
            confirm(f"Copy {len(messages):,} messages to {path}, and delete them from the queue?")
        with err.status("Discarding"):
            discarded = discards.discard(target, messages, discards.export_to(path))
    if as_json:
        print_json(
            {
                "stack": target.name,
                "dry_run": dry_run,
                "waiting": reading.total - discarded.deleted,
                "read": reading.messages,
                "matching": len(messages),
                "discarded": discarded.deleted,
                "kept": discarded.kept,
                "export": str(path) if discarded.deleted else None,
                "groups": [each.to_json() for each in grouped],
            }
        )
    elif dry_run or not messages:
        out.print(f"{len(messages):,} of {reading.messages:,} messages match. Nothing was deleted.")
    else:
        show_discarded(discarded, path)
    if discarded.kept:
        raise typer.Exit(1)


def show_discarded(discarded: discards.Discarded, path: Path) -> None:
    """Print how many messages were deleted, and where their copy is."""
    out.print(
        f"{discarded.deleted:,} messages deleted; their copy is {foreign(str(path))}",
        soft_wrap=True,
    )
    if discarded.kept:
        out.print(
            f"{discarded.kept:,} were not deleted: a replay or another reader has them, or they "
            "are gone. To try again, run the command again."
        )
