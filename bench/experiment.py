"""What the benchmarks share: their photos, their statistics, and what a run was made on."""

import os
import platform
import random
import statistics
import subprocess
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageChops

from image_pipeline.local.samples import landscape

REPOSITORY: Final = Path(__file__).resolve().parents[1]
WORK: Final = REPOSITORY / ".local" / "bench"
RESULTS: Final = REPOSITORY / "bench" / "results"
PHOTOS: Final = REPOSITORY.parent / "shared" / "corpus" / "photos"
PHOTO_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Photo:
    """The JPEG that every function is given."""

    name: str
    data: bytes
    width: int
    height: int

    @property
    def key(self) -> str:
        """Its key in the input bucket."""
        return f"uploads/{self.name}"


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles."""

    median: float
    q1: float
    q3: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """That of at least two values."""
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
        return cls(*(round(value, 1) for value in (median, q1, q3)))

    def __str__(self) -> str:
        return f"{self.median:,.0f}\n[dim]{self.q1:,.0f}–{self.q3:,.0f}[/]"


def photo_of(size: int) -> Photo:
    """A photo of about `size` bytes: the corpus's next to this repository, else a drawn one.

    One of the corpus must be within a tenth; one is drawn with 6 megapixels for each megabyte.
    """
    photos = sorted(PHOTOS.glob("*.jpg"))
    if photos:
        path = min(photos, key=lambda photo: abs(photo.stat().st_size - size))
        if abs(path.stat().st_size - size) < size / 10:
            with Image.open(path) as image:
                return Photo(path.name, path.read_bytes(), *image.size)
    return drawn_photo(size)


def drawn_photo(size: int = PHOTO_BYTES) -> Photo:
    """A landscape with the grain of a sensor, of about `size` bytes; the same each time."""
    scale = (size / PHOTO_BYTES) ** 0.5
    picture = with_grain(landscape((round(3000 * scale), round(2000 * scale))), 10)
    for quality in range(95, 40, -1):
        buffer = BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= size:
            break
    return Photo(f"drawn-{size}.jpg", buffer.getvalue(), *picture.size)


def with_grain(picture: Image.Image, most: int) -> Image.Image:
    """The picture (RGB) with noise of up to `most` levels a sample, the same each time."""
    chance = random.Random(7)  # noqa: S311 - grain, not secrets
    grain = Image.frombytes(
        "RGB", picture.size, chance.randbytes(picture.width * picture.height * 3)
    )
    faint = grain.point([128 + round((value - 128) * most / 128) for value in range(256)] * 3)
    return ImageChops.add(picture, faint, offset=-128)


def machine() -> dict[str, Any]:
    """What the run was on."""
    try:
        about = Path("/proc/cpuinfo").read_text()
        cpu = next(line for line in about.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    return {
        "cpu": cpu.partition(": ")[2] or cpu,
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
    }


def commit() -> str:
    """The last one that changed the function, `-dirty` if it has been changed since."""

    def git(*command: str) -> str:
        done = subprocess.run(  # noqa: S603 - no input
            ["git", *command, "--", "lambda"],  # noqa: S607 - whichever git there is
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    return git("log", "-1", "--format=%h") + ("-dirty" if git("status", "--porcelain") else "")
