"""What one thumbnail is: its named size, and everything else that shapes its bytes."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

type PixelSize = tuple[int, int]
"""Width and height in pixels."""

FINGERPRINT_VERSION: Final = 1
"""Increase it when the same source and settings should give other bytes. Every thumbnail is then
made again when its source is next processed."""


class Size(NamedTuple):
    """A thumbnail's size. The name identifies it; the height follows from the picture."""

    name: str
    width: int

    @classmethod
    def of_width(cls, width: int) -> "Size":
        """The size that is `width` pixels wide, under its default name, such as `512w`."""
        return cls(f"{width}w", width)


class ThumbnailSpec(NamedTuple):
    """Everything that shapes the bytes of one thumbnail.

    `quality` is the encoder's, 1 to 100. With `animated`, an animated picture becomes an animated
    thumbnail where the budget allows (`animation`). `format` is a key of `encoders.ENCODERS`.

    A new field needs a default: the value that earlier versions implied (see `fingerprint`).
    """

    size: Size
    quality: int
    animated: bool
    format: str = "webp"


def fingerprint(spec: ThumbnailSpec) -> str:
    """Return twelve hex digits that change whenever the thumbnail's bytes should.

    A field with its default value is left out. So is a width that the default name contains,
    because the name is part of the thumbnail's key. So a new field or a new size leaves existing
    thumbnails current.
    """
    shaping = _without_defaults(spec)
    shape = _without_defaults(shaping.pop("size"))
    if shape.pop("name") == f"{spec.size.width}w":
        del shape["width"]
    if shape:
        shaping["size"] = shape
    return digest({"version": FINGERPRINT_VERSION, **shaping})


def _without_defaults(values: Any) -> dict[str, Any]:
    """Return the fields of a NamedTuple whose value is not their default."""
    defaults = values._field_defaults
    return {
        name: value
        for name, value in values._asdict().items()
        if name not in defaults or value != defaults[name]
    }


def digest(shaping: Mapping[str, object]) -> str:
    """Hash a mapping of JSON values: the first twelve hex digits of its SHA-256."""
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]
