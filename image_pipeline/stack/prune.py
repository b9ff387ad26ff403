"""Find the objects of the output bucket that no original needs, and delete them.

What an object was made of is in its metadata. A listing of the input bucket tells whether that
original exists, and the stack's settings tell whether they still name the object. An object without
provenance was not written by this pipeline: it is only counted, unless it is to be adopted, because
it stands where the function would write.

Other writers are at work meanwhile. Each object is deleted only over the ETag that was read
(`If-Match`), and only if its original is still missing. The function's own writes change the ETag,
because the bytes of a thumbnail and of a manifest contain their provenance.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC
from enum import StrEnum
from functools import partial
from itertools import batched, chain
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from image_pipeline.errors import NotPermitted
from image_pipeline.stack.aws import (
    CONNECTIONS,
    aws_errors_explained,
    head_object,
    head_readable,
    is_missing,
    list_objects,
)
from image_pipeline.stack.backfill import LISTED
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.uploads import content_type
from thumbnailer.imaging import ENCODERS, ThumbnailSpec, parse_focus
from thumbnailer.provenance import Provenance
from thumbnailer.s3_codes import CHANGED_CODES
from thumbnailer.settings import RESERVED_PREFIX, Settings

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

PERMISSIONS: Final = (
    "s3:ListBucket and s3:GetObject on both buckets, and s3:DeleteObject on the output bucket; "
    "with --adopt also s3:PutObject there"
)

MAX_MANIFEST_BYTES: Final = 1024**2
"""Only the end of a larger object is read, which is no manifest: part of an object is not JSON. An
assumption: each size takes about 200 bytes."""


UNREADABLE_CODES: Final = CHANGED_CODES | {"InvalidObjectState", "InvalidRange"}
"""Codes with which S3 does not return a thumbnail: it has changed, is archived, or is empty.
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""


class Kind(StrEnum):
    """What an object of the output bucket is."""

    IN_USE = "in_use"
    """Its original exists, and current settings name it. A backfill brings it up to date."""
    NO_ORIGINAL = "no_original"
    EARLIER_SETTINGS = "earlier_settings"
    """Its original exists, or is outside the prefix, but current settings do not name it."""
    FOREIGN = "foreign"
    """Without provenance. A survey to adopt counts those of the next two kinds only there."""
    TO_TAKE_OVER = "to_take_over"
    """Without provenance, at a key of an existing original, with exactly the bytes made of it."""
    TO_REMAKE = "to_remake"
    """Without provenance, at a key of an existing original, with any other bytes."""


ORPHANED: Final = frozenset({Kind.NO_ORIGINAL, Kind.EARLIER_SETTINGS})
"""What a prune deletes, unless it adopts."""


class Outcome(StrEnum):
    """What happened to an object."""

    DELETED = "deleted"
    TAKEN_OVER = "taken_over"
    CHANGED = "changed"
    """Kept: the object or its original is no longer what it was."""
    GONE = "gone"
    """Somebody else deleted it. Or the reply to a delete that took effect was lost."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object of the output bucket; `size` in bytes, `etag` without quotes.

    `source` is the key of its original: the one that its metadata names. For one to adopt it is
    that of `wanted`, the provenance which the function would give to an object at this key.
    """

    key: str
    size: int
    etag: str
    kind: Kind
    source: str | None = None
    wanted: Provenance | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON for scripts."""
        return {
            "key": self.key,
            "bytes": self.size,
            "kind": self.kind.value,
            "source": self.source,
        }


@dataclass(slots=True)
class Survey:
    """The objects and bytes of each kind, and the number of originals that they are compared with.

    `pending` are the objects to delete or to take over. `shared` of those to delete stand at a key
    that another original needs; it is 0 in a survey to adopt.
    """

    originals: int = 0
    counts: Counter[Kind] = field(default_factory=Counter)
    sizes: Counter[Kind] = field(default_factory=Counter)
    pending: list[Found] = field(default_factory=list)
    shared: int = 0

    @property
    def objects(self) -> int:
        """Objects of all kinds."""
        return self.counts.total()

    def count(self, found: Found, times: int = 1) -> None:
        """Count an object, or with -1 no longer."""
        self.counts[found.kind] += times
        self.sizes[found.kind] += times * found.size


def survey(stack: Stack, prefix: str = "", *, adopt: bool = False) -> Iterator[Survey]:
    """Compare the output bucket under `prefix` with the originals and the settings of `stack`.

    Nothing is written. Orphaned objects are pending; with `adopt`, instead of them, those without
    provenance at the key of an existing original. Yields the sums so far, the same object, after
    every LISTED objects; only the last time they are complete, with `pending`.

    Raises CommandError if AWS refuses, NotPermitted if it denies a request.
    """
    settings = stack.settings
    wanted = {Kind.FOREIGN} if adopt else ORPHANED
    found = Survey()
    originals: set[str] = set()
    kept: dict[str, Found] = {}
    with _errors_explained(), ThreadPoolExecutor(CONNECTIONS) as pool:
        for keys in _listed(stack, stack.input_bucket, settings.input_prefix):
            originals.update(filter(settings.is_image_key, keys))
            found.originals = len(originals)
            yield found
        for keys in _listed(stack, settings.output_bucket, prefix):
            ours = [key for key in keys if not key.startswith(RESERVED_PREFIX)]
            for each in pool.map(partial(_describe, stack, originals), ours):
                if each:
                    found.count(each)
                    if each.kind in wanted:
                        kept[each.key] = each
            yield found
        named = _named(settings, originals, kept)
        if adopt:
            occupying = ((kept[key], named[key]) for key in kept if key in named)
            for batch in batched(occupying, LISTED, strict=False):
                for each in pool.map(partial(_to_adopt, stack), *zip(*batch, strict=True)):
                    if each:
                        found.count(kept[each.key], -1)
                        found.count(each)
                        found.pending.append(each)
        else:
            found.pending = list(kept.values())
            found.shared = len(named)
        yield found


def apply(stack: Stack, pending: Sequence[Found]) -> Iterator[tuple[Found, Outcome]]:
    """Delete or take over each object, unless it or its original has changed; yields its outcome.

    Manifests come first: where a manifest exists, all thumbnails that it names must exist. If the
    caller stops early, objects that have been started are finished, and the others stay.

    Raises CommandError if AWS refuses, NotPermitted if it denies a request.
    """
    manifests = [each for each in pending if each.key.endswith(".json")]
    others = [each for each in pending if not each.key.endswith(".json")]
    batches = chain(batched(manifests, LISTED, strict=False), batched(others, LISTED, strict=False))
    with _errors_explained(), ThreadPoolExecutor(CONNECTIONS) as pool:
        for batch in batches:
            yield from zip(batch, pool.map(partial(_settle, stack), batch), strict=True)


def _listed(stack: Stack, bucket: str, prefix: str) -> Iterator[tuple[str, ...]]:
    keys = (each["Key"] for each in list_objects(stack.aws.s3, bucket, prefix))
    return batched(keys, LISTED, strict=False)


def _describe(stack: Stack, originals: Container[str], key: str) -> Found | None:
    """Describe an object by one HEAD; None if it has been deleted since it was listed."""
    head = head_object(stack.aws.s3, stack.settings.output_bucket, key)
    if head is None:
        return None
    provenance = Provenance.of(head["Metadata"])
    return Found(
        key,
        head["ContentLength"],
        head["ETag"].strip('"'),
        _kind(stack.settings, originals, key, provenance),
        provenance.key if provenance else None,
    )


def _kind(
    settings: Settings, originals: Container[str], key: str, provenance: Provenance | None
) -> Kind:
    if provenance is None:
        return Kind.FOREIGN
    if not settings.is_image_key(provenance.key):  # the prefix was another one
        return Kind.EARLIER_SETTINGS
    if provenance.key not in originals:
        return Kind.NO_ORIGINAL
    return Kind.IN_USE if key in settings.outputs(provenance.key) else Kind.EARLIER_SETTINGS


def _named(
    settings: Settings, originals: Iterable[str], keys: Container[str]
) -> Mapping[str, list[str]]:
    """Return those of `keys` that current settings name, with the originals that they are for."""
    named = defaultdict(list)
    if keys:
        for source in originals:
            for key in settings.outputs(source):
                if key in keys:
                    named[key].append(source)
    return named


def _to_adopt(stack: Stack, found: Found, sources: Sequence[str]) -> Found | None:
    """Describe an object for the newest of the originals that need its key; None if all are gone.

    `wanted` is the provenance that the function would write.
    """
    existing = {key: head_readable(stack.aws.s3, stack.input_bucket, key) for key in sources}
    wanted = max(
        (_wanted(stack.settings, key, head, found.key) for key, head in existing.items() if head),
        key=lambda each: (each.modified, each.key),
        default=None,
    )
    if wanted is None:
        return None
    kind = Kind.TO_TAKE_OVER if _was_made_of(stack, found, wanted) else Kind.TO_REMAKE
    return replace(found, kind=kind, source=wanted.key, wanted=wanted)


def _wanted(
    settings: Settings, source: str, head: "HeadObjectOutputTypeDef", key: str
) -> Provenance:
    """Return the provenance of the output `key` of an original; `head` describes the original."""
    etag, modified = head["ETag"].strip('"'), head["LastModified"].astimezone(UTC)
    focus, _ = settings.focus(head["Metadata"])
    return settings.provenances(source, etag, modified, focus)[key]


def _spec(settings: Settings, found: Found, source: str) -> ThumbnailSpec | None:
    """The thumbnail of `source` whose key an object has; None if it is the manifest's."""
    specs = {
        settings.thumbnail_key(source, spec.size, spec.format): spec for spec in settings.specs
    }
    return specs.get(found.key)


def _was_made_of(stack: Stack, found: Found, wanted: Provenance) -> bool:
    """Whether the bytes of an object are what the function wrote for `wanted`.

    A thumbnail ends with the mark of its provenance. A manifest contains it.
    """
    spec = _spec(stack.settings, found, wanted.key)
    if spec:
        ending = ENCODERS[spec.format].mark_ending(wanted.digest())
        return _read_end(stack, found, len(ending)) == ending
    try:
        content = json.loads(_read_end(stack, found, MAX_MANIFEST_BYTES))
    except ValueError:
        return False
    match content:
        case {"recipe": recipe, "source": {"key": key, "etag": etag, "modified": modified}}:
            given = (wanted.key, wanted.etag, wanted.modified.isoformat(), wanted.fingerprint)
            focus = list(parse_focus(wanted.focus)) if wanted.focus else None
            return (key, etag, modified, recipe, content.get("focus")) == (*given, focus)
    return False


def _read_end(stack: Stack, found: Found, size: int) -> bytes:
    """Read the last `size` bytes; nothing if the object has changed, is archived or is empty."""
    try:
        answer = stack.aws.s3.get_object(
            Bucket=stack.settings.output_bucket,
            Key=found.key,
            Range=f"bytes=-{size}",
            IfMatch=_quoted(found.etag),
        )
    except ClientError as error:
        if is_missing(error) or error.response["Error"]["Code"] in UNREADABLE_CODES:
            return b""
        raise
    return answer["Body"].read()


def _settle(stack: Stack, found: Found) -> Outcome:
    """Delete an object or take it over, if it and its original are still what they were."""
    if not _still_pending(stack, found):
        return Outcome.CHANGED
    try:
        if found.kind is Kind.TO_TAKE_OVER:
            _take_over(stack, found)
            return Outcome.TAKEN_OVER
        stack.aws.s3.delete_object(
            Bucket=stack.settings.output_bucket, Key=found.key, IfMatch=_quoted(found.etag)
        )
    except ClientError as error:
        if is_missing(error):
            return Outcome.GONE
        if error.response["Error"]["Code"] in CHANGED_CODES:
            return Outcome.CHANGED
        raise
    return Outcome.DELETED


def _still_pending(stack: Stack, found: Found) -> bool:
    """Whether the original is as it was. Names of earlier settings do not depend on it."""
    if found.kind is Kind.EARLIER_SETTINGS or found.source is None:
        return True
    head = head_object(stack.aws.s3, stack.input_bucket, found.source)
    if found.wanted is None:
        return head is None
    return (
        head is not None and _wanted(stack.settings, found.source, head, found.key) == found.wanted
    )


def _take_over(stack: Stack, found: Found) -> None:
    """Give an object its metadata, by a copy in place over the ETag that was read."""
    settings, wanted = stack.settings, found.wanted
    assert wanted  # noqa: S101 - of this kind
    spec = _spec(settings, found, wanted.key)
    etag = _quoted(found.etag)
    stack.aws.s3.copy_object(
        Bucket=settings.output_bucket,
        Key=found.key,
        CopySource={"Bucket": settings.output_bucket, "Key": found.key},
        CopySourceIfMatch=etag,
        IfMatch=etag,
        MetadataDirective="REPLACE",
        Metadata=wanted.to_metadata(),
        ContentType=ENCODERS[spec.format].content_type if spec else content_type(found.key),
        CacheControl=settings.cache_control,
    )


def _quoted(etag: str) -> str:
    return f'"{etag}"'


@contextmanager
def _errors_explained() -> Iterator[None]:
    try:
        with aws_errors_explained():
            yield
    except NotPermitted as error:
        raise NotPermitted(f"{error} The command needs {PERMISSIONS}.") from error
