"""Failed uploads, read from the dead-letter queues without taking a message off them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from image_pipeline.stack.aws import aws_errors_explained
from image_pipeline.stack.deployed import Stack
from thumbnailer import dead_letters, events
from thumbnailer.errors import InvalidEvent

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

MAX_BATCH: Final = 10
"""Messages in one request; SQS allows no more.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html"""

HIDDEN_SECONDS: Final = 20
"""Visibility timeout of received messages, longer than MAX_READ_SECONDS so that no message is
received twice in one read. They are made visible again at once; this is for a killed process."""

MAX_READ_SECONDS: Final = 15
"""Time that reading a queue may take."""

MAX_EMPTY_ANSWERS: Final = 3
"""Empty answers in a row after which a message that is searched for is considered gone. An
assumption: the queue is asked with long polling, so one empty answer is already unlikely."""

UNREADABLE_TYPE: Final = "Unreadable"
"""Error type of a message that was not written by this pipeline or by Lambda. A replay counts such
messages by another word, thumbnailer.dead_letters.UNREADABLE."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed upload, from one message on a queue.

    `attempts` counts the attempts so far. `permanent` is None where the message does not say (a
    record of Lambda's OnFailure destination). `sent_at` is when SQS received the message. `bucket`
    and `key` are empty if the message cannot be read. `body` is the message itself.
    """

    message_id: str
    bucket: str
    key: str
    etag: str | None
    error_type: str
    error_message: str
    permanent: bool | None
    attempts: int
    sent_at: datetime
    body: str

    def to_json(self) -> dict[str, Any]:
        """As JSON for scripts, without the body; the time in ISO 8601."""
        fields = asdict(self) | {"sent_at": self.sent_at.isoformat()}
        del fields["body"]
        return fields


def failures(stack: Stack, maximum: int, error_type: str | None = None) -> list[Failure]:
    """Read up to `maximum` failures from all queues, oldest first, of one error type if given."""
    with aws_errors_explained():
        found = [
            failure
            for queue in stack.queues
            for failure in read(stack.aws.sqs, queue, maximum)
            if error_type in (None, failure.error_type)
        ]
    return sorted(found, key=lambda failure: failure.sent_at)[:maximum]


def count_messages(stack: Stack) -> int:
    """Count the messages on all queues, hidden ones included; SQS's numbers are approximate."""
    with aws_errors_explained():
        return sum(depth(stack.aws.sqs, queue) for queue in stack.queues)


def depth(sqs: "SQSClient", queue_url: str) -> int:
    """Count the messages on one queue, hidden ones included; SQS's numbers are approximate."""
    attributes = sqs.get_queue_attributes(
        QueueUrl=queue_url,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )["Attributes"]
    return sum(int(count) for count in attributes.values())


def read(sqs: "SQSClient", queue_url: str, limit: int = 1000) -> list[Failure]:
    """Read up to `limit` messages of one queue, oldest first, and leave them on it.

    One request returns a sample of a queue, so requests are repeated until all messages are read
    or no more come.
    """
    with received(sqs, queue_url, limit=limit) as messages:
        found = [failure for message in messages.values() for failure in _parse(message)]
    return sorted(found, key=lambda failure: failure.sent_at)


def discard(sqs: "SQSClient", queue_url: str, unwanted: Callable[[Failure], bool]) -> int:
    """Delete the messages all of whose failures are unwanted; the number of deleted messages."""
    with received(sqs, queue_url) as messages:
        deleted = [
            message for message in messages.values() if all(map(unwanted, list(_parse(message))))
        ]
        for message in deleted:
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
            del messages[message["MessageId"]]
    return len(deleted)


@contextmanager
def received(
    sqs: "SQSClient", queue_url: str, wanted: set[str] | None = None, limit: int = 1000
) -> Iterator[dict[str, "MessageTypeDef"]]:
    """Receive up to `limit` messages, or those with the ids `wanted`; keyed by message id.

    Messages are hidden from other readers during the block. Those that are still in the dictionary
    at its end become visible again, and those that are not wanted do so before it begins.
    """
    expected = depth(sqs, queue_url) if wanted else min(depth(sqs, queue_url), limit)
    empty, patience = 0, MAX_EMPTY_ANSWERS if wanted else 1
    deadline = time.monotonic() + MAX_READ_SECONDS
    seen: dict[str, MessageTypeDef] = {}
    try:
        while (
            len(seen) < expected
            and empty < patience
            and time.monotonic() < deadline
            and not (wanted and wanted <= seen.keys())
        ):
            messages = sqs.receive_message(
                QueueUrl=queue_url,
                MaxNumberOfMessages=MAX_BATCH,
                VisibilityTimeout=HIDDEN_SECONDS,
                WaitTimeSeconds=1,  # long polling: all of SQS's servers are asked, not a sample
                MessageSystemAttributeNames=["SentTimestamp"],
            ).get("Messages", [])
            empty = 0 if messages else empty + 1
            seen |= {message["MessageId"]: message for message in messages}
        if wanted is not None:
            others = [message for name, message in seen.items() if name not in wanted]
            seen = {name: message for name, message in seen.items() if name in wanted}
            hide(sqs, queue_url, others, 0)
        yield seen
    finally:
        hide(sqs, queue_url, list(seen.values()), 0)


def hide(
    sqs: "SQSClient", queue_url: str, messages: Sequence["MessageTypeDef"], seconds: int
) -> set[str]:
    """Hide received messages from other readers for `seconds` from now; 0 makes them visible.

    Returns the ids of messages whose time had run out: another reader may have them.
    """
    lost = set()
    for start in range(0, len(messages), MAX_BATCH):
        batch = messages[start : start + MAX_BATCH]
        answer = sqs.change_message_visibility_batch(
            QueueUrl=queue_url,
            Entries=[
                {
                    "Id": str(index),
                    "ReceiptHandle": message["ReceiptHandle"],
                    "VisibilityTimeout": seconds,
                }
                for index, message in enumerate(batch)
            ],
        )
        lost |= {batch[int(entry["Id"])]["MessageId"] for entry in answer.get("Failed", [])}
    return lost


def _parse(message: "MessageTypeDef") -> Iterator[Failure]:
    """One failure for each upload that the message names; an OnFailure record may name several."""
    sent_at = datetime.fromtimestamp(int(message["Attributes"]["SentTimestamp"]) / 1000, UTC)
    try:
        parsed = dead_letters.read(message["Body"])
    except InvalidEvent as error:
        shown = f"{error}: {message['Body'][:200]}"
        parsed = dead_letters.Message({}, UNREADABLE_TYPE, shown, None, 0, None)
    try:
        failed = events.parse(parsed.event).uploads
    except InvalidEvent:  # an OnFailure record of an event that names no upload
        failed = (events.Upload(bucket="", key=""),)
    for upload in failed:
        yield Failure(
            message["MessageId"],
            upload.bucket,
            upload.key,
            upload.etag,
            parsed.error_type,
            parsed.error_message,
            parsed.permanent,
            parsed.attempts,
            sent_at,
            message["Body"],
        )
