"""The simulated clients do as the real ones: the same script of answers, the same outcome."""

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
from simulation.wire import Answer, Hang, Request, Reset
from thumbnailer import storage
from thumbnailer.storage import Headers, Object

BUDGET = 2.75
"""Seconds: the shortest budget in which boto3 makes another attempt."""

BODY = b"webp" * 16
OBJECT = Answer(
    etag="e1", modified=datetime(2026, 1, 1, tzinfo=UTC), body=BODY, metadata={"recipe": "r"}
)
HEADERS = Headers("image/webp", "max-age=60", {"recipe": "r"})

type Step = Answer | type[Reset | Hang]
type Ask = Callable[[Any], object]


def fetch(bucket: Any) -> object:
    found = bucket.get("k")
    return found and found.read()


def look(bucket: Any) -> object:
    found = bucket.head("k")
    return found and (found.etag, found.modified, found.size, dict(found.metadata))


def create(bucket: Any) -> object:
    return bucket.put(Object("k", BODY, HEADERS), replacing=None)


def update(bucket: Any) -> object:
    return bucket.put(Object("k", BODY, HEADERS), replacing="e1")


def delete(bucket: Any) -> object:
    return bucket.delete("k", replacing="e1")


SCRIPTS: dict[str, tuple[Step, ...]] = {
    "granted": (OBJECT,),
    "500, then granted": (Answer(500, "InternalError"), OBJECT),
    "503 for ever": (Answer(503, "SlowDown"),),
    "409, then granted": (Answer(409, "ConditionalRequestConflict"), OBJECT),
    "409 for ever": (Answer(409, "ConditionalRequestConflict"),),
    "412": (Answer(412, "PreconditionFailed"),),
    "404": (Answer(404, "NoSuchKey"),),
    "no bucket": (Answer(404, "NoSuchBucket"),),
    "403": (Answer(403, "AccessDenied"),),
    "reset, then granted": (Reset, OBJECT),
    "reset for ever": (Reset,),
    "reset, then 412": (Reset, Answer(412, "PreconditionFailed")),
    "500, then 412": (Answer(500, "InternalError"), Answer(412, "PreconditionFailed")),
    "silence, then granted": (Hang, OBJECT),
}


class Scripted:
    """A network that answers by a script, its last step for ever after; time stands still."""

    def __init__(self, script: tuple[Step, ...]) -> None:
        self._script = script
        self.requests = 0

    def send(self, _: Request, __: float) -> Answer:
        step = self._script[min(self.requests, len(self._script) - 1)]
        self.requests += 1
        if isinstance(step, Answer):
            return step
        raise step

    def wait(self, _: float) -> None:
        pass

    def now(self) -> float:
        return 0.0


def spoken(step: Step, ask: Ask = fetch) -> scripted_server.Step:
    """A step as the real server takes it; only what is asked for has a body."""
    if step is Reset:
        return scripted_server.Reset()
    if step is Hang:
        return scripted_server.Hang()
    assert isinstance(step, Answer)
    if step.status >= 400:
        return s3_error(step.status, step.code)
    headers = {
        "ETag": f'"{step.etag}"',
        "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        "x-amz-meta-recipe": "r",
    }
    return Reply(headers=headers, body=step.body if ask in (fetch, look) else b"")


def outcome(ask: Ask, bucket: Any) -> object:
    """What came of it: an answer, or the name of an error."""
    try:
        return ask(bucket)
    except Exception as error:  # noqa: BLE001 - to be compared
        return type(error).__name__


@contextmanager
def real(
    script: tuple[Step, ...], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ScriptedServer]:
    """The real storage and a server that answers by a script."""
    with ScriptedServer(*(spoken(step, ask) for step in script)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        storage._client.cache_clear()  # noqa: SLF001
        yield server
    storage._client.cache_clear()  # noqa: SLF001


@pytest.mark.parametrize(
    ("client", "ask"),
    [
        *[("ObstoreBucket", ask) for ask in (fetch, look, create, update)],
        *[("Boto3Bucket", ask) for ask in (fetch, look, create, update, delete)],
    ],
)
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_simulated_client_does_as_the_real_one(
    monkeypatch: pytest.MonkeyPatch, client: str, ask: Ask, script: str
) -> None:
    """The same result or error of `storage`, after the same number of attempts."""
    steps = SCRIPTS[script]
    with real(steps, ask, monkeypatch) as server:
        expected = outcome(ask, getattr(storage, client)(OUTPUT, BUDGET))
        requests = len(server.requests)
    code = Code()
    network = Scripted(steps)
    code.network = network
    simulated = getattr(code.module("thumbnailer.storage"), client)(OUTPUT, BUDGET)
    assert (outcome(ask, simulated), network.requests) == (expected, requests)


@pytest.mark.parametrize(
    ("rest", "whole"),
    [
        (OBJECT, True),
        (Answer(200, "", "e2", OBJECT.modified, b"x" * 64), False),
        (Answer(404, "NoSuchKey"), False),
        (Answer(403, "AccessDenied"), False),
        (Answer(500, "InternalError"), False),
        (Reset, False),
    ],
    ids=["the same", "another version", "gone", "denied", "500", "reset"],
)
def test_a_broken_body_goes_on_as_the_same_version_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
    rest: Step,
    whole: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Obstore asks for what is missing; bytes of two versions are never put together."""
    with real((OBJECT,), fetch, monkeypatch) as server:
        begun, ended = spoken(OBJECT), spoken(rest)
        assert isinstance(begun, Reply)
        if isinstance(ended, Reply) and ended.status == 200:  # as a rest, with its range
            partial = {**ended.headers, "Content-Range": "bytes 7-63/64"}
            if not whole:
                partial["ETag"] = '"e2"'
            ended = Reply(206, partial, ended.body[7:])
        server.script = (begun.but(sent=7), ended)
        expected = outcome(fetch, storage.ObstoreBucket(OUTPUT, BUDGET))
        requests = len(server.requests)
    assert expected == (BODY if whole else "StorageUnavailable")
    code = Code()
    cut = Answer(200, "", "e1", OBJECT.modified, BODY, {}, whole=False)
    code.network = network = Scripted((cut, rest))
    simulated = code.module("thumbnailer.storage").ObstoreBucket(OUTPUT, BUDGET)
    assert (outcome(fetch, simulated), network.requests) == (expected, requests)


def test_the_simulated_queue_is_told_or_an_error() -> None:
    """A letter is sent again once, and then it is QueueUnavailable."""
    code = Code()
    code.network = network = Scripted((Reset,))
    queue = code.module("thumbnailer.dead_letters").DeadLetterQueue("https://sqs.example/1/letters")
    letter = SimpleNamespace(key="k", to_json=lambda: "{}")
    assert outcome(lambda _: queue.send(letter), None) == "QueueUnavailable"
    assert network.requests == 2
