"""Pictures of any colour space → sRGB."""

import io
from typing import TYPE_CHECKING, Final

from PIL import Image

from thumbnailer.imaging.formats import DECODER_ERRORS
from thumbnailer.imaging.resize import ALPHA

if TYPE_CHECKING:
    from PIL import ImageCms

PROFILE_MODES: Final = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}
"""Colour space of a profile (ICC.1:2022, 7.2.6) → mode of the pictures that it describes."""

MAX_PROFILE_BYTES: Final = 8 * 1024**2
"""Printers' profiles have up to a few MB. Anything larger is not a profile."""


def to_srgb(picture: Image.Image, profile: bytes | None) -> tuple[Image.Image, str | None]:
    """Convert a picture to sRGB: RGB, or RGBa (premultiplied) where it has alpha.

    Also returns why the profile was ignored, or None. Without a profile, RGB and grey count as
    sRGB, as on the web; CMYK becomes (1 - C)(1 - K) and so on, CSS's naive conversion
    (https://www.w3.org/TR/css-color-5/#cmyk-rgb); LAB is CIELAB under D50, as in TIFF. The alpha of
    CMYK is in `info` (`resize.ALPHA`).
    """
    alpha = picture.info.get(ALPHA)
    if picture.mode in ("La", "RGBa"):
        if picture.mode == "RGBa" and not _differs_from_srgb(profile):
            return picture, None
        straight = picture.convert(picture.mode.upper())
        alpha = straight.getchannel("A")
        picture = straight.convert(picture.mode[:-1])
    note = None
    if profile is not None and _differs_from_srgb(profile):
        picture, note = _convert_by_profile(profile, picture)
    if picture.mode == "LAB":
        picture = _from_lab(picture)
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    if alpha is not None:
        picture.putalpha(alpha)
        picture = picture.convert("RGBa")
    return picture, note


def _differs_from_srgb(profile: bytes | None) -> bool:
    """Whether the profile is any but that of sRGB (IEC 61966-2-1), the most common one."""
    name = "sRGB IEC61966"
    return profile is not None and not (
        name.encode() in profile or name.encode("utf-16-be") in profile
    )


def _convert_by_profile(profile: bytes, picture: Image.Image) -> tuple[Image.Image, str | None]:
    """Convert through the profile; or return the picture unchanged, and why."""
    from PIL import ImageCms  # noqa: PLC0415 - most pictures need none

    if len(profile) > MAX_PROFILE_BYTES:
        return picture, f"colour profile ignored: too large ({len(profile):,} bytes)"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        mode = PROFILE_MODES.get(space)
        if mode == "RGB" and picture.mode in ("L", "YCbCr", "HSV"):
            picture = picture.convert("RGB")
        if mode != picture.mode:
            return (
                picture,
                f"colour profile ignored: it is for {space}, the pixels are {picture.mode}",
            )
        converted = _converted(picture, source)
    except (ImageCms.PyCMSError, *DECODER_ERRORS) as error:
        return picture, f"colour profile ignored: {error}"
    return converted, None


def _from_lab(picture: Image.Image) -> Image.Image:
    from PIL import ImageCms  # noqa: PLC0415 - most pictures need none

    return _converted(picture, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))


def _converted(picture: Image.Image, source: "ImageCms.ImageCmsProfile") -> Image.Image:
    from PIL import ImageCms  # noqa: PLC0415

    converted = ImageCms.profileToProfile(
        picture,
        source,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # noqa: S101 - only inPlace gives None
    return converted
