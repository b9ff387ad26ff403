"""With IAM enforced, what one service does for another needs a policy; see test_ministack_patches.

Each test runs with the patch and without it: without it, ministack asks for no permission.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from botocore.exceptions import ClientError
from serving import client, create_function, log_lines, ministack, until
from test_services_patches import create, run

from image_pipeline.stack.aws import Aws

pytestmark = pytest.mark.local_stack

PRINTS = "def lambda_handler(event, context):\n    print('here')\n    return event\n"
RAISES = "def lambda_handler(event, context):\n    raise KeyError('here')\n"
ACCOUNT = "000000000000"
SOON = 1.0
"""Seconds after which what has not happened does not happen."""

Start = Callable[..., Aws]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start ministack with IAM enforced, without the named patches, or return the running one."""
    running: dict[Any, Aws] = {}
    with ExitStack() as stack:

        def started(*without: str) -> Aws:
            if without not in running:
                context = ministack(tmp_path_factory.mktemp("ministack"), *without, AUTH="true")
                running[without], _ = stack.enter_context(context)
                allow(running[without], "test", "s3:GetObject")  # that of create_function
            return running[without]

        yield started


def allow(aws: Aws, role: str, *actions: str) -> None:
    """Let a role do these actions on everything; the role is made if there is none."""
    iam = client(aws, "iam")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    if role not in {each["RoleName"] for each in iam.list_roles()["Roles"]}:
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust)
    allowed = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_role_policy(RoleName=role, PolicyName="test", PolicyDocument=document)


def happens(check: Callable[[], object]) -> bool:
    """Whether something happens soon."""
    deadline = time.monotonic() + SOON
    while not (found := check()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(found)


@pytest.mark.parametrize("without", [(), ("hide_what_is_missing_from_those_who_may_not_list",)])
def test_a_missing_object_is_told_to_those_who_may_list(
    start: Start, without: tuple[str, ...]
) -> None:
    """GET and HEAD of a missing object get 403, and 404 once s3:ListBucket is allowed."""
    aws = start(*without)
    iam = client(aws, "iam")
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    reader = client(aws, "s3", key["AccessKeyId"], key["SecretAccessKey"])
    aws.s3.create_bucket(Bucket="listed-or-not")
    aws.s3.put_object(Bucket="listed-or-not", Key="there", Body=b"x")

    def statuses() -> list[int]:
        found = []
        for request in (reader.get_object, reader.head_object):
            with pytest.raises(ClientError) as error:
                request(Bucket="listed-or-not", Key="missing")
            found.append(error.value.response["ResponseMetadata"]["HTTPStatusCode"])
        return found

    def may(*actions: str) -> None:
        allowed = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        iam.put_user_policy(UserName="reader", PolicyName="test", PolicyDocument=document)

    may("s3:GetObject")
    assert statuses() == ([404, 404] if without else [403, 403])
    assert reader.head_object(Bucket="listed-or-not", Key="there")
    may("s3:GetObject", "s3:ListBucket")
    assert statuses() == [404, 404]


@pytest.mark.parametrize("without", [(), ("invoke_functions_that_allow_it",)])
def test_s3_invokes_a_function_that_allows_it(start: Start, without: tuple[str, ...]) -> None:
    """An upload invokes the function once its policy lets S3 do so for this bucket."""
    aws = start(*without)
    allow(aws, "test", "logs:*")
    create_function(aws, "told", PRINTS)
    aws.s3.create_bucket(Bucket="source")
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:told"
    told = {"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*"]}
    aws.s3.put_bucket_notification_configuration(
        Bucket="source",
        NotificationConfiguration={"LambdaFunctionConfigurations": [told]},  # type: ignore[list-item]
    )

    def upload_invokes() -> bool:
        before = len(log_lines(aws, "/aws/lambda/told"))
        aws.s3.put_object(Bucket="source", Key="a", Body=b"x")
        return happens(lambda: len(log_lines(aws, "/aws/lambda/told")) > before)

    for bucket, invoked in ((None, False), ("another", False), ("source", True)):
        if bucket:
            aws.functions.add_permission(
                FunctionName="told",
                StatementId=bucket,
                Action="lambda:InvokeFunction",
                Principal="s3.amazonaws.com",
                SourceArn=f"arn:aws:s3:::{bucket}",
            )
        assert upload_invokes() is (invoked or bool(without))


@pytest.mark.parametrize("without", [(), ("invoke_functions_that_allow_it",)])
def test_event_bridge_invokes_a_function_that_allows_it(
    start: Start, without: tuple[str, ...]
) -> None:
    """An event that the function's policy does not allow goes to the queue of the target."""
    aws = start(*without)
    allow(aws, "test", "logs:*")
    create_function(aws, "ruled", PRINTS)
    queue = aws.sqs.create_queue(QueueName="undelivered")["QueueUrl"]
    events = client(aws, "events")
    rule = events.put_rule(Name="rule", EventPattern=json.dumps({"source": ["test"]}))["RuleArn"]
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:ruled"
    dead = {"Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:undelivered"}
    events.put_targets(Rule="rule", Targets=[{"Id": "1", "Arn": arn, "DeadLetterConfig": dead}])

    def send() -> None:
        events.put_events(Entries=[{"Source": "test", "DetailType": "test", "Detail": "{}"}])

    send()
    assert happens(lambda: log_lines(aws, "/aws/lambda/ruled")) is bool(without)
    received = aws.sqs.receive_message(QueueUrl=queue).get("Messages", [])
    assert len(received) == (0 if without else 1)
    aws.functions.add_permission(
        FunctionName="ruled",
        StatementId="rule",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=rule,
    )
    send()
    assert happens(lambda: log_lines(aws, "/aws/lambda/ruled"))


@pytest.mark.parametrize("without", [(), ("send_records_with_the_role_of_the_function",)])
def test_a_record_is_sent_with_the_role_of_the_function(
    start: Start, without: tuple[str, ...]
) -> None:
    """OnFailure reaches the queue once the function's role may send to it."""
    aws = start(*without)
    allow(aws, "test", "s3:GetObject")
    create_function(aws, "fails", RAISES)
    queue = aws.sqs.create_queue(QueueName="records")["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:records"
    aws.functions.put_function_event_invoke_config(
        FunctionName="fails",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": arn}},
    )

    def recorded() -> bool:
        aws.functions.invoke(FunctionName="fails", InvocationType="Event", Payload=b"{}")
        return happens(lambda: aws.sqs.receive_message(QueueUrl=queue).get("Messages"))

    assert recorded() is bool(without)
    allow(aws, "test", "sqs:SendMessage")
    assert recorded()


@pytest.mark.parametrize("without", [(), ("write_logs_with_the_role_of_the_function",)])
def test_a_log_is_written_with_the_role_of_the_function(
    start: Start, without: tuple[str, ...]
) -> None:
    """A line arrives once the role may write it and the group exists."""
    aws = start(*without)
    allow(aws, "test", "s3:GetObject")
    create_function(aws, "prints", PRINTS, LoggingConfig={"LogGroup": "kept"})

    def logged() -> bool:
        aws.functions.invoke(FunctionName="prints", Payload=b"{}")
        return bool(log_lines(aws, "kept"))

    assert logged() is bool(without)
    allow(aws, "test", "logs:PutLogEvents")
    assert logged() is bool(without)
    if not without:
        aws.logs.create_log_group(logGroupName="kept")
    assert logged()


@pytest.mark.parametrize("without", [(), ("publish_alarms_that_the_topic_allows",)])
def test_an_alarm_is_published_if_the_topic_allows_it(
    start: Start, without: tuple[str, ...]
) -> None:
    """A subscribed queue gets the alarm once the topic's policy lets CloudWatch publish."""
    aws = start(*without)
    topic = aws.sns.create_topic(Name="alarms")["TopicArn"]
    queue = aws.sqs.create_queue(QueueName="subscriber")["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:subscriber"
    anybody = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}}
    policy = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{**anybody, "Action": "sqs:SendMessage", "Resource": arn}],
        }
    )
    aws.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    aws.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    aws.cloudwatch.put_metric_alarm(
        AlarmName="alarm",
        Namespace="test",
        MetricName="test",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[topic],
    )

    def set_policy(service: str) -> None:
        allowed = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sns:Publish"}
        document = {"Version": "2012-10-17", "Statement": [{**allowed, "Resource": topic}]}
        aws.sns.set_topic_attributes(
            TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(document)
        )

    def notified() -> bool:
        for state in ("OK", "ALARM"):
            aws.cloudwatch.set_alarm_state(AlarmName="alarm", StateValue=state, StateReason="test")
        return happens(lambda: aws.sqs.receive_message(QueueUrl=queue).get("Messages"))

    set_policy("events.amazonaws.com")
    assert notified() is bool(without)
    set_policy("cloudwatch.amazonaws.com")
    assert notified()


@pytest.mark.parametrize("without", [(), ("run_tasks_with_the_role_of_the_state_machine",)])
def test_a_task_is_run_with_the_role_of_the_state_machine(
    start: Start, without: tuple[str, ...]
) -> None:
    """Without a permission a task fails with an error of its service; with it, it runs."""
    aws = start(*without)
    create_function(aws, "task", PRINTS)
    queue = aws.sqs.create_queue(QueueName="task")["QueueUrl"]
    states: dict[str, Any] = {
        "Invoke": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Arguments": {
                "FunctionName": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:task",
                "Payload": {},
            },
            "Next": "Send",
        },
        "Send": {
            "Type": "Task",
            "Resource": "arn:aws:states:::aws-sdk:sqs:sendMessage",
            "Arguments": {"QueueUrl": queue, "MessageBody": "here"},
            "End": True,
        },
    }
    machine = create(aws, "tasks", states)
    for actions, error in (
        ((), "Lambda.AWSLambdaException"),
        (("lambda:InvokeFunction",), "Sqs.SqsException"),
        (("lambda:InvokeFunction", "sqs:SendMessage"), ""),
    ):
        if actions:
            allow(aws, "tasks", *actions)
        assert run(aws, machine).error == ("" if without else error)


@pytest.mark.parametrize("without", [(), ("run_maps_with_the_role_of_the_state_machine",)])
def test_a_map_is_run_with_the_role_of_the_state_machine(
    start: Start, without: tuple[str, ...]
) -> None:
    """Starting batches, listing objects and writing results each need their permission."""
    aws = start(*without)
    aws.s3.create_bucket(Bucket="listed")
    states: dict[str, Any] = {
        "Objects": {
            "Type": "Map",
            "ItemReader": {
                "Resource": "arn:aws:states:::s3:listObjectsV2",
                "Arguments": {"Bucket": "listed", "Prefix": "in/"},
            },
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                "StartAt": "Done",
                "States": {"Done": {"Type": "Succeed"}},
            },
            "ResultWriter": {
                "Resource": "arn:aws:states:::s3:putObject",
                "Arguments": {"Bucket": "listed", "Prefix": "out"},
            },
            "End": True,
        }
    }
    aws.s3.put_object(Bucket="listed", Key="in/a", Body=b"x")
    machine = create(aws, "maps", states)
    needed = (
        ("States.Permissions", "states:StartExecution"),
        ("States.ItemReaderFailed", "s3:ListBucket"),
        ("States.ResultWriterFailed", "s3:PutObject"),
    )
    for number, (error, _) in enumerate(needed):
        allow(aws, "maps", "s3:GetObject", *(action for _, action in needed[:number]))
        assert run(aws, machine).error == ("" if without else error)
    allow(aws, "maps", *(action for _, action in needed))
    assert run(aws, machine).error == ""


TEMPLATE = {
    "Resources": {
        "Bucket": {
            "Type": "AWS::S3::Bucket",
            "Properties": {
                "BucketName": "encrypted",
                "BucketEncryption": {
                    "ServerSideEncryptionConfiguration": [
                        {
                            "ServerSideEncryptionByDefault": {
                                "SSEAlgorithm": "aws:kms",
                                "KMSMasterKeyID": "arn:aws:kms:us-east-1:000000000000:key/a",
                            }
                        }
                    ]
                },
            },
        },
        "Topic": {
            "Type": "AWS::SNS::Topic",
            "Properties": {
                "TopicName": "encrypted",
                "KmsMasterKeyId": "arn:aws:kms:us-east-1:000000000000:key/a",
            },
        },
    }
}


@pytest.mark.parametrize("without", [(), ("encrypt_buckets", "encrypt_topics")])
def test_buckets_and_topics_of_a_template_are_encrypted(
    start: Start, without: tuple[str, ...]
) -> None:
    """An object names the key of its bucket, and a topic its own."""
    aws = start(*without)
    aws.cloudformation.create_stack(StackName="encrypted", TemplateBody=json.dumps(TEMPLATE))
    until(
        lambda: aws.cloudformation.describe_stacks(StackName="encrypted")["Stacks"][0][
            "StackStatus"
        ]
        == "CREATE_COMPLETE"
    )
    aws.s3.put_object(Bucket="encrypted", Key="a", Body=b"x")
    key = aws.s3.head_object(Bucket="encrypted", Key="a").get("SSEKMSKeyId")
    topic = f"arn:aws:sns:us-east-1:{ACCOUNT}:encrypted"
    attributes = aws.sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    expected = None if without else "arn:aws:kms:us-east-1:000000000000:key/a"
    assert (key, attributes.get("KmsMasterKeyId")) == (expected, expected)
