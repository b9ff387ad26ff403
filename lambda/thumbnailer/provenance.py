"""What a thumbnail's metadata says about its source, and what follows from that.

User metadata of an object may have 2 KB in total, and must be ASCII
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html).
"""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from thumbnailer.sha256 import sha256

MAX_QUOTED_KEY: Final = 1500
"""Characters. A key of 1,024 bytes may have three times as many when it is percent-encoded."""

BASE64: Final = "base64,"
"""Percent-encoding never produces a comma, so no quoted key begins like this."""

LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class Provenance(NamedTuple):
    """The source of an object: its key, etag (without quotes) and time of upload.

    `fingerprint` is that of the settings that shaped the object's bytes. In metadata its name is
    `recipe`. `focus` is what the uploader chose for crops (`imaging.focus_text`); it is empty where
    there is none, and where nothing is cropped.
    """

    key: str
    etag: str
    modified: datetime
    fingerprint: str
    focus: str = ""

    def to_metadata(self) -> dict[str, str]:
        """Return the user metadata: source-key, source-etag, source-modified, recipe.

        With a focus there is source-focus too.
        """
        quoted = quote(self.key)
        if len(quoted) > MAX_QUOTED_KEY:
            quoted = BASE64 + base64.b64encode(self.key.encode()).decode()
        return {
            "source-key": quoted,
            "source-etag": self.etag,
            "source-modified": self.modified.isoformat(),
            "recipe": self.fingerprint,
            **({"source-focus": self.focus} if self.focus else {}),
        }

    def digest(self) -> bytes:
        """Return eight bytes that differ between provenances: the mark in a thumbnail's file."""
        text = json.dumps(self.to_metadata(), sort_keys=True)
        return sha256(text.encode()).digest()[:8]

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "Provenance | None":
        """Read user metadata. None if it names no source: then this pipeline did not write it."""
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
        return cls(
            key,
            metadata.get("source-etag", ""),
            modified,
            metadata.get("recipe", ""),
            metadata.get("source-focus", ""),
        )

    def same_picture_as(self, other: "Provenance") -> bool:
        """Whether both have the same source, bytes of it and focus, and the same fingerprint."""
        return self._replace(modified=LONG_AGO) == other._replace(modified=LONG_AGO)

    def is_newer_than(self, other: "Provenance") -> bool:
        """Whether this source, of two that share a thumbnail's key, wins.

        S3 reports whole seconds. Within the same second the greater key wins, so that all agree.
        """
        return (self.modified, self.key) > (other.modified, other.key)


class Standing(Enum):
    """What is at the key of a thumbnail or manifest, compared with what should be there."""

    MISSING = auto()
    FOREIGN = auto()
    """An object that this pipeline did not write."""
    CURRENT = auto()
    OUTDATED = auto()
    """Of other bytes or another fingerprint, or of an older source with the same key here."""
    SUPERSEDED = auto()
    """Of another source with the same key here, and a newer one."""


def standing(metadata: Mapping[str, str] | None, wanted: Provenance) -> Standing:
    """Compare an object with `wanted`; `metadata` is its user metadata, None if it is missing."""
    if metadata is None:
        return Standing.MISSING
    found = Provenance.of(metadata)
    if found is None:
        return Standing.FOREIGN
    if found.same_picture_as(wanted):
        return Standing.CURRENT
    if found.key != wanted.key and not wanted.is_newer_than(found):
        return Standing.SUPERSEDED
    return Standing.OUTDATED
