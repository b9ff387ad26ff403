"""What the output bucket holds for a source: the current thumbnail, an older one, or none."""

from dataclasses import dataclass
from enum import Enum, auto

from image_pipeline.stack.aws import head_object
from image_pipeline.stack.deployed import Stack
from thumbnailer.provenance import Provenance


class Standing(Enum):
    """How the object at a key of the output bucket compares with what a source needs there."""

    CURRENT = auto()
    """It was made from this source as it is now, with the current settings."""
    OUTDATED = auto()
    """It is to be replaced: made from other bytes, other settings or an older source."""
    SUPERSEDED = auto()
    """It belongs to a newer source whose thumbnails have the same name."""
    MISSING = auto()


@dataclass(frozen=True, slots=True)
class Stored:
    """The object at a key; `size` in bytes, `owner` is the source key that it names, if any."""

    standing: Standing
    size: int = 0
    owner: str | None = None


def standing(stack: Stack, source: Provenance, key: str, fingerprint: str) -> Stored:
    """Compare the object at `key` with what `source` needs there, by one HEAD request.

    `fingerprint` is that of the settings for this object; the one in `source` is not used. Raises
    ClientError if S3 refuses the request.
    """
    head = head_object(stack.aws.s3, stack.settings.output_bucket, key)
    if head is None:
        return Stored(Standing.MISSING)
    needed = source._replace(recipe=fingerprint)
    found = Provenance.of(head["Metadata"])
    if found is None:
        state = Standing.OUTDATED
    elif found.same_picture_as(needed):
        state = Standing.CURRENT
    elif found.key != needed.key and found.is_newer_than(needed):
        state = Standing.SUPERSEDED
    else:
        state = Standing.OUTDATED
    return Stored(state, head["ContentLength"], found.key if found else None)
