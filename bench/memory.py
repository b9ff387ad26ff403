"""Measures the memory that each kind of image needs, beside the estimate from its header."""

import json
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from PIL import Image
from rich.table import Table

from bench.hostile_files import KINDS
from bench.memory_files import WRITTEN
from bench.record import RESULTS, WORK
from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import out, print_json, progress_bar
from image_pipeline.local.samples import landscape
from thumbnailer.imaging.limits import BASE_MB

FILES: Final = WORK
RESULT: Final = RESULTS / "memory.json"

WARM_UP: Final = "baseline.jpg"
"""Kind of the image that a process decodes before it is measured."""

PROGRAM: Final = """
import json, re, sys, time
from pathlib import Path
from thumbnailer.imaging import identify, make_thumbnails, parse_sizes
from thumbnailer.settings import Settings
from thumbnailer.errors import ImageTooLarge

def status(field):
    return int(Path("/proc/self/status").read_text().partition(field)[2].split()[0]) / 1024

settings = Settings("", "", sizes=parse_sizes(sys.argv[2]), formats=tuple(sys.argv[5:]))
path, specs = sys.argv[1], settings.specs
data = Path(path).read_bytes()
warm_up = Settings("", "", formats=settings.formats).specs
for _ in range(3):  # so that the allocator keeps what a warm function keeps
    make_thumbnails(Path(sys.argv[3]).read_bytes(), warm_up, 512)
identify(b"of no format")  # imports all of them
base = status("VmRSS:") - len(data) / 2**20
estimate, memory_mb = None, int(sys.argv[4]) + 1
while True:  # some kinds are refused when they are opened, and again when their header is known
    try:
        make_thumbnails(data, specs, memory_mb)
        break
    except ImageTooLarge as error:
        estimate = int(re.search(r"(\\d+) MB", str(error))[1])
        memory_mb = estimate + 1
Path("/proc/self/clear_refs").write_text("5")
began = time.process_time()
made = make_thumbnails(data, specs, 10_240)
print(json.dumps({
    "need_mb": status("VmHWM:") - base + int(sys.argv[4]), "foreseen_mb": estimate,
    "cpu_ms": (time.process_time() - began) * 1000, "size": made.size, "notes": made.notes,
}))
"""
"""Measures one image in a separate process. Arguments: the image, its widths, an image for the
warm-up, the MB that the function itself needs, and the output formats. The need is the peak of
memory, less the memory of this process after the warm-up, plus those MB. The estimate is read from
the error of a call with too little memory."""

app = new_app()


def files(
    directory: Path, size: tuple[int, int], kinds: Collection[str] | None = None
) -> Iterator[Path]:
    """Yield a file of every format and mode, or of these kinds, of `size` (width, height) pixels.

    Files that do not exist yet are drawn and kept.
    """
    directory.mkdir(parents=True, exist_ok=True)
    import pillow_heif  # noqa: PLC0415 - a development dependency

    pillow_heif.register_heif_opener()
    noise = Image.effect_noise((512, 512), 40)
    picture = landscape((1500, 1000)).resize(size)
    layer = Image.new("L", size)
    for x in range(0, size[0], 512):
        for y in range(0, size[1], 512):
            layer.paste(noise, (x, y))
    picture = Image.blend(picture, Image.merge("RGB", [layer] * 3), 0.15)
    alpha = picture.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(size))
    palette = picture.quantize(256)
    grey = picture.convert("L")
    cases: list[tuple[str, Image.Image, str, dict[str, Any]]] = [
        ("baseline.jpg", picture, "JPEG", {}),
        ("progressive.jpg", picture, "JPEG", {"progressive": True, "subsampling": 0}),
        ("cmyk.jpg", picture.convert("CMYK"), "JPEG", {}),
        ("bits.png", picture.convert("1"), "PNG", {"compress_level": 1}),
        ("grey.png", grey, "PNG", {"compress_level": 1}),
        ("grey16.png", grey.convert("I;16"), "PNG", {"compress_level": 1}),
        ("palette.png", palette, "PNG", {"transparency": 3, "compress_level": 1}),
        ("rgb.png", picture, "PNG", {"compress_level": 1}),
        ("rgba.png", alpha, "PNG", {"compress_level": 1}),
        ("la.png", alpha.convert("LA"), "PNG", {"compress_level": 1}),
        ("lossy.webp", picture, "WEBP", {"method": 0}),
        ("lossless.webp", picture, "WEBP", {"method": 0, "lossless": True, "quality": 0}),
        ("rgba.webp", alpha, "WEBP", {"method": 0}),
        ("palette.gif", palette, "GIF", {}),
        ("raw.tif", picture, "TIFF", {}),
        ("lzw.tif", picture, "TIFF", {"compression": "tiff_lzw"}),
        ("strip.tif", picture, "TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: size[1]}}),
        ("float.tif", grey.convert("F"), "TIFF", {"compression": "tiff_lzw"}),
        ("rgb.bmp", picture, "BMP", {}),
        ("rgb.avif", picture, "AVIF", {"speed": 10}),
        ("rgba.avif", alpha, "AVIF", {"speed": 10}),
        ("rgb.heic", picture, "HEIF", {}),
        ("rgba.heic", alpha, "HEIF", {}),
        ("rgb.jp2", picture, "JPEG2000", {"quality_mode": "rates", "quality_layers": [20]}),
    ]
    for name, image, kind, options in cases:
        if kinds is not None and name not in kinds:
            continue
        path = directory / f"{size[0]}x{size[1]}-{name}"
        if not path.exists():
            image.save(path.with_suffix(".part"), kind, **options)
            path.with_suffix(".part").rename(path)
        yield path
    for name, make in (KINDS | WRITTEN).items():
        if kinds is not None and name not in kinds:
            continue
        path = directory / f"{size[0]}x{size[1]}-{name}"
        if not path.exists():
            path.write_bytes(make(*size))
        yield path


def measure(
    path: Path, widths: str, warm_up: Path, formats: Sequence[str] = ("webp",)
) -> dict[str, Any]:
    """Measure one file at the given sizes: needed and estimated memory in MB, CPU time in ms."""
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM, str(path), widths, str(warm_up), str(BASE_MB), *formats],
        check=True,
        capture_output=True,
    )
    measured: dict[str, Any] = json.loads(ran.stdout)
    row = {"file": kind_of(path), "widths": widths}
    return row | ({} if tuple(formats) == ("webp",) else {"formats": formats}) | measured


def kind_of(path: Path) -> str:
    """Return the part of a file's name that says its kind, such as `rgb.png`."""
    return path.name.partition("-")[2]


@app.command()
def memory(
    megapixels: Annotated[int, typer.Option(min=1, help="Megapixels of each image.")] = 24,
    widths: Annotated[
        list[str] | None, typer.Option(help="Sizes in pixels, such as 128,512 or 256x256.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="Measure with these output formats instead of WebP."),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", help="Measure this kind only, such as rgb.png. Others keep theirs."),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Measure the memory that each kind of image needs, beside the estimate from its header.

    The results are also written to bench/results/memory.json. The first run draws the images and
    keeps them in .local/bench.

    **Example**

    `python -m bench.memory --megapixels 6 --widths 128,512 --widths 128,4000`

    `python -m bench.memory --kind drawing.svg --kind bitmap.ico`

    `python -m bench.memory --kind rgb.png --widths 4000,1000x1000 --format avif`
    """
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    rows = []
    with progress_bar() as progress:
        task = progress.add_task("Drawing", total=None)
        size = (round(height * 1.5), height)
        [warm_up] = files(FILES, size, [WARM_UP])
        chosen = list(files(FILES, size, kinds))
        lists = widths or ["128,512", "128,4000"]
        progress.update(task, description="Measuring", total=len(chosen) * len(lists))
        for each in lists:
            for path in chosen:
                rows.append(measure(path, each, warm_up, formats or ["webp"]))
                progress.advance(task)
    earlier = json.loads(RESULT.read_text()) if kinds or formats else []
    measured = {(row["file"], str(row.get("formats"))) for row in rows}
    kept = [row for row in earlier if (row["file"], str(row.get("formats"))) not in measured]
    RESULT.write_text(json.dumps(kept + rows, indent=2) + "\n")
    if as_json:
        print_json(rows)
        return
    table = Table("file", "widths", "needed, MB", "estimated, MB", "ratio", "CPU ms/MP")
    for row in rows:
        estimate = row["foreseen_mb"] or 0
        table.add_row(
            row["file"],
            row["widths"],
            f"{row['need_mb']:.0f}",
            f"{estimate}",
            f"{estimate / row['need_mb']:.2f}",
            f"{row['cpu_ms'] / (row['size'][0] * row['size'][1] / 1e6):.0f}",
        )
    out.print(table)


if __name__ == "__main__":
    run_app(app)
