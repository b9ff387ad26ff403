"""The whole handler: from events to objects, dead-letter messages, results and raised errors."""

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_names import INPUT, OUTPUT
from pictures import decoded, encoded, is_upright, jpeg, quadrants
from PIL import Image, ImageFile
from test_events import notification, queued

from bench.slow_files import jpeg_of_scans
from thumbnailer.errors import (
    InvalidEvent,
    OutOfTime,
    QueueUnavailable,
    StorageUnavailable,
    UnexpectedError,
)
from thumbnailer.handler import Function
from thumbnailer.imaging import thumbnails
from thumbnailer.imaging.decode import open_image
from thumbnailer.storage import s3_bucket


class Context:
    """Lambda's context object, with a remaining time (ms) that tests set."""

    aws_request_id = "request-1"

    def __init__(self, remaining_ms: Callable[[], int] = lambda: 30_000) -> None:
        self.get_remaining_time_in_millis = remaining_ms


class Stack:
    """Both buckets, the dead-letter queue and the function, on moto."""

    def __init__(self, s3: Any, endpoint: str) -> None:
        self.s3 = s3
        self.sqs: Any = boto3.client("sqs", endpoint_url=endpoint)
        self.queue_url = self.sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
        self.function = Function(
            os.environ | {"OUTPUT_BUCKET": OUTPUT, "DLQ_URL": self.queue_url, "LOG_LEVEL": "ERROR"}
        )

    def upload(self, key: str, body: bytes) -> str:
        """Write an object to the input bucket, and return its etag without quotes."""
        etag: str = self.s3.put_object(Bucket=INPUT, Key=key, Body=body)["ETag"]
        return etag.strip('"')

    def invoke(self, event: Any, context: Context | None = None) -> dict[str, Any]:
        """Invoke the function. Records of S3 get the name of the input bucket."""
        for record in event.get("Records", []) if isinstance(event, dict) else []:
            if "s3" in record:
                record["s3"]["bucket"]["name"] = INPUT
        return self.function(event, context or Context())

    def outputs(self) -> list[str]:
        """Return all keys of the output bucket."""
        listed = self.s3.list_objects_v2(Bucket=OUTPUT)
        return [each["Key"] for each in listed.get("Contents", [])]

    def dead_letters(self) -> list[dict[str, Any]]:
        """Return up to ten messages of the queue, and leave them there."""
        received = self.sqs.receive_message(
            QueueUrl=self.queue_url, MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        return [json.loads(message["Body"]) for message in received.get("Messages", [])]


@pytest.fixture
def stack(s3: Any, aws: str) -> Stack:
    """Return a stack whose buckets and queue are empty."""
    return Stack(s3, aws)


def test_a_notification_makes_upright_thumbnails_of_an_upload(stack: Stack) -> None:
    """A rotated JPEG becomes two upright WebP files with content type and cache control."""
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated = quadrants().transpose(Image.Transpose.ROTATE_90)
    stack.upload("uploads/a/photo.jpg", encoded(rotated, exif=exif))
    result = stack.invoke(notification("uploads/a/photo.jpg"))
    assert stack.outputs() == ["a/photo_128w.webp", "a/photo_512w.webp"]
    for width in (128, 512):
        stored = stack.s3.get_object(Bucket=OUTPUT, Key=f"a/photo_{width}w.webp")
        assert stored["ContentType"] == "image/webp"
        assert stored["CacheControl"] == "public, max-age=86400"
        picture = decoded(stored["Body"].read())
        assert picture.size == (width, width * 3 // 4)
        assert is_upright(picture)
    (processed,) = result["processed"]
    assert processed["key"] == "uploads/a/photo.jpg"
    assert [each["width"] for each in processed["thumbnails"]] == [128, 512]
    assert result["skipped"] == result["failed"] == result["not_done"] == []
    assert stack.dead_letters() == []
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("key", ["uploads//a.jpg", "uploads/../å +%2F.jpg", "uploads/a b/😀.jpg"])
def test_any_legal_key_is_processed(stack: Stack, key: str) -> None:
    """Keys that obstore cannot use, and only boto3 can, have thumbnails too."""
    stack.upload(key, jpeg())
    assert stack.invoke(notification(key))["processed"][0]["key"] == key
    assert stack.s3.head_object(
        Bucket=OUTPUT, Key=key.removeprefix("uploads/").replace(".jpg", "_128w.webp")
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF"])
def test_a_failed_image_is_freed_at_once(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Its pixels do not wait for the garbage collector.

    Otherwise the next image of the environment would have less memory than the estimate assumes.
    """
    opened = []

    def open_and_remember(data: bytes, memory_mb: int) -> ImageFile.ImageFile:
        image = open_image(data, memory_mb)
        opened.append(weakref.ref(image))
        return image

    monkeypatch.setattr(thumbnails, "open_image", open_and_remember)
    data = encoded(Image.effect_noise((800, 600), 60), kind)
    stack.upload("uploads/a", data[: len(data) // 2])
    stack.upload("uploads/b", data[: len(data) // 2])
    gc.collect()
    gc.disable()
    try:
        result = stack.invoke(notification("uploads/a", "uploads/b"))
        assert [each["error"]["type"] for each in result["failed"]] == ["CorruptImage"] * 2
        assert [image() for image in opened] == [None, None]
    finally:
        gc.enable()


def test_each_permanent_failure_sends_one_message_and_the_rest_is_processed(stack: Stack) -> None:
    """The invocation succeeds, so that Lambda retries nothing."""
    stack.upload("uploads/a.jpg", jpeg())
    etag = stack.upload("uploads/b.jpg", b"hello")
    stack.upload("uploads/c.jpg", jpeg()[:3000])
    stack.upload("uploads/d.jpg", b"")
    result = stack.invoke(
        notification("uploads/b.jpg", "uploads/c.jpg", "uploads/d.jpg", "uploads/a.jpg")
    )
    assert [each["key"] for each in result["processed"]] == ["uploads/a.jpg"]
    assert [each["error"]["type"] for each in result["failed"]] == [
        "UnsupportedImage",
        "CorruptImage",
        "CorruptImage",
    ]
    messages = stack.dead_letters()
    assert sorted(message["key"] for message in messages) == [
        "uploads/b.jpg",
        "uploads/c.jpg",
        "uploads/d.jpg",
    ]
    (message,) = (each for each in messages if each["key"] == "uploads/b.jpg")
    assert message["etag"] == etag
    assert message["attempts"] == 1
    assert message["error"]["permanent"] is True


def test_ten_identical_events_write_each_thumbnail_once(stack: Stack) -> None:
    """The versioned output bucket then has one version of each thumbnail, and not ten."""
    stack.s3.put_bucket_versioning(Bucket=OUTPUT, VersioningConfiguration={"Status": "Enabled"})
    stack.upload("uploads/a.jpg", jpeg())
    for _ in range(10):
        stack.invoke(notification("uploads/a.jpg"))
    assert len(stack.s3.list_object_versions(Bucket=OUTPUT)["Versions"]) == 2


def test_a_missing_object_is_skipped(stack: Stack) -> None:
    """An object that was deleted before its event arrived is no failure, and sends no message."""
    result = stack.invoke(notification("uploads/gone.jpg"))
    assert result["skipped"] == [
        {"bucket": INPUT, "key": "uploads/gone.jpg", "reason": "the source is gone"}
    ]
    assert stack.dead_letters() == []


def test_a_transient_failure_raises_before_any_message_is_sent(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When S3 fails for one upload, the others are finished, and the event is left to its retry.

    A message that was sent before would be sent again by the retry.
    """
    stack.upload("uploads/a.jpg", jpeg())
    stack.upload("uploads/bad.jpg", b"hello")
    _fail_for(monkeypatch, "uploads/down.jpg")
    with pytest.raises(StorageUnavailable, match="1 of 3"):
        stack.invoke(notification("uploads/down.jpg", "uploads/bad.jpg", "uploads/a.jpg"))
    assert stack.outputs() == ["a_128w.webp", "a_512w.webp"]
    assert stack.dead_letters() == []


def _fail_for(monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
    """Let S3 fail for every GET of `keys`."""
    from thumbnailer import handler  # noqa: PLC0415

    class Failing(handler.S3Bucket):
        def get(self, key: str) -> Any:
            if key in keys:
                raise StorageUnavailable("503 Slow Down")
            return super().get(key)

    monkeypatch.setattr(handler, "S3Bucket", Failing)


def test_a_slow_image_ends_in_one_message(stack: Stack) -> None:
    """The invocation succeeds before its time is up, so nothing is tried again."""
    stack.upload("uploads/slow.jpg", jpeg_of_scans(2000))
    result = stack.invoke(notification("uploads/slow.jpg"), Context(lambda: 10_500))
    assert [each["error"]["type"] for each in result["failed"]] == ["ImageTooSlow"]
    (message,) = stack.dead_letters()
    assert message["error"]["permanent"]
    assert message["attempts"] == 1
    assert stack.outputs() == []


def test_an_unexpected_error_is_retried_and_logged_with_its_traceback(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that the code does not know counts as transient, and is raised."""
    from thumbnailer import reconcile  # noqa: PLC0415

    def broken(*_args: object, **_more: object) -> object:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(reconcile, "make_thumbnails", broken)
    stack.upload("uploads/a.jpg", jpeg())
    with pytest.raises(UnexpectedError, match="ZeroDivisionError: oh"):
        stack.invoke(notification("uploads/a.jpg"))
    (record,) = caplog.records
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError


def test_a_transient_failure_in_a_direct_call_sends_a_message(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody retries a synchronous call, so that a transient failure goes to the queue too."""
    _fail_for(monkeypatch, "uploads/down.jpg")
    result = stack.invoke({"uploads": [{"bucket": INPUT, "key": "uploads/down.jpg"}]})
    assert result["failed"][0]["error"]["permanent"] is False
    (message,) = stack.dead_letters()
    assert message["error"] == {
        "type": "StorageUnavailable",
        "message": "503 Slow Down",
        "permanent": False,
    }


def test_a_direct_call_returns_the_uploads_that_it_has_no_time_for(stack: Stack) -> None:
    """They are in `not_done` with their etags, and send no message."""
    stack.upload("uploads/a.jpg", jpeg())
    remaining = iter([30_000] * 6)
    context = Context(lambda: next(remaining, 1_000))
    uploads = [{"bucket": INPUT, "key": f"uploads/{name}.jpg", "etag": "e"} for name in "ab"]
    result = stack.invoke({"uploads": uploads}, context)
    assert [each["key"] for each in result["processed"]] == ["uploads/a.jpg"]
    assert result["not_done"] == [{"bucket": INPUT, "key": "uploads/b.jpg", "etag": "e"}]
    assert stack.dead_letters() == []


def test_an_event_that_there_is_no_time_for_is_retried(stack: Stack) -> None:
    """In an asynchronous invocation, too little time raises, like any transient failure."""
    stack.upload("uploads/a.jpg", jpeg())
    with pytest.raises(OutOfTime):
        stack.invoke(notification("uploads/a.jpg"), Context(lambda: 1_000))


def test_a_dead_letter_message_as_event_is_sent_again_with_one_more_attempt(stack: Stack) -> None:
    """An upload that fails permanently again sends a new message with attempts + 1."""
    stack.upload("uploads/b.jpg", b"hello")
    stack.invoke(notification("uploads/b.jpg"))
    (message,) = stack.dead_letters()
    stack.sqs.purge_queue(QueueUrl=stack.queue_url)
    result = stack.invoke(message)
    assert result["failed"][0]["key"] == "uploads/b.jpg"
    (again,) = stack.dead_letters()
    assert again["attempts"] == 2


def test_a_dead_letter_message_as_event_that_fails_temporarily_raises(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is still on the queue, so that no second one is sent."""
    _fail_for(monkeypatch, "uploads/b.jpg")
    message = {"bucket": INPUT, "key": "uploads/b.jpg", "error": {}, "attempts": 1}
    with pytest.raises(StorageUnavailable):
        stack.invoke(message)
    assert stack.dead_letters() == []


def test_the_response_to_sqs_names_the_messages_to_deliver_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These are transient failures and unreadable messages; a permanent failure is not retried."""
    stack.upload("uploads/a.jpg", jpeg())
    stack.upload("uploads/bad.jpg", b"hello")
    _fail_for(monkeypatch, "uploads/down.jpg")
    bodies = [notification(f"uploads/{name}.jpg") for name in ("a", "down", "bad")]
    for body in bodies:
        body["Records"][0]["s3"]["bucket"]["name"] = INPUT
    response = stack.invoke(queued(*bodies, {"not": "an event"}))
    assert response == {"batchItemFailures": [{"itemIdentifier": "m1"}, {"itemIdentifier": "m3"}]}
    assert [message["key"] for message in stack.dead_letters()] == ["uploads/bad.jpg"]


def test_sqs_delivers_a_message_again_if_its_failure_cannot_be_sent(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response names the SQS message of the failed upload, and not that of the other one."""
    stack.upload("uploads/a.jpg", jpeg())
    stack.upload("uploads/bad.jpg", b"hello")
    bodies = [notification("uploads/a.jpg"), notification("uploads/bad.jpg")]
    for body in bodies:
        body["Records"][0]["s3"]["bucket"]["name"] = INPUT

    def send(_message: object) -> None:
        raise QueueUnavailable("503")

    monkeypatch.setattr(stack.function.queue, "send", send)
    assert stack.invoke(queued(*bodies)) == {"batchItemFailures": [{"itemIdentifier": "m1"}]}


def test_an_unreadable_sqs_message_is_logged_and_counted(
    stack: Stack, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The log line has its id and the error, which explain it once it is on a dead-letter queue."""
    stack.invoke(queued({"not": "an event"}))
    (record,) = caplog.records
    fields: Any = record.msg
    assert fields["message_id"] == "m0"
    assert fields["error"]["type"] == "InvalidEvent"
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["failed_count"] == [1.0]


def test_the_readable_records_beside_an_unreadable_one_are_processed(stack: Stack) -> None:
    """Then the event fails, so that it ends on the queue with its unreadable record."""
    stack.upload("uploads/a.jpg", jpeg())
    event = notification("uploads/a.jpg")
    event["Records"][0]["s3"]["bucket"]["name"] = INPUT
    event["Records"].append({"s4": {}})
    with pytest.raises(InvalidEvent, match=r"Records\[1\]"):
        stack.function(event, Context())
    assert stack.outputs() == ["a_128w.webp", "a_512w.webp"]
    assert stack.dead_letters() == []


def test_a_message_that_cannot_be_sent_fails_the_invocation(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the queue does not accept the message, the error is raised, and the event retried."""
    stack.upload("uploads/bad.jpg", b"hello")
    monkeypatch.setattr(stack.function.queue, "_url", "http://127.0.0.1:9/1/none")
    stack.sqs.delete_queue(QueueUrl=stack.queue_url)
    with pytest.raises(QueueUnavailable):
        stack.invoke(notification("uploads/bad.jpg"))


def test_a_malformed_event_says_what_was_expected(stack: Stack) -> None:
    """The error is InvalidEvent, and not a KeyError from inside the parser."""
    with pytest.raises(InvalidEvent, match="Expected an S3 notification"):
        stack.invoke({"hello": "world"})


def test_metrics_are_printed_even_when_an_invocation_fails(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cold start and the failure are counted before the error is raised."""
    stack.upload("uploads/a.jpg", jpeg())
    with pytest.raises(OutOfTime):
        stack.invoke(notification("uploads/a.jpg"), Context(lambda: 1_000))
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["failed_count"] == [1.0]
    assert document["cold_starts"] == [1.0]


def _init(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Import the handler in a new process with `environment`, and return output and exit code."""
    root = Path(__file__).parent.parent
    return subprocess.run(
        [sys.executable, "-c", "import handler"],
        cwd=root / "lambda",
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_wrong_settings_fail_at_init() -> None:
    """A wrong parameter shows right after the deployment, and not with the first upload."""
    ran = _init({"THUMB_SIZES": "huge"})
    assert ran.returncode
    assert "THUMB_SIZES" in ran.stderr
    assert "OUTPUT_BUCKET is not set" in ran.stderr


def test_an_unbuilt_package_fails_at_init_and_says_what_to_do() -> None:
    """Where the source was deployed, the error comes before the one about a missing library."""
    ran = _init({"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1", "OUTPUT_BUCKET": OUTPUT, "DLQ_URL": "x"})
    assert ran.returncode
    assert "sam build" in ran.stderr


def test_init_imports_nothing_that_a_plain_jpeg_does_not_need() -> None:
    """Cold starts stay short without boto3, the X-Ray SDK, asyncio and other formats' decoders."""
    ran = subprocess.run(
        [sys.executable, "-c", "import handler, sys; print(*sys.modules)"],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(ran.stdout.split())
    unwanted = {
        "boto3",
        "botocore.session",
        "aws_xray_sdk",
        "PIL.PngImagePlugin",
        "PIL.ImageCms",
        "asyncio",
    }
    assert not loaded & unwanted


# --- replay -------------------------------------------------------------------------------------
def dead_letter(key: str, **changed: Any) -> str:
    """Return the body of a dead-letter message, with `changed` fields."""
    message = {
        "version": 1,
        "bucket": INPUT,
        "key": key,
        "etag": "e",
        "error": {"type": "CorruptImage", "message": "cut", "permanent": True},
        "attempts": 2,
        "failed_at": "2026-01-01T00:00:00+00:00",
        "request_id": "r",
    }
    return json.dumps(message | changed)


def test_a_replay_makes_thumbnails_and_returns_counts(stack: Stack) -> None:
    """The result has counts and no lists, so that its size does not depend on the message."""
    stack.upload("uploads/a.jpg", jpeg())
    result = stack.invoke({"letter": dead_letter("uploads/a.jpg"), "error": None})
    assert result == {"processed": 1, "skipped": 0, "failed": 0, "not_done": 0}
    assert len(stack.outputs()) == 2


def test_a_replay_that_fails_permanently_sends_a_message_with_one_more_attempt(
    stack: Stack,
) -> None:
    """The new message replaces the old one, which the caller can delete."""
    stack.upload("uploads/a.jpg", b"hello")
    assert stack.invoke({"letter": dead_letter("uploads/a.jpg")})["failed"] == 1
    (again,) = stack.dead_letters()
    assert again["attempts"] == 3


def test_an_on_failure_record_is_replayed_like_a_dead_letter_message(stack: Stack) -> None:
    """All of its uploads are processed; a permanent failure sends a message with attempts 2."""
    stack.upload("uploads/a.jpg", jpeg())
    stack.upload("uploads/b.jpg", b"hello")
    payload = notification("uploads/a.jpg", "uploads/b.jpg")
    for record in payload["Records"]:
        record["s3"]["bucket"]["name"] = INPUT
    record = {
        "timestamp": "2026-01-01T00:00:00.000Z",
        "requestContext": {"approximateInvokeCount": 3},
        "requestPayload": payload,
        "responsePayload": {"errorType": "StorageUnavailable", "errorMessage": "503"},
    }
    result = stack.invoke({"letter": json.dumps(record)})
    assert (result["processed"], result["failed"]) == (1, 1)
    (again,) = stack.dead_letters()
    assert (again["key"], again["attempts"]) == ("uploads/b.jpg", 2)


@pytest.mark.parametrize(
    ("replay", "why"),
    [
        ({"letter": "not ours"}, "unreadable"),
        ({"letter": json.dumps({"bucket": "b"})}, "unreadable"),
        ({"letter": json.dumps({"uploads": [{"bucket": INPUT, "key": "k"}]})}, "unreadable"),
        ({"letter": dead_letter("uploads/a.jpg", bucket=7)}, "unreadable"),
        (
            {"letter": dead_letter("uploads/a.jpg"), "failed_before": "2026-01-01T00:00:00.000Z"},
            "newer",
        ),
        ({"letter": dead_letter("uploads/a.jpg"), "error": "ImageTooLarge"}, "another error"),
    ],
)
def test_a_replay_leaves_messages_that_it_was_not_asked_for(
    stack: Stack, replay: dict[str, Any], why: str
) -> None:
    """A message that is unreadable, as new as the replay, or of another error changes nothing."""
    stack.upload("uploads/a.jpg", jpeg())
    assert stack.invoke(replay) == {"left": why}
    assert stack.outputs() == []
    assert stack.dead_letters() == []


def test_a_replay_processes_messages_that_are_older_than_its_start(stack: Stack) -> None:
    """Times are compared as times: this one is a millisecond older, in another notation."""
    stack.upload("uploads/a.jpg", jpeg())
    request = {
        "letter": dead_letter("uploads/a.jpg"),
        "failed_before": "2026-01-01T00:00:00.001Z",
        "error": "CorruptImage",
    }
    assert stack.invoke(request)["processed"] == 1


def test_a_replay_that_fails_temporarily_raises(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message then stays on the queue, and no second one is sent."""
    stack.upload("uploads/a.jpg", jpeg())

    def fail(*_: object, **__: object) -> None:
        raise StorageUnavailable("503")

    monkeypatch.setattr("thumbnailer.handler.Reconciler.process", fail)
    with pytest.raises(StorageUnavailable):
        stack.invoke({"letter": dead_letter("uploads/a.jpg")})
    assert stack.dead_letters() == []


def test_an_invalid_failed_before_raises_invalid_event(stack: Stack) -> None:
    """It is the caller's mistake, so the message does not count as unreadable."""
    with pytest.raises(InvalidEvent, match="failed_before"):
        stack.invoke({"letter": dead_letter("uploads/a.jpg"), "failed_before": "yesterday"})


def test_a_summary_has_counts_and_lists_only_what_was_not_done(stack: Stack) -> None:
    """So the result of a backfill's batch is small, and the backfill knows what to call again."""
    for name in ("a", "b", "c"):
        stack.upload(f"uploads/{name}.jpg", jpeg() if name != "b" else b"hello")
    uploads = [{"bucket": INPUT, "key": f"uploads/{name}.jpg"} for name in ("a", "b", "c", "/")]
    request = {"uploads": uploads, "only_missing": True, "summary": True}
    assert stack.invoke(request) == {
        "processed": 2,
        "current": 0,
        "skipped": 1,
        "failed": 1,
        "not_done": [],
    }
    assert stack.invoke(request)["current"] == 2
    remaining = [30_000] * 6 + [0] * 100
    result = stack.invoke(request, Context(lambda: remaining.pop(0)))
    assert result["not_done"] == uploads[-len(result["not_done"]) :]
    done = sum(result[each] for each in ("processed", "current", "skipped", "failed"))
    assert done + len(result["not_done"]) == len(uploads)


@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:9"])
def test_no_log_line_message_or_error_contains_a_credential(
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    endpoint: str | None,
) -> None:
    """Not even at DEBUG, for thumbnails, permanent failures, and an S3 that cannot be reached."""
    secrets = {name: f"canary-{name}" for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    stack.upload("uploads/a.jpg", jpeg())
    stack.upload("uploads//b.jpg", b"hello")  # by boto3
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    s3_bucket.kept_client.cache_clear()  # clients keep the credentials they were made with
    function = Function(
        os.environ | {"OUTPUT_BUCKET": OUTPUT, "DLQ_URL": stack.queue_url, "LOG_LEVEL": "DEBUG"}
    )
    uploads = [{"bucket": INPUT, "key": f"uploads/{key}"} for key in ("a.jpg", "/b.jpg")]
    try:
        result = json.dumps(function({"uploads": uploads}, Context(lambda: 10_000)))
    except QueueUnavailable as error:
        result = str(error)
    finally:
        s3_bucket.kept_client.cache_clear()
    printed = "".join(capfd.readouterr())
    assert '"action":"start"' in printed
    messages = json.dumps(stack.dead_letters())
    assert ("uploads//b.jpg" in messages) == (endpoint is None)
    assert "canary" not in result + printed + messages
