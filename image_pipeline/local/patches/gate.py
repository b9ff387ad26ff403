"""The gate in front of ministack: it admits who holds a key of this stack, and nobody else.

ministack listens on a port of loopback, which every web page that the user opens, and every other
user of the machine, can send requests to. By itself it accepts any key and requests without one,
answers to any Host, and lets every page read its answers. See docs/adr/0017.
"""

# ruff: noqa: SLF001 - ministack offers no other place to hook in

import hashlib
import hmac
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, urlsplit
from xml.sax.saxutils import escape

from botocore.auth import HmacV1Auth
from botocore.credentials import Credentials
from ministack import app as ministack  # type: ignore[import-not-found]
from ministack.core import iam_evaluator, responses, sigv4  # type: ignore[import-not-found]
from ministack.services import s3  # type: ignore[import-not-found]
from ministack.services.cloudformation import custom_resource  # type: ignore[import-not-found]

type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type App = Callable[[Message, Receive, Send], Awaitable[None]]

ALGORITHM: Final = "AWS4-HMAC-SHA256"

ANSWER_PATH: Final = "/_ministack/cfn-response/"
"""Where the functions of custom resources PUT their answer; a random id (UUID 4) follows."""

MAX_EXPIRES_SECONDS: Final = 604_800
"""How long a presigned URL may be valid: seven days.
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html"""

MAX_SKEW: Final = timedelta(minutes=15)
"""How far the time of a signature may be from now.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html"""

MAX_UNVERIFIED_BYTES: Final = 100 * 1024 * 1024
"""What is read of a request before its signature can be checked, because its hash is of the body.
Lambda's limit for an archive with code is 50 MB, in Base64."""

UNSIGNED_BODIES: Final = frozenset({"UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"})
SIGNED_CHUNKS: Final = frozenset(
    {"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"}
)
"""Values of x-amz-content-sha256 besides a hash.
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html"""

SHA256: Final = re.compile(r"[0-9a-f]{64}")


class RequestRefused(Exception):
    """The gate does not admit a request; the message is the sentence that the sender gets."""


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request without its body, as ministack will read it."""

    method: str
    path: str
    raw_path: str
    raw_query: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    """By lower-case names; those of a repeated header are joined by commas."""

    @classmethod
    def of(cls, scope: Message) -> "Request":
        """Read an ASGI scope. Raises RequestRefused where two readers could differ about it."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), sigv4.decode_header_value(raw_value)
            if name in headers and name in {"host", "authorization"}:
                raise RequestRefused(f"The request has more than one {name} header.")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        try:
            query = scope["query_string"].decode("ascii")
            raw_path = scope["raw_path"].decode("ascii")
        except UnicodeDecodeError:
            raise RequestRefused("The request's address is not ASCII.") from None
        if not raw_path.startswith("/"):
            raise RequestRefused("The request's path does not begin with a slash.")
        parsed = parse_qs(query, keep_blank_values=True)
        return cls(scope["method"], scope["path"], raw_path, query, parsed, headers)

    def parameter(self, name: str) -> str:
        """The one value of a query parameter, or an empty text."""
        values = self.query.get(name, [])
        if len(values) > 1:
            raise RequestRefused(f"The request has more than one {name}.")
        return values[0] if values else ""


class Gate:
    """An ASGI application that passes on to `app` what may reach ministack."""

    def __init__(self, app: App, key_id: str, secret: str, port: int, endpoint_url: str) -> None:
        self._app = app
        self._key_id = key_id
        self._secret = secret
        # The function is given `endpoint_url`, which is a proxy's where a test puts one between.
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}", urlsplit(endpoint_url).netloc}
        self._distribution = re.compile(rf"([a-z0-9]+)\.cloudfront\.localhost:{port}")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve, or refuse with status 403 and a sentence."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            try:
                await self._serve(scope, receive, send)
            except RequestRefused as refused:
                await _refuse(dict(scope["headers"]), send, str(refused))

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        request = Request.of(scope)
        host = request.headers.get("host", "")
        if distribution := self._distribution.fullmatch(host):
            await _serve_distribution(distribution[1], request, scope, receive, send)
            return
        if host not in self._hosts:
            raise RequestRefused(
                f"The local AWS answers to the host {min(self._hosts)} only, not to {host}."
            )
        if request.method == "OPTIONS":
            await _serve_preflight(request, send)
            return
        if request.path.startswith("/_") or request.path in ministack._HEALTH_PATHS:
            if not _is_answer(request):
                raise RequestRefused("The emulator's own paths are closed.")
        else:
            receive = await self._verified(request, receive)
        await self._app(scope, receive, _with_cors_of_bucket(request, send))

    async def _verified(self, request: Request, receive: Receive) -> Receive:
        """Check signature and body; return what the rest of the request is received from."""
        if "AWSAccessKeyId" in request.query and "authorization" not in request.headers:
            key_id = request.parameter("AWSAccessKeyId")
            _check_version_2(request, Credentials(key_id, self._secret_of(key_id, "")))
            return receive
        signature, presigned = _signature(request)
        token = (
            request.parameter("X-Amz-Security-Token")
            if presigned
            else request.headers.get("x-amz-security-token", "")
        )
        secret = self._secret_of(signature.access_key_id, token)

        def check(body: bytes) -> None:
            failure = sigv4.header_signature_failure(
                signature,
                secret,
                request.method,
                request.raw_path,
                request.query,
                request.headers,
                body,
                presigned=presigned,
            )
            if failure:
                raise RequestRefused(failure[1])

        declared = request.headers.get("x-amz-content-sha256", "")
        if (presigned and signature.service == "s3") or declared in UNSIGNED_BODIES:
            check(b"")
            return receive
        if SHA256.fullmatch(declared):
            check(b"")  # the hash is signed, so strangers are refused before their body is read
            body, digest = await _read(receive, None)
            if not hmac.compare_digest(digest, declared):
                raise RequestRefused("The request's body is not the one that was signed.")
        elif not declared or declared in SIGNED_CHUNKS:
            body, _ = await _read(receive, MAX_UNVERIFIED_BYTES)
            check(body)
        else:
            raise RequestRefused("The request's x-amz-content-sha256 is of an unknown kind.")
        return _replayed(body, receive)

    def _secret_of(self, key_id: str, token: str) -> str:
        """The secret of the stack's key, or of a key or session that IAM or STS has given out.

        A session's token must be right. With the stack's own key it means nothing: a shell may have
        the token of another account in its environment.
        """
        if hmac.compare_digest(key_id.encode(), self._key_id.encode()):
            return self._secret
        # ministack takes `test` and every account's number for keys of root.
        if not iam_evaluator.is_root_access_key(key_id):
            found = iam_evaluator.resolve_credential(
                key_id, responses.get_account_id(), session_token=token
            )
            if isinstance(found, iam_evaluator.ResolvedCredential):
                return str(found.secret_access_key)
        raise RequestRefused(
            "The request is signed with a key that is not one of this stack. "
            "`image-pipeline status --env` prints the right one."
        )


def _signature(request: Request) -> tuple[Any, bool]:
    """The parts of a request's signature, and whether it is in the query.

    Raises RequestRefused unless it is complete, current, and covers all that S3 requires: the Host
    and every x-amz- header.
    """
    signed, presigned = "authorization" in request.headers, "X-Amz-Signature" in request.query
    if signed and presigned:
        raise RequestRefused("The request is signed twice.")
    if presigned:
        algorithm = request.parameter("X-Amz-Algorithm")
        found = sigv4.parse_query_signature(request.query)
    else:
        algorithm = request.headers.get("authorization", "").partition(" ")[0]
        found = sigv4.parse_header_signature(request.headers)
    if algorithm != ALGORITHM:
        raise RequestRefused(
            "The request is not signed with Signature Version 4 of AWS. "
            "`image-pipeline status --env` prints the key of this stack."
        )
    if isinstance(found, tuple):
        raise RequestRefused(found[1])
    _check_time(found.amz_date, request.parameter("X-Amz-Expires") if presigned else None)
    required = {name for name in request.headers if name.startswith("x-amz-")} | {"host"}
    if missing := required.difference(found.signed_headers.split(";")):
        raise RequestRefused(f"The signature does not cover {', '.join(sorted(missing))}.")
    return found, presigned


def _check_time(amz_date: str, expires: str | None) -> None:
    """Raise RequestRefused unless a signature of the time `amz_date` is valid now.

    `expires` are the seconds for which a presigned URL is valid.
    """
    signed_at = sigv4._amz_datetime(amz_date)
    if signed_at is None:
        raise RequestRefused("The time at which the request was signed cannot be read.")
    valid = MAX_SKEW
    if expires is not None:
        if not re.fullmatch(r"[0-9]{1,6}", expires) or int(expires) > MAX_EXPIRES_SECONDS:
            raise RequestRefused("A presigned URL may be valid for up to seven days.")
        valid = timedelta(seconds=int(expires))
    now = datetime.now(UTC)
    if now > signed_at + valid:
        raise RequestRefused("The signature has expired.")
    if now < signed_at - MAX_SKEW:
        raise RequestRefused("The signature is not valid yet.")


def _check_version_2(request: Request, credentials: Credentials) -> None:
    """Check a presigned URL of Signature Version 2, which boto3 makes for S3 unless told otherwise.

    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html. Raises RequestRefused,
    also for a parameter that this version does not sign.
    """
    expires = request.parameter("Expires")
    own = {"AWSAccessKeyId", "Expires", "Signature", "content-md5", "content-type"}
    if "+" in request.raw_query or request.query.keys() - own - set(HmacV1Auth.QSAOfInterest):
        raise RequestRefused("The signature does not cover every parameter.")
    if not re.fullmatch(r"[0-9]{1,12}", expires) or int(expires) < time.time():
        raise RequestRefused("The signature has expired.")
    signer = HmacV1Auth(credentials)
    headers = request.headers
    lines = [
        request.method,
        headers.get("content-md5", ""),
        headers.get("content-type", ""),
        expires,
        *(f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-amz-")),
        signer.canonical_resource(SplitResult("", "", request.raw_path, request.raw_query, "")),
    ]
    expected = signer.sign_string("\n".join(lines))
    if not hmac.compare_digest(expected.encode(), request.parameter("Signature").encode()):
        raise RequestRefused(sigv4.SIGNATURE_MISMATCH)


async def _serve_distribution(
    label: str, request: Request, scope: Message, receive: Receive, send: Send
) -> None:
    """Answer as a distribution does, to anybody. Raises RequestRefused if there is none."""
    if request.method not in {"GET", "HEAD", "OPTIONS"}:
        raise RequestRefused("A distribution answers to GET, HEAD and OPTIONS only.")
    # Straight to the distribution: ministack would look for a service of that path first.
    answer = await ministack._handle_cloudfront_dataplane_request(
        f"{label}.cloudfront.net",
        request.path,
        request.raw_path,
        request.raw_query,
        request.method,
        # The gate stands where TLS would end: CloudFront redirects or refuses plain HTTP.
        request.headers | {"x-forwarded-proto": "https"},
        b"",
        request.query,
        (scope.get("client") or ("127.0.0.1",))[0],
    )
    if answer is None:
        raise RequestRefused(f"There is no distribution {label}.")
    await ministack._send_if_handled(send, answer, receive)


async def _serve_preflight(request: Request, send: Send) -> None:
    """Answer a browser's preflight as the bucket's CORS rules say. Raises RequestRefused."""
    target = ministack._s3_cors_target(request.headers["host"], request.path)
    if target is None:
        raise RequestRefused("Pages may only use buckets, and there is no such bucket.")
    await ministack._send_response(send, *s3.cors_preflight(*target, request.headers))


def _is_answer(request: Request) -> bool:
    """Whether a function sends the answer of a custom resource that is waited for."""
    token = request.path.removeprefix(ANSWER_PATH)
    return request.method == "PUT" and token != request.path and token in custom_resource._pending


def _with_cors_of_bucket(request: Request, send: Send) -> Send:
    """Replace the CORS headers of an answer by those that the bucket's rules give."""
    headers = request.headers

    async def with_cors(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [
                (name, value)
                for name, value in message.get("headers", [])
                if not name.lower().startswith(b"access-control-")
            ]
            if "origin" in headers:
                target = ministack._s3_cors_target(headers["host"], request.path)
                given = target and s3.cors_response_headers(target[0], request.method, headers)
                kept += ministack._asgi_header_list(given or {})
            message = {**message, "headers": kept}
        await send(message)

    return with_cors


async def _read(receive: Receive, limit: int | None) -> tuple[bytes, str]:
    """A request's body, and its SHA-256 in hexadecimal. Raises RequestRefused above `limit`."""
    parts: list[bytes] = []
    digest = hashlib.sha256()
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise RequestRefused("The request ended before its body did.")
        part = message.get("body", b"")
        parts.append(part)
        digest.update(part)
        size += len(part)
        if limit is not None and size > limit:
            raise RequestRefused(
                f"The request has over {limit:,} bytes and no signed hash of them."
            )
        if not message.get("more_body", False):
            return b"".join(parts), digest.hexdigest()


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Receive `body` once, and then what follows it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _refuse(headers: dict[bytes, bytes], send: Send, sentence: str) -> None:
    """Answer with 403, so that clients of every protocol of AWS show the sentence."""
    as_json = b"json" in headers.get(b"content-type", b"")
    body = (
        json.dumps({"__type": "AccessDenied", "message": sentence})
        if as_json
        else "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>"
        f"<Message>{escape(sentence)}</Message></Error></ErrorResponse>"
    )
    given = {
        "Content-Type": f"application/{'json' if as_json else 'xml'}",
        "X-Content-Type-Options": "nosniff",
        "x-amzn-errortype": "AccessDenied",
    }
    await ministack._send_response(send, 403, given, body)


def keep_presigned_urls_at_s3() -> None:
    """A presigned URL of S3 reaches S3, whatever its body is, which is not signed.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html. ministack sends a
    form with an `Action` to the service of that action: IAM or CloudFormation, for example.
    """
    parameters = ministack._routing_params

    def routing_parameters(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> Any:
        scope = query.get("X-Amz-Credential", [""])[0].split("/")
        if "AWSAccessKeyId" in query or scope[-2:] == ["s3", "aws4_request"]:
            return query
        return parameters(method, path, headers, body, query)

    ministack._routing_params = routing_parameters


def admit_only_signed_requests() -> None:
    """Every request to AWS is signed by a key that AWS has given out, or gets status 403.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html. ministack serves requests
    of anybody who reaches its port: other users of the machine, and web pages.
    """
    ministack.app = Gate(
        ministack.app,
        os.environ["AWS_ACCESS_KEY_ID"],
        os.environ["AWS_SECRET_ACCESS_KEY"],
        int(os.environ["GATEWAY_PORT"]),
        os.environ["AWS_ENDPOINT_URL"],
    )
