"""A bucket through boto3, which can name every legal key.

Importing it takes a fifth of a second of a whole CPU, so it is imported only when it is needed.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.handlers import add_expect_header

from thumbnailer.errors import StorageDenied, StorageUnavailable
from thumbnailer.s3_codes import CHANGED_CODES, MISSING_CODES
from thumbnailer.storage.bucket import (
    CONNECT_TIMEOUT,
    MAX_WRITERS,
    Listing,
    Object,
    State,
    Stored,
    unreadable,
)


class Boto3Bucket:
    """A bucket through boto3. Every legal key works."""

    def __init__(self, name: str, budget: float) -> None:
        self._name = name
        self._budget = budget
        # Two attempts with up to a second between them, where the budget allows that.
        attempts = 2 if budget > 2 else 1  # noqa: PLR2004
        attempt = budget / 3
        self._client: Any = boto3.client(
            "s3",
            config=Config(
                connect_timeout=min(CONNECT_TIMEOUT, attempt / 2),
                read_timeout=attempt / 2,
                retries={"total_max_attempts": attempts, "mode": "standard"},
                s3={"addressing_style": "path"},
                max_pool_connections=MAX_WRITERS,
            ),
        )
        # It would wait one more second for "100 Continue" after every time-out.
        self._client.meta.events.unregister("before-call.s3", add_expect_header)

    def get(self, key: str) -> Stored | None:
        """See Bucket."""
        deadline = time.monotonic() + self._budget
        found = self._call(self._client.get_object, Key=key)
        if found is None:
            return None

        def read() -> bytes:
            # In another thread: boto3's time-outs limit silence only, so a body that arrives one
            # byte at a time would never end. An abandoned reader ends with its connection.
            reader = ThreadPoolExecutor(1)
            whole = reader.submit(found["Body"].read)
            reader.shutdown(wait=False)
            try:
                return bytes(whole.result(deadline - time.monotonic()))
            except TimeoutError as error:
                raise StorageUnavailable(
                    f"s3://{self._name}/{key}: {found['ContentLength']:,} bytes were not received "
                    f"within {self._budget} s"
                ) from error
            except (BotoCoreError, HTTPClientError) as error:
                raise StorageUnavailable(f"s3://{self._name}/{key}: {error}") from error

        return Stored(_state(found), read)

    def head(self, key: str) -> State | None:
        """See Bucket."""
        found = self._call(self._client.head_object, Key=key)
        return _state(found) if found else None

    def put(self, new: Object, *, replacing: str | None) -> bool:
        """See Bucket."""
        condition = {"IfNoneMatch": "*"} if replacing is None else {"IfMatch": f'"{replacing}"'}
        return (
            self._call(
                self._client.put_object,
                Key=new.key,
                Body=new.body,
                ContentType=new.headers.content_type,
                CacheControl=new.headers.cache_control,
                Metadata=dict(new.headers.metadata),
                **condition,
            )
            is not None
        )

    def delete(self, key: str, *, replacing: str) -> bool:
        """See Bucket."""
        found = self._call(self._client.delete_object, Key=key, IfMatch=f'"{replacing}"')
        return found is not None

    def list_keys(self, prefix: str, limit: int) -> Listing:
        """See Bucket."""
        found: Any = self._call(self._client.list_objects_v2, Prefix=prefix, MaxKeys=limit)
        keys = tuple(each["Key"] for each in found.get("Contents", ()))
        return Listing(keys, found["IsTruncated"])

    def _call(self, request: Callable[..., Any], **arguments: object) -> Any | None:
        """Return the answer; None for a missing object and for a condition that S3 refused."""
        where = f"s3://{self._name}/{arguments.get('Key', arguments.get('Prefix'))}"
        try:
            return request(Bucket=self._name, **arguments)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in MISSING_CODES | CHANGED_CODES:
                return None
            if permanent := unreadable(where, code, error.response["Error"].get("Message", "")):
                raise permanent from error
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (401, 403):
                raise StorageDenied(f"{where}: {error}") from error
            raise StorageUnavailable(f"{where}: {error}") from error
        except (BotoCoreError, HTTPClientError) as error:
            raise StorageUnavailable(f"{where}: {error}") from error


def _state(found: Mapping[str, Any]) -> State:
    return State(
        etag=found["ETag"].strip('"'),
        modified=found["LastModified"].astimezone(UTC),
        size=found["ContentLength"],
        metadata=found["Metadata"],
        encoding=found.get("ContentEncoding", ""),
    )
