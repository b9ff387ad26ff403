"""What the function does, minute by minute, from the metrics that it logs.

The log, and not CloudWatch's metrics, is read: it is there at once, and a local AWS has it too.
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
RECENT: Final = 5
"""Minutes, the current one included, that images a minute are reckoned from."""

MOST_PAGES: Final = 5
"""Pages of log events in one look; what is left comes with the next ones."""

REMEMBERED: Final = 2.0
"""Seconds for which a summary is good for all pages that look."""

LATE: Final = 30
"""Seconds by which a line may come into the log later than others."""


@dataclass(slots=True)
class Minute:
    """What was done in a minute; durations in milliseconds, sizes in bytes."""

    durations: list[float] = field(default_factory=list)
    failed: int = 0
    cold_starts: int = 0
    size_in: float = 0
    size_out: float = 0


@dataclass(frozen=True, slots=True)
class Bar:
    """A minute in a chart: heights are shares of the largest, 0 to 1."""

    minutes_ago: int
    images_share: float
    failed_share: float
    p50_share: float
    p95_share: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The last hour: durations in milliseconds, saved bytes, cost in dollars.

    `images_a_minute` is of the last five minutes; `behind` says that older lines are still read.
    """

    images: int
    images_a_minute: float
    p50: float | None
    p95: float | None
    p99: float | None
    cold_starts: int
    failed: int
    saved: int
    cost: float
    behind: bool
    bars: list[Bar]
    most: int
    """Images, or failures, of the minute with the most."""
    slowest: float
    """The 95th percentile of the slowest minute."""


class Figures:
    """Reads the log from where it was read to before; one for all pages that look."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._minutes: dict[int, Minute] = {}
        self._seen: dict[str, int] = {}
        """Events' ids, and when they were."""
        self._summed: Summary | None = None
        self._good_until = 0.0
        self._last = 0
        self._token: str | None = None
        self._start = 0

    def glance(self) -> Summary:
        """The last hour as it was a moment ago: enough for a page, however many look."""
        with self._lock:
            if self._summed is None or time.time() > self._good_until:
                self._read()
            assert self._summed  # noqa: S101 - it was just read
            return self._summed

    def read(self) -> Summary:
        """Take what is new in the log, and sum the last hour up."""
        with self._lock:
            return self._read()

    def _read(self) -> Summary:
        now = time.time()
        behind = self._follow(now)
        oldest = int(now // 60) - MINUTES
        self._minutes = {m: each for m, each in self._minutes.items() if m > oldest}
        self._summed = self._summary(int(now // 60), behind=behind)
        self._good_until = time.time() + REMEMBERED
        return self._summed

    def _follow(self, now: float) -> bool:
        """Read some pages; whether there are more."""
        earliest = int(now - MINUTES * 60) * 1000
        if self._token is None or self._start < earliest - LATE * 1000:
            self._token = None  # of a page that was left alone for long: too far back, or expired
            self._start = max(earliest, self._last - LATE * 1000)
            self._seen = {name: at for name, at in self._seen.items() if at >= self._start}
        for _ in range(MOST_PAGES):
            more: Any = {"nextToken": self._token} if self._token else {}
            with aws_errors_explained():
                try:
                    answer = self._stack.aws.logs.filter_log_events(
                        logGroupName=f"/aws/lambda/{self._stack.function_name}",
                        startTime=self._start,
                        filterPattern="{ $._aws.Timestamp > 0 }",
                        **more,
                    )
                except self._stack.aws.logs.exceptions.ResourceNotFoundException:
                    return False
                except ClientError:
                    self._token = None  # it may be what is refused: begin anew next time
                    raise
            for event in answer["events"]:
                stream, at = event["logStreamName"], event["timestamp"]
                # A local AWS gives its events no ids.
                name = event.get("eventId") or f"{stream} {at} {hash(event['message'])}"
                if name not in self._seen:
                    self._seen[name] = at
                    self._last = max(self._last, event["timestamp"])
                    self._count(event["timestamp"], event["message"])
            self._token = answer.get("nextToken")
            if not self._token:
                return False
        return True

    def _count(self, timestamp: int, message: str) -> None:
        metrics = _metrics(message)
        if metrics is None:
            return
        minute = self._minutes.setdefault(timestamp // 60_000, Minute())
        minute.durations += _numbers(metrics, "duration_ms")
        minute.failed += int(sum(_numbers(metrics, "failed_count")))
        minute.cold_starts += int(sum(_numbers(metrics, "cold_starts")))
        minute.size_in += sum(_numbers(metrics, "size_in_bytes"))
        minute.size_out += sum(_numbers(metrics, "size_out_bytes"))

    def _summary(self, current: int, *, behind: bool) -> Summary:
        minutes = [self._minutes.get(current - ago, Minute()) for ago in range(MINUTES)]
        durations = [each for minute in minutes for each in minute.durations]
        recent = [len(minute.durations) for minute in minutes[:RECENT]]
        rates = costs.Rates.of(self._stack, statistics.fmean(durations) if durations else None)
        most = max(max(len(each.durations), each.failed) for each in minutes)
        slowest = max(_percentile(each.durations, 95) or 0 for each in minutes)
        return Summary(
            images=len(durations),
            images_a_minute=statistics.fmean(recent),
            p50=_percentile(durations, 50),
            p95=_percentile(durations, 95),
            p99=_percentile(durations, 99),
            cold_starts=sum(each.cold_starts for each in minutes),
            failed=sum(each.failed for each in minutes),
            saved=int(sum(each.size_in - each.size_out for each in minutes)),
            cost=sum(costs.of_images(rates, len(durations)).values()),
            behind=behind,
            bars=[_bar(ago, minutes[ago], most, slowest) for ago in reversed(range(MINUTES))],
            most=most,
            slowest=slowest,
        )


def _bar(ago: int, minute: Minute, most: int, slowest: float) -> Bar:
    p50, p95 = (_percentile(minute.durations, percent) or 0 for percent in (50, 95))
    images, failed = (count / max(most, 1) for count in (len(minute.durations), minute.failed))
    return Bar(ago, images, failed, p50 / (slowest or 1), p95 / (slowest or 1))


def _metrics(message: str) -> dict[str, Any] | None:
    """A line in the embedded metric format, or None for any other."""
    if '"_aws"' not in message:
        return None
    try:
        line = json.loads(message)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "_aws" in line else None


def _numbers(metrics: dict[str, Any], name: str) -> list[float]:
    """Values of a metric; the format has one number, or a list of them."""
    value = metrics.get(name, [])
    return [float(each) for each in value] if isinstance(value, list) else [float(value)]


def _percentile(values: list[float], percent: int) -> float | None:
    """Percentile, interpolated; None of nothing."""
    if len(values) < 2:  # noqa: PLR2004 - what `quantiles` needs
        return values[0] if values else None
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
