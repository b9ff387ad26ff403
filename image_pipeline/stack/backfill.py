"""Count what a backfill would make, start it, and read the results of one that ended."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from itertools import batched, islice
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from image_pipeline.errors import CommandError, PartFailed
from image_pipeline.stack import executions, thumbnails
from image_pipeline.stack.aws import (
    CONNECTIONS,
    aws_errors_explained,
    head_readable,
    is_missing,
    list_objects,
)
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.executions import Execution
from thumbnailer.provenance import Provenance, Standing
from thumbnailer.settings import MAX_KEY_BYTES

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectTypeDef

LISTED: Final = 1000
"""Objects in one answer of a listing.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""


DEFAULT_CONCURRENCY: Final = 5
"""Batches of a backfill at a time, each of which processes one image after the other: the default
of the parameter BackfillConcurrency, and what earlier templates have."""

MAX_CONCURRENCY: Final = 10_000
"""Batches that a Distributed Map runs at a time.
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""

ARCHIVES: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes whose objects S3 does not return before they are restored, as in
iac/backfill.asl.json. The listing does not tell the archive tiers of INTELLIGENT_TIERING.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-class-intro.html"""


DENIED: Final = (
    "The state machine may not invoke the function. Deploy the stack again, and check that no "
    "service control policy or permissions boundary denies lambda:InvokeFunction."
)
"""What to do where Lambda refuses the call. Step Functions reports it by either of two errors."""

FIXES: Final = {
    "Lambda.ResourceNotFoundException": (
        "The function or its alias is missing. docs/operations.md#a-part-of-the-stack-was-deleted "
        "says how to get it back."
    ),
    "Lambda.AccessDenied": DENIED,
    "Lambda.AWSLambdaException": DENIED,
    "Lambda.TooManyRequestsException": (
        "The function was throttled until all retries were used. Lower --concurrency, raise "
        "LambdaReservedConcurrency, or ask AWS for a higher quota of concurrent executions."
    ),
    "Lambda.KMS": (
        "Lambda cannot use the function's KMS key. Enable the key, and allow the role in the stack "
        "output FunctionRoleArn to use it."
    ),
    "Lambda.": "Lambda cannot run the function. Check its state in the Lambda console.",
    "QueueUnavailable": (
        "SQS does not accept dead-letter messages. Check the policy of the dead-letter queue and "
        "its KMS key."
    ),
    "States.": (
        "The backfill's state machine and the function do not fit together. Deploy the stack again."
    ),
}
"""The beginning of the error of a batch → what to do about it. The first that matches counts."""

DOES_NOT_START: Final = "The function does not start. Read its log, fix the cause and deploy again."
"""What to do about any other error of a batch: errors of single images become messages instead."""


class Verdict(Enum):
    """What a backfill would do with an object."""

    TO_MAKE = auto()
    CURRENT = auto()
    SKIPPED = auto()
    OCCUPIED = auto()
    ARCHIVED = auto()


@dataclass(frozen=True, slots=True)
class Survey:
    """The objects under a prefix, and those whose thumbnails would be made; sizes in bytes.

    `skipped` are folder markers, and objects whose thumbnails' names a newer object has. `occupied`
    lack only thumbnails whose keys other objects have (KeyOccupied). `archived` are in ARCHIVES,
    and left out. `beyond` says that there are more objects than were counted.
    """

    objects: int = 0
    size: int = 0
    to_make: int = 0
    to_make_size: int = 0
    current: int = 0
    skipped: int = 0
    occupied: int = 0
    archived: int = 0
    beyond: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What a backfill did: images made, already current, skipped, and failed with a message each.

    `archived` are objects that it left out because they are in ARCHIVES. `unreported` are the
    reasons of batches that ended without a message for each failed image.
    """

    made: int = 0
    current: int = 0
    skipped: int = 0
    failed: int = 0
    archived: int = 0
    unreported: tuple[str, ...] = ()


def survey(stack: Stack, prefix: str, maximum: int, *, remake: bool = False) -> Iterator[Survey]:
    """Count up to `maximum` objects under `prefix`, by list and HEAD requests alone.

    With `remake`, what is current counts as to be made. Yields the sums so far after every LISTED
    objects; the last ones are complete. Raises CommandError if AWS refuses, and for a remake that
    the stack's state machine is too old for.
    """
    if remake:
        _require_remake(stack)
    _require_output_bucket(stack)
    found = Survey()
    listed = list_objects(stack.aws.s3, stack.input_bucket, prefix)
    with aws_errors_explained(), ThreadPoolExecutor(CONNECTIONS) as pool:
        for objects in batched(islice(listed, maximum), LISTED, strict=False):
            verdicts = list(pool.map(partial(_verdict, stack, remake=remake), objects))
            to_make = [
                each
                for each, verdict in zip(objects, verdicts, strict=True)
                if verdict is Verdict.TO_MAKE
            ]
            found = replace(
                found,
                objects=found.objects + len(objects),
                size=found.size + sum(each["Size"] for each in objects),
                to_make=found.to_make + len(to_make),
                to_make_size=found.to_make_size + sum(each["Size"] for each in to_make),
                current=found.current + verdicts.count(Verdict.CURRENT),
                skipped=found.skipped + verdicts.count(Verdict.SKIPPED),
                occupied=found.occupied + verdicts.count(Verdict.OCCUPIED),
                archived=found.archived + verdicts.count(Verdict.ARCHIVED),
            )
            yield found
        yield replace(found, beyond=next(listed, None) is not None)


def running(stack: Stack, *, remake: bool) -> Execution | None:
    """Find a backfill that has not ended, whoever started it.

    Raises CommandError where a remake is wanted, and the backfill under way is none.
    """
    states = stack.aws.states
    found = executions.find_running(states, stack.output("BackfillStateMachineArn"))
    if found and remake and not executions.describe(states, found.arn).given.get("remake"):
        raise CommandError(
            f"A backfill without --remake has been running since {found.started_at:%H:%M:%S}. Wait "
            "until it ends, or run image-pipeline backfill and press Ctrl-C to stop it."
        )
    return found


def start(
    stack: Stack, prefix: str, maximum: int | None, concurrency: int | None, *, remake: bool
) -> Execution:
    """Start a backfill, without `concurrency` by the stack's parameter BackfillConcurrency.

    Raises CommandError if AWS refuses, and for a remake that the stack's state machine is too old
    for.
    """
    machine = stack.output("BackfillStateMachineArn")
    given = {"prefix": prefix, "max": maximum, "concurrency": concurrency}
    if remake:
        _require_remake(stack)
        given["remake"] = True
    return executions.start(stack.aws.states, machine, given)


def _require_remake(stack: Stack) -> None:
    """Raise CommandError if the deployed state machine would ignore a remake and make nothing."""
    machine = stack.output("BackfillStateMachineArn")
    with aws_errors_explained():
        deployed = stack.aws.states.describe_state_machine(stateMachineArn=machine)
    if "$states.input.remake" not in deployed["definition"]:
        raise CommandError(
            f"The backfill of stack {stack.name!r} is of an earlier version, which cannot remake "
            "thumbnails that are up to date. Deploy the stack again, then repeat this command."
        )


def explain(stack: Stack, failed: Execution) -> CommandError | None:
    """Say why the batches of a backfill failed and what to do; None if no batch did.

    A PartFailed: more batches than are tolerated fail only if the function itself does.
    """
    batch = executions.failed_child(stack.aws.states, failed.arn)
    if batch is None:
        return None
    fix = next((fix for name, fix in FIXES.items() if batch.error.startswith(name)), DOES_NOT_START)
    return PartFailed(
        f"The backfill ended early, because its batches failed: {batch.error}: {batch.cause}\n"
        f"{fix} Then run this command again: it makes only what is missing."
    )


def result(stack: Stack, output: dict[str, Any]) -> Result:
    """Add up what the batches of a backfill wrote; `output` is that of its execution.

    https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html
    """
    where = output["ResultWriterDetails"]
    manifest = _read_json(stack, where["Bucket"], where["Key"])
    found = Result()
    for file in manifest["ResultFiles"]["SUCCEEDED"]:
        for batch in _read_json(stack, where["Bucket"], file["Key"]):
            counts = json.loads(batch["Output"])
            found = replace(
                found,
                made=found.made + counts["made"],
                current=found.current + counts["current"],
                skipped=found.skipped + counts["skipped"],
                failed=found.failed + counts["failed"],
                archived=found.archived + counts.get("archived", 0),  # an older stack counts none
            )
    for file in manifest["ResultFiles"]["FAILED"]:
        for batch in _read_json(stack, where["Bucket"], file["Key"]):
            reason = f"{batch.get('Error', '')}: {batch.get('Cause', '')}"
            found = replace(found, unreported=(*found.unreported, reason))
    return found


def _require_output_bucket(stack: Stack) -> None:
    """Check that there is an output bucket: each HEAD of a thumbnail would only say that it is not.

    Raises PartFailed if there is none.
    """
    bucket = stack.settings.output_bucket
    with aws_errors_explained():
        try:
            stack.aws.s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            if not is_missing(error):
                raise
            raise PartFailed(f"The output bucket {bucket} does not exist.") from error


def _verdict(stack: Stack, listed: "ObjectTypeDef", *, remake: bool) -> Verdict:
    """What a backfill would do with an object, by the rules of the state machine and function."""
    if listed.get("StorageClass") in ARCHIVES:
        return Verdict.ARCHIVED
    if not stack.settings.is_image_key(listed["Key"]):
        return Verdict.SKIPPED
    wanted = _wanted(stack, listed)
    if wanted is None or any(len(key.encode()) > MAX_KEY_BYTES for key in wanted):
        return Verdict.TO_MAKE  # the function fails it, with a dead-letter message
    verdict = Verdict.TO_MAKE if remake else Verdict.CURRENT
    for key, ours in wanted.items():
        if verdict is Verdict.OCCUPIED and key == stack.settings.manifest_key(listed["Key"]):
            break  # it is not written while a thumbnail is missing
        match thumbnails.describe(stack, key, ours).standing:
            case Standing.SUPERSEDED:
                return Verdict.SKIPPED
            case Standing.MISSING | Standing.OUTDATED:
                return Verdict.TO_MAKE
            case Standing.FOREIGN:
                verdict = Verdict.TO_MAKE if remake else Verdict.OCCUPIED
    return verdict


def _wanted(stack: Stack, listed: "ObjectTypeDef") -> dict[str, Provenance] | None:
    """Return the provenance of each output of an object; None where only a GET says what it is."""
    focus = ""
    if stack.settings.crops:  # a listing has no metadata
        head = head_readable(stack.aws.s3, stack.input_bucket, listed["Key"])
        if head is None:
            return None
        focus, _ = stack.settings.focus(head["Metadata"])
    etag = listed["ETag"].strip('"')
    return stack.settings.provenances(listed["Key"], etag, listed["LastModified"], focus)


def _read_json(stack: Stack, bucket: str, key: str) -> Any:
    with aws_errors_explained():
        return json.loads(stack.aws.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
