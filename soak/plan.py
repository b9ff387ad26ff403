"""What is uploaded, overwritten and deleted: drawn from a seed, so that a run can be repeated."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Final

from PIL import Image

from image_pipeline.local.samples import hot_air_balloon, landscape

BROKEN: Final = 0.05
OVERWRITTEN: Final = 0.05
DELETED: Final = 0.02
"""Shares of the uploads: assumptions, far above what a bucket sees, so that each case is tested."""

FOLDER: Final = 100
"""Uploads per folder: few enough that one request lists all thumbnails of a folder."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A key and the bodies that are uploaded to it in turn; None deletes the object.

    `sound` is true if thumbnails can be made of the last body.
    """

    key: str
    bodies: tuple[bytes | None, ...]
    sound: bool

    @property
    def last(self) -> bytes | None:
        """The body in the bucket at the end, or None."""
        return self.bodies[-1]


def drawn(images: int, seed: int, prefix: str) -> Iterator[list[Upload]]:
    """Draw `images` uploads under `prefix`, folder by folder."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    for first in range(0, images, FOLDER):
        numbers = range(first, min(first + FOLDER, images))
        yield [_upload(f"{prefix}soak/{first // FOLDER:04}/", n, rng) for n in numbers]


def _upload(folder: str, number: int, rng: random.Random) -> Upload:
    chance = rng.random()
    if chance < BROKEN:
        return Upload(f"{folder}{number:06}.jpg", (_marked(_broken(rng), number),), sound=False)
    name, picture = rng.choice(_pictures())
    key = f"{folder}{number:06}{name}"
    bodies: list[bytes | None] = [_marked(picture, number)]
    if chance < BROKEN + OVERWRITTEN:
        # Often the first body again: an etag cannot distinguish the events of equal bytes.
        others = [each for kind, each in _pictures() if kind == name]
        bodies += [_marked(rng.choice(others), number) for _ in range(rng.randint(1, 2))]
    elif chance < BROKEN + OVERWRITTEN + DELETED:
        bodies.append(None)
    return Upload(key, tuple(bodies), sound=bodies[-1] is not None)


@cache
def _pictures() -> list[tuple[str, bytes]]:
    """(extension, file) pairs: photos of several sizes, one with alpha, one animated."""
    found = []
    for step in range(6):
        picture = landscape((640 + 160 * step, 480 + 120 * step), night=step / 5)
        for name, kind in ((".jpg", "JPEG"), (".webp", "WEBP"), (".png", "PNG")):
            if kind == "JPEG" or step < 3:  # noqa: PLR2004 - most uploads are JPEGs
                found.append((name, _file(picture, kind)))
    found.append((".png", _file(hot_air_balloon((300, 400)), "PNG")))
    frames = [landscape((160, 100), night=step / 3).quantize(64) for step in range(4)]
    found.append((".gif", _file(frames[0], "GIF", save_all=True, append_images=frames[1:])))
    return found


def _file(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _broken(rng: random.Random) -> bytes:
    """A text, half a photo, the first bytes of a photo, or a GIF signature."""
    photo = _pictures()[0][1]
    return rng.choice((b"no picture ", photo[: len(photo) // 2], photo[:40], b"GIF89a"))


def _marked(body: bytes, number: int) -> bytes:
    """The same picture with a different etag: decoders ignore bytes after the end of an image."""
    return body + b"#%d" % number
