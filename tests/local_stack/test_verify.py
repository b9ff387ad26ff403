"""`verify` and its short form `smoke` pass on a stack that works, and name what is broken.

Each test breaks one part of a deployed stack, runs the command, and repairs the part.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from home import COMMAND, Home, press_ctrl_c, started
from serving import client, until

from image_pipeline.local.stack import LocalStack
from image_pipeline.stack import dead_letters
from image_pipeline.stack.aws import list_objects
from image_pipeline.stack.deployed import ALIAS, Stack
from image_pipeline.stack.verify import STEPS

pytestmark = pytest.mark.local_stack

WAIT = 4
"""Seconds that a step may take where it is to fail."""

PATIENCE = 60
"""Seconds for a replay or a backfill, which retries everything before it gives up."""

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
    """The input bucket sends events for other uploads."""

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

type Row = tuple[str, Break, str, str]
"""The part, what breaks it, the step that finds it, and the reason given."""

BROKEN: list[Row] = [
    ("ReadUploads", without(*FUNCTION, "ReadUploads"), "thumbnails", "StorageDenied"),
    (
        "ReadAndWriteThumbnails",
        without(*FUNCTION, "ReadAndWriteThumbnails"),
        "thumbnails",
        "StorageDenied",
    ),
    ("alias permission", alias_permission, "thumbnails", "nothing happened within"),
    ("no notification", no_notification, "thumbnails", "nothing happened within"),
    ("wrong prefix", wrong_prefix, "thumbnails", "nothing happened within"),
    ("manifest", manifest, "thumbnails", "The manifest of"),
    (
        "TellMissingFromForbidden",
        without(*FUNCTION, "TellMissingFromForbidden"),
        "missing",
        "StorageDenied",
    ),
    ("SendDeadLetters", without(*FUNCTION, "SendDeadLetters"), "message", "nothing happened"),
    ("queue policy", queue_policy, "message", "nothing happened"),
    ("WriteLogs", without(*FUNCTION, "WriteLogs"), "logs", "No line about"),
    ("log group", log_group, "logs", "log group does not exist"),
    ("destination", destination, "attempts", "Lambda left no OnFailure record"),
    ("replay: invoke", without(*REPLAY, "InvokeFunction"), "replay", "made no thumbnails"),
    ("replay: take", without(*REPLAY, "TakeLetters"), "replay", "sqs:ReceiveMessage"),
    ("backfill: invoke", without(*BACKFILL, "InvokeFunction"), "backfill", "InvokeFunction"),
    ("backfill: list", without(*BACKFILL, "ListUploads"), "backfill", "s3:ListBucket"),
    ("backfill: results", without(*BACKFILL, "WriteResults"), "backfill", "s3:PutObject"),
    ("backfill: batches", without(*BACKFILL, "RunBatches"), "backfill", "StartExecution"),
    ("topic policy", topic_policy, "alarm", "did not reach the topic"),
    ("alarm actions", alarm_actions, "alarm", "did not reach the topic"),
]

BROKEN_WITH_AN_EXISTING_BUCKET: list[Row] = [
    ("rule", rule, "thumbnails", "nothing happened within"),
    ("rule permission", alias_permission, "thumbnails", "Undelivered"),
    ("encryption", encryption, "key", "is encrypted with no key"),
    (
        "DeleteThumbnails",
        without(*FUNCTION, "DeleteThumbnails"),
        "deletion",
        "was not deleted within",
    ),
]

# One value each, and in the order of the file: each of the two stacks is deployed once.
own = pytest.mark.parametrize("local", ["a bucket of the stack"], indirect=True, scope="session")
existing = pytest.mark.parametrize("local", ["an existing bucket"], indirect=True, scope="session")


def parts(rows: list[Row]) -> pytest.MarkDecorator:
    """One test for each part; the first of each step runs always, and the others are slow."""
    first = {step: name for name, _, step, _ in reversed(rows)}
    values = [
        pytest.param(*row, id=name, marks=[] if first[row[1]] == name else [pytest.mark.slow])
        for name, *row in rows
    ]
    return pytest.mark.parametrize(("broken", "step", "reason"), values)


def passes(stack: Stack, home: Home) -> set[str]:
    """Verify a stack that works, and return the steps that do not apply to it.

    Nothing is left, and a message of another stays on the queue.
    """
    queue = stack.settings.dead_letter_queue_url
    stack.aws.sqs.send_message(QueueUrl=queue, MessageBody="another message")
    before = left(stack)
    answer = home.json("verify", "--yes", "--wait", "60")
    assert (answer["ok"], answer["error"]) == (True, None)
    assert [each["step"] for each in answer["steps"]] == [
        *(step.option for step in STEPS),
        "clean-up",
    ]
    assert all(each["document"].startswith("https://docs.aws") for each in answer["steps"])
    assert left(stack) == before
    stack.aws.sqs.purge_queue(QueueUrl=queue)
    return {each["step"] for each in answer["steps"] if each["skipped"]}


def is_named(stack: Stack, home: Home, broken: Break, step: str, reason: str) -> None:
    """Verify a stack with a broken part; the step that needs it fails, and nothing is left."""
    before = left(stack)
    wait = PATIENCE if step in {"replay", "backfill"} else WAIT
    with broken(stack):
        answer = home.json("verify", "--yes", "--only", step, "--wait", wait, code=1)
    failed, cleaned = answer["steps"][-2:]
    assert (failed["step"], cleaned["step"], cleaned["error"]) == (step, "clean-up", "")
    assert reason in failed["error"]
    assert answer["error"].startswith(f"The verification failed at the step '{failed['name']}'")
    until(lambda: left(stack) == before)


@own
def test_a_stack_that_works_passes(stack: Stack, home: Home) -> None:
    """Every step passes, but for those that say why they do not apply (test_cdn.py has a CDN)."""
    assert passes(stack, home) == {"key", "deletion", "url", "fresh"}


@own
@parts(BROKEN)
def test_a_broken_part_is_named_by_its_step(
    stack: Stack, home: Home, broken: Break, step: str, reason: str
) -> None:
    """The step that needs the part fails, and says why; what was made is removed."""
    is_named(stack, home, broken, step, reason)


@own
def test_ctrl_c_cleans_up(stack: Stack, home: Home) -> None:
    """Interrupted while it waits for thumbnails that nobody makes, it removes its uploads."""
    before = left(stack)
    command = [COMMAND, "verify", "--yes", "--wait", "60"]
    with no_notification(stack), started(command, home.environment) as process:
        until(lambda: left(stack) != before)
        assert press_ctrl_c(process) == 130
    assert left(stack) == before


@own
def test_it_says_first_what_it_does_and_costs_and_asks(home: Home) -> None:
    """Folder, queue, alarm and dollars; without a terminal and --yes it does not start."""
    done = home.run("verify")
    assert done.returncode == 1
    for said in ("image-pipeline-verify-", "dead-letter queue", "Sets an alarm off", "$0.0"):
        assert said in done.stderr
    assert "--yes" in done.stderr


@own
def test_an_unknown_step_is_refused_with_the_known_ones(home: Home) -> None:
    """A typing error does not verify less than was meant."""
    done = home.run("verify", "--only", "thumbnail")
    assert done.returncode == 2
    assert "there is no step 'thumbnail'" in done.stderr


@existing
def test_a_stack_with_an_existing_bucket_and_a_key_passes(stack: Stack, home: Home) -> None:
    """By EventBridge, with the stack's KMS key and DeleteWithOriginal, the same steps pass."""
    assert passes(stack, home) == {"url", "fresh"}


@existing
@parts(BROKEN_WITH_AN_EXISTING_BUCKET)
def test_a_broken_part_of_such_a_stack_is_named_by_its_step(
    stack: Stack, home: Home, broken: Break, step: str, reason: str
) -> None:
    """So are the parts that only such a stack has."""
    is_named(stack, home, broken, step, reason)
