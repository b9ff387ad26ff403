"""A deployed stack, in a local AWS or in an account: the same code with another endpoint."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import boto3
import botocore.session
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
)
from botocore.utils import parse_timestamp

from image_pipeline.errors import CommandError, NotPermitted
from thumbnailer.errors import InvalidSettings
from thumbnailer.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

LOCAL_REGION: Final = "us-east-1"
LOCAL_ACCESS_KEY: Final = "test"
"""Both halves of the key that ministack knows as the account's root."""

ALIAS: Final = "live"
"""The function's alias that everything invokes (iac/template.yaml)."""

DENIED: Final = re.compile(r"AccessDenied|AuthorizationError|Unauthorized|Forbidden|^403$")
"""Codes of the services for what the caller, or a key's policy, does not allow; a HEAD of S3 has
none but its status."""

LONGEST_SECONDS: Final = 910
"""For an answer of the function: the longest time-out that it can have, and some."""

CONNECTIONS: Final = 32
"""Most requests at a time on one client."""


class Aws:
    """Where AWS is, and the clients that talk to it; each client is made when first used."""

    def __init__(self, session: boto3.Session, endpoint_url: str | None = None) -> None:
        self._session = session
        self.endpoint_url = endpoint_url
        self._config = Config(
            max_pool_connections=CONNECTIONS,
            connect_timeout=5,
            retries={"total_max_attempts": 5, "mode": "standard"},
            # A proxy of the user's must not see what goes to loopback.
            proxies={} if endpoint_url else None,
        )

    @classmethod
    def local(cls, endpoint_url: str) -> "Aws":
        """The local AWS at `endpoint_url`; nothing of the user's own AWS configuration is read."""
        nothing = (None, None, None, None)
        nowhere = (None, None, os.devnull, None)
        variables = {"profile": nothing, "config_file": nowhere, "credentials_file": nowhere}
        session = _quick(botocore.session.Session(session_vars=variables))
        return cls(
            boto3.Session(
                LOCAL_ACCESS_KEY,
                LOCAL_ACCESS_KEY,
                region_name=LOCAL_REGION,
                botocore_session=session,
            ),
            endpoint_url,
        )

    @classmethod
    def account(cls, region: str | None = None) -> "Aws":
        """The account that boto3's usual credentials belong to, in `region` or the usual one."""
        with explained():
            session = _quick(botocore.session.get_session())
            return cls(boto3.Session(region_name=region, botocore_session=session))

    @cached_property
    def s3(self) -> "S3Client":
        """Buckets and objects."""
        return self._session.client("s3", endpoint_url=self.endpoint_url, config=self._config)

    @cached_property
    def s3_links(self) -> "S3Client":
        """The same for presigned URLs: they name the region, or S3 might answer with a redirect."""
        config = self._config.merge(Config(signature_version="s3v4"))
        if not self.endpoint_url:
            config = config.merge(Config(s3={"addressing_style": "virtual"}))
        return self._session.client("s3", endpoint_url=self.endpoint_url, config=config)

    @cached_property
    def logs(self) -> "CloudWatchLogsClient":
        """What the function logs."""
        return self._session.client("logs", endpoint_url=self.endpoint_url, config=self._config)

    @cached_property
    def sqs(self) -> "SQSClient":
        """The queue of dead letters."""
        return self._session.client("sqs", endpoint_url=self.endpoint_url, config=self._config)

    @cached_property
    def cloudformation(self) -> "CloudFormationClient":
        """The stack."""
        return self._session.client(
            "cloudformation", endpoint_url=self.endpoint_url, config=self._config
        )

    @cached_property
    def functions(self) -> "LambdaClient":
        """The function."""
        return self._session.client("lambda", endpoint_url=self.endpoint_url, config=self._config)

    @cached_property
    def invocations(self) -> "LambdaClient":
        """The function, called once and waited for."""
        patient = Config(read_timeout=LONGEST_SECONDS, retries={"total_max_attempts": 1})
        config = self._config.merge(patient)
        return self._session.client("lambda", endpoint_url=self.endpoint_url, config=config)

    @cached_property
    def states(self) -> "SFNClient":
        """The state machines."""
        return self._session.client(
            "stepfunctions", endpoint_url=self.endpoint_url, config=self._config
        )


def _quick(session: botocore.session.Session) -> botocore.session.Session:
    """Let a session read times with the standard library where it can.

    botocore's own way takes two thirds of the time of listing a bucket.
    """
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
    return session


def _time(value: Any) -> datetime:
    if isinstance(value, str) and "T" in value:
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    return parse_timestamp(value)  # a number, or in words


@dataclass(frozen=True)
class Stack:
    """A deployed stack: its outputs, and what its function runs with.

    `architecture` is arm64 or x86_64; the function's memory is `settings.memory_mb`, its time-out
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

    def output(self, name: str) -> str:
        """An output of the stack. Raises CommandError where it is of an older template."""
        try:
            return self.outputs[name]
        except KeyError:
            raise CommandError(
                f"Stack {self.name!r} has no {name}: it is of an older template. Deploy it again."
            ) from None

    def live_version(self) -> str:
        """The version of the function that runs."""
        alias = self.aws.functions.get_alias(FunctionName=self.function_name, Name=ALIAS)
        return alias["FunctionVersion"]

    @property
    def queues(self) -> list[str]:
        """URLs of all queues that failures end on."""
        undelivered = self.outputs.get("UndeliveredEventsUrl")
        return [self.settings.dead_letter_queue_url, *([undelivered] if undelivered else [])]

    @classmethod
    def find(cls, aws: Aws, name: str) -> "Stack":
        """Look the stack `name` up.

        Raises CommandError if it is not there, not this pipeline's, or not to be reached.
        """
        with explained():
            try:
                found = aws.cloudformation.describe_stacks(StackName=name)["Stacks"][0]
            except ClientError as error:
                if "does not exist" not in str(error):
                    raise
                raise CommandError(
                    f"There is no stack {name!r} in {aws.cloudformation.meta.region_name}. "
                    "Is it another --region, or is it still being deployed?"
                ) from error
            outputs = {out["OutputKey"]: out["OutputValue"] for out in found.get("Outputs", [])}
            try:
                function = outputs["FunctionName"]
                configuration = aws.functions.get_function_configuration(FunctionName=function)
                settings = Settings.from_environment(
                    configuration["Environment"]["Variables"]
                    | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration["MemorySize"])}
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
                )
            except (KeyError, InvalidSettings) as error:
                raise CommandError(
                    f"Stack {name!r} ({found['StackStatus']}) is not a working stack of this "
                    f"pipeline: {error}. Deploy iac/template.yaml, or name another stack."
                ) from error


@contextmanager
def explained() -> Iterator[None]:
    """Turn what AWS refuses within the block into a CommandError that says what to do."""
    try:
        yield
    except (NoCredentialsError, NoRegionError) as error:
        raise CommandError(
            f"{error} For an account: `aws configure`, or set AWS_PROFILE, or give --region."
        ) from error
    except EndpointConnectionError as error:
        raise CommandError(f"{error} Is it running, and is the network up?") from error
    except ClientError as error:
        if DENIED.search(error.response["Error"]["Code"]):
            raise NotPermitted(f"AWS denies it: {error}") from error
        raise CommandError(f"AWS refused: {error}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise CommandError(f"AWS refused: {error}") from error
