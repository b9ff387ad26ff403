"""What the bytes of a file are, told by its content and never by its name."""

import struct
import zlib
from typing import Final

DECODER_ERRORS: Final = (
    OSError,
    ValueError,
    SyntaxError,
    RuntimeError,
    EOFError,
    TypeError,
    KeyError,
    IndexError,
    ArithmeticError,
    AssertionError,
    struct.error,
    zlib.error,
)
"""What Pillow and pi-heif raise on damaged files, as met in practice."""


# The only decoders that any upload can reach: `Image.open`, which tries all that it knows, is not
# used. Module and class, imported when a file needs them.
DECODERS: Final = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),  # MPO's first picture, too
    "PNG": ("thumbnailer.imaging.formats.png", "PngFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "HEIF": ("pi_heif.as_plugin", "HeifImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "JPEG2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "ICO": ("PIL.IcoImagePlugin", "IcoImageFile"),
}

MAGIC: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"BM", "BMP"),
    (b"\0\0\1\0", "ICO"),
)

HEIF_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
"""ISO/IEC 23008-12, annex B and 10.2."""

# Beginnings of what is not decoded here, from the formats' own specifications
# (collected in https://github.com/file/file/tree/master/magic/Magdir).
FOREIGN: Final = (
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"8BPS", "a Photoshop document (PSD)"),
    (b"gimp xcf", "a GIMP document (XCF)"),
    (b"%PDF-", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a Microsoft Office document"),
    (b"{\\rtf", "an RTF document"),
    (b"PK\x03\x04", "a ZIP archive, or a document that is one (such as .docx)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"\0\0\1\xba", "an MPEG video"),
    (b"\0\0\1\xb3", "an MPEG video"),
    (b"FLV\x01", "a Flash video"),
    (b"OggS", "an Ogg recording"),
    (b"ID3", "an MP3 recording"),
    (b"fLaC", "a FLAC recording"),
    (b"FUJIFILMCCD-RAW", "a camera's RAW file (Fujifilm RAF)"),
    (b"IIRO", "a camera's RAW file (Olympus ORF)"),
    (b"IIRS", "a camera's RAW file (Olympus ORF)"),
    (b"MMOR", "a camera's RAW file (Olympus ORF)"),
    (b"IIU\0", "a camera's RAW file (Panasonic RW2)"),
    (b"II\x1a\0\0\0HEAPCCDR", "a camera's RAW file (Canon CRW)"),
    (b"FOVb", "a camera's RAW file (Sigma X3F)"),
    (b"\0MRM", "a camera's RAW file (Minolta MRW)"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"SIMPLE  =", "a FITS image"),
    (b"DDS ", "a DirectDraw texture"),
    (b"icns", "a macOS icon (ICNS)"),
    (b"\0\0\2\0", "a Windows cursor"),
    (b"BPG\xfb", "a BPG image"),
    (b"qoif", "a QOI image"),
    (b"farbfeld", "a farbfeld image"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)

RIFF: Final = {
    b"WEBP": "a damaged WebP image",
    b"AVI ": "an AVI video",
    b"WAVE": "a WAV recording",
}

MARKUP: Final = ((b"<svg", "an SVG image"), (b"<html", "an HTML page"), (b"<?xml", "an XML file"))
MARKUP_BYTES: Final = 4096
"""How far behind a file's beginning markup is looked for: comments may come first."""


def identify(data: bytes) -> str | None:
    """Name of the format that `data` begins like, a key of DECODERS, or None."""
    for magic, name in MAGIC:
        if data.startswith(magic):
            return None if name == "TIFF" and data[8:10] == b"CR" else name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    brands = _brands(data)
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIF" if brands & HEIF_BRANDS else None


def _brands(data: bytes) -> set[bytes]:
    """Brands of an ISO base media file (ISO/IEC 14496-12, 4.3); none for other files."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4]), 256)
    return {data[at : at + 4] for at in (8, *range(16, end, 4))}


def describe(data: bytes) -> str:
    """In words, what `data` is that `identify` does not know."""
    for magic, words in FOREIGN:
        if data.startswith(magic):
            return words
    if not data.strip(b"\0"):
        return "nothing but zeros"
    return _describe_container(data) or _describe_text(data)


def _describe_container(data: bytes) -> str | None:
    if data[:4] == b"RIFF":
        return RIFF.get(data[8:12], "a RIFF file")
    if data[:2] == b"II" and data[8:10] == b"CR":
        return "a camera's RAW file (Canon CR2)"
    if b"crx " in (brands := _brands(data)):
        return "a camera's RAW file (Canon CR3)"
    if brands or data[4:8] in (b"moov", b"mdat", b"wide"):
        return "a video, or another ISO media file"
    return None


def _describe_text(data: bytes) -> str:
    head = data[:MARKUP_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):  # UTF-16
        head = head.replace(b"\0", b"")[2:].lstrip()
    lower = head.lower()
    if lower.startswith(b"<"):
        for tag, words in MARKUP:
            if tag in lower:
                return words
        return "markup"
    printable = head.decode("utf-8", "ignore").replace("\n", " ").replace("\t", " ")
    if printable.replace("\r", "").isprintable() and len(printable) > len(head) // 2:
        return "a text"
    return "no known file type"
