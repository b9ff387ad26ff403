"""JPEG 2000: decoding at a smaller scale, and the header from which memory is estimated."""

from typing import Any

import pytest
from pictures import decoded, encoded, is_upright, quadrants, thumbnails_of

from thumbnailer.errors import CorruptImage
from thumbnailer.imaging.formats.jpeg2000 import PRECINCT_BLOCKS, codestream

LAYOUTS: dict[str, dict[str, Any]] = {
    "default": {},
    "bare codestream": {"no_jp2": True},
    "tiles": {"tile_size": (256, 256)},
    "small blocks": {"codeblock_size": (16, 16)},
    "small precincts": {"precinct_size": (64, 64)},
    "few resolutions": {"num_resolutions": 2},
    "one resolution": {"num_resolutions": 1},
}
"""Layout of a file → the encoder's options for it."""


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(33, 25), (801, 601), (2003, 1501), (1501, 2003)])
def test_thumbnails_show_the_whole_picture_for_every_layout_and_size(
    layout: str, size: tuple[int, int]
) -> None:
    """Also where the decoder scales down: odd sizes are rounded up at each halving."""
    data = encoded(quadrants(size), "JPEG2000", **LAYOUTS[layout])
    made = thumbnails_of(data, (64, 256), 85, 512)
    assert made.size == size
    assert all(is_upright(decoded(thumbnail.data), 24) for thumbnail in made.thumbnails)


def test_the_layout_is_read_from_the_header() -> None:
    """Levels, tile size and number of code blocks are those that the encoder was given."""
    data = encoded(
        quadrants((1024, 512)),
        "JPEG2000",
        tile_size=(256, 128),
        codeblock_size=(32, 16),
        num_resolutions=3,
    )
    found = codestream(data)
    assert found[:2] == (2, (256, 128))
    assert found.blocks == 256 * 128 / 512 + 3 * PRECINCT_BLOCKS  # one precinct for each level


@pytest.mark.parametrize("data", [b"", b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x51" + bytes(60)])
def test_a_missing_header_is_an_error(data: bytes) -> None:
    """Reading the header raises ValueError; for the pipeline, such a file is CorruptImage."""
    with pytest.raises(ValueError, match=r"codestream|tiles of no size"):
        codestream(data)
    if data:
        with pytest.raises(CorruptImage):
            thumbnails_of(data, (64,), 85, 512)


def test_an_image_with_an_offset_is_not_scaled_by_the_decoder() -> None:
    """Its scaled size would not be that of its own pixels, so it counts as having no levels."""
    data = bytearray(encoded(quadrants((512, 512)), "JPEG2000", no_jp2=True))
    assert codestream(bytes(data)).levels == 5
    data[16:24] = (8).to_bytes(4) * 2
    assert codestream(bytes(data)).levels == 0
