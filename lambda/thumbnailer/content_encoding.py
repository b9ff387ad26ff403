"""An object that was uploaded with a Content-Encoding. S3 stores its bytes as they were sent."""

import zlib
from typing import Final

from thumbnailer.errors import CorruptImage, ImageTooLarge
from thumbnailer.imaging import max_file_size

MAGIC: Final = b"\x1f\x8b"
"""How gzip data begin (RFC 1952, section 2.3.1)."""

MAX_RATIO: Final = 100
MIN_LIMIT: Final = 32 * 1024**2
"""How often its own size, or else how many bytes, gzip data may become at most. Deflate reaches
1,032 times, with nothing but zeros. An assumption: an uncompressed picture of more than MIN_LIMIT
that shrinks further shows nothing."""

GZIP_WINDOW: Final = 31
"""`wbits` of zlib for data with a gzip header (https://docs.python.org/3/library/zlib.html)."""


def decoded(data: bytes, encoding: str, memory_mb: int) -> bytes:
    """Inflate `data` if `encoding`, its Content-Encoding, and its first bytes say gzip.

    Anything else is returned as it is: many objects have an encoding that their bytes do not have.
    What follows the gzip data is ignored, as browsers do.

    Raises ImageTooLarge before more is inflated than `memory_mb` MB of memory or MAX_RATIO allow,
    and CorruptImage for damaged or truncated gzip data.
    """
    if "gzip" not in encoding.lower() or not data.startswith(MAGIC):
        return data
    in_memory = max(0, max_file_size(memory_mb) - len(data))  # both are in memory at a time
    by_ratio = max(MIN_LIMIT, MAX_RATIO * len(data))
    limit = min(in_memory, by_ratio)
    stream = zlib.decompressobj(GZIP_WINDOW)
    try:
        inflated = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise CorruptImage(f"The gzip data of the object is damaged: {error}.") from error
    if len(inflated) > limit:
        reason = (
            f"{memory_mb} MB of memory allow. Raise LambdaMemorySize"
            if limit == in_memory
            else f"{MAX_RATIO} times their size, as only data made to exhaust memory do"
        )
        raise ImageTooLarge(
            f"The object's {len(data):,} bytes are compressed with gzip, and become more than "
            f"{limit:,} bytes: more than {reason}, or upload the image without Content-Encoding."
        )
    if not stream.eof:
        raise CorruptImage(
            f"The gzip data of the object is truncated: {len(data):,} bytes are there. Upload it "
            "again."
        )
    return inflated
