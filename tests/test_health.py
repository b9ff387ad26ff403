"""`status`: each part of a stack is read by itself, and says what is wrong and what to do next.

The parts are real resources of moto, and a test breaks one of them. What CloudFormation would say
of the stack is given. The function never runs.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_names import INPUT, OUTPUT
from botocore.exceptions import ClientError
from test_output import printed

from image_pipeline.cli.commands import status
from image_pipeline.stack import health
from image_pipeline.stack.aws import AccessKey, Aws
from image_pipeline.stack.health import Health, Level, Subject
from thumbnailer.dead_letters import DeadLetter
from thumbnailer.errors import CorruptImage
from thumbnailer.events import Upload

REPOSITORY = Path(__file__).parents[1]
NAME, FUNCTION = "photos", "photos-thumbnail"
OPTIONS = " --stack photos --region us-east-1"
MACHINE = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})


@pytest.fixture(scope="module")
def account(moto_endpoint: str) -> Aws:
    """An account of moto, whose clients are made once: that takes longer than any test."""
    account = Aws.local(moto_endpoint, AccessKey("testing", "testing"))
    for name in health.CLIENTS:
        getattr(account, name)
    account.endpoint_url = None  # as if it was not the local AWS
    return account


@pytest.fixture(scope="module")
def iam(moto_endpoint: str) -> Any:
    """Roles: a function of moto needs one that exists."""
    return boto3.client("iam", endpoint_url=moto_endpoint)


@pytest.fixture
def subject(account: Aws, iam: Any, s3: Any) -> Subject:
    """A healthy stack in the account, with every part that a stack can have."""
    role = iam.create_role(RoleName="any", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    s3.put_object(Bucket=INPUT, Key="uploads/a.jpg", Body=b"x")  # moto would run the function
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("handler.py", "")
    functions = account.functions
    functions.create_function(
        FunctionName=FUNCTION,
        Role=role,
        Runtime="python3.13",
        Handler="handler.handler",
        Code={"ZipFile": code.getvalue()},
        Publish=True,
    )
    alias = functions.create_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="1")
    notified = {"LambdaFunctionArn": alias["AliasArn"], "Events": ["s3:ObjectCreated:*"]}
    s3.put_bucket_notification_configuration(
        Bucket=INPUT,
        NotificationConfiguration={"LambdaFunctionConfigurations": [notified]},
        SkipDestinationValidation=True,
    )
    for end in health.ALARMS:
        account.cloudwatch.put_metric_alarm(
            AlarmName=f"{NAME}-{end}",
            AlarmDescription=f"What {end} means,\n  and what to do.",
            Namespace="AWS/SQS",
            MetricName="any",
            Statistic="Sum",
            Period=300,
            EvaluationPeriods=1,
            Threshold=0,
            ComparisonOperator="GreaterThanThreshold",
        )
    machines = {
        f"{name}StateMachineArn": account.states.create_state_machine(
            name=f"{NAME}-{name.lower()}", definition=MACHINE, roleArn=role
        )["stateMachineArn"]
        for name in ("Replay", "Backfill")
    }
    origin = {"Id": "o", "DomainName": f"{OUTPUT}.s3.amazonaws.com"}
    distribution = account.cloudfront.create_distribution(
        DistributionConfig={
            "CallerReference": "1",
            "Origins": {
                "Quantity": 1,
                "Items": [origin | {"S3OriginConfig": {"OriginAccessIdentity": ""}}],
            },
            "DefaultCacheBehavior": {"TargetOriginId": "o", "ViewerProtocolPolicy": "allow-all"},
            "Comment": "",
            "Enabled": True,
        }
    )["Distribution"]
    outputs = {
        "InputBucket": INPUT,
        "InputPrefix": "uploads/",
        "OutputBucket": OUTPUT,
        "DeadLetterQueueUrl": account.sqs.create_queue(QueueName="dead-letters")["QueueUrl"],
        "FunctionName": FUNCTION,
        "FunctionAliasArn": alias["AliasArn"],
        "DistributionId": distribution["Id"],
        "DistributionDomain": distribution["DomainName"],
        "ThumbnailsUrl": f"https://{distribution['DomainName']}",
        "KeyArn": account.kms.create_key()["KeyMetadata"]["Arn"],
        **machines,
    }
    found: Any = {
        "StackName": NAME,
        "StackStatus": "UPDATE_COMPLETE",
        "CreationTime": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        "Outputs": [{"OutputKey": name, "OutputValue": value} for name, value in outputs.items()],
    }
    return Subject(account, found, OPTIONS)


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    """What is registered with the clients, which all tests share, is removed at the end."""
    with ExitStack() as stack:
        yield stack


def with_outputs(subject: Subject, **outputs: str | None) -> Subject:
    """The stack with other outputs; None takes one away."""
    kept = {**subject.outputs, **outputs}
    found: Any = subject.found | {
        "Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in kept.items() if v is not None]
    }
    return Subject(subject.aws, found, subject.options)


def fail(subject: Subject, key: str = "uploads/a.jpg") -> None:
    """Send the dead-letter message of a failed upload."""
    message = DeadLetter.of(Upload(INPUT, key, "etag"), CorruptImage("damaged"), "request")
    url = subject.outputs["DeadLetterQueueUrl"]
    subject.aws.sqs.send_message(QueueUrl=url, MessageBody=message.to_json())


def bad(found: Health) -> dict[str, Level]:
    """The level of every part that is not healthy."""
    return {
        name: part.level for name, part in found.parts.items() if part.level is not Level.HEALTHY
    }


def steps(found: Health, part: str) -> str:
    """The next steps of a part."""
    return "\n".join(found.parts[part].next_steps)


# --- a healthy stack ----------------------------------------------------------------------------
def test_a_healthy_stack_fits_one_screen(subject: Subject) -> None:
    """24 lines of 80 columns, with those for the console and undelivered events; none is cut."""
    found = health.examine(subject)
    assert bad(found) == {}
    assert found.level is Level.HEALTHY
    text = printed(lambda: status.show(found), width=80)
    lines = text.splitlines()
    assert len(lines) + 3 <= 24
    assert all(len(line) <= 80 for line in lines), text
    assert "…" not in text
    for copied in (f"s3://{INPUT}/uploads/", f"s3://{OUTPUT}/", "dead-letters", FUNCTION):
        assert f"    {copied}" in lines
    assert "1 originals" in text


def test_long_names_are_whole_on_a_narrow_terminal(subject: Subject) -> None:
    """At 40 columns each line that people copy is one line, which the terminal wraps."""
    found = health.examine(with_outputs(subject, FunctionName="f" * 64))
    text = printed(lambda: status.show(found), width=40)
    assert f"    {'f' * 64}" in text.splitlines()
    assert f"    {subject.outputs['KeyArn']}" in text.splitlines()


def test_the_json_keeps_its_keys(subject: Subject) -> None:
    """Scripts find what they found in earlier versions, and every part beside it."""
    subject.aws.s3.put_object(Bucket=OUTPUT, Key="a_128w.webp", Body=b"x")
    found = status.report(health.examine(subject), None)
    assert found["input"] == {"bucket": INPUT, "prefix": "uploads/", "objects": 1}
    assert found["output"] == {"bucket": OUTPUT, "objects": 1}
    assert (found["version"], found["dead_letters"], found["health"]) == ("1", 0, "healthy")
    assert set(found["parts"]) == {
        *("stack", "input_bucket", "output_bucket", "upload_events", "failed_uploads"),
        *("function", "last_hour", "alarms", "replay", "backfill", "cdn", "key"),
    }
    json.dumps(found)


@pytest.mark.parametrize(
    ("stack", "command", "advised"),
    [("1.2.3", "1.2.3", False), ("1.2.3", "1.3.0", True), (None, "1.2.3", True)],
)
def test_the_versions_of_stack_and_command_are_compared(
    subject: Subject,
    monkeypatch: pytest.MonkeyPatch,
    stack: str | None,
    command: str,
    *,
    advised: bool,
) -> None:
    """If they differ, the page about updates is named. Stacks of 0.1.0 have no such output."""
    monkeypatch.setattr(status, "number", lambda: command)
    outputs = dict(subject.outputs) | ({"Version": stack} if stack else {})
    monkeypatch.setitem(subject.__dict__, "outputs", outputs)
    found = health.examine(subject)
    text = printed(lambda: status.show(found), width=80)
    shown = stack or "earlier than 0.2.0"
    assert f"version: {shown}; this command: {command}" in text.splitlines()
    assert ("docs/upgrade.md" in text) is advised
    told = status.report(found, None)
    assert (told["stack_version"], told["command_version"]) == (stack, command)


def test_every_alarm_of_the_template_is_read() -> None:
    """The names of the alarms are those of iac/template.yaml."""
    template = (REPOSITORY / "iac/template.yaml").read_text()
    names = set(re.findall(r"AlarmName: !Sub \$\{AWS::StackName\}-(\S+)", template))
    assert names == {*health.ALARMS, health.ALARM_OF_UNDELIVERED}


# --- parts that are not well --------------------------------------------------------------------
def delete_output_bucket(subject: Subject) -> None:
    """Somebody deleted it."""
    subject.aws.s3.delete_bucket(Bucket=OUTPUT)


def delete_queue(subject: Subject) -> None:
    """Somebody deleted it."""
    subject.aws.sqs.delete_queue(QueueUrl=subject.outputs["DeadLetterQueueUrl"])


def delete_function(subject: Subject) -> None:
    """Somebody deleted it."""
    subject.aws.functions.delete_function(FunctionName=FUNCTION)


def delete_alias(subject: Subject) -> None:
    """Somebody deleted it."""
    subject.aws.functions.delete_alias(FunctionName=FUNCTION, Name="live")


def pause_function(subject: Subject) -> None:
    """As docs/operations.md says."""
    subject.aws.functions.put_function_concurrency(
        FunctionName=FUNCTION, ReservedConcurrentExecutions=0
    )


def silence_bucket(subject: Subject) -> None:
    """Somebody replaced the notification."""
    subject.aws.s3.put_bucket_notification_configuration(Bucket=INPUT, NotificationConfiguration={})


def key_id(subject: Subject) -> str:
    """The id of the key: moto's KMS does not change the state of one that is named by its ARN."""
    return subject.outputs["KeyArn"].rpartition("/")[2]


def disable_key(subject: Subject) -> None:
    """Somebody disabled it."""
    subject.aws.kms.disable_key(KeyId=key_id(subject))


def schedule_key(subject: Subject) -> None:
    """Somebody wants to delete it."""
    subject.aws.kms.schedule_key_deletion(KeyId=key_id(subject))


def disable_distribution(subject: Subject) -> None:
    """Somebody disabled it."""
    name = subject.outputs["DistributionId"]
    found = subject.aws.cloudfront.get_distribution_config(Id=name)
    subject.aws.cloudfront.update_distribution(
        Id=name,
        IfMatch=found["ETag"],
        DistributionConfig=found["DistributionConfig"] | {"Enabled": False},
    )


def delete_machine(subject: Subject) -> None:
    """Somebody deleted it."""
    subject.aws.states.delete_state_machine(
        stateMachineArn=subject.outputs["BackfillStateMachineArn"]
    )


def ring(subject: Subject) -> None:
    """An alarm has gone off."""
    subject.aws.cloudwatch.set_alarm_state(
        AlarmName=f"{NAME}-oldest-event", StateValue="ALARM", StateReason="late"
    )


def delete_alarm(subject: Subject) -> None:
    """Somebody deleted it."""
    subject.aws.cloudwatch.delete_alarms(AlarmNames=[f"{NAME}-oldest-event"])


def throttle(subject: Subject) -> None:
    """Lambda throttled an event."""
    subject.aws.cloudwatch.put_metric_data(
        Namespace="AWS/Lambda",
        MetricData=[
            {
                "MetricName": name,
                "Dimensions": [{"Name": "FunctionName", "Value": FUNCTION}],
                "Timestamp": datetime.now(UTC),
                "Value": value,
            }
            for name, value in (("Throttles", 3), ("AsyncEventAge", 1_200_000))
        ],
    )


type Row = tuple[Callable[[Subject], None], str, Level, str, str]
"""What is broken, the part that says so, its level, and parts of its summary and next steps."""

GONE: list[Row] = [
    (
        *(delete_output_bucket, "output_bucket", Level.BROKEN, "does not exist"),
        f"aws s3 mb s3://{OUTPUT} --region us-east-1",
    ),
    (
        *(delete_queue, "failed_uploads", Level.BROKEN, "does not exist"),
        "aws sqs create-queue --queue-name dead-letters --attributes Message",
    ),
    (delete_alias, "function", Level.BROKEN, "alias live does not exist", "#a-part-of-the-stack"),
    (
        *(silence_bucket, "upload_events", Level.BROKEN, "not processed"),
        '"Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "uploads/"}]}}',
    ),
    (disable_key, "key", Level.BROKEN, "disabled", "aws kms enable-key --key-id arn:"),
    (disable_distribution, "cdn", Level.BROKEN, "disabled", "Enable distribution"),
    (delete_machine, "backfill", Level.BROKEN, "does not exist", "#a-part-of-the-stack"),
    (delete_alarm, "alarms", Level.ATTENTION, f"missing: {NAME}-oldest-event", "again"),
]
TROUBLE: list[Row] = [
    (
        *(pause_function, "function", Level.ATTENTION, "paused"),
        f"delete-function-concurrency --function-name {FUNCTION} --region us-east-1",
    ),
    (ring, "alarms", Level.ATTENTION, "1 of 10 in ALARM", "What oldest-event means, and what"),
    (throttle, "last_hour", Level.ATTENTION, "3 throttles; the oldest event was 20", "Raise"),
    (fail, "failed_uploads", Level.ATTENTION, "1 waiting", f"image-pipeline replay{OPTIONS}"),
]
LOST: list[Row] = [
    (delete_function, "function", Level.BROKEN, "does not exist", "#a-part-of-the-stack"),
    (schedule_key, "key", Level.BROKEN, "about to be deleted", "aws kms cancel-key-deletion"),
]


@pytest.mark.parametrize(
    ("rows", "level"),
    [(GONE, Level.BROKEN), (TROUBLE, Level.ATTENTION), (LOST, Level.BROKEN)],
    ids=["gone", "trouble", "lost"],
)
def test_a_broken_part_says_what_is_wrong_and_what_to_do(
    subject: Subject, rows: list[Row], level: Level
) -> None:
    """However many are broken at once: the command to run is whole, and the rest is healthy."""
    for break_it, *_ in rows:
        break_it(subject)
    found = health.examine(subject)
    assert bad(found) == {part: expected for _, part, expected, *_ in rows}
    for _, part, _, summary, step in rows:
        assert summary in found.parts[part].summary
        assert step in steps(found, part)
    assert found.level is level


def test_failures_of_both_queues_are_shown_newest_first(subject: Subject) -> None:
    """Also those that EventBridge could not deliver; the oldest message has a time.

    Such a stack has an existing bucket, which in this test does not send its events.
    """
    fail(subject, "uploads/first.jpg")
    queue = subject.aws.sqs.create_queue(QueueName="undelivered")["QueueUrl"]
    event = {"detail": {"bucket": {"name": INPUT}, "object": {"key": "uploads/second.jpg"}}}
    body = {"version": "0", "source": "aws.s3", "detail-type": "Object Created"} | event
    subject.aws.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(body))
    found = health.examine(with_outputs(subject, UndeliveredEventsUrl=queue))
    assert {each.key for each in found.failures} == {"uploads/first.jpg", "uploads/second.jpg"}
    assert found.failures == sorted(found.failures, key=lambda each: each.sent_at, reverse=True)
    assert f"image-pipeline adopt-bucket {INPUT}{OPTIONS}" in steps(found, "upload_events")
    assert re.search(r"oldest since 20\d\d-.* UTC", found.parts["undelivered_events"].summary)


def deny(undo: ExitStack, subject: Subject, call: str, code: str, message: str) -> None:
    """AWS refuses a call, such as `s3.ListObjectsV2`."""
    client, _, operation = call.partition(".")

    def refuse(**_: object) -> None:
        error = {"Error": {"Code": code, "Message": message}}
        raise ClientError(error, operation)  # type: ignore[arg-type]  # as boto3 raises it

    events = getattr(subject.aws, client).meta.events
    events.register(f"provide-client-params.*.{operation}", refuse)
    undo.callback(events.unregister, f"provide-client-params.*.{operation}", refuse)


def test_a_missing_permission_hides_one_part(subject: Subject, undo: ExitStack) -> None:
    """The part names the permission and who lacks it, and the exit code is that of attention."""
    who = "arn:aws:iam::111122223333:user/me"
    denied = {
        "function": "functions.GetFunctionConcurrency",
        "last_hour": "cloudwatch.GetMetricData",
        "cdn": "cloudfront.GetDistribution",
    }
    for call in denied.values():
        message = f"User: {who} is not authorized to perform: {call} because no policy allows it"
        deny(undo, subject, call, "AccessDeniedException", message)
    found = health.examine(subject)
    assert bad(found) == dict.fromkeys(denied, Level.UNKNOWN)
    for part, call in denied.items():
        summary = found.parts[part].summary
        assert summary.startswith(f"cannot be read: AWS denies {call} to {who}.")
    assert found.level is Level.ATTENTION


def test_messages_of_a_disabled_key_are_counted(subject: Subject, undo: ExitStack) -> None:
    """SQS counts them but cannot return them: the part has both, and the key's part the cause."""
    fail(subject)
    disable_key(subject)
    deny(undo, subject, "sqs.ReceiveMessage", "KmsDisabled", "arn:key is disabled.")
    found = health.examine(subject)
    assert bad(found) == {"failed_uploads": Level.ATTENTION, "key": Level.BROKEN}
    summary = found.parts["failed_uploads"].summary
    assert summary.startswith("1 waiting; the messages cannot be read: The KMS key")


@pytest.mark.parametrize(
    ("status_of_stack", "outputs", "level", "words"),
    [
        ("UPDATE_COMPLETE", True, Level.HEALTHY, "last deployed 2026-01-02 03:04 UTC"),
        ("UPDATE_IN_PROGRESS", True, Level.ATTENTION, "Wait until it is done."),
        ("DELETE_IN_PROGRESS", True, Level.BROKEN, "being deleted"),
        ("ROLLBACK_COMPLETE", False, Level.BROKEN, "Delete the stack and deploy it again."),
        ("CREATE_IN_PROGRESS", False, Level.ATTENTION, "Wait until it is done."),
    ],
)
def test_the_state_of_the_stack_is_a_part(
    status_of_stack: str, outputs: bool, level: Level, words: str  # noqa: FBT001 - of a table
) -> None:
    """Whether it is deployed, and what happens to it now."""
    found: Any = {
        "StackName": NAME,
        "StackStatus": status_of_stack,
        "CreationTime": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        "Outputs": [{"OutputKey": "any", "OutputValue": "any"}] * outputs,
    }
    nothing: Any = None
    part = health.stack_state(Subject(nothing, found))
    assert part.level is level
    assert words in " ".join((part.summary, *part.next_steps))


def test_without_outputs_the_rest_says_so(subject: Subject) -> None:
    """The buckets are known by the parameters, and the other parts say what is not known."""
    given = [{"ParameterKey": "OutputBucketName", "ParameterValue": OUTPUT}]
    found: Any = subject.found | {"Outputs": [], "Parameters": given}
    result = health.examine(replace(subject, found=found))
    assert result.parts["output_bucket"].level is Level.HEALTHY
    assert "the stack has no output FunctionName" in result.parts["function"].summary


def test_the_local_stack_says_what_it_cannot_tell(subject: Subject) -> None:
    """And a part that is gone is made again by a new local stack, not by commands on AWS."""
    delete_output_bucket(subject)
    pause_function(subject)
    found = health.examine(replace(subject, options=""))
    assert "the local AWS has no metrics of functions" in found.parts["last_hour"].summary
    assert "in the local AWS none goes off by itself" in found.parts["alarms"].summary
    assert "image-pipeline down; image-pipeline up" in steps(found, "output_bucket")
    assert 'eval "$(image-pipeline status --env)"; aws lambda' in steps(found, "function")


def test_the_documented_permissions_are_those_that_are_used(
    subject: Subject, undo: ExitStack
) -> None:
    """Each operation of a run is in the table of docs/operations.md, and no other one."""
    fail(subject)
    used = {"cloudformation:DescribeStacks", "cloudformation:ListStacks", "kms:Decrypt"}
    for client in health.CLIENTS:
        service = getattr(subject.aws, client)
        prefix = {"stepfunctions": "states"}.get(service.meta.service_model.service_name)
        prefix = prefix or service.meta.service_model.service_name

        def record(model: Any, prefix: str = prefix, **_: object) -> None:
            used.add(f"{prefix}:{model.name}")

        service.meta.events.register("before-call.*.*", record)
        undo.callback(service.meta.events.unregister, "before-call.*.*", record)
    health.examine(subject)
    text = (REPOSITORY / "docs/operations.md").read_text()
    table = text.partition("### Permissions for status\n")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`([a-z0-9]+:[A-Z]\w+)`", table))
    renamed = {
        "s3:ListObjectsV2": "s3:ListBucket",
        "s3:GetBucketNotificationConfiguration": "s3:GetBucketNotification",
        "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    }
    assert {renamed.get(each, each) for each in used} == documented
