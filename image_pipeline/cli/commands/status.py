"""`image-pipeline status`."""

from itertools import islice
from typing import Annotated, Final

import typer
from rich.table import Table

from image_pipeline.cli import targets
from image_pipeline.cli.options import Json, Local, Profile, Region, StackName
from image_pipeline.cli.output import out, print_exports, print_json, show_failures
from image_pipeline.console.process import ConsoleProcess
from image_pipeline.errors import CommandError
from image_pipeline.local.stack import LocalStack
from image_pipeline.stack import dead_letters
from image_pipeline.stack.aws import aws_errors_explained, list_objects
from image_pipeline.stack.deployed import Stack

MAX_COUNTED: Final = 10_000
"""Objects that are counted in a bucket: S3 lists 1,000 a request, and this is a quick overview."""


def status(  # noqa: PLR0913 - options of a command
    *,
    limit: Annotated[int, typer.Option("--failures", min=0, help="Maximum failures to show.")] = 10,
    env: Annotated[
        bool, typer.Option("--env", help="Print only the variables that other AWS tools need.")
    ] = False,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Show the buckets, the depth of the dead-letter queue, and the latest failures.

    With --env, other AWS tools can use the local stack, whose key is secret and changes with each
    start.

    **Examples**

    `image-pipeline status`

    `eval "$(image-pipeline status --env)"`

    `image-pipeline status --stack my-pipeline --failures 50 --json`
    """
    if env:
        if stack:
            raise CommandError("--env is for the local stack: --stack uses your own credentials.")
        show_environment(as_json=as_json)
        return
    if not (stack or local or region or profile or LocalStack().server()):
        if as_json:
            print_json({"running": False})
        else:
            out.print("No local stack is running. Start one: image-pipeline up")
        return
    target = targets.find_stack(local=local, name=stack, region=region, profile=profile)
    console = None if stack else ConsoleProcess(LocalStack().directory).url
    settings = target.settings
    with aws_errors_explained():
        depth = dead_letters.depth(target.aws.sqs, settings.dead_letter_queue_url)
        failures = dead_letters.read(target.aws.sqs, settings.dead_letter_queue_url)
        version = target.live_version()
        uploads = count_objects(target, target.input_bucket, settings.input_prefix)
        thumbnails = count_objects(target, settings.output_bucket, "")
    last = failures[::-1][:limit]
    if as_json:
        print_json(
            {
                "running": True,
                "stack": target.name,
                "version": version,
                "endpoint_url": target.aws.endpoint_url,
                "console": console,
                "input": {
                    "bucket": target.input_bucket,
                    "prefix": settings.input_prefix,
                    "objects": uploads,
                },
                "output": {"bucket": settings.output_bucket, "objects": thumbnails},
                "dead_letters": depth,
                "failures": [failure.to_json() for failure in last],
            }
        )
        return
    table = Table("", "where", "objects", title=f"{target.name} {target.aws.location}")
    for title, address, count in (
        ("uploads", f"s3://{target.input_bucket}/{settings.input_prefix}", uploads),
        ("thumbnails", f"s3://{settings.output_bucket}/", thumbnails),
    ):
        shown = f"{count:,}" + (" or more" if count >= MAX_COUNTED else "")
        table.add_row(title, address, shown)
    table.add_row("failures", settings.dead_letter_queue_url.rsplit("/", 1)[-1], f"{depth:,}")
    out.print(table)
    if console:  # outside the table, which would break it into lines
        out.print(f"console: {console}", soft_wrap=True)
    if last:
        show_failures(last)


def show_environment(*, as_json: bool) -> None:
    """Print the variables with which other AWS tools use the local AWS, as commands of a shell.

    Raises CommandError if none is running.
    """
    variables = targets.find_aws(local=True, name=None, region=None, profile=None).environment
    if as_json:
        print_json(dict(variables))
        return
    print_exports(variables)


def count_objects(stack: Stack, bucket: str, prefix: str) -> int:
    """Count the objects under `prefix`, up to MAX_COUNTED."""
    return sum(1 for _ in islice(list_objects(stack.aws.s3, bucket, prefix), MAX_COUNTED))
