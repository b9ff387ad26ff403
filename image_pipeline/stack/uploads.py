"""Upload files, and wait for what becomes of each: thumbnails, or a failure and why."""

import mimetypes
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import ClientError
from PIL import Image

from image_pipeline.errors import CommandError
from image_pipeline.stack import dead_letters
from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.deployed import CONNECTIONS, Stack, explained
from thumbnailer.imaging.thumbnails import ORIENTATION_TAG
from thumbnailer.provenance import LONG_AGO, Provenance

FIRST_POLL: Final = 0.2
LAST_POLL: Final = 2.0
"""Seconds between two looks; the pause grows, for what is quick is quick at once."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to upload, and the key that it gets."""

    path: Path
    key: str


class State(StrEnum):
    """What became of an upload."""

    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    """Another original, uploaded later, has the same thumbnails' names."""
    UNKNOWN = "unknown"
    """No outcome in the time given."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A thumbnail in the output bucket; `width` is the one asked for, in pixels."""

    width: int
    key: str
    size: int
    path: Path | None = None
    """Where it was downloaded to."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file; `size` in bytes, `pixels` is (width, height) upright, if known."""

    path: Path
    key: str
    size: int
    pixels: tuple[int, int] | None
    etag: str = ""
    uploaded_at: datetime = LONG_AGO
    """By the clock of S3, to the second."""
    content_type: str = ""
    state: State = State.UNKNOWN
    thumbnails: list[Thumbnail] = field(default_factory=list)
    failure: Failure | None = None
    superseded_by: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As scripts get it."""
        failure = self.failure
        return {
            "path": str(self.path),
            "key": self.key,
            "bytes": self.size,
            "pixels": self.pixels,
            "state": self.state,
            "thumbnails": [
                {
                    "width": each.width,
                    "key": each.key,
                    "bytes": each.size,
                    "path": str(each.path) if each.path else None,
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


def plan(paths: Iterable[Path], prefix: str, *, may_be_empty: bool = False) -> list[File]:
    """Give each file its key: `photo.jpg` → `{prefix}photo.jpg`, folders keep their names.

    `trip/` with `a/b.jpg` in it → `{prefix}trip/a/b.jpg`; hidden files stay where they are.
    Raises CommandError for a path that is not there, an empty folder (unless it may be), or a key
    given twice.
    """
    files: list[File] = []
    for path in paths:
        if path.is_dir():
            root = path.resolve().parent
            within = [
                each
                for each in sorted(path.resolve().rglob("*"))
                if each.is_file()
                and not any(part.startswith(".") for part in each.relative_to(path.resolve()).parts)
            ]
            if not (within or may_be_empty):
                raise CommandError(f"There are no files in {path}. Name a folder with images.")
            files += [File(each, prefix + each.relative_to(root).as_posix()) for each in within]
        elif path.is_file():
            files.append(File(path, prefix + path.name))
        else:
            raise CommandError(f"There is no file or folder {path}. Name images to upload.")
    for key, count in Counter(file.key for file in files).items():
        if count > 1:
            both = ", ".join(str(file.path) for file in files if file.key == key)
            raise CommandError(f"{both} would all become {key}. Take them one after another.")
    return files


def upload(stack: Stack, files: list[File], progress: Callable[[], None]) -> list[Outcome]:
    """Put every file into the input bucket; `progress` is called after each."""

    def one(file: File) -> Outcome:
        headers = {"ContentType": content_type(file.key)}
        stack.aws.s3.upload_file(str(file.path), stack.input_bucket, file.key, headers)
        outcome = replace(stored(stack, file.key), path=file.path, pixels=_pixels(file.path))
        progress()
        return outcome

    with explained(), ThreadPoolExecutor(CONNECTIONS // 4) as pool:  # upload_file has threads too
        return list(pool.map(one, files))


def content_type(name: str) -> str:
    """The media type that a file's name says."""
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def stored(stack: Stack, key: str) -> Outcome:
    """Look at the upload `key` as it is in the bucket; nothing is known of its thumbnails yet."""
    found = stack.aws.s3.head_object(Bucket=stack.input_bucket, Key=key)
    return Outcome(
        path=Path(key),
        key=key,
        size=found["ContentLength"],
        pixels=None,
        etag=found["ETag"].strip('"'),
        uploaded_at=found["LastModified"],
        content_type=found.get("ContentType", ""),
    )


def wait(
    stack: Stack, uploaded: list[Outcome], seconds: float, progress: Callable[[Outcome], None]
) -> list[Outcome]:
    """Wait up to `seconds` for what becomes of each; `progress` gets each outcome as it is known.

    Answers in the order of `uploaded`; what is not known in time stays UNKNOWN.
    """
    settled: dict[str, Outcome] = {}
    deadline = time.monotonic() + seconds
    pause = FIRST_POLL
    with explained(), ThreadPoolExecutor(CONNECTIONS) as pool:
        while True:
            pending = [each for each in uploaded if each.key not in settled]
            letters = _letters(stack, pending)
            for outcome in pool.map(partial(look, stack, partial(list, letters)), pending):
                if outcome.state is not State.UNKNOWN:
                    settled[outcome.key] = outcome
                    progress(outcome)
            if len(settled) == len(uploaded) or time.monotonic() >= deadline:
                return [settled.get(each.key, each) for each in uploaded]
            time.sleep(pause)
            pause = min(pause * 1.2, LAST_POLL)


def download(stack: Stack, outcome: Outcome, directory: Path) -> Outcome:
    """Put the thumbnails of `outcome` into `directory`, under their keys, and tell their paths.

    Raises CommandError for a key that leads out of `directory`.
    """
    fetched = []
    for thumbnail in outcome.thumbnails:
        path = directory / thumbnail.key.lstrip("/")
        if not path.resolve().is_relative_to(directory.resolve()):
            raise CommandError(f"{thumbnail.key} would be written outside of {directory}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with explained():
            stack.aws.s3.download_file(stack.settings.output_bucket, thumbnail.key, str(path))
        fetched.append(replace(thumbnail, path=path))
    return replace(outcome, thumbnails=fetched)


def _letters(stack: Stack, pending: list[Outcome]) -> list[Failure]:
    """Failures on the queue that may be of `pending`."""
    if not pending:
        return []
    return dead_letters.look(stack.aws.sqs, stack.settings.dead_letter_queue_url)


def look(stack: Stack, letters: Callable[[], list[Failure]], upload: Outcome) -> Outcome:
    """Tell what became of `upload` by now; letters are asked for where it has no thumbnails."""
    found = _thumbnails(stack, upload)
    if found.state is State.DONE:
        return found
    for letter in letters():
        same = (letter.bucket, letter.key) == (stack.input_bucket, upload.key)
        newer = letter.sent_at >= upload.uploaded_at  # not of an earlier, equal upload
        if same and newer and letter.etag in (upload.etag, None):
            return replace(upload, state=State.FAILED, failure=letter)
    return found


def _thumbnails(stack: Stack, upload: Outcome) -> Outcome:
    """The upload with all its thumbnails, or with whose they are, or as it was."""
    wanted = Provenance(upload.key, upload.etag, upload.uploaded_at, stack.settings.recipe)
    thumbnails = []
    for width in stack.settings.widths:
        key = stack.settings.thumbnail_key(upload.key, width)
        try:
            stored = stack.aws.s3.head_object(Bucket=stack.settings.output_bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] != "404":
                raise
            return upload
        found = Provenance.of(stored["Metadata"])
        if found is None or not found.same_picture_as(wanted):
            if found and found.key != upload.key and found.is_newer_than(wanted):
                return replace(upload, state=State.SUPERSEDED, superseded_by=found.key)
            return upload
        thumbnails.append(Thumbnail(width, key, stored["ContentLength"]))
    return replace(upload, state=State.DONE, thumbnails=thumbnails)


def lies(image: Image.Image) -> bool:
    """Whether a picture is stored on its side, by its EXIF orientation."""
    return image.getexif().get(ORIENTATION_TAG, 1) in (5, 6, 7, 8)


def _pixels(path: Path) -> tuple[int, int] | None:
    """Width and height of the upright picture, or None where it cannot be read here."""
    try:
        with Image.open(path) as image:
            return image.size[::-1] if lies(image) else image.size
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
