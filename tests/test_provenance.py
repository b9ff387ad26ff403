"""Provenance: what is written to metadata is read back, and damaged metadata is no error."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbnailer.imaging import focus_text, parse_focus
from thumbnailer.provenance import LONG_AGO, Provenance

KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=1024).filter(
    lambda key: len(key.encode()) <= 1024
)
TIMES = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(microsecond=0))
FOCUSES = st.just("") | st.tuples(st.floats(0, 1), st.floats(0, 1)).map(
    lambda found: focus_text(parse_focus("{:.9f},{:.9f}".format(*found)))
)
PROVENANCES = st.builds(
    Provenance,
    KEYS,
    st.text("0123456789abcdef-", max_size=40),
    TIMES,
    st.just("0123456789ab"),
    FOCUSES,
)


@given(PROVENANCES)
def test_provenance_is_read_as_it_was_written(provenance: Provenance) -> None:
    """Any legal key survives; the metadata is ASCII and stays below the 2 KB that S3 allows."""
    metadata = provenance.to_metadata()
    assert Provenance.of(metadata) == provenance
    assert all(value.isascii() and value.isprintable() for value in metadata.values())
    assert sum(len(name) + len(value) for name, value in metadata.items()) < 2048


@given(PROVENANCES, PROVENANCES)
def test_of_two_sources_exactly_one_is_newer(one: Provenance, other: Provenance) -> None:
    """Time and key decide, so that all workers agree on the winner of a collision."""
    same = (one.key, one.modified) == (other.key, other.modified)
    assert one.is_newer_than(other) + other.is_newer_than(one) == (0 if same else 1)


def test_metadata_without_a_source_key_has_no_provenance() -> None:
    """Such an object was not written by this pipeline."""
    assert Provenance.of({}) is None
    assert Provenance.of({"recipe": "x"}) is None
    assert Provenance.of({"source-key": "base64,not base64!"}) is None


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60))
def test_damaged_metadata_is_read_without_an_error(text: str) -> None:
    """Any text in the fields gives a provenance whose time has a time zone."""
    found = Provenance.of({"source-key": text, "source-modified": text})
    assert found is not None
    assert found.modified.tzinfo is not None


def test_a_time_that_cannot_be_read_is_long_ago_and_one_without_a_zone_is_utc() -> None:
    """So every provenance can be compared with every other one."""
    assert Provenance.of({"source-key": "k", "source-modified": "soon"}) == Provenance(
        "k", "", LONG_AGO, ""
    )
    naive = Provenance.of({"source-key": "k", "source-modified": "2026-01-01T00:00:00"})
    assert naive is not None
    assert naive.modified == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("letter", ["a", "/", " ", "é", "日", "😀"])
def test_the_metadata_of_any_key_is_at_most_what_s3_allows(letter: str) -> None:
    """Names and values have at most 2,048 bytes, for a key of 1,024 bytes with any share of it."""
    size = len(letter.encode())
    for count in range(1024 // size + 1):
        key = letter * count + "x" * (1024 - size * count)
        provenance = Provenance(
            key,
            "f" * 32 + "-10000",
            datetime.max.replace(tzinfo=UTC),
            "f" * 12,
            "0.1234,0.5678",
        )
        metadata = provenance.to_metadata()
        assert sum(len(name) + len(value) for name, value in metadata.items()) <= 2048
        assert Provenance.of(metadata) == provenance
