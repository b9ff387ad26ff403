"""Dead letters: what they say, and that sending one is either done or an error."""

import json
import time
from datetime import datetime
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import Hang, Reply, ScriptedServer

from thumbnailer.dead_letters import (
    ATTEMPTS,
    MAX_MESSAGE,
    RESERVE_SECONDS,
    DeadLetter,
    DeadLetterQueue,
    read,
)
from thumbnailer.errors import CorruptImage, InvalidEvent, QueueUnavailable, StorageUnavailable
from thumbnailer.events import Upload, parse


def test_a_letter_is_a_fixed_contract(aws: str) -> None:
    """Version 1: bucket, key, etag, error, attempts, failed_at, request_id; nothing else."""
    sqs: Any = boto3.client("sqs", endpoint_url=aws)
    url = sqs.create_queue(QueueName="letters")["QueueUrl"]
    upload = Upload("b", "uploads/å.jpg", "e1", attempts=1)
    DeadLetterQueue(url).send(DeadLetter.of(upload, CorruptImage("cut short"), "request-1"))
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    letter = json.loads(message["Body"])
    moment = datetime.fromisoformat(letter.pop("failed_at")).utcoffset()
    assert moment is not None
    assert moment.total_seconds() == 0
    assert letter == {
        "version": 1,
        "bucket": "b",
        "key": "uploads/å.jpg",
        "etag": "e1",
        "error": {"type": "CorruptImage", "message": "cut short", "permanent": True},
        "attempts": 2,
        "request_id": "request-1",
    }


def test_a_letter_can_be_replayed() -> None:
    """What is sent is one of the events that the function takes, attempts included."""
    letter = DeadLetter.of(Upload("b", "uploads/a.jpg"), StorageUnavailable("503"), "r")
    assert parse(json.loads(letter.to_json())).uploads == (
        Upload("b", "uploads/a.jpg", attempts=1),
    )


def test_a_queue_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A letter that could not be sent is never swallowed."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    queue = DeadLetterQueue("http://127.0.0.1:9/1/letters")
    with pytest.raises(QueueUnavailable, match=r"uploads/a\.jpg"):
        queue.send(DeadLetter.of(Upload("b", "uploads/a.jpg"), CorruptImage("x"), "r"))


BOTO3_IMPORT = 1.2
"""Seconds of RESERVE_SECONDS that are for the import of boto3, which this process has behind it."""


def test_a_silent_queue_is_told_within_the_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQS that accepts and never answers is asked ATTEMPTS times, and the reserve suffices."""
    with ScriptedServer(Hang()) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        queue = DeadLetterQueue(f"{server.url}/1/letters")
        began = time.monotonic()
        with pytest.raises(QueueUnavailable, match=r"uploads/a\.jpg"):
            queue.send(DeadLetter.of(Upload("b", "uploads/a.jpg"), CorruptImage("x"), "r"))
        assert time.monotonic() - began < RESERVE_SECONDS - BOTO3_IMPORT
        assert len(server.requests) == ATTEMPTS == 2


@pytest.mark.parametrize("status", [400, 403, 503])
def test_a_queue_that_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Whatever SQS answers but success: the letter is not there."""
    with ScriptedServer(Reply(status)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        queue = DeadLetterQueue(f"{server.url}/1/letters")
        with pytest.raises(QueueUnavailable):
            queue.send(DeadLetter.of(Upload("b", "uploads/a.jpg"), CorruptImage("x"), "r"))


@pytest.mark.parametrize("attempts", [0, 4])
def test_a_letter_counts_itself(attempts: int) -> None:
    """`attempts` is one more than the letters that the upload has had."""
    upload = Upload("b", "uploads/a.jpg", attempts=attempts)
    assert DeadLetter.of(upload, CorruptImage("x"), "r").attempts == attempts + 1


def test_a_long_message_is_cut() -> None:
    """A letter fits into the queue's limit (60 KB) even with the longest key and message."""
    upload = Upload("b" * 63, "uploads/" + "😀" * 254, "e" * 40)
    letter = DeadLetter.of(upload, CorruptImage("é" * 100_000), "r").to_json()
    assert len(json.loads(letter)["error"]["message"]) == MAX_MESSAGE + 1
    assert len(letter.encode()) < 61_440 / 2


# --- reading ------------------------------------------------------------------------------------
RECORD = {
    "version": "1.0",
    "timestamp": "2026-01-01T00:00:01.000Z",
    "requestContext": {"approximateInvokeCount": 3, "condition": "RetriesExhausted"},
    "requestPayload": {"Records": []},
    "responsePayload": {"errorType": "StorageUnavailable", "errorMessage": "503"},
}


def test_a_letter_is_read_as_it_was_sent() -> None:
    """Type, message, permanence, attempts and time."""
    letter = DeadLetter.of(Upload("b", "uploads/a.jpg"), CorruptImage("cut"), "r")
    message = read(letter.to_json())
    assert (message.error_type, message.error_message) == ("CorruptImage", "cut")
    assert (message.permanent, message.attempts) == (True, 1)
    assert message.failed_at == datetime.fromisoformat(letter.failed_at)
    assert message.event == json.loads(letter.to_json())


def test_an_on_failure_record_is_read() -> None:
    """The error is the function's answer; the time is when Lambda gave up."""
    message = read(json.dumps(RECORD))
    assert (message.error_type, message.error_message) == ("StorageUnavailable", "503")
    assert (message.permanent, message.attempts) == (None, 3)
    assert message.failed_at == datetime.fromisoformat("2026-01-01T00:00:01+00:00")


def test_an_event_that_expired_tells_its_condition() -> None:
    """No answer of the function is in the record of an event that it never got."""
    record = RECORD | {
        "requestContext": {"approximateInvokeCount": 0, "condition": "EventAgeExceeded"}
    }
    del record["responsePayload"]
    assert read(json.dumps(record)).error_type == "EventAgeExceeded"


def test_an_undelivered_event_is_read() -> None:
    """The rule's queue holds the bare event of EventBridge."""
    event = {"source": "aws.s3", "detail-type": "Object Created", "detail": {}}
    assert read(json.dumps(event)).error_type == "Undelivered"


@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["error", "key", "type", "message", "requestContext", "detail-type"]
                )
                | st.text(),
                inner,
            ),
        ).map(json.dumps),
    )
)
def test_anything_else_is_told_to_be_none_of_ours(body: str) -> None:
    """Any text is either read or an InvalidEvent; nothing else escapes."""
    try:
        message = read(body)
    except InvalidEvent:
        return
    assert isinstance(message.error_type, str)
