"""`image-pipeline smoke`."""

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.options import Json, Local, Profile, Region, StackName, Wait
from image_pipeline.cli.output import print_json
from image_pipeline.cli.steps import progress, run_steps
from image_pipeline.stack.verification import MAX_WAIT, Run
from image_pipeline.stack.verify import SMOKE


def smoke(  # noqa: PLR0913 - options of a command
    *,
    seconds: Wait = MAX_WAIT,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Check that a stack works, with an image and a broken file.

    The image must become thumbnails, and the broken file a dead-letter message. With `Cdn=true`, a
    thumbnail is also fetched by its URL. The command then removes the files and everything that was
    made from them, also after Ctrl-C. If a step fails, the command names the step first, then what
    the clean-up could not remove, and the exit code is 1. This is the short form of
    `image-pipeline verify`.

    **Examples**

    `image-pipeline smoke`

    `image-pipeline smoke --stack my-pipeline --wait 60 --json`
    """
    target = targets.find_stack(local=local, name=stack, region=region, profile=profile)
    with progress() as say:
        ended = run_steps(Run(target, seconds, say), SMOKE, quiet=as_json)
    if as_json:
        steps = [
            {"name": each.name, "seconds": each.seconds}
            for each in ended.results
            if not each.error and not each.skipped
        ]
        print_json({"stack": target.name, "steps": steps, **ended.to_json("smoke test")})
    if ended.code:
        raise typer.Exit(ended.code)
