"""SVG, drawn by resvg at the size of the largest thumbnail.

Nothing outside the file is read: references to other files are removed before resvg sees them.
There are no fonts in Lambda, so text is left out. The file is opened and drawn in a child process:
nested references and filters may take any time and memory.
"""

import io
import re
from contextlib import suppress
from typing import Any, Final, NoReturn
from xml.etree import ElementTree as ET
from xml.parsers import expat

import resvg_py
from PIL import Image, ImageFile, PngImagePlugin

from thumbnailer.errors import ImageTooLarge
from thumbnailer.imaging.formats.format import UPRIGHT, Format
from thumbnailer.imaging.limits import pixels
from thumbnailer.imaging.resize import Box
from thumbnailer.imaging.spec import PixelSize

HEAD_BYTES: Final = 4096
"""Bytes of a file in which its first element is searched, because comments may come first."""

MAX_BYTES: Final = 4 * 1024**2
MAX_ELEMENTS: Final = 100_000
MAX_DEPTH: Final = 256
"""Assumptions: larger than drawings on web pages, and drawn in seconds."""

TREE_BYTES: Final = 26
ELEMENT_BYTES: Final = 350
"""For each byte of the file and each element: the tree, its text, and resvg's own tree. Elements
with attributes take 28 bytes for each of their bytes, empty ones 450 each (tests/test_svg.py)."""

DRAWN_BYTES: Final = 20
"""For each pixel that is drawn, beside Pillow's picture: resvg's picture and its PNG."""

DPI: Final = 96.0
"""Pixels of an inch (CSS Values 4, 6.2)."""

DEFAULT_SIZE: Final = (300.0, 150.0)
"""Pixels of a drawing that states none (CSS 2.2, 10.3.2)."""

UNITS: Final = {"": 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0, "cm": 96 / 2.54}
UNITS_MM: Final = {"mm": 96 / 25.4, "q": 96 / 101.6}
"""Pixels of a unit (CSS Values 4, 6.2)."""

LENGTH: Final = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE)
EMBEDDED: Final = ("#", "data:image/png", "data:image/jpeg", "data:image/gif", "data:image/webp")
"""How references begin that stay inside the file."""

PANIC: Final = "PanicException"
"""What a fault in Rust raises, which is no Exception (https://pyo3.rs, "Error handling")."""

TEXT_IS_LEFT_OUT: Final = "the text of the drawing was left out: there are no fonts"


class SvgFile(ImageFile.ImageFile):
    """An SVG: its size is read from its root element, and it is drawn when it is decoded."""

    format = "SVG"
    format_description = "Scalable Vector Graphics"

    def _open(self) -> None:
        file: Any = self.fp
        data = file.read()
        if len(data) > MAX_BYTES:
            raise ImageTooLarge(f"An SVG of {len(data):,} bytes: at most {MAX_BYTES:,} are drawn.")
        try:
            root = ET.fromstring(data)  # noqa: S314 - expat resolves no external entity
        except LookupError as error:
            raise ValueError(str(error)) from error  # an unknown encoding
        has_text, self.elements = _make_harmless(root)
        self.notes = [TEXT_IS_LEFT_OUT] if has_text else []
        self.svg = ET.tostring(root, encoding="unicode")
        self._size = size_of(root)
        self._mode = "RGBA"
        self.tile = []


def recognise(data: bytes) -> bool:
    """See Format. The first element decides, behind comments and a document type."""
    if not data[:HEAD_BYTES].lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"<"):
        return False
    parser = expat.ParserCreate(namespace_separator=" ")
    found: list[str] = []

    def stop(name: str, _: object) -> NoReturn:
        found.append(name)
        raise StopIteration

    parser.StartElementHandler = stop
    with suppress(StopIteration, expat.ExpatError, ValueError, LookupError):  # of an encoding
        parser.Parse(data[:HEAD_BYTES])
    return bool(found) and found[0].rpartition(" ")[2] == "svg"


def _make_harmless(root: ET.Element) -> tuple[bool, int]:
    """Remove references to other files; return whether there is text, and the number of elements.

    Raises ImageTooLarge where there are too many elements, or they are nested too deeply.
    """
    has_text = False
    count = 0
    waiting = [(root, 1)]
    while waiting:
        element, depth = waiting.pop()
        count += 1
        if count > MAX_ELEMENTS or depth > MAX_DEPTH:
            raise ImageTooLarge(
                f"An SVG with more than {MAX_ELEMENTS:,} elements, or nested more than "
                f"{MAX_DEPTH} deep, is not drawn."
            )
        has_text |= str(element.tag).rpartition("}")[2] == "text"
        for name in [name for name in element.attrib if name.rpartition("}")[2] == "href"]:
            if not element.attrib[name].strip().startswith(EMBEDDED):
                del element.attrib[name]
        waiting += [(child, depth + 1) for child in element]
    return has_text, count


def size_of(root: ET.Element) -> PixelSize:
    """Return the size in pixels that the root element states: its lengths, or its view box."""
    box = [float(part) for part in re.findall(r"[0-9.eE+-]+", root.get("viewBox", ""))]
    ratio = box[2] / box[3] if len(box) == 4 and min(box[2:]) > 0 else None  # noqa: PLR2004
    width, height = _length(root.get("width")), _length(root.get("height"))
    if not width and not height:
        width, height = (box[2], box[3]) if ratio else DEFAULT_SIZE
    ratio = ratio or DEFAULT_SIZE[0] / DEFAULT_SIZE[1]
    width = width or (height or 0) * ratio
    height = height or width / ratio
    return max(1, round(width)), max(1, round(height))


def _length(text: str | None) -> float | None:
    found = LENGTH.fullmatch(text or "")
    unit = (UNITS | UNITS_MM).get(found[2].lower()) if found else None
    return float(found[1]) * unit if found and unit else None


def open_svg(data: bytes, _memory_mb: int) -> ImageFile.ImageFile:
    """See Format."""
    return SvgFile(io.BytesIO(data))


def decoder_bytes(image: ImageFile.ImageFile, data: bytes, decoded: PixelSize) -> float:
    """See Format."""
    assert isinstance(image, SvgFile)  # noqa: S101 - open_svg made it
    tree = len(data) * TREE_BYTES + image.elements * ELEMENT_BYTES
    return tree + pixels(decoded) * DRAWN_BYTES


def orientation(_image: ImageFile.ImageFile) -> int:
    """See Format."""
    return UPRIGHT


def decode(image: ImageFile.ImageFile, size: PixelSize, _scale: int) -> tuple[Image.Image, Box]:
    """See Format. The picture has the thumbnail's size already."""
    assert isinstance(image, SvgFile)  # noqa: S101 - open_svg made it
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=image.svg, width=size[0], height=size[1], dpi=DPI, skip_system_fonts=True
        )
    except BaseException as error:
        if type(error).__name__ == PANIC:
            raise ValueError("resvg cannot draw it") from None
        raise
    picture = PngImagePlugin.PngImageFile(io.BytesIO(png))
    picture.load()
    return picture, (0, 0, *picture.size)


FORMAT: Final = Format(
    name="SVG",
    title="SVG",
    recognise=recognise,
    open=open_svg,
    needs_child=True,
    decoder_bytes=decoder_bytes,
    orientation=orientation,
    draws=True,
    decode=decode,
)
