"""Screenshots of the console for the README, of a local stack with sample images.

    make screenshots

They are written to docs/img. Check them before you commit them.
"""

import re
import tempfile
from pathlib import Path
from typing import Final

from console_server import address, serving
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from image_pipeline.local import samples
from image_pipeline.local.stack import LocalStack
from image_pipeline.ports import free_port
from tools import browser as chromium

IMAGES: Final = Path(__file__).parent.parent / "docs" / "img"
DESKTOP, PHONE = (1100, 860), (390, 844)
LANDSCAPES: Final = (
    "lake/morning.jpg",
    "lake/noon.jpg",
    "lake/evening.jpg",
    "lake/dusk.jpg",
    "lake/night.jpg",
)


def draw(folder: Path) -> list[Path]:
    """Draw landscapes, a transparent image, an animation and a file that is no image.

    Returns what to upload: a folder, then files.
    """
    for number, name in enumerate(LANDSCAPES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples.landscape((2400, 1600), night=number / 4).save(path, quality=92)
    return [folder / "lake", *samples.draw(folder / "samples")[::-1]]  # the last one is shown first


def upload(page: Page, files: list[Path]) -> None:
    """Upload a folder and files, and wait for their outcomes."""
    page.goto("/")
    page.set_input_files("#folder", str(files[0]))
    page.set_input_files("#files", [str(each) for each in files[1:]])
    expect(page.locator("#uploads-summary")).to_have_text(
        re.compile(r"^8 done.* 0 in progress$"), timeout=60_000
    )


def take(browser: Browser, url: str, files: list[Path]) -> None:
    """Take each screenshot: light, dark, and as wide as a phone."""

    def view(size: tuple[int, int], scheme: str) -> Page:
        width, height = size
        page = browser.new_page(
            base_url=url,
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            reduced_motion="reduce",
        )
        page.goto(address(url))
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        return page

    def keep(page: Page, name: str) -> None:
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        for image in page.locator("img:visible").all():
            image.evaluate("image => image.decode().catch(() => null)")
        path = IMAGES / f"console-{name}.png"
        page.screenshot(path=path)
        with Image.open(path) as picture:  # a third of the bytes
            picture.convert("RGB").quantize(256).save(path, optimize=True)

    light = view(DESKTOP, "light")
    upload(light, files)
    keep(light, "upload-light")
    light.goto("/image?key=uploads/balloon.png")
    keep(light, "image-light")
    dark = view(DESKTOP, "dark")
    dark.goto("/")
    keep(dark, "gallery-dark")
    for name, scheme in (("dead-letters", "light"), ("metrics", "dark")):
        phone = view(PHONE, scheme)
        phone.goto(f"/{name}")
        expect(phone.locator("[data-load]")).to_have_attribute("aria-busy", "false")
        keep(phone, f"{name}-phone")


def main() -> None:
    """Start a local stack, upload the samples, and take all screenshots."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        local = LocalStack(Path(folder) / "stack")
        try:
            local.start(free_port(), detach=False, report=lambda step: print(f"{step}…"))
            files = draw(Path(folder))
            with serving(local.stack()) as url, chromium.launched() as browser:
                take(browser, url, files)
        finally:
            local.stop()
    print(*sorted(IMAGES.glob("console-*.png")), sep="\n")


if __name__ == "__main__":
    main()
