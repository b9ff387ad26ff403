"""Dead-letter messages: what they contain, and that a message is sent or an error is raised."""

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


def test_a_dead_letter_message_has_exactly_the_fields_of_version_1(aws: str) -> None:
    """It has version, bucket, key, etag, error, attempts, failed_at (in UTC) and request_id."""
    sqs: Any = boto3.client("sqs", endpoint_url=aws)
    url = sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
    upload = Upload("b", "uploads/å.jpg", "e1", attempts=1)
    DeadLetterQueue(url).send(DeadLetter.of(upload, CorruptImage("cut short"), "request-1"))
    (received,) = sqs.receive_message(QueueUrl=url)["Messages"]
    message = json.loads(received["Body"])
    offset = datetime.fromisoformat(message.pop("failed_at")).utcoffset()
    assert offset is not None
    assert offset.total_seconds() == 0
    assert message == {
        "version": 1,
        "bucket": "b",
        "key": "uploads/å.jpg",
        "etag": "e1",
        "error": {"type": "CorruptImage", "message": "cut short", "permanent": True},
        "attempts": 2,
        "request_id": "request-1",
    }


def test_a_dead_letter_message_can_be_replayed() -> None:
    """The message is an event that the function accepts, and keeps the number of attempts."""
    message = DeadLetter.of(Upload("b", "uploads/a.jpg"), StorageUnavailable("503"), "r")
    assert parse(json.loads(message.to_json())).uploads == (
        Upload("b", "uploads/a.jpg", attempts=1),
    )


def test_the_replay_of_a_remake_is_a_remake() -> None:
    """Otherwise it would find the thumbnails current that the remake could not make."""
    upload = Upload("b", "uploads/a.jpg", remake=True)
    message = DeadLetter.of(upload, StorageUnavailable("503"), "r").to_json()
    assert json.loads(message)["remake"] is True
    (replayed,) = parse(json.loads(message)).uploads
    assert replayed.remake


def test_a_queue_that_cannot_be_reached_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that cannot be sent raises QueueUnavailable, which names the upload."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    queue = DeadLetterQueue("http://127.0.0.1:9/1/dead-letters")
    with pytest.raises(QueueUnavailable, match=r"uploads/a\.jpg"):
        queue.send(DeadLetter.of(Upload("b", "uploads/a.jpg"), CorruptImage("x"), "r"))


BOTO3_IMPORT = 1.2
"""Seconds of RESERVE_SECONDS for the import of boto3, which this process has already imported."""


def test_a_queue_that_does_not_answer_is_an_error_within_the_reserved_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If SQS accepts connections and never answers, all ATTEMPTS end within RESERVE_SECONDS."""
    with ScriptedServer(Hang()) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        queue = DeadLetterQueue(f"{server.url}/1/dead-letters")
        began = time.monotonic()
        with pytest.raises(QueueUnavailable, match=r"uploads/a\.jpg"):
            queue.send(DeadLetter.of(Upload("b", "uploads/a.jpg"), CorruptImage("x"), "r"))
        assert time.monotonic() - began < RESERVE_SECONDS - BOTO3_IMPORT
        assert len(server.requests) == ATTEMPTS == 2


@pytest.mark.parametrize("status", [400, 403, 503])
def test_a_queue_that_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Any answer of SQS but success raises QueueUnavailable."""
    with ScriptedServer(Reply(status)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        queue = DeadLetterQueue(f"{server.url}/1/dead-letters")
        with pytest.raises(QueueUnavailable):
            queue.send(DeadLetter.of(Upload("b", "uploads/a.jpg"), CorruptImage("x"), "r"))


@pytest.mark.parametrize("attempts", [0, 4])
def test_the_attempts_of_a_message_include_the_message_itself(attempts: int) -> None:
    """`attempts` is one more than the number of earlier messages of the upload."""
    upload = Upload("b", "uploads/a.jpg", attempts=attempts)
    assert DeadLetter.of(upload, CorruptImage("x"), "r").attempts == attempts + 1


def test_a_long_error_text_is_truncated() -> None:
    """A message with the longest key and error text uses less than half of the queue's 60 KB."""
    upload = Upload("b" * 63, "uploads/" + "😀" * 254, "e" * 40)
    message = DeadLetter.of(upload, CorruptImage("é" * 100_000), "r").to_json()
    assert len(json.loads(message)["error"]["message"]) == MAX_MESSAGE + 1
    assert len(message.encode()) < 61_440 / 2


# --- reading ------------------------------------------------------------------------------------
RECORD = {
    "version": "1.0",
    "timestamp": "2026-01-01T00:00:01.000Z",
    "requestContext": {"approximateInvokeCount": 3, "condition": "RetriesExhausted"},
    "requestPayload": {"Records": []},
    "responsePayload": {"errorType": "StorageUnavailable", "errorMessage": "503"},
}


def test_a_dead_letter_message_is_read_as_it_was_sent() -> None:
    """Error type and text, permanence, attempts, time and event are those that were sent."""
    sent = DeadLetter.of(Upload("b", "uploads/a.jpg"), CorruptImage("cut"), "r")
    message = read(sent.to_json())
    assert (message.error_type, message.error_message) == ("CorruptImage", "cut")
    assert (message.permanent, message.attempts) == (True, 1)
    assert message.failed_at == datetime.fromisoformat(sent.failed_at)
    assert message.event == json.loads(sent.to_json())


def test_an_on_failure_record_is_read() -> None:
    """The error is what the function raised, and the time is when Lambda stopped retrying."""
    message = read(json.dumps(RECORD))
    assert (message.error_type, message.error_message) == ("StorageUnavailable", "503")
    assert (message.permanent, message.attempts) == (None, 3)
    assert message.failed_at == datetime.fromisoformat("2026-01-01T00:00:01+00:00")


def test_the_error_type_of_an_expired_event_is_its_condition() -> None:
    """The record of an event that never reached the function has no response of it."""
    record = RECORD | {
        "requestContext": {"approximateInvokeCount": 0, "condition": "EventAgeExceeded"}
    }
    del record["responsePayload"]
    assert read(json.dumps(record)).error_type == "EventAgeExceeded"


def test_an_undelivered_event_is_read() -> None:
    """The queue of the EventBridge rule has the event itself, whose error type is Undelivered."""
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
def test_any_text_is_read_or_raises_invalid_event(body: str) -> None:
    """No other error is raised, whatever a message contains."""
    try:
        message = read(body)
    except InvalidEvent:
        return
    assert isinstance(message.error_type, str)
