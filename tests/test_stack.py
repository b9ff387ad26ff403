"""How a stack is reached, and what must agree with the function and the state machines."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

from image_pipeline.stack import aws, costs, dead_letters, replay, uploads
from thumbnailer.dead_letters import UNREADABLE
from thumbnailer.imaging import Size, ThumbnailSpec

MOMENTS = st.floats(0, 4e9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(MOMENTS, st.sampled_from(["milliseconds", "seconds"]))
def test_times_are_read_as_botocore_reads_them(moment: datetime, precision: str) -> None:
    """In every form that AWS's services return: ISO 8601, and seconds since 1970."""
    text = moment.isoformat(timespec=precision).replace("+00:00", "Z")
    for value in (text, moment.timestamp(), str(int(moment.timestamp()))):
        assert aws._parse_time(value) == parse_timestamp(value)  # noqa: SLF001


@pytest.mark.parametrize("value", ["Tue, 24 Nov 2026 23:14:42 GMT", "20261124T231442Z", 0, 1.5])
def test_other_forms_of_time_are_left_to_botocore(value: object) -> None:
    """HTTP dates and unusual forms."""
    assert aws._parse_time(value) == parse_timestamp(value)  # noqa: SLF001


@pytest.mark.parametrize("value", ["", "soon", None])
def test_an_invalid_time_is_refused(value: object) -> None:
    """By botocore, so that its error says what is wrong."""
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        aws._parse_time(value)  # noqa: SLF001


def test_a_replay_counts_unreadable_messages_by_the_function_s_word() -> None:
    """The reason that the function gives is the outcome; the error type is another word."""
    assert UNREADABLE in replay.OUTCOMES
    machine = (Path(__file__).parents[1] / "iac" / "replay.asl.json").read_text()
    assert f"$returned.left = '{UNREADABLE}' ? '{UNREADABLE}'" in machine
    assert dead_letters.UNREADABLE_TYPE == "Unreadable"


def test_a_replay_counts_by_the_outcomes_of_the_state_machine() -> None:
    """What the command adds up is in the output of each execution."""
    text = (Path(__file__).parents[1] / "iac" / "replay.asl.json").read_text()
    counts = json.loads(text)["States"]["Lanes"]["ItemProcessor"]["States"]["Begin"]["Assign"]
    assert set(replay.OUTCOMES) <= set(counts["counts"])


def test_a_remake_is_estimated_with_its_refused_writes() -> None:
    """A thumbnail is written twice, at first only if it is missing, after a HEAD of its source."""
    rates = costs.Rates(512, "arm64", writes=2, duration_ms=160)
    more = costs.of_backfill(rates, 1000, 1000, remake=True) - costs.of_backfill(rates, 1000, 1000)
    assert more == pytest.approx(2000 * (0.005 + 0.0004) / 1000)


def test_a_backfill_is_estimated_with_the_batches_of_the_state_machine() -> None:
    """Requests and transitions are paid for by the batch."""
    text = (Path(__file__).parents[1] / "iac" / "backfill.asl.json").read_text()
    assert f'"MaxItemsPerBatch": {costs.BATCH},' in text


@pytest.mark.parametrize(
    ("size", "made", "saving"), [(1000, 250, 75), (100, 150, -50), (0, 1, -100)]
)
def test_a_thumbnail_saves_a_percentage_of_its_original(size: int, made: int, saving: int) -> None:
    """A larger thumbnail saves less than nothing, and an empty original is no division by zero."""
    original = uploads.Outcome(Path("photo.jpg"), "uploads/photo.jpg", size, None)
    spec = ThumbnailSpec(Size.of_width(128), 85, animated=False)
    assert original.saving(uploads.Thumbnail(spec, "photo_128w.webp", made)) == saving
