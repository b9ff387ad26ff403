"""One contract, run against every implementation of storage.Bucket."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aws_names import OUTPUT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_bucket import MemoryBucket

import storage
from errors import OutOfTime, StorageUnavailable
from storage import AWKWARD_KEY, Boto3Bucket, Bucket, Headers, ObstoreBucket, S3Bucket

HEADERS = Headers("image/webp", "max-age=60", {"source-key": "uploads/%C3%A5.jpg", "recipe": "r"})
PLAIN_KEYS = [
    "a/photo_128w.webp",
    "å +%2F#?&=~.webp",
    "日本/😀.webp",
    "a b/c'd\"e.webp",
    "…",
    "a\\b",
]
AWKWARD_KEYS = ["a//b.webp", "/a.webp", "a/", "../a.webp", "a/./b", "a\tb\x01.webp", "//", "."]


@pytest.fixture(params=["obstore", "boto3", "memory", "chosen by key"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """Each implementation, over an empty bucket."""
    if request.param == "memory":
        return MemoryBucket()
    request.getfixturevalue("s3")
    makers: dict[str, Callable[[], Bucket]] = {
        "obstore": lambda: ObstoreBucket(OUTPUT, 6.0),
        "boto3": lambda: Boto3Bucket(OUTPUT, 6.0),
        "chosen by key": lambda: S3Bucket(OUTPUT, lambda: 6.0),
    }
    return makers[request.param]()


def test_what_is_not_there_is_none(bucket: Bucket) -> None:
    """A missing object is an answer, not an error."""
    assert bucket.get("missing") is None
    assert bucket.head("missing") is None


@pytest.mark.parametrize("key", PLAIN_KEYS)
def test_what_is_put_comes_back(bucket: Bucket, key: str) -> None:
    """Bytes, size, etag, metadata and a time in UTC, from GET and HEAD alike."""
    assert bucket.put(key, b"webp", HEADERS, replacing=None)
    found = bucket.get(key)
    assert found is not None
    assert found.read() == b"webp"
    assert found.state == bucket.head(key)
    assert found.state.size == 4
    assert re.fullmatch(r"[0-9a-f]{32}", found.state.etag)
    assert dict(found.state.metadata) == dict(HEADERS.metadata)
    offset = found.state.modified.utcoffset()
    assert offset is not None
    assert offset.total_seconds() == 0


def test_a_new_object_is_written_once(bucket: Bucket) -> None:
    """If-None-Match: the second writer is told, and changes nothing."""
    assert bucket.put("k", b"first", HEADERS, replacing=None)
    assert not bucket.put("k", b"second", HEADERS, replacing=None)
    found = bucket.get("k")
    assert found is not None
    assert found.read() == b"first"


def test_only_the_seen_version_is_replaced(bucket: Bucket) -> None:
    """If-Match: right etag writes; a stale one, and one of an object that is gone, do not."""
    assert bucket.put("k", b"first", HEADERS, replacing=None)
    first = bucket.head("k")
    assert first is not None
    assert bucket.put("k", b"second", HEADERS, replacing=first.etag)
    assert not bucket.put("k", b"third", HEADERS, replacing=first.etag)
    assert not bucket.put("gone", b"third", HEADERS, replacing=first.etag)
    found = bucket.get("k")
    assert found is not None
    assert found.read() == b"second"


def test_large_bodies_stay_whole(bucket: Bucket) -> None:
    """A body beyond obstore's multipart size is one conditional PUT all the same."""
    body = bytes(6 * 1024 * 1024)
    assert bucket.put("k", body, HEADERS, replacing=None)
    assert not bucket.put("k", body, HEADERS, replacing=None)
    state = bucket.head("k")
    assert state is not None
    assert state.size == len(body)
    assert "-" not in state.etag


@pytest.mark.parametrize("kind", [ObstoreBucket, Boto3Bucket])
def test_a_missing_bucket_is_a_fault_not_an_answer(aws: str, kind: type[Bucket]) -> None:
    """A wrong bucket name must not look as if every upload were gone."""
    assert aws
    missing = kind("no-such-bucket", 6.0)  # type: ignore[call-arg]
    with pytest.raises(StorageUnavailable):
        missing.get("k")
    with pytest.raises(StorageUnavailable):
        missing.put("k", b"", HEADERS, replacing=None)


@pytest.mark.parametrize("key", PLAIN_KEYS + AWKWARD_KEYS)
def test_any_legal_key_is_named_exactly(s3: Any, key: str) -> None:
    """The client is chosen so that the object gets this very key, `//` and `..` included."""
    bucket = S3Bucket(OUTPUT, lambda: 6.0)
    assert bucket.put(key, b"x", HEADERS, replacing=None)
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
    ObstoreBucket(OUTPUT, 6.0).put(key, b"x", HEADERS, replacing=None)
    assert s3.head_object(Bucket=OUTPUT, Key=key)["ContentLength"] == 1
    s3.delete_object(Bucket=OUTPUT, Key=key)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                accepted.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for connection in accepted:
        connection.close()


@pytest.mark.parametrize("kind", [ObstoreBucket, Boto3Bucket])
def test_a_hung_server_costs_no_more_than_the_budget(
    silent_port: int, monkeypatch: pytest.MonkeyPatch, kind: Callable[[str, float], Bucket]
) -> None:
    """S3 that hangs leaves the invocation its time to say so: GET and PUT end within budget."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent_port}")
    bucket = kind(OUTPUT, 1.5)
    for request in (
        lambda: bucket.get("k"),
        lambda: bucket.put("k", b"", HEADERS, replacing=None),
    ):
        began = time.monotonic()
        with pytest.raises(StorageUnavailable):
            request()
        assert time.monotonic() - began < 1.5 + 1.0  # a second for a busy machine


def test_a_request_takes_the_largest_budget_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time left picks the client; with next to none left nothing is begun."""
    asked: list[float] = []

    def client(_kind: object, _name: str, budget: float) -> Bucket:
        asked.append(budget)
        return MemoryBucket()

    monkeypatch.setattr(storage, "_client", client)
    for left in (29.0, 23.9, 4.0, 0.8):
        S3Bucket(OUTPUT, lambda left=left: left).head("k")  # type: ignore[misc]
    assert asked == [22.0, 22.0, 2.75, 0.7]
    with pytest.raises(OutOfTime):
        S3Bucket(OUTPUT, lambda: 0.5).head("k")
