"""A backfill reports a failure once: the marks, and the messages of images that end the process."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aws_names import INPUT, OUTPUT
from pictures import jpeg
from test_events import notification
from test_handler import Context, Stack

from thumbnailer.errors import InvalidEvent, QueueUnavailable, StorageDenied
from thumbnailer.failure_marks import MARKED_AT, PREFIX, VALID
from thumbnailer.storage import S3Bucket

KEY = "uploads/a b+é.jpg"
BROKEN, OTHER = b"not an image", b"not an image either"


@pytest.fixture
def stack(s3: Any, aws: str) -> Stack:
    """Return a stack whose buckets and queue are empty."""
    return Stack(s3, aws)


def backfill(stack: Stack, **more: object) -> Any:
    """Call the function as iac/backfill.asl.json does."""
    uploads = [{"bucket": INPUT, "key": KEY}]
    event = {"uploads": uploads, "only_missing": True, "summary": True, "report_once": True}
    return stack.invoke(event | more)


def report(stack: Stack, kind: str = "Runtime.ExitError", **more: object) -> Any:
    """Report that the image ended the process, as iac/backfill.asl.json does."""
    error = {"type": kind, "message": "m" * 3000}
    failed = {"bucket": INPUT, "key": KEY, "etag": '"e"', "remake": False, "error": error}
    return stack.invoke({"report": failed | more})


def take(stack: Stack) -> str:
    """Take one message off the queue; its body."""
    received = stack.sqs.receive_message(QueueUrl=stack.queue_url)
    (message,) = received["Messages"]
    stack.sqs.delete_message(QueueUrl=stack.queue_url, ReceiptHandle=message["ReceiptHandle"])
    body: str = message["Body"]
    return body


def marks(stack: Stack) -> list[str]:
    """The keys of all marks."""
    return [key for key in stack.outputs() if key.startswith(PREFIX)]


def test_a_second_backfill_adds_no_message_for_the_same_failure(stack: Stack) -> None:
    """The failure is still counted, and its message and mark stay as they are."""
    stack.upload(KEY, BROKEN)
    for _ in range(3):
        assert backfill(stack)["failed"] == 1
    (message,) = stack.dead_letters()
    (mark,) = marks(stack)
    assert json.loads(stack.s3.get_object(Bucket=OUTPUT, Key=mark)["Body"].read()) == message
    assert stack.invoke({"report": {**message, "error": message["error"]}}) == {"failed": 1}
    assert len(stack.dead_letters()) == 1


def test_other_bytes_or_another_error_are_another_failure(stack: Stack) -> None:
    """The message on the queue does not report them."""
    stack.upload(KEY, BROKEN)
    backfill(stack)
    stack.upload(KEY, OTHER)
    backfill(stack)
    stack.upload(KEY, jpeg()[:-400])
    backfill(stack)
    report(stack)
    report(stack)
    assert len(stack.dead_letters()) == 4


def test_events_and_direct_calls_leave_no_mark(stack: Stack) -> None:
    """Their failures cost no request more, and direct calls are reported each time."""
    stack.upload(KEY, BROKEN)
    stack.invoke(notification(KEY))
    backfill(stack, report_once=False)
    backfill(stack, report_once=False)
    assert len(stack.dead_letters()) == 3
    assert marks(stack) == []


def test_a_mark_counts_as_long_as_the_queue_keeps_its_message(stack: Stack) -> None:
    """After that, the failure is reported again."""
    stack.upload(KEY, BROKEN)
    backfill(stack)
    (mark,) = marks(stack)
    for age, messages in ((VALID - timedelta(hours=1), 1), (VALID + timedelta(hours=1), 2)):
        metadata = stack.s3.head_object(Bucket=OUTPUT, Key=mark)["Metadata"]
        metadata[MARKED_AT] = (datetime.now(UTC) - age).isoformat()
        stack.s3.put_object(Bucket=OUTPUT, Key=mark, Body=b"{}", Metadata=metadata)
        backfill(stack)
        assert len(stack.dead_letters()) == messages


@pytest.mark.parametrize("time", ["", "yesterday", "2026-01-01T00:00:00"])
def test_a_mark_without_a_time_does_not_count(stack: Stack, time: str) -> None:
    """Rather a second message than none."""
    stack.upload(KEY, BROKEN)
    backfill(stack)
    (mark,) = marks(stack)
    metadata = stack.s3.head_object(Bucket=OUTPUT, Key=mark)["Metadata"] | {MARKED_AT: time}
    stack.s3.put_object(Bucket=OUTPUT, Key=mark, Body=b"{}", Metadata=metadata)
    backfill(stack)
    assert len(stack.dead_letters()) == 2


def test_a_replay_that_succeeds_clears_the_mark(stack: Stack) -> None:
    """If the same bytes fail again later, a backfill reports them: no message is left."""
    stack.upload(KEY, BROKEN)
    backfill(stack)
    letter = take(stack)
    stack.upload(KEY, jpeg())
    assert stack.invoke({"letter": letter})["processed"] == 1
    stack.upload(KEY, BROKEN)
    backfill(stack, only_missing=False)
    assert len(stack.dead_letters()) == 1


def test_a_replay_of_a_deleted_image_clears_the_mark(stack: Stack) -> None:
    """Its message leaves the queue, too."""
    stack.upload(KEY, BROKEN)
    backfill(stack)
    stack.s3.delete_object(Bucket=INPUT, Key=KEY)
    assert stack.invoke({"letter": take(stack)})["skipped"] == 1
    stack.upload(KEY, BROKEN)
    backfill(stack)
    assert len(stack.dead_letters()) == 1


def test_a_replay_that_fails_again_marks_its_new_message(stack: Stack) -> None:
    """A replay always sends it, because the old one is deleted; a backfill then adds none."""
    stack.upload(KEY, BROKEN)
    backfill(stack)
    assert stack.invoke({"letter": take(stack)})["failed"] == 1
    backfill(stack)
    (message,) = stack.dead_letters()
    assert message["attempts"] == 2


def test_a_message_is_sent_before_its_mark_is_written(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nothing is lost where the queue refuses, or where the process ends between the two."""
    stack.upload(KEY, BROKEN)
    with monkeypatch.context() as patch:
        patch.setattr(stack.function.queue, "_url", stack.queue_url + "-gone")
        with pytest.raises(QueueUnavailable):
            backfill(stack)
    assert marks(stack) == []
    backfill(stack)
    assert len(stack.dead_letters()) == 1


@pytest.mark.parametrize("method", ["head", "put"])
def test_without_access_to_marks_a_failure_is_reported_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A mark is a convenience; its failure is not that of the upload."""

    def refuse(*_: object, **__: object) -> None:
        raise StorageDenied("no")

    stack.upload(KEY, BROKEN)
    monkeypatch.setattr(S3Bucket, method, refuse)
    for count in (1, 2):
        assert report(stack) == {"failed": 1}
        assert len(stack.dead_letters()) == count


def test_a_mark_that_changed_meanwhile_is_left(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay may have taken the message off the queue before its mark is written."""
    report(stack)
    (mark,) = marks(stack)
    send = stack.function.queue.send

    def send_while_others_write(message: Any) -> None:
        send(message)
        stack.s3.put_object(Bucket=OUTPUT, Key=mark, Body=b"cleared")

    monkeypatch.setattr(stack.function.queue, "send", send_while_others_write)
    report(stack, "Sandbox.Timedout")
    assert stack.s3.get_object(Bucket=OUTPUT, Key=mark)["Body"].read() == b"cleared"


def test_a_report_becomes_a_message(stack: Stack) -> None:
    """As if the function had sent it, with the id of the execution and a message of limited size.

    A replay of it is then a remake, if the backfill was one.
    """
    report(stack, remake=True, request_id="execution")
    (message,) = stack.dead_letters()
    assert datetime.now(UTC) - datetime.fromisoformat(message.pop("failed_at")) < VALID
    assert message == {
        "version": 1,
        "bucket": INPUT,
        "key": KEY,
        "etag": "e",
        "error": {"type": "Runtime.ExitError", "message": "m" * 2000, "permanent": False},
        "attempts": 1,
        "request_id": "execution",
        "remake": True,
    }
    report(stack, "Sandbox.Timedout")
    ids = {each["request_id"] for each in stack.dead_letters()}
    assert ids == {"execution", Context.aws_request_id}


@pytest.mark.parametrize(
    "wrong", ["text", {}, {"bucket": INPUT, "key": KEY}, {"bucket": INPUT, "error": {}}]
)
def test_a_report_of_another_shape_is_refused(stack: Stack, wrong: object) -> None:
    """The error says what is missing."""
    with pytest.raises(InvalidEvent, match="report"):
        stack.invoke({"report": wrong})
