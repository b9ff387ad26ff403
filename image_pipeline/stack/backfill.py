"""Images that were there before the pipeline: what a backfill would do, and what one did."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from itertools import batched, islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from image_pipeline.stack.deployed import CONNECTIONS, Stack, explained
from thumbnailer.provenance import Provenance
from thumbnailer.settings import MAX_KEY_BYTES

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectTypeDef


class State(Enum):
    """What a backfill would do with an object."""

    TO_MAKE = auto()
    CURRENT = auto()
    SKIPPED = auto()


@dataclass(frozen=True, slots=True)
class Survey:
    """The objects under a prefix, and what of them is to be made; sizes in bytes.

    `skipped` are folder markers, and those whose thumbnails' names a newer object has. `beyond`
    says that there are more objects than were looked at.
    """

    objects: int = 0
    size: int = 0
    to_make: int = 0
    to_make_size: int = 0
    current: int = 0
    skipped: int = 0
    beyond: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What a backfill did: images made, current before, skipped, and failed, with a letter each.

    `unreported` are batches that ended without a letter for each of their failures, and why.
    """

    made: int = 0
    current: int = 0
    skipped: int = 0
    failed: int = 0
    unreported: tuple[str, ...] = ()


def survey(stack: Stack, prefix: str, maximum: int, progress: Callable[[int], None]) -> Survey:
    """Look at up to `maximum` objects under `prefix`, by lists and HEADs alone.

    `progress` is told how many more were looked at.
    """
    found = Survey()
    listed = _listed(stack, prefix)
    with explained(), ThreadPoolExecutor(CONNECTIONS) as pool:
        for some in batched(islice(listed, maximum), 1000, strict=False):
            states = list(pool.map(partial(_state, stack), some))
            missing = [
                each for each, state in zip(some, states, strict=True) if state is State.TO_MAKE
            ]
            found = replace(
                found,
                objects=found.objects + len(some),
                size=found.size + sum(each["Size"] for each in some),
                to_make=found.to_make + len(missing),
                to_make_size=found.to_make_size + sum(each["Size"] for each in missing),
                current=found.current + states.count(State.CURRENT),
                skipped=found.skipped + states.count(State.SKIPPED),
            )
            progress(len(some))
        return replace(found, beyond=next(listed, None) is not None)


def results(stack: Stack, output: dict[str, Any]) -> Done:
    """Add up what the batches of a backfill wrote; `output` is the state machine's.

    https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html
    """
    where = output["ResultWriterDetails"]
    manifest = _fetched(stack, where["Bucket"], where["Key"])
    done = Done()
    for file in manifest["ResultFiles"]["SUCCEEDED"]:
        for batch in _fetched(stack, where["Bucket"], file["Key"]):
            told = json.loads(batch["Output"])
            done = replace(
                done,
                made=done.made + told["made"],
                current=done.current + told["current"],
                skipped=done.skipped + told["skipped"],
                failed=done.failed + told["failed"],
            )
    for file in manifest["ResultFiles"]["FAILED"]:
        for batch in _fetched(stack, where["Bucket"], file["Key"]):
            reason = f"{batch.get('Error', '')}: {batch.get('Cause', '')}"
            done = replace(done, unreported=(*done.unreported, reason))
    return done


def _listed(stack: Stack, prefix: str) -> Iterator["ObjectTypeDef"]:
    pages = stack.aws.s3.get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=stack.input_bucket, Prefix=prefix):
        yield from page.get("Contents", [])


def _state(stack: Stack, source: "ObjectTypeDef") -> State:
    """What a backfill would do with an object, by HEADs, as the function finds it out."""
    if source["Key"].endswith("/"):
        return State.SKIPPED
    for key, recipe in stack.settings.recipes(source["Key"]).items():
        if len(key.encode()) > MAX_KEY_BYTES:
            return State.TO_MAKE  # which fails, and says why in a letter
        ours = Provenance(source["Key"], source["ETag"].strip('"'), source["LastModified"], recipe)
        try:
            stored = stack.aws.s3.head_object(Bucket=stack.settings.output_bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] == "404":
                return State.TO_MAKE
            raise
        theirs = Provenance.of(stored["Metadata"])
        if theirs and theirs.key != ours.key and theirs.is_newer_than(ours):
            return State.SKIPPED
        if theirs is None or not theirs.same_picture_as(ours):
            return State.TO_MAKE
    return State.CURRENT


def _fetched(stack: Stack, bucket: str, key: str) -> Any:
    with explained():
        return json.loads(stack.aws.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
