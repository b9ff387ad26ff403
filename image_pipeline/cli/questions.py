"""What `image-pipeline deploy` asks before the first deploy, with defaults and checks."""

import re
from collections.abc import Callable, Mapping
from typing import Final

import typer

from image_pipeline.cli.output import ask, err, foreign, print_error
from image_pipeline.errors import CommandError
from image_pipeline.stack import retained, sam
from image_pipeline.stack.aws import Aws, aws_errors_explained
from image_pipeline.stack.aws_errors import regions, similar
from image_pipeline.stack.parameters import PATTERNS, check

STACK: Final = "my-image-pipeline"
"""The name that is offered for a stack."""

STACK_NAME: Final = r"[A-Za-z][A-Za-z0-9-]*"
"""https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html"""

MAX_IN_BUCKET: Final = 40
"""Characters of the stack's name in the names that are offered for buckets, of which S3 allows 63:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""

DEFAULTS: Final = {"ThumbnailSizes": "128,512", "ThumbnailFormats": "webp", "AlarmEmail": ""}
"""Parameter → its default in iac/template.yaml, which need not be passed."""


def ask_stack() -> str:
    """Ask for the stack's name. Raises typer.Exit at the end of the input."""

    def valid(name: str) -> None:
        if not re.fullmatch(STACK_NAME, name):
            raise CommandError("A stack's name has letters, digits and hyphens; a letter is first.")
        sam.check_name(name, {})

    return _ask("Name of the stack", STACK, valid)


def ask_region() -> str:
    """Ask for a region of AWS. Raises typer.Exit at the end of the input."""

    def valid(name: str) -> None:
        if name not in (known := regions()):
            raise CommandError(f"{name!r} is not a region of AWS.{similar(name, known)}")

    return _ask("AWS region", "us-east-1", valid)


def ask_parameters(aws: Aws, stack: str, given: Mapping[str, str]) -> dict[str, str]:
    """Ask for what matters in a new stack and is not `given`; return the answers that are needed.

    Raises CommandError if AWS refuses, typer.Exit at the end of the input.
    """
    with aws_errors_explained():
        account = aws.sts.get_caller_identity()["Account"]
    err.print(
        f"A new stack [bold]{foreign(stack)}[/] in account {account} {aws.location}. Press Enter "
        "to accept what is in brackets.",
        soft_wrap=True,
    )
    start = stack[:MAX_IN_BUCKET].lower()
    questions = {
        "InputBucketName": ("Bucket for uploads", f"{start}-input-{account}"),
        "OutputBucketName": ("Bucket for thumbnails", f"{start}-output-{account}"),
        "ThumbnailSizes": ("Sizes, such as 128,512,avatar=256x256:cover:attention", None),
        "ThumbnailFormats": ("Formats, of webp, avif and jpeg", None),
        "AlarmEmail": ("E-mail address for alarms (Enter for none)", None),
    }
    if given.get("ExistingInputBucket") == "true":
        questions["InputBucketName"] = ("Bucket for uploads, which exists", "")
    known = dict(given)
    for name, (question, default) in questions.items():

        def valid(answer: str, name: str = name) -> None:
            _check(aws, {**known, name: answer}, name)

        if name not in given:
            known[name] = _ask(question, DEFAULTS[name] if default is None else default, valid)
    if "Cdn" not in given and ask("Serve the thumbnails by a CDN (CloudFront)?", default=False):
        known["Cdn"] = "true"
    return {
        name: value
        for name, value in known.items()
        if name not in given and value != DEFAULTS.get(name)
    }


def _check(aws: Aws, parameters: Mapping[str, str], name: str) -> None:
    """Raise CommandError if the parameter `name` cannot be what it is among `parameters`."""
    value = parameters[name]
    if name == "AlarmEmail":
        _check_pattern(name, value)
    elif name in ("InputBucketName", "OutputBucketName"):
        _check_pattern("InputBucketName", value)
        existing = name == "InputBucketName" and parameters.get("ExistingInputBucket") == "true"
        _check_bucket(aws, value, existing=existing)
        if parameters.get("InputBucketName") == parameters.get("OutputBucketName"):
            raise CommandError("The two buckets must have different names.")
    else:
        check(parameters)


def _check_bucket(aws: Aws, name: str, *, existing: bool) -> None:
    """Raise CommandError if a bucket should be `existing` and is not, or the other way round."""
    with aws_errors_explained():
        found = retained.bucket_exists(aws, name)
    if existing and not found:
        raise CommandError(f"There is no bucket {name} {aws.location}.")
    if found and not existing:
        raise CommandError(
            f"You have a bucket {name}. Choose a name that nobody has, or read in docs/deploy.md "
            "how to use your bucket for uploads (ExistingInputBucket) or to take it back from an "
            "earlier stack (--import-buckets)."
        )


def _check_pattern(parameter: str, value: str) -> None:
    pattern, meaning = PATTERNS[parameter]
    if not re.search(pattern, value):
        raise CommandError(f"{value!r} {meaning}.")


def _ask(question: str, default: str, valid: Callable[[str], None]) -> str:
    """Ask until `valid` raises no CommandError for the answer.

    Raises KeyboardInterrupt after Ctrl-C, typer.Exit with code 1 at the end of the input.
    """
    while True:
        try:
            answer: str = typer.prompt(
                question, default=default, show_default=bool(default), err=True
            ).strip()
            valid(answer)
        except typer.Abort as abort:  # which Typer raises for both
            if isinstance(abort.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise typer.Exit(1) from None
        except CommandError as error:
            print_error(str(error))
        else:
            return answer
