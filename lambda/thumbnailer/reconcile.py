"""One upload: make the output bucket agree with what its source is now.

`Reconciler.process` is the one operation, for every kind of event. S3 events arrive late, twice and
out of order, so an event is only a hint where to check. There is no database. In the common case
the requests are one GET and one PUT for each thumbnail, plus one for the manifest if there is one:

1. GET the source. If it is gone there is nothing to do; with delete-with-original, what was made of
   it under any settings is deleted, each object only over the etag that was read, and the source is
   checked once more.
2. PUT the thumbnails in parallel, each only if no object exists.
3. If one exists, HEAD it. Has it no provenance? It stays, and the upload fails permanently after
   its other thumbnails are written. Is it of the same source and fingerprint? It is current. Is it
   of another source with the same key? The newer source wins. Otherwise HEAD the source. If that is
   still what was read, PUT over exactly the object that was found; if that is refused, check again.
   For a remake, a current object counts as out of date, as long as it is the one found first.
4. After any such overwrite, HEAD the source once more, and start again if it has changed. A worker
   that found nothing to do left no trace, so without this last check a stalled older writer would
   win when a source changes from P to Q and back to P. With delete-with-original, do this after
   every write: the source may be gone, and whoever cleaned up after it may have found nothing yet.

A crash at any point is repaired when the event is retried or replayed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import batched
from typing import Final, NamedTuple, NoReturn

from thumbnailer.errors import (
    ImageTooLarge,
    ImageTooSlow,
    KeyOccupied,
    KeyTooLong,
    OutOfTime,
    PermanentError,
    SourceArchived,
    SourceEncrypted,
    SourceUnsettled,
    StorageUnavailable,
    TransientError,
    UnsupportedImage,
)
from thumbnailer.events import Upload
from thumbnailer.imaging import (
    ENCODERS,
    Made,
    ThumbnailSpec,
    check_file_size,
    make_thumbnails,
    parse_focus,
)
from thumbnailer.provenance import LONG_AGO, Provenance, Standing, standing
from thumbnailer.settings import FOCUS, MAX_KEY_BYTES, MAX_MEMORY_MB, RESERVED_PREFIX, Settings
from thumbnailer.storage import MAX_LISTED, Bucket, Headers, Listing, Object, State, Stored
from thumbnailer.telemetry import Telemetry

MAX_STARTS: Final = 5
"""Attempts for one upload whose source changes meanwhile. An assumption: four changes within one
invocation are no accident."""

MAX_ROUNDS: Final = 8
"""Attempts to write one object while other writers are faster. An assumption, as above."""

WRITE_SHARE: Final = 1 / 8
WRITE_SECONDS: Final = 1.5
"""Time that is kept for writing the thumbnails, or for the last check of a source without any: a
share of an invocation's time, and at least these seconds. With the default time-out it is 3 s: one
request by a client of its own (storage/s3_bucket.py) at 0.29 vCPU."""

FULL_SHARE: Final = 0.75
"""An image is too slow if it fails with at least this share of an invocation's time. With less, the
time went elsewhere (a slow S3, other uploads of the event), and a retry gives it more."""

MIN_SECONDS: Final = 2.0
"""No upload is started with less time for its image: a photo takes 0.2 to 0.4 s at 0.29 vCPU, and a
function that is killed reports nothing."""

TIME_ADVICE: Final = (
    " Raise LambdaMemorySize, which also gives more CPU, or LambdaTimeout. Or save the image again "
    "in a simpler form: not progressive, with fewer frames, or as a PNG."
)
"""What ImageTooSlow says at the end."""

HEADS_AT_ONCE: Final = 100
"""HEAD requests between two looks at the time left: about half a second at 0.29 vCPU."""

MAY_BE_MORE: Final = (
    "too many keys begin like those of the deleted original: thumbnails that were made of it under "
    "earlier settings may be left; image-pipeline prune deletes them"
)

CURRENT: Final = "thumbnails are current"
"""Why an upload was skipped whose thumbnails agree with it. A backfill counts these."""


class Written(NamedTuple):
    """A thumbnail that agrees with its source: what it is, its key and bytes."""

    spec: ThumbnailSpec
    key: str
    bytes: int


class Done(NamedTuple):
    """All thumbnails of an upload agree with its source, which has `size_in` bytes.

    `manifest` is the manifest's key, if there is one.
    """

    thumbnails: tuple[Written, ...]
    size_in: int
    manifest: str | None = None


class Skipped(NamedTuple):
    """There was nothing to make, and why. `deleted` are the keys deleted with their original."""

    reason: str
    deleted: tuple[str, ...] = ()


class SourceChanged(Exception):
    """The source is no longer what was read."""


class Failed(Exception):
    """An upload that can never become thumbnails, with the etag of the bytes that were read.

    The etag is None where S3 does not tell it.
    """

    def __init__(self, error: PermanentError, etag: str | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.etag = etag


class Reconciler(NamedTuple):
    """What all uploads of an invocation share.

    `remaining` returns the seconds left for work, of `available` at the beginning. `changed` is
    called with the key of each object before it is overwritten or deleted, also if that then fails:
    the reply may be lost.
    """

    settings: Settings
    telemetry: Telemetry
    bucket: Callable[[str], Bucket]
    remaining: Callable[[], float]
    available: float
    changed: Callable[[str], None] = lambda _key: None

    def process(self, upload: Upload, *, only_missing: bool = False) -> Done | Skipped:
        """Reconcile one upload, and log it.

        With `only_missing`, an upload whose thumbnails are current costs one HEAD for each of them,
        and no GET. With `upload.remake`, current thumbnails are made and written again.

        Raises Failed for a permanent failure, and TransientError for any other.
        """
        if reason := self._out_of_scope(upload):
            return self._skip(upload, reason)
        if (left := self._seconds_left()) < MIN_SECONDS:
            raise OutOfTime(f"{left:.1f} s left: too little to start {upload.key}")
        self.telemetry.started(upload.bucket, upload.key)
        began = time.perf_counter()
        if only_missing and self._nothing_to_make(upload):
            return self._skip(upload, CURRENT)
        outcome = self._reconcile(upload)
        if isinstance(outcome, Skipped):
            if outcome.deleted:
                self.telemetry.deleted(upload.bucket, upload.key, list(outcome.deleted))
                return outcome
            return self._skip(upload, outcome.reason)
        self.telemetry.completed(
            upload.bucket,
            upload.key,
            widths=[written.spec.size.width for written in outcome.thumbnails],
            duration_ms=(time.perf_counter() - began) * 1000,
            size_in=outcome.size_in,
            size_out=sum(written.bytes for written in outcome.thumbnails),
        )
        return outcome

    @property
    def _seconds_to_write(self) -> float:
        return max(WRITE_SECONDS, WRITE_SHARE * self.available)

    def _seconds_left(self) -> float:
        """Return the time that is left for an image, before its thumbnails are written."""
        return self.remaining() - self._seconds_to_write

    def _out_of_scope(self, upload: Upload) -> str | None:
        if upload.bucket == self.settings.output_bucket:
            return "the output bucket is not read: input and output must differ"
        if not upload.key.startswith(self.settings.input_prefix):
            return f"outside the prefix {self.settings.input_prefix}"
        return None if self.settings.is_image_key(upload.key) else "a folder marker"

    def _skip(self, upload: Upload, reason: str) -> Skipped:
        self.telemetry.skipped(upload.bucket, upload.key, reason)
        return Skipped(reason)

    def _reconcile(self, upload: Upload) -> Done | Skipped:
        for _ in range(MAX_STARTS):
            try:
                return self._attempt(upload)
            except SourceChanged:
                continue
        raise SourceUnsettled(f"The source changed {MAX_STARTS} times while it was processed")

    def _attempt(self, upload: Upload) -> Done | Skipped:
        """Make one attempt, starting with the GET. Raises SourceChanged to start again."""
        source = self.bucket(upload.bucket)
        try:
            found = source.get(upload.key)
        except (SourceArchived, SourceEncrypted) as error:
            self._give_up(upload, None, error)
        if found is None:
            return self._delete_outputs(source, upload)
        try:
            self._outputs(upload.key)
            check_file_size(found.state.size, self.settings.memory_mb)
            focus, fault = self.settings.focus(found.state.metadata)
            made = self._make_in_time(self._decoded(found), focus)
        except PermanentError as error:
            if isinstance(error, UnsupportedImage) and (encoding := found.state.encoding):
                error = UnsupportedImage(
                    f"{error} The object has the Content-Encoding {encoding!r}; gzip alone is read."
                )
            self._give_up(upload, found.state.etag, error)
        for note in (*made.notes, *([fault] if fault else [])):
            self.telemetry.degraded(upload.bucket, upload.key, note)
        writer = _Writer(self, source, upload, found.state, focus)
        written = writer.write_thumbnails(made)
        manifest_key = self._write_manifest(writer, made, written)
        if writer.occupied and writer.owner is None:
            self._give_up(upload, found.state.etag, _key_occupied(writer.occupied))
        if writer.overwrote or self.settings.delete_with_original:
            writer.check_source()
        if writer.owner is not None:
            return Skipped(f"the thumbnails belong to {writer.owner}, which is newer")
        if not writer.wrote:
            return Skipped(CURRENT)
        return Done(tuple(written), found.state.size, manifest_key)

    def _decoded(self, found: Stored) -> bytes:
        """Read an object, without the Content-Encoding that it may have been uploaded with."""
        data, encoding = found.read(), found.state.encoding
        if not encoding:
            return data
        from thumbnailer import content_encoding  # noqa: PLC0415 - rarely needed

        return content_encoding.decoded(data, encoding, self.settings.memory_mb)

    def _make_in_time(self, data: bytes, focus: str) -> Made:
        """Make the thumbnails in the time that is left. Raises PermanentError or OutOfTime."""
        seconds = max(0.0, self._seconds_left())
        try:
            return make_thumbnails(
                data,
                self.settings.specs,
                self.settings.memory_mb,
                seconds,
                parse_focus(focus) if focus else None,
            )
        except ImageTooSlow as error:
            if seconds < FULL_SHARE * (self.available - self._seconds_to_write):
                raise OutOfTime(f"{error} An invocation of its own has more time.") from error
            raise

    def _delete_outputs(self, source: Bucket, upload: Upload) -> Skipped:
        """Delete what was made of a source that is gone, if the settings say so."""
        tried: dict[str, bool] = {}
        if self.settings.delete_with_original:
            output = self.bucket(self.settings.output_bucket)
            manifests = self.settings.manifest_keys(upload.key)
            # Manifests are deleted first: where one exists, all thumbnails must exist.
            made = sorted(
                self._made_of(upload, output).items(), key=lambda each: each[0] not in manifests
            )
            for key, state in made:
                self.changed(key)  # before the reply, which may be lost
                tried[key] = _delete(output, key, state, upload.key)
            if tried and source.head(upload.key):
                raise SourceChanged
        return Skipped("the source is gone", tuple(key for key, done in tried.items() if done))

    def _made_of(self, upload: Upload, output: Bucket) -> dict[str, State]:
        """Find what was made of a source, under the settings as they are and as they were.

        It logs if there may be more: keys beyond MAX_LISTED, or beyond the time left.
        """
        keys, complete = self._candidates(upload.key, output)
        made: dict[str, State] = {}
        for batch in batched(keys, HEADS_AT_ONCE, strict=False):
            if batch[0] != keys[0] and self.remaining() < MIN_SECONDS:
                complete = False
                break
            states = zip(batch, output.head_all(batch), strict=True)
            made |= {
                key: found for key, found in states if found and _is_made_of(found, upload.key)
            }
        if not complete:
            self.telemetry.degraded(upload.bucket, upload.key, MAY_BE_MORE)
        return made

    def _candidates(self, source_key: str, output: Bucket) -> tuple[list[str], bool]:
        """Return up to MAX_LISTED keys of what may be made of a source, and whether these are all.

        What the current settings name comes first.
        """
        wide, narrow = self.settings.key_prefixes(source_key)
        listing = _list(output, wide)
        listed = listing.keys
        if listing.more and narrow != wide:
            listed = (*_list(output, narrow).keys, *listed)
        named = (*self.settings.manifest_keys(source_key), *self.settings.outputs(source_key))
        stem = self.settings.stem(source_key)
        keys = [key for key in named if listing.more or not key.startswith(wide)]
        keys += [key for key in listed if stem in key]
        legal = [key for key in dict.fromkeys(keys) if len(key.encode()) <= MAX_KEY_BYTES]
        return legal[:MAX_LISTED], not listing.more and len(legal) <= MAX_LISTED

    def _write_manifest(
        self, writer: "_Writer", made: Made, written: Sequence[Written]
    ) -> str | None:
        """Write the manifest after all thumbnails: its event says that they are complete."""
        if not self.settings.write_manifest or writer.owner is not None or writer.occupied:
            return None
        from thumbnailer import manifest  # noqa: PLC0415 - most stacks write none

        key = self.settings.manifest_key(writer.source_key)
        ours = writer.provenances[key]
        stored = {each.spec: (each.key, each.bytes) for each in written}
        body = manifest.manifest(self.settings, ours, writer.source_bytes, made, stored)
        writer.write([(key, body, manifest.CONTENT_TYPE, ours)])
        return key

    def _outputs(self, source_key: str) -> dict[str, str]:
        """See Settings.outputs. Raises KeyTooLong, and KeyOccupied for keys that are reserved."""
        outputs = self.settings.outputs(source_key)
        for key in outputs:
            if len(key.encode()) > MAX_KEY_BYTES:
                raise KeyTooLong(
                    f"The thumbnail's key would have {len(key.encode())} bytes; "
                    f"S3 allows {MAX_KEY_BYTES}"
                )
            if key.startswith(RESERVED_PREFIX):
                raise KeyOccupied(
                    f"Keys that begin with {RESERVED_PREFIX} are reserved for backfill results. "
                    f"Rename the original; its thumbnail's key would be {key}"
                )
        if len(outputs) < len(self.settings.specs) + self.settings.write_manifest:
            raise KeyOccupied(
                "The manifest and a thumbnail would have the same key. Change OutputKeyTemplate; "
                f"the key would be {self.settings.manifest_key(source_key)}"
            )
        return outputs

    def _give_up(self, upload: Upload, etag: str | None, error: PermanentError) -> NoReturn:
        """Fail permanently, unless the source has changed since it was read.

        `etag` is that of the source; None if S3 refused to return it.
        """
        message = str(error)
        if isinstance(error, ImageTooLarge):
            message += memory_advice(error.need_mb)
        if isinstance(error, ImageTooSlow):
            message += TIME_ADVICE
        try:
            if not isinstance(error, SourceEncrypted):  # S3 refuses its HEAD too
                now = self.bucket(upload.bucket).head(upload.key)
                if now is None or etag not in (None, now.etag):
                    raise SourceChanged
                etag = etag or now.etag
            if not isinstance(error, KeyTooLong | KeyOccupied) and self._any_thumbnail(upload):
                message += " Thumbnails of an earlier upload are still in place."
        except TransientError:
            if not isinstance(error, ImageTooSlow):
                raise
            # A retry would spend all the time again. The message may be needless, but not wrong.
        failure = type(error)(message)
        failure.__cause__ = error  # so that its traceback can be cleared: it holds the image
        raise Failed(failure, etag) from error

    def _any_thumbnail(self, upload: Upload) -> bool:
        output = self.bucket(self.settings.output_bucket)
        return any(
            (found := output.head(key)) is not None and _is_made_of(found, upload.key)
            for key in self._outputs(upload.key)
        )

    def _nothing_to_make(self, upload: Upload) -> bool:
        """Check with HEAD requests alone whether every output was made from the source as it is.

        Raises Failed if objects without provenance have the keys of all others: reading the image
        again, in each backfill, would make nothing.
        """
        try:
            self._outputs(upload.key)
        except PermanentError:
            return False
        etag, focus = upload.etag, ""
        if etag is None or self.settings.crops:
            try:
                source = self.bucket(upload.bucket).head(upload.key)
            except StorageUnavailable:
                return False  # of an encrypted object, only the answer to a GET says why
            if source is None:
                return False
            etag, (focus, _) = source.etag, self.settings.focus(source.metadata)
        wanted = self.settings.provenances(upload.key, etag, LONG_AGO, focus)
        output = self.bucket(self.settings.output_bucket)
        occupied: list[str] = []
        for key, ours in wanted.items():
            if occupied and key == self.settings.manifest_key(upload.key):
                break  # it is not written either
            state = output.head(key)
            match standing(state.metadata if state else None, ours):
                case Standing.CURRENT:
                    continue
                case Standing.FOREIGN:
                    occupied.append(key)
                case _:
                    return False
        if occupied:
            with suppress(SourceChanged):
                self._give_up(upload, etag, _key_occupied(occupied))
        return not occupied


def _list(output: Bucket, prefix: str) -> Listing:
    if len(prefix.encode()) > MAX_KEY_BYTES:
        return Listing((), more=False)
    return output.list_keys(prefix, MAX_LISTED)


def _is_made_of(state: State, source_key: str) -> bool:
    theirs = Provenance.of(state.metadata)
    return theirs is not None and theirs.key == source_key


def _delete(output: Bucket, key: str, existing: State | None, source_key: str) -> bool:
    """Delete an object that was made of `source_key`, as long as it still is.

    False means that somebody else was faster; or the reply to a delete that took effect was lost.
    """
    for _ in range(MAX_ROUNDS):
        if existing is None or not _is_made_of(existing, source_key):
            return False
        if output.delete(key, replacing=existing.etag):
            return True
        existing = output.head(key)
    raise SourceUnsettled(f"Other writers kept changing {key}")


def _key_occupied(keys: Sequence[str]) -> KeyOccupied:
    # The keys come last: a message may be cut off.
    return KeyOccupied(
        "Objects that this pipeline did not write have the keys of thumbnails or of the manifest. "
        "They were not changed. Take them over or remove them with image-pipeline prune --adopt, "
        f"then replay. The keys: {', '.join(keys)}"
    )


def memory_advice(need_mb: float | None) -> str:
    """Say which function size is large enough, if that is known."""
    if need_mb is None:
        return ""
    if need_mb > MAX_MEMORY_MB:
        return " No Lambda size is large enough."
    return f" Set LambdaMemorySize to at least {max(need_mb, 128):.0f}."


class _Writer:
    """Writes the outputs of one source state, by the protocol in the module's docstring."""

    def __init__(
        self, reconciler: Reconciler, source: Bucket, upload: Upload, state: State, focus: str
    ) -> None:
        self._settings = reconciler.settings
        self._source = source
        self._output = reconciler.bucket(reconciler.settings.output_bucket)
        self._telemetry = reconciler.telemetry
        self._changed = reconciler.changed
        self._upload = upload
        self._state = state
        self.wrote = False
        self.overwrote = False
        self.owner: str | None = None
        """The newer source that has an output's key, if any."""
        self.occupied: list[str] = []
        """Keys of outputs at which there are objects without provenance."""
        self._collisions: set[str] = set()
        self.provenances = self._settings.provenances(upload.key, state.etag, state.modified, focus)
        """Of each output, by its key."""

    @property
    def source_bytes(self) -> int:
        """Size of the source."""
        return self._state.size

    @property
    def source_key(self) -> str:
        """Key of the source."""
        return self._upload.key

    def write_thumbnails(self, made: Made) -> list[Written]:
        """Write all thumbnails.

        An etag is a digest of the bytes alone, so If-Match cannot distinguish two thumbnails of the
        same picture with different provenance. The mark in the bytes makes them differ.
        """
        new, written = [], []
        for each in made.thumbnails:
            encoder = ENCODERS[each.spec.format]
            key = self._settings.thumbnail_key(self._upload.key, each.spec.size, each.spec.format)
            ours = self.provenances[key]
            body = encoder.mark(each.data, ours.digest())
            new.append((key, body, encoder.content_type, ours))
            written.append(Written(each.spec, key, len(body)))
        self.write(new)
        return written

    def write(self, outputs: Sequence[tuple[str, bytes, str, Provenance]]) -> None:
        """Write outputs: key, bytes, content type and provenance of each.

        Afterwards each key holds this output, or one that is as good or must stay.
        """
        objects = [
            Object(key, body, self._headers(content_type, ours.to_metadata()))
            for key, body, content_type, ours in outputs
        ]
        created = self._output.create(objects)
        for new, (*_, ours), is_new in zip(objects, outputs, created, strict=True):
            self.wrote |= is_new
            if not is_new:
                self._settle(new, ours)

    def _headers(self, content_type: str, metadata: Mapping[str, str]) -> Headers:
        return Headers(content_type, self._settings.cache_control, metadata)

    def _settle(self, new: Object, ours: Provenance) -> None:
        """Write one output at whose key an object exists, unless that should stay."""
        found_first: str | None = None
        for _ in range(MAX_ROUNDS):
            existing = self._output.head(new.key)
            found_first = found_first or (existing.etag if existing else None)
            # A later object was written meanwhile: by this attempt, its reply lost, or by another.
            remake = self._upload.remake and existing and existing.etag == found_first
            if existing and self._should_stay(new.key, existing, ours, remake=bool(remake)):
                return
            if existing:
                self.check_source()
                # Before the reply, which may be lost: then the write shows up as current.
                self.overwrote = True
                self._changed(new.key)
            if self._output.put(new, replacing=existing.etag if existing else None):
                self.wrote = True
                return
        raise SourceUnsettled(f"Other writers kept changing {new.key}")

    def check_source(self) -> None:
        """Raise SourceChanged if the source is no longer what was read, or has another focus."""
        now = self._source.head(self._upload.key)
        if now is None or now.etag != self._state.etag:
            raise SourceChanged
        if self._settings.crops and now.metadata.get(FOCUS) != self._state.metadata.get(FOCUS):
            raise SourceChanged

    def _should_stay(self, key: str, existing: State, ours: Provenance, *, remake: bool) -> bool:
        """Whether an existing object is current, of a newer source, or not of this pipeline.

        A current object also has to record how new its source is. When the same bytes are uploaded
        again, it is written again. Otherwise an older upload of another source with the same key,
        whose event is late, would believe itself newer. A remake leaves one alone that records a
        newer upload of the same bytes: that was written after this source was read.
        """
        theirs = Provenance.of(existing.metadata)
        if theirs is not None and theirs.key != ours.key:
            self._log_collision(theirs.key)
        match standing(existing.metadata, ours):
            case Standing.CURRENT:
                if theirs is None or theirs.modified < ours.modified:
                    return False
                return not remake or theirs.modified > ours.modified
            case Standing.SUPERSEDED:
                self.owner = theirs.key if theirs else None
                return True
            case Standing.FOREIGN:
                self.occupied.append(key)
                return True
            case _:
                return False

    def _log_collision(self, other: str) -> None:
        if other not in self._collisions:
            self._collisions.add(other)
            self._telemetry.collided(self._upload.bucket, self._upload.key, other)
