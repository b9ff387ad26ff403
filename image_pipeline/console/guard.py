"""What keeps other pages of the user's browser away from the console.

The console acts with the user's AWS credentials, so no other site may make it act (CSRF) or read
it (DNS rebinding), and no name of an object may become markup or script
(https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html).
"""

import secrets
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE: Final = ("GET", "HEAD")
"""Methods that change nothing."""

TOKEN_HEADER: Final = "X-CSRF-Token"  # noqa: S105 - its name


class Guard:
    """ASGI middleware: refuses requests that are not of the console's own pages.

    `port` is the console's; `token` is in its pages only; `sources` are the origins that pictures
    come from and uploads go to.
    """

    def __init__(self, app: ASGIApp, *, port: int, token: str, sources: Sequence[str]) -> None:
        self._app = app
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._token = token
        allowed = " ".join(sources)
        self._headers = {
            "Content-Security-Policy": (
                "default-src 'none'; script-src 'self'; style-src 'self'; "
                f"img-src 'self' blob: {allowed}; connect-src 'self' {allowed}; "
                "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",  # presigned URLs and keys stay here
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is refused, and pass the rest on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        refusal = self._refusal(Request(scope))
        if refusal:
            status, why = refusal
            await PlainTextResponse(why, status)(scope, receive, with_headers)
        else:
            await self._app(scope, receive, with_headers)

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        host = request.headers.get("host", "")
        if host not in self._hosts:
            return 421, "This console is at 127.0.0.1 only."
        if request.method in SAFE:
            return None
        if request.headers.get("origin") != f"http://{host}":
            return 403, "Only the console's own pages may do this."
        if not secrets.compare_digest(
            request.headers.get(TOKEN_HEADER, "").encode(), self._token.encode()
        ):
            return 403, "The page is of an earlier console. Load it again."
        return None


def origins(urls: Iterable[str]) -> list[str]:
    """Scheme, host and port of each, once."""
    parts = [urlsplit(url) for url in urls]
    return sorted({f"{each.scheme}://{each.netloc}" for each in parts})
