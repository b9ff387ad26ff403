"""Every event shape that the function accepts → `Delivery` of `Upload`s.

Sources of the shapes: S3 notification
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html,
EventBridge https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html,
SQS and SNS records https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html and …/with-sns.html,
OnFailure https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html.
"""

import json
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

from thumbnailer.errors import InvalidEvent

EXPECTED: Final = (
    'an S3 notification ({"Records": [{"eventSource": "aws:s3", …}]}), one in SQS or SNS, '
    'an EventBridge "Object Created" or "Object Deleted", a dead-letter message, an OnFailure '
    'record, or {"uploads": [{"bucket": …, "key": …}]}'
)
MAX_NESTING: Final = 4
"""SQS → SNS → S3 are three levels. A deeper event is an attack."""


class Source(Enum):
    """Who delivered the event. It decides who retries a transient failure."""

    ASYNC = "async"
    """S3, SNS or EventBridge: Lambda retries a raised error, then OnFailure takes it."""
    QUEUE = "queue"
    """SQS: a message named in the partial batch response is delivered again."""
    REPLAY = "replay"
    """A dead-letter message, in a synchronous call: it stays on the queue if this raises."""
    DIRECT = "direct"
    """A synchronous call with `uploads`: nobody retries, so a failure becomes a message."""


class Upload(NamedTuple):
    """One object to process.

    `key` is decoded. `etag` is without quotes; None where the event has none. `attempts` counts the
    earlier dead-letter messages of this upload. `message_id` is that of the SQS message, or None.
    `remake` asks for thumbnails that are made again even if they are current.
    """

    bucket: str
    key: str
    etag: str | None = None
    attempts: int = 0
    message_id: str | None = None
    remake: bool = False


class Delivery(NamedTuple):
    """The uploads of one event, in its order.

    `summary` asks for counts instead of lists, so that the size of the answer is bounded.
    `report_once` asks for no message about a failure that has one (`failure_marks`). `faults`
    pairs the id of each unreadable SQS message, or the position of each unreadable record of an S3
    notification, with the error.
    """

    source: Source
    uploads: tuple[Upload, ...]
    only_missing: bool = False
    summary: bool = False
    report_once: bool = False
    faults: tuple[tuple[str, InvalidEvent], ...] = ()


def parse(event: object) -> Delivery:
    """Read the uploads of `event` (decoded JSON).

    Raises InvalidEvent, which says what was expected, for an event of unknown shape.
    """
    match event:
        case {"uploads": uploads, **others}:
            return _direct(uploads, others)
        case {"Records": [{"eventSource": "aws:sqs"}, *_] as records}:
            return _queue(records)
        case {"error": _, "bucket": _, "key": _}:
            return Delivery(Source.REPLAY, tuple(_uploads(event)))
        case {"requestContext": _, "requestPayload": _}:
            return Delivery(Source.REPLAY, tuple(_uploads(event)))
        case {"Records": [_, _, *_] as records}:
            return _notification(records)
    return Delivery(Source.ASYNC, tuple(_uploads(event)))


def _notification(records: list[Any]) -> Delivery:
    """Read several records. One that cannot be read must not stop the others."""
    uploads: list[Upload] = []
    faults: list[tuple[str, InvalidEvent]] = []
    for index, record in enumerate(records):
        try:
            uploads += _record(record, f"Records[{index}]", depth=1)
        except InvalidEvent as error:
            faults.append((f"Records[{index}]", error))
    if not uploads and faults:
        raise faults[0][1]
    return Delivery(Source.ASYNC, tuple(uploads), faults=tuple(faults))


def _direct(uploads: object, others: Mapping[Any, object]) -> Delivery:
    if not isinstance(uploads, list):
        raise InvalidEvent(f'"uploads" must be a list, not {type(uploads).__name__}')
    names = ("only_missing", "remake", "report_once", "summary")
    flags = {name: others.get(name) for name in names}
    for name, flag in flags.items():
        if flag is not None and not isinstance(flag, bool):
            raise InvalidEvent(f'"{name}" must be true or false')
    if flags["only_missing"] and flags["remake"]:
        raise InvalidEvent('"only_missing" and "remake" exclude each other: pass one of them')
    return Delivery(
        Source.DIRECT,
        tuple(
            _upload(
                upload, f"uploads[{index}]", _field(upload, "bucket"), _field(upload, "key")
            )._replace(remake=flags["remake"] is True)
            for index, upload in enumerate(uploads)
        ),
        flags["only_missing"] is True,
        flags["summary"] is True,
        flags["report_once"] is True,
    )


def parse_report(report: object) -> tuple[Upload, dict[str, str], str | None]:
    """Read a backfill's report of an image that ended the function's process.

    `{"bucket", "key", "etag", "remake", "error": {"type", "message"}, "request_id"}` becomes the
    upload, the error, and the id of the execution. Raises InvalidEvent for another shape.
    """
    match report:
        case {"error": {"type": str(kind), "message": str(text)}, "bucket": bucket, "key": key}:
            upload = _upload(report, "the report", bucket, key)
            request_id = _field(report, "request_id")
            return (
                upload._replace(remake=_field(report, "remake") is True),
                {"type": kind, "message": text},
                request_id if isinstance(request_id, str) else None,
            )
    raise InvalidEvent(
        f'"report" needs a bucket, a key and an error with type and message, not {_shown(report)}'
    )


def _queue(records: list[Any]) -> Delivery:
    uploads: list[Upload] = []
    faults: list[tuple[str, InvalidEvent]] = []
    for index, record in enumerate(records):
        match record:
            case {"messageId": str(message_id), "body": str(body)}:
                pass
            case _:
                raise InvalidEvent(f"Records[{index}] lacks messageId or body of an SQS message")
        try:
            found = list(_uploads(_decoded(body, "the message's body")))
        except InvalidEvent as error:
            faults.append((message_id, error))
        else:
            uploads += (upload._replace(message_id=message_id) for upload in found)
    return Delivery(Source.QUEUE, tuple(uploads), faults=tuple(faults))


def _uploads(event: object, depth: int = 1) -> Iterator[Upload]:  # noqa: C901 - one case a shape
    """Yield the uploads of any event but a direct call, nested SQS batches included."""
    if depth > MAX_NESTING:
        raise InvalidEvent(f"The event is nested more than {MAX_NESTING} deep")
    match event:
        case {"Event": "s3:TestEvent"}:
            return
        case {"Records": list(records)}:
            for index, record in enumerate(records):
                yield from _record(record, f"Records[{index}]", depth)
        case {"Type": "Notification", "Message": str(message)}:  # SNS → SQS
            yield from _uploads(_decoded(message, "the SNS message"), depth + 1)
        case {"detail-type": "Object Created" | "Object Deleted", "detail": detail}:
            yield _upload(
                _field(detail, "object"),
                "detail.object",
                _field(_field(detail, "bucket"), "name"),
                _field(_field(detail, "object"), "key"),  # EventBridge does not encode keys
            )
        case {"error": _, "bucket": bucket, "key": key}:
            attempts = _field(event, "attempts")
            if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
                raise InvalidEvent(f'"attempts" must be a count, not {attempts!r}')
            yield _upload(event, "the dead-letter message", bucket, key)._replace(
                attempts=attempts, remake=_field(event, "remake") is True
            )
        case {"requestContext": _, "requestPayload": payload}:  # OnFailure: no earlier message
            for upload in _uploads_of_payload(payload, depth):
                yield upload._replace(attempts=upload.attempts + 1)
        case _:
            raise InvalidEvent(f"Expected {EXPECTED}, got {_shown(event)}")


def _uploads_of_payload(payload: object, depth: int) -> Iterator[Upload]:
    match payload:
        case {"uploads": uploads, **others}:
            yield from _direct(uploads, others).uploads
        case _:
            yield from _uploads(payload, depth + 1)


def _record(record: object, where: str, depth: int) -> Iterator[Upload]:
    match record:
        case {"s3": s3}:
            stored = _field(s3, "object")
            key = _field(stored, "key")
            if not isinstance(key, str):
                raise InvalidEvent(f"{where}.s3.object.key must be text, not {_shown(key)}")
            bucket = _field(_field(s3, "bucket"), "name")
            yield _upload(stored, f"{where}.s3", bucket, _unquoted(key, where))
        case {"EventSource": "aws:sns", "Sns": {"Message": str(message)}}:
            yield from _uploads(_decoded(message, "the SNS message"), depth + 1)
        case {"eventSource": "aws:sqs", "body": str(body)}:
            yield from _uploads(_decoded(body, "the message's body"), depth + 1)
        case _:
            raise InvalidEvent(f"{where}: expected {EXPECTED}, got {_shown(record)}")


def _upload(fields: object, where: str, bucket: object, key: object) -> Upload:
    if not isinstance(bucket, str) or not bucket:
        raise InvalidEvent(f"{where}: the bucket must be a name, not {_shown(bucket)}")
    if not isinstance(key, str) or not key:
        raise InvalidEvent(f"{where}: the key must be text, not {_shown(key)}")
    try:
        key.encode()
    except UnicodeEncodeError:  # JSON can carry half a surrogate pair; S3 cannot
        raise InvalidEvent(f"{where}: the key is not Unicode text: {_shown(key)}") from None
    etag = fields.get("etag", fields.get("eTag")) if isinstance(fields, Mapping) else None
    if etag is not None and not isinstance(etag, str):
        raise InvalidEvent(f"{where}: the etag must be text, not {_shown(etag)}")
    return Upload(bucket, key, etag.strip('"') if etag else None)


def _field(fields: object, name: str) -> Any:
    """Return `fields[name]`, or None: `_upload` then says what is missing."""
    return fields.get(name) if isinstance(fields, Mapping) else None


def _unquoted(key: str, where: str) -> str:
    """Decode a key of an S3 notification: form-encoded UTF-8, a space is a +."""
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise InvalidEvent(f"{where}: the key is not form-encoded UTF-8: {_shown(key)}") from None


def _decoded(text: str, what: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"{what} is not JSON ({error}): expected {EXPECTED}") from None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"  # noqa: PLR2004 - enough to recognise it
