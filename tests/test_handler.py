"""The handler, whole: real events in, objects, letters, results and raised errors out."""

import gc
import json
import logging
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
from pictures import decoded, encoded, is_upright, jpeg
from PIL import Image, ImageFile
from test_events import notification, queued

from thumbnailer.errors import InvalidEvent, OutOfTime, QueueUnavailable, StorageUnavailable
from thumbnailer.handler import Function
from thumbnailer.imaging import thumbnails
from thumbnailer.imaging.decode import open_image
from thumbnailer.storage import s3_bucket


class Context:
    """What Lambda hands to a handler, with a clock that tests set."""

    aws_request_id = "request-1"

    def __init__(self, remaining_ms: Callable[[], int] = lambda: 30_000) -> None:
        self.get_remaining_time_in_millis = remaining_ms


class Stack:
    """Both buckets, the queue and the function, on moto."""

    def __init__(self, s3: Any, endpoint: str) -> None:
        self.s3 = s3
        self.sqs: Any = boto3.client("sqs", endpoint_url=endpoint)
        self.queue_url = self.sqs.create_queue(QueueName="letters")["QueueUrl"]
        self.function = Function(
            os.environ | {"OUTPUT_BUCKET": OUTPUT, "DLQ_URL": self.queue_url, "LOG_LEVEL": "ERROR"}
        )

    def upload(self, key: str, body: bytes) -> str:
        etag: str = self.s3.put_object(Bucket=INPUT, Key=key, Body=body)["ETag"]
        return etag.strip('"')

    def invoke(self, event: Any, context: Context | None = None) -> dict[str, Any]:
        for record in event.get("Records", []) if isinstance(event, dict) else []:
            if "s3" in record:
                record["s3"]["bucket"]["name"] = INPUT
        return self.function(event, context or Context())

    def outputs(self) -> list[str]:
        listed = self.s3.list_objects_v2(Bucket=OUTPUT)
        return [each["Key"] for each in listed.get("Contents", [])]

    def letters(self) -> list[dict[str, Any]]:
        received = self.sqs.receive_message(
            QueueUrl=self.queue_url, MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        return [json.loads(message["Body"]) for message in received.get("Messages", [])]


@pytest.fixture
def stack(s3: Any, aws: str) -> Stack:
    return Stack(s3, aws)


def test_an_upload_becomes_thumbnails(stack: Stack) -> None:
    """The whole promise: a rotated JPEG in, two upright WebPs out, with their headers."""
    stack.upload("uploads/a/photo.jpg", jpeg())
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
    assert [t["width"] for t in processed["thumbnails"]] == [128, 512]
    assert result["skipped"] == result["failed"] == result["not_done"] == []
    assert stack.letters() == []
    assert json.dumps(result)


@pytest.mark.parametrize("key", ["uploads//a.jpg", "uploads/../å +%2F.jpg", "uploads/a b/😀.jpg"])
def test_any_key_goes_through(stack: Stack, key: str) -> None:
    """Keys that obstore cannot name included."""
    stack.upload(key, jpeg())
    assert stack.invoke(notification(key))["processed"][0]["key"] == key
    assert stack.s3.head_object(
        Bucket=OUTPUT, Key=key.removeprefix("uploads/").replace(".jpg", "_128w.webp")
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF"])
def test_a_failed_image_is_not_kept_in_memory(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Its pixels go with its failure, and do not wait for garbage to be collected.

    Else the next image of the environment would have less memory than is reckoned with.
    """
    opened = []

    def watched(data: bytes, memory_mb: int) -> ImageFile.ImageFile:
        image = open_image(data, memory_mb)
        opened.append(weakref.ref(image))
        return image

    monkeypatch.setattr(thumbnails, "open_image", watched)
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


def test_what_is_no_image_becomes_one_letter_and_the_others_go_on(stack: Stack) -> None:
    """A permanent failure: one letter, no retry, the invocation succeeds."""
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
    letters = {letter["key"]: letter for letter in stack.letters()}
    assert letters.keys() == {"uploads/b.jpg", "uploads/c.jpg", "uploads/d.jpg"}
    assert letters["uploads/b.jpg"]["etag"] == etag
    assert letters["uploads/b.jpg"]["attempts"] == 1
    assert letters["uploads/b.jpg"]["error"]["permanent"] is True


def test_ten_times_the_same_event_write_once(stack: Stack) -> None:
    """Nothing is overwritten with itself: a version is made a width, not ten."""
    stack.s3.put_bucket_versioning(Bucket=OUTPUT, VersioningConfiguration={"Status": "Enabled"})
    stack.upload("uploads/a.jpg", jpeg())
    for _ in range(10):
        stack.invoke(notification("uploads/a.jpg"))
    assert len(stack.s3.list_object_versions(Bucket=OUTPUT)["Versions"]) == 2


def test_a_missing_object_is_skipped(stack: Stack) -> None:
    """Gone before the event came: skipped with the reason, no letter."""
    result = stack.invoke(notification("uploads/gone.jpg"))
    assert result["skipped"] == [
        {"bucket": INPUT, "key": "uploads/gone.jpg", "reason": "the source is gone"}
    ]
    assert stack.letters() == []


def test_a_transient_failure_raises_before_any_letter(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 down for one upload: the others are finished, then the event is left to its retry.

    A letter sent before the raise would be sent again by the retry.
    """
    stack.upload("uploads/a.jpg", jpeg())
    stack.upload("uploads/bad.jpg", b"hello")
    _fail_for(monkeypatch, "uploads/down.jpg")
    with pytest.raises(StorageUnavailable, match="1 of 3"):
        stack.invoke(notification("uploads/down.jpg", "uploads/bad.jpg", "uploads/a.jpg"))
    assert stack.outputs() == ["a_128w.webp", "a_512w.webp"]
    assert stack.letters() == []


def _fail_for(monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
    """Let every GET of `keys` fail as an S3 that is down."""
    from thumbnailer import handler  # noqa: PLC0415

    class Failing(handler.S3Bucket):
        def get(self, key: str) -> Any:
            if key in keys:
                raise StorageUnavailable("503 Slow Down")
            return super().get(key)

    monkeypatch.setattr(handler, "S3Bucket", Failing)


def test_an_unforeseen_fault_is_retried(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown means transient: nothing is swallowed, and the log has the traceback."""
    from thumbnailer import reconcile  # noqa: PLC0415

    def broken(*_args: object, **_more: object) -> object:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(reconcile, "make_thumbnails", broken)
    stack.upload("uploads/a.jpg", jpeg())
    with pytest.raises(Exception, match="ZeroDivisionError: oh") as raised:
        stack.invoke(notification("uploads/a.jpg"))
    assert type(raised.value).__name__ == "UnexpectedError"


def test_in_a_direct_call_a_transient_failure_becomes_a_letter(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody retries a synchronous call, so what failed for now is kept on the queue."""
    _fail_for(monkeypatch, "uploads/down.jpg")
    result = stack.invoke({"uploads": [{"bucket": INPUT, "key": "uploads/down.jpg"}]})
    assert result["failed"][0]["error"]["permanent"] is False
    (letter,) = stack.letters()
    assert letter["error"] == {
        "type": "StorageUnavailable",
        "message": "503 Slow Down",
        "permanent": False,
    }


def test_work_stops_before_the_deadline_and_the_rest_is_returned(stack: Stack) -> None:
    """What a direct call has no time for comes back as not done, with its etag and no letter."""
    stack.upload("uploads/a.jpg", jpeg())
    left = iter([30_000] * 4)
    context = Context(lambda: next(left, 1_000))
    uploads = [{"bucket": INPUT, "key": f"uploads/{name}.jpg", "etag": "e"} for name in "ab"]
    result = stack.invoke({"uploads": uploads}, context)
    assert [each["key"] for each in result["processed"]] == ["uploads/a.jpg"]
    assert result["not_done"] == [{"bucket": INPUT, "key": "uploads/b.jpg", "etag": "e"}]
    assert stack.letters() == []


def test_an_event_without_time_is_left_to_its_retry(stack: Stack) -> None:
    """Asynchronously, too little time raises like every transient failure."""
    stack.upload("uploads/a.jpg", jpeg())
    with pytest.raises(OutOfTime):
        stack.invoke(notification("uploads/a.jpg"), Context(lambda: 1_000))


def test_a_replayed_letter_that_fails_again_counts_up(stack: Stack) -> None:
    """A permanent failure replayed is a new letter with attempts + 1."""
    stack.upload("uploads/b.jpg", b"hello")
    stack.invoke(notification("uploads/b.jpg"))
    (letter,) = stack.letters()
    stack.sqs.purge_queue(QueueUrl=stack.queue_url)
    result = stack.invoke(letter)
    assert result["failed"][0]["key"] == "uploads/b.jpg"
    (again,) = stack.letters()
    assert again["attempts"] == 2


def test_a_replayed_letter_that_fails_for_now_raises(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The letter is still on the queue: no second one is needed."""
    _fail_for(monkeypatch, "uploads/b.jpg")
    letter = {"bucket": INPUT, "key": "uploads/b.jpg", "error": {}, "attempts": 1}
    with pytest.raises(StorageUnavailable):
        stack.invoke(letter)
    assert stack.letters() == []


def test_a_batch_names_the_messages_that_failed_for_now(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQS: transient and unreadable messages go back, permanent failures become letters."""
    stack.upload("uploads/a.jpg", jpeg())
    stack.upload("uploads/bad.jpg", b"hello")
    _fail_for(monkeypatch, "uploads/down.jpg")
    bodies = [notification(f"uploads/{name}.jpg") for name in ("a", "down", "bad")]
    for body in bodies:
        body["Records"][0]["s3"]["bucket"]["name"] = INPUT
    response = stack.invoke(queued(*bodies, {"not": "ours"}))
    assert response == {"batchItemFailures": [{"itemIdentifier": "m1"}, {"itemIdentifier": "m3"}]}
    assert [letter["key"] for letter in stack.letters()] == ["uploads/bad.jpg"]


def test_a_letter_that_cannot_be_sent_brings_back_its_message_alone(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQS: the message of the failed upload comes again; what succeeded does not."""
    stack.upload("uploads/a.jpg", jpeg())
    stack.upload("uploads/bad.jpg", b"hello")
    bodies = [notification("uploads/a.jpg"), notification("uploads/bad.jpg")]
    for body in bodies:
        body["Records"][0]["s3"]["bucket"]["name"] = INPUT

    def send(_letter: object) -> None:
        raise QueueUnavailable("503")

    monkeypatch.setattr(stack.function.queue, "send", send)
    assert stack.invoke(queued(*bodies)) == {"batchItemFailures": [{"itemIdentifier": "m1"}]}


def test_an_unreadable_message_is_told_in_the_log(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """When it reaches its own queue's dead letters somebody can read why; and it is counted."""
    told: list[tuple[str, str]] = []
    unreadable = stack.function.telemetry.unreadable
    stack.function.telemetry.unreadable = lambda part, error: (  # type: ignore[method-assign]
        told.append((part, type(error).__name__)),
        unreadable(part, error),
    )[1]
    stack.invoke(queued({"not": "ours"}))
    assert told == [("m0", "InvalidEvent")]
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["failed_count"] == [1.0]


def test_an_unreadable_record_does_not_keep_the_others_waiting(stack: Stack) -> None:
    """The thumbnails beside it are made; then the event fails, to end on the queue."""
    stack.upload("uploads/a.jpg", jpeg())
    event = notification("uploads/a.jpg")
    event["Records"][0]["s3"]["bucket"]["name"] = INPUT
    event["Records"].append({"s4": {}})
    with pytest.raises(InvalidEvent, match=r"Records\[1\]"):
        stack.function(event, Context())
    assert stack.outputs() == ["a_128w.webp", "a_512w.webp"]
    assert stack.letters() == []


def test_a_letter_that_cannot_be_sent_fails_the_invocation(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the queue cannot be written nothing is swallowed: the event is retried."""
    stack.upload("uploads/bad.jpg", b"hello")
    monkeypatch.setattr(stack.function.queue, "_url", "http://127.0.0.1:9/1/none")
    stack.sqs.delete_queue(QueueUrl=stack.queue_url)
    with pytest.raises(QueueUnavailable):
        stack.invoke(notification("uploads/bad.jpg"))


def test_a_malformed_event_says_what_was_expected(stack: Stack) -> None:
    """Not a KeyError from the depths."""
    with pytest.raises(InvalidEvent, match="Expected an S3 notification"):
        stack.invoke({"hello": "world"})


def test_metrics_are_printed_even_when_an_invocation_fails(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cold start and the failure are counted before the error leaves."""
    stack.upload("uploads/a.jpg", jpeg())
    with pytest.raises(OutOfTime):
        stack.invoke(notification("uploads/a.jpg"), Context(lambda: 1_000))
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["failed_count"] == [1.0]
    assert document["cold_starts"] == [1.0]


def _init(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What a fresh process says when it imports the handler with `environment`."""
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
    """A deploy with a wrong parameter is seen at once, not at the first upload."""
    ran = _init({"THUMB_SIZES": "huge"})
    assert ran.returncode
    assert "THUMB_SIZES" in ran.stderr
    assert "OUTPUT_BUCKET is not set" in ran.stderr


def test_an_unbuilt_package_fails_at_init_and_says_what_to_do() -> None:
    """Source deployed as it stands, in Lambda's runtime: it says so before it misses a library."""
    ran = _init({"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1", "OUTPUT_BUCKET": OUTPUT, "DLQ_URL": "x"})
    assert ran.returncode
    assert "sam build" in ran.stderr


def test_init_imports_nothing_that_a_plain_jpeg_does_not_need() -> None:
    """Cold starts stay short: no boto3, no decoder but JPEG's, no Tracer."""
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
def letter(key: str, **changed: Any) -> str:
    """A dead letter as it is on the queue."""
    told = {
        "version": 1,
        "bucket": INPUT,
        "key": key,
        "etag": "e",
        "error": {"type": "CorruptImage", "message": "cut", "permanent": True},
        "attempts": 2,
        "failed_at": "2026-01-01T00:00:00+00:00",
        "request_id": "r",
    }
    return json.dumps(told | changed)


def test_a_replayed_letter_is_counted(stack: Stack) -> None:
    """What can be made now is; the answer is bounded whatever the letter named."""
    stack.upload("uploads/a.jpg", jpeg())
    answer = stack.invoke({"letter": letter("uploads/a.jpg"), "error": None})
    assert answer == {"processed": 1, "skipped": 0, "failed": 0, "not_done": 0}
    assert len(stack.outputs()) == 2


def test_a_letter_that_fails_again_has_one_attempt_more(stack: Stack) -> None:
    """A new letter, so the old one can go."""
    stack.upload("uploads/a.jpg", b"hello")
    assert stack.invoke({"letter": letter("uploads/a.jpg")})["failed"] == 1
    (again,) = stack.letters()
    assert again["attempts"] == 3


def test_an_on_failure_record_is_replayed_like_a_letter(stack: Stack) -> None:
    """All its uploads are done; what fails for good gets a letter of its second attempt."""
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
    answer = stack.invoke({"letter": json.dumps(record)})
    assert (answer["processed"], answer["failed"]) == (1, 1)
    (again,) = stack.letters()
    assert (again["key"], again["attempts"]) == ("uploads/b.jpg", 2)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"letter": "not ours"}, "unreadable"),
        ({"letter": json.dumps({"bucket": "b"})}, "unreadable"),
        ({"letter": json.dumps({"uploads": [{"bucket": INPUT, "key": "k"}]})}, "unreadable"),
        ({"letter": letter("uploads/a.jpg", bucket=7)}, "unreadable"),
        (
            {"letter": letter("uploads/a.jpg"), "failed_before": "2026-01-01T00:00:00.000Z"},
            "newer",
        ),
        ({"letter": letter("uploads/a.jpg"), "error": "ImageTooLarge"}, "another error"),
    ],
)
def test_a_letter_that_is_not_meant_is_left(stack: Stack, asked: dict[str, Any], why: str) -> None:
    """None of ours, not older than the replay, or of another error: nothing is touched."""
    stack.upload("uploads/a.jpg", jpeg())
    assert stack.invoke(asked) == {"left": why}
    assert stack.outputs() == []
    assert stack.letters() == []


def test_a_letter_from_before_is_replayed(stack: Stack) -> None:
    """One millisecond older than the replay's start, in another notation of time."""
    stack.upload("uploads/a.jpg", jpeg())
    asked = {"letter": letter("uploads/a.jpg"), "failed_before": "2026-01-01T00:00:00.001Z"}
    assert stack.invoke(asked | {"error": "CorruptImage"})["processed"] == 1


def test_a_replay_that_fails_for_now_raises(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the letter stays on the queue, and no second one is sent."""
    stack.upload("uploads/a.jpg", jpeg())

    def fail(*_: object, **__: object) -> None:
        raise StorageUnavailable("503")

    monkeypatch.setattr("thumbnailer.handler.Reconciler.process", fail)
    with pytest.raises(StorageUnavailable):
        stack.invoke({"letter": letter("uploads/a.jpg")})
    assert stack.letters() == []


def test_a_wrong_time_is_the_caller_s_mistake(stack: Stack) -> None:
    """Not the letter's: it is not told to be unreadable."""
    with pytest.raises(InvalidEvent, match="failed_before"):
        stack.invoke({"letter": letter("uploads/a.jpg"), "failed_before": "yesterday"})


def test_a_summary_counts_and_tells_what_is_left_to_do(stack: Stack) -> None:
    """A batch of a backfill: bounded, with what was not begun in full."""
    for name in ("a", "b", "c"):
        stack.upload(f"uploads/{name}.jpg", jpeg() if name != "b" else b"hello")
    names = [{"bucket": INPUT, "key": f"uploads/{name}.jpg"} for name in ("a", "b", "c", "/")]
    asked = {"uploads": names, "only_missing": True, "summary": True}
    assert stack.invoke(asked) == {
        "processed": 2,
        "current": 0,
        "skipped": 1,
        "failed": 1,
        "not_done": [],
    }
    assert stack.invoke(asked)["current"] == 2
    left = [30_000] * 4 + [0] * 100
    answer = stack.invoke(asked, Context(lambda: left.pop(0)))
    assert answer["not_done"] == names[-len(answer["not_done"]) :]
    assert sum(answer[each] for each in ("processed", "current", "skipped", "failed")) + len(
        answer["not_done"]
    ) == len(names)


@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:9"])
def test_no_log_line_letter_or_error_holds_a_credential(
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    endpoint: str | None,
) -> None:
    """At DEBUG, for what is made, what fails for good, and what fails because S3 is unreachable."""
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
    # Powertools keeps one logger for each process, with the stdout of its first use.
    for handler in logging.getLogger("service_undefined").handlers:
        monkeypatch.setattr(handler, "stream", sys.stdout)
    asked = {"uploads": [{"bucket": INPUT, "key": f"uploads/{key}"} for key in ("a.jpg", "/b.jpg")]}
    told = ""
    try:
        told += json.dumps(function(asked, Context(lambda: 8_000)))
    except QueueUnavailable as error:
        told += str(error)
    finally:
        s3_bucket.kept_client.cache_clear()
    printed = "".join(capfd.readouterr())
    assert '"action":"start"' in printed
    told += printed + json.dumps(stack.letters())
    assert "canary" not in told
