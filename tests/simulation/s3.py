"""S3 as the pipeline uses it: objects, etags, times in whole seconds, conditional writes.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from simulation.wire import Request, Response


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in a bucket. `etag` has no quotes; `modified` is in UTC."""

    etag: str
    modified: datetime
    body: bytes
    metadata: dict[str, str]


@lru_cache(maxsize=4096)
def etag_of(body: bytes) -> str:
    """The etag that S3 gives to these bytes, without quotes."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


class S3:
    """Several buckets. `clock` returns the time; `changes` counts the requests that took effect."""

    def __init__(self, buckets: tuple[str, ...], clock: Callable[[], datetime]) -> None:
        self.buckets: dict[str, dict[str, StoredObject]] = {name: {} for name in buckets}
        self._versions: dict[tuple[str, str], list[StoredObject | None]] = {}
        """(bucket, key) → everything that it ever was; None is a delete marker."""
        self._clock = clock
        self.changes = 0

    def handle(self, request: Request) -> Response:
        """Handle one request completely and at once: S3 is strongly consistent."""
        objects = self.buckets.get(request.bucket)
        if objects is None:
            return Response(404, "NoSuchBucket")
        if request.method == "LIST":
            return self._list(objects, request)
        existing = objects.get(request.key)
        if request.if_none_match and existing:
            return Response(412, "PreconditionFailed")
        if request.if_match is not None:
            if existing is None:
                return Response(404, "NoSuchKey")
            if existing.etag != request.if_match:
                return Response(412, "PreconditionFailed")
        response: Response = getattr(self, f"_{request.method.lower()}")(objects, existing, request)
        versions = self._versions.setdefault((request.bucket, request.key), [])
        if request.method in ("PUT", "DELETE"):
            versions.append(objects.get(request.key))
        return response

    def remove_version(self, bucket: str, key: str) -> None:
        """Delete the latest version of an object, or its delete marker, as in a versioned bucket.

        What was there before becomes current, with the time and the etag that it had.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/RemDelMarker.html
        """
        self.changes += 1
        versions = self._versions.get((bucket, key), [])
        if versions:
            versions.pop()
        self.buckets[bucket].pop(key, None)
        if versions and versions[-1] is not None:
            self.buckets[bucket][key] = versions[-1]

    @staticmethod
    def _list(objects: dict[str, StoredObject], request: Request) -> Response:
        found = (key for key in objects if key.startswith(request.key))
        keys = sorted(found)  # by code points, which is the order of the bytes in UTF-8
        return Response(keys=tuple(keys[: request.limit]), more=len(keys) > request.limit)

    def _get(self, _: object, existing: StoredObject | None, __: object) -> Response:
        if existing is None:
            return Response(404, "NoSuchKey")
        return Response(
            etag=existing.etag,
            modified=existing.modified,
            body=existing.body,
            metadata=existing.metadata,
        )

    _head = _get

    def _put(self, objects: dict[str, StoredObject], _: object, request: Request) -> Response:
        self.changes += 1
        etag = etag_of(request.body)
        modified = self._clock().replace(microsecond=0)
        objects[request.key] = StoredObject(etag, modified, request.body, request.metadata)
        return Response(etag=etag)

    def _delete(
        self, objects: dict[str, StoredObject], existing: StoredObject | None, request: Request
    ) -> Response:
        if existing is not None:
            self.changes += 1
            del objects[request.key]
        return Response(204)
