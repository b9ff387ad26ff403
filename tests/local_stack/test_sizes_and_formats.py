"""Sizes of any shape in three formats, in a deployed stack that began with the defaults.

The tests are steps of one story, in their order.
"""

import json
import random
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
from home import Home
from pictures import decoded, encoded, jpeg, near
from PIL import Image, ImageDraw
from serving import QUICK_AND_STRICT, ministack, until
from site_owner import Site

from image_pipeline.local.stack import LocalStack
from image_pipeline.stack.deployed import Stack
from thumbnailer.provenance import Provenance

pytestmark = pytest.mark.local_stack

NAME: Final = "shop"
OLD: Final = ("uploads/a.jpg", "uploads/b.jpg", "uploads/c/d.jpg")
SCHEMA: Final = Path(__file__).parents[2] / "docs" / "manifest.schema.json"
SKIN: Final = (224, 172, 138)
ORIENTATION: Final = 0x0112
"""Exif 2.32, 4.6.4."""


def portrait() -> bytes:
    """A photo as phones store it: turned by EXIF, a head near the top, and a plain background."""
    upright = Image.new("RGB", (900, 1600), (96, 104, 112))
    draw = ImageDraw.Draw(upright)
    draw.rectangle((250, 420, 650, 1600), (52, 60, 84))
    draw.ellipse((330, 90, 570, 400), SKIN)
    for x in (395, 505):
        draw.ellipse((x - 18, 220, x + 18, 246), (30, 30, 30))
    draw.arc((400, 280, 500, 350), 20, 160, (120, 40, 40), 8)
    noise = random.Random(1)  # noqa: S311 - reproducible, not secret
    for _ in range(4000):  # as a sensor's, so that no part is quite plain
        upright.putpixel((noise.randrange(900), noise.randrange(1600)), (90, 98, 106))
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the camera was held upright: turn by 90 degrees clockwise
    return encoded(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=92)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A stack with the default parameters, and the thumbnails of OLD."""
    directory = tmp_path_factory.mktemp("site")
    with ministack(directory, **QUICK_AND_STRICT) as (aws, _):
        local = LocalStack(directory)
        local.build()
        template = local.artefact.parent / "iac" / "template.yaml"
        site = Site(Home(directory, 0), aws, template, "shop-uploads")
        stack = site.deploy(NAME, ExistingInputBucket="false")
        for number, key in enumerate(OLD):
            site.upload(key, body=jpeg((640 + number, 480)))
        until(lambda: len(objects(stack)) == 2 * len(OLD))
        yield site


def objects(stack: Stack) -> dict[str, tuple[str, datetime]]:
    """ETag and time of each object in the output bucket, but for the results of backfills."""
    listed = stack.aws.s3.list_objects_v2(Bucket=stack.settings.output_bucket).get("Contents", [])
    return {
        each["Key"]: (each["ETag"], each["LastModified"])
        for each in listed
        if not each["Key"].startswith("_image-pipeline/")
    }


def fetched(stack: Stack, key: str) -> dict[str, Any]:
    """An object of the output bucket, its body read."""
    found: dict[str, Any] = dict(
        stack.aws.s3.get_object(Bucket=stack.settings.output_bucket, Key=key)
    )
    found["Body"] = found["Body"].read()
    return found


def test_a_second_format_and_a_backfill_make_only_what_is_missing(site: Site) -> None:
    """One AVIF for each WebP, which keep bytes and time. A second backfill makes nothing."""
    before = objects(site.stack(NAME))
    assert sorted(before) == [
        *("a_128w.webp", "a_512w.webp", "b_128w.webp", "b_512w.webp"),
        *("c/d_128w.webp", "c/d_512w.webp"),
    ]
    stack = site.deploy(NAME, ExistingInputBucket="false", ThumbnailFormats="webp,avif")
    assert objects(stack) == before
    counted = site.json("backfill", "--stack", NAME, "--dry-run")
    assert (counted["objects"], counted["to_make"]) == (3, 3)
    assert site.json("backfill", "--stack", NAME, "--yes")["made"] == len(OLD)
    after = objects(stack)
    assert {key: each for key, each in after.items() if key.endswith(".webp")} == before
    assert after.keys() - before.keys() == {key.replace(".webp", ".avif") for key in before}
    again = site.json("backfill", "--stack", NAME, "--yes")
    assert (again["made"], again["current"]) == (0, len(OLD))
    assert objects(stack) == after


def test_an_image_has_each_size_in_each_format(site: Site) -> None:
    """Six objects of exactly the right shapes and types, and a manifest that lists them."""
    parameters = {
        "ThumbnailSizes": "128,avatar=256x256:cover:attention",
        "ThumbnailFormats": "webp,avif,jpeg",
        "WriteManifest": "true",
    }
    stack = site.deploy(NAME, ExistingInputBucket="false", **parameters)
    site.upload("uploads/portrait.jpg", body=portrait())
    until(lambda: "portrait.json" in objects(stack))
    made = sorted(key for key in objects(stack) if key.startswith("portrait_"))
    assert made == [
        *("portrait_128w.avif", "portrait_128w.jpeg", "portrait_128w.webp"),
        *("portrait_avatar.avif", "portrait_avatar.jpeg", "portrait_avatar.webp"),
    ]
    marks = set()
    for key in made:
        stored = fetched(stack, key)
        picture = decoded(stored["Body"])
        assert picture.size == ((256, 256) if "avatar" in key else (128, 228))
        extension = key.rpartition(".")[2]
        assert stored["ContentType"] == f"image/{extension}"
        assert picture.format == extension.upper()
        provenance = Provenance.of(stored["Metadata"])
        assert provenance
        assert provenance.key == "uploads/portrait.jpg"
        marks.add(provenance.fingerprint)
    assert len(marks) == 6
    manifest = json.loads(fetched(stack, "portrait.json")["Body"])
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(manifest)
    assert sorted(each["key"] for each in manifest["thumbnails"]) == made
    assert manifest["srcset"] == {
        name: f"portrait_128w.{name} 128w" for name in ("webp", "avif", "jpeg")
    }


@pytest.mark.parametrize("format_name", ["webp", "avif", "jpeg"])
def test_the_avatar_of_a_portrait_keeps_the_head(site: Site, format_name: str) -> None:
    """The whole head is in it, upright: skin in the upper middle, and none at the edges."""
    avatar = decoded(fetched(site.stack(NAME), f"portrait_avatar.{format_name}")["Body"])
    rgb = avatar.convert("RGB")
    skin = Image.new("1", rgb.size)
    for x in range(rgb.width):
        for y in range(rgb.height):
            pixel = rgb.getpixel((x, y))
            assert isinstance(pixel, tuple)
            skin.putpixel((x, y), near(pixel, SKIN, 24))
    box = skin.getbbox()
    assert box
    left, upper, right, lower = box
    # 240 × 310 of the 900 pixels that become 256
    assert (right - left, lower - upper) == (pytest.approx(68, abs=6), pytest.approx(88, abs=6))
    assert left > 60
    assert upper > 2


def test_the_uploader_chooses_what_a_crop_shows(site: Site) -> None:
    """A focus at the feet moves the crop there; the whole pictures stay as they are."""
    stack = site.stack(NAME)
    before = {key: fetched(stack, key)["Body"] for key in objects(stack) if "portrait_" in key}
    s3, key = stack.aws.s3, "uploads/portrait.jpg"
    source = {"Bucket": stack.input_bucket, "Key": key}
    s3.copy_object(
        **source, CopySource=source, MetadataDirective="REPLACE", Metadata={"focus": "0.5,1"}
    )

    def followed() -> bool:
        found = fetched(stack, "portrait.json")
        return json.loads(found["Body"]).get("focus") == [0.5, 1]

    until(followed)
    manifest = json.loads(fetched(stack, "portrait.json")["Body"])
    (middle,) = {tuple(each["focus"]) for each in manifest["thumbnails"] if "focus" in each}
    assert middle[1] > 0.7
    for name, body in before.items():
        after = decoded(fetched(stack, name)["Body"])
        assert (after.tobytes() == decoded(body).tobytes()) == ("128w" in name)


def test_a_backfill_sees_a_focus_that_has_changed(site: Site) -> None:
    """Nothing is to make while the crops follow it. A focus whose event was lost is made up for."""
    stack = site.stack(NAME)
    site.json("backfill", "--stack", NAME, "--yes")
    assert site.json("backfill", "--stack", NAME, "--dry-run")["to_make"] == 0
    avatar = fetched(stack, "portrait_avatar.webp")
    stack.aws.s3.put_object(
        Bucket=stack.settings.output_bucket,
        Key="portrait_avatar.webp",
        Body=avatar["Body"],
        Metadata={**avatar["Metadata"], "source-focus": "0.1,0.1"},
    )
    assert site.json("backfill", "--stack", NAME, "--dry-run")["to_make"] == 1
    assert site.json("backfill", "--stack", NAME, "--yes")["made"] == 1
    assert fetched(stack, "portrait_avatar.webp")["Metadata"]["source-focus"] == "0.5,1"
