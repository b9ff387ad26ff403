"""Faults put into the real code, one at a time: each must break an invariant for some seed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from simulation.isolation import Code


@dataclass(frozen=True, slots=True)
class Mutation:
    """Of the source of `module` each `old` becomes `new`; it must occur `times`."""

    name: str
    module: str
    old: str
    new: str
    times: int = 1

    def code(self) -> Code:
        """The function's code with this fault."""
        return Code({self.module: self._rewritten})

    @property
    def _rewritten(self) -> Callable[[str], str]:
        def rewrite(source: str) -> str:
            if source.count(self.old) != self.times:
                raise ValueError(f"{self.name}: {self.old!r} occurs {source.count(self.old)} times")
            return source.replace(self.old, self.new)

        return rewrite


MUTATIONS: Final = (
    # --- pipeline.py: the protocol
    Mutation(
        "no last look",
        "thumbnailer.reconcile",
        "if writer.overwrote or self.settings.delete_with_original:",
        "if self.settings.delete_with_original:",
    ),
    Mutation(
        "no last look when thumbnails are deleted with the original",
        "thumbnailer.reconcile",
        "if writer.overwrote or self.settings.delete_with_original:",
        "if writer.overwrote:",
    ),
    Mutation(
        "a last look after every upload",
        "thumbnailer.reconcile",
        "if writer.overwrote or self.settings.delete_with_original:",
        "if True:",
    ),
    Mutation(
        "the last look is forgotten when the reply to an overwrite is lost",
        "thumbnailer.reconcile",
        """                self.overwrote = True
            if self._output.put(new, replacing=existing.etag if existing else None):
""",
        """                pass
            if self._output.put(new, replacing=existing.etag if existing else None):
                self.overwrote |= existing is not None
""",
    ),
    Mutation(
        "no look before an overwrite",
        "thumbnailer.reconcile",
        """                self.check_source()
                # Before""",
        """                # Before""",
    ),
    Mutation(
        "a look notices only that the source is gone",
        "thumbnailer.reconcile",
        """        if now is None or now.etag != self._etag:
""",
        """        if now is None:
""",
    ),
    Mutation(
        "a look does not notice that the source is gone",
        "thumbnailer.reconcile",
        """        if now is None or now.etag != self._etag:
""",
        """        if now is not None and now.etag != self._etag:
""",
    ),
    Mutation(
        "a changed source is taken for done",
        "thumbnailer.reconcile",
        """            except SourceChanged:
                continue
""",
        """            except SourceChanged:
                return Skipped(CURRENT)
""",
    ),
    Mutation(
        "begun again without bound",
        "thumbnailer.reconcile",
        "MAX_STARTS: Final = 5",
        "MAX_STARTS = 10**6",
    ),
    Mutation(
        "rounds without bound",
        "thumbnailer.reconcile",
        "MAX_ROUNDS: Final = 8",
        "MAX_ROUNDS = 10**6",
    ),
    Mutation("begun only once", "thumbnailer.reconcile", "MAX_STARTS: Final = 5", "MAX_STARTS = 1"),
    Mutation("one round only", "thumbnailer.reconcile", "MAX_ROUNDS: Final = 8", "MAX_ROUNDS = 1"),
    Mutation(
        "rivals for ever are taken for done",
        "thumbnailer.reconcile",
        """        raise SourceUnsettled(f"Other writers kept changing {new.key}")
""",
        "",
    ),
    Mutation(
        "what is there is current",
        "thumbnailer.reconcile",
        "if theirs and (self._is_current(theirs, ours) or self._yields_to(theirs, ours)):",
        "if theirs:",
    ),
    Mutation(
        "compare the key only",
        "thumbnailer.provenance",
        "(self.key, self.etag, self.recipe) == (other.key, other.etag, other.recipe)",
        "self.key == other.key",
    ),
    Mutation(
        "compare the etag only",
        "thumbnailer.provenance",
        "(self.key, self.etag, self.recipe) == (other.key, other.etag, other.recipe)",
        "self.etag == other.etag",
    ),
    Mutation(
        "the same bytes again are current",
        "thumbnailer.reconcile",
        "theirs.same_picture_as(ours) and theirs.modified >= ours.modified",
        "theirs.same_picture_as(ours)",
    ),
    Mutation(
        "nothing is current",
        "thumbnailer.reconcile",
        "theirs.same_picture_as(ours) and theirs.modified >= ours.modified",
        "False",
    ),
    Mutation(
        "the newer source does not win",
        "thumbnailer.reconcile",
        """        if ours.is_newer_than(theirs):
            return False
""",
        "",
    ),
    Mutation(
        "the older source does not yield",
        "thumbnailer.reconcile",
        "if ours.is_newer_than(theirs):",
        "if True:",
    ),
    Mutation(
        "a tie goes to nobody",
        "thumbnailer.provenance",
        "(self.modified, self.key) > (other.modified, other.key)",
        "self.modified > other.modified",
    ),
    Mutation(
        "thumbnails of other provenance have the same bytes",
        "thumbnailer.reconcile",
        "stamped(each.data, stamp)",
        "each.data",
    ),
    Mutation(
        "what could not be made anew is taken for current",
        "thumbnailer.reconcile",
        "if not created:",
        "if False:",
    ),
    Mutation(
        "the last width is left out",
        "thumbnailer.reconcile",
        "zip(objects, self._output.create(objects), strict=True):",
        "zip(objects[:-1], self._output.create(objects[:-1]), strict=True):",
    ),
    Mutation(
        "no manifest",
        "thumbnailer.reconcile",
        "if not self.settings.write_manifest or writer.owner is not None:",
        "if True:",
    ),
    Mutation(
        "a manifest for whom the thumbnails do not belong to",
        "thumbnailer.reconcile",
        "if not self.settings.write_manifest or writer.owner is not None:",
        "if not self.settings.write_manifest:",
    ),
    # --- pipeline.py: deletions
    Mutation(
        "nothing is deleted",
        "thumbnailer.reconcile",
        "tried = {key: self._delete(key, upload.key) for key in keys}",
        "tried = {}",
    ),
    Mutation(
        "delete what another source has made",
        "thumbnailer.reconcile",
        "if existing is None or theirs is None or theirs.key != source_key:",
        "if existing is None:",
    ),
    Mutation(
        "delete unconditionally",
        "thumbnailer.storage",
        "(self._client.delete_object, key, IfMatch=f'\"{replacing}\"')",
        "(self._client.delete_object, key)",
    ),
    Mutation(
        "a deletion does not look at its source again",
        "thumbnailer.reconcile",
        "if any(each is not None for each in tried.values()) and source.head(upload.key):",
        "if False:",
    ),
    Mutation(
        "a deletion whose reply was lost does not look at its source again",
        "thumbnailer.reconcile",
        "if any(each is not None for each in tried.values()) and source.head(upload.key):",
        "if any(tried.values()) and source.head(upload.key):",
    ),
    Mutation(
        "a deletion gives up when another was quicker",
        "thumbnailer.reconcile",
        """            if output.delete(key, replacing=existing.etag):
                return True
""",
        """            return output.delete(key, replacing=existing.etag)
""",
    ),
    # --- pipeline.py: failures
    Mutation(
        "superseded failures have their letters",
        "thumbnailer.reconcile",
        """        if now is None or now.etag != etag:
            raise SourceChanged
        if not""",
        "        if not",
    ),
    Mutation(
        "a letter about what is gone",
        "thumbnailer.reconcile",
        """        if now is None or now.etag != etag:
            raise SourceChanged
        if not""",
        """        if now is not None and now.etag != etag:
            raise SourceChanged
        if not""",
    ),
    Mutation(
        "a permanent failure is swallowed",
        "thumbnailer.handler",
        "upload, error = upload._replace(etag=failed.etag), failed.error",
        'return upload, Skipped("unreadable")',
    ),
    Mutation(
        "only_missing asks for any thumbnail at all",
        "thumbnailer.reconcile",
        "and found.same_picture_as(Provenance(upload.key, etag, LONG_AGO, recipe))",
        "",
    ),
    # --- storage.py: what the clients say
    Mutation(
        "409 and 412 are taken for success",
        "thumbnailer.storage",
        """ does not exist") from error
            return False
""",
        """ does not exist") from error
            return True
""",
    ),
    Mutation(
        "a missing bucket is taken for a missing object",
        "thumbnailer.storage",
        "if NO_BUCKET in str(error):",
        "if False:",
        times=2,
    ),
    Mutation(
        "a write without an answer is taken for success",
        "thumbnailer.storage",
        """            return False
        except BaseError as error:
            raise self._translated(new.key, error) from error
        return True
""",
        """            return False
        except BaseError as error:
            return True
        return True
""",
    ),
    Mutation(
        "a look without an answer is taken for a missing object",
        "thumbnailer.storage",
        """            return None
        except BaseError as error:
            raise self._translated(key, error) from error
        meta""",
        """            return None
        except BaseError as error:
            return None
        meta""",
    ),
    Mutation(
        "boto3: any refusal is taken for a missing object",
        "thumbnailer.storage",
        """            raise StorageUnavailable(f"{where}: {error}") from error
        except self._errors""",
        """            return None
        except self._errors""",
    ),
    Mutation(
        "boto3: a request without an answer is taken for a missing object",
        "thumbnailer.storage",
        """        except self._errors as error:
            raise StorageUnavailable(f"{where}: {error}") from error


""",
        """        except self._errors as error:
            return None


""",
    ),
    Mutation(
        "boto3: 409 is unforeseen",
        "thumbnailer.storage",
        ', "ConditionalRequestConflict")',
        ")",
    ),
    Mutation(
        "obstore: 409 and 412 to an overwrite are faults",
        "thumbnailer.storage",
        "except (AlreadyExistsError, FileNotFoundError, PreconditionError) as error:",
        "except (AlreadyExistsError, FileNotFoundError) as error:",
    ),
    Mutation(
        "obstore: an overwrite of what is gone is unforeseen",
        "thumbnailer.storage",
        "except (AlreadyExistsError, FileNotFoundError, PreconditionError) as error:",
        "except (AlreadyExistsError, PreconditionError) as error:",
    ),
    Mutation(
        "odd headers are not read by boto3",
        "thumbnailer.storage",
        """        except UnreadableHeaderError:
            return self._boto3().get(key)
""",
        """        except UnreadableHeaderError:
            return None
""",
    ),
    Mutation(
        "every key goes to obstore",
        "thumbnailer.storage",
        "return self._boto3() if AWKWARD_KEY.search(key) else self._fitting(ObstoreBucket)",
        "return self._fitting(ObstoreBucket)",
    ),
    # --- handler.py and dead_letters.py
    Mutation(
        "the letter is sent before raising",
        "thumbnailer.handler",
        """        if transient:
            first""",
        """        self._send_letters(outcomes, request_id)
        if transient:
            first""",
    ),
    Mutation(
        "a transient error is swallowed",
        "thumbnailer.handler",
        """        if transient:
            first = transient[0]
""",
        """        if False:
            first = transient[0]
""",
    ),
    Mutation(
        "only an event's first upload counts",
        "thumbnailer.handler",
        "for upload in delivery.uploads]",
        "for upload in delivery.uploads[:1]]",
    ),
    Mutation(
        "no letters",
        "thumbnailer.handler",
        "self.queue.send(DeadLetter.of(upload, outcome, request_id))",
        "pass",
    ),
    Mutation(
        "a letter names the event's bytes in place of those that failed",
        "thumbnailer.handler",
        "upload, error = upload._replace(etag=failed.etag), failed.error",
        "error = failed.error",
    ),
    Mutation(
        "a queue without an answer is taken for one that has the letter",
        "thumbnailer.dead_letters",
        """raise QueueUnavailable(f"No dead letter for {letter.key}: {error}") from error
""",
        """return
""",
    ),
    Mutation(
        "a replay does not raise what failed for now",
        "thumbnailer.events",
        """            return Delivery(Source.REPLAY, tuple(_uploads(event)))
        case {"requestContext""",
        """            return Delivery(Source.DIRECT, tuple(_uploads(event)))
        case {"requestContext""",
    ),
    Mutation(
        "a replayed OnFailure record names no upload",
        "thumbnailer.events",
        "yield upload._replace(attempts=upload.attempts + 1)",
        "yield from ()",
    ),
)
