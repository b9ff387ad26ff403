"""The simulated clients behave like the real ones: same script of responses, same outcome."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import scripted_server
from aws_names import OUTPUT
from scripted_server import Reply, ScriptedServer, s3_error

from simulation.isolation import Code
from simulation.wire import Hang, Request, Reset, Response
from thumbnailer.storage import Headers, Object, s3_bucket
from thumbnailer.storage.boto3_bucket import Boto3Bucket
from thumbnailer.storage.obstore_bucket import ObstoreBucket

BUDGET = 2.75
"""Seconds of a request: the shortest budget in which boto3 retries."""

BODY = b"webp" * 16
OBJECT = Response(
    etag="e1",
    modified=datetime(2026, 1, 1, tzinfo=UTC),
    body=BODY,
    metadata={"recipe": "r"},
    keys=("k", "k1"),
    more=True,
)
LISTING = (
    b"<ListBucketResult><IsTruncated>true</IsTruncated>"
    b"<Contents><Key>k</Key></Contents><Contents><Key>k1</Key></Contents></ListBucketResult>"
)
"""The keys of OBJECT as S3 sends them."""
HEADERS = Headers("image/webp", "max-age=60", {"recipe": "r"})

type Step = Response | type[Reset | Hang]
type Call = Callable[[Any], object]


def get(bucket: Any) -> object:
    found = bucket.get("k")
    return found and found.read()


def head(bucket: Any) -> object:
    found = bucket.head("k")
    return found and (found.etag, found.modified, found.size, dict(found.metadata))


def create(bucket: Any) -> object:
    return bucket.put(Object("k", BODY, HEADERS), replacing=None)


def update(bucket: Any) -> object:
    return bucket.put(Object("k", BODY, HEADERS), replacing="e1")


def delete(bucket: Any) -> object:
    return bucket.delete("k", replacing="e1")


def list_keys(bucket: Any) -> object:
    return bucket.list_keys("k", 5)


SCRIPTS: dict[str, tuple[Step, ...]] = {
    "success": (OBJECT,),
    "500, then success": (Response(500, "InternalError"), OBJECT),
    "503 each time": (Response(503, "SlowDown"),),
    "409, then success": (Response(409, "ConditionalRequestConflict"), OBJECT),
    "409 each time": (Response(409, "ConditionalRequestConflict"),),
    "412": (Response(412, "PreconditionFailed"),),
    "404": (Response(404, "NoSuchKey"),),
    "no bucket": (Response(404, "NoSuchBucket"),),
    "403": (Response(403, "AccessDenied"),),
    "reset, then success": (Reset, OBJECT),
    "reset each time": (Reset,),
    "reset, then 412": (Reset, Response(412, "PreconditionFailed")),
    "500, then 412": (Response(500, "InternalError"), Response(412, "PreconditionFailed")),
    "hang, then success": (Hang, OBJECT),
}


class Scripted:
    """A network that follows a script and repeats its last step; no time passes."""

    def __init__(self, script: tuple[Step, ...]) -> None:
        self._script = script
        self.requests = 0

    def send(self, _: Request, __: float) -> Response:
        step = self._script[min(self.requests, len(self._script) - 1)]
        self.requests += 1
        if isinstance(step, Response):
            return step
        raise step

    def wait(self, _: float) -> None:
        pass

    def now(self) -> float:
        return 0.0


def scripted(step: Step, call: Call = get) -> scripted_server.Step:
    """A step in the form of the scripted server; only reads get a body."""
    if step is Reset:
        return scripted_server.Reset()
    if step is Hang:
        return scripted_server.Hang()
    assert isinstance(step, Response)
    if step.status >= 400:
        return s3_error(step.status, step.code)
    headers = {
        "ETag": f'"{step.etag}"',
        "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        "x-amz-meta-recipe": "r",
    }
    body = step.body if call in (get, head) else b""
    return Reply(headers=headers, body=LISTING if call is list_keys else body)


def outcome(call: Call, bucket: Any) -> object:
    """The result of a call, or the name of its error."""
    try:
        return call(bucket)
    except Exception as error:  # noqa: BLE001 - to be compared
        return type(error).__name__


@contextmanager
def real(
    script: tuple[Step, ...], call: Call, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ScriptedServer]:
    """Point the real storage code at a server that follows a script."""
    with ScriptedServer(*(scripted(step, call) for step in script)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        s3_bucket.kept_client.cache_clear()
        yield server
    s3_bucket.kept_client.cache_clear()


@pytest.mark.parametrize(
    ("client", "call"),
    [
        *[(ObstoreBucket, call) for call in (get, head, create, update)],
        *[(Boto3Bucket, call) for call in (get, head, create, update, delete, list_keys)],
    ],
)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_simulated_client_behaves_like_the_real_one(
    monkeypatch: pytest.MonkeyPatch, client: type[Any], call: Call, script: str
) -> None:
    """The storage code returns or raises the same, after the same number of requests."""
    steps = SCRIPTS[script]
    with real(steps, call, monkeypatch) as server:
        expected = outcome(call, client(OUTPUT, BUDGET))
        requests = len(server.requests)
    code = Code()
    network = Scripted(steps)
    code.network = network
    simulated = getattr(code.module(client.__module__), client.__name__)(OUTPUT, BUDGET)
    assert (outcome(call, simulated), network.requests) == (expected, requests)


@pytest.mark.parametrize(
    ("rest", "whole"),
    [
        (OBJECT, True),
        (Response(200, "", "e2", OBJECT.modified, b"x" * 64), False),
        (Response(404, "NoSuchKey"), False),
        (Response(403, "AccessDenied"), False),
        (Response(500, "InternalError"), False),
        (Reset, False),
    ],
    ids=["the same", "another version", "gone", "denied", "500", "reset"],
)
def test_a_body_that_breaks_off_is_completed_only_with_the_same_version(
    monkeypatch: pytest.MonkeyPatch,
    rest: Step,
    whole: bool,  # noqa: FBT001 - parametrized
) -> None:
    """Obstore requests the missing rest; bytes of two versions are never joined."""
    with real((OBJECT,), get, monkeypatch) as server:
        begun, ended = scripted(OBJECT), scripted(rest)
        assert isinstance(begun, Reply)
        if isinstance(ended, Reply) and ended.status == 200:  # the rest, with its range
            partial = {**ended.headers, "Content-Range": "bytes 7-63/64"}
            if not whole:
                partial["ETag"] = '"e2"'
            ended = Reply(206, partial, ended.body[7:])
        server.script = (begun.but(sent=7), ended)
        expected = outcome(get, ObstoreBucket(OUTPUT, BUDGET))
        requests = len(server.requests)
    assert expected == (BODY if whole else "StorageUnavailable")
    code = Code()
    cut = Response(200, "", "e1", OBJECT.modified, BODY, {}, whole=False)
    code.network = network = Scripted((cut, rest))
    simulated = code.module("thumbnailer.storage.obstore_bucket").ObstoreBucket(OUTPUT, BUDGET)
    assert (outcome(get, simulated), network.requests) == (expected, requests)


def test_a_message_without_a_response_is_retried_once_and_then_an_error() -> None:
    """The simulated SQS client makes two requests, and the queue raises QueueUnavailable."""
    code = Code()
    code.network = network = Scripted((Reset,))
    queue = code.module("thumbnailer.dead_letters").DeadLetterQueue(
        "https://sqs.example/1/dead-letters"
    )
    message = SimpleNamespace(key="k", to_json=lambda: "{}")
    assert outcome(lambda _: queue.send(message), None) == "QueueUnavailable"
    assert network.requests == 2
