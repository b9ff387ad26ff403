"""What must hold: for every invocation, and for every object and message at the end of a run."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from simulation.isolation import CORRUPT, INPUT, OUTPUT, manifest, picture
from simulation.s3 import StoredObject, etag_of
from simulation.wire import Request
from thumbnailer.imaging import ENCODERS, fingerprint

if TYPE_CHECKING:
    from simulation.world import Invocation, World

OK: Final = 200
MAX_STARTS: Final = 5
MAX_ROUNDS: Final = 8
"""The limits of lambda/thumbnailer/reconcile.py, written again so that a changed limit shows:
starts of one upload, and rounds of each of its thumbnails."""


@dataclass(frozen=True, slots=True)
class Start:
    """The state at the start of an invocation."""

    changes: int
    """Changes in S3 so far."""
    expected_requests: list[tuple[str, str]] | None
    """(method, key) of the requests of an undisturbed invocation, where they are predictable."""


class Invariants:
    """Checks a world; `broken` describes every invariant that does not hold."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._settings = world.function.settings
        self._provenance = world.code.module("thumbnailer.provenance").Provenance
        self._bodies: dict[str, bytes] = {}
        """Etag → the body of everything ever uploaded."""
        self._history: dict[str, list[tuple[datetime, str]]] = {}
        """Key → all versions that it ever had, as (modified, etag)."""
        self._deleted: dict[str, tuple[datetime, str]] = {}
        """Key → the latest version of it that was deleted, as (modified, etag)."""
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
            history.append((source.modified, source.etag))
            self._bodies[source.etag] = source.body
        elif history:
            self._deleted[request.key] = history[-1]

    def failed(self, invocation: "Invocation", key: str, error: BaseException) -> None:
        """An upload fails permanently only after a HEAD found the bytes that failed.

        An UnexpectedError is a fault of the code or of the simulation.
        """
        if isinstance(error, self._error("UnexpectedError")):
            self._fail(f"unexpected error: {error.__cause__!r}")
        if not isinstance(error, self._error("PermanentError")):
            return
        read, checked = self._source_etags(invocation)
        if checked != read:
            self._fail(f"{key} failed permanently without a check of the source")
        invocation.failures.append((key, read))

    def sent(self, invocation: "Invocation", message: Mapping[str, Any]) -> None:
        """A message about a permanent failure names the bytes that failed."""
        named = (message["key"], message["etag"])
        if message["error"]["permanent"]:
            if named not in invocation.failures:
                self._fail(f"a dead-letter message about {named}, which did not fail")
        elif invocation.delivery.kind != "backfill":
            self._fail(f"a dead-letter message about {named}, which would have been retried")

    def overwriting(self, invocation: "Invocation") -> None:
        """Immediately before an overwrite, the source must have been checked by a HEAD.

        Otherwise a stalled writer could show an old thumbnail for a moment, and a caching proxy
        could keep it for a day.
        """
        read, checked = self._source_etags(invocation)
        last, _ = invocation.responses[-1]
        if checked != read or (last.bucket, last.method) != (INPUT, "HEAD"):
            self._fail(f"{invocation.name} overwrites without a check of the source")

    @staticmethod
    def _source_etags(invocation: "Invocation") -> tuple[str, str | None]:
        """The etags of the last GET of a source and of the last HEAD after it, if any."""
        read, checked = "", None
        for request, response in invocation.responses:
            if request.bucket == INPUT and response is not None and response.status in (OK, 404):
                if request.method == "GET":
                    read, checked = response.etag, None
                else:
                    checked = response.etag
        return read, checked

    def begin(self, invocation: "Invocation") -> Start:
        """The state at the start of an invocation, to be compared with its end."""
        return Start(self._world.s3.changes, self._expected_requests(invocation))

    def _expected_requests(self, invocation: "Invocation") -> list[tuple[str, str]] | None:
        """A GET, a PUT for each width, and a HEAD for each thumbnail that exists and may stay.

        The PUTs of the thumbnails come first, and the requests for the manifest last. None where
        the requests are not predictable.
        """
        delivery, sources = invocation.delivery, self._world.s3.buckets[INPUT]
        if delivery.kind != "event" or len(delivery.keys) != 1:
            return None
        (key,) = delivery.keys
        source = sources.get(key)
        if source is None or source.metadata or source.body.startswith(CORRUPT):
            return None
        puts: list[tuple[str, str]] = []
        heads: list[tuple[str, str]] = []
        last: list[tuple[str, str]] = []
        owner = None
        for output_key, expected in self._expected(key, source).items():
            is_manifest = output_key == self._settings.manifest_key(key)
            if owner and is_manifest:
                continue
            existing = self._world.s3.buckets[OUTPUT].get(output_key)
            if existing is not None and not _same(existing, expected):
                theirs = self._provenance.of(existing.metadata)
                if theirs is None or (theirs.modified, theirs.key) <= (source.modified, key):
                    return None
                owner = theirs.key
            (last if is_manifest else puts).append(("PUT", output_key))
            if existing is not None:
                (last if is_manifest else heads).append(("HEAD", output_key))
        if self._settings.delete_with_original:
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
        sizes = len(self._settings.sizes)
        in_order = [*made[:1], *sorted(made[1 : 1 + sizes]), *made[1 + sizes :]]
        expected = start.expected_requests
        if expected is not None and undisturbed and in_order != expected:
            self._fail(f"{invocation.name} made the requests {made} instead of {expected}")
        output_keys = len(self._settings.outputs("uploads/a.jpg"))
        # A permanent failure adds a HEAD of everything, and an unreadable header a GET by boto3.
        per_upload = MAX_STARTS * (3 + output_keys * MAX_ROUNDS * 3) + 2 + output_keys
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

    def _error(self, name: str) -> type[Exception]:
        kind: type[Exception] = getattr(self._world.code.module("thumbnailer.errors"), name)
        return kind

    # --- at the end ------------------------------------------------------------------------------
    def at_rest(self, *, replayed: bool, backfilled: bool = False) -> None:
        """Compare sources, thumbnails and messages.

        Before all messages are `replayed`, a source that failed may lack thumbnails as long as a
        message names it. After that, messages name only sources that are corrupt. After all
        sources are `backfilled` too, no thumbnail is missing.
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
            if source.body.startswith(CORRUPT):
                if (key, source.etag) not in self._reported() and (replayed or key not in named):
                    self._fail(f"{key} is corrupt, and no dead-letter message says so")
            elif key not in excused:
                self._check_source(key, source, backfilled=backfilled)
        for output_key, existing in outputs.items():
            self._check_output(output_key, existing, excused)
        if replayed:
            wrong = self._reported() - {
                (key, source.etag)
                for key, source in sources.items()
                if source.body.startswith(CORRUPT)
            }
            if wrong or not all(message.dead_letter for message in self._world.queue):
                self._fail(f"needless messages are left: {wrong or self._world.queue}")

    def replaceable(self) -> list[str]:
        """Keys of the output bucket that can be made again from an existing, readable source."""
        sources = self._world.s3.buckets[INPUT]
        return [
            output_key
            for output_key, existing in self._world.s3.buckets[OUTPUT].items()
            if (theirs := self._provenance.of(existing.metadata)) is not None
            and theirs.key in sources
            and not sources[theirs.key].body.startswith(CORRUPT)
        ]

    def _reported(self) -> set[tuple[str, str | None]]:
        """(key, etag) of the uploads that dead-letter messages name."""
        return {upload for each in self._world.queue if each.dead_letter for upload in each.uploads}

    def _check_source(self, key: str, source: StoredObject, *, backfilled: bool) -> None:
        """A readable source has all its thumbnails, except those that a newer source owns."""
        for output_key, expected in self._expected(key, source).items():
            existing = self._world.s3.buckets[OUTPUT].get(output_key)
            deleted = not backfilled and self._deleted_with_newer(key, source, output_key)
            is_manifest = output_key == self._settings.manifest_key(key)
            if existing is not None:
                if not deleted or not is_manifest:
                    self._check_made(key, source, output_key, expected, existing)
                continue
            shared = is_manifest and self._shared(key)
            if not deleted and not shared:
                self._fail(f"{key} has no {output_key}")

    def _check_made(
        self,
        key: str,
        source: StoredObject,
        output_key: str,
        expected: StoredObject,
        existing: StoredObject,
    ) -> None:
        """A thumbnail is made of the newest bytes of its source, or belongs to a newer source."""
        theirs = self._provenance.of(existing.metadata)
        if theirs is not None and theirs.key != key:
            if (theirs.modified, theirs.key) < (source.modified, key):
                self._fail(f"{output_key} belongs to {theirs.key}, which is older than {key}")
        elif not _same(existing, expected):
            self._fail(f"{output_key} is of {theirs}, not of the newest bytes {source.etag[:6]}")

    def _shared(self, key: str) -> bool:
        """Whether another source owns some of its thumbnails; then neither needs a manifest."""
        existing = (self._world.s3.buckets[OUTPUT].get(each) for each in self._output_keys(key))
        owners = (self._provenance.of(each.metadata) for each in existing if each is not None)
        return any(owner is not None and owner.key != key for owner in owners)

    def _deleted_with_newer(self, key: str, source: StoredObject, output_key: str) -> bool:
        """Whether a newer source owned this thumbnail and was deleted with it (docs/adr/0011).

        An older manifest of this source may then be left.
        """
        return self._settings.delete_with_original and any(
            (modified, other) > (source.modified, key)
            for other, (modified, _) in self._deleted.items()
            if other != key and output_key in self._output_keys(other)
        )

    def _check_output(self, output_key: str, existing: StoredObject, excused: set[str]) -> None:
        """An output names its true source; it is of older bytes only where processing failed."""
        theirs = self._provenance.of(existing.metadata)
        if theirs is None or output_key not in self._output_keys(theirs.key):
            self._fail(f"{output_key} is of no source")
            return
        if (theirs.modified, theirs.etag) not in self._history.get(theirs.key, ()):
            self._fail(f"{output_key} is of {theirs}, which never existed")
            return
        named = StoredObject(theirs.etag, theirs.modified, self._bodies[theirs.etag], {})
        expected = self._expected(theirs.key, named)[output_key]
        if not _same(existing, expected):
            self._fail(f"{output_key} is not of the source that its metadata names")
        if theirs.key in excused:
            return
        source = self._world.s3.buckets[INPUT].get(theirs.key)
        if source is None:
            if self._settings.delete_with_original:
                self._fail(f"{output_key} is an orphan of {theirs.key}")
        elif source.etag != theirs.etag and not source.body.startswith(CORRUPT):
            is_manifest = output_key == self._settings.manifest_key(theirs.key)
            if not is_manifest or not self._deleted_with_newer(theirs.key, source, output_key):
                self._fail(f"{output_key} is of older bytes of {theirs.key}")

    def _output_keys(self, key: str) -> set[str]:
        """The keys of everything that is made of a source."""
        return set(self._settings.outputs(key))

    def _expected(self, key: str, source: StoredObject) -> dict[str, StoredObject]:
        """What belongs in the output bucket for a source, by key."""
        settings = self._settings
        expected = {}
        stored = {}
        for spec in settings.specs:
            ours = self._provenance(key, source.etag, source.modified, fingerprint(spec))
            body = ENCODERS[spec.format].mark(picture(source.body, spec), ours.digest())
            name = settings.thumbnail_key(key, spec.size)
            stored[spec.size] = (name, len(body))
            expected[name] = StoredObject(etag_of(body), source.modified, body, ours.to_metadata())
        if settings.write_manifest:
            ours = self._provenance(
                key, source.etag, source.modified, settings.manifest_fingerprint
            )
            body = manifest(ours, len(source.body), _Made, stored)
            name = settings.manifest_key(key)
            expected[name] = StoredObject(etag_of(body), source.modified, body, ours.to_metadata())
        return expected


def _same(one: StoredObject, other: StoredObject) -> bool:
    """Whether two objects are equal except for the time when they were written."""
    return (one.body, one.metadata) == (other.body, other.metadata)


class _Made:
    """What isolation.Code's thumbnails have in common."""

    size = (512, 512)
