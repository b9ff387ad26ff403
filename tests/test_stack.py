"""How a stack is reached."""

from datetime import UTC, datetime

import pytest
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

from image_pipeline.stack import deployed

MOMENTS = st.floats(0, 4e9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(MOMENTS, st.sampled_from(["milliseconds", "seconds"]))
def test_times_are_read_as_botocore_reads_them(moment: datetime, precision: str) -> None:
    """In every form that AWS's services answer with: ISO 8601 and seconds since 1970."""
    text = moment.isoformat(timespec=precision).replace("+00:00", "Z")
    for told in (text, moment.timestamp(), str(int(moment.timestamp()))):
        assert deployed._time(told) == parse_timestamp(told)  # noqa: SLF001


@pytest.mark.parametrize("told", ["Tue, 24 Nov 2026 23:14:42 GMT", "20261124T231442Z", 0, 1.5])
def test_other_forms_of_time_are_left_to_botocore(told: object) -> None:
    """HTTP's own dates, and what is odd."""
    assert deployed._time(told) == parse_timestamp(told)  # noqa: SLF001


@pytest.mark.parametrize("told", ["", "soon", None])
def test_what_is_no_time_is_refused(told: object) -> None:
    """As botocore does it, so that its own error says what was wrong."""
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        deployed._time(told)  # noqa: SLF001
