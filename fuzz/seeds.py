"""Intact files to damage: small ones of every kind, and the corpus of real images if it exists."""

import io
import struct
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final

from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from bench import hostile_files
from fuzz.formats import isobmff, tiff
from fuzz.formats.parts import Part
from tools.corpus import CASES

MAX_BYTES: Final = 200_000
"""Of a corpus file: larger ones take so long that few cases would be tried."""

SIZE: Final = (67, 45)
"""(width, height) of the drawn images in pixels: odd, so that blocks at
the edges are incomplete."""

PROFILE: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF: Final = Image.Exif()
EXIF[0x0112] = 6  # orientation
EXIF.get_ifd(0x8825)[1] = "N"  # a directory in the directory

TEXTS: Final = PngInfo()
TEXTS.add_text("Title", "a" * 99, zip=True)
TEXTS.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>" * 9, zip=True)
TEXTS.add_itxt("Comment", "é" * 9)

KINDS: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"exif": EXIF, "icc_profile": PROFILE, "comment": "c"}),
    ("JPEG", "RGB", {"restart_marker_blocks": 3, "subsampling": 1}),
    ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "L", {"progressive": True}),
    ("JPEG", "CMYK", {}),
    ("PNG", "RGB", {}),
    ("PNG", "RGB", {"exif": EXIF, "icc_profile": PROFILE, "pnginfo": TEXTS, "dpi": (72, 72)}),
    ("PNG", "RGB", {"transparency": (1, 2, 3)}),
    ("PNG", "RGBA", {}),
    ("PNG", "LA", {}),
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "1", {}),
    ("PNG", "I;16", {}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGB", {"exif": EXIF, "icc_profile": PROFILE}),
    ("WEBP", "RGBA", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("GIF", "P", {"transparency": 3}),
    ("GIF", "P", {"interlace": True, "comment": b"c"}),
    ("TIFF", "RGB", {}),
    ("TIFF", "RGB", {"big_tiff": True, "exif": EXIF, "icc_profile": PROFILE}),
    ("TIFF", "RGB", {"compression": "tiff_lzw", "strip_size": 67 * 3 * 8}),
    ("TIFF", "RGBA", {"compression": "tiff_lzw", "tiffinfo": {317: 2}}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("TIFF", "YCbCr", {"compression": "tiff_deflate"}),
    ("TIFF", "CMYK", {"compression": "packbits"}),
    ("TIFF", "P", {"compression": "zstd"}),
    ("TIFF", "1", {"compression": "group4"}),
    ("TIFF", "1", {"compression": "group3"}),
    ("TIFF", "I;16", {}),
    ("TIFF", "F", {"compression": "tiff_deflate"}),
    ("TIFF", "LAB", {}),
    ("TIFF", "RGB", {"save_all": True, "append_images": [Image.new("L", (9, 9))]}),
    ("BMP", "RGB", {}),
    ("BMP", "P", {}),
    ("AVIF", "RGB", {"speed": 10}),
    ("AVIF", "RGBA", {"speed": 10}),
    ("AVIF", "RGB", {"speed": 10, "exif": EXIF, "icc_profile": PROFILE, "subsampling": "4:4:4"}),
    ("JPEG2000", "RGB", {}),
    ("JPEG2000", "RGB", {"no_jp2": True, "progression": "RPCL", "precinct_size": (32, 32)}),
    ("JPEG2000", "RGB", {"quality_layers": [40, 20, 0], "irreversible": True, "comment": "c"}),
    ("JPEG2000", "RGBA", {"tile_size": (32, 32)}),
    ("JPEG2000", "L", {"tile_size": (4, 4)}),
    ("JPEG2000", "L", {"num_resolutions": 1, "codeblock_size": (4, 4)}),
    ("HEIF", "RGB", {}),
    ("HEIF", "RGBA", {}),
    ("HEIF", "RGB", {"exif": EXIF.tobytes(), "icc_profile": PROFILE, "chroma": 444}),
    ("HEIF", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (64, 64))]}),
    ("ICO", "RGBA", {"sizes": [(32, 32)]}),
    ("ICO", "RGBA", {"sizes": [(32, 32)], "bitmap_format": "bmp"}),
)
"""(format, mode, options) of the drawn images, as Pillow and pillow-heif name them."""

ANIMATED: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("GIF", "RGB", {"disposal": 2}),
    ("GIF", "RGBA", {"disposal": [0, 1, 2, 3], "loop": 3}),
    ("PNG", "RGB", {"default_image": True, "blend": 1}),
    ("PNG", "RGBA", {"disposal": [0, 1, 2, 0]}),
    ("WEBP", "RGB", {"background": (1, 2, 3, 4)}),
    ("WEBP", "RGBA", {"allow_mixed": True, "icc_profile": PROFILE}),
    ("AVIF", "RGB", {"speed": 10}),
    ("AVIF", "RGBA", {"speed": 10}),
)
"""The same for animations of four frames."""

SLOW_TO_BUILD: Final = ("texts.png",)
"""Of the files that understate what they need: its texts inflate to 64 MB."""


def seeds() -> dict[str, bytes]:
    """Name → bytes of each file, the same in every process."""
    found = {f"drawn/{number}": data for number, data in enumerate(_drawn())}
    if CASES.exists():
        files = CASES.parent / "cases"
        for path in sorted(files.rglob("*")):
            if path.is_file() and path.stat().st_size <= MAX_BYTES:
                found[str(path.relative_to(files))] = path.read_bytes()
    return found


def drawn() -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of a picture of each of KINDS and ANIMATED."""
    import pillow_heif  # noqa: PLC0415

    pillow_heif.register_heif_opener()
    picture = _picture().resize(SIZE)
    for kind, mode, options in KINDS:
        yield _name(kind, mode, options), _encoded(_as(picture, mode), kind, options)
    for kind, mode, options in ANIMATED:
        frames = [_as(picture.rotate(30 * turn), mode) for turn in range(4)]
        others = {"save_all": True, "append_images": frames[1:], "duration": 50}
        name = _name(f"animated {kind}", mode, options)
        yield name, _encoded(frames[0], kind, others | options)


def _name(kind: str, mode: str, options: dict[str, Any]) -> str:
    plain = {key: f"={value}" if isinstance(value, str) else "" for key, value in options.items()}
    return " ".join([kind, mode, *(key + value for key, value in plain.items())])


def _picture() -> Image.Image:
    return Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * turn) for turn in range(3)])


def _drawn() -> Iterator[bytes]:
    yield from (data for _, data in drawn())
    tile, picture = _picture().resize((64, 64)), _picture().resize(SIZE)
    for kind in ("AVIF", "HEIF"):
        yield _derived(_encoded(tile, kind, {}), b"grid", GRID)
    yield _derived(_encoded(tile, "HEIF", {}), b"iovl", OVERLAY)
    yield _turned(_encoded(picture, "TIFF", {"compression": "tiff_lzw"}))
    for name, make in hostile_files.KINDS.items():
        if name not in SLOW_TO_BUILD:
            yield make(*SIZE)


def _turned(data: bytes) -> bytes:
    """The same TIFF in the other byte order, as most cameras and no encoder here write it."""
    directories = tiff.split(data)
    tiff.turn_byte_order(directories)
    return tiff.join(data, directories)


GRID: Final = struct.pack(">BBBBHH", 0, 0, 1, 1, 128, 128)
"""Content of the item `grid`: 2 × 2 tiles, 128 × 128 pixels (ISO/IEC 23008-12, 6.6.2.3)."""

OVERLAY: Final = struct.pack(">BB4HHH8h", 0, 0, 0, 0, 0, 0, 128, 128, 0, 0, 64, 0, 0, 64, 9, 9)
"""Content of the item `iovl`: a canvas of 128 × 128 pixels, and the place of each of four pictures
(6.6.2.2)."""


def _derived(tile: bytes, kind: bytes, content: bytes) -> bytes:
    """An AVIF or HEIF whose picture is put together from four equal ones, as phones write tiles.

    `tile` is a file of 64 × 64 pixels, with one item.
    """
    boxes = {part.name: part for part in isobmff.split(tile)}
    described = {part.name: part for part in boxes[b"meta"].children}
    coded, head = boxes[b"mdat"].body, isobmff.box(boxes[b"ftyp"])
    item_type = described[b"iinf"].children[0].body[8:12]
    properties = described[b"iprp"].children[0].children
    size = Part(b"ispe", struct.pack(">III", 0, 128, 128))
    of_tile = bytes(range(1, len(properties) + 1))
    tiles, whole = (1, 2, 3, 4), 5
    item = struct.Struct(">HHHHII")  # its number, where it is, 0, 1 extent: place, length
    places = [item.pack(number, 0, 0, 1, len(head) + 8, len(coded)) for number in tiles]
    places.append(item.pack(whole, 1, 0, 1, 0, len(content)))  # in idat
    info = struct.Struct(">IHH4sx")  # version, its number, 0, type, an empty name
    infos = [info.pack(2 << 24, number, 0, item_type) for number in tiles]
    infos.append(info.pack(2 << 24, whole, 0, kind))
    used = [struct.pack(">HB", number, len(of_tile)) + of_tile for number in tiles]
    used.append(struct.pack(">HBB", whole, 1, len(of_tile) + 1))
    meta = Part(
        b"meta",
        bytes(4),
        [
            described[b"hdlr"],
            Part(b"pitm", struct.pack(">IH", 0, whole)),
            Part(b"iloc", struct.pack(">IHH", 1 << 24, 0x4400, 5) + b"".join(places)),
            Part(b"iinf", struct.pack(">IH", 0, 5), [Part(b"infe", body) for body in infos]),
            Part(b"iref", bytes(4), [Part(b"dimg", struct.pack(">HH4H", whole, 4, *tiles))]),
            Part(
                b"iprp",
                children=[
                    Part(b"ipco", children=[*properties, size]),
                    Part(b"ipma", struct.pack(">II", 0, 5) + b"".join(used)),
                ],
            ),
            Part(b"idat", content),
        ],
    )
    return head + isobmff.join([boxes[b"mdat"], meta])


def _as(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return picture.convert("L").convert("I").point(lambda level: level * 257).convert(mode)
    if mode == "LAB":
        return Image.frombytes("LAB", picture.size, picture.tobytes())
    if mode in ("RGBA", "LA"):
        picture = picture.copy()
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture.convert(mode)


def _encoded(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **deepcopy(options))  # Pillow removes the orientation of an AVIF
    return buffer.getvalue()
