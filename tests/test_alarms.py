"""Alarms and dashboard: existing metrics, no alarm on an idle stack, and clear instructions."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pytest
import runbook
import template
from template import Deployed

from image_pipeline.stack import costs
from thumbnailer.telemetry import UNITS

ROOT = Path(__file__).parent.parent
PIPELINE_METRICS = set(UNITS)
"""Metrics that the function writes."""
AWS_METRICS = {
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
"""Metrics of AWS, by namespace:
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html,
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html,
https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html"""
DIMENSIONS = {
    "ImagePipeline": ["FunctionName"],
    "AWS/Lambda": ["FunctionName"],
    "AWS/SQS": ["QueueName"],
    "AWS/States": ["StateMachineArn"],
}
"""The first dimension of the metrics of each namespace."""


URL = template.source()["Mappings"]["Documentation"]["Runbook"]["Url"]
"""Where the runbook is."""


def exists(namespace: str, metric: str) -> bool:
    """Whether the function or AWS emits a metric."""
    return metric in (PIPELINE_METRICS if namespace == "ImagePipeline" else AWS_METRICS[namespace])


def alarms(**given: object) -> dict[str, dict[str, Any]]:
    """The properties of the alarms of a stack with the `given` parameters, by logical id."""
    return Deployed(**given).of_type("AWS::CloudWatch::Alarm")


ALARMS = alarms(ExistingInputBucket="true")


def test_the_cost_estimate_counts_every_metric_and_alarm() -> None:
    """`image-pipeline cost` includes what CloudWatch charges per month for each of them."""
    assert len(alarms()) == costs.ALARMS
    assert len(PIPELINE_METRICS) == costs.METRICS


def test_every_kind_of_failure_has_an_alarm() -> None:
    """Messages and their age, waiting events, errors, throttles, slowness, losses, failed runs."""
    watched = {each.get("MetricName", "p95 duration") for each in ALARMS.values()}
    assert watched == {
        "ApproximateNumberOfMessagesVisible",
        "ApproximateAgeOfOldestMessage",
        "AsyncEventAge",
        "Errors",
        "Throttles",
        "p95 duration",
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
def test_an_alarm_uses_existing_metrics_and_notifies_the_topic(name: str) -> None:
    """Its dimensions exist too, missing data is no breach, and its end is notified as well."""
    alarm = ALARMS[name]
    metrics = [alarm] if "MetricName" in alarm else []
    metrics += [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", [])[1:]]
    assert metrics
    for each in metrics:
        assert exists(each["Namespace"], each["MetricName"])
        dimensions = [dimension["Name"] for dimension in each["Dimensions"]]
        assert dimensions[:1] == DIMENSIONS[each["Namespace"]]
    assert alarm["TreatMissingData"] == "notBreaching"
    assert alarm["ComparisonOperator"] == "GreaterThanThreshold"
    assert alarm["AlarmActions"] == alarm["OKActions"] == ["AlarmTopic"]


def described(**pseudo: str) -> dict[str, str]:
    """The texts of the alarms, by logical id, with these pseudo parameters."""
    with patch.dict(template.PSEUDO_PARAMETERS, pseudo):
        found = alarms(ExistingInputBucket="true", MaximumEventAge=21600)
    return {name: each["AlarmDescription"] for name, each in found.items()}


def commands(text: str) -> list[str]:
    """The commands in the text of an alarm, each in a line of its own."""
    return re.findall(r"^(?:image-pipeline|aws) .*$", text, re.MULTILINE)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_links_to_its_section_of_the_runbook(name: str) -> None:
    """Its text ends with the address of a section that exists, and the list of alarms agrees."""
    match = re.search(rf"\nRunbook: {re.escape(URL)}#([a-z-]+)$", ALARMS[name]["AlarmDescription"])
    assert match
    assert match[1] in runbook.sections()
    alarm = ALARMS[name]["AlarmName"].replace("my-image-pipeline", "NAME")
    assert re.search(rf"^\| `{alarm}` \| \[[^]]+\]\(#{match[1]}\) \|$", runbook.TEXT, re.MULTILINE)


@pytest.mark.parametrize("name", ALARMS)
def test_a_section_is_a_checklist_with_the_commands_of_its_alarm(name: str) -> None:
    """Symptom, check, fix and verification, numbered; each command of the alarm is there too."""
    text = ALARMS[name]["AlarmDescription"]
    section = runbook.sections()[text.rpartition("#")[2]]
    assert re.findall(r"^(\d)\. \*\*(\w+)\.\*\*", section, re.MULTILINE) == [
        ("1", "Symptom"),
        ("2", "Check"),
        ("3", "Fix"),
        ("4", "Verify"),
    ]
    for part in re.split(r"^\d\. ", section, flags=re.MULTILINE)[2:]:
        assert runbook.commands(part), part
    shown = [set(each.split()) for each in runbook.commands(section)]
    for command in commands(text):
        plain = command.replace(" --region us-east-1", "").replace("my-image-pipeline", "NAME")
        assert any(set(plain.split()) <= each for each in shown), command


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_says_what_it_means_and_what_to_run(name: str) -> None:
    """What happened, what users see, then numbered steps with commands for this very stack."""
    text = described(**{"AWS::StackName": "photos", "AWS::Region": "eu-west-3"})[name]
    first, *_ = text.splitlines()
    assert "sers " in first, "what it means for users"
    assert re.findall(r"^(\d)\.", text, re.MULTILINE) == [
        str(number + 1) for number in range(len(re.findall(r"^\d\.", text, re.MULTILINE)))
    ]
    assert commands(text)
    for command in commands(text):
        assert "--region eu-west-3" in command
        if command.startswith("image-pipeline"):
            assert "--stack photos" in command


def test_the_text_of_an_alarm_fits() -> None:
    """1,024 characters, by CloudWatch's limit, with the longest names of stack and region.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
    """
    regions = boto3.session.Session().get_available_regions("lambda")
    longest = {
        "AWS::StackName": "s" * 128,
        "AWS::Region": max([*regions, "us-gov-west-1"], key=len),
    }
    for name, text in described(**longest).items():
        assert len(text) <= 1024, name


def test_the_address_of_the_documentation_is_written_once() -> None:
    """In the template. pyproject.toml, whose metadata cannot refer to it, has the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"{project['urls']['Documentation']}/operations.md" == URL
    assert template.PATH.read_text().count(URL.partition("/docs")[0]) == 1
    assert runbook.PATH.relative_to(ROOT) == Path("docs/operations.md")


@pytest.mark.parametrize("timeout", [10, 900])
def test_the_slow_alarm_goes_off_above_80_percent_of_the_time_out(timeout: int) -> None:
    """Its expression is 80 when the p95 duration in ms is 80 % of the time-out."""
    alarm = alarms(LambdaTimeout=timeout)["FunctionSlow"]
    expression = alarm["Metrics"][0]["Expression"]
    share = eval(expression, {"p95": 0.8 * timeout * 1000})  # noqa: S307 - our own arithmetic
    assert share == pytest.approx(alarm["Threshold"])


def test_the_alarms_of_this_stack_may_publish() -> None:
    """The policy of the topic, and that of a customer managed key, allow only them."""
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
    # Alarms cannot use the AWS managed key of SNS.
    assert "KmsMasterKeyId" not in Deployed().properties("AlarmTopic")
    assert Deployed().of_type("AWS::SNS::Subscription") == {}


def widgets(**given: object) -> list[dict[str, Any]]:
    """The widgets of the dashboard, with the abbreviations "." and "..." of metrics expanded."""
    body = json.loads(Deployed(**given).properties("Dashboard")["DashboardBody"])
    found: list[dict[str, Any]] = body["widgets"]
    for widget in found:
        before: list[str] = []
        for row in widget["properties"].get("metrics", []):
            if isinstance(row[0], dict):
                continue
            words = [each for each in row if isinstance(each, str)]
            names = before if words == ["..."] else words
            names = [before[i] if each == "." else each for i, each in enumerate(names)]
            before = names
            row[: len(words)] = names
    return found


def test_the_dashboard_shows_metrics_that_exist() -> None:
    """The function or AWS emits each of them, for this function or queue."""
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


def test_the_dashboard_counts_failures_in_the_log_of_the_function() -> None:
    """The query reads the stack's log group and uses fields that the function writes."""
    (log,) = (each for each in widgets() if each["type"] == "log")
    assert log["properties"]["query"].startswith("SOURCE 'FunctionLogs' |")
    assert "filter action = 'failed'" in log["properties"]["query"]
    assert "by error.type" in log["properties"]["query"]


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ({}, {}),
        ({"ExistingInputBucket": "true"}, {"input_events": True}),
        ({"OutputEvents": "true"}, {"output_events": True}),
        ({"CreateKmsKey": "true"}, {"key": True, "own_key": True}),
        ({"XRayTracing": "true"}, {"traced": True}),
    ],
)
def test_dashboard_and_cost_command_estimate_the_same(
    architecture: str, given: dict[str, str], settings: dict[str, bool]
) -> None:
    """For the same images; the dashboard leaves out dead-letter messages (SQS)."""
    (cost,) = (
        each
        for each in widgets(LambdaArchitecture=architecture, **given)
        if "dollars" in each["properties"]["title"]
    )
    expression = cost["properties"]["metrics"][0][0]["expression"]
    measured = {"milliseconds": 1000 * 200, "calls": 1000, "writes": 2000, "images": 1000}
    rates = costs.Rates(512, architecture, writes=2, duration_ms=200, **settings)
    estimate = costs.of_images(rates, 10_000)
    del estimate["SQS"]
    dollars = eval(expression, measured)  # noqa: S307 - our own arithmetic
    assert dollars == pytest.approx(sum(estimate.values()))


def test_the_dashboard_shows_the_cdn_where_there_is_one() -> None:
    """Requests, bytes and the share of 4xx, from us-east-1, beside what it shows without a CDN.

    https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/programming-cloudwatch-metrics.html
    """
    plain, more = widgets(), widgets(Cdn="true")
    assert more[: len(plain)] == plain
    added = [each["properties"] for each in more[len(plain) :]]
    assert {each["region"] for each in added} == {"us-east-1"}
    first, second, spent = added
    shown = [(row[:-1], row[-1]["stat"]) for each in (first, second) for row in each["metrics"]]
    of = ["Region", "Global", "DistributionId", "Distribution"]
    assert shown == [
        (["AWS/CloudFront", "Requests", *of], "Sum"),
        (["AWS/CloudFront", "BytesDownloaded", *of], "Sum"),
        (["AWS/CloudFront", "4xxErrorRate", *of], "Average"),
    ]
    function = ["FunctionName", "my-image-pipeline-us-east-1", "Region", "Global"]
    assert spent["metrics"][1][:-1] == ["AWS/CloudFront", "FunctionInvocations", *function]
    used = {"requests": 10_000, "runs": 20_000, "bytes": 3 * 10**9}
    dollars = eval(spent["metrics"][0][0]["expression"], used)  # noqa: S307 - our own arithmetic
    assert dollars == pytest.approx(
        10_000 * costs.PRICES["cloudfront_request"]
        + 20_000 * costs.PRICES["cloudfront_function_invocation"]
        + costs.of_transfer(3 * 10**9)
    )


@pytest.mark.parametrize("cdn", ["false", "true"])
def test_widgets_do_not_overlap(cdn: str) -> None:
    """Each cell of the grid, which has 24 columns, belongs to one widget."""
    cells = [
        (x, y)
        for each in widgets(Cdn=cdn)
        for x in range(each["x"], each["x"] + each["width"])
        for y in range(each["y"], each["y"] + each["height"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
