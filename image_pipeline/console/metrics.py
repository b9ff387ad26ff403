"""What the function did in the last hour, day or week, by period.

Counts, durations and bytes come from CloudWatch. Failed uploads come from the function's log,
because CloudWatch counts attempts: each retry and each replay of an upload is one more.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any, Final

from image_pipeline.errors import CommandError, NotPermitted
from image_pipeline.stack import costs
from image_pipeline.stack.aws import aws_errors_explained
from image_pipeline.stack.deployed import Stack

NAMESPACE: Final = "ImagePipeline"
"""As in thumbnailer/telemetry.py, whose imports the console does not need."""

STATISTICS: Final = {
    "images": ("duration_ms", "SampleCount"),
    "milliseconds": ("duration_ms", "Sum"),
    "p50": ("duration_ms", "p50"),
    "p95": ("duration_ms", "p95"),
    "attempts": ("failed_count", "Sum"),
    "cold_starts": ("cold_starts", "Sum"),
    "size_in": ("size_in_bytes", "Sum"),
    "size_out": ("size_out_bytes", "Sum"),
}
"""Metric and statistic of each series (docs/events-and-logs.md)."""

PERCENTILES: Final = ("p50", "p95")
"""Series that are also read as one value for the whole range: they cannot be added up."""

UNREAD: Final = ("InternalError", "Forbidden")
"""Status codes of a series without its values:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDataResult.html."""

LOCAL_SECONDS, AWS_SECONDS = 2.0, 60.0
"""How long a summary is reused. CloudWatch bills $0.01 for 1,000 metrics that are read, and a
summary reads ten of them: https://aws.amazon.com/cloudwatch/pricing/."""

LOG_SECONDS: Final = 5.0
"""Maximum time to read the log for one summary."""

MAX_INVOCATION_SECONDS: Final = 900
"""Maximum time from a failure's log line to the end of its invocation, when its metric is written:
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of time up to now: `count` periods of `period` seconds.

    `last` and `label` are its name in a sentence and on a button, `each` that of a period. The
    images per `unit`, which has `unit_seconds`, are averaged over the last `recent` full periods,
    and `recent_note` says so.
    """

    last: str
    label: str
    each: str
    period: int
    count: int
    unit: str
    unit_seconds: int
    recent: int
    recent_note: str

    @property
    def seconds(self) -> int:
        """The length of the range."""
        return self.period * self.count


SPANS: Final = {
    "1h": Span(
        "hour", "1 hour", "one minute", 60, 60, "minute", 60, 5, "mean of the last 5 minutes"
    ),
    "24h": Span(
        "24 hours", "24 hours", "15 minutes", 900, 96, "hour", 3600, 4, "in the last full hour"
    ),
    "7d": Span("7 days", "7 days", "two hours", 7200, 84, "day", 86400, 12, "in the last 24 hours"),
}
"""The ranges, by name in the page's URL. CloudWatch keeps periods of 60 s for 15 days."""


@dataclass(frozen=True, slots=True)
class Period:
    """One period: durations in milliseconds. None is unknown or, for a duration, has no image."""

    start: datetime
    images: int | None
    failed: int | None
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """What CloudWatch has for a range: durations in milliseconds, bytes, cost in US dollars.

    `rate` are the images per unit in the last full periods (Span.unit, Span.recent). What is None
    is unknown; the durations are None without images, too.
    """

    images: int | None = None
    rate: float | None = None
    p50: float | None = None
    p95: float | None = None
    cold_starts: int | None = None
    saved: int | None = None
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """A range up to now. What is None is unknown, and `problems` say why.

    `failed` counts uploads, or attempts where `by_upload` is false. `periods` are the oldest first;
    the last one is not over yet.
    """

    span: Span
    totals: Totals
    failed: int | None
    by_upload: bool
    periods: list[Period]
    problems: list[str]


type Series = dict[int, float]
"""Values by the start of their period, in seconds since 1970."""


class Metrics:
    """The metrics of a stack in one range."""

    def __init__(self, stack: Stack, span: Span) -> None:
        self._stack = stack
        self._aws = stack.aws.impatient()
        self._span = span
        self.refresh_seconds: Final = LOCAL_SECONDS if stack.aws.endpoint_url else AWS_SECONDS
        self._lock = threading.Lock()
        self._summary: Summary | None = None
        self._reuse_until = float("-inf")

    def current(self) -> Summary:
        """Return the range up to now. A summary without problems is reused for a while."""
        with self._lock:
            if self._summary is None or monotonic() > self._reuse_until:
                self._summary = self.read()
                fresh = 0 if self._summary.problems else self.refresh_seconds
                self._reuse_until = monotonic() + fresh
            return self._summary

    def read(self) -> Summary:
        """Read the range up to now. What cannot be read is None, and said in `problems`."""
        span = self._span
        end = (int(time()) // span.period + 1) * span.period
        starts = range(end - span.seconds, end, span.period)
        problems: list[str] = []
        found = _or_problem(
            problems,
            "The numbers of CloudWatch are missing",
            "cloudwatch:GetMetricData",
            lambda: self._statistics(starts),
        )
        failures = self._failures(starts, found["attempts"] if found else None, problems)
        counts = found["attempts"] if failures is None and found else failures
        return Summary(
            span=span,
            totals=self._totals(starts, found) if found else Totals(),
            failed=None if counts is None else int(sum(counts.values())),
            by_upload=failures is not None,
            periods=[_period(start, found, counts) for start in starts],
            problems=problems,
        )

    def _statistics(self, starts: range) -> dict[str, Series]:
        """Return each of STATISTICS by period, and PERCENTILES of the whole range as "all p50"."""
        queries = [_query(self._stack, name, starts.step) for name in STATISTICS]
        queries += [_query(self._stack, name, self._span.seconds, "all_") for name in PERCENTILES]
        found: dict[str, Series] = {query["Id"]: {} for query in queries}
        with aws_errors_explained():
            pages = self._aws.cloudwatch.get_paginator("get_metric_data").paginate(
                MetricDataQueries=queries,
                StartTime=datetime.fromtimestamp(starts.start, UTC),
                EndTime=datetime.fromtimestamp(starts.stop, UTC),
            )
            for page in pages:
                for result in page["MetricDataResults"]:
                    if result["StatusCode"] in UNREAD:
                        raise CommandError(f"CloudWatch answered {result['StatusCode']}.")
                    times = (int(each.timestamp()) for each in result["Timestamps"])
                    found[result["Id"]].update(zip(times, result["Values"], strict=True))
        return found

    def _totals(self, starts: range, found: dict[str, Series]) -> Totals:
        sums = {name: sum(found[name].values()) for name in STATISTICS}
        images = int(sums["images"])
        recent = starts[-1 - self._span.recent : -1]
        rates = costs.Rates.of(self._stack, sums["milliseconds"] / images if images else None)
        return Totals(
            images=images,
            rate=sum(found["images"].get(start, 0) for start in recent)
            * self._span.unit_seconds
            / (len(recent) * starts.step),
            p50=next(iter(found["all_p50"].values()), None),
            p95=next(iter(found["all_p95"].values()), None),
            cold_starts=int(sums["cold_starts"]),
            saved=int(sums["size_in"] - sums["size_out"]),
            cost=sum(costs.of_images(rates, images).values()),
        )

    def _failures(
        self, starts: range, attempts: Series | None, problems: list[str]
    ) -> Series | None:
        """Return the failed uploads by period, or None if they cannot be counted.

        Only the part of the log is read in which CloudWatch knows of failed attempts.
        """
        first, last = starts.start, starts.stop
        if attempts is not None:
            when = [start for start, count in attempts.items() if count]
            if not when:
                return {}
            first = max(first, min(when) - MAX_INVOCATION_SECONDS)
            last = max(when) + starts.step
        return _or_problem(
            problems,
            "Failed uploads are not counted"
            + ("" if attempts is None else ", but their attempts, with retries and replays"),
            "logs:FilterLogEvents",
            lambda: self._failed_uploads(starts, first, last),
        )

    def _failed_uploads(self, starts: range, first: int, last: int) -> Series:
        failed: dict[tuple[str, ...], int] = {}
        for at, upload in self._logged_failures(first, last):
            failed[upload] = min(at, failed.get(upload, at))
        return dict(Counter(at - (at - starts.start) % starts.step for at in failed.values()))

    def _logged_failures(self, first: int, last: int) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Yield time and upload of each failure in the log. Raises CommandError if it is long."""
        deadline = monotonic() + LOG_SECONDS
        with aws_errors_explained():
            pages = self._aws.logs.get_paginator("filter_log_events").paginate(
                logGroupName=f"/aws/lambda/{self._stack.function_name}",
                startTime=first * 1000,
                endTime=last * 1000 - 1,
                filterPattern='{ $.action = "failed" }',
            )
            try:
                for page in pages:
                    for event in page["events"]:
                        if upload := _failed_upload(event["message"]):
                            yield event["timestamp"] // 1000, upload
                    if page.get("nextToken") and monotonic() > deadline:
                        raise CommandError(
                            f"The log is too long to read within {LOG_SECONDS:.0f} seconds."
                        )
            except self._aws.logs.exceptions.ResourceNotFoundException:
                return  # the first invocation creates the log group


def _query(stack: Stack, series: str, period: int, prefix: str = "") -> dict[str, Any]:
    name, statistic = STATISTICS[series]
    metric = {
        "Namespace": NAMESPACE,
        "MetricName": name,
        "Dimensions": [{"Name": "FunctionName", "Value": stack.function_name}],
    }
    statistics = {"Metric": metric, "Period": period, "Stat": statistic}
    return {"Id": prefix + series, "MetricStat": statistics}


def _or_problem[T](
    problems: list[str], what: str, permission: str, read: Callable[[], T]
) -> T | None:
    """Return what `read` returns, or note that `what` is the case, and why."""
    try:
        return read()
    except NotPermitted:
        problems.append(f"{what}. Access denied: this needs the permission {permission}.")
    except CommandError as error:
        problems.append(f"{what}. {error}")
    return None


def _failed_upload(message: str) -> tuple[str, ...] | None:
    """Return what identifies the upload of a failure's log line, or None for any other line.

    A line about an unreadable event has the id of its message instead.
    """
    if '"failed"' not in message:
        return None
    try:
        line = json.loads(message)
    except ValueError:
        return None
    if not isinstance(line, dict) or line.get("action") != "failed":
        return None
    names = ("bucket", "key") if "key" in line else ("message_id",)
    return tuple(str(line.get(name)) for name in names)


def _period(start: int, found: dict[str, Series] | None, failures: Series | None) -> Period:
    return Period(
        datetime.fromtimestamp(start, UTC),
        images=int(found["images"].get(start, 0)) if found else None,
        failed=None if failures is None else int(failures.get(start, 0)),
        p50=found["p50"].get(start) if found else None,
        p95=found["p95"].get(start) if found else None,
    )
