"""The console in a real browser, on the deployed template with IAM and CORS enforced."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import chromium
import pytest
from axe_playwright_python.sync_playwright import Axe
from console_server import SECRET, serving
from pictures import jpeg
from playwright.sync_api import Browser, Page, expect
from serving import client, until

from image_pipeline.stack.aws import LOCAL_REGION, Aws
from image_pipeline.stack.deployed import Stack

pytestmark = [
    pytest.mark.local_stack,
    pytest.mark.skipif(
        chromium.executable() is None,
        reason="no Chromium: apt install chromium, or name one in the variable CHROMIUM",
    ),
]

MARKUP = "<img src=x onerror=alert(1)>.jpg"
PAGES = ["/", "/letters", "/figures"]
SECONDS = 30_000
"""Milliseconds for what takes the function's time."""


@pytest.fixture(scope="module")
def console(stack: Stack) -> Iterator[str]:
    """The console's URL."""
    with serving(stack) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium.launched() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, console: str) -> Iterator[Page]:
    """A window whose script raises nothing, says nothing bad, and opens no dialog."""
    context = browser.new_context(base_url=console, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.goto(f"/?secret={SECRET}")
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    page.on(
        "console",
        # A picture or page that is not there is told too, and is no fault of the script.
        lambda message: message.type == "error"
        and "Failed to load resource" not in message.text
        and faults.append(message.text),
    )
    yield page
    context.close()
    assert faults == []


def upload(page: Page, *files: Path) -> None:
    """Choose files, and wait until something became of each."""
    page.goto("/")
    page.set_input_files("#files", [str(each) for each in files])
    summary = page.locator("#uploads-summary")
    expect(summary).to_have_text(re.compile(r"^\d+ done.* 0 under way$"), timeout=SECONDS)


def card(page: Page, name: str) -> Any:
    """The line of an upload."""
    return page.locator(".upload").filter(has=page.get_by_role("heading", name=name, exact=True))


def letter(page: Page, name: str) -> Any:
    """The row of a dead letter."""
    return page.locator("tr[data-message]").filter(has_text=name)


def picture(folder: Path, name: str, body: bytes | None = None) -> Path:
    """A file to upload."""
    path = folder / name
    path.write_bytes(body or jpeg((1000, 600)))
    return path


def test_from_upload_to_replay(page: Page, stack: Stack, tmp_path: Path) -> None:
    """Three files go up, two come back as thumbnails; the broken one is replaced and replayed."""
    broken = picture(tmp_path, "broken.jpg", b"this is no picture")
    upload(page, picture(tmp_path, "one.jpg"), picture(tmp_path, "two.jpg"), broken)
    for name in ("one.jpg", "two.jpg"):
        done = card(page, name)
        expect(done).to_contain_text("Thumbnails are there")
        expect(done.locator(".thumbnails img")).to_have_count(2)
        for thumbnail in done.locator(".thumbnails img").all():
            until(lambda img=thumbnail: img.evaluate("img => img.naturalWidth") in (128, 512))
        expect(done).to_contain_text("% saved")
        assert done.locator("figure img").is_visible(), "the original is beside them"
    expect(card(page, "broken.jpg")).to_contain_text("UnsupportedImage")

    page.get_by_role("link", name="Dead letters", exact=True).first.click()
    expect(letter(page, "uploads/broken.jpg")).to_contain_text("UnsupportedImage")
    expect(letter(page, "uploads/broken.jpg")).to_contain_text("not an image of a format")
    letter(page, "uploads/broken.jpg").get_by_role("button", name="Replay").click()
    expect(page.locator("#replay-status")).to_contain_text("1 failed again", timeout=SECONDS)
    expect(page.locator("#replay-status")).to_be_focused()
    expect(letter(page, "uploads/broken.jpg").locator("[data-label=Attempts]")).to_have_text("2")

    stack.aws.s3.put_object(Bucket=stack.input_bucket, Key="uploads/broken.jpg", Body=jpeg())
    letter(page, "uploads/broken.jpg").get_by_role("button", name="Replay").click()
    expect(page.locator("#replay-status")).to_contain_text("1 done", timeout=SECONDS)
    expect(letter(page, "uploads/broken.jpg")).to_have_count(0)
    page.reload()
    expect(page.locator("#letters")).to_have_attribute("aria-busy", "false")
    expect(letter(page, "uploads/broken.jpg")).to_have_count(0)


def test_a_selection_and_all_are_replayed(page: Page, stack: Stack, tmp_path: Path) -> None:
    """Two of three letters are chosen and replayed, then all; each time the outcome is shown."""
    names = [f"many-{number}.jpg" for number in range(3)]
    upload(page, *(picture(tmp_path, name, b"text of " + name.encode()) for name in names))
    for name in names[:2]:
        stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=f"uploads/{name}", Body=jpeg())
    page.goto("/letters")
    chosen = page.get_by_role("button", name="Replay selected")
    expect(chosen).to_be_disabled()
    for name in names[:2]:
        letter(page, name).get_by_role("checkbox").check()
    page.get_by_role("button", name="Replay 2 selected").click()
    expect(page.locator("#replay-status")).to_contain_text("2 done", timeout=SECONDS)
    expect(letter(page, names[2])).to_have_count(1)
    expect(letter(page, names[0])).to_have_count(0)
    stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=f"uploads/{names[2]}", Body=jpeg())
    page.get_by_role("button", name="Replay all").click()
    expect(page.locator("#replay-status")).to_contain_text(
        re.compile("Replayed: [^2]* done"), timeout=SECONDS
    )
    expect(letter(page, names[2])).to_have_count(0, timeout=SECONDS)


def test_a_name_that_is_markup_stays_a_name(page: Page, tmp_path: Path) -> None:
    """Uploaded, shown, failed and replayed, it is text everywhere; no script of it runs."""
    upload(page, picture(tmp_path, MARKUP, b"text"))
    expect(card(page, MARKUP)).to_contain_text("UnsupportedImage")
    page.goto("/")
    expect(page.locator(".gallery .name").get_by_text(MARKUP)).to_be_visible()
    page.locator(".gallery a").filter(has_text=MARKUP).click()
    expect(page.get_by_role("heading", name=MARKUP)).to_be_visible()
    page.goto("/letters")
    letter(page, MARKUP).get_by_role("button", name="Replay").click()
    expect(page.locator("#replay-status")).to_contain_text("1 failed again", timeout=SECONDS)
    assert page.locator("img[src='x']").count() == 0


def test_a_folder_keeps_its_structure(page: Page, stack: Stack, tmp_path: Path) -> None:
    """A chosen folder's files are uploaded under its name; hidden ones stay where they are."""
    (tmp_path / "trip" / "day 1").mkdir(parents=True)
    picture(tmp_path / "trip" / "day 1", "a.jpg")
    picture(tmp_path / "trip", ".hidden.jpg")
    page.goto("/")
    page.set_input_files("#folder", str(tmp_path / "trip"))
    expect(page.locator("#uploads-summary")).to_have_text(
        "1 done, 0 failed, 0 under way", timeout=SECONDS
    )
    found = stack.aws.s3.list_objects_v2(Bucket=stack.input_bucket, Prefix="uploads/trip/")
    assert [each["Key"] for each in found["Contents"]] == ["uploads/trip/day 1/a.jpg"]


def test_dropped_files_are_taken(page: Page) -> None:
    """What is dropped anywhere on the page is uploaded."""
    page.goto("/")
    page.evaluate(
        """bytes => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(bytes)], "dropped.jpg"));
            for (const kind of ["dragover", "drop"]) {
                document.querySelector("#drop").dispatchEvent(new DragEvent(
                    kind, { bubbles: true, cancelable: true, dataTransfer: files }));
            }
        }""",
        list(jpeg((200, 200))),
    )
    expect(card(page, "dropped.jpg")).to_contain_text("Thumbnails are there", timeout=SECONDS)


def test_the_detail_view_has_log_and_srcset(page: Page, tmp_path: Path) -> None:
    """The function's own log lines of that image, and an <img> to copy."""
    upload(page, picture(tmp_path, "detail.jpg"))
    card(page, "detail.jpg").get_by_role("link", name="All about this image").click()
    expect(page.get_by_text("1000 × 600")).to_be_visible()
    expect(page.locator("#srcset-text")).to_contain_text("/detail_512w.webp 512w")
    actions = page.locator("table.log tbody tr td:nth-child(2)")
    assert actions.all_inner_texts()[-2:] == ["start", "complete"]
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name=re.compile("Cop(ied|y it)|Selected"))).to_be_visible()


def test_figures_follow_what_is_done(page: Page, tmp_path: Path) -> None:
    """An open page of figures counts an image that is uploaded meanwhile, without a reload."""
    page.goto("/figures")
    number = page.locator("dl.figures dd").first
    expect(number).to_have_text(re.compile(r"\d"))
    before = int(number.inner_text())
    other = page.context.new_page()
    upload(other, picture(tmp_path, "counted.jpg"))
    other.close()
    expect(number).not_to_have_text(str(before), timeout=SECONDS)
    assert int(number.inner_text()) > before
    expect(page.locator("svg rect.done").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_every_page_is_accessible(page: Page, tmp_path: Path, scheme: str, width: int) -> None:
    """Axe finds nothing against WCAG 2.2 AA, on desk and phone, with images, letters and none."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    upload(page, picture(tmp_path, "axe.jpg"), picture(tmp_path, "axe-broken.jpg", b"text"))
    views = [None, *PAGES, "/image?key=uploads/axe.jpg", "/image?key=uploads/axe-broken.jpg"]
    for view in [*views, "/image?key=none", "/?prefix=none"]:
        if view:  # else as it is after the upload
            page.goto(view)
            if page.locator("[data-load]").count():
                expect(page.locator("[data-load]")).to_have_attribute("aria-busy", "false")
        found = Axe().run(
            page,
            options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]},
        )
        assert found.violations_count == 0, (view, found.generate_report())
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"{view} scrolls sideways"


def test_it_is_used_by_keyboard_alone(page: Page, tmp_path: Path) -> None:
    """Tab reaches every control in order, with a visible focus, and Enter and Space work them."""
    upload(page, picture(tmp_path, "keyboard.jpg", b"text"))
    page.goto("/letters")
    expect(page.locator("#letters")).to_have_attribute("aria-busy", "false")
    button = letter(page, "keyboard.jpg").get_by_role("button", name="Replay")
    for _ in range(100):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")
        if button.evaluate("button => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("#replay-status")).to_contain_text("1 failed again", timeout=SECONDS)


def test_a_user_without_rights_is_told(stack: Stack, browser: Browser) -> None:
    """Each page says that AWS denies it, and what it needs; nothing is blank or broken."""
    iam = client(stack.aws, "iam")
    iam.create_user(UserName="nobody")
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    session = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name=LOCAL_REGION)
    denied = replace(stack, aws=Aws(session, stack.aws.endpoint_url))
    with serving(denied) as url:
        page = browser.new_page(base_url=url)
        page.goto(f"/?secret={SECRET}")
        expect(page.get_by_role("heading", name="Not permitted")).to_be_visible()
        expect(page.get_by_text("s3:ListBucket", exact=True)).to_be_visible()
        for view in ("/letters", "/figures"):
            page.goto(view)
            expect(page.get_by_role("alert")).to_contain_text("Not permitted")
        page.close()


def test_a_console_that_is_gone_is_told(stack: Stack, browser: Browser) -> None:
    """A page that is left open says so, and what to look at."""
    with serving(stack) as url:
        page = browser.new_page(base_url=url)
        page.goto(f"/?secret={SECRET}")
        page.goto("/figures")
        expect(page.locator("dl.figures")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("Is it still running?", timeout=SECONDS)
    page.close()
