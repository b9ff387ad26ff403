"""Presigned URLs: what pages show, link to and upload to.

They expire, so pages renew them (static/links.js). An element says what its URL is of by the
attribute `data-object`: `input/KEY` or `output/KEY`, of a bucket of the stack.
"""

from collections.abc import Sequence
from typing import Final

from image_pipeline.stack.aws import aws_errors_explained
from image_pipeline.stack.deployed import Stack

URL_SECONDS: Final = 3600
"""How long a presigned URL is valid; less if the credentials that signed it expire before."""


def presigned_url(stack: Stack, bucket: str, key: str) -> str:
    """Return a URL that anyone can read the object with for URL_SECONDS."""
    return stack.aws.s3_links.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=URL_SECONDS
    )


def renewed(stack: Stack, objects: Sequence[str]) -> list[str]:
    """Return a new URL of each object, which is named as in `data-object`.

    Raises ValueError for a name of another form, and CommandError if the credentials have expired.
    """
    buckets = {"input": stack.input_bucket, "output": stack.settings.output_bucket}
    found = []
    with aws_errors_explained():  # signing may have to renew the credentials
        for each in objects:
            bucket, _, key = each.partition("/")
            if bucket not in buckets or not key:
                raise ValueError(f"{each!r} is not input/KEY or output/KEY")
            found.append(presigned_url(stack, buckets[bucket], key))
    return found
