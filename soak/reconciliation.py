"""Checks that each upload has its thumbnails or a dead-letter message, and nothing else exists."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from image_pipeline.stack.aws import CONNECTIONS, list_objects
from image_pipeline.stack.dead_letters import Failure, failures
from image_pipeline.stack.deployed import Stack
from soak.plan import Upload
from thumbnailer.provenance import LONG_AGO, Provenance
from thumbnailer.settings import RESERVED_PREFIX

MAX_MESSAGES = 100_000
"""Messages to read from the queues: more than any run has."""


@dataclass
class Accounts:
    """Counts, and a description of every fault. Without faults, nothing was lost.

    `letters` counts all dead-letter messages, and three counts explain some of them:

    - `doubled_letters`: further messages about the same upload.
    - `stale_letters`: about bodies that were replaced while the message was sent, which the
      function cannot know.
    - `needless_letters`: about a transient failure of an upload that has its thumbnails, because a
      response was lost or late. A replay deletes them. Without injected faults there are none.
    """

    uploads: int = 0
    thumbnails: int = 0
    letters: int = 0
    doubled_letters: int = 0
    stale_letters: int = 0
    needless_letters: int = 0
    faults: list[str] = field(default_factory=list)


def reconcile(
    stack: Stack, uploads: Sequence[Upload], progress: Callable[[], None] = lambda: None
) -> Accounts:
    """Compare both buckets and the queues with what was uploaded.

    Lists the buckets and makes a HEAD request for every thumbnail. Calls `progress` after each
    upload.
    """
    accounts = Accounts(uploads=len(uploads))
    messages: defaultdict[str, list[Failure]] = defaultdict(list)
    for message in failures(stack, MAX_MESSAGES):
        messages[message.key].append(message)
    sources = dict(_listed(stack, stack.input_bucket, stack.settings.input_prefix))
    thumbnails = {
        key: etag
        for key, etag in _listed(stack, stack.settings.output_bucket, "")
        if not key.startswith(RESERVED_PREFIX)  # marks of failures
    }
    planned = {each.key: each for each in uploads}
    accounts.faults += [f"{key}: was not uploaded" for key in sources if key not in planned]
    accounts.faults += [
        f"{key}: a message names it, but it was not uploaded" for key in messages.keys() - planned
    ]
    accounts.thumbnails = len(thumbnails)
    accounts.letters = sum(map(len, messages.values()))
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        found = pool.map(lambda key: _provenance(stack, key), thumbnails)
        provenances = dict(zip(thumbnails, found, strict=True))
    for upload in uploads:
        etag = _etag(upload.last)
        current = [each for each in messages[upload.key] if each.etag in (etag, None)]
        accounts.stale_letters += len(messages[upload.key]) - len(current)
        accounts.needless_letters += upload.sound * sum(not each.permanent for each in current)
        accounts.doubled_letters += max(len(current) - 1, 0)
        outputs = stack.settings.provenances(upload.key, etag or "", LONG_AGO, "")
        faults = [
            *_faults_of_source(upload, sources.get(upload.key)),
            *(
                fault
                for key, expected in outputs.items()
                for fault in _faults_of_thumbnail(upload, expected, provenances.pop(key, None))
            ),
            *_faults_of_messages(upload, current),
        ]
        accounts.faults += [f"{upload.key}: {fault}" for fault in faults]
        progress()
    accounts.faults += [f"{key}: a thumbnail of no upload" for key in provenances]
    return accounts


def _faults_of_source(upload: Upload, etag: str | None) -> Iterator[str]:
    if etag != _etag(upload.last):
        yield f"the bucket has {etag} instead of {_etag(upload.last)}"


def _faults_of_thumbnail(
    upload: Upload, expected: Provenance, found: Provenance | None
) -> Iterator[str]:
    if not upload.sound:
        if found:
            yield f"a thumbnail of {found.etag} should not exist"
    elif found is None:
        yield "a thumbnail is missing or does not name its source"
    elif not found.same_picture_as(expected):
        yield f"a thumbnail is of {found} instead of {expected.etag}"


def _faults_of_messages(upload: Upload, current: Sequence[Failure]) -> Iterator[str]:
    """`current` are the messages about the bytes that are in the bucket now."""
    if upload.last is not None and not upload.sound and not current:
        yield "it is no image, and no message names it"
    for message in current:
        if upload.sound and message.permanent:
            yield f"it is an image, but a message reports a permanent error: {message.error_type}"


def _etag(body: bytes | None) -> str | None:
    """The etag that S3 gives to an object uploaded in one part, without quotes."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest() if body is not None else None


def _listed(stack: Stack, bucket: str, prefix: str) -> Iterator[tuple[str, str]]:
    """(key, etag) of the objects under a prefix; etags without quotes."""
    for each in list_objects(stack.aws.s3, bucket, prefix):
        yield each["Key"], each["ETag"].strip('"')


def _provenance(stack: Stack, key: str) -> Provenance | None:
    found = stack.aws.s3.head_object(Bucket=stack.settings.output_bucket, Key=key)
    return Provenance.of(found["Metadata"])
