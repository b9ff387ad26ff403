"""What must hold: for every invocation, and for every object and message at the end of a run."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from copy import replace
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from simulation.isolation import CORRUPT, INPUT, OUTPUT, manifest, picture
from simulation.s3 import StoredObject, etag_of
from simulation.scenario import FOCUSES
from simulation.wire import Request, Response
from thumbnailer.imaging import ENCODERS, fingerprint, parse_focus

if TYPE_CHECKING:
    from simulation.world import Invocation, World

OK: Final = 200
CHECK: Final = (INPUT, "HEAD")
"""Bucket and method of the request that checks a source."""

MAX_STARTS: Final = 5
MAX_ROUNDS: Final = 8
"""The limits of lambda/thumbnailer/reconcile.py, written again so that a changed limit shows:
starts of one upload, and rounds of each of its thumbnails."""


@dataclass(frozen=True, slots=True)
class Start:
    """The state at the start of an invocation."""

    changes: int
    """Changes in S3 so far."""
    taken: int
    """Messages that replays have taken off the queue so far."""
    expected_requests: list[tuple[str, str]] | None
    """(method, key) of the requests of an undisturbed invocation, where they are predictable."""


class Invariants:
    """Checks a world; `broken` describes every invariant that does not hold."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._configurations = [each.settings for each in world.functions]
        self._deletes = self._configurations[0].delete_with_original
        self._provenance = world.code.module("thumbnailer.provenance").Provenance
        self._marks = world.code.module("thumbnailer.failure_marks").PREFIX
        self._bodies: dict[str, bytes] = {}
        """Etag → the body of everything ever uploaded."""
        self._history: dict[str, list[tuple[datetime, str, str]]] = {}
        """Key → all versions that it ever had, as (modified, etag, focus)."""
        self._deleted: dict[str, tuple[datetime, str]] = {}
        """Key → the latest version of it that was deleted, as (modified, etag)."""
        self.foreign: dict[str, StoredObject] = {}
        """Key → the object there that the function did not write."""
        self._reserved: frozenset[str] = frozenset()
        """Keys at which such objects were before anything else."""
        self.broken: list[str] = []

    def _fail(self, description: str) -> None:
        self.broken.append(description)
        self._world.note("check", "BROKEN", description)

    # --- during the run --------------------------------------------------------------------------
    def changed(self, request: Request) -> None:
        """Record a user's upload or deletion."""
        history = self._history.setdefault(request.key, [])
        if request.method == "PUT":
            source = self._world.s3.buckets[INPUT][request.key]
            history.append((source.modified, source.etag, _focus(source.metadata)))
            self._bodies[source.etag] = source.body
        elif history:
            self._deleted[request.key] = history[-1][:2]

    def occupied(self, key: str) -> None:
        """Record an object that a user wrote to the key of an output."""
        self.foreign[key] = self._world.s3.buckets[OUTPUT][key]
        if not self._history:
            self._reserved |= {key}

    def deleting(self, invocation: "Invocation", request: Request) -> None:
        """A manifest is deleted before the thumbnails that it lists.

        Somebody else may write one meanwhile, and then checks the source in turn.
        """
        outputs = self._world.s3.buckets[OUTPUT]
        existing = outputs.get(request.key)
        theirs = self._provenance.of(existing.metadata) if existing else None
        others = self._world.s3.changes - invocation.start.changes - invocation.changes
        if theirs is None or others:
            return
        manifests = self._configurations[0].manifest_keys(theirs.key)
        left = [each for each in manifests if self._owner(each) == theirs.key]
        if left and request.key not in manifests:
            self._fail(f"{invocation.name} deletes {request.key} before {left}")

    def failed(self, invocation: "Invocation", key: str, error: BaseException) -> None:
        """An upload fails permanently only after a HEAD found the bytes that failed.

        An UnexpectedError is a fault of the code or of the simulation.
        """
        if isinstance(error, self._error("UnexpectedError")):
            self._fail(f"unexpected error: {error.__cause__!r}")
        invocation.out_of_time |= isinstance(error, self._error("OutOfTime"))
        if not isinstance(error, self._error("PermanentError")):
            return
        states = self._source_states(invocation)
        read, checked = (state.etag if state else None for state in states)
        if not read:  # a backfill found that nothing but occupied keys is missing, by HEAD alone
            last, _ = invocation.responses[-1]
            read = checked if (last.bucket, last.method) == CHECK else None
        if checked != read or read is None:
            self._fail(f"{key} failed permanently without a check of the source")
        invocation.failures.append((key, read or ""))

    def sent(self, invocation: "Invocation", message: Mapping[str, Any]) -> None:
        """A message about a permanent failure names the bytes that failed."""
        named = (message["key"], message["etag"])
        if message["error"]["permanent"]:
            if named not in invocation.failures:
                self._fail(f"a dead-letter message about {named}, which did not fail")
        elif invocation.delivery.kind != "backfill":
            self._fail(f"a dead-letter message about {named}, which would have been retried")

    def overwriting(self, invocation: "Invocation", request: Request) -> None:
        """Immediately before an overwrite of an output, a HEAD must have checked the source.

        Otherwise a stalled writer could show an old thumbnail for a moment, and a caching proxy
        could keep it for a day. Where something is cropped, the source also has the focus that was
        read.
        """
        if request.key.startswith(self._marks):
            return
        read, checked = self._source_states(invocation)
        last, _ = invocation.responses[-1]
        if checked is None or checked.etag != read.etag or (last.bucket, last.method) != CHECK:
            self._fail(f"{invocation.name} overwrites without a check of the source")
        elif _crops(invocation.function.settings) and (
            _focus(checked.metadata) != _focus(read.metadata)
        ):
            self._fail(f"{invocation.name} overwrites with a focus that the source no longer has")

    def invalidated(self, invocation: "Invocation") -> None:
        """Nothing is invalidated but what the invocation tried to overwrite or to delete.

        So a first upload, which creates its outputs, invalidates nothing. Without time for its
        request, an attempt may have been reported; then there is none for an invalidation either.
        """
        if invocation.out_of_time:
            return
        tried = {
            request.key
            for request, _ in invocation.responses
            if request.bucket == OUTPUT
            and (request.method == "DELETE" or request.if_match is not None)
        }
        if needless := invocation.invalidated - tried:
            self._fail(f"{invocation.name} invalidates {needless}, which it did not replace")

    def _check_invalidations(self, invocation: "Invocation", *, unchanged: bool) -> None:
        """What was overwritten or deleted is invalidated, unless Lambda ended the invocation.

        Marks of failures are written like outputs, and nobody reads them through the CDN.
        """
        if unchanged and invocation.invalidated:
            self._fail(f"{invocation.name} invalidates {invocation.invalidated} without a change")
        ended = invocation.task.error is None or isinstance(invocation.task.error, Exception)
        outputs = {key for key in invocation.replaced if not key.startswith(self._marks)}
        if ended and (stale := outputs - invocation.invalidated):
            self._fail(f"{invocation.name} does not invalidate {stale}, which it replaced")

    @staticmethod
    def _source_states(invocation: "Invocation") -> tuple[Response, Response | None]:
        """The responses to the last GET of a source and to the last HEAD after it, if any."""
        read, checked = Response(), None
        for request, response in invocation.responses:
            if request.bucket == INPUT and response is not None and response.status in (OK, 404):
                if request.method == "GET":
                    read, checked = response, None
                else:
                    checked = response
        return read, checked

    def begin(self, invocation: "Invocation") -> Start:
        """The state at the start of an invocation, to be compared with its end."""
        world = self._world
        return Start(world.s3.changes, world.taken, self._expected_requests(invocation))

    def _expected_requests(self, invocation: "Invocation") -> list[tuple[str, str]] | None:
        """A GET, a PUT for each thumbnail, and a HEAD for each one that exists and may stay.

        The PUTs of the thumbnails come first, and the requests for the manifest last. None where
        the requests are not predictable.
        """
        delivery, sources = invocation.delivery, self._world.s3.buckets[INPUT]
        if delivery.kind != "event" or len(delivery.keys) != 1:
            return None
        (key,) = delivery.keys
        source = sources.get(key)
        if source is None or "name" in source.metadata or source.body.startswith(CORRUPT):
            return None
        settings = invocation.function.settings
        puts: list[tuple[str, str]] = []
        heads: list[tuple[str, str]] = []
        last: list[tuple[str, str]] = []
        owner = None
        for output_key, expected in self._expected(key, source, settings).items():
            is_manifest = output_key == settings.manifest_key(key)
            if owner and is_manifest:
                continue
            existing = self._world.s3.buckets[OUTPUT].get(output_key)
            if existing is not None and not _same(existing, expected):
                theirs = self._provenance.of(existing.metadata)
                if theirs is None or theirs.key == key:
                    return None
                if (theirs.modified, theirs.key) <= (source.modified, key):
                    return None
                owner = theirs.key
            (last if is_manifest else puts).append(("PUT", output_key))
            if existing is not None:
                (last if is_manifest else heads).append(("HEAD", output_key))
        if self._deletes:
            last.append(("HEAD", key))
        return [("GET", key), *sorted(puts), *heads, *last]

    def end(self, invocation: "Invocation") -> None:
        """Check the requests, the messages and the outcome of an invocation."""
        world, start, error = self._world, invocation.start, invocation.task.error
        calls = [request for request, _ in invocation.responses if request.attempt == 1]
        made = [(request.method, request.key) for request in calls if request.method != "SEND"]
        undisturbed = (
            error is None
            and not invocation.faults + invocation.conflicts
            and world.s3.changes - start.changes == invocation.changes
            and invocation.clock < 1
        )
        puts = len(invocation.function.settings.specs)
        in_order = [*made[:1], *sorted(made[1 : 1 + puts]), *made[1 + puts :]]
        expected = start.expected_requests
        if expected is not None and undisturbed and in_order != expected:
            self._fail(f"{invocation.name} made the requests {made} instead of {expected}")
        self._check_invalidations(invocation, unchanged=expected is not None and undisturbed)
        output_keys = len(self.output_keys())
        # A permanent failure adds a HEAD of everything, and an unreadable header a GET by boto3. A
        # deletion adds a LIST.
        per_upload = MAX_STARTS * (4 + output_keys * MAX_ROUNDS * 3) + 2 + output_keys
        limit = len(invocation.delivery.keys) * per_upload
        if len(made) > limit:
            self._fail(f"{invocation.name} made {len(made)} requests; the limit is {limit}")
        messages = Counter(request.body for request in calls if request.method == "SEND")
        transient = error is not None and isinstance(error, self._error("TransientError"))
        if transient and messages and not isinstance(error, self._error("QueueUnavailable")):
            self._fail(f"{invocation.name} sent a dead-letter message and raised an error")
        if error is None and "left" in invocation.task.result:
            self._fail(f"{invocation.name} cannot read its message")
        if error is not None and isinstance(error, Exception) and not transient:
            self._fail(f"{invocation.name} raised {error!r}")
        others = world.s3.changes - start.changes - invocation.changes
        hardly_disturbed = (
            invocation.conflicts < MAX_ROUNDS and others < MAX_STARTS and not invocation.faults
        )
        if transient and hardly_disturbed and not world.scenario.stalls:
            self._fail(f"{invocation.name} gave up too early: {error!r}")
        if error is not None and world.quiet:
            self._fail(f"{invocation.name} failed without any fault: {error!r}")
        if error is None and not messages and invocation.delivery.event.get("report_once"):
            self._check_silence(invocation)

    def _check_silence(self, invocation: "Invocation") -> None:
        """A failure without a message has one on the queue, with the same error."""
        world = self._world
        if world.taken != invocation.start.taken:  # perhaps by a replay meanwhile
            return
        bodies = [json.loads(each.body) for each in world.queue if each.dead_letter]
        reported = {(body["key"], body["error"]["type"]) for body in bodies}
        for each in invocation.task.result["failed"]:
            if (each["key"], each["error"]["type"]) not in reported:
                self._fail(f"{invocation.name} does not report {each}, and no message does")

    def _error(self, name: str) -> type[Exception]:
        kind: type[Exception] = getattr(self._world.code.module("thumbnailer.errors"), name)
        return kind

    def backfilled_again(self, messages: int, trace: Iterable[tuple[Any, ...]]) -> None:
        """A second backfill adds no message: each failure has one.

        It reads no source but those that are corrupt or whose thumbnails belong to another one.
        """
        if messages:
            self._fail(f"a second backfill added {messages} messages")
        for *_, what, _ in trace:
            if isinstance(what, Request) and (what.bucket, what.method) == (INPUT, "GET"):
                source = self._world.s3.buckets[INPUT][what.key]
                shared = self._shared(what.key, self._deployed)
                if not shared and not source.body.startswith(CORRUPT):
                    self._fail(f"a second backfill reads {what.key}")

    # --- at the end ------------------------------------------------------------------------------
    def at_rest(self, *, replayed: bool, backfilled: bool = False) -> None:
        """Compare sources, thumbnails and messages.

        Before all messages are `replayed`, a source that failed may lack thumbnails as long as a
        message names it. After that, messages name only sources that are corrupt, or whose
        thumbnails' keys are occupied. After all sources are `backfilled` too, no thumbnail is
        missing, and all are of the configuration that is deployed.
        """
        sources, outputs = (self._world.s3.buckets[name] for name in (INPUT, OUTPUT))
        named = {key for message in self._world.queue for key, _ in message.uploads}
        # A source that shares thumbnail keys with a failed one is also correct only after that one.
        excused = {
            key
            for key in self._history
            if not replayed
            and not backfilled
            and any(self._output_keys(key) & self._output_keys(other) for other in named)
        }
        for key, source in sources.items():
            known = (key, source.etag) in self._reported() or (not replayed and key in named)
            if not known and self._must_be_reported(key, source, backfilled=backfilled):
                self._fail(f"{key} is corrupt or has occupied keys, and no message says so")
            if key not in excused and not source.body.startswith(CORRUPT):
                self._check_source(key, source, backfilled=backfilled)
        for output_key, existing in outputs.items():
            if output_key not in self.foreign and not output_key.startswith(self._marks):
                self._check_output(output_key, existing, excused, backfilled=backfilled)
        for output_key, existing in self.foreign.items():
            if outputs.get(output_key) != existing:
                self._fail(f"{output_key}, which the function did not write, was changed")
        if replayed:
            self._check_messages()

    def _check_messages(self) -> None:
        """Each message names a source that cannot have all its thumbnails."""
        wrong = self._reported() - {
            (key, source.etag)
            for key, source in self._world.s3.buckets[INPUT].items()
            if source.body.startswith(CORRUPT) or self._occupied(key, self._deployed)
        }
        if wrong or not all(message.dead_letter for message in self._world.queue):
            self._fail(f"needless messages are left: {wrong or self._world.queue}")

    def replaceable(self) -> list[str]:
        """Keys of the output bucket that a backfill makes again from a readable source."""
        sources = self._world.s3.buckets[INPUT]
        return [
            output_key
            for output_key in self._world.s3.buckets[OUTPUT]
            if (owner := self._owner(output_key)) in sources
            and output_key in self._deployed.outputs(owner)
            and not sources[owner].body.startswith(CORRUPT)
            and not self._occupied(owner, self._deployed)
        ]

    def output_keys(self) -> set[str]:
        """The keys of everything that can be made in this seed."""
        keys = (self._output_keys(key) for key in self._world.scenario.keys)
        return set().union(*keys)

    @property
    def _deployed(self) -> Any:
        """The settings that are deployed now."""
        return self._world.function.settings

    def _owner(self, output_key: str) -> str | None:
        """The source that an object of the output bucket names."""
        existing = self._world.s3.buckets[OUTPUT].get(output_key)
        theirs = self._provenance.of(existing.metadata) if existing else None
        return theirs.key if theirs else None

    def _occupied(self, key: str, settings: Any) -> set[str]:
        """Keys of a source's outputs at which there are objects that the function did not write."""
        return set(settings.outputs(key)) & self.foreign.keys()

    def _incomplete(self, key: str, settings: Any) -> bool:
        """Whether a source cannot have all its thumbnails, and so may have an older manifest.

        Their keys are occupied, or belong to a newer source that left them: it was deleted, or
        overwritten by a corrupt file (docs/adr/0003).
        """
        sources = self._world.s3.buckets[INPUT]
        for owner in {self._owner(each) for each in settings.outputs(key)} - {key, None}:
            source = sources.get(str(owner))
            if source.body.startswith(CORRUPT) if source else not self._deletes:
                return True
        return bool(self._occupied(key, settings))

    def _must_be_reported(self, key: str, source: StoredObject, *, backfilled: bool) -> bool:
        """Whether a message must say that a source is corrupt or that its keys are occupied.

        The source's event found them so, or a backfill did; and no newer source has the other keys.
        """
        if source.body.startswith(CORRUPT):
            return True
        if self._world.scenario.changing and not backfilled:
            return False
        occupied = self._occupied(key, self._deployed)
        found = occupied if backfilled else occupied & self._reserved
        return bool(found) and not self._shared(key, self._deployed)

    def _reported(self) -> set[tuple[str, str | None]]:
        """(key, etag) of the uploads that dead-letter messages name."""
        return {upload for each in self._world.queue if each.dead_letter for upload in each.uploads}

    def _check_source(self, key: str, source: StoredObject, *, backfilled: bool) -> None:
        """A readable source has all its thumbnails, except those that a newer source owns.

        After a backfill they are those of the configuration that is deployed. Before that they are
        those of one of the configurations; but where an event is worked on with two of them, each
        thumbnail may be of either.
        """
        if backfilled or len(self._configurations) == 1:
            wrong = self._wrong(key, source, self._deployed, backfilled=backfilled)
        else:
            wrong = min((self._wrong(key, source, each) for each in self._configurations), key=len)
        for description in wrong:
            self._fail(description)

    def _wrong(
        self, key: str, source: StoredObject, settings: Any, *, backfilled: bool = False
    ) -> list[str]:
        """Describe what is missing or wrong among the outputs of a source with these settings."""
        wrong = []
        manifest_key = settings.manifest_key(key)
        for output_key in settings.outputs(key):
            existing = self._world.s3.buckets[OUTPUT].get(output_key)
            if output_key in self.foreign:
                continue
            incomplete = output_key == manifest_key and self._incomplete(key, settings)
            deleted = not backfilled and self._deleted_with_newer(key, source, output_key)
            if existing is not None:
                if output_key != manifest_key or not (deleted or incomplete):
                    accepted = [settings] if backfilled else self._configurations
                    wrong += self._wrong_in(key, source, output_key, existing, accepted)
            elif not (deleted or incomplete) and (
                output_key != manifest_key or not self._shared(key, settings)
            ):
                wrong.append(f"{key} has no {output_key}")
        return wrong

    def _wrong_in(
        self,
        key: str,
        source: StoredObject,
        output_key: str,
        existing: StoredObject,
        accepted: list[Any],
    ) -> list[str]:
        """An output is made of the newest bytes of its source, or belongs to a newer source.

        If the same bytes were uploaded several times, it may be of a later time than the source has
        now, which is an earlier version.
        """
        theirs = self._provenance.of(existing.metadata)
        if theirs is not None and theirs.key != key:
            if (theirs.modified, theirs.key) < (source.modified, key):
                return [f"{output_key} belongs to {theirs.key}, which is older than {key}"]
            return []
        alike = [
            replace(source, modified=modified)
            for modified, etag, _ in self._history[key]
            if etag == source.etag and modified >= source.modified
        ]
        if not self._is_one_of(output_key, existing, key, alike, accepted):
            return [f"{output_key} is of {theirs}, not of the newest bytes {source.etag[:6]}"]
        return []

    def _is_one_of(
        self,
        output_key: str,
        existing: StoredObject,
        key: str,
        versions: list[StoredObject],
        accepted: list[Any],
    ) -> bool:
        """Whether an output is what some settings make of some version of a source."""
        made = (self._expected(key, each, settings) for each in versions for settings in accepted)
        return any(output_key in all_ and _same(existing, all_[output_key]) for all_ in made)

    def _shared(self, key: str, settings: Any) -> bool:
        """Whether another source owns some of its thumbnails; then neither needs a manifest."""
        owners = (self._owner(each) for each in settings.outputs(key))
        return any(owner not in (None, key) for owner in owners)

    def _deleted_with_newer(self, key: str, source: StoredObject, output_key: str) -> bool:
        """Whether a newer source owned this thumbnail and was deleted with it (docs/adr/0011).

        An older manifest of this source may then be left.
        """
        return self._deletes and any(
            (modified, other) > (source.modified, key)
            for other, (modified, _) in self._deleted.items()
            if other != key and output_key in self._output_keys(other)
        )

    def _check_output(
        self, output_key: str, existing: StoredObject, excused: set[str], *, backfilled: bool
    ) -> None:
        """An output names its true source; it is of older bytes only where processing failed.

        What no event has reached since another configuration was deployed may be of older bytes
        too, until a backfill; and for ever what that configuration does not make.
        """
        theirs = self._provenance.of(existing.metadata)
        if theirs is None or output_key not in self._output_keys(theirs.key):
            self._fail(f"{output_key} is of no source")
            return
        known = {
            (modified, etag, shown)
            for modified, etag, focus in self._history.get(theirs.key, ())
            for shown in (focus, "")  # where nothing is cropped
        }
        if (theirs.modified, theirs.etag, theirs.focus) not in known:
            self._fail(f"{output_key} is of {theirs}, which never existed")
            return
        focus = {"focus": theirs.focus} if theirs.focus else {}
        named = StoredObject(theirs.etag, theirs.modified, self._bodies[theirs.etag], focus)
        accepted = self._configurations
        if not self._is_one_of(output_key, existing, theirs.key, [named], accepted):
            self._fail(f"{output_key} is not of the source that its metadata names")
        self._check_manifest(output_key, theirs)
        if theirs.key in excused:
            return
        source = self._world.s3.buckets[INPUT].get(theirs.key)
        if source is None:
            if self._deletes:
                self._fail(f"{output_key} is an orphan of {theirs.key}")
        elif source.etag != theirs.etag and not source.body.startswith(CORRUPT):
            if len(self._configurations) > 1 and (
                not backfilled or output_key not in self._deployed.outputs(theirs.key)
            ):
                return
            is_manifest = output_key == self._deployed.manifest_key(theirs.key)
            incomplete = is_manifest and self._incomplete(theirs.key, self._deployed)
            deleted = self._deleted_with_newer(theirs.key, source, output_key)
            if not incomplete and not (is_manifest and deleted):
                self._fail(f"{output_key} is of older bytes of {theirs.key}")

    def _check_manifest(self, output_key: str, theirs: Any) -> None:
        """There is no manifest of settings with which a thumbnail's key was always occupied."""
        for settings in self._configurations:
            if theirs.fingerprint == settings.manifest_fingerprint:
                occupied = self._occupied(theirs.key, settings) & self._reserved
                if output_key == settings.manifest_key(theirs.key) and occupied:
                    self._fail(f"the manifest {output_key} exists without {occupied}")

    def _output_keys(self, key: str) -> set[str]:
        """The keys of everything that is made of a source, with whatever settings of the seed."""
        return {each for settings in self._configurations for each in settings.outputs(key)}

    def _expected(self, key: str, source: StoredObject, settings: Any) -> dict[str, StoredObject]:
        """What belongs in the output bucket for a source, by key."""
        expected = {}
        stored = {}
        focus = _focus(source.metadata)
        point = parse_focus(focus) if focus else None
        of_source = (key, source.etag, source.modified)
        for spec in settings.specs:
            name = settings.thumbnail_key(key, spec.size, spec.format)
            shown = focus if spec.size.height else ""
            ours = self._provenance(*of_source, fingerprint(spec), shown)
            body = ENCODERS[spec.format].mark(picture(source.body, spec, point), ours.digest())
            stored[spec] = (name, len(body))
            expected[name] = StoredObject(etag_of(body), source.modified, body, ours.to_metadata())
        if settings.write_manifest:
            name = settings.manifest_key(key)
            shown = focus if _crops(settings) else ""
            ours = self._provenance(*of_source, settings.manifest_fingerprint, shown)
            body = manifest(settings, ours, len(source.body), _Made, stored)
            expected[name] = StoredObject(etag_of(body), source.modified, body, ours.to_metadata())
        return expected


def _same(one: StoredObject, other: StoredObject) -> bool:
    """Whether two objects are equal except for the time when they were written."""
    return (one.body, one.metadata) == (other.body, other.metadata)


def _focus(metadata: Mapping[str, str]) -> str:
    """What the focus of a source means, in the words of what is made of it."""
    focus = metadata.get("focus")
    return FOCUSES.get(focus, focus or "")


def _crops(settings: Any) -> bool:
    """Whether the focus of a source counts: in the simulation, each size with a height crops."""
    return any(size.height for size in settings.sizes)


class _Made:
    """What isolation.Code's thumbnails have in common."""

    size = (512, 512)
