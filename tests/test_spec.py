"""The fingerprint of a thumbnail's spec: it changes with everything that shapes the bytes."""

import time
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbnailer.imaging import (
    MAX_SIDE,
    Size,
    ThumbnailSpec,
    fingerprint,
    focus_text,
    parse_colour,
    parse_focus,
    parse_sizes,
    thumbnail_spec,
)

DEFAULT = ThumbnailSpec(Size.of_width(128), 85, animated=True)


class LaterSize(NamedTuple):
    """A size with one more field, as a later version may have it."""

    name: str
    width: int
    height: int | None = None
    fit: str = "cover"
    focus: str = "center"
    zoom: float = 1.0


class LaterSpec(NamedTuple):
    """A spec with one more field, as a later version may have it."""

    size: Size | LaterSize
    quality: int
    animated: bool
    format: str = "webp"
    background: str = "#ffffff"
    sharpen: float = 0.0


def test_the_fingerprint_of_the_default_settings_never_changes() -> None:
    """Thumbnails that deployed stacks have made with version 0.1.0 stay current."""
    assert fingerprint(DEFAULT) == "1d4f67b656cc"


@pytest.mark.parametrize(
    "change",
    [
        {"quality": 84},
        {"animated": False},
        {"format": "avif"},
        {"size": Size("small", 128)},
        {"background": "#000000"},
    ],
)
def test_every_field_of_a_spec_changes_the_fingerprint(change: dict[str, object]) -> None:
    """No field can be forgotten: the test fails for a new one until it is added here."""
    fields = set(ThumbnailSpec._fields)
    known = {"size", "quality", "animated", "format", "background"}
    assert fields == known, "add the new field to this test"
    assert fingerprint(DEFAULT._replace(**change)) != fingerprint(DEFAULT)


def test_a_new_field_with_its_default_value_keeps_the_fingerprint() -> None:
    """A new setting makes no thumbnail stale until it is used; then the fingerprint changes."""
    later = LaterSpec(*DEFAULT)
    assert fingerprint(later) == fingerprint(DEFAULT)  # type: ignore[arg-type]
    sharper = later._replace(sharpen=0.5)
    assert fingerprint(sharper) != fingerprint(DEFAULT)  # type: ignore[arg-type]


def test_a_new_field_of_a_size_changes_the_fingerprint() -> None:
    """What is not part of the name is hashed, also for a size with a default name."""
    plain, shaped = LaterSize("128w", 128), LaterSize("128w", 128, zoom=2.0)
    later = LaterSpec(plain, 85, animated=True)
    assert fingerprint(later) == fingerprint(DEFAULT)  # type: ignore[arg-type]
    other = later._replace(size=shaped)
    assert fingerprint(other) != fingerprint(DEFAULT)  # type: ignore[arg-type]


def test_the_width_is_hashed_unless_the_name_contains_it() -> None:
    """`128w` and `512w` have different keys; for a name such as `card`, a new width must count."""
    assert fingerprint(DEFAULT._replace(size=Size.of_width(512))) == fingerprint(DEFAULT)
    card = DEFAULT._replace(size=Size("card", 600))
    assert fingerprint(card) != fingerprint(card._replace(size=Size("card", 640)))


@pytest.mark.parametrize(
    "change", [{"height": 128}, {"fit": "pad"}, {"focus": "attention"}, {"width": 64}]
)
def test_every_field_of_a_shape_changes_the_fingerprint(change: dict[str, Any]) -> None:
    """A key may have the width only, so a size with a height is hashed whole, name or not."""
    assert set(Size._fields) == {"name", "width", "height", "fit", "focus"}, "add the new field"
    for name in ("256x256", "avatar"):
        size = Size(name, 256, 256)
        with_shape = fingerprint(DEFAULT._replace(size=size))
        assert with_shape != fingerprint(DEFAULT._replace(size=size._replace(**change)))
        assert with_shape != fingerprint(DEFAULT._replace(size=Size.of_width(256)))


def test_what_does_not_shape_the_bytes_is_left_out_of_a_spec() -> None:
    """A background makes no plain WebP stale, and whether animations are kept no JPEG."""

    def fingerprints(item: str, name: str) -> set[str]:
        [size] = parse_sizes(item)
        return {
            fingerprint(thumbnail_spec(size, name, 85, animated=animated, background=background))
            for animated in (True, False)
            for background in ("#ffffff", "#000000")
        }

    assert len(fingerprints("128", "webp")) == len(fingerprints("64x64", "webp")) == 2
    assert len(fingerprints("64x64:pad", "webp")) == 4
    assert len(fingerprints("128", "avif")) == 1
    assert len(fingerprints("128", "jpeg")) == len(fingerprints("64x64:pad", "avif")) == 2
    assert fingerprint(thumbnail_spec(Size.of_width(128), "webp", 85, animated=True)) == (
        fingerprint(DEFAULT)
    )


# --- the grammar of sizes -----------------------------------------------------------------------
def test_the_grammar_names_widths_shapes_fits_and_rules() -> None:
    """The example of the documentation, and what each form stands for."""
    assert parse_sizes(" 128, 512,avatar=256x256:cover:attention ,card=600x400:pad") == (
        Size("128w", 128),
        Size("512w", 512),
        Size("avatar", 256, 256, "cover", "attention"),
        Size("card", 600, 400, "pad"),
    )
    assert parse_sizes("256x256,a=256x256:contain,b=256x256:cover,c=256x256:cover:center") == (
        Size("256x256", 256, 256),
        Size("a", 256, 256, "contain"),
        Size("b", 256, 256),
        Size("c", 256, 256),
    )


@pytest.mark.parametrize(
    ("text", "item", "fault"),
    [
        ("128,", "item 2, ''", "is empty"),
        ("128,,512", "item 2, ''", "is empty"),
        ("128,huge", "item 2, 'huge'", "a width or WIDTHxHEIGHT"),
        ("1 28", "item 1, '1 28'", "a width or WIDTHxHEIGHT"),
        ("600x", "item 1, '600x'", "a width or WIDTHxHEIGHT"),
        ("1x2x3", "item 1, '1x2x3'", "a width or WIDTHxHEIGHT"),
        ("\u0661", "item 1, '\u0661'", "a width or WIDTHxHEIGHT"),
        ("a=", "item 1, 'a='", "a width or WIDTHxHEIGHT"),
        ("0", "item 1, '0'", "between 1 and 16383"),
        ("16384", "item 1, '16384'", "between 1 and 16383"),
        ("5x0", "item 1, '5x0'", "between 1 and 16383"),
        ("5x16384", "item 1, '5x16384'", "between 1 and 16383"),
        ("512:pad", "item 1, '512:pad'", "a height before its fit"),
        ("5x5:fill", "item 1, '5x5:fill'", "cover, contain or pad"),
        ("5x5:", "item 1, '5x5:'", "cover, contain or pad"),
        ("5x5:pad:center", "item 1, '5x5:pad:center'", "only cover crops"),
        ("5x5:cover:face", "item 1, '5x5:cover:face'", "center or attention"),
        ("5x5:cover:center:x", "item 1, '5x5:cover:center:x'", "center or attention"),
        ("=5", "item 1, '=5'", "a name of at most 64 letters"),
        ("a/b=5", "item 1, 'a/b=5'", "a name of at most 64 letters"),
        ("{a}=5", "item 1, '{a}=5'", "a name of at most 64 letters"),
        ("a b=5", "item 1, 'a b=5'", "a name of at most 64 letters"),
        ("..=5", "item 1, '..=5'", "a name of at most 64 letters"),
        ("a=b=5", "item 1, 'a=b=5'", "a name of at most 64 letters"),
        (f"{'a' * 65}=5", f"item 1, '{'a' * 65}=5'", "a name of at most 64 letters"),
        ("128,128", "item 2, '128'", "the same name as '128'"),
        ("5x5,5x5:pad", "item 2, '5x5:pad'", "such as other=5x5:pad"),
        ("Card=1,card=2", "item 2, 'card=2'", "names must differ"),
        ("128w=1,128", "item 2, '128'", "the same name as '128w=1'"),
    ],
)
def test_a_wrong_size_is_named_with_its_position_and_an_example(
    text: str, item: str, fault: str
) -> None:
    """The message says which item it is, what is wrong with it, and how sizes are written."""
    with pytest.raises(ValueError, match="example: 128,512,avatar=256x256:cover:attention") as got:
        parse_sizes(text)
    assert str(got.value).startswith(item)
    assert fault in str(got.value)


SIDES = st.integers(1, MAX_SIDE)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


@st.composite
def sizes(draw: st.DrawFn) -> Size:
    """Draw any size that the grammar has."""
    width, height = draw(SIDES), draw(st.none() | SIDES)
    default = f"{width}w" if height is None else f"{width}x{height}"
    name = draw(NAMES | st.just(default))
    if height is None:
        return Size(name, width)
    fit, focus = draw(
        st.sampled_from(
            [("cover", "center"), ("cover", "attention"), ("contain", "center"), ("pad", "center")]
        )
    )
    return Size(name, width, height, fit, focus)


@given(st.lists(sizes(), min_size=1, unique_by=lambda size: size.name.casefold()))
def test_sizes_are_read_as_they_are_written(drawn: list[Size]) -> None:
    """The text of a size is what the parser reads as that size."""
    assert parse_sizes(",".join(map(str, drawn))) == tuple(drawn)


@given(st.text() | st.text("0123456789x:=,{/ cover pad center attention", max_size=40))
def test_any_text_is_sizes_or_a_value_error(text: str) -> None:
    """Nothing else is raised, and what is read has names that can be told apart."""
    try:
        found = parse_sizes(text)
    except ValueError:
        return
    assert len({size.name.casefold() for size in found}) == len(found) > 0
    assert parse_sizes(",".join(map(str, found))) == found


def test_every_faulty_item_is_named() -> None:
    """So a user can correct all of them before the next deploy."""
    with pytest.raises(ValueError, match="example") as raised:
        parse_sizes("128,0,a=9x9:fill,128,b/c=5")
    message = str(raised.value)
    for position, item in ((2, "0"), (3, "a=9x9:fill"), (4, "128"), (5, "b/c=5")):
        assert f"item {position}, {item!r}, " in message
    assert "item 1" not in message


@pytest.mark.parametrize(
    "text", ["", "0.5", "0.5,0.5,0.5", "nan,0.5", "0.5,inf", "-0.1,0", "0,1.01", "a,b", "0.5;0.5"]
)
def test_a_focus_outside_the_picture_is_refused(text: str) -> None:
    """Only two fractions from 0 to 1 are one: what an uploader writes can be anything."""
    with pytest.raises(ValueError, match=r"two numbers between 0 and 1 such as 0\.5,0\.3"):
        parse_focus(text)
    assert parse_focus("0, 1") == (0.0, 1.0)
    assert parse_focus("0.25,0.75") == (0.25, 0.75)


@given(
    st.text()
    | st.text("0123456789., -+e_nainf\t\u0661", max_size=20)
    | st.tuples(st.floats(), st.floats()).map("{0[0]},{0[1]}".format)
    | st.tuples(st.floats(0, 1), st.floats(0, 1)).map("{0[0]:.12f} , {0[1]:.3f}".format)
)
def test_any_text_is_a_focus_or_a_value_error(text: str) -> None:
    """A focus is two fractions of at most four digits, and it is read as it is written."""
    try:
        focus = parse_focus(text)
    except ValueError:
        return
    assert all(0 <= part <= 1 and part == round(part, 4) for part in focus)
    assert parse_focus(focus_text(focus)) == focus
    x, y = (float(part) for part in text.split(","))
    assert focus == (round(x, 4), round(y, 4))


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_place_has_one_text(x: int, y: int) -> None:
    """However an uploader writes it: that text is part of the provenance of crops."""
    written = focus_text((x / 10_000, y / 10_000))
    for text in (f"{x / 10_000:.4f},{y / 10_000:.4f}", f" {x / 10_000:.9f} ,{y / 10_000:.6f}\n"):
        assert focus_text(parse_focus(text)) == written


@pytest.mark.parametrize("text", ["1" * 1000 + "," + "1" * 1000 + "x", " " * 2000, "." * 2000])
def test_a_long_wrong_focus_is_refused_at_once(text: str) -> None:
    """S3 allows 2 KB of metadata. A pattern that can match in many ways would take minutes."""
    began = time.process_time()
    with pytest.raises(ValueError, match="two numbers between 0 and 1"):
        parse_focus(text)
    assert time.process_time() - began < 0.1


def test_a_colour_has_six_digits() -> None:
    """It is kept in lower case, so that the same colour has one fingerprint."""
    assert parse_colour("#FFaa00") == "#ffaa00"
    for text in ("ffaa00", "#fff", "white", "#ffaa00 ", "#gg0000", ""):
        with pytest.raises(ValueError, match="must be a colour such as #ffffff"):
            parse_colour(text)
