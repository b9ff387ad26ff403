"""Delete dead-letter messages for good, after a copy of them is safe on disk."""

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from itertools import batched, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from image_pipeline.errors import CommandError
from image_pipeline.stack import dead_letters
from image_pipeline.stack.aws import MAX_DELETED, aws_errors_explained, delete_objects
from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.deployed import Stack
from thumbnailer.dead_letters import mark_key

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

DELETING_SECONDS: Final = 120
"""Time for which messages are hidden while they are exported and deleted."""

type Export = Callable[[Sequence[Failure]], None]
"""Keeps failures before their messages are deleted. What it raises stops the deletion."""


@dataclass(frozen=True, slots=True)
class Discarded:
    """How many messages were deleted, and how many were not because another reader had them."""

    deleted: int
    kept: int


def discard(
    stack: Stack,
    message_ids: Collection[str],
    export: Export,
    searching: AbstractContextManager[object] | None = None,
) -> Discarded:
    """Export the messages `message_ids`, then delete them from the queues.

    Nothing is deleted unless `export` has returned. A later backfill reports these failures again,
    as after a replay. `searching` is held meanwhile: another read by the same process would hide
    the messages. Raises CommandError if AWS refuses; the messages that are not deleted yet stay.
    """
    wanted, sqs = set(message_ids), stack.aws.sqs
    found: dict[str, dict[str, MessageTypeDef]] = {}
    deleted = 0
    with searching or nullcontext(), ExitStack() as block:
        for queue in stack.queues:
            if not wanted:
                break
            block.enter_context(dead_letters.queue_errors_explained(queue))
            messages = block.enter_context(dead_letters.received(sqs, queue, wanted))
            for lost in dead_letters.hide(sqs, queue, list(messages.values()), DELETING_SECONDS):
                del messages[lost]
            wanted -= messages.keys()
            found[queue] = messages
        failures = [
            failure
            for messages in found.values()
            for message in messages.values()
            for failure in dead_letters.parse(message)
        ]
        if failures:
            export(failures)
            _clear_marks(stack, failures)
        for queue, messages in found.items():
            gone = dead_letters.delete(sqs, queue, list(messages.values()))
            for message_id in gone:
                del messages[message_id]
            deleted += len(gone)
    return Discarded(deleted, len(set(message_ids)) - deleted)


def _clear_marks(stack: Stack, failures: Iterable[Failure]) -> None:
    """Delete the marks that keep a backfill from reporting these failures again."""
    names = {mark_key(each.bucket, each.key) for each in failures if each.key}
    bucket = stack.settings.output_bucket
    with aws_errors_explained():
        for some in batched(sorted(names), MAX_DELETED, strict=False):
            try:
                delete_objects(stack.aws.s3, bucket, [{"Key": name} for name in some])
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchBucket":
                    return  # and so no marks
                raise
            except CommandError as error:
                raise CommandError(
                    f"s3://{bucket}/{error} Nothing was discarded. You need s3:DeleteObject on the "
                    "output bucket."
                ) from error


def json_lines(failures: Iterable[Failure]) -> Iterator[str]:
    """Yield one line of ASCII JSON for each message; its `body` can be sent to the queue again.

    A line describes the first failure of its message, and `keys` names those of all. The oldest
    message is the first one.
    """
    by_message = sorted(failures, key=lambda failure: (failure.sent_at, failure.message_id))
    for _, members in groupby(by_message, key=lambda failure: failure.message_id):
        first, *others = members
        keys = [each.key for each in (first, *others)]
        yield json.dumps(first.to_json() | {"keys": keys, "body": first.body}) + "\n"


def export_to(path: Path) -> Export:
    """Return what writes failures to the new file `path`, so that they survive a power failure.

    It raises CommandError if the file exists or cannot be written.
    """

    def export(failures: Sequence[Failure]) -> None:
        try:
            with path.open("x", encoding="ascii") as file:
                file.writelines(json_lines(failures))
                file.flush()
                os.fsync(file.fileno())
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # the file's name is an entry of its folder
            finally:
                os.close(folder)
        except FileExistsError:
            raise CommandError(
                f"{path} exists. Nothing was discarded. Name another file with --export."
            ) from None
        except OSError as error:
            raise CommandError(
                f"Cannot write {path}: {error.strerror}. Nothing was discarded. Name another file "
                "with --export."
            ) from error

    return export
