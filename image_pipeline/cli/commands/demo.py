"""`image-pipeline demo`."""

from pathlib import Path
from typing import Annotated

import typer

from image_pipeline import files
from image_pipeline.cli import targets
from image_pipeline.cli.options import LOCAL_PORT, Port
from image_pipeline.cli.outcomes import WAIT_SECONDS, show_outcomes, upload_and_wait
from image_pipeline.cli.output import foreign, out, show_failures
from image_pipeline.cli.signals import stopped_by_signals
from image_pipeline.errors import CommandError
from image_pipeline.local import samples
from image_pipeline.local.stack import LocalStack
from image_pipeline.stack.uploads import State


def demo(
    images: Annotated[
        Path | None,
        typer.Argument(
            metavar="[IMAGES]", help="An image or a folder of your own, instead of the samples."
        ),
    ] = None,
    *,
    directory: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the thumbnails.")
    ] = Path("demo-thumbnails"),
    port: Port = LOCAL_PORT,
) -> None:
    """See it work: upload sample images to a local stack and show the results.

    The samples are a photo that is stored sideways, an image with transparency, an animation, and a
    text file named .jpg, which fails. If a local stack is running, the command uses it. Otherwise
    it starts one, and stops it at the end.

    **Examples**

    `image-pipeline demo`

    `image-pipeline demo ~/Pictures/holiday --out thumbnails`
    """
    local = LocalStack()
    if images is not None:
        files.plan([images], "")  # a wrong path is reported before a stack is deployed
    with stopped_by_signals(), targets.running(local, port) as target:
        pictures = [images] if images else samples.draw(local.directory / "samples")
        outcomes = upload_and_wait(target, pictures, directory, WAIT_SECONDS)
        show_outcomes(outcomes)
        if failed := [each.failure for each in outcomes if each.failure]:
            out.print("\nMessages on the dead-letter queue:")
            show_failures(failed)
        out.print(f"\nThumbnails: {foreign(str(directory.resolve()))}", soft_wrap=True)
        if not images:
            out.print(f"Originals:  {(local.directory / 'samples').resolve()}", soft_wrap=True)
    expected = {
        each.key: State.FAILED
        for each in outcomes
        if not images and each.path.name == samples.CORRUPT
    }
    if any(each.state is not expected.get(each.key, State.DONE) for each in outcomes):
        raise CommandError("Not every image has the expected result: see the table above.")
