"""`image-pipeline demo`."""

from pathlib import Path
from typing import Annotated

import typer

from image_pipeline import files
from image_pipeline.cli import delivery, targets
from image_pipeline.cli.options import LOCAL_PORT, Port
from image_pipeline.cli.outcomes import WAIT_SECONDS, upload_and_wait
from image_pipeline.cli.output import foreign, out, show_failures
from image_pipeline.cli.signals import stopped_by_signals
from image_pipeline.errors import CommandError
from image_pipeline.local import samples, site
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

    Each thumbnail is fetched by its URL: as a browser that shows AVIF, as one that shows WebP, and
    as one that shows neither. The page index.html, in the folder of the thumbnails, shows them.

    The samples are a photo that is stored sideways, an image with transparency, an animation, and a
    text file named .jpg, which fails. If a local stack is running, the command uses it. Otherwise
    it starts one, and stops it at the end. It needs Linux. The first time it installs the tools of
    the local stack into its cache folder.

    **Examples**

    `image-pipeline demo`

    `image-pipeline demo ~/Pictures/holiday --out thumbnails`
    """
    local = LocalStack(parameters=site.PARAMETERS)
    delivery.check_folder(directory)
    if images is not None:
        files.plan([images], "")  # a wrong path is reported before a stack is deployed
    with stopped_by_signals(), targets.running(local, port) as target:
        if not site.can_show(target):
            raise CommandError(
                "The local stack that is running has no CDN or no manifests. Stop it with "
                "`image-pipeline down`, and run this command again."
            )
        pictures = [images] if images else samples.draw(local.directory / "samples")
        outcomes = upload_and_wait(target, pictures, directory, WAIT_SECONDS)
        delivered = delivery.deliveries(target, outcomes)
        delivery.show_deliveries(delivered)
        page = delivery.write_page(delivered, directory)
        if failed := [each.failure for each in outcomes if each.failure]:
            out.print("\nMessages on the dead-letter queue:")
            show_failures(failed)
        out.print(f"\nThumbnails: {foreign(str(directory.resolve()))}", soft_wrap=True)
        out.print(f"A page:     {foreign(str(page.resolve()))}", soft_wrap=True)
        if not images:
            out.print(f"Originals:  {(local.directory / 'samples').resolve()}", soft_wrap=True)
    expected = {
        each.key: State.FAILED
        for each in outcomes
        if not images and each.path.name == samples.CORRUPT
    }
    if any(each.state is not expected.get(each.key, State.DONE) for each in outcomes):
        raise CommandError("Not every image has the expected result: see the table above.")
    if not all(each.complete for each in delivered):
        raise CommandError("The CDN does not serve every thumbnail: see the table above.")
