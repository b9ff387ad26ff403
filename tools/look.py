"""Thumbnails beside Chromium's own pictures: `make look`.

Chromium draws each file on a canvas, in sRGB. Its picture and the thumbnail are scaled to the same
small size, where the noise of a lossy thumbnail has gone, and compared: the difference of colour
(CIEDE2000), alpha, and the ratio of the sides.
"""

import base64
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from PIL import Image
from rich.markup import escape
from rich.table import Table

from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import out, print_json, progress_bar
from image_pipeline.errors import CommandError
from thumbnailer.errors import PipelineError
from thumbnailer.imaging import Size, ThumbnailSpec, make_thumbnails
from tools.browser import executable, launched
from tools.sheet import row, write_sheet

FILES: Final = Path(__file__).parents[2] / "shared" / "corpus" / "cases"
SHEET: Final = Path(".local/look")
SPEC: Final = ThumbnailSpec(Size.of_width(512), 85, animated=False)
MEMORY_MB: Final = 2048
SECONDS: Final = 60.0

MAX_DIFFERENCE: Final = 3.0
"""Mean CIEDE2000 above which a picture is an outlier: a difference that is seen at a glance."""

MAX_ALPHA: Final = 3.0
"""Mean difference of alpha, of 255, above which a picture is an outlier."""

COMPARED_SIDE: Final = 128
"""Pixels of the longer side of the pictures that are compared."""

MAX_SIDE: Final = 4096
"""Chromium's picture is drawn no larger than this, in pixels."""

ADDRESS: Final = "http://look.invalid/"
"""Origin of the page; nothing leaves the browser, because every request is answered here."""

DRAW: Final = """
async ([name, most]) => {
  const image = new Image();
  image.src = name;
  try { await image.decode(); } catch { return null; }
  const scale = Math.min(1, most / Math.max(image.naturalWidth, image.naturalHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  try { return canvas.toDataURL("image/png").split(",")[1]; } catch { return null; }
}
"""
"""Draws the file of this name; null where Chromium cannot show it, or does not let it be read."""

app = new_app()


@dataclass(frozen=True, slots=True)
class Seen:
    """How one file looks here and in Chromium.

    `verdict` is "same", "differs", "only in Chromium", "only here" or "nowhere". `difference` is
    the mean CIEDE2000 and `alpha` the mean difference of alpha (0 to 255), where both have a
    picture. `message` is the error here, or why they differ.
    """

    path: str
    verdict: str
    difference: float | None = None
    alpha: float | None = None
    message: str = ""

    @property
    def is_outlier(self) -> bool:
        """Whether a browser shows something else than the thumbnail."""
        return self.verdict in ("differs", "only in Chromium")


@app.command()
def look(
    files: Annotated[Path, typer.Argument(help="A file, or a folder of files.")] = FILES,
    sheet: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the page.")] = SHEET,
    *,
    as_json: Json = False,
) -> None:
    """Compare thumbnails with what Chromium shows, and write a page with both and the difference.

    Prints the outliers: pictures that look different, and pictures that only Chromium shows. The
    exit code is 1 if there are any that docs/images.md does not explain.

    **Examples**

    `make look`

    `make look CASES=photos/`
    """
    if executable() is None:
        raise CommandError("Chromium is not installed: run `make chromium`, or set CHROMIUM.")
    paths = sorted(path for path in files.rglob("*") if path.is_file()) or [files]
    if not paths[0].is_file():
        raise CommandError(f"There are no files at {files}. Name a file or a folder: CASES=photos/")
    sheet.mkdir(parents=True, exist_ok=True)
    root = files if files.is_dir() else files.parent
    with progress_bar() as progress, chromium() as draw:
        task = progress.add_task("Files", total=len(paths))
        seen = []
        for number, path in enumerate(paths):
            seen.append(compare(path, str(path.relative_to(root)), draw, sheet / str(number)))
            progress.advance(task)
    write_page(seen, sheet)
    if as_json:
        print_json([asdict(each) for each in seen])
    else:
        show(seen, sheet)
    if any(each.is_outlier and each.path not in EXPLAINED for each in seen):
        sys.exit(1)


EXPLAINED: Final[dict[str, str]] = {}
"""Outliers, and why they are right: see docs/images.md."""


@contextmanager
def chromium() -> Iterator[Callable[[bytes], Image.Image | None]]:
    """Yield a function that returns the picture (RGBA) that Chromium shows of a file, or None."""
    with launched() as browser:
        page = browser.new_page()
        body = b""

        def answer(route: Any) -> None:
            if route.request.url == ADDRESS:
                route.fulfill(body="<!doctype html>", content_type="text/html")
            else:
                # Chromium recognises all formats by their content, except SVG.
                is_svg = b"<svg" in body[:4096]
                kind = "image/svg+xml" if is_svg else "application/octet-stream"
                route.fulfill(body=body, content_type=kind)

        page.route("**/*", answer)
        page.goto(ADDRESS)
        number = 0

        def draw(data: bytes) -> Image.Image | None:
            nonlocal body, number
            body, number = data, number + 1
            drawn = page.evaluate(DRAW, [f"{ADDRESS}{number}", MAX_SIDE])
            if drawn is None:
                return None
            return Image.open(io.BytesIO(base64.b64decode(drawn))).convert("RGBA")

        yield draw


def compare(path: Path, name: str, draw: Callable[[bytes], Image.Image | None], kept: Path) -> Seen:
    """Compare one file, and keep its pictures as `kept` with a suffix of its own each."""
    data = path.read_bytes()
    theirs = draw(data)
    ours, message = None, ""
    try:
        made = make_thumbnails(data, [SPEC], MEMORY_MB, SECONDS)
        encoded = made.thumbnails[0].data
        ours = Image.open(io.BytesIO(encoded)).convert("RGBA")
        kept.with_suffix(".webp").write_bytes(encoded)
        message = "; ".join(made.notes)
    except PipelineError as error:
        message = f"{type(error).__name__}: {error}"
    if theirs is None or ours is None:
        verdict = {(True, True): "nowhere", (True, False): "only here"}.get(
            (theirs is None, ours is None), "only in Chromium"
        )
        if theirs is not None:
            theirs.save(kept.with_suffix(".png"))
        return Seen(name, verdict, message=message)
    ratio = (theirs.width / theirs.height) / (ours.width / ours.height)
    rounding = 1 + 1 / min(ours.size)
    shrink = max(1.0, max(ours.size) / COMPARED_SIDE)
    size = (max(1, round(ours.width / shrink)), max(1, round(ours.height / shrink)))
    _scaled(theirs, ours.size).save(kept.with_suffix(".png"))
    colour, alpha = differences(_scaled(theirs, size), _scaled(ours, size))
    drawn = Image.fromarray(np.clip(colour * 10, 0, 255).astype(np.uint8))
    drawn.save(kept.with_name(f"{kept.name}-difference.png"))
    if not 1 / rounding <= ratio <= rounding:
        message = f"{theirs.size[0]} × {theirs.size[1]} pixels in Chromium; {message}"
        return Seen(name, "differs", message=message.rstrip("; "))
    mean, mean_alpha = float(colour.mean()), float(alpha.mean())
    same = mean <= MAX_DIFFERENCE and mean_alpha <= MAX_ALPHA
    return Seen(name, "same" if same else "differs", round(mean, 2), round(mean_alpha, 2), message)


def _scaled(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale RGBA by averaging, without the colours of transparent pixels."""
    return picture.convert("RGBa").resize(size, Image.Resampling.BOX).convert("RGBA")


def differences(one: Image.Image, other: Image.Image) -> tuple[Any, Any]:
    """Return CIEDE2000 and the difference of alpha (0 to 255) of each pixel, on white and black."""
    from skimage import color  # noqa: PLC0415 - takes a second

    colours = []
    for background in ("white", "black"):
        labs = []
        for picture in (one, other):
            shown = Image.new("RGBA", picture.size, background)
            shown.alpha_composite(picture)
            labs.append(color.rgb2lab(np.asarray(shown.convert("RGB"))))
        colours.append(color.deltaE_ciede2000(*labs))  # type: ignore[no-untyped-call]
    alphas = [np.asarray(picture.getchannel("A"), float) for picture in (one, other)]
    return np.maximum(*colours), abs(alphas[0] - alphas[1])


def show(seen: list[Seen], sheet: Path) -> None:
    """Print a summary and the outliers."""
    table = Table("verdict", "files")
    for verdict in ("same", "differs", "only in Chromium", "only here", "nowhere"):
        table.add_row(verdict, str(sum(each.verdict == verdict for each in seen)))
    out.print(table)
    for each in seen:
        if each.is_outlier:
            numbers = "" if each.difference is None else f" {each.difference}, alpha {each.alpha}"
            words = EXPLAINED.get(each.path, each.message)
            out.print(
                f"[bold]{escape(each.path)}[/] {each.verdict}{numbers} {escape(words)}",
                soft_wrap=True,
            )
    measured = [each.difference for each in seen if each.difference is not None]
    if measured:
        out.print(f"Median difference: {np.median(measured):.2f}. See {sheet}/index.html")


def write_page(seen: list[Seen], sheet: Path) -> None:
    """Write the page: what Chromium shows, the thumbnail, the difference, and the numbers."""
    rows = []
    for number in sorted(range(len(seen)), key=lambda at: -(seen[at].difference or 100)):
        each = seen[number]
        words = json.dumps({k: v for k, v in asdict(each).items() if v}, ensure_ascii=False)
        names = [f"{number}.png", f"{number}.webp", f"{number}-difference.png"]
        rows.append(row(sheet, names, words, marked=each.is_outlier))
    write_sheet(sheet, "Chromium, thumbnail, difference", "outliers", rows)


if __name__ == "__main__":
    run_app(app)
