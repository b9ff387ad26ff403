"""JPEG: malformed metadata, files that are cut off, and kinds that cannot be decoded."""

import struct
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import decoded, encoded, is_upright, jpeg, rgb_profile, thumbnails_of
from PIL import Image, ImageCms, ImageFile

from thumbnailer.errors import CorruptImage, UnsupportedImage
from thumbnailer.imaging import Made
from thumbnailer.imaging.formats import jpeg as jpeg_format

END = b"\xff\xd9"
SOF, SOS = b"\xff\xc0", b"\xff\xda"


def segment(marker: int, payload: bytes, length: int | None = None) -> bytes:
    """Build a marker segment, with a wrong `length` if given (T.81, B.1.1.4)."""
    return (
        struct.pack(">BBH", 0xFF, marker, len(payload) + 2 if length is None else length) + payload
    )


def icc(number: int, count: int, profile: bytes) -> bytes:
    """Build a part of a profile (ICC.1:2022, B.4)."""
    return segment(0xE2, b"ICC_PROFILE\0" + bytes((number, count)) + profile)


def with_segment(data: bytes, added: bytes, before: bytes | None = None) -> bytes:
    """Insert a segment after SOI, in place of the JFIF segment, or before a marker."""
    if before:
        at = data.index(before)
        return data[:at] + added + data[at:]
    jfif_end = 4 + int.from_bytes(data[4:6])
    return data[:2] + added + data[jfif_end:]


def made(data: bytes) -> Made:
    """Make a thumbnail of 128 pixels."""
    return thumbnails_of(data, (128,))


@cache
def noise(mode: str = "RGB", *, progressive: bool = False) -> bytes:
    """Return a JPEG of 320 × 240 pixels in which every block has many bytes."""
    return encoded(
        Image.effect_noise((320, 240), 80).convert(mode),
        "JPEG",
        progressive=progressive,
        quality=90,
    )


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF_SHARE = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x1a\0\5\0\0\0\1\0\0\0\x40"
MALFORMED = {
    "JFIF without content": segment(0xE0, b"JFIF\0"),
    "JFIF without its zero": segment(0xE0, b"JFIF"),
    "JFIF whose length is 0": segment(0xE0, b"", 0),
    "JFIF whose length is 1": segment(0xE0, b"", 1),
    "JFIF that claims fewer bytes": segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0", 8),
    "JFIF that claims a preview": segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\xff\xff"),
    "two JFIF": segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") * 2,
    "Adobe without content": segment(0xEE, b"Adobe"),
    "Adobe without its transform": segment(0xEE, b"Adobe\0\x64\0\0\0\0"),
    "profile without number": segment(0xE2, b"ICC_PROFILE\0"),
    "profile without count": segment(0xE2, b"ICC_PROFILE\0\1"),
    "profile of no parts": icc(0, 0, SRGB),
    "profile with a part missing": icc(1, 2, SRGB),
    "profile with a part twice": icc(1, 1, SRGB) * 2,
    "profile that begins with part 2": icc(2, 1, SRGB),
    "profile of junk": icc(1, 1, b"junk"),
    "EXIF without content": segment(0xE1, b"Exif\0\0"),
    "EXIF that is no TIFF": segment(0xE1, b"Exif\0\0junk and junk"),
    "EXIF that points nowhere": segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "EXIF with a broken resolution": segment(0xE1, EXIF_SHARE),
    "EXIF twice": segment(0xE1, b"Exif\0\0") + segment(0xE1, b"Exif\0\0II*\0"),
    "XMP of junk": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0\xff\xfe<<"),
    "MPO index without content": segment(0xE2, b"MPF\0"),
    "MPO index that points nowhere": segment(0xE2, b"MPF\0MM\0*\xff\xff\xff\xff"),
    "Photoshop without content": segment(0xED, b"Photoshop 3.0\x008BIM"),
    "Photoshop cut off in a name": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\xff"),
    "Photoshop cut off after a code": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
    "Photoshop of a huge size": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0" + b"\xff" * 4),
    "comment without content": segment(0xFE, b""),
    "comment whose length is 1": segment(0xFE, b"", 1),
    "comment that is no text": segment(0xFE, bytes(range(255))),
    "fill bytes": b"\xff\xff\xff",
    "marker without content": b"\xff\x01",
    "bytes between segments": b"\xff\xfe\0\3xjunk",
}


@pytest.mark.parametrize("before", [None, SOF, SOS])
@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_segment_never_costs_the_picture(kind: str, before: bytes | None) -> None:
    """Wherever it is, the thumbnail has the bytes of the file without it."""
    clean = jpeg()
    data = with_segment(clean, MALFORMED[kind], before)
    assert made(data).thumbnails == made(clean).thumbnails


@pytest.mark.parametrize("kind", [kind for kind in MALFORMED if "profile" in kind])
def test_a_profile_that_cannot_be_used_is_noted(kind: str) -> None:
    """The log says that the colours may be others."""
    [note] = made(with_segment(jpeg(), MALFORMED[kind])).notes
    assert note.startswith("colour profile ignored: ")


@pytest.mark.parametrize("before", [SOF, SOS])
def test_a_profile_in_parts_is_joined_in_their_order(before: bytes) -> None:
    """Parts may come in any order, and up to the first scan."""
    profile = rgb_profile()
    parts = icc(2, 2, profile[300:]) + icc(1, 2, profile[:300])
    whole = made(jpeg(icc_profile=profile))
    assert whole.thumbnails != made(jpeg()).thumbnails
    found = made(with_segment(jpeg(), parts, before))
    assert found == whole


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("tail", [b"", END[:1], bytes(500)], ids=["missing", "half", "zeros"])
def test_a_jpeg_without_its_end_is_whole(
    mode: str,
    progressive: bool,  # noqa: FBT001
    tail: bytes,
) -> None:
    """Without the end marker the thumbnail has the same bytes, and a note says what is missing."""
    data = noise(mode, progressive=progressive)
    found = made(data.removesuffix(END) + tail)
    assert found.thumbnails == made(data).thumbnails
    assert found.notes == ("the end of the file is missing, and all rows are there",)
    assert made(data + b"more bytes").notes == ()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("share", [5, 33, 61, 95])
def test_a_jpeg_with_missing_rows_is_corrupt_and_says_how_much_is_there(
    mode: str, share: int
) -> None:
    """The share of the rows is that of the bytes in a picture of even noise."""
    data = noise(mode)
    with pytest.raises(
        CorruptImage, match=r"of the rows are there\. Upload the file again\."
    ) as raised:
        made(data[: len(data) * share // 100])
    found = int(str(raised.value).partition("only ")[2].partition(" %")[0])
    assert share - 12 <= found <= share + 1


def test_rows_are_counted_in_black_pictures_too() -> None:
    """Decoded rows count, missing ones do not, although both may be black."""
    image = Image.new("RGB", (320, 240))
    image.paste(Image.effect_noise((320, 40), 80), (0, 200))
    data = encoded(image, "JPEG", quality=90)
    with pytest.raises(CorruptImage, match=r"only [89]\d %"):
        made(data[: len(data) * 9 // 10])


@pytest.mark.parametrize("fill", [False, True])
def test_a_jpeg_whose_second_half_is_zeros_is_corrupt(fill: bool) -> None:  # noqa: FBT001
    """Zeros, as an interrupted download leaves them, are no pixels."""
    data = noise()
    half = data[: len(data) // 2]
    with pytest.raises(CorruptImage, match=r"only [45]\d % of the rows"):
        made(half + bytes(len(data) - len(half)) * fill)


def scans(data: bytes) -> list[int]:
    """Return where the scans begin."""
    found = [data.index(SOS)]
    while (at := data.find(SOS, found[-1] + 2)) > 0:
        found.append(at)
    return found


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_progressive_jpeg_without_a_scan_is_corrupt(mode: str) -> None:
    """Each scan counts, whether the file ends before one or within it."""
    data = noise(mode, progressive=True)
    places = scans(data)
    assert len(places) > 3
    for number, (at, after) in enumerate(pairwise((*places, len(data)))):
        for end in (at, (at + after) // 2)[number == 0 :]:
            with pytest.raises(CorruptImage, match=f"only {number} of its scans are complete"):
                made(data[:end])


LAST_UNIT_BYTES = 300
"""More than the last 16 × 16 pixels of `noise` take: 300 such units have 61,000 bytes."""


@settings(max_examples=60)
@given(st.data())
def test_a_jpeg_cut_anywhere_is_whole_or_corrupt(data: st.DataObject) -> None:
    """Never is half a picture taken for a whole one: at most the last unit may be cut.

    The zeros that the decoder is given in place of it may happen to complete it.
    """
    whole = noise(progressive=data.draw(st.booleans()))
    missing = data.draw(st.integers(1, 40) | st.integers(290, 400) | st.integers(1, len(whole) - 4))
    if missing <= len(END):
        assert made(whole[:-missing]).thumbnails == made(whole).thumbnails
    elif missing <= LAST_UNIT_BYTES:
        return
    else:
        with pytest.raises(CorruptImage):
            made(whole[:-missing])


def test_a_whole_jpeg_is_decoded_by_pillow_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way is for files that are cut off, and no setting of Pillow changes."""
    monkeypatch.setattr(jpeg_format, "_load_without_end", lambda *_: pytest.fail("not needed"))
    assert is_upright(decoded(made(jpeg()).thumbnails[0].data))
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        (0xC3, "lossless"),
        (0xC5, "hierarchical"),
        (0xC7, "hierarchical and lossless"),
        (0xCB, "lossless, with arithmetic coding"),
        (0xF7, "JPEG-LS"),
    ],
)
def test_a_kind_of_jpeg_that_is_not_decoded_is_unsupported_by_name(marker: int, words: str) -> None:
    """It is valid, so it is not CorruptImage; the message says what it is and what to do."""
    data = jpeg().replace(SOF, bytes((0xFF, marker)), 1)
    message = f"Unsupported kind of JPEG: {words}. Supported are .*Convert the image"
    with pytest.raises(UnsupportedImage, match=message):
        made(data)


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (4, b"\x0c", "12 bits per sample"),
        (5, b"\0\0", "the height follows the pixels"),
        (9, b"\2", "2 colour components"),
    ],
)
def test_a_frame_that_is_not_decoded_is_unsupported_by_name(
    at: int, value: bytes, words: str
) -> None:
    """12 bits, a height that is stated later, and other numbers of components are valid too."""
    data = bytearray(jpeg())
    start = data.index(SOF) + at
    data[start : start + len(value)] = value
    with pytest.raises(UnsupportedImage, match=words):
        made(bytes(data))


def test_the_orientation_of_xmp_is_not_applied() -> None:
    """Browsers turn a picture for EXIF's own tag alone."""
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert made(jpeg(xmp=xmp)).thumbnails == made(jpeg()).thumbnails
