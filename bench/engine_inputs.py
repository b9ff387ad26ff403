"""The images that engines are compared with, and the thumbnails that each should come near."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps

from bench.experiment import PHOTOS, WORK, with_grain
from image_pipeline.local.samples import landscape

type Size = tuple[int, int]

FILES: Final = WORK / "engine"

GRAIN: Final = 3
"""Levels: what is left of a sensor's noise in a photo. An enlarged photo has none, and would be
decoded faster than one of that size."""

DRAWN_GRAIN: Final = 20
"""Levels, for a drawn landscape: as many bytes a pixel as a photo of much detail has."""

CAMERA: Final = {"quality": 90}
"""What cameras save JPEGs with, about; colour at half the resolution (4:2:0)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of image: `save` writes one of `size` (width, height) pixels."""

    name: str
    size: Size
    save: Callable[[Image.Image, Path], None]
    extension: str
    photos: int = 1
    """How many of them."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of image, and its files."""

    name: str
    files: tuple[Path, ...]
    source: str


def _saver(image_format: str, **options: Any) -> Callable[[Image.Image, Path], None]:
    return lambda picture, path: picture.save(path, image_format, **options)


def _cut_out(picture: Image.Image, path: Path) -> None:
    """A PNG with what a cut-out has: much that is opaque, much that is transparent, soft edges."""
    mask = Image.radial_gradient("L").resize(picture.size, Image.Resampling.BICUBIC)
    picture.putalpha(mask.point([min(255, max(0, (150 - value) * 8)) for value in range(256)]))
    picture.save(path, "PNG")


def _heic(picture: Image.Image, path: Path) -> None:
    import pillow_heif  # noqa: PLC0415 - a tool of development

    pillow_heif.from_pillow(picture).save(path, quality=60)


MP_4: Final = (2448, 1632)
MP_6: Final = (3000, 2000)
PHONE_12: Final = (4032, 3024)
CAMERA_12: Final = (4272, 2848)
"""Width and shape of 12 megapixels differ from camera to camera, and how far an engine's picture is
off the reference depends on the width: sharp's scored 73.1 at 4,240 pixels and 69.6 at 4,272."""
MP_24: Final = (6000, 4000)

KINDS: Final = (
    Kind("JPEG, 6 MP", MP_6, _saver("JPEG", **CAMERA), "jpg"),
    Kind("JPEG, 12 MP (phone)", PHONE_12, _saver("JPEG", **CAMERA), "jpg", 3),
    Kind("JPEG, 12 MP (camera)", CAMERA_12, _saver("JPEG", **CAMERA), "jpg", 3),
    Kind("JPEG, 24 MP", MP_24, _saver("JPEG", **CAMERA), "jpg"),
    Kind("JPEG progressive, 12 MP", CAMERA_12, _saver("JPEG", progressive=True, **CAMERA), "jpg"),
    Kind("PNG with alpha, 12 MP", CAMERA_12, _cut_out, "png"),
    Kind("PNG, 12 MP", CAMERA_12, _saver("PNG"), "png"),
    Kind("WebP, 4 MP", MP_4, _saver("WEBP", quality=85, method=2), "webp"),
    Kind("TIFF (LZW), 6 MP", MP_6, _saver("TIFF", compression="tiff_lzw"), "tif"),
    Kind("AVIF, 6 MP", MP_6, _saver("AVIF", quality=75, speed=8), "avif"),
    Kind("HEIC, 6 MP", MP_6, _heic, "heic"),
)

AS_PUBLISHED: Final = "JPEG as published, 8–10 MP"


def cases(report: Callable[[str], None]) -> Iterator[Case]:
    """Every kind of image, drawn where it is not there yet; kept. `report` is told what is made."""
    photos = sorted(PHOTOS.glob("*.jpg"), key=lambda path: path.stat().st_size)
    if photos:
        source = f"as they are: {', '.join(path.stem for path in photos[::3])}"
        yield Case(AS_PUBLISHED, tuple(photos[::3]), source)
    folder = FILES / ("photos" if photos else "drawn")
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        # A photo of much detail first, where there is to be but one.
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
        made = "scaled, with grain" if photos else "a drawn landscape with grain"
        yield Case(kind.name, tuple(files), f"{', '.join(names)}: {made}")


def _picture(photo: Path | None, size: Size) -> Image.Image:
    if photo is None:
        return with_grain(landscape(size), DRAWN_GRAIN)
    with Image.open(photo) as image:
        fitted = ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS)
    return with_grain(fitted, GRAIN)


def reference(path: Path, width: int) -> Image.Image:
    """The thumbnail that engines aim at, from all pixels: Lanczos in floating point, in one step.

    In sRGB as it is, not in linear light: so do all of them. Alpha is premultiplied. RGB or RGBA.
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
    import pillow_heif  # noqa: PLC0415 - a tool of development

    pillow_heif.register_heif_opener()
    return Image.open(path)
