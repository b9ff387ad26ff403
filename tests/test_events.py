"""Events: every shape that the function accepts, and malformed ones that it refuses."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbnailer.errors import InvalidEvent
from thumbnailer.events import Delivery, Source, Upload, parse

DEAD_LETTER = {
    "version": 1,
    "bucket": "b",
    "key": "uploads/a.jpg",
    "etag": "e1",
    "error": {"type": "CorruptImage", "message": "…", "permanent": True},
    "attempts": 2,
    "failed_at": "2026-01-01T00:00:00+00:00",
    "request_id": "r",
}
UPLOAD = Upload("b", "uploads/a.jpg", "e1")


def notification(*keys: str, etag: str | None = "e1", name: str = "ObjectCreated:Put") -> Any:
    """Build an S3 notification with one record for each key, in bucket `b`."""
    stored = {} if etag is None else {"eTag": etag}
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "eventName": name,
                "s3": {"bucket": {"name": "b"}, "object": {"key": quote_plus(key), **stored}},
            }
            for key in keys
        ]
    }


def queued(*bodies: object) -> Any:
    """Build a batch of SQS messages m0, m1, … with these bodies as JSON."""
    return {
        "Records": [
            {"eventSource": "aws:sqs", "messageId": f"m{index}", "body": json.dumps(body)}
            for index, body in enumerate(bodies)
        ]
    }


def published(message: object) -> Any:
    """Build an event of SNS with this message as JSON."""
    return {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(message)}}]}


def test_the_sample_event_is_a_notification() -> None:
    """The event in tests/sample_event.json, which users copy, is read like those of S3."""
    sample = json.loads((Path(__file__).parent / "sample_event.json").read_text())
    delivery = parse(sample)
    assert delivery.source is Source.ASYNC
    (upload,) = delivery.uploads
    assert upload.key == "uploads/photo.jpg"
    assert upload.etag == sample["Records"][0]["s3"]["object"]["eTag"]


@pytest.mark.parametrize(
    "event",
    [
        notification("uploads/a.jpg"),
        published(notification("uploads/a.jpg")),
        {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {"bucket": {"name": "b"}, "object": {"key": "uploads/a.jpg", "etag": "e1"}},
        },
    ],
    ids=["s3", "sns", "eventbridge"],
)
def test_asynchronous_shapes_name_the_same_upload(event: object) -> None:
    """S3, SNS and EventBridge describe an object in different shapes with the same content."""
    assert parse(event) == Delivery(Source.ASYNC, (UPLOAD,))


@pytest.mark.parametrize("kind", ["ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated"])
def test_a_delete_event_names_an_upload_without_an_etag(kind: str) -> None:
    """The function then checks whether the object still exists."""
    (upload,) = parse(notification("uploads/a.jpg", etag=None, name=kind)).uploads
    assert upload == Upload("b", "uploads/a.jpg")


def test_keys_from_eventbridge_are_not_decoded() -> None:
    """EventBridge sends keys unencoded, so that `+` and `%20` are part of the key."""
    detail = {"bucket": {"name": "b"}, "object": {"key": "uploads/a+b%20c.jpg"}}
    (upload,) = parse({"detail-type": "Object Created", "detail": detail}).uploads
    assert upload.key == "uploads/a+b%20c.jpg"


def test_a_test_event_names_no_upload() -> None:
    """S3 sends s3:TestEvent when a notification is configured."""
    assert parse({"Service": "Amazon S3", "Event": "s3:TestEvent"}).uploads == ()


def test_each_upload_of_a_batch_has_the_id_of_its_sqs_message() -> None:
    """The response to SQS names messages. Notifications, SNS and dead-letter messages are read."""
    envelope = {"Type": "Notification", "Message": json.dumps(notification("uploads/b.jpg"))}
    delivery = parse(queued(notification("uploads/a.jpg"), envelope, DEAD_LETTER))
    assert delivery.source is Source.QUEUE
    assert [(each.key, each.message_id, each.attempts) for each in delivery.uploads] == [
        ("uploads/a.jpg", "m0", 0),
        ("uploads/b.jpg", "m1", 0),
        ("uploads/a.jpg", "m2", 2),
    ]


def test_an_unreadable_message_of_a_batch_is_a_fault_beside_the_other_uploads() -> None:
    """The other messages are read, and the fault has the message's id and the reason."""
    delivery = parse(queued(notification("uploads/a.jpg"), {"hello": "world"}))
    assert [upload.key for upload in delivery.uploads] == ["uploads/a.jpg"]
    ((message_id, error),) = delivery.faults
    assert message_id == "m1"
    assert "hello" in str(error)


def test_an_unreadable_record_of_a_notification_is_a_fault_beside_the_other_uploads() -> None:
    """The other records are read, and the fault has the position of the record."""
    event = notification("uploads/a.jpg", "uploads/b.jpg")
    event["Records"].insert(1, {"s3": None})
    delivery = parse(event)
    assert [upload.key for upload in delivery.uploads] == ["uploads/a.jpg", "uploads/b.jpg"]
    assert [part for part, _ in delivery.faults] == ["Records[1]"]


def test_a_dead_letter_message_is_a_replay_with_its_attempts() -> None:
    """The function accepts a message exactly as it sent it."""
    delivery = parse(DEAD_LETTER)
    assert delivery.source is Source.REPLAY
    assert delivery.uploads == (Upload("b", "uploads/a.jpg", "e1", attempts=2),)


def test_an_on_failure_record_is_a_replay_of_its_event() -> None:
    """The event that Lambda stopped retrying is read from the record around it."""
    record = {
        "version": "1.0",
        "requestContext": {"condition": "RetriesExhausted"},
        "requestPayload": notification("uploads/a.jpg"),
        "responsePayload": {"errorMessage": "…"},
    }
    delivery = parse(record)
    assert delivery.source is Source.REPLAY
    assert delivery.uploads == (Upload("b", "uploads/a.jpg", "e1", attempts=1),)


def test_a_direct_call_names_uploads_and_may_set_only_missing() -> None:
    """{"uploads": […]} is for people and state machines; quotes around an etag are removed."""
    uploads = [
        {"bucket": "b", "key": "uploads/a b.jpg", "etag": '"e1"'},
        {"bucket": "b", "key": "k"},
    ]
    delivery = parse({"uploads": uploads, "only_missing": True})
    assert delivery == Delivery(
        Source.DIRECT, (Upload("b", "uploads/a b.jpg", "e1"), Upload("b", "k")), only_missing=True
    )


def test_a_direct_call_may_ask_for_a_remake() -> None:
    """Of each of its uploads; the record of a failed asynchronous call keeps that."""
    event = {"uploads": [{"bucket": "b", "key": "k"}], "remake": True, "only_missing": False}
    upload = Upload("b", "k", remake=True)
    assert parse(event) == Delivery(Source.DIRECT, (upload,))
    failed = parse({"requestContext": {}, "requestPayload": event})
    assert failed.uploads == (upload._replace(attempts=1),)


def nested(depth: int) -> object:
    """Wrap a notification in SNS messages, `depth` times."""
    event: object = notification("uploads/a.jpg")
    for _ in range(depth):
        event = published(event)
    return event


EXPECTED = "Expected an S3 notification .*, got "


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (None, EXPECTED + "None"),
        ([], EXPECTED + r"\[\]"),
        ("uploads/a.jpg", EXPECTED + "'uploads/a.jpg'"),
        ({}, EXPECTED + "{}"),
        ({"Records": "all"}, EXPECTED + "{'Records': 'all'}"),
        ({"Records": [{}]}, r"Records\[0\]: expected an S3 notification .*, got {}"),
        (
            {"Records": [{"s3": {"bucket": {}, "object": {"key": "k"}}}]},
            r"Records\[0\].s3: the bucket must be a name, not None",
        ),
        (
            {"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": 7}}}]},
            r"Records\[0\].s3.object.key must be text, not 7",
        ),
        (
            {"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": "%ff"}}}]},
            r"Records\[0\]: the key is not form-encoded UTF-8: '%ff'",
        ),
        ({"Records": [{"s3": None}]}, r"Records\[0\].s3.object.key must be text, not None"),
        (
            {"Records": [{"eventSource": "aws:sqs", "body": "no id"}]},
            r"Records\[0\] lacks messageId or body",
        ),
        ({"uploads": {"bucket": "b", "key": "k"}}, '"uploads" must be a list, not dict'),
        ({"uploads": [{"bucket": "b"}]}, r"uploads\[0\]: the key must be text, not None"),
        ({"uploads": ["k"]}, r"uploads\[0\]: the bucket must be a name, not None"),
        (
            {"uploads": [{"bucket": "b", "key": "k", "etag": 1}]},
            r"uploads\[0\]: the etag must be text, not 1",
        ),
        (
            {"uploads": [{"bucket": "b", "key": "\ud800"}]},
            r"uploads\[0\]: the key is not Unicode text",
        ),
        ({"uploads": [], "only_missing": "yes"}, '"only_missing" must be true or false'),
        ({"uploads": [], "report_once": 1}, '"report_once" must be true or false'),
        ({"uploads": [], "remake": 1}, '"remake" must be true or false'),
        ({"uploads": [], "remake": True, "only_missing": True}, "exclude each other"),
        (
            {"detail-type": "Object Created", "detail": None},
            "detail.object: the bucket must be a name, not None",
        ),
        ({**DEAD_LETTER, "attempts": "many"}, "\"attempts\" must be a count, not 'many'"),
        ({**DEAD_LETTER, "attempts": 0}, '"attempts" must be a count, not 0'),
        ({"requestContext": {}, "requestPayload": {}}, EXPECTED + "{}"),
        (nested(9), "The event is nested more than 4 deep"),
    ],
)
def test_a_malformed_event_raises_an_error_that_says_what_is_wrong(
    event: object, message: str
) -> None:
    """The error is InvalidEvent, and not a KeyError from inside the parser."""
    with pytest.raises(InvalidEvent, match=message):
        parse(event)


@given(st.text(min_size=1, max_size=200))
def test_any_key_survives_a_notification(key: str) -> None:
    """S3 form-encodes keys in notifications; decoding gives the key of the object."""
    (upload,) = parse(notification(key)).uploads
    assert upload.key == key


OBJECTS = st.fixed_dictionaries(
    {"bucket": st.text(min_size=1, max_size=3), "key": st.text(max_size=3)},
    optional={"etag": st.text(max_size=3) | st.none()},
)
"""Objects of a direct call. They are valid, unless the key is empty."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["Records", "s3", "bucket", "object", "key", "name", "uploads", "eventSource", "body"]
        )
        | st.text(max_size=5),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)


@given(JSON | st.fixed_dictionaries({"uploads": st.lists(OBJECTS, max_size=3)}))
def test_any_json_is_read_or_refused(event: object) -> None:
    """No JSON raises anything but InvalidEvent, and every upload has a bucket and a key."""
    try:
        delivery = parse(event)
    except InvalidEvent as error:
        assert str(error)  # noqa: PT017
    else:
        assert all(upload.bucket and upload.key for upload in delivery.uploads)
