"""`image-pipeline smoke`."""

from dataclasses import asdict
from typing import Annotated

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.options import Json, Local, Region, StackName
from image_pipeline.cli.output import out, print_json
from image_pipeline.errors import CommandError
from image_pipeline.stack.smoke import Step, smoke_test


def smoke(
    *,
    seconds: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=1, help="Maximum seconds to wait in each step."
        ),
    ] = 120.0,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Check that a stack works, with an image and a broken file.

    The image must become thumbnails, and the broken file a dead-letter message. The command then
    removes the files and everything that was made from them. If a step fails, the command names the
    step, and the exit code is 1.

    **Examples**

    `image-pipeline smoke`

    `image-pipeline smoke --stack my-pipeline --wait 60 --json`
    """
    target = targets.find_stack(local=local, name=stack, region=region)
    steps: list[Step] = []
    failure: CommandError | None = None
    try:
        for step in smoke_test(target, seconds):
            steps.append(step)
            if not as_json:
                out.print(f"[green]✓[/] {step.name} ({step.seconds} s)")
    except CommandError as error:
        if not as_json:
            raise
        failure = error
    if as_json:
        listed = [asdict(step) for step in steps]
        error_message = str(failure) if failure else None
        print_json(
            {"stack": target.name, "ok": not failure, "steps": listed, "error": error_message}
        )
    if failure:
        raise typer.Exit(1)
