"""Reading the dead-letter queue: all of it, without changing it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from serving import ministack

from image_pipeline.stack import dead_letters
from image_pipeline.stack.aws import Aws

pytestmark = pytest.mark.local_stack

EVENT = {
    "Records": [
        {"s3": {"bucket": {"name": "in"}, "object": {"key": f"uploads/{name}+1.jpg", "eTag": "e"}}}
        for name in ("a", "b")
    ]
}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """A local AWS to keep queues in."""
    with ministack(tmp_path_factory.mktemp("queues")) as (local, _):
        yield local


@pytest.fixture
def queue(aws: Aws, request: pytest.FixtureRequest) -> str:
    """URL of an empty queue."""
    name = request.node.name.partition("[")[0]
    return aws.sqs.create_queue(QueueName=name[:80])["QueueUrl"]


def message(key: str, **changed: Any) -> str:
    """A dead-letter message as the function writes it."""
    return json.dumps(
        {
            "version": 1,
            "bucket": "in",
            "key": key,
            "etag": "e",
            "error": {"type": "CorruptImage", "message": "It ends early", "permanent": True},
            "attempts": 1,
            "failed_at": "2026-01-01T00:00:00+00:00",
            "request_id": "r",
        }
        | changed
    )


def test_a_read_returns_all_messages_and_removes_none(aws: Aws, queue: str) -> None:
    """Each message is read once, though one request returns fewer; a second read is the same."""
    for number in range(25):
        aws.sqs.send_message(QueueUrl=queue, MessageBody=message(f"uploads/{number}.jpg"))
    for _ in range(2):
        found = dead_letters.read(aws.sqs, queue)
        assert sorted(each.key for each in found) == sorted(
            f"uploads/{number}.jpg" for number in range(25)
        )
    assert dead_letters.depth(aws.sqs, queue) == 25
    assert len(dead_letters.read(aws.sqs, queue, limit=10)) == 10
    visible = aws.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    assert len(visible) == 10, "nothing stays hidden"


def test_a_message_is_parsed(aws: Aws, queue: str) -> None:
    """Everything that the function wrote about the failure is there."""
    aws.sqs.send_message(QueueUrl=queue, MessageBody=message("uploads/ü x.jpg", attempts=3))
    (found,) = dead_letters.read(aws.sqs, queue)
    assert (found.bucket, found.key, found.etag, found.attempts, found.permanent) == (
        "in",
        "uploads/ü x.jpg",
        "e",
        3,
        True,
    )
    assert (found.error_type, found.error_message) == ("CorruptImage", "It ends early")


def test_an_on_failure_record_names_every_upload_of_its_event(aws: Aws, queue: str) -> None:
    """One record may name several uploads; its keys are decoded."""
    record = {
        "version": "1.0",
        "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
        "requestPayload": EVENT,
        "responsePayload": {"errorType": "StorageUnavailable", "errorMessage": "S3 is away"},
    }
    aws.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(record))
    found = dead_letters.read(aws.sqs, queue)
    assert [each.key for each in found] == ["uploads/a 1.jpg", "uploads/b 1.jpg"]
    assert {(each.error_type, each.attempts, each.permanent) for each in found} == {
        ("StorageUnavailable", 3, None)
    }


@pytest.mark.parametrize(
    "response", [None, {}, {"errorMessage": "2026-01-01 Task timed out after 30.00 seconds"}]
)
def test_an_on_failure_record_without_an_error_type_has_its_condition(
    aws: Aws, queue: str, response: Any
) -> None:
    """An event that grew too old, or an environment that died, has no typed error."""
    record = {
        "requestContext": {"condition": "EventAgeExceeded", "approximateInvokeCount": 2},
        "requestPayload": {"not": "an event"},
        "responsePayload": response,
    }
    aws.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(record))
    *_, found = dead_letters.read(aws.sqs, queue)
    assert (found.key, found.error_type, found.attempts) == ("", "EventAgeExceeded", 2)


@pytest.mark.parametrize("body", ["no JSON", "[]", '"text"', "null", '{"some": "thing"}'])
def test_an_unreadable_message_is_shown_as_it_is(aws: Aws, queue: str, body: str) -> None:
    """A foreign message is not hidden, and is no error."""
    aws.sqs.send_message(QueueUrl=queue, MessageBody=body)
    *_, found = dead_letters.read(aws.sqs, queue)
    assert (found.error_type, found.key) == ("Unreadable", "")
    assert body in found.error_message
