"""How the console's pages look in a real browser: WCAG 2.2 AA, the width of pages and of buttons.

The pages are those of a stack in moto. To have another view checked, add a function to VIEWS.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from aws_names import INPUT
from axe_playwright_python.base import AxeResults
from axe_playwright_python.sync_playwright import Axe
from console_server import address, serving
from moto_stack import (
    let_moto_have_percentiles,
    moto_stack,
    put_failed,
    put_log,
    put_processed,
    send_dead_letter,
    upload_with_thumbnails,
)
from pictures import jpeg
from playwright.sync_api import Browser, Page, expect

from image_pipeline.console.metrics import SPANS
from image_pipeline.stack.deployed import Stack
from thumbnailer.errors import ImageTooLarge, UnsupportedImage
from tools import browser as chromium

pytestmark = pytest.mark.skipif(
    chromium.executable() is None,
    reason="no Chromium: apt install chromium, or set the variable CHROMIUM to its path",
)

WIDTHS = (1280, 360)
"""CSS pixels of a desktop's window, and of a small phone's screen."""

RULES: dict[Literal["light", "dark"], list[str]] = {
    "light": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"],
    "dark": ["color-contrast", "link-in-text-block"],
}
"""axe's rules by colour scheme: in the light one all of WCAG 2.0, 2.1 and 2.2, levels A and AA, and
in the dark one those that depend on colours.
https://github.com/dequelabs/axe-core/blob/develop/doc/rule-descriptions.md"""

LONG_NAME = "w" * 200
LOG_TIME = "2026-01-01 12:00:00,000+0000"


def go(path: str) -> Callable[[Page], None]:
    """Return a function that opens a page, and waits for the parts of it that are loaded later."""

    def show(page: Page) -> None:
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        for part in page.locator("[data-load]").all():
            expect(part).to_have_attribute("aria-busy", "false")

    return show


def show_uploads(page: Page) -> None:
    """Open the uploads of this tab, with a file that is in the bucket and waits for thumbnails."""
    go("/")(page)
    page.set_input_files(
        "#files", {"name": f"{LONG_NAME}.jpg", "mimeType": "image/jpeg", "buffer": jpeg()}
    )
    expect(page.locator("#uploads")).to_contain_text("Waiting for thumbnails")


def show_lightbox(page: Page) -> None:
    """Open an image in front of the gallery of its folder."""
    go("/?folder=a/")(page)
    page.locator(".gallery button").first.click()
    expect(page.locator("#lightbox-content img")).to_be_visible()


def ask_to_delete(page: Page) -> None:
    """Select an image of a folder, and open the question before its deletion."""
    go("/?folder=a/")(page)
    page.locator(".gallery input").first.check()
    page.get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def ask_to_discard(page: Page) -> None:
    """Open the failed uploads of one cause, and the question before they are discarded."""
    go("/dead-letters")(page)
    page.locator(".groups").get_by_role("button", name="Discard").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()


def show_metrics(span: str) -> Callable[[Page], None]:
    """Return a function that opens the metrics of a range, with a chart's value and the table."""

    def show(page: Page) -> None:
        go(f"/metrics?range={span}")(page)
        page.locator("#images").focus()
        page.locator("#numbers summary").click()

    return show


VIEWS: dict[str, Callable[[Page], None]] = {
    "images": go("/"),
    "folder": go("/?folder=a/"),
    "no images": go("/?find=none"),
    "lightbox": show_lightbox,
    "deletion": ask_to_delete,
    "uploads": show_uploads,
    "image": go("/image?key=uploads/a/done.jpg"),
    "failed image": go(f"/image?key=uploads/{LONG_NAME}.jpg"),
    "image that does not exist": go("/image?key=none"),
    "failed uploads": go("/dead-letters"),
    "failed uploads of a name": go("/dead-letters?name=none"),
    "discard": ask_to_discard,
    **{f"metrics of {name}": show_metrics(name) for name in SPANS},
}
"""How to get to each view, by name. The functions run in this order in one tab."""


def fill(stack: Stack) -> None:
    """Upload images, one of them with a log, and send messages about failed ones."""
    upload_with_thumbnails(stack, "uploads/a/done.jpg", jpeg((1000, 600)))
    for name in (LONG_NAME, "large", "text"):
        stack.aws.s3.put_object(Bucket=INPUT, Key=f"uploads/{name}.jpg", Body=b"text")
    send_dead_letter(stack, f"uploads/{LONG_NAME}.jpg", "0", UnsupportedImage("t" * 300))
    send_dead_letter(stack, "uploads/large.jpg", "0", ImageTooLarge("20,000 × 20,000 pixels"))
    send_dead_letter(stack, "uploads/text.jpg", "0")
    now = datetime.now(UTC)
    for minutes_ago in range(3, 40, 6):
        put_processed(stack, now - timedelta(minutes=minutes_ago), 10 * minutes_ago)
    put_failed(stack, now - timedelta(minutes=5), bucket=INPUT, key="uploads/text.jpg")
    entry = {"timestamp": LOG_TIME, "action": "complete", "key": "uploads/a/done.jpg"}
    put_log(stack, now, entry | {"thumbnails": [128, 512], "duration_ms": 161.4})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium.launched() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, s3: Any, aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A tab with the console of a stack that has images, failed uploads and a log."""
    del s3  # it has created the buckets
    let_moto_have_percentiles(monkeypatch)
    stack = moto_stack(aws)
    fill(stack)
    with serving(stack) as url:
        page = browser.new_page(base_url=url, reduced_motion="reduce")
        page.goto(address(url))
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        yield page
        page.close()


def test_every_view_is_accessible_and_fits(page: Page) -> None:
    """In both colour schemes axe finds no violation of WCAG 2.2 AA, on desktop and phone.

    No view scrolls sideways, and each button's text is whole and on one line.
    """
    problems = []
    for name, show in VIEWS.items():
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        show(page)
        page.evaluate(Axe().axe_script)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if overflow > 0:
                problems.append(f"{name}, {width} px: {overflow} px too wide")
            cut = page.evaluate(CUT_BUTTONS)
            problems += [f"{name}, {width} px: the text of {each} is cut" for each in cut]
            for scheme, rules in RULES.items():
                page.emulate_media(color_scheme=scheme)
                found = AxeResults(page.evaluate("rules => axe.run({ runOnly: rules })", rules))
                if found.violations_count:
                    problems.append(f"{name}, {width} px, {scheme}: {found.generate_report()}")
    assert not problems, "\n".join(problems)


CUT_BUTTONS = """() => {
    const lines = (button) => {
        const texts = document.createTreeWalker(button, NodeFilter.SHOW_TEXT);
        const range = document.createRange();
        const found = [];
        while (texts.nextNode()) {
            range.selectNodeContents(texts.currentNode);
            found.push(...range.getClientRects());
        }
        return found;
    };
    const cut = (button) => {
        const { left, right } = button.getBoundingClientRect();
        const found = lines(button);
        return new Set(found.map((line) => Math.round(line.bottom))).size > 1
            || found.some((line) => line.left < left || line.right > right);
    };
    return [...document.querySelectorAll("button, .button")]
        .filter((button) => button.checkVisibility() && cut(button))
        .map((button) => button.textContent.trim());
}"""
"""JavaScript that returns the text of each button that has more than one line or is cut off."""


def test_log_details_have_room_on_a_phone(page: Page) -> None:
    """On a phone, the column with the details of the log is wider than half of the screen."""
    page.set_viewport_size({"width": 360, "height": 800})
    go("/image?key=uploads/a/done.jpg")(page)
    details = page.locator("table.log td:last-child").last
    assert details.evaluate("cell => cell.clientWidth") >= 180
