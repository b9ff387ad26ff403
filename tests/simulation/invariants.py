"""What must be true: at rest of every object and message, and of every invocation on its way."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from simulation.isolation import CORRUPT, INPUT, OUTPUT, manifest, picture
from simulation.s3 import StoredObject, etag_of
from simulation.wire import Request

if TYPE_CHECKING:
    from simulation.world import Invocation, World

OK: Final = 200
STARTS: Final = 5
ROUNDS: Final = 8
"""What one upload may cost: so many beginnings, and rounds for each of its thumbnails."""


@dataclass(frozen=True, slots=True)
class Before:
    """The state of affairs when an invocation began, for its cost to be judged by."""

    changes: int
    cost: list[tuple[str, str]] | None
    """What the work costs if nothing comes between, where that can be told."""


class Invariants:
    """Checks a world; `broken` lists what is wrong, in plain words."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._settings = world.function.settings
        self._provenance = world.code.module("thumbnailer.provenance").Provenance
        self._stamped = world.code.module("thumbnailer.imaging.encoders.webp").stamped
        self._bodies: dict[str, bytes] = {}
        """Etag → what was ever uploaded."""
        self._history: dict[str, list[tuple[datetime, str]]] = {}
        """Key → the versions that it ever had: (modified, etag)."""
        self._gone: dict[str, tuple[datetime, str]] = {}
        """Key → the newest version of it that was deleted."""
        self.broken: list[str] = []

    def _fault(self, told: str) -> None:
        self.broken.append(told)
        self._world.note("check", "BROKEN", told)

    # --- on the way ------------------------------------------------------------------------------
    def changed(self, request: Request) -> None:
        """Remember what a user did."""
        history = self._history.setdefault(request.key, [])
        if request.method == "PUT":
            found = self._world.s3.buckets[INPUT][request.key]
            history.append((found.modified, found.etag))
            self._bodies[found.etag] = found.body
        elif history:
            self._gone[request.key] = history[-1]

    def failed(self, invocation: "Invocation", key: str, error: BaseException) -> None:
        """An upload failed: for good only after a second look that found the same bytes.

        An error that nobody foresaw is a fault of the code, or of the simulation.
        """
        if isinstance(error, self._error("UnexpectedError")):
            self._fault(f"unforeseen: {error.__cause__!r}")
        if not isinstance(error, self._error("PermanentError")):
            return
        read, seen = self._looks(invocation)
        if seen != read:
            self._fault(f"{key} failed for good, and was not looked at again")
        invocation.failures.append((key, read))

    def sent(self, invocation: "Invocation", letter: Mapping[str, Any]) -> None:
        """A permanent letter names the bytes that failed."""
        told = (letter["key"], letter["etag"])
        if letter["error"]["permanent"]:
            if told not in invocation.failures:
                self._fault(f"a letter about {told}, which did not fail")
        elif invocation.delivery.kind != "backfill":
            self._fault(f"a letter about {told}, which somebody would have retried")

    def overwriting(self, invocation: "Invocation") -> None:
        """A thumbnail is about to be overwritten: just before, its source must be looked at.

        A caching proxy may keep for a day what a stalled writer shows for a moment.
        """
        read, seen = self._looks(invocation)
        last, _ = invocation.answers[-1]
        if seen != read or (last.bucket, last.method) != (INPUT, "HEAD"):
            self._fault(f"{invocation.name} overwrites without a look at the source")

    @staticmethod
    def _looks(invocation: "Invocation") -> tuple[str, str | None]:
        """The etags that the last GET of a source gave, and the last HEAD since, if any."""
        read, seen = "", None
        for request, answer in invocation.answers:
            if request.bucket == INPUT and answer is not None and answer.status in (OK, 404):
                if request.method == "GET":
                    read, seen = answer.etag, None
                else:
                    seen = answer.etag
        return read, seen

    def begin(self, invocation: "Invocation") -> Before:
        """Tell what an invocation ought to cost."""
        world = self._world
        return Before(world.s3.changes, self._cost(invocation))

    def _cost(self, invocation: "Invocation") -> list[tuple[str, str]] | None:
        """One GET and a PUT for each width; a HEAD too for each that is there and may stay.

        The manifest's requests come after all of the thumbnails', the PUTs of which come first.
        """
        delivery, source = invocation.delivery, self._world.s3.buckets[INPUT]
        if delivery.kind != "event" or len(delivery.names) != 1:
            return None
        (key,) = delivery.names
        found = source.get(key)
        if found is None or found.metadata or found.body.startswith(CORRUPT):
            return None
        puts: list[tuple[str, str]] = []
        heads: list[tuple[str, str]] = []
        last: list[tuple[str, str]] = []
        owner = None
        for name, expected in self._expected(key, found).items():
            is_manifest = name == self._settings.manifest_key(key)
            if owner and is_manifest:
                continue
            existing = self._world.s3.buckets[OUTPUT].get(name)
            if existing is not None and not _same(existing, expected):
                theirs = self._provenance.of(existing.metadata)
                if theirs is None or (theirs.modified, theirs.key) <= (found.modified, key):
                    return None
                owner = theirs.key
            (last if is_manifest else puts).append(("PUT", name))
            if existing is not None:
                (last if is_manifest else heads).append(("HEAD", name))
        if self._settings.delete_with_original:
            last.append(("HEAD", key))
        return [("GET", key), *sorted(puts), *heads, *last]

    def end(self, invocation: "Invocation") -> None:
        """What an invocation has cost, and what it did besides."""
        world, before, error = self._world, invocation.before, invocation.task.error
        calls = [request for request, _ in invocation.answers if request.attempt == 1]
        made = [(request.method, request.key) for request in calls if request.method != "SEND"]
        undisturbed = (
            error is None
            and not invocation.faults + invocation.conflicts
            and world.s3.changes - before.changes == invocation.changes
            and invocation.clock < 1
        )
        widths = len(self._settings.widths)
        in_order = [*made[:1], *sorted(made[1 : 1 + widths]), *made[1 + widths :]]
        if before.cost is not None and undisturbed and in_order != before.cost:
            self._fault(f"{invocation.name} cost {made} in place of {before.cost}")
        keys = len(self._settings.recipes("uploads/a.jpg"))
        # One more look where it gives up, and the GETs that boto3 does again for odd headers.
        most = len(invocation.delivery.names) * (STARTS * (3 + keys * ROUNDS * 3) + 2 + keys)
        if len(made) > most:
            self._fault(f"{invocation.name} made {len(made)} requests, {most} are the most")
        letters = Counter(request.body for request in calls if request.method == "SEND")
        transient = error is not None and isinstance(error, self._error("TransientError"))
        if transient and letters and not isinstance(error, self._error("QueueUnavailable")):
            self._fault(f"{invocation.name} sent a letter, and raised all the same")
        if error is None and "left" in invocation.task.result:
            self._fault(f"{invocation.name} cannot read its letter")
        if error is not None and isinstance(error, Exception) and not transient:
            self._fault(f"{invocation.name} raised {error!r}")
        others = world.s3.changes - before.changes - invocation.changes
        few = invocation.conflicts < ROUNDS and others < STARTS and not invocation.faults
        if transient and few and not world.scenario.stalls:
            self._fault(f"{invocation.name} gave up though little came between: {error!r}")
        if error is not None and world.quiet:
            self._fault(f"{invocation.name} failed though nothing went wrong: {error!r}")

    def _error(self, name: str) -> type[Exception]:
        kind: type[Exception] = getattr(self._world.code.module("thumbnailer.errors"), name)
        return kind

    # --- at rest ---------------------------------------------------------------------------------
    def at_rest(self, *, settled: bool, backfilled: bool = False) -> None:
        """Compare sources, thumbnails and messages.

        Before it is `settled`, what failed for now may be named on the queue in place of being
        right; when all messages were replayed only what can never be right is named there. When all
        sources are `backfilled` nothing is missing, whatever was deleted.
        """
        sources, outputs = (self._world.s3.buckets[name] for name in (INPUT, OUTPUT))
        named = {key for message in self._world.queue for key, _ in message.names}
        # What shares names with what failed for now is right no sooner than that.
        excused = {
            key
            for key in self._history
            if not settled
            and not backfilled
            and any(self._names(key).keys() & self._names(other).keys() for other in named)
        }
        for key, found in sources.items():
            if found.body.startswith(CORRUPT):
                if (key, found.etag) not in self._letters() and (settled or key not in named):
                    self._fault(f"{key} is corrupt, and no letter says so")
            elif key not in excused:
                self._check_source(key, found, backfilled=backfilled)
        for name, existing in outputs.items():
            self._check_output(name, existing, excused)
        if settled:
            wrong = self._letters() - {
                (key, found.etag)
                for key, found in sources.items()
                if found.body.startswith(CORRUPT)
            }
            if wrong or not all(message.letter for message in self._world.queue):
                self._fault(f"messages about nothing are left: {wrong or self._world.queue}")

    def replaceable(self) -> list[str]:
        """What in the output bucket can be made again, for its source is there and readable."""
        sources = self._world.s3.buckets[INPUT]
        return [
            name
            for name, existing in self._world.s3.buckets[OUTPUT].items()
            if (theirs := self._provenance.of(existing.metadata)) is not None
            and theirs.key in sources
            and not sources[theirs.key].body.startswith(CORRUPT)
        ]

    def _letters(self) -> set[tuple[str, str | None]]:
        return {name for each in self._world.queue if each.letter for name in each.names}

    def _check_source(self, key: str, source: StoredObject, *, backfilled: bool) -> None:
        """Every readable source has all that is made of it, but for what a newer one has."""
        for name, expected in self._expected(key, source).items():
            existing = self._world.s3.buckets[OUTPUT].get(name)
            taken = not backfilled and self._taken_along(key, source, name)
            if existing is not None:
                if not taken or name != self._settings.manifest_key(key):
                    self._check_made(key, source, name, expected, existing)
                continue
            shared = name == self._settings.manifest_key(key) and self._shared(key)
            if not taken and not shared:
                self._fault(f"{key} has no {name}")

    def _check_made(
        self,
        key: str,
        source: StoredObject,
        name: str,
        expected: StoredObject,
        existing: StoredObject,
    ) -> None:
        """What a readable source has is of its newest bytes, or a newer source's."""
        theirs = self._provenance.of(existing.metadata)
        if theirs is not None and theirs.key != key:
            if (theirs.modified, theirs.key) < (source.modified, key):
                self._fault(f"{name} belongs to {theirs.key}, which is older than {key}")
        elif not _same(existing, expected):
            self._fault(f"{name} is of {theirs}, not of the newest bytes {source.etag[:6]}")

    def _shared(self, key: str) -> bool:
        """Whether another source has some of its thumbnails: then neither may tell of them all."""
        found = (self._world.s3.buckets[OUTPUT].get(name) for name in self._names(key))
        owners = (self._provenance.of(each.metadata) for each in found if each is not None)
        return any(owner is not None and owner.key != key for owner in owners)

    def _taken_along(self, key: str, source: StoredObject, name: str) -> bool:
        """Whether a newer source had its thumbnails, and was deleted with them (docs/adr/0011).

        An older manifest of its own may be left then.
        """
        return self._settings.delete_with_original and any(
            (modified, other) > (source.modified, key)
            for other, (modified, _) in self._gone.items()
            if other != key and name in self._names(other)
        )

    def _check_output(self, name: str, existing: StoredObject, excused: set[str]) -> None:
        """Every thumbnail is of a source, and as it says; of older bytes only where that failed."""
        theirs = self._provenance.of(existing.metadata)
        if theirs is None or name not in self._names(theirs.key):
            self._fault(f"{name} is of no source")
            return
        if (theirs.modified, theirs.etag) not in self._history.get(theirs.key, ()):
            self._fault(f"{name} is of {theirs}, which never was")
            return
        told = StoredObject(theirs.etag, theirs.modified, self._bodies[theirs.etag], {})
        expected = self._expected(theirs.key, told)[name]
        if not _same(existing, expected):
            self._fault(f"{name} is not what it says it is")
        if theirs.key in excused:
            return
        source = self._world.s3.buckets[INPUT].get(theirs.key)
        if source is None:
            if self._settings.delete_with_original:
                self._fault(f"{name} is an orphan of {theirs.key}")
        elif source.etag != theirs.etag and not source.body.startswith(CORRUPT):
            left = name == self._settings.manifest_key(theirs.key)
            if not left or not self._taken_along(theirs.key, source, name):
                self._fault(f"{name} is of older bytes of {theirs.key}")

    def _names(self, key: str) -> Mapping[str, str]:
        recipes: Mapping[str, str] = self._settings.recipes(key)
        return recipes

    def _expected(self, key: str, source: StoredObject) -> dict[str, StoredObject]:
        """What belongs in the output bucket for a source, name by name."""
        settings = self._settings
        recipe = settings.recipe
        ours = self._provenance(key, source.etag, source.modified, recipe)
        expected = {}
        stored = {}
        for width in settings.widths:
            body = self._stamped(picture(source.body, width, settings.quality), ours.digest())
            name = settings.thumbnail_key(key, width)
            stored[width] = (name, len(body))
            expected[name] = StoredObject(etag_of(body), source.modified, body, ours.to_metadata())
        if settings.write_manifest:
            ours = self._provenance(key, source.etag, source.modified, settings.manifest_recipe)
            body = manifest(ours, len(source.body), _Made, stored)
            name = settings.manifest_key(key)
            expected[name] = StoredObject(etag_of(body), source.modified, body, ours.to_metadata())
        return expected


def _same(one: StoredObject, other: StoredObject) -> bool:
    """Whether they are alike but for the time when they were written."""
    return (one.body, one.metadata) == (other.body, other.metadata)


class _Made:
    size = (512, 512)
