"""Intact files to damage: small ones of every kind, and the corpus of real images if it exists."""

import io
from collections.abc import Iterator
from typing import Any, Final

from PIL import Image

from tools.corpus import CASES

MAX_BYTES: Final = 200_000
"""Of a corpus file: larger ones take so long that few cases would be tried."""

SIZE: Final = (67, 45)
"""(width, height) of the drawn images in pixels: odd, so that blocks at
the edges are incomplete."""

KINDS: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("JPEG", "RGB", {}),
    ("JPEG", "L", {"progressive": True}),
    ("JPEG", "CMYK", {}),
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "LA", {}),
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "1", {}),
    ("PNG", "I;16", {}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("GIF", "P", {"transparency": 3}),
    ("TIFF", "RGB", {}),
    ("TIFF", "RGBA", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("TIFF", "1", {"compression": "group4"}),
    ("TIFF", "F", {"compression": "tiff_deflate"}),
    ("TIFF", "LAB", {}),
    ("BMP", "RGB", {}),
    ("BMP", "P", {}),
    ("AVIF", "RGB", {"speed": 10}),
    ("AVIF", "RGBA", {"speed": 10}),
    ("JPEG2000", "RGB", {}),
    ("JPEG2000", "RGBA", {"tile_size": (32, 32)}),
    ("ICO", "RGBA", {"sizes": [(32, 32)]}),
    ("ICO", "RGBA", {"sizes": [(32, 32)], "bitmap_format": "bmp"}),
)
"""(format, mode, options) of the drawn images, as Pillow names them."""

ANIMATED: Final = ("GIF", "PNG", "WEBP", "AVIF")


def seeds() -> dict[str, bytes]:
    """Name → bytes of each file, the same in every process."""
    found = {f"drawn/{number}": data for number, data in enumerate(_drawn())}
    if CASES.exists():
        files = CASES.parent / "cases"
        for path in sorted(files.rglob("*")):
            if path.is_file() and path.stat().st_size <= MAX_BYTES:
                found[str(path.relative_to(files))] = path.read_bytes()
    return found


def _drawn() -> Iterator[bytes]:
    import pillow_heif  # noqa: PLC0415

    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.merge(
        "RGB", [Image.linear_gradient("L").rotate(90 * turn) for turn in range(3)]
    )
    picture = picture.resize(SIZE)
    for kind, mode, options in (*KINDS, ("HEIF", "RGB", {}), ("HEIF", "RGBA", {})):
        grey = picture.convert("L").convert("I").point(lambda level: level * 257)
        image = grey.convert("I;16") if mode == "I;16" else _as(picture, mode)
        yield _encoded(image, kind, options)
    yield _encoded(picture, "JPEG", {"exif": exif})
    for kind in ANIMATED:
        frames = [picture.rotate(30 * turn) for turn in range(4)]
        others = {"save_all": True, "append_images": frames[1:], "duration": 50}
        yield _encoded(frames[0], kind, others)


def _as(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "LAB":
        return Image.frombytes("LAB", picture.size, picture.tobytes())
    if mode in ("RGBA", "LA"):
        picture = picture.copy()
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture.convert(mode)


def _encoded(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
