"""The manifest of an image: JSON about its source and thumbnails (docs/manifest.schema.json)."""

import base64
import json
from collections.abc import Mapping
from typing import Final

import thumbhash  # type: ignore[import-untyped]
from PIL import Image

from thumbnailer.imaging import ENCODERS, Made, Size
from thumbnailer.provenance import Provenance
from thumbnailer.settings import MANIFEST_VERSION
from thumbnailer.srcset import srcset

CONTENT_TYPE: Final = "application/json"

MAX_HASHED_SIDE: Final = 100
"""Maximum pixels for a ThumbHash (https://evanw.github.io/thumbhash/)."""

PALETTE: Final = 8
"""A picture is reduced to this many colours; the most frequent one is its dominant colour."""

OPAQUE: Final = 128
"""Alpha from which a pixel counts as visible: half."""


def manifest(
    source: Provenance, source_bytes: int, made: Made, stored: Mapping[Size, tuple[str, int]]
) -> bytes:
    """Return the manifest's JSON. `stored` has the key and bytes of the thumbnail of each size."""
    thumbnails = [
        {
            "key": stored[thumbnail.spec.size][0],
            "width": thumbnail.size[0],
            "height": thumbnail.size[1],
            "bytes": stored[thumbnail.spec.size][1],
        }
        for thumbnail in made.thumbnails
    ]
    smallest = min(made.thumbnails, key=lambda thumbnail: thumbnail.spec.size.width)
    picture = ENCODERS[smallest.spec.format].open(smallest.data).convert("RGBA")
    content = {
        "version": MANIFEST_VERSION,
        "recipe": source.fingerprint,
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
        "srcset": srcset([(stored[each.spec.size][0], each.size[0]) for each in made.thumbnails]),
        "dominant_colour": dominant_colour(picture),
        "thumbhash": thumb_hash(picture),
    }
    return json.dumps(content, ensure_ascii=False, indent=2).encode()


def dominant_colour(picture: Image.Image) -> str:
    """Return `#rrggbb` of the most frequent visible colour of an RGBA picture."""
    palette = picture.convert("RGB").quantize(PALETTE)
    visible = picture.getchannel("A").point(lambda alpha: 255 if alpha >= OPAQUE else 0)
    counts = palette.histogram(visible if visible.getbbox() else None)
    colours = palette.getpalette("RGB") or [0, 0, 0]
    at = 3 * counts.index(max(counts))
    return "#" + bytes(colours[at : at + 3]).hex()


def thumb_hash(picture: Image.Image) -> str:
    """Return the Base64 ThumbHash of an RGBA picture on white.

    The library cannot hash alpha (its `encode_channel(…) if has_alpha else 1.0, [], 1.0`).
    """
    shown = Image.new("RGBA", picture.size, "white")
    shown.alpha_composite(picture)
    shown.thumbnail((MAX_HASHED_SIDE, MAX_HASHED_SIDE))
    hashed = thumbhash.rgba_to_thumb_hash(*shown.size, list(shown.tobytes()))
    return base64.b64encode(bytes(hashed)).decode()
