"""Invalidations: what the CDN has cached of objects that were overwritten or deleted.

They are for stacks that cannot version their URLs (CdnInvalidate). The import of boto3 takes a
fifth of a second of a whole CPU, so this module is imported only when something has changed.
"""

import time
from collections.abc import Sequence
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

SECONDS: Final = 4.0
"""Time that the requests may take: two attempts of two seconds, for all paths of an event."""


def invalidate(
    distribution: str, keys: Sequence[str], request_id: str, seconds: float
) -> str | None:
    """Invalidate the URLs of these objects, without `?v=`: a versioned URL never changes.

    They are the URLs after the CloudFront Function, which chooses the format before the cache is
    asked. `request_id` names the invocation, which has `seconds` left. Returns why it was not
    possible, or None.
    """
    failed = f"The CDN may show {len(keys)} objects as they were until they expire: "
    if seconds < SECONDS:
        return f"{failed}{seconds:.1f} s left, and an invalidation may take {SECONDS:.0f} s"
    client: Any = boto3.client(
        "cloudfront",
        region_name=REGION,
        config=Config(
            connect_timeout=SECONDS / 4,
            read_timeout=SECONDS / 4,
            retries={"total_max_attempts": 2, "mode": "standard"},
        ),
    )
    try:
        for paths in batched(
            dict.fromkeys(f"/{url_path(key)}" for key in keys), MAX_PATHS, strict=False
        ):
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
