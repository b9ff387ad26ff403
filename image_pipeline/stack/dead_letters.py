"""Failed uploads, read from the dead-letter queues without taking a message off them."""

import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import batched
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from image_pipeline.errors import PartFailed
from image_pipeline.stack.aws import aws_errors_explained
from image_pipeline.stack.aws_errors import MISSING_CODES
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

MAX_READ: Final = 10_000
"""Messages that a command or the console reads unless told otherwise: 1,000 requests."""

MAX_READERS: Final = 16
"""Threads that receive, hide or delete messages; half of the connections of a client
(aws.CONNECTIONS). A standard queue has no limit of requests that they could reach.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html"""

UNUSABLE_KEY: Final = re.compile(r"kms\W?(disabled|invalidstate|notfound)", re.IGNORECASE)
"""Error codes of SQS for a key that cannot be used, in its two protocols.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html#API_ReceiveMessage_Errors
"""

BYTES: Final = re.compile(r"""\bb(["'])((?:\\.|(?!\1)[^\\])*)\1""")
ESCAPE: Final = r"\\(?:x[0-9a-f]{2}|.)"
"""Bytes as Python writes them, and those of them that are no printable ASCII."""

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


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read from all queues of a stack.

    `failures` are ordered by the time of their messages, oldest first. `messages` were read, of
    about `total` on the queues. `stopped` says why there are fewer: "limit", "time" or, if the
    others are in flight (another reader or a replay has them), "".
    """

    failures: list[Failure]
    messages: int
    total: int
    stopped: str = ""

    @property
    def unread(self) -> int:
        """About how many messages are on the queues that were not read."""
        return self.total - self.messages


def read_all(
    stack: Stack, maximum: int = MAX_READ, report: Callable[[int], None] = lambda _: None
) -> Reading:
    """Read up to `maximum` messages from all queues, and leave them there.

    `report` is called with the number of messages so far, from several threads. Raises CommandError
    if AWS refuses.
    """
    found: list[Failure] = []
    messages, total, stopped = 0, 0, ""
    for queue in stack.queues:
        with queue_errors_explained(queue):
            waiting = depth(stack.aws.sqs, queue)
            began = time.monotonic()
            with received(
                stack.aws.sqs, queue, limit=maximum - messages, report=report
            ) as received_now:
                if time.monotonic() - began > MAX_READ_SECONDS:
                    stopped = "time"
                found += [each for one in received_now.values() for each in parse(one)]
                messages += len(received_now)
                total += max(waiting, len(received_now))
    stopped = "limit" if messages >= maximum else stopped
    found.sort(key=lambda failure: failure.sent_at)
    return Reading(found, messages, total, stopped if total > messages else "")


def failures(stack: Stack, maximum: int, error_type: str | None = None) -> list[Failure]:
    """Read the failures of up to `maximum` messages, oldest first, of one error type if given."""
    found = read_all(stack, maximum).failures
    return [each for each in found if error_type in (None, each.error_type)][:maximum]


@contextmanager
def queue_errors_explained(queue_url: str) -> Iterator[None]:
    """Turn the errors of boto3 in the block into a CommandError that says what to do.

    It adds to `aws_errors_explained` what it means for failed uploads that a queue or its key is
    gone, as a PartFailed.
    """
    name = queue_url.rpartition("/")[2]
    with aws_errors_explained():
        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if MISSING_CODES.get(code) == "queue":
                raise PartFailed(
                    f"The dead-letter queue {name} does not exist any more, and the messages on it "
                    "are lost. Lambda cannot store new failures until you create a queue with the "
                    "same name and settings. `image-pipeline status` shows the command."
                ) from error
            if UNUSABLE_KEY.search(code):
                raise PartFailed(
                    f"The KMS key of the dead-letter queue {name} is disabled, or its deletion is "
                    "scheduled, so the messages cannot be read. They are still on the queue. "
                    "Enable the key: `aws kms enable-key --key-id KEY`, after `aws kms "
                    "cancel-key-deletion --key-id KEY` if it is to be deleted. To find the key: "
                    f"aws sqs get-queue-attributes --attribute-names KmsMasterKeyId --queue-url "
                    f"{queue_url}"
                ) from error
            raise


def count_messages(stack: Stack) -> int:
    """Count the messages on all queues, hidden ones included; SQS's numbers are approximate."""
    total = 0
    for queue in stack.queues:
        with queue_errors_explained(queue):
            total += depth(stack.aws.sqs, queue)
    return total


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
        found = [failure for message in messages.values() for failure in parse(message)]
    return sorted(found, key=lambda failure: failure.sent_at)


def discard(sqs: "SQSClient", queue_url: str, unwanted: Callable[[Failure], bool]) -> int:
    """Delete the messages all of whose failures are unwanted; the number of deleted messages."""
    with received(sqs, queue_url, limit=MAX_READ) as messages:
        chosen = [each for each in messages.values() if all(map(unwanted, list(parse(each))))]
        deleted = delete(sqs, queue_url, chosen)
        for message_id in deleted:
            del messages[message_id]
    return len(deleted)


@contextmanager
def received(
    sqs: "SQSClient",
    queue_url: str,
    wanted: Collection[str] | None = None,
    limit: int = 1000,
    report: Callable[[int], None] = lambda _: None,
) -> Iterator[dict[str, "MessageTypeDef"]]:
    """Receive up to `limit` messages, or those with the ids `wanted`; keyed by message id.

    Messages are hidden from other readers during the block. Those that are still in the dictionary
    at its end become visible again, and those that are not wanted do so before it begins. `report`
    is called with the number of messages so far, from several threads.
    """
    total = depth(sqs, queue_url)
    reception = _Reception(sqs, queue_url, total if wanted else min(total, limit), wanted, report)
    seen = reception.messages
    try:
        reception.run()
        kept = [name for name in seen if wanted is None or name in wanted]
        kept = kept if wanted else kept[:limit]
        others = [seen.pop(name) for name in seen.keys() - set(kept)]
        hide(sqs, queue_url, others, 0)
        yield seen
    finally:
        hide(sqs, queue_url, list(seen.values()), 0)


class _Reception:
    """Receives messages in several threads, because one request returns ten at most."""

    def __init__(
        self,
        sqs: "SQSClient",
        queue_url: str,
        expected: int,
        wanted: Collection[str] | None,
        report: Callable[[int], None],
    ) -> None:
        self.messages: dict[str, MessageTypeDef] = {}
        """By id: SQS may deliver a message twice, and the latest receipt handle is the valid one.
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html
        """
        self._sqs = sqs
        self._queue_url = queue_url
        self._expected = expected
        self._missing = None if wanted is None else set(wanted)
        self._patience = MAX_EMPTY_ANSWERS if wanted else 1
        self._report = report
        self._deadline = time.monotonic() + MAX_READ_SECONDS
        self._lock = threading.Lock()

    def run(self) -> None:
        """Receive until all are there, no more come, or MAX_READ_SECONDS are over."""
        readers = min(MAX_READERS, -(-self._expected // MAX_BATCH))
        if not readers or self._done():
            return
        with ThreadPoolExecutor(readers) as pool:
            try:
                for each in [pool.submit(self._receive) for _ in range(readers)]:
                    each.result()
            finally:
                self._deadline = 0  # after an error or Ctrl-C the other threads end too

    def _done(self) -> bool:
        return (
            len(self.messages) >= self._expected
            or self._missing == set()
            or time.monotonic() >= self._deadline
        )

    def _receive(self) -> None:
        empty = 0
        while empty < self._patience and not self._done():
            found = self._sqs.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=MAX_BATCH,
                VisibilityTimeout=HIDDEN_SECONDS,
                WaitTimeSeconds=1,  # long polling: all of SQS's servers are asked, not a sample
                MessageSystemAttributeNames=["SentTimestamp"],
            ).get("Messages", [])
            empty = 0 if found else empty + 1
            with self._lock:
                self.messages |= {each["MessageId"]: each for each in found}
                if self._missing:
                    self._missing -= {each["MessageId"] for each in found}
                count = len(self.messages)
            self._report(count)


def hide(
    sqs: "SQSClient", queue_url: str, messages: Sequence["MessageTypeDef"], seconds: int
) -> set[str]:
    """Hide received messages from other readers for `seconds` from now; 0 makes them visible.

    Returns the ids of messages whose time had run out: another reader may have them.
    """

    def change(batch: Sequence["MessageTypeDef"]) -> set[str]:
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
        return {batch[int(entry["Id"])]["MessageId"] for entry in answer.get("Failed", [])}

    return set().union(*_in_batches(change, messages))


def delete(sqs: "SQSClient", queue_url: str, messages: Sequence["MessageTypeDef"]) -> set[str]:
    """Delete received messages. Returns the ids of those that SQS has deleted."""

    def remove(batch: Sequence["MessageTypeDef"]) -> set[str]:
        answer = sqs.delete_message_batch(
            QueueUrl=queue_url,
            Entries=[
                {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
                for index, message in enumerate(batch)
            ],
        )
        return {batch[int(entry["Id"])]["MessageId"] for entry in answer.get("Successful", [])}

    return set().union(*_in_batches(remove, messages))


def _in_batches(
    request: Callable[[Sequence["MessageTypeDef"]], set[str]],
    messages: Sequence["MessageTypeDef"],
) -> Iterator[set[str]]:
    """Send a request for each MAX_BATCH messages, in several threads if there are many."""
    batches = list(batched(messages, MAX_BATCH, strict=False))
    if len(batches) <= 1:
        yield from map(request, batches)
        return
    with ThreadPoolExecutor(min(MAX_READERS, len(batches))) as pool:
        yield from pool.map(request, batches)


def readable(text: str) -> str:
    """Return an error's text with bytes as people write them; earlier versions wrote `b'...'`."""
    return BYTES.sub(lambda match: f"“{re.sub(ESCAPE, '·', match[2]).strip('·')}”", text)


def parse(message: "MessageTypeDef") -> Iterator[Failure]:
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
            readable(parsed.error_message),
            parsed.permanent,
            parsed.attempts,
            sent_at,
            message["Body"],
        )
