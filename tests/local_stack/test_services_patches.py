"""The patches of ministack for services other than Lambda; see test_ministack_patches.py."""

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
    """Start ministack without the named patches, or return the one that runs without them."""
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
    """Create a state machine that starts with the first of its states; its ARN."""
    roles = client(aws, "iam")
    trust = {"Version": "2012-10-17", "Statement": []}
    role = roles.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    definition = {"QueryLanguage": "JSONata", "StartAt": next(iter(states)), "States": states}
    arn: str = aws.states.create_state_machine(
        name=name, definition=json.dumps(definition), roleArn=role["Arn"]
    )["stateMachineArn"]
    return arn


def ended(aws: Aws, execution: Execution) -> Execution:
    """Wait for the end of an execution, and describe it."""
    found: list[Execution] = []

    def has_ended() -> bool:
        found.append(executions.describe(aws.states, execution.arn))
        return not found[-1].running

    until(has_ended)
    return found[-1]


def run(aws: Aws, machine: str, **given: Any) -> Execution:
    """Run a state machine to its end."""
    return ended(aws, executions.start(aws.states, machine, given))


def invoking(function: str, payload: Any, **more: Any) -> dict[str, Any]:
    """A task that invokes a function."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": function, "Payload": payload},
        "Output": "{% $states.result.Payload %}",
        "End": True,
        **more,
    }


# --- deliver_events_asynchronously ----------------------------------------------------------------
def failing_target(aws: Aws) -> str:
    """Create a rule whose target always fails and has a destination; the queue's URL."""
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
    """Send every event of the source `test` to a function, or to a queue if that is not there."""
    events = client(aws, "events")
    events.put_rule(Name="all", EventPattern=json.dumps({"source": ["test"]}))
    target = {"Id": "1", "Arn": function, "DeadLetterConfig": {"Arn": queue}}
    events.put_targets(Rule="all", Targets=[target])


def send(aws: Aws) -> None:
    """Send an event."""
    entry = {"Source": "test", "DetailType": "Happened", "Detail": "{}"}
    client(aws, "events").put_events(Entries=[entry])


def received(aws: Aws, url: str) -> list[Any]:
    """Receive up to ten messages of a queue, decoded."""
    messages = aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(message["Body"]) for message in messages]


def test_a_failed_event_is_retried_and_kept(start: Callable[..., Aws]) -> None:
    """The function's configuration decides how often; then its destination has the record."""
    aws = start()
    url = failing_target(aws)
    send(aws)
    (record,) = until(lambda: received(aws, url))
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert record["requestPayload"]["detail-type"] == "Happened"


def test_an_event_without_its_function_is_kept(start: Callable[..., Aws]) -> None:
    """The queue of the target receives the event itself."""
    aws = start()
    url = aws.sqs.create_queue(QueueName="undelivered")["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    put_rule(aws, "arn:aws:lambda:us-east-1:000000000000:function:gone", arn["QueueArn"])
    send(aws)
    (event,) = until(lambda: received(aws, url))
    assert event["detail-type"] == "Happened"


def test_unpatched_a_failed_event_is_dropped(start: Callable[..., Aws]) -> None:
    """Plain ministack tries it once, and no queue receives it."""
    aws = start("deliver_events_asynchronously")
    url = failing_target(aws)
    send(aws)
    time.sleep(1)
    assert received(aws, url) == []


# --- use_the_json_protocol_of_sqs -----------------------------------------------------------------
def receiving(aws: Aws) -> Any:
    """The output of a task that receives a message."""
    url = aws.sqs.create_queue(QueueName="messages")["QueueUrl"]
    aws.sqs.send_message(QueueUrl=url, MessageBody="hello")
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:sqs:receiveMessage",
        "Arguments": {"QueueUrl": url},
        "End": True,
    }
    return run(aws, create(aws, "receiving", {"Receive": task})).output


def test_a_task_receives_messages(start: Callable[..., Aws]) -> None:
    """The fields have the names of SQS's API."""
    (message,) = receiving(start())["Messages"]
    assert message["Body"] == "hello"
    assert message["ReceiptHandle"]


def test_unpatched_a_task_receives_something_else(start: Callable[..., Aws]) -> None:
    """Plain ministack uses the names of the older XML protocol."""
    assert "Messages" not in receiving(start("use_the_json_protocol_of_sqs"))


# --- name_throttled_invocations -------------------------------------------------------------------
def throttled(aws: Aws) -> Execution:
    """Run a task that invokes a function while another invocation has the only environment."""
    create_function(aws, "busy", SLEEPS)
    machine = create(aws, "throttled", {"Call": invoking("busy", {})})
    aws.functions.invoke(FunctionName="busy", InvocationType="Event")
    time.sleep(0.3)
    return run(aws, machine)


def test_a_throttled_task_can_be_retried(start: Callable[..., Aws]) -> None:
    """It fails with the error that AWS's documentation names for Retry."""
    assert throttled(start(**ONE_AT_A_TIME)).error == "Lambda.TooManyRequestsException"


def test_unpatched_a_throttled_task_has_an_unknown_error(start: Callable[..., Aws]) -> None:
    """Plain ministack has no error name for it."""
    aws = start("name_throttled_invocations", **ONE_AT_A_TIME)
    assert throttled(aws).error == "Lambda.Unknown"


# --- stop_executions_within_maps ------------------------------------------------------------------
def stopped_in_a_map(aws: Aws) -> int:
    """Stop an execution within a Map; how many of its six items were processed in the end."""
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
        answer = aws.sqs.get_queue_attributes(
            QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    until(lambda: sent() >= 1)
    executions.stop(aws.states, execution.arn)
    time.sleep(3)
    return sent()


def test_a_stopped_execution_stops_within_a_map(start: Callable[..., Aws]) -> None:
    """No further item is started."""
    assert stopped_in_a_map(start()) <= 2


def test_unpatched_a_map_runs_to_its_end(start: Callable[..., Aws]) -> None:
    """Plain ministack reports ABORTED, and continues."""
    assert stopped_in_a_map(start("stop_executions_within_maps")) > 2


# --- run_distributed_maps_in_jsonata, count_the_items_of_batches ----------------------------------
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
        "ItemBatcher": {
            "MaxItemsPerBatch": 2,
            "MaxInputBytesPerBatch": 1000,
            "BatchInput": {"max": "{% $states.input.max %}"},
        },
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


def test_a_distributed_map_batches_its_items_and_writes_results(start: Callable[..., Aws]) -> None:
    """Its items are limited and counted; its output names the files of results."""
    aws = start()
    execution = distributed(aws)
    assert execution.status == "SUCCEEDED", execution.cause
    (map_run,) = executions.map_runs(aws.states, execution.arn)
    assert execution.output["MapRunArn"] == map_run["mapRunArn"]
    counts = {name: map_run["itemCounts"][name] for name in ("total", "succeeded", "failed")}
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
        {"Items": [{"key": "in/4"}], "BatchInput": {"max": 5}},
    )


def failing_map(aws: Aws, name: str, **tolerated: int) -> dict[str, int]:
    """Run a Distributed Map over ten objects in batches of two, which all fail; its counts."""
    aws.s3.create_bucket(Bucket=name)
    for number in range(10):
        aws.s3.put_object(Bucket=name, Key=f"in/{number}", Body=b"x")
    many = {
        "Type": "Map",
        "ItemReader": {
            "Resource": "arn:aws:states:::s3:listObjectsV2",
            "Arguments": {"Bucket": name, "Prefix": "in/"},
        },
        "ItemBatcher": {"MaxItemsPerBatch": 2, "MaxInputBytesPerBatch": 1000},
        "MaxConcurrency": 1,
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "No",
            "States": {"No": {"Type": "Fail", "Error": "No", "Cause": "is refused"}},
        },
        "End": True,
        **tolerated,
    }
    execution = run(aws, create(aws, name, {"Many": many}))
    assert execution.error == "States.ExceedToleratedFailureThreshold"
    (map_run,) = executions.map_runs(aws.states, execution.arn)
    counts: dict[str, int] = map_run["itemCounts"]
    return counts


@pytest.mark.parametrize(
    ("tolerated", "failed"),
    [
        ({"ToleratedFailureCount": 3}, 4),
        ({"ToleratedFailurePercentage": 50}, 6),
        ({"ToleratedFailureCount": 3, "ToleratedFailurePercentage": 50}, 4),
        ({"ToleratedFailureCount": 9, "ToleratedFailurePercentage": 10}, 2),
        ({}, 2),
    ],
)
def test_a_distributed_map_ends_when_too_many_items_failed(
    start: Callable[..., Aws], tolerated: dict[str, int], failed: int
) -> None:
    """By number or percentage, whichever is exceeded first. Items are counted, not batches."""
    name = f"failing-{'-'.join(map(str, tolerated.values()))}-x"
    assert failing_map(start(), name, **tolerated)["failed"] == failed


def test_unpatched_a_distributed_map_evaluates_no_jsonata(start: Callable[..., Aws]) -> None:
    """Plain ministack takes the expressions literally."""
    aws = start("run_distributed_maps_in_jsonata", "count_the_items_of_batches")
    assert distributed(aws).status == "FAILED"


def test_unpatched_batches_are_counted(start: Callable[..., Aws]) -> None:
    """Plain ministack counts batches where AWS counts items."""
    aws = start("count_the_items_of_batches")
    (map_run,) = executions.map_runs(aws.states, distributed(aws).arn)
    assert map_run["itemCounts"]["total"] == 3


# --- CloudFormation -------------------------------------------------------------------------------
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
    """Create a stack; its status after that."""
    template = json.dumps({"Resources": resources})
    aws.cloudformation.create_stack(StackName=name, TemplateBody=template)
    return settled(aws, name)


def settled(aws: Aws, name: str) -> str:
    """Wait until a stack is no longer changing; its status."""

    def status() -> str:
        try:
            stack = aws.cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError:  # deleted
            return "DELETE_COMPLETE"
        found: str = stack["StackStatus"]
        return "" if found.endswith("IN_PROGRESS") else found

    return until(status)


def test_an_alarm_on_an_expression_is_created(start: Callable[..., Aws]) -> None:
    """It has its threshold, and is never evaluated."""
    aws = start()
    assert stack_status(aws, "alarm", {"Alarm": ALARM}) == "CREATE_COMPLETE"
    (alarm,) = client(aws, "cloudwatch").describe_alarms(AlarmNames=["doubled"])["MetricAlarms"]
    assert alarm["Threshold"] == 1


def test_unpatched_an_alarm_on_an_expression_is_refused(start: Callable[..., Aws]) -> None:
    """Plain ministack has alarms on a single metric only."""
    aws = start("accept_alarms_of_metric_math")
    assert stack_status(aws, "alarm", {"Alarm": ALARM}) == "ROLLBACK_COMPLETE"


def deleted_with_an_object(aws: Aws) -> str:
    """Delete a stack whose bucket contains an object; its status after that."""
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "full"}}
    assert stack_status(aws, "full", {"Bucket": bucket}) == "CREATE_COMPLETE"
    aws.s3.put_object(Bucket="full", Key="k", Body=b"x")
    aws.cloudformation.delete_stack(StackName="full")
    return settled(aws, "full")


def test_a_bucket_with_an_object_is_not_deleted(start: Callable[..., Aws]) -> None:
    """The deletion fails, and the object is still there."""
    aws = start()
    assert deleted_with_an_object(aws) == "DELETE_FAILED"
    assert aws.s3.get_object(Bucket="full", Key="k")["Body"].read() == b"x"


def test_unpatched_a_bucket_is_deleted_with_its_objects(start: Callable[..., Aws]) -> None:
    """Plain ministack deletes both."""
    assert deleted_with_an_object(start("refuse_to_delete_full_buckets")) == "DELETE_COMPLETE"


SERVERLESS = {
    "AWSTemplateFormatVersion": "2010-09-09",
    "Transform": "AWS::Serverless-2016-10-31",
    "Parameters": {"Retries": {"Type": "Number", "Default": 2}},
    "Resources": {
        "Function": {
            "Type": "AWS::Serverless::Function",
            "Properties": {
                "FunctionName": "with-parameters",
                "Runtime": "python3.13",
                "Handler": "index.handler",
                "InlineCode": ECHO,
                "ReservedConcurrentExecutions": {"Ref": "Retries"},
                "EventInvokeConfig": {"MaximumRetryAttempts": {"Ref": "Retries"}},
            },
        }
    },
}


def retries(aws: Aws) -> tuple[int, int | None]:
    """Deploy SERVERLESS with 1 and then with 0; retries and reserved concurrency after that."""
    for number, deploy in (
        (1, aws.cloudformation.create_stack),
        (0, aws.cloudformation.update_stack),
    ):
        deploy(
            StackName="serverless",
            TemplateBody=json.dumps(SERVERLESS),
            Parameters=[{"ParameterKey": "Retries", "ParameterValue": str(number)}],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        assert settled(aws, "serverless").endswith("E_COMPLETE")
    functions = aws.functions
    config = functions.get_function_event_invoke_config(
        FunctionName="with-parameters", Qualifier="$LATEST"
    )
    reserved = functions.get_function_concurrency(FunctionName="with-parameters")
    return config["MaximumRetryAttempts"], reserved.get("ReservedConcurrentExecutions")


def test_sam_and_lambda_get_the_values_of_parameters(start: Callable[..., Aws]) -> None:
    """In what SAM resolves itself, and in the function's reserved concurrency."""
    assert retries(start()) == (0, 0)


def test_unpatched_sam_gets_the_defaults(start: Callable[..., Aws]) -> None:
    """Plain ministack gives SAM's transform no parameters."""
    assert retries(start("give_sam_the_parameters")) == (2, 0)


def test_unpatched_no_concurrency_is_reserved(start: Callable[..., Aws]) -> None:
    """Plain ministack ignores the property."""
    assert retries(start("reserve_concurrency")) == (0, None)
