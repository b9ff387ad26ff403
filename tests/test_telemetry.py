"""Logs and metrics, as CloudWatch reads them."""

import json
from typing import Any

import pytest

from image_pipeline.stack.costs import METRICS
from thumbnailer.errors import CorruptImage, UnexpectedError
from thumbnailer.telemetry import UNITS, Telemetry


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a telemetry, and a function that returns the JSON lines since its last call.

    The test makes them: until then stdout is that of the fixtures, which pytest closes.
    """
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "stack-thumbnail")

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return lambda: (Telemetry("INFO"), lines)


def metrics(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return values and unit of each metric in the only EMF document, and check its dimension."""
    (document,) = [line for line in lines if "_aws" in line]
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "ImagePipeline"
    assert directive["Dimensions"] == [["FunctionName"]]
    assert document["FunctionName"] == "stack-thumbnail"
    return {each["Name"]: (document[each["Name"]], each["Unit"]) for each in directive["Metrics"]}


def test_an_environment_logs_its_version_when_it_starts(printed: Any) -> None:
    """One line, before any invocation."""
    telemetry, lines = printed()
    telemetry.initialized("1.2.3")
    (line,) = lines()
    assert line.items() >= {"level": "INFO", "action": "init", "version": "1.2.3"}.items()


def test_degraded_thumbnails_are_logged_as_a_warning(printed: Any) -> None:
    """The line has the key, and the reason why something of the image was not kept."""
    telemetry, lines = printed()
    telemetry.begin("request-1")
    telemetry.degraded("b", "uploads/a.gif", "the first frame was kept: …")
    (line,) = lines()
    assert line["level"] == "WARNING"
    assert line.items() >= {"action": "degraded", "bucket": "b", "key": "uploads/a.gif"}.items()
    assert line["reason"].startswith("the first frame")


def test_an_upload_is_logged_in_two_lines_and_one_metrics_document(printed: Any) -> None:
    """Both lines have bucket and key; the metrics have their units and a single dimension."""
    telemetry, lines = printed()
    telemetry.begin("request-1")
    telemetry.started("b", "uploads/å.jpg")
    telemetry.completed(
        "b", "uploads/å.jpg", widths=[128, 512], duration_ms=12.34, size_in=100, size_out=30
    )
    telemetry.flush()
    start, complete, *_ = got = lines()
    assert start.items() >= {"action": "start", "bucket": "b", "key": "uploads/å.jpg"}.items()
    assert complete["action"] == "complete"
    assert complete["thumbnails"] == [128, 512]
    assert complete["request_id"] == "request-1"
    assert metrics(got) == {
        "cold_starts": ([1.0], "Count"),
        "thumbnails_count": ([2.0], "Count"),
        "duration_ms": ([12.34], "Milliseconds"),
        "size_in_bytes": ([100.0], "Bytes"),
        "size_out_bytes": ([30.0], "Bytes"),
    }


def test_a_cold_start_is_counted_once(printed: Any) -> None:
    """Only the first invocation of an environment has the metric."""
    telemetry, lines = printed()
    telemetry.begin("1")
    telemetry.flush()
    assert "cold_starts" in metrics(lines())
    telemetry.begin("2")
    telemetry.skipped("b", "k", "why")
    telemetry.flush()
    assert metrics(lines()) == {"skipped_count": ([1.0], "Count")}


def test_an_invocation_without_uploads_prints_no_metrics(printed: Any) -> None:
    """A test event of S3, for example, prints neither a document nor a warning."""
    telemetry, lines = printed()
    telemetry.begin("1")
    telemetry.flush()
    lines()
    telemetry.begin("2")
    telemetry.flush()
    assert lines() == []


def test_a_failure_is_logged_as_an_error_and_counted(printed: Any) -> None:
    """Only an unexpected error is logged with its traceback."""
    telemetry, lines = printed()
    telemetry.begin("1")
    error = CorruptImage("cut short")
    error.__cause__ = OSError("image file is truncated")
    telemetry.failed("b", "k", error, {"type": "CorruptImage"})
    unexpected = UnexpectedError("ZeroDivisionError: …")
    unexpected.__cause__ = ZeroDivisionError()
    telemetry.failed("b", "k", unexpected, {"type": "UnexpectedError"})
    telemetry.flush()
    first, second, *_ = got = lines()
    assert first["level"] == "ERROR"
    assert first["error"] == {"type": "CorruptImage"}
    assert "exception" not in first
    assert "ZeroDivisionError" in second["exception"]
    assert metrics(got)["failed_count"] == ([1.0, 1.0], "Count")


def test_no_metric_is_lost_when_there_are_more_than_100_values(printed: Any) -> None:
    """EMF allows 100 values for each metric; further ones are printed in another document."""
    telemetry, lines = printed()
    telemetry.begin("1")
    for _ in range(250):
        telemetry.skipped("b", "k", "why")
    telemetry.flush()
    documents = [line for line in lines() if "_aws" in line]
    assert sum(sum(each.get("skipped_count", [])) for each in documents) == 250


def test_a_line_that_cannot_be_written_fails_nothing(
    printed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A value without a text is reported on stderr, and the invocation goes on."""

    class Unprintable(ZeroDivisionError):
        def __str__(self) -> str:
            raise self

    telemetry, _ = printed()
    telemetry.failed("b", "k", CorruptImage("…"), {"message": Unprintable()})
    telemetry.flush()
    captured = capsys.readouterr()
    assert "Logging error" in captured.err
    (document,) = [json.loads(line) for line in captured.out.splitlines()]
    assert document["failed_count"] == [1.0]


def test_every_metric_has_room_in_one_document() -> None:
    """EMF allows 100 metrics in a document. The estimate of costs counts each of them."""
    assert len(UNITS) == METRICS <= 100
