"""Run the steps of a verification of a deployed stack, and clean up."""

import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus

from image_pipeline.errors import CommandError
from image_pipeline.files import File
from image_pipeline.stack import dead_letters, executions, thumbnails, uploads
from image_pipeline.stack.aws import DOCUMENTS, aws_errors_explained, head_object
from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.traces import POLL_SECONDS, Traces
from image_pipeline.stack.uploads import Outcome, State
from thumbnailer.provenance import Standing

if TYPE_CHECKING:
    from image_pipeline.stack.executions import Execution

MAX_WAIT: Final = 400.0
"""Default seconds to wait in a step. S3 needs about five minutes to begin with EventBridge:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-event-notifications-eventbridge.html"""

FIRST_RETRY_SECONDS: Final = 60.0
"""Seconds until Lambda retries an event that failed; until the second retry it waits twice as long.
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html"""

LOCAL_FIRST_RETRY_SECONDS: Final = 1.0
"""The same in the local stack (image_pipeline/local/patches/asynchronous.py)."""

LOCAL_ATTEMPT_SECONDS: Final = 0.3
"""Seconds of an attempt in the local stack, where a small file is all that a verification sends. An
assumption."""

INTERRUPTED: Final = "it was interrupted"
"""The error of a step that Ctrl-C ended."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step: its name, the action, what it proves, and the AWS document that it rests on.

    `option` is its name for --only and --skip; the steps `needs` must have been run before. The
    action returns what it found, in words. `unless` returns why the step does not apply to a stack,
    or an empty string. The step uploads `files`, has images processed `images` times, and sends
    `requests` by their names in prices.json, beside those for waiting.
    """

    option: str
    name: str
    action: Callable[["Run"], str]
    proves: str
    document: str
    needs: tuple[str, ...] = ()
    unless: Callable[[Stack], str] = lambda _: ""
    files: int = 0
    images: int = 0
    requests: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a step: `error` says why it failed, `skipped` why it was not run."""

    step: str
    name: str
    seconds: float
    found: str = ""
    error: str = ""
    skipped: str = ""
    proves: str = ""
    document: str = ""


class Run:
    """One verification of a stack: what its steps share.

    A step waits up to `seconds`. `say` is called with a few words while it waits.
    """

    def __init__(self, stack: Stack, seconds: float, say: Callable[[str], None]) -> None:
        self.stack = stack
        self.seconds = seconds
        self.say = say
        self.token = uuid.uuid4().hex[:12]
        """In every key and name that the verification makes, so none is anybody else's."""
        folder = f"{stack.settings.input_prefix}image-pipeline-verify-{self.token}/"
        self.traces = Traces(stack, folder)
        self.began = datetime.now(UTC)
        self.sent: dict[str, Outcome] = {}
        """The uploads so far, by key."""
        self.unsettled: dict[str, float] = {}
        """Uploads whose outcome is not known yet, with the time.monotonic() of their last event."""
        self._doing = ""
        self._unread = ""
        """Why the dead-letter queue could not be read last, if so."""

    def begin(self, name: str) -> None:
        """Say that a step begins."""
        self._doing = name
        self.say(name)

    def key(self, name: str) -> str:
        """Key of an upload. Its thumbnails have the token in their keys under any template.

        By `image-pipeline` in these keys iac/github/roles.yaml allows the deploy role to use them.
        """
        directory, slash, file = name.rpartition("/")
        return f"{self.traces.folder}{directory}{slash}image-pipeline-{self.token} {file}"

    def upload(self, bodies: dict[str, bytes]) -> None:
        """Upload files by their keys."""
        self.expect_event(*bodies)
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for number, (key, body) in enumerate(bodies.items()):
                path = Path(folder, str(number))
                path.write_bytes(body)
                files.append(File(path, key))
            for outcome in uploads.upload(self.stack, files):
                self.sent[outcome.key] = outcome

    def expect_event(self, *keys: str) -> None:
        """Note that there will be an event for each of these uploads from now on."""
        self.traces.keys.update(keys)
        self.unsettled.update(dict.fromkeys(keys, time.monotonic()))

    def settled(self, key: str) -> None:
        """Note that nothing more comes of the events of an upload."""
        self.unsettled.pop(key, None)

    def expect(self, keys: Iterable[str], state: State) -> list[Outcome]:
        """Wait for the outcome of uploads. Raises CommandError unless each is `state`.

        Thumbnails are found whether or not the dead-letter queue can be read.
        """
        wanted = [self.sent[key] for key in keys]
        read = partial(self._failures, needed=state is State.FAILED)
        found = []
        for outcome in uploads.wait(self.stack, wanted, self.seconds, read):
            found.append(self._checked(outcome, state))
            if state is State.FAILED:
                self.settled(outcome.key)
        return found

    def settle(self) -> list[str]:
        """Wait until the function is done with every upload; what may still come, in words.

        What it makes or sends after the clean-up would stay. The wait ends when Lambda has retried
        the events for the last time, or after Ctrl-C.
        """
        window = retry_seconds(self.stack)
        failing = False
        try:
            while waiting := [
                key for key, at in self.unsettled.items() if time.monotonic() < at + window
            ]:
                for key in waiting:
                    outcome = self._outcome(key)
                    failing |= outcome is State.FAILED
                    if outcome is not State.UNKNOWN:
                        self.settled(key)
                if self.unsettled:
                    self.say(f"{self._doing}: waiting for Lambda's retries; Ctrl-C ends the wait")
                    time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            names = ", ".join(sorted(self.unsettled))
            later = (
                f"thumbnails or messages of {names}, which Lambda may still make within "
                f"{window:.0f} s (image-pipeline replay{self.stack.options} deletes such messages)"
            )
            return [later]
        if self.stack.settings.delete_with_original and (failing or self.unsettled):
            self.traces.late_seconds = window  # the events of the deletions fail too
        return []

    def _outcome(self, key: str) -> State:
        """UNKNOWN, FAILED if Lambda gave up on the event, or DONE with all that will come of it."""
        try:
            with aws_errors_explained():
                sent = self.sent.get(key) or uploads.describe(self.stack, key)
                if sent is None:
                    return State.DONE
                self.sent[key] = sent
                if self.current(key):
                    return State.DONE
                found = self.messages(key)
        except CommandError:  # the removal of what cannot be read says so
            return State.UNKNOWN
        if not found:
            return State.UNKNOWN
        return State.FAILED if any(each.permanent is None for each in found) else State.DONE

    def _failures(self, *, needed: bool) -> list[Failure]:
        """The failures on the dead-letter queue; none if they are not needed and cannot be read."""
        self._unread = ""
        try:
            with aws_errors_explained():
                queue = self.stack.settings.dead_letter_queue_url
                return dead_letters.read(self.stack.aws.sqs, queue)
        except CommandError as error:
            if needed:
                raise
            self._unread = str(error)
            return []

    def expect_all_outputs(self, keys: Sequence[str]) -> None:
        """Wait for everything that the stack makes of uploads, manifests included."""
        self.expect(keys, State.DONE)
        for key in keys:  # the manifest comes last
            self.until(f"The manifest of {key} is not there", partial(self.current, key))
            self.settled(key)

    def current(self, key: str) -> bool:
        """Whether all outputs of an upload agree with it."""
        sent = self.sent[key]
        wanted = self.stack.settings.provenances(key, sent.etag, sent.uploaded_at, sent.focus)
        return all(
            thumbnails.describe(self.stack, name, ours).standing is Standing.CURRENT
            for name, ours in wanted.items()
        )

    def until[T](self, failure: str, check: Callable[[], T]) -> T:
        """Wait until `check` returns something true. Raises CommandError with `failure`."""
        began = time.monotonic()
        while not (found := check()):
            waited = time.monotonic() - began
            if waited >= self.seconds:
                raise CommandError(f"{failure} within {self.seconds:.0f} s")
            self.say(f"{self._doing}: {waited:.0f} s of up to {self.seconds:.0f}")
            time.sleep(min(POLL_SECONDS, self.seconds))
        return found

    def follow(self, what: str, states: Iterable["Execution"]) -> "Execution":
        """Follow executions to their ends; the last one. Raises CommandError if one fails."""
        machine, deadline = self.stack.aws.states, time.monotonic() + self.seconds
        known: set[str] = set()
        latest = None
        for latest in states:
            if latest.arn not in known:
                known.add(latest.arn)
                self.traces.add(f"the {what} {latest.arn}", partial(self._stop, latest.arn))
            if latest.running and time.monotonic() > deadline:
                executions.stop(machine, latest.arn)
                raise CommandError(
                    f"The {what} {latest.name} did not end within {self.seconds:.0f} s"
                )
        if latest is None:
            raise CommandError(f"There was nothing to {what}")
        return latest

    def _stop(self, arn: str) -> None:
        """Stop an execution that still runs."""
        if executions.describe(self.stack.aws.states, arn).running:
            executions.stop(self.stack.aws.states, arn)

    def event(self, key: str, etag: str) -> dict[str, Any]:
        """The event of an upload as S3 notifies of it, its key encoded as in a form."""
        stored = {"key": quote_plus(key), "eTag": etag}
        s3 = {"bucket": {"name": self.stack.input_bucket}, "object": stored}
        created = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": s3}
        return {"Records": [created]}

    def written(self, key: str) -> dict[str, tuple[str, datetime]]:
        """Etag and time of each output of an upload."""
        heads = {
            name: head_object(self.stack.aws.s3, self.stack.settings.output_bucket, name)
            for name in self.stack.settings.outputs(key)
        }
        return {name: (head["ETag"], head["LastModified"]) for name, head in heads.items() if head}

    def messages(self, key: str) -> list[Failure]:
        """The messages about an upload on all queues."""
        sqs = self.stack.aws.sqs
        found = [each for queue in self.stack.queues for each in dead_letters.read(sqs, queue)]
        return [each for each in found if each.key == key]

    def _checked(self, outcome: Outcome, state: State) -> Outcome:
        failure = outcome.failure
        # A record of Lambda's instead of a permanent error: it could not send its own message.
        if failure and (state is not State.FAILED or not failure.permanent):
            raise CommandError(f"{failure.error_type}: {failure.error_message}")
        if outcome.state is state:
            return outcome
        if outcome.state is State.DONE:
            raise CommandError("the broken file has thumbnails")
        if self._unread:
            raise CommandError(
                f"nothing happened within {self.seconds:.0f} s, and the dead-letter queue cannot "
                f"be read: {self._unread}"
            )
        for undelivered in self.messages(outcome.key):
            raise CommandError(f"{undelivered.error_type}: {undelivered.error_message}")
        raise CommandError(
            f"nothing happened within {self.seconds:.0f} s. Either no event reaches the function: "
            f"check {self._route()}. Or the function fails before it begins: search "
            f"/aws/lambda/{self.stack.function_name} for log lines of {outcome.key}; "
            "docs/operations.md explains more"
        )

    def _route(self) -> str:
        """What takes an event to the function, in words."""
        if "UndeliveredEventsUrl" in self.stack.outputs:
            return (
                "the EventBridge setting of the bucket (image-pipeline adopt-bucket), the rule "
                "UploadRule and the permission UploadRulePermission"
            )
        return "the notifications of the bucket and the permission UploadPermission"


def verify(run: Run, steps: Sequence[Step]) -> Generator[Result]:
    """Run the steps; yields what became of each, and at last of the clean-up.

    The first step that fails or is interrupted is the last one. What was made is removed in any
    case. After an interruption, both results are yielded and KeyboardInterrupt or SystemExit is
    raised again. If the iterator is closed instead, raises CommandError if the clean-up fails.
    """
    skipped: set[str] = set()
    interruption: KeyboardInterrupt | SystemExit | None = None
    try:
        for step in steps:
            run.begin(step.name)
            try:
                result = _timed(step, run, skipped)
            except (KeyboardInterrupt, SystemExit) as signalled:  # Ctrl-C, or SIGTERM
                interruption = signalled
                result = Result(step.option, step.name, 0.0, error=INTERRUPTED)
            yield result
            if result.error:
                break
            if result.skipped:
                skipped.add(step.option)
    except BaseException as closed:  # nobody wants the next result
        run.begin(CLEAN_UP.name)
        if error := _timed(CLEAN_UP, run).error:
            raise CommandError(f"Interrupted, and the clean-up failed. {error}") from closed
        raise
    run.begin(CLEAN_UP.name)
    yield _timed(CLEAN_UP, run)
    if interruption:
        raise interruption


def _timed(step: Step, run: Run, skipped_before: Collection[str] = ()) -> Result:
    """Run a step, unless it does not apply to the stack, or one that it needs did not."""
    began = time.monotonic()
    found = error = skipped = ""
    try:
        with aws_errors_explained():
            lacking = sorted(set(step.needs) & set(skipped_before))
            skipped = f"it needs {lacking[0]}" if lacking else step.unless(run.stack)
            found = "" if skipped else step.action(run)
    except CommandError as failure:
        error = str(failure)
    seconds = round(time.monotonic() - began, 2)
    return Result(
        step.option, step.name, seconds, found, error, skipped, step.proves, step.document
    )


def retry_seconds(stack: Stack) -> float:
    """Seconds after which Lambda has ended its last attempt at an event of a stack."""
    retries = int(stack.parameters.get("MaximumRetryAttempts", "2"))
    first, attempt = FIRST_RETRY_SECONDS, float(stack.timeout)
    if stack.aws.endpoint_url:
        first, attempt = LOCAL_FIRST_RETRY_SECONDS, LOCAL_ATTEMPT_SECONDS
    return sum(first * 2.0**retry for retry in range(retries)) + attempt * (retries + 1)


def _clean_up(run: Run) -> str:
    run.traces.remove(run.settle())
    return "everything is removed"


CLEAN_UP: Final = Step(
    "clean-up",
    "clean up",
    _clean_up,
    "Everything that the steps made is removed, all versions of objects included.",
    f"{DOCUMENTS}/AmazonS3/latest/userguide/DeletingObjectVersions.html",
)
"""What ends every verification."""
