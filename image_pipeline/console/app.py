"""The console: its pages, and what they ask for.

Pages are rendered here, whole or as parts that the script (static/console.js) puts in. Every name
and message goes through the templates' escaping, or into JSON that the script shows as text.
"""

import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp

from image_pipeline.console.dead_letters import MOST, Letters
from image_pipeline.console.gallery import (
    LINK_SECONDS,
    Gallery,
    detail,
    link,
    thumbnails,
    unless_refused,
)
from image_pipeline.console.guard import Guard, origins
from image_pipeline.console.metrics import Figures
from image_pipeline.console.replays import Replays
from image_pipeline.errors import CommandError, NotPermitted
from image_pipeline.stack import uploads
from image_pipeline.stack.aws import CONNECTIONS, aws_errors_explained
from image_pipeline.stack.dead_letters import Failure, count_messages
from image_pipeline.stack.deployed import Stack
from thumbnailer import errors
from thumbnailer.settings import MAX_KEY_BYTES

HERE: Final = Path(__file__).parent
AT_ONCE: Final = 100
"""Most files in one request of a page."""


class Console:
    """The pages of one stack, and what they remember of it."""

    def __init__(self, stack: Stack, token: str) -> None:
        self._stack = stack
        self._gallery = Gallery(stack)
        self._letters = Letters(stack)
        self._figures = Figures(stack)
        self._replays = Replays(stack, self._letters)
        self._pages = Jinja2Templates(HERE / "pages")
        self._pages.env.globals |= {"stack": stack, "token": token, "explain": explanation}
        self._pages.env.filters |= {"filesize": filesize, "ago": ago, "duration": duration}
        self.routes = [
            Route("/", self.images),
            Route("/image", self.image),
            Route("/letters", self.letters),
            Route("/letters/list", self.letters_list),
            Route("/figures", self.figures),
            Route("/figures/now", self.figures_now),
            Route("/uploads", self.start_upload, methods=["POST"]),
            Route("/outcomes", self.outcomes, methods=["POST"]),
            Route("/replays", self.start_replay, methods=["POST"]),
            Route("/replays/{number:int}", self.replay),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ]

    # --- pages ----------------------------------------------------------------------------------
    def images(self, request: Request) -> Response:
        """Show where to drop files, and the gallery."""
        prefix = request.query_params.get("prefix", "")
        after = request.query_params.get("after", "")
        skip = request.query_params.get("skip", "0")
        if not (skip.isascii() and skip.isdigit() and len(skip) < 10):  # noqa: PLR2004
            raise HTTPException(400, "The address has a wrong number in it: begin at Images.")
        page = self._gallery.page(prefix, int(skip), after)
        search = {"prefix": prefix} if prefix else {}
        return self._page(
            request,
            "images.html",
            page=page,
            prefix=prefix,
            first=not after and skip == "0",
            first_page=f"/?{urlencode(search)}",
            next_page=page.older and f"/?{urlencode(search | page.older)}",
        )

    def image(self, request: Request) -> Response:
        """Show all about the image `key`."""
        key = request.query_params.get("key", "")
        found = detail(self._stack, key, self._letters.read)
        if found is None:
            raise HTTPException(404, f"There is no {key} in {self._stack.input_bucket} (any more).")
        return self._page(request, "image.html", detail=found)

    def letters(self, request: Request) -> Response:
        """Show the dead letters, which come as a part of their own, for they take a moment."""
        return self._page(request, "letters.html")

    def letters_list(self, request: Request) -> Response:
        """Give the list of dead letters, the newest first."""
        found = self._letters.read()[::-1]
        unseen = max(count_messages(self._stack) - len({each.message_id for each in found}), 0)
        hidden = unseen if len(found) < MOST else 0  # beyond MOST they are merely not read
        return self._page(request, "letters_list.html", letters=found, hidden=hidden, unseen=unseen)

    def figures(self, request: Request) -> Response:
        """Show what the function does, which comes as a part of its own, again and again."""
        return self._page(request, "figures.html")

    def figures_now(self, request: Request) -> Response:
        """Give the figures of the last hour as they are now."""
        return self._page(request, "figures_now.html", now=self._figures.glance())

    # --- what pages ask for ---------------------------------------------------------------------
    async def start_upload(self, request: Request) -> Response:
        """`{"name": ...}` → `{"key", "url", "content_type"}`, for an upload that begins now.

        The file is PUT to the URL with its content type, straight to S3.
        """
        name = (await body_of(request)).get("name")
        key = f"{self._stack.settings.input_prefix}{name}"
        if not is_text(name) or not name or name.endswith("/") or len(key.encode()) > MAX_KEY_BYTES:
            raise HTTPException(400, f"S3 takes no object of the name {name!r}.")
        return JSONResponse(await run_in_threadpool(self._upload, key))

    def _upload(self, key: str) -> dict[str, str]:
        content_type = uploads.content_type(key)
        given = {"Bucket": self._stack.input_bucket, "Key": key, "ContentType": content_type}
        with aws_errors_explained():  # it may need new credentials
            url = self._stack.aws.s3_links.generate_presigned_url(
                "put_object", Params=given, ExpiresIn=LINK_SECONDS
            )
        return {"key": key, "url": url, "content_type": content_type}

    async def outcomes(self, request: Request) -> Response:
        """`{"keys": [...]}` → `{"outcomes": [{"key", "state", "html"}], "problem"}`.

        What became of each; the problem, if any, is that dead letters cannot be read.
        """
        keys = await listed(request, "keys")
        return JSONResponse(await run_in_threadpool(self._outcomes, keys))

    def _outcomes(self, keys: Sequence[str]) -> dict[str, Any]:
        problems: list[str] = []

        def letters() -> list[Failure]:
            return unless_refused(problems, self._letters.read, list[Failure]())

        with aws_errors_explained(), ThreadPoolExecutor(min(CONNECTIONS, len(keys) + 1)) as pool:
            outcomes = list(pool.map(lambda key: self._outcome(key, letters), keys))
        return {"outcomes": outcomes, "problem": problems[0] if problems else None}

    def _outcome(self, key: str, letters: Callable[[], list[Failure]]) -> dict[str, str]:
        stored = uploads.describe(self._stack, key)
        if stored is None:
            return {"key": key, "state": "gone", "html": self._part("outcome.html", upload=None)}
        upload = uploads.outcome_of(self._stack, stored, letters)
        made = thumbnails(self._stack, upload)
        return {
            "key": key,
            "state": upload.state,
            "html": self._part("outcome.html", upload=upload, thumbnails=made),
        }

    async def start_replay(self, request: Request) -> Response:
        """`{"messages": [id, ...]}`, or null for all → the replay as it begins."""
        asked = await body_of(request)
        messages = None if asked.get("messages", "") is None else await listed(request, "messages")
        started = await run_in_threadpool(self._replays.start, messages)
        return JSONResponse(started.to_json())

    def replay(self, request: Request) -> Response:
        """Tell how far a replay is."""
        found = self._replays.get(request.path_params["number"])
        if found is None:
            raise HTTPException(404, "That replay was started by an earlier console.")
        return JSONResponse(found.to_json())

    # --- answers --------------------------------------------------------------------------------
    def failed(self, request: Request, error: Exception) -> Response:
        """Say what went wrong: as a page, or to the script as JSON."""
        match error:
            case HTTPException():
                status, title, message = error.status_code, "Not here", error.detail
            case NotPermitted():
                status, title, message = 403, "Not permitted", str(error)
            case CommandError():
                status, title, message = 502, "It did not work", str(error)
            case _:  # a fault of the console's own; the traceback is in its log
                status, title = 500, "The console failed"
                message = f"{type(error).__name__}: {error}"
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"title": title, "message": message}, status)
        about = {"title": title, "message": message, "denied": isinstance(error, NotPermitted)}
        return self._pages.TemplateResponse(request, "problem.html", about, status)

    def _page(self, request: Request, name: str, **values: Any) -> Response:
        return self._pages.TemplateResponse(request, name, values)

    def _part(self, name: str, **values: Any) -> str:
        return self._pages.get_template(name).render(values)


def application(stack: Stack, port: int, secret: str) -> ASGIApp:
    """Make the web application of `stack`, to be served on `port` of 127.0.0.1.

    `secret` opens it: whoever has it acts with the user's rights.
    """
    token = secrets.token_urlsafe()
    console = Console(stack, token)
    examples = (
        link(stack, bucket, "x") for bucket in (stack.input_bucket, stack.settings.output_bucket)
    )
    handled = (CommandError, HTTPException, Exception)
    pages = Starlette(
        routes=console.routes, exception_handlers=dict.fromkeys(handled, console.failed)
    )
    return Guard(pages, port=port, secret=secret, token=token, sources=origins(examples))


async def body_of(request: Request) -> dict[str, Any]:
    """Read a JSON object. Raises HTTPException for anything else."""
    try:
        told = await request.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise HTTPException(400, "A JSON object was expected.")
    return told


async def listed(request: Request, name: str) -> list[str]:
    """Read a list of up to AT_ONCE strings. Raises HTTPException for anything else."""
    found = (await body_of(request)).get(name)
    if not (isinstance(found, list) and all(map(is_text, found))):
        raise HTTPException(400, f'"{name}" must be a list of strings.')
    if len(found) > AT_ONCE:
        raise HTTPException(400, f'"{name}" may have {AT_ONCE} entries at most.')
    return found


def explanation(error_type: str) -> str:
    """What an error means, in the words of its class."""
    found = getattr(errors, error_type, None)
    if isinstance(found, type) and issubclass(found, errors.PipelineError):
        return str(found.__doc__).partition("\n")[0]
    return ""


def filesize(size: float) -> str:
    """Bytes for people, in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:  # noqa: PLR2004
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def ago(then: datetime) -> str:
    """How long since, in one unit."""
    seconds = max((datetime.now(UTC) - then).total_seconds(), 0)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"


def duration(milliseconds: float | None) -> str:
    """Milliseconds for people."""
    if milliseconds is None:
        return "–"
    if milliseconds < 1000:  # noqa: PLR2004
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.1f} s"


def is_text(value: object) -> bool:
    """Whether this is a string that can be written, which half a surrogate pair cannot."""
    return isinstance(value, str) and not any("\ud800" <= each <= "\udfff" for each in value)
