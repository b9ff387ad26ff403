"""What one thumbnail is: its named size, and everything else that shapes its bytes."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from thumbnailer.sha256 import sha256

type PixelSize = tuple[int, int]
"""Width and height in pixels."""

FINGERPRINT_VERSION: Final = 1
"""Increase it when the same source and settings should give other bytes. Every thumbnail is then
made again when its source is next processed."""


MAX_SIDE: Final = 16_383
"""Pixels: the limit of WebP, 14 bits in the file (RFC 9649, 2.7). The other formats allow more, but
all formats of a size have the same shape."""

type Point = tuple[float, float]
"""A place in the upright picture: fractions of its width and height, from the left and the top."""

CENTER: Final[Point] = (0.5, 0.5)

FITS: Final = ("cover", "contain", "pad")
FOCUS_RULES: Final = ("center", "attention")
"""What a size may say behind its height. The first of each is the default."""

WHITE: Final = "#ffffff"

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names are parts of keys and of file names: no character has a meaning there or needs quoting."""

FRACTION: Final = r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+"
"""A number of a focus. float() also takes "1_0", "nan" and other scripts' digits. There is one way
only to match a text, or two kilobytes of digits would take minutes."""

EXAMPLE: Final = "128,512,avatar=256x256:cover:attention,card=600x400:pad"


class Size(NamedTuple):
    """A thumbnail's size. The name identifies it.

    Without a height, the height follows from the picture. With a height, `fit` is one of FITS:
    `cover` crops the picture to exactly this shape, `contain` fits it inside, and `pad` fits it
    inside and fills the rest with the background. `focus`, one of FOCUS_RULES, is the rule by which
    `cover` chooses the part to keep.
    """

    name: str
    width: int
    height: int | None = None
    fit: str = FITS[0]
    focus: str = FOCUS_RULES[0]

    @classmethod
    def of_width(cls, width: int) -> "Size":
        """The size that is `width` pixels wide, under its default name, such as `512w`."""
        return cls(_default_name(width, None), width)

    @property
    def crops(self) -> bool:
        """Whether a part of the picture may be cut off, so that a focus decides which."""
        return self.height is not None and self.fit == "cover"

    @property
    def is_plain(self) -> bool:
        """Whether it is a width under its default name, which is all that earlier versions knew."""
        return self == Size.of_width(self.width)

    def __str__(self) -> str:
        """Return the item of the grammar that `parse_sizes` reads as this size."""
        text = "" if self.name == _default_name(self.width, self.height) else f"{self.name}="
        text += str(self.width)
        if self.height is not None:
            text += f"x{self.height}"
            if self.focus != FOCUS_RULES[0]:
                text += f":{self.fit}:{self.focus}"
            elif self.fit != FITS[0]:
                text += f":{self.fit}"
        return text


class ThumbnailSpec(NamedTuple):
    """Everything that shapes the bytes of one thumbnail.

    `quality` is the encoder's, 1 to 100. With `animated`, an animated picture becomes an animated
    thumbnail where the format and the budget allow it (`animation`). `format` is one of
    `encoders.OUTPUT_FORMATS`. `background` (`#rrggbb`) is behind a padded picture, and behind a
    transparent one in a format without transparency. `encoders.thumbnail_spec` leaves out what does
    not shape the bytes.

    A new field needs a default: the value that earlier versions implied (see `fingerprint`).
    """

    size: Size
    quality: int
    animated: bool
    format: str = "webp"
    background: str = WHITE


def parse_sizes(text: str) -> tuple[Size, ...]:
    """Read sizes such as EXAMPLE: items `[NAME=]W` or `[NAME=]WxH[:FIT[:FOCUS]]`, and commas.

    Raises ValueError, which names every faulty item, its position and an example.
    """
    sizes: list[Size] = []
    faults: list[str] = []
    names: dict[str, str] = {}
    for position, item in enumerate(map(str.strip, text.split(",")), 1):
        fault = None
        try:
            size = _parse_size(item)
        except ValueError as error:
            fault = str(error)
        else:
            sizes.append(size)
            if twin := names.get(size.name.casefold()):
                fault = _same_name(twin, item)
            names[size.name.casefold()] = item
        if fault:
            faults.append(f"item {position}, {item!r}, {fault}")
    if faults:
        raise ValueError(f"{'; '.join(faults)} (example: {EXAMPLE})")
    return tuple(sizes)


def _same_name(twin: str, item: str) -> str:
    same = f"has the same name as {twin!r}"
    if "=" in item:
        return f"{same}, and names must differ"
    return f"{same}: give it another one, such as other={item}"


def _parse_size(item: str) -> Size:
    if not item:
        raise ValueError("is empty: write a width in pixels, such as 512, or remove the comma")
    name, named, shape = item.rpartition("=")
    if named and not NAME.fullmatch(name):
        raise ValueError(
            "must have a name of at most 64 letters, digits, dots, hyphens and underscores before "
            "the = sign, such as card=600x400"
        )
    pixels, *rules = shape.split(":")
    if not re.fullmatch(r"[0-9]{1,9}(x[0-9]{1,9})?", pixels):
        raise ValueError("must be a width or WIDTHxHEIGHT in pixels, such as 512 or 600x400")
    sides = [int(side) for side in pixels.split("x")]
    width, height = sides[0], sides[1] if len(sides) > 1 else None
    if not all(1 <= side <= MAX_SIDE for side in sides):
        raise ValueError(f"must be between 1 and {MAX_SIDE} pixels")
    if rules and height is None:
        raise ValueError("must have a height before its fit, such as 600x400:contain")
    fit, focus, *more = (*rules, *(FITS[0], FOCUS_RULES[0])[len(rules) :])
    if fit not in FITS:
        raise ValueError(f"must have {_any_of(FITS)} behind its height, such as 600x400:pad")
    if len(rules) > 1 and fit != FITS[0]:
        raise ValueError("must not have a focus: only cover crops, such as 600x400:cover:attention")
    if focus not in FOCUS_RULES or more:
        raise ValueError(f"must end with {_any_of(FOCUS_RULES)}, such as 256x256:cover:attention")
    return Size(name if named else _default_name(width, height), width, height, fit, focus)


def _default_name(width: int, height: int | None) -> str:
    return f"{width}w" if height is None else f"{width}x{height}"


def _any_of(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def parse_colour(text: str) -> str:
    """Check a colour, `#rrggbb`, and return it in lower case. Raises ValueError."""
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError(f"must be a colour such as {WHITE} or #1a2b3c, not {text!r}")
    return text.lower()


def parse_focus(text: str) -> Point:
    """Read `0.5,0.3`: fractions of the upright picture, from the left and the top.

    They are rounded to ten-thousandths, which are pixels of a large photo. Raises ValueError for
    anything else, also for numbers outside 0 to 1.
    """
    found = re.fullmatch(rf"\s*({FRACTION})\s*,\s*({FRACTION})\s*", text, re.ASCII)
    x, y = map(float, found.groups()) if found else (math.inf, math.inf)
    if x > 1 or y > 1:
        raise ValueError(f"must be two numbers between 0 and 1 such as 0.5,0.3, not {text!r}")
    return round(x, 4), round(y, 4)


def focus_text(focus: Point) -> str:
    """Return the one text that `parse_focus` reads as this place."""
    return f"{focus[0]:g},{focus[1]:g}"


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
    return sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]
