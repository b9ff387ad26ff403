"""JSON logs and embedded metrics (EMF), in the forms that CloudWatch reads.

A log line is one JSON object with `action`, `bucket` and `key`; the first line of an environment
has `version` instead of an object. Metrics go to the namespace `ImagePipeline` with the one
dimension `FunctionName`: every value of a dimension is a metric that costs money, so a key never
becomes one.

Lines and metrics have the form that Powertools for AWS Lambda gives them; tests/test_powertools.py
compares both.
"""

import json
import logging
import os
import sys
import time
import traceback
from typing import Any, Final

from thumbnailer.errors import PipelineError, UnexpectedError

NAMESPACE: Final = "ImagePipeline"

UNITS: Final = {
    "cold_starts": "Count",
    "thumbnails_count": "Count",
    "duration_ms": "Milliseconds",
    "size_in_bytes": "Bytes",
    "size_out_bytes": "Bytes",
    "skipped_count": "Count",
    "failed_count": "Count",
    "collisions_count": "Count",
}
"""Each metric and its unit. An EMF document has 100 metrics at most."""

MAX_VALUES: Final = 100
"""Values of one metric in an EMF document
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
"""

LAMBDA_LEVELS: Final = {
    "TRACE": "NOTSET",
    "DEBUG": "DEBUG",
    "INFO": "INFO",
    "WARN": "WARNING",
    "ERROR": "ERROR",
    "FATAL": "CRITICAL",
}
"""Lambda's log levels → those of Python's logging
(https://docs.aws.amazon.com/lambda/latest/api/API_LoggingConfig.html)."""


class JsonLine(logging.Formatter):
    """Formats a record, whose message is the line's own fields, as one line of JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.converter = time.gmtime
        self.request_id: str | None = None

    def format(self, record: logging.LogRecord) -> str:
        """Return the fields of every line, those of the message, and those of its error."""
        fields: dict[str, Any] = record.msg  # type: ignore[assignment] # typeshed expects a text
        line = {
            "level": record.levelname,
            "message": fields["action"],
            "timestamp": f"{self.formatTime(record)}+0000",
            **({} if self.request_id is None else {"request_id": self.request_id}),
            **fields,
        }
        if record.exc_info:
            line |= self._error_fields(record.exc_info)
        if trace := os.environ.get("_X_AMZN_TRACE_ID"):  # Lambda sets it for each invocation
            line["xray_trace_id"] = trace.partition(";")[0].removeprefix("Root=")
        return json.dumps(line, default=str, ensure_ascii=False, separators=(",", ":"))

    def _error_fields(self, exc_info: Any) -> dict[str, Any]:
        """Return the error as text and as JSON. `exc_info` is that of `sys.exc_info`."""
        kind, error, trace = exc_info
        notes = getattr(error, "__notes__", None)
        return {
            "exception": self.formatException(exc_info),
            "exception_name": kind.__name__,
            **({} if notes is None else {"exception_notes": notes}),
            "stack_trace": {
                "type": kind.__name__,
                "value": error,
                "module": kind.__module__,
                "frames": [
                    {
                        "file": frame.filename,
                        "line": frame.lineno,
                        "function": frame.name,
                        "statement": frame.line,
                    }
                    for frame in traceback.extract_tb(trace)
                ],
            },
        }


class Telemetry:
    """Logs and metrics of one environment. `begin` and `flush` enclose each invocation.

    `level` is of settings.LOG_LEVELS. The function's ApplicationLogLevel, which Lambda passes in
    AWS_LAMBDA_LOG_LEVEL, takes precedence.
    """

    def __init__(self, level: str) -> None:
        self._line = JsonLine()
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(self._line)
        self._logger = logging.getLogger(__name__)
        self._logger.handlers = [handler]
        self._logger.propagate = False  # the runtime's own handler would print each line again
        self._logger.setLevel(LAMBDA_LEVELS.get(os.environ.get("AWS_LAMBDA_LOG_LEVEL", ""), level))
        self._values: dict[str, list[float]] = {}
        self._cold = True

    def initialized(self, version: str) -> None:
        """Log which version of this project the environment runs."""
        self._logger.info({"action": "init", "version": version})

    def begin(self, request_id: str) -> None:
        """Start an invocation. The first one of an environment is its cold start."""
        self._line.request_id = request_id
        if self._cold:
            self._cold = False
            self._measure("cold_starts", 1)

    def started(self, bucket: str, key: str) -> None:
        """Log that work on an upload begins."""
        self._log("start", bucket, key)

    def completed(  # noqa: PLR0913 - each is a field of the line or a metric
        self,
        bucket: str,
        key: str,
        *,
        widths: list[int],
        duration_ms: float,
        size_in: int,
        size_out: int,
    ) -> None:
        """Log that all thumbnails of an upload are there; sizes are in bytes."""
        self._log("complete", bucket, key, thumbnails=widths, duration_ms=round(duration_ms, 1))
        self._measure("thumbnails_count", len(widths))
        self._measure("duration_ms", duration_ms)
        self._measure("size_in_bytes", size_in)
        self._measure("size_out_bytes", size_out)

    def skipped(self, bucket: str, key: str, reason: str) -> None:
        """Log that there was nothing to do for an upload."""
        self._log("skip", bucket, key, reason=reason)
        self._measure("skipped_count", 1)

    def failed(self, bucket: str, key: str, error: PipelineError, shown: dict[str, Any]) -> None:
        """Log an upload's failure, with the traceback if the error was unexpected."""
        self._logger.error(
            {"action": "failed", "bucket": bucket, "key": key, "error": shown},
            exc_info=error.__cause__ if isinstance(error, UnexpectedError) else None,
        )
        self._measure("failed_count", 1)

    def unreadable(self, message_id: str, error: PipelineError) -> None:
        """Log an SQS message or a record that names no upload."""
        shown = {"type": type(error).__name__, "message": str(error)}
        self._logger.error({"action": "failed", "message_id": message_id, "error": shown})
        self._measure("failed_count", 1)

    def degraded(self, bucket: str, key: str, reason: str) -> None:
        """Warn that the thumbnails were made, but without something that the image has."""
        self._logger.warning({"action": "degraded", "bucket": bucket, "key": key, "reason": reason})

    def deleted(self, bucket: str, key: str, thumbnails: list[str]) -> None:
        """Log the outputs that were deleted because their source is gone."""
        self._log("delete", bucket, key, thumbnails=thumbnails)

    def collided(self, bucket: str, key: str, other: str) -> None:
        """Warn that another source has the same thumbnail keys."""
        self._logger.warning(
            {"action": "collision", "bucket": bucket, "key": key, "other_key": other}
        )
        self._measure("collisions_count", 1)

    def flush(self) -> None:
        """Print the metrics of the invocation, if it has any."""
        if not self._values:
            return
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [["FunctionName"]],
            "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in self._values],
        }
        document = {
            "_aws": {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [directive]},
            "FunctionName": os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local"),
            **self._values,
        }
        sys.stdout.write(json.dumps(document, separators=(",", ":")) + "\n")
        self._values = {}

    def _measure(self, name: str, value: float) -> None:
        values = self._values.setdefault(name, [])
        values.append(float(value))
        if len(values) == MAX_VALUES:
            self.flush()

    def _log(self, action: str, bucket: str, key: str, **fields: object) -> None:
        self._logger.info({"action": action, "bucket": bucket, "key": key, **fields})
