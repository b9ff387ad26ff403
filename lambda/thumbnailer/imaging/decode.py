"""Files → images whose header has been read, and no pixel yet."""

from typing import Final

from PIL import Image, ImageFile

from thumbnailer.errors import CorruptImage, PipelineError, UnsupportedImage
from thumbnailer.imaging.formats import DECODER_ERRORS, FORMATS, Format, load, recognise
from thumbnailer.imaging.orientation import swaps_sides
from thumbnailer.imaging.spec import PixelSize

HEADER_MB: Final = 10_240
"""Memory that reading a header may use. Most of it is never touched: no pixel is decoded."""


def open_image(data: bytes, memory_mb: int) -> ImageFile.ImageFile:
    """Open a file's first picture. `memory_mb` is the memory that is available.

    Raises UnsupportedImage for a file of another format, CorruptImage for an empty file,
    ImageTooLarge where opening alone would need more memory, and what the decoder raises
    (`formats.DECODER_ERRORS`).
    """
    return check_supported(data).open(data, memory_mb)


def check_supported(data: bytes) -> Format:
    """Return the format that a file begins like.

    Raises UnsupportedImage, which says what the file is instead, or CorruptImage if it is empty.
    """
    if not data:
        raise CorruptImage("The file is empty. Upload it again.")
    found = recognise(data)
    if found is None:
        from thumbnailer.imaging.sniff import describe  # noqa: PLC0415 - unsupported files only

        supported = ", ".join(load(name).title for name in FORMATS)
        raise UnsupportedImage(
            f"Unsupported file type: {describe(data)}. Supported formats: {supported}. "
            "Upload an image in one of them."
        )
    return found


def identify(data: bytes) -> str | None:
    """Return the name of the image format that a file begins like, or None.

    The names are those of the manifest: JPEG, PNG, WEBP, GIF, AVIF, HEIF, TIFF, JPEG2000, BMP, ICO.
    """
    found = recognise(data)
    return found.name if found else None


def upright_size(data: bytes) -> PixelSize | None:
    """Read the size of the upright picture from the beginning of a file; None if that fails.

    An orientation that follows the pixels of a PNG is read only where `data` is the whole file.
    """
    try:
        image = open_image(data, HEADER_MB)
        turned = swaps_sides(load(str(image.format)).orientation(image))
    except (*DECODER_ERRORS, Image.DecompressionBombError, PipelineError):
        return None
    return image.size[::-1] if turned else image.size
