"""`image-pipeline deploy`."""

import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from image_pipeline.build import tools
from image_pipeline.build.function import BuildError
from image_pipeline.build.sources import find_sources
from image_pipeline.cli import questions, targets
from image_pipeline.cli.options import Json, Profile, Region, Yes
from image_pipeline.cli.output import ask, confirm, err, foreign, out, print_json
from image_pipeline.cli.steps import Ended, progress, run_steps
from image_pipeline.errors import CommandError
from image_pipeline.stack import change_sets, retained, sam
from image_pipeline.stack.aws import Aws
from image_pipeline.stack.deployed import (
    Stack,
    describe_if_there,
    naming_options,
    outputs_of,
    parameters_of,
)
from image_pipeline.stack.parameters import check, from_file, from_words
from image_pipeline.stack.verification import MAX_WAIT, Run
from image_pipeline.stack.verify import SMOKE


def deploy(  # noqa: PLR0913 - options of a command
    *,
    stack: Annotated[
        str | None,
        typer.Option("--stack", metavar="NAME", help="Name of the stack in your AWS account."),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Parameter of the stack; repeat the option for more. Those that you leave out "
            "keep their values.",
        ),
    ] = None,
    parameters: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON object of parameters, to which others are added."),
    ] = None,
    # Its earlier name.
    parameters_file: Annotated[Path | None, typer.Option(hidden=True)] = None,
    import_buckets: Annotated[
        bool,
        typer.Option(
            "--import-buckets",
            help="Take back the buckets that an earlier stack of these names left, with their "
            "objects, and the key that it created.",
        ),
    ] = False,
    template: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Deploy this built template, such as .aws-sam/build/template.yaml of `make "
            "build`. Without it, the command builds the function.",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify",
            help="After the deploy, send an image and a broken file through the stack, as "
            "`image-pipeline smoke` does.",
        ),
    ] = True,
    endpoint_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Deploy to the AWS at this URL, such as a local one, for tests."
        ),
    ] = None,
    yes: Yes = False,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Build the function, deploy the stack to your AWS account, and test it.

    The command needs no checkout and no Docker: it installs the SAM CLI into its cache folder when
    it needs it for the first time. On a terminal it asks for what a new stack needs and you have
    not given, shows the changes, and asks before it makes them. With --yes, with --json or without
    a terminal it asks nothing.

    Deleting a stack keeps its buckets. A new stack of the same names can then be created only with
    --import-buckets: CloudFormation first makes a stack of the existing buckets (a resource
    import), and the deploy completes it. No object is changed. The command shows what it takes back
    and asks. While there was no stack, uploads were not processed: run `image-pipeline backfill`
    afterwards.

    The exit code is 1 if you decline or if a step fails. To repeat it is safe.

    **Examples**

    `image-pipeline deploy`

    `image-pipeline deploy --stack my-pipeline --parameters parameters.json --yes`

    `image-pipeline deploy --stack my-pipeline --parameter InputBucketName=my-input
    --parameter OutputBucketName=my-output --import-buckets`
    """
    file = parameters or parameters_file
    given = from_file(str(file)) if file else {}
    given |= from_words(parameter or [], "--parameter")
    if template and not template.is_file():
        raise CommandError(
            f"There is no built template {template}. Run `make build` in the checkout, or leave "
            "out --template: the command then builds the function itself."
        )
    if endpoint_url:
        os.environ["AWS_ENDPOINT_URL"] = endpoint_url  # boto3 and SAM read it
    interactive = sys.stdin.isatty() and not (yes or as_json)
    aws, stack, given = (
        complete(stack, given, region=region, profile=profile, ask_buckets=not import_buckets)
        if interactive
        else (Aws.account(region, profile), named(stack), given)
    )
    settings = parameters_of(aws, stack) | given
    sam.check_name(stack, settings)
    check(settings)
    found = retained.find(aws, stack, given)
    with tempfile.TemporaryDirectory(prefix="image-pipeline-") as folder:
        with targets.reporting() as report:
            program = tools.program(tools.SAM, report)
            template = template or built(Path(folder), settings, report)
        if found:
            taken_back(aws, stack, found, import_buckets=import_buckets, yes=yes, quiet=as_json)

        def run_sam(option: str) -> None:
            options = [
                *("--template-file", str(template)),
                *("--region", aws.cloudformation.meta.region_name),
                *(("--profile", profile) if profile else ()),
                *("--capabilities", "CAPABILITY_NAMED_IAM"),
                *("--resolve-s3", "--no-fail-on-empty-changeset", option),
            ]
            output = sys.stderr if as_json else None
            code = sam.deploy(stack, given, options, program=program, output=output)
            if code:
                raise CommandError(
                    f"`sam deploy` failed with exit code {code}; its messages above say why."
                    + (" The imported resources stay in the stack." if found else "")
                )

        if not interactive or has_changes(aws, stack, run_sam):
            run_sam("--no-confirm-changeset")
    tested = smoke(aws, stack, profile, quiet=as_json) if verify else None
    if as_json:
        imported = [
            {"logical_id": each.logical_id, "type": each.kind, "id": each.identifier}
            for each in found
        ]
        result: dict[str, Any] = {"stack": stack, "imported": imported, "deployed": True}
        print_json(result | ({"smoke": tested.to_json("smoke test")} if tested else {}))
    else:
        show_next_steps(aws, stack, profile, settings, imported=bool(found))
    if tested and tested.code:
        raise typer.Exit(tested.code)


def named(stack: str | None) -> str:
    """The stack's name. Raises typer.BadParameter where it is missing and nobody can be asked."""
    if stack is None:
        raise typer.BadParameter("name the stack.", param_hint="--stack")
    return stack


def complete(
    stack: str | None,
    given: Mapping[str, str],
    *,
    region: str | None,
    profile: str | None,
    ask_buckets: bool,
) -> tuple[Aws, str, dict[str, str]]:
    """Ask for what is missing; return where to deploy, the stack's name, and its parameters.

    Raises CommandError if AWS refuses, typer.Exit at the end of the input.
    """
    aws = Aws.account(region, profile)
    stack = stack or questions.ask_stack()
    if not aws.region:
        aws = Aws.account(questions.ask_region(), profile)
    missing = {"InputBucketName", "OutputBucketName"} - given.keys()
    if not (missing and ask_buckets) or parameters_of(aws, stack):
        return aws, stack, dict(given)
    parameters = {**given, **questions.ask_parameters(aws, stack, given)}
    words = [f"--parameter={name}={value}" for name, value in parameters.items()]
    again = shlex.join(["image-pipeline", "deploy", *words])
    err.print(
        "\nThe same without questions:\n"
        f"  {foreign(again + naming_options(aws, stack, profile) + ' --yes')}\n",
        soft_wrap=True,
    )
    return aws, stack, parameters


def built(folder: Path, settings: Mapping[str, str], report: tools.Report) -> Path:
    """Build the function of the stack in `folder`; return the template. Raises CommandError."""
    uv = tools.find_uv(report)
    report("Building the function")
    try:
        return find_sources().build(folder, settings.get("LambdaArchitecture", "arm64"), uv)
    except BuildError as error:
        raise CommandError(str(error)) from error


def has_changes(aws: Aws, stack: str, run_sam: Callable[[str], None]) -> bool:
    """Show the changes of a deploy and ask whether to make them; False if there are none.

    Raises typer.Exit with code 1 for a no. What was made to show them is then removed.
    """
    before = change_sets.executable(aws, stack)
    run_sam("--no-execute-changeset")
    shown = change_sets.executable(aws, stack) - before
    if not shown:
        return False
    agreed = False
    try:
        agreed = ask("\nMake these changes?", default=False)
    finally:
        if not agreed:
            change_sets.discard(aws, stack, shown)
    if not agreed:
        err.print("Nothing was changed.")
        raise typer.Exit(1)
    return True


def smoke(aws: Aws, stack: str, profile: str | None, *, quiet: bool) -> Ended:
    """Send an image and a broken file through the stack, as `image-pipeline smoke` does."""
    if not quiet:
        out.print("\nTesting the stack with an image and a broken file (--no-verify skips this):")
    with progress() as say:
        return run_steps(Run(Stack.find(aws, stack, profile), MAX_WAIT, say), SMOKE, quiet=quiet)


def show_next_steps(
    aws: Aws, stack: str, profile: str | None, settings: Mapping[str, str], *, imported: bool
) -> None:
    """Print how to use the stack that was deployed."""
    options = foreign(naming_options(aws, stack, profile))
    lines = [f"\n[bold green]Deployed[/] [bold]{foreign(stack)}[/] {aws.location}. Next:"]
    if settings.get("ExistingInputBucket") == "true":
        lines.append(f"  prepare the bucket     image-pipeline adopt-bucket{options}")
    if imported:
        # Uploads that arrived while there was no stack have no thumbnails yet.
        lines.append(f"  make what is missing   image-pipeline backfill{options}")
    lines += [
        f"  upload an image        image-pipeline upload photo.jpg{options}",
        f"  open the web console   image-pipeline console{options}",
        f"  prove every part       image-pipeline verify{options}",
    ]
    found = describe_if_there(aws, stack)
    if found and (url := outputs_of(found).get("ThumbnailsUrl")):
        lines.append(f"  thumbnails are at      {foreign(url)}/")
    if address := settings.get("AlarmEmail"):
        lines.append(f"  confirm the e-mail that AWS sends to {foreign(address)}, to get alarms")
    for line in lines:
        out.print(line, soft_wrap=True)


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
