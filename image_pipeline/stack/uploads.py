"""Upload files, and wait for the outcome of each: its thumbnails, or why there are none."""

import mimetypes
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

from image_pipeline.errors import CommandError
from image_pipeline.files import File
from image_pipeline.stack import dead_letters, thumbnails
from image_pipeline.stack.aws import CONNECTIONS, aws_errors_explained, head_object
from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.deployed import Stack
from thumbnailer.imaging import PixelSize, ThumbnailSpec, upright_size
from thumbnailer.provenance import LONG_AGO, Standing
from thumbnailer.settings import FOCUS

FIRST_POLL_SECONDS: Final = 0.2
LAST_POLL_SECONDS: Final = 2.0
"""Seconds between two polls. The pause grows, so that a fast outcome is seen at once and a slow one
does not cost many requests."""


MAX_HEADER_BYTES: Final = 64 * 1024**2
"""Bytes of a file that are searched for its size in pixels. TIFF may store it at the end."""


class State(StrEnum):
    """The outcome of an upload."""

    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    """A newer upload has thumbnails of the same names."""
    UNKNOWN = "unknown"
    """There was no outcome in the time given."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A thumbnail in the output bucket."""

    spec: ThumbnailSpec
    key: str
    bytes: int
    path: Path | None = None
    """Where it was downloaded to."""
    url: str | None = None
    """Where the CDN serves it, if there is one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One upload and its outcome; `size` in bytes, `pixels` is (width, height) upright, if known.

    `etag`, `uploaded_at` and `content_type` are those of the object in the input bucket, and
    `focus` is what its crops have in the middle (`Settings.focus`).
    """

    path: Path
    key: str
    size: int
    pixels: PixelSize | None
    etag: str = ""
    uploaded_at: datetime = LONG_AGO
    """By S3's clock, in whole seconds."""
    content_type: str = ""
    focus: str = ""
    state: State = State.UNKNOWN
    thumbnails: list[Thumbnail] = field(default_factory=list)
    failure: Failure | None = None
    superseded_by: str | None = None

    def saving(self, thumbnail: Thumbnail) -> int:
        """Percentage of the original's bytes that a thumbnail saves; negative if it is larger."""
        return (self.size - thumbnail.bytes) * 100 // max(self.size, 1)

    def to_json(self) -> dict[str, Any]:
        """As JSON for scripts."""
        failure = self.failure
        return {
            "path": str(self.path),
            "key": self.key,
            "bytes": self.size,
            "pixels": self.pixels,
            "state": self.state,
            "thumbnails": [
                {
                    "size": each.spec.size.name,
                    "format": each.spec.format,
                    "width": each.spec.size.width,
                    "key": each.key,
                    "bytes": each.bytes,
                    "path": str(each.path) if each.path else None,
                    "url": each.url,
                }
                for each in self.thumbnails
            ],
            "error": failure
            and {
                "type": failure.error_type,
                "message": failure.error_message,
                "permanent": failure.permanent,
            },
            "superseded_by": self.superseded_by,
        }


def upload(stack: Stack, files: Sequence[File], focus: str = "") -> Iterator[Outcome]:
    """Put every file into the input bucket; yields each, in order, once it is there.

    `focus` becomes their metadata, unless it is empty. Raises CommandError if AWS refuses one.
    """
    metadata = {"Metadata": {FOCUS: focus}} if focus else {}

    def put(file: File) -> Outcome:
        headers = {"ContentType": content_type(file.key), **metadata}
        stack.aws.s3.upload_file(str(file.path), stack.input_bucket, file.key, headers)
        outcome = describe(stack, file.key)
        if outcome is None:
            raise CommandError(f"{file.key} was deleted right after it was uploaded.")
        return replace(outcome, path=file.path, pixels=_pixels(file.path))

    # upload_file has threads of its own
    with aws_errors_explained(), ThreadPoolExecutor(CONNECTIONS // 4) as pool:
        yield from pool.map(put, files)


def describe(stack: Stack, key: str) -> Outcome | None:
    """Describe the object `key` of the input bucket, its outcome still unknown; None if missing.

    Raises ClientError if S3 refuses the request.
    """
    head = head_object(stack.aws.s3, stack.input_bucket, key)
    if head is None:
        return None
    return Outcome(
        path=Path(key),
        key=key,
        size=head["ContentLength"],
        pixels=None,
        etag=head["ETag"].strip('"'),
        uploaded_at=head["LastModified"],
        content_type=head.get("ContentType", ""),
        focus=stack.settings.focus(head["Metadata"])[0],
    )


def wait(
    stack: Stack,
    uploaded: Sequence[Outcome],
    seconds: float,
    read_failures: Callable[[], list[Failure]] | None = None,
) -> Iterator[Outcome]:
    """Wait up to `seconds` for the outcome of each upload; yields each as soon as it is known.

    At the end it yields those whose outcome is still UNKNOWN. Raises CommandError if AWS refuses.
    `read_failures` replaces the reading of the dead-letter queue.
    """
    read = read_failures or partial(
        dead_letters.read, stack.aws.sqs, stack.settings.dead_letter_queue_url
    )
    pending = list(uploaded)
    deadline = time.monotonic() + seconds
    pause = FIRST_POLL_SECONDS
    with aws_errors_explained(), ThreadPoolExecutor(CONNECTIONS) as pool:
        while pending:
            check = partial(outcome_of, stack, failures=partial(list, read()))
            outcomes = list(pool.map(check, pending))
            yield from (each for each in outcomes if each.state is not State.UNKNOWN)
            pending = [each for each in outcomes if each.state is State.UNKNOWN]
            if time.monotonic() >= deadline:
                yield from pending
                return
            if pending:
                time.sleep(pause)
                pause = min(pause * 1.2, LAST_POLL_SECONDS)


def outcome_of(stack: Stack, upload: Outcome, failures: Callable[[], list[Failure]]) -> Outcome:
    """Find the outcome of `upload` as it is now; `failures` is called if it has no thumbnails.

    Raises ClientError if S3 refuses a request.
    """
    found = _with_thumbnails(stack, upload)
    if found.state is State.DONE:
        return found
    for failure in failures():
        same = (failure.bucket, failure.key) == (stack.input_bucket, upload.key)
        newer = failure.sent_at >= upload.uploaded_at  # else of an earlier upload of these bytes
        if same and newer and failure.etag in (upload.etag, None):
            return replace(upload, state=State.FAILED, failure=failure)
    return found


def download(stack: Stack, outcome: Outcome, directory: Path) -> Outcome:
    """Download the thumbnails of `outcome` into `directory`, under their keys, and set their paths.

    Raises CommandError for a key that leads out of `directory`.
    """
    fetched = []
    for thumbnail in outcome.thumbnails:
        path = directory / thumbnail.key.lstrip("/")
        if not path.resolve().is_relative_to(directory.resolve()):
            raise CommandError(f"{thumbnail.key} would be written outside of {directory}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with aws_errors_explained():
            stack.aws.s3.download_file(stack.settings.output_bucket, thumbnail.key, str(path))
        fetched.append(replace(thumbnail, path=path))
    return replace(outcome, thumbnails=fetched)


def content_type(name: str) -> str:
    """The media type of a file by its name."""
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _with_thumbnails(stack: Stack, upload: Outcome) -> Outcome:
    """The upload as DONE with all its thumbnails, as SUPERSEDED, or unchanged."""
    made = []
    settings = stack.settings
    version = settings.picture_version(upload.etag, upload.focus)
    wanted = stack.settings.provenances(upload.key, upload.etag, upload.uploaded_at, upload.focus)
    for spec in stack.settings.specs:
        key = stack.settings.thumbnail_key(upload.key, spec.size, spec.format)
        stored = thumbnails.describe(stack, key, wanted[key])
        if stored.standing is Standing.SUPERSEDED:
            return replace(upload, state=State.SUPERSEDED, superseded_by=stored.owner)
        if stored.standing is not Standing.CURRENT:
            return upload
        url = settings.url(key, version) if settings.thumbnails_url else None
        made.append(Thumbnail(spec, key, stored.size, url=url))
    return replace(upload, state=State.DONE, thumbnails=made)


def _pixels(path: Path) -> PixelSize | None:
    """Width and height of the upright picture, or None if it cannot be read here."""
    with path.open("rb") as file:
        return upright_size(file.read(MAX_HEADER_BYTES))
