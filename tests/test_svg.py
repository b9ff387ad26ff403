"""SVG: what is drawn, what is left out, and what is refused."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import decoded, thumbnails_of

from thumbnailer.errors import CorruptImage, ImageTooLarge, PermanentError
from thumbnailer.imaging import identify, make_thumbnails
from thumbnailer.imaging.formats import svg

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def drawing(content: str = "", attributes: str = 'width="200" height="100"') -> bytes:
    """Build an SVG."""
    return f"<svg {NAMESPACES} {attributes}>{content}</svg>".encode()


def colour_at(data: bytes, place: tuple[int, int]) -> tuple[int, ...]:
    """Return the colour (RGBA) of a pixel of the thumbnail that is 100 pixels wide."""
    picture = decoded(thumbnails_of(data, (100,)).thumbnails[0].data).convert("RGBA")
    found = picture.getpixel(place)
    assert isinstance(found, tuple)
    return found


def test_a_drawing_is_drawn_at_the_size_of_each_thumbnail() -> None:
    """Shapes, styles and gradients are drawn; what nothing covers is transparent."""
    data = drawing(
        '<style>.half { fill: #0000ff }</style><rect class="half" width="100" height="100"/>'
    )
    made = thumbnails_of(data, (50, 100))
    assert (made.format, made.size) == ("SVG", (200, 100))
    assert [each.size for each in made.thumbnails] == [(50, 25), (100, 50)]
    red, green, blue, alpha = colour_at(data, (20, 25))
    assert (red < 10, green < 10, blue > 245, alpha) == (True, True, True, 255)
    assert colour_at(data, (80, 25))[3] == 0


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ('width="30" height="40"', (30, 40)),
        ('width="1in" height="25.4mm"', (96, 96)),
        ('viewBox="0 0 640 200"', (640, 200)),
        ('viewBox="0,0,640,200" width="320"', (320, 100)),
        ('viewBox="0 0 640 200" height="100px"', (320, 100)),
        ('viewBox="0 0 640 200" width="100%" height="100%"', (640, 200)),
        ('viewBox="0 0 0 0"', (300, 150)),
        ("", (300, 150)),
    ],
)
def test_the_size_is_that_of_the_root_element(attributes: str, size: tuple[int, int]) -> None:
    """Lengths come first, then the view box, then the default of CSS."""
    assert thumbnails_of(drawing("<rect/>", attributes)).size == size


@pytest.mark.parametrize(
    "reference",
    ["file:///etc/hostname", "/etc/hostname", "http://127.0.0.1:9/a.png", "//127.0.0.1/a.png"],
)
def test_nothing_outside_the_file_is_read(reference: str) -> None:
    """References to files and servers are removed before anything is drawn."""
    data = drawing(f'<image xlink:href="{reference}" href="{reference}" width="9" height="9"/>')
    assert reference not in svg.SvgFile(svg.io.BytesIO(data)).svg
    assert thumbnails_of(data).thumbnails


def test_references_within_the_file_stay() -> None:
    """An element that is used again is drawn."""
    data = drawing(
        '<defs><rect id="a" width="200" height="100" fill="red"/></defs><use xlink:href="#a"/>'
    )
    assert colour_at(data, (50, 25))[:1] > (245,)


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn --><svg/>",
        '\ufeff<?xml version="1.0" encoding="UTF-16"?><svg/>'.encode("utf-16-le"),
        b"<!DOCTYPE svg><a:svg xmlns:a='http://www.w3.org/2000/svg'/>",
    ],
)
def test_the_first_element_makes_an_svg(data: bytes) -> None:
    """Behind a byte order mark, comments and a document type, and with any prefix."""
    assert identify(data) == "SVG"


@pytest.mark.parametrize("encoding", ["UTTTF-8", "idna", "hex", "zlib", "punycode"])
def test_an_encoding_that_is_none_of_a_text_is_refused(encoding: str) -> None:
    """Python does not know it, or it is not one of characters."""
    data = f'<?xml version="1.0" encoding="{encoding}"?><svg/>'.encode()
    with pytest.raises(PermanentError):
        thumbnails_of(data)
    with pytest.raises(ValueError, match=r"codec|encoding"):
        svg.SvgFile(svg.io.BytesIO(data))


@pytest.mark.parametrize("data", [b"<html><svg/></html>", b"<?xml version='1.0'?>", b"a <svg/>"])
def test_other_markup_is_no_svg(data: bytes) -> None:
    """A page that contains a drawing is a page."""
    assert identify(data) is None


ENTITIES = "".join(
    f'<!ENTITY a{number} "{f"&a{number - 1};" * 10 if number else "lol" * 10}">'
    for number in range(9)
)
USES = "".join(
    f'<g id="a{number}">{f"<use xlink:href=&quot;#a{number - 1}&quot;/>" * 10}</g>'
    for number in range(1, 9)
).replace("&quot;", '"')

HOSTILE: dict[str, tuple[bytes, type[PermanentError] | None]] = {
    "entities": (
        f"<!DOCTYPE svg [{ENTITIES}]><svg {NAMESPACES}><desc>&a8;</desc></svg>".encode(),
        CorruptImage,
    ),
    "uses": (
        drawing(f'<defs><rect id="a0" width="9" height="9"/>{USES}</defs><use href="#a8"/>'),
        CorruptImage,
    ),
    "depth": (drawing("<g>" * 1000 + "</g>" * 1000), ImageTooLarge),
    "elements": (drawing("<g/>" * 100_001), ImageTooLarge),
    "bytes": (drawing(" " * svg.MAX_BYTES), ImageTooLarge),
    "cut off": (drawing()[:-3], CorruptImage),
    "no drawing": (drawing("<script>for (;;);</script>"), None),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_drawing_is_refused(kind: str) -> None:
    """Entities, nested uses, and drawings that are too large or deep end with an error."""
    data, error = HOSTILE[kind]
    specs = [thumbnails_of(drawing()).thumbnails[0].spec]
    if error is None:
        assert make_thumbnails(data, specs, 512, 60.0).thumbnails
    else:
        with pytest.raises(error):
            make_thumbnails(data, specs, 512, 60.0)


PEAK = """
import re, sys
from pathlib import Path
sys.path[:0] = ["lambda", "tests"]
from pictures import specs_of
from thumbnailer.imaging import make_thumbnails

def status(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

specs, data = specs_of([64]), sys.stdin.buffer.read()
make_thumbnails(b"<svg xmlns='http://www.w3.org/2000/svg'/>", specs, 10_240)
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
make_thumbnails(data, specs, 10_240)
print(status("VmHWM") - before)
"""
"""Prints the bytes that a drawing needs beside its file."""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is Linux's")
@pytest.mark.parametrize(
    "element",
    ["<g/>", pytest.param('<rect x="1" y="2" width="9" height="9"/>', marks=pytest.mark.slow)],
)
def test_the_memory_of_a_drawing_is_estimated(element: str) -> None:
    """Many empty elements, and as many bytes as are drawn: the peak is within the estimate."""
    number = min(99_000, svg.MAX_BYTES // len(element) - 100)
    data = drawing(element * number)
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PEAK], input=data, capture_output=True, check=True
    )
    estimate = svg.decoder_bytes(svg.SvgFile(svg.io.BytesIO(data)), data, (64, 32))
    assert 0.95 <= estimate / int(ran.stdout) <= 1.35


def test_a_panic_of_the_decoder_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no Exception in Python, and would end a worker of `thumbs` with a traceback."""

    class PanicException(BaseException):
        """As in Rust."""

    def panic(**_: object) -> bytes:
        raise PanicException

    monkeypatch.setattr(svg.resvg_py, "svg_to_bytes", panic)
    with pytest.raises(CorruptImage, match="resvg cannot draw it"):
        thumbnails_of(drawing())


@given(st.text("<>svg/!-?xml &;\"'=[]DOCTYPE", max_size=200))
def test_any_text_is_recognised_or_not(text: str) -> None:
    """Recognising never fails."""
    identify(text.encode())


def test_a_drawing_is_counted_at_the_size_of_the_thumbnail() -> None:
    """The size that it states costs nothing, because it is never drawn at that size."""
    needs = []
    for width in (512, 900, 60_000):
        data = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{width}"/>'
        with pytest.raises(ImageTooLarge) as caught:
            thumbnails_of(data.encode(), (512,), 85, 61)
        needs.append(caught.value.need_mb)
    assert max(needs) - min(needs) < 0.01
