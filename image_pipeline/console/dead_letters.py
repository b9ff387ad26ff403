"""The failed uploads on a stack's dead-letter queues, shared by all requests to the console.

Reading a queue hides its messages from other readers for a moment, so only one thread reads at a
time, and the result is reused for a while. Pages of it are cut here, because a browser is slow with
thousands of rows.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from copy import replace
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from image_pipeline.stack import dead_letters, discard
from image_pipeline.stack.dead_letters import Failure, Reading
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.discard import Discarded
from image_pipeline.stack.triage import Filter, Group, duration, groups, messages_of

MIN_REUSE_SECONDS: Final = 2.0
"""Minimum time that a result is reused: pages that wait for uploads ask often."""

REUSE_FACTOR: Final = 10
"""A result is reused for this many times as long as reading it took, so that the console spends at
most a tenth of its time reading a queue of thousands of messages."""

PAGE_ROWS: Final = 50
"""Failures on one page of the list."""

OLDER: Final = "older-"
AGES: Final = {
    "": "At any time",
    "1h": "In the last hour",
    "24h": "In the last 24 hours",
    "7d": "In the last 7 days",
    f"{OLDER}1d": "More than 1 day ago",
    f"{OLDER}7d": "More than 7 days ago",
}
"""Choices of the filter for the age of failures → what the page calls them."""


def parse_filter(query: Mapping[str, str]) -> Filter:
    """Return the filter that a query means: `name`, `error`, `group`, `age` and `before`.

    `before` is the time up to which a page has shown failures. Raises ValueError for an age that is
    none of AGES, or another time.
    """
    age = query.get("age", "")
    if age not in AGES:
        raise ValueError("The age in this URL is none that the page offers.")
    older = age.startswith(OLDER)
    then = datetime.now(UTC) - duration(age.removeprefix(OLDER)) if age else None
    ends = [then] if older else []
    if before := query.get("before"):
        shown = datetime.fromisoformat(before)
        ends.append(shown if shown.tzinfo else shown.replace(tzinfo=UTC))
    return Filter(
        error_type=query.get("error") or None,
        part=query.get("name", ""),
        group=query.get("group") or None,
        since=None if older else then,
        until=min((each for each in ends if each), default=None),
    )


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the failures that match, newest first, and the groups of all that match.

    `matching` and `discardable` count messages: those of which one upload matches, and those of
    which all do. `query` chooses them again, without those that came after this reading.
    """

    reading: Reading
    error_types: list[str]
    groups: list[Group]
    failures: list[Failure]
    rows: int
    matching: int
    discardable: int
    number: int
    query: str

    @property
    def pages(self) -> int:
        """Pages of the list, at least one."""
        return max(-(-self.rows // PAGE_ROWS), 1)

    @property
    def first(self) -> int:
        """Number of the first row, from 1."""
        return (self.number - 1) * PAGE_ROWS + 1


class DeadLetters:
    """The failures on all queues of a stack. Whoever receives messages holds `lock`."""

    def __init__(self, stack: Stack) -> None:
        self.lock = threading.Lock()
        self._stack = stack
        self._reading = Reading([], 0, 0)
        self._reuse_until = float("-inf")

    def reading(self) -> Reading:
        """Return what is on the queues; the result may be seconds old.

        Raises CommandError if AWS refuses.
        """
        with self.lock:
            started = time.monotonic()
            if started > self._reuse_until:
                self._reading = dead_letters.read_all(self._stack)
                now = time.monotonic()
                self._reuse_until = now + max(MIN_REUSE_SECONDS, REUSE_FACTOR * (now - started))
            return self._reading

    def read(self) -> list[Failure]:
        """Return the failures of `reading`, oldest first."""
        return self.reading().failures

    def page(self, query: Mapping[str, str], number: int) -> Page:
        """Return page `number`, from 1, of the failures that a query chooses; else the last page.

        Raises ValueError for a wrong query.
        """
        chosen, reading = parse_filter(query), self.reading()
        found = chosen.matching(reading.failures)
        newest = reading.failures[-1].sent_at if reading.failures else datetime.now(UTC)
        before = (newest + timedelta(microseconds=1)).isoformat()
        page = Page(
            reading,
            sorted({each.error_type for each in reading.failures}),
            groups(found),
            [],
            len(found),
            len(messages_of(reading.failures, chosen, whole=False)),
            len(messages_of(reading.failures, chosen, whole=True)),
            number,
            urlencode({name: text for name, text in query.items() if text} | {"before": before}),
        )
        page = replace(page, number=min(number, page.pages))
        return replace(page, failures=found[::-1][page.first - 1 : page.first - 1 + PAGE_ROWS])

    def chosen(self, query: Mapping[str, str], *, whole: bool) -> list[str]:
        """Return the ids of the messages that a query chooses: see `triage.messages_of`.

        Raises ValueError for a wrong query.
        """
        return messages_of(self.reading().failures, parse_filter(query), whole=whole)

    def export(self, message_ids: Sequence[str]) -> str:
        """Return these messages as JSON lines, whose `body` can be sent to the queue again."""
        wanted = set(message_ids)
        found = [each for each in self.reading().failures if each.message_id in wanted]
        return "".join(discard.json_lines(found))

    def discard(self, message_ids: Sequence[str]) -> Discarded:
        """Delete these messages from the queues. Raises CommandError if AWS refuses."""
        try:
            return discard.discard(self._stack, message_ids, lambda _: None, self.lock)
        finally:
            self.forget()

    def forget(self) -> None:
        """Make the next `read` read the queues, for example because a replay has ended."""
        with self.lock:
            self._reuse_until = float("-inf")
