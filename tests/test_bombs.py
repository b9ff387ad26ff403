"""Bombs: small files that expand, or claim to expand, to far more than a function's memory."""

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import pytest
from pictures import encoded, jpeg, png, png_chunk, quadrants
from PIL import Image

from bench.hostile_files import KINDS, tiff_of_strips

MEMORY_MB = 512
SECONDS = 10
"""CPU time, because other work of the machine does not count."""

PROGRAM = """
import json, resource, sys
sys.path[:0] = sys.argv[3:]
resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]), int(sys.argv[2])))
from thumbnailer.imaging import make_thumbnails, parse_sizes
from thumbnailer.settings import Settings
from thumbnailer.errors import PermanentError
specs = Settings("", "", sizes=parse_sizes(sys.argv[1])).specs
try:
    made = make_thumbnails(sys.stdin.buffer.read(), specs, 512)
    outcome = "thumbnail"
except PermanentError as error:
    outcome = type(error).__name__
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps([outcome, int(peak[0].split()[1]) / 1024]))
"""


def outcome_of(data: bytes, widths: str = "128,512") -> str:
    """Make thumbnails in a new process; return "thumbnail" or the name of a permanent error.

    Fails where the process needs more than MEMORY_MB or SECONDS.
    """
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM, widths, str(SECONDS), "lambda"],
        input=data,
        capture_output=True,
        check=True,
    )
    result, peak_mb = json.loads(ran.stdout)
    assert peak_mb < MEMORY_MB
    return str(result)


def png_with(*chunks: bytes) -> bytes:
    """Build a small PNG with these chunks after its header."""
    data = encoded(quadrants((64, 48)), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def inflating(size: int) -> bytes:
    """Compress `size` zero bytes, a multiple of a megabyte, to about a thousandth."""
    compressor = zlib.compressobj(9)
    blocks = [compressor.compress(bytes(2**20)) for _ in range(size // 2**20)]
    return b"".join(blocks) + compressor.flush()


def png_text() -> bytes:
    """A PNG with two hundred texts that inflate to a megabyte each."""
    text = png_chunk(b"zTXt", b"Comment\0\0" + inflating(2**20))
    return png_with(*[text] * 200)


def png_profile() -> bytes:
    """A PNG with a colour profile that inflates to a gigabyte."""
    return png_with(png_chunk(b"iCCP", b"icc\0\0" + inflating(2**30)))


def png_pixels(side: int = 25_000) -> bytes:
    """A PNG of 25,000 × 25,000 black pixels in 600 KB."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = inflating(side * (3 * side + 1) + 2**20)
    return png((b"IHDR", head), (b"IDAT", pixels))


def png_with_more_pixels_than_it_claims() -> bytes:
    """A PNG whose header claims 64 × 48 pixels, and whose data inflates to a gigabyte."""
    head = struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0)
    return png((b"IHDR", head), (b"IDAT", inflating(2**30)))


def gif_of_many_frames() -> bytes:
    """A GIF with 100,000 frames of one pixel on a canvas of 4,000 × 4,000."""
    frame = b"!\xf9\4\0\1\0\0\0" + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    screen = struct.pack("<HHBBB", 4000, 4000, 0x80, 0, 0)
    return b"GIF89a" + screen + bytes((0, 0, 0, 255, 255, 255)) + frame * 100_000 + b";"


def gif_pixels() -> bytes:
    """A GIF with one frame of 65,535 × 65,535 pixels."""
    side = (65_535).to_bytes(2, "little")
    return b"GIF89a" + side * 2 + b"\0\0\0," + bytes(4) + side * 2 + b"\0\2\2D\1\0;"


def tiff_directories() -> bytes:
    """A TIFF with a million directories, each of which points to the next one."""
    data = bytearray(encoded(quadrants((64, 48)), "TIFF"))
    start = len(data)
    at = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[at : at + 2], "little")
    following = at + 2 + 12 * entries
    data[following : following + 4] = start.to_bytes(4, "little")
    for number in range(1_000_000):
        data += b"\0\0" + (start + 6 * (number + 1)).to_bytes(4, "little")
    return bytes(data)


def tiff_in_a_loop() -> bytes:
    """A TIFF whose directory points to itself as the next one."""
    data = bytearray(encoded(quadrants((64, 48)), "TIFF"))
    at = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[at : at + 2], "little")
    following = at + 2 + 12 * entries
    data[following : following + 4] = at.to_bytes(4, "little")
    return bytes(data)


def tiff_value() -> bytes:
    """A TIFF with a tag that claims to have four billion values."""
    data = bytearray(encoded(quadrants((64, 48)), "TIFF"))
    at = int.from_bytes(data[4:8], "little")
    data[at + 2 + 4 : at + 2 + 8] = b"\xff\xff\xff\xff"
    return bytes(data)


def tiff_strips() -> bytes:
    """A TIFF that claims 40,000 × 40,000 pixels in a few bytes of LZW."""
    data = bytearray(encoded(quadrants((64, 48)), "TIFF", compression="tiff_lzw"))
    at = int.from_bytes(data[4:8], "little")
    for number in range(int.from_bytes(data[at : at + 2], "little")):
        entry = at + 2 + 12 * number
        if int.from_bytes(data[entry : entry + 2], "little") in (256, 257, 278):
            data[entry + 2 : entry + 4] = b"\4\0"
            data[entry + 8 : entry + 12] = (40_000).to_bytes(4, "little")
    return bytes(data)


def exif_of_many_tags() -> bytes:
    """A PNG with 30,000 EXIF tags that share one value of 360,000 bytes."""
    count, value, start = 30_000, 360_000, 8
    tags = b"".join(struct.pack("<HHII", 1 + tag, 7, value, start) for tag in range(count))
    exif = b"II*\0" + start.to_bytes(4, "little") + struct.pack("<H", count) + tags + bytes(4)
    return png_with(png_chunk(b"eXIf", exif))


def exif_in_a_loop() -> bytes:
    """A JPEG whose EXIF directory points to itself as its GPS and EXIF parts."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\2\0"
    exif += struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<HHII", 0x8825, 4, 1, 8) + bytes(4)
    return jpeg((64, 48), exif=exif)


def webp_canvas() -> bytes:
    """A WebP with a canvas of 16,384 × 16,384 around a picture of 64 × 48 pixels."""
    picture = encoded(quadrants((64, 48)), "WEBP")
    canvas = b"VP8X\x0a\0\0\0" + bytes(4) + b"\xff\x3f\0" * 2
    body = b"WEBP" + canvas + picture[12:]
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def icon_of_a_huge_png() -> bytes:
    """An icon of 16 × 16 that contains a PNG of 12,000 × 12,000, which Pillow itself allows."""
    picture = png_pixels(12_000)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(picture), 22) + picture


def icon_of_a_huge_bitmap() -> bytes:
    """An icon whose bitmap claims 12,000 × 12,000 pixels, which Pillow itself allows."""
    bitmap = struct.pack("<IiiHHIIiiII", 40, 12_000, 24_000, 1, 32, 0, 0, 0, 0, 0, 0)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(bitmap), 22) + bitmap


def jpeg2000_pixels() -> bytes:
    """A JPEG 2000 whose header claims 60,000 × 60,000 pixels, which are not there."""
    data = bytearray(encoded(quadrants((64, 48)), "JPEG2000", no_jp2=True))
    data[8:16] = (60_000).to_bytes(4) * 2
    data[24:32] = (60_000).to_bytes(4) * 2
    return bytes(data)


def jpeg_of_many_scans() -> bytes:
    """A progressive JPEG of 6,000 × 6,000 pixels whose last scan is repeated 300 times."""
    data = encoded(Image.new("L", (6000, 6000), 90), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 300 + data[-2:]


def avif_pixels() -> bytes:
    """An AVIF whose header (ispe) claims 40,000 × 40,000 pixels around a picture of 64 × 48."""
    data = encoded(quadrants((64, 48)), "AVIF")
    at = data.index(b"ispe") + 8
    return data[:at] + (40_000).to_bytes(4) * 2 + data[at + 8 :]


def heif_pixels() -> bytes:
    """A HEIF whose header (ispe) claims 40,000 × 40,000 pixels around a picture of 64 × 48."""
    data = encoded(quadrants((64, 48)), "HEIF")
    at = data.index(b"ispe") + 8
    return data[:at] + (40_000).to_bytes(4) * 2 + data[at + 8 :]


def png_of_rows() -> bytes:
    """A PNG of 268 million rows of one bit, whose row pointers need 2 GB. Found by fuzzing."""
    head = struct.pack(">IIBBBBB", 1, 2**28 + 1, 1, 0, 0, 0, 0)
    return png((b"IHDR", head), (b"IDAT", zlib.compress(bytes(2))))


def png_of_one_row() -> bytes:
    """A PNG of 67 million pixels in one row, which is kept three times. Found by fuzzing."""
    head = struct.pack(">IIBBBBB", 2**26 + 3, 1, 8, 6, 0, 0, 0)
    return png((b"IHDR", head), (b"IDAT", inflating(2**28 + 2**20)))


def tiff_of_rows() -> bytes:
    """An uncompressed TIFF of 67 million rows of one pixel. Found by fuzzing."""
    data = bytearray(encoded(Image.new("CMYK", (1, 1)), "TIFF"))
    at = int.from_bytes(data[4:8], "little")
    for number in range(int.from_bytes(data[at : at + 2], "little")):
        entry = at + 2 + 12 * number
        if int.from_bytes(data[entry : entry + 2], "little") == 257:
            data[entry + 2 : entry + 4] = b"\4\0"
            data[entry + 8 : entry + 12] = (2**26 + 1).to_bytes(4, "little")
    return bytes(data)


def gif_with_a_frame_larger_than_its_canvas() -> bytes:
    """A GIF of 100 × 100 pixels with a second frame of 12,000 × 12,000. Found by fuzzing."""
    frames = [Image.new("RGB", (100, 100), colour) for colour in ("red", "blue")]
    data = bytearray(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    second = data.rindex(b"," + bytes(4) + (100).to_bytes(2, "little") * 2)
    data[second + 5 : second + 9] = (12_000).to_bytes(2, "little") * 2
    return bytes(data)


def gif_disposal(method: int = 2) -> bytes:
    """A GIF whose first frame of 65,535 × 65,535 is to be cleared. Found by fuzzing."""
    side = (65_535).to_bytes(2, "little")
    control = b"!\xf9\4" + bytes((method << 2 | 1, 0, 0, 0, 0))
    image = b"," + bytes(4) + side * 2 + b"\0\2\2D\1\0"
    return b"GIF89a" + side * 2 + b"\x80\0\0" + bytes(6) + control + image + image + b";"


def gif_restoring() -> bytes:
    """The same, but the frame is to be replaced by what was there before. Found by fuzzing."""
    return gif_disposal(3)


def jpeg_of_no_samples() -> bytes:
    """A progressive JPEG with sampling factors of 0 × 0. Found by fuzzing."""
    data = bytearray(encoded(Image.new("L", (64, 48)), "JPEG", progressive=True))
    data[data.index(b"\xff\xc2") + 11] = 0
    return bytes(data)


def avif_without_time() -> bytes:
    """An animated AVIF whose time scale is 0. Found by fuzzing."""
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    data = bytearray(encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:]))
    header = data.index(b"mdhd")
    at = header + (24 if data[header + 4] else 16)
    data[at : at + 4] = bytes(4)
    return bytes(data)


BOMBS: dict[Callable[[], bytes], set[str]] = {
    png_text: {"thumbnail"},
    png_profile: {"thumbnail"},
    png_pixels: {"ImageTooLarge"},
    png_with_more_pixels_than_it_claims: {"thumbnail", "CorruptImage"},
    gif_of_many_frames: {"thumbnail"},
    gif_pixels: {"ImageTooLarge"},
    tiff_directories: {"thumbnail"},
    tiff_in_a_loop: {"thumbnail"},
    tiff_value: {"CorruptImage"},
    tiff_strips: {"ImageTooLarge"},
    exif_of_many_tags: {"thumbnail"},
    exif_in_a_loop: {"thumbnail"},
    webp_canvas: {"ImageTooLarge"},
    icon_of_a_huge_png: {"thumbnail"},
    icon_of_a_huge_bitmap: {"ImageTooLarge"},
    jpeg2000_pixels: {"ImageTooLarge", "CorruptImage"},
    jpeg_of_many_scans: {"thumbnail", "CorruptImage"},
    avif_pixels: {"ImageTooLarge", "CorruptImage"},
    heif_pixels: {"ImageTooLarge", "CorruptImage"},
    png_of_rows: {"CorruptImage"},
    png_of_one_row: {"ImageTooLarge"},
    tiff_of_rows: {"ImageTooLarge"},
    gif_with_a_frame_larger_than_its_canvas: {"thumbnail"},
    gif_disposal: {"ImageTooLarge"},
    gif_restoring: {"ImageTooLarge"},
    jpeg_of_no_samples: {"CorruptImage"},
    avif_without_time: {"CorruptImage"},
}
"""Bomb → its allowed outcomes."""


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__)
def test_a_bomb_costs_bounded_memory_and_time(bomb: Callable[[], bytes]) -> None:
    """Each has one of its outcomes within 10 s and 512 MB, the process included."""
    assert outcome_of(bomb()) in BOMBS[bomb]


@pytest.mark.slow
def test_a_thumbnail_of_one_pixel_costs_bounded_memory() -> None:
    """Only a band of the picture is converted, however much it is reduced. Found by fuzzing."""
    data = encoded(Image.new("P", (20_000, 15_000)), "GIF", transparency=0)
    assert outcome_of(data, "1") == "thumbnail"


SIDES = {"scans.jpg": 10_000, "tile.tif": 20_000, "runs.bmp": 14_000, "header.jp2": 8_000}
"""Sides in pixels at which a kind would need more than MEMORY_MB, where it is not 7,500."""


SLOW = {"default.png", "header.jp2", "planes.avif", "tile.tif"}
"""Kinds whose files take 15 to 45 seconds to encode."""


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] if kind in SLOW else [])
        for kind in sorted(KINDS.keys() - {"strips.tif", "size.avif", "texts.png"})
    ],
)
def test_what_a_header_understates_is_estimated(kind: str) -> None:
    """Each is refused before it is decoded, at a size that would have killed the function."""
    side = SIDES.get(kind, 7_500)
    assert outcome_of(KINDS[kind](side, side)) == "ImageTooLarge"


def test_texts_that_nobody_reads_are_not_kept() -> None:
    """A PNG of 81 megapixels has thumbnails, although its texts would fill the memory."""
    assert outcome_of(KINDS["texts.png"](9_000, 9_000)) == "thumbnail"


def test_a_tiff_of_millions_of_strips_is_refused() -> None:
    """Its tags would be millions of Python objects."""
    assert outcome_of(tiff_of_strips(2_000_000)) == "ImageTooLarge"


@pytest.mark.slow
def test_an_avif_that_is_larger_than_it_says_costs_bounded_memory() -> None:
    """Its stream has 56 megapixels, and its container says 64 × 64 pixels."""
    outcome = outcome_of(KINDS["size.avif"](7_500, 7_500))
    assert outcome in ("thumbnail", "ImageTooLarge", "CorruptImage")
