"""`image-pipeline record`."""

from pathlib import Path
from typing import Annotated

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.options import Local, Profile, Region, StackName
from image_pipeline.cli.output import foreign, out
from image_pipeline.stack import rollback


def record(  # noqa: PLR0913 - options of a command
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder for template.yaml and parameters.json.")
    ],
    *,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Save nothing; fail if what DIR has cannot be deployed again, and why."
        ),
    ] = False,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
) -> None:
    """Save the deployed template and parameters, so that they can be deployed again.

    `make record` runs this command before a deploy. `make rollback` deploys what it saved, after
    `--check`. A renamed bucket or a replaced KMS key cannot be rolled back.

    **Examples**

    `image-pipeline record .aws-sam/before-my-pipeline --stack my-pipeline`

    `image-pipeline record .aws-sam/before-my-pipeline --stack my-pipeline --check`
    """
    aws, name = targets.find_name(local=local, name=stack, region=region, profile=profile)
    if check:
        rollback.check(aws, name, directory)
        out.print(f"{foreign(str(directory))} can be deployed to {name} again")
        return
    recorded = rollback.Recorded.of(aws, name)
    recorded.save(directory)
    out.print(f"Saved the template and the parameters of {name} in {foreign(str(directory))}")
    if recorded.hidden:
        out.print(
            "CloudFormation shows no value of " + ", ".join(recorded.hidden) + ": a rollback keeps "
            "the value that is deployed then"
        )
