"""Every implementation of storage.Bucket fulfils one contract, whatever S3 answers."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from typing import Any

import pytest
from aws_names import OUTPUT
from bucket_contract import (  # noqa: F401 - run for the fixture `bucket` below
    HEADERS,
    PLAIN_KEYS,
    test_a_large_body_is_written_by_one_put,
    test_a_listing_says_whether_there_are_more_keys,
    test_a_missing_object_is_none,
    test_a_new_object_is_written_once,
    test_a_written_object_reads_back,
    test_each_of_several_objects_is_created_only_if_missing,
    test_each_of_several_objects_is_found_or_missing,
    test_equal_pictures_of_different_provenance_are_told_apart,
    test_keys_are_listed_by_prefix_in_the_order_of_their_bytes,
    test_only_the_version_with_the_etag_is_deleted,
    test_only_the_version_with_the_etag_is_replaced,
)
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from memory_bucket import MemoryBucket
from pictures import jpeg
from scripted_server import Hang, Reply, Reset, ScriptedServer, Step, Together, s3_error
from simulation.calm import SIMULATED, simulated_bucket

from thumbnailer.errors import (
    OutOfTime,
    PermanentError,
    SourceArchived,
    SourceEncrypted,
    StorageDenied,
    StorageUnavailable,
)
from thumbnailer.events import Upload
from thumbnailer.imaging import ENCODERS, OUTPUT_FORMATS, parse_sizes
from thumbnailer.reconcile import Done, Reconciler
from thumbnailer.settings import Settings
from thumbnailer.storage import Bucket, Object, S3Bucket, State, s3_bucket
from thumbnailer.storage.boto3_bucket import Boto3Bucket
from thumbnailer.storage.obstore_bucket import AWKWARD_KEY, ObstoreBucket, UnreadableHeaderError
from thumbnailer.telemetry import Telemetry

type Maker = Callable[[str, float], Bucket]

AWKWARD_KEYS = ["a//b.webp", "/a.webp", "a/", "../a.webp", "a/./b", "a\tb\x01.webp", "//", "."]


@pytest.fixture(params=[*SIMULATED, "obstore", "boto3", "memory", "chosen by key"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """Return each implementation in turn, for an empty bucket."""
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
def test_a_missing_bucket_raises_storage_unavailable(aws: str, kind: Maker) -> None:
    """Otherwise a wrong bucket name would look as if every upload had been deleted."""
    assert aws
    missing = kind("no-such-bucket", 6.0)
    with pytest.raises(StorageUnavailable):
        missing.get("k")
    with pytest.raises(StorageUnavailable):
        missing.put(Object("k", b"", HEADERS), replacing=None)


@pytest.mark.parametrize("key", PLAIN_KEYS + AWKWARD_KEYS)
def test_any_legal_key_is_stored_unchanged(s3: Any, key: str) -> None:
    """S3Bucket chooses a client that does not change the key, even with `//` or `..` in it."""
    bucket = S3Bucket(OUTPUT, lambda: 6.0)
    assert bucket.put(Object(key, b"x", HEADERS), replacing=None)
    assert [found["Key"] for found in _listed(s3)] == [key]
    stored = bucket.get(key)
    assert stored is not None
    assert stored.read() == b"x"


def _listed(s3: Any) -> list[dict[str, Any]]:
    """List the output bucket, with decoded keys."""
    from urllib.parse import unquote_plus  # noqa: PLC0415

    listed = s3.list_objects_v2(Bucket=OUTPUT, EncodingType="url")
    return [{**each, "Key": unquote_plus(each["Key"])} for each in listed.get("Contents", [])]


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_obstore_is_used_only_for_keys_that_it_does_not_change(s3: Any, key: str) -> None:
    """Every key that AWKWARD_KEY does not match is stored by obstore under exactly that key."""
    assume(not AWKWARD_KEY.search(key))
    ObstoreBucket(OUTPUT, 6.0).put(Object(key, b"x", HEADERS), replacing=None)
    assert s3.head_object(Bucket=OUTPUT, Key=key)["ContentLength"] == 1
    s3.delete_object(Bucket=OUTPUT, Key=key)


# --- what S3 may answer --------------------------------------------------------------------------
BUDGET = 1.4
"""Seconds: enough for all attempts of obstore, and for one of boto3."""

RETRIED = 2.75
"""Seconds: the shortest budget in which boto3 makes a second attempt."""

TOLERANCE = 1.0
"""Seconds that a request may take beyond its budget, for a busy machine."""

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

type Operation = Callable[[Bucket], object]


def fetch(bucket: Bucket) -> bytes | None:
    """GET an object with its body."""
    found = bucket.get("k")
    return found.read() if found else None


def create(bucket: Bucket) -> bool:
    """PUT an object with If-None-Match."""
    return bucket.put(Object("k", b"webp", HEADERS), replacing=None)


def update(bucket: Bucket) -> bool:
    """PUT an object with If-Match."""
    return bucket.put(Object("k", b"webp", HEADERS), replacing="e1")


def head(bucket: Bucket) -> State | None:
    """HEAD an object."""
    return bucket.head("k")


def success_of(operation: Operation) -> Reply:
    """Return the reply of S3 to a successful operation."""
    return WRITTEN if operation in (create, update) else OBJECT


@pytest.mark.parametrize(
    ("region", "suffix", "endpoint"),
    [
        ("eu-west-1", "amazonaws.com", None),
        ("us-gov-west-1", "amazonaws.com", None),
        ("cn-north-1", "amazonaws.com.cn", "https://s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_the_endpoint_has_the_domain_of_the_partition(
    monkeypatch: pytest.MonkeyPatch, region: str, suffix: str, endpoint: str | None
) -> None:
    """The template says which domain the region has, because obstore knows only amazonaws.com.

    obstore itself reads AWS_ENDPOINT_URL, where a local AWS is, whatever the region.
    """
    monkeypatch.setenv("AWS_REGION", region)
    monkeypatch.setenv("URL_SUFFIX", suffix)
    assert stored_endpoint(ObstoreBucket(OUTPUT, 6.0)) == endpoint
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert stored_endpoint(ObstoreBucket(OUTPUT, 6.0)) is None


def stored_endpoint(bucket: ObstoreBucket) -> str | None:
    """The endpoint that obstore was given, instead of its own or that of its environment."""
    return bucket._store.config.get("endpoint")  # noqa: SLF001 - no request leaves this test


every_client = pytest.mark.parametrize("kind", [ObstoreBucket, Boto3Bucket])
every_operation = pytest.mark.parametrize("operation", [fetch, head, create, update])
every_put = pytest.mark.parametrize("operation", [create, update])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """Start an S3 that answers as its `script` says, at first with an object, and yield it."""
    with ScriptedServer(OBJECT) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        s3_bucket.kept_client.cache_clear()
        yield server
    s3_bucket.kept_client.cache_clear()


@contextmanager
def within_budget() -> Iterator[None]:
    """Check that the block ends within the budget."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < BUDGET + TOLERANCE


@every_client
@every_operation
@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (401, "Unauthorized")])
def test_a_refused_request_raises_storage_denied_and_is_not_retried(
    server: ScriptedServer, kind: Maker, operation: Operation, status: int, code: str
) -> None:
    """A retry cannot help after 401 or 403, and the error names the object."""
    server.script = (s3_error(status, code),)
    with pytest.raises(StorageDenied, match=f"s3://{OUTPUT}/k"):
        operation(kind(OUTPUT, BUDGET))
    assert len(server.requests) == 1


ARCHIVED = s3_error(403, "InvalidObjectState")
ENCRYPTED = Reply(
    400,
    {"Content-Type": "application/xml"},
    b"<?xml version='1.0'?>\n<Error><Code>InvalidRequest</Code><Message>The object was stored "
    b"using a form of Server Side Encryption. The correct parameters must be provided to "
    b"retrieve the object.</Message><RequestId>1</RequestId></Error>",
)
"""The answers of S3 to a GET (docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html)."""


@every_client
@pytest.mark.parametrize(
    ("reply", "error", "advice"),
    [
        (ARCHIVED, SourceArchived, "Restore it with .* then replay"),
        (ENCRYPTED, SourceEncrypted, "SSE-C.* Upload it without"),
    ],
)
def test_an_object_that_s3_will_not_return_is_a_permanent_error_after_one_request(
    server: ScriptedServer, kind: Maker, reply: Reply, error: type[PermanentError], advice: str
) -> None:
    """Archived, or encrypted with the uploader's key: the error names the object and the remedy."""
    server.script = (reply,)
    with pytest.raises(error, match=f"s3://{OUTPUT}/k .*{advice}"):
        fetch(kind(OUTPUT, RETRIED))
    assert len(server.requests) == 1


@every_client
@pytest.mark.parametrize("code", ["InvalidRequest", "ExpiredToken", "AuthorizationHeaderMalformed"])
def test_any_other_bad_request_may_pass(server: ScriptedServer, kind: Maker, code: str) -> None:
    """Status 400 has many meanings, and a permanent error would end the upload."""
    server.script = (s3_error(400, code),)
    with pytest.raises(StorageUnavailable):
        fetch(kind(OUTPUT, BUDGET))


@every_client
def test_a_key_cannot_pretend_to_be_an_answer_of_s3(server: ScriptedServer, kind: Maker) -> None:
    """Whoever may upload chooses the key, and obstore's error text contains it."""
    server.script = (s3_error(403, "AccessDenied"),)
    key = "status code: <Code>InvalidObjectState</Code><Message>m</Message>"
    with pytest.raises(StorageDenied):
        kind(OUTPUT, BUDGET).get(key)


@every_client
def test_the_content_encoding_is_reported_and_the_body_is_not_decoded(
    server: ScriptedServer, kind: Maker
) -> None:
    """Neither client inflates by itself, without a limit; the size is that of the body."""
    body = gzip.compress(OBJECT.body)
    headers = {**OBJECT.headers, "Content-Encoding": "gzip"}
    server.script = (OBJECT.but(headers=headers, body=body),)
    found = kind(OUTPUT, BUDGET).get("k")
    assert found is not None
    assert (found.state.encoding, found.state.size, found.read()) == ("gzip", len(body), body)
    assert kind(OUTPUT, BUDGET).head("k") == found.state
    server.script = (OBJECT,)
    plain = kind(OUTPUT, BUDGET).head("k")
    assert plain is not None
    assert plain.encoding == ""


@every_client
@every_operation
def test_a_request_succeeds_when_s3_fails_only_once(
    server: ScriptedServer, kind: Maker, operation: Operation
) -> None:
    """The attempt after one 503 SlowDown succeeds, and the caller notices nothing."""
    server.script = (SLOW_DOWN, success_of(operation))
    assert operation(kind(OUTPUT, RETRIED))
    assert len(server.requests) == 2


@every_client
@every_operation
def test_an_s3_that_keeps_failing_raises_within_the_budget(
    server: ScriptedServer, kind: Maker, operation: Operation
) -> None:
    """The error after 503 SlowDown to every attempt is StorageUnavailable."""
    server.script = (SLOW_DOWN,)
    with within_budget(), pytest.raises(StorageUnavailable):
        operation(kind(OUTPUT, BUDGET))


@every_client
@every_put
@pytest.mark.parametrize(
    ("status", "code"), [(409, "ConditionalRequestConflict"), (412, "PreconditionFailed")]
)
def test_a_refused_condition_returns_false(
    server: ScriptedServer, kind: Maker, operation: Operation, status: int, code: str
) -> None:
    """So it is for 409 and 412, with If-None-Match and with If-Match."""
    server.script = (s3_error(status, code),)
    with within_budget():
        assert operation(kind(OUTPUT, BUDGET)) is False


@every_client
@pytest.mark.parametrize("operation", [fetch, create, update])
def test_no_such_bucket_is_an_error_and_no_missing_object(
    server: ScriptedServer, kind: Maker, operation: Operation
) -> None:
    """A 404 with the code NoSuchBucket raises StorageUnavailable for GET and PUT."""
    server.script = (s3_error(404, "NoSuchBucket"),)
    with pytest.raises(StorageUnavailable):
        operation(kind(OUTPUT, BUDGET))


@every_client
def test_a_key_may_contain_the_name_of_an_error(server: ScriptedServer, kind: Maker) -> None:
    """A missing object whose key contains NoSuchBucket is only a missing object."""
    server.script = (s3_error(404, "NoSuchKey"),)
    bucket = kind(OUTPUT, BUDGET)
    assert bucket.get("NoSuchBucket.jpg") is None
    assert not bucket.put(Object("NoSuchBucket.jpg", b"", HEADERS), replacing="e1")


@every_client
@every_operation
@pytest.mark.parametrize("step", [Hang(), Reset()], ids=["no answer", "reset"])
def test_a_connection_without_an_answer_raises_within_the_budget(
    server: ScriptedServer, kind: Maker, operation: Operation, step: Step
) -> None:
    """Whether S3 hangs or resets the connection, there is time left to report the error."""
    server.script = (step,)
    with within_budget(), pytest.raises(StorageUnavailable):
        operation(kind(OUTPUT, BUDGET))


@every_client
@pytest.mark.parametrize("operation", [fetch, head])
def test_get_and_head_succeed_after_one_reset_connection(
    server: ScriptedServer, kind: Maker, operation: Operation
) -> None:
    """A connection that is reset once costs them a second attempt."""
    server.script = (Reset(), OBJECT)
    assert operation(kind(OUTPUT, RETRIED))
    assert len(server.requests) == 2


@every_client
@every_put
def test_a_put_whose_reply_is_lost_never_returns_true(
    server: ScriptedServer, kind: Maker, operation: Operation
) -> None:
    """The client raises, or repeats the PUT, which S3 refuses with 412 as the object exists."""
    server.script = (Reset(), s3_error(412, "PreconditionFailed"))
    with suppress(StorageUnavailable):
        assert operation(kind(OUTPUT, RETRIED)) is False


@every_client
def test_a_body_that_arrives_too_slowly_raises_within_the_budget(
    server: ScriptedServer, kind: Maker
) -> None:
    """A byte now and then prevents a time-out between bytes, but not the end of the budget."""
    server.script = (OBJECT.but(pause=0.1),)
    with within_budget(), pytest.raises(StorageUnavailable):
        fetch(kind(OUTPUT, BUDGET))


@every_client
@pytest.mark.parametrize("sent", [0, 7])
def test_a_truncated_body_is_an_error(server: ScriptedServer, kind: Maker, sent: int) -> None:
    """Fewer bytes than Content-Length says raise StorageUnavailable: it is no corrupt image."""
    server.script = (OBJECT.but(sent=sent),)
    with within_budget(), pytest.raises(StorageUnavailable):
        fetch(kind(OUTPUT, BUDGET))


@every_client
@pytest.mark.parametrize("form", OUTPUT_FORMATS)
@pytest.mark.parametrize(
    ("replacing", "condition"), [(None, ("if-none-match", "*")), ("e1", ("if-match", '"e1"'))]
)
def test_a_put_is_one_request_with_condition_headers_and_metadata(
    server: ScriptedServer,
    kind: Maker,
    replacing: str | None,
    condition: tuple[str, str],
    form: str,
) -> None:
    """Even 6 MB are one PUT, because a multipart upload is not conditional from its first byte on.

    The client does not wait for "100 Continue" either.
    """
    server.script = (WRITTEN,)
    body = bytes(6 * 1024 * 1024)
    headers = HEADERS._replace(content_type=ENCODERS[form].content_type)
    assert kind(OUTPUT, 5.5).put(Object(f"a/k.{form}", body, headers), replacing=replacing)
    (request,) = server.requests
    assert (request.method, request.path) == ("PUT", f"/{OUTPUT}/a/k.{form}")
    assert request.length == len(body)
    assert "expect" not in request.headers
    conditions = {name: value for name, value in request.headers.items() if name.startswith("if-")}
    assert conditions == dict([condition])
    assert request.headers["content-type"] == f"image/{form}"
    assert request.headers["cache-control"] == "max-age=60"
    for name, value in HEADERS.metadata.items():
        assert request.headers[f"x-amz-meta-{name}"] == value


MANY = [Object(name, b"webp", HEADERS) for name in ("a", "b", "c")]


@pytest.mark.usefixtures("aws")
def test_new_objects_are_written_in_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    """No PUT ends before the last one has begun; the results are in the order of the objects."""
    all_have_begun = threading.Barrier(len(MANY), timeout=10)

    def put(_self: ObstoreBucket, new: Object, *, replacing: str | None) -> bool:
        assert replacing is None
        all_have_begun.wait()
        return new.key != "b"

    monkeypatch.setattr(ObstoreBucket, "put", put)
    assert S3Bucket(OUTPUT, lambda: 6.0).create(MANY) == [True, False, True]


SIX = (("128", "512"), ("webp", "avif", "jpeg"))
"""Sizes and formats of six thumbnails."""

by_each_client = pytest.mark.parametrize(
    "folder", ["a/", "a//"], ids=["by obstore", "by boto3, which can name the key"]
)


def all_six() -> Together:
    """Answer no PUT before six of them have arrived."""
    return Together(threading.Barrier(6, timeout=5), WRITTEN)


@by_each_client
def test_six_objects_are_written_in_one_wait(server: ScriptedServer, folder: str) -> None:
    """S3 receives six PUTs before it answers any of them, from either client, and no more."""
    server.script = (all_six(),)
    keys = [f"{folder}photo_{size}w.{name}" for size, name in product(*SIX)]
    new = [Object(key, b"picture", HEADERS) for key in keys]
    assert S3Bucket(OUTPUT, lambda: 22.0).create(new) == [True] * 6
    assert sorted(each.path for each in server.requests) == sorted(f"/{OUTPUT}/{k}" for k in keys)


@by_each_client
def test_an_upload_in_three_formats_waits_for_s3_twice(server: ScriptedServer, folder: str) -> None:
    """It is one GET, and then all PUTs at once: two sizes in three formats are six."""
    body = jpeg((640, 480))
    server.script = (OBJECT.but(body=body), all_six())
    sizes, formats = SIX
    function = Reconciler(
        Settings(OUTPUT, "queue", parse_sizes(",".join(sizes)), formats=formats),
        Telemetry("ERROR"),
        lambda name: S3Bucket(name, lambda: 22.0),
        lambda: 22.0,
        22.0,
    )
    outcome = function.process(Upload("input", f"uploads/{folder}photo.jpg"))
    assert isinstance(outcome, Done)
    assert [each.method for each in server.requests] == ["GET"] + ["PUT"] * 6
    types = [each.headers["content-type"] for each in server.requests[1:]]
    assert sorted(types) == sorted(2 * ["image/webp", "image/avif", "image/jpeg"])


@pytest.mark.usefixtures("aws")
def test_an_error_is_raised_after_all_parallel_writes_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So no write of one invocation is still running during the next one."""
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
def test_an_object_with_headers_that_are_not_ascii_is_read(
    server: ScriptedServer, header: str
) -> None:
    """Where obstore refuses a header in Latin-1, S3Bucket uses boto3."""
    server.script = (OBJECT.but(headers={**OBJECT.headers, header: "attachment; name=å.jpg"}),)
    for operation in (fetch, head):
        with pytest.raises(UnreadableHeaderError):
            operation(ObstoreBucket(OUTPUT, BUDGET))
    bucket = S3Bucket(OUTPUT, lambda: BUDGET)
    assert fetch(bucket) == OBJECT.body
    found = bucket.head("k")
    assert found is not None
    assert found.etag == "e1"
    assert found.metadata["recipe"] == "r"
    assert bucket.head_all(["k", "k2"]) == [found, found]


def test_a_request_uses_the_largest_budget_that_fits_into_the_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where not even the smallest budget fits, OutOfTime is raised before any request."""
    budgets: list[float] = []

    def client(_kind: object, _name: str, budget: float) -> Bucket:
        budgets.append(budget)
        return MemoryBucket()

    monkeypatch.setattr(s3_bucket, "kept_client", client)
    for left in (29.0, 23.9, 4.0, 0.8):
        S3Bucket(OUTPUT, lambda left=left: left).head("k")  # type: ignore[misc]
    assert budgets == [22.0, 22.0, 2.75, 0.7]
    with pytest.raises(OutOfTime):
        S3Bucket(OUTPUT, lambda: 0.5).head("k")
    assert len(budgets) == 4
