"""What a backfill of many objects costs and takes, and which limits of AWS it exceeds."""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from image_pipeline.stack import costs
from image_pipeline.stack.aws import DOCUMENTS
from image_pipeline.stack.backfill import DEFAULT_CONCURRENCY, MAX_CONCURRENCY
from image_pipeline.stack.costs import BATCH, BATCH_TRANSITIONS, LOG_BYTES, PRICES, Rates
from image_pipeline.stack.deployed import Stack

HEAD_MS: Final = 10.0
"""Milliseconds that a HEAD in the same region takes. An assumption: half of costs.WAIT_MS, which is
for a GET and the PUTs."""

BATCH_MS: Final = 200.0
"""Milliseconds of a batch besides its images: Step Functions starts it, calls the function and ends
it. An assumption."""

CHECK_LOG_BYTES: Final = 300
"""Bytes of log for an image that is up to date: one line of the function. An assumption."""

CONCURRENCIES: Final = (DEFAULT_CONCURRENCY, 100, 1000)
"""Batches at a time that estimates are made for: the default of a stack, a tenth of the usual quota
of concurrent executions, and all of it."""

STEP_FUNCTIONS: Final = f"{DOCUMENTS}/step-functions/latest/dg/service-quotas.html"

MAX_ITEMS: Final = 100_000_000
"""Objects that one Distributed Map reads.
https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itemreader.html"""

USUAL_CONCURRENT_EXECUTIONS: Final = 1000
"""Default quota of concurrent executions of Lambda; new accounts may have 10.
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

FAST_REGIONS: Final = frozenset({"us-east-1", "us-west-2", "eu-west-1"})
TRANSITIONS_A_SECOND: Final = {True: 5000, False: 800}
"""State transitions a second of standard workflows, in FAST_REGIONS and in others: the refill rate.
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""

PUTS_A_SECOND: Final = 3500
READS_A_SECOND: Final = 5500
"""Requests a second for each prefix of a bucket, until S3 has split it further.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html"""

MAX_HOURS: Final = 365 * 24
"""Duration of an execution of a standard workflow.
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""

MESSAGE_HOURS: Final = 14 * 24
"""Retention of the dead-letter queue (iac/template.yaml), and of a failed execution for a redrive.
https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html"""

MAX_EVENTS: Final = 25_000
"""Events in the history of an execution, of a backfill or of one of its batches.
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""

IMAGE_EVENTS: Final = 85
"""Events of an image that gets invocations of its own and a message, with every retry used
(iac/backfill.asl.json): 2 for each state, and 3 for each attempt of a task."""

MAX_PAYLOAD_BYTES: Final = 256 * 1024
"""Input or output of a state.
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""

BATCH_BYTES: Final = 131_072
"""Most bytes of a batch (MaxInputBytesPerBatch of iac/backfill.asl.json)."""


class Estimate(NamedTuple):
    """Dollars by service, and milliseconds of a batch."""

    dollars: dict[str, float]
    batch_ms: float

    @property
    def total(self) -> float:
        """All dollars."""
        return sum(self.dollars.values())


class Limit(NamedTuple):
    """What AWS or the stack allows, what a backfill needs of it, and what moves it."""

    name: str
    allowed: float
    needed: float
    moved_by: str
    document: str

    @property
    def exceeded(self) -> bool:
        """Whether the backfill needs more than is allowed: it stops early, or is slowed down."""
        return self.needed > self.allowed


@dataclass(frozen=True, slots=True)
class Scale:
    """A backfill of `objects`, `concurrency` batches at a time, with a stack's `rates`.

    `transitions_a_second` is the account's quota.
    """

    rates: Rates
    objects: int
    concurrency: int
    transitions_a_second: float = TRANSITIONS_A_SECOND[True]

    @classmethod
    def of(
        cls, stack: Stack, objects: int, concurrency: int | None, duration_ms: float | None
    ) -> "Scale":
        """A backfill of a stack, without `concurrency` with its own, in the stack's region.

        Without `duration_ms`, the billed duration of an image is estimated (`costs.Rates.of`).
        """
        default = int(stack.parameters.get("BackfillConcurrency", DEFAULT_CONCURRENCY))
        fast = stack.aws.s3.meta.region_name in FAST_REGIONS
        return cls(
            Rates.of(stack, duration_ms),
            objects,
            concurrency or default,
            TRANSITIONS_A_SECOND[fast],
        )

    @property
    def batches(self) -> int:
        """Child executions of the Distributed Map."""
        return math.ceil(self.objects / BATCH)

    @property
    def transitions(self) -> int:
        """State transitions, if no batch is interrupted."""
        return self.batches * BATCH_TRANSITIONS

    def current(self) -> Estimate:
        """If everything is up to date: the objects are only checked."""
        heads = self.rates.writes + self.rates.focus
        return self._estimate(heads * HEAD_MS, to_make=0)

    def missing(self) -> Estimate:
        """If all thumbnails are missing: the first HEAD says so, and each image is made."""
        return self._estimate(HEAD_MS + self.rates.duration_ms, to_make=self.objects)

    def hours(self, estimate: Estimate, concurrency: int | None = None) -> float:
        """Hours with `concurrency` batches at a time, or as long as their state transitions take.

        S3's limits are left out: they grow while a prefix is used.
        """
        waves = self.batches / min(concurrency or self.concurrency, self.batches)
        seconds = waves * estimate.batch_ms / 1000
        return max(seconds, self.transitions / self.transitions_a_second) / 3600

    def limits(self, stack: Stack) -> list[Limit]:
        """Every limit that a backfill of this size may exceed, for the faster of both estimates."""
        fastest = self.current()
        batches_a_second = self.concurrency / (fastest.batch_ms / 1000)
        making = self.concurrency / (self.missing().batch_ms / 1000)
        reads = batches_a_second * BATCH * (self.rates.writes + self.rates.focus)
        reserved = stack.parameters.get("LambdaReservedConcurrency")
        maximum = int(stack.outputs.get("BackfillMaximum", MAX_ITEMS))
        return [
            Limit(
                "objects of one backfill, of this stack",
                maximum,
                self.objects,
                "parameter BackfillMaximum, or --prefix",
                f"{DOCUMENTS}/step-functions/latest/dg/input-output-itemreader.html",
            ),
            Limit(
                "objects that a Distributed Map reads",
                MAX_ITEMS,
                self.objects,
                "--prefix: one backfill for each part",
                f"{DOCUMENTS}/step-functions/latest/dg/input-output-itemreader.html",
            ),
            Limit(
                "child executions at a time",
                MAX_CONCURRENCY,
                self.concurrency,
                "parameter BackfillConcurrency, or --concurrency",
                STEP_FUNCTIONS,
            ),
            Limit(
                "concurrent executions of the function",
                int(reserved) if reserved else USUAL_CONCURRENT_EXECUTIONS,
                self.concurrency,
                "parameter LambdaReservedConcurrency, or Lambda's quota",
                f"{DOCUMENTS}/lambda/latest/dg/gettingstarted-limits.html",
            ),
            Limit(
                "state transitions a second",
                self.transitions_a_second,
                batches_a_second * BATCH_TRANSITIONS,
                "the quota, or a lower --concurrency",
                STEP_FUNCTIONS,
            ),
            Limit(
                "S3 reads a second and prefix",
                READS_A_SECOND,
                reads,
                "more prefixes, or a lower --concurrency",
                f"{DOCUMENTS}/AmazonS3/latest/userguide/optimizing-performance.html",
            ),
            Limit(
                "S3 writes a second and prefix",
                PUTS_A_SECOND,
                making * BATCH * self.rates.writes,
                "more prefixes, or a lower --concurrency",
                f"{DOCUMENTS}/AmazonS3/latest/userguide/optimizing-performance.html",
            ),
            Limit(
                "hours of an execution",
                MAX_HOURS,
                self.hours(self.missing()),
                "a higher --concurrency, or --prefix",
                STEP_FUNCTIONS,
            ),
            Limit(
                "hours until a dead-letter message expires",
                MESSAGE_HOURS,
                self.hours(self.missing()),
                "a replay meanwhile, or a higher --concurrency",
                f"{DOCUMENTS}/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html",
            ),
            Limit(
                "history events of a batch, if each image fails",
                MAX_EVENTS,
                BATCH * IMAGE_EVENTS,
                "fixed: a batch has 25 images",
                STEP_FUNCTIONS,
            ),
            Limit(
                "bytes of a batch",
                MAX_PAYLOAD_BYTES,
                BATCH_BYTES,
                "fixed: longer keys make smaller batches",
                STEP_FUNCTIONS,
            ),
        ]

    def _estimate(self, image_ms: float, to_make: int) -> Estimate:
        """Estimate a backfill whose function needs `image_ms` for each object."""
        rates = self.rates
        gb_seconds = self.objects * image_ms / 1000 * rates.memory_mb / 1024
        logged = to_make * LOG_BYTES + (self.objects - to_make) * CHECK_LOG_BYTES
        dollars = costs.of_backfill_by_service(rates, self.objects, to_make) | {
            "Lambda, time": gb_seconds * PRICES["lambda_gb_second"][rates.architecture],
            "CloudWatch, logs": logged / 1e9 * PRICES["cloudwatch_log_gb"],
        }
        return Estimate(dollars, BATCH_MS + BATCH * image_ms)
