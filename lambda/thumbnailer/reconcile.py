"""One upload: look at what its source is now, and make the thumbnails agree with that.

`reconcile` is the one operation, for every kind of event. S3 events come late, doubled and out of
order, so an event only says where to look. No database and, in the common case, no request beyond
one GET and a PUT for each width (and, if it is wanted, one for the manifest, which comes last):

1. GET the source. Gone → nothing to do, or with delete-with-original: delete what is its own, each
   over the etag that was seen, and look at the source once more.
2. PUT the thumbnails if none are there, side by side.
3. One is there: HEAD it. Of the same source and recipe → current. Of another source with the same
   thumbnail name → the newer source wins. Else HEAD the source, and if it is still what was read,
   PUT over exactly the thumbnail that was seen; lost → look again.
4. After any such overwrite HEAD the source once more, and start again if it has changed: a worker
   that found nothing to do left no trace, so without this last look a stalled older writer would
   win when a source goes from P to Q and back to P. With delete-with-original after every write:
   the source may have gone, and what cleared up after it have seen nothing yet.

A crash anywhere is healed when the event is retried or replayed.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple, NoReturn

from thumbnailer.errors import KeyTooLong, OutOfTime, PermanentError, SourceUnsettled
from thumbnailer.events import Upload
from thumbnailer.imaging.encoders.webp import stamped
from thumbnailer.imaging.limits import refuse_over
from thumbnailer.imaging.thumbnails import Made, make_thumbnails
from thumbnailer.provenance import LONG_AGO, Provenance
from thumbnailer.settings import MAX_KEY_BYTES, Settings
from thumbnailer.storage import Bucket, Headers, Object, State
from thumbnailer.telemetry import Telemetry

MAX_STARTS: Final = 5
"""How often one upload is begun again because its source changed meanwhile."""

MAX_ROUNDS: Final = 8
"""How often one thumbnail is looked at again because another writer was quicker."""

LEAST_SECONDS: Final = 2.0
"""With less than this left no upload is begun: a photo takes 0.2 to 0.4 s at 0.29 vCPU, and a
function that is killed at work tells nothing of it."""

SOURCE_COPIES: Final = 2.5
"""A source is in memory twice while it is read; its pixels are counted when its format is known."""


CURRENT: Final = "thumbnails are current"
"""Why an upload was skipped whose thumbnails agree with it; a backfill counts by it."""


class Written(NamedTuple):
    """A thumbnail that is right: its width as configured, its key, its bytes."""

    width: int
    key: str
    bytes: int


class Done(NamedTuple):
    """All thumbnails of an upload agree with its source, whose bytes are `size_in`.

    `manifest` is the manifest's key, if one is written.
    """

    thumbnails: tuple[Written, ...]
    size_in: int
    manifest: str | None = None


class Skipped(NamedTuple):
    """There was nothing to make, and why; `deleted` are the keys that went with their original."""

    reason: str
    deleted: tuple[str, ...] = ()


class SourceChanged(Exception):
    """The source is no longer what was read."""


class Failed(Exception):
    """An upload that can never become thumbnails, with the etag of the bytes that say so."""

    def __init__(self, error: PermanentError, etag: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.etag = etag


class Pipeline(NamedTuple):
    """What every upload of an invocation shares; `remaining` tells the seconds left for work."""

    settings: Settings
    telemetry: Telemetry
    bucket: Callable[[str], Bucket]
    remaining: Callable[[], float]

    def process(self, upload: Upload, *, only_missing: bool = False) -> Done | Skipped:
        """Reconcile one upload and tell of it in logs and metrics.

        With `only_missing` thumbnails that are current cost a HEAD each, and no GET.

        Raises Failed for a permanent failure and TransientError for another.
        """
        if reason := self._not_ours(upload):
            return self._skip(upload, reason)
        if self.remaining() < LEAST_SECONDS:
            raise OutOfTime(f"{self.remaining():.1f} s left: too little to begin {upload.key}")
        self.telemetry.started(upload.bucket, upload.key)
        began = time.perf_counter()
        if only_missing and self._all_current(upload):
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
            widths=[written.width for written in outcome.thumbnails],
            duration_ms=(time.perf_counter() - began) * 1000,
            size_in=outcome.size_in,
            size_out=sum(written.bytes for written in outcome.thumbnails),
        )
        return outcome

    def _not_ours(self, upload: Upload) -> str | None:
        if upload.bucket == self.settings.output_bucket:
            return "the output bucket is not read: input and output must differ"
        if not upload.key.startswith(self.settings.input_prefix):
            return f"outside the prefix {self.settings.input_prefix}"
        if upload.key.endswith("/"):
            return "a folder marker"
        return None

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
        """One attempt, from the GET on; raises SourceChanged to be begun again."""
        source = self.bucket(upload.bucket)
        found = source.get(upload.key)
        if found is None:
            return self._clear(source, upload)
        try:
            self._recipes(upload.key)
            self._check_bytes(found.state)
            made = make_thumbnails(
                found.read(),
                self.settings.widths,
                self.settings.quality,
                self.settings.memory_mb,
                animated=self.settings.animated,
            )
        except PermanentError as error:
            self._give_up(upload, found.state.etag, error)
        for note in made.notes:
            self.telemetry.degraded(upload.bucket, upload.key, note)
        ours = self._provenance_of(upload.key, found.state)
        writer = _Writer(self, source, upload, found.state.etag)
        # An etag is a digest of the bytes alone, so If-Match could not tell two thumbnails of the
        # same picture with another provenance: the bytes tell it too.
        stamp = ours.digest()
        thumbnails = {
            self.settings.thumbnail_key(upload.key, each.width): stamped(each.data, stamp)
            for each in made.thumbnails
        }
        writer.write(thumbnails, "image/webp", ours)
        written = [
            Written(each.width, key, len(body))
            for each, (key, body) in zip(made.thumbnails, thumbnails.items(), strict=True)
        ]
        manifest_key = self._write_manifest(writer, ours, found.state.size, made, written)
        if writer.overwrote or self.settings.delete_with_original:
            writer.check_source()
        if writer.owner is not None:
            return Skipped(f"the thumbnails belong to {writer.owner}, which is newer")
        if not writer.wrote:
            return Skipped(CURRENT)
        return Done(tuple(written), found.state.size, manifest_key)

    def _clear(self, source: Bucket, upload: Upload) -> Skipped:
        """Delete what was made of a source that is gone, if that is wanted."""
        tried: dict[str, bool | None] = {}
        if self.settings.delete_with_original:
            with suppress(KeyTooLong):  # then nothing was ever made
                # The manifest goes first: where it is, all thumbnails are.
                keys = reversed(self._recipes(upload.key))
                tried = {key: self._delete(key, upload.key) for key in keys}
            if any(each is not None for each in tried.values()) and source.head(upload.key):
                raise SourceChanged
        return Skipped("the source is gone", tuple(key for key, done in tried.items() if done))

    def _delete(self, key: str, source_key: str) -> bool | None:
        """Delete an object if it was made of `source_key`.

        None says that nothing was tried, False that it was, but that somebody else was quicker: or
        so it looks, for the reply to a delete that took effect may have been lost.
        """
        output = self.bucket(self.settings.output_bucket)
        tried = None
        for _ in range(MAX_ROUNDS):
            existing = output.head(key)
            theirs = Provenance.of(existing.metadata) if existing else None
            if existing is None or theirs is None or theirs.key != source_key:
                return tried
            tried = False
            if output.delete(key, replacing=existing.etag):
                return True
        raise SourceUnsettled(f"Other writers kept changing {key}")

    def _write_manifest(
        self,
        writer: "_Writer",
        ours: Provenance,
        source_bytes: int,
        made: Made,
        written: list[Written],
    ) -> str | None:
        """Write the manifest, after all thumbnails: its event says that they are there."""
        if not self.settings.write_manifest or writer.owner is not None:
            return None
        from thumbnailer import manifest  # noqa: PLC0415 - not on the path of those who want none

        key = self.settings.manifest_key(ours.key)
        ours = ours._replace(recipe=self.settings.manifest_recipe)
        stored = {each.width: (each.key, each.bytes) for each in written}
        body = manifest.manifest(ours, source_bytes, made, stored)
        writer.write({key: body}, manifest.CONTENT_TYPE, ours)
        return key

    def _provenance_of(self, key: str, state: State) -> Provenance:
        return Provenance(key, state.etag, state.modified, self.settings.recipe)

    def _recipes(self, source_key: str) -> dict[str, str]:
        """See Settings.recipes. Raises KeyTooLong."""
        recipes = self.settings.recipes(source_key)
        for key in recipes:
            if len(key.encode()) > MAX_KEY_BYTES:
                raise KeyTooLong(
                    f"The thumbnail's key would have {len(key.encode())} bytes; "
                    f"S3 allows {MAX_KEY_BYTES}"
                )
        return recipes

    def _check_bytes(self, state: State) -> None:
        what = f"A file of {state.size:,} bytes"
        refuse_over(state.size * SOURCE_COPIES, what, self.settings.memory_mb)

    def _give_up(self, upload: Upload, etag: str, error: PermanentError) -> NoReturn:
        """Fail for good, unless the source has moved on since it was read."""
        now = self.bucket(upload.bucket).head(upload.key)
        if now is None or now.etag != etag:
            raise SourceChanged
        if not isinstance(error, KeyTooLong) and self._any_thumbnail(upload):
            error = type(error)(f"{error}. Thumbnails of an earlier upload are still in place")
        raise Failed(error, etag) from error

    def _any_thumbnail(self, upload: Upload) -> bool:
        return any(
            (found := self._provenance(key)) is not None and found.key == upload.key
            for key in self._recipes(upload.key)
        )

    def _provenance(self, thumbnail_key: str) -> Provenance | None:
        state = self.bucket(self.settings.output_bucket).head(thumbnail_key)
        return Provenance.of(state.metadata) if state else None

    def _all_current(self, upload: Upload) -> bool:
        """Whether every thumbnail was made from the source as it is, by HEADs alone."""
        try:
            recipes = self._recipes(upload.key)
        except KeyTooLong:
            return False
        etag = upload.etag
        if etag is None:
            source = self.bucket(upload.bucket).head(upload.key)
            if source is None:
                return False
            etag = source.etag
        return all(
            (found := self._provenance(key)) is not None
            and found.same_picture_as(Provenance(upload.key, etag, LONG_AGO, recipe))
            for key, recipe in recipes.items()
        )


class _Writer:
    """Writes the thumbnails of one source state, by the protocol in the module's docstring."""

    def __init__(self, pipeline: Pipeline, source: Bucket, upload: Upload, etag: str) -> None:
        self._source = source
        self._output = pipeline.bucket(pipeline.settings.output_bucket)
        self._cache_control = pipeline.settings.cache_control
        self._telemetry = pipeline.telemetry
        self._upload = upload
        self._etag = etag
        self.wrote = False
        self.overwrote = False
        self.owner: str | None = None
        """The newer source that has a thumbnail of ours, if any."""
        self._collisions: set[str] = set()

    def write(self, bodies: Mapping[str, bytes], content_type: str, ours: Provenance) -> None:
        """Make the object at each key this one, or see that it is or must not be."""
        headers = Headers(
            content_type=content_type,
            cache_control=self._cache_control,
            metadata=ours.to_metadata(),
        )
        objects = [Object(key, body, headers) for key, body in bodies.items()]
        for each, created in zip(objects, self._output.create(objects), strict=True):
            self.wrote |= created
            if not created:
                self._settle(each, ours)

    def _settle(self, new: Object, ours: Provenance) -> None:
        """The same for one object, at whose key there was another."""
        for _ in range(MAX_ROUNDS):
            existing = self._output.head(new.key)
            theirs = Provenance.of(existing.metadata) if existing else None
            if theirs and (self._is_current(theirs, ours) or self._yields_to(theirs, ours)):
                return
            if existing:
                self.check_source()
                # Before the reply, which may be lost: then the write shows up as current.
                self.overwrote = True
            if self._output.put(new, replacing=existing.etag if existing else None):
                self.wrote = True
                return
        raise SourceUnsettled(f"Other writers kept changing {new.key}")

    def check_source(self) -> None:
        """Raise SourceChanged if the source is no longer what was read."""
        now = self._source.head(self._upload.key)
        if now is None or now.etag != self._etag:
            raise SourceChanged

    @staticmethod
    def _is_current(theirs: Provenance, ours: Provenance) -> bool:
        """Whether what is there is this very thumbnail, and knows how new its source is.

        The same bytes uploaded again are written again: else an older upload of another source
        with the same thumbnail name, whose event is late, would find itself the newer one.
        """
        return theirs.same_picture_as(ours) and theirs.modified >= ours.modified

    def _yields_to(self, theirs: Provenance, ours: Provenance) -> bool:
        """Whether what is there belongs to another source, and a newer one."""
        if theirs.key == ours.key:
            return False
        if theirs.key not in self._collisions:
            self._collisions.add(theirs.key)
            self._telemetry.collided(self._upload.bucket, self._upload.key, theirs.key)
        if ours.is_newer_than(theirs):
            return False
        self.owner = theirs.key
        return True
