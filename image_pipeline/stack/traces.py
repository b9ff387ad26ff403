"""What a verification makes in a stack, and how all of it is removed again."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import batched
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from image_pipeline.errors import CommandError
from image_pipeline.stack import dead_letters
from image_pipeline.stack.aws import MAX_DELETED, aws_errors_explained, delete_objects
from image_pipeline.stack.aws_errors import MISSING_CODES
from image_pipeline.stack.deployed import Stack

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

POLL_SECONDS: Final = 1.0
"""Seconds between two looks at what is waited for."""


@dataclass(slots=True)
class Traces:
    """Everything that a verification of `stack` has made so far.

    All of its `keys` in the input bucket are under `folder`. `others` pairs what else there is, in
    words, with what removes it. For `late_seconds`, more messages about the keys may arrive.
    """

    stack: Stack
    folder: str
    keys: set[str] = field(default_factory=set)
    others: list[tuple[str, Callable[[], object]]] = field(default_factory=list)
    late_seconds: float = 0.0

    def add(self, what: str, remove: Callable[[], object]) -> None:
        """Note something that `remove` removes; `what` names it where that fails."""
        self.others.append((what, remove))

    def remove(self, later: Iterable[str] = ()) -> None:
        """Remove everything, the newest first; what fails does not stop the rest.

        Nothing is left in a bucket or queue that does not exist. Raises CommandError that says what
        is left and why, with `later`, what may still come. After Ctrl-C it says what may be left.
        """
        stack, queues = self.stack, ", ".join(self.stack.queues)
        left: list[tuple[str, Callable[[], object]]] = [
            (f"messages for {self.folder}* on {queues}", self._discard_messages),
            (f"thumbnails of {self.folder}* in {stack.settings.output_bucket}", self._remove_made),
            (f"s3://{stack.input_bucket}/{self.folder}*", self._remove_uploads),
            *self.others,
        ]
        faults = [*later]
        try:
            while left:
                what, action = left[-1]
                try:
                    with aws_errors_explained():
                        action()
                except CommandError as error:
                    if not _is_gone(error):
                        faults.append(f"{what} ({error})")
                left.pop()
        except KeyboardInterrupt:
            names = [*faults, *(what for what, _ in reversed(left))]
            raise CommandError(f"Interrupted. Left, or in part: {'; '.join(names)}") from None
        if faults:
            raise CommandError(f"Left: {'; '.join(faults)}")

    def made_of(self, keys: Iterable[str]) -> list[str]:
        """Keys of everything that the stack makes of these uploads."""
        return [made for key in sorted(keys) for made in self.stack.settings.outputs(key)]

    def remove_objects(self, bucket: str, keys: Iterable[str]) -> None:
        """Delete objects and, in a bucket with versioning, every version of them.

        Raises ClientError if S3 refuses a request, CommandError if it keeps an object.
        """
        for names in batched(keys, MAX_DELETED, strict=False):
            s3 = self.stack.aws.s3
            for deleted in delete_objects(s3, bucket, [{"Key": name} for name in names]):
                if deleted.get("DeleteMarker"):
                    delete_objects(s3, bucket, self._versions(bucket, deleted["Key"]))

    def _remove_uploads(self) -> None:
        self.remove_objects(self.stack.input_bucket, sorted(self.keys))

    def _remove_made(self) -> None:
        self.remove_objects(self.stack.settings.output_bucket, self.made_of(self.keys))

    def _discard_messages(self) -> None:
        deadline = time.monotonic() + self.late_seconds
        refused = self._discard_once()
        while time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            refused = self._discard_once()
        if refused:
            raise CommandError("; ".join(refused))

    def _discard_once(self) -> list[str]:
        """Delete the messages that are on the queues now; why a queue could not be read."""
        refused = []
        for queue in self.stack.queues:
            try:
                with aws_errors_explained():
                    dead_letters.discard(
                        self.stack.aws.sqs,
                        queue,
                        lambda failure: failure.key.startswith(self.folder),
                    )
            except CommandError as error:
                if not _is_gone(error):
                    refused.append(str(error))
        return refused

    def _versions(self, bucket: str, key: str) -> list["ObjectIdentifierTypeDef"]:
        found = self.stack.aws.s3.list_object_versions(Bucket=bucket, Prefix=key)
        every: list[Any] = [*found.get("Versions", []), *found.get("DeleteMarkers", [])]
        return [
            {"Key": key, "VersionId": each["VersionId"]} for each in every if each["Key"] == key
        ]


def _is_gone(error: CommandError) -> bool:
    """Whether AWS refused because the bucket or queue does not exist."""
    cause = error.__cause__
    if not isinstance(cause, ClientError):
        return False
    return MISSING_CODES.get(cause.response["Error"]["Code"]) in ("bucket", "queue")
