"""The console's pages, and the JSON endpoints that its script calls.

Pages are rendered on the server, whole or as fragments. Scripts load them with the session's token
and insert them: pages into the shell that a browser gets without one (static/session.js), and
fragments into pages (static/page.js).
Every name and message is escaped by the templates, or sent as JSON that the script shows as text.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeGuard
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp

from image_pipeline.console.charts import charts, dollars, duration
from image_pipeline.console.dead_letters import AGES, DeadLetters
from image_pipeline.console.details import detail, overview, read_or_default, thumbnails_of
from image_pipeline.console.gallery import MAX_SEARCHED, Gallery, View
from image_pipeline.console.guard import Guard, origins
from image_pipeline.console.links import URL_SECONDS, presigned_url, renewed
from image_pipeline.console.metrics import SPANS, Metrics
from image_pipeline.console.replays import Replays
from image_pipeline.console.session import Session
from image_pipeline.errors import CommandError, NotPermitted
from image_pipeline.stack import images, uploads
from image_pipeline.stack.aws import CONNECTIONS, aws_errors_explained
from image_pipeline.stack.dead_letters import MAX_READ_SECONDS, Failure
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.focus import set_focus
from image_pipeline.stack.thumbnails import format_name
from image_pipeline.stack.triage import MAX_GROUPS
from thumbnailer import errors
from thumbnailer.imaging import Size, parse_focus
from thumbnailer.settings import MAX_KEY_BYTES

HERE: Final = Path(__file__).parent

MAX_LIST_LENGTH: Final = 100
"""Maximum keys or message ids in one request. static/page.js sends up to 50 (BATCH_SIZE)."""

MAX_ACTIONS: Final = 4
"""Maximum images that one request deletes or makes thumbnails of at a time. Uploads need the
function too."""

MIDDLE: Final = "0.5,0.5"
"""Where the marker of an image without a focus is."""


class Console:
    """The pages of one stack; `site` is the URL of a site that shows its thumbnails, if any."""

    def __init__(self, stack: Stack, site: str | None = None) -> None:
        self._stack = stack
        self._gallery = Gallery(stack)
        self._dead_letters = DeadLetters(stack)
        self._metrics = {name: Metrics(stack, span) for name, span in SPANS.items()}
        self._replays = Replays(stack, self._dead_letters)
        self._templates = Jinja2Templates(HERE / "pages")
        self._templates.env.globals |= {"stack": stack, "site": site, "explain": explanation}
        self._templates.env.filters |= {
            "filesize": filesize,
            "ago": ago,
            "dollars": dollars,
            "duration": duration,
            "shape": shape,
            "format_name": format_name,
            "listed": listed,
            "saving": saving,
        }
        self.routes = [
            Route("/", self.images),
            Route("/image", self.image),
            Route("/view", self.view),
            Route("/dead-letters", self.dead_letters),
            Route("/dead-letters/list", self.dead_letters_list),
            Route("/dead-letters/export", self.export_dead_letters, methods=["POST"]),
            Route("/discards", self.discard, methods=["POST"]),
            Route("/metrics", self.metrics),
            Route("/metrics/current", self.metrics_current),
            Route("/uploads", self.start_upload, methods=["POST"]),
            Route("/outcomes", self.outcomes, methods=["POST"]),
            Route("/replays", self.start_replay, methods=["POST"]),
            Route("/focus", self.set_focus, methods=["POST"]),
            Route("/links", self.renew_links, methods=["POST"]),
            Route("/deletions", self.delete, methods=["POST"]),
            Route("/remakes", self.remake, methods=["POST"]),
            Route("/replays/{number:int}", self.replay),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ]

    # --- pages ----------------------------------------------------------------------------------
    def images(self, request: Request) -> Response:
        """Show the upload form and the gallery."""
        query = request.query_params
        skip = query.get("skip", "0")
        if not (skip.isascii() and skip.isdigit() and len(skip) < 10):  # noqa: PLR2004
            raise HTTPException(400, "This URL has an invalid page number. Go back to Images.")
        folder = query.get("folder", "")
        view = View(
            folder if folder.endswith("/") or not folder else f"{folder}/",
            query.get("find", "").strip(),
            int(skip),
            query.get("after", ""),
            query.get("sort", ""),
        )
        page = self._gallery.page(view)
        return self._page(request, "images.html", page=page, view=view, max_searched=MAX_SEARCHED)

    def image(self, request: Request) -> Response:
        """Show the details of the image `key`, with `sizes` in the HTML for web pages, if any."""
        key = request.query_params.get("key", "")
        sizes = request.query_params.get("sizes", "").strip()
        found = detail(self._stack, key, self._dead_letters.read, sizes)
        if found is None:
            raise self._missing(key)
        focus = parse_focus(found.upload.focus or MIDDLE)
        percent = [round(100 * part, 1) for part in focus]
        return self._page(request, "image.html", detail=found, focus=percent, sizes=sizes)

    def view(self, request: Request) -> Response:
        """Return what the gallery shows of the image `key` in front of the page."""
        key = request.query_params.get("key", "")
        found = overview(self._stack, key, self._dead_letters.read)
        if found is None:
            raise self._missing(key)
        return self._page(request, "view.html", view=found)

    def _missing(self, key: str) -> HTTPException:
        return HTTPException(
            404, f"{key} is not in {self._stack.input_bucket}. It may have been deleted."
        )

    def dead_letters(self, request: Request) -> Response:
        """Show the page of failed uploads. Their list is loaded by the page: reading it is slow."""
        return self._page(request, "dead_letters.html")

    def dead_letters_list(self, request: Request) -> Response:
        """Return the failed uploads that the query chooses: their groups, and a page of them."""
        query = dict(request.query_params)
        number = query.pop("page", "1")
        if not (number.isascii() and number.isdigit() and int(number[:9]) > 0):
            raise HTTPException(400, "This URL has an invalid page number. Go to Failed uploads.")
        page = wrong_query_refused(lambda: self._dead_letters.page(query, int(number[:9])))
        filters = {name: text for name, text in query.items() if text}

        def url(**changed: str) -> str:
            chosen = {name: text for name, text in (filters | changed).items() if text}
            return f"/dead-letters?{urlencode(chosen)}" if chosen else "/dead-letters"

        return self._page(
            request,
            "dead_letters_list.html",
            page=page,
            filters=filters,
            url=url,
            ages=AGES,
            max_groups=MAX_GROUPS,
            seconds=MAX_READ_SECONDS,
        )

    def metrics(self, request: Request) -> Response:
        """Show the page of metrics, which loads the current ones again and again."""
        name = self._span_name(request)
        every = self._metrics[name].refresh_seconds
        return self._page(request, "metrics.html", spans=SPANS, current=name, every=every)

    def metrics_current(self, request: Request) -> Response:
        """Return the metrics of the requested range."""
        summary = self._metrics[self._span_name(request)].current()
        return self._page(request, "metrics_current.html", metrics=summary, charts=charts(summary))

    def _span_name(self, request: Request) -> str:
        name = request.query_params.get("range", next(iter(SPANS)))
        if name not in SPANS:
            raise HTTPException(400, f"Unknown range. The ranges are {listed(list(SPANS))}.")
        return name

    # --- what the script asks for ---------------------------------------------------------------
    async def start_upload(self, request: Request) -> Response:
        """`{"name": ...}` → `{"key", "url", "content_type"}`.

        The script PUTs the file to the presigned `url` with the content type, directly to S3.
        """
        name = (await json_object(request)).get("name")
        key = f"{self._stack.settings.input_prefix}{name}"
        if not is_text(name) or not name or name.endswith("/") or len(key.encode()) > MAX_KEY_BYTES:
            raise HTTPException(
                400,
                "Invalid file name: it must not be empty, end with a slash, or make the key longer "
                f"than {MAX_KEY_BYTES:,} bytes.",
            )
        return JSONResponse(await run_in_threadpool(self._upload, key))

    def _upload(self, key: str) -> dict[str, str]:
        content_type = uploads.content_type(key)
        parameters = {"Bucket": self._stack.input_bucket, "Key": key, "ContentType": content_type}
        with aws_errors_explained():  # signing may have to renew the credentials
            url = self._stack.aws.s3_links.generate_presigned_url(
                "put_object", Params=parameters, ExpiresIn=URL_SECONDS
            )
        return {"key": key, "url": url, "content_type": content_type}

    async def outcomes(self, request: Request) -> Response:
        """`{"keys": [...]}` → `{"outcomes": [outcome, ...], "error"}`.

        `outcomes` are in the order of `keys`: `{"key", "state", "html", "reason", "permanent"}`.
        `reason` says in words why an upload failed, and `permanent` whether the same file would
        fail again. `error` is a string if the failed uploads cannot be read, else null.
        """
        keys = await string_list(request, "keys")
        return JSONResponse(await run_in_threadpool(self._outcomes, keys))

    def _outcomes(self, keys: Sequence[str]) -> dict[str, Any]:
        found: list[str] = []
        failures = partial(read_or_default, found, self._dead_letters.read, list[Failure]())
        with aws_errors_explained(), ThreadPoolExecutor(min(CONNECTIONS, len(keys) + 1)) as pool:
            outcomes = list(pool.map(lambda key: self._outcome(key, failures), keys))
        return {"outcomes": outcomes, "error": found[0] if found else None}

    def _outcome(self, key: str, failures: Callable[[], list[Failure]]) -> dict[str, str | bool]:
        stored = uploads.describe(self._stack, key)
        if stored is None:
            html = self._render("outcome.html", upload=None)
            return {"key": key, "state": "gone", "html": html, "reason": "", "permanent": False}
        upload = uploads.outcome_of(self._stack, stored, failures)
        thumbnails = thumbnails_of(self._stack, upload, measured=False)
        return {
            "key": key,
            "state": upload.state,
            "html": self._render("outcome.html", upload=upload, thumbnails=thumbnails),
            "reason": failure_text(upload.failure) if upload.failure else "",
            "permanent": bool(upload.failure and upload.failure.permanent),
        }

    async def start_replay(self, request: Request) -> Response:
        """`{"messages": [id, ...]}` or `{"matching": QUERY}` → the state of the new replay.

        QUERY is one of `/dead-letters/list`. A null instead of ids means all messages.
        """
        body = await json_object(request)
        everything = "messages" in body and body["messages"] is None
        messages = None if everything else await self._chosen(request, whole=False)
        started = await run_in_threadpool(self._replays.start, messages)
        return JSONResponse(started.to_json())

    async def export_dead_letters(self, request: Request) -> Response:
        """`{"messages": [id, ...]}` or `{"matching": QUERY}` → these messages as JSON lines."""
        messages = await self._chosen(request, whole=True)
        lines = await run_in_threadpool(self._dead_letters.export, messages)
        return Response(lines, media_type="application/x-ndjson")

    async def discard(self, request: Request) -> Response:
        """`{"messages": [id, ...]}` or `{"matching": QUERY}` → `{"deleted", "kept"}`.

        A message of several uploads is chosen by QUERY only if all of them match. `kept` counts
        messages that another reader has, or that are gone.
        """
        messages = await self._chosen(request, whole=True)
        found = await run_in_threadpool(self._dead_letters.discard, messages)
        return JSONResponse({"deleted": found.deleted, "kept": found.kept})

    async def _chosen(self, request: Request, *, whole: bool) -> list[str]:
        matching = (await json_object(request)).get("matching")
        if matching is None:
            return await string_list(request, "messages")
        if not is_text(matching):
            raise HTTPException(400, '"matching" must be a string.')
        query = dict(parse_qsl(matching))
        choose = partial(self._dead_letters.chosen, query, whole=whole)
        return await run_in_threadpool(wrong_query_refused, choose)

    async def set_focus(self, request: Request) -> Response:
        """`{"key", "etag", "focus": "0.5,0.3"}` → `{"etag"}`, that of the image now.

        A focus of null removes it. The crops follow later: `/outcomes` tells when.
        """
        body = await json_object(request)
        key, etag, focus = (body.get(name) for name in ("key", "etag", "focus"))
        if not (is_text(key) and key and is_text(etag) and (focus is None or is_text(focus))):
            raise HTTPException(400, '"key", "etag" and "focus" must be strings.')
        try:
            place = None if focus is None else parse_focus(focus)
        except ValueError as error:
            raise HTTPException(400, f"The focus {error}.") from None
        now = await run_in_threadpool(set_focus, self._stack, key, etag, place)
        return JSONResponse({"etag": now})

    async def renew_links(self, request: Request) -> Response:
        """`{"objects": [...]}` → `{"links": [url, ...]}`, new URLs in the same order.

        Objects are named as in console/links.py.
        """
        objects = await string_list(request, "objects")
        try:
            return JSONResponse({"links": await run_in_threadpool(renewed, self._stack, objects)})
        except ValueError as error:
            raise HTTPException(400, f"{error}.") from None

    async def delete(self, request: Request) -> Response:
        """`{"keys": [...], "etags": [...]}` → `{"failures": [reason or null, ...]}`, in this order.

        Deletes the originals that have the ETags.
        """
        keys, etags = await string_list(request, "keys"), await string_list(request, "etags")
        if len(keys) != len(etags):
            raise HTTPException(400, 'There must be as many "etags" as "keys".')
        answer = await self._each(partial(images.delete, self._stack), keys, etags)
        self._gallery.forget()
        return answer

    async def remake(self, request: Request) -> Response:
        """`{"keys": [...]}` → `{"failures": [reason or null, ...]}`, in this order.

        Waits until the function has made the thumbnails again.
        """
        keys = await string_list(request, "keys")
        return await self._each(partial(images.remake, self._stack), keys)

    async def _each(self, do: Callable[..., None], keys: list[str], *others: list[str]) -> Response:
        """Call `do` for each key, and say which calls failed."""

        def attempt(key: str, *more: str) -> str | None:
            if not self._stack.settings.is_image_key(key):
                return f"{key} is not an image in {self._stack.input_bucket}."
            try:
                do(key, *more)
            except CommandError as error:
                return str(error)
            return None

        def attempt_all() -> list[str | None]:
            with ThreadPoolExecutor(MAX_ACTIONS) as pool:
                return list(pool.map(attempt, keys, *others))

        return JSONResponse({"failures": await run_in_threadpool(attempt_all)})

    def replay(self, request: Request) -> Response:
        """Return the state of a replay."""
        found = self._replays.get(request.path_params["number"])
        if found is None:
            raise HTTPException(404, "This replay was started by a console that has since stopped.")
        return JSONResponse(found.to_json())

    # --- responses ------------------------------------------------------------------------------
    def error(self, request: Request, error: Exception) -> Response:
        """Return an error as a page or, to the script, as `{"title", "message"}`."""
        match error:
            case HTTPException():
                status, phrase = error.status_code, HTTPStatus(error.status_code).phrase
                title, message = phrase.capitalize(), error.detail
                if message == phrase:  # Starlette's own answer to an unknown URL
                    message = "The console has no such page."
            case NotPermitted():
                status, title, message = 403, "Access denied", str(error)
            case CommandError():
                status, title, message = 502, "Request failed", str(error)
            case _:  # a bug; uvicorn logs the traceback
                status, title = 500, "Internal error"
                message = f"{type(error).__name__}: {error}"
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"title": title, "message": message}, status)
        context = {"title": title, "message": message, "denied": isinstance(error, NotPermitted)}
        return self._templates.TemplateResponse(request, "error.html", context, status)

    def shell(self) -> str:
        """Return the page that a browser gets without a session; its script loads the real one."""
        return self._render("shell.html")

    def _page(self, request: Request, name: str, **context: Any) -> Response:
        return self._templates.TemplateResponse(request, name, context)

    def _render(self, name: str, **context: Any) -> str:
        return self._templates.get_template(name).render(context)


def application(stack: Stack, port: int, key: str, site: str | None = None) -> ASGIApp:
    """Return the web application of `stack`, to be served on `port` of 127.0.0.1.

    Its pages link to `site`, which shows thumbnails of the stack, if there is one. Whoever has an
    address that is signed with `key` acts with the user's AWS credentials.
    """
    console = Console(stack, site)
    s3_urls = (
        presigned_url(stack, bucket, "x")
        for bucket in (stack.input_bucket, stack.settings.output_bucket)
    )
    handled = (CommandError, HTTPException, Exception)
    pages = Starlette(
        routes=console.routes, exception_handlers=dict.fromkeys(handled, console.error)
    )
    return Guard(
        pages,
        port=port,
        session=Session(key),
        shell=console.shell(),
        sources=origins(s3_urls),
    )


def wrong_query_refused[T](read: Callable[[], T]) -> T:
    """Return what `read` returns. Raises HTTPException for a ValueError."""
    try:
        return read()
    except ValueError as error:
        raise HTTPException(400, f"{error} Go to Failed uploads, and filter again.") from None


async def json_object(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body. Raises HTTPException for any other body."""
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise HTTPException(400, "The request body must be a JSON object.")
    return body


async def string_list(request: Request, name: str) -> list[str]:
    """Return up to MAX_LIST_LENGTH strings from the body. Raises HTTPException for other values."""
    found = (await json_object(request)).get(name)
    if not (isinstance(found, list) and all(map(is_text, found))):
        raise HTTPException(400, f'"{name}" must be a list of strings.')
    if len(found) > MAX_LIST_LENGTH:
        raise HTTPException(400, f'"{name}" must have at most {MAX_LIST_LENGTH} entries.')
    return found


def explanation(error_type: str) -> str:
    """Return the first line of an error class's docstring, or "" if there is no such class."""
    found = getattr(errors, error_type, None)
    if isinstance(found, type) and issubclass(found, errors.PipelineError):
        return str(found.__doc__).partition("\n")[0]
    return ""


def failure_text(failure: Failure) -> str:
    """Say in words why an upload failed."""
    cause = f"{failure.error_type}: {failure.error_message}"
    return " ".join(filter(None, (explanation(failure.error_type), cause)))


def filesize(size: float) -> str:
    """Format bytes in powers of 1,000, with three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:  # noqa: PLR2004
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def ago(then: datetime) -> str:
    """Format the time since `then` in the largest unit that fits."""
    seconds = max((datetime.now(UTC) - then).total_seconds(), 0)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"


def shape(size: Size) -> str:
    """Say what the thumbnails of a size look like, beside its name."""
    if size.height is None:
        return f"{size.width} pixels wide"
    fits = {"cover": "cropped to", "contain": "fitted into", "pad": "padded to"}
    return f"{fits[size.fit]} {size.width} × {size.height}"


def saving(percent: int) -> str:
    """Say how a file compares with its original, by uploads.Outcome.saving."""
    return f"{percent}% smaller" if percent >= 0 else f"{-percent}% larger"


def listed(words: Sequence[str]) -> str:
    """Write words as a list: `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def is_text(value: object) -> TypeGuard[str]:
    """Return whether `value` is a string that has a UTF-8 encoding: no half a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= each <= "\udfff" for each in value)
