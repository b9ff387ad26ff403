"""The console's gallery in a real browser: it works by keyboard, and keeps up with the bucket."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from aws_names import INPUT, OUTPUT
from axe_playwright_python.sync_playwright import Axe
from console_server import address, serving
from moto_stack import moto_stack, upload_with_thumbnails
from pictures import jpeg
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from image_pipeline.console import gallery
from image_pipeline.stack.deployed import Stack
from tools import browser as chromium

pytestmark = pytest.mark.skipif(
    chromium.executable() is None,
    reason="no Chromium: apt install chromium, or set the variable CHROMIUM to its path",
)

POLL = 10_000
"""Milliseconds after which an open gallery has looked for new uploads."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium.launched() as browser:
        yield browser


@pytest.fixture
def stack(s3: Any, aws: str, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """Buckets and a queue, without a function. A page of the gallery has three images."""
    del s3  # it has created the buckets
    monkeypatch.setattr(gallery, "PAGE_SIZE", 3)
    return moto_stack(aws)


@pytest.fixture
def page(stack: Stack, browser: Browser) -> Iterator[Page]:
    """A tab, small enough to scroll, whose clock the test sets. It fails if a script raises."""
    errors: list[str] = []
    with serving(stack) as url:
        context: BrowserContext = browser.new_context(
            base_url=url, viewport={"width": 700, "height": 500}
        )
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.clock.install()
        page.goto(address(url))
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        yield page
        context.close()
    assert errors == []


@pytest.fixture
def put(stack: Stack) -> Callable[..., str]:
    """Upload objects of these names, the last one newest, and return the first one's ETag."""

    def put(*names: str, body: bytes = b"x") -> str:
        # Of those that are uploaded in the same second the last name comes first.
        etags = [
            stack.aws.s3.put_object(Bucket=INPUT, Key=f"uploads/{name}", Body=body)["ETag"]
            for name in names
        ]
        return etags[0].strip('"')

    return put


def card(page: Page, name: str) -> Any:
    """The card of an image."""
    return page.locator(".gallery li").filter(has=page.get_by_text(name, exact=True))


def open_gallery(page: Page, path: str = "/") -> None:
    """Show a page of the gallery."""
    page.goto(path)
    expect(page.locator("#gallery-content")).to_be_visible()


def test_the_lightbox_is_used_by_keyboard(page: Page, stack: Stack, put: Any) -> None:
    """Enter opens it, arrows lead through images and pages, Esc returns to the image's card."""
    put("a.jpg", "b.jpg")
    upload_with_thumbnails(stack, "uploads/c.jpg", jpeg((600, 400)))
    put("d.jpg")
    open_gallery(page)
    card(page, "d.jpg").get_by_role("button").press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name="d.jpg")).to_be_visible()
    expect(dialog.get_by_role("button", name="Previous")).to_be_disabled()
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("heading", name="c.jpg")).to_be_visible()
    expect(dialog).to_contain_text("512 pixels wide")
    shown = dialog.locator("img")
    expect(shown).to_have_attribute("src", re.compile(r"c_512w\.webp"))
    assert shown.evaluate("image => image.naturalWidth") == 512
    for _ in range(5):  # the focus does not leave the dialog
        page.keyboard.press("Tab")
        inside = (
            "document.activeElement === document.body || document.activeElement.closest('dialog')"
        )
        assert page.evaluate(f"Boolean({inside})")
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    page.keyboard.press("End")
    expect(dialog.get_by_role("heading", name="b.jpg")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("heading", name="a.jpg")).to_be_visible()
    expect(page).to_have_url(re.compile("skip=3"))
    page.keyboard.press("ArrowLeft")
    expect(dialog.get_by_role("heading", name="b.jpg")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(card(page, "b.jpg").get_by_role("button")).to_be_focused()


def test_the_gallery_keeps_its_place(page: Page, put: Any) -> None:
    """Folder, search and page are the same, and as far scrolled, after a look at an image."""
    put(*(f"trip/day/img-{number}.jpg" for number in range(6)), "trip/other.jpg")
    open_gallery(page)
    page.get_by_role("link", name="trip").click()
    expect(card(page, "other.jpg")).to_be_visible()
    page.get_by_role("link", name="day").click()
    page.get_by_label("Find in this folder").fill("IMG")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Next page").click()
    expect(card(page, "img-0.jpg")).to_be_visible()
    url = page.url
    page.evaluate("scrollTo(0, 250)")
    card(page, "img-1.jpg").get_by_role("link").click()
    page.get_by_role("link", name="Next image").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("trip/day/img-0.jpg")
    expect(page.get_by_role("link", name="Next image")).to_be_hidden()
    page.get_by_role("link", name="All images").click()
    expect(card(page, "img-0.jpg")).to_be_visible()
    assert page.url == url.partition("#")[0]
    page.wait_for_function("scrollY === 250")


def test_new_uploads_appear(page: Page, put: Any) -> None:
    """They are inserted at the top of the page; further down a button shows them on request."""
    put("a.jpg", "b.jpg")
    open_gallery(page)
    put("c.jpg")
    page.clock.fast_forward(POLL)
    expect(card(page, "c.jpg")).to_be_visible()
    expect(page.get_by_text("1 new image", exact=True)).to_be_visible()
    page.set_viewport_size({"width": 360, "height": 300})
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    put("d.jpg", "e.jpg")
    page.clock.fast_forward(POLL)
    page.get_by_role("button", name="2 new images: show").click()
    expect(card(page, "e.jpg").get_by_role("button")).to_be_focused()
    expect(page.get_by_role("button", name="new image")).to_be_hidden()


def test_a_thumbnail_that_was_missing_appears(page: Page, stack: Stack, put: Any) -> None:
    """The card of a new upload shows its thumbnail as soon as it is made."""
    put("a.jpg")
    open_gallery(page)
    expect(card(page, "a.jpg")).to_contain_text("No thumbnail")
    stack.aws.s3.put_object(Bucket=OUTPUT, Key="a_512w.webp", Body=jpeg((60, 40)))
    page.clock.fast_forward(POLL)
    expect(card(page, "a.jpg").locator("img")).to_be_visible()


def test_links_are_renewed_before_they_expire(page: Page, put: Any) -> None:
    """After half of their hour all links are new, and a picture that fails is tried once more."""
    put("a.jpg", "b.jpg", "c.jpg")
    tried: list[str] = []

    def renewed(route: Route) -> None:
        objects = json.loads(route.request.post_data or "")["objects"]
        route.fulfill(json={"links": [f"/static/icon.svg?{each}" for each in objects]})

    def refused(route: Route) -> None:
        tried.append(route.request.url)
        route.abort()

    page.route(re.compile(OUTPUT), refused)
    page.route("**/links", renewed)
    open_gallery(page)
    for image in page.locator(".gallery img").all():
        expect(image).to_have_attribute("src", re.compile("icon.svg.output/"))
    expect(page.get_by_text("No thumbnail")).to_have_count(0)
    assert len(tried) == 3

    page.goto("/image?key=uploads/a.jpg")
    original = page.locator("a.picture")
    expect(original).to_have_attribute("href", re.compile("X-Amz-Expires=3600"))
    page.clock.fast_forward("31:00")
    expect(original).to_have_attribute("href", re.compile("icon.svg.input/uploads/a.jpg"))


def test_selected_images_are_deleted(page: Page, stack: Stack, put: Any) -> None:
    """A range is selected by Shift. Esc deletes nothing. What has changed stays, and says so."""
    put("a.jpg", "b.jpg", "c.jpg", "d.jpg")
    open_gallery(page)
    card(page, "d.jpg").get_by_role("checkbox").check()
    card(page, "b.jpg").get_by_role("checkbox").click(modifiers=["Shift"])
    page.get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("heading", name="Delete 3 images?")).to_be_visible()
    expect(page.get_by_role("dialog")).to_contain_text("Nobody can restore the originals")
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    page.keyboard.press("Escape")
    expect(page.get_by_text("3 selected")).to_be_visible()
    put("c.jpg", body=b"newer")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete 3 images").click()
    expect(page.locator("#selection-status")).to_have_text("2 images deleted, 1 failed")
    expect(page.locator("#selection-failures")).to_contain_text(
        "c.jpg: A newer upload has replaced"
    )
    listed = stack.aws.s3.list_objects_v2(Bucket=INPUT)["Contents"]
    assert [each["Key"] for each in listed] == ["uploads/a.jpg", "uploads/c.jpg"]
    page.get_by_role("button", name="Clear selection").click()
    page.clock.fast_forward(POLL)
    expect(card(page, "a.jpg")).to_be_visible()  # from the second page
    expect(page.locator(".gallery li")).to_have_count(2)


def test_an_upload_command_works_as_it_is(page: Page, stack: Stack, put: Any) -> None:
    """The command that the page of an image shows replaces the image, for an hour."""
    put("it's [1].jpg")
    page.goto("/image?key=uploads/it's [1].jpg")
    page.get_by_role("button", name="Create upload command").click()
    expect(page.locator("#command-status")).to_contain_text("60 minutes")
    command = page.locator("#command").inner_text()
    arguments = f"curl() {{ printf '%s\\0' curl \"$@\"; }}; {command}"
    given = subprocess.run(  # noqa: S603 - the shell only prints the arguments
        ["/bin/sh", "-c", arguments], capture_output=True, check=True, text=True
    )
    *options, file, header, value, url = given.stdout.split("\0")[:-1]
    assert [*options, header] == ["curl", "--fail", "--globoff", "--upload-file", "--header"]
    assert file == "./it's [1].jpg"
    headers = dict([value.split(": ")])
    requests.put(url, b"replaced", headers=headers, timeout=5).raise_for_status()
    found = stack.aws.s3.get_object(Bucket=INPUT, Key="uploads/it's [1].jpg")
    assert (found["Body"].read(), found["ContentType"]) == (b"replaced", "image/jpeg")
