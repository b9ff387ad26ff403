"""Screenshots of the console for the documentation, of a local stack with sample images.

    make screenshots

They are written to docs/img. Check them before you commit them. With `ALL=FOLDER`, each view is
also written to that folder, in both colour schemes, as on a desktop and as on a phone.
"""

import random
import re
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, NamedTuple

from console_server import address, serving
from moto_stack import put_metrics
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from image_pipeline.local import samples
from image_pipeline.local.stack import LocalStack
from image_pipeline.ports import free_port
from image_pipeline.stack.deployed import Stack
from tools import browser as chromium

IMAGES: Final = Path(__file__).parent.parent / "docs" / "img"


class Look(NamedTuple):
    """A window's size in CSS pixels, and its colour scheme."""

    width: int
    height: int
    scheme: Literal["light", "dark"]


LOOKS: Final = {
    "light": Look(1100, 860, "light"),
    "dark": Look(1100, 860, "dark"),
    "phone": Look(390, 844, "light"),
    "phone-dark": Look(390, 844, "dark"),
}
DOCUMENTED: Final = {
    "gallery-dark",
    "upload-dark",
    "upload-light",
    "image-light",
    "dead-letters-phone",
    "metrics-phone",
}
"""Views in the looks that the documentation shows: console-NAME.png."""

LANDSCAPES: Final = (
    "lake/morning.jpg",
    "lake/noon.jpg",
    "lake/evening.jpg",
    "lake/dusk.jpg",
    "lake/night.jpg",
)


DECODE_IMAGES: Final = """() => Promise.all([...document.images]
    .filter((image) => image.checkVisibility())
    .map((image) => image.decode().catch(() => null)))"""
"""JavaScript that waits until images can be painted; one that cannot be shown is replaced."""


def draw(folder: Path) -> tuple[Path, list[Path]]:
    """Draw images and files that fail, and return what to upload: a folder, then files.

    The files are landscapes, a transparent image, an animation, scans that end too early, and texts
    with the name of an image.
    """
    for number, name in enumerate(LANDSCAPES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples.landscape((2400, 1600), night=number / 4).save(path, quality=92)
    whole = (folder / LANDSCAPES[0]).read_bytes()
    broken = {f"scan-{number}.jpg": whole[: len(whole) * number // 10] for number in (3, 5, 8)}
    broken["notes.png"] = b"Pack the tripod."
    for name, body in broken.items():
        (folder / name).write_bytes(body)
    files = samples.draw(folder / "samples")[::-1]  # the last one is shown first
    return folder / "lake", [*(folder / name for name in broken), *files]


def put_history(stack: Stack) -> None:
    """Put metrics of the last hour, as of a site with a few uploads a minute and a slow phase."""
    chance = random.Random(1)  # noqa: S311 - the same each time
    now = datetime.now(UTC)
    for minutes_ago in range(4, 60):
        busy = 3 if 20 < minutes_ago < 32 else 1
        for _ in range(chance.randrange(1, 4) * busy):
            duration = chance.lognormvariate(5.1, 0.35) * busy**0.5
            sizes = {"size_in_bytes": 2.4e6, "size_out_bytes": 6e4}
            when = now - timedelta(minutes=minutes_ago)
            put_metrics(stack, when, duration_ms=duration, **sizes)


def upload(page: Page, folder: Path, files: list[Path]) -> None:
    """Upload a folder and files, and wait for their outcomes."""
    page.goto("/")
    page.set_input_files("#folder", str(folder))
    page.set_input_files("#files", [str(each) for each in files])
    expect(page.locator("#uploads-summary")).to_have_text(
        re.compile(r"^\d+ done, [1-9]\d* failed.* 0 in progress$"), timeout=60_000
    )


def keep(page: Page, view: str, everything: Path | None) -> None:
    """Keep a view in each look that is documented or, with a folder for `everything`, in all."""
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    for part in page.locator("[data-load]").all():
        expect(part).to_have_attribute("aria-busy", "false")
    for look, (width, height, scheme) in LOOKS.items():
        name = f"{view}-{look}"
        folders = [IMAGES] if name in DOCUMENTED else []
        folders += [everything] if everything else []
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        if folders:
            page.evaluate(DECODE_IMAGES)
        for folder in folders:
            path = folder / f"console-{name}.png"
            page.screenshot(path=path)
            with Image.open(path) as picture:  # a third of the bytes
                picture.convert("RGB").quantize(256).save(path, optimize=True)


def take(browser: Browser, url: str, draw_in: Path, everything: Path | None) -> None:
    """Upload, and take each screenshot. The uploads of a tab are shown in that tab only."""

    def tab() -> Page:
        page = browser.new_page(base_url=url)
        page.goto(address(url))
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        return page

    page = tab()
    upload(page, *draw(draw_in))
    keep(page, "upload", everything)
    page = tab()
    paths = {
        "gallery": "/",
        "image": "/image?key=uploads/balloon.png",
        "dead-letters": "/dead-letters",
        "metrics": "/metrics",
    }
    for view, path in paths.items():
        page.goto(path)
        keep(page, view, everything)


def main() -> None:
    """Start a local stack, upload the samples, and take all screenshots."""
    everything = Path(sys.argv[1]) if sys.argv[1:] else None
    for folder in filter(None, (IMAGES, everything)):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        local = LocalStack(Path(folder) / "stack")
        try:
            local.start(free_port(), detach=False, report=lambda step: print(f"{step}…"))
            put_history(local.stack())
            with serving(local.stack()) as url, chromium.launched() as browser:
                take(browser, url, Path(folder), everything)
        finally:
            local.stop()
    print(*sorted((everything or IMAGES).glob("console-*.png")), sep="\n")


if __name__ == "__main__":
    main()
