"""What images cost, reckoned from published prices and the stack's own settings.

Prices and their sources: prices.json. Free tiers, storage and transfer are left out.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from image_pipeline.stack.deployed import Stack

PRICES: Final[dict[str, Any]] = json.loads(Path(__file__).with_name("prices.json").read_text())

VCPU_MB: Final = 1769
"""Memory at which a function has one vCPU; below it has a share of one.
https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""

CPU_MS: Final = 40.0
"""Milliseconds of a whole vCPU that a photo of about 1 MB takes, both widths, requests included
(`make bench-function`: 138 ms at 0.29 vCPU, with hardly any waiting)."""

WAIT_MS: Final = 20.0
"""Milliseconds that it waits for S3 in the same region, whatever the memory."""

FAILING: Final = 0.01
"""Share of images that become a letter, for SQS: each is sent, received and deleted."""

LOG_BYTES: Final = 2000
"""Bytes that an image's log lines and metrics have, with what Lambda adds."""

METRICS: Final = 8
"""Custom metrics of a function: those that telemetry.py emits."""

ALARMS: Final = 10
"""Alarms of a stack with an input bucket of its own (iac/template.yaml)."""

BATCH: Final = 25
"""Images in a batch of a backfill (iac/backfill.asl.json)."""

BATCH_TRANSITIONS: Final = 5
"""State transitions that a batch takes, its start included."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What of a stack decides on its costs; `writes` are the PUTs that an image takes."""

    memory_mb: int
    architecture: str
    writes: int
    duration_ms: float

    @classmethod
    def of(cls, stack: Stack, duration_ms: float | None = None) -> "Rates":
        """The rates of `stack`; the duration of an image in milliseconds if it is known."""
        settings = stack.settings
        return cls(
            settings.memory_mb,
            stack.architecture,
            len(settings.widths) + settings.write_manifest,
            duration_ms or CPU_MS / min(1.0, settings.memory_mb / VCPU_MB) + WAIT_MS,
        )


def of_images(rates: Rates, images: int) -> dict[str, float]:
    """Dollars for `images` uploads, by what they are paid for."""
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
        "SQS": images * FAILING * 3 * PRICES["sqs_request"],
    }


def of_cloudwatch(images: int) -> dict[str, float]:
    """Dollars for a month with `images` uploads in it."""
    return {
        "Logs": images * LOG_BYTES / 1e9 * PRICES["cloudwatch_log_gb"],
        "Metrics": METRICS * PRICES["cloudwatch_metric_month"],
        "Alarms": ALARMS * PRICES["cloudwatch_alarm_month"],
    }


def of_backfill(rates: Rates, objects: int, to_make: int) -> float:
    """Dollars for a backfill that looks at `objects` and makes the thumbnails of `to_make`."""
    batches = math.ceil(objects / BATCH)
    looking = (
        objects * rates.writes * PRICES["s3_get_or_head"]
        + math.ceil(objects / 1000) * PRICES["s3_put_or_list"]
        + batches * BATCH_TRANSITIONS * PRICES["step_functions_transition"]
        + batches * PRICES["lambda_request"]
    )
    making = of_images(rates, to_make)
    del making["Lambda, requests"]  # a batch is one
    total: float = looking + sum(making.values())
    return total
