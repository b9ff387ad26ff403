"""`verify` and its short form `smoke` pass on a stack that works, and name what is broken.

Each test breaks one part of a deployed stack, runs the command, and mends the part again.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from home import Home, press_ctrl_c, started
from serving import client, until

from image_pipeline.local.stack import LocalStack
from image_pipeline.stack import dead_letters
from image_pipeline.stack.aws import list_objects
from image_pipeline.stack.deployed import ALIAS, Stack
from image_pipeline.stack.verify import STEPS

pytestmark = pytest.mark.local_stack

WAIT = 4
"""Seconds that a step may take where it is to fail."""

type Break = Callable[[Stack], AbstractContextManager[None]]


@pytest.fixture
def home(local: LocalStack) -> Home:
    """The command that uses the stack."""
    return Home(local.directory, 0)


def left(stack: Stack) -> dict[str, object]:
    """Everything in the buckets and on the queues, all queues, subscriptions and alarm states."""
    aws = stack.aws
    pages = aws.cloudwatch.get_paginator("describe_alarms").paginate()
    buckets = (stack.input_bucket, stack.settings.output_bucket)
    return {
        "objects": [each["Key"] for bucket in buckets for each in list_objects(aws.s3, bucket)],
        "messages": [dead_letters.depth(aws.sqs, queue) for queue in stack.queues],
        "queues": sorted(aws.sqs.list_queues()["QueueUrls"]),
        "subscriptions": aws.sns.list_subscriptions()["Subscriptions"],
        "alarms": {
            each["AlarmName"]: each["StateValue"] for page in pages for each in page["MetricAlarms"]
        },
    }


@contextmanager
def statement(stack: Stack, role: str, policy: str, sid: str) -> Iterator[None]:
    """A role without one statement of its policy."""
    iam = client(stack.aws, "iam")
    found = stack.aws.cloudformation.describe_stack_resource(
        StackName=stack.name, LogicalResourceId=role
    )
    name = found["StackResourceDetail"]["PhysicalResourceId"].rpartition("/")[2]
    named = {"RoleName": name, "PolicyName": policy}
    document = iam.get_role_policy(**named)["PolicyDocument"]
    kept = [each for each in document["Statement"] if each["Sid"] != sid]
    assert len(kept) == len(document["Statement"]) - 1
    iam.put_role_policy(**named, PolicyDocument=json.dumps({**document, "Statement": kept}))
    try:
        yield
    finally:
        iam.put_role_policy(**named, PolicyDocument=json.dumps(document))


def without(role: str, policy: str, sid: str) -> Break:
    """Break a stack by the lack of one statement."""
    return lambda stack: statement(stack, role, policy, sid)


@contextmanager
def alias_permission(stack: Stack) -> Iterator[None]:
    """Nobody but this account may invoke the alias."""
    functions = stack.aws.functions
    named = {"FunctionName": stack.function_name, "Qualifier": ALIAS}
    policy = json.loads(functions.get_policy(**named)["Policy"])
    (given,) = policy["Statement"]
    condition = {
        name.lower(): value for each in given["Condition"].values() for name, value in each.items()
    }
    functions.remove_permission(**named, StatementId=given["Sid"])
    try:
        yield
    finally:
        account = condition.get("aws:sourceaccount")
        functions.add_permission(
            **named,
            StatementId=given["Sid"],
            Action=given["Action"],
            Principal=given["Principal"]["Service"],
            SourceArn=condition["aws:sourcearn"],
            **({"SourceAccount": account} if account else {}),
        )


@contextmanager
def notifications(stack: Stack, change: Callable[[Any], object]) -> Iterator[None]:
    """Other notifications of the input bucket than those deployed."""
    s3: Any = stack.aws.s3

    def put(configuration: Any) -> None:
        s3.put_bucket_notification_configuration(
            Bucket=stack.input_bucket, NotificationConfiguration=configuration
        )

    deployed = s3.get_bucket_notification_configuration(Bucket=stack.input_bucket)
    del deployed["ResponseMetadata"]
    changed = json.loads(json.dumps(deployed))
    change(changed)
    put(changed)
    try:
        yield
    finally:
        put(deployed)


def no_notification(stack: Stack) -> AbstractContextManager[None]:
    """The input bucket tells nobody of uploads."""
    return notifications(stack, lambda found: found.clear())


def wrong_prefix(stack: Stack) -> AbstractContextManager[None]:
    """The input bucket tells of other uploads."""

    def change(found: Any) -> None:
        for each in found["LambdaFunctionConfigurations"]:
            each["Filter"]["Key"]["FilterRules"][0]["Value"] = "elsewhere/"

    return notifications(stack, change)


@contextmanager
def queue_policy(stack: Stack) -> Iterator[None]:
    """The dead-letter queue takes no message."""
    sqs, url = stack.aws.sqs, stack.settings.dead_letter_queue_url
    deployed = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]
    policy = json.loads(deployed["Policy"])
    denied = {"Effect": "Deny", "Principal": "*", "Action": "sqs:SendMessage"}
    policy["Statement"].append({**denied, "Resource": policy["Statement"][0]["Resource"]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    try:
        yield
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": deployed["Policy"]})


@contextmanager
def destination(stack: Stack) -> Iterator[None]:
    """The alias has no OnFailure destination."""
    functions: Any = stack.aws.functions
    named = {"FunctionName": stack.function_name, "Qualifier": ALIAS}
    deployed = functions.get_function_event_invoke_config(**named)
    kept = {name: deployed[name] for name in ("MaximumRetryAttempts", "MaximumEventAgeInSeconds")}
    functions.put_function_event_invoke_config(**named, **kept)
    try:
        yield
    finally:
        functions.put_function_event_invoke_config(
            **named, **kept, DestinationConfig=deployed["DestinationConfig"]
        )


@contextmanager
def topic_policy(stack: Stack) -> Iterator[None]:
    """The alarm topic does not take what CloudWatch publishes."""
    sns, topic = stack.aws.sns, stack.output("AlarmTopicArn")
    deployed = sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"]
    policy = json.loads(deployed)
    policy["Statement"] = [each for each in policy["Statement"] if each["Sid"] != "FromAlarms"]

    def put(document: str) -> None:
        sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=document)

    put(json.dumps(policy))
    try:
        yield
    finally:
        put(deployed)


@contextmanager
def alarm_actions(stack: Stack) -> Iterator[None]:
    """The alarms of the stack act on nothing."""
    cloudwatch = stack.aws.cloudwatch
    names = [each["AlarmName"] for each in cloudwatch.describe_alarms()["MetricAlarms"]]
    cloudwatch.disable_alarm_actions(AlarmNames=names)
    try:
        yield
    finally:
        cloudwatch.enable_alarm_actions(AlarmNames=names)


@contextmanager
def log_group(stack: Stack) -> Iterator[None]:
    """The function's log group is gone."""
    group = stack.output("LogGroupName")
    stack.aws.logs.delete_log_group(logGroupName=group)
    try:
        yield
    finally:
        stack.aws.logs.create_log_group(logGroupName=group)


@contextmanager
def manifest(stack: Stack) -> Iterator[None]:
    """WriteManifest was turned on, but did not reach the version that the alias points at."""
    functions: Any = stack.aws.functions
    named = {"FunctionName": stack.function_name}
    deployed = functions.get_function_configuration(**named)["Environment"]["Variables"]
    changed = deployed | {"WRITE_MANIFEST": "true"}
    functions.update_function_configuration(**named, Environment={"Variables": changed})
    try:
        yield
    finally:
        functions.update_function_configuration(**named, Environment={"Variables": deployed})


@contextmanager
def encryption(stack: Stack) -> Iterator[None]:
    """The output bucket encrypts with another key than the stack's."""
    s3: Any = stack.aws.s3
    bucket = {"Bucket": stack.settings.output_bucket}
    deployed = s3.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]
    s3.delete_bucket_encryption(**bucket)
    try:
        yield
    finally:
        s3.put_bucket_encryption(**bucket, ServerSideEncryptionConfiguration=deployed)


@contextmanager
def rule(stack: Stack) -> Iterator[None]:
    """EventBridge does not pass on the events of the existing bucket."""
    events = client(stack.aws, "events")
    (name,) = (each["Name"] for each in events.list_rules()["Rules"])
    events.disable_rule(Name=name)
    try:
        yield
    finally:
        events.enable_rule(Name=name)


FUNCTION = ("ThumbnailRole", "thumbnails")
REPLAY = ("ReplayRole", "replay")
BACKFILL = ("BackfillRole", "backfill")
OWN = "a bucket of the stack"
EXISTING = "an existing bucket"

BROKEN: list[tuple[str, str, Break, str, str]] = [
    (OWN, "ReadUploads", without(*FUNCTION, "ReadUploads"), "thumbnails", "StorageDenied"),
    (
        OWN,
        "ReadAndWriteThumbnails",
        without(*FUNCTION, "ReadAndWriteThumbnails"),
        "thumbnails",
        "StorageDenied",
    ),
    (OWN, "alias permission", alias_permission, "thumbnails", "nothing happened within"),
    (OWN, "no notification", no_notification, "thumbnails", "nothing happened within"),
    (OWN, "wrong prefix", wrong_prefix, "thumbnails", "nothing happened within"),
    (OWN, "manifest", manifest, "thumbnails", "The manifest of"),
    (OWN, "SendDeadLetters", without(*FUNCTION, "SendDeadLetters"), "message", "nothing happened"),
    (OWN, "queue policy", queue_policy, "message", "nothing happened"),
    (OWN, "WriteLogs", without(*FUNCTION, "WriteLogs"), "logs", "No line about"),
    (OWN, "log group", log_group, "logs", "ResourceNotFoundException"),
    (OWN, "destination", destination, "attempts", "Lambda left no OnFailure record"),
    (OWN, "replay: invoke", without(*REPLAY, "InvokeFunction"), "replay", "made no thumbnails"),
    (OWN, "replay: take", without(*REPLAY, "TakeLetters"), "replay", "sqs:ReceiveMessage"),
    (OWN, "backfill: invoke", without(*BACKFILL, "InvokeFunction"), "backfill", "InvokeFunction"),
    (OWN, "backfill: list", without(*BACKFILL, "ListUploads"), "backfill", "s3:ListBucket"),
    (OWN, "backfill: results", without(*BACKFILL, "WriteResults"), "backfill", "s3:PutObject"),
    (OWN, "backfill: batches", without(*BACKFILL, "RunBatches"), "backfill", "StartExecution"),
    (OWN, "topic policy", topic_policy, "alarm", "did not reach the topic"),
    (OWN, "alarm actions", alarm_actions, "alarm", "did not reach the topic"),
    (EXISTING, "rule", rule, "thumbnails", "nothing happened within"),
    (EXISTING, "rule permission", alias_permission, "thumbnails", "Undelivered"),
    (EXISTING, "encryption", encryption, "key", "is encrypted with no key"),
    (
        EXISTING,
        "DeleteThumbnails",
        without(*FUNCTION, "DeleteThumbnails"),
        "deletion",
        "was not deleted within",
    ),
]
"""Mode of the stack, the part, what breaks it, the step that finds it, and the reason given."""


@pytest.mark.parametrize("local", [OWN, EXISTING], indirect=True, scope="session")
def test_a_stack_that_works_passes_and_is_left_as_it_was(stack: Stack, home: Home) -> None:
    """Every step passes or does not apply; nothing is left but another's message."""
    queue = stack.settings.dead_letter_queue_url
    stack.aws.sqs.send_message(QueueUrl=queue, MessageBody="another message")
    before = left(stack)
    answer = home.json("verify", "--yes", "--wait", "60")
    assert (answer["ok"], answer["error"]) == (True, None)
    assert [each["step"] for each in answer["steps"]] == [
        *(step.option for step in STEPS),
        "clean-up",
    ]
    keyed = "KeyArn" in stack.outputs
    skipped = {each["step"] for each in answer["steps"] if each["skipped"]}
    assert skipped == ({"metrics"} if keyed else {"key", "deletion", "metrics"})
    assert all(each["document"].startswith("https://docs.aws") for each in answer["steps"])
    assert left(stack) == before
    stack.aws.sqs.purge_queue(QueueUrl=queue)


@pytest.mark.parametrize(
    ("local", "broken", "step", "reason"),
    [pytest.param(mode, *found, id=name) for mode, name, *found in BROKEN],
    indirect=["local"],
    scope="session",
)
def test_a_broken_part_is_named_by_its_step(
    stack: Stack, home: Home, broken: Break, step: str, reason: str
) -> None:
    """The step that needs the part fails, and says why; what was made is removed."""
    before = left(stack)
    with broken(stack):
        answer = home.json("verify", "--yes", "--only", step, "--wait", WAIT, code=1)
    if out := os.environ.get("VERIFY_TABLE"):
        with open(out, "a") as f:
            f.write(json.dumps([step, answer["error"]]) + "\n")
    failed = [each for each in answer["steps"] if each["error"]]
    assert [each["step"] for each in failed] == [step]
    assert reason in failed[0]["error"]
    assert answer["error"].startswith(f"The verification failed at the step '{failed[0]['name']}'")
    assert answer["steps"][-1]["step"] == "clean-up"
    until(lambda: left(stack) == before)


def test_ctrl_c_cleans_up(stack: Stack, home: Home) -> None:
    """Interrupted while it waits for thumbnails that nobody makes, it removes its uploads."""
    before = left(stack)
    command = ["image-pipeline", "verify", "--yes", "--wait", "60"]
    with no_notification(stack), started(command, home.environment) as process:
        until(lambda: left(stack) != before)
        assert press_ctrl_c(process) == 130
    assert left(stack) == before


def test_it_says_first_what_it_does_and_costs_and_asks(home: Home) -> None:
    """Folder, queue, alarm and dollars; without a terminal and --yes it does not start."""
    done = home.run("verify")
    assert done.returncode == 1
    for said in ("image-pipeline-verify-", "dead-letter queue", "Sets an alarm off", "$0.0"):
        assert said in done.stderr
    assert "--yes" in done.stderr


def test_an_unknown_step_is_refused_with_the_known_ones(home: Home) -> None:
    """A typing error does not verify less than was meant."""
    done = home.run("verify", "--only", "thumbnail")
    assert done.returncode == 2
    assert "'thumbnails'" in done.stderr
