"""An HTTP server on loopback that follows a script of responses and records the requests."""

import contextlib
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

HANG_SECONDS = 10.0
"""Time after which a hung request is dropped, so that a client without a time-out does not hang."""


@dataclass(frozen=True)
class Request:
    """A request of a client. Header names are in lower case; `length` is the body's, in bytes."""

    method: str
    path: str
    headers: Mapping[str, str]
    length: int


@dataclass(frozen=True)
class Reply:
    """A response. Header values are sent in Latin-1.

    Content-Length is that of the whole body, but only the first `sent` bytes are sent (None: all),
    with `pause` seconds before each byte (0: all at once).
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    sent: int | None = None
    pause: float = 0.0

    def but(self, **changes: Any) -> Self:
        """The same response with `changes`."""
        return replace(self, **changes)


class Hang:
    """No response at all."""


class Reset:
    """The connection is reset after the request was read."""


@dataclass(frozen=True)
class Together:
    """The reply, once as many requests wait for it as the barrier has parties.

    If they do not come in time, their connections are closed without a response.
    """

    barrier: threading.Barrier
    reply: Reply


type Step = Reply | Hang | Reset | Together


def s3_error(status: int, code: str) -> Reply:
    """An error response in the form of S3."""
    body = f"<Error><Code>{code}</Code><Message>scripted</Message></Error>"
    return Reply(status, {"Content-Type": "application/xml"}, body.encode())


class ScriptedServer(ThreadingHTTPServer):
    """Responds to each request with the next step of `script`, and repeats the last one.

    A context manager; at its end all threads have ended.
    """

    daemon_threads = False  # server_close() then waits for every thread

    def __init__(self, *script: Step) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.requests: list[Request] = []
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self.server_port}"

    def next_step(self, request: Request) -> Step:
        """Record `request` and return the step of the script that responds to it."""
        with self._lock:
            self.requests.append(request)
            return self.script[min(len(self.requests), len(self.script)) - 1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection: clients keep it open, so __exit__ must close it."""
        self._connections.append(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close without shutdown(), which would end the connection instead of resetting it."""
        self.close_request(request)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.shutdown()
        self._thread.join()
        for connection in self._connections:
            with contextlib.suppress(OSError):  # closed by then
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Serve a connection; a client may close it early."""
        with contextlib.suppress(OSError):
            super().handle()

    def respond(self) -> None:
        """Perform the next step of the script."""
        length = int(self.headers.get("Content-Length", 0))
        self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        step = self.server.next_step(Request(self.command, self.path, headers, length))
        match step:
            case Reply():
                self.send(step)
            case Together(barrier, reply):
                try:
                    barrier.wait()
                except threading.BrokenBarrierError:
                    self.close_connection = True
                else:
                    self.send(reply)
            case Hang():
                self.server.ended.wait(HANG_SECONDS)
                self.close_connection = True
            case Reset():
                linger = struct.pack("ii", 1, 0)  # on, 0 seconds: close() then sends RST
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = respond  # noqa: N815 - of the base class

    def send(self, reply: Reply) -> None:
        """Send a reply, or the part of it that the script says."""
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        body = reply.body[: reply.sent]
        if not reply.pause:
            self.wfile.write(body)
        else:
            for byte in body:
                if self.server.ended.wait(reply.pause):
                    break
                self.wfile.write(bytes([byte]))
        if len(body) < len(reply.body):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base class
        """Log nothing."""
