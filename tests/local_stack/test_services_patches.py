"""The patches of ministack's other services than Lambda, as test_ministack_patches.py does."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from botocore.exceptions import ClientError
from serving import client, create_function, ministack, until

from image_pipeline.stack import executions
from image_pipeline.stack.aws import Aws
from image_pipeline.stack.executions import Execution

pytestmark = pytest.mark.local_stack

ECHO = "def lambda_handler(event, context):\n    return event\n"
SLEEPS = "import time\ndef lambda_handler(event, context):\n    time.sleep(1)\n"
RAISES = "def lambda_handler(event, context):\n    raise KeyError('here')\n"
ONE_AT_A_TIME = {"LAMBDA_ACCOUNT_CONCURRENCY": "1"}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Aws]]:
    """Start ministack without the patches named, or find the one that was so started."""
    running: dict[Any, Aws] = {}
    with ExitStack() as stack:

        def started(*without: str, **variables: str) -> Aws:
            key = (without, *variables.items())
            if key not in running:
                context = ministack(tmp_path_factory.mktemp("ministack"), *without, **variables)
                running[key], _ = stack.enter_context(context)
            return running[key]

        yield started


def create(aws: Aws, name: str, states: dict[str, Any]) -> str:
    """Create a state machine that begins with the first of its states; its ARN."""
    roles = client(aws, "iam")
    trust = {"Version": "2012-10-17", "Statement": []}
    role = roles.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    definition = {"QueryLanguage": "JSONata", "StartAt": next(iter(states)), "States": states}
    arn: str = aws.states.create_state_machine(
        name=name, definition=json.dumps(definition), roleArn=role["Arn"]
    )["stateMachineArn"]
    return arn


def ended(aws: Aws, execution: Execution) -> Execution:
    """An execution at its end."""
    found: list[Execution] = []

    def look() -> bool:
        found.append(executions.describe(aws.states, execution.arn))
        return not found[-1].running

    until(look)
    return found[-1]


def run(aws: Aws, machine: str, **given: Any) -> Execution:
    """Run a state machine to its end."""
    return ended(aws, executions.start(aws.states, machine, given))


def invoking(function: str, payload: Any, **more: Any) -> dict[str, Any]:
    """A task that calls a function."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": function, "Payload": payload},
        "Output": "{% $states.result.Payload %}",
        "End": True,
        **more,
    }


# --- deliver_events_asynchronously --------------------------------------------------------------
def failing_target(aws: Aws) -> str:
    """A rule whose target always fails, and has a destination for that; the queue's URL."""
    create_function(aws, "fails", RAISES)
    url = aws.sqs.create_queue(QueueName="failures")["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    aws.functions.put_function_event_invoke_config(
        FunctionName="fails",
        MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": arn["QueueArn"]}},
    )
    function = aws.functions.get_function_configuration(FunctionName="fails")["FunctionArn"]
    put_rule(aws, function, arn["QueueArn"])
    return url


def put_rule(aws: Aws, function: str, queue: str) -> None:
    """Send every event of `test` to a function, and to a queue what cannot be delivered."""
    events = client(aws, "events")
    events.put_rule(Name="all", EventPattern=json.dumps({"source": ["test"]}))
    target = {"Id": "1", "Arn": function, "DeadLetterConfig": {"Arn": queue}}
    events.put_targets(Rule="all", Targets=[target])


def tell(aws: Aws) -> None:
    """Send an event."""
    entry = {"Source": "test", "DetailType": "Happened", "Detail": "{}"}
    client(aws, "events").put_events(Entries=[entry])


def received(aws: Aws, url: str) -> list[Any]:
    """Take what is on a queue."""
    messages = aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(message["Body"]) for message in messages]


def test_an_event_that_fails_is_tried_again_and_kept(start: Callable[..., Aws]) -> None:
    """As often as the function's configuration says; then its destination has the record."""
    aws = start()
    url = failing_target(aws)
    tell(aws)
    (record,) = until(lambda: received(aws, url))
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert record["requestPayload"]["detail-type"] == "Happened"


def test_an_event_without_its_function_is_kept(start: Callable[..., Aws]) -> None:
    """The target's own queue gets the event itself."""
    aws = start()
    url = aws.sqs.create_queue(QueueName="undelivered")["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    put_rule(aws, "arn:aws:lambda:us-east-1:000000000000:function:gone", arn["QueueArn"])
    tell(aws)
    (event,) = until(lambda: received(aws, url))
    assert event["detail-type"] == "Happened"


def test_unpatched_an_event_that_fails_is_forgotten(start: Callable[..., Aws]) -> None:
    """Plain ministack tries it once, and no queue hears of it."""
    aws = start("deliver_events_asynchronously")
    url = failing_target(aws)
    tell(aws)
    time.sleep(1)
    assert received(aws, url) == []


# --- call_sqs_in_its_own_words ------------------------------------------------------------------
def receiving(aws: Aws) -> Any:
    """What a task gets that receives a message."""
    url = aws.sqs.create_queue(QueueName="letters")["QueueUrl"]
    aws.sqs.send_message(QueueUrl=url, MessageBody="hello")
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:sqs:receiveMessage",
        "Arguments": {"QueueUrl": url},
        "End": True,
    }
    return run(aws, create(aws, "receiving", {"Receive": task})).output


def test_a_task_receives_messages(start: Callable[..., Aws]) -> None:
    """Under the names of the API."""
    (message,) = receiving(start())["Messages"]
    assert message["Body"] == "hello"
    assert message["ReceiptHandle"]


def test_unpatched_a_task_receives_something_else(start: Callable[..., Aws]) -> None:
    """Plain ministack answers in the older protocol's names."""
    assert "Messages" not in receiving(start("call_sqs_in_its_own_words"))


# --- name_throttled_invocations -----------------------------------------------------------------
def throttled(aws: Aws) -> Execution:
    """A task that calls a function while another call has the only environment."""
    create_function(aws, "busy", SLEEPS)
    machine = create(aws, "throttled", {"Call": invoking("busy", {})})
    aws.functions.invoke(FunctionName="busy", InvocationType="Event")
    time.sleep(0.3)
    return run(aws, machine)


def test_a_throttled_task_says_so(start: Callable[..., Aws]) -> None:
    """By the error that AWS's documents tell to retry."""
    assert throttled(start(**ONE_AT_A_TIME)).error == "Lambda.TooManyRequestsException"


def test_unpatched_a_throttled_task_is_unknown(start: Callable[..., Aws]) -> None:
    """Plain ministack has no name for it."""
    aws = start("name_throttled_invocations", **ONE_AT_A_TIME)
    assert throttled(aws).error == "Lambda.Unknown"


# --- stop_whole_executions ----------------------------------------------------------------------
def stopped_in_a_map(aws: Aws) -> int:
    """Stop an execution in the midst of a Map; how many of its 20 items were done in the end."""
    url = aws.sqs.create_queue(QueueName="done")["QueueUrl"]
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:sqs:sendMessage",
        "Arguments": {"QueueUrl": url, "MessageBody": "done"},
        "Next": "Wait",
    }
    wait = {"Type": "Wait", "Seconds": 1, "End": True}
    many = {
        "Type": "Map",
        "Items": "{% [1..6] %}",
        "MaxConcurrency": 1,
        "ItemProcessor": {"StartAt": "Send", "States": {"Send": task, "Wait": wait}},
        "End": True,
    }
    execution = executions.start(aws.states, create(aws, "mapping", {"Many": many}), {})

    def sent() -> int:
        about = aws.sqs.get_queue_attributes(
            QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(about["Attributes"]["ApproximateNumberOfMessages"])

    until(lambda: sent() >= 1)
    executions.stop(aws.states, execution.arn)
    time.sleep(3)
    return sent()


def test_a_stopped_execution_stops_within_a_map(start: Callable[..., Aws]) -> None:
    """No further item is begun."""
    assert stopped_in_a_map(start()) <= 2


def test_unpatched_a_map_goes_on(start: Callable[..., Aws]) -> None:
    """Plain ministack says ABORTED, and goes on."""
    assert stopped_in_a_map(start("stop_whole_executions")) > 2


# --- run_distributed_maps_whole, count_the_items_of_batches -------------------------------------
def distributed(aws: Aws) -> Execution:
    """Run a Distributed Map over five of six objects of a bucket, in batches of two."""
    aws.s3.create_bucket(Bucket="objects")
    for number in range(6):
        aws.s3.put_object(Bucket="objects", Key=f"in/{number}", Body=b"x")
    create_function(aws, "echo", ECHO)
    check = {
        "Type": "Choice",
        "Choices": [{"Condition": "{% 'in/4' in $states.input.Items.key %}", "Next": "No"}],
        "Default": "Echo",
    }
    many = {
        "Type": "Map",
        "ItemReader": {
            "Resource": "arn:aws:states:::s3:listObjectsV2",
            "ReaderConfig": {"MaxItems": "{% $states.input.max %}"},
            "Arguments": {"Bucket": "objects", "Prefix": "{% $states.input.prefix %}"},
        },
        "ItemSelector": {"key": "{% $states.context.Map.Item.Value.Key %}"},
        "ItemBatcher": {"MaxItemsPerBatch": 2, "MaxInputBytesPerBatch": 1000},
        "MaxConcurrency": "{% $states.input.concurrency %}",
        "ToleratedFailurePercentage": 50,
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "Check",
            "States": {
                "Check": check,
                "No": {"Type": "Fail", "Error": "Four", "Cause": "is refused"},
                "Echo": invoking("echo", "{% [$states.input.Items.key] %}"),
            },
        },
        "ResultWriter": {
            "Resource": "arn:aws:states:::s3:putObject",
            "Arguments": {"Bucket": "objects", "Prefix": "out"},
        },
        "End": True,
    }
    machine = create(aws, "distributed", {"Many": many})
    return run(aws, machine, max=5, prefix="in/", concurrency=2)


def test_a_distributed_map_batches_caps_and_writes(start: Callable[..., Aws]) -> None:
    """Its items are counted, its results are where its output says."""
    aws = start()
    execution = distributed(aws)
    assert execution.status == "SUCCEEDED", execution.cause
    (about,) = executions.map_runs(aws.states, execution.arn)
    assert execution.output["MapRunArn"] == about["mapRunArn"]
    counts = {name: about["itemCounts"][name] for name in ("total", "succeeded", "failed")}
    assert counts == {"total": 5, "succeeded": 4, "failed": 1}
    where = execution.output["ResultWriterDetails"]

    def fetched(key: str) -> Any:
        return json.loads(aws.s3.get_object(Bucket=where["Bucket"], Key=key)["Body"].read())

    files = fetched(where["Key"])["ResultFiles"]
    (succeeded,), (failed,) = files["SUCCEEDED"], files["FAILED"]
    outputs = [json.loads(each["Output"]) for each in fetched(succeeded["Key"])]
    assert sorted(outputs) == [["in/0", "in/1"], ["in/2", "in/3"]]
    (refused,) = fetched(failed["Key"])
    assert (refused["Error"], json.loads(refused["Input"])) == (
        "Four",
        {"Items": [{"key": "in/4"}]},
    )


def test_unpatched_a_distributed_map_knows_no_jsonata(start: Callable[..., Aws]) -> None:
    """Plain ministack takes the expressions for what they are written as."""
    aws = start("run_distributed_maps_whole", "count_the_items_of_batches")
    assert distributed(aws).status == "FAILED"


def test_unpatched_batches_are_counted(start: Callable[..., Aws]) -> None:
    """Plain ministack counts the children where AWS counts the items."""
    aws = start("count_the_items_of_batches")
    (about,) = executions.map_runs(aws.states, distributed(aws).arn)
    assert about["itemCounts"]["total"] == 3


# --- CloudFormation: accept_alarms_of_metric_math, refuse_to_delete_full_buckets -----------------
ALARM = {
    "Type": "AWS::CloudWatch::Alarm",
    "Properties": {
        "AlarmName": "doubled",
        "ComparisonOperator": "GreaterThanThreshold",
        "EvaluationPeriods": 1,
        "Threshold": 1,
        "Metrics": [
            {"Id": "twice", "Expression": "2 * errors"},
            {
                "Id": "errors",
                "ReturnData": False,
                "MetricStat": {
                    "Metric": {"Namespace": "AWS/Lambda", "MetricName": "Errors"},
                    "Stat": "Sum",
                    "Period": 60,
                },
            },
        ],
    },
}


def stack_status(aws: Aws, name: str, resources: dict[str, Any]) -> str:
    """Create a stack; how that ended."""
    template = json.dumps({"Resources": resources})
    aws.cloudformation.create_stack(StackName=name, TemplateBody=template)
    return settled(aws, name)


def settled(aws: Aws, name: str) -> str:
    """The status of a stack at rest."""

    def look() -> str:
        try:
            stack = aws.cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError:  # deleted
            return "DELETE_COMPLETE"
        status: str = stack["StackStatus"]
        return "" if status.endswith("IN_PROGRESS") else status

    return until(look)


def test_an_alarm_on_an_expression_is_made(start: Callable[..., Aws]) -> None:
    """With its threshold; it is never evaluated here."""
    aws = start()
    assert stack_status(aws, "alarm", {"Alarm": ALARM}) == "CREATE_COMPLETE"
    (made,) = client(aws, "cloudwatch").describe_alarms(AlarmNames=["doubled"])["MetricAlarms"]
    assert made["Threshold"] == 1


def test_unpatched_an_alarm_on_an_expression_is_refused(start: Callable[..., Aws]) -> None:
    """Plain ministack knows alarms on one metric only."""
    aws = start("accept_alarms_of_metric_math")
    assert stack_status(aws, "alarm", {"Alarm": ALARM}) == "ROLLBACK_COMPLETE"


def deleted_with_an_object(aws: Aws) -> str:
    """How the deletion of a stack ends whose bucket holds an object."""
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "full"}}
    assert stack_status(aws, "full", {"Bucket": bucket}) == "CREATE_COMPLETE"
    aws.s3.put_object(Bucket="full", Key="k", Body=b"x")
    aws.cloudformation.delete_stack(StackName="full")
    return settled(aws, "full")


def test_a_bucket_that_holds_an_object_is_not_deleted(start: Callable[..., Aws]) -> None:
    """The deletion fails, and the object is still there."""
    aws = start()
    assert deleted_with_an_object(aws) == "DELETE_FAILED"
    assert aws.s3.get_object(Bucket="full", Key="k")["Body"].read() == b"x"


def test_unpatched_a_bucket_goes_with_its_objects(start: Callable[..., Aws]) -> None:
    """Plain ministack deletes both."""
    assert deleted_with_an_object(start("refuse_to_delete_full_buckets")) == "DELETE_COMPLETE"
