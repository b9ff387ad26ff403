"""Prepare an existing bucket for a stack with `ExistingInputBucket=true`.

Such a bucket may lack two things: its events must go to EventBridge, where the stack's rule takes
them from, and CORS must let the console's pages upload. S3 stores each of the two configurations as
a whole, so the one that is there is read, completed and written back.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from image_pipeline.errors import CommandError, NotPermitted
from image_pipeline.stack.aws import Aws, aws_errors_explained

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import (
        CORSRuleOutputTypeDef,
        CORSRuleTypeDef,
        NotificationConfigurationTypeDef,
    )

CONSOLE_ORIGINS: Final = ("http://127.0.0.1:*", "http://localhost:*")
"""Origins of the console's pages, as in the template's parameter UploadOrigins."""

METHOD: Final = "PUT"
"""The method with which the pages upload, to a presigned URL."""

MAX_RULES: Final = 100
"""CORS rules that a bucket can have.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ManageCorsUsing.html"""

PERMISSIONS: Final = (
    "s3:GetBucketNotification, s3:PutBucketNotification, s3:GetBucketCORS and s3:PutBucketCORS"
)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a bucket lacks: events to EventBridge, and origins that CORS does not allow yet."""

    event_bridge: bool
    origins: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.event_bridge or bool(self.origins)

    @property
    def cors_rule(self) -> "CORSRuleTypeDef | None":
        """The CORS rule to add, or None."""
        return _cors_rule(self.origins)


def plan(aws: Aws, bucket: str, origins: Sequence[str] = CONSOLE_ORIGINS) -> Changes:
    """Find what `bucket` lacks for uploads from pages of `origins`; nothing is written.

    Raises CommandError if there is no such bucket, NotPermitted if AWS denies a request.
    """
    with _bucket_errors_explained(aws, bucket):
        return Changes(
            event_bridge="EventBridgeConfiguration" not in _notifications(aws, bucket),
            origins=_not_allowed(_cors_rules(aws, bucket), origins),
        )


def apply(aws: Aws, bucket: str, changes: Changes) -> None:
    """Make those `changes` that are still missing.

    S3 has no conditional write for these configurations. Each is read again directly before it is
    written, so that what others changed since `plan` stays.

    Raises CommandError if there is no such bucket or it can have no more rules, NotPermitted if AWS
    denies a request.
    """
    with _bucket_errors_explained(aws, bucket):
        if changes.event_bridge:
            _turn_event_bridge_on(aws, bucket)
        if changes.origins:
            _allow(aws, bucket, changes.origins)


def _turn_event_bridge_on(aws: Aws, bucket: str) -> None:
    notifications = _notifications(aws, bucket)
    if "EventBridgeConfiguration" not in notifications:
        aws.s3.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={**notifications, "EventBridgeConfiguration": {}},
            SkipDestinationValidation=True,  # those that are there stay as they are
        )


def _allow(aws: Aws, bucket: str, origins: Sequence[str]) -> None:
    rules = _cors_rules(aws, bucket)
    rule = _cors_rule(_not_allowed(rules, origins))
    if not rule:
        return
    if len(rules) >= MAX_RULES:
        raise CommandError(
            f"Bucket {bucket} has {MAX_RULES} CORS rules, and S3 allows no more. Remove one, then "
            "run the command again."
        )
    aws.s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [*rules, rule]})


def _cors_rule(origins: Sequence[str]) -> "CORSRuleTypeDef | None":
    """The rule that lets pages of `origins` upload; None if there are none."""
    if not origins:
        return None
    return {"AllowedMethods": [METHOD], "AllowedOrigins": list(origins), "AllowedHeaders": ["*"]}


def _notifications(aws: Aws, bucket: str) -> "NotificationConfigurationTypeDef":
    answer: Any = aws.s3.get_bucket_notification_configuration(Bucket=bucket)
    del answer["ResponseMetadata"]
    return cast("NotificationConfigurationTypeDef", answer)


def _cors_rules(aws: Aws, bucket: str) -> "Sequence[CORSRuleOutputTypeDef]":
    try:
        return aws.s3.get_bucket_cors(Bucket=bucket)["CORSRules"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchCORSConfiguration":
            return []
        raise


def _not_allowed(
    rules: "Sequence[CORSRuleOutputTypeDef]", origins: Sequence[str]
) -> tuple[str, ...]:
    """Those of `origins` from which no rule allows an upload with any header."""
    allowed = [
        pattern
        for rule in rules
        if METHOD in rule["AllowedMethods"] and "*" in rule.get("AllowedHeaders", [])
        for pattern in rule["AllowedOrigins"]
    ]
    return tuple(
        origin
        for origin in dict.fromkeys(origins)
        if not any(_covers(pattern, origin) for pattern in allowed)
    )


def _covers(pattern: str, origin: str) -> bool:
    """Whether every origin that `origin` stands for matches `pattern`; each may have one `*`."""
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == origin
    return (
        len(origin) >= len(before) + len(after)
        and origin.startswith(before)
        and origin.endswith(after)
    )


@contextmanager
def _bucket_errors_explained(aws: Aws, bucket: str) -> Iterator[None]:
    try:
        with aws_errors_explained():
            try:
                yield
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchBucket":
                    raise CommandError(
                        f"There is no bucket {bucket} {aws.location}. Check its name, and that "
                        "these credentials are of its account."
                    ) from error
                raise
    except NotPermitted as error:
        raise NotPermitted(f"{error} The command needs {PERMISSIONS} on {bucket}.") from error
