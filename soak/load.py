"""Uploads as fast as the local stack makes thumbnails; faster would only fill its queue."""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from image_pipeline.stack import dead_letters
from image_pipeline.stack.aws import list_objects
from image_pipeline.stack.deployed import Stack
from soak.plan import Upload

MAX_UPLOADERS: Final = 8
"""Concurrent uploads, an assumption."""

MAX_FOLDERS: Final = 2
"""Folders whose uploads may be in progress at the same time."""

POLL_SECONDS: Final = 0.2
QUIET_SECONDS: Final = 3.0
"""Time without a change after which all work counts as done: the local Lambda retries an event
after 1 and 2 seconds."""


def send(
    stack: Stack,
    folders: Iterable[Sequence[Upload]],
    seed: int,
    patience: float,
    progress: Callable[[int], None],
) -> None:
    """Upload folder by folder; call `progress` with the number of uploads of each finished folder.

    A folder without all its thumbnails after `patience` seconds counts as finished: the
    reconciliation at the end reports what is missing.
    """
    in_progress: list[tuple[Sequence[Upload], float]] = []
    with ThreadPoolExecutor(MAX_UPLOADERS) as pool:
        for number, folder in enumerate(folders):
            while len(in_progress) >= MAX_FOLDERS:
                in_progress = _unsettled(stack, in_progress, patience, progress)
                time.sleep(POLL_SECONDS)
            list(pool.map(lambda each, number=number: _send(stack, each, seed + number), folder))
            in_progress.append((folder, time.monotonic()))
        while in_progress:
            in_progress = _unsettled(stack, in_progress, patience, progress)
            time.sleep(POLL_SECONDS)


def settle(stack: Stack, seconds: float) -> None:
    """Wait until thumbnails and queues have not changed for QUIET_SECONDS.

    Raises TimeoutError if they still change after `seconds`.
    """
    deadline = time.monotonic() + seconds
    before, since = _state(stack), time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        if time.monotonic() > deadline:
            raise TimeoutError(f"Thumbnails or messages still change after {seconds:.0f} s")
        time.sleep(POLL_SECONDS)
        now = _state(stack)
        if now != before:
            before, since = now, time.monotonic()


def _send(stack: Stack, upload: Upload, seed: int) -> None:
    """Upload the bodies of a key, at once or while the function processes the previous one."""
    rng = random.Random(f"{seed} {upload.key}")  # noqa: S311 - reproducible, not secret
    for number, body in enumerate(upload.bodies):
        if number:
            time.sleep(rng.choice((0, 0.01, 0.1)))
        if body is None:
            stack.aws.s3.delete_object(Bucket=stack.input_bucket, Key=upload.key)
        else:
            stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=upload.key, Body=body)


def _unsettled(
    stack: Stack,
    in_progress: list[tuple[Sequence[Upload], float]],
    patience: float,
    progress: Callable[[int], None],
) -> list[tuple[Sequence[Upload], float]]:
    """The folders that are still in progress."""
    left = []
    for folder, since in in_progress:
        first = stack.settings.specs[0]
        key = stack.settings.thumbnail_key(folder[0].key, first.size, first.format)
        directory = key.rpartition("/")[0]
        listed = stack.aws.s3.list_objects_v2(
            Bucket=stack.settings.output_bucket, Prefix=f"{directory}/"
        )
        expected = sum(each.sound for each in folder) * len(stack.settings.specs)
        if listed["KeyCount"] >= expected or time.monotonic() - since > patience:
            progress(len(folder))
        else:
            left.append((folder, since))
    return left


def _state(stack: Stack) -> tuple[int, ...]:
    """A value that changes while the function works: a hash of the output, and queue lengths."""
    objects = hash(
        tuple(
            (each["Key"], each["ETag"], each["LastModified"])
            for each in list_objects(stack.aws.s3, stack.settings.output_bucket)
        )
    )
    return objects, *(dead_letters.depth(stack.aws.sqs, queue) for queue in stack.queues)
