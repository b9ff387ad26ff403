"""Handles one event: parse → reconcile each upload → report.

Who delivered the event decides what happens to its failures (`events.Source`):

- ASYNC, REPLAY: all uploads are finished first. If any failed temporarily, the invocation raises
  before a dead-letter message is sent. Lambda then retries the event and finally sends it to its
  OnFailure destination; a replayed message stays on its queue. So each event yields one message.
- QUEUE: the same for each SQS message, by the partial batch response.
- DIRECT: nobody retries, so a temporary failure becomes a dead-letter message too.

A replay calls with `{"letter": BODY, "failed_before"?: TIME, "error"?: TYPE}`. BODY is the message
exactly as it was on the queue, because only this code can distinguish all its shapes.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

from thumbnailer.dead_letters import (
    RESERVE_SECONDS,
    UNREADABLE,
    DeadLetter,
    DeadLetterQueue,
    error_summary,
    read,
)
from thumbnailer.errors import (
    InvalidEvent,
    OutOfTime,
    PipelineError,
    QueueUnavailable,
    TransientError,
    UnexpectedError,
    clear_tracebacks,
)
from thumbnailer.events import Delivery, Source, Upload, parse
from thumbnailer.imaging import impose_hard_limit
from thumbnailer.reconcile import CURRENT, Done, Failed, Reconciler, Skipped
from thumbnailer.settings import Settings
from thumbnailer.storage import S3Bucket, prepare
from thumbnailer.telemetry import Telemetry

type Outcome = Done | Skipped | PipelineError
type Outcomes = list[tuple[Upload, Outcome]]


class Context(Protocol):
    """The part of https://docs.aws.amazon.com/lambda/latest/dg/python-context.html that is used."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda ends the invocation."""


class Function:
    """The function in one execution environment. Calling it is one invocation.

    Raises InvalidSettings at once, which names every fault.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.settings = Settings.from_environment(environment)
        self.telemetry = Telemetry(self.settings.log_level)
        self.queue = DeadLetterQueue(self.settings.dead_letter_queue_url)
        prepare(self.settings.output_bucket)
        if self.settings.input_bucket:
            prepare(self.settings.input_bucket)
        if "AWS_LAMBDA_RUNTIME_API" in environment:
            impose_hard_limit(self.settings.memory_mb)  # last: what is allocated by now is free

    def __call__(self, event: object, context: Context) -> dict[str, Any]:
        """Bring the thumbnails of every upload that `event` names up to date.

        Returns `{"processed", "skipped", "failed", "not_done"}`, `{"batchItemFailures"}` to SQS, or
        to a replay the number of each, or `{"left": WHY}` for a message that was not processed.
        Raises InvalidEvent, a TransientError that will be retried, or QueueUnavailable.
        """
        self.telemetry.begin(context.aws_request_id)
        try:
            if isinstance(event, Mapping) and "letter" in event:
                return self._replay(event, context)
            return self._deliver(parse(event), context)
        finally:
            self.telemetry.flush()

    def _deliver(self, delivery: Delivery, context: Context) -> dict[str, Any]:
        for part, fault in delivery.faults:
            self.telemetry.unreadable(part, fault)
        outcomes = self._process(delivery, context)
        request_id = context.aws_request_id
        match delivery.source:
            case Source.ASYNC | Source.REPLAY:
                return self._report_event(delivery, outcomes, request_id)
            case Source.QUEUE:
                return self._report_batch(delivery, outcomes, request_id)
            case Source.DIRECT:
                return self._report_direct(delivery, outcomes, request_id)

    def _replay(self, request: Mapping[str, Any], context: Context) -> dict[str, Any]:
        try:
            message = read(str(request["letter"]))
            delivery = parse(message.event)
        except InvalidEvent as error:
            self.telemetry.unreadable("letter", error)
            return {"left": UNREADABLE}
        if (before := request.get("failed_before")) and message.failed_at:
            try:
                newer = message.failed_at >= datetime.fromisoformat(before)
            except (TypeError, ValueError):
                raise InvalidEvent(f'"failed_before" must be a time, not {before!r}') from None
            if newer:
                return {"left": "newer"}
        if (wanted := request.get("error")) and message.error_type != wanted:
            return {"left": "another error"}
        return {name: len(each) for name, each in self._deliver(delivery, context).items()}

    def _process(self, delivery: Delivery, context: Context) -> Outcomes:
        def remaining() -> float:
            return context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS

        reconciler = Reconciler(
            self.settings,
            self.telemetry,
            bucket=lambda name: S3Bucket(name, remaining),
            remaining=remaining,
            available=remaining(),
        )
        return [self._process_upload(reconciler, upload, delivery) for upload in delivery.uploads]

    def _process_upload(
        self, reconciler: Reconciler, upload: Upload, delivery: Delivery
    ) -> tuple[Upload, Outcome]:
        error: PipelineError
        try:
            return upload, reconciler.process(upload, only_missing=delivery.only_missing)
        except Failed as failed:
            upload, error = upload._replace(etag=failed.etag), failed.error
        except TransientError as transient:
            error = transient
        except Exception as unexpected:  # noqa: BLE001 - unknown errors count as transient
            error = UnexpectedError(f"{type(unexpected).__name__}: {unexpected}")
            error.__cause__ = unexpected
        self.telemetry.failed(upload.bucket, upload.key, error, error_summary(error))
        clear_tracebacks(error)  # the next upload may need all the memory
        return upload, error

    def _report_event(
        self, delivery: Delivery, outcomes: Outcomes, request_id: str
    ) -> dict[str, Any]:
        transient = [outcome for _, outcome in outcomes if isinstance(outcome, TransientError)]
        if transient:
            first = transient[0]
            raise type(first)(
                f"{len(transient)} of {len(outcomes)} uploads failed temporarily: {first}"
            ) from first
        for _, fault in delivery.faults:
            raise fault  # so that the event, with its unreadable part, ends on the queue
        self._send_dead_letters(outcomes, request_id)
        return _result(outcomes)

    def _report_batch(
        self, delivery: Delivery, outcomes: Outcomes, request_id: str
    ) -> dict[str, Any]:
        retry = {message_id for message_id, _ in delivery.faults}
        retry |= {
            upload.message_id or ""
            for upload, outcome in outcomes
            if isinstance(outcome, TransientError)
        }
        for upload, outcome in outcomes:
            if upload.message_id in retry:
                continue
            try:
                self._send_dead_letters([(upload, outcome)], request_id)
            except QueueUnavailable as error:
                self.telemetry.failed(upload.bucket, upload.key, error, error_summary(error))
                retry.add(upload.message_id or "")
        return {"batchItemFailures": [{"itemIdentifier": each} for each in sorted(retry)]}

    def _report_direct(
        self, delivery: Delivery, outcomes: Outcomes, request_id: str
    ) -> dict[str, Any]:
        self._send_dead_letters(
            (pair for pair in outcomes if not isinstance(pair[1], OutOfTime)), request_id
        )
        return _summary(outcomes) if delivery.summary else _result(outcomes)

    def _send_dead_letters(
        self, outcomes: Iterable[tuple[Upload, Outcome]], request_id: str
    ) -> None:
        for upload, outcome in outcomes:
            if isinstance(outcome, PipelineError):
                self.queue.send(DeadLetter.of(upload, outcome, request_id))


def _result(outcomes: Outcomes) -> dict[str, Any]:
    """Return what a synchronous caller receives. Uploads that were not done include their etag."""
    result: dict[str, Any] = {"processed": [], "skipped": [], "failed": [], "not_done": []}
    for upload, outcome in outcomes:
        name = {"bucket": upload.bucket, "key": upload.key}
        match outcome:
            case Done():
                thumbnails = [
                    {"width": each.size.width, "key": each.key, "bytes": each.bytes}
                    for each in outcome.thumbnails
                ]
                manifest = {"manifest": outcome.manifest} if outcome.manifest else {}
                result["processed"].append({**name, "thumbnails": thumbnails, **manifest})
            case Skipped():
                deleted = {"deleted": list(outcome.deleted)} if outcome.deleted else {}
                result["skipped"].append({**name, "reason": outcome.reason, **deleted})
            case OutOfTime():
                etag = {"etag": upload.etag} if upload.etag else {}
                result["not_done"].append({**name, **etag})
            case PipelineError():
                result["failed"].append({**name, "error": error_summary(outcome)})
    return result


def _summary(outcomes: Outcomes) -> dict[str, Any]:
    """Count the outcomes. Uploads whose thumbnails are current are not among the skipped."""
    result = _result(outcomes)
    current = sum(each["reason"] == CURRENT for each in result["skipped"])
    return {
        "processed": len(result["processed"]),
        "current": current,
        "skipped": len(result["skipped"]) - current,
        "failed": len(result["failed"]),
        "not_done": result["not_done"],
    }
