"""Failed uploads by cause, and which of them a filter means."""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.triage import (
    EXAMPLES,
    MAX_CAUSE,
    MAX_DURATION,
    UNITS,
    Filter,
    cause,
    duration,
    groups,
    messages_of,
)

NOW = datetime(2026, 11, 20, tzinfo=UTC)
numbers = count()


def failure(
    key: str = "uploads/a.jpg",
    error: str = "CorruptImage",
    text: str = "damaged",
    hours: float = 1,
    message_id: str = "",
) -> Failure:
    """A failure whose message came some hours before NOW."""
    sent_at = NOW - timedelta(hours=hours)
    name = message_id or str(next(numbers))
    return Failure(name, "in", key, "e", error, text, True, 1, sent_at, "{}")  # noqa: FBT003


# --- durations ----------------------------------------------------------------------------------
@given(st.dictionaries(st.sampled_from(sorted(UNITS)), st.integers(0, 99), min_size=1))
def test_a_duration_is_the_sum_of_its_parts(parts: dict[str, int]) -> None:
    """Numbers with units, in any order, such as 1d12h."""
    text = "".join(f"{number}{unit}" for unit, number in parts.items())
    expected = sum(number * UNITS[unit] for unit, number in parts.items())
    assert duration(text) == timedelta(seconds=expected)


@given(st.text() | st.from_regex(r"[0-9]{1,12}[smhdw]", fullmatch=True))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    """Whatever is typed, there is a time that long ago, or a message that shows an example."""
    try:
        found = duration(text)
    except ValueError as error:
        assert repr(text) in str(error)  # noqa: PT017 - any text may be a duration or not
        return
    assert timedelta(0) <= found <= MAX_DURATION
    assert datetime.now(UTC) - found <= datetime.now(UTC)


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "2 h", "1.5h", "2H", "2y", "99999d", "٢h"])
def test_other_durations_are_refused(text: str) -> None:
    """No number without a unit, no sign, space, fraction, other unit or other digits."""
    with pytest.raises(ValueError, match="must be"):
        duration(text)


# --- causes -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "texts",
    [
        ("needs 3,500 MB and has 1,024.", "needs 12,000 MB and has 512."),
        ("it begins with the bytes 68 65 6c 6c", "it begins with the bytes 00 ff"),
        ("begins b'hello\\n'", 'begins b"it\'s"'),
        ("s3://in/uploads/a.jpg: denied", "s3://other/x.png: denied"),
        ("request 0b5c3f9a-1c2d-4e5f-8a9b-0123456789ab", "request 1a2b3c4d5e6f"),
    ],
)
def test_what_differs_between_uploads_is_no_cause(texts: tuple[str, str]) -> None:
    """Numbers, bytes, quoted values, addresses and ids make no group of their own."""
    (group,) = groups(failure(text=text) for text in texts)
    assert len(group.failures) == 2


def test_the_name_of_an_upload_is_no_cause() -> None:
    """A message that names its upload is the same as one that names another; words stay whole."""
    keys = ["uploads/a.jpg", "uploads/b c/é.png"]
    (group,) = groups(failure(key, text=f"JPEG 2000 in {key}: plain 12") for key in keys)
    assert group.uploads == 2
    assert group.cause == "JPEG 2000 … …: plain N"


@given(st.text(max_size=5000), st.text(max_size=50))
def test_any_message_has_a_short_cause(text: str, key: str) -> None:
    """A cause is one line of limited length, whatever a message is, and the same every time."""
    found = cause(failure(key, text=text))
    assert len(found) <= MAX_CAUSE
    assert "\n" not in found
    assert found == cause(failure(key, text=text))


def test_groups_have_counts_ages_and_the_latest_examples() -> None:
    """The largest group is first; a message with two uploads counts once, as does an upload."""
    many = [failure(f"uploads/{n}.jpg", hours=n + 1) for n in range(5)]
    twice = [failure("uploads/0.jpg", hours=9)]
    record = [failure(f"uploads/{n}", "StorageDenied", message_id="record") for n in "xy"]
    largest, smaller = groups([*record, *many, *twice])
    assert (largest.error_type, largest.messages, largest.uploads) == ("CorruptImage", 6, 5)
    assert (smaller.messages, smaller.uploads) == (1, 2)
    assert largest.examples == [f"uploads/{n}.jpg" for n in range(EXAMPLES)]
    assert (NOW - largest.newest, NOW - largest.oldest) == (timedelta(hours=1), timedelta(hours=9))
    assert largest.id != smaller.id


# --- filters ------------------------------------------------------------------------------------
def test_a_filter_matches_by_key_error_age_and_group() -> None:
    """Every part of a filter must match; an empty one matches everything."""
    one = failure("uploads/Trip/IMG_1.jpg", "CorruptImage", hours=3)
    group = groups([one])[0].id
    good = [
        Filter(),
        Filter("uploads/Trip/", "CorruptImage", "img_", group),
        Filter(since=one.sent_at, until=one.sent_at + timedelta(seconds=1)),
    ]
    bad = [
        Filter("uploads/trip/"),
        Filter(error_type="Corrupt"),
        Filter(part="img_2"),
        Filter(group="0"),
        Filter(since=one.sent_at + timedelta(seconds=1)),
        Filter(until=one.sent_at),
    ]
    assert [each.matches(one) for each in [*good, *bad]] == [True] * 3 + [False] * 6


def test_a_message_of_several_uploads_is_chosen_whole_or_by_one() -> None:
    """To delete a message all its uploads must match; to replay it one is enough."""
    both = [failure(f"uploads/{name}/1.jpg", message_id="both") for name in ("keep", "drop")]
    single = failure("uploads/drop/2.jpg", message_id="single")
    chosen = Filter("uploads/drop/")
    assert messages_of([*both, single], chosen, whole=True) == ["single"]
    assert messages_of([*both, single], chosen, whole=False) == ["both", "single"]
