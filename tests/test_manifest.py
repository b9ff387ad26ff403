"""The manifest: its content, its schema, and when it is written."""

import base64
import json
import re
import subprocess
import sys
from copy import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_bucket import MemoryBucket
from pictures import BLUE, RED, encoded, jpeg, near, thumbnails_of
from PIL import Image

from thumbnailer.errors import StorageUnavailable
from thumbnailer.events import Upload
from thumbnailer.imaging import (
    OUTPUT_FORMATS,
    Made,
    Size,
    Thumbnail,
    make_thumbnails,
    parse_focus,
    parse_sizes,
)
from thumbnailer.manifest import manifest
from thumbnailer.provenance import Provenance
from thumbnailer.reconcile import Done, Reconciler, Skipped
from thumbnailer.settings import Settings
from thumbnailer.srcset import srcset, url_path
from thumbnailer.telemetry import Telemetry

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "manifest.schema.json").read_text())
SETTINGS = Settings("thumbs", "https://sqs.example/1/q", write_manifest=True)
KEY = "uploads/a/photo.jpg"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def validated(data: bytes) -> dict[str, Any]:
    """Parse a manifest and check it against the schema."""
    content: dict[str, Any] = json.loads(data)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(SCHEMA, format_checker=checker).validate(content)
    return content


def manifest_of(
    data: bytes, widths: tuple[int, ...] = (128, 512), key: str = KEY
) -> dict[str, Any]:
    """Make thumbnails of an image, and return the manifest that describes them."""
    made = thumbnails_of(data, widths, 85, 512)
    stored = {
        each.spec: (f"a/photo_{each.spec.size.name}.webp", len(each.data))
        for each in made.thumbnails
    }
    source = Provenance(key, "0123", NOW, SETTINGS.manifest_fingerprint)
    return validated(manifest(SETTINGS, source, len(data), made, stored))


def test_a_manifest_describes_the_source_and_each_thumbnail() -> None:
    """It has key, etag, time, format, size and bytes of the source, and the size of each width."""
    data = jpeg((800, 600))
    content = manifest_of(data)
    assert content["version"] == 1
    assert content["source"] == {
        "key": KEY,
        "etag": "0123",
        "modified": "2026-01-01T12:00:00+00:00",
        "format": "JPEG",
        "width": 800,
        "height": 600,
        "bytes": len(data),
    }
    sizes = [(each["width"], each["height"]) for each in content["thumbnails"]]
    assert sizes == [(128, 96), (512, 384)]
    assert content["srcset"] == "a/photo_128w.webp 128w, a/photo_512w.webp 512w"


def test_the_manifest_of_a_small_image_has_the_real_widths() -> None:
    """An image of 300 px has thumbnails of at most 300 px, and lists that width once in srcset."""
    content = manifest_of(jpeg((300, 200)), (128, 512, 1024))
    assert [each["width"] for each in content["thumbnails"]] == [128, 300, 300]
    assert content["srcset"] == "a/photo_128w.webp 128w, a/photo_512w.webp 300w"


@pytest.mark.parametrize("size", [(1, 1), (2000, 3), (3, 2000), (101, 99)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_images_of_extreme_shapes_have_a_valid_manifest(size: tuple[int, int], mode: str) -> None:
    """Single pixels and very narrow images, with and without alpha, follow the schema."""
    assert manifest_of(encoded(Image.new(mode, size), "PNG"))["thumbhash"]


def test_the_dominant_colour_is_the_most_frequent_one() -> None:
    """Two thirds of red and one third of blue are red; transparent pixels do not count."""
    image = Image.new("RGBA", (300, 300), (*BLUE, 0))
    image.paste((*RED, 255), (0, 0, 100, 300))
    image.paste((*BLUE, 255), (100, 0, 150, 300))
    colour = bytes.fromhex(manifest_of(encoded(image, "PNG"))["dominant_colour"][1:])
    assert near(tuple(colour), RED, 16)


def test_the_thumbhash_has_the_average_colour_of_the_picture() -> None:
    """The average colour, decoded by the formula of the format, is that of the picture."""
    content = manifest_of(encoded(Image.new("RGB", (600, 400), RED), "PNG"))
    hashed = base64.b64decode(content["thumbhash"])
    header = int.from_bytes(hashed[:3], "little")
    light, p, q = header & 63, header >> 6 & 63, header >> 12 & 63
    # https://github.com/evanw/thumbhash, thumbHashToAverageRGBA
    level, p_dc, q_dc = light / 63, p / 31.5 - 1, q / 31.5 - 1
    blue = level - 2 / 3 * p_dc
    red = (3 * level - blue + q_dc) / 2
    colour = tuple(round(255 * value) for value in (red, red - q_dc, blue))
    assert near(colour, RED, 12)


VERSION_1 = """{
  "version": 1,
  "recipe": "e46bf09f67df",
  "source": {
    "key": "uploads/a/é, b.jpg",
    "etag": "0123",
    "modified": "2026-01-01T12:00:00+00:00",
    "format": "PNG",
    "width": 600,
    "height": 400,
    "bytes": 777
  },
  "thumbnails": [
    {
      "key": "a/é, b_128w.webp",
      "width": 128,
      "height": 85,
      "bytes": 1128
    },
    {
      "key": "a/é, b_512w.webp",
      "width": 512,
      "height": 341,
      "bytes": 1512
    }
  ],
  "srcset": "a/%C3%A9%2C%20b_128w.webp 128w, a/%C3%A9%2C%20b_512w.webp 512w",
  "dominant_colour": "#dc1e1e",
  "thumbhash": "THUMBHASH"
}"""


def test_the_manifest_of_the_default_settings_has_the_bytes_that_it_always_had() -> None:
    """Version 1 is what earlier versions of the function wrote, to the byte."""
    exact = encoded(Image.new("RGB", (128, 85), RED), "WEBP", lossless=True)
    sizes = ((128, 85), (512, 341))
    made = Made(
        "PNG",
        (600, 400),
        tuple(Thumbnail(*each, exact) for each in zip(SETTINGS.specs, sizes, strict=True)),
    )
    stored = {
        spec: (f"a/é, b_{spec.size.name}.webp", 1000 + spec.size.width) for spec in SETTINGS.specs
    }
    source = Provenance("uploads/a/é, b.jpg", "0123", NOW, SETTINGS.manifest_fingerprint)
    written = manifest(SETTINGS, source, 777, made, stored)
    # The hash of a plain picture is rounding errors, which architectures do not share.
    expected = VERSION_1.replace("THUMBHASH", validated(written)["thumbhash"])
    assert written.decode() == expected


# --- version 2 ----------------------------------------------------------------------------------
def shaped(sizes: str, *formats: str, **more: Any) -> Settings:
    """Settings with these sizes and formats, WebP without any."""
    return SETTINGS._replace(sizes=parse_sizes(sizes), formats=formats or ("webp",), **more)


def version_2(settings: Settings, data: bytes, focus: str = "", key: str = KEY) -> dict[str, Any]:
    """Make the thumbnails of an image, and return its manifest, checked against the schema."""
    point = parse_focus(focus) if focus else None
    made = make_thumbnails(data, settings.specs, 1024, None, point)
    source = settings.provenances(key, "0123", NOW, focus)[settings.manifest_key(key)]
    stored = {
        each.spec: (
            settings.thumbnail_key(key, each.spec.size, each.spec.format),
            len(each.data),
        )
        for each in made.thumbnails
    }
    content = validated(manifest(settings, source, len(data), made, stored))
    assert content["version"] == 2
    assert content["recipe"] == settings.manifest_fingerprint
    assert content["v"] == settings.picture_version("0123", focus)
    return content


def test_version_2_has_every_size_in_every_format() -> None:
    """With key, real size, bytes and frames of each, in the order of sizes and then of formats."""
    settings = shaped("512,a=96x96,b=300x200:pad,c=100x300:contain", *OUTPUT_FORMATS)
    content = version_2(settings, jpeg((800, 400)))
    assert [
        (each["size"], each["format"], each["key"], each["width"], each["height"])
        for each in content["thumbnails"]
    ] == [
        (name, each, f"a/photo_{name}.{each}", *size)
        for name, size in (
            ("512w", (512, 256)),
            ("a", (96, 96)),
            ("b", (300, 200)),
            ("c", (100, 50)),
        )
        for each in OUTPUT_FORMATS
    ]
    assert all(each["bytes"] > 0 and each["frames"] == 1 for each in content["thumbnails"])
    assert not any("reduced" in each for each in content["thumbnails"])
    assert content["animated"] is False
    assert content["srcset"] == {
        each: f"a/photo_c.{each} 100w, a/photo_512w.{each} 512w" for each in OUTPUT_FORMATS
    }


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
def test_version_2_has_the_middle_of_each_crop(name: str) -> None:
    """The middle of the picture, or the focus of its uploader as far as the edges allow."""
    settings = shaped("512,a=96x96,b=64x32,c=64x64:pad", name)
    assert [each.get("focus") for each in version_2(settings, jpeg())["thumbnails"]] == [
        None,
        [0.5, 0.5],
        [0.5, 0.5],
        None,
    ]
    content = version_2(settings, jpeg(), "0,0.25")
    assert content["focus"] == [0, 0.25]
    assert [each.get("focus") for each in content["thumbnails"]] == [
        None,
        [0.375, 0.5],
        [0.5, 0.3333],
        None,
    ]


def test_a_crop_that_cuts_nothing_off_has_no_middle() -> None:
    """A picture of the shape itself is shown whole, whatever its focus is."""
    content = version_2(shaped("a=40x30"), jpeg((80, 60)), "0,0")
    assert content["focus"] == [0, 0]
    assert "focus" not in content["thumbnails"][0]


@pytest.mark.parametrize("fit", ["contain", "pad"])
def test_a_focus_that_nothing_uses_is_not_in_the_manifest(fit: str) -> None:
    """Without a crop, a manifest does not change with the focus."""
    settings = shaped(f"128,64x64:{fit}")
    with_focus = settings.provenances(KEY, "0123", NOW, "0,0")
    assert with_focus == settings.provenances(KEY, "0123", NOW, "")


def test_an_animation_has_its_frames_in_webp_and_one_in_other_formats() -> None:
    """The manifest says which thumbnail moves, and whether the original does."""
    frames = [Image.new("RGB", (80, 60), colour) for colour in (RED, BLUE, RED)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    content = version_2(shaped("64,a=32x32", *OUTPUT_FORMATS), gif)
    assert content["animated"] is True
    assert [(each["format"], each["frames"]) for each in content["thumbnails"]] == [
        *(("webp", 3), ("avif", 1), ("jpeg", 1)),
        *(("webp", 3), ("avif", 1), ("jpeg", 1)),
    ]
    still = version_2(shaped("64", *OUTPUT_FORMATS, animated=False), gif)
    assert "animated" not in still
    assert {each["frames"] for each in still["thumbnails"]} == {1}
    assert "animated" not in version_2(shaped("64", "avif", "jpeg"), gif)


@pytest.mark.parametrize(
    ("picture", "made", "reduced"),
    [
        ((1, 16_383), (1, 16_383), False),
        ((1, 20_000), (1, 16_383), True),
        ((8, 20_000), (7, 16_383), True),
        ((16_383, 1), (512, 1), False),
        ((1, 1), (1, 1), False),
    ],
)
def test_a_picture_beyond_the_formats_says_that_it_is_reduced(
    picture: tuple[int, int], made: tuple[int, int], reduced: bool  # noqa: FBT001 - parametrized
) -> None:
    """In every format alike; a picture that is small itself is not reduced."""
    data = encoded(Image.new("L", picture, 99), "PNG")
    for each in version_2(shaped("512", *OUTPUT_FORMATS), data)["thumbnails"]:
        assert (each["width"], each["height"], each.get("reduced", False)) == (*made, reduced)
    for each in version_2(shaped("a=64x64,b=64x64:pad,c=64x64:contain"), data)["thumbnails"]:
        assert "reduced" not in each


@pytest.mark.parametrize(
    ("sizes", "names"),
    [
        ("a=64x64,b=128x128,c=128x64,d=96x96:pad", ["a 64w", "b 128w"]),
        ("a=64x64:cover:attention,b=128x128", ["a 64w"]),
        ("c=128x64:pad,b=64x64,d=64x32:pad", ["d 64w", "c 128w"]),
        ("a=64x64,w=100,b=128x128", ["w 100w"]),
        ("a=64x64,b=128x128:contain", ["b 128w"]),
    ],
)
def test_a_srcset_has_thumbnails_that_show_the_same(sizes: str, names: list[str]) -> None:
    """Those of the whole picture; with crops alone, those of the first one's shape."""
    content = version_2(shaped(sizes, "avif", "webp"), jpeg())
    for each in ("avif", "webp"):
        listed = [found.split() for found in content["srcset"][each].split(", ")]
        wanted = [name.split() for name in names]
        assert listed == [[f"a/photo_{name}.{each}", width] for name, width in wanted]


def test_the_srcset_of_a_small_picture_has_each_width_once() -> None:
    """A browser would not know which of two to take."""
    content = version_2(shaped("a=64x64,b=128x128,c=256x256"), jpeg((100, 80)))
    assert [each["width"] for each in content["thumbnails"]] == [64, 80, 80]
    assert content["srcset"] == {"webp": "a/photo_a.webp 64w, a/photo_b.webp 80w"}


@pytest.mark.parametrize("name", ["a, b", '"x" 2x', "#?%2F", "//evil.example/x", "😀\u2028", "{a}"])
def test_hostile_keys_survive_in_version_2(name: str) -> None:
    """Each key is exact in the list, and one candidate of its format's srcset."""
    settings = shaped("64,a=32x32", *OUTPUT_FORMATS)
    content = version_2(settings, jpeg((80, 60)), key=f"uploads/{name}.jpg")
    assert content["source"]["key"] == f"uploads/{name}.jpg"
    listed = {(each["size"], each["format"]): each["key"] for each in content["thumbnails"]}
    for each in OUTPUT_FORMATS:
        [(url, width)] = candidates(content["srcset"][each])
        assert (unquote(url), width) == (listed["64w", each], 64)
        assert listed["64w", each] == f"{name}_64w.{each}"
        assert not url.startswith("/")


# --- with a CDN ---------------------------------------------------------------------------------
CDN = "https://d1.cloudfront.net"


class Elements(HTMLParser):
    """The start tags of HTML, with their attributes; any text but line breaks is a fault."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record a tag."""
        assert len(dict(attrs)) == len(attrs)
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Refuse text."""
        assert not data.strip()


def test_with_a_cdn_a_manifest_has_urls_that_never_show_another_picture() -> None:
    """Of each thumbnail, also of plain widths in WebP: the key, and the version `v`."""
    content = version_2(shaped("64,128", thumbnails_url=CDN), jpeg((300, 200)))
    version = content["v"]
    urls = [f"{CDN}/a/photo_{width}w.webp?v={version}" for width in (64, 128)]
    assert [each["url"] for each in content["thumbnails"]] == urls
    assert content["srcset"]["webp"] == f"{urls[0]} 64w, {urls[1]} 128w"
    [(tag, img)] = Elements(content["html"]).found
    assert (tag, img["src"], img["width"], img["height"]) == ("img", urls[1], "128", "85")
    assert img["srcset"] == content["srcset"]["webp"]
    assert img["sizes"] == "(max-width: 128px) 100vw, 128px"
    assert (img["loading"], img["decoding"], img["alt"]) == ("lazy", "async", "")
    assert img["style"] == f"background-color:{content['dominant_colour']}"


@pytest.mark.parametrize("name", ['"><script>', "a b,c", "日本", "%22", "&amp;", "?v=1#x", "//x"])
def test_the_html_of_any_key_is_one_picture(name: str) -> None:
    """A source for each format and an image, whose URLs are those of the keys and nothing else."""
    settings = shaped("64,a=32x32", *OUTPUT_FORMATS, thumbnails_url=CDN)
    content = version_2(settings, jpeg((80, 60)), key=f"uploads/{name}.jpg")
    elements = Elements(content["html"]).found
    assert [tag for tag, _ in elements] == ["picture", "source", "source", "img"]
    keys = {each["key"] for each in content["thumbnails"] if each["size"] == "64w"}
    urls = [str(about["srcset"]).removesuffix(" 64w") for _, about in elements[1:]]
    assert {unquote(url.partition("?v=")[0]).removeprefix(f"{CDN}/") for url in urls} == keys
    assert all(url.endswith(f"?v={content['v']}") for url in urls)


@pytest.mark.parametrize("name", ["a/../b", "./a", "a/./b", "../../a"])
def test_a_key_that_no_url_can_name_has_no_url_and_no_html(name: str) -> None:
    """Browsers resolve dots between slashes, so a URL would show the picture of another key."""
    settings = shaped("64", thumbnails_url=CDN)
    content = version_2(settings, jpeg((80, 60)), key=f"uploads/{name}.jpg")
    assert "html" not in content
    assert "url" not in content["thumbnails"][0]


def test_the_html_of_an_animation_leaves_out_still_formats() -> None:
    """A browser takes the first source that it shows, which would be AVIF without the animation."""
    frames = [Image.new("RGB", (80, 60), colour) for colour in (RED, BLUE)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    content = version_2(shaped("64", *OUTPUT_FORMATS, thumbnails_url=CDN), data)
    [(tag, img)] = Elements(content["html"]).found
    assert tag == "img"
    assert ".webp?" in str(img["src"])
    assert content["animated"] is True


def test_no_colour_is_behind_a_picture_with_transparency() -> None:
    """It would stay visible when the picture is there."""
    content = version_2(
        shaped("64", thumbnails_url=CDN), encoded(Image.new("RGBA", (80, 60), (*RED, 90)), "PNG")
    )
    assert "style" not in Elements(content["html"]).found[0][1]


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_placeholders_are_read_from_any_format(name: str, mode: str) -> None:
    """The colour of the picture, and of what is padded only where nothing else is shown."""
    data = encoded(Image.new(mode, (64, 48), "blue" if mode != "L" else 40), "PNG")
    content = version_2(shaped("pad=32x32:pad,w=32", name), data)
    colour = tuple(bytes.fromhex(content["dominant_colour"][1:]))
    assert near(colour, (0, 0, 255) if mode != "L" else (40, 40, 40), 16)


def test_the_schema_knows_no_other_field() -> None:
    """Readers with a strict schema rely on it: with a wrong or missing field it is no manifest."""
    content = version_2(shaped("64,a=32x32", *OUTPUT_FORMATS), jpeg((80, 60)), "0.5,0.5")
    wrong: list[dict[str, Any]] = [
        content | {"version": 1},
        content | {"version": 3},
        content | {"v": "12"},
        content | {"more": 1},
        content | {"focus": [0.5, 1.5]},
        content | {"focus": [0.5]},
        content | {"srcset": content["srcset"]["webp"]},
        {name: each for name, each in content.items() if name != "v"},
        content | {"thumbnails": []},
        content | {"thumbnails": [content["thumbnails"][0] | {"format": "png"}]},
    ]
    for each in wrong:
        with pytest.raises(jsonschema.ValidationError):
            validated(json.dumps(each).encode())


def candidates(attribute: str) -> list[tuple[str, int]]:
    """Parse a srcset as HTML does: spaces end a URL, and a comma ends a candidate (13.4.3.10)."""
    found, rest = [], attribute
    while rest := rest.lstrip(" ,"):
        url, _, rest = rest.partition(" ")
        assert not url.endswith(",")
        descriptor, _, rest = rest.partition(",")
        assert re.fullmatch(r"[1-9]\d*w", descriptor)
        found.append((url, int(descriptor[:-1])))
    return found


@given(
    st.dictionaries(
        st.integers(1, 16_383),
        st.text(st.characters(exclude_categories=("Cs",)), min_size=1),
        min_size=1,
    )
)
def test_browsers_read_any_key_from_the_srcset(keys: dict[int, str]) -> None:
    """Commas, spaces, quotes, `#`, `?` and emoji survive, and no key is a URL of another host."""
    read = candidates(srcset([(url_path(key), width) for width, key in keys.items()]))
    assert [(unquote(url), width) for url, width in read] == sorted(
        ((key, width) for width, key in keys.items()), key=lambda each: each[1]
    )
    assert not any(url.startswith("/") or ":" in url for url, _ in read)


class Pipeline:
    """An input and an output bucket in memory, and a reconciler that writes manifests."""

    def __init__(self) -> None:
        self.input, self.output = MemoryBucket(), MemoryBucket()
        self.settings = SETTINGS

    def process(self, key: str = KEY, *, only_missing: bool = False) -> object:
        """Reconcile one upload."""
        buckets = {"in": self.input, "thumbs": self.output}
        reconciler = Reconciler(
            self.settings,
            Telemetry("ERROR"),
            bucket=lambda name: buckets[name],
            remaining=lambda: 20.0,
            available=20.0,
        )
        return reconciler.process(Upload("in", key), only_missing=only_missing)

    def manifest(self, key: str = "a/photo.json") -> dict[str, Any]:
        """Return a manifest in the output bucket, checked against the schema."""
        return validated(self.output.objects[key][1])


def test_the_manifest_is_written_after_all_thumbnails() -> None:
    """There is one PUT for each width, and then one for the manifest, which lists what exists."""
    pipeline = Pipeline()
    source = pipeline.input.upload(KEY, jpeg())
    outcome = pipeline.process()
    assert isinstance(outcome, Done)
    assert outcome.manifest == "a/photo.json"
    assert pipeline.output.requests == [
        ("put", "a/photo_128w.webp"),
        ("put", "a/photo_512w.webp"),
        ("put", "a/photo.json"),
    ]
    content = pipeline.manifest()
    assert content["source"]["etag"] == source.etag
    assert {each["key"]: each["bytes"] for each in content["thumbnails"]} == {
        key: len(pipeline.output.objects[key][1])
        for key in ("a/photo_128w.webp", "a/photo_512w.webp")
    }


def test_a_duplicate_event_does_not_write_the_manifest_again() -> None:
    """When the same event arrives again, thumbnails and manifest are current."""
    pipeline = Pipeline()
    pipeline.input.upload(KEY, jpeg())
    pipeline.process()
    before = dict(pipeline.output.objects)
    assert pipeline.process() == Skipped("thumbnails are current")
    assert pipeline.output.objects == before


def test_overwriting_the_source_replaces_the_manifest() -> None:
    """The manifest describes the image that is now under the key."""
    pipeline = Pipeline()
    pipeline.input.upload(KEY, jpeg())
    pipeline.process()
    pipeline.input.upload(KEY, jpeg((300, 200)))
    pipeline.process()
    assert pipeline.manifest()["source"]["width"] == 300


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": tuple(map(Size.of_width, (128, 512, 1024)))},
        {"quality": 70},
        {"output_key_template": "{stem}/{width}"},
    ],
)
def test_a_changed_setting_replaces_the_manifest(change: dict[str, Any]) -> None:
    """Other widths, quality or key names make a manifest stale, and it is written again."""
    pipeline = Pipeline()
    pipeline.input.upload(KEY, jpeg())
    pipeline.process()
    before = pipeline.output.objects["a/photo.json"][1]
    pipeline.settings = replace(SETTINGS, **change)
    pipeline.process()
    content = pipeline.manifest(pipeline.settings.manifest_key(KEY))
    assert pipeline.output.objects["a/photo.json"][1] != before
    listed = [each["key"] for each in content["thumbnails"]]
    assert len(listed) == len(pipeline.settings.sizes)
    assert set(listed) <= set(pipeline.output.objects)


def test_the_retry_after_a_crash_writes_the_missing_manifest() -> None:
    """After a crash between the two, current thumbnails do not prevent the manifest."""
    pipeline = Pipeline()
    pipeline.input.upload(KEY, jpeg())

    def crash(request: str, key: str) -> None:
        if (request, key) == ("put", "a/photo.json"):
            raise StorageUnavailable("lost")

    pipeline.output.before = crash
    with pytest.raises(StorageUnavailable):
        pipeline.process()
    assert "a/photo.json" not in pipeline.output.objects
    pipeline.output.before = lambda _request, _key: None
    assert isinstance(pipeline.process(), Done)
    assert pipeline.manifest()


def test_only_missing_writes_a_missing_manifest() -> None:
    """A backfill after WriteManifest was turned on adds manifests; the next one changes nothing."""
    pipeline = Pipeline()
    pipeline.input.upload(KEY, jpeg())
    pipeline.settings = replace(SETTINGS, write_manifest=False)
    pipeline.process()
    assert "a/photo.json" not in pipeline.output.objects
    pipeline.settings = SETTINGS
    assert isinstance(pipeline.process(only_missing=True), Done)
    assert pipeline.manifest()
    assert pipeline.process(only_missing=True) == Skipped("thumbnails are current")


def test_the_manifest_belongs_to_the_newer_of_two_sources() -> None:
    """Of two sources with the same thumbnail keys, the manifest describes the newer one."""
    pipeline = Pipeline()
    pipeline.input.upload("uploads/a/photo.jpg", jpeg())
    pipeline.input.upload("uploads/a/photo.png", jpeg((300, 200)))
    pipeline.process("uploads/a/photo.png")
    pipeline.process("uploads/a/photo.jpg")
    assert pipeline.manifest()["source"]["key"] == "uploads/a/photo.png"


def test_an_older_source_writes_no_manifest_for_the_thumbnails_of_a_newer_one() -> None:
    """While a newer source has the thumbnails but no manifest yet, the older one writes none."""
    pipeline = Pipeline()
    pipeline.input.upload("uploads/a/photo.jpg", jpeg())
    pipeline.input.upload("uploads/a/photo.png", jpeg((300, 200)))
    pipeline.process("uploads/a/photo.png")
    del pipeline.output.objects["a/photo.json"]
    pipeline.process("uploads/a/photo.jpg")
    assert "a/photo.json" not in pipeline.output.objects


def test_the_key_of_a_manifest_has_the_extension_if_thumbnail_keys_have_it() -> None:
    """With {ext} in OutputKeyTemplate, a.jpg and a.png have different manifests too."""
    assert SETTINGS.manifest_key("uploads/a/photo.jpg") == "a/photo.json"
    with_ext = replace(SETTINGS, output_key_template="{dir}{stem}.{ext}_{width}.webp")
    assert with_ext.manifest_key("uploads/a/photo.jpg") == "a/photo.jpg.json"


def test_the_manifest_code_is_not_imported_before_it_is_needed() -> None:
    """A stack that writes no manifests does not import it, or thumbhash, at a cold start."""
    program = """
import sys
import thumbnailer.reconcile
print(*{"thumbnailer.manifest", "thumbhash"} & set(sys.modules))
"""
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, check=True
    )
    assert ran.stdout.split() == []
