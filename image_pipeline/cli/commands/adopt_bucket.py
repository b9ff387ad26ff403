"""`image-pipeline adopt-bucket`."""

import json
from typing import Annotated

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.options import Json, Profile, Region, Yes
from image_pipeline.cli.output import confirm, foreign, out, print_json
from image_pipeline.stack import adopt
from image_pipeline.stack.adopt import CONSOLE_ORIGINS, Changes
from image_pipeline.stack.deployed import naming_options


def adopt_bucket(  # noqa: PLR0913 - options of a command
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the bucket.")],
    *,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Origin whose pages may upload; repeat the option for more. The default is the "
            "web console, on 127.0.0.1 and localhost.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the changes and apply none.")
    ] = False,
    yes: Yes = False,
    local: Annotated[
        bool, typer.Option("--local", help="Use the local AWS (the default if one is running).")
    ] = False,
    stack: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Use your AWS account. The stack need not be deployed yet."
        ),
    ] = None,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Prepare an existing bucket for a stack with ExistingInputBucket=true.

    The command turns on EventBridge for the bucket and adds a CORS rule that allows uploads from
    the web console. The bucket keeps its notifications and its other CORS rules. The command shows
    the changes and asks before it applies them. The exit code is 1 if you decline.

    With --stack or --region, the bucket is in your AWS account; with --local, in the local AWS.
    Without these options it is in the local AWS if one is running, and in your account otherwise.

    **Examples**

    `image-pipeline adopt-bucket my-photos --stack my-pipeline`

    `image-pipeline adopt-bucket my-photos --region eu-west-1 --origin https://www.example.com`

    `image-pipeline adopt-bucket my-photos --local --dry-run`
    """
    aws = targets.find_aws(local=local, name=stack, region=region, profile=profile)
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
        options = naming_options(aws, stack or "NAME", profile)
        out.print(
            f"Changed {foreign(name)}. If you have not deployed yet, deploy with "
            f"ExistingInputBucket=true InputBucketName={foreign(name)}. Then make the thumbnails "
            f"of the objects that it already holds: image-pipeline backfill{options}",
            soft_wrap=True,
        )


def show(changes: Changes, bucket: str, location: str) -> None:
    """Print what will change."""
    if not changes:
        out.print(f"Nothing to change: {foreign(bucket)} {location} is ready.")
        return
    out.print(f"Changes to bucket [bold]{foreign(bucket)}[/] {location}:")
    if changes.event_bridge:
        out.print(
            "  [green]+[/] send events to EventBridge (S3 needs about five minutes for it; a "
            "backfill finds what is uploaded meanwhile)"
        )
    if rule := changes.cors_rule:
        out.print(f"  [green]+[/] CORS rule {foreign(json.dumps(rule))}", soft_wrap=True)
