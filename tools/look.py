"""Thumbnails beside Chromium's own pictures: `make look`.

Chromium draws each file on a canvas, in sRGB. Its picture and the thumbnail are scaled to the same
small size and compared: the difference of colour (CIEDE2000), alpha, and the ratio of the sides.
The thumbnail is compared as it is before WebP's loss: that loss is the setting `Quality`, and it is
larger in a noisy picture of 64 pixels than any difference that is looked for here. The page shows
the WebP file.
"""

import base64
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Annotated, Any, Final

import numpy as np
import typer
from PIL import Image
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import Page
from rich.markup import escape
from rich.table import Table

from fuzz import seeds
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import out, print_json, progress_bar
from image_pipeline.errors import CommandError
from image_pipeline.folders.lossless import LOSSLESS, lossless_format
from thumbnailer.errors import PipelineError
from thumbnailer.imaging import Size, ThumbnailSpec, make_thumbnails
from tools.browser import executable, launched, process_id
from tools.sheet import row, write_sheet

FILES: Final = Path(__file__).parents[2] / "shared" / "corpus" / "cases"
SHEET: Final = Path(".local/look")
SPEC: Final = ThumbnailSpec(Size.of_width(512), 85, animated=False)
MEMORY_MB: Final = 2048

SECONDS: Final = 30.0
"""Time for one file, here and in Chromium. A few KB of SVG can keep a browser busy for hours."""

MAX_DIFFERENCE: Final = 2.0
"""Mean CIEDE2000 above which a picture is an outlier: a difference that is seen at a glance."""

MAX_ALPHA: Final = 1.0
"""Mean difference of alpha, of 255, above which a picture is an outlier."""

COMPARED_SIDE: Final = 128
"""Pixels of the longer side of the pictures that are compared."""

MAX_SIDE: Final = 4096
"""Chromium's picture is drawn no larger than this, in pixels."""

ADDRESS: Final = "http://look.invalid/"
"""Origin of the page; nothing leaves the browser, because every request is answered here."""

DRAW: Final = """
async ([name, most, vector]) => {
  const image = new Image();
  image.src = name;
  try { await image.decode(); } catch { return null; }
  const longer = Math.max(image.naturalWidth, image.naturalHeight);
  const scale = vector ? most / 4 / longer : Math.min(1, most / longer);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  try { return canvas.toDataURL("image/png").split(",")[1]; } catch { return null; }
}
"""
"""Draws the file of this name; null where Chromium cannot show it, or does not let it be read. An
SVG has no pixels of its own: it is drawn at a quarter of the largest size."""

type Draw = Callable[[bytes], Image.Image | None]
"""Returns the picture (RGBA) that Chromium shows of a file, None if it shows none. Raises
ChromiumStopped."""

app = new_app()


CUT: Final = (
    "Rows or frames are missing. Chromium shows what is there; here, the upload fails with "
    "`CorruptImage`, because a part of a picture is not its thumbnail."
)

EXPLANATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    CUT: (
        "image-rs+image/tests/bad/bmp/Bad_shortfile.bmp",
        "image-rs+image/tests/bad/bmp/Bad_unusual_extend_buffer_usage.bmp",
        "image-rs+image-gif/tests/crashtest/issue-117-out-of-range.gif",
        "libvips+libvips/test/test-suite/images/truncated.gif",
        "libvips+libvips/test/test-suite/images/truncated.jpg",
        "lovell+sharp/test/fixtures/truncated.jpg",
        "lovell+sharp/test/fixtures/truncated.png",
    ),
    "JPEG XL is not supported. New versions of Chromium show it.": (
        "libjxl+testdata/jxl/boxes/square-extended-size-container.jxl",
        "libjxl+testdata/jxl/jpeg_reconstruction/1x1_exif_xmp.jxl",
        "libjxl+testdata/jxl/pq_gradient.jxl",
        "libjxl+testdata/jxl/splines.jxl",
        "sindresorhus+file-type/fixture/fixture.jxl",
        "sindresorhus+file-type/fixture/fixture2.jxl",
    ),
    "A GIF of 440 megapixels, which needs more memory than the 2 GB of the comparison.": (
        "image-rs+image-gif/tests/stall/issue-101-infinite-empty-loop.gif",
    ),
    "Chromium does not read the orientation in the EXIF of WebP. The thumbnail is upright.": (
        "python-pillow+Pillow/Tests/images/hopper_orientation_6.webp",
        "drawn/WEBP RGB exif icc_profile",
    ),
    "The alpha of an AVIF has the full range of 0 to 255. Chromium stretches it, as if it had the "
    "range of video, 16 to 235. The thumbnail keeps it.": (
        "AOMediaCodec+libavif/tests/data/abc_color_irot_alpha_irot.avif",
        "AOMediaCodec+libavif/tests/data/abc_color_irot_alpha_NOirot.avif",
        "AOMediaCodec+libavif/tests/data/color_nogrid_alpha_nogrid_gainmap_grid.avif",
        "drawn/AVIF RGBA speed",
    ),
    "Chromium stretches the colours in the same way, although the AV1 stream says that they have "
    "the full range.": (
        "link-u+avif-sample-images/star-12bpc.avifs",
        "link-u+avif-sample-images/star-8bpc.avifs",
        "drawn/animated AVIF RGB speed",
    ),
    "The alpha stream says that it has the range of video. Chromium does not stretch it, so that "
    "what is opaque looks a little transparent. The thumbnail is opaque there.": (
        "python-pillow+Pillow/Tests/images/avif/star.avifs",
    ),
    "Its alpha is 0 everywhere, so Chromium shows nothing. The thumbnail shows the colours.": (
        "image-rs+image/tests/images/bmp/images/V3_A4_R4_G4_B4.bmp",
    ),
    "The profile of this CMYK picture has a black that screens exceed. Chromium shows it as dark "
    "grey; here it becomes black (black point compensation), as in image editors.": (
        "lovell+sharp/test/fixtures/Channel_digital_image_CMYK_color.jpg",
    ),
    "Text in SVG is left out, because there are no fonts.": (
        "lovell+sharp/test/fixtures/struct-image-04-t.svg",
    ),
}
"""Why outliers are right → which files of the corpus, and which drawn ones. docs/images.md has the
same table."""

EXPLAINED: Final = {file: why for why, files in EXPLANATIONS.items() for file in files}


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

    @property
    def explanation(self) -> str:
        """Why an outlier is right, or an empty text."""
        return EXPLAINED.get(self.path, "") if self.is_outlier else ""


class ChromiumStopped(Exception):
    """Chromium took too long for a file, or crashed. The message says which."""


@app.command()
def look(
    files: Annotated[
        Path | None,
        typer.Argument(
            help="A file, or a folder of files; without it the corpus of real images, or drawn "
            "pictures of each format where the corpus is missing.",
            show_default=False,
        ),
    ] = None,
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
    pictures = pictures_of(files)
    sheet.mkdir(parents=True, exist_ok=True)
    with progress_bar() as progress, chromium() as draw:
        task = progress.add_task("Files", total=len(pictures))
        seen = []
        for number, (name, read) in enumerate(pictures.items()):
            seen.append(compare(read(), name, draw, sheet / str(number)))
            progress.advance(task)
    write_page(seen, sheet)
    if as_json:
        print_json([asdict(each) | {"explanation": each.explanation} for each in seen])
    else:
        show(seen, sheet)
    if any(each.is_outlier and not each.explanation for each in seen):
        sys.exit(1)


def pictures_of(files: Path | None) -> dict[str, Callable[[], bytes]]:
    """Return the names of the pictures to compare, and functions that read them."""
    if files is None and not FILES.exists():
        return {f"drawn/{name}": partial(bytes, data) for name, data in seeds.drawn()}
    files = files or FILES
    root = files if files.is_dir() else files.parent
    paths = sorted(path for path in files.rglob("*") if path.is_file()) or [files]
    if not paths[0].is_file():
        raise CommandError(f"There are no files at {files}. Name a file or a folder: CASES=photos/")
    return {str(path.relative_to(root)): path.read_bytes for path in paths}


@contextmanager
def chromium(seconds: float = SECONDS) -> Iterator[Draw]:
    """Yield a function that draws a file; it raises ChromiumStopped after `seconds`.

    A page that draws can be interrupted by nothing but the end of its browser. The next file gets
    a new one.
    """
    with ExitStack() as stack:
        page: Page | None = None
        process = number = 0
        body = b""

        def answer(route: Any) -> None:
            if route.request.url == ADDRESS:
                route.fulfill(body="<!doctype html>", content_type="text/html")
            else:
                # Chromium recognises all formats by their content, except SVG.
                kind = "image/svg+xml" if is_svg(body) else "application/octet-stream"
                route.fulfill(body=body, content_type=kind)

        def draw(data: bytes) -> Image.Image | None:
            nonlocal page, process, body, number
            body, number = data, number + 1
            if page is None:
                browser = stack.enter_context(launched())
                process = process_id(browser)
                page = browser.new_page()
                page.route("**/*", answer)
                page.goto(ADDRESS)
            began = time.monotonic()
            timer = Timer(seconds, os.kill, (process, signal.SIGKILL))
            timer.start()
            try:
                drawn = page.evaluate(DRAW, [f"{ADDRESS}{number}", MAX_SIDE, is_svg(data)])
            except BrowserError as error:
                page = None
                took = time.monotonic() - began
                timer.cancel()
                stack.close()
                slow = f"took more than {seconds:.0f} s" if took >= seconds else "crashed"
                raise ChromiumStopped(f"Chromium {slow}.") from error
            finally:
                timer.cancel()
            if drawn is None:
                return None
            return Image.open(io.BytesIO(base64.b64decode(drawn))).convert("RGBA")

        yield draw


def is_svg(data: bytes) -> bool:
    """Whether a file is an SVG, in UTF-8 or UTF-16."""
    return b"<svg" in data[:4096].replace(b"\0", b"")


def rendered(data: bytes) -> tuple[bytes, Image.Image, str]:
    """Make the thumbnail: its WebP file, the picture (RGBA) before WebP's loss, and the notes.

    Raises PipelineError.
    """
    with lossless_format():
        specs = [SPEC, SPEC._replace(format=LOSSLESS)]
        made = make_thumbnails(data, specs, MEMORY_MB, SECONDS)
    webp, exact = (thumbnail.data for thumbnail in made.thumbnails)
    return webp, Image.open(io.BytesIO(exact)).convert("RGBA"), "; ".join(made.notes)


def compare(data: bytes, name: str, draw: Draw, kept: Path) -> Seen:
    """Compare one file, and keep its pictures as `kept` with a suffix of its own each."""
    theirs = ours = None
    message = ""
    try:
        theirs = draw(data)
    except ChromiumStopped as stopped:
        message = str(stopped)
    try:
        webp, ours, notes = rendered(data)
    except PipelineError as error:
        notes = f"{type(error).__name__}: {error}"
    else:
        kept.with_suffix(".webp").write_bytes(webp)
    message = "; ".join(filter(None, (message, notes)))
    if theirs is not None:
        shown = theirs.copy()
        shown.thumbnail((SPEC.size.width, SPEC.size.width))
        shown.save(kept.with_suffix(".png"))
    if theirs is None or ours is None:
        verdict = "only in Chromium" if theirs else "only here" if ours else "nowhere"
        return Seen(name, verdict, message=message)
    judged, drawn = judge(name, theirs, ours, message)
    drawn.save(kept.with_name(f"{kept.name}-difference.png"))
    return judged


def judge(
    name: str, theirs: Image.Image, ours: Image.Image, message: str = ""
) -> tuple[Seen, Image.Image]:
    """Compare two pictures (RGBA) of any size; return the verdict, and CIEDE2000 × 10 as grey.

    Chromium's picture is scaled to the thumbnail's size as the thumbnail was, so that it is as
    sharp. Then both are averaged.
    """
    shrink = max(1.0, max(ours.size) / COMPARED_SIDE)
    size = (max(1, round(ours.width / shrink)), max(1, round(ours.height / shrink)))
    fitted = _scaled(theirs, ours.size, Image.Resampling.LANCZOS)
    colour, alpha = differences(_scaled(fitted, size), _scaled(ours, size))
    drawn = Image.fromarray(np.clip(colour * 10, 0, 255).astype(np.uint8))
    ratio = (theirs.width / theirs.height) / (ours.width / ours.height)
    rounding = 1 + 1 / min(ours.size)
    if not 1 / rounding <= ratio <= rounding:
        shape = f"{theirs.width} × {theirs.height} pixels in Chromium"
        message = "; ".join(filter(None, (shape, message)))
        return Seen(name, "differs", message=message), drawn
    mean, mean_alpha = float(colour.mean()), float(alpha.mean())
    same = mean <= MAX_DIFFERENCE and mean_alpha <= MAX_ALPHA
    verdict = "same" if same else "differs"
    return Seen(name, verdict, round(mean, 2), round(mean_alpha, 2), message), drawn


def _scaled(
    picture: Image.Image,
    size: tuple[int, int],
    by: Image.Resampling = Image.Resampling.BOX,
) -> Image.Image:
    """Scale RGBA, by averaging unless told otherwise, without the colours of transparent pixels."""
    return picture.convert("RGBa").resize(size, by).convert("RGBA")


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
            words = f"explained: {each.explanation}" if each.explanation else each.message
            out.print(
                f"[bold]{escape(each.path)}[/] {each.verdict}{numbers} {escape(words)}",
                soft_wrap=True,
            )
    for path in stale(seen):
        out.print(f"[bold]{escape(path)}[/] is no outlier: its explanation in tools/look.py is old")
    unexplained = sum(each.is_outlier and not each.explanation for each in seen)
    out.print(f"{unexplained} outliers without an explanation")
    measured = [each.difference for each in seen if each.difference is not None]
    if measured:
        out.print(f"Median difference: {np.median(measured):.2f}. See {sheet}/index.html")


def stale(seen: list[Seen]) -> list[str]:
    """Return the files that are explained, and that are no outliers."""
    return [each.path for each in seen if each.path in EXPLAINED and not each.is_outlier]


def write_page(seen: list[Seen], sheet: Path) -> None:
    """Write the page: what Chromium shows, the thumbnail, the difference, and the numbers."""
    rows = []
    for number in sorted(range(len(seen)), key=lambda at: _rank(seen[at])):
        each = seen[number]
        words = [each.path, each.verdict, each.explanation, each.message]
        if each.difference is not None:
            words.insert(2, f"ΔE00 {each.difference}, alpha {each.alpha}")
        names = [
            f"{number}.png" if each.verdict not in ("only here", "nowhere") else None,
            f"{number}.webp" if each.verdict not in ("only in Chromium", "nowhere") else None,
            f"{number}-difference.png" if each.difference is not None else None,
        ]
        text = "\n".join(word for word in words if word)
        rows.append(row(sheet, names, text, marked=each.is_outlier))
    write_sheet(sheet, "Chromium, thumbnail, difference", "outliers", rows)


def _rank(seen: Seen) -> tuple[bool, bool, float]:
    """Unexplained outliers first, then explained ones; among them, the largest difference first."""
    known = bool(seen.explanation)
    return not seen.is_outlier, known, -(100 if seen.difference is None else seen.difference)


if __name__ == "__main__":
    run_app(app)
