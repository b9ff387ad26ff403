"""What failed, read from the dead-letter queue without taking anything off it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from thumbnailer import dead_letters, events
from thumbnailer.errors import InvalidEvent

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

BATCH: Final = 10
"""Messages in one request, the most that SQS allows."""

HIDDEN_SECONDS: Final = 20
"""For so long SQS hides a message that was looked at, so that the next request sees others. They
are put back at once; this is for a look that was cut short."""


LOOK_SECONDS: Final = 15
"""Most that a look takes."""

EMPTY_ANSWERS: Final = 3
"""In a row, after which what is searched for is taken to be elsewhere."""

UNREADABLE: Final = "Unreadable"
"""The error type of a message that is none of ours."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One upload that failed, as one message on the queue tells it.

    `attempts` counts what was tried, `permanent` is None where the message does not say (a record
    of Lambda's OnFailure destination), `sent_at` is when SQS took the message. `bucket` and `key`
    are empty if the message cannot be read. `body` is the message itself.
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
        """As scripts get it, without the message; the time in ISO 8601."""
        told = asdict(self) | {"sent_at": self.sent_at.isoformat()}
        del told["body"]
        return told


def depth(sqs: "SQSClient", queue_url: str) -> int:
    """Count the messages on the queue, hidden ones included; SQS says it approximately."""
    attributes = sqs.get_queue_attributes(
        QueueUrl=queue_url,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )["Attributes"]
    return sum(int(count) for count in attributes.values())


def look(sqs: "SQSClient", queue_url: str, limit: int = 1000) -> list[Failure]:
    """Read up to `limit` messages, oldest first, and leave them on the queue.

    A request sees a sample of a queue, so it asks until it has seen all, or nothing more comes.
    """
    with received(sqs, queue_url, limit=limit) as messages:
        found = [failure for message in messages.values() for failure in _read(message)]
    return sorted(found, key=lambda failure: failure.sent_at)


def discard(sqs: "SQSClient", queue_url: str, unwanted: Callable[[Failure], bool]) -> int:
    """Delete the messages all of whose failures are unwanted, and leave the others; how many."""
    with received(sqs, queue_url) as messages:
        gone = [
            message for message in messages.values() if all(map(unwanted, list(_read(message))))
        ]
        for message in gone:
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
            del messages[message["MessageId"]]
    return len(gone)


@contextmanager
def received(
    sqs: "SQSClient", queue_url: str, wanted: set[str] | None = None, limit: int = 1000
) -> Iterator[dict[str, "MessageTypeDef"]]:
    """Messages by their ids, up to `limit`, or the `wanted` ones, which are searched for longer.

    Those that are still in it at the end of the block are put back, the others at once. The search
    ends before the first ones would come back by themselves.
    """
    expected = depth(sqs, queue_url) if wanted else min(depth(sqs, queue_url), limit)
    empty, patience = 0, EMPTY_ANSWERS if wanted else 1
    deadline = time.monotonic() + LOOK_SECONDS
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
                MaxNumberOfMessages=BATCH,
                VisibilityTimeout=HIDDEN_SECONDS,
                WaitTimeSeconds=1,  # asks all of SQS's servers, not a sample
                MessageSystemAttributeNames=["SentTimestamp"],
            ).get("Messages", [])
            empty = 0 if messages else empty + 1
            seen |= {message["MessageId"]: message for message in messages}
        if wanted is not None:
            others = [each for name, each in seen.items() if name not in wanted]
            seen = {name: each for name, each in seen.items() if name in wanted}
            hide(sqs, queue_url, others, 0)
        yield seen
    finally:
        hide(sqs, queue_url, list(seen.values()), 0)


def hide(
    sqs: "SQSClient", queue_url: str, messages: Sequence["MessageTypeDef"], seconds: int
) -> set[str]:
    """Let nobody else receive messages for `seconds` from now; 0 puts them back.

    Answers the ids of those that are not ours any more: their time was up, others may have them.
    """
    lost = set()
    for start in range(0, len(messages), BATCH):
        some = messages[start : start + BATCH]
        told = sqs.change_message_visibility_batch(
            QueueUrl=queue_url,
            Entries=[
                {
                    "Id": str(index),
                    "ReceiptHandle": each["ReceiptHandle"],
                    "VisibilityTimeout": seconds,
                }
                for index, each in enumerate(some)
            ],
        )
        lost |= {some[int(each["Id"])]["MessageId"] for each in told.get("Failed", [])}
    return lost


def _read(message: "MessageTypeDef") -> Iterator[Failure]:
    """One failure for each upload that the message names; an OnFailure record may name several."""
    sent_at = datetime.fromtimestamp(int(message["Attributes"]["SentTimestamp"]) / 1000, UTC)
    try:
        told = dead_letters.read(message["Body"])
    except InvalidEvent as error:
        shown = f"{error}: {message['Body'][:200]}"
        told = dead_letters.Message({}, UNREADABLE, shown, None, 0, None)
    try:
        failed = events.parse(told.event).uploads
    except InvalidEvent:  # a failure all the same, of an event that names no upload
        failed = (events.Upload(bucket="", key=""),)
    for upload in failed:
        yield Failure(
            message["MessageId"],
            upload.bucket,
            upload.key,
            upload.etag,
            told.error_type,
            told.error_message,
            told.permanent,
            told.attempts,
            sent_at,
            message["Body"],
        )
