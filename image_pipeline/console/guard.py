"""Protection of the console from other sites in the same browser and other users of the machine.

The console acts with the user's AWS credentials. No other site may make it act (CSRF) or read it
(DNS rebinding), no other user of the machine may open it, and no object's name may become markup or
script
(https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html).

Each request needs the session's token in its Authorization header. A browser sends a cookie to
every port of the host, so to servers of other users of the machine too. It never sends the token by
itself: the page's script (static/session.js) keeps it in sessionStorage, which belongs to the port.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_pipeline.console.session import Session, equal
from image_pipeline.ports import HOST

SAFE_METHODS: Final = ("GET", "HEAD")
"""Methods that change nothing (RFC 9110, 9.2.1)."""

PUBLIC: Final = "/static/"
"""The path of the files that need no session: they contain nothing about a stack."""

SESSION_PATH: Final = "/session"
"""POST `{"secret": ...}` → `{"token": ...}`."""

MAX_BODY: Final = 1000
"""Maximum bytes of a request for a session: a secret has about 90."""

ADDRESS_USED: Final = "This address has already been used, or is not of this console."
NO_SESSION: Final = "This tab has no session, or the console was restarted."


class Guard:
    """ASGI middleware that refuses requests from anywhere but the console's own pages.

    `port` is the console's port. Without `session`'s token a browser gets `shell`, the HTML of a
    page whose script loads the requested one with the token. `sources` are the origins that images
    come from and uploads go to.
    """

    def __init__(
        self, app: ASGIApp, *, port: int, session: Session, shell: str, sources: Sequence[str]
    ) -> None:
        self._app = app
        self._host = f"{HOST}:{port}"
        self._session = session
        self._shell = shell
        allowed = " ".join(sources)
        self._headers = {
            "Content-Security-Policy": (
                "default-src 'none'; script-src 'self'; style-src 'self'; "
                f"img-src 'self' blob: {allowed}; connect-src 'self' {allowed}; "
                # A page opens others in a frame while it sends files (static/upload-frame.js).
                "form-action 'self'; base-uri 'none'; frame-src 'self'; frame-ancestors 'self'"
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",  # keep presigned URLs and keys from other sites
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, answer it with a session, or pass it on to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        request = Request(scope, receive)
        response = self._other_site(request)
        if response is None and (request.method, request.url.path) == ("POST", SESSION_PATH):
            response = await self._new_session(request)
        response = response or self._without_session(request)
        await (response or self._app)(scope, receive, with_headers)

    def _other_site(self, request: Request) -> Response | None:
        """Return an error if the request may come from another site, else None."""
        if request.headers.get("host", "") != self._host:
            return PlainTextResponse(f"Wrong host. Open the console at {self._host}.", 421)
        if request.method in SAFE_METHODS:
            return None
        if request.headers.get("origin") != f"http://{self._host}":
            return PlainTextResponse("Only the console's own pages may send this request.", 403)
        return None

    async def _new_session(self, request: Request) -> Response:
        """Return the session's token in exchange for an address's secret."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                break
        try:
            secret = json.loads(body[:MAX_BODY])["secret"]
        except (ValueError, TypeError, KeyError, RecursionError):
            secret = None
        token = self._session.open(secret) if isinstance(secret, str) else None
        if token is None:
            return PlainTextResponse(ADDRESS_USED, 403)
        return JSONResponse({"token": token})

    def _without_session(self, request: Request) -> Response | None:
        """Return None if the request has the token or needs none, else a refusal."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer" and equal(token, self._session.token):
            return None
        if request.method in SAFE_METHODS and request.url.path.startswith(PUBLIC):
            return None
        headers = {"WWW-Authenticate": "Bearer"}
        if not scheme and "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(self._shell, 401, headers)
        return PlainTextResponse(NO_SESSION, 401, headers)


def origins(urls: Iterable[str]) -> list[str]:
    """Return the scheme, host and port of each URL, without duplicates."""
    parts = [urlsplit(url) for url in urls]
    return sorted({f"{each.scheme}://{each.netloc}" for each in parts})
