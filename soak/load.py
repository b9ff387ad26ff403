"""Uploads at the local stack's best rate: no faster than thumbnails come, or it would drown."""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from image_pipeline.stack import dead_letters
from image_pipeline.stack.deployed import Stack
from soak.plan import Upload

UPLOADERS: Final = 8
AHEAD: Final = 2
"""Folders that may be under way at once."""

POLL: Final = 0.2
QUIET_SECONDS: Final = 3.0
"""For so long nothing may change before all is taken for done: the local Lambda tries an event
again after 1 and 2 seconds."""


def send(
    stack: Stack,
    folders: Iterable[Sequence[Upload]],
    seed: int,
    patience: float,
    progress: Callable[[int], None],
) -> None:
    """Upload folder by folder; `progress` gets how many uploads of one are settled, as they are.

    A folder of which something is missing after `patience` seconds is left behind: the accounts
    tell at the end what became of it.
    """
    under_way: list[tuple[Sequence[Upload], float]] = []
    with ThreadPoolExecutor(UPLOADERS) as pool:
        for number, folder in enumerate(folders):
            while len(under_way) >= AHEAD:
                under_way = _unsettled(stack, under_way, patience, progress)
                time.sleep(POLL)
            list(pool.map(lambda each, number=number: _send(stack, each, seed + number), folder))
            under_way.append((folder, time.monotonic()))
        while under_way:
            under_way = _unsettled(stack, under_way, patience, progress)
            time.sleep(POLL)


def settle(stack: Stack, seconds: float) -> None:
    """Wait until neither thumbnails nor letters have changed for QUIET_SECONDS.

    Raises TimeoutError if they still change after `seconds`.
    """
    deadline = time.monotonic() + seconds
    before, since = _state(stack), time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        if time.monotonic() > deadline:
            raise TimeoutError(f"It does not come to rest within {seconds:.0f} s")
        time.sleep(POLL)
        now = _state(stack)
        if now != before:
            before, since = now, time.monotonic()


def _send(stack: Stack, upload: Upload, seed: int) -> None:
    """Give a key its bodies in turn, at once or while the function is at work on the one before."""
    rng = random.Random(f"{seed} {upload.key}")  # noqa: S311 - to be replayed
    for number, body in enumerate(upload.bodies):
        if number:
            time.sleep(rng.choice((0, 0.01, 0.1)))
        if body is None:
            stack.aws.s3.delete_object(Bucket=stack.input_bucket, Key=upload.key)
        else:
            stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=upload.key, Body=body)


def _unsettled(
    stack: Stack,
    under_way: list[tuple[Sequence[Upload], float]],
    patience: float,
    progress: Callable[[int], None],
) -> list[tuple[Sequence[Upload], float]]:
    left = []
    for folder, since in under_way:
        directory = stack.settings.thumbnail_key(folder[0].key, 1).rpartition("/")[0]
        listed = stack.aws.s3.list_objects_v2(
            Bucket=stack.settings.output_bucket, Prefix=f"{directory}/"
        )
        awaited = sum(each.sound for each in folder) * len(stack.settings.widths)
        if listed["KeyCount"] >= awaited or time.monotonic() - since > patience:
            progress(len(folder))
        else:
            left.append((folder, since))
    return left


def _state(stack: Stack) -> tuple[int, ...]:
    """What changes as long as the function works: objects with their etags and times, letters."""
    pages = stack.aws.s3.get_paginator("list_objects_v2").paginate(
        Bucket=stack.settings.output_bucket
    )
    objects = hash(
        tuple(
            (each["Key"], each["ETag"], each["LastModified"])
            for page in pages
            for each in page.get("Contents", [])
        )
    )
    return objects, *(dead_letters.depth(stack.aws.sqs, queue) for queue in stack.queues)
