"""`image-pipeline deploy`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from image_pipeline.cli.options import Json, Profile, Region, Yes
from image_pipeline.cli.output import confirm, err, foreign, out, print_json
from image_pipeline.errors import CommandError
from image_pipeline.local.tools import tool_path
from image_pipeline.stack import retained, sam
from image_pipeline.stack.aws import Aws
from image_pipeline.stack.deployed import naming_options, parameters_of
from image_pipeline.stack.parameters import check, from_file, from_words


def deploy(  # noqa: PLR0913 - options of a command
    *,
    stack: Annotated[
        str, typer.Option("--stack", metavar="NAME", help="Name of the stack in your AWS account.")
    ],
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Parameter of the stack; repeat the option for more. Those that you leave out "
            "keep their values.",
        ),
    ] = None,
    parameters_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON object of parameters, to which others are added."),
    ] = None,
    import_buckets: Annotated[
        bool,
        typer.Option(
            "--import-buckets",
            help="Take back the buckets that an earlier stack of these names left, with their "
            "objects, and the key that it created.",
        ),
    ] = False,
    template: Annotated[
        Path, typer.Option(metavar="FILE", help="The built template, from `make build`.")
    ] = Path(".aws-sam/build/template.yaml"),
    yes: Yes = False,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Deploy what `make build` built, and take back the buckets of an earlier stack.

    Deleting a stack keeps its buckets. A new stack of the same names can then be created only with
    --import-buckets: CloudFormation first makes a stack of the existing buckets (a resource
    import), and the deploy completes it. No object is changed. The command shows what it takes back
    and asks. The exit code is 1 if you decline or if a step fails. To repeat it is safe.

    While there was no stack, uploads were not processed: run `image-pipeline backfill` afterwards.

    **Examples**

    `image-pipeline deploy --stack my-pipeline --parameters-file parameters.json`

    `image-pipeline deploy --stack my-pipeline --parameter InputBucketName=my-input
    --parameter OutputBucketName=my-output --import-buckets`
    """
    given = from_file(str(parameters_file)) if parameters_file else {}
    given |= from_words(parameter or [], "--parameter")
    if not template.is_file():
        raise CommandError(
            f"There is no built template {template}. Run `make build` in the checkout, or name the "
            "template with --template."
        )
    environment = {**os.environ, "PATH": tool_path()}
    sam.check_name(stack, given)
    sam.check_version(environment)
    aws = Aws.account(region, profile)
    check(parameters_of(aws, stack) | given)
    found = retained.find(aws, stack, given)
    if found:
        taken_back(aws, stack, found, import_buckets=import_buckets, yes=yes, quiet=as_json)
    code = sam.deploy(
        stack,
        given,
        [
            *("--template-file", str(template)),
            *("--region", aws.cloudformation.meta.region_name),
            *(("--profile", profile) if profile else ()),
            *("--capabilities", "CAPABILITY_NAMED_IAM"),
            "--resolve-s3",
            "--no-confirm-changeset",
            "--no-fail-on-empty-changeset",
        ],
        environment=environment,
        output=sys.stderr if as_json else None,
    )
    if code:
        raise CommandError(
            f"`sam deploy` failed with exit code {code}; its messages above say why."
            + (" The imported resources stay in the stack." if found else "")
        )
    if as_json:
        imported = [
            {"logical_id": each.logical_id, "type": each.kind, "id": each.identifier}
            for each in found
        ]
        print_json({"stack": stack, "imported": imported, "deployed": True})
    elif found:
        out.print(
            "Uploads that arrived while there was no stack have no thumbnails yet: "
            f"image-pipeline backfill{naming_options(aws, stack, profile)}",
            soft_wrap=True,
        )


def taken_back(  # noqa: PLR0913 - what to do, and how
    aws: Aws,
    stack: str,
    found: Sequence[retained.Resource],
    *,
    import_buckets: bool,
    yes: bool,
    quiet: bool,
) -> None:
    """Show what an earlier stack left, and import it.

    Raises CommandError if that was not asked for or fails, typer.Exit if the user declines.
    """
    names = ", ".join(each.identifier for each in found)
    if not import_buckets:
        raise CommandError(
            f"These exist already, so a new stack cannot create them: {names}. To take them back "
            "with what is in them, pass --import-buckets; otherwise choose other names."
        )
    if not quiet:
        out.print(f"A new stack [bold]{foreign(stack)}[/] {aws.location} takes back:")
        for each in found:
            out.print(f"  [green]+[/] {each.logical_id} ({each.kind}): {foreign(each.identifier)}")
        out.print("Their contents stay. The deploy then sets their properties as in the template.")
    if not yes:
        confirm("Import them and deploy?")
    if not quiet:
        err.print("Importing …")
    retained.take_back(aws, stack, found)
