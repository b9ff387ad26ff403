"""The run of one seed: users, events, Lambda and faults, until nothing is left to do.

At each step the seed decides what happens next: a user acts, an event is delivered, or one of the
invocations runs until its next request. Lambda keeps its promises: it delivers an event at least
once, retries it twice, and sends an event that failed three times to the queue (OnFailure).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from copy import replace
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any, Final
from urllib.parse import quote_plus

from simulation.faults import CONFLICT, NO_BUCKET, SERVER_ERROR
from simulation.invariants import Invariants, Start
from simulation.isolation import BEGIN, CORRUPT, ENVIRONMENT, INPUT, OUTPUT, Code
from simulation.s3 import S3, etag_of
from simulation.scenario import FOCUSES, Scenario
from simulation.scheduler import Task
from simulation.wire import Hang, Lost, Request, Reset, Response

ATTEMPTS: Final = 3
"""Attempts to process an asynchronous event: the first and two retries, Lambda's default."""

TIMEOUT: Final = 30.0
"""Time-out of an invocation in seconds, the default of LambdaTimeout."""

NEVER: Final = -1
STALLED: Final = 1e-6
"""Weight of a stalled invocation when the next one to run is drawn; others have 0.1 to 1."""

MAX_INVOCATIONS: Final = 6
"""Concurrent invocations: an assumption."""

MAX_REPLAYS: Final = 4
"""Replays while other events are under way: an assumption."""

MAX_STEPS: Final = 20_000
"""Steps after which a run counts as endless: most have about 30, and the longest some hundreds."""

MAX_OVERWRITES: Final = 60
"""Overwrites of sources that were just read: an assumption, more than one event's attempts read."""

CONTENTS: Final = (b"P", b"Q")

FOCUS: Final = "focus"
SOURCE_FOCUS: Final = "source-focus"
"""Names of user metadata, of sources and of what is made of them."""


class Crash(BaseException):
    """The environment crashes between two requests."""


class TimedOut(BaseException):
    """Lambda ends an invocation whose time has run out."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message on the queue. `uploads` are the keys and etags that it names.

    `dead_letter` is true for messages of the function, and false for OnFailure records of Lambda.
    """

    body: str
    uploads: tuple[tuple[str, str | None], ...]
    dead_letter: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event to deliver. `kind` is "event", "replay" or "backfill"; `attempt` counts from 1."""

    kind: str
    event: dict[str, Any]
    keys: tuple[str, ...]
    attempt: int = 1
    message: Message | None = None


@dataclass(slots=True)
class Invocation:
    """One invocation of the function. `clock` is its time so far in seconds."""

    name: str
    delivery: Delivery
    pace: float
    """Its weight when the next invocation to run is drawn."""
    stalled_at: int
    """Number of the request before which it waits until hardly anything else is left to do."""
    task: Task = field(init=False)
    clock: float = 0.0
    responses: list[tuple[Request, Response | None]] = field(default_factory=list)
    late: list[Request] = field(default_factory=list)
    """Requests that the client has given up and that still take effect. They do so before its next
    request that is no retry, because S3 is faster than what follows a time-out."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Keys and etags that failed permanently."""
    faults: int = 0
    """Number of its failed requests, except 409s (`conflicts`), and of its interruptions."""
    conflicts: int = 0
    changes: int = 0
    """Number of changes in S3 by its requests."""
    replaced: set[str] = field(default_factory=set)
    """Keys of the outputs that its requests overwrote or deleted."""
    invalidated: set[str] = field(default_factory=set)
    """Keys that it invalidated in the CDN."""
    out_of_time: bool = False
    """Whether too little time was left for one of its requests, which was not sent."""
    start: Start = field(init=False)
    function: Any = None
    """The function as it is deployed in its environment."""
    aws_request_id: str = ""

    @property
    def weight(self) -> float:
        """How likely it is to be the next invocation that runs, relative to others."""
        return STALLED if len(self.responses) == self.stalled_at else self.pace

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the time-out, as in Lambda's context."""
        return int((TIMEOUT - self.clock) * 1000)


class World:
    """The simulation of one seed with `code`."""

    def __init__(self, seed: int, code: Code) -> None:
        self.seed = seed
        self.rng = Random(seed)  # noqa: S311 - reproducible, not secret
        shapes = Random(f"shapes of {seed}")  # noqa: S311
        self.scenario = Scenario.drawn(self.rng).perhaps_shaped(shapes)
        self.code = code
        code.network, code.log, code.invalidated = self, self.log, self.invalidated
        code.order = lambda requests: self._shuffled(range(requests))
        s3_bucket = code.module("thumbnailer.storage.s3_bucket")
        s3_bucket.kept_client.cache_clear()  # clients that talk to another seed's network
        environment = {**ENVIRONMENT, **self.scenario.environment}
        self.functions = [
            code.handler.Function(environment | each.environment)
            for each in self.scenario.configurations
        ]
        self.function = self.outgoing = self.functions[0]
        self.seconds = 0.0
        self.s3 = S3((INPUT, OUTPUT), lambda: BEGIN + timedelta(seconds=self.seconds))
        self.queue: list[Message] = []
        self.waiting: list[Delivery] = []
        self.running: list[Invocation] = []
        self.current: Invocation | None = None
        self.actions = self.scenario.actions
        self.overwrites = 0
        self.replays = 0
        self.taken = 0
        """Messages that replays have taken off the queue."""
        self.quiet = False
        """Whether faults have ended."""
        self.invocations = 0
        self.trace: list[tuple[float, str, object, object]] = []
        self.invariants = Invariants(self)
        for _ in range(self.scenario.foreign):
            self._occupy()

    def run(self) -> list[str]:
        """Run to the end; return the descriptions of all broken invariants."""
        for _ in range(MAX_STEPS):
            if not self._step():
                break
        else:
            return [f"the run does not end within {MAX_STEPS} steps"]
        self.invariants.at_rest(replayed=False)
        self.quiet = True
        self.note("world", "faults end, and every message is replayed", "")
        for message in list(self.queue):
            self._complete(self._replay(message))
        self.invariants.at_rest(replayed=True)
        scenario = self.scenario
        if scenario.backfills or scenario.changing or scenario.refocused or self.invariants.foreign:
            self._lose_thumbnails()
            self._backfill()
            self.invariants.at_rest(replayed=True, backfilled=True)
            before = len(self.queue)
            began = len(self.trace)
            self._backfill()
            self.invariants.at_rest(replayed=True, backfilled=True)
            self.invariants.backfilled_again(len(self.queue) - before, self.trace[began:])
            self._report_again()
        return self.invariants.broken

    def _backfill(self) -> None:
        """Backfill every source, and report each failure once."""
        for key in self._shuffled(self.s3.buckets[INPUT]):
            upload = {"bucket": INPUT, "key": key}
            if self._chance(0.5):
                upload["etag"] = self.s3.buckets[INPUT][key].etag
            event = {"uploads": [upload], "only_missing": True, "report_once": True}
            self._complete(Delivery("backfill", event, (key,)))

    def _report_again(self) -> None:
        """Replay every message, or let it expire; then a backfill reports all failures again."""
        expire = self._chance(0.5)
        self.note("world", "messages expire" if expire else "messages are replayed", "")
        for message in list(self.queue):
            if expire:
                self.queue.remove(message)
            else:
                self._complete(self._replay(message))
        if expire:
            self._expire_marks()
        self._backfill()
        self.invariants.at_rest(replayed=True, backfilled=True)

    def _complete(self, delivery: Delivery) -> None:
        """Run one invocation from its start to its end."""
        self._invoke(delivery)
        invocation = self.running[-1]
        while not invocation.task.ended:
            self._resume(invocation)

    def _expire_marks(self) -> None:
        """Let two weeks pass for the marks of failures."""
        marks = self.code.module("thumbnailer.failure_marks")
        outputs = self.s3.buckets[OUTPUT]
        for key in [key for key in outputs if key.startswith(marks.PREFIX)]:
            old = {**outputs[key].metadata, marks.MARKED_AT: (BEGIN - marks.VALID).isoformat()}
            outputs[key] = replace(outputs[key], metadata=old)

    def _lose_thumbnails(self) -> None:
        """Delete some thumbnails and make others outdated, as an operator's mistake would."""
        outputs = self.s3.buckets[OUTPUT]
        for key in self.invariants.replaceable():
            if self._chance(0.3):
                self.note("world", "loses", key)
                del outputs[key]
            elif self._chance(0.3):
                self.note("world", "has an older", key)
                stale = {**outputs[key].metadata, "source-etag": "stale"}
                outputs[key] = replace(outputs[key], metadata=stale)
            elif self._chance(self.scenario.refocused):
                self.note("world", "has another focus", key)
                stale = dict(outputs[key].metadata)
                stale |= {SOURCE_FOCUS: "0.1,0.1"} if stale.pop(SOURCE_FOCUS, None) is None else {}
                outputs[key] = replace(outputs[key], metadata=stale)

    def _shuffled[T](self, items: Iterable[T]) -> list[T]:
        listed = list(items)
        return self.rng.sample(listed, len(listed))

    def _step(self) -> bool:
        """Let one thing happen; return False if nothing is left to do."""
        self.seconds += self.rng.random() * self.scenario.max_step_seconds
        weights = [
            self.scenario.user_weight if self.actions else 0.0,
            float(bool(self.waiting) and len(self.running) < MAX_INVOCATIONS),
            sum(min(1.0, each.weight * 1000) for each in self.running),
            self.scenario.replays if self._visible() and self.replays < MAX_REPLAYS else 0.0,
        ]
        if not any(weights[:3]):
            return False
        choices: tuple[Callable[[], None], ...] = (
            self._act,
            self._deliver,
            self._run_one,
            self._replay_one,
        )
        self.rng.choices(choices, weights)[0]()
        return True

    # --- users and events ------------------------------------------------------------------------
    def _act(self) -> None:
        """A user uploads, deletes, restores, backfills, deploys, refocuses or occupies a key."""
        self.actions -= 1
        key = self.rng.choice(self.scenario.keys)
        if self._chance(self.scenario.deployments):
            self._deploy()
        elif self._chance(self.scenario.intrusions):
            self._occupy()
        elif self._chance(self.scenario.backfills):
            upload = {"bucket": INPUT, "key": key}
            if (source := self.s3.buckets[INPUT].get(key)) and self._chance(0.5):
                upload["etag"] = source.etag
            only_missing = self._chance(0.8)
            event = {"uploads": [upload], "only_missing": only_missing, "remake": not only_missing}
            event["report_once"] = "etag" in upload
            self.waiting.append(Delivery("backfill", event, (key,)))
        elif self._chance(self.scenario.restores):
            self.note("user", "removes the latest version", key)
            self.s3.remove_version(INPUT, key)
            self._send_event(Request("DELETE", INPUT, key), "ObjectRemoved:Delete")
        elif self._chance(self.scenario.deletions):
            marked = "DeleteMarkerCreated" if self.scenario.versioned else "Delete"
            self.change(Request("DELETE", INPUT, key), f"ObjectRemoved:{marked}")
        elif self._chance(self.scenario.refocused):
            self._refocus(key)
        else:
            self.upload(key)

    def _refocus(self, key: str) -> None:
        """Copy a source in place with another focus: the same bytes and etag, and a new time."""
        existing = self.s3.buckets[INPUT].get(key)
        if existing is None:
            return
        metadata = {name: each for name, each in existing.metadata.items() if name != FOCUS}
        metadata |= self._drawn_focus()
        self.change(Request("PUT", INPUT, key, existing.body, metadata), "ObjectCreated:Copy")

    def _drawn_focus(self) -> dict[str, str]:
        """User metadata with one of FOCUSES."""
        focus = self.rng.choice(tuple(FOCUSES))
        return {} if focus is None else {FOCUS: focus}

    def _deploy(self) -> None:
        """Deploy another configuration. Invocations under way keep theirs."""
        others = [each for each in self.functions if each is not self.function]
        self.outgoing, self.function = self.function, self.rng.choice(others)
        number = self.functions.index(self.function)
        self.note("user", f"deploys configuration {number}", self.scenario.configurations[number])

    def _occupy(self) -> None:
        """Write an object that has no provenance to the key of a thumbnail or manifest."""
        key = self.rng.choice(sorted(self.invariants.output_keys()))
        metadata = self.rng.choice(({}, {"owner": "site"}, {"name": "å.jpg"}))
        request = Request("PUT", OUTPUT, key, b"by hand", metadata)
        self.note("user", request, self.s3.handle(request))
        self.invariants.occupied(key)

    def upload(self, key: str) -> None:
        """Upload an image or a corrupt file to `key`: new, changed, or with bytes it had before."""
        existing = self.s3.buckets[INPUT].get(key)
        others = [body for body in CONTENTS if existing is None or existing.body != body]
        body = self.rng.choice(others if self._chance(0.8) else CONTENTS)
        if self._chance(self.scenario.corrupt):
            body = CORRUPT + body
        metadata = {"name": "å.jpg"} if self._chance(self.scenario.unreadable_headers) else {}
        if self._chance(self.scenario.focused):
            metadata |= self._drawn_focus()
        self.change(Request("PUT", INPUT, key, body, metadata), "ObjectCreated:Put")

    def change(self, request: Request, name: str) -> None:
        """Make a user's request and send its event `name`, perhaps twice."""
        self.note("user", request, self.s3.handle(request))
        self.invariants.changed(request)
        self._send_event(request, name)

    def _send_event(self, request: Request, name: str) -> None:
        stored = {"key": quote_plus(request.key), "eTag": etag_of(request.body)}
        record = {
            "eventSource": "aws:s3",
            "eventName": name,
            "s3": {"bucket": {"name": INPUT}, "object": stored},
        }
        event = Delivery("event", {"Records": [record]}, (request.key,))
        self.waiting += [event] * (2 if self._chance(self.scenario.duplicates) else 1)

    def _deliver(self) -> None:
        delivery = self._take(self.waiting)
        first = delivery.attempt == 1 and delivery.kind == "event"
        if first and self.waiting and self._chance(self.scenario.merged):
            other = self._take(self.waiting)
            if other.kind == "event" and other.attempt == 1:
                records = delivery.event["Records"] + other.event["Records"]
                delivery = Delivery("event", {"Records": records}, delivery.keys + other.keys)
            else:
                self.waiting.append(other)
        self._invoke(delivery)

    def _replay_one(self) -> None:
        self.replays += 1
        self._invoke(self._replay(self.rng.choice(self._visible())))

    def _visible(self) -> list[Message]:
        """The messages that are not being replayed, which SQS hides (iac/replay.asl.json)."""
        hidden = [id(each.delivery.message) for each in self.running]
        return [message for message in self.queue if id(message) not in hidden]

    def _replay(self, message: Message) -> Delivery:
        keys = tuple(key for key, _ in message.uploads)
        return Delivery("replay", {"letter": message.body}, keys, message=message)

    # --- Lambda ----------------------------------------------------------------------------------
    def _invoke(self, delivery: Delivery) -> None:
        self.invocations += 1
        name = f"i{self.invocations}"
        pace = 10 ** self.rng.uniform(-1, 0)
        stalled_at = self.rng.randint(0, 8) if self._chance(self.scenario.stalled) else NEVER
        invocation = Invocation(name, delivery, pace, stalled_at, aws_request_id=name)
        outgoing = not self.quiet and self._chance(self.scenario.outgoing)
        invocation.function = self.outgoing if outgoing else self.function
        invocation.task = Task(lambda: self._work(invocation))
        cause = f"{delivery.kind} of {', '.join(delivery.keys)}, attempt {delivery.attempt}"
        cause += f", configuration {self.functions.index(invocation.function)}"
        self.note(name, "begins", cause)
        invocation.start = self.invariants.begin(invocation)
        self.running.append(invocation)

    def _work(self, invocation: Invocation) -> Any:
        result = invocation.function(invocation.delivery.event, invocation)
        invocation.task.pause()  # the work is done, but Lambda does not know yet
        return result

    def _run_one(self) -> None:
        """Let one invocation run until its next request."""
        weights = [invocation.weight for invocation in self.running]
        self._resume(self.rng.choices(self.running, weights)[0])

    def _resume(self, invocation: Invocation) -> None:
        if invocation.late and self._chance(0.3):
            self._arrive(invocation)
        interrupt: BaseException | None = None
        if not self.quiet and self._chance(self.scenario.crashes):
            interrupt = Crash()
        elif invocation.clock >= TIMEOUT:
            interrupt = TimedOut()
        invocation.faults += interrupt is not None
        self.current = invocation
        invocation.task.resume(interrupt)
        self.current = None
        if invocation.task.ended:
            self._end(invocation)

    def _end(self, invocation: Invocation) -> None:
        while invocation.late:
            self._arrive(invocation)
        self.running.remove(invocation)
        error, result = invocation.task.error, invocation.task.result
        self.note(invocation.name, "ends", result if error is None else repr(error))
        self.invariants.end(invocation)
        delivery = invocation.delivery
        retry = Delivery(delivery.kind, delivery.event, delivery.keys, delivery.attempt + 1)
        match delivery.kind:
            case "event" if error is not None and delivery.attempt < ATTEMPTS:
                self.waiting.append(retry)
            case "event" if error is not None:
                self.queue.append(_on_failure(delivery, error))
            case "replay" if error is None and delivery.message in self.queue:
                self.queue.remove(delivery.message)
                self.taken += 1
            case "backfill" if error is not None or result["not_done"]:
                if delivery.attempt < ATTEMPTS:
                    self.waiting.append(retry)

    # --- the network -----------------------------------------------------------------------------
    def send(self, request: Request, timeout: float) -> Response:
        """See Network. Other invocations may run first."""
        invocation = self._current()
        invocation.task.pause()
        while invocation.late and request.attempt == 1:
            self._arrive(invocation)
        invocation.clock += self.rng.random() * 0.04
        if not self.quiet and self._chance(self.scenario.stalls):
            invocation.clock += self.rng.uniform(2, 25)
        try:
            response = self._respond(invocation, request)
        except Lost as lost:
            invocation.clock += timeout if isinstance(lost, Hang) else 0.0
            invocation.responses.append((request, None))
            raise
        invocation.responses.append((request, response))
        return response

    def _respond(self, invocation: Invocation, request: Request) -> Response:
        """The service's response, or a fault before or after the request takes effect."""
        if request.method == "PUT" and request.if_match and request.attempt == 1:
            self.invariants.overwriting(invocation, request)
        fault = self._draw_fault(request)
        if fault is None:
            return self._noted(request, self._handle(invocation, request))
        if fault is CONFLICT:
            invocation.conflicts += 1
        else:
            invocation.faults += 1
        if isinstance(fault, Response):
            return self._noted(request, fault)
        when, _, kind = fault.partition(" ")
        if when == "cut":
            response = self._handle(invocation, request)
            return self._noted(request, replace(response, whole=request.method != "GET"))
        if when == "after":
            self._handle(invocation, request)
        elif when == "late":
            invocation.late.append(request)
        self._noted(request, fault)
        if kind == "500":
            return SERVER_ERROR
        raise Hang if kind == "hang" else Reset

    def _draw_fault(self, request: Request) -> Response | str | None:
        """Draw what goes wrong with a request, if anything."""
        if self.quiet:
            return None
        scenario = self.scenario
        if not self._chance(scenario.queue_faults if request.method == "SEND" else scenario.faults):
            refused = request.conditional and self._chance(scenario.conflicts)
            return CONFLICT if refused else None
        fault = self.rng.choice(scenario.fault_kinds)
        if fault is CONFLICT and not request.conditional:
            return SERVER_ERROR
        if fault is NO_BUCKET and request.method not in ("GET", "PUT"):  # others show only a 404
            return SERVER_ERROR
        return fault

    def _handle(self, invocation: Invocation, request: Request) -> Response:
        if request.method == "SEND":
            message = json.loads(request.body)
            uploads = ((message["key"], message["etag"]),)
            self.queue.append(Message(request.body.decode(), uploads, dead_letter=True))
            self.invariants.sent(invocation, message)
            return Response()
        before = self.s3.changes
        if request.method == "DELETE":
            self.invariants.deleting(invocation, request)
        response = self.s3.handle(request)
        invocation.changes += self.s3.changes - before
        if self.s3.changes > before and not request.if_none_match:
            invocation.replaced.add(request.key)
        if self.scenario.overwritten_when_read and request.method == "GET" and not self.quiet:
            self._overwrite(request.key)
        return response

    def _overwrite(self, key: str) -> None:
        """Upload other bytes at once. Only the last of these overwrites keeps its event."""
        if self.overwrites >= MAX_OVERWRITES:
            return
        self.overwrites += 1
        body = b"R%d" % self.overwrites
        self.waiting = [each for each in self.waiting if each.keys != (key,)]
        self.change(Request("PUT", INPUT, key, body), "ObjectCreated:Put")

    def _arrive(self, invocation: Invocation) -> None:
        """Let a request take effect that the client has given up."""
        request = self._take(invocation.late)
        self._noted(request, f"arrives late: {self._handle(invocation, request)}", invocation)

    def wait(self, seconds: float) -> None:
        """See Network."""
        self._current().clock += seconds

    def now(self) -> float:
        """See Network."""
        return self.current.clock if self.current else 0.0

    def _current(self) -> Invocation:
        assert self.current is not None
        return self.current

    # --- the trace -------------------------------------------------------------------------------
    def log(self, action: str, arguments: tuple[Any, ...]) -> None:
        """Record a log line of the function."""
        if action in ("begin", "flush"):
            return
        self.note(self.current.name if self.current else "world", f"  {action}", arguments)
        if action == "failed":
            self.invariants.failed(self._current(), arguments[1], arguments[2])

    def invalidated(self, keys: Sequence[str]) -> None:
        """Record the keys that the function invalidates in the CDN."""
        invocation = self._current()
        invocation.invalidated.update(keys)
        self.note(invocation.name, "  invalidates", ", ".join(keys))
        self.invariants.invalidated(invocation)

    def _noted[T](self, request: Request, outcome: T, invocation: Invocation | None = None) -> T:
        """Add a request to the trace; return its outcome."""
        self.note((invocation or self._current()).name, request, outcome)
        return outcome

    def note(self, who: str, what: object, outcome: object) -> None:
        """Add a line to the trace."""
        self.trace.append((self.seconds, who, what, outcome))

    def trace_lines(self) -> Iterable[str]:
        """The lines of the trace: second, who, request or action, outcome."""
        yield f"seed {self.seed}: {self.scenario}"
        for seconds, who, what, outcome in self.trace:
            yield f"{seconds:7.2f} {who:>5}  {what!s:66} {outcome}"

    def _chance(self, probability: float) -> bool:
        return probability > 0 and self.rng.random() < probability

    def _take[T](self, items: list[T]) -> T:
        """Remove an item at random and return it."""
        return items.pop(self.rng.randrange(len(items)))


def _on_failure(delivery: Delivery, error: BaseException) -> Message:
    """The record that Lambda sends of a failed event.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    """
    record = {
        "version": "1.0",
        "timestamp": BEGIN.isoformat(),
        "requestContext": {
            "condition": "RetriesExhausted",
            "approximateInvokeCount": delivery.attempt,
        },
        "requestPayload": delivery.event,
        "responsePayload": {"errorType": type(error).__name__, "errorMessage": str(error)},
    }
    uploads = tuple((key, None) for key in delivery.keys)
    return Message(json.dumps(record), uploads, dead_letter=False)
