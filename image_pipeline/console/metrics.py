"""The function's metrics of the last hour, by minute, from its log.

They are read from the log and not from CloudWatch metrics, because the log is up to date within
seconds and a local AWS has it too.
"""

import json
import statistics
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

from botocore.exceptions import ClientError

from image_pipeline.stack import costs
from image_pipeline.stack.aws import aws_errors_explained
from image_pipeline.stack.deployed import Stack

MINUTES: Final = 60

RECENT_MINUTES: Final = 5
"""Minutes, including the current one, that the images per minute are averaged over."""

MAX_LOG_PAGES: Final = 5
"""Maximum requests for log events in one read, so that a page answers soon. The next read continues
where this one stopped."""

REUSE_SECONDS: Final = 2.0
"""How long a summary is reused for all pages that ask."""

LATE_SECONDS: Final = 30
"""How much later than newer events an event may still appear in the log."""


@dataclass(slots=True)
class Minute:
    """What the function did in one minute: durations in milliseconds, sizes in bytes."""

    durations: list[float] = field(default_factory=list)
    failed: int = 0
    cold_starts: int = 0
    size_in: float = 0
    size_out: float = 0


@dataclass(frozen=True, slots=True)
class Bar:
    """One minute in a chart: each height is a share of the tallest bar's, from 0 to 1."""

    minutes_ago: int
    images_share: float
    failed_share: float
    p50_share: float
    p95_share: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The last hour: durations in milliseconds, saved bytes, cost in US dollars.

    `images_per_minute` is the average of the last five minutes. `incomplete` means that a part of
    the log has not been read yet. `bars` are the minutes, oldest first.
    """

    images: int
    images_per_minute: float
    p50: float | None
    p95: float | None
    p99: float | None
    cold_starts: int
    failed: int
    saved: int
    cost: float
    incomplete: bool
    bars: list[Bar]
    max_count: int
    """Images or failures, whichever is more, of the minute with the most."""
    max_p95: float
    """The highest 95th percentile of a minute."""


class Metrics:
    """The metrics of a stack. Each read continues where the last one stopped."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._minutes: dict[int, Minute] = {}
        self._seen: dict[str, int] = {}
        """Timestamps of the counted events, by event id."""
        self._summary: Summary | None = None
        self._reuse_until = 0.0
        self._newest = 0
        self._token: str | None = None
        self._start = 0

    def current(self) -> Summary:
        """Return the last hour; the summary may be REUSE_SECONDS old.

        Raises CommandError if AWS refuses.
        """
        with self._lock:
            if self._summary is None or time.time() > self._reuse_until:
                return self._read()
            return self._summary

    def read(self) -> Summary:
        """Read new log events and return the last hour. Raises CommandError if AWS refuses."""
        with self._lock:
            return self._read()

    def _read(self) -> Summary:
        now = time.time()
        incomplete = self._read_log(now)
        oldest = int(now // 60) - MINUTES
        self._minutes = {m: each for m, each in self._minutes.items() if m > oldest}
        self._summary = self._summarise(int(now // 60), incomplete=incomplete)
        self._reuse_until = time.time() + REUSE_SECONDS
        return self._summary

    def _read_log(self, now: float) -> bool:
        """Count the events on up to MAX_LOG_PAGES pages. Return whether there are more pages."""
        earliest = int(now - MINUTES * 60) * 1000
        if self._token is None or self._start < earliest - LATE_SECONDS * 1000:
            # A token from long ago has expired, or would begin too long ago.
            self._token = None
            self._start = max(earliest, self._newest - LATE_SECONDS * 1000)
            self._seen = {event_id: at for event_id, at in self._seen.items() if at >= self._start}
        for _ in range(MAX_LOG_PAGES):
            token: Any = {"nextToken": self._token} if self._token else {}
            with aws_errors_explained():
                try:
                    page = self._stack.aws.logs.filter_log_events(
                        logGroupName=f"/aws/lambda/{self._stack.function_name}",
                        startTime=self._start,
                        filterPattern="{ $._aws.Timestamp > 0 }",
                        **token,
                    )
                except self._stack.aws.logs.exceptions.ResourceNotFoundException:
                    return False
                except ClientError:
                    self._token = None  # it may be the reason, so the next read starts again
                    raise
            for event in page["events"]:
                stream, at = event["logStreamName"], event["timestamp"]
                # Events of a local AWS have no id.
                event_id = event.get("eventId") or f"{stream} {at} {hash(event['message'])}"
                if event_id not in self._seen:
                    self._seen[event_id] = at
                    self._newest = max(self._newest, at)
                    self._count(at, event["message"])
            self._token = page.get("nextToken")
            if not self._token:
                return False
        return True

    def _count(self, timestamp: int, message: str) -> None:
        metrics = _parse(message)
        if metrics is None:
            return
        minute = self._minutes.setdefault(timestamp // 60_000, Minute())
        minute.durations += _values(metrics, "duration_ms")
        minute.failed += int(sum(_values(metrics, "failed_count")))
        minute.cold_starts += int(sum(_values(metrics, "cold_starts")))
        minute.size_in += sum(_values(metrics, "size_in_bytes"))
        minute.size_out += sum(_values(metrics, "size_out_bytes"))

    def _summarise(self, current: int, *, incomplete: bool) -> Summary:
        minutes = [self._minutes.get(current - ago, Minute()) for ago in range(MINUTES)]
        durations = [each for minute in minutes for each in minute.durations]
        recent = [len(minute.durations) for minute in minutes[:RECENT_MINUTES]]
        rates = costs.Rates.of(self._stack, statistics.fmean(durations) if durations else None)
        max_count = max(max(len(each.durations), each.failed) for each in minutes)
        max_p95 = max(_percentile(each.durations, 95) or 0 for each in minutes)
        return Summary(
            images=len(durations),
            images_per_minute=statistics.fmean(recent),
            p50=_percentile(durations, 50),
            p95=_percentile(durations, 95),
            p99=_percentile(durations, 99),
            cold_starts=sum(each.cold_starts for each in minutes),
            failed=sum(each.failed for each in minutes),
            saved=int(sum(each.size_in - each.size_out for each in minutes)),
            cost=sum(costs.of_images(rates, len(durations)).values()),
            incomplete=incomplete,
            bars=[_bar(ago, minutes[ago], max_count, max_p95) for ago in reversed(range(MINUTES))],
            max_count=max_count,
            max_p95=max_p95,
        )


def _bar(ago: int, minute: Minute, max_count: int, max_p95: float) -> Bar:
    p50, p95 = (_percentile(minute.durations, percent) or 0 for percent in (50, 95))
    images, failed = (count / max(max_count, 1) for count in (len(minute.durations), minute.failed))
    return Bar(ago, images, failed, p50 / (max_p95 or 1), p95 / (max_p95 or 1))


def _parse(message: str) -> dict[str, Any] | None:
    """Return a log line in the embedded metric format, or None for any other line."""
    if '"_aws"' not in message:
        return None
    try:
        line = json.loads(message)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "_aws" in line else None


def _values(metrics: dict[str, Any], name: str) -> list[float]:
    """Return the values of a metric: the format has a number or a list of numbers."""
    value = metrics.get(name, [])
    return [float(each) for each in value] if isinstance(value, list) else [float(value)]


def _percentile(values: list[float], percent: int) -> float | None:
    """Return the interpolated percentile, or None if there are no values."""
    if len(values) < 2:  # noqa: PLR2004 - `quantiles` needs two values
        return values[0] if values else None
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
