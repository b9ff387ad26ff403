"""The `image-pipeline` command: what is said to a person, or with --json to a script."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from image_pipeline.cli.common import (
    Json,
    Local,
    Name,
    Region,
    app,
    chosen,
    described,
    err,
    main,
    out,
    print_json,
    running,
    show_failures,
    start,
    stopped_by_signals,
    where,
)
from image_pipeline.console.command import open_page  # and its command is added to the app
from image_pipeline.console.process import ConsoleProcess
from image_pipeline.errors import CommandError
from image_pipeline.local import samples
from image_pipeline.local.stack import LocalStack
from image_pipeline.local.tools import CREDENTIALS
from image_pipeline.stack import dead_letters, uploads
from image_pipeline.stack.deployed import Stack, explained
from image_pipeline.stack.uploads import Outcome, State

DEFAULT_PORT: Final = 4566
WAIT_SECONDS: Final = 240.0
"""Long enough for Lambda's retries of an event, after 1 and 2 minutes, to end on the queue."""

COUNTED: Final = 10_000
"""Objects that are counted in a bucket; more are too many requests for a glance."""


@app.command()
def up(
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.", show_default=True)
    ] = DEFAULT_PORT,
    *,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once it is up; stop it with `down`.")
    ] = False,
    console: Annotated[
        bool, typer.Option("--console/--no-console", help="Serve the console, and open it.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Start a local AWS, build the function, deploy the stack, and open its console.

    It stays in the foreground until Ctrl-C, which stops everything, unless --detach is given.
    Events that fail are retried after 1 and 2 seconds, where AWS waits 1 and 2 minutes.

    **Examples**

    `image-pipeline up`

    `image-pipeline up --detach --port 4600`
    """
    local = LocalStack()
    pages = ConsoleProcess(local.directory)
    with stopped_by_signals():
        start(local, port, detach=detach)
        stays = False
        try:
            url = pages.start(port + 1) if console else None
            show_local(local.stack(), url, stop_hint=detach, as_json=as_json)
            if url and not as_json:
                open_page(url)
            stays = detach
            if not detach:
                local.wait()
                err.print("Stopped.")
        except KeyboardInterrupt:
            err.print("\nStopped.")
        finally:
            if not stays:
                pages.stop()
                local.stop()


@app.command()
def down() -> None:
    """Stop the local stack and all that belongs to it; its buckets are gone with it.

    **Example**

    `image-pipeline down`
    """
    local = LocalStack()
    ConsoleProcess(local.directory).stop()
    stopped = local.stop()
    out.print("Stopped the local stack." if stopped else "No local stack is running.")


@app.command()
def upload(  # noqa: PLR0913 - options of a command
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files or folders.")],
    *,
    directory: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Download the thumbnails to DIR.")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="Wait at most so long.")
    ] = WAIT_SECONDS,
    local: Local = False,
    stack: Name = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Upload images, wait for their thumbnails, and show both, or why there are none.

    The exit code is 1 if any upload failed or had no outcome in time.

    **Examples**

    `image-pipeline upload photo.jpg`

    `image-pipeline upload holiday/ --out thumbnails`

    `image-pipeline upload photo.jpg --stack my-pipeline --region eu-west-1 --json`
    """
    target = chosen(local=local, name=stack, region=region)
    outcomes = process(target, paths, directory, seconds)
    if as_json:
        print_json({"stack": target.name, "uploads": [each.to_json() for each in outcomes]})
    else:
        show_outcomes(outcomes)
    if any(each.state in (State.FAILED, State.UNKNOWN) for each in outcomes):
        raise typer.Exit(1)


@app.command()
def status(
    *,
    limit: Annotated[
        int, typer.Option("--failures", min=0, help="How many failures to show.")
    ] = 10,
    local: Local = False,
    stack: Name = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Show the buckets, the depth of the dead-letter queue, and the last failures.

    **Examples**

    `image-pipeline status`

    `image-pipeline status --stack my-pipeline --failures 50 --json`
    """
    server = LocalStack().server()
    if not (server or stack or local):
        if as_json:
            print_json({"running": False})
        else:
            out.print("No local stack is running. Start one: image-pipeline up")
        return
    target = chosen(local=local, name=stack, region=region)
    pages = None if stack else ConsoleProcess(LocalStack().directory).url
    settings = target.settings
    with explained():
        depth = dead_letters.depth(target.aws.sqs, settings.dead_letter_queue_url)
        found = dead_letters.look(target.aws.sqs, settings.dead_letter_queue_url)
        version = target.live_version()
        counts = {
            bucket: count_objects(target, bucket, prefix)
            for bucket, prefix in (
                (target.input_bucket, settings.input_prefix),
                (settings.output_bucket, ""),
            )
        }
    last = found[::-1][:limit]
    if as_json:
        print_json(
            {
                "running": True,
                "stack": target.name,
                "version": version,
                "endpoint_url": target.aws.endpoint_url,
                "console": pages,
                "input": {
                    "bucket": target.input_bucket,
                    "prefix": settings.input_prefix,
                    "objects": counts[target.input_bucket],
                },
                "output": {
                    "bucket": settings.output_bucket,
                    "objects": counts[settings.output_bucket],
                },
                "dead_letters": depth,
                "failures": [failure.to_json() for failure in last],
            }
        )
        return
    table = Table("", "where", "objects", title=f"{target.name} {where(target)}")
    for title, bucket, prefix in (
        ("uploads", target.input_bucket, settings.input_prefix),
        ("thumbnails", settings.output_bucket, ""),
    ):
        count = counts[bucket]
        shown = f"{count:,}" + (" or more" if count >= COUNTED else "")
        table.add_row(title, f"s3://{bucket}/{prefix}", shown)
    if pages:
        table.add_row("console", pages, "")
    table.add_row("dead letters", settings.dead_letter_queue_url.rsplit("/", 1)[-1], f"{depth:,}")
    out.print(table)
    if last:
        show_failures(last)


@app.command()
def demo(
    images: Annotated[
        Path | None, typer.Argument(metavar="[IMAGES]", help="A picture or a folder of your own.")
    ] = None,
    *,
    directory: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the thumbnails go.")
    ] = Path("demo-thumbnails"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = DEFAULT_PORT,
) -> None:
    """See it work: upload pictures to a local stack and show what becomes of them.

    The samples are a photo that lies on its side, a picture with transparency, an animation, and
    a text named .jpg, which becomes a dead letter. A stack that is already up is used and left up.

    **Examples**

    `image-pipeline demo`

    `image-pipeline demo ~/Pictures/holiday --out thumbnails`
    """
    local = LocalStack()
    if images is not None:
        uploads.plan([images], "")  # a wrong path should not take a deployment to be told
    with stopped_by_signals(), running(local, port) as target:
        pictures = [images] if images else samples.draw(local.directory / "samples")
        outcomes = process(target, pictures, directory, WAIT_SECONDS)
        show_outcomes(outcomes)
        failed = [each.failure for each in outcomes if each.failure]
        if failed:
            out.print("\nOn the dead-letter queue, to look into and to replay:")
            show_failures(failed)
        out.print(f"\nThumbnails: {directory.resolve()}", soft_wrap=True)
        if not images:
            out.print(f"Originals:  {(local.directory / 'samples').resolve()}", soft_wrap=True)
    expected = {
        each.key: State.FAILED
        for each in outcomes
        if not images and each.path.name == samples.CORRUPT
    }
    if any(each.state is not expected.get(each.key, State.DONE) for each in outcomes):
        raise CommandError("Not every picture came out as expected: see the table above.")


# --- what the commands share --------------------------------------------------------------------
def process(
    stack: Stack, paths: Sequence[Path], directory: Path | None, seconds: float
) -> list[Outcome]:
    """Upload, wait and download behind a progress bar."""
    files = uploads.plan(paths, stack.settings.input_prefix)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        sending = bar.add_task("Uploading", total=len(files))
        uploaded = uploads.upload(stack, files, lambda: bar.advance(sending))
        waiting = bar.add_task("Thumbnails", total=len(files))
        outcomes = uploads.wait(stack, uploaded, seconds, lambda _: bar.advance(waiting))
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            fetching = bar.add_task("Downloading", total=len(files))
            for index, outcome in enumerate(outcomes):
                outcomes[index] = uploads.download(stack, outcome, directory)
                bar.advance(fetching)
    return outcomes


def count_objects(stack: Stack, bucket: str, prefix: str) -> int:
    """Count objects under `prefix`, up to COUNTED."""
    count = 0
    for page in stack.aws.s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=prefix
    ):
        count += page["KeyCount"]
        if count >= COUNTED:
            return COUNTED
    return count


# --- what is shown ------------------------------------------------------------------------------
def show_local(stack: Stack, console: str | None, *, stop_hint: bool, as_json: bool) -> None:
    """Tell where the local stack and its console are, and how to use it with any AWS tool."""
    endpoint = str(stack.aws.endpoint_url)
    uploads = f"s3://{stack.input_bucket}/{stack.settings.input_prefix}"
    if as_json:
        print_json(
            {
                "endpoint_url": endpoint,
                "console": console,
                "environment": CREDENTIALS,
                "input_bucket": stack.input_bucket,
                "input_prefix": stack.settings.input_prefix,
                "output_bucket": stack.settings.output_bucket,
            }
        )
        return
    environment = " ".join(f"{name}={value}" for name, value in CREDENTIALS.items())
    activated = os.environ.get("VIRTUAL_ENV") == sys.prefix
    command = "image-pipeline" if activated else shlex.quote(os.path.relpath(sys.argv[0]))
    lines = (
        f"[bold green]The stack is up[/] on {endpoint}",
        *([f"  console     [bold]{console}[/]"] if console else []),
        f"  uploads     {uploads}",
        f"  thumbnails  s3://{stack.settings.output_bucket}/",
        "",
        f"Upload {'in the console, ' * bool(console)}with this command, or with any AWS tool:",
        f"  {command} upload photo.jpg --out thumbnails",
        f"  {environment} aws s3 cp --endpoint-url {endpoint} photo.jpg {uploads}",
        "",
        f"Stop it: {command} down" if stop_hint else "Stop it: Ctrl-C",
    )
    for line in lines:
        out.print(line, soft_wrap=True)


def show_outcomes(outcomes: Sequence[Outcome]) -> None:
    """One section an image: the original, then its thumbnails, or what went wrong instead."""
    table = Table("image", "pixels", "bytes", "saved")
    table.columns[0].overflow = "fold"  # a key is of no use if it is cut
    for column in table.columns[1:]:
        column.justify = "right"
    for outcome in outcomes:
        pixels = "{} x {}".format(*outcome.pixels) if outcome.pixels else "?"
        table.add_row(f"[bold]{escape(outcome.path.name)}[/]", pixels, f"{outcome.size:,}")
        match outcome.state:
            case State.FAILED if outcome.failure:
                table.add_row(f"  [red]✗[/] {described(outcome.failure)}")
            case State.SUPERSEDED:
                owner = escape(str(outcome.superseded_by))
                table.add_row(f"  [yellow]✗[/] {owner} is newer and has the same thumbnails")
            case State.UNKNOWN:
                table.add_row("  [yellow]?[/] nothing yet; look later: image-pipeline status")
        for thumbnail in outcome.thumbnails:
            table.add_row(
                f"  [green]✓[/] {escape(thumbnail.key)}",
                f"{thumbnail.width} wide",
                f"{thumbnail.size:,}",
                f"{(outcome.size - thumbnail.size) * 100 // max(outcome.size, 1)}%",
            )
        table.add_section()
    out.print(table)


if __name__ == "__main__":
    main()
