"""Output formats: one module per format, and one name in this registry."""

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from thumbnailer.imaging.encoders import webp
from thumbnailer.imaging.encoders.encoder import HEAD_BYTES, Encoder
from thumbnailer.imaging.spec import WHITE, Size, ThumbnailSpec

OUTPUT_FORMATS: Final = ("webp", "avif", "jpeg")
"""Names of all formats, as in `ThumbnailSpec.format`, and modules of this package."""


class _Encoders(dict[str, Encoder]):
    """Encoders that have been used. Others are imported when they are looked up."""

    def __missing__(self, name: str) -> Encoder:
        if name not in OUTPUT_FORMATS:
            raise KeyError(name)
        found: Encoder = import_module(f"{__name__}.{name}").ENCODER
        self[name] = found
        return found


ENCODERS: Final[Mapping[str, Encoder]] = _Encoders(webp=webp.ENCODER)
"""The encoder of each of OUTPUT_FORMATS: look it up by its name."""


def thumbnail_spec(
    size: Size, format_name: str, quality: int, *, animated: bool, background: str = WHITE
) -> ThumbnailSpec:
    """Return a spec with what shapes this thumbnail's bytes, so that nothing else makes it stale.

    A format that does not animate has no use for `animated`, and only padding and a format without
    transparency have one for `background`.
    """
    encoder = ENCODERS[format_name]
    shows_background = size.fit == "pad" or not encoder.has_alpha
    return ThumbnailSpec(
        size,
        quality,
        animated and encoder.animates,
        format_name,
        background if shows_background else WHITE,
    )


__all__ = ["ENCODERS", "HEAD_BYTES", "OUTPUT_FORMATS", "Encoder", "thumbnail_spec"]
