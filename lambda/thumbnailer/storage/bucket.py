"""The interface of a bucket with conditional writes.

Semantics of the conditions:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from thumbnailer.errors import PermanentError, SourceArchived, SourceEncrypted

CONNECT_TIMEOUT: Final = 2.0
"""Seconds. S3 in the same region answers in milliseconds; a retry often reaches another host."""

MAX_WRITERS: Final = 16
"""Maximum parallel requests; further ones wait, such as those of 14 sizes in two formats."""


MAX_LISTED: Final = 1000
"""Keys in one answer of S3 (https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html)."""


ENCRYPTED: Final = "using a form of Server Side Encryption"
"""Part of S3's message (400 InvalidRequest) that refuses the GET of an object with SSE-C. The code
alone has other meanings
(https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList)."""


def unreadable(where: str, code: str, message: str) -> PermanentError | None:
    """Return the permanent error that S3's refusal of a GET means, or None if it may pass.

    Codes of GetObject: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html.
    """
    if code == "InvalidObjectState":
        return SourceArchived(
            f"{where} is archived (S3 Glacier Flexible Retrieval, Deep Archive, or an archive tier "
            "of Intelligent-Tiering), so it cannot be read. Restore it with aws s3api "
            "restore-object, wait until it is restored, then replay."
        )
    if code == "InvalidRequest" and ENCRYPTED in message:
        return SourceEncrypted(
            f"{where} is encrypted with a key that only its uploader has (SSE-C), so it cannot be "
            "read. Upload it without SSE-C: S3 encrypts it with a key of its own, or with a key of "
            "AWS KMS."
        )
    return None


class State(NamedTuple):
    """The state of an object: etag without quotes, UTC time, size in bytes, user metadata.

    `encoding` is its Content-Encoding, which S3 only stores: size and body are those of the encoded
    bytes.
    """

    etag: str
    modified: datetime
    size: int
    metadata: Mapping[str, str]
    encoding: str = ""


class Stored(NamedTuple):
    """An object whose body has not been read yet. `read` returns the whole body."""

    state: State
    read: Callable[[], bytes]


class Headers(NamedTuple):
    """What is stored beside the bytes. `metadata` must be ASCII: S3 accepts nothing else."""

    content_type: str
    cache_control: str
    metadata: Mapping[str, str]


class Object(NamedTuple):
    """An object to write."""

    key: str
    body: bytes
    headers: Headers


class Listing(NamedTuple):
    """Keys in the order of their UTF-8 bytes; `more` says whether others follow."""

    keys: tuple[str, ...]
    more: bool


class Bucket(Protocol):
    """The requests that the function makes to S3.

    Each raises StorageUnavailable where S3 does not answer, and StorageDenied where it refuses.
    `get` raises SourceArchived and SourceEncrypted; S3 answers the HEAD of an archived object, and
    refuses that of an encrypted one without saying why (StorageUnavailable).
    `get` and `put` raise StorageUnavailable where the bucket itself is missing. `head` cannot
    distinguish that from a missing object, because S3 answers it without a body.
    """

    def get(self, key: str) -> Stored | None:
        """Fetch an object; None if it does not exist."""

    def head(self, key: str) -> State | None:
        """Return the state of an object; None if it does not exist."""

    def put(self, new: Object, *, replacing: str | None) -> bool:
        """Write only if no object exists (`replacing` None), or only over the etag `replacing`.

        False means that S3 refused the condition (409 or 412): check the object again. A write that
        took effect, but whose reply was lost, returns False as well.
        """

    def create(self, new: Sequence[Object]) -> list[bool]:
        """Write each only if no object exists, in parallel; returns what `put` returns for each.

        All requests have ended when the first error is raised.
        """

    def delete(self, key: str, *, replacing: str) -> bool:
        """Delete only over the etag `replacing`. False as with `put`, and if it is gone."""

    def list_keys(self, prefix: str, limit: int) -> Listing:
        """Return the keys that begin with `prefix`, at most `limit` (1 to MAX_LISTED) of them."""

    def head_all(self, keys: Sequence[str]) -> list[State | None]:
        """Return what `head` returns for each key, with requests in parallel, as in `create`."""
