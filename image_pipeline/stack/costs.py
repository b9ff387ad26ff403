"""Estimate the cost of processing images from published prices and a stack's settings.

Prices: prices.json, where the first word of a price's name is that of its source in `sources`. Free
tiers are not included, storage only in `of_storage`, and transfer only in `of_transfer` and
`of_views`.
"""

import json
import math
from bisect import bisect
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from image_pipeline.stack.backfill import LISTED
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.prune import Kind, Survey
from thumbnailer.imaging import FULL_CPU_MB, Size, ThumbnailSpec
from thumbnailer.settings import Settings
from thumbnailer.srcset import SMALLEST_FIRST

PRICES: Final[dict[str, Any]] = json.loads(Path(__file__).with_name("prices.json").read_text())

CPU_MS: Final = 34.0
"""Milliseconds of one vCPU for a photo of about 1 MB with both default widths in WebP, requests
included. Measured on x86_64: `make bench-function`, 118 ms at 0.29 vCPU with hardly any waiting."""

INIT_CPU_MS: Final = 69.0
"""Milliseconds of one vCPU for the init of an environment. Measured: `make bench-cold-start`."""

COLD_STARTS: Final = 0.01
"""Share of images whose event starts a new environment. An assumption: AWS counts "under 1 %"
(https://aws.amazon.com/blogs/compute/operating-lambda-performance-optimization-part-1/)."""


class Encoded(NamedTuple):
    """A thumbnail of a photo: its pixels and bytes, and milliseconds of one vCPU to encode it."""

    pixels: float
    bytes: float
    cpu_ms: float


ENCODED: Final = {
    "webp": (
        Encoded(13_180, 3_807, 1.55),
        Encoded(52_904, 12_918, 5.21),
        Encoded(211_251, 44_674, 19.3),
        Encoded(688_687, 153_862, 60.6),
        Encoded(2_753_257, 535_079, 111),
    ),
    "avif": (
        Encoded(13_180, 3_399, 6.46),
        Encoded(52_904, 11_060, 18.7),
        Encoded(211_251, 37_640, 58.9),
        Encoded(688_687, 129_848, 196),
        Encoded(2_753_257, 436_205, 664),
    ),
    "jpeg": (
        Encoded(13_180, 4_636, 0.47),
        Encoded(52_904, 15_061, 1.17),
        Encoded(211_251, 52_653, 3.74),
        Encoded(688_687, 173_884, 11.7),
        Encoded(2_753_257, 612_537, 44.3),
    ),
}
"""Thumbnails that are 128, 256, 512, 1,024 and 2,048 pixels wide, by format, at the default
qualities: means over 35 photos, and over 11 for the two largest widths. Measured: `make
bench-formats` (bench/results/format_bytes.json)."""

PHOTO_RATIO: Final = 2 / 3
"""Height of a photo divided by its width, that of most cameras. An assumption."""

PUTS_AT_ONCE: Final = 16
"""PUTs that wait for S3 together: MAX_WRITERS of thumbnailer/storage/bucket.py."""

WAIT_MS: Final = 20.0
"""Milliseconds of waiting for S3 in the same region, at any memory: for the GET and for the PUTs.
An assumption."""

STORED_MONTHS: Final = 12
"""Months of storage that a format has to pay for, beside making it. An assumption."""

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

FUNCTION_RUNS: Final = 2
"""Runs of the CDN's function for a URL without a format: on the request and on the response."""

CDN_FREE: Final = (
    "1 TB of transfer, 10 million requests, 2 million runs of functions and 1,000 invalidated paths"
)
"""What CloudFront does not bill an account in a month
(https://aws.amazon.com/cloudfront/pricing/)."""

HOURS: Final = 730
"""Hours of a month, as in AWS's own calculator."""


@dataclass(frozen=True, slots=True)
class Rates:
    """The settings of a stack that its costs depend on.

    `writes` is the number of PUT requests for an image, `duration_ms` its billed duration.
    `input_events` and `output_events` say whether a bucket sends its events to EventBridge. `key`
    says whether there is a customer managed key, and `own_key` that the stack created it.
    `provisioned` is the number of environments that are kept ready. `focus` says whether a backfill
    reads the focus of each image, which a listing does not tell.
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
    focus: bool = False

    @classmethod
    def of(cls, stack: Stack, duration_ms: float | None = None) -> "Rates":
        """The rates of `stack`; without `duration_ms` the duration is estimated from its memory."""
        settings, given = stack.settings, stack.parameters
        return cls(
            settings.memory_mb,
            stack.architecture,
            len(settings.specs) + settings.write_manifest,
            duration_ms or estimated_ms(settings),
            input_events="UndeliveredEventsUrl" in stack.outputs,
            # A template without the parameter always sent them.
            output_events=given.get("OutputEvents", "true") == "true",
            key="KeyArn" in stack.outputs,
            own_key=given.get("CreateKmsKey") == "true",
            traced=given.get("XRayTracing") == "true",
            provisioned=int(given.get("LambdaProvisionedConcurrency", "0")),
            focus=settings.crops,
        )


def encoded(spec: ThumbnailSpec) -> Encoded:
    """Estimate a thumbnail of a photo, whatever the quality of `spec`.

    Between the measured widths, and beyond them, bytes and time are powers of the pixels.
    """
    pixels = _pixels(spec.size)
    points = ENCODED[spec.format]
    above = min(max(bisect(points, (pixels,)), 1), len(points) - 1)
    low, high = points[above - 1], points[above]
    share = math.log(pixels / low.pixels) / math.log(high.pixels / low.pixels)
    return Encoded(
        pixels,
        low.bytes * (high.bytes / low.bytes) ** share,
        low.cpu_ms * (high.cpu_ms / low.cpu_ms) ** share,
    )


def _pixels(size: Size) -> float:
    """Pixels of the thumbnail of a photo that is large enough."""
    height = size.width * PHOTO_RATIO
    if size.height is None:
        return size.width * height
    if size.fit == "contain":
        scale = min(1.0, size.height / height)
        return size.width * scale * height * scale
    return float(size.width * size.height)


def billed_ms(cpu_ms: float, memory_mb: int, waits: int = 2) -> float:
    """Milliseconds that Lambda bills for work of `cpu_ms` of a whole vCPU, at this memory."""
    return cpu_ms / min(1.0, memory_mb / FULL_CPU_MB) + WAIT_MS * waits / 2


def estimated_ms(settings: Settings) -> float:
    """Milliseconds that Lambda bills for a photo of about 1 MB.

    The photo is read, decoded and scaled once, for any number of thumbnails. The function waits for
    S3 once for the GET, once for each PUTS_AT_ONCE of the PUTs, and once for a manifest.
    """
    defaults = Settings(output_bucket="", dead_letter_queue_url="")
    once = CPU_MS - sum(encoded(spec).cpu_ms for spec in defaults.specs)
    cpu_ms = once + sum(encoded(spec).cpu_ms for spec in settings.specs)
    waits = 1 + math.ceil(len(settings.specs) / PUTS_AT_ONCE) + settings.write_manifest
    return billed_ms(cpu_ms, settings.memory_mb, waits)


def bytes_by_format(settings: Settings) -> dict[str, float]:
    """Bytes of a photo's thumbnails, by format in the order of `formats`."""
    return {
        name: sum(encoded(spec).bytes for spec in settings.specs if spec.format == name)
        for name in settings.formats
    }


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


def init_ms(memory_mb: int) -> float:
    """Estimate the milliseconds of an init at this memory. Where Lambda gives it more CPU, less."""
    return INIT_CPU_MS / min(1.0, memory_mb / FULL_CPU_MB)


def of_cold_starts(rates: Rates, starts: float, billed_init_ms: float | None = None) -> float:
    """Dollars for the inits of `starts` environments, which Lambda bills since August 2025.

    https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/. Without
    `billed_init_ms`, the time of an init is estimated.
    """
    seconds = math.ceil(billed_init_ms or init_ms(rates.memory_mb)) / 1000
    price: float = PRICES["lambda_gb_second"][rates.architecture]
    return starts * seconds * rates.memory_mb / 1024 * price


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
    total = sum(of_backfill_by_service(rates, objects, to_make).values())
    if remake:
        total += to_make * rates.writes * (PRICES["s3_put_or_list"] + PRICES["s3_get_or_head"])
    return total


def of_backfill_by_service(rates: Rates, objects: int, to_make: int) -> dict[str, float]:
    """Dollars as those of `of_backfill`, by service; the images of a batch share one request."""
    batches = math.ceil(objects / BATCH)
    heads = objects * (rates.writes + rates.focus)
    making = of_images(replace(rates, input_events=False), to_make)
    return making | {
        "Lambda, requests": batches * PRICES["lambda_request"],
        "S3, reads": making["S3, reads"] + heads * PRICES["s3_get_or_head"],
        "S3, listing": math.ceil(objects / LISTED) * PRICES["s3_put_or_list"],
        "Step Functions": batches * BATCH_TRANSITIONS * PRICES["step_functions_transition"],
    }


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


def of_storage(size: float) -> float:
    """Dollars for a month of storing `size` bytes in S3 Standard."""
    dollars: float = size / 2**30 * PRICES["s3_storage_gb_month"]
    return dollars


def of_transfer(size: float) -> float:
    """Dollars for `size` bytes from CloudFront to viewers in North America or Europe."""
    dollars: float = size / 1e9 * PRICES["cloudfront_transfer_gb"]
    return dollars


def of_views(stack: Stack, views: int) -> dict[str, float]:
    """Dollars for the stack's CDN to serve `views` thumbnails, or as if it had one.

    A view loads one thumbnail, each size as often as the others, in the smallest format that
    viewers can get. Where formats are negotiated, every view counts as one of a URL without a
    format, the most. Requests of the CDN to S3 are not counted: they depend on what it has cached.
    """
    settings = stack.settings
    offered = stack.negotiated_formats or settings.formats
    viewed = next(name for name in SMALLEST_FIRST if name in offered)
    size = bytes_by_format(settings)[viewed] / len(settings.sizes)
    runs = FUNCTION_RUNS * views if stack.negotiated_formats else 0
    return {
        "CloudFront, requests": views * PRICES["cloudfront_request"],
        "CloudFront, function": runs * PRICES["cloudfront_function_invocation"],
        "CloudFront, transfer": of_transfer(views * size),
    }


def of_invalidations(rates: Rates, images: int) -> float:
    """Dollars for the invalidations of `images` that are all replaced or deleted."""
    dollars: float = images * rates.writes * PRICES["cloudfront_invalidation_path"]
    return dollars


class BreakEven(NamedTuple):
    """Views of an image after which the transfer that a format saves has paid for it.

    It pays for making its thumbnails and for storing them for STORED_MONTHS. A view loads one
    thumbnail, each size as often as the others, which would be in `instead_of` without the format.
    """

    instead_of: str
    views: float


def break_evens(stack: Stack) -> dict[str, BreakEven]:
    """When each format of a stack pays for itself, beside the next larger one.

    The format with the largest thumbnails is left out: it serves viewers that show no other. The
    durations are estimated ones.
    """
    settings = stack.settings
    size = bytes_by_format(settings)
    found = {}
    for name, larger in pairwise(sorted(settings.formats, key=size.__getitem__)):
        others = tuple(each for each in settings.formats if each != name)
        without = replace(stack, settings=settings._replace(formats=others))
        made, made_without = (
            sum(of_images(Rates.of(each), 1).values()) for each in (stack, without)
        )
        cost = made - made_without + STORED_MONTHS * of_storage(size[name])
        saved = of_transfer((size[larger] - size[name]) / len(settings.sizes))
        found[name] = BreakEven(larger, cost / saved)
    return found
