"""Recognition of supported and unsupported files by their content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import encoded, quadrants, thumbnails_of
from PIL import TiffImagePlugin

from thumbnailer.errors import UnsupportedImage
from thumbnailer.imaging import identify
from thumbnailer.imaging.formats import FORMATS, load
from thumbnailer.imaging.sniff import describe

UNSUPPORTED = {
    b"\xff\x0a\xfa\x7f": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"<!DOCTYPE html><html>": "HTML",
    b"<html><svg xmlns='http://www.w3.org/2000/svg'/></html>": "HTML",
    b"8BPS\0\1": "Photoshop",
    b"%PDF-1.7": "PDF",
    b"PK\x03\x04\x14\0": "ZIP",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "Office",
    b"\0\0\0\x18ftypisom\0\0\2\0isomiso2": "video",
    b"\0\0\0\x14ftypqt  \0\0\0\0qt  ": "video",
    b"\x1aE\xdf\xa3": "WebM",
    b"RIFF\0\0\0\0AVI LIST": "AVI",
    b"RIFF\0\0\0\0WAVEfmt ": "WAV",
    b"\0\0\0\x18ftypcrx \0\0\0\1crx isom": "Canon CR3",
    b"II*\0\x10\0\0\0CR\2\0": "Canon CR2",
    b"FUJIFILMCCD-RAW 0201": "Fujifilm",
    b"IIU\0\x18\0\0\0": "Panasonic",
    b"hello, I am a text\n": "plain text",
    b'{"json": true}': "plain text",
    bytes(100): "zero",
    b"\x8aMNG\r\n\x1a\n": "MNG",
    b" \n\n": "blank text",
    b"\x8f\x01\xfe\xca\x99": "unknown .it begins with the bytes 8f 01 fe ca 99",
}


@pytest.mark.parametrize("data", UNSUPPORTED)
def test_the_error_for_an_unsupported_file_says_what_it_is(data: bytes) -> None:
    """The message describes the file by its content, and then lists the supported formats."""
    assert identify(data) is None
    message = rf"Unsupported file type: .*{UNSUPPORTED[data]}.*\. Supported formats: JPEG, PNG, "
    with pytest.raises(UnsupportedImage, match=message):
        thumbnails_of(data, (128,), 85, 512)


@pytest.mark.parametrize(
    ("brand", "others", "name"),
    [
        (b"heic", b"mif1heic", "HEIF"),
        (b"mif1", b"mif1heic", "HEIF"),
        (b"heix", b"mif1heix", "HEIF"),
        (b"msf1", b"hevcmsf1", "HEIF"),
        (b"avif", b"mif1miaf", "AVIF"),
        (b"mif1", b"mif1avifmiaf", "AVIF"),
        (b"avis", b"msf1", "AVIF"),
        (b"isom", b"iso2avc1", None),
    ],
)
def test_brands_distinguish_heif_avif_and_video(
    brand: bytes, others: bytes, name: str | None
) -> None:
    """Files of the same container are identified by all of their brands, not by the first."""
    box = (16 + len(others)).to_bytes(4) + b"ftyp" + brand + bytes(4) + others
    assert identify(box + bytes(32)) == name


@pytest.mark.parametrize(
    "tags",
    [{50706: b"\1\4\0\0"}, {262: 32803}, {254: 1, 330: 8}],
    ids=["DNG", "colour filter array", "preview of a NEF or ARW"],
)
def test_a_raw_file_in_a_tiff_container_is_unsupported(tags: dict[int, int | bytes]) -> None:
    """A camera's RAW file is refused, because decoding gives a tiny preview or a mosaic."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[271] = "Camera Maker"
    for tag, value in tags.items():
        info.tagtype[tag] = 1 if isinstance(value, bytes) else 4
        info[tag] = value
    data = encoded(quadrants((64, 48)), "TIFF", tiffinfo=info)
    with pytest.raises(UnsupportedImage, match=r"RAW file \(Camera Maker\)"):
        thumbnails_of(data, (128,), 85, 512)


@given(st.binary(max_size=64))
def test_any_bytes_can_be_identified_and_described(data: bytes) -> None:
    """Neither function raises an error, and a description is never empty."""
    assert identify(data) in {None, *(load(name).name for name in FORMATS)}
    assert describe(data)
