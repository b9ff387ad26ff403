"""What every implementation of storage.Bucket does; who imports this has a fixture `bucket`."""

import re

import pytest

from thumbnailer.storage import Bucket, Headers, Object

HEADERS = Headers("image/webp", "max-age=60", {"source-key": "uploads/%C3%A5.jpg", "recipe": "r"})
PLAIN_KEYS = [
    "a/photo_128w.webp",
    "å +%2F#?&=~.webp",
    "日本/😀.webp",
    "a b/c'd\"e.webp",
    "…",
    "a\\b",
]


def test_what_is_not_there_is_none(bucket: Bucket) -> None:
    """A missing object is an answer, not an error."""
    assert bucket.get("missing") is None
    assert bucket.head("missing") is None


@pytest.mark.parametrize("key", PLAIN_KEYS)
def test_what_is_put_comes_back(bucket: Bucket, key: str) -> None:
    """Bytes, size, etag, metadata and a time in UTC, from GET and HEAD alike."""
    assert bucket.put(Object(key, b"webp", HEADERS), replacing=None)
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
    assert bucket.put(Object("k", b"first", HEADERS), replacing=None)
    assert not bucket.put(Object("k", b"second", HEADERS), replacing=None)
    found = bucket.get("k")
    assert found is not None
    assert found.read() == b"first"


@pytest.mark.parametrize("folder", ["a/", "a//"])
def test_of_many_each_is_created_if_nothing_is_there(bucket: Bucket, folder: str) -> None:
    """Told in their order; what was there stays. Keys of either client, if there are two."""
    if not hasattr(bucket, "create"):
        pytest.skip("a client writes one object at a time; S3Bucket uses it for several")
    assert bucket.put(Object(f"{folder}1", b"first", HEADERS), replacing=None)
    many = [Object(f"{folder}{number}", b"%d" % number, HEADERS) for number in range(4)]
    assert bucket.create(many) == [True, False, True, True]
    found = [bucket.get(each.key) for each in many]
    assert [each and each.read() for each in found] == [b"0", b"first", b"2", b"3"]
    assert bucket.create(many[2:3]) == [False]


def test_only_the_seen_version_is_replaced(bucket: Bucket) -> None:
    """If-Match: right etag writes; a stale one, and one of an object that is gone, do not."""
    assert bucket.put(Object("k", b"first", HEADERS), replacing=None)
    first = bucket.head("k")
    assert first is not None
    assert bucket.put(Object("k", b"second", HEADERS), replacing=first.etag)
    assert not bucket.put(Object("k", b"third", HEADERS), replacing=first.etag)
    assert not bucket.put(Object("gone", b"third", HEADERS), replacing=first.etag)
    found = bucket.get("k")
    assert found is not None
    assert found.read() == b"second"


def test_only_the_seen_version_is_deleted(bucket: Bucket) -> None:
    """If-Match: the right etag deletes; a stale one, and one of what is gone, do not."""
    if not hasattr(bucket, "delete"):
        pytest.skip("obstore cannot, so boto3 does it (docs/adr/0011)")
    assert bucket.put(Object("k", b"first", HEADERS), replacing=None)
    first = bucket.head("k")
    assert first is not None
    assert bucket.put(Object("k", b"second", HEADERS), replacing=first.etag)
    assert not bucket.delete("k", replacing=first.etag)
    second = bucket.head("k")
    assert second is not None
    assert bucket.delete("k", replacing=second.etag)
    assert bucket.head("k") is None
    assert not bucket.delete("k", replacing=second.etag)


def test_large_bodies_stay_whole(bucket: Bucket) -> None:
    """A body beyond obstore's multipart size is one conditional PUT all the same."""
    body = bytes(6 * 1024 * 1024)
    assert bucket.put(Object("k", body, HEADERS), replacing=None)
    assert not bucket.put(Object("k", body, HEADERS), replacing=None)
    state = bucket.head("k")
    assert state is not None
    assert state.size == len(body)
    assert "-" not in state.etag
