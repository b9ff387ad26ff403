"""What keeps others away from the console: sites in the same browser, users of the same machine.

The console acts with the user's AWS credentials, so no other site may make it act (CSRF) or read
it (DNS rebinding), no other user of the machine may open it, and no name of an object may become
markup or script
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

SAFE: Final = ("GET", "HEAD")
"""Methods that change nothing."""

TOKEN_HEADER: Final = "X-CSRF-Token"  # noqa: S105 - its name


class Guard:
    """ASGI application around another: refuses requests that are not of the console's own pages.

    `port` is the console's; `secret` opens it; `token` is in its pages only; `sources` are the
    origins that pictures come from and uploads go to.
    """

    def __init__(
        self, app: ASGIApp, *, port: int, secret: str, token: str, sources: Sequence[str]
    ) -> None:
        self._app = app
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._cookie = f"image-pipeline-{port}"  # browsers keep no cookies apart by port
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

        request = Request(scope)
        answer = self._refusal(request) or self._opened(request)
        await (answer or self._app)(scope, receive, with_headers)

    def _opened(self, request: Request) -> Response | None:
        """Let in who has the secret, by a cookie from then on; refuse who has neither."""
        if _same(request.cookies.get(self._cookie, ""), self._secret):
            return None
        if not _same(request.query_params.get(SECRET, ""), self._secret):
            return PlainTextResponse(
                "Open the address that `image-pipeline console` or `up` printed, or that "
                "`image-pipeline status` tells: it has a secret in it.",
                401,
            )
        answer = RedirectResponse("/", 303)  # so that the secret is in no history and no page
        answer.set_cookie(self._cookie, self._secret, httponly=True, samesite="strict")
        return answer

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if host not in self._hosts:
            return PlainTextResponse("This console is at 127.0.0.1 only.", 421)
        if request.method in SAFE:
            return None
        if request.headers.get("origin") != f"http://{host}":
            return PlainTextResponse("Only the console's own pages may do this.", 403)
        if not _same(request.headers.get(TOKEN_HEADER, ""), self._token):
            return PlainTextResponse("The page is of an earlier console. Load it again.", 403)
        return None


def _same(given: str, secret: str) -> bool:
    """Whether two texts are equal, in a time that does not tell how much of them is."""
    return secrets.compare_digest(given.encode(), secret.encode())


def origins(urls: Iterable[str]) -> list[str]:
    """Scheme, host and port of each, once."""
    parts = [urlsplit(url) for url in urls]
    return sorted({f"{each.scheme}://{each.netloc}" for each in parts})
