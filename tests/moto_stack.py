"""A stack of buckets and a queue in moto, without a function: tests do what it would do."""

from aws_names import INPUT, OUTPUT
from pictures import thumbnails_of

from image_pipeline.stack.aws import Aws
from image_pipeline.stack.deployed import Stack
from thumbnailer.dead_letters import DeadLetter
from thumbnailer.errors import CorruptImage, PipelineError
from thumbnailer.events import Upload
from thumbnailer.imaging import fingerprint
from thumbnailer.provenance import Provenance
from thumbnailer.settings import Settings


def moto_stack(endpoint: str) -> Stack:
    """Buckets that are there already, a new queue, and nothing that runs."""
    account = Aws.local(endpoint)
    queue = account.sqs.create_queue(QueueName="letters")["QueueUrl"]
    settings = Settings(OUTPUT, queue)
    return Stack(account, "test", INPUT, "test-thumbnail", settings, "arm64", {})


def made(stack: Stack, key: str, body: bytes) -> None:
    """Upload a picture, and do what the function would do."""
    stack.aws.s3.put_object(Bucket=INPUT, Key=key, Body=body)
    head = stack.aws.s3.head_object(Bucket=INPUT, Key=key)
    etag, modified = head["ETag"].strip('"'), head["LastModified"]
    told = Provenance(key, etag, modified, fingerprint(stack.settings.specs[0])).to_metadata()
    for each in thumbnails_of(body, [size.width for size in stack.settings.sizes]).thumbnails:
        name = stack.settings.thumbnail_key(key, each.spec.size)
        stack.aws.s3.put_object(Bucket=OUTPUT, Key=name, Body=each.data, Metadata=told)


def letter_of(stack: Stack, key: str, etag: str, error: PipelineError | None = None) -> None:
    """Put a dead letter on the queue, of a corrupt image if nothing else is said."""
    error = error or CorruptImage("damaged")
    letter = DeadLetter.of(Upload(INPUT, key, etag), error, "request")
    stack.aws.sqs.send_message(
        QueueUrl=stack.settings.dead_letter_queue_url, MessageBody=letter.to_json()
    )
