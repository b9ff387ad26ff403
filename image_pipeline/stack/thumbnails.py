"""What the output bucket holds for a source: the current thumbnail, an older one, or none."""

from dataclasses import dataclass

from image_pipeline.stack.aws import head_object
from image_pipeline.stack.deployed import Stack
from thumbnailer.provenance import Provenance, Standing, standing


@dataclass(frozen=True, slots=True)
class Stored:
    """The object at a key; `size` in bytes, `owner` is the source key that it names, if any."""

    standing: Standing
    size: int = 0
    owner: str | None = None


def describe(stack: Stack, key: str, wanted: Provenance) -> Stored:
    """Compare the object at `key` of the output bucket with `wanted`, by one HEAD request.

    Raises ClientError if S3 refuses the request.
    """
    head = head_object(stack.aws.s3, stack.settings.output_bucket, key)
    if head is None:
        return Stored(Standing.MISSING)
    found = Provenance.of(head["Metadata"])
    owner = found.key if found else None
    return Stored(standing(head["Metadata"], wanted), head["ContentLength"], owner)


def format_name(name: str) -> str:
    """Write an output format as people do."""
    return {"webp": "WebP"}.get(name, name.upper())
