"""S3 as the pipeline knows it: objects, etags, times in whole seconds, conditional writes.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from simulation.wire import Answer, Request


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What lies at a key."""

    etag: str
    modified: datetime
    body: bytes
    metadata: dict[str, str]


@lru_cache(maxsize=4096)
def etag_of(body: bytes) -> str:
    """The etag that S3 gives these bytes, without quotes."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


class S3:
    """Two or more buckets. `clock` tells the time; `changes` counts what took effect."""

    def __init__(self, buckets: tuple[str, ...], clock: Callable[[], datetime]) -> None:
        self.buckets: dict[str, dict[str, StoredObject]] = {name: {} for name in buckets}
        self._clock = clock
        self.changes = 0

    def handle(self, request: Request) -> Answer:
        """Answer one request, whole and at once: S3 is consistent from the reply on."""
        objects = self.buckets.get(request.bucket)
        if objects is None:
            return Answer(404, "NoSuchBucket")
        existing = objects.get(request.key)
        if request.if_none_match and existing:
            return Answer(412, "PreconditionFailed")
        if request.if_match is not None:
            if existing is None:
                return Answer(404, "NoSuchKey")
            if existing.etag != request.if_match:
                return Answer(412, "PreconditionFailed")
        return getattr(self, f"_{request.method.lower()}")(objects, existing, request)

    def _get(self, _: object, existing: StoredObject | None, __: object) -> Answer:
        if existing is None:
            return Answer(404, "NoSuchKey")
        return Answer(
            etag=existing.etag,
            modified=existing.modified,
            body=existing.body,
            metadata=existing.metadata,
        )

    _head = _get

    def _put(self, objects: dict[str, StoredObject], _: object, request: Request) -> Answer:
        self.changes += 1
        etag = etag_of(request.body)
        modified = self._clock().replace(microsecond=0)
        objects[request.key] = StoredObject(etag, modified, request.body, request.metadata)
        return Answer(etag=etag)

    def _delete(
        self, objects: dict[str, StoredObject], existing: StoredObject | None, request: Request
    ) -> Answer:
        if existing is not None:
            self.changes += 1
            del objects[request.key]
        return Answer(204)
