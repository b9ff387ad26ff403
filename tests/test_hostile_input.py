"""Malicious events and messages: each has a defined outcome and does not affect others.

Keys are tested in tests/local_stack/test_hostile_keys.py, images in test_bombs.py, test_fuzz.py
and test_corpus.py.
"""

import json
from typing import Any

import pytest
from aws_names import INPUT
from pictures import jpeg
from test_events import notification
from test_handler import Context, Stack

from thumbnailer.errors import InvalidEvent, OutOfTime


@pytest.fixture
def stack(s3: Any, aws: str) -> Stack:
    """Return a stack whose buckets and queue are empty."""
    return Stack(s3, aws)


def nested(depth: int) -> Any:
    """Wrap a notification in SNS messages, `depth` times or until it has 200,000 characters."""
    event: Any = notification("uploads/a.jpg")
    for _ in range(depth):
        event = {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(event)}}]}
        if len(json.dumps(event)) > 200_000:
            break  # each level escapes the quotes again, which doubles them
    return event


EVENTS: dict[str, Any] = {
    "nothing": {},
    "null": None,
    "a number": 1,
    "a string": "uploads/a.jpg",
    "a list": [notification("uploads/a.jpg")],
    "no records": {"Records": None},
    "records that are numbers": {"Records": [1, 2, 3]},
    "an unknown version": {"version": "99", "detail-type": "Object Imagined", "detail": {}},
    "nested too deeply": nested(8),
    "a key that is a list": {"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": []}}}]},
    "a key that is not UTF-8": {
        "Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": "%ff"}}}]
    },
    "a key with half a surrogate pair": {"uploads": [{"bucket": "b", "key": "uploads/\ud800"}]},
    "uploads that are a string": {"uploads": "all"},
    "a flag that is a string": {"uploads": [], "only_missing": "yes"},
    "a negative number of attempts": {
        "error": {"type": "x", "message": "y"},
        "bucket": "b",
        "key": "uploads/a",
        "attempts": -1,
    },
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
def test_an_event_of_unknown_shape_is_refused(stack: Stack, event: Any) -> None:
    """InvalidEvent has a message of limited length, and nothing is written."""
    with pytest.raises(InvalidEvent) as raised:
        stack.function(event, Context())
    assert len(str(raised.value)) < 1000
    assert stack.outputs() == []


def test_an_event_for_another_bucket_gives_no_further_permissions(stack: Stack) -> None:
    """The function reads with its own permissions: a bucket that it cannot read makes it fail."""
    event = {"uploads": [{"bucket": "somebody-elses-bucket", "key": "uploads/a.jpg"}]}
    (failed,) = stack.function(event, Context())["failed"]
    assert failed["error"]["permanent"] is False
    assert stack.outputs() == []


def test_the_output_bucket_is_never_a_source(stack: Stack) -> None:
    """An image in the output bucket is skipped, so that no event can start a loop."""
    bucket = stack.function.settings.output_bucket
    stack.s3.put_object(Bucket=bucket, Key="uploads/a.jpg", Body=jpeg((100, 100)))
    result = stack.function({"uploads": [{"bucket": bucket, "key": "uploads/a.jpg"}]}, Context())
    (skipped,) = result["skipped"]
    assert "input and output must differ" in skipped["reason"]
    assert stack.outputs() == ["uploads/a.jpg"]


def test_an_event_with_ten_thousand_uploads_is_processed_to_the_end(stack: Stack) -> None:
    """Each upload, here outside of the prefix, is in the result."""
    event = {"uploads": [{"bucket": INPUT, "key": f"elsewhere/{n}"} for n in range(10_000)]}
    result = stack.function(event, Context())
    assert [each["key"] for each in result["skipped"]] == [
        upload["key"] for upload in event["uploads"]
    ]


@pytest.mark.slow
def test_an_event_with_ten_thousand_uploads_and_no_time_loses_none(stack: Stack) -> None:
    """They are returned as not done, or the whole event is retried."""
    stack.upload("uploads/a.jpg", jpeg((100, 100)))
    records = [*notification("uploads/a.jpg")["Records"] * 10_000]
    no_time = Context(lambda: 1_000)
    with pytest.raises(OutOfTime):
        stack.invoke({"Records": records}, no_time)
    uploads = [{"bucket": INPUT, "key": "uploads/a.jpg"}] * 10_000
    assert len(stack.function({"uploads": uploads}, no_time)["not_done"]) == 10_000


MESSAGES: dict[str, str] = {
    "empty": "",
    "not JSON": "hello",
    "of another program": '{"order": 17}',
    "60,000 brackets": "[" * 60_000,
    "20,000 quotes": json.dumps({"Type": "Notification", "Message": '"' * 20_000}),
    "NUL": "\0" * 100,
    "a dead-letter message without a key": '{"version": 1, "bucket": "b", "error": {"type": "x"}}',
    "a dead-letter message whose key is a number": json.dumps(
        {"error": {"type": "x", "message": "y"}, "bucket": "b", "key": 7, "attempts": 1}
    ),
    "a dead-letter message of a later version": '{"version": 2, "sources": []}',
    "XML": "<!DOCTYPE x [<!ENTITY a '&a;&a;'>]><x>&a;</x>",
}


@pytest.mark.parametrize("body", MESSAGES.values(), ids=MESSAGES.keys())
def test_a_replay_leaves_messages_that_this_pipeline_did_not_write(stack: Stack, body: str) -> None:
    """It reports them as unreadable and writes nothing, so they stay on the queue."""
    assert stack.function({"letter": body}, Context()) == {"left": "unreadable"}
    assert stack.outputs() == []
    assert stack.dead_letters() == []


@pytest.mark.parametrize("before", [7, "yesterday", ["x"], {"a": 1}])
def test_a_replay_with_an_invalid_time_is_refused(stack: Stack, before: Any) -> None:
    """It is the caller's mistake, and the message is not processed."""
    stack.upload("uploads/a.jpg", jpeg((100, 100)))
    message = {
        "error": {"type": "x", "message": "y", "permanent": True},
        "bucket": INPUT,
        "key": "uploads/a.jpg",
        "attempts": 1,
        "failed_at": "2026-01-01T00:00:00+00:00",
    }
    with pytest.raises(InvalidEvent):
        stack.function({"letter": json.dumps(message), "failed_before": before}, Context())
    assert stack.outputs() == []


def test_a_forged_message_makes_nothing_but_the_thumbnails_of_an_upload(stack: Stack) -> None:
    """Whoever can write to the queue can have an upload processed again, and do nothing else."""
    stack.upload("uploads/a.jpg", jpeg((100, 100)))
    message = {
        "error": {"type": "__import__('os').system('id')", "message": "{0.__class__}"},
        "bucket": INPUT,
        "key": "uploads/a.jpg",
        "attempts": 10**30,
    }
    result = stack.function({"letter": json.dumps(message)}, Context())
    assert result["processed"] == 1
    assert stack.outputs() == ["a_128w.webp", "a_512w.webp"]
