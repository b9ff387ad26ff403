"""Delete with original: a deleted source takes along its own outputs, and no others."""

from copy import replace
from typing import Any

import pytest
from memory_bucket import MemoryBucket
from test_reconcile import KEY, SETTINGS, THUMBNAILS, P, Pipeline, Q, once

from thumbnailer.errors import StorageUnavailable
from thumbnailer.imaging import fingerprint, parse_sizes
from thumbnailer.provenance import Provenance
from thumbnailer.reconcile import Done, Skipped
from thumbnailer.settings import KEY_TEMPLATE, Settings
from thumbnailer.storage import Headers
from thumbnailer.telemetry import Telemetry

DELETING = replace(SETTINGS, delete_with_original=True)
GONE = "the source is gone"


class DeletingPipeline(Pipeline):
    """A pipeline that deletes outputs with their original."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = DELETING

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
    """It costs a listing, a GET and a HEAD of the source, a HEAD and a DELETE of each thumbnail."""
    pipeline.upload()
    pipeline.delete()
    assert pipeline.process() == Skipped(GONE, THUMBNAILS)
    assert pipeline.output.objects == {}
    assert pipeline.requests() == [
        ("get", KEY),
        ("head", KEY),
        ("list", "a/photo"),
        *[(request, key) for request in ("head", "delete") for key in THUMBNAILS],
    ]


def test_the_manifest_is_deleted_before_the_thumbnails(pipeline: DeletingPipeline) -> None:
    """Where a manifest exists, all thumbnails must exist, so it is deleted first."""
    pipeline.settings = replace(DELETING, write_manifest=True)
    pipeline.upload()
    pipeline.delete()
    assert pipeline.process() == Skipped(GONE, ("a/photo.json", *THUMBNAILS))
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
    """Such a source never had thumbnails. No request names a key that S3 would refuse."""
    for template in (KEY_TEMPLATE, "thumbnails/{dir}{stem}_{width}", "t/{width}/{stem}"):
        pipeline.settings = earlier(output_key_template=template, input_prefix="u/")
        assert pipeline.process("u/" + "x" * 1022) == Skipped(GONE)
    assert all(len(key.encode()) <= 1024 for _, key in pipeline.requests())


# --- what earlier settings made ---------------------------------------------------------------
def earlier(**settings: Any) -> Settings:
    """Return the settings of DELETING with some of them different."""
    return replace(DELETING, **settings)


EARLIER = {
    "more sizes": earlier(sizes=parse_sizes("64,128,512,1024")),
    "other sizes": earlier(sizes=parse_sizes("64,9999")),
    "a manifest": earlier(write_manifest=True),
    "{ext} in the keys, with a manifest": earlier(
        write_manifest=True, output_key_template="{dir}{stem}.{ext}_{width}.webp"
    ),
    "another separator": earlier(output_key_template="{dir}{stem}-{width}px.webp"),
    "a folder for each image": earlier(output_key_template="{dir}{stem}/{width}.webp"),
    "no separator": earlier(output_key_template="{dir}{stem}{width}"),
    "another quality": earlier(quality=1),
    "a setting that deletes nothing": earlier(delete_with_original=False),
}


@pytest.mark.parametrize("settings", EARLIER.values(), ids=EARLIER)
@pytest.mark.parametrize("template", [KEY_TEMPLATE, "{dir}{stem}.{ext}_{width}.webp"])
def test_what_earlier_settings_made_is_deleted_with_the_original(
    pipeline: DeletingPipeline, settings: Settings, template: str
) -> None:
    """Sizes, manifests, qualities, and templates whose keys begin with folder and stem too."""
    for pipeline.settings in (settings, earlier(output_key_template=template)):
        pipeline.input.upload(KEY, P)
        assert isinstance(pipeline.process(), Done)
    pipeline.delete()
    pipeline.process()
    assert pipeline.output.objects == {}


@pytest.mark.parametrize("template", ["t/{width}/{dir}{stem}.webp", "{width}-{stem}"])
def test_what_earlier_settings_made_is_deleted_even_if_all_keys_begin_alike(
    pipeline: DeletingPipeline, template: str
) -> None:
    """Then the whole bucket is looked through, up to the limit, and only for the stem."""
    pipeline.settings = earlier(output_key_template=template, sizes=parse_sizes("64,128,256"))
    pipeline.upload()
    pipeline.upload("uploads/a/other.jpg")
    pipeline.settings = earlier(output_key_template=template)
    pipeline.delete()
    pipeline.process()
    assert len(pipeline.output.objects) == 3
    heads = [key for request, key in pipeline.requests() if request == "head"]
    assert heads
    assert all("photo" in key for key in heads)


def test_objects_of_other_originals_with_the_same_beginning_are_kept(
    pipeline: DeletingPipeline,
) -> None:
    """a/photo2.jpg, a/photo.jpg/x.jpg and a/photo_128w.jpg are other originals than a/photo.jpg."""
    others = ("uploads/a/photo2.jpg", "uploads/a/photo.jpg/x.jpg", "uploads/a/photo_128w.jpg")
    for key in (KEY, *others):
        pipeline.upload(key)
    pipeline.output.upload("a/photo_by-hand.webp", b"by hand")
    pipeline.delete()
    assert pipeline.process() == Skipped(GONE, THUMBNAILS)
    assert all(pipeline.shows(P, key) for key in others)
    assert pipeline.output.objects["a/photo_by-hand.webp"][1] == b"by hand"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the reasons of the warnings that are logged."""
    reasons: list[str] = []
    monkeypatch.setattr(Telemetry, "degraded", lambda *arguments: reasons.append(arguments[-1]))
    return reasons


def test_at_most_a_thousand_keys_are_checked_and_the_rest_is_logged(
    pipeline: DeletingPipeline, logged: list[str]
) -> None:
    """What the settings name, and what begins like it, is found even among more keys."""
    pipeline.settings = earlier(sizes=parse_sizes("64,128,512"), write_manifest=True)
    pipeline.upload()
    pipeline.settings = DELETING
    for number in range(1200):
        pipeline.output.upload(f"a/photo1{number:04}_128w.webp", b"")
    pipeline.delete()
    outcome = pipeline.process()
    assert isinstance(outcome, Skipped)
    assert outcome.deleted == ("a/photo.json", *THUMBNAILS, "a/photo_64w.webp")
    assert len([each for each in pipeline.requests() if each[0] == "head"]) == 1 + 1000
    (reason,) = logged
    assert "image-pipeline prune" in reason


def test_with_a_template_whose_keys_begin_alike_the_current_outputs_are_deleted(
    pipeline: DeletingPipeline, logged: list[str]
) -> None:
    """They are named, not found, so that no number of other objects hides them."""
    pipeline.settings = earlier(output_key_template="t/{width}/{dir}{stem}", write_manifest=True)
    pipeline.upload()
    for number in range(1200):
        pipeline.output.upload(f"t/0/{number}", b"")
    pipeline.delete()
    outcome = pipeline.process()
    assert isinstance(outcome, Skipped)
    assert set(outcome.deleted) == {"a/photo.json", "t/128/a/photo", "t/512/a/photo"}
    assert len(logged) == 1


def test_no_more_keys_are_checked_when_the_time_is_nearly_up(
    pipeline: DeletingPipeline, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found by then is deleted, and the rest is logged."""
    pipeline.upload()
    for number in range(500):
        pipeline.output.upload(f"a/photo~{number}", b"")
    pipeline.delete()
    left = iter([20.0, 20.0, 1.0])
    reconciler = pipeline.reconciler()._replace(remaining=lambda: next(left))
    monkeypatch.setattr(pipeline, "reconciler", lambda: reconciler)
    assert pipeline.process() == Skipped(GONE, THUMBNAILS)
    assert len([each for each in pipeline.requests() if each[0] == "head"]) == 1 + 200
    assert len(logged) == 1


def test_an_upload_lists_nothing(pipeline: DeletingPipeline) -> None:
    """Only a source that is gone costs a listing."""
    pipeline.input.upload(KEY, P)
    for _ in range(2):
        pipeline.process()
    assert "list" not in {request for request, _ in pipeline.requests()}
