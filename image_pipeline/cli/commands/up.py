"""`image-pipeline up`."""

import os
import shlex
import sys
from typing import Annotated

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.browser import open_page
from image_pipeline.cli.options import LOCAL_PORT, Json, Port
from image_pipeline.cli.output import err, out, print_json
from image_pipeline.cli.signals import stopped_by_signals
from image_pipeline.console.process import ConsoleProcess
from image_pipeline.local.stack import LocalStack
from image_pipeline.stack.deployed import Stack


def up(
    port: Port = LOCAL_PORT,
    *,
    detach: Annotated[
        bool,
        typer.Option("--detach", "-d", help="Return when the stack is up; stop it with `down`."),
    ] = False,
    console: Annotated[
        bool,
        typer.Option(
            "--console/--no-console", help="Serve the web console and open it in your browser."
        ),
    ] = True,
    as_json: Json = False,
) -> None:
    """Start a local AWS, build the function, deploy the stack, and open its console.

    The stack runs until Ctrl-C. With --detach the command returns, and the stack runs until
    `image-pipeline down`. Failed events are retried after 1 and 2 seconds, not minutes as on AWS.

    **Examples**

    `image-pipeline up`

    `image-pipeline up --detach --port 4600`
    """
    local = LocalStack()
    pages = ConsoleProcess(local.directory)
    with stopped_by_signals():
        targets.start(local, port, detach=detach)
        stays = False
        try:
            url = pages.start(port + 1) if console else None
            show(local.stack(), url, detached=detach, as_json=as_json)
            if url and not as_json:
                open_page(pages.url or url)  # so that the printed address can still be used
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


def show(stack: Stack, console: str | None, *, detached: bool, as_json: bool) -> None:
    """Print where the local stack and its console are, and how to use them with any AWS tool."""
    endpoint = str(stack.aws.endpoint_url)
    uploads = f"s3://{stack.input_bucket}/{stack.settings.input_prefix}"
    if as_json:
        print_json(
            {
                "endpoint_url": endpoint,
                "console": console,
                "environment": stack.aws.environment,
                "input_bucket": stack.input_bucket,
                "input_prefix": stack.settings.input_prefix,
                "output_bucket": stack.settings.output_bucket,
            }
        )
        return
    key = " ".join(
        f"{name}={value}"
        for name, value in stack.aws.environment.items()
        if name != "AWS_ENDPOINT_URL"  # which the older versions of `aws` do not read
    )
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
        f"  {key} aws s3 cp --endpoint-url {endpoint} photo.jpg {uploads}",
        "",
        f"Stop it: {command} down" if detached else "Stop it: Ctrl-C",
    )
    for line in lines:
        out.print(line, soft_wrap=True)
