"""JPEG, and the first picture of an MPO.

Metadata never costs the picture: a malformed segment is ignored. A file that only lacks its end is
decoded too.
"""

import io
import math
from bisect import bisect_left
from typing import Any, Final

from PIL import Image, ImageFile, JpegImagePlugin

from thumbnailer.errors import UnsupportedImage
from thumbnailer.imaging.formats.format import DECODER_ERRORS, Format, whole
from thumbnailer.imaging.limits import pixels
from thumbnailer.imaging.resize import REDUCING_GAP, Box
from thumbnailer.imaging.spec import PixelSize

MAGIC: Final = b"\xff\xd8\xff"

MAX_SCALE: Final = 8
"""libjpeg-turbo decodes at 1/2, 1/4 and 1/8."""

PIXEL_BYTES: Final = 0.3
"""For each pixel of the file: libjpeg-turbo decodes strip by strip, at the scale asked for."""

COEFFICIENT_BYTES: Final = 2
"""For each sample of a JPEG with several scans, whose coefficients are all kept (jdcoefct.c)."""

START_OF_SCAN: Final = b"\xff\xda"
"""SOS (ITU T.81, B.2.3): this marker, the length, the number of components, two bytes for each, and
three bytes more."""

END_OF_IMAGE: Final = b"\xff\xd9"

ARITHMETIC: Final = (b"\xff\xc9", b"\xff\xca")
"""SOF9 and SOF10 (ITU T.81, table B.1): entropy-coded by arithmetic, of which few bytes may cost
any time."""

SUPPORTED_FRAMES: Final = (0xFFC0, 0xFFC1, 0xFFC2, 0xFFC9, 0xFFCA)
"""SOF markers of the pictures that libjpeg-turbo decodes to 8 bits (ITU T.81, table B.1)."""

UNSUPPORTED_FRAMES: Final = {
    0xFFC3: "lossless",
    0xFFC5: "hierarchical",
    0xFFC6: "hierarchical",
    0xFFC7: "hierarchical and lossless",
    0xFFCB: "lossless, with arithmetic coding",
    0xFFCD: "hierarchical",
    0xFFCE: "hierarchical",
    0xFFCF: "hierarchical and lossless",
    0xFFDE: "hierarchical",
    0xFFF7: "JPEG-LS",
    0xFFF8: "JPEG-LS",
}
"""The same for pictures that no decoder here reads (T.81, table B.1; T.87, table C.1)."""

FRAME_BYTES: Final = 8
"""SOF up to the components: length, bits of a sample, height, width, count (T.81, B.2.2)."""

COMPONENTS: Final = (1, 3, 4)
"""Grey; YCbCr or RGB; CMYK or YCCK."""

PROFILE_HEADER_BYTES: Final = 14
"""Part of an ICC profile: `ICC_PROFILE\0`, its number and the count (ICC.1:2022, B.4)."""

LOOKAHEAD_BYTES: Final = 8
"""Bytes that libjpeg-turbo may want to see beyond the last bit of a scan (BIT_BUF_SIZE)."""

COEFFICIENTS: Final = 64
UNWRITTEN: Final[dict[str, Any]] = {"L": 1, "RGB": (1, 2, 3), "CMYK": (1, 2, 3, 4)}
"""Colour of rows that are not decoded yet, by mode. No picture has a whole row of it."""

BYTE_SECONDS: Final = 20e-9
BLOCK_SECONDS: Final = 6e-9
"""For each byte of entropy-coded data, and for each block of 8 × 8 samples in each scan: the least
that a scan without data takes (a picture of noise, and one of 2,000 empty scans, measured)."""

PIXEL_SECONDS: Final = 5e-9
"""For each decoded pixel, beside its data: the transform and the conversion of colour."""

BLOCK_PIXELS: Final = 64
"""A block is 8 × 8 samples (ITU-T T.81, A.1.1)."""


class JpegFile(JpegImagePlugin.JpegImageFile):
    """Pillow's JPEG reader, for which metadata is optional.

    `notes` say what was ignored. `first_scan` is where the data of the first scan begins, in bytes.
    """

    def _open(self) -> None:
        self.notes: list[str] = []
        self.profile_parts: list[bytes] = []
        super()._open()
        file: Any = self.fp
        self.first_scan: int = file.tell()
        if parts := self.profile_parts + self.icclist:
            self.info["icc_profile"] = profile = _profile(parts)
            if profile is None:
                self.notes.append("colour profile ignored: its parts are incomplete")

    def _read_dpi_from_exif(self) -> None:
        """Do nothing: the resolution is not needed, and EXIF may be broken."""


def _read_application(file: JpegImagePlugin.JpegImageFile, marker: int) -> None:
    """Read an APPn segment. What Pillow cannot read of it is ignored: it is metadata."""
    try:
        JpegImagePlugin.APP(file, marker)
    except OSError:  # the file ends here
        raise
    except DECODER_ERRORS:
        pass  # Pillow reads a segment to its end before it looks at the content


def _read_frame(file: JpegImagePlugin.JpegImageFile, marker: int) -> None:
    """Read the frame header (SOF). Raises UnsupportedImage for what libjpeg-turbo cannot decode."""
    stream: Any = file.fp
    start = stream.tell()
    head = stream.read(FRAME_BYTES)
    stream.seek(start)
    if marker in UNSUPPORTED_FRAMES:
        raise _unsupported(UNSUPPORTED_FRAMES[marker])
    if len(head) == FRAME_BYTES:
        bits, height, components = head[2], int.from_bytes(head[3:5]), head[7]
        if bits != 8:  # noqa: PLR2004
            raise _unsupported(f"{bits} bits per sample")
        if components not in COMPONENTS:
            raise _unsupported(f"{components} colour components")
        if not height:
            raise _unsupported("the height follows the pixels (DNL)")
    if isinstance(file, JpegFile):
        # Pillow would join the parts of the profile here, and fail where one is too short.
        file.profile_parts += file.icclist
        file.icclist = []
    JpegImagePlugin.SOF(file, marker)


def _unsupported(what: str) -> UnsupportedImage:
    return UnsupportedImage(
        f"Unsupported kind of JPEG: {what}. Supported are baseline and progressive JPEG with "
        "8 bits per sample. Convert the image and upload it again."
    )


def _profile(parts: list[bytes]) -> bytes | None:
    """Join the parts of an ICC profile; None where they are not exactly parts 1 to their count."""
    headers = [part[PROFILE_HEADER_BYTES - 2 : PROFILE_HEADER_BYTES] for part in parts]
    wanted = [bytes((number, len(parts) & 0xFF)) for number in range(1, min(len(parts), 255) + 1)]
    if sorted(headers) != wanted:
        return None
    return b"".join(part[PROFILE_HEADER_BYTES:] for part in sorted(parts))


_markers: Any = JpegImagePlugin.MARKER
_markers[0xFF01] = ("TEM", "For temporary use", None)
_markers |= {0xFFE0 + n: (f"APP{n}", "Application", _read_application) for n in range(16)}
_markers |= dict.fromkeys(
    (*SUPPORTED_FRAMES, *UNSUPPORTED_FRAMES), ("SOF", "Frame header", _read_frame)
)


def recognise(data: bytes) -> bool:
    """See Format."""
    return data.startswith(MAGIC)


def open_jpeg(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format."""
    image = JpegFile(io.BytesIO(data))
    # Fed whole, which copies nothing, a JPEG takes 1 % less CPU than in pieces of 64 KB.
    image.decodermaxblock = len(data)
    return image


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, _decoded: PixelSize) -> float:
    """See Format."""
    need = PIXEL_BYTES
    if has_several_scans(image, data):
        file: Any = image
        components = [(horizontal, vertical) for _, horizontal, vertical, _ in file.layer]
        largest = max(each[0] for each in components) * max(each[1] for each in components)
        samples = sum(horizontal * vertical for horizontal, vertical in components)
        need += COEFFICIENT_BYTES * samples / largest
    return pixels(image.size) * need


def call_seconds(image: ImageFile.ImageFile, data: bytes) -> float:
    """See Format: the whole picture is one call."""
    file: Any = image
    header = data[: file.first_scan]
    if any(marker in header for marker in ARITHMETIC):
        return math.inf
    scans = len(file.layer)
    if has_several_scans(image, data):
        # Within a scan's data, no marker can be found by accident. Those in metadata do not harm.
        scans = max(scans, data.count(START_OF_SCAN) * scans)
    blocks = pixels(image.size) / BLOCK_PIXELS * scans
    return len(data) * BYTE_SECONDS + blocks * BLOCK_SECONDS + pixels(image.size) * PIXEL_SECONDS


def has_several_scans(image: ImageFile.ImageFile, data: bytes) -> bool:
    """Whether the decoder must keep all coefficients: as libjpeg decides it (jdinput.c).

    The picture is progressive, or its first scan leaves components for further ones.
    """
    file: Any = image
    components = len(file.layer)
    header = START_OF_SCAN + bytes((0, 6 + 2 * components, components))
    start = file.first_scan - 2 * components - 8
    return "progressive" in image.info or data[start : start + len(header)] != header


def max_scale(_data: bytes) -> int:
    """See Format."""
    return MAX_SCALE


def decode(image: ImageFile.ImageFile, size: PixelSize, scale: int) -> tuple[Image.Image, Box]:
    """See Format.

    The box is fractional where the scaled size is. Without that the picture would shift.
    """
    wanted = (round(size[0] * REDUCING_GAP), round(size[1] * REDUCING_GAP))
    draft = image.draft(None, wanted)
    if not image.tile:
        raise OSError("the file ends before its pixels")
    file: Any = image
    data = file.fp.getvalue()  # no copy
    if data.rfind(END_OF_IMAGE, file.first_scan) < 0:
        _load_without_end(file, _without_padding(data))
    picture, box = whole(image, size, scale)
    return picture, draft[1] if draft else box


def _load_without_end(image: JpegFile, data: bytes) -> None:
    """Load an image without an end marker, if nothing else is missing.

    Raises OSError, which says how much is there.
    """
    tile = image.tile[0]
    image.load_prepare()
    image.im.paste(UNWRITTEN[image.mode], (0, 0, *image.size))
    decoder = Image._getdecoder(  # noqa: SLF001 - Pillow's own loop cannot tell what is missing
        image.mode, tile.codec_name, tile.args, image.decoderconfig
    )
    try:
        decoder.setimage(image.im, tile.extents)
        ended = _decode_to_end(decoder, data)
        image.tile = []
        if ended and _has_all_scans(image, data):
            decoder.decode(END_OF_IMAGE)
            image.notes.append("the end of the file is missing, and all rows are there")
            return
    finally:
        decoder.cleanup()
    if has_several_scans(image, data):
        scans = data.count(START_OF_SCAN, image.first_scan) + ended
        raise OSError(f"the file is cut off: only {scans} of its scans are complete")
    raise OSError(f"only {100 * _written_rows(image) // image.size[1]} % of the rows are there")


def _without_padding(data: bytes) -> bytes:
    """Leave out zeros at the end of a file, with which some programs fill it, and half a marker."""
    end = data.rstrip(b"\0")
    if end.endswith(b"\xff") and len(end) < len(data):
        return end + b"\0"  # a sample's byte (T.81, F.1.2.3)
    return end.rstrip(b"\xff")


def _decode_to_end(decoder: Any, data: bytes) -> bool:
    """Decode a file without its end. Return whether the data of the last scan are complete.

    libjpeg-turbo consumes the bytes of a block once it has some more bits than the block needs. A
    scan that is complete needs no more than the lookahead. Then the decoder either ends, or looks
    for a marker, and consumes every other byte at once.
    """
    consumed, status = decoder.decode(data)
    rest = data[consumed:]
    for number in range(2 * LOOKAHEAD_BYTES):
        if consumed < 0:
            return bool(status == 0)
        rest += b"\0"
        consumed, status = decoder.decode(rest)
        rest = rest[consumed:]
        if number >= LOOKAHEAD_BYTES and rest and consumed >= 0:
            return False
    return not rest or consumed < 0


def _has_all_scans(image: JpegFile, data: bytes) -> bool:
    """Whether the scans give every coefficient of each component, to its last bit."""
    if not has_several_scans(image, data):
        return True
    missing = {component[0]: set(range(COEFFICIENTS)) for component in image.layer}
    # The reader has stopped after the first scan's header, which has up to four components.
    at = data.rfind(START_OF_SCAN, 0, image.first_scan)
    while at >= 0:
        count = int.from_bytes(data[at + 4 : at + 5])
        end = at + 5 + 2 * count
        header = data[end : end + 3]
        if len(header) == 3 and not header[2] & 0x0F:  # noqa: PLR2004 - Ss, Se, Ah and Al
            for component in data[at + 5 : end : 2]:
                missing.get(component, set()).difference_update(range(header[0], header[1] + 1))
        at = data.find(START_OF_SCAN, end)
    return not any(missing.values())


def _written_rows(image: JpegFile) -> int:
    """Count the rows that were decoded, from the top."""

    def is_unwritten(row: int) -> int:
        line = image.crop((0, row, image.size[0], row + 1))
        return int(line.getcolors(1) == [(image.size[0], UNWRITTEN[image.mode])])

    return bisect_left(range(image.size[1]), 1, key=is_unwritten)


FORMAT: Final = Format(
    name="JPEG",
    title="JPEG",
    recognise=recognise,
    open=open_jpeg,
    decoder_bytes=decoder_bytes,
    call_seconds=call_seconds,
    max_scale=max_scale,
    decode=decode,
)
