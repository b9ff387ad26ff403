"""The console in a real browser, on the deployed template with IAM and CORS enforced."""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
from axe_playwright_python.sync_playwright import Axe
from console_server import address, serving
from pictures import jpeg
from playwright.sync_api import Browser, Page, expect
from serving import client, until

from image_pipeline.stack.aws import LOCAL_REGION, Aws, head_object
from image_pipeline.stack.deployed import Stack
from tools import browser as chromium

pytestmark = [
    pytest.mark.local_stack,
    pytest.mark.skipif(
        chromium.executable() is None,
        reason="no Chromium: apt install chromium, or set the variable CHROMIUM to its path",
    ),
]

MARKUP = "<img src=x onerror=alert(1)>.jpg"
FUNCTION_MS = 30_000
"""Maximum time to wait for the function."""
PHOTOS: Final = 24
"""Photos to upload at once: more than the tray shows at first. 200 pass as well, in 48 s on two
busy cores, most of them the function's."""


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
    """A browser tab. The test fails if a script in it raises, logs an error or opens a dialog."""
    context = browser.new_context(base_url=console, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    open_console(page, console)
    script_errors: list[str] = []
    page.on("pageerror", lambda error: script_errors.append(str(error)))
    page.on("dialog", lambda dialog: (script_errors.append(dialog.message), dialog.dismiss()))
    page.on(
        "console",
        # A missing image or page is logged too, and is not an error of the script.
        lambda message: message.type == "error"
        and "Failed to load resource" not in message.text
        and script_errors.append(message.text),
    )
    yield page
    context.close()
    assert script_errors == []


def open_console(page: Page, url: str) -> None:
    """Open the console at `url` with a new address, and wait for its page."""
    page.goto(address(url))
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def visit(page: Page, path: str) -> None:
    """Go to a page of the console, and wait until the script has loaded it."""
    page.goto(path)
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def upload(page: Page, *files: Path) -> None:
    """Choose files, and wait until each has an outcome."""
    page.goto("/")
    page.set_input_files("#files", [str(each) for each in files])
    summary = page.locator("#uploads-summary")
    expect(summary).to_have_text(re.compile(r"^\d+ done.* 0 in progress$"), timeout=FUNCTION_MS)


def card(page: Page, name: str) -> Any:
    """The card of an upload."""
    return page.locator(".upload").filter(has=page.get_by_role("heading", name=name, exact=True))


def row(page: Page, name: str) -> Any:
    """The row of a failed upload."""
    return page.locator("tr[data-message]").filter(has_text=name)


def picture(folder: Path, name: str, body: bytes | None = None) -> Path:
    """Write a file to upload, a photo unless `body` says otherwise."""
    path = folder / name
    path.write_bytes(body or jpeg((1000, 600)))
    return path


def test_from_upload_to_replay(page: Page, stack: Stack, tmp_path: Path) -> None:
    """Of three uploads two get thumbnails; the third fails, is replaced and then replayed."""
    broken = picture(tmp_path, "broken.jpg", b"this is not an image")
    upload(page, picture(tmp_path, "one.jpg"), picture(tmp_path, "two.jpg"), broken)
    for name in ("one.jpg", "two.jpg"):
        done = card(page, name)
        expect(done).to_contain_text("Thumbnails created")
        expect(done.locator(".thumbnails img")).to_have_count(2)
        for thumbnail in done.locator(".thumbnails img").all():
            until(lambda img=thumbnail: img.evaluate("img => img.naturalWidth") in (128, 512))
        expect(done).to_contain_text("% smaller")
        assert done.locator("figure img").is_visible(), "the preview is beside them"
    expect(card(page, "broken.jpg")).to_contain_text("UnsupportedImage")

    page.get_by_role("link", name="Failed uploads", exact=True).first.click()
    expect(row(page, "uploads/broken.jpg")).to_contain_text("UnsupportedImage")
    expect(row(page, "uploads/broken.jpg")).to_contain_text("not an image, or is one of a format")
    row(page, "uploads/broken.jpg").get_by_role("button", name="Replay").click()
    expect(page.locator("#replay-status")).to_contain_text("1 failed again", timeout=FUNCTION_MS)
    expect(page.locator("#replay-status")).to_be_focused()
    expect(row(page, "uploads/broken.jpg").locator("[data-label=Attempts]")).to_have_text("2")

    stack.aws.s3.put_object(Bucket=stack.input_bucket, Key="uploads/broken.jpg", Body=jpeg())
    row(page, "uploads/broken.jpg").get_by_role("button", name="Replay").click()
    expect(page.locator("#replay-status")).to_contain_text(
        "Replay finished: 1 done", timeout=FUNCTION_MS
    )
    expect(row(page, "uploads/broken.jpg")).to_have_count(0)
    page.reload()
    expect(page.locator("#dead-letters")).to_have_attribute("aria-busy", "false")
    expect(row(page, "uploads/broken.jpg")).to_have_count(0)


def test_broken_photos_among_many_are_found_and_replaced(page: Page, tmp_path: Path) -> None:
    """Three of many photos are broken. The tray shows them first and why; others take their names.

    Then a replay removes their messages. All of this needs nothing but the console.
    """
    names = [f"trip-{number:03}.jpg" for number in range(PHOTOS)]
    broken = names[1::8][:3]
    photos = [
        picture(tmp_path, name, b"text of " + name.encode() if name in broken else jpeg((80, 60)))
        for name in names
    ]
    page.goto("/")
    page.set_input_files("#files", [str(each) for each in photos])
    overall = page.get_by_role("progressbar", name="Upload of all files")
    expect(overall).to_be_visible()
    summary = page.locator("#uploads-summary")
    expect(summary).to_have_text(
        f"{PHOTOS - 3} done, 3 failed, 0 in progress", timeout=5 * FUNCTION_MS
    )
    expect(overall).to_be_hidden()
    for shown, name in zip(page.locator(".upload").all(), broken, strict=False):
        expect(shown.get_by_role("heading")).to_have_text(name)
        expect(shown).to_contain_text("not an image, or is one of a format")
    (tmp_path / "good").mkdir()
    for name in broken:
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name=f"Choose another file: {name}").click()
        chooser.value.set_files(str(picture(tmp_path / "good", name)))
    expect(summary).to_have_text(f"{PHOTOS} done, 0 failed, 0 in progress", timeout=FUNCTION_MS)
    for name in broken:
        expect(card(page, name)).to_contain_text("Thumbnails created")

    card(page, broken[0]).get_by_role("link", name="Failed uploads").click()
    expect(row(page, broken[0])).to_have_count(1)
    page.get_by_role("button", name=re.compile("Replay all")).click()
    for name in broken:
        expect(row(page, name)).to_have_count(0, timeout=FUNCTION_MS)


def test_a_selection_and_all_are_replayed(page: Page, stack: Stack, tmp_path: Path) -> None:
    """Two of three failures are selected and replayed, then all; each outcome is shown."""
    names = [f"many-{number}.jpg" for number in range(3)]
    upload(page, *(picture(tmp_path, name, b"text of " + name.encode()) for name in names))
    for name in names[:2]:
        stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=f"uploads/{name}", Body=jpeg())
    page.goto("/dead-letters")
    replay_selected = page.get_by_role("button", name="Replay selected")
    expect(replay_selected).to_be_disabled()
    for name in names[:2]:
        row(page, name).get_by_role("checkbox").check()
    page.get_by_role("button", name="Replay 2 selected").click()
    expect(page.locator("#replay-status")).to_contain_text("2 done", timeout=FUNCTION_MS)
    expect(row(page, names[2])).to_have_count(1)
    expect(row(page, names[0])).to_have_count(0)
    stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=f"uploads/{names[2]}", Body=jpeg())
    page.get_by_role("button", name="Replay all").click()
    expect(page.locator("#replay-status")).to_contain_text(
        re.compile("Replay finished: [^2]* done"), timeout=FUNCTION_MS
    )
    expect(row(page, names[2])).to_have_count(0, timeout=FUNCTION_MS)


def test_a_name_that_is_markup_stays_a_name(page: Page, tmp_path: Path) -> None:
    """On every page the name is shown as text, and no script in it runs."""
    upload(page, picture(tmp_path, MARKUP, b"text"))
    expect(card(page, MARKUP)).to_contain_text("UnsupportedImage")
    page.goto("/")
    expect(page.locator(".gallery .name").get_by_text(MARKUP)).to_be_visible()
    page.locator(".gallery a").filter(has_text=MARKUP).click()
    expect(page.get_by_role("heading", name=MARKUP, level=1)).to_be_visible()
    page.goto("/dead-letters")
    row(page, MARKUP).get_by_role("button", name="Replay").click()
    expect(page.locator("#replay-status")).to_contain_text("1 failed again", timeout=FUNCTION_MS)
    assert page.locator("img[src='x']").count() == 0


def test_a_folder_keeps_its_structure(page: Page, stack: Stack, tmp_path: Path) -> None:
    """The files of a folder are uploaded under the folder's name, except hidden files."""
    (tmp_path / "trip" / "day 1").mkdir(parents=True)
    picture(tmp_path / "trip" / "day 1", "a.jpg")
    picture(tmp_path / "trip", ".hidden.jpg")
    page.goto("/")
    page.set_input_files("#folder", str(tmp_path / "trip"))
    expect(page.locator("#uploads-summary")).to_have_text(
        "1 done, 0 failed, 0 in progress", timeout=FUNCTION_MS
    )
    found = stack.aws.s3.list_objects_v2(Bucket=stack.input_bucket, Prefix="uploads/trip/")
    assert [each["Key"] for each in found["Contents"]] == ["uploads/trip/day 1/a.jpg"]


def test_dropped_files_are_uploaded(page: Page) -> None:
    """A file that is dropped on the page is uploaded."""
    visit(page, "/")
    page.evaluate(
        """bytes => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(bytes)], "dropped.jpg"));
            for (const kind of ["dragover", "drop"]) {
                document.querySelector("#dropzone").dispatchEvent(new DragEvent(
                    kind, { bubbles: true, cancelable: true, dataTransfer: files }));
            }
        }""",
        list(jpeg((200, 200))),
    )
    expect(card(page, "dropped.jpg")).to_contain_text("Thumbnails created", timeout=FUNCTION_MS)


def test_the_page_of_an_image_has_log_and_html(page: Page, tmp_path: Path) -> None:
    """The page shows the function's log entries about the image, and an `<img>` to copy."""
    upload(page, picture(tmp_path, "detail.jpg"))
    card(page, "detail.jpg").get_by_role("link", name="Details").click()
    expect(page.get_by_text("1000 × 600")).to_be_visible()
    expect(page.locator("#markup-1")).to_contain_text("detail_512w.webp 512w")
    actions = page.locator("table.log tbody tr td:nth-child(2)")
    assert actions.all_inner_texts()[-2:] == ["start", "complete"]
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name=re.compile("Copied|to copy"))).to_be_visible()
    page.get_by_label("Width of the picture on the page").fill("50vw")
    page.get_by_role("button", name="Update HTML").click()
    expect(page.locator("#markup-1")).to_contain_text('sizes="50vw"')
    expect(page.get_by_role("heading", name="HTML")).to_be_in_viewport()


def test_selected_images_are_made_again_and_deleted(page: Page, stack: Stack) -> None:
    """The deployed function makes thumbnails again, and a deleted original is gone from S3."""
    stack.aws.s3.put_object(
        Bucket=stack.input_bucket, Key="uploads/bulk/a.jpg", Body=jpeg((600, 400))
    )
    thumbnail = partial(head_object, stack.aws.s3, stack.settings.output_bucket, "bulk/a_512w.webp")
    until(lambda: thumbnail() is not None)
    visit(page, "/?folder=bulk/")
    picture = page.locator(".gallery img")
    until(lambda: picture.evaluate("image => image.naturalWidth") == 512)
    page.get_by_role("checkbox", name="Select a.jpg").check()
    page.get_by_role("button", name="Make thumbnails again").click()
    status = page.locator("#selection-status")
    expect(status).to_have_text("1 image made again", timeout=FUNCTION_MS)
    page.get_by_role("checkbox", name="Select a.jpg").check()
    page.get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("dialog")).to_contain_text("DeleteWithOriginal=false")
    page.get_by_role("button", name="Delete 1 image").click()
    expect(page.get_by_text("No images in this folder")).to_be_visible()
    assert head_object(stack.aws.s3, stack.input_bucket, "uploads/bulk/a.jpg") is None
    assert thumbnail() is not None


def test_open_metrics_are_updated(page: Page, console: str, tmp_path: Path) -> None:
    """An open page of metrics counts a new upload without a reload."""
    page.goto("/metrics")
    number = page.locator("dl.metrics dd").first
    expect(number).to_have_text(re.compile(r"\d"))
    before = int(number.inner_text())
    other = page.context.new_page()
    open_console(other, console)
    upload(other, picture(tmp_path, "counted.jpg"))
    other.close()
    expect(number).not_to_have_text(str(before), timeout=FUNCTION_MS)
    assert int(number.inner_text()) > before
    expect(page.locator("svg rect.images").first).to_be_visible()


def test_the_keyboard_reaches_every_control(page: Page, tmp_path: Path) -> None:
    """Tab moves a visible focus through all controls, and Enter presses a button."""
    upload(page, picture(tmp_path, "keyboard.jpg", b"text"))
    page.goto("/dead-letters")
    expect(page.locator("#dead-letters")).to_have_attribute("aria-busy", "false")
    button = row(page, "keyboard.jpg").get_by_role("button", name="Replay")
    for _ in range(100):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")
        if button.evaluate("button => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("#replay-status")).to_contain_text("1 failed again", timeout=FUNCTION_MS)


def test_a_user_without_permissions_sees_which_are_needed(stack: Stack, browser: Browser) -> None:
    """Each page says that AWS denies access, and the first one lists the permissions."""
    iam = client(stack.aws, "iam")
    iam.create_user(UserName="nobody")
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    session = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name=LOCAL_REGION)
    denied = replace(stack, aws=Aws(session, stack.aws.endpoint_url))
    with serving(denied) as url:
        page = browser.new_page(base_url=url)
        open_console(page, url)
        expect(page.get_by_role("heading", name="Access denied")).to_be_visible()
        expect(page.get_by_text("s3:ListBucket", exact=True)).to_be_visible()
        for view in ("/dead-letters", "/metrics"):
            page.goto(view)
            expect(page.get_by_role("alert")).to_contain_text("Access denied")
        page.close()


def test_an_open_page_says_that_the_console_has_stopped(stack: Stack, browser: Browser) -> None:
    """A page that polls the console shows an error once it does not respond."""
    with serving(stack) as url:
        page = browser.new_page(base_url=url)
        open_console(page, url)
        page.goto("/metrics")
        expect(page.locator("dl.metrics")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("Is it still running?", timeout=FUNCTION_MS)
    page.close()


def test_an_address_leaves_the_address_bar_and_works_once(page: Page, console: str) -> None:
    """A used address is refused in words; the tab's own session goes on after a reload.

    So it is where the address is pasted into a tab of the console, which loads no page.
    """
    used = address(console)
    page.goto(used)
    expect(page).to_have_url(f"{console}/")
    expect(page.get_by_role("heading", name="Images", exact=True)).to_be_visible()
    page.goto("about:blank")
    for _ in range(2):  # from another page, then from the console's own
        page.goto(used)
        expect(page.get_by_role("alert")).to_contain_text("already been used")
        expect(page.get_by_text("It prints a new address")).to_be_visible()
        expect(page).to_have_url(f"{console}/")
    page.reload()
    expect(page.get_by_role("heading", name="Images", exact=True)).to_be_visible()


def test_the_session_is_of_one_tab_and_one_port(page: Page, console: str, stack: Stack) -> None:
    """A reload, links and the back button keep the session. Other tabs and ports have none."""
    page.get_by_role("link", name="Metrics").click()
    expect(page.get_by_role("heading", name="Metrics of the last hour")).to_be_visible()
    expect(page.get_by_role("link", name="Metrics")).to_have_attribute("aria-current", "page")
    assert page.title() == "Metrics · Image pipeline"
    page.reload()
    expect(page.get_by_role("heading", name="Metrics of the last hour")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Images", exact=True)).to_be_visible()
    page.go_forward()
    expect(page.get_by_role("heading", name="Metrics of the last hour")).to_be_visible()

    assert page.context.cookies() == []
    other = page.context.new_page()
    other.goto(f"{console}/dead-letters")
    expect(other.get_by_role("alert")).to_contain_text("This tab has no session")
    expect(other.get_by_text("run image-pipeline console")).to_be_visible()
    results = Axe().run(other)
    assert results.violations_count == 0, results.generate_report()
    other.close()
    with serving(stack) as url:
        page.goto(url)
        expect(page.get_by_role("alert")).to_contain_text("This tab has no session")
        assert page.evaluate("sessionStorage.length") == 0


@pytest.mark.parametrize("headers", ["{}", "{ headers: { Authorization: 'Bearer guessed' } }"])
def test_a_page_of_another_port_reads_nothing(browser: Browser, console: str, headers: str) -> None:
    """A page that another user of the machine serves cannot read a response of the console."""
    context = browser.new_context()
    page = context.new_page()
    page.route("http://127.0.0.1:1/", lambda route: route.fulfill(body="<p>another server"))
    open_console(page, console)
    page.goto("http://127.0.0.1:1/")
    assert page.evaluate("sessionStorage.length") == 0
    assert page.evaluate("document.cookie") == ""
    for path in ("/", "/static/console.js"):
        read = f"url => fetch(url, {headers}).then(r => r.text(), () => 'refused')"
        assert page.evaluate(read, console + path) == "refused"
    context.close()


def test_the_back_button_returns_to_the_same_place(page: Page, stack: Stack) -> None:
    """A page that is opened again by the back button, or reloaded, is scrolled as it was."""
    for number in range(30):
        stack.aws.s3.put_object(
            Bucket=stack.input_bucket, Key=f"uploads/scroll/{number}.txt", Body=b"x"
        )
    visit(page, "/?folder=scroll/")
    cards = page.locator(".gallery a")
    cards.last.scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    assert before > 100
    cards.last.click()
    expect(page.get_by_role("link", name="All images")).to_be_visible()
    assert page.evaluate("scrollY") == 0
    for again in (page.go_back, page.reload):
        again()
        expect(cards).to_have_count(30)
        until(lambda: abs(page.evaluate("scrollY") - before) < 5)


def test_without_javascript_the_page_says_what_to_do(browser: Browser, console: str) -> None:
    """The page says that the console requires JavaScript, and names the commands instead."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address(console))
    expect(page.get_by_role("heading", name="JavaScript is turned off")).to_be_visible()
    expect(page.locator("noscript code")).to_have_text("image-pipeline --help")
    expect(page.get_by_text("Loading")).to_be_hidden()
    context.close()
