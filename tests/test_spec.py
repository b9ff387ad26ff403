"""What one thumbnail is, and the fingerprint of everything that shapes its bytes."""

from typing import NamedTuple

import pytest

from thumbnailer.imaging import Size, ThumbnailSpec, fingerprint

TODAY = ThumbnailSpec(Size.of_width(128), 85, animated=True)


class LaterSize(NamedTuple):
    """A size with a field more."""

    name: str
    width: int
    height: int | None = None


class LaterSpec(NamedTuple):
    """A spec with a field more."""

    size: Size | LaterSize
    quality: int
    animated: bool
    format: str = "webp"
    sharpen: float = 0.0


def test_todays_fingerprint_keeps_its_value() -> None:
    """Thumbnails that deployed stacks have made stay current."""
    assert fingerprint(TODAY) == "1d4f67b656cc"


@pytest.mark.parametrize(
    "change",
    [{"quality": 84}, {"animated": False}, {"format": "avif"}, {"size": Size("small", 128)}],
)
def test_every_field_is_part_of_it(change: dict[str, object]) -> None:
    """No field of a spec can be forgotten: each one changes the fingerprint."""
    fields = set(ThumbnailSpec._fields)
    assert fields == {"size", "quality", "animated", "format"}, "add the new field to this test"
    assert fingerprint(TODAY._replace(**change)) != fingerprint(TODAY)


def test_a_new_field_changes_it_unless_it_has_the_implied_value() -> None:
    """Adding a setting makes nothing stale until somebody uses it, and then it cannot be missed."""
    later = LaterSpec(*TODAY)
    assert fingerprint(later) == fingerprint(TODAY)  # type: ignore[arg-type]
    assert fingerprint(later._replace(sharpen=0.5)) != fingerprint(TODAY)  # type: ignore[arg-type]


def test_a_new_field_of_the_size_counts_too() -> None:
    """A shape that the default name does not tell is hashed, whatever the size is called."""
    plain, shaped = LaterSize("128w", 128), LaterSize("128w", 128, height=128)
    later = LaterSpec(plain, 85, animated=True)
    assert fingerprint(later) == fingerprint(TODAY)  # type: ignore[arg-type]
    assert fingerprint(later._replace(size=shaped)) != fingerprint(TODAY)  # type: ignore[arg-type]


def test_a_default_name_leaves_the_width_to_the_key() -> None:
    """`128w` and `512w` differ in their keys; a name such as `card` must not hide a new width."""
    assert fingerprint(TODAY._replace(size=Size.of_width(512))) == fingerprint(TODAY)
    card = TODAY._replace(size=Size("card", 600))
    assert fingerprint(card) != fingerprint(card._replace(size=Size("card", 640)))
