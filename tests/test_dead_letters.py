"""Dead letters: what they say, and that sending one is either done or an error."""

import json
import time
from datetime import datetime
from typing import Any

import boto3
import pytest
from scripted_server import Hang, Reply, ScriptedServer

from dead_letters import ATTEMPTS, RESERVE, DeadLetter, DeadLetterQueue
from errors import CorruptImage, QueueUnavailable, StorageUnavailable
from uploads import Upload, parse


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
"""Seconds of RESERVE that are for the import of boto3, which this process has behind it."""


def test_a_silent_queue_is_told_within_the_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQS that accepts and never answers is asked ATTEMPTS times, and the reserve suffices."""
    with ScriptedServer(Hang()) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        queue = DeadLetterQueue(f"{server.url}/1/letters")
        began = time.monotonic()
        with pytest.raises(QueueUnavailable, match=r"uploads/a\.jpg"):
            queue.send(DeadLetter.of(Upload("b", "uploads/a.jpg"), CorruptImage("x"), "r"))
        assert time.monotonic() - began < RESERVE - BOTO3_IMPORT
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
