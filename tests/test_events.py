"""Events: every shape that arrives, and every shape that must be refused."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbnailer.errors import InvalidEvent
from thumbnailer.events import Delivery, Source, Upload, parse

LETTER = {
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
    return {
        "Records": [
            {"eventSource": "aws:sqs", "messageId": f"m{index}", "body": json.dumps(body)}
            for index, body in enumerate(bodies)
        ]
    }


def published(message: object) -> Any:
    return {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(message)}}]}


def test_the_sample_event_is_a_full_notification() -> None:
    """tests/sample_event.json, which users copy, is read as S3 sends it."""
    sample = json.loads((Path(__file__).parent / "sample_event.json").read_text())
    delivery = parse(sample)
    assert delivery.source is Source.ASYNC
    (upload,) = delivery.uploads
    assert upload.key == "uploads/photo.jpg"
    assert upload.etag


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
    """S3, SNS and EventBridge tell the same of an object, each in its way."""
    assert parse(event) == Delivery(Source.ASYNC, (UPLOAD,))


@pytest.mark.parametrize("kind", ["ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated"])
def test_a_removal_says_where_to_look(kind: str) -> None:
    """A delete event is an upload to look at, without an etag."""
    (upload,) = parse(notification("uploads/a.jpg", etag=None, name=kind)).uploads
    assert upload == Upload("b", "uploads/a.jpg")


def test_eventbridge_keys_are_not_decoded() -> None:
    """EventBridge sends keys as they are: a + is a plus, %20 is text."""
    detail = {"bucket": {"name": "b"}, "object": {"key": "uploads/a+b%20c.jpg"}}
    (upload,) = parse({"detail-type": "Object Created", "detail": detail}).uploads
    assert upload.key == "uploads/a+b%20c.jpg"


def test_a_test_event_names_no_upload() -> None:
    """S3 sends s3:TestEvent when a notification is set up; there is nothing to do."""
    assert parse({"Service": "Amazon S3", "Event": "s3:TestEvent"}).uploads == ()


def test_a_batch_keeps_the_message_of_each_upload() -> None:
    """What failed is told to SQS by message, so each upload knows its own; SNS in SQS is read."""
    envelope = {"Type": "Notification", "Message": json.dumps(notification("uploads/b.jpg"))}
    delivery = parse(queued(notification("uploads/a.jpg"), envelope, LETTER))
    assert delivery.source is Source.QUEUE
    assert [(u.key, u.message_id, u.attempts) for u in delivery.uploads] == [
        ("uploads/a.jpg", "m0", 0),
        ("uploads/b.jpg", "m1", 0),
        ("uploads/a.jpg", "m2", 2),
    ]


def test_an_unreadable_message_leaves_the_others_readable() -> None:
    """One bad message must not hold up a batch: it is named as a fault."""
    delivery = parse(queued(notification("uploads/a.jpg"), {"hello": "world"}))
    assert [u.key for u in delivery.uploads] == ["uploads/a.jpg"]
    ((message_id, why),) = delivery.faults
    assert message_id == "m1"
    assert "hello" in str(why)


def test_an_unreadable_record_leaves_the_others_readable() -> None:
    """One bad record of a notification is a fault; the uploads beside it are read."""
    event = notification("uploads/a.jpg", "uploads/b.jpg")
    event["Records"].insert(1, {"s3": None})
    delivery = parse(event)
    assert [u.key for u in delivery.uploads] == ["uploads/a.jpg", "uploads/b.jpg"]
    assert [part for part, _ in delivery.faults] == ["Records[1]"]


def test_a_dead_letter_is_a_replay_that_knows_its_attempts() -> None:
    """A letter goes back in as it came out."""
    delivery = parse(LETTER)
    assert delivery.source is Source.REPLAY
    assert delivery.uploads == (Upload("b", "uploads/a.jpg", "e1", attempts=2),)


def test_an_onfailure_record_is_a_replay_of_its_event() -> None:
    """What Lambda gave up on is read through its envelope."""
    record = {
        "version": "1.0",
        "requestContext": {"condition": "RetriesExhausted"},
        "requestPayload": notification("uploads/a.jpg"),
        "responsePayload": {"errorMessage": "…"},
    }
    delivery = parse(record)
    assert delivery.source is Source.REPLAY
    assert delivery.uploads == (Upload("b", "uploads/a.jpg", "e1", attempts=1),)


def test_a_direct_call_may_ask_for_what_is_missing_only() -> None:
    """{"uploads": […]} is for people and state machines; quotes around an etag are dropped."""
    uploads = [
        {"bucket": "b", "key": "uploads/a b.jpg", "etag": '"e1"'},
        {"bucket": "b", "key": "k"},
    ]
    delivery = parse({"uploads": uploads, "only_missing": True})
    assert delivery == Delivery(
        Source.DIRECT, (Upload("b", "uploads/a b.jpg", "e1"), Upload("b", "k")), only_missing=True
    )


def nested(depth: int) -> object:
    event: object = notification("uploads/a.jpg")
    for _ in range(depth):
        event = published(event)
    return event


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "uploads/a.jpg",
        {},
        {"Records": "all"},
        {"Records": [{}]},
        {"Records": [{"s3": {"bucket": {}, "object": {"key": "k"}}}]},
        {"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": 7}}}]},
        {"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": "%ff"}}}]},
        {"Records": [{"s3": None}]},
        {"Records": [{"eventSource": "aws:sqs", "body": "no id"}]},
        {"uploads": {"bucket": "b", "key": "k"}},
        {"uploads": [{"bucket": "b"}]},
        {"uploads": ["k"]},
        {"uploads": [{"bucket": "b", "key": "k", "etag": 1}]},
        {"uploads": [{"bucket": "b", "key": "\ud800"}]},
        {"uploads": [], "only_missing": "yes"},
        {"detail-type": "Object Created", "detail": None},
        {**LETTER, "attempts": "many"},
        {**LETTER, "attempts": 0},
        {"requestContext": {}, "requestPayload": {}},
        nested(9),
    ],
)
def test_a_malformed_event_gets_a_clear_error(event: object) -> None:
    """InvalidEvent, and never a KeyError from the depths: it says what was wrong or expected."""
    with pytest.raises(InvalidEvent, match=r"xpected|must|nested|lacks|encoded|Unicode"):
        parse(event)


@given(st.text(min_size=1, max_size=200))
def test_any_key_survives_a_notification(key: str) -> None:
    """S3 form-encodes keys; whatever they hold comes back whole."""
    (upload,) = parse(notification(key)).uploads
    assert upload.key == key


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


@given(JSON)
def test_no_json_breaks_the_parser(event: object) -> None:
    """Any JSON is either read or refused with InvalidEvent."""
    try:
        delivery = parse(event)
    except InvalidEvent as error:
        assert str(error)  # noqa: PT017
    else:
        assert all(upload.bucket and upload.key for upload in delivery.uploads)
