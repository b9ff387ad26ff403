"""A stack of buckets and a queue in moto, without a function: tests play its part."""

from typing import Any

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
from thumbnailer.telemetry import Telemetry


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
