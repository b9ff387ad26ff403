"""A bucket in memory, with S3's conditional writes and a hook for every request."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from thumbnailer.storage import Headers, Listing, Object, State, Stored


class MemoryBucket:
    """An implementation of `storage.Bucket`.

    `before(request, key)` is called before each request, and `after` once it took effect. Both may
    raise an error, or change the bucket as another client would. `requests` lists all requests in
    order. Each write advances the time by `tick`.
    """

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.objects: dict[str, tuple[State, bytes]] = {}
        self.requests: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda _request, _key: None
        self.after: Callable[[str, str], None] = lambda _request, _key: None
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.tick = timedelta(seconds=1)

    def upload(self, key: str, body: bytes, headers: Headers | None = None) -> State:
        """Write without a condition and without hooks, as a user does."""
        self.now += self.tick
        state = State(
            etag=hashlib.md5(body, usedforsecurity=False).hexdigest(),
            modified=self.now,
            size=len(body),
            metadata=dict(headers.metadata) if headers else {},
        )
        self.objects[key] = (state, body)
        return state

    def get(self, key: str) -> Stored | None:
        """See storage.Bucket."""
        self._begin("get", key)
        found = self.objects.get(key)
        self.after("get", key)
        return None if found is None else Stored(found[0], lambda: found[1])

    def head(self, key: str) -> State | None:
        """See storage.Bucket."""
        self._begin("head", key)
        found = self.objects.get(key)
        self.after("head", key)
        return None if found is None else found[0]

    def put(self, new: Object, *, replacing: str | None) -> bool:
        """See storage.Bucket."""
        self._begin("put", new.key)
        existing = self.objects.get(new.key)
        if (existing[0].etag if existing else None) != replacing:
            return False
        self.upload(*new)
        self.after("put", new.key)
        return True

    def create(self, new: Sequence[Object]) -> list[bool]:
        """See storage.Bucket; the objects are written one after another."""
        created: list[bool] = []
        errors: list[Exception] = []
        for each in new:
            try:
                created.append(self.put(each, replacing=None))
            except Exception as error:  # noqa: BLE001 - hooks may raise any error
                errors.append(error)
        for error in errors:
            raise error
        return created

    def delete(self, key: str, *, replacing: str) -> bool:
        """See storage.Bucket."""
        self._begin("delete", key)
        existing = self.objects.get(key)
        if existing is None or existing[0].etag != replacing:
            return False
        del self.objects[key]
        self.after("delete", key)
        return True

    def list_keys(self, prefix: str, limit: int) -> Listing:
        """See storage.Bucket."""
        self._begin("list", prefix)
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        self.after("list", prefix)
        return Listing(tuple(keys[:limit]), len(keys) > limit)

    def head_all(self, keys: Sequence[str]) -> list[State | None]:
        """See storage.Bucket; the requests are made one after another."""
        return [self.head(key) for key in keys]

    def _begin(self, request: str, key: str) -> None:
        self.requests.append((request, key))
        self.before(request, key)
