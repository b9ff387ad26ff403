"""One seed: users, events, Lambda and what goes wrong, until all is quiet.

At each step the seed decides who goes on: a user, an event that is delivered, or one of the
invocations, by one request. What Lambda promises is kept: an event is delivered at least once and
retried twice, and what failed three times goes to the queue (OnFailure).
"""

import json
from collections.abc import Callable, Iterable
from copy import replace
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from urllib.parse import quote_plus

from simulation.faults import BROKEN, CONFLICT, NO_BUCKET
from simulation.invariants import Invariants
from simulation.isolation import CORRUPT, ENVIRONMENT, INPUT, OUTPUT, Code
from simulation.s3 import S3, etag_of
from simulation.scenario import Scenario
from simulation.scheduler import Task
from simulation.wire import Answer, Hang, Lost, Request, Reset

ATTEMPTS: Final = 3
"""Of an asynchronous event: two retries."""

TIMEOUT: Final = 30.0
"""Seconds that an invocation has."""

NEVER: Final = -1
STALLED: Final = 1e-6
"""How likely an invocation goes on that is stalled; others have 0.1 to 1."""

MOST_INVOCATIONS: Final = 6
MOST_REPLAYS: Final = 4
"""Before all is quiet."""

MOST_STEPS: Final = 20_000
MOST_OVERWRITES: Final = 60
"""By a restless user."""

BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
CONTENTS: Final = (b"P", b"Q")


class Crash(BaseException):
    """The environment is gone, between two requests."""


class TimedOut(BaseException):
    """Lambda ends an invocation whose time is up."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message on the queue: its body, and the keys and etags that it names."""

    body: str
    names: tuple[tuple[str, str | None], ...]
    letter: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way: who delivers it ("event", "replay" or "backfill"), for which time."""

    kind: str
    event: dict[str, Any]
    names: tuple[str, ...]
    attempt: int = 1
    message: Message | None = None


@dataclass(slots=True)
class Invocation:
    """One call of the function. `clock` are its seconds so far; `answers` what it was told."""

    name: str
    delivery: Delivery
    pace: float
    stalled_at: int
    """The request before which it waits until hardly anything else is left to happen."""
    task: Task = field(init=False)
    clock: float = 0.0
    answers: list[tuple[Request, Answer | None]] = field(default_factory=list)
    late: list[Request] = field(default_factory=list)
    """Requests that the client has given up, and that are still under way: until the next one that
    is no retry of theirs, for S3 is quicker than what follows a time-out."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Keys and etags that can never become thumbnails."""
    faults: int = 0
    """What went wrong for it: requests, or that it was interrupted; 409s are `conflicts`."""
    conflicts: int = 0
    changes: int = 0
    """How many changes were its own."""
    before: Any = None
    """What Invariants keeps of the time when it began."""
    aws_request_id: str = ""

    @property
    def weight(self) -> float:
        """How likely it is to go on, beside other invocations."""
        return STALLED if len(self.answers) == self.stalled_at else self.pace

    def get_remaining_time_in_millis(self) -> int:
        """As Lambda's context has it."""
        return int((TIMEOUT - self.clock) * 1000)


class World:
    """The simulation of one seed over `code`."""

    def __init__(self, seed: int, code: Code) -> None:
        self.seed = seed
        self.rng = Random(seed)  # noqa: S311 - to be replayed
        self.scenario = Scenario.drawn(self.rng)
        self.code = code
        code.network, code.tell = self, self.tell
        code.order = lambda requests: self._shuffled(range(requests))
        storage = code.module("thumbnailer.storage")
        storage._client.cache_clear()  # noqa: SLF001 - of another seed's requests
        self.function = code.handler.Function({**ENVIRONMENT, **self.scenario.environment})
        self.seconds = 0.0
        self.s3 = S3((INPUT, OUTPUT), lambda: BEGIN + timedelta(seconds=self.seconds))
        self.queue: list[Message] = []
        self.waiting: list[Delivery] = []
        self.running: list[Invocation] = []
        self.current: Invocation | None = None
        self.actions = self.scenario.actions
        self.overwrites = 0
        self.replays = 0
        self.quiet = False
        """Whether nothing goes wrong any more."""
        self.invocations = 0
        self.trace: list[tuple[float, str, object, object]] = []
        self.invariants = Invariants(self)

    def run(self) -> list[str]:
        """Let everything happen; what is wrong at the end, or was on the way."""
        for _ in range(MOST_STEPS):
            if not self._step():
                break
        else:
            return ["it never became quiet"]
        self.invariants.at_rest(settled=False)
        self.quiet = True
        self.note("world", "all is quiet: every message is replayed", "")
        for message in list(self.queue):
            self._do(self._replay(message))
        self.invariants.at_rest(settled=True)
        if self.scenario.backfills:
            self._lose_some()
            for key in self._shuffled(self.s3.buckets[INPUT]):
                event = {"uploads": [{"bucket": INPUT, "key": key}], "only_missing": True}
                self._do(Delivery("backfill", event, (key,)))
            self.invariants.at_rest(settled=True, backfilled=True)
        return self.invariants.broken

    def _do(self, delivery: Delivery) -> None:
        """One invocation from its beginning to its end."""
        self._invoke(delivery)
        invocation = self.running[-1]
        while not invocation.task.ended:
            self._resume(invocation)

    def _lose_some(self) -> None:
        """An operator's mistake: thumbnails are gone, or of what was there before."""
        outputs = self.s3.buckets[OUTPUT]
        for name in self.invariants.replaceable():
            if self._chance(0.3):
                self.note("world", "loses", name)
                del outputs[name]
            elif self._chance(0.3):
                self.note("world", "has an older", name)
                stale = {**outputs[name].metadata, "source-etag": "stale"}
                outputs[name] = replace(outputs[name], metadata=stale)

    def _shuffled[T](self, some: Iterable[T]) -> list[T]:
        listed = list(some)
        return self.rng.sample(listed, len(listed))

    def _step(self) -> bool:
        """Let one thing happen; False if nothing is left."""
        self.seconds += self.rng.random() * self.scenario.tick
        weights = [
            self.scenario.hurry if self.actions else 0.0,
            float(bool(self.waiting) and len(self.running) < MOST_INVOCATIONS),
            sum(min(1.0, each.weight * 1000) for each in self.running),
            self.scenario.replays if self._visible() and self.replays < MOST_REPLAYS else 0.0,
        ]
        if not any(weights[:3]):
            return False
        choices: tuple[Callable[[], None], ...] = (
            self._act,
            self._deliver,
            self._go_on,
            self._replay_one,
        )
        self.rng.choices(choices, weights)[0]()
        return True

    # --- users and events ------------------------------------------------------------------------
    def _act(self) -> None:
        self.actions -= 1
        key = self.rng.choice(self.scenario.keys)
        if self._chance(self.scenario.backfills):
            named = {"bucket": INPUT, "key": key}
            if (found := self.s3.buckets[INPUT].get(key)) and self._chance(0.5):
                named["etag"] = found.etag
            only_missing = self._chance(0.8)
            event = {"uploads": [named], "only_missing": only_missing}
            self.waiting.append(Delivery("backfill", event, (key,)))
        elif self._chance(self.scenario.deletions):
            self.change(Request("DELETE", INPUT, key), "ObjectRemoved:Delete")
        else:
            self.upload(key)

    def upload(self, key: str) -> None:
        """Put a picture, or what is none, at `key`: new, changed, or as it was before."""
        found = self.s3.buckets[INPUT].get(key)
        others = [body for body in CONTENTS if found is None or found.body != body]
        body = self.rng.choice(others if self._chance(0.8) else CONTENTS)
        if self._chance(self.scenario.corrupt):
            body = CORRUPT + body
        foreign = {"name": "å.jpg"} if self._chance(self.scenario.foreign) else {}
        self.change(Request("PUT", INPUT, key, body, foreign), "ObjectCreated:Put")

    def change(self, request: Request, name: str) -> None:
        """Do what a user does, and send the event of it, twice perhaps."""
        self.note("user", request, self.s3.handle(request))
        self.invariants.changed(request)
        stored = {"key": quote_plus(request.key), "eTag": etag_of(request.body)}
        record = {
            "eventSource": "aws:s3",
            "eventName": name,
            "s3": {"bucket": {"name": INPUT}, "object": stored},
        }
        event = Delivery("event", {"Records": [record]}, (request.key,))
        self.waiting += [event] * (2 if self._chance(self.scenario.doubled) else 1)

    def _deliver(self) -> None:
        delivery = self._taken(self.waiting)
        first = delivery.attempt == 1 and delivery.kind == "event"
        if first and self.waiting and self._chance(self.scenario.merged):
            other = self._taken(self.waiting)
            if other.kind == "event" and other.attempt == 1:
                records = delivery.event["Records"] + other.event["Records"]
                delivery = Delivery("event", {"Records": records}, delivery.names + other.names)
            else:
                self.waiting.append(other)
        self._invoke(delivery)

    def _replay_one(self) -> None:
        self.replays += 1
        self._invoke(self._replay(self.rng.choice(self._visible())))

    def _visible(self) -> list[Message]:
        """The messages that are not being replayed: those SQS hides (iac/replay.asl.json)."""
        hidden = [id(each.delivery.message) for each in self.running]
        return [message for message in self.queue if id(message) not in hidden]

    def _replay(self, message: Message) -> Delivery:
        names = tuple(key for key, _ in message.names)
        return Delivery("replay", {"letter": message.body}, names, message=message)

    # --- Lambda ----------------------------------------------------------------------------------
    def _invoke(self, delivery: Delivery) -> None:
        self.invocations += 1
        name = f"i{self.invocations}"
        pace = 10 ** self.rng.uniform(-1, 0)
        stalled_at = self.rng.randint(0, 8) if self._chance(self.scenario.stalled) else NEVER
        invocation = Invocation(name, delivery, pace, stalled_at, aws_request_id=name)
        invocation.task = Task(lambda: self._work(invocation))
        told = f"{delivery.kind} of {', '.join(delivery.names)}, attempt {delivery.attempt}"
        self.note(name, "begins", told)
        invocation.before = self.invariants.begin(invocation)
        self.running.append(invocation)

    def _work(self, invocation: Invocation) -> Any:
        result = self.function(invocation.delivery.event, invocation)
        invocation.task.pause()  # all is done, but nobody knows yet
        return result

    def _go_on(self) -> None:
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
        again = Delivery(delivery.kind, delivery.event, delivery.names, delivery.attempt + 1)
        match delivery.kind:
            case "event" if error is not None and delivery.attempt < ATTEMPTS:
                self.waiting.append(again)
            case "event" if error is not None:
                self.queue.append(_on_failure(delivery, error))
            case "replay" if error is None and delivery.message in self.queue:
                self.queue.remove(delivery.message)
            case "backfill" if error is not None or result["not_done"]:
                if delivery.attempt < ATTEMPTS:
                    self.waiting.append(again)

    # --- the network -----------------------------------------------------------------------------
    def send(self, request: Request, timeout: float) -> Answer:
        """See Network: others may go on first."""
        invocation = self._running()
        invocation.task.pause()
        while invocation.late and request.attempt == 1:
            self._arrive(invocation)
        invocation.clock += self.rng.random() * 0.04
        if not self.quiet and self._chance(self.scenario.stalls):
            invocation.clock += self.rng.uniform(2, 25)
        try:
            answer = self._answer(invocation, request)
        except Lost as lost:
            invocation.clock += timeout if isinstance(lost, Hang) else 0.0
            invocation.answers.append((request, None))
            raise
        invocation.answers.append((request, answer))
        return answer

    def _answer(self, invocation: Invocation, request: Request) -> Answer:
        """What the service says, or what goes wrong, before the request takes effect or after."""
        if request.method == "PUT" and request.if_match and request.attempt == 1:
            self.invariants.overwriting(invocation)
        fault = self._fault(request)
        if fault is None:
            return self._told(request, self._handle(invocation, request))
        if fault is CONFLICT:
            invocation.conflicts += 1
        else:
            invocation.faults += 1
        if isinstance(fault, Answer):
            return self._told(request, fault)
        when, _, kind = fault.partition(" ")
        if when == "cut":
            answer = self._handle(invocation, request)
            return self._told(request, replace(answer, whole=request.method != "GET"))
        if when == "after":
            self._handle(invocation, request)
        elif when == "late":
            invocation.late.append(request)
        self._told(request, fault)
        if kind == "500":
            return BROKEN
        raise Hang if kind == "hang" else Reset

    def _fault(self, request: Request) -> Answer | str | None:
        """What goes wrong with a request, if anything."""
        if self.quiet:
            return None
        scenario = self.scenario
        if not self._chance(scenario.queue_faults if request.method == "SEND" else scenario.faults):
            refused = request.conditional and self._chance(scenario.quarrel)
            return CONFLICT if refused else None
        fault = self.rng.choice(scenario.kinds)
        if fault is CONFLICT and not request.conditional:
            return BROKEN
        if fault is NO_BUCKET and request.method not in ("GET", "PUT"):  # nothing else tells it
            return BROKEN
        return fault

    def _handle(self, invocation: Invocation, request: Request) -> Answer:
        if request.method == "SEND":
            letter = json.loads(request.body)
            names = ((letter["key"], letter["etag"]),)
            self.queue.append(Message(request.body.decode(), names, letter=True))
            self.invariants.sent(invocation, letter)
            return Answer()
        before = self.s3.changes
        answer = self.s3.handle(request)
        invocation.changes += self.s3.changes - before
        if self.scenario.restless and request.method == "GET" and not self.quiet:
            self._overwrite(request.key)
        return answer

    def _overwrite(self, key: str) -> None:
        """Put other bytes there at once. Of so many overwrites only the last one has its event."""
        if self.overwrites >= MOST_OVERWRITES:
            return
        self.overwrites += 1
        body = b"R%d" % self.overwrites
        self.waiting = [each for each in self.waiting if each.names != (key,)]
        self.change(Request("PUT", INPUT, key, body), "ObjectCreated:Put")

    def _arrive(self, invocation: Invocation) -> None:
        request = self._taken(invocation.late)
        self._told(request, f"arrives late: {self._handle(invocation, request)}", invocation)

    def wait(self, seconds: float) -> None:
        """See Network."""
        self._running().clock += seconds

    def now(self) -> float:
        """See Network."""
        return self.current.clock if self.current else 0.0

    def _running(self) -> Invocation:
        assert self.current is not None
        return self.current

    # --- what is told ----------------------------------------------------------------------------
    def tell(self, action: str, about: tuple[Any, ...]) -> None:
        """Note what the function logs."""
        if action in ("begin", "flush"):
            return
        self.note(self.current.name if self.current else "world", f"  {action}", about)
        if action == "failed":
            self.invariants.failed(self._running(), about[1], about[2])

    def _told[T](self, request: Request, outcome: T, invocation: Invocation | None = None) -> T:
        self.note((invocation or self._running()).name, request, outcome)
        return outcome

    def note(self, who: str, what: object, outcome: object) -> None:
        """Add a line to the trace."""
        self.trace.append((self.seconds, who, what, outcome))

    def story(self) -> Iterable[str]:
        """The trace, a line each: second, who, request or doing, outcome."""
        yield f"seed {self.seed}: {self.scenario}"
        for seconds, who, what, outcome in self.trace:
            yield f"{seconds:7.2f} {who:>5}  {what!s:66} {outcome}"

    def _chance(self, chance: float) -> bool:
        return chance > 0 and self.rng.random() < chance

    def _taken[T](self, some: list[T]) -> T:
        return some.pop(self.rng.randrange(len(some)))


def _on_failure(delivery: Delivery, error: BaseException) -> Message:
    """https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html."""
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
    names = tuple((key, None) for key in delivery.names)
    return Message(json.dumps(record), names, letter=False)
