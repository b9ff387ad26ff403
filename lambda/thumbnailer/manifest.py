"""The manifest of an image: JSON about its source and thumbnails (docs/manifest.schema.json)."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Final

import thumbhash  # type: ignore[import-untyped]
from PIL import Image

from thumbnailer.imaging import ENCODERS, Made, Thumbnail, ThumbnailSpec, parse_focus
from thumbnailer.provenance import Provenance
from thumbnailer.settings import PLAIN_MANIFEST, Settings
from thumbnailer.srcset import Candidate, srcset, url_path, views
from thumbnailer.srcset import picture as html
from thumbnailer.urls import is_addressable

type Stored = Mapping[ThumbnailSpec, tuple[str, int]]
"""Key and bytes of each thumbnail's object."""

CONTENT_TYPE: Final = "application/json"

MAX_HASHED_SIDE: Final = 100
"""Maximum pixels for a ThumbHash (https://evanw.github.io/thumbhash/)."""

PALETTE: Final = 8
"""A picture is reduced to this many colours; the most frequent one is its dominant colour."""

OPAQUE: Final = 128
"""Alpha from which a pixel counts as visible: half."""

OPAQUE_EVERYWHERE: Final = 255
"""Least alpha of a picture without transparency."""


def manifest(
    settings: Settings, source: Provenance, source_bytes: int, made: Made, stored: Stored
) -> bytes:
    """Return the manifest's JSON, in the version that the settings ask for."""
    picture = _placeholder(made)
    content = {
        "version": settings.manifest_version,
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
        **(
            _plain(made, stored)
            if settings.manifest_version == PLAIN_MANIFEST
            else _any_shape(settings, source, made, stored, picture)
        ),
        "dominant_colour": dominant_colour(picture),
        "thumbhash": thumb_hash(picture),
    }
    return json.dumps(content, ensure_ascii=False, indent=2).encode()


def _plain(made: Made, stored: Stored) -> dict[str, object]:
    """Return the thumbnails as in version 1: WebP of plain widths."""
    return {
        "thumbnails": [_file(each, stored) for each in made.thumbnails],
        "srcset": srcset(
            (url_path(stored[each.spec][0]), each.size[0]) for each in made.thumbnails
        ),
    }


def _any_shape(
    settings: Settings, source: Provenance, made: Made, stored: Stored, picture: Image.Image
) -> dict[str, object]:
    """Return the thumbnails as in version 2."""
    version = settings.picture_version(source.etag, source.focus)
    urls = {each.spec: settings.url(stored[each.spec][0], version) for each in made.thumbnails}
    served = {spec for spec, (key, _) in stored.items() if _is_served(settings, key)}
    thumbnails = [
        {
            "size": each.spec.size.name,
            "format": each.spec.format,
            **_file(each, stored),
            **({"url": urls[each.spec]} if each.spec in served else {}),
            "frames": each.frames,
            **({"focus": [round(part, 4) for part in each.focus]} if each.focus else {}),
            **({"reduced": True} if _is_reduced(each, made) else {}),
        }
        for each in made.thumbnails
    ]
    shown = _alike(made.thumbnails)
    return {
        "v": version,
        **({"animated": made.animated} if made.animated is not None else {}),
        **({"focus": parse_focus(source.focus)} if source.focus else {}),
        "thumbnails": thumbnails,
        "srcset": {
            name: srcset(
                (urls[each.spec], each.size[0]) for each in shown if each.spec.format == name
            )
            for name in settings.formats
        },
        **({"html": _html(shown, urls, picture)} if len(served) == len(stored) else {}),
    }


def _html(
    shown: Sequence[Thumbnail], urls: Mapping[ThumbnailSpec, str], picture: Image.Image
) -> str:
    """Return the HTML that shows the image.

    A format whose thumbnails are still is left out of it if another one has the animation. The
    colour is not behind a picture with transparency, where it would stay visible.
    """
    frames = max(each.frames for each in shown)
    candidates = [
        Candidate(each.spec.format, urls[each.spec], *each.size)
        for each in shown
        if each.frames == frames
    ]
    opaque = picture.getchannel("A").getextrema()[0] == OPAQUE_EVERYWHERE
    return html(candidates, colour=dominant_colour(picture) if opaque else "")


def _is_served(settings: Settings, key: str) -> bool:
    return bool(settings.thumbnails_url) and is_addressable(key)


def _file(thumbnail: Thumbnail, stored: Stored) -> dict[str, object]:
    key, size = stored[thumbnail.spec]
    width, height = thumbnail.size
    return {"key": key, "width": width, "height": height, "bytes": size}


def _is_reduced(thumbnail: Thumbnail, made: Made) -> bool:
    """Whether a thumbnail is smaller than its size says because the format ends there."""
    size, (width, height) = thumbnail.spec.size, made.size
    max_side = ENCODERS[thumbnail.spec.format].max_side
    return size.height is None and min(size.width, width) * height > max_side * width


def _alike(thumbnails: Sequence[Thumbnail]) -> list[Thumbnail]:
    """Return the thumbnails that a browser may choose from: those that show the same.

    These are all that show the whole picture and nothing else. Without any, they are those of the
    first size's shape.
    """
    return views(thumbnails, lambda each: each.spec.size)[0]


def _placeholder(made: Made) -> Image.Image:
    """Decode the smallest thumbnail, in RGBA: one that shows the whole picture, if there is any."""
    smallest = min(_alike(made.thumbnails), key=lambda each: (each.spec.size.width, each.size[1]))
    return ENCODERS[smallest.spec.format].open(smallest.data).convert("RGBA")


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
