"""Clients of the AWS services, for an account or for the local AWS, and what their errors mean."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import boto3
import botocore.session
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.utils import parse_timestamp

from image_pipeline.errors import CommandError
from image_pipeline.stack.aws_errors import explain
from thumbnailer.s3_codes import MISSING_CODES

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        DeletedObjectTypeDef,
        HeadObjectOutputTypeDef,
        ObjectIdentifierTypeDef,
        ObjectTypeDef,
    )
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

LOCAL_REGION: Final = "us-east-1"
"""The region of the local AWS."""

MAX_ANSWER_SECONDS: Final = 910
"""Read timeout for an invocation that is waited for: Lambda's maximum of 900 s, and a margin.
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

BAD_REQUEST: Final = "400"
"""Code in boto3's error of a HEAD of an object with SSE-C: the answer has no body to say more.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html"""

PAGE_SECONDS: Final = 10
"""Read timeout of a request that a page waits for. It is tried twice."""

MAX_DELETED: Final = 1000
"""Objects in one request to delete them; S3 allows no more.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""

DOCUMENTS: Final = "https://docs.aws.amazon.com"
"""The documents of AWS."""

CONNECTIONS: Final = 32
"""Connections that one client keeps open, and so the useful number of parallel requests."""


@dataclass(frozen=True, slots=True)
class AccessKey:
    """The access key of a local AWS: whoever has it may do everything there."""

    key_id: str
    secret: str = field(repr=False)

    @classmethod
    def random(cls) -> "AccessKey":
        """A key that nobody can guess: 120 random bits follow `LOCAL`, the secret has 256."""
        return cls(f"LOCAL{secrets.token_hex(15).upper()}", secrets.token_hex(32))

    def environment(self, endpoint_url: str) -> dict[str, str]:
        """What any AWS tool needs in its environment to use the local AWS at `endpoint_url`."""
        return {
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": LOCAL_REGION,
            "AWS_ENDPOINT_URL": endpoint_url,
        }


class Aws:
    """One AWS, in an account or local; each client is made when it is first used."""

    def __init__(
        self,
        session: boto3.Session,
        endpoint_url: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._session = session
        self.endpoint_url = endpoint_url
        self.environment = environment or {}
        """What other AWS tools need in their environment to use a local AWS."""
        self._config = Config(
            max_pool_connections=CONNECTIONS,
            connect_timeout=5,
            retries={"total_max_attempts": 5, "mode": "standard"},
            # Requests to loopback must not go through the user's proxy.
            proxies={} if endpoint_url else None,
        )

    @classmethod
    def local(cls, endpoint_url: str, key: AccessKey) -> "Aws":
        """The local AWS at `endpoint_url`; the user's own AWS configuration is not read."""
        nothing = (None, None, None, None)
        nowhere = (None, None, os.devnull, None)
        variables = {"profile": nothing, "config_file": nowhere, "credentials_file": nowhere}
        session = _with_fast_timestamps(botocore.session.Session(session_vars=variables))
        return cls(
            boto3.Session(
                key.key_id, key.secret, region_name=LOCAL_REGION, botocore_session=session
            ),
            endpoint_url,
            key.environment(endpoint_url),
        )

    @classmethod
    def account(cls, region: str | None = None, profile: str | None = None) -> "Aws":
        """The account of boto3's usual credentials, in `region` or in the configured one.

        With `profile`, its credentials are taken, and not those of the environment. Raises
        CommandError if there is no such profile, or there are no credentials or expired ones.
        """
        session = botocore.session.Session(profile=profile)
        try:
            named = session.get_config_variable("profile")
            credentials = _with_fast_timestamps(session).get_credentials()
            if credentials is None:
                raise NoCredentialsError
            credentials.get_frozen_credentials()  # signs in where they come from AWS
            return cls(boto3.Session(region_name=region, botocore_session=session))
        except BotoCoreError as error:
            raise explain(error, named) from error

    def impatient(self) -> "Aws":
        """Return this AWS with time-outs for a page that somebody waits for: PAGE_SECONDS."""
        found = Aws(self._session, self.endpoint_url, self.environment)
        found._config = self._config.merge(
            Config(read_timeout=PAGE_SECONDS, retries={"total_max_attempts": 2, "mode": "standard"})
        )
        return found

    @property
    def region(self) -> str | None:
        """The region of the clients; None if none is configured, and no client can be made."""
        return self._session.region_name

    @property
    def location(self) -> str:
        """Where this AWS is, in words: `on http://127.0.0.1:4566` or `in eu-west-1`."""
        return f"on {self.endpoint_url}" if self.endpoint_url else f"in {self.s3.meta.region_name}"

    @cached_property
    def s3(self) -> "S3Client":
        """Buckets and objects."""
        return self._session.client("s3", endpoint_url=self.endpoint_url, config=self._config)

    @cached_property
    def s3_links(self) -> "S3Client":
        """S3 for presigned URLs: they name the region, or S3 could answer with a redirect."""
        config = self._config.merge(Config(signature_version="s3v4"))
        if not self.endpoint_url:
            config = config.merge(Config(s3={"addressing_style": "virtual"}))
        return self._session.client("s3", endpoint_url=self.endpoint_url, config=config)

    @cached_property
    def logs(self) -> "CloudWatchLogsClient":
        """The function's log."""
        return self._session.client("logs", endpoint_url=self.endpoint_url, config=self._config)

    @cached_property
    def cloudwatch(self) -> Any:
        """Metrics and alarms."""
        return self._session.client(
            "cloudwatch",
            endpoint_url=self.endpoint_url,
            config=self._config,
        )

    @cached_property
    def cloudfront(self) -> Any:
        """Distributions."""
        return self._session.client(
            "cloudfront",
            endpoint_url=self.endpoint_url,
            config=self._config,
        )

    @cached_property
    def sns(self) -> Any:
        """The alarm topic."""
        return self._session.client(
            "sns",
            endpoint_url=self.endpoint_url,
            config=self._config,
        )

    @cached_property
    def sts(self) -> Any:
        """Whose credentials these are."""
        return self._session.client(
            "sts",
            endpoint_url=self.endpoint_url,
            config=self._config,
        )

    @cached_property
    def sqs(self) -> "SQSClient":
        """The dead-letter queues."""
        return self._session.client("sqs", endpoint_url=self.endpoint_url, config=self._config)

    @cached_property
    def cloudformation(self) -> "CloudFormationClient":
        """Stacks."""
        return self._session.client(
            "cloudformation", endpoint_url=self.endpoint_url, config=self._config
        )

    @cached_property
    def kms(self) -> Any:
        """Keys."""
        return self._session.client("kms", endpoint_url=self.endpoint_url, config=self._config)

    @cached_property
    def functions(self) -> "LambdaClient":
        """The function's configuration."""
        return self._session.client("lambda", endpoint_url=self.endpoint_url, config=self._config)

    @cached_property
    def invocations(self) -> "LambdaClient":
        """The function, invoked once and waited for."""
        patient = Config(read_timeout=MAX_ANSWER_SECONDS, retries={"total_max_attempts": 1})
        config = self._config.merge(patient)
        return self._session.client("lambda", endpoint_url=self.endpoint_url, config=config)

    @cached_property
    def states(self) -> "SFNClient":
        """State machines and their executions."""
        return self._session.client(
            "stepfunctions", endpoint_url=self.endpoint_url, config=self._config
        )


def is_missing(error: ClientError) -> bool:
    """Whether S3 refused a request because the object does not exist."""
    return error.response["Error"]["Code"] in MISSING_CODES


def head_object(s3: "S3Client", bucket: str, key: str) -> "HeadObjectOutputTypeDef | None":
    """HEAD an object; None where it does not exist. Raises ClientError for anything else."""
    try:
        return s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if is_missing(error):
            return None
        raise


def head_readable(s3: "S3Client", bucket: str, key: str) -> "HeadObjectOutputTypeDef | None":
    """HEAD an original; None where it does not exist, or S3 has no key to read it (SSE-C).

    The function can make nothing of either. Raises ClientError for anything else.
    """
    try:
        return head_object(s3, bucket, key)
    except ClientError as error:
        if error.response["Error"]["Code"] == BAD_REQUEST:
            return None
        raise


def list_objects(
    s3: "S3Client", bucket: str, prefix: str = "", after: str = ""
) -> Iterator["ObjectTypeDef"]:
    """Yield the objects of a bucket under `prefix`, by key, from the first one after `after` on."""
    start: Any = {"StartAfter": after} if after else {}
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **start)
    for page in pages:
        yield from page.get("Contents", [])


def delete_objects(
    s3: "S3Client", bucket: str, objects: Sequence["ObjectIdentifierTypeDef"]
) -> list["DeletedObjectTypeDef"]:
    """Delete up to MAX_DELETED objects in one request, and return what S3 says of each.

    Raises CommandError if S3 keeps one of them, ClientError if it refuses the request.
    """
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    for error in answer.get("Errors", []):
        reason = f"{error.get('Code')}: {error.get('Message')}"
        raise CommandError(f"{error.get('Key')} was not deleted: {reason}")
    return answer.get("Deleted", [])


@contextmanager
def aws_errors_explained() -> Iterator[None]:
    """Turn the errors of boto3 in the block into a CommandError that says what to do."""
    try:
        yield
    except (BotoCoreError, Boto3Error, ClientError) as error:
        raise explain(error) from error


def _with_fast_timestamps(session: botocore.session.Session) -> botocore.session.Session:
    """Parse timestamps with the standard library where it can.

    botocore's own parser takes two thirds of the time of listing a bucket.
    """
    session.get_component("response_parser_factory").set_parser_defaults(
        timestamp_parser=_parse_time
    )
    return session


def _parse_time(value: Any) -> datetime:
    if isinstance(value, str) and "T" in value:
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    return parse_timestamp(value)  # a number, or an HTTP date
