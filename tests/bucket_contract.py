"""Tests that every implementation of storage.Bucket must pass.

A test module that imports them must define the fixture `bucket`, an empty bucket.
"""

import re

import pytest
from pictures import decoded, jpeg

from thumbnailer.imaging import ENCODERS, OUTPUT_FORMATS, Size, ThumbnailSpec, make_thumbnails
from thumbnailer.provenance import LONG_AGO, Provenance
from thumbnailer.storage import Bucket, Headers, Listing, Object

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


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
def test_equal_pictures_of_different_provenance_are_told_apart(bucket: Bucket, name: str) -> None:
    """The mark in the bytes survives, in each format, and If-Match sees that it differs."""
    encoder = ENCODERS[name]
    spec = ThumbnailSpec(Size.of_width(16), 85, animated=False, format=name)
    [thumbnail] = make_thumbnails(jpeg((16, 12)), [spec], 512).thumbnails
    sources = [
        Provenance("uploads/a.jpg", "e1", LONG_AGO, "f"),
        Provenance("uploads/a.jpg", "e1", LONG_AGO, "f", "0.5,0.5"),
        Provenance("uploads/a.png", "e1", LONG_AGO, "f"),
    ]
    etags: list[str] = []
    for source in sources:
        body = encoder.mark(thumbnail.data, source.digest())
        new = Object("k", body, Headers(encoder.content_type, "max-age=60", source.to_metadata()))
        assert bucket.put(new, replacing=etags[-1] if etags else None)
        if etags:
            assert not bucket.put(new, replacing=etags[-1])
        found = bucket.get("k")
        assert found is not None
        stored = found.read()
        assert stored.endswith(encoder.mark_ending(source.digest()))
        assert decoded(stored).size == (16, 12)
        assert Provenance.of(found.state.metadata) == source
        etags.append(found.state.etag)
    assert len(set(etags)) == len(sources)


NAMES = ["a/photo.json", "a/photo_128w.webp", "a/photo2_128w.webp", "a/photo/x", "a/phot", "a//b"]
STRANGE_NAMES = ["s/\t\x01", "s/ +%2F&", "s/\ufffc", "s/😀"]


def test_keys_are_listed_by_prefix_in_the_order_of_their_bytes(bucket: Bucket) -> None:
    """A prefix is any text, not only a folder; names with any characters are returned exactly."""
    if not hasattr(bucket, "list_keys"):
        pytest.skip("obstore lists whole folders only, so boto3 is used (docs/adr/0011)")
    for key in [*NAMES, *STRANGE_NAMES]:
        assert write(bucket, key)
    assert bucket.list_keys("a/photo", 10) == Listing(
        ("a/photo.json", "a/photo/x", "a/photo2_128w.webp", "a/photo_128w.webp"), more=False
    )
    assert bucket.list_keys("a//", 10) == Listing(("a//b",), more=False)
    assert bucket.list_keys("b", 10) == Listing((), more=False)
    assert bucket.list_keys("s/", 10) == Listing(tuple(STRANGE_NAMES), more=False)


def test_a_listing_says_whether_there_are_more_keys(bucket: Bucket) -> None:
    """It has at most `limit` keys, the first ones."""
    if not hasattr(bucket, "list_keys"):
        pytest.skip("obstore lists whole folders only, so boto3 is used (docs/adr/0011)")
    for key in "abc":
        assert write(bucket, key)
    assert bucket.list_keys("", 2) == Listing(("a", "b"), more=True)
    assert bucket.list_keys("", 3) == Listing(("a", "b", "c"), more=False)


def test_each_of_several_objects_is_found_or_missing(bucket: Bucket) -> None:
    """The states are in the order of the keys, which may need either client."""
    if not hasattr(bucket, "head_all"):
        pytest.skip("only S3Bucket makes several requests at once")
    keys = ["a", "missing", "a//b"]
    assert bucket.put(Object("a", b"webp", HEADERS), replacing=None)
    assert bucket.put(Object("a//b", b"webp", HEADERS), replacing=None)
    assert bucket.head_all(keys) == [bucket.head(key) for key in keys]
    assert bucket.head_all(keys)[1] is None
    assert bucket.head_all([]) == []


def write(bucket: Bucket, key: str) -> bool:
    """Write a small object."""
    return bucket.put(Object(key, b"webp", HEADERS), replacing=None)


def test_a_large_body_is_written_by_one_put(bucket: Bucket) -> None:
    """A body above obstore's multipart size is still one conditional PUT."""
    body = bytes(6 * 1024 * 1024)
    assert bucket.put(Object("k", body, HEADERS), replacing=None)
    assert not bucket.put(Object("k", body, HEADERS), replacing=None)
    state = bucket.head("k")
    assert state is not None
    assert state.size == len(body)
    assert "-" not in state.etag
