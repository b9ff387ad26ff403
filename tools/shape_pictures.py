"""Draws the pictures of docs/images.md, which show what each shape makes of an image.

python -m tools.shape_pictures
"""

import io
from pathlib import Path
from typing import Final

from PIL import Image

from image_pipeline.local.samples import hot_air_balloon, landscape
from thumbnailer.imaging import Made, make_thumbnails, parse_sizes, thumbnail_spec

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "img"

SIZES: Final = (
    "width=240,center=160x160,attention=160x160:cover:attention,contain=160x160:contain,"
    "pad=160x160:pad"
)
BACKGROUND: Final = "#d0d7de"


def balloon_over_a_lake() -> Image.Image:
    """Draw a landscape with a balloon on its right."""
    picture = landscape((1200, 800), night=0.1)
    balloon = hot_air_balloon((240, 320))
    picture.paste(balloon, (900, 120), balloon)
    return picture


def thumbnails() -> Made:
    """Make the thumbnails of SIZES."""
    file = io.BytesIO()
    balloon_over_a_lake().save(file, "PNG", compress_level=1)
    specs = [
        thumbnail_spec(size, "webp", 80, animated=False, background=BACKGROUND)
        for size in parse_sizes(SIZES)
    ]
    return make_thumbnails(file.getvalue(), specs, 512)


def path_of(name: str) -> Path:
    """Return the path of the picture of a size, by its name."""
    return FOLDER / f"shape-{name}.webp"


if __name__ == "__main__":
    for each in thumbnails().thumbnails:
        path_of(each.spec.size.name).write_bytes(each.data)
