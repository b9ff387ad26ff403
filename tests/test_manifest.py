"""The manifest: its content, its schema, and when it is written."""

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
    read = candidates(srcset([(key, width) for width, key in keys.items()]))
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
