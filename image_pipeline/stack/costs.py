"""Estimate the cost of processing images from published prices and a stack's settings.

Prices: prices.json, where the first word of a price's name is that of its source in `sources`. Free
tiers are not included, storage only in `of_storage`, and transfer only in `of_transfer`.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from image_pipeline.stack.backfill import LISTED
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.prune import Kind, Survey
from thumbnailer.imaging import FULL_CPU_MB

PRICES: Final[dict[str, Any]] = json.loads(Path(__file__).with_name("prices.json").read_text())

CPU_MS: Final = 40.0
"""Milliseconds of one vCPU for a photo of about 1 MB with both default widths, requests included.
Measured: `make bench-function`, 138 ms at 0.29 vCPU with hardly any waiting."""

WAIT_MS: Final = 20.0
"""Milliseconds of waiting for S3 in the same region, at any memory. An assumption."""

FAILED_SHARE: Final = 0.01
"""Share of images that fail, each with a message that is sent, received and deleted. An assumption.
"""

LOG_BYTES: Final = 2000
"""Bytes of log and metrics for an image, with the lines that Lambda adds. An assumption: two lines
of the function, one of metrics and three of Lambda."""

METRICS: Final = 8
"""Custom metrics of a function (thumbnailer/telemetry.py)."""

ALARMS: Final = 10
"""Alarms of a stack with an input bucket of its own (iac/template.yaml)."""

BATCH: Final = 25
"""Images in a batch of a backfill (iac/backfill.asl.json)."""

BATCH_TRANSITIONS: Final = 5
"""State transitions of a batch, its start included (iac/backfill.asl.json)."""


REPLAY_TRANSITIONS: Final = 7
"""State transitions of a message that a replay settles (iac/replay.asl.json)."""

KMS_SHARE: Final = 0.01
"""Share of S3's requests for objects that ask KMS for a key, because the buckets use bucket keys:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-key.html (up to 99 % fewer)."""

HOURS: Final = 730
"""Hours of a month, as in AWS's own calculator."""


@dataclass(frozen=True, slots=True)
class Rates:
    """The settings of a stack that its costs depend on.

    `writes` is the number of PUT requests for an image, `duration_ms` its billed duration.
    `input_events` and `output_events` say whether a bucket sends its events to EventBridge. `key`
    says whether there is a customer managed key, and `own_key` that the stack created it.
    `provisioned` is the number of environments that are kept ready.
    """

    memory_mb: int
    architecture: str
    writes: int
    duration_ms: float
    input_events: bool = False
    output_events: bool = False
    key: bool = False
    own_key: bool = False
    traced: bool = False
    provisioned: int = 0

    @classmethod
    def of(cls, stack: Stack, duration_ms: float | None = None) -> "Rates":
        """The rates of `stack`; without `duration_ms` the duration is estimated from its memory."""
        settings, given = stack.settings, stack.parameters
        return cls(
            settings.memory_mb,
            stack.architecture,
            len(settings.specs) + settings.write_manifest,
            duration_ms or billed_ms(CPU_MS, settings.memory_mb),
            input_events="UndeliveredEventsUrl" in stack.outputs,
            # A template without the parameter always sent them.
            output_events=given.get("OutputEvents", "true") == "true",
            key="KeyArn" in stack.outputs,
            own_key=given.get("CreateKmsKey") == "true",
            traced=given.get("XRayTracing") == "true",
            provisioned=int(given.get("LambdaProvisionedConcurrency", "0")),
        )


def billed_ms(cpu_ms: float, memory_mb: int) -> float:
    """Milliseconds that Lambda bills for work of `cpu_ms` of a whole vCPU, at this memory."""
    return cpu_ms / min(1.0, memory_mb / FULL_CPU_MB) + WAIT_MS


def of_images(rates: Rates, images: int) -> dict[str, float]:
    """Dollars for `images` uploads, by service. Every invocation counts as traced, the most."""
    events = rates.input_events + rates.output_events * rates.writes
    seconds = math.ceil(rates.duration_ms) / 1000
    return {
        "Lambda, time": images
        * seconds
        * rates.memory_mb
        / 1024
        * PRICES["lambda_gb_second"][rates.architecture],
        "Lambda, requests": images * PRICES["lambda_request"],
        "S3, writes": images * rates.writes * PRICES["s3_put_or_list"],
        "S3, reads": images * PRICES["s3_get_or_head"],
        "SQS": images * FAILED_SHARE * 3 * PRICES["sqs_request"],
        "EventBridge": images * events * PRICES["eventbridge_event"],
        "KMS, requests": images
        * rates.key
        * (1 + rates.writes)
        * KMS_SHARE
        * PRICES["kms_request"],
        "X-Ray": images * rates.traced * PRICES["xray_trace"],
    }


def of_cloudwatch(images: int) -> dict[str, float]:
    """Dollars for a month of CloudWatch with `images` uploads."""
    return {
        "Logs": images * LOG_BYTES / 1e9 * PRICES["cloudwatch_log_gb"],
        "Metrics": METRICS * PRICES["cloudwatch_metric_month"],
        "Alarms": ALARMS * PRICES["cloudwatch_alarm_month"],
        "Dashboard": PRICES["cloudwatch_dashboard_month"],
    }


def of_stack(rates: Rates) -> dict[str, float]:
    """Dollars for a month of what a stack keeps besides CloudWatch, without any image."""
    seconds = rates.provisioned * HOURS * 3600
    provisioned = PRICES["lambda_provisioned_gb_second"][rates.architecture]
    return {
        "KMS, key": rates.own_key * PRICES["kms_key_month"],
        "Lambda, provisioned concurrency": seconds * rates.memory_mb / 1024 * provisioned,
    }


def of_replay(rates: Rates, messages: int) -> float:
    """Dollars for a replay of `messages` whose images succeed: transitions, requests and images."""
    per_message = (
        REPLAY_TRANSITIONS * PRICES["step_functions_transition"] + 2 * PRICES["sqs_request"]
    )
    images = of_images(replace(rates, input_events=False), messages)
    del images["SQS"]  # its share of failures is in per_message
    total: float = messages * per_message + sum(images.values())
    return total


def of_backfill(rates: Rates, objects: int, to_make: int, *, remake: bool = False) -> float:
    """Dollars for a backfill that checks `objects` and makes the thumbnails of `to_make`.

    With `remake`, these exist: each costs a PUT that is refused, and a HEAD of its source.
    """
    batches = math.ceil(objects / BATCH)
    checking = (
        objects * rates.writes * PRICES["s3_get_or_head"]
        + math.ceil(objects / LISTED) * PRICES["s3_put_or_list"]
        + batches * BATCH_TRANSITIONS * PRICES["step_functions_transition"]
        + batches * PRICES["lambda_request"]
    )
    making = of_images(replace(rates, input_events=False), to_make)
    del making["Lambda, requests"]  # one request for a batch is in `checking`
    total: float = checking + sum(making.values())
    if remake:
        total += to_make * rates.writes * (PRICES["s3_put_or_list"] + PRICES["s3_get_or_head"])
    return total


def of_prune(survey: Survey) -> float:
    """Dollars for the requests of a prune: of `survey`, and of what it would do. DELETE is free."""
    counts = survey.counts
    candidates = counts[Kind.TO_TAKE_OVER] + counts[Kind.TO_REMAKE]
    lists = math.ceil(survey.originals / LISTED) + math.ceil(survey.objects / LISTED)
    # A candidate: HEAD of its original and GET of its mark, then the original's HEAD once more.
    reads = survey.objects + counts[Kind.NO_ORIGINAL] + 3 * candidates
    total: float = (lists + counts[Kind.TO_TAKE_OVER]) * PRICES["s3_put_or_list"] + reads * PRICES[
        "s3_get_or_head"
    ]
    return total


def of_storage(size: int) -> float:
    """Dollars for a month of storing `size` bytes in S3 Standard."""
    dollars: float = size / 2**30 * PRICES["s3_storage_gb_month"]
    return dollars


def of_transfer(size: int) -> float:
    """Dollars for `size` bytes from CloudFront to viewers in North America or Europe."""
    dollars: float = size / 1e9 * PRICES["cloudfront_transfer_gb"]
    return dollars
