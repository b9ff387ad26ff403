"""The words for what is wrong with a file."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import encoded, quadrants, thumbnails_of

from thumbnailer.errors import CorruptImage, ImageTooLarge, UnsupportedImage
from thumbnailer.imaging import check_supported
from thumbnailer.imaging.damage import CUT_OFF, INVALID, describe
from thumbnailer.imaging.formats import bmp


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("image file is truncated (82 bytes not processed)"), CUT_OFF),
        (SyntaxError(struct.error("unpack_from requires a buffer of at least 4 bytes")), CUT_OFF),
        (SyntaxError(IndexError("index out of range")), CUT_OFF),
        (OSError("broken data stream when reading image file"), "the pixels are damaged"),
        (OSError("decoder error -2"), "the pixels are damaged"),
        (SyntaxError("not identified by this driver"), "no picture found"),
        (KeyError("RGB;16B"), INVALID),
        (AssertionError(), INVALID),
        (ValueError("bad marker b'\\x00'"), INVALID),
        (zlib.error("Error -3 while decompressing data"), INVALID),
        (OSError("only 61 % of the rows are there"), "only 61 % of the rows are there"),
    ],
)
def test_what_a_decoder_raises_is_described_for_people(error: Exception, words: str) -> None:
    """Terms of Python and of Pillow's code are translated; what is in words stays."""
    assert describe(error) == words


@given(st.sampled_from([OSError, ValueError, KeyError, struct.error]), st.text() | st.binary())
def test_every_error_has_a_description(kind: type[Exception], content: str | bytes) -> None:
    """It is never empty, and has no repr of bytes."""
    words = describe(SyntaxError(kind(content)))
    assert words
    assert "b'" not in words


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        ("Unsupported bit depth (3)", UnsupportedImage, "Unsupported kind of BMP: .*Convert the"),
        ("unknown pixel mode", UnsupportedImage, "Unsupported kind of BMP: unknown pixel mode"),
        ("Security limit exceeded: too many.", ImageTooLarge, r"\(Security .*too many\)\. Upload"),
        ("Security limit exceeded: over the maximum image size 4", CorruptImage, "^BMP: "),
        ("not enough image data", CorruptImage, "BMP: the file ends too early. Upload the file"),
    ],
)
def test_what_a_decoder_cannot_decode_is_not_corrupt(
    message: str, error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder's own words decide whether the file is damaged or of an unsupported kind."""

    def fails(*_: object) -> None:
        raise OSError(message)

    monkeypatch.setattr(bmp, "FORMAT", bmp.FORMAT._replace(open=fails))
    with pytest.raises(error, match=words):
        thumbnails_of(encoded(quadrants((8, 8)), "BMP"), (4,))


def test_an_empty_file_is_called_empty() -> None:
    """The message says so, and what to do."""
    with pytest.raises(CorruptImage, match=r"^The file is empty\. Upload it again\.$"):
        check_supported(b"")
