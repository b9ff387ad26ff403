"""The console's tray of uploads in Chromium: what is sent, remembered, paused, refused and retried.

The buckets are moto's. Tests play the function's part, and that of an S3 that does not respond.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from aws_names import INPUT, OUTPUT
from axe_playwright_python.sync_playwright import Axe
from console_server import address, serving
from moto_stack import moto_stack, send_dead_letter, upload_with_thumbnails
from pictures import jpeg
from playwright.sync_api import Browser, Dialog, Locator, Page, Route, expect

from image_pipeline.console import gallery
from image_pipeline.console.app import explanation
from image_pipeline.stack.deployed import Stack
from thumbnailer.errors import UnsupportedImage
from tools import browser as chromium

pytestmark = pytest.mark.skipif(chromium.executable() is None, reason="Chromium is not here")

ALLOWED = {"Access-Control-Allow-Origin": "*"}
DENIED = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
PHOTO = jpeg((60, 40))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium.launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def stack(moto_endpoint: str) -> Stack:
    """Buckets and a queue, without a function."""
    requests.post(f"{moto_endpoint}/moto-api/reset", timeout=10).raise_for_status()
    stack = moto_stack(moto_endpoint)
    for name in (INPUT, OUTPUT):
        stack.aws.s3.create_bucket(Bucket=name)
    return stack


@pytest.fixture(scope="module")
def console(stack: Stack) -> Iterator[str]:
    """The console's URL."""
    with serving(stack) as url:
        yield url


class Bucket:
    """S3 as `page` meets it: `answer` is "", or how it fails."""

    def __init__(self, page: Page, stack: Stack) -> None:
        self.answer = ""
        self._s3 = stack.aws.s3
        page.route(f"{stack.aws.endpoint_url}/**", self._handle)

    def _handle(self, route: Route) -> None:
        if not self.answer or route.request.method == "GET":
            route.continue_()
        elif self.answer == "unreachable":
            route.abort()
        elif self.answer == "denied":
            route.fulfill(status=403, headers=ALLOWED, content_type="application/xml", body=DENIED)
        # else it does not respond

    def names(self) -> list[str]:
        """The names of the files that have arrived."""
        found = self._s3.list_objects_v2(Bucket=INPUT).get("Contents", [])
        return sorted(each["Key"].removeprefix("uploads/") for each in found)


@pytest.fixture
def page(browser: Browser, console: str) -> Iterator[Page]:
    """A tab of the console. The test fails if a script in it raises."""
    context = browser.new_context(base_url=console, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address(console))
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    yield page
    context.close()
    assert errors == []


@pytest.fixture
def bucket(page: Page, stack: Stack) -> Bucket:
    """S3 as the page meets it, empty."""
    bucket = Bucket(page, stack)
    for name in bucket.names():
        stack.aws.s3.delete_object(Bucket=INPUT, Key=f"uploads/{name}")
    return bucket


def written(folder: Path, *names: str, body: bytes = PHOTO) -> list[str]:
    """Write files, and return their paths."""
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(body)
    return [str(folder / name) for name in names]


def summary(page: Page, text: str) -> None:
    """Expect the counts of the tray."""
    expect(page.locator("#uploads-summary")).to_have_text(text, timeout=15_000)


def all_sent(page: Page, text: str) -> None:
    """Expect these counts, and that S3 has accepted each file that is in progress."""
    summary(page, text)
    expect(page.locator("#uploads-detail")).to_have_text(
        "All files are sent. Waiting for thumbnails…"
    )


def button(page: Page, name: str) -> Locator:
    """A button of the tray."""
    return page.locator("#uploads").get_by_role("button", name=name)


def row(page: Page, name: str) -> Locator:
    """What the tray says about a file."""
    return page.locator(".upload").filter(has=page.get_by_role("heading", name=name, exact=True))


def test_a_failure_comes_first_and_is_replaced(page: Page, stack: Stack, tmp_path: Path) -> None:
    """A broken file is on top, with why and what to do; another file takes its name and is done."""
    good = [f"good-{number}.jpg" for number in range(3)]
    broken_file = written(tmp_path, "broken.jpg", body=b"This is text.")
    page.set_input_files("#files", [*written(tmp_path, *good), *broken_file])
    all_sent(page, "0 done, 0 failed, 4 in progress")
    for name in good:
        upload_with_thumbnails(stack, f"uploads/{name}", PHOTO)
    head = stack.aws.s3.head_object(Bucket=INPUT, Key="uploads/broken.jpg")
    send_dead_letter(stack, "uploads/broken.jpg", head["ETag"].strip('"'), UnsupportedImage("no"))
    summary(page, "3 done, 1 failed, 0 in progress")
    expect(page.locator("#uploads-announcement")).to_have_text(
        "Uploads finished: 3 done, 1 failed, 0 in progress"
    )
    broken = row(page, "broken.jpg")
    expect(page.locator(".upload").first).to_contain_text("broken.jpg")
    expect(broken).to_contain_text(explanation("UnsupportedImage"))
    expect(broken).to_contain_text("The same file would fail again. Choose another file")
    expect(broken.get_by_role("link", name="Failed uploads")).to_be_visible()
    expect(broken.get_by_role("button", name="Retry")).to_be_hidden()
    button(page, "Only failures").click()
    expect(page.locator(".upload")).to_have_count(1)
    with page.expect_response("**/outcomes"):  # a replay may have changed it
        page.evaluate("document.dispatchEvent(new Event('replayed'))")

    page.reload()
    summary(page, "0 done, 1 failed, 0 in progress")
    expect(broken).to_contain_text(explanation("UnsupportedImage"))
    with page.expect_file_chooser() as chooser:
        button(page, "Choose another file: broken.jpg").click()
    chooser.value.set_files(written(tmp_path, "fixed.jpg"))
    expect(broken).to_contain_text("Waiting for thumbnails")
    upload_with_thumbnails(stack, "uploads/broken.jpg", PHOTO)
    summary(page, "1 done, 0 failed, 0 in progress")
    expect(broken).to_contain_text("earlier failure of this name stays under Failed uploads")
    button(page, "Close the list of uploads").click()
    expect(page.locator("#uploads")).to_be_hidden()
    kept = page.evaluate("Object.keys(sessionStorage)")
    assert sorted(kept) == ["image-pipeline-gallery", "image-pipeline-token"], "no uploads"


def test_what_was_not_sent_is_remembered(page: Page, bucket: Bucket, tmp_path: Path) -> None:
    """After a reload the tray names the files, and takes those of the same name and size again.

    What was sent before is waited for. The browser asks before it reloads.
    """
    page.set_input_files("#files", written(tmp_path, "sent.jpg"))
    all_sent(page, "0 done, 0 failed, 1 in progress")
    bucket.answer = "unreachable"
    files = written(tmp_path, "a.jpg", "b.jpg", "changed.jpg")
    page.set_input_files("#files", files)
    summary(page, "0 done, 0 failed, 1 in progress, 3 waiting")
    questions: list[str] = []

    def leave(dialog: Dialog) -> None:
        questions.append(dialog.type)
        dialog.accept()

    page.on("dialog", leave)
    page.reload()
    summary(page, "0 done, 0 failed, 3 not sent, 1 in progress")
    assert questions == ["beforeunload"]
    unsent = page.locator("#uploads-unsent")
    expect(unsent).to_contain_text("3 files were not sent")
    expect(unsent.get_by_text("Choose a folder again")).to_be_hidden()
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()

    bucket.answer = ""
    Path(files[2]).write_bytes(PHOTO + b"more")
    page.set_input_files("#unsent-files", [*files, *written(tmp_path, "sent.jpg", "other.jpg")])
    expect(unsent).to_contain_text("1 file was not sent")
    expect(unsent).to_contain_text("3 other files were left out")
    all_sent(page, "0 done, 0 failed, 1 not sent, 3 in progress")
    assert bucket.names() == ["a.jpg", "b.jpg", "sent.jpg"]
    button(page, "Forget them").click()
    summary(page, "0 done, 0 failed, 3 in progress")
    expect(unsent).to_be_hidden()


def test_other_pages_leave_the_uploads_alone(page: Page, bucket: Bucket, tmp_path: Path) -> None:
    """Links, searches and the back button work while files are sent; so does a further upload."""
    bucket.answer = "unreachable"
    page.set_input_files("#files", written(tmp_path, "a.jpg"))
    summary(page, "0 done, 0 failed, 0 in progress, 1 waiting")
    page.get_by_role("link", name="Metrics").click()
    inner = page.frame_locator("iframe")
    expect(inner.get_by_role("heading", name="Metrics of the last hour")).to_be_visible()
    expect(page).to_have_url(re.compile("/metrics$"))
    expect(page).to_have_title("Metrics · Image pipeline")
    expect(inner.locator("#uploads")).to_have_count(0)
    inner.get_by_role("link", name="Images", exact=True).click()
    inner.locator("#files").set_input_files(written(tmp_path, "b.jpg"))
    summary(page, "0 done, 0 failed, 0 in progress, 2 waiting")
    page.go_back()
    expect(page).to_have_title("Metrics · Image pipeline")
    page.go_back()
    expect(page.locator("iframe")).to_have_count(0)
    expect(page).to_have_title("Images · Image pipeline")
    expect(page.locator("#dropzone")).to_be_visible()
    page.go_forward()
    expect(inner.get_by_role("heading", name="Metrics of the last hour")).to_be_visible()

    bucket.answer = ""
    all_sent(page, "0 done, 0 failed, 2 in progress")
    assert bucket.names() == ["a.jpg", "b.jpg"]
    inner.get_by_role("link", name="Failed uploads").click()  # nothing would be lost any more
    expect(page.get_by_role("heading", name="Failed uploads")).to_be_visible()
    expect(page.locator("iframe")).to_have_count(0)
    summary(page, "0 done, 0 failed, 2 in progress")


def test_the_gallery_is_used_while_files_are_sent(
    page: Page, bucket: Bucket, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a phone the tray is in nobody's way: selections, dialogs, links and places work.

    That is so on the page that sends the files, and on those in its frame.
    """
    monkeypatch.setattr(gallery, "PAGE_SIZE", 2)
    for name in "abc":
        stack.aws.s3.put_object(Bucket=INPUT, Key=f"uploads/{name}.jpg", Body=PHOTO)
    page.set_viewport_size({"width": 360, "height": 740})
    page.reload()
    bucket.answer = "slow"
    page.set_input_files("#files", written(tmp_path, "slow.jpg"))
    summary(page, "0 done, 0 failed, 1 in progress")
    page.get_by_label("Select b.jpg").check()
    page.locator("#selection").get_by_role("button", name="Delete…").click(trial=True)
    page.get_by_role("button", name="Clear selection").click()
    page.get_by_role("button", name="View c.jpg").click()
    page.get_by_role("dialog").get_by_role("link", name="Details").click()
    inner = page.frame_locator("iframe")
    inner.get_by_role("link", name="Next image").click()
    expect(inner.get_by_role("heading", level=1)).to_have_text("b.jpg")
    inner.get_by_role("link", name="All images").click()
    inner.get_by_role("button", name="View b.jpg").click()
    page.keyboard.press("ArrowRight")
    dialog = inner.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("a.jpg")
    dialog.get_by_role("button", name="Close").click()
    inner.get_by_label("Select a.jpg").check()
    inner.locator("#selection").get_by_role("button", name="Delete…").click()
    inner.get_by_role("button", name="Delete 1 image").click()
    expect(inner.locator("#selection-status")).to_have_text("1 image deleted")
    assert bucket.names() == ["b.jpg", "c.jpg"]
    button(page, "Uploads").click()
    expect(page.locator("#uploads-body")).to_be_hidden()
    summary(page, "0 done, 0 failed, 1 in progress")


def test_a_lightbox_that_leaves_its_page_keeps_the_uploads(
    page: Page, bucket: Bucket, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last image of a page, the next page opens in a frame; Back returns to the place."""
    monkeypatch.setattr(gallery, "PAGE_SIZE", 2)
    for name in "abc":
        stack.aws.s3.put_object(Bucket=INPUT, Key=f"uploads/{name}.jpg", Body=PHOTO)
    page.reload()
    bucket.answer = "slow"
    page.set_input_files("#files", written(tmp_path, "slow.jpg"))
    page.evaluate("scrollTo(0, 200)")
    page.get_by_role("button", name="View b.jpg").press("Enter")
    place = page.evaluate("scrollY")
    page.keyboard.press("ArrowRight")
    dialog = page.frame_locator("iframe").get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("a.jpg")
    summary(page, "0 done, 0 failed, 1 in progress")
    page.go_back()
    expect(page.locator("iframe")).to_have_count(0)
    assert place > 0
    assert page.evaluate("scrollY") == place
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_uploads_are_paused_resumed_and_cancelled(
    page: Page, bucket: Bucket, tmp_path: Path
) -> None:
    """Pause stops what is being sent. Resume sends it again, Cancel all not; Retry all does."""
    bucket.answer = "slow"
    names = [f"{number}.jpg" for number in range(6)]
    page.set_input_files("#files", written(tmp_path, *names))
    summary(page, "0 done, 0 failed, 4 in progress, 2 waiting")
    button(page, "Pause").press("Enter")
    summary(page, "0 done, 0 failed, 0 in progress, 6 waiting")
    expect(page.locator("#uploads-detail")).to_contain_text("Paused · 0%")
    expect(button(page, "Resume")).to_be_focused()
    button(page, "Cancel: 0.jpg").click()
    bucket.answer = ""
    button(page, "Resume").press("Enter")
    all_sent(page, "0 done, 0 failed, 1 cancelled, 5 in progress")
    assert bucket.names() == names[1:]

    bucket.answer = "slow"
    page.set_input_files("#files", written(tmp_path, "7.jpg"))
    button(page, "Cancel all").click()
    summary(page, "0 done, 0 failed, 2 cancelled, 5 in progress")
    bucket.answer = ""
    button(page, "Retry all 2").click()
    all_sent(page, "0 done, 0 failed, 7 in progress")
    assert bucket.names() == [*names, "7.jpg"]


def test_files_that_cannot_be_sent_say_why(page: Page, bucket: Bucket, tmp_path: Path) -> None:
    """An empty file, one that was deleted, and another one of the same name each have a reason."""
    bucket.answer = "unreachable"
    gone, kept = written(tmp_path, "gone.jpg", "kept.jpg")
    page.set_input_files("#files", [gone, kept])
    summary(page, "0 done, 0 failed, 0 in progress, 2 waiting")
    expect(page.locator("#uploads-notice")).to_contain_text("Cannot reach S3 from this page")
    (tmp_path / "more").mkdir()
    others = written(tmp_path / "more", "kept.jpg", body=PHOTO + b"more")
    page.set_input_files("#files", [*others, *written(tmp_path, "empty.jpg", body=b"")])
    expect(row(page, "empty.jpg")).to_contain_text("The file is empty (0 bytes).")
    Path(gone).unlink()
    bucket.answer = ""
    expect(row(page, "gone.jpg")).to_contain_text("moved, changed or deleted", timeout=15_000)
    summary(page, "0 done, 3 failed, 1 in progress")
    expect(page.locator("#uploads-notice")).to_have_text("")
    button(page, "Upload this one instead: kept.jpg").click()
    summary(page, "0 done, 2 failed, 1 in progress")
    expect(row(page, "kept.jpg")).to_have_count(1)


def test_an_s3_that_refuses_is_not_asked_for_each_file(
    page: Page, bucket: Bucket, tmp_path: Path
) -> None:
    """After four refusals the rest waits, with the permission that may be missing."""
    bucket.answer = "denied"
    page.set_input_files("#files", written(tmp_path, *(f"{number}.jpg" for number in range(6))))
    summary(page, "0 done, 4 failed, 0 in progress, 2 waiting")
    expect(page.locator("#uploads-notice")).to_contain_text(
        "Paused, because S3 refuses the uploads. S3 returned 403 Access Denied. Your credentials "
        "need s3:PutObject"
    )
    bucket.answer = ""
    button(page, "Retry all 4").click()
    summary(page, "0 done, 0 failed, 6 in progress")


def test_uploads_go_on_after_the_console_was_restarted(
    browser: Browser, stack: Stack, tmp_path: Path
) -> None:
    """The tray says that the console has stopped, and how to start it on the same port.

    With the address that the new one prints, the page goes on where it was.
    """
    context = browser.new_context()
    page = context.new_page()
    bucket = Bucket(page, stack)
    bucket.answer = "unreachable"
    with serving(stack) as url:
        page.goto(address(url))
        page.set_input_files("#files", written(tmp_path, "x.jpg", "y.jpg"))
        summary(page, "0 done, 0 failed, 0 in progress, 2 waiting")
    port = int(url.rpartition(":")[2])
    expect(page.locator("#uploads-notice")).to_contain_text(
        f"If it has stopped, run image-pipeline console --port {port}", timeout=15_000
    )
    bucket.answer = ""
    with serving(stack, port):
        field = page.get_by_label("Address of the console")
        field.fill("http://127.0.0.1:1/#secret=1", timeout=15_000)
        field.press("Enter")
        expect(page.locator("#uploads-notice")).to_have_text(f"The address must begin with {url}.")
        field.fill(address(url))
        field.press("Enter")
        all_sent(page, "0 done, 0 failed, 2 in progress")
        expect(field).to_be_hidden()
        assert {"x.jpg", "y.jpg"} <= set(bucket.names())
        context.close()


def test_thousands_of_files_have_few_elements(page: Page, bucket: Bucket) -> None:
    """Of 5,000 chosen files some are shown, and 50 more with each click. The page stays short."""
    bucket.answer = "slow"
    chosen = page.evaluate("""() => {
        const files = new DataTransfer();
        for (let n = 0; n < 5000; n += 1) files.items.add(new File(["x"], `${n}.jpg`));
        const input = document.querySelector("#files");
        input.files = files.files;
        const start = performance.now();
        input.dispatchEvent(new Event("change"));
        return performance.now() - start;
    }""")
    assert chosen < 1000
    summary(page, "0 done, 0 failed, 4 in progress, 4,996 waiting")
    assert page.locator(".upload").count() < 20
    assert page.evaluate("document.documentElement.scrollHeight") < 3000
    for number in (50, 100):
        page.locator("[data-all=more]").click()
        expect(page.locator("#uploads-rest")).to_contain_text(f"{number} of 5,000 files are shown")
        expect(page.locator(".upload")).to_have_count(number)
