"""The state of a stack, part by part: what can be read, and why the rest cannot.

Each part is read by itself and in parallel, and from the outputs of the stack alone. So a bucket, a
function or a queue that is gone, or a permission that is missing, hides nothing but itself.
"""

import json
import shlex
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from image_pipeline.errors import CommandError, PartFailed
from image_pipeline.stack import dead_letters
from image_pipeline.stack.aws import Aws, aws_errors_explained, list_objects
from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.deployed import (
    ALIAS,
    describe,
    function_configuration,
    given_parameters,
    naming_options,
    outputs_of,
    served_at,
)
from image_pipeline.stack.rollback import SETTLED, unsettled

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackTypeDef

RUNBOOK: Final = "docs/operations.md"
"""The document whose sections next steps name."""

MAX_COUNTED: Final = 10_000
"""Objects that are counted in a bucket: S3 lists 1,000 a request, and this is a quick overview."""

WINDOW: Final = timedelta(hours=1)
"""What errors and throttles are counted over."""

PERIOD: Final = 300
"""Seconds that one value of a metric stands for, as in the alarms of iac/template.yaml."""

MAX_EVENT_AGE: Final = timedelta(minutes=15)
"""Age of an event above which the alarm `oldest-event` of iac/template.yaml goes off."""

ALARMS: Final = (
    "letters-waiting",
    "oldest-letter",
    "oldest-event",
    "function-errors",
    "function-throttled",
    "function-slow",
    "events-dropped",
    "delivery-failed",
    "replay-failed",
    "backfill-failed",
)
"""Ends of the names of the alarms in iac/template.yaml."""

ALARM_OF_UNDELIVERED: Final = "undelivered-events"
"""End of the name of the alarm that only a stack with an existing input bucket has."""

QUEUE_ATTRIBUTES: Final = "MessageRetentionPeriod=1209600,MaximumMessageSize=61440"
"""Attributes of the queues in iac/template.yaml, but for the key."""

CLIENTS: Final = ("s3", "sqs", "functions", "cloudwatch", "states", "cloudfront", "kms")
"""Clients that the parts use. They are made one after another: boto3's sessions allow no more."""


class Level(StrEnum):
    """How well a part is, from well to broken. UNKNOWN means that it could not be read."""

    HEALTHY = "healthy"
    UNKNOWN = "unknown"
    ATTENTION = "attention"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a stack: its level, a summary in words, and what to do next, one step a line.

    `copied` are names and addresses that people copy. `details` are for scripts. `failures` are the
    failed uploads on a queue, oldest first.
    """

    level: Level
    summary: str
    copied: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON for scripts, without the failures."""
        told = {"level": self.level, "summary": self.summary, "next_steps": [*self.next_steps]}
        return told | dict(self.details)


@dataclass(frozen=True)
class Subject:
    """What CloudFormation says of a stack, and the options that name it in a command."""

    aws: Aws
    found: "StackTypeDef"
    options: str = ""
    """Options of `image-pipeline` that name this stack, after a space; empty for the local one."""
    profile: str | None = None

    @classmethod
    def find(cls, aws: Aws, name: str, profile: str | None = None) -> "Subject":
        """Describe the stack. Raises CommandError if it does not exist, or AWS refuses."""
        return cls(aws, describe(aws, name), naming_options(aws, name, profile), profile)

    @property
    def local(self) -> bool:
        """Whether this is the local stack, named by no option."""
        return not self.options

    @property
    def name(self) -> str:
        """The stack's name."""
        return self.found["StackName"]

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        """The stack's parameters."""
        return given_parameters(self.found)

    @cached_property
    def outputs(self) -> Mapping[str, str]:
        """The stack's outputs; none before its first deploy has succeeded."""
        return outputs_of(self.found)

    def output(self, name: str) -> str:
        """An output, or the parameter that has its value. Raises CommandError if there is none."""
        value = self.outputs.get(name) or self.parameters.get(
            {"InputBucket": "InputBucketName", "OutputBucket": "OutputBucketName"}.get(name, name)
        )
        if value is None:
            raise CommandError(f"the stack has no output {name}")
        return value

    def command(self, words: str) -> str:
        """A command of `image-pipeline` on this stack."""
        return f"image-pipeline {words}{self.options}"

    def aws_command(self, words: str) -> str:
        """A command of the AWS CLI on the account and in the region of this stack."""
        if self.local:
            return f'eval "$(image-pipeline status --env)"; aws {words}'
        region = self.aws.cloudformation.meta.region_name
        named = f" --profile {shlex.quote(self.profile)}" if self.profile else ""
        return f"aws {words} --region {region}{named}"


type Reader = Callable[[Subject], Part | None]
"""Reads one part; None if the stack has no such part. Raises what boto3 raises, or CommandError."""


@dataclass(frozen=True, slots=True)
class Health:
    """The parts of a stack by name, in the order in which they are shown."""

    subject: Subject
    parts: Mapping[str, Part]

    @property
    def level(self) -> Level:
        """The level of the part that is worst; `attention` also where a part cannot be read."""
        levels = {part.level for part in self.parts.values()}
        if Level.BROKEN in levels:
            return Level.BROKEN
        return Level.HEALTHY if levels == {Level.HEALTHY} else Level.ATTENTION

    @property
    def failures(self) -> list[Failure]:
        """The failed uploads on all queues that could be read, newest first."""
        found = [each for part in self.parts.values() for each in part.failures]
        return sorted(found, key=lambda failure: failure.sent_at, reverse=True)

    def detail(self, part: str, name: str) -> Any:
        """A detail of a part; None where there is no such part, or it could not be read."""
        return self.parts[part].details.get(name) if part in self.parts else None


def examine(subject: Subject) -> Health:
    """Read every part of a stack. Raises nothing that concerns one part only."""
    readers: dict[str, Reader] = {
        "stack": stack_state,
        "input_bucket": input_bucket,
        "output_bucket": output_bucket,
        "upload_events": upload_events,
        "failed_uploads": failed_uploads,
        "undelivered_events": undelivered_events,
        "function": function,
        "last_hour": last_hour,
        "alarms": alarms,
        "replay": partial(last_execution, "ReplayStateMachineArn", "replay"),
        "backfill": partial(last_execution, "BackfillStateMachineArn", "backfill"),
        "cdn": cdn,
        "key": key,
    }
    with aws_errors_explained():
        for name in CLIENTS:
            getattr(subject.aws, name)
    with ThreadPoolExecutor(len(readers)) as pool:
        running = {name: pool.submit(_read, reader, subject) for name, reader in readers.items()}
    found = {name: each.result() for name, each in running.items()}
    return Health(subject, {name: part for name, part in found.items() if part})


def _read(reader: Reader, subject: Subject) -> Part | None:
    try:
        with aws_errors_explained():
            return reader(subject)
    except CommandError as error:
        return Part(Level.UNKNOWN, f"cannot be read: {error}")


# --- the parts ----------------------------------------------------------------------------------
def stack_state(subject: Subject) -> Part:
    """The stack itself: whether it is deployed, and whether a deploy or a deletion is going on."""
    status = subject.found["StackStatus"]
    since = subject.found.get("LastUpdatedTime") or subject.found["CreationTime"]
    summary = f"{status}, last deployed {moment(since)}"
    details = {"status": status, "deployed_at": since.isoformat()}
    if status in SETTLED:
        return Part(Level.HEALTHY, summary, details=details)
    broken = status.startswith("DELETE") or not subject.outputs
    waiting = status.endswith("_IN_PROGRESS") and not status.startswith("DELETE")
    level = Level.BROKEN if broken and not waiting else Level.ATTENTION
    if status == "DELETE_IN_PROGRESS":
        return Part(level, "it is being deleted", details=details)
    advice = unsettled(subject.name, status) or ""
    return Part(level, summary, next_steps=(advice,), details=details)


def input_bucket(subject: Subject) -> Part:
    """The bucket of the originals, and how many there are under the prefix."""
    bucket, again = subject.output("InputBucket"), "Upload the originals again"
    return _bucket(subject, bucket, _prefix(subject), "originals", again)


def output_bucket(subject: Subject) -> Part:
    """The bucket of the thumbnails, and how many objects it holds."""
    bucket = subject.output("OutputBucket")
    again = f"Make the thumbnails again: {subject.command('backfill')}"
    return _bucket(subject, bucket, "", "objects", again)


def _bucket(subject: Subject, bucket: str, prefix: str, what: str, again: str) -> Part:
    details: dict[str, Any] = {"bucket": bucket, "prefix": prefix}
    address = f"s3://{bucket}/{prefix}"
    try:
        with aws_errors_explained():
            objects = _count(subject.aws, bucket, prefix)
    except CommandError as error:  # with the address, unlike that of any other part
        return Part(Level.UNKNOWN, f"cannot be read: {error}", (address,), details=details)
    if objects is None:
        create = subject.aws_command(f"s3 mb s3://{bucket}")
        steps = _made_again(subject, "bucket", create, again)
        return Part(Level.BROKEN, "the bucket does not exist", (address,), steps, details)
    more = " or more" * (objects >= MAX_COUNTED)
    summary = f"{objects:,}{more} {what}"
    return Part(Level.HEALTHY, summary, (address,), details=details | {"objects": objects})


def _prefix(subject: Subject) -> str:
    """The prefix of the originals; empty if neither an output nor a parameter has it."""
    return subject.outputs.get("InputPrefix") or subject.parameters.get("InputPrefix", "")


def _count(aws: Aws, bucket: str, prefix: str) -> int | None:
    """Count the objects under `prefix`, up to MAX_COUNTED; None if there is no such bucket."""
    try:
        return sum(1 for _ in islice(list_objects(aws.s3, bucket, prefix), MAX_COUNTED))
    except aws.s3.exceptions.NoSuchBucket:
        return None


def _made_again(subject: Subject, what: str, create: str, after: str) -> tuple[str, ...]:
    """The steps after a resource was deleted by hand: CloudFormation does not notice it."""
    if subject.local:
        return ("Start the local stack anew: image-pipeline down; image-pipeline up",)
    return (
        f"Create the {what}: {create}",
        f"Give it the stack's settings: {RUNBOOK}#a-part-of-the-stack-was-deleted",
        after,
    )


def upload_events(subject: Subject) -> Part:
    """Whether the input bucket sends its events to the function."""
    bucket = subject.output("InputBucket")
    try:
        found = subject.aws.s3.get_bucket_notification_configuration(Bucket=bucket)
    except subject.aws.s3.exceptions.NoSuchBucket:
        return Part(Level.BROKEN, "none, because there is no input bucket")
    if "UndeliveredEventsUrl" in subject.outputs:  # the bucket existed before the stack
        if "EventBridgeConfiguration" in found:
            return Part(Level.HEALTHY, "the input bucket sends them to EventBridge")
        return Part(
            Level.BROKEN,
            "the input bucket does not send them to EventBridge, so uploads are not processed",
            next_steps=(
                subject.command(f"adopt-bucket {bucket}"),
                f"Process what was uploaded meanwhile: {subject.command('backfill')}",
            ),
        )
    alias = subject.output("FunctionAliasArn")
    sent = found.get("LambdaFunctionConfigurations", [])
    if any(each["LambdaFunctionArn"] == alias for each in sent):
        return Part(Level.HEALTHY, "the input bucket sends them to the function")
    events = ["s3:ObjectCreated:*"]
    if subject.parameters.get("DeleteWithOriginal") == "true":
        events += ["s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"]
    rules = [{"Name": "prefix", "Value": _prefix(subject)}]
    added = {
        "LambdaFunctionArn": alias,
        "Events": events,
        "Filter": {"Key": {"FilterRules": rules}},
    }
    kept = {name: value for name, value in found.items() if name != "ResponseMetadata"}
    restored = json.dumps(kept | {"LambdaFunctionConfigurations": [*sent, added]})
    restore = subject.aws_command(
        f"s3api put-bucket-notification-configuration --bucket {bucket} "
        f"--notification-configuration {shlex.quote(restored)}"
    )
    return Part(
        Level.BROKEN,
        "the input bucket does not send them to the function, so uploads are not processed",
        next_steps=(
            f"Restore the notification: {restore}",
            f"Process what was uploaded meanwhile: {subject.command('backfill')}",
        ),
    )


def failed_uploads(subject: Subject) -> Part:
    """The dead-letter queue: its depth, its oldest message, and the failures on it."""
    return _queue(subject, subject.output("DeadLetterQueueUrl"))


def undelivered_events(subject: Subject) -> Part | None:
    """The queue of events that EventBridge could not deliver, if the stack has one."""
    url = subject.outputs.get("UndeliveredEventsUrl")
    return _queue(subject, url) if url else None


def _queue(subject: Subject, url: str) -> Part:
    name = url.rpartition("/")[2]
    details: dict[str, Any] = {"queue": name, "url": url}
    try:
        depth = dead_letters.depth(subject.aws.sqs, url)
    except subject.aws.sqs.exceptions.QueueDoesNotExist:
        used = subject.outputs.get("KeyArn", "alias/aws/sqs")
        attributes = f"{QUEUE_ATTRIBUTES},KmsMasterKeyId={used}"
        create = subject.aws_command(
            f"sqs create-queue --queue-name {name} --attributes {attributes}"
        )
        again = f"Find uploads that failed meanwhile: {subject.command('backfill')}"
        steps = _made_again(subject, "queue", create, again)
        return Part(Level.BROKEN, "the queue does not exist", (name,), steps, details)
    details["messages"] = depth
    if not depth:
        return Part(Level.HEALTHY, "none", (name,), details=details)
    waiting = f"{depth:,} waiting"
    steps = (
        f"See why: {subject.command('dead-letters')}",
        f"Fix the cause, then process them again: {subject.command('replay')}",
    )
    try:
        with aws_errors_explained():
            failures = tuple(dead_letters.read(subject.aws.sqs, url))
    except CommandError as error:
        unreadable = f"{waiting}; the messages cannot be read: {error}"
        return Part(Level.ATTENTION, unreadable, (name,), steps, details)
    if failures:
        oldest = failures[0].sent_at
        waiting += f", the oldest since {moment(oldest)}"
        details["oldest_at"] = oldest.isoformat()
    return Part(Level.ATTENTION, waiting, (name,), steps, details, failures)


def function(subject: Subject) -> Part:
    """The function: whether it exists, which version events invoke, whether it is paused."""
    aws, name = subject.aws.functions, subject.output("FunctionName")
    details: dict[str, Any] = {"function": name}
    redeploy = f"Delete the stack and deploy it again: {RUNBOOK}#a-part-of-the-stack-was-deleted"
    if subject.local:
        (redeploy,) = _made_again(subject, "", "", "")
    try:
        whole = function_configuration(subject.aws, subject.name, name)
        alias = aws.get_alias(FunctionName=name, Name=ALIAS)
    except PartFailed:
        return Part(Level.BROKEN, "it does not exist", (name,), (redeploy,), details)
    except aws.exceptions.ResourceNotFoundException:
        summary = f"its alias {ALIAS} does not exist, so no event reaches it"
        return Part(Level.BROKEN, summary, (name,), (redeploy,), details)
    version = alias["FunctionVersion"]
    live = aws.get_function_configuration(FunctionName=name, Qualifier=ALIAS)
    reserved = aws.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
    state, update = live.get("State", "Active"), whole.get("LastUpdateStatus", "Successful")
    details |= {
        "version": version,
        "state": state,
        "last_update": update,
        "reserved_concurrency": reserved,
    }
    summary = f"version {version}, {state.lower()}"
    if reserved == 0:
        resume = subject.aws_command(f"lambda delete-function-concurrency --function-name {name}")
        if given := subject.parameters.get("LambdaReservedConcurrency"):
            resume = subject.aws_command(
                f"lambda put-function-concurrency --function-name {name} "
                f"--reserved-concurrent-executions {given}"
            )
        paused = "paused: its reserved concurrency is 0, so events wait"
        if subject.local:
            paused = "its reserved concurrency is 0, which the local AWS does not enforce"
        return Part(Level.ATTENTION, paused, (name,), (f"Resume it: {resume}",), details)
    if state == "Failed" or update == "Failed":
        reason = live.get("StateReason") or whole.get("LastUpdateStatusReason", "")
        failed = f"{summary}, last update {update.lower()}: {reason}"
        level = Level.BROKEN if state == "Failed" else Level.ATTENTION
        return Part(level, failed, (name,), ("Deploy the stack again.",), details)
    if update == "InProgress" or state == "Pending":
        return Part(Level.ATTENTION, f"{summary}, being updated", (name,), details=details)
    if reserved is not None:
        summary += f", at most {reserved:,} at a time"
    return Part(Level.HEALTHY, summary, (name,), details=details)


def last_hour(subject: Subject) -> Part:
    """Invocations, errors and throttles of the last hour, and the age of the oldest event.

    The local AWS has no metrics of functions.
    The age is the newest value of AsyncEventAge, the time from an event to its invocation: Lambda
    says nothing of events that wait while it invokes nothing.
    """
    if subject.local:
        return Part(Level.HEALTHY, "not known: the local AWS has no metrics of functions")
    name = subject.output("FunctionName")
    wanted = {
        "invocations": ("Invocations", "Sum"),
        "errors": ("Errors", "Sum"),
        "throttles": ("Throttles", "Sum"),
        "dropped": ("AsyncEventsDropped", "Sum"),
        "event_age": ("AsyncEventAge", "Maximum"),
    }
    now = datetime.now(UTC)
    answer = subject.aws.cloudwatch.get_metric_data(
        StartTime=now - WINDOW,
        EndTime=now + timedelta(seconds=PERIOD),
        ScanBy="TimestampDescending",
        MetricDataQueries=[
            {
                "Id": each,
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/Lambda",
                        "MetricName": metric,
                        "Dimensions": [{"Name": "FunctionName", "Value": name}],
                    },
                    "Period": PERIOD,
                    "Stat": statistic,
                },
            }
            for each, (metric, statistic) in wanted.items()
        ],
    )
    values = {each["Id"]: each["Values"] for each in answer["MetricDataResults"]}
    counts = {each: round(sum(values.get(each, []))) for each in wanted if each != "event_age"}
    ages = values.get("event_age")
    age = timedelta(milliseconds=ages[0]) if ages else None
    summary = ", ".join(
        f"{count:,} {each if count != 1 else each.removesuffix('s')}"
        for each, count in counts.items()
        if count or each != "dropped"
    )
    if age is not None:
        summary += f"; the oldest event was {duration(age)} old"
    steps = []
    if counts["dropped"]:
        steps.append(f"See what was dropped: {subject.command('dead-letters')}")
    if counts["throttles"] or (age and age > MAX_EVENT_AGE):
        steps.append(f"Raise the concurrency: {RUNBOOK}#function-throttled")
    if counts["errors"]:
        steps.append(f"Find the cause in the log: {RUNBOOK}#function-errors")
    details = counts | {"event_age_seconds": age and age.total_seconds()}
    level = Level.ATTENTION if steps else Level.HEALTHY
    return Part(level, summary, next_steps=tuple(steps), details=details)


def alarms(subject: Subject) -> Part:
    """The stack's alarms, with since when each that has gone off is in its state."""
    ends = ALARMS + ((ALARM_OF_UNDELIVERED,) * ("UndeliveredEventsUrl" in subject.outputs))
    names = [f"{subject.name}-{end}" for end in ends]
    found = subject.aws.cloudwatch.describe_alarms(AlarmNames=names, MaxRecords=100)["MetricAlarms"]
    listed = [
        {
            "name": each["AlarmName"],
            "state": each["StateValue"],
            "since": _since(each).isoformat(),
        }
        for each in found
    ]
    details = {"alarms": listed}
    missing = sorted(set(names) - {each["AlarmName"] for each in found})
    ringing = [each for each in found if each["StateValue"] == "ALARM"]
    summary = f"{len(ringing) or 'none'} of {len(found)} in ALARM"
    if missing:
        summary += f"; missing: {', '.join(missing)}"
    if subject.local:
        summary += "; in the local AWS none goes off by itself"
    lines = tuple(f"{each['AlarmName']} since {moment(_since(each))}" for each in ringing)
    steps = tuple(" ".join(each.get("AlarmDescription", "").split()) for each in ringing)
    if missing:
        steps += (f"Deploy them again: {RUNBOOK}#a-part-of-the-stack-was-deleted",)
    level = Level.ATTENTION if ringing or missing else Level.HEALTHY
    return Part(level, summary, lines, steps, details)


def _since(alarm: Mapping[str, Any]) -> datetime:
    """Since when an alarm is in its state. Its description may have been updated later."""
    since: datetime = alarm.get("StateTransitionedTimestamp") or alarm["StateUpdatedTimestamp"]
    return since


def last_execution(output: str, command: str, subject: Subject) -> Part:
    """The last replay or backfill: whether it runs, and how it ended."""
    machine = subject.output(output)
    states = subject.aws.states
    try:
        listed = states.list_executions(stateMachineArn=machine, maxResults=1)["executions"]
    except states.exceptions.StateMachineDoesNotExist:
        steps = _made_again(subject, "state machine", "deploy the stack anew", "")[:2]
        return Part(Level.BROKEN, "its state machine does not exist", next_steps=steps)
    if not listed:
        return Part(Level.HEALTHY, f"no {command} yet", details={"status": None})
    (last,) = listed
    began, ended = last["startDate"], last.get("stopDate")
    status = last["status"]
    details = {
        "status": status,
        "execution": last["executionArn"],
        "started_at": began.isoformat(),
        "ended_at": ended and ended.isoformat(),
    }
    summary = f"{status.lower().replace('_', ' ')}, started {moment(began)}"
    if status in ("FAILED", "TIMED_OUT"):
        again = f"See {RUNBOOK}#{command}-failed, then: {subject.command(command)}"
        return Part(Level.ATTENTION, summary, next_steps=(again,), details=details)
    return Part(Level.HEALTHY, summary, details=details)


def cdn(subject: Subject) -> Part | None:
    """The stack's CloudFront distribution, if it has one, and the URL that it serves."""
    distribution = subject.outputs.get("DistributionId")
    if not distribution:
        return None
    served = served_at(subject.outputs, subject.aws.endpoint_url)
    url = served or subject.output("ThumbnailsUrl")
    details: dict[str, Any] = {"distribution": distribution, "url": url}
    cloudfront = subject.aws.cloudfront
    try:
        found = cloudfront.get_distribution(Id=distribution)["Distribution"]
    except cloudfront.exceptions.NoSuchDistribution:
        steps = _made_again(subject, "distribution", "deploy the stack anew", "")[:2]
        return Part(Level.BROKEN, "the distribution does not exist", (url,), steps, details)
    enabled = found["DistributionConfig"]["Enabled"]
    details |= {"status": found["Status"], "enabled": enabled}
    if not enabled:
        step = f"Enable distribution {distribution} in the CloudFront console."
        return Part(Level.BROKEN, "the distribution is disabled", (url,), (step,), details)
    words = {"Deployed": "deployed", "InProgress": "a change is being deployed"}
    return Part(Level.HEALTHY, words.get(found["Status"], found["Status"]), (url,), details=details)


def key(subject: Subject) -> Part | None:
    """The customer managed KMS key, if the stack uses one."""
    arn = subject.outputs.get("KeyArn")
    if not arn:
        return None
    kms = subject.aws.kms
    details: dict[str, Any] = {"key": arn}
    try:
        state = kms.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"]
    except kms.exceptions.NotFoundException:
        lost = "the key does not exist, so nothing that it encrypts can be read"
        return Part(
            Level.BROKEN,
            lost,
            (arn,),
            (f"Change the key: {RUNBOOK}#a-part-of-the-stack-was-deleted",),
            details,
        )
    details["state"] = state
    if state == "Enabled":
        return Part(Level.HEALTHY, "enabled", (arn,), details=details)
    enable = f"Enable it: {subject.aws_command(f'kms enable-key --key-id {arn}')}"
    keep = f"Keep it: {subject.aws_command(f'kms cancel-key-deletion --key-id {arn}')}"
    steps = (keep, enable) if state == "PendingDeletion" else (enable,)
    words = {"Disabled": "disabled", "PendingDeletion": "about to be deleted"}
    summary = f"{words.get(state, state)}: uploads, thumbnails and messages cannot be read"
    return Part(Level.BROKEN, summary, (arn,), steps, details)


# --- words --------------------------------------------------------------------------------------
def moment(time: datetime) -> str:
    """A time in UTC to the minute: `2026-11-27 02:45 UTC`."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def duration(length: timedelta) -> str:
    """A length of time in its largest unit, rounded down: `59 s`, `15 min`, `3 h`, `2 days`."""
    seconds = int(length.total_seconds())
    for unit, name in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
