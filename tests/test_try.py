"""`image-pipeline try`: other settings beside the current ones, on a sample, and what they mean.

The originals are in moto's buckets or in folders. Numbers are checked against sums by hand.
"""

import gzip
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from copy import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from aws_names import INPUT, OUTPUT
from axe_playwright_python.sync_playwright import Axe
from botocore.exceptions import ClientError
from home import COMMAND, Home
from moto_stack import moto_stack, upload_with_thumbnails
from pictures import encoded, jpeg, quadrants
from PIL import Image
from template import source

from image_pipeline.cli import browser, contact_sheet, targets
from image_pipeline.cli.commands import try_ as command
from image_pipeline.cli.output import visible
from image_pipeline.cli.trial import Source, Trial
from image_pipeline.folders import comparison
from image_pipeline.folders.comparison import (
    Comparison,
    Original,
    Picture,
    Task,
    Thumbnails,
    Unreadable,
    compare,
)
from image_pipeline.stack import costs, originals
from image_pipeline.stack.costs import PRICES, Rates
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.originals import Body, Sampler
from image_pipeline.stack.trials import Backfill, Means, Monthly, Payback, rates_of
from thumbnailer.errors import (
    ImageTooLarge,
    PermanentError,
    PipelineError,
    SourceArchived,
    SourceEncrypted,
    StorageDenied,
    StorageUnavailable,
)
from thumbnailer.imaging import ENCODERS, Thumbnail, make_thumbnails, parse_sizes
from thumbnailer.settings import Settings
from thumbnailer.storage.bucket import ENCRYPTED, unreadable
from tools import browser as chromium

CURRENT = Settings(output_bucket="", dead_letter_queue_url="")
BOTH = CURRENT._replace(formats=("webp", "avif"))
RATES = Rates(512, "arm64", writes=2, duration_ms=0)

MARKUP = "uploads/<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;\x1b[31m\u202e.jpg"
"""A key with markup, quotes, an entity, a control character and a bidirectional one."""

BLOCKED = 'import sys\nsys.modules["ssimulacra2"] = None\n'
"""A sitecustomize.py: in every Python that inherits its path, the package is missing."""

VOID = {"meta", "img", "br"}
"""Elements of HTML without an end tag that the page has."""


@pytest.fixture
def stack(s3: Any, aws: str) -> Stack:
    """Both buckets, empty."""
    del s3  # the buckets are there
    return moto_stack(aws)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The command. It opens no browser, whatever the machine has."""
    monkeypatch.setattr(browser, "_has_screen", lambda: False)
    return Home(tmp_path / "home", 1)


@pytest.fixture
def on_stack(home: Home, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The command, whose options all mean this stack."""
    monkeypatch.setattr(targets, "find_stack", lambda **_: stack)
    return home


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three pictures, and a text, which is no image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(jpeg((600 + number, 450)))
    (folder / "notes.txt").write_text("not a picture")
    return folder


def upload(stack: Stack, *keys: str, body: bytes | None = None, **more: Any) -> None:
    """Upload originals."""
    data = jpeg((300, 240)) if body is None else body
    for key in keys:
        stack.aws.s3.put_object(Bucket=INPUT, Key=key, Body=data, **more)


def everything(stack: Stack) -> dict[tuple[str, str], tuple[str, Any]]:
    """Every object of both buckets: its etag and time."""
    return {
        (bucket, each["Key"]): (each["ETag"], each["LastModified"])
        for bucket in (INPUT, OUTPUT)
        for each in stack.aws.s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    }


def stored_bytes(made: Thumbnail) -> int:
    """Bytes of a thumbnail in the output bucket, where it has its provenance mark."""
    return len(ENCODERS[made.spec.format].mark(made.data, b"8 bytes."))


class Page(HTMLParser):
    """A page whose elements are counted and whose nesting is checked."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: Counter[str] = Counter()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count an element."""
        self.found[tag] += 1
        self.attributes.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), "no attribute twice"
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the element that is open."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.text += data


# --- the command --------------------------------------------------------------------------------
def test_both_settings_are_made_by_the_function_s_own_code(home: Home, folder: Path) -> None:
    """Bytes, sizes and formats are those of make_thumbnails; the folder's text is no original."""
    out = folder.parent / "out"
    words = (folder, "--out", out, "--formats", "webp,avif", "--avif-quality", "50", "--no-score")
    found = home.json("try", *words, "--sizes", "512,box=64x64")
    assert [each["name"] for each in found["compared"]] == [f"photos/{n}.jpg" for n in range(3)]
    proposed = BOTH._replace(avif_quality=50, sizes=parse_sizes("512,box=64x64"))
    for number, each in enumerate(found["compared"]):
        data = (folder / f"{number}.jpg").read_bytes()
        for side, settings in (("current", CURRENT), ("proposed", proposed)):
            made = make_thumbnails(data, settings.specs, 512).thumbnails
            assert [
                (one["size"], one["format"], one["width"], one["height"], one["bytes"])
                for one in each[side]["thumbnails"]
            ] == [(m.spec.size.name, m.spec.format, *m.size, stored_bytes(m)) for m in made]
            assert each[side]["cpu_ms"] > 0
    assert found["settings"]["current"]["sizes"] == "128,512"
    assert found["settings"]["proposed"] == {
        "sizes": "512,box=64x64",
        "formats": "webp,avif",
        "quality": 85,
        "avif_quality": 50,
        "jpeg_quality": 86,
        "background": "#ffffff",
    }
    assert found["stack"] is None
    assert (found["found"], found["images"], found["sample"], found["unreadable"]) == (3, 3, 3, [])


def test_nothing_is_written_to_the_buckets(on_stack: Home, stack: Stack, tmp_path: Path) -> None:
    """The stack is listed and read. Both buckets are as they were, and no other request is made."""
    upload_with_thumbnails(stack, "uploads/a.jpg", jpeg((300, 200)))
    upload(stack, "uploads/b.jpg", "elsewhere/c.jpg", "uploads/folder/")
    before = everything(stack)
    requests: list[str] = []
    stack.aws.s3.meta.events.register(
        "before-call.s3.*", lambda model, **_: requests.append(model.name)
    )
    found = on_stack.json("try", "--out", tmp_path / "out", "--quality", "60")
    assert set(requests) == {"ListObjectsV2", "GetObject"}
    del requests[:]
    assert everything(stack) == before
    assert [each["name"] for each in found["compared"]] == ["uploads/a.jpg", "uploads/b.jpg"]
    assert (found["stack"], found["originals"]) == ("test", f"s3://{INPUT}/uploads/")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["contact-sheet.html"]


def test_the_stack_s_own_settings_are_the_current_ones(
    home: Home, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes, quality and memory are the stack's, and what is not proposed stays."""
    settings = stack.settings._replace(sizes=parse_sizes("200"), quality=40, memory_mb=1024)
    monkeypatch.setattr(targets, "find_stack", lambda **_: replace(stack, settings=settings))
    upload(stack, "uploads/a.jpg")
    found = home.json("try", "--out", tmp_path, "--sizes", "300", "--no-score")
    assert found["settings"]["current"]["sizes"] == "200"
    assert found["settings"]["proposed"]["quality"] == 40
    assert found["memory_mb"] == 1024


def test_unreadable_originals_are_named_and_left_out(
    on_stack: Home, stack: Stack, tmp_path: Path
) -> None:
    """Their share is also taken from what is expected of all images."""
    upload(stack, *(f"uploads/{number}.jpg" for number in range(3)))
    upload(stack, "uploads/[broken].jpg", body=b"this is not an image")
    words = ("try", "--out", tmp_path, "--quality", "50", "--images", "1000")
    found = on_stack.json(*words)
    (left,) = found["unreadable"]
    assert left["name"] == "uploads/[broken].jpg"
    assert left["error"]["type"] == "UnsupportedImage"
    assert len(found["compared"]) == 3
    assert found["backfill"]["images"] == 750
    assert "uploads/[broken].jpg" in Page((tmp_path / "contact-sheet.html").read_text()).text
    done = on_stack.run(*words)
    assert done.returncode == 0
    assert "uploads/[broken].jpg: UnsupportedImage" in done.stderr


def test_a_sample_of_which_nothing_can_be_read_is_an_error(
    on_stack: Home, stack: Stack, tmp_path: Path
) -> None:
    """The reason of each is printed, and no page is written."""
    upload(stack, "uploads/a.jpg", body=b"this is not an image")
    done = on_stack.run("try", "--out", tmp_path / "out", "--quality", "50")
    assert done.returncode == 1
    assert "uploads/a.jpg: UnsupportedImage" in done.stderr
    assert "None of the 1 originals of the sample could be processed" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder_is_told_before_the_work(
    on_stack: Home, tmp_path: Path
) -> None:
    """The bucket is not even listed."""
    (tmp_path / "out").write_text("")
    done = on_stack.run("try", "--out", tmp_path / "out", "--quality", "50")
    assert done.returncode == 1
    assert "is a file. Name a folder for the page with --out." in done.stderr
    assert "originals" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "propose at least one setting"),
        (("--quality", "85"), 1, "make the same thumbnails as the current ones"),
        (("--avif-quality", "50"), 1, "only if its format is made"),
        (("--sizes", "128,5x"), 2, "item 2, '5x', must be a width or WIDTHxHEIGHT"),
        (("--sizes", "128,5x"), 2, "avatar=256x256:cover:attention"),
        (("--formats", "webp,gif"), 2, "must be formats of webp, avif, jpeg"),
        (("--background", "red"), 2, "must be a colour such as #ffffff"),
        (("--quality", "0"), 2, "--quality"),
        (("--quality", "50"), 1, "There are no images under s3://"),
        (("--quality", "50", "--prefix", "uploads/x/"), 1, "There are no images under s3://"),
        (("--quality", "50", "--prefix", "a/"), 1, "Did you mean --prefix uploads/a/?"),
        (("/nowhere", "--quality", "50"), 1, "There is no file or folder /nowhere"),
        (("/nowhere", "--quality", "50", "--stack", "s"), 1, "pass one or the other"),
    ],
)
def test_a_mistake_is_told_in_words(
    on_stack: Home, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    """A usage error has exit code 2, anything else 1; no page is written and no folder made."""
    done = on_stack.run("try", "--out", tmp_path / "out", *words)
    assert done.returncode == code
    assert message in re.sub(r"[\s│]+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_without_images_is_told(home: Home, tmp_path: Path) -> None:
    """Files that are no images, by content and by name, do not count."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    words = ("try", tmp_path / "texts", "--quality", "50", "--out", tmp_path / "out")
    assert "There are no images in" in home.run(*words).stderr


def test_archived_objects_are_told_and_left_out(
    on_stack: Home, stack: Stack, tmp_path: Path
) -> None:
    """They are not images of the bucket, as in a backfill."""
    upload(stack, "uploads/old.jpg", StorageClass="GLACIER")
    done = on_stack.run("try", "--out", tmp_path, "--quality", "50")
    assert "no images but 1 archived objects under" in done.stderr
    upload(stack, "uploads/new.jpg")
    found = on_stack.json("try", "--out", tmp_path, "--quality", "50")
    assert (found["images"], found["archived"]) == (1, 1)
    assert found["notes"] == ["1 archived objects are left out, as a backfill does."]


def test_a_template_that_cannot_tell_the_proposal_apart_is_told(
    home: Home, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison is made all the same: only a deploy needs the other template."""
    settings = stack.settings._replace(output_key_template="{dir}{stem}_{size}.webp")
    monkeypatch.setattr(targets, "find_stack", lambda **_: replace(stack, settings=settings))
    upload(stack, "uploads/a.jpg")
    found = home.json("try", "--out", tmp_path, "--formats", "webp,avif")
    (note,) = found["notes"]
    assert "change OutputKeyTemplate too" in note
    assert "{format}" in note


def test_ctrl_c_writes_nothing(
    home: Home, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is that of Ctrl-C."""

    def press(*_: object) -> Iterator[Any]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(command, "in_processes", press)
    done = home.run("try", folder, "--out", tmp_path / "out", "--quality", "50")
    assert done.returncode == 130
    assert "Nothing was written" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_page_is_opened_only_if_it_is_wanted(
    home: Home, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a file, which needs no server."""
    opened: list[str] = []
    monkeypatch.setattr(browser, "_has_screen", lambda: True)
    monkeypatch.setattr(browser.webbrowser, "open", opened.append)
    words = ("try", folder, "--out", tmp_path, "--quality", "50", "--no-score", "--sample", "1")
    home.run(*words, "--no-browser")
    assert opened == []
    home.run(*words)
    assert opened == [(tmp_path / "contact-sheet.html").as_uri()]


def test_a_missing_package_is_told_and_nothing_else_fails(folder: Path, tmp_path: Path) -> None:
    """Without ssimulacra2 there are no scores. The command and the page say how to get it."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(BLOCKED)
    words = ("try", folder, "--out", tmp_path / "out", "--quality", "50", "--no-browser")
    done = subprocess.run(  # noqa: S603 - our own command
        [COMMAND, *words],
        env=Home(tmp_path, 1).environment | {"PYTHONPATH": str(tmp_path / "path")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pip install ssimulacra2" in done.stderr
    page = Page((tmp_path / "out" / "contact-sheet.html").read_text())
    assert "pip install ssimulacra2" in page.text
    assert "score 8" not in page.text


def test_the_defaults_are_those_of_the_template() -> None:
    """Without a stack, the costs are those of one with the defaults."""
    parameters = source()["Parameters"]
    assert parameters["LambdaArchitecture"]["Default"] == command.DEFAULT_ARCHITECTURE
    assert int(parameters["LambdaTimeout"]["Default"]) == command.DEFAULT_TIMEOUT


# --- the page -----------------------------------------------------------------------------------
def test_any_key_gives_valid_html(on_stack: Home, stack: Stack, tmp_path: Path) -> None:
    """Markup in names and messages is text, control characters are shown, and nothing is loaded."""
    upload(stack, MARKUP, body=jpeg((300, 240)))
    upload(stack, MARKUP + ".txt", body=b"<b>not an image</b>")
    found = on_stack.json("try", "--out", tmp_path, "--formats", "webp,jpeg", "--quality", "50")
    text = Path(found["page"]).read_text()
    assert text.startswith("<!doctype html>")
    page = Page(text)
    assert page.found["article"] == 1
    assert page.found["script"] == page.found["link"] == page.found["b"] == 0
    assert page.found["img"] == 6, "two current and four proposed thumbnails"
    for tag, attributes in page.attributes:
        assert not [name for name in attributes if name.startswith("on")], attributes
        assert tag != "img" or str(attributes["src"]).startswith("data:image/")
        assert attributes.get("alt") or tag != "img"
    assert page.text.count(visible(MARKUP)) == 2, "as the heading, and with what is left out"
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert json.loads(json.dumps(found))["compared"][0]["name"] == MARKUP


def test_a_thumbnail_that_stays_the_same_is_shown_once(home: Home, folder: Path) -> None:
    """Beside the new format, the unchanged one is named only."""
    found = home.json("try", folder / "0.jpg", "--out", folder.parent, "--formats", "webp,avif")
    page = Page(Path(found["page"]).read_text())
    assert page.found["img"] == 4, "two of WebP, two of AVIF"
    assert page.text.count("WebP 85: the same file as now") == 2


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "$0.00"), (0.00012345, "$0.00012"), (12.345, "$12.35")]
)
def test_dollars_are_shown_with_the_digits_that_matter(value: float, shown: str) -> None:
    """Small sums are not rounded to nothing."""
    assert contact_sheet.dollars(value) == shown


@pytest.mark.parametrize(
    ("proposed", "current", "shown"),
    [(150, 100, "+50 %"), (75, 100, "−25 %"), (100.2, 100, "±0 %"), (0, 0, "±0 %"), (5, 0, "new")],
)
def test_a_change_is_shown_in_per_cent(proposed: float, current: float, shown: str) -> None:
    """With its sign."""
    assert contact_sheet.change(proposed, current) == shown


@pytest.mark.skipif(chromium.executable() is None, reason="no Chromium: see `make chromium`")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_is_accessible(
    home: Home, folder: Path, scheme: Literal["light", "dark"]
) -> None:
    """In both schemes: no rule of axe is broken, nothing is cut off, and its own policy holds."""
    (folder / "broken.jpg").write_bytes(b"not an image")
    found = home.json("try", folder, "--out", folder.parent, "--formats", "webp,avif", "--no-score")
    with chromium.launched() as launched:
        page = launched.new_page(viewport={"width": 360, "height": 800}, color_scheme=scheme)
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text))
        page.goto(Path(found["page"]).as_uri())
        page.locator("summary").click()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        shown = "[...document.images].every(each => each.complete && each.naturalWidth > 0)"
        for image in page.locator("img").all():
            image.scroll_into_view_if_needed()
        page.wait_for_function(shown)
        assert errors == []
        context = launched.new_context(bypass_csp=True, color_scheme=scheme)  # axe is a script
        checked = context.new_page()
        checked.goto(Path(found["page"]).as_uri())
        result = Axe().run(checked)
    assert result.response["violations"] == [], result.generate_report()


# --- the sample ---------------------------------------------------------------------------------
def sample(length: int, number: int, seed: int) -> list[int]:
    """Choose `number` of the numbers below `length`."""
    sampler: Sampler[int] = Sampler(number, seed)
    for item in range(length):
        sampler.add(item)
    return sampler.chosen()


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 100, 1000, 12_345])
def test_a_sample_is_spread_over_the_listing(length: int) -> None:
    """It has its number of different items, in order, and no long part is left out."""
    for seed in range(20):
        found = sample(length, 8, seed)
        assert len(found) == min(length, 8)
        assert found == sorted(set(found))
        gaps = [after - before for before, after in pairwise([-1, *found, length])]
        assert max(gaps) <= 4 * length / 8 + 1


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    """And another one for another seed."""
    assert sample(1000, 10, 3) == sample(1000, 10, 3)
    assert sample(1000, 10, 3) != sample(1000, 10, 4)


def test_every_item_has_nearly_the_same_chance() -> None:
    """Over many seeds, no part of the listing is preferred."""
    length, number, seeds = 128, 8, 2000
    counts = Counter(item for seed in range(seeds) for item in sample(length, number, seed))
    parts = [sum(counts[item] for item in range(at, at + 16)) for at in range(0, length, 16)]
    assert min(parts) > 0.9 * seeds
    assert max(parts) < 1.1 * seeds


# --- reading ------------------------------------------------------------------------------------
def test_an_original_is_read_as_the_function_reads_it(stack: Stack) -> None:
    """Gzip is inflated; the focus of the metadata counts, and a wrong one does not."""
    body = jpeg((64, 48))
    upload(
        stack,
        "uploads/a.jpg",
        body=gzip.compress(body),
        ContentEncoding="gzip",
        Metadata={"focus": "0.25,0.75"},
    )
    upload(stack, "uploads/b.jpg", body=body, Metadata={"focus": "7,nan"})
    listed = stack.aws.s3.list_objects_v2(Bucket=INPUT)["Contents"]
    assert originals.read(stack, listed[0]) == Body(body, (0.25, 0.75))
    assert originals.read(stack, listed[1]) == Body(body, None)


def test_an_original_that_cannot_be_read_is_an_error_of_its_own(stack: Stack) -> None:
    """Too large for the function, archived, or deleted meanwhile: each says so."""
    with pytest.raises(ImageTooLarge):
        originals.read(stack, {"Key": "uploads/a.jpg", "Size": 10**9})
    with pytest.raises(StorageUnavailable, match="was deleted meanwhile"):
        originals.read(stack, {"Key": "uploads/gone.jpg", "Size": 10})
    upload(stack, "uploads/old.jpg", StorageClass="GLACIER")
    with pytest.raises(SourceArchived):
        originals.read(stack, {"Key": "uploads/old.jpg", "Size": 10})


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("InvalidObjectState", "The operation is not valid", SourceArchived),
        ("InvalidRequest", f"The object was stored {ENCRYPTED}.", SourceEncrypted),
        ("AccessDenied", "Access Denied", StorageDenied),
        ("SlowDown", "Reduce your request rate", StorageUnavailable),
    ],
)
def test_what_s3_refuses_has_the_error_that_the_function_gives_it(
    stack: Stack, code: str, message: str, kind: type[PipelineError]
) -> None:
    """Permanent ones are those of `unreadable`, which the function uses."""
    refusal = ClientError({"Error": {"Code": code, "Message": message}}, "GetObject")

    def refuse(**_: object) -> None:
        raise refusal

    stack.aws.s3.meta.events.register("before-call.s3.GetObject", refuse)
    with pytest.raises(kind, match=message):
        originals.read(stack, {"Key": "uploads/a.jpg", "Size": 10})
    permanent = unreadable("where", code, message)
    assert (type(permanent) is kind) == issubclass(kind, PermanentError)


# --- the comparison -----------------------------------------------------------------------------
def task(data: bytes, proposed: Settings, original: Original | None = None) -> Task:
    """A task with the default settings as the current ones."""
    original = original or Original("name", data)
    return Task(original, CURRENT.specs, proposed.specs, 512, 30.0, scored=True)


def compared(data: bytes, proposed: Settings) -> Comparison:
    """Compare one original, which must be readable."""
    found = compare(task(data, proposed))
    assert isinstance(found, Comparison)
    return found


def noise(mode: str = "RGB", size: tuple[int, int] = (520, 400)) -> Image.Image:
    """A picture that encoders lose something of."""
    return Image.merge(mode, [Image.effect_noise(size, 40 + band) for band in range(len(mode))])


def test_a_lower_quality_has_fewer_bytes_and_a_lower_score() -> None:
    """Scores are of the encoder's loss; a thumbnail that is too small for one has none."""
    found = compared(encoded(noise(), "PNG"), CURRENT._replace(quality=20))
    small, large = found.current.pictures
    proposed = found.proposed.pictures[1]
    assert small.score is None
    assert large.score is not None
    assert proposed.score is not None
    assert proposed.score < large.score < 100
    assert len(proposed.data) < len(large.data)


def test_a_jpeg_is_scored_on_its_background() -> None:
    """What was transparent in the original is no loss of the encoder."""
    picture = quadrants((600, 500)).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    proposal = CURRENT._replace(formats=("jpeg",), jpeg_quality=95, background="#204060")
    found = compared(encoded(picture, "PNG"), proposal)
    score = found.proposed.pictures[1].score
    assert score is not None
    assert score > 80


def test_cpu_time_is_measured_for_each_of_several_formats() -> None:
    """A format's part is what making all thumbnails takes longer; AVIF takes longer than JPEG."""
    found = compared(encoded(noise(), "PNG"), CURRENT._replace(formats=("webp", "avif", "jpeg")))
    assert found.current.format_cpu_ms == {}
    parts = found.proposed.format_cpu_ms
    assert set(parts) == {"webp", "avif", "jpeg"}
    assert parts["avif"] > parts["jpeg"]
    assert found.proposed.cpu_ms > found.current.cpu_ms


def test_the_focus_is_in_the_crop() -> None:
    """It replaces the middle, as in the function."""
    original = Original("name", jpeg((800, 200)), (0.0, 0.5))
    proposal = CURRENT._replace(sizes=parse_sizes("100x100"))
    found = compare(task(b"", proposal, original))
    middle = compare(task(b"", proposal, replace(original, focus=None)))
    assert isinstance(found, Comparison)
    assert isinstance(middle, Comparison)
    assert found.proposed.pictures[0].data != middle.proposed.pictures[0].data


def test_an_original_that_fails_is_named() -> None:
    """Whatever it fails of; one that could not be read passes through."""
    broken = compare(task(b"not an image", CURRENT._replace(quality=50)))
    assert isinstance(broken, Unreadable)
    assert broken.error_type == "UnsupportedImage"
    dead = comparison.died(task(b"", BOTH))
    assert (dead.name, dead.error_type) == ("name", "ProcessDied")
    assert compare(replace(task(b"", BOTH), original=dead)) is dead


# --- what it means ------------------------------------------------------------------------------
def means(settings: Settings, cpu_ms: float, **sizes: float) -> Means:
    """Means, of which every size of a format has the same bytes, and formats share the CPU time."""
    share = cpu_ms / len(settings.formats)
    several = len(settings.formats) > 1
    return Means(
        settings,
        cpu_ms,
        dict.fromkeys(settings.formats, share) if several else {},
        {spec: sizes[spec.format] for spec in settings.specs},
    )


def test_the_billed_time_follows_the_ratio_of_the_cpu_times() -> None:
    """Of the time that the user knows, or of the CPU time here at the memory's share of a vCPU."""
    current, proposed = means(CURRENT, 40, webp=1), means(BOTH, 100, webp=1, avif=1)
    was, will = rates_of(RATES, current, proposed, 220.0)
    assert (was.duration_ms, will.duration_ms) == (220, 20 + 200 * 2.5)
    assert (was.writes, will.writes) == (2, 4)
    was, will = rates_of(RATES, current, proposed)
    assert was.duration_ms == pytest.approx(40 * 1769 / 512 + 20)
    assert will.duration_ms == pytest.approx(100 * 1769 / 512 + 20)


def test_storage_and_transfer_are_those_of_all_images_and_views() -> None:
    """A view loads one thumbnail, in the first format that viewers take."""
    rates = replace(RATES, duration_ms=100.0)
    found = Monthly.of(rates, means(BOTH, 100, webp=40_000, avif=30_000), 1000, 500)
    assert found.storage_bytes == 1000 * 2 * 70_000
    assert found.storage_dollars == costs.of_storage(found.storage_bytes)
    assert found.transfer_bytes == 500 * 30_000
    assert found.transfer_dollars == pytest.approx(500 * 30_000 / 1e9 * 0.085)
    assert found.new_images_dollars == sum(costs.of_images(rates, 10_000).values())


def test_a_backfill_makes_what_is_missing_or_changed() -> None:
    """Formats that are added, a quality that is changed, and a size that is no longer made."""
    rates = replace(RATES, writes=4, duration_ms=180.0)
    current = means(CURRENT, 40, webp=10)
    added = Backfill.of(rates, current, means(BOTH, 100, webp=10, avif=9), 100, 90)
    assert (added.images, added.missing, added.changed, added.current) == (90, 2, 0, 2)
    assert added.hours == pytest.approx(90 * 0.18 / 3600 / 5)
    assert added.dollars == pytest.approx(
        costs.of_backfill(rates, 100, 90) + 90 * 2 * PRICES["s3_get_or_head"]
    )
    assert (added.orphaned, added.orphaned_bytes) == (0, 0)
    lower = means(CURRENT._replace(quality=50), 40, webp=8)
    changed = Backfill.of(rates, current, lower, 100, 90)
    assert (changed.missing, changed.changed, changed.current) == (0, 2, 0)
    assert changed.dollars > costs.of_backfill(rates, 100, 90) + 90 * 2 * PRICES["s3_put_or_list"]
    fewer = means(CURRENT._replace(sizes=parse_sizes("128")), 30, webp=10)
    nothing = Backfill.of(rates, current, fewer, 100, 90)
    assert (nothing.images, nothing.hours, nothing.current) == (0, 0, 1)
    assert (nothing.orphaned, nothing.orphaned_bytes) == (1, 900)


def test_a_format_pays_for_itself_after_some_views() -> None:
    """Transfer saved in each view, against making the format and storing it for a year."""
    rates = replace(RATES, duration_ms=220.0)
    current = means(CURRENT, 40, webp=40_000)
    (avif,) = Payback.of_all(rates, current, means(BOTH, 100, webp=40_000, avif=30_000))
    assert (avif.format, avif.instead_of, avif.saved_bytes) == ("avif", "webp", 10_000)
    time = 0.1 * 512 / 1024 * PRICES["lambda_gb_second"]["arm64"]  # half of 200 ms
    dollars = time + 2 * 0.000005 + 12 * 60_000 / 2**30 * 0.023
    assert avif.dollars == pytest.approx(dollars)
    assert avif.views == pytest.approx(dollars / (10_000 / 1e9 * 0.085), abs=1)


def test_a_format_with_more_bytes_never_pays_for_itself() -> None:
    """And one that replaces another has only the difference to pay for."""
    current = means(CURRENT, 40, webp=40_000)
    rates = replace(RATES, duration_ms=220.0)
    (more,) = Payback.of_all(rates, current, means(BOTH, 100, webp=40_000, avif=41_000))
    assert more.views is None
    alone = means(CURRENT._replace(formats=("avif",)), 40, avif=30_000)
    (avif,) = Payback.of_all(rates, current, alone)
    assert (avif.instead_of, avif.saved_bytes, avif.views) == ("webp", 10_000, 0)
    assert Payback.of_all(rates, current, means(CURRENT._replace(quality=50), 40, webp=9)) == []


def test_an_original_that_the_function_has_no_time_for_is_told() -> None:
    """Estimated at the stack's memory, for the slowest of the sample."""

    def side(settings: Settings, cpu_ms: float) -> Thumbnails:
        pictures = tuple(Picture(spec, b"data", (1, 1)) for spec in settings.specs)
        return Thumbnails(pictures, cpu_ms, dict.fromkeys(settings.formats, 0.0))

    def trial(cpu_ms: float) -> Trial:
        one = Comparison("a", "PNG", (1, 1), 4, side(CURRENT, 10), side(BOTH, cpu_ms))
        where = Source("photos", None, 1, 1, 0, 30)
        return Trial(where, 0, (CURRENT, BOTH), [one], [], RATES, 1, scored=False)

    assert trial(1000).all_notes == []
    (note,) = trial(10_000).all_notes
    assert "would take about 35 s with 512 MB, and the function has 30 s" in note
