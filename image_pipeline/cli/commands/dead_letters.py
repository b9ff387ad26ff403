"""`image-pipeline dead-letters`."""

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
)
from image_pipeline.cli.output import foreign, out, print_json, show_failures
from image_pipeline.stack.dead_letters import MAX_READ
from image_pipeline.stack.discard import json_lines
from image_pipeline.stack.triage import groups


def dead_letters(  # noqa: PLR0913 - options of a command
    *,
    error: ErrorType = None,
    prefix: KeyPrefix = "",
    since: Since = None,
    older_than: OlderThan = None,
    every: Annotated[
        bool, typer.Option("--list", help="Show each failed upload, instead of groups.")
    ] = False,
    maximum: MaxRead = MAX_READ,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the messages to FILE as JSON lines."),
    ] = None,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Show the uploads that failed, and why. The messages stay on the queue.

    Failures with the same cause are one group: how many there are, how long ago the latest and the
    oldest came, and some of the keys. Numbers, names and ids in an error are left out of its cause.

    --export writes one JSON object for each message. Its field `body` is the message, which you can
    send to the queue again.

    **Examples**

    `image-pipeline dead-letters`

    `image-pipeline dead-letters --list --error CorruptImage --stack my-pipeline`

    `image-pipeline dead-letters --prefix uploads/2026/ --since 2h`

    `image-pipeline dead-letters --older-than 7d --export failures.jsonl`
    """
    target = targets.find_stack(local=local, name=stack, region=region, profile=profile)
    chosen = parse_filter(error, prefix, since, older_than)
    reading = read_with_progress(target, maximum)
    found = chosen.matching(reading.failures)
    grouped = groups(found)
    if export:
        export.write_text("".join(json_lines(found)), encoding="ascii")
    if as_json:
        print_json(
            {
                "stack": target.name,
                "waiting": reading.total,
                "read": reading.messages,
                "groups": [each.to_json() for each in grouped],
                "failures": [each.to_json() for each in found],
            }
        )
        return
    if export:
        messages = len({each.message_id for each in found})
        out.print(f"{messages:,} messages written to {foreign(str(export))}")
    elif every and found:
        show_failures(found)
    elif found:
        show_groups(grouped)
    if not (found or chosen.is_everything):
        out.print(f"No failed upload of the {len(reading.failures):,} that were read matches.")
    out.print(
        f"{reading.total:,} messages are on the queue of {target.name} {target.aws.location}."
    )
    if note := unread_note(reading):
        out.print(note)
    if found and not export:
        out.print(f"To retry them: image-pipeline replay{target.options}", soft_wrap=True)
        out.print("To delete some of them: image-pipeline discard --help", soft_wrap=True)
