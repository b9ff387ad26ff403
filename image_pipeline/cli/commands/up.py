"""`image-pipeline up`."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from image_pipeline import files
from image_pipeline.cli import targets
from image_pipeline.cli.browser import open_page
from image_pipeline.cli.options import LOCAL_PORT, Json, Port
from image_pipeline.cli.output import err, out, print_json
from image_pipeline.cli.signals import stopped_by_signals
from image_pipeline.console.process import ConsoleProcess
from image_pipeline.local import samples, site
from image_pipeline.local.stack import LocalStack
from image_pipeline.stack import cdn, uploads
from image_pipeline.stack.deployed import Stack

INTRODUCTION: Final = (
    "These pictures come from the CDN of the local stack. Each one appears as soon as its "
    "thumbnails are made, and the browser chooses size and format. At the URL behind a name, "
    "the CDN chooses the format."
)


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

    The stack has a CDN and makes WebP, AVIF and JPEG. A web page shows samples by the CDN's URLs.
    It runs until Ctrl-C. With --detach the command returns, and the stack runs until
    `image-pipeline down`. Failed events are retried after 1 and 2 seconds, not minutes as on AWS.
    It needs Linux. The first time it installs the tools of the local stack into its cache folder.

    **Examples**

    `image-pipeline up`

    `image-pipeline up --detach --port 4600`
    """
    local = LocalStack(parameters=site.PARAMETERS)
    pages = ConsoleProcess(local.directory)
    with stopped_by_signals():
        targets.start(local, port, detach=detach)
        stays = False
        try:
            stack = local.stack()
            samples_url = show_samples(stack, local.directory / "samples")
            url = pages.start(port + 1) if console else None
            show(stack, url, samples_url, detached=detach, as_json=as_json)
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


def show_samples(stack: Stack, directory: Path) -> str:
    """Upload the samples that are pictures, and return the URL of a page that shows them.

    The page waits for their thumbnails, this command does not.
    """
    with targets.reporting() as report:
        report("Uploading the samples")
        pictures = [each for each in samples.draw(directory) if each.name != samples.CORRUPT]
        planned = files.plan(pictures, stack.settings.input_prefix)
        uploaded = list(uploads.upload(stack, planned))
        figures = [
            site.Figure(
                each.path.name,
                cdn.negotiated_url(stack, each, stack.settings.sizes[-1]),
                site.manifest_url(stack, each.key),
            )
            for each in uploaded
        ]
        return site.publish(stack, figures, INTRODUCTION)


def show(
    stack: Stack, console: str | None, samples_url: str, *, detached: bool, as_json: bool
) -> None:
    """Print where the local stack and its pages are, and how to use them with any AWS tool."""
    endpoint = str(stack.aws.endpoint_url)
    input_url = f"s3://{stack.input_bucket}/{stack.settings.input_prefix}"
    if as_json:
        print_json(
            {
                "endpoint_url": endpoint,
                "console": console,
                "site": samples_url,
                "thumbnails_url": stack.thumbnails_url,
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
    # `uvx` puts it on the PATH of this process only, but whoever used that knows how to call it.
    found = shutil.which("image-pipeline")
    on_path = found and Path(found).resolve() == Path(sys.argv[0]).resolve()
    command = "image-pipeline" if on_path else shlex.quote(os.path.relpath(sys.argv[0]))
    lines = (
        f"[bold green]The stack is up[/] on {endpoint}",
        *([f"  console     [bold]{console}[/]"] if console else []),
        f"  samples     [bold]{samples_url}[/]",
        f"  uploads     {input_url}",
        f"  thumbnails  s3://{stack.settings.output_bucket}/ at {stack.thumbnails_url}/",
        "",
        f"Upload {'in the console, ' * bool(console)}with this command, or with any AWS tool:",
        f"  {command} upload photo.jpg --out thumbnails",
        f"  {key} aws s3 cp --endpoint-url {endpoint} photo.jpg {input_url}",
        "",
        f"Stop it: {command} down" if detached else "Stop it: Ctrl-C",
    )
    for line in lines:
        out.print(line, soft_wrap=True)
