"""Tests that every implementation of storage.Bucket must pass.

A test module that imports them must define the fixture `bucket`, an empty bucket.
"""

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


def test_a_missing_object_is_none(bucket: Bucket) -> None:
    """GET and HEAD of a missing object return None instead of raising an error."""
    assert bucket.get("missing") is None
    assert bucket.head("missing") is None


@pytest.mark.parametrize("key", PLAIN_KEYS)
def test_a_written_object_reads_back(bucket: Bucket, key: str) -> None:
    """GET and HEAD return the same size, etag, metadata and time in UTC."""
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
    """If-None-Match: the second write returns False and changes nothing."""
    assert bucket.put(Object("k", b"first", HEADERS), replacing=None)
    assert not bucket.put(Object("k", b"second", HEADERS), replacing=None)
    found = bucket.get("k")
    assert found is not None
    assert found.read() == b"first"


@pytest.mark.parametrize("folder", ["a/", "a//"])
def test_each_of_several_objects_is_created_only_if_missing(bucket: Bucket, folder: str) -> None:
    """The results are in order, and an existing object stays. The keys may need either client."""
    if not hasattr(bucket, "create"):
        pytest.skip("only S3Bucket writes several objects at once")
    assert bucket.put(Object(f"{folder}1", b"first", HEADERS), replacing=None)
    many = [Object(f"{folder}{number}", b"%d" % number, HEADERS) for number in range(4)]
    assert bucket.create(many) == [True, False, True, True]
    found = [bucket.get(each.key) for each in many]
    assert [each and each.read() for each in found] == [b"0", b"first", b"2", b"3"]
    assert bucket.create(many[2:3]) == [False]


def test_only_the_version_with_the_etag_is_replaced(bucket: Bucket) -> None:
    """If-Match: the current etag writes; an old one, or one of a deleted object, does not."""
    assert bucket.put(Object("k", b"first", HEADERS), replacing=None)
    first = bucket.head("k")
    assert first is not None
    assert bucket.put(Object("k", b"second", HEADERS), replacing=first.etag)
    assert not bucket.put(Object("k", b"third", HEADERS), replacing=first.etag)
    assert not bucket.put(Object("missing", b"third", HEADERS), replacing=first.etag)
    found = bucket.get("k")
    assert found is not None
    assert found.read() == b"second"


def test_only_the_version_with_the_etag_is_deleted(bucket: Bucket) -> None:
    """If-Match: the current etag deletes; an old one, or one of a deleted object, does not."""
    if not hasattr(bucket, "delete"):
        pytest.skip("obstore has no conditional delete, so boto3 is used (docs/adr/0011)")
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


def test_a_large_body_is_written_by_one_put(bucket: Bucket) -> None:
    """A body above obstore's multipart size is still one conditional PUT."""
    body = bytes(6 * 1024 * 1024)
    assert bucket.put(Object("k", body, HEADERS), replacing=None)
    assert not bucket.put(Object("k", body, HEADERS), replacing=None)
    state = bucket.head("k")
    assert state is not None
    assert state.size == len(body)
    assert "-" not in state.etag
