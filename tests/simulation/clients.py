"""Simulated obstore and boto3, as far as lambda/ uses them; requests go to a Network.

They retry like the real ones and raise the same errors: tests/simulation/test_clients.py compares
both with the same script of responses.
"""

# ruff: noqa: N803 - the arguments have the names that boto3 uses

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

from simulation.wire import Hang, Lost, Network, Request, Response

HEADERS = ("Content-Type", "Cache-Control")
"""Attributes of obstore that are headers, not user metadata."""
BOTO3_WAIT_SECONDS = 0.5
"""Between attempts: the mean of the first wait, which is random between 0 and 1 s
(https://boto3.amazonaws.com/v1/documentation/api/latest/guide/retries.html)."""


class Obstore:
    """The parts of the modules `obstore` and `obstore.store` that lambda/ uses."""

    def __init__(self, network: Network) -> None:
        self._network = network

    class S3Store:
        """A bucket with the time-outs and retries of its client."""

        def __init__(
            self,
            name: str,
            *,
            config: Mapping[str, Any],
            client_options: Mapping[str, Any],
            retry_config: Mapping[str, Any],
        ) -> None:
            assert not config  # the simulation is not in China
            self.name = name
            self.timeout: timedelta = client_options["timeout"]
            self.attempts: int = 1 + retry_config["max_retries"]
            self.retry_timeout: timedelta = retry_config["retry_timeout"]
            self.backoff: timedelta = retry_config["backoff"]["init_backoff"]

    def get(self, store: S3Store, key: str, *, options: Mapping[str, bool]) -> Any:
        """GET or HEAD. If the body breaks off, the rest of the same version is requested.

        Raises FileNotFoundError or a BaseError of obstore.
        """
        _check_key(key)
        request = Request("HEAD" if options["head"] else "GET", store.name, key)
        response = self._existing(store, request)
        if not all(value.isascii() for value in response.metadata.values()):
            raise GenericError("Header contained non UTF-8 characters")

        def read() -> SimpleNamespace:
            body = response.body if response.whole else self._rest(store, request, response.etag)
            return SimpleNamespace(to_bytes=lambda: body)

        return SimpleNamespace(
            meta={
                "e_tag": f'"{response.etag}"',
                "last_modified": response.modified,
                "size": len(response.body),
            },
            attributes=response.metadata,
            bytes=read,
        )

    def _existing(self, store: S3Store, request: Request) -> Response:
        response = self._response(store, request, idempotent=True)
        if response.status == 200:
            return response
        # The response to a HEAD has no body, and so no error code.
        raise _obstore_error(replace(response, code="") if request.method == "HEAD" else response)

    def _rest(self, store: S3Store, request: Request, etag: str) -> bytes:
        """Request the missing rest of a body. Any failure of that is the same GenericError.

        The simulated network has no ranges: it returns the whole body instead of its rest.
        """
        for attempt in range(2, store.attempts + 1):
            retry = replace(request, attempt=attempt)
            with suppress(Lost):
                response = self._network.send(retry, store.timeout.total_seconds())
                if response.status == 200 and response.etag == etag and response.whole:
                    return response.body
                if response.status < 500 and response.whole:
                    break
        raise GenericError("HTTP error: request or response body error")

    def put(  # noqa: PLR0913 - the signature of obstore
        self,
        store: S3Store,
        key: str,
        body: bytes,
        *,
        attributes: Mapping[str, str],
        mode: str | Mapping[str, str],
        use_multipart: bool,
    ) -> None:
        """Conditional PUT: of a new object (mode "create") or over the object with an etag.

        Raises a BaseError of obstore, or FileNotFoundError.
        """
        assert not use_multipart
        _check_key(key)
        create = mode == "create"
        etag = None if isinstance(mode, str) else mode["e_tag"].strip('"')
        metadata = {name: value for name, value in attributes.items() if name not in HEADERS}
        request = Request("PUT", store.name, key, body, metadata, etag, create)
        response = self._response(store, request, conflicts=not create)
        if response.status == 200:
            return
        error = _obstore_error(response)
        if create and isinstance(error, PreconditionError):
            error = AlreadyExistsError(*error.args)
        raise error

    def _response(
        self, store: S3Store, request: Request, *, idempotent: bool = False, conflicts: bool = False
    ) -> Response:
        """The last attempt's response. Server errors are retried, and lost responses of reads."""
        began = self._network.now()
        wait = store.backoff.total_seconds()
        for attempt in range(1, store.attempts + 1):
            late = self._network.now() - began > store.retry_timeout.total_seconds()
            last = late or attempt == store.attempts
            try:
                response = self._network.send(
                    replace(request, attempt=attempt), store.timeout.total_seconds()
                )
            except Lost as lost:
                if last or not idempotent:
                    raise GenericError(f"Error performing {request}: {lost!r}") from lost
            else:
                retried = response.status >= 500 or (conflicts and response.status == 409)
                if last or not retried:
                    return response
            self._network.wait(wait)
            wait *= 2
        raise AssertionError("unreachable")


def _check_key(key: str) -> None:
    if "//" in key:
        raise GenericError(f"Path {key!r} contained empty path segment")


def _obstore_error(response: Response) -> BaseError | FileNotFoundError:
    message = f"Error performing it: {response.status}: <Error><Code>{response.code}</Code></Error>"
    kinds: dict[int, type[Exception]] = {
        403: PermissionDeniedError,
        404: FileNotFoundError,
        409: AlreadyExistsError,
        412: PreconditionError,
    }
    return kinds.get(response.status, GenericError)(message)  # type: ignore[return-value]


class Boto3:
    """The part of the module `boto3` that lambda/ uses: clients of S3 and SQS."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def client(self, service: str, *, config: Any) -> Any:
        """A client of "s3" or "sqs"."""
        return {"s3": S3Client, "sqs": SqsClient}[service](self._network, config)


class BotoClient:
    """Retries as in botocore's "standard" mode: server errors and lost responses of any request.

    Requests raise ClientError, ReadTimeoutError or ConnectionClosedError.
    """

    def __init__(self, network: Network, config: Any) -> None:
        self._network = network
        self._attempts: int = config.retries["total_max_attempts"]
        self._timeout: float = config.read_timeout
        self.meta = SimpleNamespace(events=SimpleNamespace(unregister=lambda *_: None))

    def _response(self, request: Request) -> Response:
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                response = self._network.send(replace(request, attempt=attempt), self._timeout)
            except Lost as lost:
                if last:
                    kind = ReadTimeoutError if isinstance(lost, Hang) else ConnectionClosedError
                    raise kind(endpoint_url=request.bucket) from lost
            else:
                if response.status < 300:
                    return response
                if last or response.status < 500:
                    raise _client_error(request, response)
            self._network.wait(BOTO3_WAIT_SECONDS)
        raise AssertionError("unreachable")


def _client_error(request: Request, response: Response) -> ClientError:
    # The response to a HEAD has no body, and so no error code.
    code = str(response.status) if request.method == "HEAD" else response.code
    parsed: Any = {
        "Error": {"Code": code, "Message": "simulated"},
        "ResponseMetadata": {"HTTPStatusCode": response.status},
    }
    return ClientError(parsed, request.method)


class Body:
    """A streamed body, which may break off."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def read(self) -> bytes:
        """The whole body. Raises ResponseStreamingError if it breaks off."""
        if not self._response.whole:
            raise ResponseStreamingError(error="simulated")
        return self._response.body


class S3Client(BotoClient):
    """The requests of an S3 client, with the names that boto3 uses."""

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """GET."""
        response = self._response(Request("GET", Bucket, Key))
        return {**_metadata(response), "Body": Body(response)}

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """HEAD."""
        return _metadata(self._response(Request("HEAD", Bucket, Key)))

    def put_object(  # noqa: PLR0913 - the signature of boto3
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
        self._response(Request("PUT", Bucket, Key, Body, Metadata, etag, IfNoneMatch == "*"))
        return {}

    def delete_object(self, *, Bucket: str, Key: str, IfMatch: str | None = None) -> dict[str, Any]:
        """DELETE."""
        etag = IfMatch.strip('"') if IfMatch is not None else None
        self._response(Request("DELETE", Bucket, Key, if_match=etag))
        return {}

    def list_objects_v2(self, *, Bucket: str, Prefix: str, MaxKeys: int) -> dict[str, Any]:
        """LIST: one page."""
        response = self._response(Request("LIST", Bucket, Prefix, limit=MaxKeys))
        contents = {"Contents": [{"Key": key} for key in response.keys]} if response.keys else {}
        return {**contents, "IsTruncated": response.more}


def _metadata(response: Response) -> dict[str, Any]:
    return {
        "ETag": f'"{response.etag}"',
        "LastModified": response.modified,
        "ContentLength": len(response.body),
        "Metadata": response.metadata,
    }


class SqsClient(BotoClient):
    """The one request of an SQS client."""

    def send_message(self, *, QueueUrl: str, MessageBody: str) -> dict[str, Any]:
        """Send a message to the queue."""
        self._response(Request("SEND", QueueUrl, body=MessageBody.encode()))
        return {}
