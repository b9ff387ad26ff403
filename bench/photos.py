"""The photos that benchmarks use: from a folder, or drawn."""

import os
import random
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image, ImageChops

from bench.record import REPOSITORY
from image_pipeline.errors import CommandError
from image_pipeline.local.samples import landscape

CORPUS: Final = REPOSITORY.parent / "shared" / "corpus"

PHOTOS: Final = Path(os.environ.get("PHOTOS") or CORPUS / "photos").expanduser().absolute()
"""Folder of photos (JPEG): the variable PHOTOS of `make`. Without it, a corpus beside the
repository, which is optional."""

KODAK: Final = CORPUS / "kodak"
"""24 small pictures without loss, for comparisons of encoders (https://r0k.us/graphics/kodak/)."""

JPEG_ENDINGS: Final = (".jpg", ".jpeg")

PHOTO_BYTES: Final = 1_000_000
"""Size of the photo in the targets of docs/performance.md: about 1 MB."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A JPEG to upload; `width` and `height` are in pixels."""

    name: str
    data: bytes
    width: int
    height: int

    @property
    def key(self) -> str:
        """Its key in the input bucket."""
        return f"uploads/{self.name}"


def jpegs(folder: Path = PHOTOS) -> list[Path]:
    """The JPEGs in a folder, the smallest file first; none where there is no folder."""
    found = [path for path in folder.glob("*") if path.suffix.lower() in JPEG_ENDINGS]
    return sorted(found, key=lambda path: (path.stat().st_size, path.name))


def check_folder() -> None:
    """Raise CommandError if PHOTOS was given and has no photos: drawn ones would mislead."""
    if os.environ.get("PHOTOS") and not jpegs():
        raise CommandError(f"There are no JPEGs in {PHOTOS}. Run make with PHOTOS=FOLDER.")


def for_encoders() -> list[Path]:
    """The photos, and the Kodak pictures if they are there: formats are compared on them.

    Raises CommandError if there are none.
    """
    found = sorted([*jpegs(), *KODAK.glob("*.png")])
    if not found:
        raise CommandError(f"There are no photos in {PHOTOS}. Run make with PHOTOS=FOLDER.")
    return found


def photo_of(size: int) -> Photo:
    """A photo of about `size` bytes: one of PHOTOS within a tenth of the size, or a drawn one."""
    photos = sorted(jpegs())
    if photos:
        path = min(photos, key=lambda photo: abs(photo.stat().st_size - size))
        if abs(path.stat().st_size - size) < size / 10:
            with Image.open(path) as image:
                return Photo(path.name, path.read_bytes(), *image.size)
    return drawn_photo(size)


def drawn_photo(size: int = PHOTO_BYTES) -> Photo:
    """A landscape with noise, of at most about `size` bytes and 6 megapixels per megabyte.

    It is the same each time.
    """
    scale = (size / PHOTO_BYTES) ** 0.5
    picture = with_noise(landscape((round(3000 * scale), round(2000 * scale))), 10)
    for quality in range(95, 40, -1):
        buffer = BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= size:
            break
    return Photo(f"drawn-{size}.jpg", buffer.getvalue(), *picture.size)


def with_noise(picture: Image.Image, amplitude: int) -> Image.Image:
    """An RGB picture plus noise of up to `amplitude` levels per sample, the same each time."""
    rng = random.Random(7)  # noqa: S311 - reproducible, not secret
    noise = Image.frombytes("RGB", picture.size, rng.randbytes(picture.width * picture.height * 3))
    scaled = noise.point([128 + round((value - 128) * amplitude / 128) for value in range(256)] * 3)
    return ImageChops.add(picture, scaled, offset=-128)
