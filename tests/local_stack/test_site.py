"""Pages that show thumbnails by the CDN's URLs, in Chromium: the sample site, and the demo's."""

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from pictures import QUADRANTS, encoded, jpeg, near
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, expect
from serving import QUICK_AND_STRICT, until
from test_console_pages import FUNCTION_MS, browser  # noqa: F401 - a fixture

from image_pipeline.cli import delivery
from image_pipeline.cli.commands.up import show_samples
from image_pipeline.errors import CommandError
from image_pipeline.files import File
from image_pipeline.local import site
from image_pipeline.local.stack import LocalStack
from image_pipeline.ports import free_port
from image_pipeline.stack import cdn, distribution, uploads
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.uploads import Outcome, State
from tools import browser as chromium

pytestmark = [
    pytest.mark.local_stack,
    pytest.mark.skipif(
        chromium.executable() is None,
        reason="no Chromium: apt install chromium, or set the variable CHROMIUM to its path",
    ),
]

SAMPLES: Final = {"rotated-photo.jpg": "AVIF", "balloon.png": "AVIF", "moonrise.gif": "WebP"}
"""What Chromium shows of each sample: the animation is one in WebP only."""

RED, BLUE = QUADRANTS[0][0], QUADRANTS[1][0]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The local stack as `up` deploys it, with IAM enforced."""
    local = LocalStack(
        tmp_path_factory.mktemp("stack"),
        parameters=site.PARAMETERS,
        variables=QUICK_AND_STRICT,
    )
    try:
        local.start(free_port(), detach=False, report=lambda _: None)
        yield local
    finally:
        local.stop()


@pytest.fixture(scope="module")
def stack(local: LocalStack) -> Stack:
    """The stack that is deployed there."""
    return local.stack()


@pytest.fixture(scope="module")
def sample_page(local: LocalStack, stack: Stack) -> tuple[str, bytes]:
    """The address of the page with the samples, which `up` prints, and the page."""
    url = show_samples(stack, local.directory / "samples")
    return url, distribution.send("GET", url).body


@pytest.fixture
def address(stack: Stack, sample_page: tuple[str, bytes]) -> str:
    """The address of the page with the samples, in place of the page of another test."""
    url, body = sample_page
    stack.aws.s3.put_object(Bucket=site.NAME, Key=site.PAGE, Body=body, ContentType="text/html")
    return url


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:  # noqa: F811 - the fixture
    """A browser tab. The test fails if a script in it raises an error."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def upload(stack: Stack, directory: Path, name: str, body: bytes) -> Outcome:
    """Upload a picture and wait until its thumbnails are there."""
    path = directory / name
    path.write_bytes(body)
    uploaded = list(uploads.upload(stack, [File(path, f"uploads/{name}")]))
    (outcome,) = uploads.wait(stack, uploaded, 60)
    assert outcome.state is State.DONE
    return outcome


def publish(stack: Stack, name: str) -> str:
    """Publish a page with the picture of one upload, whether or not it is there."""
    figure = site.Figure(name, manifest=site.manifest_url(stack, f"uploads/{name}"))
    return site.publish(stack, [figure], "A test.")


def shown(image: Locator) -> None:
    """Wait until the browser shows a picture."""
    expect(image).to_be_visible(timeout=FUNCTION_MS)
    until(lambda: image.evaluate("image => image.complete && image.naturalWidth > 0"))


def colour(image: Locator) -> tuple[int, ...]:
    """The colour on the screen in the middle of a picture."""
    with Image.open(io.BytesIO(image.screenshot())) as screen:
        found = screen.convert("RGB").getpixel((screen.width // 2, screen.height // 2))
    assert isinstance(found, tuple)
    return found


def distance(one: tuple[int, ...], other: Any) -> int:
    """How different two colours are."""
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def test_the_samples_are_shown_by_the_urls_of_the_cdn(
    page: Page, address: str, stack: Stack
) -> None:
    """Each at its versioned URL and in its largest size, from a distribution of its own."""
    page.goto(address)
    assert page.locator("figure").count() == len(SAMPLES)
    for name, format_name in SAMPLES.items():
        figure = page.locator("figure").filter(has_text=name)
        image = figure.locator("img")
        shown(image)
        url = image.evaluate("image => image.currentSrc")
        assert url.startswith(f"{stack.thumbnails_url}/")
        assert re.search(r"_512w\.\w+\?v=[0-9a-f]{8}$", url)
        expect(figure.locator(".format")).to_have_text(format_name)
        assert image.get_attribute("alt") == name
        assert image.evaluate("image => image.style.background") == "none", "no placeholder is left"


@pytest.mark.parametrize(
    ("client", "expected"), [(None, "avif"), ("Safari 15", "webp"), ("Safari 13", "jpeg")]
)
def test_one_url_has_the_best_format_for_each_browser(
    client: str | None, expected: str, page: Page, address: str, stack: Stack
) -> None:
    """Chromium itself gets AVIF; with the Accept header of another browser, that one's format."""

    def as_client(route: Route) -> None:
        accept = {"accept": cdn.CLIENTS[client]} if client else {}
        route.continue_(headers=route.request.headers | accept)

    page.goto(address)
    shown(page.locator("figure img").first)
    url = page.locator("figcaption a").first.get_attribute("href")
    assert url
    page.route(f"{stack.thumbnails_url}/**", as_client)
    with page.expect_response(url) as response:
        page.set_content(f'<img src="{url}">')
    shown(page.locator("img"))
    assert response.value.headers["content-type"] == f"image/{expected}"


def test_a_picture_appears_on_a_page_that_was_opened_too_early(
    page: Page, stack: Stack, tmp_path: Path
) -> None:
    """The page asks again until the thumbnails are made, and is not loaded again."""
    url = publish(stack, "late.jpg")
    with page.expect_response(lambda answer: answer.status == 403):
        page.goto(url)
    assert page.locator("img").count() == 0
    upload(stack, tmp_path, "late.jpg", jpeg())
    shown(page.locator("img"))


def test_a_placeholder_is_shown_until_the_picture_is_there(
    page: Page, stack: Stack, tmp_path: Path
) -> None:
    """It is the ThumbHash of the picture, in its shape: the four colours are in their corners."""
    upload(stack, tmp_path, "held.jpg", jpeg((800, 400)))
    held: list[Route] = []
    page.route(re.compile(r"held_512w"), lambda route: held.append(route))  # noqa: PLW0108
    page.goto(publish(stack, "held.jpg"))
    image = page.locator("img")
    until(lambda: image.count() and held)  # asking the browser lets the route be called
    box = image.bounding_box()
    assert box
    assert round(box["width"] / box["height"], 1) == 2
    background = image.evaluate("image => image.style.backgroundImage")
    (encoded_png,) = re.findall(r"base64,([A-Za-z0-9+/=]+)", background)
    with Image.open(io.BytesIO(base64.b64decode(encoded_png))) as placeholder:
        assert placeholder.size == (32, 32)
        found = [placeholder.convert("RGB").getpixel((x, y)) for y in (8, 24) for x in (8, 24)]
    colours = [each for row in QUADRANTS for each in row]
    assert [min(colours, key=lambda each: distance(each, got)) for got in found] == colours
    held.pop().continue_()
    shown(image)
    until(lambda: image.evaluate("image => image.style.background") == "none")


def test_the_new_picture_is_shown_after_an_upload_of_the_same_name(
    page: Page, stack: Stack, tmp_path: Path
) -> None:
    """It has another URL, so that no cache on the way can have the old one."""

    def picture(colour: tuple[int, ...]) -> bytes:
        return encoded(Image.new("RGB", (640, 480), colour), quality=90)

    upload(stack, tmp_path, "again.jpg", picture(RED))
    page.goto(publish(stack, "again.jpg"))
    image = page.locator("img")
    shown(image)
    assert near(colour(image), RED)
    old = image.evaluate("image => image.currentSrc")
    outcome = upload(stack, tmp_path, "again.jpg", picture(BLUE))
    version = stack.settings.picture_version(outcome.etag, "")
    until(lambda: cdn.manifest(stack, outcome)["v"] == version)
    page.reload()
    shown(image)
    assert near(colour(image), BLUE)
    new = image.evaluate("image => image.currentSrc")
    assert new == old.partition("?")[0] + f"?v={version}" != old


def test_the_page_of_the_demo_needs_only_the_files_beside_it(
    page: Page, stack: Stack, tmp_path: Path
) -> None:
    """Opened as a file: the picture is one of the downloaded thumbnails."""
    folder = tmp_path / "my thumbnails"
    outcome = upload(stack, tmp_path, 'it\'s "50%" & <b>,?#.jpg', jpeg((900, 600)))
    found = delivery.deliveries(stack, [uploads.download(stack, outcome, folder)])
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(delivery.write_page(found, folder).as_uri())
    image = page.locator("img")
    shown(image)
    assert image.evaluate("image => image.naturalWidth") == 512
    assert all(url.startswith(("file:", "data:")) for url in requested)
    text = page.locator("figcaption").inner_text()
    assert re.search(r"Chrome: AVIF [\d,]+ B, Safari 15: WebP .*, Safari 13: JPEG ", text)
    delivery.check_folder(folder)  # its own page may be replaced


def test_the_demo_does_not_replace_a_page_of_the_user(tmp_path: Path) -> None:
    """A folder with an index.html of another origin is refused."""
    (tmp_path / site.PAGE).write_text("<html>mine")
    with pytest.raises(CommandError, match="another folder: --out"):
        delivery.check_folder(tmp_path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(page: Page, address: str, scheme: str) -> None:
    """Axe finds no violation of WCAG 2.2 AA, and the page does not scroll sideways on a phone."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": 360, "height": 800})
    page.goto(address)
    shown(page.locator("img").first)
    results = Axe().run(
        page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
