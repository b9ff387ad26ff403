"""`image-pipeline upload`."""

from pathlib import Path
from typing import Annotated

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.options import Json, Local, Profile, Region, StackName, parsed
from image_pipeline.cli.outcomes import WAIT_SECONDS, show_outcomes, upload_and_wait
from image_pipeline.cli.output import print_json
from image_pipeline.stack.uploads import State
from thumbnailer.imaging import focus_text, parse_focus


def _focus(text: str) -> str:
    """Check a focus, and return it as it is stored. Raises BadParameter."""
    if not text:
        return ""
    return focus_text(parsed("--focus", parse_focus, text))


def upload(  # noqa: PLR0913 - options of a command
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files or folders.")],
    *,
    directory: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Download the thumbnails to DIR.")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="Maximum seconds to wait.")
    ] = WAIT_SECONDS,
    focus: Annotated[
        str,
        typer.Option(
            metavar="X,Y",
            help="What crops have in their middle: fractions of the upright picture from the left "
            "and the top, such as 0.5,0.3.",
            callback=_focus,
        ),
    ] = "",
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Upload images, wait for the results, and show the thumbnails or the errors.

    The exit code is 1 if an upload failed or had no result in time.

    **Examples**

    `image-pipeline upload photo.jpg`

    `image-pipeline upload holiday/ --out thumbnails`

    `image-pipeline upload portrait.jpg --focus 0.5,0.2`

    `image-pipeline upload photo.jpg --stack my-pipeline --region eu-west-1 --json`
    """
    target = targets.find_stack(local=local, name=stack, region=region, profile=profile)
    outcomes = upload_and_wait(target, paths, directory, seconds, focus)
    if as_json:
        print_json({"stack": target.name, "uploads": [each.to_json() for each in outcomes]})
    else:
        show_outcomes(outcomes, target.options)
    if any(each.state in (State.FAILED, State.UNKNOWN) for each in outcomes):
        raise typer.Exit(1)
