"""Provenance: what is written into metadata is what is read back."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from thumbnailer.provenance import LONG_AGO, Provenance

KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=1024).filter(
    lambda key: len(key.encode()) <= 1024
)
TIMES = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(microsecond=0))
PROVENANCES = st.builds(
    Provenance, KEYS, st.text("0123456789abcdef-", max_size=40), TIMES, st.just("0123456789ab")
)


@given(PROVENANCES)
def test_what_is_written_comes_back(told: Provenance) -> None:
    """Any legal key survives the metadata, which stays ASCII and below S3's 2 KB."""
    metadata = told.to_metadata()
    assert Provenance.of(metadata) == told
    assert all(value.isascii() and value.isprintable() for value in metadata.values())
    assert sum(len(name) + len(value) for name, value in metadata.items()) < 2048


@given(PROVENANCES, PROVENANCES)
def test_of_two_sources_exactly_one_is_newer(one: Provenance, other: Provenance) -> None:
    """All workers agree on who has a shared name: the order is total on (time, key)."""
    same = (one.key, one.modified) == (other.key, other.modified)
    assert one.is_newer_than(other) + other.is_newer_than(one) == (0 if same else 1)


def test_metadata_of_others_names_no_source() -> None:
    """An object that somebody else put there has no provenance."""
    assert Provenance.of({}) is None
    assert Provenance.of({"recipe": "x"}) is None
    assert Provenance.of({"source-key": "base64,not base64!"}) is None


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60))
def test_damaged_metadata_never_fails(text: str) -> None:
    """Whatever stands in the fields, it is read; a time that is none counts as long ago."""
    found = Provenance.of({"source-key": text, "source-modified": text})
    assert found is not None
    assert found.modified.tzinfo is not None
    assert Provenance.of({"source-key": "k", "source-modified": "soon"}) == Provenance(
        "k", "", LONG_AGO, ""
    )
    naive = Provenance.of({"source-key": "k", "source-modified": "2026-01-01T00:00:00"})
    assert naive is not None
    assert naive.modified == datetime(2026, 1, 1, tzinfo=UTC)
