"""The function's log lines and metrics beside those of Powertools for AWS Lambda.

CloudWatch's tools, and users' own queries, know the form of Powertools, which wrote the lines until
`thumbnailer.telemetry` did (ADR 40). Both write the same calls here.
"""

import io
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import PurePosixPath
from typing import Any, Final
from unittest import mock

from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics
from hypothesis import given
from hypothesis import strategies as st

from thumbnailer.errors import CorruptImage, UnexpectedError
from thumbnailer.settings import LOG_LEVELS
from thumbnailer.telemetry import LAMBDA_LEVELS, NAMESPACE, UNITS, Telemetry

type Call = tuple[str, tuple[Any, ...], dict[str, Any]]

TRACE: Final = "Root=1-6a1f3c2b-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled=0"


class JsonLogger:
    """Powertools' Logger, called as `thumbnailer.telemetry` calls Python's."""

    def __init__(self, level: str) -> None:
        self._logger = Logger(level=level, location=None, utc=True)
        # It keeps one logger for each process, with the level and the stream of its first use.
        self._logger.setLevel(level)
        logging.getLogger("service_undefined").handlers[0].setStream(sys.stdout)  # type: ignore[attr-defined]
        self._logger.remove_keys(["service"])

    def begin(self, request_id: str) -> None:
        """Put the request into each further line."""
        self._logger.append_keys(request_id=request_id)

    def info(self, fields: dict[str, Any]) -> None:
        """Log the fields."""
        self._logger.info(fields["action"], extra=fields)

    def warning(self, fields: dict[str, Any]) -> None:
        """Log the fields."""
        self._logger.warning(fields["action"], extra=fields)

    def error(self, fields: dict[str, Any], exc_info: BaseException | None = None) -> None:
        """Log the fields and the error."""
        self._logger.error(fields["action"], extra=fields, exc_info=exc_info)


class PowertoolsTelemetry(Telemetry):
    """Telemetry that is written by Powertools."""

    def __init__(self, level: str) -> None:
        super().__init__(level)
        self._logger = JsonLogger(level)  # type: ignore[assignment]
        self._metrics = EphemeralMetrics(namespace=NAMESPACE)

    def begin(self, request_id: str) -> None:
        """See Telemetry."""
        self._logger.begin(request_id)  # type: ignore[attr-defined]
        self._metrics.set_default_dimensions(
            FunctionName=os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local")
        )
        super().begin(request_id)

    def _measure(self, name: str, value: float) -> None:
        self._metrics.add_metric(name, UNITS[name], value)

    def flush(self) -> None:
        """See Telemetry."""
        if self._metrics.metric_set:
            self._metrics.flush_metrics()


def written(kind: type[Telemetry], level: str, calls: Sequence[Call]) -> str:
    """Return what is written, with the same time in each line."""
    with redirect_stdout(io.StringIO()) as output, warnings.catch_warnings():
        # Powertools warns on stderr of a level of Lambda's that hides lines.
        warnings.filterwarnings("ignore", "Current log level", UserWarning)
        telemetry = kind(level)
        for name, values, named in calls:
            getattr(telemetry, name)(*values, **named)
    text = re.sub(r'("Timestamp": ?)\d{13}', r"\g<1>0", output.getvalue())
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
    return re.sub(rf'(?<="timestamp":"){time}(?=\+0000")', "TIME", text)


def raised(error: Exception, cause: Exception | None, notes: Sequence[str]) -> Exception:
    """Return the error as it is when it has been raised and caught."""
    try:
        raise error from cause  # noqa: TRY301 - it gets a traceback
    except Exception as caught:  # noqa: BLE001 - it is any error
        for note in notes:
            caught.add_note(note)
        return caught


def call(name: str, *values: st.SearchStrategy[Any], **named: st.SearchStrategy[Any]) -> Any:
    """Return a strategy for calls of one method."""
    return st.tuples(st.just(name), st.tuples(*values), st.fixed_dictionaries(named))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
numbers = st.floats(allow_nan=False) | st.integers(min_value=0, max_value=10**12)
values = st.none() | st.booleans() | numbers | texts | st.builds(PurePosixPath, texts)
shown = st.dictionaries(texts, values | st.lists(values, max_size=3), max_size=4)
unforeseen = st.builds(
    raised,
    st.builds(
        lambda kind, text: kind(text), st.sampled_from([KeyError, OSError, ValueError]), texts
    ),
    st.none() | st.builds(ZeroDivisionError, texts),
    st.lists(texts, max_size=2),
)


def unexpected(cause: Exception | None) -> UnexpectedError:
    """Return the error that an unforeseen one becomes."""
    error = UnexpectedError(str(cause))
    error.__cause__ = cause
    return error


errors = st.builds(CorruptImage, texts) | st.builds(unexpected, st.none() | unforeseen)
calls = st.one_of(
    call("begin", texts),
    call("started", texts, texts),
    call(
        "completed",
        texts,
        texts,
        widths=st.lists(st.integers(1, 16_383), max_size=4),
        duration_ms=numbers,
        size_in=st.integers(0, 10**10),
        size_out=st.integers(0, 10**10),
    ),
    call("skipped", texts, texts, texts),
    call("failed", texts, texts, errors, shown),
    call("unreadable", texts, errors),
    call("degraded", texts, texts, texts),
    call("deleted", texts, texts, st.lists(texts, max_size=3)),
    call("collided", texts, texts, texts),
    call("flush"),
)


@given(
    st.lists(calls, max_size=8),
    st.sampled_from(LOG_LEVELS),
    st.sampled_from([None, "unknown", *LAMBDA_LEVELS]),
    st.sampled_from([None, "", "1-2", TRACE]),
    st.sampled_from([None, "stack-thumbnail"]),
)
def test_lines_and_metrics_are_those_of_powertools(
    calls: list[Call], level: str, lambda_level: str | None, trace: str | None, name: str | None
) -> None:
    """Byte for byte: fields, order, values, errors, levels, metrics, units and the dimension."""
    variables = {
        "AWS_LAMBDA_LOG_LEVEL": lambda_level,
        "_X_AMZN_TRACE_ID": trace,
        "AWS_LAMBDA_FUNCTION_NAME": name,
    }
    calls = [("begin", ("request",), {}), *calls, ("flush", (), {})]
    with mock.patch.dict(os.environ, {k: v for k, v in variables.items() if v is not None}):
        assert written(Telemetry, level, calls) == written(PowertoolsTelemetry, level, calls)


def test_many_values_are_split_as_powertools_splits_them() -> None:
    """After 100 values of a metric all metrics are written; only Powertools' spaces differ."""
    calls: list[Call] = [("begin", ("request",), {})]
    for number in range(250):
        calls += [("skipped", ("b", f"{number}", "why"), {})]
        calls += [("failed", ("b", "k", CorruptImage("…"), {}), {})] if number % 7 == 0 else []
    calls += [("flush", (), {})]
    ours, theirs = (
        [json.loads(line) for line in written(kind, "ERROR", calls).splitlines()]
        for kind in (Telemetry, PowertoolsTelemetry)
    )
    assert [list(each.items()) for each in ours] == [list(each.items()) for each in theirs]
    assert len([each for each in ours if "_aws" in each]) == 3
