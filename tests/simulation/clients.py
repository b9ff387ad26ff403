"""obstore and boto3 as lambda/ uses them, over the wire.

They retry as the real ones do, and raise the real ones' errors: tests/simulation/test_clients.py
holds both to the same script of answers.
"""

# ruff: noqa: N803 - the names of arguments are boto3's

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PermissionDeniedError,
    PreconditionError,
)

from simulation.wire import Answer, Hang, Lost, Network, Request

HEADERS = ("Content-Type", "Cache-Control")
"""Attributes that are no user metadata."""


class Obstore:
    """What is used of the module `obstore`, and of `obstore.store`."""

    def __init__(self, network: Network) -> None:
        self._network = network

    class S3Store:
        """A bucket and how patient its clients are."""

        def __init__(
            self,
            name: str,
            *,
            client_options: Mapping[str, Any],
            retry_config: Mapping[str, Any],
        ) -> None:
            self.name = name
            self.timeout: timedelta = client_options["timeout"]
            self.attempts: int = 1 + retry_config["max_retries"]
            self.retried: timedelta = retry_config["retry_timeout"]
            self.backoff: timedelta = retry_config["backoff"]["init_backoff"]

    def get(self, store: S3Store, key: str, *, options: Mapping[str, bool]) -> Any:
        """GET or HEAD; a body that breaks off is asked for again, of the same version."""
        _named(key)
        request = Request("HEAD" if options["head"] else "GET", store.name, key)
        answer = self._found(store, request)
        if not all(value.isascii() for value in answer.metadata.values()):
            raise GenericError("Header contained non UTF-8 characters")

        def read() -> SimpleNamespace:
            body = answer.body if answer.whole else self._rest(store, request, answer.etag)
            return SimpleNamespace(to_bytes=lambda: body)

        return SimpleNamespace(
            meta={
                "e_tag": f'"{answer.etag}"',
                "last_modified": answer.modified,
                "size": len(answer.body),
            },
            attributes=answer.metadata,
            bytes=read,
        )

    def _found(self, store: S3Store, request: Request) -> Answer:
        answer = self._answer(store, request, idempotent=True)
        if answer.status == 200:
            return answer
        # A HEAD has no body that could tell more.
        raise _obstore_error(replace(answer, code="") if request.method == "HEAD" else answer)

    def _rest(self, store: S3Store, request: Request, etag: str) -> bytes:
        """Ask for what is missing of a body; whatever then goes wrong has one and the same error.

        The wire has no ranges: the body comes whole, where the real one's rest does.
        """
        for attempt in range(2, store.attempts + 1):
            again = replace(request, attempt=attempt)
            with suppress(Lost):
                answer = self._network.send(again, store.timeout.total_seconds())
                if answer.status == 200 and answer.etag == etag and answer.whole:
                    return answer.body
                if answer.status < 500 and answer.whole:
                    break
        raise GenericError("HTTP error: request or response body error")

    def put(  # noqa: PLR0913 - as it is called
        self,
        store: S3Store,
        key: str,
        body: bytes,
        *,
        attributes: Mapping[str, str],
        mode: str | Mapping[str, str],
        use_multipart: bool,
    ) -> None:
        """PUT, if nothing is there (mode "create") or over an etag."""
        assert not use_multipart
        _named(key)
        create = mode == "create"
        etag = None if isinstance(mode, str) else mode["e_tag"].strip('"')
        metadata = {name: value for name, value in attributes.items() if name not in HEADERS}
        request = Request("PUT", store.name, key, body, metadata, etag, create)
        answer = self._answer(store, request, conflicts=not create)
        if answer.status == 200:
            return
        error = _obstore_error(answer)
        if create and isinstance(error, PreconditionError):
            error = AlreadyExistsError(*error.args)
        raise error

    def _answer(
        self, store: S3Store, request: Request, *, idempotent: bool = False, conflicts: bool = False
    ) -> Answer:
        """The last attempt's answer: server errors are retried, lost replies only of reads."""
        began = self._network.now()
        wait = store.backoff.total_seconds()
        for attempt in range(1, store.attempts + 1):
            late = self._network.now() - began > store.retried.total_seconds()
            last = late or attempt == store.attempts
            try:
                answer = self._network.send(
                    replace(request, attempt=attempt), store.timeout.total_seconds()
                )
            except Lost as lost:
                if last or not idempotent:
                    raise GenericError(f"Error performing {request}: {lost!r}") from lost
            else:
                again = answer.status >= 500 or (conflicts and answer.status == 409)
                if last or not again:
                    return answer
            self._network.wait(wait)
            wait *= 2
        raise AssertionError("unreachable")


def _named(key: str) -> None:
    if "//" in key:
        raise GenericError(f"Path {key!r} contained empty path segment")


def _obstore_error(answer: Answer) -> BaseError | FileNotFoundError:
    told = f"Error performing it: {answer.status}: <Error><Code>{answer.code}</Code></Error>"
    kinds: dict[int, type[Exception]] = {
        403: PermissionDeniedError,
        404: FileNotFoundError,
        409: AlreadyExistsError,
        412: PreconditionError,
    }
    return kinds.get(answer.status, GenericError)(told)  # type: ignore[return-value]


class Boto3:
    """What is used of the module `boto3`: clients of S3 and SQS."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def client(self, service: str, *, config: Any) -> Any:
        """A client of "s3" or "sqs"."""
        return {"s3": S3Client, "sqs": SqsClient}[service](self._network, config)


class BotoClient:
    """Retries in botocore's "standard" mode: server errors and lost replies, of any request."""

    def __init__(self, network: Network, config: Any) -> None:
        self._network = network
        self._attempts: int = config.retries["total_max_attempts"]
        self._timeout: float = config.read_timeout
        self.meta = SimpleNamespace(events=SimpleNamespace(unregister=lambda *_: None))

    def _answer(self, request: Request) -> Answer:
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                answer = self._network.send(replace(request, attempt=attempt), self._timeout)
            except Lost as lost:
                if last:
                    kind = ReadTimeoutError if isinstance(lost, Hang) else ConnectionClosedError
                    raise kind(endpoint_url=request.bucket) from lost
            else:
                if answer.status < 300:
                    return answer
                if last or answer.status < 500:
                    raise _client_error(request, answer)
            self._network.wait(0.5)
        raise AssertionError("unreachable")


def _client_error(request: Request, answer: Answer) -> ClientError:
    # A HEAD has no body that could tell more.
    code = str(answer.status) if request.method == "HEAD" else answer.code
    told: Any = {
        "Error": {"Code": code, "Message": "simulated"},
        "ResponseMetadata": {"HTTPStatusCode": answer.status},
    }
    return ClientError(told, request.method)


class Body:
    """A streamed body, which may break off."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def read(self) -> bytes:
        """All of it."""
        if not self._answer.whole:
            raise ResponseStreamingError(error="simulated")
        return self._answer.body


class S3Client(BotoClient):
    """An S3 client's four requests, by boto3's names for everything."""

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """GET."""
        answer = self._answer(Request("GET", Bucket, Key))
        return {**_described(answer), "Body": Body(answer)}

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """HEAD."""
        return _described(self._answer(Request("HEAD", Bucket, Key)))

    def put_object(  # noqa: PLR0913 - as it is called
        self,
        *,
        Bucket: str,
        Key: str,
        Body: bytes,
        ContentType: str,
        CacheControl: str,
        Metadata: dict[str, str],
        IfMatch: str | None = None,
        IfNoneMatch: str | None = None,
    ) -> dict[str, Any]:
        """PUT."""
        assert ContentType
        assert CacheControl
        assert IfNoneMatch in (None, "*")
        etag = IfMatch.strip('"') if IfMatch is not None else None
        self._answer(Request("PUT", Bucket, Key, Body, Metadata, etag, IfNoneMatch == "*"))
        return {}

    def delete_object(self, *, Bucket: str, Key: str, IfMatch: str | None = None) -> dict[str, Any]:
        """DELETE."""
        etag = IfMatch.strip('"') if IfMatch is not None else None
        self._answer(Request("DELETE", Bucket, Key, if_match=etag))
        return {}


def _described(answer: Answer) -> dict[str, Any]:
    return {
        "ETag": f'"{answer.etag}"',
        "LastModified": answer.modified,
        "ContentLength": len(answer.body),
        "Metadata": answer.metadata,
    }


class SqsClient(BotoClient):
    """An SQS client's one request."""

    def send_message(self, *, QueueUrl: str, MessageBody: str) -> dict[str, Any]:
        """Put a message on the queue."""
        self._answer(Request("SEND", QueueUrl, body=MessageBody.encode()))
        return {}
