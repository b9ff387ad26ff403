"""What is wrong with a file, in words, from what a decoder raised."""

import re
import struct
import zlib
from typing import Final

CUT_OFF: Final = "the file ends too early"
INVALID: Final = "its content is invalid"

WORDS: Final = (
    (r"truncated|not enough|unexpected end|end of file|too short", CUT_OFF),
    (r"broken data stream|decoder error|unrecognized data stream", "the pixels are damaged"),
    (r"not identified by this driver|cannot load this image|^not an? \w+ file", "no picture found"),
    (r"[\[\]<>{}]|\bb?['\"]|0x|\w+\(|_\w|requires a buffer|object|codec", INVALID),
)
"""Pattern of a decoder's message → words for people. The last one matches Python's own terms."""

UNSUPPORTED: Final = re.compile(
    r"unsupported|not (yet )?(supported|implemented)|cannot handle|"
    r"unknown (pixel mode|compression)",
    re.IGNORECASE,
)
"""How decoders call a valid file that they cannot decode."""


BEYOND_LIMITS: Final = re.compile(r"security limit(?!.*the maximum image size)", re.IGNORECASE)
"""What libheif says of a file that is larger, or has more parts, than it reads.

A picture over the maximum size is another matter: it is larger than its container says.
"""


def is_beyond_limits(error: Exception) -> bool:
    """Whether a decoder says that the file exceeds the decoder's own limits."""
    return bool(BEYOND_LIMITS.search(str(error)))


def is_unsupported(error: Exception) -> bool:
    """Whether a decoder says that the file may be valid, and that it cannot decode it."""
    return bool(UNSUPPORTED.search(str(error)))


def describe(error: Exception) -> str:
    """Say what is wrong with the file: a few words, without a full stop."""
    cause: BaseException = error
    while cause.args and isinstance(cause.args[0], BaseException):  # as Pillow wraps errors
        cause = cause.args[0]
    if isinstance(cause, (struct.error, IndexError, EOFError)):
        return CUT_OFF
    text = str(cause).strip().rstrip(".")
    if not text or isinstance(
        cause, (KeyError, TypeError, AssertionError, ArithmeticError, UnicodeError, zlib.error)
    ):
        return INVALID
    for pattern, words in WORDS:
        if re.search(pattern, text, re.IGNORECASE):
            return words
    return text
