"""`image-pipeline adopt-bucket`."""

import json
from typing import Annotated

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.options import Json, Local, Region, Yes
from image_pipeline.cli.output import confirm, foreign, out, print_json
from image_pipeline.stack import adopt
from image_pipeline.stack.adopt import CONSOLE_ORIGINS, Changes


def adopt_bucket(  # noqa: PLR0913 - options of a command
    name: Annotated[str, typer.Argument(metavar="NAME", help="The bucket.")],
    *,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Site whose pages may upload; repeat it for more. By default the console's pages, "
            "on 127.0.0.1 and localhost.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the changes, and make none.")
    ] = False,
    yes: Yes = False,
    local: Local = False,
    stack: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The stack, in your AWS account; it need not be deployed yet."
        ),
    ] = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Prepare an existing bucket for a stack with ExistingInputBucket=true.

    It sends the bucket's events to EventBridge, and adds a CORS rule that lets the web console
    upload. Notifications and CORS rules that the bucket has are kept. It shows the changes and
    asks; the exit code is 1 if you decline.

    The bucket is in your AWS account with --stack or --region, in the local AWS with --local.
    Without any of them it is in the local AWS while one is running, else in your account.

    **Examples**

    `image-pipeline adopt-bucket my-photos --stack my-pipeline`

    `image-pipeline adopt-bucket my-photos --region eu-west-1 --origin https://www.example.com`

    `image-pipeline adopt-bucket my-photos --local --dry-run`
    """
    aws = targets.find_aws(local=local, name=stack, region=region)
    changes = adopt.plan(aws, name, origin or CONSOLE_ORIGINS)
    if not as_json:
        show(changes, name, aws.location)
    if changes and not dry_run:
        if not yes:
            confirm("Change the bucket?")
        adopt.apply(aws, name, changes)
    if as_json:
        print_json(
            {
                "bucket": name,
                "endpoint_url": aws.endpoint_url,
                "event_bridge": changes.event_bridge,
                "cors_rule": changes.cors_rule,
                "changed": bool(changes) and not dry_run,
            }
        )
    elif changes and not dry_run:
        out.print(
            f"Changed {foreign(name)}. Deploy with ExistingInputBucket=true "
            f"InputBucketName={foreign(name)}, then make the thumbnails of what it holds: "
            "image-pipeline backfill"
        )


def show(changes: Changes, bucket: str, location: str) -> None:
    """Print what will change."""
    if not changes:
        out.print(f"Nothing to change: {foreign(bucket)} {location} is ready.")
        return
    out.print(f"Changes to bucket [bold]{foreign(bucket)}[/] {location}:")
    if changes.event_bridge:
        out.print("  [green]+[/] events to EventBridge")
    if rule := changes.cors_rule:
        out.print(f"  [green]+[/] CORS rule {foreign(json.dumps(rule))}", soft_wrap=True)
