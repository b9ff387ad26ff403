"""The focus of crops: the copy in the S3 of the local AWS, and the console's page in a browser."""

import io
import json
from collections.abc import Iterator
from copy import replace

import boto3
import pytest
from axe_playwright_python.sync_playwright import Axe
from console_server import address, serving
from focus_contract import (  # noqa: F401 - run with the fixture `stack` below
    test_a_changed_object_is_refused,
    test_an_acl_is_not_lost,
    test_an_object_that_changes_meanwhile_is_refused,
    test_only_the_focus_changes,
    test_the_etag_of_an_upload_in_parts_becomes_another_one,
)
from pictures import BLUE, GREEN, RED, near, quadrants
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from serving import QUICK_AND_STRICT, client, until
from test_console_pages import (  # noqa: F401 - fixtures
    FUNCTION_MS,
    browser,
    open_console,
    page,
    visit,
)

from image_pipeline.local.stack import LocalStack
from image_pipeline.ports import free_port
from image_pipeline.stack import uploads
from image_pipeline.stack.aws import LOCAL_REGION, Aws
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.uploads import State
from tools import browser as chromium

pytestmark = pytest.mark.local_stack
in_a_browser = pytest.mark.skipif(
    chromium.executable() is None,
    reason="no Chromium: apt install chromium, or set the variable CHROMIUM to its path",
)

SIZES = "128,512,avatar=64x64:cover:attention,strip=40x160"
UPRIGHT_AT = 6
"""EXIF orientation of a picture that is stored on its side: what a phone held upright writes."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that makes two widths and two crops, in two formats, with IAM enforced."""
    local = LocalStack(
        tmp_path_factory.mktemp("stack"),
        parameters={
            "ThumbnailSizes": SIZES,
            "ThumbnailFormats": "avif,webp",
            "WriteManifest": "true",
        },
        variables=QUICK_AND_STRICT,
    )
    try:
        local.start(free_port(), detach=False, report=lambda _: None)
        yield local.stack()
    finally:
        local.stop()


@pytest.fixture(scope="module")
def console(stack: Stack) -> Iterator[str]:
    """The console's URL."""
    with serving(stack) as url:
        yield url


def put(stack: Stack, name: str) -> str:
    """Upload an upright picture of four quadrants, stored on its side, and wait until it is done.

    Returns the path of its page. The picture has metadata of its own.
    """
    key = f"uploads/{name}"
    exif = Image.Exif()
    exif[0x0112] = UPRIGHT_AT
    file = io.BytesIO()
    stored = quadrants((400, 600)).transpose(Image.Transpose.ROTATE_90)
    stored.save(file, "JPEG", exif=exif)
    stack.aws.s3.put_object(
        Bucket=stack.input_bucket, Key=key, Body=file.getvalue(), Metadata={"owner": "me"}
    )
    uploaded = uploads.describe(stack, key)
    assert uploaded is not None
    (outcome,) = uploads.wait(stack, [uploaded], 60)
    assert outcome.state is State.DONE
    return f"/image?key={key}"


def click(tab: Page, x: float, y: float) -> None:
    """Click a place of the picture in the form, in fractions of its width and height."""
    image = tab.locator("#focus-picture img")
    until(lambda: image.evaluate("image => image.naturalWidth"))
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    assert box
    tab.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def colour(tab: Page, name: str, x: float, y: float) -> tuple[int, ...]:
    """The colour at a place of a crop that the form shows, once it is loaded."""
    found = tab.locator("#focus-crops li").filter(has_text=name).locator("img")
    until(lambda: found.evaluate("image => image.naturalWidth"))
    shot = Image.open(io.BytesIO(found.screenshot())).convert("RGB")
    return shot.getpixel((int(x * shot.width), int(y * shot.height)))  # type: ignore[return-value]


def metadata(stack: Stack, name: str) -> dict[str, str]:
    """The user metadata of an original."""
    head = stack.aws.s3.head_object(Bucket=stack.input_bucket, Key=f"uploads/{name}")
    return dict(head["Metadata"])


def save(tab: Page, button: str = "Save focus") -> None:
    """Press the button, and wait until the page says that the crops are up to date."""
    tab.get_by_role("button", name=button).click()
    status = tab.locator("#focus-status")
    expect(status).to_have_text("The crops are up to date.", timeout=FUNCTION_MS)


@in_a_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_a_click_moves_the_crops(
    page: Page, stack: Stack, scheme: str, width: int  # noqa: F811 - the fixture
) -> None:
    """Each crop moves to what was clicked in the upright picture, and then back to its rule.

    A square of a portrait moves up and down, a narrow strip to the left and right.

    The page is accessible in all states, and does not scroll sideways.
    """
    name = f"click-{scheme}-{width}.jpg"
    path = put(stack, name)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    visit(page, path)
    expect(page.get_by_role("button", name="Remove focus")).to_be_disabled()
    for place, avatar, strip in (
        ((0.25, 0.2), RED, RED),
        ((0.75, 0.2), RED, GREEN),
        ((0.25, 0.8), BLUE, RED),
    ):
        click(page, *place)
        expect(page.locator("#focus-status")).to_have_text("Not saved yet.")
        save(page)
        x, y = map(float, metadata(stack, name)["focus"].split(","))
        assert (x, y) == pytest.approx(place, abs=0.01)
        assert metadata(stack, name)["owner"] == "me"
        assert near(colour(page, "avatar", 1 / 4, 1 / 2), avatar)
        assert near(colour(page, "strip", 1 / 2, 1 / 4), strip)
        expect(page.locator("#focus-crops code")).to_have_text(f"{x:g},{y:g}")
        until(lambda at=[x, y]: _focus_in_manifest(page, path) == at)
    results = Axe().run(
        page,
        options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]},
    )
    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    save(page, "Remove focus")
    assert metadata(stack, name) == {"owner": "me"}
    expect(page.locator("#focus-crops")).to_contain_text("No focus is set")
    expect(page.get_by_role("button", name="Remove focus")).to_be_disabled()
    expect(page.get_by_role("button", name="Save focus")).to_be_enabled()


def _focus_in_manifest(tab: Page, path: str) -> object:
    """The focus in the manifest on the page, which is loaded again: it is written last."""
    visit(tab, path)
    return json.loads(tab.locator("#manifest-content").inner_text())["focus"]


@in_a_browser
def test_the_keyboard_sets_the_focus(page: Page, stack: Stack) -> None:  # noqa: F811
    """Tab reaches the marker, which shows that it has the focus; arrow keys move it; Enter saves.

    It has the role of a slider and says where it is. It is at least 24 pixels wide and high, and
    stays in the picture.
    """
    path = put(stack, "keyboard.jpg")
    visit(page, path)
    marker = page.get_by_role("slider", name="Focus")
    for _ in range(100):
        page.keyboard.press("Tab")
        if marker.evaluate("marker => marker === document.activeElement"):
            break
    assert marker.evaluate("marker => getComputedStyle(marker).outlineStyle") != "none"
    box = marker.bounding_box()
    assert box
    assert min(box["width"], box["height"]) >= 24
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp", "Shift+ArrowUp"):
        page.keyboard.press(key)
    expect(marker).to_have_attribute("aria-valuetext", "48% from the left, 39% from the top")
    for _ in range(7):
        page.keyboard.press("Shift+ArrowLeft")
    expect(marker).to_have_attribute("aria-valuetext", "0% from the left, 39% from the top")
    page.keyboard.press("Tab")
    expect(page.get_by_label("From the left")).to_be_focused()
    page.keyboard.type("25")
    expect(marker).to_have_attribute("aria-valuetext", "25% from the left, 39% from the top")
    page.keyboard.press("Enter")
    expect(page.locator("#focus-status")).to_be_focused()
    expect(page.locator("#focus-status")).to_have_text(
        "The crops are up to date.", timeout=FUNCTION_MS
    )
    assert metadata(stack, "keyboard.jpg")["focus"] == "0.25,0.39"


@in_a_browser
def test_an_image_that_was_replaced_is_refused_in_words(
    page: Page, stack: Stack  # noqa: F811
) -> None:
    """The page says that the image has changed, and the newer upload stays as it is."""
    path = put(stack, "replaced.jpg")
    visit(page, path)
    stack.aws.s3.put_object(
        Bucket=stack.input_bucket, Key="uploads/replaced.jpg", Body=b"another picture"
    )
    page.get_by_role("button", name="Save focus").click()
    expect(page.locator("#focus-status")).to_contain_text("The image has changed since")
    assert metadata(stack, "replaced.jpg") == {}
    expect(page.get_by_role("button", name="Save focus")).to_be_enabled()


@in_a_browser
def test_who_may_not_write_originals_is_told(stack: Stack, browser: Browser) -> None:  # noqa: F811
    """A user who may only read sees the page, and what the focus needs when it is saved."""
    path = put(stack, "read-only.jpg")
    iam = client(stack.aws, "iam")
    iam.create_user(UserName="reader")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:ListBucket", "logs:*", "sqs:*"],
                "Resource": "*",
            }
        ],
    }
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    session = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name=LOCAL_REGION)
    with serving(replace(stack, aws=Aws(session, stack.aws.endpoint_url))) as url:
        tab = browser.new_page(base_url=url)
        tab.goto(address(url))
        expect(tab.get_by_role("heading", name="Images", exact=True)).to_be_visible()
        visit(tab, path)
        tab.get_by_role("button", name="Save focus").click()
        expect(tab.locator("#focus-status")).to_contain_text(
            "you need s3:GetObject and s3:PutObject on the input bucket"
        )
        tab.close()
    assert metadata(stack, "read-only.jpg") == {"owner": "me"}
