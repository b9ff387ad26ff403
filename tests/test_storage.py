"""One contract, run against every implementation of storage.Bucket."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from aws_names import OUTPUT
from bucket_contract import (  # noqa: F401 - run for the fixture `bucket` below
    HEADERS,
    PLAIN_KEYS,
    test_a_large_body_is_written_by_one_put,
    test_a_missing_object_is_none,
    test_a_new_object_is_written_once,
    test_a_written_object_reads_back,
    test_each_of_several_objects_is_created_only_if_missing,
    test_only_the_version_with_the_etag_is_deleted,
    test_only_the_version_with_the_etag_is_replaced,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_bucket import MemoryBucket
from scripted_server import Hang, Reply, Reset, ScriptedServer, Step, s3_error
from simulation.calm import SIMULATED, simulated_bucket

from thumbnailer.errors import OutOfTime, StorageDenied, StorageUnavailable
from thumbnailer.storage import Bucket, Object, S3Bucket, State, s3_bucket
from thumbnailer.storage.boto3_bucket import Boto3Bucket
from thumbnailer.storage.obstore_bucket import AWKWARD_KEY, ObstoreBucket, UnreadableHeaderError

type Maker = Callable[[str, float], Bucket]

AWKWARD_KEYS = ["a//b.webp", "/a.webp", "a/", "../a.webp", "a/./b", "a\tb\x01.webp", "//", "."]


@pytest.fixture(params=[*SIMULATED, "obstore", "boto3", "memory", "chosen by key"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """Each implementation, over an empty bucket."""
    if request.param == "memory":
        return MemoryBucket()
    if request.param in SIMULATED:
        return simulated_bucket(request.param)
    request.getfixturevalue("s3")
    makers: dict[str, Callable[[], Bucket]] = {
        "obstore": lambda: ObstoreBucket(OUTPUT, 6.0),
        "boto3": lambda: Boto3Bucket(OUTPUT, 6.0),
        "chosen by key": lambda: S3Bucket(OUTPUT, lambda: 6.0),
    }
    return makers[request.param]()


@pytest.mark.parametrize("kind", [ObstoreBucket, Boto3Bucket])
def test_a_missing_bucket_is_a_fault_not_an_answer(aws: str, kind: Maker) -> None:
    """A wrong bucket name must not look as if every upload were gone."""
    assert aws
    missing = kind("no-such-bucket", 6.0)
    with pytest.raises(StorageUnavailable):
        missing.get("k")
    with pytest.raises(StorageUnavailable):
        missing.put(Object("k", b"", HEADERS), replacing=None)


@pytest.mark.parametrize("key", PLAIN_KEYS + AWKWARD_KEYS)
def test_any_legal_key_is_named_exactly(s3: Any, key: str) -> None:
    """The client is chosen so that the object gets this very key, `//` and `..` included."""
    bucket = S3Bucket(OUTPUT, lambda: 6.0)
    assert bucket.put(Object(key, b"x", HEADERS), replacing=None)
    assert [found["Key"] for found in _listed(s3)] == [key]
    stored = bucket.get(key)
    assert stored is not None
    assert stored.read() == b"x"


def _listed(s3: Any) -> list[dict[str, Any]]:
    from urllib.parse import unquote_plus  # noqa: PLC0415

    listed = s3.list_objects_v2(Bucket=OUTPUT, EncodingType="url")
    return [{**each, "Key": unquote_plus(each["Key"])} for each in listed.get("Contents", [])]


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
def test_obstore_gets_no_key_that_it_would_change(s3: Any, key: str) -> None:
    """Every key that AWKWARD_KEY lets through is stored by obstore under exactly that name."""
    if AWKWARD_KEY.search(key):
        return
    ObstoreBucket(OUTPUT, 6.0).put(Object(key, b"x", HEADERS), replacing=None)
    assert s3.head_object(Bucket=OUTPUT, Key=key)["ContentLength"] == 1
    s3.delete_object(Bucket=OUTPUT, Key=key)


# --- what S3 may answer --------------------------------------------------------------------------
BUDGET = 1.4
"""Seconds: obstore makes all its attempts in it, boto3 just one."""

RETRIED = 2.75
"""Seconds: the shortest budget that boto3 makes another attempt in."""

BUSY = 1.0
"""Seconds beyond a budget that are granted to a busy machine."""

OBJECT = Reply(
    headers={
        "ETag": '"e1"',
        "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        "x-amz-meta-recipe": "r",
    },
    body=b"webp" * 16,
)
WRITTEN = Reply(headers={"ETag": '"e2"'})
SLOW_DOWN = s3_error(503, "SlowDown")

type Ask = Callable[[Bucket], object]


def fetch(bucket: Bucket) -> bytes | None:
    found = bucket.get("k")
    return found.read() if found else None


def create(bucket: Bucket) -> bool:
    return bucket.put(Object("k", b"webp", HEADERS), replacing=None)


def update(bucket: Bucket) -> bool:
    return bucket.put(Object("k", b"webp", HEADERS), replacing="e1")


def state(bucket: Bucket) -> State | None:
    return bucket.head("k")


def success(ask: Ask) -> Reply:
    """How S3 grants what `ask` asks."""
    return WRITTEN if ask in (create, update) else OBJECT


every_client = pytest.mark.parametrize("kind", [ObstoreBucket, Boto3Bucket])
every_request = pytest.mark.parametrize("ask", [fetch, state, create, update])
every_put = pytest.mark.parametrize("ask", [create, update])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """An S3 that does as its `script` says: at first, all is well."""
    with ScriptedServer(OBJECT) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        s3_bucket.kept_client.cache_clear()
        yield server
    s3_bucket.kept_client.cache_clear()


@contextmanager
def within_budget() -> Iterator[None]:
    """What the block does ends in time."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < BUDGET + BUSY


@every_client
@every_request
@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (401, "Unauthorized")])
def test_a_refusal_is_told_as_one(
    server: ScriptedServer, kind: Maker, ask: Ask, status: int, code: str
) -> None:
    """403 and 401: asking again does not help, and the operator must know why."""
    server.script = (s3_error(status, code),)
    with pytest.raises(StorageDenied, match=f"s3://{OUTPUT}/k"):
        ask(kind(OUTPUT, BUDGET))
    assert len(server.requests) == 1


@every_client
@every_request
def test_a_passing_fault_is_overcome(server: ScriptedServer, kind: Maker, ask: Ask) -> None:
    """503 SlowDown once: the next attempt succeeds, unseen."""
    server.script = (SLOW_DOWN, success(ask))
    assert ask(kind(OUTPUT, RETRIED))
    assert len(server.requests) == 2


@every_client
@every_request
def test_a_lasting_fault_is_told_in_time(server: ScriptedServer, kind: Maker, ask: Ask) -> None:
    """503 SlowDown for ever is StorageUnavailable within the budget."""
    server.script = (SLOW_DOWN,)
    with within_budget(), pytest.raises(StorageUnavailable):
        ask(kind(OUTPUT, BUDGET))


@every_client
@every_put
@pytest.mark.parametrize(
    ("status", "code"), [(409, "ConditionalRequestConflict"), (412, "PreconditionFailed")]
)
def test_a_lost_condition_is_an_answer(
    server: ScriptedServer, kind: Maker, ask: Ask, status: int, code: str
) -> None:
    """409 and 412, to If-None-Match and If-Match alike: not taken, look again."""
    server.script = (s3_error(status, code),)
    with within_budget():
        assert ask(kind(OUTPUT, BUDGET)) is False


@every_client
@pytest.mark.parametrize("ask", [fetch, create, update])
def test_no_bucket_is_a_fault_whatever_was_asked(
    server: ScriptedServer, kind: Maker, ask: Ask
) -> None:
    """404 NoSuchBucket: not a missing object, and to If-Match not a lost condition."""
    server.script = (s3_error(404, "NoSuchBucket"),)
    with pytest.raises(StorageUnavailable):
        ask(kind(OUTPUT, BUDGET))


@every_client
def test_an_object_may_be_called_like_an_error(server: ScriptedServer, kind: Maker) -> None:
    """A missing object whose key says NoSuchBucket is missing, and no more than that."""
    server.script = (s3_error(404, "NoSuchKey"),)
    bucket = kind(OUTPUT, BUDGET)
    assert bucket.get("NoSuchBucket.jpg") is None
    assert not bucket.put(Object("NoSuchBucket.jpg", b"", HEADERS), replacing="e1")


@every_client
@every_request
@pytest.mark.parametrize("step", [Hang(), Reset()])
def test_silence_and_resets_are_told_in_time(
    server: ScriptedServer, kind: Maker, ask: Ask, step: Step
) -> None:
    """S3 that hangs or hangs up leaves the invocation its time to say so."""
    server.script = (step,)
    with within_budget(), pytest.raises(StorageUnavailable):
        ask(kind(OUTPUT, BUDGET))


@every_client
@pytest.mark.parametrize("ask", [fetch, state])
def test_one_reset_of_a_look_is_overcome(server: ScriptedServer, kind: Maker, ask: Ask) -> None:
    """A connection that breaks once costs GET and HEAD another attempt."""
    server.script = (Reset(), OBJECT)
    assert ask(kind(OUTPUT, RETRIED))
    assert len(server.requests) == 2


@every_client
@every_put
def test_a_lost_reply_to_a_put_is_never_success(
    server: ScriptedServer, kind: Maker, ask: Ask
) -> None:
    """The write took effect, its reply was lost: the client says so, or S3 does by 412."""
    server.script = (Reset(), s3_error(412, "PreconditionFailed"))
    with suppress(StorageUnavailable):
        assert ask(kind(OUTPUT, RETRIED)) is False


@every_client
def test_a_trickled_body_is_given_up_in_time(server: ScriptedServer, kind: Maker) -> None:
    """A byte now and then is no silence, yet the budget ends it."""
    server.script = (OBJECT.but(pause=0.1),)
    with within_budget(), pytest.raises(StorageUnavailable):
        fetch(kind(OUTPUT, BUDGET))


@every_client
@pytest.mark.parametrize("sent", [0, 7])
def test_a_truncated_body_is_never_taken_for_whole(
    server: ScriptedServer, kind: Maker, sent: int
) -> None:
    """Fewer bytes than Content-Length says are StorageUnavailable, not an image cut short."""
    server.script = (OBJECT.but(sent=sent),)
    with within_budget(), pytest.raises(StorageUnavailable):
        fetch(kind(OUTPUT, BUDGET))


@every_client
@pytest.mark.parametrize(
    ("replacing", "condition"), [(None, ("if-none-match", "*")), ("e1", ("if-match", '"e1"'))]
)
def test_a_put_is_one_request_that_says_all(
    server: ScriptedServer, kind: Maker, replacing: str | None, condition: tuple[str, str]
) -> None:
    """6 MB, one PUT: bytes, condition, type, caching and metadata; no "100 Continue" to wait for.

    A multipart upload could not be conditional from its first byte on.
    """
    server.script = (WRITTEN,)
    body = bytes(6 * 1024 * 1024)
    assert kind(OUTPUT, 5.5).put(Object("a/k.webp", body, HEADERS), replacing=replacing)
    (request,) = server.requests
    assert (request.method, request.path) == ("PUT", f"/{OUTPUT}/a/k.webp")
    assert request.length == len(body)
    assert "expect" not in request.headers
    conditions = {name: value for name, value in request.headers.items() if name.startswith("if-")}
    assert conditions == dict([condition])
    assert request.headers["content-type"] == "image/webp"
    assert request.headers["cache-control"] == "max-age=60"
    for name, value in HEADERS.metadata.items():
        assert request.headers[f"x-amz-meta-{name}"] == value


MANY = [Object(name, b"webp", HEADERS) for name in ("a", "b", "c")]


@pytest.mark.usefixtures("aws")
def test_new_objects_are_put_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are under way at the same time: none ends before the last has begun."""
    all_begun = threading.Barrier(len(MANY), timeout=10)

    def put(_self: ObstoreBucket, new: Object, *, replacing: str | None) -> bool:
        assert replacing is None
        all_begun.wait()
        return new.key != "b"

    monkeypatch.setattr(ObstoreBucket, "put", put)
    assert S3Bucket(OUTPUT, lambda: 6.0).create(MANY) == [True, False, True]


@pytest.mark.usefixtures("aws")
def test_one_that_fails_leaves_the_others_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is under way any more when the error is raised: the next invocation may start."""
    ended = []

    def put(_self: ObstoreBucket, new: Object, *, replacing: str | None) -> bool:
        assert replacing is None
        if new.key == "a":
            raise StorageUnavailable("simulated")
        time.sleep(0.05)
        ended.append(new.key)
        return True

    monkeypatch.setattr(ObstoreBucket, "put", put)
    with pytest.raises(StorageUnavailable):
        S3Bucket(OUTPUT, lambda: 6.0).create(MANY)
    assert sorted(ended) == ["b", "c"]


@pytest.mark.parametrize("header", ["Content-Disposition", "x-amz-meta-name"])
def test_a_foreign_header_does_not_hide_an_object(server: ScriptedServer, header: str) -> None:
    """A header in Latin-1, which obstore refuses, S3Bucket reads by boto3."""
    server.script = (OBJECT.but(headers={**OBJECT.headers, header: "attachment; name=å.jpg"}),)
    for ask in (fetch, state):
        with pytest.raises(UnreadableHeaderError):
            ask(ObstoreBucket(OUTPUT, BUDGET))
    bucket = S3Bucket(OUTPUT, lambda: BUDGET)
    assert fetch(bucket) == OBJECT.body
    found = bucket.head("k")
    assert found is not None
    assert found.etag == "e1"
    assert found.metadata["recipe"] == "r"


def test_a_request_takes_the_largest_budget_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time left picks the client; with next to none left nothing is begun."""
    asked: list[float] = []

    def client(_kind: object, _name: str, budget: float) -> Bucket:
        asked.append(budget)
        return MemoryBucket()

    monkeypatch.setattr(s3_bucket, "kept_client", client)
    for left in (29.0, 23.9, 4.0, 0.8):
        S3Bucket(OUTPUT, lambda left=left: left).head("k")  # type: ignore[misc]
    assert asked == [22.0, 22.0, 2.75, 0.7]
    with pytest.raises(OutOfTime):
        S3Bucket(OUTPUT, lambda: 0.5).head("k")
