"""`image-pipeline record`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.options import Local, Region, StackName
from image_pipeline.cli.output import foreign, out
from image_pipeline.stack.aws import aws_errors_explained


def record(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder for template.yaml and parameters.json.")
    ],
    *,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
) -> None:
    """Save the deployed template and parameters, so that they can be deployed again.

    `make record` runs this command before a deploy. `make rollback` deploys what it saved.

    **Example**

    `image-pipeline record .aws-sam/before --stack my-pipeline`
    """
    target = targets.find_stack(local=local, name=stack, region=region)
    with aws_errors_explained():
        template = target.aws.cloudformation.get_template(
            StackName=target.name, TemplateStage="Original"
        )["TemplateBody"]
        found = target.aws.cloudformation.describe_stacks(StackName=target.name)["Stacks"][0]
        version = target.live_version()
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found["Parameters"]}
    directory.mkdir(parents=True, exist_ok=True)
    text = template if isinstance(template, str) else json.dumps(template)
    (directory / "template.yaml").write_text(text, encoding="utf-8")
    (directory / "parameters.json").write_text(json.dumps(parameters, indent=2) + "\n")
    out.print(f"Saved version {version} of {target.name} in {foreign(str(directory))}")
