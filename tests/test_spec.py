"""The fingerprint of a thumbnail's spec: it changes with everything that shapes the bytes."""

from typing import NamedTuple

import pytest

from thumbnailer.imaging import Size, ThumbnailSpec, fingerprint

DEFAULT = ThumbnailSpec(Size.of_width(128), 85, animated=True)


class LaterSize(NamedTuple):
    """A size with one more field, as a later version may have it."""

    name: str
    width: int
    height: int | None = None


class LaterSpec(NamedTuple):
    """A spec with one more field, as a later version may have it."""

    size: Size | LaterSize
    quality: int
    animated: bool
    format: str = "webp"
    sharpen: float = 0.0


def test_the_fingerprint_of_the_default_settings_never_changes() -> None:
    """Thumbnails that deployed stacks have made with version 0.1.0 stay current."""
    assert fingerprint(DEFAULT) == "1d4f67b656cc"


@pytest.mark.parametrize(
    "change",
    [{"quality": 84}, {"animated": False}, {"format": "avif"}, {"size": Size("small", 128)}],
)
def test_every_field_of_a_spec_changes_the_fingerprint(change: dict[str, object]) -> None:
    """No field can be forgotten: the test fails for a new one until it is added here."""
    fields = set(ThumbnailSpec._fields)
    assert fields == {"size", "quality", "animated", "format"}, "add the new field to this test"
    assert fingerprint(DEFAULT._replace(**change)) != fingerprint(DEFAULT)


def test_a_new_field_with_its_default_value_keeps_the_fingerprint() -> None:
    """A new setting makes no thumbnail stale until it is used; then the fingerprint changes."""
    later = LaterSpec(*DEFAULT)
    assert fingerprint(later) == fingerprint(DEFAULT)  # type: ignore[arg-type]
    sharper = later._replace(sharpen=0.5)
    assert fingerprint(sharper) != fingerprint(DEFAULT)  # type: ignore[arg-type]


def test_a_new_field_of_a_size_changes_the_fingerprint() -> None:
    """A height that is not part of the name is hashed, also for a size with a default name."""
    plain, shaped = LaterSize("128w", 128), LaterSize("128w", 128, height=128)
    later = LaterSpec(plain, 85, animated=True)
    assert fingerprint(later) == fingerprint(DEFAULT)  # type: ignore[arg-type]
    other = later._replace(size=shaped)
    assert fingerprint(other) != fingerprint(DEFAULT)  # type: ignore[arg-type]


def test_the_width_is_hashed_unless_the_name_contains_it() -> None:
    """`128w` and `512w` have different keys; for a name such as `card`, a new width must count."""
    assert fingerprint(DEFAULT._replace(size=Size.of_width(512))) == fingerprint(DEFAULT)
    card = DEFAULT._replace(size=Size("card", 600))
    assert fingerprint(card) != fingerprint(card._replace(size=Size("card", 640)))
