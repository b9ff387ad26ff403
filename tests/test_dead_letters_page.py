"""The page of failed uploads in a real browser: groups, filters, selections, discarding."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aws_names import INPUT
from axe_playwright_python.sync_playwright import Axe
from console_server import address, serving
from moto_stack import moto_stack
from playwright.sync_api import Browser, Page, expect

from image_pipeline.stack.dead_letters import read_all
from image_pipeline.stack.deployed import Stack
from thumbnailer.dead_letters import DeadLetter
from thumbnailer.errors import CorruptImage, PipelineError, StorageDenied, UnsupportedImage
from thumbnailer.events import Upload
from tools import browser as chromium

pytestmark = pytest.mark.skipif(
    chromium.executable() is None,
    reason="no Chromium: apt install chromium, or set the variable CHROMIUM to its path",
)

SUPPORTED = "Supported formats: JPEG, PNG, WebP, GIF, HEIC, AVIF, TIFF, JPEG 2000, BMP, ICO, SVG."


class Function:
    """A Lambda client whose function makes the thumbnails of every upload."""

    def invoke(self, **_: Any) -> Any:
        """Answer that the upload is done."""
        return {"Payload": BytesIO(json.dumps({"processed": 1, "failed": 0}).encode())}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium.launched() as browser:
        yield browser


@pytest.fixture
def stack(s3: Any, aws: str) -> Stack:
    """A queue with 60 text files, three damaged images, and one that S3 denies."""
    del s3  # it has created the buckets
    stack = moto_stack(aws)
    stack.aws.__dict__["invocations"] = Function()
    fail(
        stack,
        UnsupportedImage(f"Unsupported file type: plain text. {SUPPORTED}"),
        "notes/{}.txt",
        60,
    )
    fail(stack, CorruptImage("JPEG: only 12 % of the rows are there."), "trip/IMG_{}.jpg", 3)
    fail(
        stack, StorageDenied("s3://out/locked_512w.webp: access denied"), f"{'w' * 200}{{}}.jpg", 1
    )
    return stack


def fail(stack: Stack, error: PipelineError, name: str, number: int) -> None:
    """Send dead-letter messages, ten at a time."""
    entries: list[Any] = [
        {"Id": str(n), "MessageBody": letter.to_json()}
        for n in range(number)
        for letter in [DeadLetter.of(Upload(INPUT, f"uploads/{name.format(n)}", "e"), error, "r")]
    ]
    for start in range(0, number, 10):
        stack.aws.sqs.send_message_batch(
            QueueUrl=stack.queues[0], Entries=entries[start : start + 10]
        )


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    """The page of failed uploads, at the size of a phone. No script in it fails."""
    errors: list[str] = []
    with serving(stack) as url:
        context = browser.new_context(base_url=url, viewport={"width": 360, "height": 800})
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address(url))
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.goto("/dead-letters")
        expect(page.locator("#dead-letters")).to_have_attribute("aria-busy", "false")
        yield page
        context.close()
    assert errors == []


def uploads(stack: Stack) -> set[str]:
    """The folders that still have messages."""
    return {each.key.split("/")[1][:4] for each in read_all(stack).failures}


def check(page: Page) -> None:
    """Axe finds nothing, nothing is wider than the page, and no button's text is broken."""
    results = Axe().run(
        page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    lines = """buttons => buttons.filter(button => button.offsetParent).map(button => {
        const text = document.createRange();
        text.selectNodeContents(button);
        return [button.textContent, text.getClientRects().length];
    })"""
    found = page.locator("button, .button").evaluate_all(lines)
    assert [text for text, count in found if count != 1] == []


def test_a_group_is_found_selected_exported_and_discarded(
    page: Page, stack: Stack, tmp_path: Path
) -> None:
    """All 60 of a cause are selected over two pages, saved to a file, and deleted; others stay."""
    expect(page.get_by_text("1 to 50 of 64 failed uploads.")).to_be_visible()
    page.get_by_role("link", name="not an image, or is one of a format").click()
    expect(page.get_by_text("60 failed uploads of 64.")).to_be_visible()
    page.get_by_label("Select all on this page").check()
    page.get_by_role("button", name="Select all 60").click()
    page.get_by_role("button", name="Discard 60 selected").click()
    dialog = page.get_by_role("dialog", name="Discard 60 dead-letter messages?")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    check(page)
    with page.expect_download() as download:
        dialog.get_by_role("button", name="Download a copy").click()
    download.value.save_as(tmp_path / "copy.jsonl")
    lines = (tmp_path / "copy.jsonl").read_text().splitlines()
    assert len({json.loads(json.loads(line)["body"])["key"] for line in lines}) == 60
    assert len(read_all(stack).failures) == 64, "nothing is deleted before the button is pressed"
    dialog.get_by_role("button", name="Discard", exact=True).click()
    expect(page.locator("#replay-status")).to_have_text("60 discarded.")
    expect(page.get_by_text("No failed upload matches.")).to_be_visible()
    assert uploads(stack) == {"trip", "wwww"}


def test_a_filtered_row_is_replayed_in_its_place(page: Page, stack: Stack) -> None:
    """The filter and the scroll position stay; then all that match are replayed, and no other."""
    page.get_by_label("Name contains").fill("img_")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tr[data-message]")).to_have_count(3)
    last = page.get_by_role("button", name="Replay uploads/trip/IMG_0.jpg")
    last.scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    last.click()
    status = page.locator("#replay-status")
    expect(status).to_have_text("Replay finished: 1 done.")
    expect(page.locator("tr[data-message]")).to_have_count(2)
    expect(status).to_be_focused()
    expect(status).to_be_in_viewport()
    bottom = page.evaluate("document.documentElement.scrollHeight - innerHeight")
    assert page.evaluate("scrollY") >= min(before, bottom) - 60, "at most the status moves it"
    page.get_by_role("button", name="Replay all 2 that match").click()
    expect(status).to_have_text("Replay finished: 2 done.")
    assert uploads(stack) == {"note", "wwww"}


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
def test_the_groups_are_accessible(page: Page, scheme: str, width: int) -> None:
    """Axe finds nothing in the groups, the filters and the list, and all buttons are whole."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    check(page)
