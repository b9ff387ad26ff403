"""A sample of the originals in a stack's input bucket, by list and GET requests alone."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from image_pipeline.stack.aws import aws_errors_explained, is_missing, list_objects
from image_pipeline.stack.aws_errors import DENIED_CODES
from image_pipeline.stack.backfill import ARCHIVES
from image_pipeline.stack.deployed import Stack
from thumbnailer.content_encoding import decoded
from thumbnailer.errors import (
    PipelineError,
    SourceArchived,
    SourceEncrypted,
    StorageDenied,
    StorageUnavailable,
)
from thumbnailer.imaging import Point, check_file_size, parse_focus
from thumbnailer.settings import FOCUS

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, ObjectTypeDef

REPORTED: Final = 1000
"""Objects between two reports of a listing: those of one answer of S3."""


class Sampler[T]:
    """Chooses items of a stream of unknown length, spread over it, the same ones each time.

    The stream is divided into blocks of equal length, and a block keeps one of its items at random.
    When there are `2 * number` blocks, each two neighbours become one, which keeps the item of
    either. So all items have the same chance, and at most `2 * number` are in memory.
    """

    def __init__(self, number: int, seed: int) -> None:
        self._number = number
        self._random = random.Random(seed)  # noqa: S311 - a sample, not a secret
        self._blocks: list[T] = []
        self._length = 1
        self._last: list[T] = []
        """The item of the block that has not ended, and how many it has had."""
        self._seen_in_last = 0

    def add(self, item: T) -> None:
        """Take the next item of the stream."""
        self._seen_in_last += 1
        if self._random.randrange(self._seen_in_last) == 0:
            self._last = [item]
        if self._seen_in_last == self._length:
            self._blocks += self._last
            self._last, self._seen_in_last = [], 0
        if len(self._blocks) == 2 * self._number:
            pairs = zip(self._blocks[::2], self._blocks[1::2], strict=True)
            self._blocks = [self._random.choice(pair) for pair in pairs]
            self._length *= 2

    def chosen(self) -> list[T]:
        """Return at most `number` items in the order of the stream, as far apart as possible."""
        found = [*self._blocks, *self._last]
        if len(found) <= self._number:
            return found
        step = len(found) / self._number
        start = self._random.random() * step
        return [found[int(start + step * index)] for index in range(self._number)]


@dataclass(frozen=True, slots=True)
class Listing:
    """The images under a prefix, their bytes, and the sample of them.

    `archived` are objects in ARCHIVES, which are not among the images.
    """

    images: int = 0
    size: int = 0
    archived: int = 0
    sample: tuple["ObjectTypeDef", ...] = ()


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of an original, and the focus in its metadata."""

    data: bytes
    focus: Point | None


def survey(stack: Stack, prefix: str, number: int, seed: int) -> Iterator[Listing]:
    """List the objects under `prefix`, and choose `number` of the images.

    Yields the counts so far after every REPORTED objects; the last ones are complete, with the
    sample. Raises CommandError if AWS refuses.
    """
    found = Listing()
    sampler: Sampler[ObjectTypeDef] = Sampler(number, seed)
    with aws_errors_explained():
        for count, listed in enumerate(list_objects(stack.aws.s3, stack.input_bucket, prefix), 1):
            if listed.get("StorageClass") in ARCHIVES:
                found = replace(found, archived=found.archived + 1)
            elif stack.settings.is_image_key(listed["Key"]):
                sampler.add(listed)
                found = replace(found, images=found.images + 1, size=found.size + listed["Size"])
            if count % REPORTED == 0:
                yield found
    yield replace(found, sample=tuple(sampler.chosen()))


def read(stack: Stack, listed: "ObjectTypeDef") -> Body:
    """Read an original as the function does.

    Raises PermanentError for one that the function could not process, StorageDenied for one that a
    policy does not let you read, and StorageUnavailable for one that is gone or was not received.
    """
    key, memory_mb = listed["Key"], stack.settings.memory_mb
    where = f"s3://{stack.input_bucket}/{key}"
    check_file_size(listed["Size"], memory_mb)
    try:
        found = stack.aws.s3.get_object(Bucket=stack.input_bucket, Key=key)
        data = found["Body"].read()
    except ClientError as error:
        if is_missing(error):
            raise StorageUnavailable(f"{where} was deleted meanwhile.") from error
        raise _refusal(error)(f"{where}: {error}") from error
    except (BotoCoreError, HTTPClientError) as error:
        raise StorageUnavailable(f"{where}: {error}") from error
    return Body(decoded(data, found.get("ContentEncoding", ""), memory_mb), _focus(found))


def _refusal(error: ClientError) -> type[PipelineError]:
    """The kind of error that S3's refusal of a GET is to the function.

    `thumbnailer.storage`, which says so too, needs a library that only the function has.
    """
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code == "InvalidObjectState":
        return SourceArchived
    if code == "InvalidRequest" and "Server Side Encryption" in message:
        return SourceEncrypted
    return StorageDenied if DENIED_CODES.search(code) else StorageUnavailable


def _focus(found: "GetObjectOutputTypeDef") -> Point | None:
    """The focus in an original's metadata; None where there is none, or a wrong one."""
    try:
        return parse_focus(found["Metadata"][FOCUS])
    except (KeyError, ValueError):
        return None
