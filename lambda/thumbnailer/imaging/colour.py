"""Pictures of any colour space → sRGB."""

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from thumbnailer.imaging.formats import DECODER_ERRORS
from thumbnailer.imaging.resize import ALPHA

if TYPE_CHECKING:
    from PIL import ImageCms

    from thumbnailer.imaging.cicp import Cicp

PROFILE_MODES: Final = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}
"""Colour space of a profile (ICC.1:2022, 7.2.6) → mode of the pictures that it describes."""

MAX_PROFILE_BYTES: Final = 8 * 1024**2
"""Printers' profiles have up to a few MB. Anything larger is not a profile."""


def to_srgb(picture: Image.Image, info: Mapping[Any, Any]) -> tuple[Image.Image, str | None]:
    """Convert a picture to sRGB: RGB, or RGBa (premultiplied) where it has alpha.

    `info` is Pillow's, with the code points that tell its colour as `cicp`, and their `peak` from
    elsewhere in the file. Also returns why a profile was ignored, or None. Where nothing tells the
    colour, RGB and grey count as sRGB, as on the web; CMYK becomes (1 - C)(1 - K) and so on, CSS's
    naive conversion (https://www.w3.org/TR/css-color-5/#cmyk-rgb); LAB is CIELAB under D50, as in
    TIFF. The alpha of CMYK is in the picture's own `info` (`resize.ALPHA`).
    """
    alpha, note = picture.info.get(ALPHA), None
    descriptions = list(_descriptions(info))
    if picture.mode in ("La", "RGBa"):
        if picture.mode == "RGBa" and not descriptions:
            return picture, None
        straight = picture.convert(picture.mode.upper())
        alpha = straight.getchannel("A")
        picture = straight.convert(picture.mode[:-1])
    for description in descriptions:
        picture, fault = _convert(picture, description)
        note = note or fault
        if fault is None:
            break
    if picture.mode == "LAB":
        picture = _from_lab(picture)
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    if alpha is not None:
        picture.putalpha(alpha)
        picture = picture.convert("RGBa")
    return picture, note


def _descriptions(info: Mapping[Any, Any]) -> "Iterator[bytes | Cicp]":
    """Yield profiles or code points that tell the colour, the first that can be used counts.

    The order is that of PNG (third edition, 4.3). sRGB needs none.
    """
    profile = info.get("icc_profile")
    if "cicp" in info:
        numbers: Cicp = info["cicp"]
        yield numbers._replace(peak=info.get("peak", numbers.peak))
    elif profile is not None and not _differs_from_srgb(profile):
        return
    if profile is not None:
        yield profile
    if "gamma" in info and "srgb" not in info:
        from thumbnailer.imaging import cicp  # noqa: PLC0415 - most pictures need none

        made = cicp.profile_of_gamma(info["gamma"], info.get("chromaticity"))
        if made is not None:
            yield made


def _convert(picture: Image.Image, description: "bytes | Cicp") -> tuple[Image.Image, str | None]:
    """Convert through a profile or by code points; or return the picture unchanged, and why."""
    if isinstance(description, bytes):
        return _convert_by_profile(description, picture)
    if not description.is_hdr:
        from thumbnailer.imaging import cicp  # noqa: PLC0415

        return _convert_by_profile(cicp.profile_of(description), picture)
    from thumbnailer.imaging import tone_map  # noqa: PLC0415

    if picture.mode != "RGB":
        picture = picture.convert("RGB")  # of RGB, it would be a copy
    return tone_map.to_srgb(picture, description), None


def _differs_from_srgb(profile: bytes) -> bool:
    """Whether the profile is any but that of sRGB (IEC 61966-2-1), the most common one."""
    name = "sRGB IEC61966"
    return not (name.encode() in profile or name.encode("utf-16-be") in profile)


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
