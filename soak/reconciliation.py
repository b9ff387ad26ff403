"""The accounts: every upload has its thumbnails or a letter, and nothing else is there."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from image_pipeline.stack.aws import CONNECTIONS
from image_pipeline.stack.dead_letters import Failure, failures
from image_pipeline.stack.deployed import Stack
from soak.plan import Upload
from thumbnailer.provenance import LONG_AGO, Provenance

MOST_LETTERS = 100_000


@dataclass
class Accounts:
    """What was counted, and every fault in words; a run is right with no faults.

    `stale_letters` are of bodies that were replaced while their letter was on its way: they are
    right too, for nobody can tell before. `needless_letters` say of an upload that it failed for
    now, though its thumbnails are there: a reply was lost, or came late. A replay takes them away;
    without faults there must be none.
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
    """Hold what is in both buckets and on the queues against what was uploaded.

    Takes a GET of every upload's head and of every thumbnail's.
    """
    accounts = Accounts(uploads=len(uploads))
    letters: defaultdict[str, list[Failure]] = defaultdict(list)
    for letter in failures(stack, MOST_LETTERS):
        letters[letter.key].append(letter)
    sources = dict(_listed(stack, stack.input_bucket, stack.settings.input_prefix))
    thumbnails = dict(_listed(stack, stack.settings.output_bucket, ""))
    planned = {each.key: each for each in uploads}
    accounts.faults += [f"{key}: nobody uploaded it" for key in sources if key not in planned]
    accounts.faults += [
        f"{key}: its letter is lost in the accounts" for key in letters.keys() - planned
    ]
    accounts.thumbnails = len(thumbnails)
    accounts.letters = sum(map(len, letters.values()))
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        heads = pool.map(lambda key: _provenance(stack, key), thumbnails)
        told = dict(zip(thumbnails, heads, strict=True))
    for upload in uploads:
        etag = _etag(upload.last)
        current = [each for each in letters[upload.key] if each.etag in (etag, None)]
        accounts.stale_letters += len(letters[upload.key]) - len(current)
        accounts.needless_letters += upload.sound * sum(not each.permanent for each in current)
        accounts.doubled_letters += max(len(current) - 1, 0)
        keys = [stack.settings.thumbnail_key(upload.key, width) for width in stack.settings.widths]
        wanted = Provenance(upload.key, etag or "", LONG_AGO, stack.settings.recipe)
        faults = [
            *_of_source(upload, sources.get(upload.key)),
            *(
                fault
                for key in keys
                for fault in _of_thumbnail(upload, wanted, told.pop(key, None))
            ),
            *_of_letters(upload, current),
        ]
        accounts.faults += [f"{upload.key}: {fault}" for fault in faults]
        progress()
    accounts.faults += [f"{key}: a thumbnail of no upload" for key in told]
    return accounts


def _of_source(upload: Upload, etag: str | None) -> Iterator[str]:
    if etag != _etag(upload.last):
        yield f"the bucket holds {etag}, not {_etag(upload.last)}"


def _of_thumbnail(upload: Upload, wanted: Provenance, found: Provenance | None) -> Iterator[str]:
    if not upload.sound:
        if found:
            yield f"a thumbnail should not be there: it is of {found.etag}"
    elif found is None:
        yield "a thumbnail is missing, or says nothing of its source"
    elif not found.same_picture_as(wanted):
        yield f"a thumbnail is of {found}, not of {wanted.etag}"


def _of_letters(upload: Upload, current: Sequence[Failure]) -> Iterator[str]:
    """`current` letters are of the bytes that the bucket holds now."""
    if upload.last is not None and not upload.sound and not current:
        yield "it can have no thumbnails, and no letter names it"
    for letter in current:
        if upload.sound and letter.permanent:
            yield f"it is an image, and a letter says for good that it is none: {letter.error_type}"


def _etag(body: bytes | None) -> str | None:
    """What S3 tells of an object of one part."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest() if body is not None else None


def _listed(stack: Stack, bucket: str, prefix: str) -> Iterator[tuple[str, str]]:
    """Keys and etags."""
    pages = stack.aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for each in page.get("Contents", []):
            yield each["Key"], each["ETag"].strip('"')


def _provenance(stack: Stack, key: str) -> Provenance | None:
    found = stack.aws.s3.head_object(Bucket=stack.settings.output_bucket, Key=key)
    return Provenance.of(found["Metadata"])
