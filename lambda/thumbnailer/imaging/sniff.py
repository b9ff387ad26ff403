"""What an unsupported file is, in words, from its content and never from its name."""

from typing import Final

from thumbnailer.imaging.formats.isobmff import brands
from thumbnailer.imaging.formats.tiff import CANON_RAW

FOREIGN: Final = (
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"\x8aMNG\r\n\x1a\n", "an MNG animation"),
    (b"\x8bJNG\r\n\x1a\n", "a JNG image"),
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
    (b"BPG\xfb", "a BPG image"),
    (b"qoif", "a QOI image"),
    (b"farbfeld", "a farbfeld image"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
"""How unsupported files begin, from the formats' specifications
(collected in https://github.com/file/file/tree/master/magic/Magdir)."""

RIFF: Final = {
    b"AVI ": "an AVI video",
    b"WAVE": "a WAV recording",
}

MARKUP: Final = ((b"<html", "an HTML page"), (b"<?xml", "an XML file"))
MARKUP_BYTES: Final = 4096
"""Bytes of a file in which markup is searched, because comments may come first."""

SHOWN_BYTES: Final = 8
"""Bytes of an unknown file that the message shows: enough to look its format up."""


def describe(data: bytes) -> str:
    """Describe a file that is of none of the formats in `formats`."""
    for magic, words in FOREIGN:
        if data.startswith(magic):
            return words
    if not data.strip(b"\0"):
        return "all bytes are zero"
    return _describe_container(data) or _describe_text(data)


def _describe_container(data: bytes) -> str | None:
    if data[:4] == b"RIFF":
        return RIFF.get(data[8:12], "a RIFF file")
    if data[:2] == b"II" and data[8:10] == CANON_RAW:
        return "a camera's RAW file (Canon CR2)"
    if b"crx " in (found := brands(data)):
        return "a camera's RAW file (Canon CR3)"
    if found or data[4:8] in (b"moov", b"mdat", b"wide"):
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
        return "plain text"
    if not head:
        return "blank text"
    return f"unknown (it begins with the bytes {data[:SHOWN_BYTES].hex(' ')})"
