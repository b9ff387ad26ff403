"""SHA-256 without OpenSSL, which `hashlib` loads: 5 MB of code, for hashes of short texts.

`_sha2` is CPython's own module, which `hashlib` uses where there is no OpenSSL.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha2 import sha256
    except ImportError:  # another Python
        from hashlib import sha256

__all__ = ["sha256"]
