"""Entry point of the function: parse → process → report.

Who delivered an event decides what becomes of its failures (`uploads.Source`):

- ASYNC, REPLAY: all uploads are finished first. If any failed for now, the invocation raises before
  a letter is sent: Lambda retries the event, and at last its OnFailure destination takes it (or the
  replayed letter stays on its queue). So a letter is sent once an event.
- QUEUE: the same for each message, by the partial batch response.
- DIRECT: nobody retries, so a transient failure becomes a letter too.

A replay calls with `{"letter": BODY, "failed_before"?: TIME, "error"?: TYPE}`: the message as it
was on the queue, whatever it is, for only here can all its shapes be told apart.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from thumbnailer.dead_letters import RESERVE, DeadLetter, DeadLetterQueue, described, read
from thumbnailer.errors import (
    InvalidEvent,
    OutOfTime,
    PipelineError,
    QueueUnavailable,
    TransientError,
    UnexpectedError,
    release_frames,
)
from thumbnailer.events import Delivery, Source, Upload, parse
from thumbnailer.reconcile import CURRENT, Done, Failed, Pipeline, Skipped
from thumbnailer.settings import Settings
from thumbnailer.storage import S3Bucket, prepare
from thumbnailer.telemetry import Telemetry

type Outcome = Done | Skipped | PipelineError
type Outcomes = list[tuple[Upload, Outcome]]


UNREADABLE: Final = "unreadable"
"""Why a message is left on the queue that is none of ours; a replay counts by it."""


class Context(Protocol):
    """What is used of https://docs.aws.amazon.com/lambda/latest/dg/python-context.html."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation."""


class Function:
    """The function in one environment, from its variables; calling it is one invocation.

    Raises InvalidSettings at once, naming every fault.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.settings = Settings.from_environment(environment)
        self.telemetry = Telemetry(self.settings.log_level)
        self.queue = DeadLetterQueue(self.settings.dead_letter_queue_url)
        prepare(self.settings.output_bucket)
        if self.settings.input_bucket:
            prepare(self.settings.input_bucket)

    def __call__(self, event: object, context: Context) -> dict[str, Any]:
        """Bring the thumbnails of every upload that `event` names up to date.

        Returns `{"processed", "skipped", "failed", "not_done"}`, or `{"batchItemFailures"}` to
        SQS, and to a replay how many there are of each, or `{"left": WHY}` for a message that was
        not touched. Raises InvalidEvent, a TransientError that somebody will retry, or
        QueueUnavailable.
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
        return REPORTS[delivery.source](self, delivery, outcomes, context.aws_request_id)

    def _replay(self, asked: Mapping[str, Any], context: Context) -> dict[str, Any]:
        try:
            message = read(str(asked["letter"]))
            delivery = parse(message.event)
        except InvalidEvent as error:
            self.telemetry.unreadable("letter", error)
            return {"left": UNREADABLE}
        if (before := asked.get("failed_before")) and message.failed_at:
            try:
                newer = message.failed_at >= datetime.fromisoformat(before)
            except (TypeError, ValueError):
                raise InvalidEvent(f'"failed_before" must be a time, not {before!r}') from None
            if newer:
                return {"left": "newer"}
        if (wanted := asked.get("error")) and message.error_type != wanted:
            return {"left": "another error"}
        return {name: len(each) for name, each in self._deliver(delivery, context).items()}

    def _process(self, delivery: Delivery, context: Context) -> Outcomes:
        def remaining() -> float:
            return context.get_remaining_time_in_millis() / 1000 - RESERVE

        pipeline = Pipeline(
            self.settings,
            self.telemetry,
            bucket=lambda name: S3Bucket(name, remaining),
            remaining=remaining,
        )
        return [self._one(pipeline, upload, delivery) for upload in delivery.uploads]

    def _one(
        self, pipeline: Pipeline, upload: Upload, delivery: Delivery
    ) -> tuple[Upload, Outcome]:
        error: PipelineError
        try:
            return upload, pipeline.process(upload, only_missing=delivery.only_missing)
        except Failed as failed:
            upload, error = upload._replace(etag=failed.etag), failed.error
        except TransientError as transient:
            error = transient
        except Exception as unforeseen:  # noqa: BLE001 - unknown means transient: it is retried
            error = UnexpectedError(f"{type(unforeseen).__name__}: {unforeseen}")
            error.__cause__ = unforeseen
        self.telemetry.failed(upload.bucket, upload.key, error, described(error))
        release_frames(error)  # the next upload may need all the memory that there is
        return upload, error

    def _report_event(
        self, delivery: Delivery, outcomes: Outcomes, request_id: str
    ) -> dict[str, Any]:
        transient = [outcome for _, outcome in outcomes if isinstance(outcome, TransientError)]
        if transient:
            first = transient[0]
            raise type(first)(
                f"{len(transient)} of {len(outcomes)} uploads failed for now: {first}"
            ) from first
        for _, fault in delivery.faults:
            raise fault  # so that the event ends on the queue, with the part that nobody can read
        self._send_letters(outcomes, request_id)
        return _result(outcomes)

    def _report_batch(
        self, delivery: Delivery, outcomes: Outcomes, request_id: str
    ) -> dict[str, Any]:
        again = {message_id for message_id, _ in delivery.faults}
        again |= {
            upload.message_id or ""
            for upload, outcome in outcomes
            if isinstance(outcome, TransientError)
        }
        for upload, outcome in outcomes:
            if upload.message_id in again:
                continue
            try:
                self._send_letters([(upload, outcome)], request_id)
            except QueueUnavailable as error:
                self.telemetry.failed(upload.bucket, upload.key, error, described(error))
                again.add(upload.message_id or "")
        return {"batchItemFailures": [{"itemIdentifier": each} for each in sorted(again)]}

    def _report_direct(
        self, delivery: Delivery, outcomes: Outcomes, request_id: str
    ) -> dict[str, Any]:
        self._send_letters(
            (pair for pair in outcomes if not isinstance(pair[1], OutOfTime)), request_id
        )
        return _summary(outcomes) if delivery.summary else _result(outcomes)

    def _send_letters(self, outcomes: Iterable[tuple[Upload, Outcome]], request_id: str) -> None:
        for upload, outcome in outcomes:
            if isinstance(outcome, PipelineError):
                self.queue.send(DeadLetter.of(upload, outcome, request_id))


REPORTS: Final[dict[Source, Callable[[Function, Delivery, Outcomes, str], dict[str, Any]]]] = {
    Source.ASYNC: Function._report_event,  # noqa: SLF001 - its own methods
    Source.REPLAY: Function._report_event,  # noqa: SLF001
    Source.QUEUE: Function._report_batch,  # noqa: SLF001
    Source.DIRECT: Function._report_direct,  # noqa: SLF001
}


def _result(outcomes: Outcomes) -> dict[str, Any]:
    """What a synchronous caller gets; the upload's etag comes back with what was not done."""
    result: dict[str, Any] = {"processed": [], "skipped": [], "failed": [], "not_done": []}
    for upload, outcome in outcomes:
        name = {"bucket": upload.bucket, "key": upload.key}
        match outcome:
            case Done():
                thumbnails = [thumbnail._asdict() for thumbnail in outcome.thumbnails]
                manifest = {"manifest": outcome.manifest} if outcome.manifest else {}
                result["processed"].append({**name, "thumbnails": thumbnails, **manifest})
            case Skipped():
                deleted = {"deleted": list(outcome.deleted)} if outcome.deleted else {}
                result["skipped"].append({**name, "reason": outcome.reason, **deleted})
            case OutOfTime():
                etag = {"etag": upload.etag} if upload.etag else {}
                result["not_done"].append({**name, **etag})
            case PipelineError():
                result["failed"].append({**name, "error": described(outcome)})
    return result


def _summary(outcomes: Outcomes) -> dict[str, Any]:
    """How many there are of each; `current` ones are not among the skipped."""
    result = _result(outcomes)
    current = sum(each["reason"] == CURRENT for each in result["skipped"])
    return {
        "processed": len(result["processed"]),
        "current": current,
        "skipped": len(result["skipped"]) - current,
        "failed": len(result["failed"]),
        "not_done": result["not_done"],
    }
