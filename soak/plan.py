"""What is uploaded: drawn from a seed, so that a run can be had again."""

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
"""Shares of the uploads."""

FOLDER: Final = 100
"""Uploads in a folder: a request lists the thumbnails of one whole."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One key and what becomes of it: the bodies that it gets in turn; None deletes it.

    `sound` says whether thumbnails can be made of the last body.
    """

    key: str
    bodies: tuple[bytes | None, ...]
    sound: bool

    @property
    def last(self) -> bytes | None:
        """What the bucket holds in the end."""
        return self.bodies[-1]


def drawn(images: int, seed: int, prefix: str) -> Iterator[list[Upload]]:
    """`images` uploads under `prefix`, folder by folder."""
    rng = random.Random(seed)  # noqa: S311 - to be replayed
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
        # Often the first again: events of the same bytes, which an etag cannot tell apart.
        others = [each for kind, each in _pictures() if kind == name]
        bodies += [_marked(rng.choice(others), number) for _ in range(rng.randint(1, 2))]
    elif chance < BROKEN + OVERWRITTEN + DELETED:
        bodies.append(None)
    return Upload(key, tuple(bodies), sound=bodies[-1] is not None)


@cache
def _pictures() -> list[tuple[str, bytes]]:
    """Endings and files: photos of several sizes, a few with alpha, a few animated."""
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
    """A text, half a photo, one whose middle is noise, or a head alone."""
    photo = _pictures()[0][1]
    return rng.choice((b"no picture ", photo[: len(photo) // 2], photo[:40], b"GIF89a"))


def _marked(body: bytes, number: int) -> bytes:
    """The same picture with other bytes: what stands behind a picture's end is not looked at."""
    return body + b"#%d" % number
