"""Marks in the output bucket: which failures of a backfill have a message on the queue.

SQS cannot tell whether a message exists, so without marks every backfill would add another message
for each image that is still broken. A mark is written after its message, never before, so a crash
between the two costs at most a second message. Whatever takes the message off the queue through
this code, a replay, clears the mark first. Messages expire, and so do marks. See
docs/adr/0026-a-backfill-reports-a-failure-once.md.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from thumbnailer.dead_letters import MARKS_PREFIX, DeadLetter, mark_key
from thumbnailer.errors import PipelineError
from thumbnailer.sha256 import sha256
from thumbnailer.storage import Bucket, Headers, Object, State

PREFIX: Final = MARKS_PREFIX
"""Keys of marks in the output bucket. The bucket's lifecycle rule (iac/template.yaml) deletes them.
"""

VALID: Final = timedelta(days=14)
"""How long a mark counts: as long as the queue keeps a message (MessageRetentionPeriod in
iac/template.yaml)."""

FAILURE: Final = "failure"
MARKED_AT: Final = "marked-at"
"""User metadata of a mark: a digest of the etag and the error type, and the time (ISO 8601). A mark
that was cleared has none."""


class FailureMarks:
    """The marks in the bucket `output`, for one invocation.

    A mark is a convenience: where S3 does not answer, there is none, and at worst a failure gets a
    second message.
    """

    def __init__(self, output: Bucket) -> None:
        self._output = output
        self._found: dict[str, State | None] = {}
        """What was at a mark's key before a message was sent: it is overwritten only if unchanged,
        because a replay may have taken the message off the queue meanwhile."""

    def has_message(self, message: DeadLetter) -> bool:
        """Whether the failure that `message` reports has a message on the queue already."""
        found = self._look(message.bucket, message.key)
        if found is None or found.metadata.get(FAILURE) != _digest(message.etag, message.error):
            return False
        try:
            marked_at = datetime.fromisoformat(found.metadata.get(MARKED_AT, ""))
            return datetime.now(UTC) - marked_at < VALID
        except (TypeError, ValueError):
            return False

    def set(self, message: DeadLetter) -> None:
        """Mark that `message` is on the queue, unless the mark has changed since `has_message`."""
        metadata = {
            FAILURE: _digest(message.etag, message.error),
            MARKED_AT: message.failed_at,
        }
        self._write(message.bucket, message.key, message.to_json(), metadata)

    def clear(self, bucket: str, key: str) -> None:
        """Mark that the message of an upload leaves the queue, if there is a mark."""
        found = self._look(bucket, key)
        if found is not None and FAILURE in found.metadata:
            cleared = {"bucket": bucket, "key": key, "cleared_at": datetime.now(UTC).isoformat()}
            self._write(bucket, key, json.dumps(cleared), {})

    def _look(self, bucket: str, key: str) -> State | None:
        name = mark_key(bucket, key)
        if name not in self._found:
            self._found[name] = None
            with suppress(PipelineError):
                self._found[name] = self._output.head(name)
        return self._found[name]

    def _write(self, bucket: str, key: str, body: str, metadata: dict[str, str]) -> None:
        """Write a mark; overwriting needs no permission to delete, which the function lacks."""
        name = mark_key(bucket, key)
        found = self._look(bucket, key)
        new = Object(name, body.encode(), Headers("application/json", "no-store", metadata))
        with suppress(PipelineError):
            self._output.put(new, replacing=found.etag if found else None)


def _digest(etag: str | None, error: dict[str, object]) -> str:
    """Return what tells one failure of an upload from another: its bytes and the error type."""
    return sha256(json.dumps([etag, error["type"]]).encode()).hexdigest()[:32]
