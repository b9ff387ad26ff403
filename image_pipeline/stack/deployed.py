"""A deployed stack, in an account or in the local AWS."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from image_pipeline.errors import CommandError, PartFailed
from image_pipeline.stack.aws import Aws, aws_errors_explained
from image_pipeline.stack.aws_errors import similar
from thumbnailer.errors import InvalidSettings
from thumbnailer.settings import Settings, key_template_meaning
from thumbnailer.urls import base_url

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackTypeDef
    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef

ALIAS: Final = "live"
"""Alias of the function that every event source invokes (iac/template.yaml)."""


@dataclass(frozen=True)
class Stack:
    """A deployed stack: its outputs and parameters, and the settings of its function.

    `architecture` is arm64 or x86_64. The function has `settings.memory_mb` MB of memory and
    `timeout` seconds.
    """

    aws: Aws
    name: str
    input_bucket: str
    function_name: str
    settings: Settings
    architecture: str
    outputs: Mapping[str, str]
    timeout: int = 30
    parameters: Mapping[str, str] = field(default_factory=dict)
    profile: str | None = None
    """The profile of the credentials, if it was named."""

    @property
    def options(self) -> str:
        """Options that name this stack in a command, after a space; none for the local stack."""
        return naming_options(self.aws, self.name, self.profile)

    def output(self, name: str) -> str:
        """An output of the stack. Raises CommandError if an older template has no such output."""
        try:
            return self.outputs[name]
        except KeyError:
            raise CommandError(
                f"Stack {self.name!r} has no output {name}: its template is too old for this "
                "command. Deploy it again."
            ) from None

    def live_version(self) -> str:
        """The version of the function that events invoke."""
        alias = self.aws.functions.get_alias(FunctionName=self.function_name, Name=ALIAS)
        return alias["FunctionVersion"]

    def invoke(self, event: object) -> dict[str, Any]:
        """Return the function's answer to `event`.

        Raises CommandError with the type and message of an error that the function raises, and
        BotoCoreError or ClientError if it cannot be invoked.
        """
        answer = self.aws.invocations.invoke(
            FunctionName=self.function_name, Qualifier=ALIAS, Payload=json.dumps(event).encode()
        )
        result: dict[str, Any] = json.loads(answer["Payload"].read())
        if answer.get("FunctionError"):
            raise CommandError(f"{result.get('errorType')}: {result.get('errorMessage')}")
        return result

    @property
    def thumbnails_url(self) -> str | None:
        """Where the CDN serves the thumbnails: see `served_at`."""
        return served_at(self.outputs, self.aws.endpoint_url)

    @property
    def negotiated_formats(self) -> tuple[str, ...]:
        """Formats that the CDN, if any, chooses from for a URL without one; none if it does not.

        iac/template.yaml says so to the function of the CDN in the same way.
        """
        if not key_template_meaning(self.settings.output_key_template).endswith(".{format}"):
            return ()
        given = self.parameters.get("CdnFormats")
        return tuple(given.split(",")) if given else self.settings.formats

    @property
    def queues(self) -> list[str]:
        """URLs of the queues that failures end on."""
        undelivered = self.outputs.get("UndeliveredEventsUrl")
        return [self.settings.dead_letter_queue_url, *([undelivered] if undelivered else [])]

    @classmethod
    def find(cls, aws: Aws, name: str, profile: str | None = None) -> "Stack":
        """Describe the stack `name`, with the credentials of `profile` if it was named.

        Raises CommandError if it does not exist, is not a stack of this pipeline, or AWS refuses;
        PartFailed if its function does not exist.
        """
        found = describe(aws, name)
        outputs = outputs_of(found)
        with aws_errors_explained():
            try:
                function = outputs["FunctionName"]
                configuration = function_configuration(aws, name, function)
                settings = Settings.from_environment(
                    configuration["Environment"]["Variables"]
                    | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration["MemorySize"])}
                    | ({"AWS_ENDPOINT_URL": aws.endpoint_url} if aws.endpoint_url else {})
                )
                return cls(
                    aws,
                    name,
                    outputs["InputBucket"],
                    function,
                    settings,
                    configuration["Architectures"][0],
                    outputs,
                    configuration["Timeout"],
                    given_parameters(found),
                    profile,
                )
            except (KeyError, InvalidSettings) as error:
                raise _incomplete(found, error) from error


def naming_options(aws: Aws, name: str, profile: str | None) -> str:
    """Options that name a stack in a command, after a space; none for the local stack.

    The region is always named, so that they mean the same stack in another terminal.
    """
    if aws.endpoint_url:
        return ""
    named = f" --stack {name} --region {aws.cloudformation.meta.region_name}"
    return named + (f" --profile {shlex.quote(profile)}" if profile else "")


def describe(aws: Aws, name: str) -> "StackTypeDef":
    """Return what CloudFormation says of a stack. Raises CommandError if there is none."""
    if found := describe_if_there(aws, name):
        return found
    raise CommandError(
        f"There is no stack {name!r} in {aws.cloudformation.meta.region_name}."
        f"{similar(name, _stack_names(aws))} Pass --region if it is in another region, or "
        "wait until it is deployed."
    )


def describe_if_there(aws: Aws, name: str) -> "StackTypeDef | None":
    """Return what CloudFormation says of a stack, None if there is none. Raises CommandError."""
    with aws_errors_explained():
        try:
            return aws.cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise


def function_configuration(
    aws: Aws, stack: str, function: str
) -> "FunctionConfigurationResponseTypeDef":
    """Return what Lambda says of a stack's function. Raises PartFailed if it does not exist."""
    try:
        return aws.functions.get_function_configuration(FunctionName=function)
    except aws.functions.exceptions.ResourceNotFoundException as error:
        raise PartFailed(f"The function {function} of stack {stack} does not exist.") from error


def outputs_of(found: "StackTypeDef") -> dict[str, str]:
    """Return the outputs of a stack that `describe` returned."""
    return {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}


def parameters_of(aws: Aws, name: str) -> dict[str, str]:
    """Return the parameters of the stack `name`; none if there is no such stack."""
    found = describe_if_there(aws, name)
    return given_parameters(found) if found else {}


def served_at(outputs: Mapping[str, str], endpoint_url: str | None) -> str | None:
    """Return where a stack's CDN serves the thumbnails, without a slash at the end; None without.

    A domain of your own is not used in the local stack, where it has no DNS record.
    """
    url = outputs.get("ThumbnailsUrl")
    if url and endpoint_url:
        url = f"https://{outputs['DistributionDomain']}"
    return base_url(url, endpoint_url) if url else None


def given_parameters(found: "StackTypeDef") -> dict[str, str]:
    """Return the parameters of a stack that `describe` returned."""
    return {
        each["ParameterKey"]: each.get("ParameterValue", "") for each in found.get("Parameters", [])
    }


def _incomplete(found: "StackTypeDef", error: Exception) -> CommandError:
    """Say why a stack cannot be used, by what happens to it."""
    name, status = found["StackName"], found["StackStatus"]
    if status == "DELETE_IN_PROGRESS":
        return CommandError(f"Stack {name!r} is being deleted.")
    if status.endswith("_IN_PROGRESS"):
        return CommandError(f"Stack {name!r} is being deployed ({status}). Try again when it is.")
    lacks = f"it has no output {error}" if isinstance(error, KeyError) else str(error)
    return CommandError(
        f"Stack {name!r} ({status}) is not a working stack of this pipeline: {lacks}. Deploy "
        "iac/template.yaml, or name another stack."
    )


def _stack_names(aws: Aws) -> list[str]:
    """The stacks of the account in this region; none if AWS does not let these credentials see."""
    try:
        pages = aws.cloudformation.get_paginator("list_stacks").paginate()
        return [
            each["StackName"]
            for page in pages
            for each in page["StackSummaries"]
            if each["StackStatus"] != "DELETE_COMPLETE"
        ]
    except (BotoCoreError, ClientError):
        return []
