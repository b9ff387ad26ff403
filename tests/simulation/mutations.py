"""Deliberate faults in the real code, one at a time. Each must break an invariant for some seed.

A fault that no seed shows means that the invariants, or the simulated events, are too weak.
"""

from dataclasses import dataclass
from typing import Final

from simulation.isolation import Code


@dataclass(frozen=True, slots=True)
class Mutation:
    """One fault: replace `old`, which must occur `times`, by `new` in the source of `module`.

    `name` says what the faulty code does.
    """

    name: str
    module: str
    old: str
    new: str
    times: int = 1

    def code(self) -> Code:
        """The function's code with this fault.

        Raises ValueError if `old` does not occur exactly `times`.
        """
        return Code({self.module: self._rewritten})

    def _rewritten(self, source: str) -> str:
        if source.count(self.old) != self.times:
            raise ValueError(f"{self.name}: {self.old!r} occurs {source.count(self.old)} times")
        return source.replace(self.old, self.new)


MUTATIONS: Final = (
    # --- failure_marks.py and handler.py: a failure is reported once
    Mutation(
        "a backfill reports a failure each time",
        "thumbnailer.handler",
        "        if once and has_message:\n            return\n",
        "",
    ),
    Mutation(
        "a replay sends no message about a failure that is marked",
        "thumbnailer.handler",
        "if once and has_message:",
        "if has_message:",
    ),
    Mutation(
        "a mark counts for ever",
        "thumbnailer.failure_marks",
        "return datetime.now(UTC) - marked_at < VALID",
        "return True",
    ),
    Mutation(
        "a mark counts for any error",
        "thumbnailer.failure_marks",
        "if found is None or found.metadata.get(FAILURE) != _digest(message.etag, message.error):",
        "if found is None or FAILURE not in found.metadata:",
    ),
    # --- reconcile.py: the write protocol
    Mutation(
        "no final check of the source",
        "thumbnailer.reconcile",
        "if writer.overwrote or self.settings.delete_with_original:",
        "if self.settings.delete_with_original:",
    ),
    Mutation(
        "no final check of the source when thumbnails are deleted with the original",
        "thumbnailer.reconcile",
        "if writer.overwrote or self.settings.delete_with_original:",
        "if writer.overwrote:",
    ),
    Mutation(
        "a final check of the source after every upload",
        "thumbnailer.reconcile",
        "if writer.overwrote or self.settings.delete_with_original:",
        "if True:",
    ),
    Mutation(
        "no final check of the source when the reply to an overwrite is lost",
        "thumbnailer.reconcile",
        """                self.overwrote = True
                self._changed(new.key)
            if self._output.put(new, replacing=existing.etag if existing else None):
""",
        """                self._changed(new.key)
            if self._output.put(new, replacing=existing.etag if existing else None):
                self.overwrote |= existing is not None
""",
    ),
    Mutation(
        "no check of the source before an overwrite",
        "thumbnailer.reconcile",
        """                self.check_source()
                # Before""",
        """                # Before""",
    ),
    Mutation(
        "a check of the source notices only that it was deleted",
        "thumbnailer.reconcile",
        """        if now is None or now.etag != self._state.etag:
""",
        """        if now is None:
""",
    ),
    Mutation(
        "a check of the source does not notice that it was deleted",
        "thumbnailer.reconcile",
        """        if now is None or now.etag != self._state.etag:
""",
        """        if now is not None and now.etag != self._state.etag:
""",
    ),
    Mutation(
        "a changed source counts as done",
        "thumbnailer.reconcile",
        """            except SourceChanged:
                continue
""",
        """            except SourceChanged:
                return Skipped(CURRENT)
""",
    ),
    Mutation(
        "an upload is started again without limit",
        "thumbnailer.reconcile",
        "MAX_STARTS: Final = 5",
        "MAX_STARTS = 10**6",
    ),
    Mutation(
        "a thumbnail is tried again without limit",
        "thumbnailer.reconcile",
        "MAX_ROUNDS: Final = 8",
        "MAX_ROUNDS = 10**6",
    ),
    Mutation(
        "an upload is started only once",
        "thumbnailer.reconcile",
        "MAX_STARTS: Final = 5",
        "MAX_STARTS = 1",
    ),
    Mutation(
        "a thumbnail is tried only once",
        "thumbnailer.reconcile",
        "MAX_ROUNDS: Final = 8",
        "MAX_ROUNDS = 1",
    ),
    Mutation(
        "endless changes by other writers count as done",
        "thumbnailer.reconcile",
        """        raise SourceUnsettled(f"Other writers kept changing {new.key}")
""",
        "",
    ),
    Mutation(
        "every existing thumbnail counts as current",
        "thumbnailer.reconcile",
        "if existing and self._should_stay(new.key, existing, ours, remake=bool(remake)):",
        "if existing:",
    ),
    Mutation(
        "only the source's key is compared",
        "thumbnailer.provenance",
        "return self._replace(modified=LONG_AGO) == other._replace(modified=LONG_AGO)",
        "return self.key == other.key",
    ),
    Mutation(
        "only the source's etag is compared",
        "thumbnailer.provenance",
        "return self._replace(modified=LONG_AGO) == other._replace(modified=LONG_AGO)",
        "return self.etag == other.etag",
    ),
    Mutation(
        "a thumbnail of the same bytes uploaded earlier counts as current",
        "thumbnailer.reconcile",
        """                if theirs is None or theirs.modified < ours.modified:
                    return False
""",
        "",
    ),
    Mutation(
        "no thumbnail counts as current",
        "thumbnailer.reconcile",
        "return not remake or theirs.modified > ours.modified",
        "return False",
    ),
    Mutation(
        "the newer of two sources yields",
        "thumbnailer.provenance",
        "if found.key != wanted.key and not wanted.is_newer_than(found):",
        "if found.key != wanted.key:",
    ),
    Mutation(
        "the older of two sources does not yield",
        "thumbnailer.provenance",
        "if found.key != wanted.key and not wanted.is_newer_than(found):",
        "if False:",
    ),
    Mutation(
        "of two sources with the same time neither is newer",
        "thumbnailer.provenance",
        "(self.modified, self.key) > (other.modified, other.key)",
        "self.modified > other.modified",
    ),
    Mutation(
        "thumbnails of different provenance have the same bytes",
        "thumbnailer.reconcile",
        "encoder.mark(each.data, ours.digest())",
        "each.data",
    ),
    Mutation(
        "a thumbnail that could not be created counts as current",
        "thumbnailer.reconcile",
        "if not is_new:",
        "if False:",
    ),
    Mutation(
        "the last width is left out",
        "thumbnailer.reconcile",
        """            for key, body, content_type, ours in outputs
        ]
""",
        """            for key, body, content_type, ours in outputs[:-1]
        ]
        outputs = outputs[:-1]
""",
    ),
    Mutation(
        "no manifest is written",
        "thumbnailer.reconcile",
        "if not self.settings.write_manifest or writer.owner is not None or writer.occupied:",
        "if True:",
    ),
    Mutation(
        "a source that does not own the thumbnails writes a manifest",
        "thumbnailer.reconcile",
        "if not self.settings.write_manifest or writer.owner is not None or writer.occupied:",
        "if not self.settings.write_manifest or writer.occupied:",
    ),
    Mutation(
        "a thumbnail with other settings counts as current",
        "thumbnailer.provenance",
        "return self._replace(modified=LONG_AGO) ==",
        "return self._replace(modified=LONG_AGO, fingerprint=other.fingerprint) ==",
    ),
    # --- reconcile.py, provenance.py and settings.py: the focus of a source
    Mutation(
        "a crop of another focus counts as current",
        "thumbnailer.provenance",
        "return self._replace(modified=LONG_AGO) ==",
        "return self._replace(modified=LONG_AGO, focus=other.focus) ==",
    ),
    Mutation(
        "a check of the source does not notice another focus",
        "thumbnailer.reconcile",
        "if self._settings.crops and now.metadata.get(FOCUS) != self._state.metadata.get(FOCUS):",
        "if False:",
    ),
    Mutation(
        "only_missing takes no source to have a focus",
        "thumbnailer.reconcile",
        "etag, (focus, _) = source.etag, self.settings.focus(source.metadata)",
        "etag = source.etag",
    ),
    Mutation(
        "only_missing takes no source whose etag it knows to have a focus",
        "thumbnailer.reconcile",
        "if etag is None or self.settings.crops:",
        "if etag is None:",
    ),
    Mutation(
        "the provenance of a manifest has no focus",
        "thumbnailer.settings",
        'focus=focus if self.crops else ""',
        'focus=""',
    ),
    Mutation(
        "the provenance of a plain width has the focus",
        "thumbnailer.settings",
        "focus=focus if spec.size.crops else",
        "focus=focus if self.crops else",
    ),
    Mutation(
        "a crop does not show the focus that it names",
        "thumbnailer.reconcile",
        "parse_focus(focus) if focus else None",
        "None",
    ),
    Mutation(
        "a wrong focus is an unexpected error",
        "thumbnailer.settings",
        """        except ValueError as error:
            return "", f"the metadata""",
        """        except KeyError as error:
            return "", f"the metadata""",
    ),
    # --- reconcile.py and handler.py: what is invalidated in the CDN
    Mutation(
        "an overwrite is not invalidated",
        "thumbnailer.reconcile",
        "                self._changed(new.key)\n",
        "",
    ),
    Mutation(
        "an overwrite without a reply is not invalidated",
        "thumbnailer.reconcile",
        """                self._changed(new.key)
            if self._output.put(new, replacing=existing.etag if existing else None):
""",
        """                pass
            if self._output.put(new, replacing=existing.etag if existing else None):
                if existing:
                    self._changed(new.key)
""",
    ),
    Mutation(
        "a first upload is invalidated",
        "thumbnailer.reconcile",
        "            self.wrote |= is_new\n",
        "            self.wrote |= is_new\n            self._changed(new.key)\n",
    ),
    Mutation(
        "a thumbnail that is current is invalidated",
        "thumbnailer.reconcile",
        """remake=bool(remake)):
                return
""",
        """remake=bool(remake)):
                self._changed(new.key)
                return
""",
    ),
    Mutation(
        "a deletion is not invalidated",
        "thumbnailer.reconcile",
        "                self.changed(key)  # before the reply, which may be lost\n",
        "",
    ),
    Mutation(
        "a deletion without a reply is not invalidated",
        "thumbnailer.reconcile",
        """                self.changed(key)  # before the reply, which may be lost
                tried[key] = _delete(output, key, state, upload.key)
""",
        """                tried[key] = _delete(output, key, state, upload.key)
                self.changed(key)
""",
    ),
    Mutation(
        "an event that fails temporarily invalidates nothing",
        "thumbnailer.handler",
        "if changed and self.settings.distribution:",
        """if (
            changed
            and self.settings.distribution
            and not any(isinstance(each, TransientError) for _, each in outcomes)
        ):""",
    ),
    # --- reconcile.py: objects that the function did not write
    Mutation(
        "an object without provenance is overwritten",
        "thumbnailer.reconcile",
        """                self.occupied.append(key)
                return True
""",
        """                return False
""",
    ),
    Mutation(
        "an object without provenance counts as a thumbnail",
        "thumbnailer.reconcile",
        """                self.occupied.append(key)
                return True
""",
        """                return True
""",
    ),
    Mutation(
        "occupied keys are no failure",
        "thumbnailer.reconcile",
        "if writer.occupied and writer.owner is None:",
        "if False:",
    ),
    Mutation(
        "an occupied key stops the other thumbnails",
        "thumbnailer.reconcile",
        "if not is_new:",
        "if not is_new and not self.occupied:",
    ),
    Mutation(
        "a manifest is written although a thumbnail's key is occupied",
        "thumbnailer.reconcile",
        "or writer.owner is not None or writer.occupied:",
        "or writer.owner is not None:",
    ),
    Mutation(
        "occupied keys are a failure of bytes that were not read",
        "thumbnailer.reconcile",
        "self._give_up(upload, found.state.etag, _key_occupied(writer.occupied))",
        "raise Failed(_key_occupied(writer.occupied), upload.etag)",
    ),
    Mutation(
        "only_missing takes occupied keys for current thumbnails",
        "thumbnailer.reconcile",
        """                    occupied.append(key)
        """,
        """                    pass
        """,
    ),
    Mutation(
        "only_missing fails for occupied keys without a check of the source",
        "thumbnailer.reconcile",
        "self._give_up(upload, etag, _key_occupied(occupied))",
        "raise Failed(_key_occupied(occupied), etag)",
    ),
    Mutation(
        "only_missing gives up a source that changes while its keys are checked",
        "thumbnailer.reconcile",
        "            with suppress(SourceChanged):\n",
        "            if True:\n",
    ),
    # --- reconcile.py: deletions
    Mutation(
        "nothing is deleted",
        "thumbnailer.reconcile",
        "for key, state in made:",
        "for key, state in ():",
    ),
    Mutation(
        "thumbnails of another source are deleted",
        "thumbnailer.reconcile",
        "return theirs is not None and theirs.key == source_key",
        "return theirs is not None",
    ),
    Mutation(
        "objects without provenance are deleted",
        "thumbnailer.reconcile",
        "return theirs is not None and theirs.key == source_key",
        "return theirs is None or theirs.key == source_key",
    ),
    Mutation(
        "only what the settings name is deleted",
        "thumbnailer.reconcile",
        "listing = _list(output, wide)",
        "listing = Listing((), more=True)",
    ),
    Mutation(
        "only what begins like the names of the current template is deleted",
        "thumbnailer.reconcile",
        "wide, narrow = self.settings.key_prefixes(source_key)",
        "narrow = wide = self.settings.key_prefixes(source_key)[1]",
    ),
    Mutation(
        "manifests are deleted after thumbnails",
        "thumbnailer.reconcile",
        "key=lambda each: each[0] not in manifests",
        "key=lambda each: each[0] in manifests",
    ),
    Mutation(
        "deletions are unconditional",
        "thumbnailer.storage.boto3_bucket",
        "(self._client.delete_object, Key=key, IfMatch=f'\"{replacing}\"')",
        "(self._client.delete_object, Key=key)",
    ),
    Mutation(
        "no check of the source after a deletion",
        "thumbnailer.reconcile",
        "if tried and source.head(upload.key):",
        "if False:",
    ),
    Mutation(
        "no check of the source after a deletion whose reply was lost",
        "thumbnailer.reconcile",
        "if tried and source.head(upload.key):",
        "if any(tried.values()) and source.head(upload.key):",
    ),
    Mutation(
        "a deletion gives up when another writer was faster",
        "thumbnailer.reconcile",
        """        if output.delete(key, replacing=existing.etag):
            return True
""",
        """        return output.delete(key, replacing=existing.etag)
""",
    ),
    # --- reconcile.py: failures
    Mutation(
        "a failure of replaced bytes sends a dead-letter message",
        "thumbnailer.reconcile",
        """                if now is None or etag not in (None, now.etag):
                    raise SourceChanged
""",
        "",
    ),
    Mutation(
        "a failure of a deleted source sends a dead-letter message",
        "thumbnailer.reconcile",
        """                if now is None or etag not in (None, now.etag):
                    raise SourceChanged
""",
        """                if now is not None and etag not in (None, now.etag):
                    raise SourceChanged
""",
    ),
    Mutation(
        "a permanent failure is ignored",
        "thumbnailer.handler",
        "upload, error = upload._replace(etag=failed.etag), failed.error",
        'return upload, Skipped("unreadable")',
    ),
    Mutation(
        "only_missing accepts any thumbnail",
        "thumbnailer.reconcile",
        """                case _:
                    return False
        if occupied:""",
        """                case _:
                    continue
        if occupied:""",
    ),
    # --- storage: responses of the clients
    Mutation(
        "409 and 412 count as success",
        "thumbnailer.storage.obstore_bucket",
        """ does not exist") from error
            return False
""",
        """ does not exist") from error
            return True
""",
    ),
    Mutation(
        "a missing bucket counts as a missing object",
        "thumbnailer.storage.obstore_bucket",
        "if NO_BUCKET in str(error):",
        "if False:",
        times=2,
    ),
    Mutation(
        "obstore: a write without a response counts as success",
        "thumbnailer.storage.obstore_bucket",
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
        "obstore: a HEAD or GET without a response counts as a missing object",
        "thumbnailer.storage.obstore_bucket",
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
        "boto3: every error response counts as a missing object",
        "thumbnailer.storage.boto3_bucket",
        """            raise StorageUnavailable(f"{where}: {error}") from error
        except (BotoCoreError, HTTPClientError)""",
        """            return None
        except (BotoCoreError, HTTPClientError)""",
    ),
    Mutation(
        "boto3: a request without a response counts as a missing object",
        "thumbnailer.storage.boto3_bucket",
        """        except (BotoCoreError, HTTPClientError) as error:
            raise StorageUnavailable(f"{where}: {error}") from error


""",
        """        except (BotoCoreError, HTTPClientError) as error:
            return None


""",
    ),
    Mutation(
        "boto3: 409 is an unexpected error",
        "thumbnailer.storage.boto3_bucket",
        "MISSING_CODES | CHANGED_CODES:",
        'MISSING_CODES | CHANGED_CODES - {"ConditionalRequestConflict"}:',
    ),
    Mutation(
        "obstore: 409 and 412 to an overwrite are unexpected errors",
        "thumbnailer.storage.obstore_bucket",
        "except (AlreadyExistsError, FileNotFoundError, PreconditionError) as error:",
        "except (AlreadyExistsError, FileNotFoundError) as error:",
    ),
    Mutation(
        "obstore: 404 to an overwrite is an unexpected error",
        "thumbnailer.storage.obstore_bucket",
        "except (AlreadyExistsError, FileNotFoundError, PreconditionError) as error:",
        "except (AlreadyExistsError, PreconditionError) as error:",
    ),
    Mutation(
        "boto3 does not read headers that obstore cannot read",
        "thumbnailer.storage.s3_bucket",
        """        except UnreadableHeaderError:
            return self._boto3().get(key)
""",
        """        except UnreadableHeaderError:
            return None
""",
    ),
    Mutation(
        "boto3 does not look at an object whose headers obstore cannot read",
        "thumbnailer.storage.s3_bucket",
        """        except UnreadableHeaderError:
            return self._boto3().head(key)
""",
        """        except UnreadableHeaderError:
            return None
""",
    ),
    Mutation(
        "obstore handles every key",
        "thumbnailer.storage.s3_bucket",
        "return self._boto3() if AWKWARD_KEY.search(key) else self._fitting(ObstoreBucket)",
        "return self._fitting(ObstoreBucket)",
    ),
    # --- handler.py, dead_letters.py and events.py
    Mutation(
        "dead-letter messages are sent before a transient error is raised",
        "thumbnailer.handler",
        """        if transient:
            first""",
        """        self._send_dead_letters(outcomes, request_id)
        if transient:
            first""",
    ),
    Mutation(
        "a transient error is ignored",
        "thumbnailer.handler",
        """        if transient:
            first = transient[0]
""",
        """        if False:
            first = transient[0]
""",
    ),
    Mutation(
        "only the first upload of an event is processed",
        "thumbnailer.handler",
        "upload, delivery) for upload in delivery.uploads",
        "upload, delivery) for upload in delivery.uploads[:1]",
    ),
    Mutation(
        "no dead-letter messages are sent",
        "thumbnailer.handler",
        "        self.queue.send(message)",
        "        pass",
    ),
    Mutation(
        "a dead-letter message names the event's etag instead of the etag that failed",
        "thumbnailer.handler",
        "upload, error = upload._replace(etag=failed.etag), failed.error",
        "error = failed.error",
    ),
    Mutation(
        "a message without a response of SQS counts as sent",
        "thumbnailer.dead_letters",
        """raise QueueUnavailable(f"No dead-letter message for {message.key}: {error}") from error
""",
        """return
""",
    ),
    Mutation(
        "a replay does not raise transient errors",
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
