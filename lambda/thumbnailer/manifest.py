"""The manifest of an image: JSON about its source and thumbnails (docs/manifest.schema.json)."""

import base64
import io
import json
from collections.abc import Mapping
from typing import Final

import thumbhash  # type: ignore[import-untyped]
from PIL import Image, WebPImagePlugin

from thumbnailer.imaging.thumbnails import Made
from thumbnailer.provenance import Provenance
from thumbnailer.settings import MANIFEST_VERSION
from thumbnailer.srcset import srcset

CONTENT_TYPE: Final = "application/json"

MAX_HASHED_SIDE: Final = 100
"""Pixels; more a ThumbHash does not take (https://evanw.github.io/thumbhash/)."""

PALETTE: Final = 8
"""Of so many colours that a picture is reduced to, the most frequent one is its dominant one."""

OPAQUE: Final = 128
"""Alpha from which a pixel counts as seen."""


def manifest(
    source: Provenance, source_bytes: int, made: Made, stored: Mapping[int, tuple[str, int]]
) -> bytes:
    """The manifest's JSON; `stored` has the key and bytes of each width's thumbnail."""
    thumbnails = [
        {
            "key": stored[thumbnail.width][0],
            "width": thumbnail.size[0],
            "height": thumbnail.size[1],
            "bytes": stored[thumbnail.width][1],
        }
        for thumbnail in made.thumbnails
    ]
    smallest = min(made.thumbnails, key=lambda thumbnail: thumbnail.width)
    picture = WebPImagePlugin.WebPImageFile(io.BytesIO(smallest.data)).convert("RGBA")
    told = {
        "version": MANIFEST_VERSION,
        "recipe": source.recipe,
        "source": {
            "key": source.key,
            "etag": source.etag,
            "modified": source.modified.isoformat(),
            "format": made.format,
            "width": made.size[0],
            "height": made.size[1],
            "bytes": source_bytes,
        },
        "thumbnails": thumbnails,
        "srcset": srcset([(stored[t.width][0], t.size[0]) for t in made.thumbnails]),
        "dominant_colour": dominant_colour(picture),
        "thumbhash": thumb_hash(picture),
    }
    return json.dumps(told, ensure_ascii=False, indent=2).encode()


def dominant_colour(picture: Image.Image) -> str:
    """`#rrggbb` of the most frequent colour of an RGBA picture, what is transparent left out."""
    palette = picture.convert("RGB").quantize(PALETTE)
    seen = picture.getchannel("A").point(lambda alpha: 255 if alpha >= OPAQUE else 0)
    counts = palette.histogram(seen if seen.getbbox() else None)
    colours = palette.getpalette("RGB") or [0, 0, 0]
    at = 3 * counts.index(max(counts))
    return "#" + bytes(colours[at : at + 3]).hex()


def thumb_hash(picture: Image.Image) -> str:
    """Base64 of the ThumbHash of an RGBA picture, what is transparent shown on white.

    The library cannot hash alpha (its `encode_channel(…) if has_alpha else 1.0, [], 1.0`).
    """
    shown = Image.new("RGBA", picture.size, "white")
    shown.alpha_composite(picture)
    shown.thumbnail((MAX_HASHED_SIDE, MAX_HASHED_SIDE))
    hashed = thumbhash.rgba_to_thumb_hash(*shown.size, list(shown.tobytes()))
    return base64.b64encode(bytes(hashed)).decode()
