"""Invalidations: what the CDN has cached of objects that were overwritten or deleted.

They are for stacks that cannot version their URLs (CdnInvalidate). The import of boto3 takes a
fifth of a second of a whole CPU, so this module is imported only when something has changed.
"""

import re
import time
from collections.abc import Iterator, Sequence
from itertools import batched
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from thumbnailer.srcset import url_path

REGION: Final = "us-east-1"
"""CloudFront's only endpoint (https://docs.aws.amazon.com/general/latest/gr/cf_region.html)."""

MAX_PATHS: Final = 3000
"""Paths that a distribution may have in progress
(https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html)."""

MIN_SECONDS: Final = 2.0
MAX_SECONDS: Final = 8.0
"""Time for two attempts of a request from any region. With less than the first, none is begun."""

SAFE: Final = r"%(21|24|26|27|28|29|2B|2C|3A|3B|3D|40)"
"""Characters that `url_path` encodes and RFC 1738 (2.2) does not: `!$&'()+,:;=@`."""


def invalidate(
    distribution: str, keys: Sequence[str], request_id: str, seconds: float
) -> str | None:
    """Invalidate the URLs of these objects, without `?v=`: a versioned URL never changes.

    They are the URLs after the CloudFront Function, which chooses the format before the cache is
    asked: an assumption, for which AWS's documentation has no word. `request_id` names the
    invocation, which has `seconds` left. Returns why it was not possible, or None.
    """
    failed = f"The CDN may show {len(keys)} objects as they were until they expire: "
    if seconds < MIN_SECONDS:
        return f"{failed}{seconds:.1f} s left, and an invalidation needs {MIN_SECONDS:.0f} s"
    timeout = min(seconds, MAX_SECONDS) / 4  # to connect and to read, twice
    client: Any = boto3.client(
        "cloudfront",
        region_name=REGION,
        config=Config(
            connect_timeout=timeout,
            read_timeout=timeout,
            retries={"total_max_attempts": 2, "mode": "standard"},
        ),
    )
    try:
        every = dict.fromkeys(path for key in keys for path in _paths(key))
        for paths in batched(every, MAX_PATHS, strict=False):
            client.create_invalidation(
                DistributionId=distribution,
                InvalidationBatch={
                    "Paths": {"Quantity": len(paths), "Items": list(paths)},
                    # A retried event has the same id, and other paths.
                    "CallerReference": f"{request_id} {time.time_ns()}",
                },
            )
    except (BotoCoreError, ClientError) as error:
        return f"{failed}{error}"
    return None


def _paths(key: str) -> Iterator[str]:
    """Yield the path of a key in both spellings that pages use, where they differ.

    CloudFront matches what was requested, character by character, and URLs may encode more than
    they must. An asterisk stays encoded: it would be a wildcard.
    https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/invalidation-specifying-objects.html
    """
    path = f"/{url_path(key)}".replace("~", "%7E")
    yield path
    yield re.sub(SAFE, lambda found: chr(int(found[1], 16)), path)
