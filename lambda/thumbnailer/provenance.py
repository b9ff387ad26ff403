"""What a thumbnail's metadata tells of where it comes from.

User metadata of an object may have 2 KB in all, and must be ASCII
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html).
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

MAX_QUOTED_KEY: Final = 1500
"""Characters; a key of 1,024 bytes may have three times as many when it is percent-encoded."""

BASE64: Final = "base64,"
"""Percent-encoding never yields a comma, so no quoted key begins like this."""

LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class Provenance(NamedTuple):
    """The source of a thumbnail: its key, etag (without quotes) and time, and the recipe.

    `recipe` is `Settings.recipe`, a digest of the settings that shaped the bytes.
    """

    key: str
    etag: str
    modified: datetime
    recipe: str

    def to_metadata(self) -> dict[str, str]:
        """User metadata: source-key, source-etag, source-modified, recipe."""
        quoted = quote(self.key)
        if len(quoted) > MAX_QUOTED_KEY:
            quoted = BASE64 + base64.b64encode(self.key.encode()).decode()
        return {
            "source-key": quoted,
            "source-etag": self.etag,
            "source-modified": self.modified.isoformat(),
            "recipe": self.recipe,
        }

    def digest(self) -> bytes:
        """Eight bytes that differ for different provenances."""
        told = json.dumps(self.to_metadata(), sort_keys=True)
        return hashlib.sha256(told.encode()).digest()[:8]

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "Provenance | None":
        """Read user metadata; None where it names no source, for then the object is not ours."""
        quoted = metadata.get("source-key")
        if quoted is None:
            return None
        key = unquote(quoted)
        if quoted.startswith(BASE64):
            try:
                key = base64.b64decode(quoted.removeprefix(BASE64)).decode()
            except ValueError:
                return None
        try:
            modified = datetime.fromisoformat(metadata.get("source-modified", ""))
        except ValueError:
            modified = LONG_AGO
        if modified.tzinfo is None:
            modified = modified.replace(tzinfo=UTC)
        return cls(key, metadata.get("source-etag", ""), modified, metadata.get("recipe", ""))

    def same_picture_as(self, other: "Provenance") -> bool:
        """Whether both were made of the same bytes of the same source, in the same way."""
        return (self.key, self.etag, self.recipe) == (other.key, other.etag, other.recipe)

    def is_newer_than(self, other: "Provenance") -> bool:
        """Whether this source, of two that share a thumbnail's name, is the one to have it.

        S3 tells whole seconds; of the same second the greater key wins, so that all agree.
        """
        return (self.modified, self.key) > (other.modified, other.key)
