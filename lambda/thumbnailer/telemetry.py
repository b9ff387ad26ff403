"""JSON logs and embedded metrics (EMF), in the forms that CloudWatch reads.

A log line is one JSON object with `action`, `bucket` and `key`; the first line of an environment
has `version` instead of an object. Metrics go to the namespace `ImagePipeline` with the one
dimension `FunctionName`: every value of a dimension is a metric that costs money, so a key never
becomes one.
"""

import os
from typing import Any, Final

from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from thumbnailer.errors import PipelineError, UnexpectedError

NAMESPACE: Final = "ImagePipeline"


class Telemetry:
    """Logs and metrics of one environment. `begin` and `flush` enclose each invocation."""

    def __init__(self, level: str) -> None:
        self._logger = Logger(level=level, location=None, utc=True)
        # Powertools keeps one logger for each process, with the level that it got first.
        self._logger.setLevel(level)
        # POWERTOOLS_SERVICE_NAME stays unset (it would become a dimension).
        self._logger.remove_keys(["service"])
        self._metrics = EphemeralMetrics(namespace=NAMESPACE)
        self._cold = True

    def initialized(self, version: str) -> None:
        """Log which version of this project the environment runs."""
        self._logger.info("init", extra={"action": "init", "version": version})

    def begin(self, request_id: str) -> None:
        """Start an invocation. The first one of an environment is its cold start."""
        self._logger.append_keys(request_id=request_id)
        function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local")
        self._metrics.set_default_dimensions(FunctionName=function)
        if self._cold:
            self._cold = False
            self._metrics.add_metric("cold_starts", MetricUnit.Count, 1)

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
        self._metrics.add_metric("thumbnails_count", MetricUnit.Count, len(widths))
        self._metrics.add_metric("duration_ms", MetricUnit.Milliseconds, duration_ms)
        self._metrics.add_metric("size_in_bytes", MetricUnit.Bytes, size_in)
        self._metrics.add_metric("size_out_bytes", MetricUnit.Bytes, size_out)

    def skipped(self, bucket: str, key: str, reason: str) -> None:
        """Log that there was nothing to do for an upload."""
        self._log("skip", bucket, key, reason=reason)
        self._metrics.add_metric("skipped_count", MetricUnit.Count, 1)

    def failed(self, bucket: str, key: str, error: PipelineError, shown: dict[str, Any]) -> None:
        """Log an upload's failure, with the traceback if the error was unexpected."""
        self._logger.error(
            "failed",
            extra={"action": "failed", "bucket": bucket, "key": key, "error": shown},
            exc_info=error.__cause__ if isinstance(error, UnexpectedError) else None,
        )
        self._metrics.add_metric("failed_count", MetricUnit.Count, 1)

    def unreadable(self, message_id: str, error: PipelineError) -> None:
        """Log an SQS message or a record that names no upload."""
        shown = {"type": type(error).__name__, "message": str(error)}
        extra = {"action": "failed", "message_id": message_id, "error": shown}
        self._logger.error("failed", extra=extra)
        self._metrics.add_metric("failed_count", MetricUnit.Count, 1)

    def degraded(self, bucket: str, key: str, reason: str) -> None:
        """Warn that the thumbnails were made, but without something that the image has."""
        extra = {"action": "degraded", "bucket": bucket, "key": key, "reason": reason}
        self._logger.warning("degraded", extra=extra)

    def deleted(self, bucket: str, key: str, thumbnails: list[str]) -> None:
        """Log the outputs that were deleted because their source is gone."""
        self._log("delete", bucket, key, thumbnails=thumbnails)

    def collided(self, bucket: str, key: str, other: str) -> None:
        """Warn that another source has the same thumbnail keys."""
        self._logger.warning(
            "collision",
            extra={"action": "collision", "bucket": bucket, "key": key, "other_key": other},
        )
        self._metrics.add_metric("collisions_count", MetricUnit.Count, 1)

    def flush(self) -> None:
        """Print the metrics of the invocation."""
        if self._metrics.metric_set:
            self._metrics.flush_metrics()

    def _log(self, action: str, bucket: str, key: str, **fields: object) -> None:
        self._logger.info(action, extra={"action": action, "bucket": bucket, "key": key, **fields})
