"""Settings: which environment variables are valid, and the keys and fingerprints of outputs."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbnailer.errors import InvalidSettings
from thumbnailer.imaging import Size, fingerprint, parse_sizes
from thumbnailer.provenance import Provenance
from thumbnailer.settings import (
    KEY_TEMPLATE,
    Settings,
    check_extension,
    check_keys_differ,
    parse_formats,
    parse_key_template,
)

REQUIRED = {"OUTPUT_BUCKET": "thumbs", "DLQ_URL": "https://sqs.example/1/dead-letters"}


def settings(**environment: str) -> Settings:
    """Read settings from an environment that has these variables, and the required ones."""
    return Settings.from_environment(REQUIRED | environment)


def test_only_the_bucket_and_the_queue_are_required() -> None:
    """All other variables have a default, which is also the default of the class."""
    default = settings()
    assert default == Settings(REQUIRED["OUTPUT_BUCKET"], REQUIRED["DLQ_URL"])
    assert [size.width for size in default.sizes] == [128, 512]
    assert default.quality == 85
    assert default.input_prefix == "uploads/"
    assert default.output_key_template == "{dir}{stem}_{width}w.webp"
    assert default.log_level == "INFO"


def test_the_error_names_every_invalid_variable() -> None:
    """An operator can fix all of them in one deployment."""
    wrong = {
        "THUMB_SIZES": "128,huge",
        "THUMB_FORMATS": "webp,gif",
        "WEBP_QUALITY": "101",
        "AVIF_QUALITY": "0",
        "JPEG_QUALITY": "high",
        "BACKGROUND_COLOR": "white",
        "OUTPUT_KEY_TEMPLATE": "{stem}.webp",
        "LOG_LEVEL": "LOUD",
    }
    with pytest.raises(InvalidSettings) as raised:
        Settings.from_environment(wrong)
    for name in [*wrong, *REQUIRED]:
        assert name in str(raised.value)


def test_a_template_that_does_not_fit_is_named_beside_other_faults() -> None:
    """It is checked whenever it, the sizes and the formats are valid by themselves."""
    with pytest.raises(InvalidSettings, match=r"JPEG_QUALITY .*; OUTPUT_KEY_TEMPLATE cannot tell"):
        settings(JPEG_QUALITY="0", THUMB_FORMATS="webp,avif", OUTPUT_KEY_TEMPLATE="{stem}_{size}")
    with pytest.raises(InvalidSettings) as raised:
        settings(THUMB_FORMATS="webp,webp", OUTPUT_KEY_TEMPLATE="{stem}_{size}")
    assert "OUTPUT_KEY_TEMPLATE" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OUTPUT_BUCKET", "Not_A_Bucket"),
        ("DLQ_URL", "dead-letters"),
        ("THUMB_SIZES", ""),
        ("THUMB_SIZES", "0"),
        ("THUMB_SIZES", "16384"),
        ("THUMB_SIZES", "128,128"),
        ("THUMB_SIZES", "1_28"),
        ("THUMB_SIZES", "-1"),
        ("THUMB_SIZES", "256x256,256x256:pad"),
        ("THUMB_SIZES", "Card=600x400,card=640"),
        ("THUMB_SIZES", "a/b=600x400"),
        ("THUMB_SIZES", "{size}=600x400"),
        ("THUMB_SIZES", "512:cover"),
        ("THUMB_SIZES", "512x512:cover:face"),
        ("THUMB_FORMATS", ""),
        ("THUMB_FORMATS", "gif"),
        ("THUMB_FORMATS", "webp,webp"),
        ("WEBP_QUALITY", "0"),
        ("WEBP_QUALITY", "85.5"),
        ("AVIF_QUALITY", "0"),
        ("AVIF_QUALITY", "101"),
        ("JPEG_QUALITY", "0"),
        ("JPEG_QUALITY", "101"),
        ("BACKGROUND_COLOR", "#fff"),
        ("BACKGROUND_COLOR", ""),
        ("OUTPUT_KEY_TEMPLATE", "{stem}_{width}w_{nonsense}.webp"),
        ("OUTPUT_KEY_TEMPLATE", "{stem}_{width.real}.webp"),
        ("OUTPUT_KEY_TEMPLATE", "{stem!r}_{width}"),
        ("OUTPUT_KEY_TEMPLATE", "{stem}_{width:1000000000}"),
        ("OUTPUT_KEY_TEMPLATE", "{stem}_{width"),
        ("OUTPUT_KEY_TEMPLATE", "{width}.webp"),
        ("OUTPUT_KEY_TEMPLATE", "_image-pipeline/{dir}{stem}_{width}"),
        ("ANIMATED", "yes"),
        ("WRITE_MANIFEST", ""),
        ("INPUT_PREFIX", ""),
        ("INPUT_PREFIX", "a\tb/"),
        ("CACHE_CONTROL", "max-age=1\r\nX-Evil: 1"),
    ],
)
def test_an_invalid_value_is_refused_and_its_variable_named(name: str, value: str) -> None:
    """The message has that variable, and no other one."""
    with pytest.raises(InvalidSettings, match=rf"^[^;]*: {name} [^;]*$"):
        settings(**{name: value})


@pytest.mark.parametrize(
    ("environment", "fault"),
    [
        (
            {"THUMB_SIZES": "128,512,a=5x5,A=6x6"},
            (
                "THUMB_SIZES item 4, 'A=6x6', has the same name as 'a=5x5', and names must differ "
                "(example: 128,512,avatar=256x256:cover:attention,card=600x400:pad)"
            ),
        ),
        ({"THUMB_SIZES": "128,{x}=5"}, "THUMB_SIZES item 2, '{x}=5', must have a name of at most"),
        ({"AVIF_QUALITY": "101"}, "AVIF_QUALITY must be between 1 and 100, not 101"),
        ({"JPEG_QUALITY": "0"}, "JPEG_QUALITY must be between 1 and 100, not 0"),
        (
            {"THUMB_FORMATS": "webp,heic"},
            "THUMB_FORMATS must be formats of webp, avif, jpeg, such as webp,avif, not",
        ),
        (
            {"THUMB_FORMATS": "avif,avif"},
            "THUMB_FORMATS must not contain a format twice: 'avif,avif'",
        ),
        (
            {"BACKGROUND_COLOR": "red"},
            "BACKGROUND_COLOR must be a colour such as #ffffff or #1a2b3c, not 'red'",
        ),
        (
            {"THUMB_FORMATS": "webp,avif", "OUTPUT_KEY_TEMPLATE": "{stem}_{size}"},
            (
                "OUTPUT_KEY_TEMPLATE cannot tell the formats webp and avif apart, which would both "
                "be 'photo_128w': put {format} into it, such as {dir}{stem}_{size}.{format}"
            ),
        ),
        (
            {"THUMB_SIZES": "64,64x64", "OUTPUT_KEY_TEMPLATE": "{stem}-{width}.{format}"},
            (
                "OUTPUT_KEY_TEMPLATE cannot tell the sizes 64w and 64x64 apart, which would both "
                "be 'photo-64.webp': put {size} into it, such as {dir}{stem}_{size}.{format}"
            ),
        ),
        (
            {"THUMB_FORMATS": "avif", "OUTPUT_KEY_TEMPLATE": "{stem}-{width}.webp"},
            (
                "OUTPUT_KEY_TEMPLATE names avif files .webp: end it with .{format}, such as "
                "{dir}{stem}_{size}.{format}"
            ),
        ),
    ],
)
def test_a_fault_says_what_is_wrong_where_and_what_is_right(
    environment: dict[str, str], fault: str
) -> None:
    """It has the variable, the item and its position, the rule, and an example."""
    with pytest.raises(InvalidSettings, match=re.escape(fault)):
        settings(**environment)


def test_shapes_formats_and_their_qualities_are_read() -> None:
    """Each variable reaches the specs that it shapes."""
    read = settings(
        THUMB_SIZES="128,card=600x400:pad",
        THUMB_FORMATS="webp, jpeg,avif",
        AVIF_QUALITY="1",
        JPEG_QUALITY="100",
        BACKGROUND_COLOR="#FF8000",
    )
    assert read.formats == ("webp", "jpeg", "avif")
    assert [(spec.format, spec.quality, spec.background) for spec in read.specs] == [
        ("webp", 85, "#ffffff"),
        ("jpeg", 100, "#ff8000"),
        ("avif", 1, "#ffffff"),
        ("webp", 85, "#ff8000"),
        ("jpeg", 100, "#ff8000"),
        ("avif", 1, "#ff8000"),
    ]


def test_widths_keep_their_order_and_may_have_spaces() -> None:
    """The sizes of " 512, 128 " are 512 and 128, in that order."""
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
def test_a_thumbnail_key_has_the_folders_of_its_source_without_the_prefix(
    key: str, thumbnail: str
) -> None:
    """Any legal key has a thumbnail key, because a key is a name and no path or template."""
    assert settings().thumbnail_key(key, Size.of_width(128), "webp") == thumbnail


def test_a_key_template_may_contain_the_extension() -> None:
    """With {ext}, the thumbnails of a.jpg and a.png have different keys."""
    with_ext = settings(OUTPUT_KEY_TEMPLATE="{dir}{stem}.{ext}/{width}.webp")
    assert (
        with_ext.thumbnail_key("uploads/d/a.jpg", Size.of_width(128), "webp") == "d/a.jpg/128.webp"
    )
    assert (
        with_ext.thumbnail_key("uploads/d/a.png", Size.of_width(128), "webp") == "d/a.png/128.webp"
    )


TEMPLATES = (
    st.lists(st.sampled_from(["{dir}", "{stem}", "{ext}", "{width}", "/", "-", "a", "{{"]))
    .map("".join)
    .filter(lambda text: "{stem}" in text and "{width}" in text)
)


@given(TEMPLATES, st.text(max_size=20), st.lists(st.integers(1, 16383), min_size=2, unique=True))
def test_all_keys_that_the_template_can_give_begin_with_the_prefixes(
    template: str, name: str, widths: list[int]
) -> None:
    """For any widths; the narrower prefix is as long as it can be, and each key has the stem."""
    source = "uploads/" + name
    any_width = settings(OUTPUT_KEY_TEMPLATE=template)
    wide, narrow = any_width.key_prefixes(source)
    assert narrow.startswith(wide)
    keys = [any_width.thumbnail_key(source, Size.of_width(width), "webp") for width in widths]
    assert all(key.startswith(narrow) for key in keys)
    one, two = (any_width.thumbnail_key(source, Size.of_width(width), "webp") for width in (1, 2))
    assert (one[len(narrow)], two[len(narrow)]) == ("1", "2")
    for key in (*keys, *any_width.manifest_keys(source)):
        assert any_width.stem(source) in key


@pytest.mark.parametrize(
    ("template", "prefixes"),
    [
        ("{dir}{stem}_{width}w.webp", ("a/photo", "a/photo_")),
        ("{dir}{stem}.{ext}_{width}", ("a/photo", "a/photo.jpg_")),
        ("t/{width}/{dir}{stem}", ("t/", "t/")),
        ("{width}{stem}", ("", "")),
        ("{dir}{width}/{stem}", ("a/", "a/")),
    ],
)
def test_the_wider_prefix_ends_with_the_stem(template: str, prefixes: tuple[str, str]) -> None:
    """So templates that differ behind the stem share it; the narrower one ends at the width."""
    assert settings(OUTPUT_KEY_TEMPLATE=template).key_prefixes("uploads/a/photo.jpg") == prefixes


@pytest.mark.parametrize("template", ["{dir}{stem}_{width}", "{dir}{stem}.{ext}_{width}"])
def test_the_manifests_key_is_one_of_all_that_a_manifest_can_have(template: str) -> None:
    """Whatever the template is now, manifests of another one are found by name."""
    chosen = settings(OUTPUT_KEY_TEMPLATE=template)
    assert chosen.manifest_keys("uploads/a/b.jpg") == ("a/b.json", "a/b.jpg.json")
    assert chosen.manifest_key("uploads/a/b.jpg") in chosen.manifest_keys("uploads/a/b.jpg")


@given(st.text(min_size=1).filter(lambda name: "/" not in name), st.integers(1, 16383))
def test_thumbnails_are_in_the_folder_of_their_source(name: str, width: int) -> None:
    """Whatever the name of a file is, its thumbnail's key has the same folder, and the width."""
    key = settings().thumbnail_key(f"uploads/folder/{name}", Size.of_width(width), "webp")
    assert key.startswith("folder/")
    assert key.count("/") == 1
    assert key.endswith(f"_{width}w.webp")


def test_only_settings_that_shape_the_bytes_change_the_fingerprints() -> None:
    """Quality and animation do; other sizes, key templates and headers do not."""

    def fingerprints(**environment: str) -> set[str]:
        return {fingerprint(spec) for spec in settings(**environment).specs}

    default = fingerprints()
    assert len(default) == 1
    assert fingerprints(WEBP_QUALITY="84").isdisjoint(default)
    assert fingerprints(ANIMATED="false").isdisjoint(default)
    assert fingerprints(ANIMATED="True", WRITE_MANIFEST="true") == default
    assert fingerprints(THUMB_SIZES="64") == default
    assert fingerprints(CACHE_CONTROL="no-store", OUTPUT_KEY_TEMPLATE="{stem}{width}") == default


def test_outputs_of_deployed_stacks_stay_current() -> None:
    """Keys and fingerprints are those of version 0.1.0, so that an update makes nothing again."""
    assert settings(WRITE_MANIFEST="true").outputs("uploads/a/photo.jpg") == {
        "a/photo_128w.webp": "1d4f67b656cc",
        "a/photo_512w.webp": "1d4f67b656cc",
        "a/photo.json": "e46bf09f67df",
    }
    (lower,) = settings(THUMB_SIZES="64", WEBP_QUALITY="80").outputs("uploads/a.jpg").items()
    assert lower == ("a_64w.webp", "930d51fa983e")
    (still,) = settings(THUMB_SIZES="64", ANIMATED="false").outputs("uploads/a.jpg").items()
    assert still == ("a_64w.webp", "24d08f9b4992")


@pytest.mark.parametrize(
    ("environment", "thumbnails", "manifest"),
    [
        ({}, "1d4f67b656cc", "e46bf09f67df"),
        ({"THUMB_SIZES": "64", "WEBP_QUALITY": "80"}, "930d51fa983e", "7d2178118a4b"),
        ({"ANIMATED": "false"}, "24d08f9b4992", "f7f7912b1379"),
        (
            {"OUTPUT_KEY_TEMPLATE": "{dir}{stem}.{ext}_{width}w.webp"},
            "1d4f67b656cc",
            "ea6e01bd8e5d",
        ),
        ({"THUMB_SIZES": "320,128,1024"}, "1d4f67b656cc", "f1c517a41a6d"),
    ],
)
def test_fingerprints_are_those_of_versions_without_shapes_and_formats(
    environment: dict[str, str], thumbnails: str, manifest: str
) -> None:
    """An update makes nothing again, and what only other formats and fits use changes nothing."""
    unused = {"AVIF_QUALITY": "5", "JPEG_QUALITY": "5", "BACKGROUND_COLOR": "#000000"}
    for read in (settings(**environment), settings(**environment, **unused)):
        assert {fingerprint(spec) for spec in read.specs} == {thumbnails}
        assert read.manifest_fingerprint == manifest
        assert read.manifest_version == 1


# --- the focus of a source ----------------------------------------------------------------------
MODIFIED = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_focus_is_part_of_the_provenance_of_crops_alone() -> None:
    """Thumbnails that show the whole picture, and manifests without a crop, have none."""
    mixed = settings(
        THUMB_SIZES="128,a=64x64:cover:attention,b=64x64:pad,c=64x64:contain",
        THUMB_FORMATS="webp,jpeg",
        WRITE_MANIFEST="true",
    )
    found = mixed.provenances("uploads/p.jpg", "e", MODIFIED, "0.5,0.3")
    outputs = mixed.outputs("uploads/p.jpg")
    assert list(found) == list(outputs)
    for key, each in found.items():
        focus = "0.5,0.3" if key in ("p_a.webp", "p_a.jpeg", "p.json") else ""
        assert each == Provenance("uploads/p.jpg", "e", MODIFIED, outputs[key], focus)
    whole = settings(THUMB_SIZES="128,64x64:pad", WRITE_MANIFEST="true")
    assert not whole.crops
    assert not any(
        each.focus for each in whole.provenances("uploads/p.jpg", "e", MODIFIED, "0.5,0.3").values()
    )


@pytest.mark.parametrize(
    ("metadata", "focus", "fault"),
    [
        ({}, "", False),
        ({"focus": "0.5,0.3"}, "0.5,0.3", False),
        ({"focus": " 1 , 0.30004 "}, "1,0.3", False),
        ({"name": "x", "focus": "0,0"}, "0,0", False),
        ({"focus": ""}, "", True),
        ({"focus": "0.5,1.2"}, "", True),
        ({"focus": "nan,0.5"}, "", True),
        ({"focus": "left"}, "", True),
    ],
)
def test_the_focus_is_read_from_the_metadata_of_a_source(
    metadata: dict[str, str], focus: str, fault: bool  # noqa: FBT001 - parametrized
) -> None:
    """In one text for each place. A wrong one is none, with a sentence for the log."""
    found, wrong = settings(THUMB_SIZES="64x64").focus(metadata)
    assert (found, wrong is not None) == (focus, fault)
    if fault:
        assert wrong == (
            "the metadata focus is ignored: it must be two numbers between 0 and 1 such as "
            f"0.5,0.3, not {metadata['focus']!r}"
        )
    assert settings(THUMB_SIZES="128,64x64:pad").focus(metadata) == ("", None)


@pytest.mark.parametrize(
    ("environment", "version"),
    [
        ({}, 1),
        ({"THUMB_SIZES": "2048,64", "WEBP_QUALITY": "1", "ANIMATED": "false"}, 1),
        ({"THUMB_SIZES": "512w=512"}, 1),
        ({"OUTPUT_KEY_TEMPLATE": "{dir}{stem}_{size}.{format}"}, 1),
        ({"AVIF_QUALITY": "50", "BACKGROUND_COLOR": "#000000"}, 1),
        ({"THUMB_SIZES": "128,card=600"}, 2),
        ({"THUMB_SIZES": "128,64x64"}, 2),
        ({"THUMB_SIZES": "64x64:contain"}, 2),
        ({"THUMB_FORMATS": "webp,avif"}, 2),
        ({"THUMB_FORMATS": "jpeg"}, 2),
    ],
)
def test_the_manifest_keeps_its_version_until_a_shape_a_name_or_a_format_is_used(
    environment: dict[str, str], version: int
) -> None:
    """Readers with a strict schema see nothing new before the operator asks for it."""
    assert settings(**environment).manifest_version == version


SHAPED = {"THUMB_SIZES": "128,512,a=64x64,b=32x32:pad", "THUMB_FORMATS": "webp,avif,jpeg"}


@pytest.mark.parametrize(
    "change",
    [
        {"WEBP_QUALITY": "84"},
        {"AVIF_QUALITY": "50"},
        {"JPEG_QUALITY": "50"},
        {"BACKGROUND_COLOR": "#000000"},
        {"ANIMATED": "false"},
        {"THUMB_SIZES": "128,512,a=64x63,b=32x32:pad"},
        {"THUMB_SIZES": "128,512,a=64x64:cover:attention,b=32x32:pad"},
        {"THUMB_FORMATS": "webp,avif"},
    ],
)
def test_the_version_of_a_picture_changes_with_whatever_shapes_a_thumbnail(
    change: dict[str, str],
) -> None:
    """A cache that keys on it never shows the former thumbnail."""
    before = settings(**SHAPED).picture_version("e", "")
    assert re.fullmatch("[0-9a-f]{8}", before)
    assert settings(**SHAPED | change).picture_version("e", "") != before
    manifests = [settings(**each).manifest_fingerprint for each in (SHAPED, SHAPED | change)]
    assert manifests[0] != manifests[1]


def test_the_version_of_a_picture_changes_when_two_names_change_places() -> None:
    """The URL of each then shows what the other one showed."""
    one, other = (
        settings(THUMB_SIZES=sizes).picture_version("e", "")
        for sizes in ("small=128x128,big=512x512", "small=512x512,big=128x128")
    )
    assert one != other


def test_the_version_of_a_picture_changes_with_its_bytes_and_its_focus_and_nothing_else() -> None:
    """Neither the order of sizes and formats nor a header or a name makes caches read again."""
    shaped = settings(**SHAPED)
    versions = {
        shaped.picture_version(etag, focus) for etag in "ef" for focus in ("", "0,0", "0.5,0.5")
    }
    assert len(versions) == 6
    same = SHAPED | {
        "THUMB_SIZES": "b=32x32:pad,512,a=64x64,128",
        "THUMB_FORMATS": "jpeg,webp,avif",
        "OUTPUT_KEY_TEMPLATE": "{dir}{stem}.{ext}/{size}.{format}",
        "CACHE_CONTROL": "no-store",
        "WRITE_MANIFEST": "true",
        "INPUT_PREFIX": "in/",
    }
    assert settings(**same).picture_version("e", "0,0") == shaped.picture_version("e", "0,0")


@pytest.mark.parametrize(
    "change",
    [
        {"THUMB_SIZES": "512,128,a=64x64,b=32x32:pad"},
        {"THUMB_FORMATS": "avif,webp,jpeg"},
        {"THUMB_SIZES": "128,640,a=64x64,b=32x32:pad"},
        {"OUTPUT_KEY_TEMPLATE": "{dir}{stem}.{ext}/{size}.{format}"},
    ],
)
def test_a_manifest_changes_with_the_list_of_thumbnails(change: dict[str, str]) -> None:
    """Their order, sizes and keys are its content, also where no thumbnail changes."""
    before, after = settings(**SHAPED), settings(**SHAPED | change)
    assert after.manifest_fingerprint != before.manifest_fingerprint


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("{dir}{stem}_{width}w.webp", "a/photo_avatar.avif"),  # of deployed stacks
        ("{dir}{stem}_{size}.{format}", "a/photo_avatar.avif"),
        ("{dir}{stem}/{size}-{width}.{ext}.{format}", "a/photo/avatar-256.jpg.avif"),
    ],
)
def test_a_key_has_the_name_of_the_size_and_the_format(template: str, key: str) -> None:
    """The former default template means the new one, wherever it is found."""
    found = settings(OUTPUT_KEY_TEMPLATE=template)
    avatar = Size("avatar", 256, 256)
    assert found.thumbnail_key("uploads/a/photo.jpg", avatar, "avif") == key


def test_both_default_templates_give_the_same_outputs() -> None:
    """So the new one can become a stack's parameter without making anything again."""
    former = settings(WRITE_MANIFEST="true")
    new = settings(WRITE_MANIFEST="true", OUTPUT_KEY_TEMPLATE="{dir}{stem}_{size}.{format}")
    assert former.outputs("uploads/a/photo.jpg") == new.outputs("uploads/a/photo.jpg")
    assert former.key_prefixes("uploads/a/photo.jpg") == new.key_prefixes("uploads/a/photo.jpg")


def test_every_size_is_a_thumbnail_in_every_format() -> None:
    """In the order of the sizes, and each with the quality of its format."""
    chosen = settings(THUMB_SIZES="128,256x256")._replace(formats=("webp", "avif", "jpeg"))
    assert [(spec.size.name, spec.format, spec.quality) for spec in chosen.specs] == [
        (name, *each)
        for name in ("128w", "256x256")
        for each in (("webp", 85), ("avif", chosen.avif_quality), ("jpeg", chosen.jpeg_quality))
    ]
    keys = list(chosen.outputs("uploads/photo.jpg"))
    assert keys == [
        *("photo_128w.webp", "photo_128w.avif", "photo_128w.jpeg"),
        *("photo_256x256.webp", "photo_256x256.avif", "photo_256x256.jpeg"),
    ]


def test_a_further_size_or_format_makes_nothing_else_stale() -> None:
    """Outputs of the default settings keep their keys and fingerprints."""
    more = settings(THUMB_SIZES="128,512,card=600x400:pad")._replace(
        formats=("webp", "avif", "jpeg"), background="#102030", avif_quality=50
    )
    outputs = more.outputs("uploads/photo.jpg")
    assert settings().outputs("uploads/photo.jpg").items() <= outputs.items()


@pytest.mark.parametrize(
    ("template", "sizes", "formats", "fault"),
    [
        ("{stem}_{size}", "128", ("webp", "avif"), "the formats webp and avif apart.*{format}"),
        ("{stem}_{width}.{format}", "600,card=600x400", ("webp",), "600w and card apart.*{size}"),
        ("{stem}_{width}", "a=600x9,b=600x8", ("webp",), "the sizes a and b apart"),
        ("{width}/{stem}.webp", "128,512", ("webp", "jpeg"), "the formats webp and jpeg apart"),
    ],
)
def test_a_template_that_cannot_tell_thumbnails_apart_is_refused(
    template: str, sizes: str, formats: tuple[str, ...], fault: str
) -> None:
    """The message names the two that would have the same key, and the field that is missing."""
    with pytest.raises(ValueError, match=fault):
        check_keys_differ(parse_key_template(template), parse_sizes(sizes), formats)
    check_keys_differ(KEY_TEMPLATE, parse_sizes(sizes), formats)


def test_a_template_that_cannot_tell_thumbnails_apart_is_refused_at_init() -> None:
    """It is a fault of the settings, like any other."""
    with pytest.raises(InvalidSettings, match="OUTPUT_KEY_TEMPLATE cannot tell the sizes 600w and"):
        settings(THUMB_SIZES="600,600x400", OUTPUT_KEY_TEMPLATE="{dir}{stem}-{width}.webp")


@pytest.mark.parametrize(
    ("template", "formats", "wrong"),
    [
        ("{stem}_{size}.webp", ("avif",), "names avif files .webp"),
        ("{stem}_{size}_{format}.webp", ("webp", "avif", "jpeg"), "avif and jpeg files .webp"),
        ("{stem}_{size}.JPG", ("webp",), "webp files .JPG"),
        ("{stem}_{size}.png", ("webp",), "webp files .png"),
        ("{stem}_{size}.jpg", ("jpeg",), None),
        ("{stem}_{size}.jpeg", ("jpeg",), None),
        ("{stem}_{size}.{format}", ("webp", "avif", "jpeg"), None),
        ("{stem}_{width}w.webp", ("webp",), None),
        ("{stem}_{size}", ("webp",), None),
        ("{stem}.{ext}_{size}", ("webp",), None),
    ],
)
def test_the_extension_and_the_format_must_agree(
    template: str, formats: tuple[str, ...], wrong: str | None
) -> None:
    """A name without an extension of an image says nothing wrong."""
    if wrong is None:
        check_extension(template, formats)
        return
    with pytest.raises(ValueError, match=re.escape(wrong)):
        check_extension(template, formats)


def test_formats_are_a_list_of_known_names() -> None:
    """Each once; the message has those that there are."""
    assert parse_formats("avif, webp") == ("avif", "webp")
    for text in ("", "png", "webp,", "webp,WEBP", "webp,webp", "jpg"):
        with pytest.raises(ValueError, match=r"such as webp,avif|a format twice"):
            parse_formats(text)
