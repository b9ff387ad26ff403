"""Objects with a Content-Encoding: gzip is inflated within limits, anything else stays as it is."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import jpeg

from thumbnailer.content_encoding import MAX_RATIO, MIN_LIMIT, decoded
from thumbnailer.errors import CorruptImage, ImageTooLarge

MEMORY_MB = 512


@given(st.binary(), st.sampled_from(["gzip", "x-gzip", "GZIP", "gzip,aws-chunked"]))
def test_gzip_is_inflated(data: bytes, encoding: str) -> None:
    """Whatever it contains, however the header spells it, and whatever follows it."""
    assert decoded(gzip.compress(data), encoding, MEMORY_MB) == data
    assert decoded(gzip.compress(data) + b"\0 more", encoding, MEMORY_MB) == data


@pytest.mark.parametrize("encoding", ["gzip", "br", "UTF-8", "base64"])
def test_bytes_that_are_not_encoded_stay_as_they_are(encoding: str) -> None:
    """A JPEG whose object only claims an encoding is a JPEG, as in earlier versions."""
    assert decoded(jpeg(), encoding, MEMORY_MB) == jpeg()


def test_gzip_without_the_encoding_stays_as_it_is() -> None:
    """It is an archive, which no browser shows as a picture."""
    archive = gzip.compress(jpeg())
    assert decoded(archive, "identity", MEMORY_MB) is archive


def test_a_bomb_is_refused_before_it_is_inflated() -> None:
    """Zeros shrink to a thousandth: memory stays near MIN_LIMIT, and the message says why."""
    bomb = gzip.compress(bytes(100 * 1024**2))
    tracemalloc.start()
    with pytest.raises(ImageTooLarge, match=f"{MAX_RATIO} times"):
        decoded(bomb, "gzip", MEMORY_MB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * MIN_LIMIT


def test_more_than_the_memory_allows_is_refused() -> None:
    """In 128 MB, 68 are free, and a file may have 27 of them; the message says what to raise."""
    data = gzip.compress(bytes(range(256)) * 4 * 1024 * 30)
    assert len(decoded(data, "gzip", MEMORY_MB)) == 30 * 1024**2
    with pytest.raises(ImageTooLarge, match=r"128 MB of memory allow\. Raise LambdaMemorySize"):
        decoded(data, "gzip", 128)
    with pytest.raises(ImageTooLarge):
        decoded(data, "gzip", 60)  # nothing is free at all


def test_truncated_and_damaged_gzip_are_corrupt() -> None:
    """Any cut, and a wrong checksum, have different messages."""
    data = gzip.compress(jpeg())
    for end in (2, 9, 10, 100, len(data) - 1):
        with pytest.raises(CorruptImage, match="truncated"):
            decoded(data[:end], "gzip", MEMORY_MB)
    damaged = data[:-8] + (zlib.crc32(jpeg()) ^ 1).to_bytes(4, "little") + data[-4:]
    with pytest.raises(CorruptImage, match="damaged"):
        decoded(damaged, "gzip", MEMORY_MB)
