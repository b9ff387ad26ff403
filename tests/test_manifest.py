"""The manifest: what it says, that it follows its schema, and when it is written."""

import base64
import json
import re
import subprocess
import sys
from copy import replace
from datetime import UTC, datetime
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
from thumbnailer.imaging import Size
from thumbnailer.manifest import manifest
from thumbnailer.provenance import Provenance
from thumbnailer.reconcile import Done, Reconciler, Skipped
from thumbnailer.settings import Settings
from thumbnailer.srcset import srcset
from thumbnailer.telemetry import Telemetry

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "manifest.schema.json").read_text())
SETTINGS = Settings("thumbs", "https://sqs.example/1/q", write_manifest=True)
KEY = "uploads/a/photo.jpg"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def checked(data: bytes) -> dict[str, Any]:
    """A manifest that follows the schema."""
    told: dict[str, Any] = json.loads(data)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(SCHEMA, format_checker=checker).validate(told)
    return told


def of(data: bytes, widths: tuple[int, ...] = (128, 512), key: str = KEY) -> dict[str, Any]:
    """The manifest of an image."""
    made = thumbnails_of(data, widths, 85, 512)
    stored = {
        each.spec.size: (f"a/photo_{each.spec.size.name}.webp", len(each.data))
        for each in made.thumbnails
    }
    source = Provenance(key, "0123", NOW, SETTINGS.manifest_fingerprint)
    return checked(manifest(source, len(data), made, stored))


def test_it_tells_of_source_and_thumbnails() -> None:
    """Key, etag, time, format, size and bytes of the source; key, size and bytes of each width."""
    data = jpeg((800, 600))
    told = of(data)
    assert told["version"] == 1
    assert told["source"] == {
        "key": KEY,
        "etag": "0123",
        "modified": "2026-01-01T12:00:00+00:00",
        "format": "JPEG",
        "width": 800,
        "height": 600,
        "bytes": len(data),
    }
    assert [(t["width"], t["height"]) for t in told["thumbnails"]] == [(128, 96), (512, 384)]
    assert told["srcset"] == "a/photo_128w.webp 128w, a/photo_512w.webp 512w"


def test_a_small_image_has_real_widths() -> None:
    """An image of 300 px has a thumbnail of 300 px, and names it once in its srcset."""
    told = of(jpeg((300, 200)), (128, 512, 1024))
    assert [t["width"] for t in told["thumbnails"]] == [128, 300, 300]
    assert told["srcset"] == "a/photo_128w.webp 128w, a/photo_512w.webp 300w"


@pytest.mark.parametrize("size", [(1, 1), (2000, 3), (3, 2000), (101, 99)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_every_shape_has_one(size: tuple[int, int], mode: str) -> None:
    """Slivers and single pixels, with alpha or without, have a valid manifest."""
    assert of(encoded(Image.new(mode, size), "PNG"))["thumbhash"]


def test_the_dominant_colour_is_the_most_frequent_one() -> None:
    """Two thirds of red and a third of blue are red, whatever the transparent rest holds."""
    image = Image.new("RGBA", (300, 300), (*BLUE, 0))
    image.paste((*RED, 255), (0, 0, 100, 300))
    image.paste((*BLUE, 255), (100, 0, 150, 300))
    colour = bytes.fromhex(of(encoded(image, "PNG"))["dominant_colour"][1:])
    assert near(tuple(colour), RED, 16)


def test_the_thumbhash_shows_the_picture() -> None:
    """Decoded by the format's own formula, its average colour is the picture's."""
    hashed = base64.b64decode(of(encoded(Image.new("RGB", (600, 400), RED), "PNG"))["thumbhash"])
    header = int.from_bytes(hashed[:3], "little")
    light, p, q = header & 63, header >> 6 & 63, header >> 12 & 63
    # https://github.com/evanw/thumbhash, thumbHashToAverageRGBA
    level, p_dc, q_dc = light / 63, p / 31.5 - 1, q / 31.5 - 1
    blue = level - 2 / 3 * p_dc
    red = (3 * level - blue + q_dc) / 2
    colour = tuple(round(255 * value) for value in (red, red - q_dc, blue))
    assert near(colour, RED, 12)


def candidates(attribute: str) -> list[tuple[str, int]]:
    """HTML's own reading of a srcset: split at blanks, a comma ends a candidate (13.4.3.10)."""
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
def test_browsers_read_the_srcset_back(keys: dict[int, str]) -> None:
    """Any key survives: commas, blanks, quotes, `#`, `?`, emoji; none becomes another host's."""
    read = candidates(srcset([(key, width) for width, key in keys.items()]))
    assert [(unquote(url), width) for url, width in read] == sorted(
        ((key, width) for width, key in keys.items()), key=lambda each: each[1]
    )
    assert not any(url.startswith("/") or ":" in url for url, _ in read)


class World:
    """A pipeline that writes manifests, over two buckets in memory."""

    def __init__(self) -> None:
        self.input, self.output = MemoryBucket(), MemoryBucket()
        self.settings = SETTINGS

    def process(self, key: str = KEY, *, only_missing: bool = False) -> object:
        buckets = {"in": self.input, "thumbs": self.output}
        pipeline = Reconciler(
            self.settings,
            Telemetry("ERROR"),
            bucket=lambda name: buckets[name],
            remaining=lambda: 20.0,
        )
        return pipeline.process(Upload("in", key), only_missing=only_missing)

    def asked(self) -> list[tuple[str, str]]:
        """What was asked of the output bucket since the last call."""
        asked, self.output.requests = self.output.requests, []
        return asked

    def manifest(self, key: str = "a/photo.json") -> dict[str, Any]:
        return checked(self.output.objects[key][1])


def test_it_is_written_last() -> None:
    """A PUT for each width and one for the manifest, which says that all of them are there."""
    world = World()
    source = world.input.upload(KEY, jpeg())
    outcome = world.process()
    assert isinstance(outcome, Done)
    assert outcome.manifest == "a/photo.json"
    assert world.asked() == [
        ("put", "a/photo_128w.webp"),
        ("put", "a/photo_512w.webp"),
        ("put", "a/photo.json"),
    ]
    told = world.manifest()
    assert told["source"]["etag"] == source.etag
    for thumbnail in told["thumbnails"]:
        assert thumbnail["bytes"] == len(world.output.objects[thumbnail["key"]][1])


def test_a_doubled_event_writes_it_once() -> None:
    """The same event again finds thumbnails and manifest current."""
    world = World()
    world.input.upload(KEY, jpeg())
    world.process()
    before = dict(world.output.objects)
    assert world.process() == Skipped("thumbnails are current")
    assert world.output.objects == before


def test_an_overwrite_replaces_it() -> None:
    """Another image under the same key has its own manifest."""
    world = World()
    world.input.upload(KEY, jpeg())
    world.process()
    world.input.upload(KEY, jpeg((300, 200)))
    world.process()
    assert world.manifest()["source"]["width"] == 300


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": tuple(map(Size.of_width, (128, 512, 1024)))},
        {"quality": 70},
        {"output_key_template": "{stem}/{width}"},
    ],
)
def test_what_it_tells_of_changes_it(change: dict[str, Any]) -> None:
    """Other widths, quality or names: a manifest that would be stale is written again."""
    world = World()
    world.input.upload(KEY, jpeg())
    world.process()
    before = world.output.objects["a/photo.json"][1]
    world.settings = replace(SETTINGS, **change)
    world.process()
    told = world.manifest(world.settings.manifest_key(KEY))
    assert world.output.objects["a/photo.json"][1] != before
    assert {t["key"] for t in told["thumbnails"]} <= set(world.output.objects)


def test_a_crash_before_it_is_healed_by_the_retry() -> None:
    """Thumbnails that are current do not keep a missing manifest from being written."""
    world = World()
    world.input.upload(KEY, jpeg())

    def crash(request: str, key: str) -> None:
        if (request, key) == ("put", "a/photo.json"):
            raise StorageUnavailable("lost")

    world.output.before = crash
    with pytest.raises(StorageUnavailable):
        world.process()
    assert "a/photo.json" not in world.output.objects
    world.output.before = lambda _request, _key: None
    assert isinstance(world.process(), Done)
    assert world.manifest()


def test_only_missing_sees_that_it_is_missing() -> None:
    """A backfill after WriteManifest was turned on adds manifests; another one changes nothing."""
    world = World()
    world.input.upload(KEY, jpeg())
    world.settings = replace(SETTINGS, write_manifest=False)
    world.process()
    world.settings = SETTINGS
    assert isinstance(world.process(only_missing=True), Done)
    assert world.process(only_missing=True) == Skipped("thumbnails are current")


def test_the_newer_source_has_it() -> None:
    """Of two sources that share thumbnails, the manifest is of the one that has them."""
    world = World()
    world.input.upload("uploads/a/photo.jpg", jpeg())
    world.input.upload("uploads/a/photo.png", jpeg((300, 200)))
    world.process("uploads/a/photo.png")
    world.process("uploads/a/photo.jpg")
    assert world.manifest()["source"]["key"] == "uploads/a/photo.png"


def test_the_older_source_does_not_announce_the_newer_ones_thumbnails() -> None:
    """Where a newer source has the thumbnails but not yet its manifest, the older writes none."""
    world = World()
    world.input.upload("uploads/a/photo.jpg", jpeg())
    world.input.upload("uploads/a/photo.png", jpeg((300, 200)))
    world.process("uploads/a/photo.png")
    del world.output.objects["a/photo.json"]
    world.process("uploads/a/photo.jpg")
    assert "a/photo.json" not in world.output.objects


def test_names_that_tell_formats_apart_keep_manifests_apart() -> None:
    """With {ext} in the thumbnails' names it is in the manifest's as well."""
    assert SETTINGS.manifest_key("uploads/a/photo.jpg") == "a/photo.json"
    told_apart = replace(SETTINGS, output_key_template="{dir}{stem}.{ext}_{width}.webp")
    assert told_apart.manifest_key("uploads/a/photo.jpg") == "a/photo.jpg.json"


def test_without_it_nothing_of_it_is_imported() -> None:
    """Those who want no manifest do not pay for it at a cold start."""
    program = """
import sys
import thumbnailer.reconcile
print(*{"thumbnailer.manifest", "thumbhash"} & set(sys.modules))
"""
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, check=True
    )
    assert ran.stdout.split() == []
