"""Alarms and dashboard: on metrics that exist, quiet when idle, and saying what to do."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from template import Deployed

from image_pipeline.stack import costs

ROOT = Path(__file__).parent.parent
OWN = set(
    re.findall(
        r'add_metric\("(\w+)"', (ROOT / "lambda" / "thumbnailer" / "telemetry.py").read_text()
    )
)
AWS = {
    "AWS/Lambda": {
        "AsyncEventAge",
        "AsyncEventsDropped",
        "ConcurrentExecutions",
        "DestinationDeliveryFailures",
        "Duration",
        "Errors",
        "Invocations",
        "Throttles",
    },
    "AWS/SQS": {"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"},
    "AWS/States": {"ExecutionsFailed"},
}
"""https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html,
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html,
https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html"""
DIMENSIONS = {
    "ImagePipeline": ["FunctionName"],
    "AWS/Lambda": ["FunctionName"],
    "AWS/SQS": ["QueueName"],
    "AWS/States": ["StateMachineArn"],
}


def exists(namespace: str, metric: str) -> bool:
    """Whether the code or AWS emits a metric."""
    return metric in (OWN if namespace == "ImagePipeline" else AWS[namespace])


def alarms(**given: object) -> dict[str, dict[str, Any]]:
    return Deployed(**given).of_type("AWS::CloudWatch::Alarm")


ALARMS = alarms(ExistingInputBucket="true")


def test_the_command_reckons_with_every_metric_and_alarm() -> None:
    """What CloudWatch is paid for each month is what there is."""
    assert len(alarms()) == costs.ALARMS
    assert len(OWN) == costs.METRICS


def test_every_case_has_its_alarm() -> None:
    """Letters, their age, events that wait, errors, throttles, slowness, losses, failed runs."""
    watched = {each.get("MetricName", "p95 of the duration") for each in ALARMS.values()}
    assert watched == {
        "ApproximateNumberOfMessagesVisible",
        "ApproximateAgeOfOldestMessage",
        "AsyncEventAge",
        "Errors",
        "Throttles",
        "p95 of the duration",
        "AsyncEventsDropped",
        "DestinationDeliveryFailures",
        "ExecutionsFailed",
    }
    machines = {
        dimension["Value"]
        for each in ALARMS.values()
        for dimension in each.get("Dimensions", [])
        if dimension["Name"] == "StateMachineArn"
    }
    assert machines == {"ReplayStateMachine", "BackfillStateMachine"}
    assert "UndeliveredWaiting" in ALARMS
    assert "UndeliveredWaiting" not in alarms()


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_watches_what_there_is_and_tells_the_topic(name: str) -> None:
    """Its metrics exist under these dimensions; idle it is quiet, and it tells when it is over."""
    alarm = ALARMS[name]
    metrics = [alarm] if "MetricName" in alarm else []
    metrics += [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", [])[1:]]
    assert metrics
    for each in metrics:
        assert exists(each["Namespace"], each["MetricName"])
        named = [dimension["Name"] for dimension in each["Dimensions"]]
        assert named[:1] == DIMENSIONS[each["Namespace"]]
    assert alarm["TreatMissingData"] == "notBreaching"
    assert alarm["ComparisonOperator"] == "GreaterThanThreshold"
    assert alarm["AlarmActions"] == alarm["OKActions"] == ["AlarmTopic"]


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_says_what_to_do(name: str) -> None:
    """Its description names a section of the runbook, which is there, under the alarm's name."""
    description = ALARMS[name]["AlarmDescription"]
    match = re.search(r"Runbook: docs/operations\.md#([a-z-]+)$", description)
    assert match
    anchor = match[1]
    assert ALARMS[name]["AlarmName"] == f"my-image-pipeline-{anchor}"
    runbook = (ROOT / "docs" / "operations.md").read_text()
    headings = [
        line.strip("# ").lower().replace(" ", "-")
        for line in runbook.splitlines()
        if line.startswith("#")
    ]
    assert anchor in headings


@pytest.mark.parametrize("timeout", [10, 900])
def test_slow_is_four_fifths_of_the_time_out(timeout: int) -> None:
    """The expression gives 80 for a p95 of 80 % of the time-out, in ms."""
    alarm = alarms(LambdaTimeout=timeout)["FunctionSlow"]
    expression = alarm["Metrics"][0]["Expression"]
    share = eval(expression, {"p95": 0.8 * timeout * 1000})  # noqa: S307 - arithmetic of our own
    assert share == pytest.approx(alarm["Threshold"])


def test_alarms_may_publish() -> None:
    """Those of this stack, by the topic's policy, and with a key of one's own by the key's too."""
    deployed = Deployed(CreateKmsKey="true", AlarmEmail="a@b.example")
    allow, deny = deployed.properties("AlarmTopicPolicy")["PolicyDocument"]["Statement"]
    assert allow["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert allow["Action"] == "sns:Publish"
    assert allow["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {
            "aws:SourceArn": "arn:aws:cloudwatch:us-east-1:123456789012:alarm:my-image-pipeline-*"
        },
    }
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert deployed.properties("AlarmTopic")["KmsMasterKeyId"] == "Key.Arn"
    granted = {each["Sid"]: each for each in deployed.properties("Key")["KeyPolicy"]["Statement"]}[
        "Alarms"
    ]
    assert granted["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert granted["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert deployed.properties("AlarmSubscription")["Endpoint"] == "a@b.example"
    # The AWS-managed key of SNS refuses alarms.
    assert "KmsMasterKeyId" not in Deployed().properties("AlarmTopic")
    assert Deployed().of_type("AWS::SNS::Subscription") == {}


def widgets(**given: object) -> list[dict[str, Any]]:
    """The dashboard's widgets, their metrics written out in full."""
    body = json.loads(Deployed(**given).properties("Dashboard")["DashboardBody"])
    found: list[dict[str, Any]] = body["widgets"]
    for widget in found:
        before: list[str] = []
        for row in widget["properties"].get("metrics", []):
            if isinstance(row[0], dict):
                continue
            names = [each for each in row if isinstance(each, str)]
            if names == ["..."]:
                names = before
            names = [before[i] if each == "." else each for i, each in enumerate(names)]
            before = names
            row[: len([each for each in row if isinstance(each, str)])] = names
    return found


def test_the_dashboard_names_metrics_that_exist() -> None:
    """Every one is emitted by the code or by AWS, for this function or queue."""
    seen = 0
    for widget in widgets():
        for row in widget["properties"].get("metrics", []):
            if isinstance(row[0], dict):
                continue
            namespace, metric, dimension, value, *_ = row
            assert exists(namespace, metric), row
            assert [dimension] == DIMENSIONS[namespace]
            assert value in ("ThumbnailFunction", "DeadLetterQueue.QueueName")
            seen += 1
    assert seen > 15


def test_the_dashboard_s_failures_are_those_of_the_log() -> None:
    """The query reads the stack's own log group, by fields that the function writes."""
    (log,) = (each for each in widgets() if each["type"] == "log")
    assert log["properties"]["query"].startswith("SOURCE 'FunctionLogs' |")
    assert "filter action = 'failed'" in log["properties"]["query"]
    assert "by error.type" in log["properties"]["query"]


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_the_dashboard_s_dollars_are_those_of_the_command(architecture: str) -> None:
    """For the same images both reckon the same, letters apart."""
    (cost,) = (
        each
        for each in widgets(LambdaArchitecture=architecture)
        if "dollars" in each["properties"]["title"]
    )
    expression = cost["properties"]["metrics"][0][0]["expression"]
    measured = {"milliseconds": 1000 * 200, "calls": 1000, "writes": 2000, "images": 1000}
    rates = costs.Rates(512, architecture, writes=2, duration_ms=200)
    reckoned = costs.of_images(rates, 10_000)
    del reckoned["SQS"]
    dollars = eval(expression, measured)  # noqa: S307 - arithmetic of our own
    assert dollars == pytest.approx(sum(reckoned.values()))


def test_widgets_do_not_overlap() -> None:
    """Each cell of the grid of 24 columns belongs to one widget."""
    cells = [
        (x, y)
        for each in widgets()
        for x in range(each["x"], each["x"] + each["width"])
        for y in range(each["y"], each["y"] + each["height"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
