"""The memory that an image needs, estimated from its header before any pixel is decoded."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from PIL import ImageFile

from thumbnailer.imaging.encoders import Encoder
from thumbnailer.imaging.formats import Format
from thumbnailer.imaging.formats.format import copied_bytes
from thumbnailer.imaging.limits import picture_bytes, pixels, stored_bytes
from thumbnailer.imaging.resize import BAND_BYTES, BAND_PIXELS, averageable_mode
from thumbnailer.imaging.spec import PixelSize

DIRECT: Final = ("1", "RGBX", "RGBA", "LA", "I;16", "I;16L", "I;16B", "I;16N")
"""Modes that are converted to an averageable one in one step."""

HIGH_DEPTH_PICTURES: Final = 3
"""Samples of 32 bits are scaled to 8 bits in two more pictures."""


REDUCED_BYTES: Final = 1.0
"""For each pixel of a picture that is reduced while it is decoded: an assumption. It may need less,
but its time grows with its pixels, and a function's share of a CPU with its memory."""


class Encoding(NamedTuple):
    """A thumbnail that is encoded: its pixels, and the bytes of pictures that are kept beside."""

    encoder: Encoder
    pixels: int
    beside: float = 0.0


class Stages(NamedTuple):
    """The sizes of a picture on its way to the thumbnails.

    `decoded` is what the decoder gives: less than the file's size where it can scale. `reduced` is
    left after whole rows and columns were averaged. `thumbnail` is the whole picture at the largest
    scale that a thumbnail needs: the largest thumbnail, unless that is a crop.
    """

    decoded: PixelSize
    reduced: PixelSize
    thumbnail: PixelSize


def peak_bytes(
    file_format: Format,
    image: ImageFile.ImageFile,
    data: bytes,
    stages: Stages,
    encodings: Sequence[Encoding],
) -> float:
    """Estimate the peak memory in bytes, beside the process itself.

    It is that of decoding, of reducing or of encoding, whichever is largest, and the file with its
    copy, if there is one. Encoders work one after the other.
    """
    mode = averageable_mode(image)
    given = mode if file_format.reduces(image) else image.mode
    stored = picture_bytes(stages.decoded, stored_bytes(given))
    if stages.reduced != stages.decoded:
        band = BAND_BYTES * max(BAND_PIXELS, stages.decoded[0])
        converted = picture_bytes(stages.reduced) + band
    elif mode == given:
        converted = 0.0
    else:  # a palette with transparency is converted to RGBA first
        whole = picture_bytes(stages.decoded, stored_bytes(mode))
        converted = whole * (1 if image.mode in DIRECT else 2)
    half_resized = picture_bytes((stages.thumbnail[0], stages.reduced[1]))
    made = picture_bytes(stages.thumbnail) * (HIGH_DEPTH_PICTURES if mode in ("I", "F") else 1)
    alpha = mode in ("RGBa", "La")
    held = file_format.held_bytes(image, data)
    in_files = len(data) + copied_bytes(image)
    least = REDUCED_BYTES * pixels(image.size) if file_format.reduces(image) else 0.0
    return in_files + max(
        least,
        file_format.decoder_bytes(image, data, stages.decoded) + stored,
        held + stored + converted + half_resized + made,
        *(each.encoder.memory_bytes(each.pixels, alpha) + each.beside for each in encodings),
    )
