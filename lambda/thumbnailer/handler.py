"""Handles one event: parse → reconcile each upload → report.

Who delivered the event decides what happens to its failures (`events.Source`):

- ASYNC, REPLAY: all uploads are finished first. If any failed temporarily, the invocation raises
  before a dead-letter message is sent. Lambda then retries the event and finally sends it to its
  OnFailure destination; a replayed message stays on its queue. So each event yields one message.
- QUEUE: the same for each SQS message, by the partial batch response.
- DIRECT: nobody retries, so a temporary failure becomes a dead-letter message too.

A backfill reports an image that ended the function's process with `{"report": {…}}`
(`events.parse_report`): its message is sent by the same code as any other, and only by a function
that works.

A replay calls with `{"letter": BODY, "failed_before"?: TIME, "error"?: TYPE}`. BODY is the message
exactly as it was on the queue, because only this code can distinguish all its shapes.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from thumbnailer.dead_letters import (
    MAX_MESSAGE,
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
from thumbnailer.events import Delivery, Source, Upload, parse, parse_report
from thumbnailer.imaging import impose_hard_limit
from thumbnailer.reconcile import CURRENT, Done, Failed, Reconciler, Skipped
from thumbnailer.settings import Settings
from thumbnailer.storage import S3Bucket, prepare, use_one_ca_bundle
from thumbnailer.telemetry import Telemetry

if TYPE_CHECKING:
    from thumbnailer.failure_marks import FailureMarks

type Outcome = Done | Skipped | PipelineError
type Outcomes = list[tuple[Upload, Outcome]]


class Context(Protocol):
    """The part of https://docs.aws.amazon.com/lambda/latest/dg/python-context.html that is used."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda ends the invocation."""


class Function:
    """The function in one execution environment. Calling it is one invocation.

    `version` is that of the built artefact, for the log; None runs from the source.
    Raises InvalidSettings at once, which names every fault.
    """

    def __init__(self, environment: Mapping[str, str], version: str | None = None) -> None:
        self.settings = Settings.from_environment(environment)
        self.telemetry = Telemetry(self.settings.log_level)
        if version:
            self.telemetry.initialized(version)
        self.queue = DeadLetterQueue(self.settings.dead_letter_queue_url)
        in_lambda = "AWS_LAMBDA_RUNTIME_API" in environment
        if in_lambda:
            use_one_ca_bundle()
        prepare(self.settings.output_bucket)
        if self.settings.input_bucket:
            prepare(self.settings.input_bucket)
        if in_lambda:
            impose_hard_limit(self.settings.memory_mb)  # last: what is allocated by now is free

    def __call__(self, event: object, context: Context) -> dict[str, Any]:
        """Bring the thumbnails of every upload that `event` names up to date.

        Returns `{"processed", "skipped", "failed", "not_done"}`, `{"batchItemFailures"}` to SQS, or
        to a replay the number of each, or `{"left": WHY}` for a message that was not processed. To
        a report: `{"failed": 1}`.
        Raises InvalidEvent, a TransientError that will be retried, or QueueUnavailable.
        """
        self.telemetry.begin(context.aws_request_id)
        try:
            if isinstance(event, Mapping) and "letter" in event:
                return self._replay(event, context)
            if isinstance(event, Mapping) and "report" in event:
                return self._report_crash(event["report"], context)
            return self._deliver(parse(event), context)
        finally:
            self.telemetry.flush()

    def _deliver(self, delivery: Delivery, context: Context) -> dict[str, Any]:
        for part, fault in delivery.faults:
            self.telemetry.unreadable(part, fault)
        outcomes = self._process(delivery, context)
        request_id = context.aws_request_id
        match delivery.source:
            case Source.ASYNC:
                return self._report_event(delivery, outcomes, request_id)
            case Source.REPLAY:
                return self._report_event(delivery, outcomes, request_id, self._marks(context))
            case Source.QUEUE:
                return self._report_batch(delivery, outcomes, request_id)
            case Source.DIRECT:
                marks = self._marks(context) if delivery.report_once else None
                return self._report_direct(delivery, outcomes, request_id, marks)

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

    def _report_crash(self, report: object, context: Context) -> dict[str, Any]:
        """Send the message of an image that ended the process of another invocation."""
        upload, error, request_id = parse_report(report)
        message = DeadLetter(
            bucket=upload.bucket,
            key=upload.key,
            etag=upload.etag,
            error={**error, "message": error["message"][:MAX_MESSAGE], "permanent": False},
            attempts=1,
            request_id=request_id or context.aws_request_id,
            failed_at=datetime.now(UTC).isoformat(),
            remake=upload.remake,
        )
        self._send(message, self._marks(context), once=True)
        return {"failed": 1}

    def _marks(self, context: Context) -> "FailureMarks":
        from thumbnailer.failure_marks import FailureMarks  # noqa: PLC0415 - no upload needs it

        return FailureMarks(S3Bucket(self.settings.output_bucket, _remaining(context)))

    def _process(self, delivery: Delivery, context: Context) -> Outcomes:
        remaining = _remaining(context)
        changed: list[str] = []
        reconciler = Reconciler(
            self.settings,
            self.telemetry,
            bucket=lambda name: S3Bucket(name, remaining),
            remaining=remaining,
            available=remaining(),
            changed=changed.append,
        )
        outcomes = [
            self._process_upload(reconciler, upload, delivery) for upload in delivery.uploads
        ]
        if changed and self.settings.distribution:
            self._invalidate(changed, context.aws_request_id, remaining())
        return outcomes

    def _invalidate(self, keys: list[str], request_id: str, seconds: float) -> None:
        """Invalidate objects in the CDN. They are right in the bucket: a failure is only logged."""
        try:
            from thumbnailer import cdn  # noqa: PLC0415 - few stacks use it

            fault = cdn.invalidate(self.settings.distribution, keys, request_id, seconds)
        except Exception as error:  # noqa: BLE001 - the messages of this event must be sent
            fault = f"The CDN may show {len(keys)} objects as they were until they expire: {error}"
        if fault:
            self.telemetry.degraded(self.settings.output_bucket, keys[0], fault)

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
        self,
        delivery: Delivery,
        outcomes: Outcomes,
        request_id: str,
        marks: "FailureMarks | None" = None,
    ) -> dict[str, Any]:
        transient = [outcome for _, outcome in outcomes if isinstance(outcome, TransientError)]
        if transient:
            first = transient[0]
            raise type(first)(
                f"{len(transient)} of {len(outcomes)} uploads failed temporarily: {first}"
            ) from first
        for _, fault in delivery.faults:
            raise fault  # so that the event, with its unreadable part, ends on the queue
        self._send_dead_letters(outcomes, request_id, marks)
        if marks:
            for upload, outcome in outcomes:
                if not isinstance(outcome, PipelineError):
                    marks.clear(upload.bucket, upload.key)
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
        self,
        delivery: Delivery,
        outcomes: Outcomes,
        request_id: str,
        marks: "FailureMarks | None",
    ) -> dict[str, Any]:
        begun = (pair for pair in outcomes if not isinstance(pair[1], OutOfTime))
        self._send_dead_letters(begun, request_id, marks, once=True)
        return _summary(outcomes) if delivery.summary else _result(outcomes)

    def _send_dead_letters(
        self,
        outcomes: Iterable[tuple[Upload, Outcome]],
        request_id: str,
        marks: "FailureMarks | None" = None,
        *,
        once: bool = False,
    ) -> None:
        for upload, outcome in outcomes:
            if isinstance(outcome, PipelineError):
                self._send(DeadLetter.of(upload, outcome, request_id), marks, once=once)

    def _send(self, message: DeadLetter, marks: "FailureMarks | None", *, once: bool) -> None:
        """Send a message and mark its failure. With `once`, a failure that is marked gets none."""
        has_message = marks is not None and marks.has_message(message)
        if once and has_message:
            return
        self.queue.send(message)
        if marks is not None:
            marks.set(message)


def _remaining(context: Context) -> Callable[[], float]:
    """Return a function for the seconds that are left for work, without those for messages."""
    return lambda: context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS


def _result(outcomes: Outcomes) -> dict[str, Any]:
    """Return what a synchronous caller receives. Uploads that were not done include their etag."""
    result: dict[str, Any] = {"processed": [], "skipped": [], "failed": [], "not_done": []}
    for upload, outcome in outcomes:
        name = {"bucket": upload.bucket, "key": upload.key}
        match outcome:
            case Done():
                thumbnails = [
                    {
                        "size": each.spec.size.name,
                        "format": each.spec.format,
                        "width": each.spec.size.width,
                        "key": each.key,
                        "bytes": each.bytes,
                    }
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
