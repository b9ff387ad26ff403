"""The dead-letter queue: what a message contains, and how it is sent and read."""

import json
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from thumbnailer.errors import InvalidEvent, PermanentError, PipelineError, QueueUnavailable
from thumbnailer.events import Upload
from thumbnailer.settings import RESERVED_PREFIX
from thumbnailer.sha256 import sha256

VERSION: Final = 1
ATTEMPTS: Final = 2
CONNECT_TIMEOUT: Final = 1.0
READ_TIMEOUT: Final = 1.0
"""Seconds for each attempt. SQS in the same region answers in tens of milliseconds."""

RESERVE_SECONDS: Final = 6.0
"""Time of an invocation that is kept for sending a message. It is the worst case: all attempts, the
wait between them, and the import of boto3 at a fraction of a CPU (1.2 s)."""

UNREADABLE: Final = "unreadable"
"""Why a replay leaves a message on the queue that is neither a dead-letter message nor an OnFailure
record. Replays count such messages by this word (iac/replay.asl.json)."""

MARKS_PREFIX: Final = f"{RESERVED_PREFIX}failed/"
"""Keys in the output bucket of the marks of failures that have a message (failure_marks.py)."""


def mark_key(bucket: str, key: str) -> str:
    """Return the key of the mark of an upload in the output bucket."""
    digest = sha256(json.dumps([bucket, key]).encode()).hexdigest()
    return f"{MARKS_PREFIX}{digest[:32]}.json"


class DeadLetter(NamedTuple):
    """The message of one failed upload.

    `attempts` counts the upload's messages, this one included. `failed_at` is ISO 8601 in UTC.
    `remake` is that of the upload; the message has it only if it is true.
    """

    bucket: str
    key: str
    etag: str | None
    error: dict[str, Any]
    attempts: int
    request_id: str
    failed_at: str
    version: int = VERSION
    remake: bool = False

    @classmethod
    def of(cls, upload: Upload, error: PipelineError, request_id: str) -> "DeadLetter":
        """Build the message that reports `error` for `upload`."""
        return cls(
            bucket=upload.bucket,
            key=upload.key,
            etag=upload.etag,
            error=error_summary(error),
            attempts=upload.attempts + 1,
            request_id=request_id,
            failed_at=datetime.now(UTC).isoformat(),
            remake=upload.remake,
        )

    def to_json(self) -> str:
        """Return the body of the SQS message."""
        fields = self._asdict()
        if not self.remake:
            del fields["remake"]
        return json.dumps(fields)


class Message(NamedTuple):
    """What a message on the queue says about a failure.

    `event` is the event to call the function with again. `permanent` and `failed_at` are None where
    the message does not say.
    """

    event: dict[str, Any]
    error_type: str
    error_message: str
    permanent: bool | None
    attempts: int
    failed_at: datetime | None


UNDELIVERED: Final = "Undelivered"
"""The error type of an event that EventBridge could not deliver to the function."""


def read(body: str) -> Message:
    """Read a dead-letter message, a record of Lambda's OnFailure destination, or an event.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html; the rule's
    queue holds the bare event: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html.

    Raises InvalidEvent for anything else.
    """
    try:
        event = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"The message is not JSON: {error}") from None
    match event:
        case {"error": {"type": str(kind), "message": str(text), **more}, "key": _}:
            attempts, failed_at = event.get("attempts"), event.get("failed_at")
            permanent = more.get("permanent")
        case {"requestContext": {"approximateInvokeCount": attempts, **more}, "requestPayload": _}:
            answer = event.get("responsePayload")
            answer = answer if isinstance(answer, dict) else {}
            kind = str(answer.get("errorType") or more.get("condition", ""))
            text = str(answer.get("errorMessage") or "")
            permanent, failed_at = None, event.get("timestamp")
        case {"detail-type": str(about), "source": "aws.s3"}:
            kind, text = UNDELIVERED, f"EventBridge could not deliver this event: {about}"
            permanent, attempts, failed_at = None, 0, None
        case _:
            raise InvalidEvent(
                "The message is neither a dead-letter message nor an OnFailure record"
            )
    return Message(
        event,
        kind,
        text,
        permanent if isinstance(permanent, bool) else None,
        attempts if isinstance(attempts, int) else 1,
        _time(failed_at),
    )


def _time(text: object) -> datetime | None:
    """Parse an ISO 8601 time, UTC by default; None for anything else."""
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


MAX_MESSAGE: Final = 2000
"""Characters of an error's text. A message must always fit into the queue's limit."""


def error_summary(error: PipelineError) -> dict[str, Any]:
    """Return an error as messages, results and logs contain it: type, message, permanent."""
    message = str(error)
    return {
        "type": type(error).__name__,
        "message": message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "…",
        "permanent": isinstance(error, PermanentError),
    }


class DeadLetterQueue:
    """The SQS queue at `url`. boto3 is imported when the first message is sent."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Any = None

    def send(self, message: DeadLetter) -> None:
        """Send one message.

        Raises QueueUnavailable if SQS has not confirmed it after one retry.
        """
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            self._connected().send_message(QueueUrl=self._url, MessageBody=message.to_json())
        except (BotoCoreError, ClientError) as error:
            raise QueueUnavailable(f"No dead-letter message for {message.key}: {error}") from error

    def _connected(self) -> Any:
        if self._client is None:
            import boto3  # noqa: PLC0415 - only failures need it
            from botocore.config import Config  # noqa: PLC0415

            self._client = boto3.client(
                "sqs",
                config=Config(
                    connect_timeout=CONNECT_TIMEOUT,
                    read_timeout=READ_TIMEOUT,
                    retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                ),
            )
        return self._client
