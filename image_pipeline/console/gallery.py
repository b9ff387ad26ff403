"""What is in the buckets, for people to look at: pages of images, and all about one."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from botocore.exceptions import ClientError
from PIL import Image

from image_pipeline.errors import CommandError
from image_pipeline.stack import uploads
from image_pipeline.stack.aws import aws_errors_explained, is_missing
from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.uploads import Outcome
from thumbnailer.errors import PipelineError
from thumbnailer.imaging.decode import open_image
from thumbnailer.imaging.encoders.webp import size_of
from thumbnailer.imaging.limits import LARGEST_MB
from thumbnailer.imaging.sniff import DECODER_ERRORS, identify

PAGE: Final = 48
"""Images on a page."""

SORTED: Final = 10_000
"""So many objects are put in the order of time; S3 lists by name only, 1,000 a request."""

REMEMBERED: Final = 60.0
"""Seconds for which the listing of a first page is good for the next ones."""

LINK_SECONDS: Final = 3600
"""How long a page's presigned URLs last."""

SHOWN_WIDTH: Final = 256
"""Pixels that a card of the gallery has: the smallest thumbnail of at least so many is shown."""

WEBP_HEAD: Final = "bytes=0-63"
SOURCE_HEAD: Final = "bytes=0-262143"
"""Enough of a file to tell its size in pixels."""

LOG_PAGES: Final = 10
"""Requests for log lines at most: an answer of CloudWatch's may be empty and not the last."""

LONGEST_QUOTED: Final = 1000
LONGEST_PART: Final = 150
"""Characters, each of which may be escaped as six: a pattern has 1,024 at most."""

EMPTY: Final = "InvalidRange"
"""What S3 answers to a range of an object of no bytes."""


class Object(NamedTuple):
    """An upload as S3 lists it; `size` in bytes."""

    modified: datetime
    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Card:
    """An image of the gallery: `thumbnail` is a URL, whether or not there is one."""

    key: str
    name: str
    size: int
    modified: datetime
    thumbnail: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the gallery; `by_time` is the newest first, else it is by name.

    `total` is None where there are more than are counted; `older` is what to ask for next.
    """

    cards: list[Card]
    by_time: bool
    total: int | None
    older: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A thumbnail: `width` is the one asked for, `pixels` the real (width, height)."""

    width: int
    pixels: tuple[int, int] | None
    key: str
    size: int
    saving: int
    """Percent of the original's bytes."""
    url: str


@dataclass(frozen=True, slots=True)
class Log:
    """Lines of the function's log, oldest first; `whole` is False where there may be more."""

    lines: list[dict[str, Any]]
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Detail:
    """All about one image; `format` is what its bytes are, `content_type` what its headers say.

    `problems` say what could not be looked at: one right that is missing must not hide the rest.
    """

    upload: Outcome
    format: str | None
    content_type: str
    original: str
    thumbnails: list[Thumbnail]
    manifest: str | None
    srcset: str
    log: Log
    problems: list[str]


class Gallery:
    """Pages of the input bucket."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._listings: dict[str, tuple[float, list[Object], bool]] = {}

    def page(self, prefix: str, skip: int = 0, after: str = "") -> Page:
        """Images under `prefix` of the input prefix: the newest first, `skip` of them left out.

        Where there are too many for that, by name, beginning behind the key `after`.
        """
        with aws_errors_explained():
            return self._page(self._stack.settings.input_prefix + prefix, skip, after)

    def _page(self, within: str, skip: int, after: str) -> Page:
        if after:
            objects, more = self._list(within, after, PAGE)
        else:
            objects, more = self._listing(within, anew=not skip)
            if not more:
                shown = objects[skip : skip + PAGE]
                older = {"skip": str(skip + PAGE)} if len(objects) > skip + PAGE else None
                return Page(self._cards(shown), by_time=True, total=len(objects), older=older)
        shown = objects[:PAGE]
        older = {"after": shown[-1].key} if more else None
        return Page(self._cards(shown), by_time=False, total=None, older=older)

    def _listing(self, prefix: str, *, anew: bool) -> tuple[list[Object], bool]:
        """Objects under `prefix`, the newest first; by name if there are more than SORTED.

        A listing that is remembered is good enough unless it is to be made `anew`.
        """
        with self._lock:
            now = time.monotonic()
            self._listings = {
                name: each for name, each in self._listings.items() if now - each[0] < REMEMBERED
            }
            if anew or prefix not in self._listings:
                objects, more = self._list(prefix, "", SORTED)
                if not more:
                    objects.sort(reverse=True)
                self._listings[prefix] = (now, objects, more)
            return self._listings[prefix][1:]

    def _list(self, prefix: str, after: str, number: int) -> tuple[list[Object], bool]:
        """Up to `number` objects by name, folder markers left out, and whether there are more."""
        found = list(islice(self._objects(prefix, after), number + 1))
        return found[:number], len(found) > number

    def _objects(self, prefix: str, after: str) -> Iterator[Object]:
        pages = self._stack.aws.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._stack.input_bucket, Prefix=prefix, StartAfter=after
        )
        for page in pages:
            for each in page.get("Contents", []):
                if not each["Key"].endswith("/"):
                    yield Object(each["LastModified"], each["Key"], each["Size"])

    def _cards(self, objects: Sequence[Object]) -> list[Card]:
        settings = self._stack.settings
        wide = [width for width in settings.widths if width >= SHOWN_WIDTH]
        width = min(wide) if wide else max(settings.widths)
        return [
            Card(
                each.key,
                each.key.removeprefix(settings.input_prefix),
                each.size,
                each.modified,
                link(self._stack, settings.output_bucket, settings.thumbnail_key(each.key, width)),
            )
            for each in objects
        ]


def link(stack: Stack, bucket: str, key: str) -> str:
    """A URL that shows an object to who has it, for LINK_SECONDS."""
    return stack.aws.s3_links.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=LINK_SECONDS
    )


def thumbnails(stack: Stack, outcome: Outcome) -> list[Thumbnail]:
    """The thumbnails of an upload that has them, with links."""
    found = []
    bucket = stack.settings.output_bucket
    for each in outcome.thumbnails:
        pixels = size_of(_head_bytes(stack, bucket, each.key, WEBP_HEAD))
        saving = (outcome.size - each.size) * 100 // max(outcome.size, 1)
        url = link(stack, bucket, each.key)
        found.append(Thumbnail(each.width, pixels, each.key, each.size, saving, url))
    return found


def detail(stack: Stack, key: str, letters: Callable[[], list[Failure]]) -> Detail | None:
    """Look at everything about one image, or tell None where it is not there."""
    with aws_errors_explained():
        try:
            stored = uploads.describe(stack, key)
            if stored is None:
                return None
            head = _head_bytes(stack, stack.input_bucket, key, SOURCE_HEAD)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        problems: list[str] = []
        lines = unless_refused(problems, partial(log, stack, key, stored.uploaded_at), Log([]))
        upload = uploads.outcome_of(
            stack, stored, lambda: unless_refused(problems, letters, list[Failure]())
        )
        made = thumbnails(stack, upload)
        return Detail(
            replace(upload, pixels=_pixels(head)),
            identify(head),
            stored.content_type,
            link(stack, stack.input_bucket, key),
            made,
            _manifest(stack, key),
            srcset(made),
            lines,
            problems,
        )


def unless_refused[T](problems: list[str], look: Callable[[], T], otherwise: T) -> T:
    """What `look` gives, or `otherwise`, and why, where AWS refuses it."""
    try:
        with aws_errors_explained():
            return look()
    except CommandError as error:
        problems.append(str(error))
        return otherwise


def srcset(made: Sequence[Thumbnail]) -> str:
    """An `<img>` with all thumbnails, to copy; `w` is a file's real width (HTML, 4.8.4.2.1)."""
    sized = [(each.pixels, each.key) for each in made if each.pixels]
    if not sized:
        return ""
    (width, height), largest = max(sized)
    # Two widths that are larger than the picture have files of the same size: one is enough.
    by_width = {pixels[0]: key for pixels, key in reversed(sized)}
    listed = ", ".join(f"/{quote(key)} {real}w" for real, key in sorted(by_width.items()))
    return (
        f'<img src="/{quote(largest)}" srcset="{listed}" sizes="100vw" '
        f'width="{width}" height="{height}" alt="" loading="lazy">'
    )


def log(stack: Stack, key: str, since: datetime) -> Log:
    """What the function logged about a key since its upload.

    Its lines are near the beginning of that, so not the whole log is searched.
    """
    pages = stack.aws.logs.get_paginator("filter_log_events").paginate(
        logGroupName=f"/aws/lambda/{stack.function_name}",
        startTime=int((since - timedelta(minutes=1)).timestamp() * 1000),
        filterPattern=_pattern(key),
    )
    lines: list[dict[str, Any]] = []
    searched = 0
    try:
        for page in islice(pages, LOG_PAGES):
            searched += 1
            lines += _about(key, [event["message"] for event in page["events"]])
    except stack.aws.logs.exceptions.ResourceNotFoundException:
        pass  # the group of a function that never ran
    return Log(lines, whole=searched < LOG_PAGES)


def _pattern(key: str) -> str:
    """A filter for lines about a key, or about its beginning: a filter is bounded.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
    """
    quoted = json.dumps(key, ensure_ascii=False)
    if len(quoted) > LONGEST_QUOTED:
        quoted = json.dumps(key[:LONGEST_PART] + "*", ensure_ascii=False)
    return f"{{ $.key = {quoted} }}"


def _about(key: str, messages: Sequence[str]) -> Iterator[dict[str, Any]]:
    for message in messages:
        try:
            line = json.loads(message)
        except ValueError:
            continue
        # A pattern's * stands for anything, and a key may have one.
        if isinstance(line, dict) and line.get("key") == key:
            yield line


def _head_bytes(stack: Stack, bucket: str, key: str, span: str) -> bytes:
    """The beginning of an object, as the HTTP range `span`."""
    try:
        return stack.aws.s3.get_object(Bucket=bucket, Key=key, Range=span)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] == EMPTY:
            return b""
        raise


def _pixels(head: bytes) -> tuple[int, int] | None:
    """Width and height that a file's beginning tells, upright, or None."""
    try:
        image = open_image(head, LARGEST_MB)
        turned = image.format == "JPEG" and uploads.is_sideways(image)
    except (*DECODER_ERRORS, Image.DecompressionBombError, PipelineError):
        return None
    return image.size[::-1] if turned else image.size


def _manifest(stack: Stack, key: str) -> str | None:
    if not stack.settings.write_manifest:
        return None
    try:
        found = stack.aws.s3.get_object(
            Bucket=stack.settings.output_bucket, Key=stack.settings.manifest_key(key)
        )
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    text = found["Body"].read().decode(errors="replace")
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:  # of somebody else's
        return text
