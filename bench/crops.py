"""Draws a contact sheet of crops: this pipeline's attention, libvips' and smartcrop's.

Whether a crop keeps the subject is for a person to say: docs/adr/0028-sizes-and-crops.md has the
count for the photos and portraits of ../shared/corpus.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import pillow_heif
import typer
from PIL import Image, ImageDraw, ImageOps

from bench.engine import run_in_bench
from bench.formats import FOLDERS
from bench.record import WORK
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.output import err, out
from image_pipeline.errors import CommandError
from thumbnailer.imaging import make_thumbnails, parse_sizes, thumbnail_spec

CASES: Final = FOLDERS[0].parent / "cases"
PORTRAITS: Final = (
    "AOMediaCodec+libavif/tests/data/dog_exif_extended_xmp_icc.jpg",
    "AOMediaCodec+libavif/tests/data/weld_16bit.png",
    "libvips+libvips/test/test-suite/images/sample.jpg",
    "link-u+avif-sample-images/kimono.jpg",
    "lovell+sharp/test/fixtures/2569067123_aca715a2ee_o.jpg",
    "lovell+sharp/test/fixtures/Channel_digital_image_CMYK_color_no_profile.jpg",
    "sindresorhus+file-type/fixture/fixture-heic.heic",
)
"""Files of CASES that show people or animals."""

WIDTH: Final = 220
ROW: Final = 176
COLUMNS: Final = ("the whole", "this pipeline", "libvips", "smartcrop", "the middle")
PER_ROW: Final = 2

app = new_app()


def upright(photo: Path) -> Image.Image:
    """Read a photo."""
    pillow_heif.register_heif_opener()
    with Image.open(photo) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def ours(photo: Path, size: str) -> Image.Image:
    """Make the crop of this pipeline."""
    [wanted] = parse_sizes(size)
    spec = thumbnail_spec(wanted, "jpeg", 90, animated=False)
    [made] = make_thumbnails(photo.read_bytes(), [spec], 4096).thumbnails
    path = WORK / "crop.jpeg"
    path.write_bytes(made.data)
    with Image.open(path) as picture:
        return picture.convert("RGB")


@app.command()
def crops(
    photos: Annotated[
        list[Path] | None, typer.Argument(help="Photos. The default is those of the corpus.")
    ] = None,
    shape: Annotated[str, typer.Option(metavar="WxH", help="Shape of the crops.")] = "256x256",
) -> None:
    """Draw a contact sheet of the crops of this pipeline, libvips and smartcrop.

    It is written to .local/bench/crops.png.

    **Example**

    `python -m bench.crops portraits/*.jpg --shape 400x200`
    """
    found = photos or [
        *sorted(path for folder in FOLDERS for path in folder.glob("*.*")),
        *(CASES / name for name in PORTRAITS if (CASES / name).exists()),
    ]
    if not found:
        raise CommandError(f"There are no photos in {FOLDERS[0]}: name some.")
    [size] = parse_sizes(shape)
    WORK.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, err.status("Cropping"):
        asked = []
        for at, path in enumerate(found):
            upright(path).save(f"{folder}/{at}.png", compress_level=1)  # not all of them read HEIC
            names = [f"{folder}/{at}{end}.png" for end in ("", "-v", "-s")]
            asked.append((*names, (size.width, size.height)))
        run_in_bench("crops_worker.py", asked, "Cropping failed. Run make bench-crops.")
        rows = []
        for path, (_, by_vips, by_smartcrop, _) in zip(found, asked, strict=True):
            others = [Image.open(name).convert("RGB") for name in (by_vips, by_smartcrop)]
            cropped = ours(path, f"{shape}:cover:attention")
            rows.append((path.stem, [upright(path), cropped, *others, ours(path, shape)]))
    sheet = drawn(rows)
    sheet.save(WORK / "crops.png")
    out.print(f"{len(rows)} photos: {WORK / 'crops.png'}")


def drawn(rows: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    """Draw the pictures of each photo beside each other, PER_ROW photos in a row."""
    across = WIDTH + len(COLUMNS[1:]) * ROW + 16
    sheet = Image.new("RGB", (PER_ROW * across, -(-len(rows) // PER_ROW) * ROW), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (name, pictures) in enumerate(rows):
        left, upper = number % PER_ROW * across, number // PER_ROW * ROW
        for at, picture in enumerate(pictures):
            picture.thumbnail((WIDTH - 8 if at == 0 else ROW - 8, ROW - 20))
            sheet.paste(picture, (left + (WIDTH + (at - 1) * ROW if at else 0), upper + 14))
        for at, title in enumerate((f"{number} {name}", *COLUMNS[1:])):
            x = left + (WIDTH + (at - 1) * ROW if at else 0)
            pen.text((x, upper), title, fill="black")
    return sheet


if __name__ == "__main__":
    run_app(app)
