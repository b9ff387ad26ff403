"""The details of one image: its thumbnails, its HTML for web pages, its manifest and its log."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

from botocore.exceptions import ClientError

from image_pipeline.console.links import presigned_url
from image_pipeline.errors import CommandError
from image_pipeline.stack import uploads
from image_pipeline.stack.aws import aws_errors_explained, is_missing
from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.uploads import Outcome
from thumbnailer.imaging import ENCODERS, HEAD_BYTES, PixelSize, Size, identify, upright_size
from thumbnailer.srcset import (
    MOST_SHOWN_FIRST,
    Candidate,
    default_sizes,
    picture,
    shows_everything,
    views,
)

MIN_CARD_WIDTH: Final = 256
MAX_CARD_WIDTH: Final = 1024
"""Pixels. A card shows a thumbnail between these widths if there is one (`card_size`)."""

THUMBNAIL_RANGE: Final = f"bytes=0-{HEAD_BYTES - 1}"
"""The HTTP range from which a thumbnail's size is read."""

ANIMATION: Final = 0x02
"""Flag in a WebP's header (VP8X) of an animation (RFC 9649, 2.7)."""

SOURCE_RANGE: Final = "bytes=0-262143"
"""The HTTP range from which an original's format and size are read: 256 KiB, because a JPEG's EXIF
data and ICC profile, segments of up to 64 KiB each, come before its size (ITU-T T.81, B.1.1.4)."""

MAX_LOG_PAGES: Final = 10
"""Maximum requests for log entries: CloudWatch may return empty pages before the last one."""

MAX_QUOTED_KEY: Final = 1000
"""Maximum characters of a quoted key in a filter pattern, which has at most 1,024
(https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html)."""

MAX_KEY_PREFIX: Final = 150
"""Characters of a longer key that the pattern has: JSON may escape each one as six."""


@dataclass(frozen=True, slots=True)
class File:
    """A thumbnail in one format; `saving` is that of uploads.Outcome, and `url` is presigned.

    `served` is its URL for web pages, if there is a CDN.
    """

    format: str
    key: str
    bytes: int
    saving: int
    url: str
    served: str | None = None


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A thumbnail in all its formats, which have the same pixels.

    `size` is the configured one, `pixels` the real (width, height), if read. `animated` says
    whether the WebP is an animation, of which the others show the first frame.
    """

    size: Size
    pixels: PixelSize | None
    files: Sequence[File]
    animated: bool = False

    @property
    def shown(self) -> File:
        """The file that a page of the console shows."""
        return min(self.files, key=lambda each: MOST_SHOWN_FIRST.index(each.format))


@dataclass(frozen=True, slots=True)
class Overview:
    """What is known of an image without its log and manifest.

    `picture` is a presigned URL of its largest thumbnail, of the object `picture_object`, which is
    named as in console/links.py; of the original while there is no thumbnail. `errors` are as in
    Detail.
    """

    upload: Outcome
    picture: str
    picture_object: str
    thumbnails: list[Thumbnail]
    errors: list[str]


class Markup(NamedTuple):
    """HTML for web pages, of the thumbnails of some sizes that show the same.

    `default_sizes` is what its attribute `sizes` has unless a value is given.
    """

    sizes: tuple[str, ...]
    html: str
    default_sizes: str


@dataclass(frozen=True, slots=True)
class Log:
    """Entries of the function's log, oldest first; `complete` is False if there may be more."""

    entries: list[dict[str, Any]]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Detail:
    """The details of one image.

    `format` is detected from the bytes and None if they are not a supported image; `content_type`
    is the object's header. `original` is a presigned URL, and so is `whole`, of a picture that
    shows the original upright from edge to edge. `errors` says what could not be read: a missing
    permission hides only what it protects.
    """

    upload: Outcome
    format: str | None
    content_type: str
    original: str
    whole: str
    thumbnails: list[Thumbnail]
    manifest: str | None
    markup: list[Markup]
    log: Log
    errors: list[str]


def card_size(sizes: Sequence[Size]) -> Size:
    """Choose what cards show: the smallest size that is wide enough, one without a height first.

    A size that is wider than MAX_CARD_WIDTH is taken only where all others are too narrow or too
    wide.
    """
    wide_enough = [size for size in sizes if size.width >= MIN_CARD_WIDTH]
    if not wide_enough:
        return max(sizes, key=lambda size: (size.width, size.height is None))
    return min(
        wide_enough,
        key=lambda size: (size.width > MAX_CARD_WIDTH, size.height is not None, size.width),
    )


def thumbnails_of(stack: Stack, upload: Outcome, *, measured: bool) -> list[Thumbnail]:
    """Return the thumbnails of an upload that is done; none for any other.

    With `measured`, the size in pixels of each is read from one of its objects: one GET for each.
    """
    bucket = stack.settings.output_bucket
    by_size: dict[Size, list[File]] = {}
    for each in upload.thumbnails:
        url, saving = presigned_url(stack, bucket, each.key), upload.saving(each)
        file = File(each.spec.format, each.key, each.bytes, saving, url, each.url)
        by_size.setdefault(each.spec.size, []).append(file)
    found = [Thumbnail(size, None, files) for size, files in by_size.items()]
    return [_measured(stack, each) for each in found] if measured else found


def _measured(stack: Stack, thumbnail: Thumbnail) -> Thumbnail:
    shown = thumbnail.shown
    head = _read_range(stack, stack.settings.output_bucket, shown.key, THUMBNAIL_RANGE)
    animated = shown.format == "webp" and head[12:16] == b"VP8X" and bool(head[20] & ANIMATION)
    return replace(thumbnail, pixels=ENCODERS[shown.format].size_of(head), animated=animated)


def whole_picture(thumbnails: Sequence[Thumbnail], original: str) -> str:
    """Return the URL of a picture that shows everything: of a thumbnail, or else `original`.

    A browser shows it, upright, and it is large enough to choose a place in, if possible.
    """
    whole = {each.size: each for each in thumbnails if shows_everything(each.size)}
    return whole[card_size([*whole])].shown.url if whole else original


def overview(stack: Stack, key: str, failures: Callable[[], list[Failure]]) -> Overview | None:
    """Return an overview of the image `key`, or None if it is not in the input bucket.

    `failures` reads the failed uploads. Raises CommandError if AWS refuses to read the image.
    """
    errors: list[str] = []
    with aws_errors_explained():
        stored = uploads.describe(stack, key)
        if stored is None:
            return None
        upload = uploads.outcome_of(
            stack, stored, partial(read_or_default, errors, failures, list[Failure]())
        )
        thumbnails = thumbnails_of(stack, upload, measured=False)
        if thumbnails:
            largest = max(
                thumbnails, key=lambda each: (shows_everything(each.size), each.size.width)
            )
            shown = largest.shown
            return Overview(upload, shown.url, f"output/{shown.key}", thumbnails, errors)
        original = presigned_url(stack, stack.input_bucket, key)
        return Overview(upload, original, f"input/{key}", thumbnails, errors)


def detail(
    stack: Stack, key: str, failures: Callable[[], list[Failure]], sizes: str = ""
) -> Detail | None:
    """Return the details of the image `key`, or None if it is not in the input bucket.

    `failures` reads the failed uploads. `sizes` is that of `markup`. Raises CommandError
    if AWS refuses to read the image.
    """
    with aws_errors_explained():
        stored = uploads.describe(stack, key)
        if stored is None:
            return None
        errors: list[str] = []
        try:
            head = _read_range(stack, stack.input_bucket, key, SOURCE_RANGE)
        except ClientError as error:
            if is_missing(error):
                return None
            if error.response["Error"]["Code"] != "InvalidObjectState":
                raise
            head = b""
            errors.append("The original is archived, so its format and size in pixels are unknown.")
        log = read_or_default(errors, partial(read_log, stack, key, stored.uploaded_at), Log([]))
        upload = uploads.outcome_of(
            stack, stored, partial(read_or_default, errors, failures, list[Failure]())
        )
        thumbnails = thumbnails_of(stack, upload, measured=True)
        original = presigned_url(stack, stack.input_bucket, key)
        return Detail(
            replace(upload, pixels=upright_size(head)),
            identify(head),
            stored.content_type,
            original,
            whole_picture(thumbnails, original),
            thumbnails,
            _manifest(stack, key),
            markup(thumbnails, partial(_url, stack, stored), sizes),
            log,
            errors,
        )


def read_or_default[T](errors: list[str], read: Callable[[], T], default: T) -> T:
    """Return what `read` returns; if AWS refuses, add the reason to `errors`, return `default`."""
    try:
        with aws_errors_explained():
            return read()
    except CommandError as error:
        errors.append(str(error))
        return default


def markup(
    thumbnails: Sequence[Thumbnail], url: Callable[[str], str], sizes: str = ""
) -> list[Markup]:
    """Return HTML for each group of thumbnails that show the same, without those of unknown pixels.

    `url` gives the URL of a key. `sizes` is the value of that attribute; empty for the default.
    """
    return [
        Markup(
            tuple(each.size.name for each in view),
            picture(
                [
                    Candidate(file.format, url(file.key), *each.pixels)
                    for each in view
                    if each.pixels
                    for file in each.files
                    if not each.animated or file.format == "webp"
                ],
                sizes,
            ),
            default_sizes(each.pixels[0] for each in view if each.pixels),
        )
        for view in views([each for each in thumbnails if each.pixels], lambda each: each.size)
    ]


def _url(stack: Stack, stored: Outcome, key: str) -> str:
    settings = stack.settings
    return settings.url(key, settings.picture_version(stored.etag, stored.focus))


def read_log(stack: Stack, key: str, since: datetime) -> Log:
    """Return what the function logged about `key` since its upload.

    At most MAX_LOG_PAGES pages of the log are searched: entries about an upload are near its time.
    """
    pages = stack.aws.logs.get_paginator("filter_log_events").paginate(
        logGroupName=f"/aws/lambda/{stack.function_name}",
        startTime=int((since - timedelta(minutes=1)).timestamp() * 1000),
        filterPattern=_filter_pattern(key),
    )
    entries: list[dict[str, Any]] = []
    searched = 0
    try:
        for page in islice(pages, MAX_LOG_PAGES):
            searched += 1
            entries += _entries_about(key, [event["message"] for event in page["events"]])
    except stack.aws.logs.exceptions.ResourceNotFoundException:
        pass  # the first invocation creates the log group
    return Log(entries, complete=searched < MAX_LOG_PAGES)


def _filter_pattern(key: str) -> str:
    """Return a filter for entries about `key`, or about keys that begin like a very long one.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
    """
    quoted = json.dumps(key, ensure_ascii=False)
    if len(quoted) > MAX_QUOTED_KEY:
        quoted = json.dumps(key[:MAX_KEY_PREFIX] + "*", ensure_ascii=False)
    return f"{{ $.key = {quoted} }}"


def _entries_about(key: str, messages: Sequence[str]) -> Iterator[dict[str, Any]]:
    for message in messages:
        try:
            entry = json.loads(message)
        except ValueError:
            continue
        # The pattern may also match other keys: an asterisk in it is a wildcard.
        if isinstance(entry, dict) and entry.get("key") == key:
            yield entry


def _read_range(stack: Stack, bucket: str, key: str, http_range: str) -> bytes:
    """Return a range of an object's bytes; of an empty object, none."""
    try:
        return stack.aws.s3.get_object(Bucket=bucket, Key=key, Range=http_range)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] == "InvalidRange":  # an empty object has no range
            return b""
        raise


def _manifest(stack: Stack, key: str) -> str | None:
    """Return the manifest of the image `key`, indented, or None if there is none."""
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
    except ValueError:  # not written by the pipeline
        return text
