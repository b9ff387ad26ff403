"""`image-pipeline dead-letters`."""

from pathlib import Path
from typing import Annotated

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.options import ErrorType, Json, Local, Profile, Region, StackName
from image_pipeline.cli.output import foreign, json_text, out, print_json, show_failures
from image_pipeline.stack.dead_letters import count_messages, failures


def dead_letters(  # noqa: PLR0913 - options of a command
    *,
    error: ErrorType = None,
    maximum: Annotated[int, typer.Option("--max", min=1, help="Maximum messages to read.")] = 1000,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the failures to FILE as JSON lines."),
    ] = None,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Show the uploads that failed, and why. The messages stay on the queue.

    --export writes one JSON object per line. Its field `body` is the message, which you can send to
    the queue again.

    **Examples**

    `image-pipeline dead-letters`

    `image-pipeline dead-letters --error CorruptImage --stack my-pipeline`

    `image-pipeline dead-letters --export failures.jsonl`
    """
    target = targets.find_stack(local=local, name=stack, region=region, profile=profile)
    found = failures(target, maximum, error)
    depth = count_messages(target)
    if export:
        export.write_text(
            "".join(json_text(each.to_json() | {"body": each.body}) + "\n" for each in found),
            encoding="utf-8",
        )
    if as_json:
        listed = [each.to_json() for each in found]
        print_json({"stack": target.name, "waiting": depth, "failures": listed})
        return
    if export:
        out.print(f"{len(found):,} failures written to {foreign(str(export))}")
    elif found:
        show_failures(found)
    out.print(f"{depth:,} messages are on the queue of {target.name} {target.aws.location}.")
    hidden = depth - len({each.message_id for each in found})
    if not error and hidden > 0 and len(found) < maximum:
        out.print(f"{hidden:,} of them are in flight and reappear within minutes.")
    if found and not export:
        out.print("Retry them: image-pipeline replay")
