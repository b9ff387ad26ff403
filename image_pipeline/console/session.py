"""Who may use the console: addresses that work once, and the session that one opens.

An address has a secret that is signed with the console's key. Whoever has the key can make a new
address without asking the console; the console remembers which ones have been used.
"""

import hmac
import secrets
from typing import Final

from image_pipeline.ports import HOST

FRAGMENT: Final = "secret"
"""The fragment of an address is `#secret=SECRET`. Browsers do not send it with a request, so that
following the address does not use it up: only the console's own script does."""

NONCE_BYTES: Final = 16
"""128 bits, which nobody can guess."""


def new_key() -> str:
    """Return a new key for a console."""
    return secrets.token_urlsafe()


def new_address(port: int, key: str) -> str:
    """Return a new URL that opens the console on `port` once; `key` is the console's."""
    nonce = secrets.token_urlsafe(NONCE_BYTES)
    return f"http://{HOST}:{port}/#{FRAGMENT}={nonce}.{_signature(nonce, key)}"


class Session:
    """The session of one console, which all of its tabs share.

    `token` is what a browser sends with each request.
    """

    def __init__(self, key: str) -> None:
        self.token: Final = secrets.token_urlsafe()
        self._key = key
        self._used: set[str] = set()

    def open(self, secret: str) -> str | None:
        """Return `token` in exchange for the secret of an address, or None if it is used or wrong.

        It is used from then on.
        """
        nonce, _, signature = secret.partition(".")
        if not equal(signature, _signature(nonce, self._key)) or nonce in self._used:
            return None
        self._used.add(nonce)
        return self.token


def equal(value: str, secret: str) -> bool:
    """Compare two strings in constant time."""
    return secrets.compare_digest(value.encode(errors="replace"), secret.encode())


def _signature(nonce: str, key: str) -> str:
    return hmac.digest(key.encode(), nonce.encode(errors="replace"), "sha256").hex()
