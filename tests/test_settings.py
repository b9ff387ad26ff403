"""Settings: what the environment may say, and what becomes of a key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbnailer.errors import InvalidSettings
from thumbnailer.imaging import Size, fingerprint
from thumbnailer.settings import Settings

REQUIRED = {"OUTPUT_BUCKET": "thumbs", "DLQ_URL": "https://sqs.example/1/letters"}


def settings(**environment: str) -> Settings:
    return Settings.from_environment(REQUIRED | environment)


def test_defaults_are_the_documented_ones() -> None:
    """Only the bucket and the queue must be given; the rest is as the README says."""
    default = settings()
    assert [size.width for size in default.sizes] == [128, 512]
    assert default.quality == 85
    assert default.input_prefix == "uploads/"
    assert default.output_key_template == "{dir}{stem}_{width}w.webp"
    assert default.log_level == "INFO"


def test_every_fault_is_named_at_once() -> None:
    """An operator mends all of it in one deploy, not one fault a deploy."""
    wrong = {
        "THUMB_SIZES": "128,huge",
        "WEBP_QUALITY": "101",
        "OUTPUT_KEY_TEMPLATE": "{stem}.webp",
        "LOG_LEVEL": "LOUD",
    }
    with pytest.raises(InvalidSettings) as raised:
        Settings.from_environment(wrong)
    for name in [*wrong, *REQUIRED]:
        assert name in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OUTPUT_BUCKET", "Not_A_Bucket"),
        ("DLQ_URL", "letters"),
        ("THUMB_SIZES", ""),
        ("THUMB_SIZES", "0"),
        ("THUMB_SIZES", "16384"),
        ("THUMB_SIZES", "128,128"),
        ("THUMB_SIZES", "1_28"),
        ("THUMB_SIZES", "-1"),
        ("WEBP_QUALITY", "0"),
        ("WEBP_QUALITY", "85.5"),
        ("OUTPUT_KEY_TEMPLATE", "{stem}_{width}w_{nonsense}.webp"),
        ("OUTPUT_KEY_TEMPLATE", "{stem}_{width.real}.webp"),
        ("OUTPUT_KEY_TEMPLATE", "{stem!r}_{width}"),
        ("OUTPUT_KEY_TEMPLATE", "{stem}_{width:1000000000}"),
        ("OUTPUT_KEY_TEMPLATE", "{stem}_{width"),
        ("OUTPUT_KEY_TEMPLATE", "{width}.webp"),
        ("ANIMATED", "yes"),
        ("WRITE_MANIFEST", ""),
        ("INPUT_PREFIX", ""),
        ("INPUT_PREFIX", "a\tb/"),
        ("CACHE_CONTROL", "max-age=1\r\nX-Evil: 1"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    """Each variable is checked, and the message names it and shows the value."""
    with pytest.raises(InvalidSettings, match=name):
        settings(**{name: value})


def test_widths_keep_their_order_and_take_spaces() -> None:
    """People write "512, 128"."""
    assert settings(THUMB_SIZES=" 512, 128 ").sizes == (Size("512w", 512), Size("128w", 128))


@pytest.mark.parametrize(
    ("key", "thumbnail"),
    [
        ("uploads/photo.jpg", "photo_128w.webp"),
        ("uploads/a/photo.jpg", "a/photo_128w.webp"),
        ("uploads//photo.jpg", "/photo_128w.webp"),
        ("uploads/../photo.jpg", "../photo_128w.webp"),
        ("uploads/a.b/c.d.jpg", "a.b/c.d_128w.webp"),
        ("uploads/no-extension", "no-extension_128w.webp"),
        ("uploads/.jpg", ".jpg_128w.webp"),
        ("uploads/x_128w.webp", "x_128w_128w.webp"),
        ("uploads/übung ü.jpg", "übung ü_128w.webp"),
        ("uploads/{width}.jpg", "{width}_128w.webp"),
        ("uploads/uploads/a.jpg", "uploads/a_128w.webp"),
    ],
)
def test_the_prefix_is_cut_and_folders_stay(key: str, thumbnail: str) -> None:
    """Any legal key has a thumbnail key: a key is a name, not a path and not a template."""
    assert settings().thumbnail_key(key, Size.of_width(128)) == thumbnail


def test_a_template_may_name_the_extension() -> None:
    """{ext} keeps the thumbnails of a.jpg and a.png apart."""
    apart = settings(OUTPUT_KEY_TEMPLATE="{dir}{stem}.{ext}/{width}.webp")
    assert apart.thumbnail_key("uploads/d/a.jpg", Size.of_width(128)) == "d/a.jpg/128.webp"
    assert apart.thumbnail_key("uploads/d/a.png", Size.of_width(128)) == "d/a.png/128.webp"


@given(st.text(min_size=1).filter(lambda name: "/" not in name), st.integers(1, 16383))
def test_names_in_a_folder_stay_in_it(name: str, width: int) -> None:
    """Whatever a file is called, its thumbnail is in the same folder and tells its width."""
    key = settings().thumbnail_key(f"uploads/folder/{name}", Size.of_width(width))
    assert key.startswith("folder/")
    assert key.count("/") == 1
    assert key.endswith(f"_{width}w.webp")


def test_fingerprints_change_with_what_shapes_the_bytes() -> None:
    """Quality and animation change every thumbnail; other sizes, keys and headers change none."""

    def fingerprints(**environment: str) -> set[str]:
        return {fingerprint(spec) for spec in settings(**environment).specs}

    today = fingerprints()
    assert fingerprints(WEBP_QUALITY="84").isdisjoint(today)
    assert fingerprints(ANIMATED="false").isdisjoint(today)
    assert fingerprints(ANIMATED="True", WRITE_MANIFEST="true") == today
    assert fingerprints(THUMB_SIZES="64") == today
    assert fingerprints(CACHE_CONTROL="no-store", OUTPUT_KEY_TEMPLATE="{stem}{width}") == today


def test_outputs_of_deployed_stacks_stay_current() -> None:
    """Keys and fingerprints as version 0.1.0 wrote them: an update makes no thumbnail again."""
    assert settings(WRITE_MANIFEST="true").outputs("uploads/a/photo.jpg") == {
        "a/photo_128w.webp": "1d4f67b656cc",
        "a/photo_512w.webp": "1d4f67b656cc",
        "a/photo.json": "e46bf09f67df",
    }
    (lower,) = settings(THUMB_SIZES="64", WEBP_QUALITY="80").outputs("uploads/a.jpg").items()
    assert lower == ("a_64w.webp", "930d51fa983e")
    (still,) = settings(THUMB_SIZES="64", ANIMATED="false").outputs("uploads/a.jpg").items()
    assert still == ("a_64w.webp", "24d08f9b4992")
