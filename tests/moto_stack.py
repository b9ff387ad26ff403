"""A stack of buckets and a queue in moto, without a function: tests play its part."""

import json
import statistics
from datetime import datetime
from typing import Any

import pytest
from aws_names import INPUT, OUTPUT
from botocore.exceptions import ClientError

from image_pipeline.stack.aws import AccessKey, Aws
from image_pipeline.stack.deployed import Stack
from thumbnailer.dead_letters import DeadLetter
from thumbnailer.errors import CorruptImage, PipelineError
from thumbnailer.events import Upload
from thumbnailer.imaging import fingerprint, make_thumbnails
from thumbnailer.provenance import Provenance
from thumbnailer.reconcile import Done, Reconciler, Skipped
from thumbnailer.settings import Settings
from thumbnailer.storage import S3Bucket
from thumbnailer.telemetry import NAMESPACE, Telemetry


def moto_stack(endpoint: str) -> Stack:
    """A stack of the existing buckets INPUT and OUTPUT and a new queue."""
    account = Aws.local(endpoint, AccessKey("testing", "testing"))
    queue = account.sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
    settings = Settings(OUTPUT, queue)
    return Stack(account, "test", INPUT, "test-thumbnail", settings, "arm64", {})


def upload_with_thumbnails(stack: Stack, key: str, body: bytes) -> None:
    """Upload an image and its thumbnails, as the function would write them."""
    stack.aws.s3.put_object(Bucket=INPUT, Key=key, Body=body)
    head = stack.aws.s3.head_object(Bucket=INPUT, Key=key)
    etag, modified = head["ETag"].strip('"'), head["LastModified"]
    for each in make_thumbnails(body, stack.settings.specs, 512).thumbnails:
        name = stack.settings.thumbnail_key(key, each.spec.size, each.spec.format)
        source = Provenance(key, etag, modified, fingerprint(each.spec))
        stack.aws.s3.put_object(
            Bucket=OUTPUT, Key=name, Body=each.data, Metadata=source.to_metadata()
        )


def process(stack: Stack, key: str) -> Done | Skipped:
    """Reconcile an upload by the function's own code."""
    reconciler = Reconciler(
        stack.settings,
        Telemetry("ERROR"),
        lambda name: S3Bucket(name, lambda: 20.0),
        lambda: 20.0,
        20.0,
    )
    return reconciler.process(Upload(INPUT, key))


def refuse_originals(params: Any, **_: object) -> None:
    """Answer the HEAD of any original as S3 does with SSE-C: for provide-client-params of boto3."""
    if params["Bucket"] == INPUT:
        error = {"Error": {"Code": "400", "Message": "Bad Request"}}
        raise ClientError(error, "HeadObject")  # type: ignore[arg-type]  # as boto3 raises it


def send_dead_letter(stack: Stack, key: str, etag: str, error: PipelineError | None = None) -> None:
    """Send a message about a failed upload to the dead-letter queue; default: a CorruptImage."""
    error = error or CorruptImage("damaged")
    message = DeadLetter.of(Upload(INPUT, key, etag), error, "request")
    stack.aws.sqs.send_message(
        QueueUrl=stack.settings.dead_letter_queue_url, MessageBody=message.to_json()
    )


def put_metrics(stack: Stack, when: datetime, **values: float) -> None:
    """Put a value of each of these metrics, as CloudWatch makes them of the function's log."""
    about = {"Dimensions": [{"Name": "FunctionName", "Value": stack.function_name}]}
    stack.aws.cloudwatch.put_metric_data(
        Namespace=NAMESPACE,
        MetricData=[
            about | {"MetricName": name, "Timestamp": when, "Value": value}
            for name, value in values.items()
        ],
    )


def put_processed(stack: Stack, when: datetime, milliseconds: float) -> None:
    """Put the metrics of an image of 1,000 bytes with thumbnails of 100."""
    sizes = {"size_in_bytes": 1000, "size_out_bytes": 100}
    put_metrics(stack, when, duration_ms=milliseconds, **sizes)


def put_failed(stack: Stack, when: datetime, **about: str) -> None:
    """Put the metric and the log line of a failure: of a `bucket` and `key`, or a `message_id`."""
    put_metrics(stack, when, failed_count=1)
    put_log(stack, when, {"action": "failed"} | about)


def put_log(stack: Stack, when: datetime, *lines: dict[str, Any]) -> None:
    """Put lines into the function's log, which is created first if there is none."""
    stream = {"logGroupName": f"/aws/lambda/{stack.function_name}", "logStreamName": "s"}
    if not stack.aws.logs.describe_log_groups()["logGroups"]:
        stack.aws.logs.create_log_group(logGroupName=stream["logGroupName"])
        stack.aws.logs.create_log_stream(**stream)
    at = int(when.timestamp() * 1000)
    events = [{"timestamp": at, "message": json.dumps(line)} for line in lines]
    stack.aws.logs.put_log_events(**stream, logEvents=events)  # type: ignore[arg-type]


def let_moto_have_percentiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let moto compute percentiles, as CloudWatch does. By itself it has none."""
    from moto.cloudwatch.models import Statistics  # noqa: PLC0415 - half a second

    others = Statistics.get_statistics_for_type

    def statistic(self: Statistics, name: str) -> Any:
        if not name.startswith("p"):
            return others(self, name)
        values = self.metric_single_values_list
        cuts = statistics.quantiles(
            [*values, *values[:1]][: max(len(values), 2)], n=100, method="inclusive"
        )
        return cuts[int(name[1:]) - 1]

    monkeypatch.setattr(Statistics, "get_statistics_for_type", statistic)
