"""Events and messages that were made to harm: each has its outcome, and none takes others along.

Names are in tests/local_stack/test_hostile_keys.py, images in test_bombs.py, test_fuzz.py and
test_corpus.py.
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
    """Both buckets, the queue and the function."""
    return Stack(s3, aws)


def nested(depth: int) -> Any:
    """SNS within SNS within …, around a real notification."""
    event: Any = notification("uploads/a.jpg")
    for _ in range(depth):
        event = {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(event)}}]}
        if len(json.dumps(event)) > 200_000:
            break  # quotes double at every level
    return event


EVENTS: dict[str, Any] = {
    "nothing": {},
    "null": None,
    "a number": 1,
    "a text": "uploads/a.jpg",
    "a list": [notification("uploads/a.jpg")],
    "no records": {"Records": None},
    "records that are numbers": {"Records": [1, 2, 3]},
    "an unknown version": {"version": "99", "detail-type": "Object Imagined", "detail": {}},
    "nested too deep": nested(8),
    "a key that is a list": {"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": []}}}]},
    "a key of no encoding": {
        "Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": "%ff"}}}]
    },
    "a key of half a character": {"uploads": [{"bucket": "b", "key": "uploads/\ud800"}]},
    "uploads that are a text": {"uploads": "all"},
    "a flag that is none": {"uploads": [], "only_missing": "yes"},
    "a negative number of attempts": {
        "error": {"type": "x", "message": "y"},
        "bucket": "b",
        "key": "uploads/a",
        "attempts": -1,
    },
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
def test_an_event_of_no_known_shape_is_refused(stack: Stack, event: Any) -> None:
    """InvalidEvent says what was expected, in bounded words; nothing is read or written."""
    with pytest.raises(InvalidEvent) as raised:
        stack.function(event, Context())
    assert len(str(raised.value)) < 1000
    assert stack.outputs() == []


def test_an_event_of_another_bucket_reads_what_the_role_may_read(stack: Stack) -> None:
    """A forged event names an object, whose bytes come by the function's own rights: here none."""
    event = {"uploads": [{"bucket": "somebody-elses-bucket", "key": "uploads/a.jpg"}]}
    (failed,) = stack.function(event, Context())["failed"]
    assert failed["error"]["permanent"] is False
    assert stack.outputs() == []


def test_the_output_bucket_is_never_a_source(stack: Stack) -> None:
    """An event that names it is skipped: no loop, whatever somebody sends."""
    bucket = stack.function.settings.output_bucket
    told = stack.function({"uploads": [{"bucket": bucket, "key": "uploads/a.jpg"}]}, Context())
    assert told["skipped"][0]["key"] == "uploads/a.jpg"


def test_ten_thousand_records_of_nothing_are_worked_off(stack: Stack) -> None:
    """A huge event of objects that are not there costs a GET each, and time ends it, not memory."""
    event = {"uploads": [{"bucket": INPUT, "key": f"elsewhere/{n}"} for n in range(10_000)]}
    told = stack.function(event, Context())
    assert len(told["skipped"]) == 10_000


def test_a_huge_event_without_time_loses_nothing(stack: Stack) -> None:
    """What does not fit into the time is told as not done, or the whole event is tried again."""
    stack.upload("uploads/a.jpg", jpeg((100, 100)))
    records = [*notification("uploads/a.jpg")["Records"] * 10_000]
    short = Context(lambda: 1_000)
    with pytest.raises(OutOfTime):
        stack.invoke({"Records": records}, short)
    uploads = [{"bucket": INPUT, "key": "uploads/a.jpg"}] * 10_000
    assert len(stack.function({"uploads": uploads}, short)["not_done"]) == 10_000


MESSAGES: dict[str, str] = {
    "empty": "",
    "no JSON": "hello",
    "another program's": '{"order": 17}',
    "a million brackets": "[" * 60_000,
    "a bomb of quotes": json.dumps({"Type": "Notification", "Message": '"' * 20_000}),
    "NUL": "\0" * 100,
    "a letter without a key": '{"version": 1, "bucket": "b", "error": {"type": "x"}}',
    "a letter with a key of numbers": json.dumps(
        {"error": {"type": "x", "message": "y"}, "bucket": "b", "key": 7, "attempts": 1}
    ),
    "a letter of a later version": '{"version": 2, "sources": []}',
    "markup": "<!DOCTYPE x [<!ENTITY a '&a;&a;'>]><x>&a;</x>",
}


@pytest.mark.parametrize("body", MESSAGES.values(), ids=MESSAGES.keys())
def test_a_message_that_is_none_of_ours_is_left(stack: Stack, body: str) -> None:
    """A replay says so and touches nothing: the message stays on the queue, for who owns it."""
    assert stack.function({"letter": body}, Context()) == {"left": "unreadable"}
    assert stack.outputs() == []
    assert stack.letters() == []


@pytest.mark.parametrize("before", [7, "yesterday", ["x"], {"a": 1}])
def test_a_replay_with_a_wrong_time_is_refused(stack: Stack, before: Any) -> None:
    """The caller's mistake, and no letter is touched."""
    letter = {
        "error": {"type": "x", "message": "y", "permanent": True},
        "bucket": INPUT,
        "key": "uploads/a.jpg",
        "attempts": 1,
        "failed_at": "2026-01-01T00:00:00+00:00",
    }
    with pytest.raises(InvalidEvent):
        stack.function({"letter": json.dumps(letter), "failed_before": before}, Context())


def test_a_letter_with_a_forged_key_makes_no_more_than_its_thumbnails(stack: Stack) -> None:
    """Who may write to the queue can have an upload looked at again, and nothing else."""
    stack.upload("uploads/a.jpg", jpeg((100, 100)))
    letter = {
        "error": {"type": "__import__('os').system('id')", "message": "{0.__class__}"},
        "bucket": INPUT,
        "key": "uploads/a.jpg",
        "attempts": 10**30,
    }
    told = stack.function({"letter": json.dumps(letter)}, Context())
    assert told["processed"] == 1
    assert stack.outputs() == ["a_128w.webp", "a_512w.webp"]
