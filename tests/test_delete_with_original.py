"""Delete with original: a deleted source takes along its own outputs, and no others."""

from copy import replace

import pytest
from memory_bucket import MemoryBucket
from test_reconcile import KEY, SETTINGS, THUMBNAILS, P, Pipeline, Q, once

from thumbnailer.errors import StorageUnavailable
from thumbnailer.events import Upload
from thumbnailer.imaging import fingerprint
from thumbnailer.provenance import Provenance
from thumbnailer.reconcile import Done, Skipped
from thumbnailer.storage import Headers

DELETING = replace(SETTINGS, delete_with_original=True)
GONE = "the source is gone"


class DeletingPipeline(Pipeline):
    """A pipeline that deletes outputs with their original."""

    settings = DELETING

    def process(self, key: str = KEY, **options: bool) -> Done | Skipped:
        """Reconcile one upload, or a deletion."""
        return self.reconciler(self.settings).process(Upload("input", key), **options)

    def upload(self, key: str = KEY, body: bytes = P) -> None:
        """Upload a source, make its outputs, and forget the requests."""
        self.input.upload(key, body)
        assert isinstance(self.process(key), Done)
        self.requests()

    def delete(self, key: str = KEY) -> None:
        """Delete a source."""
        del self.input.objects[key]


@pytest.fixture
def pipeline() -> DeletingPipeline:
    """Return a pipeline whose buckets are empty."""
    return DeletingPipeline()


def test_thumbnails_are_deleted_with_their_original(pipeline: DeletingPipeline) -> None:
    """The source costs a GET and a HEAD, and each thumbnail a HEAD and a conditional DELETE."""
    pipeline.upload()
    pipeline.delete()
    assert pipeline.process() == Skipped(GONE, THUMBNAILS[::-1])
    assert pipeline.output.objects == {}
    assert pipeline.requests() == [
        ("get", KEY),
        ("head", KEY),
        *[(request, key) for key in THUMBNAILS[::-1] for request in ("head", "delete")],
    ]


def test_the_manifest_is_deleted_before_the_thumbnails(pipeline: DeletingPipeline) -> None:
    """Where a manifest exists, all thumbnails must exist, so it is deleted first."""
    pipeline.settings = replace(DELETING, write_manifest=True)
    pipeline.upload()
    pipeline.delete()
    assert pipeline.process() == Skipped(GONE, ("a/photo.json", *THUMBNAILS[::-1]))
    assert pipeline.output.objects == {}


def test_by_default_thumbnails_are_kept(pipeline: DeletingPipeline) -> None:
    """Without the setting nothing is deleted, and the output bucket gets no request."""
    pipeline.settings = SETTINGS
    pipeline.upload()
    pipeline.delete()
    assert pipeline.process() == Skipped(GONE)
    assert set(pipeline.output.objects) == set(THUMBNAILS)
    assert pipeline.requests() == [("get", KEY)]


def test_a_duplicate_deletion_event_deletes_nothing(pipeline: DeletingPipeline) -> None:
    """When the same event arrives again, there is nothing left to delete."""
    pipeline.upload()
    pipeline.delete()
    pipeline.process()
    assert pipeline.process() == Skipped(GONE)


def test_thumbnails_of_another_source_are_kept(pipeline: DeletingPipeline) -> None:
    """Where the same keys now belong to photo.png, deleting photo.jpg does not delete them."""
    pipeline.upload()
    pipeline.upload("uploads/a/photo.png", Q)
    pipeline.delete()
    assert pipeline.process() == Skipped(GONE)
    assert pipeline.shows(Q, "uploads/a/photo.png")


def test_objects_without_provenance_are_kept(pipeline: DeletingPipeline) -> None:
    """An object that was not written by this pipeline is never deleted."""
    for key in THUMBNAILS:
        pipeline.output.upload(key, b"by hand")
    assert pipeline.process() == Skipped(GONE)
    assert set(pipeline.output.objects) == set(THUMBNAILS)


def test_a_source_uploaded_again_during_the_deletion_has_thumbnails(
    pipeline: DeletingPipeline,
) -> None:
    """The last check of the source finds it, and its thumbnails are made again."""
    pipeline.upload()
    pipeline.delete()
    once(pipeline.output, "delete", lambda: pipeline.input.upload(KEY, P))
    assert isinstance(pipeline.process(), Done)
    assert pipeline.shows(P)


def test_a_source_deleted_while_thumbnails_are_written_leaves_none(
    pipeline: DeletingPipeline,
) -> None:
    """The last check after the writes notices it, because the deletion's event found none yet."""
    pipeline.input.upload(KEY, P)
    once(pipeline.output, "put", pipeline.delete)
    outcome = pipeline.process()
    assert isinstance(outcome, Skipped)
    assert outcome.reason == GONE
    assert pipeline.output.objects == {}


def test_a_thumbnail_that_changes_before_its_deletion_is_checked_again(
    pipeline: DeletingPipeline,
) -> None:
    """A DELETE is tied to the etag of the HEAD, so that another source's new thumbnail is kept."""
    pipeline.upload()
    pipeline.delete()
    state, _ = pipeline.output.objects[THUMBNAILS[1]]
    newer = Provenance("uploads/a/photo.png", "e", state.modified, fingerprint(SETTINGS.specs[0]))

    def overwrite() -> None:
        headers = Headers("image/webp", "", newer.to_metadata())
        pipeline.output.upload(THUMBNAILS[1], b"newer", headers)

    once(pipeline.output, "delete", overwrite)
    assert pipeline.process() == Skipped(GONE, (THUMBNAILS[0],))
    assert pipeline.output.objects[THUMBNAILS[1]][1] == b"newer"


def test_the_retry_after_a_lost_reply_to_a_delete_checks_the_source(
    pipeline: DeletingPipeline,
) -> None:
    """The DELETE took effect, its reply was lost, and the source is back: thumbnails are made."""
    pipeline.upload()
    pipeline.delete()

    def lose_reply(request: str, _key: str) -> None:
        if request == "delete":
            pipeline.output.after = lambda _request, _key: None
            pipeline.input.upload(KEY, P)
            raise StorageUnavailable("the reply was lost")

    pipeline.output.after = lose_reply
    with pytest.raises(StorageUnavailable):
        pipeline.process()
    assert isinstance(pipeline.process(), Done)
    assert pipeline.shows(P)


class BucketWithLostReplies(MemoryBucket):
    """Each DELETE takes effect, but its reply is lost, and the client's retry finds no object."""

    def delete(self, key: str, *, replacing: str) -> bool:
        """Delete like MemoryBucket, but return False."""
        super().delete(key, replacing=replacing)
        return False


def test_the_source_is_checked_even_if_a_client_repeated_its_delete(
    pipeline: DeletingPipeline,
) -> None:
    """The client's retry found no object, as if somebody else had deleted the thumbnail."""
    pipeline.output = BucketWithLostReplies("output")
    pipeline.upload()
    pipeline.delete()
    once(pipeline.output, "delete", lambda: pipeline.input.upload(KEY, P))
    assert isinstance(pipeline.process(), Done)
    assert pipeline.shows(P)


def test_the_deletion_of_a_source_with_too_long_a_key_is_no_failure(
    pipeline: DeletingPipeline,
) -> None:
    """Such a source never had thumbnails, so there is nothing to delete."""
    assert pipeline.process("uploads/" + "x" * 1016) == Skipped(GONE)
