"""JPEG 2000: decoded at the scale that is needed, for the memory that is foreseen."""

from typing import Any

import pytest
from pictures import decoded, encoded, is_upright, quadrants, thumbnails_of

from thumbnailer.errors import CorruptImage
from thumbnailer.imaging.formats.jpeg2000 import codestream

CUTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "bare codestream": {"no_jp2": True},
    "tiles": {"tile_size": (256, 256)},
    "small blocks": {"codeblock_size": (16, 16)},
    "small precincts": {"precinct_size": (64, 64)},
    "few resolutions": {"num_resolutions": 2},
    "one resolution": {"num_resolutions": 1},
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("size", [(33, 25), (801, 601), (2003, 1501), (1501, 2003)])
def test_every_size_and_cut_gives_the_whole_picture(cut: str, size: tuple[int, int]) -> None:
    """Odd sizes are rounded up at each halving, however the file is cut."""
    made = thumbnails_of(encoded(quadrants(size), "JPEG2000", **CUTS[cut]), (64, 256), 85, 512)
    assert made.size == size
    assert all(is_upright(decoded(thumbnail.data), 24) for thumbnail in made.thumbnails)


def test_the_header_tells_how_a_file_is_cut() -> None:
    """Levels, tile and code blocks are those that the encoder was asked for."""
    data = encoded(
        quadrants((1024, 512)),
        "JPEG2000",
        tile_size=(256, 128),
        codeblock_size=(32, 16),
        num_resolutions=3,
    )
    found = codestream(data)
    assert found[:2] == (2, (256, 128))
    assert found.blocks == 256 * 128 / 512 * (1 + 1 / 4 + 1 / 16)


@pytest.mark.parametrize("data", [b"", b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x51" + bytes(60)])
def test_a_header_that_is_not_there_is_told(data: bytes) -> None:
    """A beginning alone is a ValueError here, and a corrupt image to the pipeline."""
    with pytest.raises(ValueError, match="header"):
        codestream(data)
    if data:
        with pytest.raises(CorruptImage):
            thumbnails_of(data, (64,), 85, 512)


def test_with_an_offset_there_is_no_scaling() -> None:
    """An image that begins off its grid's origin has another size when it is scaled."""
    data = bytearray(encoded(quadrants((512, 512)), "JPEG2000", no_jp2=True))
    assert codestream(bytes(data)).levels == 5
    data[16:24] = (8).to_bytes(4) * 2
    assert codestream(bytes(data)).levels == 0
