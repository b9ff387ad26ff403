"""PNG: data that ISA-L inflates is decoded to the same pixels as with Pillow alone."""

import gc
import io
import random
import struct
import sys
import weakref
import zlib
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pictures import encoded, png, png_chunk, quadrants, thumbnails_of
from PIL import Image, PngImagePlugin

from thumbnailer.errors import CorruptImage, UnsupportedImage
from thumbnailer.imaging import Made, lanczos
from thumbnailer.imaging.damage import describe
from thumbnailer.imaging.formats import DECODER_ERRORS, png_filters
from thumbnailer.imaging.formats import png as png_format
from thumbnailer.imaging.formats.png import PngFile, open_png, sample_bytes
from thumbnailer.imaging.formats.png_filters import BLOCK_BYTES, Filters
from thumbnailer.imaging.formats.png_filters import MAGIC as PNG_MAGIC

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
TRUNCATED, FLIPPED = "truncated", "flipped"


def rgb_png(stream: bytes, size: tuple[int, int], cuts: Sequence[int] = ()) -> bytes:
    """Build an RGB file whose zlib stream is split at `cuts` into chunks, followed by EXIF."""
    ends = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parts = [(b"IDAT", stream[start:end]) for start, end in pairwise(ends)]
    head = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    return png((b"IHDR", head), *parts, (b"eXIf", b"II*\0After the pixels"))


def outcome(kind: type[PngImagePlugin.PngImageFile], data: bytes) -> object:
    """Decode with `kind`: mode, pixels and EXIF of all frames, or None if the file is refused."""
    try:
        with kind(io.BytesIO(data)) as image:
            frames = []
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                frames.append((image.mode, image.tobytes(), image.info.get("exif")))
            return frames
    except DECODER_ERRORS:
        return None


def decodes_as_pillow_does(data: bytes) -> bool:
    """Check that PngFile has the same outcome as Pillow's own class, be it pixels or an error."""
    return outcome(PngFile, data) == outcome(PngImagePlugin.PngImageFile, data)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (3, 700), (640, 481)])
def test_every_pixel_mode_is_decoded_as_by_pillow(mode: str, size: tuple[int, int]) -> None:
    """Pixels are the same for any bit depth and number of channels, in one block or in many."""
    image = Image.radial_gradient("L").resize(size)
    image = quadrants(size, mode) if mode == "P" else image.convert(mode)
    data = encoded(image, "PNG")
    assert outcome(PngFile, data) is not None
    assert decodes_as_pillow_does(data)


def test_every_frame_of_an_animation_is_decoded_as_by_pillow() -> None:
    """Each frame after the first is a stream of its own, in chunks of another name (fdAT)."""
    frames = [Image.radial_gradient("L").rotate(angle).convert("RGBA") for angle in (0, 40, 80)]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    found = outcome(PngFile, data)
    assert isinstance(found, list)
    assert len(found) == len(frames)
    assert decodes_as_pillow_does(data)


@given(
    pixels=st.binary(min_size=30, max_size=30) | st.just(bytes(30)),
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    level=st.integers(0, 9),
    cuts=st.lists(st.integers(0, 3000), max_size=6),
    filtered=st.integers(0, 5),
)
def test_a_stream_in_any_chunks_is_decoded_as_by_pillow(  # noqa: PLR0913
    *, pixels: bytes, width: int, height: int, level: int, cuts: list[int], filtered: int
) -> None:
    """Chunks may be empty and end anywhere, even inside the stream's header (specification, 10.1).

    The EXIF after the pixels is found too, so no more of the file is read than by Pillow.
    """
    row = bytes([filtered]) + (pixels * (width // 10 + 1))[: 3 * width]
    data = rgb_png(zlib.compress(row * height, level), (width, height), cuts)
    assert (outcome(PngFile, data) is None) == (filtered > 4)
    assert decodes_as_pillow_does(data)


@example(seed=bytes(90), damage=FLIPPED, at=0.39)
@example(seed=b"\1" * 90, damage=TRUNCATED, at=144.5 / 149)
@given(
    seed=st.binary(min_size=90, max_size=90),
    damage=st.sampled_from([TRUNCATED, FLIPPED]),
    at=st.floats(0, 1, exclude_max=True),
)
def test_a_damaged_stream_is_refused_or_decoded_correctly(
    seed: bytes, damage: str, at: float
) -> None:
    """A truncated stream, or one with a flipped bit, never gives half a picture or another one.

    It is refused, or the pixels are those of the undamaged file: where only its end is damaged.
    """
    size = (100, 60)
    stream = zlib.compress((b"\0" + seed * 4)[:301] * size[1])
    where = int(at * len(stream))
    undamaged = rgb_png(stream, size)
    if damage == TRUNCATED:
        damaged = rgb_png(stream[:where], size)
    else:
        place = undamaged.index(stream) + where
        damaged = undamaged[:place] + bytes([undamaged[place] ^ 0x10]) + undamaged[place + 1 :]
    assert outcome(PngFile, damaged) in (None, outcome(PngImagePlugin.PngImageFile, undamaged))


@pytest.mark.parametrize(
    "header",
    [b"\x78\xbb", b"\x77\x85", b"\x88\x1c", b"\x78\x02", b"\x78", b""],
    ids=lambda each: each.hex(),
)
def test_a_stream_with_another_header_has_the_same_outcome_as_with_pillow(header: bytes) -> None:
    """Preset dictionary, other method, too large a window, wrong check bits, incomplete header."""
    stream = header + zlib.compress(bytes(301 * 60))[2:] if len(header) > 1 else header
    assert decodes_as_pillow_does(rgb_png(stream, (100, 60)))


def test_a_stream_is_inflated_in_blocks_of_bounded_size() -> None:
    """A bomb that inflates to a thousand times its size needs no more memory than another file."""
    with PngFile(
        io.BytesIO(rgb_png(zlib.compress(bytes(301 * 60 * 1000)), (100, 60_000)))
    ) as image:
        image.load_prepare()
        parts = [image.load_read(65536) for _ in range(200)]
    assert max(len(part) for part in parts) <= 65_540
    assert sum(len(part) for part in parts) > 200 * 60_000


def test_an_image_is_freed_with_its_last_reference() -> None:
    """Its pixels may fill most of the memory, so they must not wait for the garbage collector."""
    image = PngFile(io.BytesIO(encoded(quadrants((300, 200)), "PNG")))
    image.load()
    reference = weakref.ref(image)
    gc.disable()
    try:
        del image
        assert reference() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real images is not here")
def test_the_corpus_is_decoded_as_by_pillow() -> None:
    """Other programs' files: interlaced, animated, of all bit depths, and damaged.

    Pillow refuses badadler.png, whose pixels are all there.
    """
    files = {path: path.read_bytes() for path in CORPUS.rglob("*.png")}
    small = {path: data for path, data in files.items() if _is_small(data)}
    assert small
    differ = [path.name for path, data in small.items() if not decodes_as_pillow_does(data)]
    assert differ == ["badadler.png"]


def _is_small(data: bytes) -> bool:
    """Check for a PNG of at most one megapixel."""
    if not data.startswith(PNG_MAGIC) or len(data) < len(PNG_MAGIC) + 16:
        return False
    width, height = struct.unpack_from(">II", data, 16)
    return int(width) * int(height) <= 10**6


SIDE = 120
PALETTE = (b"PLTE", bytes(range(48)))
EXIF = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"
"""EXIF whose Orientation is 6."""
ANCILLARY = {
    b"acTL": b"\0\0\0\2\0\0\0\0",
    b"bKGD": b"\0\1\0\1\0\1",
    b"cHRM": bytes(32),
    b"eXIf": EXIF,
    b"gAMA": b"\0\0\0\1",
    b"hIST": b"\0\1",
    b"iCCP": b"icc\0\0" + zlib.compress(b"profile"),
    b"iTXt": b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>',
    b"pHYs": b"\0\0\0\1\0\0\0\1\0",
    b"prIv": b"private",
    b"sBIT": b"\5\5\5",
    b"sPLT": b"name\0\x08",
    b"sRGB": b"\0",
    b"tEXt": b"Title\0text",
    b"tIME": bytes(7),
    b"tRNS": b"\0\1\0\1\0\1",
    b"zTXt": b"Title\0\0" + zlib.compress(b"text"),
}
"""Chunks without which a picture can be shown, with a content that counts."""


def pixels(*, palette: bool = False) -> bytes:
    """Return the zlib stream of a picture of SIDE × SIDE pixels."""
    row = bytes(range(16)) * 8 if palette else bytes(range(180)) * 2
    return zlib.compress((b"\0" + row[: SIDE * (1 if palette else 3)]) * SIDE)


def parts(
    before: bytes = b"", after: bytes = b"", stream: bytes | None = None, *, palette: bool = False
) -> list[bytes]:
    """Build a PNG in parts: signature, header, palette, chunks, pixels, chunks, and the end."""
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 3 if palette else 2, 0, 0, 0)
    return [
        PNG_MAGIC,
        png_chunk(b"IHDR", head),
        png_chunk(*PALETTE) if palette else b"",
        before,
        png_chunk(b"IDAT", pixels(palette=palette) if stream is None else stream),
        after,
        png_chunk(b"IEND", b""),
    ]


def made(*found: bytes) -> Made:
    """Make a thumbnail of a file given in parts."""
    return thumbnails_of(b"".join(found), (64,))


def wrong_checksum(chunk: bytes) -> bytes:
    """Change the checksum of a chunk."""
    return chunk[:-1] + bytes([chunk[-1] ^ 1])


@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ANCILLARY)
def test_an_ancillary_chunk_with_a_wrong_checksum_is_ignored(
    name: bytes,
    after: bool,  # noqa: FBT001
    palette: bool,  # noqa: FBT001
) -> None:
    """Wherever it is, the thumbnail is that of the file without it, and a note names the chunk."""
    chunk = wrong_checksum(png_chunk(name, ANCILLARY[name]))
    place = {"after": chunk} if after else {"before": chunk}
    found = made(*parts(**place, palette=palette))
    assert found.thumbnails == made(*parts(palette=palette)).thumbnails
    assert found.notes == (f"the chunk {name.decode()} was ignored: its checksum is wrong",)


@pytest.mark.parametrize(("name", "size"), [*product(ANCILLARY, (0, 1, 3, 50))])
def test_an_ancillary_chunk_of_another_length_is_ignored(name: bytes, size: int) -> None:
    """Its checksum is right, and its content is that of no such chunk."""
    for palette, payload in product((False, True), (bytes(size), b"\xff" * size)):
        if palette and name == b"tRNS":
            continue  # shorter than the palette, it is valid
        chunk = png_chunk(name, payload)
        whole = made(*parts(palette=palette)).thumbnails
        assert made(*parts(before=chunk, palette=palette)).thumbnails == whole
        assert made(*parts(after=chunk, palette=palette)).thumbnails == whole


def test_only_exif_counts_after_the_pixels() -> None:
    """Transparency, colour and animation must come before them (PNG, third edition, 5.6)."""
    late = b"".join(png_chunk(*each) for each in ANCILLARY.items() if each[0] != b"eXIf")
    assert made(*parts(after=late)) == made(*parts())
    assert made(*parts(after=png_chunk(b"eXIf", EXIF))).thumbnails != made(*parts()).thumbnails


@pytest.mark.parametrize("keyword", [b"Raw profile type exif", b"exif"])
def test_the_orientation_of_a_text_is_not_applied(keyword: bytes) -> None:
    """Browsers turn a picture for the EXIF chunk alone."""
    profile = b"\nexif\n      32\n" + (b"Exif\0\0" + EXIF).hex().encode()
    texts = [png_chunk(b"tEXt", keyword + b"\0" + each) for each in (profile, EXIF)]
    texts.append(png_chunk(b"zTXt", keyword + b"\0\0" + zlib.compress(profile)))
    assert made(*parts(before=b"".join(texts))) == made(*parts())


@pytest.mark.parametrize(("index", "name"), [(1, "IHDR"), (2, "PLTE")])
def test_a_critical_chunk_with_a_wrong_checksum_is_corrupt(index: int, name: str) -> None:
    """The size and the palette are the picture."""
    file = parts(palette=True)
    file[index] = wrong_checksum(file[index])
    with pytest.raises(CorruptImage, match=f"the checksum of the chunk {name} is wrong"):
        made(*file)


def test_a_wrong_checksum_of_whole_pixels_does_not_matter() -> None:
    """That of the chunk, of the samples, or of the samples in a chunk that was right before."""
    whole, stream = parts(), pixels()
    written_wrong = stream[:-1] + bytes([stream[-1] ^ 1])
    right = png_chunk(b"IDAT", stream)
    files = [
        parts(stream=written_wrong),
        [*whole[:4], right[:-8] + written_wrong[-4:] + right[-4:], *whole[5:]],
    ]
    for file in files:
        found = made(*file)
        assert found.thumbnails == made(*whole).thumbnails
        assert found.notes == ("the checksum of the pixels is wrong, and all rows are there",)
    assert made(*whole[:4], wrong_checksum(right), *whole[5:]).thumbnails == made(*whole).thumbnails


def test_damaged_pixels_are_corrupt_although_all_rows_are_there() -> None:
    """Where neither checksum is right, nothing proves that the pixels are."""
    stream = bytearray(zlib.compress(bytes(SIDE * (3 * SIDE + 1)), 0))
    stream[1000] ^= 0x40
    right = png_chunk(b"IDAT", zlib.compress(bytes(SIDE * (3 * SIDE + 1)), 0))
    file = parts()
    file[4] = right[:8] + bytes(stream) + right[-4:]
    with pytest.raises(CorruptImage, match="the pixels are damaged: their checksums are wrong"):
        made(*file)


@pytest.mark.parametrize(
    ("missing", "note"),
    [
        (1, "the end of the file is missing"),
        (12, "the end of the file is missing"),
        (14, "the end of the file is missing"),
        (18, "the end of the pixels is missing"),
        (20, "the end of the pixels is missing"),
    ],
)
def test_a_png_without_its_end_is_whole_where_all_rows_are_there(missing: int, note: str) -> None:
    """IEND, the checksum of the pixels, or that of their chunk may be cut off."""
    file = b"".join(parts())
    found = made(file[:-missing])
    assert found.thumbnails == made(file).thumbnails
    if missing > 4:  # of IEND, its name suffices
        assert found.notes[0] == f"{note}, and all rows are there"
    assert made(file + b"more bytes").notes == ()


@pytest.mark.parametrize("share", [5, 33, 61, 95])
def test_a_png_with_missing_rows_is_corrupt_and_says_how_much_is_there(share: int) -> None:
    """Be the file cut off, or complete with too few rows."""
    samples = zlib.decompress(pixels())
    stream = zlib.compress(samples[: len(samples) * share // 100], 0)
    for file in (parts(stream=stream), [*parts(stream=stream)[:5], b""]):
        with pytest.raises(CorruptImage, match=f"only ({share}|{share - 1}) % of the rows"):
            made(*file)


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    bits=st.sampled_from([1, 2, 4, 8, 16, 24, 32, 48, 64]),
)
def test_the_samples_of_an_interlaced_picture_are_counted(size: tuple[int, int], bits: int) -> None:
    """Each pixel is in one pass, by Adam7's pattern (specification, 8.1); rows are filled."""
    pattern = "1646264677777777565656567777777736463646777777775656565677777777"
    rows: dict[tuple[str, int], int] = {}
    for x, y in product(range(size[0]), range(size[1])):
        row = (pattern[x % 8 + y % 8 * 8], y)
        rows[row] = rows.get(row, 0) + 1
    expected = sum(1 + -(-count * bits // 8) for count in rows.values())
    assert sample_bytes(size, bits, interlaced=True) == expected
    plain = size[1] * (1 + -(-size[0] * bits // 8))
    assert sample_bytes(size, bits, interlaced=False) == plain


def test_a_png_for_ios_is_unsupported_by_name() -> None:
    """Its pixels are stored in another way, and browsers do not show it either."""
    file = parts()
    with pytest.raises(UnsupportedImage, match="Unsupported kind of PNG: optimised for iOS"):
        made(file[0], png_chunk(b"CgBI", b"\x50\0\x20\2"), *file[1:])


@pytest.mark.parametrize("name", [b"acTL", b"fcTL"])
@pytest.mark.parametrize("short", [False, True])
def test_an_animation_that_begins_broken_is_a_still(
    name: bytes,
    short: bool,  # noqa: FBT001
) -> None:
    """Without a valid announcement, it is the picture for viewers that know no animation."""
    frames = [Image.radial_gradient("L").rotate(angle) for angle in (0, 40, 80)]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    start = data.index(name) - 4
    end = start + 12 + int.from_bytes(data[start : start + 4])
    payload = data[start + 8 : end - 4]
    broken = png_chunk(name, payload[:-1]) if short else wrong_checksum(png_chunk(name, payload))
    found = made(data[:start] + broken + data[end:])
    assert found.thumbnails == made(encoded(frames[0], "PNG")).thumbnails
    assert len(found.notes) == 1


def unfiltered(rows: bytes, row_bytes: int, pixel_bytes: int) -> bytes:
    """Undo filters as the specification says (PNG, third edition, 9.2)."""
    found, above = b"", bytes(row_bytes)
    for start in range(0, len(rows), row_bytes + 1):
        kind, row = rows[start], bytearray(rows[start + 1 : start + 1 + row_bytes])
        for x in range(row_bytes):
            a, c = (row[x - pixel_bytes], above[x - pixel_bytes]) if x >= pixel_bytes else (0, 0)
            b = above[x]
            nearest = min((a, b, c), key=lambda each: abs(a + b - c - each))
            row[x] = (row[x] + (0, a, b, (a + b) // 2, nearest)[kind]) % 256
        above = bytes(row)
        found += above
    return found


@pytest.mark.parametrize("pixel_bytes", png_filters.COLOURS)
@pytest.mark.parametrize("width", [1, 2, 7, 40])
def test_filters_are_undone_as_the_specification_says(width: int, pixel_bytes: int) -> None:
    """All five, in any order, with the row above, be it in the same band or in the one before."""
    chance = random.Random(width * pixel_bytes)  # noqa: S311 - test data
    row_bytes = width * pixel_bytes
    rows = b"".join(bytes([chance.randrange(5)]) + chance.randbytes(row_bytes) for _ in range(19))
    filters = Filters(row_bytes, pixel_bytes, 8)
    found = b""
    for top in (0, 8, 16):
        band = rows[top * (row_bytes + 1) : (top + 8) * (row_bytes + 1)]
        found += bytes(filters.undo([band[:5], band[5:]], len(band) // (row_bytes + 1)))
    assert found == unfiltered(rows, row_bytes, pixel_bytes)


def test_a_row_of_many_blocks_is_unfiltered() -> None:
    """A block without compression has 64 KB at most, and a row may have more."""
    row = bytes(range(256)) * 300
    parts = [(b"\2" + row)[at : at + BLOCK_BYTES] for at in range(0, len(row) + 1, BLOCK_BYTES)]
    filters = Filters(len(row), 1, 1)
    assert bytes(filters.undo(parts, 1)) == row
    doubled = bytes(2 * each % 256 for each in row)
    assert bytes(filters.undo(parts, 1)) == doubled


DEPTHS = [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (1, 3), (2, 3), (4, 3), (8, 3)]
DEPTHS += [(8, 4), (16, 4), (8, 6), (16, 6)]
"""Every pair of bits and colour type (PNG, third edition, 11.2.1)."""


def any_png(bits: int, colour: int, size: tuple[int, int] = (37, 53)) -> bytes:
    """Build a PNG of noise with all filters; of a palette, some entries are transparent."""
    row_bytes = -(-size[0] * bits * png_format.CHANNELS[colour] // 8)
    chance = random.Random(bits * colour)  # noqa: S311 - test data
    rows = b"".join(bytes([y % 5]) + chance.randbytes(row_bytes) for y in range(size[1]))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))]
    if colour == 3:
        chunks += [(b"PLTE", chance.randbytes(3 * 2**bits)), (b"tRNS", b"\0\x80")]
    stream = zlib.compress(rows)
    return png(*chunks, (b"IDAT", stream[:700]), (b"IDAT", stream[700:]), (b"eXIf", EXIF))


@pytest.mark.parametrize(("bits", "colour"), DEPTHS)
def test_bands_have_the_pixels_that_pillow_decodes(bits: int, colour: int) -> None:
    """Of every kind, palette and transparency included, and the EXIF after them is read."""
    image, whole = (open_png(any_png(bits, colour), 512) for _ in range(2))
    assert isinstance(image, PngFile)
    whole.load()
    top = 0
    for band in image.bands(8):
        rows = whole.crop((0, top, 37, top + band.height))
        assert band.convert("RGBA").tobytes() == rows.convert("RGBA").tobytes()
        top += band.height
    assert top == 53
    assert image.info["exif"] == whole.info["exif"]
    assert image.notes == []


@pytest.mark.parametrize(("bits", "colour"), [(8, 2), (8, 6), (2, 3), (16, 0)])
@pytest.mark.parametrize("cut", [None, 0.4, 0.97])
def test_without_libspng_the_outcome_is_the_same(
    bits: int, colour: int, cut: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow undoes the filters: the thumbnails, the errors and the notes are the same.

    So they are where a whole picture is reduced too, which it is not with SIMD.
    """
    monkeypatch.setattr(lanczos, "_library", None)
    data = any_png(bits, colour, (300, 200))
    data = data if cut is None else data[: int(cut * len(data))]

    def outcome_of() -> object:
        try:
            return thumbnails_of(data, (16,))
        except CorruptImage as error:
            return str(error)

    in_bands = outcome_of()
    monkeypatch.setattr(png_format, "library", lambda: None)
    assert isinstance(in_bands, Made) == (cut is None)
    assert outcome_of() == in_bands


def test_libspng_is_found_where_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called without pyspng's own module, which imports numpy. Elsewhere there is none."""
    assert (png_filters.library() is not None) == (sys.platform == "linux")
    png_filters.library.cache_clear()
    monkeypatch.setattr(png_filters, "find_spec", lambda _: None)
    assert png_filters.library() is None
    png_filters.library.cache_clear()


@given(
    seed=st.binary(min_size=90, max_size=90),
    damage=st.sampled_from([TRUNCATED, FLIPPED]),
    at=st.floats(0, 1, exclude_max=True),
    chunk=st.booleans(),
)
def test_a_damaged_file_has_the_same_outcome_in_bands(
    *, seed: bytes, damage: str, at: float, chunk: bool
) -> None:
    """Wherever the damage is, bands give the pixels and notes, or the error, that a load gives."""
    stream = zlib.compress((b"\4" + seed * 4)[:301] * 60)
    data = bytearray(rgb_png(stream, (100, 60), [50] if chunk else []))
    where = 33 + int(at * (len(data) - 33))
    if damage == TRUNCATED:
        del data[where:]
    else:
        data[where] ^= 0x10

    def outcome_of(*, banded: bool) -> object:
        try:
            image = open_png(bytes(data), 512)
            assert isinstance(image, PngFile)
            if not banded:
                return image.tobytes(), image.notes
            return b"".join(band.tobytes() for band in image.bands(7)), image.notes
        except DECODER_ERRORS as error:
            return describe(error)

    assert outcome_of(banded=True) == outcome_of(banded=False)


@pytest.mark.parametrize("between", [b"", b"tEXt", b"IEND"])
def test_the_last_exif_counts_and_is_known_before_the_pixels(between: bytes) -> None:
    """It may follow the pixels, but not the end of the picture, nor be damaged."""
    upright = EXIF.replace(b"\6", b"\1")
    start, *rest = [png_chunk(b"eXIf", upright), png_chunk(b"IDAT", pixels())]
    rest += [png_chunk(between, b"") if between else b"", png_chunk(b"eXIf", EXIF)]
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    data = PNG_MAGIC + png_chunk(b"IHDR", head) + start + b"".join(rest)
    assert png_format.orientation(open_png(data, 512)) == (1 if between == b"IEND" else 6)
    broken = wrong_checksum(rest[-1])
    assert png_format.orientation(open_png(data.replace(rest[-1], broken), 512)) == 1
