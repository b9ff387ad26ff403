"""Protection of the console from other sites in the same browser and other users of the machine.

The console acts with the user's AWS credentials. No other site may make it act (CSRF) or read it
(DNS rebinding), no other user of the machine may open it, and no object's name may become markup or
script
(https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html).
"""

import secrets
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_pipeline.console.process import SECRET

SAFE_METHODS: Final = ("GET", "HEAD")
"""Methods that change nothing (RFC 9110, 9.2.1)."""

TOKEN_HEADER: Final = "X-CSRF-Token"  # noqa: S105 - the name of the header


class Guard:
    """ASGI middleware that refuses requests from anywhere but the console's own pages.

    `port` is the console's port. `secret` opens the console; only its pages have `token`. `sources`
    are the origins that images come from and uploads go to.
    """

    def __init__(
        self, app: ASGIApp, *, port: int, secret: str, token: str, sources: Sequence[str]
    ) -> None:
        self._app = app
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._cookie = f"image-pipeline-{port}"  # cookies are shared by all ports of a host
        self._secret = secret
        self._token = token
        allowed = " ".join(sources)
        self._headers = {
            "Content-Security-Policy": (
                "default-src 'none'; script-src 'self'; style-src 'self'; "
                f"img-src 'self' blob: {allowed}; connect-src 'self' {allowed}; "
                "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",  # keep presigned URLs and keys from other sites
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        request = Request(scope)
        response = self._refusal(request) or self._sign_in(request)
        await (response or self._app)(scope, receive, with_headers)

    def _sign_in(self, request: Request) -> Response | None:
        """Return None if the request has the cookie, else set it, or refuse a wrong secret."""
        if _equal(request.cookies.get(self._cookie, ""), self._secret):
            return None
        if not _equal(request.query_params.get(SECRET, ""), self._secret):
            return PlainTextResponse(
                "The secret in the URL is missing or wrong. Open the URL that "
                "`image-pipeline console`, `up` or `status` prints.",
                401,
            )
        response = RedirectResponse("/", 303)  # keeps the secret out of pages and the history
        response.set_cookie(self._cookie, self._secret, httponly=True, samesite="strict")
        return response

    def _refusal(self, request: Request) -> Response | None:
        """Return an error if the request may come from another site, else None."""
        host = request.headers.get("host", "")
        if host not in self._hosts:
            return PlainTextResponse("Wrong host. Open the console at 127.0.0.1 or localhost.", 421)
        if request.method in SAFE_METHODS:
            return None
        if request.headers.get("origin") != f"http://{host}":
            return PlainTextResponse("Only the console's own pages may send this request.", 403)
        if not _equal(request.headers.get(TOKEN_HEADER, ""), self._token):
            return PlainTextResponse("The console was restarted. Reload this page.", 403)
        return None


def _equal(value: str, secret: str) -> bool:
    """Compare two strings in constant time."""
    return secrets.compare_digest(value.encode(), secret.encode())


def origins(urls: Iterable[str]) -> list[str]:
    """Return the scheme, host and port of each URL, without duplicates."""
    parts = [urlsplit(url) for url in urls]
    return sorted({f"{each.scheme}://{each.netloc}" for each in parts})
