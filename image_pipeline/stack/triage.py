"""Which failed uploads somebody means, by key, error and age, and how many share a cause."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from image_pipeline.stack.dead_letters import Failure

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
"""Unit of a duration → its seconds."""

MAX_DURATION: Final = timedelta(days=3650)
"""Longest duration. SQS keeps a message for at most 14 days.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html"""

MAX_CAUSE: Final = 200
"""Characters of a message that tell one cause from another; the rest is detail."""

EXAMPLES: Final = 3
"""Keys that a group names, the latest ones."""

MAX_GROUPS: Final = 20
"""Groups that are shown, the largest ones; a queue with more has no common cause."""

DETAILS: Final = (
    (r"""\bb?(["'])(?:\\.|(?!\1)[^\\])*\1""", "…"),  # a quoted value, as Python writes it
    (r"\bs3://\S+", "…"),
    (r"\b[0-9a-f]{2}(?: [0-9a-f]{2})+\b", "…"),  # the first bytes of a file
    (r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{12,}", "…"),  # a request id, a digest
    (r"(?<!\d)(?<!JPEG )\d+(?:[.,]\d+)*", "N"),  # JPEG 2000 is a name
    (r"The keys?( would be|:) .*", r"The key\1 …"),  # KeyOccupied names thumbnails at its end
)
"""What differs between messages of the same cause: pattern → what is shown instead."""


def duration(text: str) -> timedelta:
    """Parse a duration such as 90m, 2h, 3d or 1d12h.

    Raises ValueError for anything else, and for more than MAX_DURATION.
    """
    if not re.fullmatch(r"(\d{1,9}[smhdw]){1,5}", text, re.ASCII):
        raise ValueError(
            f"must be numbers with s, m, h, d or w, such as 90m, 2h or 1d12h, not {text!r}"
        )
    parts = re.findall(r"(\d+)(\w)", text)
    seconds = sum(int(number) * UNITS[unit] for number, unit in parts)
    if seconds > MAX_DURATION.total_seconds():
        raise ValueError(f"must be at most {MAX_DURATION.days} days, not {text!r}")
    return timedelta(seconds=seconds)


@lru_cache(maxsize=1 << 15)
def _normalised(message: str, key: str, bucket: str) -> str:
    for name in (key, bucket):
        if name and name in message:  # to compile a pattern takes long
            message = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", message)
    message = message[: 4 * MAX_CAUSE]  # what a pattern may have to search
    for pattern, shown in DETAILS:
        message = re.sub(pattern, shown, message)
    return " ".join(message.split())[:MAX_CAUSE]


def cause(failure: Failure) -> str:
    """Return the message of a failure without what differs between uploads.

    Numbers become N; names, ids and quoted values become an ellipsis.
    """
    return _normalised(failure.error_message, failure.key, failure.bucket)


def group_id(error_type: str, cause: str) -> str:
    """Return a short name for a group, the same for each read of the queue."""
    return hashlib.sha256(f"{error_type}\0{cause}".encode("utf-8", "replace")).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Filter:
    """Failures that somebody means; what is empty or None means all of them.

    `prefix` begins the key, and `part` is anywhere in it, in upper or lower case. `since` and
    `until` are about the time when SQS received the message: at `since` or later, before `until`.
    """

    prefix: str = ""
    error_type: str | None = None
    part: str = ""
    group: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_everything(self) -> bool:
        """Whether it matches every failure."""
        return self == Filter()

    def matches(self, failure: Failure) -> bool:
        """Return whether a failure is one of those that are meant."""
        return (
            failure.key.startswith(self.prefix)
            and self.error_type in (None, failure.error_type)
            and self.part.casefold() in failure.key.casefold()
            and (self.since is None or failure.sent_at >= self.since)
            and (self.until is None or failure.sent_at < self.until)
            and self.group in (None, group_id(failure.error_type, cause(failure)))
        )

    def matching(self, failures: Iterable[Failure]) -> list[Failure]:
        """Return the failures that match."""
        return [each for each in failures if self.matches(each)]


def messages_of(failures: Iterable[Failure], chosen: Filter, *, whole: bool) -> list[str]:
    """Return the ids of the messages that a filter chooses, in the order of `failures`.

    A message of Lambda's OnFailure destination may name several uploads. With `whole` all of them
    must match, otherwise one.
    """
    matched: dict[str, bool] = {}
    for each in failures:
        matches, before = chosen.matches(each), matched.get(each.message_id, whole)
        matched[each.message_id] = (before and matches) if whole else (before or matches)
    return [message_id for message_id, matches in matched.items() if matches]


@dataclass(frozen=True, slots=True)
class Group:
    """Failures of one cause, oldest first, at least one."""

    error_type: str
    cause: str
    failures: Sequence[Failure]

    @property
    def id(self) -> str:
        """Its short name, for `Filter.group`."""
        return group_id(self.error_type, self.cause)

    @property
    def messages(self) -> int:
        """Messages on the queue. The same upload may have several."""
        return len({each.message_id for each in self.failures})

    @property
    def uploads(self) -> int:
        """Different uploads."""
        return len({(each.bucket, each.key) for each in self.failures})

    @property
    def oldest(self) -> datetime:
        """When SQS received the first message."""
        return self.failures[0].sent_at

    @property
    def newest(self) -> datetime:
        """When SQS received the last message."""
        return self.failures[-1].sent_at

    @property
    def examples(self) -> list[str]:
        """Up to EXAMPLES different keys, those of the latest failures first."""
        latest = dict.fromkeys(each.key for each in reversed(self.failures) if each.key)
        return list(latest)[:EXAMPLES]

    def to_json(self) -> dict[str, Any]:
        """As JSON for scripts; times in ISO 8601."""
        return {
            "error_type": self.error_type,
            "cause": self.cause,
            "messages": self.messages,
            "uploads": self.uploads,
            "oldest": self.oldest.isoformat(),
            "newest": self.newest.isoformat(),
            "examples": self.examples,
        }


def groups(failures: Iterable[Failure]) -> list[Group]:
    """Group failures by error type and cause, the largest group first."""
    found: defaultdict[tuple[str, str], list[Failure]] = defaultdict(list)
    for each in sorted(failures, key=lambda failure: failure.sent_at):
        found[each.error_type, cause(each)].append(each)
    made = [Group(kind, why, members) for (kind, why), members in found.items()]
    return sorted(made, key=lambda group: (-len(group.failures), group.error_type, group.cause))
