"""The images for the comparison of engines, and the reference thumbnails for their quality."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps

from bench.photos import check_folder, jpegs, with_noise
from bench.record import WORK
from image_pipeline.local.samples import landscape

type Size = tuple[int, int]
"""(width, height) in pixels."""

FILES: Final = WORK / "engine"

NOISE: Final = 3
"""Noise in levels that is added to scaled photos: an assumption, about what remains of a sensor's
noise. An enlarged photo without noise would decode faster than a photo of that size."""

DRAWN_NOISE: Final = 20
"""Noise in levels of a drawn landscape, for the bytes per pixel of a detailed photo."""

CAMERA_SETTINGS: Final = {"quality": 90}
"""JPEG settings of cameras: an assumption. Chroma has half the resolution (4:2:0), by default."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of image of `size` pixels; `save` writes a picture as a file of this kind."""

    name: str
    size: Size
    save: Callable[[Image.Image, Path], None]
    extension: str
    photos: int = 1
    """Number of photos."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of image and its files; `source` describes the photos that they are made from."""

    name: str
    files: tuple[Path, ...]
    source: str


def _saver(image_format: str, **options: Any) -> Callable[[Image.Image, Path], None]:
    return lambda picture, path: picture.save(path, image_format, **options)


def _cut_out(picture: Image.Image, path: Path) -> None:
    """Save a PNG like a cut-out: a large opaque part, a large transparent part, soft edges."""
    mask = Image.radial_gradient("L").resize(picture.size, Image.Resampling.BICUBIC)
    picture.putalpha(mask.point([min(255, max(0, (150 - value) * 8)) for value in range(256)]))
    picture.save(path, "PNG")


def _heic(picture: Image.Image, path: Path) -> None:
    import pillow_heif  # noqa: PLC0415 - a development dependency

    pillow_heif.from_pillow(picture).save(path, quality=60)


OURS: Final = "this pipeline"
PER_SIZE: Final = "Pillow, decode per size"
SHARP_PER_SIZE: Final = "sharp, per size"
SHARP_CHAIN: Final = "sharp, chained"
PYVIPS: Final = "pyvips, chained"
FLOOR: Final = "floor"
"""Names of engines."""

AS_PUBLISHED: Final = "JPEG as published"
PHONE: Final = "JPEG, 12 MP (phone)"
CAMERA: Final = "JPEG, 12 MP (camera)"
PNG_ALPHA: Final = "PNG with alpha, 12 MP"
PNG_PLAIN: Final = "PNG, 12 MP"
WEBP: Final = "WebP, 4 MP"
JPEG_100: Final = "JPEG, 100 MP"
PNG_50: Final = "PNG, 50 MP"
"""Names of kinds of image. The last two are measured for their memory alone."""

MOST_PHOTOS: Final = 8
"""Photos that are measured as they are: evenly chosen by size, from the smallest to the largest."""

MP_4: Final = (2448, 1632)
MP_6: Final = (3000, 2000)
PHONE_12: Final = (4032, 3024)
CAMERA_12: Final = (4272, 2848)
"""Two shapes of 12 megapixels, because the score of an engine depends on the width: sharp scored
73.1 at 4,240 pixels and 69.6 at 4,272."""
MP_24: Final = (6000, 4000)

KINDS: Final = (
    Kind("JPEG, 6 MP", MP_6, _saver("JPEG", **CAMERA_SETTINGS), "jpg"),
    Kind(PHONE, PHONE_12, _saver("JPEG", **CAMERA_SETTINGS), "jpg", 3),
    Kind(CAMERA, CAMERA_12, _saver("JPEG", **CAMERA_SETTINGS), "jpg", 3),
    Kind("JPEG, 24 MP", MP_24, _saver("JPEG", **CAMERA_SETTINGS), "jpg"),
    Kind(
        "JPEG progressive, 12 MP",
        CAMERA_12,
        _saver("JPEG", progressive=True, **CAMERA_SETTINGS),
        "jpg",
    ),
    Kind(PNG_ALPHA, CAMERA_12, _cut_out, "png"),
    Kind(PNG_PLAIN, CAMERA_12, _saver("PNG"), "png"),
    Kind(WEBP, MP_4, _saver("WEBP", quality=85, method=2), "webp"),
    Kind("TIFF (LZW), 6 MP", MP_6, _saver("TIFF", compression="tiff_lzw"), "tif"),
    Kind("AVIF, 6 MP", MP_6, _saver("AVIF", quality=75, speed=8), "avif"),
    Kind("HEIC, 6 MP", MP_6, _heic, "heic"),
)


TILES: Final = {
    JPEG_100: (3, _saver("JPEG", **CAMERA_SETTINGS), "jpg"),
    PNG_50: (2, _saver("PNG", compress_level=1), "png"),
}
"""Kinds of image that are tiled: times in each direction, how they are saved, and their ending. A
lower effort of the PNG encoder changes the bytes, not the memory of a decoder."""

TILE: Final = {JPEG_100: (4_080, 2_720), PNG_50: (4_320, 2_880)}
"""Size of a tile in pixels."""


def cases(report: Callable[[str], None]) -> Iterator[Case]:
    """Yield every kind of image; files that do not exist yet are made and kept.

    `report` is called with a description of each file that is made.
    """
    check_folder()
    photos = jpegs()
    if photos:
        chosen = evenly(photos, MOST_PHOTOS)
        yield Case(AS_PUBLISHED, tuple(chosen), f"as they are, {sizes_of(chosen)}")
    folder = _folder(photos)
    for kind in KINDS:
        # The first one has much detail; it is the only one of most kinds.
        chosen = [photos[len(photos) * (5 - 2 * each) // 6] for each in range(3)] if photos else []
        names = [path.stem for path in chosen[: kind.photos]] or ["drawn"]
        files = []
        for at, name in enumerate(names):
            slug = "".join(each if each.isalnum() else "-" for each in f"{kind.name} {name}")
            path = folder / f"{slug}.{kind.extension}"
            if not path.exists():
                report(f"{kind.name}: {name}")
                part = path.with_name(f"part-{path.name}")
                kind.save(_picture(chosen[at] if chosen else None, kind.size), part)
                part.rename(path)
            files.append(path)
        made = "scaled, with noise" if photos else "a drawn landscape with noise"
        yield Case(kind.name, tuple(files), f"{', '.join(names)}: {made}")


def large(report: Callable[[str], None]) -> Iterator[Case]:
    """Yield the images whose memory is measured; they are made and kept, see `cases`."""
    photos = jpegs()
    for name, (times, save, ending) in TILES.items():
        path = (
            _folder(photos)
            / f"{''.join(each if each.isalnum() else '-' for each in name)}.{ending}"
        )
        if not path.exists():
            report(name)
            width, height = TILE[name]
            tile = _picture(photos[-1] if photos else None, TILE[name])
            picture = Image.new("RGB", (times * width, times * height))
            for x, y in product(range(times), repeat=2):
                picture.paste(tile, (x * width, y * height))
            part = path.with_name(f"part-{path.name}")
            save(picture, part)
            part.rename(path)
        yield Case(name, (path,), "tiles of one photo" if photos else "tiles of a landscape")


def evenly(paths: Sequence[Path], most: int) -> list[Path]:
    """Choose up to `most` of them, evenly, the first and the last included."""
    if len(paths) <= most:
        return list(paths)
    return [paths[round(number * (len(paths) - 1) / (most - 1))] for number in range(most)]


def sizes_of(paths: Sequence[Path]) -> str:
    """Names of photos, with the range of their megapixels and bytes."""
    pixels = []
    for path in paths:
        with _opened(path) as image:
            pixels.append(image.width * image.height / 1e6)
    megabytes = [path.stat().st_size / 1e6 for path in paths]
    ranges = f"{min(pixels):.0f}–{max(pixels):.0f} MP, {min(megabytes):.1f}–{max(megabytes):.1f} MB"
    return f"{ranges}: {', '.join(path.stem for path in paths)}"


def _folder(photos: Sequence[Path]) -> Path:
    """Where images are kept that are made from these photos: another folder for other photos."""
    name = (
        hashlib.sha256("\n".join(map(str, photos)).encode()).hexdigest()[:8] if photos else "drawn"
    )
    folder = FILES / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _picture(photo: Path | None, size: Size) -> Image.Image:
    if photo is None:
        return with_noise(landscape(size), DRAWN_NOISE)
    with Image.open(photo) as image:
        fitted = ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS)
    return with_noise(fitted, NOISE)


def reference(path: Path, width: int) -> Image.Image:
    """The ideal thumbnail, RGB or RGBA: Lanczos in floating point, from all pixels, in one step.

    It is scaled in sRGB, not in linear light, as all engines do, with premultiplied alpha.
    """
    with _opened(path) as image:
        alpha = image.has_transparency_data
        picture = image.convert("RGBA" if alpha else "RGB")
    size = (width, round(picture.height * width / picture.width))
    bands = [np.asarray(each, np.float32) for each in picture.split()]
    if alpha:
        bands = [each * (bands[3] / 255) for each in bands[:3]] + [bands[3]]
    scaled = [
        np.asarray(Image.fromarray(each).resize(size, Image.Resampling.LANCZOS)) for each in bands
    ]
    if alpha:
        cover = np.clip(scaled[3], 1e-3, 255) / 255
        scaled = [each / cover for each in scaled[:3]] + [scaled[3]]
    return Image.fromarray(np.stack(scaled, -1).round().clip(0, 255).astype(np.uint8))


def _opened(path: Path) -> Image.Image:
    import pillow_heif  # noqa: PLC0415 - a development dependency

    pillow_heif.register_heif_opener()
    return Image.open(path)
