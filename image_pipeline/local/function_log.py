"""Divides what a function logs into log lines and metrics, as CloudWatch does."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that CloudWatch would extract from a log line, with every value recorded for it."""

    namespace: str
    dimensions: dict[str, str]
    name: str
    unit: str
    values: list[float]


def read_log(lines: Iterable[str]) -> tuple[list[Any], list[Metric]]:
    """Separate log entries from metrics.

    A log entry is a decoded object where the line is one in JSON, else the line.
    """
    log: list[Any] = []
    metrics: list[Metric] = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        match record:
            case {"_aws": {"CloudWatchMetrics": [*directives]}}:
                metrics += metrics_of(record, directives)
            case dict():
                log.append(record)
            case _:
                log.append(line)
    return log, metrics


def metrics_of(record: dict[str, Any], directives: Iterable[dict[str, Any]]) -> Iterator[Metric]:
    """The metrics that `directives` name in a record; one without a value is left out.

    The format is CloudWatch's embedded metric format
    (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
    """
    for directive in directives:
        dimensions = {
            name: record[name] for names in directive.get("Dimensions", []) for name in names
        }
        for metric in directive["Metrics"]:
            name = metric["Name"]
            if name in record:
                value = record[name]
                values = value if isinstance(value, list) else [value]
                unit = metric.get("Unit", "None")
                yield Metric(directive["Namespace"], dimensions, name, unit, values)
