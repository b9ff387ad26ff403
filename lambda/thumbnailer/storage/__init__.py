"""A bucket with conditional writes, by two clients behind one interface.

obstore is the fast one: tens of milliseconds of cold start where boto3 takes hundreds. It cannot
name every legal S3 key, so boto3, which can, serves those (`S3Bucket` chooses by key). Both
translate their errors into those of `errors.py` and bound every request, retries included, by a
time budget.

Semantics of the conditions:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

import functools
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from thumbnailer.errors import OutOfTime, StorageDenied, StorageUnavailable

BUDGETS: Final = (22.0, 11.0, 5.5, 2.75, 1.4, 0.7)
"""Seconds that one request may take, retries included. Clients carry their time-outs for life, so
there is one for each of these, made when first needed; nearly every request uses the first that
the function's time-out allows, and so one pool of connections."""

CONNECT_TIMEOUT: Final = 2.0
"""Seconds; S3 in the same region answers in milliseconds, and a retry often meets another host."""

NO_BUCKET: Final = "<Code>NoSuchBucket</Code>"
"""By what obstore's text tells a missing bucket from a missing object."""

AWKWARD_KEY: Final = re.compile(r"^/|/$|//|(?:^|/)\.{1,2}(?:/|$)|[\x00-\x1f\x7f]")
"""Legal S3 keys that obstore refuses or turns into others: empty and dot segments, controls."""

MOST_WRITERS: Final = 16
"""At a time; further ones wait their turn. The template takes 14 widths at most."""

WRITERS: Final = ThreadPoolExecutor(MOST_WRITERS)
"""Threads that objects are written in, for a request to S3 waits far longer than it works. Kept,
because to start one takes as long as that work."""

STANDARD_ATTRIBUTES: Final = frozenset(
    {
        "Content-Disposition",
        "Content-Encoding",
        "Content-Language",
        "Content-Type",
        "Cache-Control",
        "Storage-Class",
    }
)
"""What obstore lists among an object's attributes beside the user metadata."""


class State(NamedTuple):
    """What S3 says of an object: etag without quotes, UTC time, size in bytes, user metadata."""

    etag: str
    modified: datetime
    size: int
    metadata: Mapping[str, str]


class Stored(NamedTuple):
    """An object whose body has not been read yet; `read` fetches it whole."""

    state: State
    read: Callable[[], bytes]


class Headers(NamedTuple):
    """What is written beside the bytes; `metadata` must be ASCII, as S3 demands."""

    content_type: str
    cache_control: str
    metadata: Mapping[str, str]


class Object(NamedTuple):
    """What is to be written at a key."""

    key: str
    body: bytes
    headers: Headers


class Bucket(Protocol):
    """The few requests that the pipeline makes of S3.

    Every one raises StorageUnavailable or StorageDenied where S3 does not answer or refuses. `get`
    and `put` raise StorageUnavailable where the bucket itself is missing: that is a fault, not an
    answer. `head` cannot tell that from a missing object, for S3 answers it without a body.
    """

    def get(self, key: str) -> Stored | None:
        """Fetch an object; None if there is none."""

    def head(self, key: str) -> State | None:
        """Tell an object's state; None if there is none."""

    def put(self, new: Object, *, replacing: str | None) -> bool:
        """Write if nothing is there (`replacing` None), or only over the etag `replacing`.

        False means that S3 did not take it (409 or 412): look again. A lost reply to a write that
        did take effect shows up so too.
        """

    def create(self, new: Sequence[Object]) -> list[bool]:
        """Write each if nothing is there, side by side; tells of each what `put` does.

        All are tried, and have ended when the first error is raised.
        """

    def delete(self, key: str, *, replacing: str) -> bool:
        """Delete only over the etag `replacing`; False as with `put`, or if it is gone."""


class UnreadableHeaderError(StorageUnavailable):
    """obstore refuses an answer with a header outside UTF-8, such as a file name in Latin-1."""


class ObstoreBucket:
    """A bucket through obstore, which has no conditional delete; keys must not match AWKWARD_KEY.

    `get` and `head` raise UnreadableHeaderError, besides what Bucket says, for some objects.
    """

    def __init__(self, name: str, budget: float) -> None:
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        attempt = budget / 3
        # Credentials, region and endpoint obstore reads from the environment itself.
        self._name = name
        self._store = S3Store(
            name,
            client_options={
                "allow_http": endpoint.startswith("http:"),
                "connect_timeout": timedelta(seconds=min(CONNECT_TIMEOUT, attempt)),
                "timeout": timedelta(seconds=attempt),
            },
            # The last attempt begins after 1/2 of the budget and one wait of 1/12 at the latest.
            retry_config={
                "max_retries": 4,
                "retry_timeout": timedelta(seconds=budget / 2),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=50),
                    "max_backoff": timedelta(seconds=budget / 12),
                    "base": 2,
                },
            },
        )

    def get(self, key: str) -> Stored | None:
        """See Bucket."""
        return self._look(key, head=False)

    def head(self, key: str) -> State | None:
        """See Bucket."""
        found = self._look(key, head=True)
        return found.state if found else None

    def _look(self, key: str, *, head: bool) -> Stored | None:
        try:
            found = obstore.get(self._store, key, options={"head": head})
        except FileNotFoundError as error:
            if NO_BUCKET in str(error):
                raise StorageUnavailable(f"Bucket {self._name} does not exist") from error
            return None
        except BaseError as error:
            raise self._translated(key, error) from error
        meta = found.meta
        state = State(
            etag=(meta["e_tag"] or "").strip('"'),
            modified=meta["last_modified"],
            size=meta["size"],
            metadata={
                name: value
                for name, value in found.attributes.items()
                if name not in STANDARD_ATTRIBUTES
            },
        )

        def read() -> bytes:
            try:
                return found.bytes().to_bytes()
            except BaseError as error:
                raise self._translated(key, error) from error

        return Stored(state, read)

    def put(self, new: Object, *, replacing: str | None) -> bool:
        """See Bucket."""
        try:
            obstore.put(
                self._store,
                new.key,
                new.body,
                attributes={
                    "Content-Type": new.headers.content_type,
                    "Cache-Control": new.headers.cache_control,
                    **new.headers.metadata,
                },
                mode="create" if replacing is None else {"e_tag": f'"{replacing}"'},
                use_multipart=False,
            )
        except (AlreadyExistsError, FileNotFoundError, PreconditionError) as error:
            # S3 answers 404 to If-Match on an object that is gone, and in a bucket that is.
            if NO_BUCKET in str(error):
                raise StorageUnavailable(f"Bucket {self._name} does not exist") from error
            return False
        except BaseError as error:
            raise self._translated(new.key, error) from error
        return True

    def _translated(self, key: str, error: BaseError) -> StorageDenied | StorageUnavailable:
        reason = str(error).partition("\n\nDebug source")[0]
        kind: type[StorageDenied | StorageUnavailable] = StorageUnavailable
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            kind = StorageDenied
        elif "non UTF-8 characters" in reason:
            kind = UnreadableHeaderError
        return kind(f"s3://{self._name}/{key}: {reason}")


class Boto3Bucket:
    """A bucket through boto3, for any legal key."""

    def __init__(self, name: str, budget: float) -> None:
        # A fifth of a second at full speed: imported only when a key asks for it.
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import (  # noqa: PLC0415
            BotoCoreError,
            ClientError,
            HTTPClientError,
        )
        from botocore.handlers import add_expect_header  # noqa: PLC0415

        self._name = name
        self._budget = budget
        self._client_error = ClientError
        self._errors = (BotoCoreError, HTTPClientError)
        # Two attempts, and up to a second between them where the budget has that.
        attempts = 2 if budget > 2 else 1  # noqa: PLR2004
        attempt = budget / 3
        self._client: Any = boto3.client(
            "s3",
            config=Config(
                connect_timeout=min(CONNECT_TIMEOUT, attempt / 2),
                read_timeout=attempt / 2,
                retries={"total_max_attempts": attempts, "mode": "standard"},
                s3={"addressing_style": "path"},
                max_pool_connections=MOST_WRITERS,
            ),
        )
        # It would wait a second for "100 Continue" beyond every time-out.
        self._client.meta.events.unregister("before-call.s3", add_expect_header)

    def get(self, key: str) -> Stored | None:
        """See Bucket."""
        deadline = time.monotonic() + self._budget
        found = self._call(self._client.get_object, key)
        if found is None:
            return None

        def read() -> bytes:
            # On another thread, for boto3's time-outs are only ones of silence, and a body that
            # trickles would take for ever. A reader that is given up ends with its connection.
            reader = ThreadPoolExecutor(1)
            whole = reader.submit(found["Body"].read)
            reader.shutdown(wait=False)
            try:
                return bytes(whole.result(deadline - time.monotonic()))
            except TimeoutError as error:
                raise StorageUnavailable(
                    f"s3://{self._name}/{key}: {found['ContentLength']:,} bytes did not come "
                    f"in {self._budget} s"
                ) from error
            except self._errors as error:
                raise StorageUnavailable(f"s3://{self._name}/{key}: {error}") from error

        return Stored(_state(found), read)

    def head(self, key: str) -> State | None:
        """See Bucket."""
        found = self._call(self._client.head_object, key)
        return _state(found) if found else None

    def put(self, new: Object, *, replacing: str | None) -> bool:
        """See Bucket."""
        condition = {"IfNoneMatch": "*"} if replacing is None else {"IfMatch": f'"{replacing}"'}
        return (
            self._call(
                self._client.put_object,
                new.key,
                Body=new.body,
                ContentType=new.headers.content_type,
                CacheControl=new.headers.cache_control,
                Metadata=dict(new.headers.metadata),
                **condition,
            )
            is not None
        )

    def delete(self, key: str, *, replacing: str) -> bool:
        """See Bucket."""
        return self._call(self._client.delete_object, key, IfMatch=f'"{replacing}"') is not None

    def _call(self, request: Callable[..., Any], key: str, **arguments: object) -> Any | None:
        """The answer; None for a missing object and for a lost condition."""
        where = f"s3://{self._name}/{key}"
        try:
            return request(Bucket=self._name, Key=key, **arguments)
        except self._client_error as error:
            code = error.response["Error"]["Code"]
            if code in ("NoSuchKey", "404", "PreconditionFailed", "ConditionalRequestConflict"):
                return None
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (401, 403):
                raise StorageDenied(f"{where}: {error}") from error
            raise StorageUnavailable(f"{where}: {error}") from error
        except self._errors as error:
            raise StorageUnavailable(f"{where}: {error}") from error


def _state(found: Mapping[str, Any]) -> State:
    return State(
        etag=found["ETag"].strip('"'),
        modified=found["LastModified"].astimezone(UTC),
        size=found["ContentLength"],
        metadata=found["Metadata"],
    )


def _create(client: ObstoreBucket | Boto3Bucket, new: Object) -> bool:
    return client.put(new, replacing=None)


@functools.cache
def _client(kind: Callable[[str, float], Any], name: str, budget: float) -> Any:
    """A client, kept for the life of the environment, and with it its connections."""
    return kind(name, budget)


def prepare(name: str) -> None:
    """Make the usual client of the bucket `name` ahead of its first request.

    A client takes 5 ms of a CPU. While a function starts it has a whole one, whatever its memory
    (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html).
    """
    _client(ObstoreBucket, name, BUDGETS[0])


class S3Bucket:
    """The bucket `name`; each request goes to the client that can name its key and has the time.

    `remaining` gives the seconds that the invocation has left. Requests raise OutOfTime, besides
    what Bucket says, when not even the shortest budget fits.
    """

    def __init__(self, name: str, remaining: Callable[[], float]) -> None:
        self.name = name
        self._remaining = remaining

    def get(self, key: str) -> Stored | None:
        """See Bucket."""
        try:
            return self._client(key).get(key)
        except UnreadableHeaderError:
            return self._boto3().get(key)

    def head(self, key: str) -> State | None:
        """See Bucket."""
        try:
            return self._client(key).head(key)
        except UnreadableHeaderError:
            return self._boto3().head(key)

    def put(self, new: Object, *, replacing: str | None) -> bool:
        """See Bucket."""
        return self._client(new.key).put(new, replacing=replacing)

    def create(self, new: Sequence[Object]) -> list[bool]:
        """See Bucket."""
        # One after another: boto3 must not make its clients side by side.
        clients = [self._client(each.key) for each in new]
        if len(new) == 1:  # a manifest, or the only width
            return [_create(clients[0], new[0])]
        tasks: list[Future[bool]] = []
        try:
            for client, each in zip(clients, new, strict=True):
                tasks.append(WRITERS.submit(_create, client, each))
        finally:
            wait(tasks)  # those too that were begun before no thread could be had
        return [task.result() for task in tasks]

    def delete(self, key: str, *, replacing: str) -> bool:
        """See Bucket."""
        return self._boto3().delete(key, replacing=replacing)

    def _client(self, key: str) -> ObstoreBucket | Boto3Bucket:
        return self._boto3() if AWKWARD_KEY.search(key) else self._fitting(ObstoreBucket)

    def _boto3(self) -> Boto3Bucket:
        import boto3  # noqa: F401, PLC0415 - it takes time, which the budget must not count on

        return self._fitting(Boto3Bucket)

    def _fitting[B](self, kind: Callable[[str, float], B]) -> B:
        left = self._remaining()
        for budget in BUDGETS:
            if budget <= left:
                client: B = _client(kind, self.name, budget)
                return client
        raise OutOfTime(f"{left:.1f} s left: too little for a request to s3://{self.name}")
