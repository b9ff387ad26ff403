"""A proxy between the function and AWS that makes requests fail, with faults drawn from a seed.

A request has at most one fault, either before it reaches the service or after it took effect.
"""

import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self


class Fault(StrEnum):
    """What happens to a request. After a LOST fault it took effect, but its response is wrong."""

    SLOW = "answered late"
    HANG = "never answered"
    RESET = "reset before it arrived"
    LOST = "reset after it took effect"
    ERROR = "500 before it arrived"
    LOST_ERROR = "500 after it took effect"
    BUSY = "503 SlowDown"
    TRUNCATED = "answer cut short"


SLOW_SECONDS: Final = 0.3
"""An assumption: a few times the usual duration of a request to S3."""

HANG_SECONDS: Final = 60.0
"""More than all time-outs of the function's clients."""

PER_CONNECTION: Final = (
    *("connection", "keep-alive", "transfer-encoding", "te", "upgrade"),
    *("content-length", "expect"),
)
"""Headers that are not forwarded: those of one connection (RFC 9110, 7.6.1), Content-Length and
Expect, which the proxy handles itself."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def shutdown_request(self, request: Any) -> None:
        """Close without shutdown(), which would end the connection instead of resetting it."""
        self.close_request(request)


class FaultyProxy:
    """Forwards requests to loopback's `port` to the port `upstream`; a `share` of them fails.

    A context manager.
    """

    def __init__(self, port: int, upstream: int, share: float, seed: int) -> None:
        self.share = share
        self.met: Counter[Fault] = Counter()
        """Number of requests with each fault."""
        self.requests = 0
        self._upstream = upstream
        self._rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._lock = threading.Lock()
        self._ended = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle(self) -> None:
                """Serve a connection; a client may close it early."""
                with contextlib.suppress(OSError):
                    super().handle()

            def forward(self) -> None:
                proxy.forward(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = _Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.server_close()

    def forward(self, request: BaseHTTPRequestHandler) -> None:
        """Forward one request and send its response, or a fault instead."""
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        fault = self._draw()
        match fault:
            case Fault.HANG:
                self._ended.wait(HANG_SECONDS)
                request.close_connection = True
                return
            case Fault.RESET:
                _reset(request)
                return
            case Fault.ERROR | Fault.BUSY:
                _refuse(request, fault)
                return
        status, headers, response = self._send_upstream(request, body)
        match fault:
            case Fault.SLOW:
                time.sleep(SLOW_SECONDS)
            case Fault.LOST:
                _reset(request)
                return
            case Fault.LOST_ERROR:
                _refuse(request, fault)
                return
        _respond(request, status, headers, response, cut=fault is Fault.TRUNCATED)

    def _draw(self) -> Fault | None:
        """Draw the fault of the next request."""
        with self._lock:
            self.requests += 1
            if self._rng.random() >= self.share:
                return None
            fault = self._rng.choice(list(Fault))
            self.met[fault] += 1
            return fault

    def _send_upstream(
        self, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=60)
        try:
            connection.putrequest(
                request.command, request.path, skip_host=True, skip_accept_encoding=True
            )
            for (
                name,
                value,
            ) in request.headers.items():  # including Host, which is part of the signature
                if name.lower() not in PER_CONNECTION:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            headers = [
                each for each in response.getheaders() if each[0].lower() not in PER_CONNECTION
            ]
            if request.command == "HEAD" and (length := response.getheader("Content-Length")):
                headers.append(("Content-Length", length))
            return response.status, headers, response.read()
        finally:
            connection.close()


def _respond(
    request: BaseHTTPRequestHandler,
    status: int,
    headers: list[tuple[str, str]],
    body: bytes,
    *,
    cut: bool = False,
) -> None:
    request.send_response_only(status)
    for name, value in headers:
        request.send_header(name, value)
    if request.command != "HEAD":
        request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body[: len(body) // 2] if cut else body)
    if cut:
        request.close_connection = True


def _refuse(request: BaseHTTPRequestHandler, fault: Fault) -> None:
    """Respond with an error in XML, as S3 does, or in JSON, as SQS does."""
    busy = fault is Fault.BUSY
    status, code = (503, "SlowDown") if busy else (500, "InternalError")
    if "X-Amz-Target" in request.headers:
        kind, body = "application/x-amz-json-1.0", b'{"__type": "%s"}' % code.encode()
    else:
        kind, body = "application/xml", b"<Error><Code>%s</Code></Error>" % code.encode()
    _respond(request, status, [("Content-Type", kind)], body)


def _reset(request: BaseHTTPRequestHandler) -> None:
    """Reset the connection: with SO_LINGER on and 0 seconds, close() sends RST."""
    linger = struct.pack("ii", 1, 0)
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    request.close_connection = True
