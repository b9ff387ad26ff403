"""Each patch of ministack: with it ministack behaves like AWS, without it it does not.

If a test of the second kind (`test_unpatched_…`) fails, ministack has been fixed, and the patch can
be removed.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from serving import client, create_function, invoke, log_lines, ministack, processes_of, until

from image_pipeline.stack.aws import Aws

pytestmark = pytest.mark.local_stack

RAISES = (
    "def lambda_handler(event, context):\n    print('hello', event)\n    raise KeyError('here')\n"
)
FAILS_TO_START = "print('starting')\nraise ValueError('wrong settings')\n"
DESCRIBES = """
import os, sys

def lambda_handler(event, context):
    return {
        "environment": dict(os.environ),
        "remaining": context.get_remaining_time_in_millis(),
        "request_id": context.aws_request_id,
        "first_path": sys.path[0],
        "event": event,
    }
"""
WRITES = """
def lambda_handler(event, context):
    for number in range(50):
        print("line", context.aws_request_id, number)
"""
SLEEPS = "import time\ndef lambda_handler(event, context):\n    time.sleep(0.3)\n"

LAMBDA_SETS = {
    "_HANDLER",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_FORMAT",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "LANG",
    "PATH",
    "TZ",
}
"""https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html, less what concerns X-Ray
and the parts of a runtime that is not there (LD_LIBRARY_PATH, PYTHONPATH)."""


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Aws]]:
    """Start ministack without the named patches, or return the one that runs without them."""
    running: dict[Any, Aws] = {}
    with ExitStack() as stack:

        def started(*without: str, **variables: str) -> Aws:
            key = (without, *variables.items())
            if key not in running:
                directory = tmp_path_factory.mktemp("ministack")
                context = ministack(directory, *without, **variables)
                running[key], _ = stack.enter_context(context)
            return running[key]

        yield started


@pytest.fixture(scope="module")
def patched(start: Callable[..., Aws]) -> Aws:
    """A ministack with every patch."""
    return start()


def create_with_destination(aws: Aws, name: str, source: str, attempts: int = 2) -> str:
    """Create a function whose failed events end on a queue; the queue's URL."""
    create_function(aws, name, source)
    url = aws.sqs.create_queue(QueueName=f"{name}-failures")["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    aws.functions.put_function_event_invoke_config(
        FunctionName=name,
        MaximumRetryAttempts=attempts,
        DestinationConfig={"OnFailure": {"Destination": arn["QueueArn"]}},
    )
    return url


def send(aws: Aws, name: str, event: object) -> None:
    """Invoke asynchronously."""
    aws.functions.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event))


def received(aws: Aws, url: str) -> list[Any]:
    """Receive up to ten messages of a queue, decoded."""
    messages = aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(message["Body"]) for message in messages]


def attempts_by_request(aws: Aws, name: str) -> Counter[str]:
    """Request id → number of attempts, by the START lines in the function's log."""
    lines = log_lines(aws, f"/aws/lambda/{name}")
    return Counter(line.split()[2] for line in lines if line.startswith("START RequestId:"))


# --- run_python_in_the_lambda_runtime_client ------------------------------------------------------
RUNTIME = "run_python_in_the_lambda_runtime_client"


def test_an_error_keeps_its_type(patched: Aws) -> None:
    """The answer has the type, message and stack of a raised error, and the log has it too."""
    create_function(patched, "raises", RAISES)
    error = invoke(patched, "raises", {"a": 1})
    assert error["errorType"] == "KeyError"
    assert error["errorMessage"] == "'here'"
    assert "lambda_handler" in error["stackTrace"][0]
    lines = log_lines(patched, "/aws/lambda/raises")
    assert "hello {'a': 1}" in lines
    assert any("[ERROR] KeyError: 'here'" in line for line in lines)


def test_unpatched_an_error_loses_its_type(start: Callable[..., Aws]) -> None:
    """Plain ministack calls every error Runtime.HandlerError."""
    aws = start(RUNTIME)
    create_function(aws, "raises", RAISES)
    assert invoke(aws, "raises")["errorType"] == "Runtime.HandlerError"


def test_a_failed_init_says_why(patched: Aws) -> None:
    """Every invocation is answered with the error of the import, which is also in the log."""
    create_function(patched, "fails-to-start", FAILS_TO_START)
    for _ in range(2):
        error = invoke(patched, "fails-to-start")
        assert (error["errorType"], error["errorMessage"]) == ("ValueError", "wrong settings")
    assert "starting" in log_lines(patched, "/aws/lambda/fails-to-start")


def test_the_context_describes_the_invocation(patched: Aws) -> None:
    """The context has the request id and the time left; the function's folder is on its path."""
    create_function(patched, "describes", DESCRIBES, Timeout=7)
    seen = invoke(patched, "describes", {"x": 1})
    assert seen["event"] == {"x": 1}
    assert 5000 < seen["remaining"] <= 7000
    assert seen["first_path"] == seen["environment"]["LAMBDA_TASK_ROOT"]
    assert attempts_by_request(patched, "describes") == {seen["request_id"]: 1}


def test_log_lines_stay_with_their_invocation(patched: Aws) -> None:
    """Under load too, all lines of an invocation are between its START and its END."""
    create_function(patched, "writes", WRITES)
    for number in range(40):
        send(patched, "writes", number)
    blocks: list[list[str]] = []

    def ended() -> bool:
        blocks.clear()
        for line in log_lines(patched, "/aws/lambda/writes"):
            match line.split():
                case ["START", _, request_id, *_]:
                    blocks.append([request_id])
                case ["line", *_]:
                    blocks[-1].append(line)
        return len(blocks) == 40

    until(ended)
    for request_id, *lines in blocks:
        assert lines == [f"line {request_id} {number}" for number in range(50)]


# --- make_metrics_of_log_lines --------------------------------------------------------------------
MEASURES = """
import json

def lambda_handler(event, context):
    metric = {"Name": "seen", "Unit": "Count"}
    about = {"Namespace": "test", "Dimensions": [["FunctionName"]], "Metrics": [metric]}
    print("not JSON")
    print(json.dumps({"_aws": {"CloudWatchMetrics": [about]}, "FunctionName": "f", "seen": [2, 3]}))
"""


def measured(aws: Aws) -> list[float]:
    """The sums of the metric that a function writes to its log in embedded metric format."""
    create_function(aws, "measures", MEASURES)
    began = datetime.now(UTC) - timedelta(minutes=1)
    invoke(aws, "measures")
    answer = aws.cloudwatch.get_metric_statistics(
        Namespace="test",
        MetricName="seen",
        Dimensions=[{"Name": "FunctionName", "Value": "f"}],
        StartTime=began,
        EndTime=began + timedelta(minutes=5),
        Period=300,
        Statistics=["Sum"],
    )
    return [each["Sum"] for each in answer["Datapoints"]]


def test_a_log_line_becomes_a_metric(patched: Aws) -> None:
    """Each value counts, under the namespace and dimensions that the line names."""
    assert sum(measured(patched)) == 5


def test_unpatched_a_log_line_is_no_metric(start: Callable[..., Aws]) -> None:
    """Plain ministack keeps it as a line only."""
    assert measured(start("make_metrics_of_log_lines")) == []


# --- let_a_period_be_the_whole_range --------------------------------------------------------------
def medians_of_an_hour(aws: Aws) -> list[float]:
    """The median of three values around a full hour, asked for as one period of an hour."""
    dimension = {"Name": "FunctionName", "Value": "f"}
    metric = {"MetricName": "ms", "Dimensions": [dimension]}
    full_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    for minutes, value in ((-20, 1.0), (-10, 2.0), (10, 9.0)):
        at = full_hour + timedelta(minutes=minutes)
        aws.cloudwatch.put_metric_data(
            Namespace="test", MetricData=[metric | {"Timestamp": at, "Value": value}]
        )
    statistic = {"Metric": {"Namespace": "test"} | metric, "Period": 3600, "Stat": "p50"}
    answer = aws.cloudwatch.get_metric_data(
        MetricDataQueries=[{"Id": "median", "MetricStat": statistic}],
        StartTime=full_hour - timedelta(minutes=30),
        EndTime=full_hour + timedelta(minutes=30),
    )
    (found,) = answer["MetricDataResults"]
    assert found["Timestamps"][0] <= full_hour - timedelta(minutes=30)
    return list(found["Values"])


def test_a_period_as_long_as_the_range_has_one_value(patched: Aws) -> None:
    """A median over an hour that begins at half past is that of all its values."""
    assert medians_of_an_hour(patched) == [2.0]


def test_unpatched_such_a_period_is_cut_at_the_full_hour(start: Callable[..., Aws]) -> None:
    """Plain ministack answers with one median before the full hour, and one after it."""
    assert medians_of_an_hour(start("let_a_period_be_the_whole_range")) == [1.5, 9.0]


# --- give_functions_the_environment_of_lambda -----------------------------------------------------
def test_a_function_has_the_environment_of_lambda(patched: Aws) -> None:
    """All variables of Lambda and of the function, and none of ministack's environment."""
    create_function(
        patched,
        "environment",
        DESCRIBES,
        Environment={"Variables": {"OUTPUT_BUCKET": "there"}},
        LoggingConfig={"LogFormat": "JSON"},
    )
    environment = invoke(patched, "environment")["environment"]
    local = {"AWS_ENDPOINT_URL", "PYTHONDONTWRITEBYTECODE"}
    of_the_shell = {"PWD", "LC_CTYPE", "OLDPWD", "SHLVL", "_"}
    assert environment.keys() - of_the_shell == LAMBDA_SETS | local | {"OUTPUT_BUCKET"}
    assert environment["OUTPUT_BUCKET"] == "there"
    assert environment["AWS_LAMBDA_LOG_FORMAT"] == "JSON"
    assert environment["AWS_LAMBDA_LOG_GROUP_NAME"] == "/aws/lambda/environment"
    assert environment["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"


def test_unpatched_a_function_has_ministacks_environment(start: Callable[..., Aws]) -> None:
    """Plain ministack passes on its own variables, and leaves out some of Lambda's."""
    aws = start("give_functions_the_environment_of_lambda")
    create_function(aws, "environment", DESCRIBES)
    environment = invoke(aws, "environment")["environment"]
    assert "GATEWAY_PORT" in environment
    assert "AWS_LAMBDA_LOG_GROUP_NAME" not in environment


# --- keep_the_request_id_through_retries ----------------------------------------------------------
def test_retries_keep_the_request_id(patched: Aws) -> None:
    """A failing event is tried three times under one request id."""
    url = create_with_destination(patched, "retried", RAISES)
    send(patched, "retried", {})
    until(lambda: received(patched, url))
    assert list(attempts_by_request(patched, "retried").values()) == [3]


def test_unpatched_retries_change_the_request_id(start: Callable[..., Aws]) -> None:
    """Plain ministack gives each attempt an id of its own."""
    aws = start("keep_the_request_id_through_retries")
    url = create_with_destination(aws, "retried", RAISES)
    send(aws, "retried", {})
    until(lambda: received(aws, url))
    assert list(attempts_by_request(aws, "retried").values()) == [1, 1, 1]


# --- let_throttled_events_wait --------------------------------------------------------------------
ONE_AT_A_TIME = {"LAMBDA_ACCOUNT_CONCURRENCY": "1"}


def test_throttled_events_wait(start: Callable[..., Aws]) -> None:
    """Events that exceed the concurrency run later, and none of them fails."""
    aws = start(**ONE_AT_A_TIME)
    url = create_with_destination(aws, "sleeps", SLEEPS, attempts=0)
    for number in range(4):
        send(aws, "sleeps", number)
    until(lambda: len(attempts_by_request(aws, "sleeps")) == 4)
    assert received(aws, url) == []


def test_unpatched_throttled_events_fail(start: Callable[..., Aws]) -> None:
    """Plain ministack counts a throttled attempt as a failed one."""
    aws = start("let_throttled_events_wait", **ONE_AT_A_TIME)
    url = create_with_destination(aws, "sleeps", SLEEPS, attempts=0)
    for number in range(4):
        send(aws, "sleeps", number)
    assert until(lambda: received(aws, url))


# --- send_complete_on_failure_records -------------------------------------------------------------
def test_an_on_failure_record_is_complete(patched: Aws) -> None:
    """The record has every field that AWS documents, and the number of attempts."""
    url = create_with_destination(patched, "fails", RAISES, attempts=1)
    send(patched, "fails", {"the": "event"})
    record = until(lambda: received(patched, url))[0]
    request_id, *others = attempts_by_request(patched, "fails")
    assert not others
    assert record.pop("timestamp").endswith("Z")
    assert record.pop("responsePayload")["errorType"] == "KeyError"
    assert record == {
        "version": "1.0",
        "requestContext": {
            "requestId": request_id,
            "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:fails:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 2,
        },
        "requestPayload": {"the": "event"},
        "responseContext": {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": "Unhandled",
        },
    }


def test_unpatched_an_on_failure_record_lacks_fields(start: Callable[..., Aws]) -> None:
    """Plain ministack leaves out fields, and always reports three attempts."""
    aws = start("send_complete_on_failure_records")
    url = create_with_destination(aws, "fails", RAISES, attempts=1)
    send(aws, "fails", {})
    record = until(lambda: received(aws, url))[0]
    assert "version" not in record
    assert "requestId" not in record["requestContext"]
    assert record["requestContext"]["approximateInvokeCount"] == 3


def alias_with_destination(aws: Aws, name: str) -> str:
    """Create a failing function, only whose alias `live` has a destination; the queue's URL."""
    create_function(aws, name, RAISES)
    version = aws.functions.publish_version(FunctionName=name)["Version"]
    aws.functions.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    url = aws.sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    aws.functions.put_function_event_invoke_config(
        FunctionName=name,
        Qualifier="live",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": arn["QueueArn"]}},
    )
    return url


def test_an_alias_has_its_own_retries_and_destination(patched: Aws) -> None:
    """The alias decides how often an event is retried, and its record names the alias."""
    url = alias_with_destination(patched, "aliased")
    send(patched, "aliased:live", {"the": "event"})
    (record,) = until(lambda: received(patched, url))
    assert record["requestContext"]["functionArn"].endswith(":function:aliased:live")
    assert record["requestContext"]["approximateInvokeCount"] == 1
    assert record["responseContext"]["executedVersion"] == "1"


def test_unpatched_the_destination_of_an_alias_gets_nothing(start: Callable[..., Aws]) -> None:
    """Plain ministack tries three times, and then drops the event."""
    aws = start("use_the_event_settings_of_aliases")
    url = alias_with_destination(aws, "aliased")
    send(aws, "aliased:live", {"the": "event"})
    until(lambda: sum("START" in line for line in log_lines(aws, "/aws/lambda/aliased")) == 3)
    assert received(aws, url) == []


# --- policies -------------------------------------------------------------------------------------
def user_of_s3(aws: Aws, name: str, resource: str) -> Any:
    """A client of S3 for the user `name`, who has all permissions on `resource`."""
    iam = client(aws, "iam")
    iam.create_user(UserName=name)
    anything = {"Effect": "Allow", "Action": "s3:*", "Resource": resource}
    iam.put_user_policy(
        UserName=name,
        PolicyName="s3",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [anything]}),
    )
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return client(aws, "s3", key["AccessKeyId"], key["SecretAccessKey"])


def put_a_name_with_a_newline(aws: Aws) -> None:
    """Write it as a user who has all permissions below a prefix."""
    aws.s3.create_bucket(Bucket="names")
    writer = user_of_s3(aws, "namer", "arn:aws:s3:::names/uploads/*")
    writer.put_object(Bucket="names", Key="uploads/a\nb", Body=b"")


def test_a_wildcard_of_a_policy_matches_a_newline(start: Callable[..., Aws]) -> None:
    """A key may contain any characters, and a policy for all keys covers them."""
    put_a_name_with_a_newline(start(AUTH="true"))


def test_unpatched_a_newline_is_denied(start: Callable[..., Aws]) -> None:
    """Plain ministack's wildcards stop at a newline."""
    with pytest.raises(ClientError, match="AccessDenied"):
        put_a_name_with_a_newline(start("let_wildcards_match_newlines", AUTH="true"))


def put_where_tls_is_required(aws: Aws) -> None:
    """Write to a bucket that requires TLS, as a user with all permissions for S3."""
    writer = user_of_s3(aws, "writer", "*")
    aws.s3.create_bucket(Bucket="tls-only")
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::tls-only/*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    aws.s3.put_bucket_policy(Bucket="tls-only", Policy=json.dumps(policy))
    writer.put_object(Bucket="tls-only", Key="k", Body=b"")


def test_loopback_counts_as_tls(start: Callable[..., Aws]) -> None:
    """A policy that requires TLS accepts requests over loopback."""
    put_where_tls_is_required(start(AUTH="true"))


def test_unpatched_a_policy_that_requires_tls_refuses_loopback(start: Callable[..., Aws]) -> None:
    """Plain ministack serves no TLS, so such a policy refuses everything."""
    with pytest.raises(ClientError, match="AccessDenied"):
        put_where_tls_is_required(start("treat_loopback_as_tls", AUTH="true"))


# --- behaviour that needs no patch, but is relied on ----------------------------------------------
@pytest.mark.parametrize("condition", ["IfNoneMatch", "IfMatch"])
def test_conditional_writes_are_atomic(patched: Aws, condition: str) -> None:
    """Of sixteen simultaneous writes with the same condition, exactly one succeeds."""
    bucket, key = f"atomic-{condition.lower()}", "contended"
    patched.s3.create_bucket(Bucket=bucket)
    value = "*"
    if condition == "IfMatch":
        value = patched.s3.put_object(Bucket=bucket, Key=key, Body=b"first")["ETag"]
    barrier = threading.Barrier(16)

    def write(number: int) -> int:
        barrier.wait()
        try:
            answer = patched.s3.put_object(
                Bucket=bucket, Key=key, Body=f"{number}".encode(), **{condition: value}
            )
        except ClientError as error:
            return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
        return answer["ResponseMetadata"]["HTTPStatusCode"]

    with ThreadPoolExecutor(16) as pool:
        assert Counter(pool.map(write, range(16))) == {200: 1, 412: 15}


def test_nothing_outlives_ministack(tmp_path: Path) -> None:
    """If only ministack is killed, the processes of its functions end by themselves."""
    with ministack(tmp_path) as (aws, process):
        create_function(aws, "orphan", DESCRIBES)
        invoke(aws, "orphan")
        assert len(processes_of(tmp_path)) == 2
        process.kill()
        until(lambda: not processes_of(tmp_path), 5)
