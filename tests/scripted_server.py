"""A server on loopback that answers as a script says, and remembers what it was asked."""

import contextlib
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

PATIENCE = 10.0
"""Seconds after which a hung request is dropped, so that no client without time-outs hangs too."""


@dataclass(frozen=True)
class Request:
    """What a client asked; the names in `headers` are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    length: int


@dataclass(frozen=True)
class Reply:
    """An answer; header values are sent in Latin-1.

    Of the body, which Content-Length promises whole, only the first `sent` bytes come (None: all),
    with `pause` seconds before each single one (0: at once).
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    sent: int | None = None
    pause: float = 0.0

    def but(self, **changes: Any) -> Self:
        """The same answer with `changes`."""
        return replace(self, **changes)


class Hang:
    """No answer at all."""


class Reset:
    """The connection is reset when the request has been read."""


type Step = Reply | Hang | Reset


def s3_error(status: int, code: str) -> Reply:
    """An error as S3 words it."""
    body = f"<Error><Code>{code}</Code><Message>scripted</Message></Error>"
    return Reply(status, {"Content-Type": "application/xml"}, body.encode())


class ScriptedServer(ThreadingHTTPServer):
    """Answers each request with the next step of `script`, and with the last one ever after.

    A context manager: it serves as long as the block lasts, and leaves no thread behind.
    """

    daemon_threads = False  # the end waits for every thread

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
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def next_step(self, request: Request) -> Step:
        """Record `request` and tell how to answer it."""
        with self._lock:
            self.requests.append(request)
            return self.script[min(len(self.requests), len(self.script)) - 1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, for clients keep theirs open."""
        self._connections.append(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close without a farewell, which would turn a reset into an ordinary end."""
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
        """Serve a connection; that a client gives up is part of the play."""
        with contextlib.suppress(OSError):
            super().handle()

    def answer(self) -> None:
        """Act out the next step."""
        length = int(self.headers.get("Content-Length", 0))
        self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        step = self.server.next_step(Request(self.command, self.path, headers, length))
        match step:
            case Reply():
                self.send(step)
            case Hang():
                self.server.ended.wait(PATIENCE)
                self.close_connection = True
            case Reset():
                at_once = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - as they are called

    def send(self, reply: Reply) -> None:
        """Send what there is of `reply`."""
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

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
        """Nothing: the test tells."""
