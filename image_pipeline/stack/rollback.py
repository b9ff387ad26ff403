"""What a rollback deploys: the template and the parameters that a stack had, and whether it can.

A rollback is a deploy, so it cannot bring back what has left the stack: CloudFormation does not
create a bucket that exists, and a new key does not read what an old one encrypts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image_pipeline.errors import CommandError
from image_pipeline.stack.aws import Aws, aws_errors_explained
from image_pipeline.stack.deployed import describe

TEMPLATE: Final = "template.yaml"
PARAMETERS: Final = "parameters.json"

SETTLED: Final = (
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
)
"""States of a stack that has a working template and can be updated
(https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html)."""


OWN_KEY: Final = "the key that the stack creates"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A stack's template as it was deployed, before any transform, and its parameters.

    CloudFormation shows no value of the parameters `hidden` (NoEcho), so they are not among
    `parameters`. A deploy that does not name them keeps their present values.
    """

    template: str
    parameters: Mapping[str, str]
    hidden: tuple[str, ...] = ()

    @classmethod
    def of(cls, aws: Aws, name: str) -> "Recorded":
        """Read what is deployed now. Raises CommandError if the stack is missing or not settled."""
        found = describe(aws, name)
        if problem := unsettled(name, found["StackStatus"]):
            raise CommandError(problem)
        with aws_errors_explained():
            template = aws.cloudformation.get_template(StackName=name, TemplateStage="Original")
            summary = aws.cloudformation.get_template_summary(StackName=name)
        body: object = template["TemplateBody"]
        hidden = [each["ParameterKey"] for each in summary["Parameters"] if each.get("NoEcho")]
        parameters = {
            each["ParameterKey"]: each["ParameterValue"]
            for each in found.get("Parameters", [])
            if each["ParameterKey"] not in hidden
        }
        text = body if isinstance(body, str) else json.dumps(body)
        return cls(text, parameters, tuple(hidden))

    def save(self, directory: Path) -> None:
        """Write TEMPLATE and PARAMETERS to a folder, which is created if it is missing."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / TEMPLATE).write_text(self.template, encoding="utf-8")
        (directory / PARAMETERS).write_text(json.dumps(dict(self.parameters), indent=2) + "\n")


def check(aws: Aws, name: str, directory: Path) -> None:
    """Check that what is saved in `directory` can be deployed to the stack again.

    Raises CommandError, with every reason, if it cannot.
    """
    try:
        was = json.loads((directory / PARAMETERS).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CommandError(f"Nothing is saved in {directory}. Run `make record` first.") from error
    found = describe(aws, name)
    now = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])}
    problem = unsettled(name, found["StackStatus"])
    if problems := [problem] if problem else obstacles(was, now):
        raise CommandError("This cannot be rolled back. " + " ".join(problems))


def unsettled(name: str, status: str) -> str | None:
    """Say why a stack in this state can be neither recorded nor updated; None if it can."""
    if status in SETTLED:
        return None
    if status.endswith("_IN_PROGRESS"):
        advice = "Wait until it is done."
    elif status == "UPDATE_ROLLBACK_FAILED":
        advice = (
            "CloudFormation's own rollback failed. Fix what the stack's events name, then run "
            f"`aws cloudformation continue-update-rollback --stack-name {name}`."
        )
    elif status == "UPDATE_FAILED":
        advice = f"Run `aws cloudformation rollback-stack --stack-name {name}`."
    else:
        advice = "It has no earlier state. Delete the stack and deploy it again."
    return f"The stack {name!r} is in the state {status}. {advice}"


def obstacles(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Say what of the parameters `now` no deploy with the parameters `was` can undo.

    Parameters are name → value. One that is missing, because a template is older, has its default.
    """
    found = []
    if _makes_input(was) and (
        not _makes_input(now) or was["InputBucketName"] != now["InputBucketName"]
    ):
        found.append(_bucket_left(was["InputBucketName"], "InputBucketName"))
    if was["OutputBucketName"] != now["OutputBucketName"]:
        found.append(_bucket_left(was["OutputBucketName"], "OutputBucketName"))
    key_was, key_now = _key(was), _key(now)
    if key_was != key_now and (key_was == OWN_KEY or key_now not in ("", *_former_keys(was))):
        found.append(
            "The KMS key was replaced, and the earlier parameters would make what it encrypts now "
            "unreadable, or create yet another key. Deploy the earlier version with the present "
            "KmsKeyArn, CreateKmsKey and FormerKmsKeyArns instead."
        )
    return found


def _makes_input(parameters: Mapping[str, str]) -> bool:
    return parameters.get("ExistingInputBucket", "false") != "true"


def _key(parameters: Mapping[str, str]) -> str:
    """The key of a stack: OWN_KEY, an ARN, or an empty text for none."""
    if parameters.get("CreateKmsKey", "false") == "true":
        return OWN_KEY
    return parameters.get("KmsKeyArn", "")


def _former_keys(parameters: Mapping[str, str]) -> list[str]:
    return [each for each in parameters.get("FormerKmsKeyArns", "").split(",") if each]


def _bucket_left(bucket: str, parameter: str) -> str:
    return (
        f"The bucket {bucket!r} left the stack when {parameter} or ExistingInputBucket was "
        "changed. It still exists, so CloudFormation cannot create it again. Deploy the earlier "
        "version with the present bucket parameters instead."
    )
