"""The write protocol: which thumbnails exist in the end, whatever happens in between."""

import gzip
from collections.abc import Callable
from copy import replace
from datetime import timedelta
from typing import Any

import pytest
from memory_bucket import MemoryBucket
from pictures import decoded, encoded, jpeg
from PIL import Image

from thumbnailer import reconcile
from thumbnailer.dead_letters import error_summary
from thumbnailer.errors import (
    CorruptImage,
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
    UnsupportedImage,
)
from thumbnailer.events import Upload
from thumbnailer.imaging import (
    ENCODERS,
    OUTPUT_FORMATS,
    Made,
    Size,
    fingerprint,
    make_thumbnails,
    parse_sizes,
)
from thumbnailer.provenance import Provenance
from thumbnailer.reconcile import Done, Failed, Reconciler, Skipped
from thumbnailer.settings import Settings
from thumbnailer.storage import Headers, Object, State, Stored
from thumbnailer.telemetry import Telemetry

SETTINGS = Settings("output", "https://sqs.example/1/dead-letters")
P = jpeg((640, 480), quality=90)
Q = jpeg((640, 480), quality=40)
"""Two versions of a source, called as in `thumbnailer.reconcile`."""

KEY = "uploads/a/photo.jpg"
THUMBNAILS = ("a/photo_128w.webp", "a/photo_512w.webp")


class Pipeline:
    """An input and an output bucket in memory, and reconcilers that use them."""

    settings = SETTINGS

    def __init__(self, format_name: str = "webp") -> None:
        self.settings = self.settings._replace(formats=(format_name,))
        self.thumbnails = (f"a/photo_128w.{format_name}", f"a/photo_512w.{format_name}")
        """Keys of the thumbnails of KEY."""
        self.input = MemoryBucket("input")
        self.output = MemoryBucket("output")

    def reconciler(self, settings: Settings | None = None) -> Reconciler:
        """Return a reconciler as in one invocation, with 20 s left."""
        buckets = {"input": self.input, "output": self.output}
        settings = settings or self.settings
        return Reconciler(
            settings, Telemetry("ERROR"), lambda name: buckets[name], lambda: 20.0, 20.0
        )

    def process(self, key: str = KEY, **options: Any) -> Done | Skipped:
        """Reconcile one upload."""
        return self.reconciler().process(Upload("input", key), **options)

    def requests(self) -> list[tuple[str, str]]:
        """Return the requests to both buckets since the last call."""
        requests = self.input.requests + self.output.requests
        self.input.requests, self.output.requests = [], []
        return requests

    def shows(self, source: bytes, key: str = KEY) -> bool:
        """Check that both thumbnails are those of `source`, and that their metadata names `key`."""
        made = make_thumbnails(source, self.settings.specs, SETTINGS.memory_mb)
        for thumbnail in made.thumbnails:
            name = thumbnail.spec.format
            state, body = self.output.objects[
                self.settings.thumbnail_key(key, thumbnail.spec.size, name)
            ]
            provenance = Provenance.of(state.metadata)
            if provenance is None or provenance.key != key:
                return False
            if body != ENCODERS[name].mark(thumbnail.data, provenance.digest()):
                return False
        return True


@pytest.fixture
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    """Return a pipeline whose buckets are empty. It makes WebP without `in_each_format`."""
    return Pipeline(getattr(request, "param", "webp"))


in_each_format = pytest.mark.parametrize("pipeline", OUTPUT_FORMATS, indirect=True)
"""For the tests that depend on the provenance mark, which each format has in a place of its own."""


def once(bucket: MemoryBucket, request: str, action: Callable[[], object]) -> None:
    """Run `action` just before the next `request` to `bucket`, and not again."""

    def before(name: str, _key: str) -> None:
        if name == request:
            bucket.before = lambda _request, _key: None
            action()

    bucket.before = before


@in_each_format
def test_a_first_upload_costs_one_get_and_one_put_for_each_width(pipeline: Pipeline) -> None:
    """There are no other requests, and the outcome has the keys and bytes of the thumbnails."""
    pipeline.input.upload(KEY, P)
    outcome = pipeline.process()
    assert pipeline.requests() == [("get", KEY), *[("put", key) for key in pipeline.thumbnails]]
    assert pipeline.shows(P)
    assert isinstance(outcome, Done)
    assert [(each.spec.size.width, each.key, each.bytes) for each in outcome.thumbnails] == [
        (width, key, len(pipeline.output.objects[key][1]))
        for width, key in zip((128, 512), pipeline.thumbnails, strict=True)
    ]


@in_each_format
def test_the_metadata_of_a_thumbnail_names_its_source(pipeline: Pipeline) -> None:
    """It has source-key (percent-encoded), source-etag, source-modified and recipe."""
    source = pipeline.input.upload("uploads/å +.jpg", P)
    pipeline.process("uploads/å +.jpg")
    [(key, (state, _)), _] = pipeline.output.objects.items()
    assert key.startswith("å +_128w.")
    assert dict(state.metadata) == {
        "source-key": "uploads/%C3%A5%20%2B.jpg",
        "source-etag": source.etag,
        "source-modified": source.modified.isoformat(),
        "recipe": fingerprint(pipeline.settings.specs[0]),
    }


def test_a_long_key_fits_into_the_metadata(pipeline: Pipeline) -> None:
    """A key of 1,012 bytes stays below the 2 KB of metadata that S3 allows, and is recognised."""
    key = "uploads/" + "😀" * 251
    pipeline.input.upload(key, P)
    pipeline.process(key)
    assert len(pipeline.output.objects) == 2
    for state, _ in pipeline.output.objects.values():
        assert sum(len(name) + len(value) for name, value in state.metadata.items()) < 2000
        assert all(value.isascii() for value in state.metadata.values())
    assert pipeline.process(key) == Skipped("thumbnails are current")


def test_a_broken_profile_is_logged(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be kept is logged with the key and the reason; the thumbnails are made."""
    logged: list[tuple[str, str]] = []
    monkeypatch.setattr(
        Telemetry, "degraded", lambda _self, _bucket, key, reason: logged.append((key, reason))
    )
    pipeline.input.upload(KEY, jpeg((64, 48), icc_profile=b"not a profile"))
    assert isinstance(pipeline.process(), Done)
    [(key, reason)] = logged
    assert key == KEY
    assert "profile" in reason


@in_each_format
def test_a_duplicate_event_writes_nothing(pipeline: Pipeline) -> None:
    """When the same event arrives ten times, each thumbnail is written once."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    before = dict(pipeline.output.objects)
    for _ in range(9):
        assert pipeline.process() == Skipped("thumbnails are current")
    assert pipeline.output.objects == before


@in_each_format
def test_overwriting_the_source_replaces_the_thumbnails(pipeline: Pipeline) -> None:
    """Q replaces P: the thumbnails are those of Q, and the source is checked after the last PUT."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    pipeline.input.upload(KEY, Q)
    pipeline.requests()
    pipeline.process()
    assert pipeline.shows(Q)
    assert pipeline.requests().count(("head", KEY)) == 3  # before each overwrite, and at the end


def test_another_fingerprint_replaces_the_thumbnails(pipeline: Pipeline) -> None:
    """After the quality is changed, the next event of a source replaces its thumbnails."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    lower = replace(SETTINGS, quality=10)
    assert isinstance(pipeline.reconciler(lower).process(Upload("input", KEY)), Done)
    assert pipeline.output.objects[THUMBNAILS[0]][0].metadata["recipe"] == fingerprint(
        lower.specs[0]
    )


@in_each_format
def test_an_older_event_that_finishes_last_does_not_win(pipeline: Pipeline) -> None:
    """A stalled worker that has read P does not overwrite the thumbnails of Q."""
    pipeline.input.upload(KEY, P)

    def overtake() -> None:
        pipeline.input.upload(KEY, Q)
        pipeline.process()

    once(pipeline.output, "put", overtake)
    pipeline.process()
    assert pipeline.shows(Q)


@in_each_format
def test_a_stalled_writer_of_q_does_not_win_when_the_source_is_p_again(pipeline: Pipeline) -> None:
    """The source is P, Q and P again while a worker is about to overwrite P's thumbnails with Q's.

    All of this happens within one second, which is the resolution of S3's times. The worker of the
    second P finds P's thumbnails current and writes nothing, so If-Match does not stop the stalled
    worker. Only its last check of the source does.
    """
    pipeline.input.tick = timedelta(0)
    pipeline.input.upload(KEY, P)
    pipeline.process()
    pipeline.input.upload(KEY, Q)

    def revert(request: str, key: str) -> None:
        if request == "put" and key == pipeline.thumbnails[0] and len(pipeline.output.requests) > 2:
            pipeline.output.before = lambda _request, _key: None
            pipeline.input.upload(KEY, P)
            assert pipeline.process() == Skipped("thumbnails are current")

    pipeline.output.requests = []
    pipeline.output.before = revert
    pipeline.process()
    assert pipeline.shows(P)


@in_each_format
def test_the_source_is_checked_last_even_if_the_reply_to_the_overwrite_is_lost(
    pipeline: Pipeline,
) -> None:
    """As in the test above, a worker of Q is stalled, but the reply to its overwrite is lost.

    Its client repeats the PUT, is refused, and the worker finds the thumbnail that it wrote itself.
    That is current, as if the worker had overwritten nothing.
    """
    one_width = replace(pipeline.settings, sizes=(Size.of_width(512),))
    upload = Upload("input", KEY)
    pipeline.input.tick = timedelta(0)
    pipeline.input.upload(KEY, P)
    pipeline.reconciler(one_width).process(upload)
    pipeline.input.upload(KEY, Q)
    real = pipeline.output.put

    def put(new: Object, *, replacing: str | None) -> bool:
        if replacing is None:
            return real(new, replacing=replacing)
        pipeline.output.put = real  # type: ignore[method-assign]
        pipeline.input.upload(KEY, P)
        assert pipeline.reconciler(one_width).process(upload) == Skipped("thumbnails are current")
        assert real(new, replacing=replacing)
        return real(new, replacing=replacing)  # 412

    pipeline.output.put = put  # type: ignore[method-assign]
    pipeline.reconciler(one_width).process(upload)
    provenance = Provenance.of(pipeline.output.objects[pipeline.thumbnails[1]][0].metadata)
    assert provenance is not None
    assert provenance.etag == pipeline.input.objects[KEY][0].etag


def test_the_source_is_checked_last_even_if_only_one_width_is_overwritten(
    pipeline: Pipeline,
) -> None:
    """One thumbnail is overwritten, and the other is new: the source is checked after both."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    del pipeline.output.objects[THUMBNAILS[1]]
    pipeline.input.upload(KEY, Q)
    pipeline.requests()
    pipeline.process()
    assert pipeline.requests().count(("head", KEY)) == 2  # before the overwrite, and at the end


@in_each_format
def test_a_write_whose_reply_is_lost_counts_as_current(pipeline: Pipeline) -> None:
    """The client's retry of a PUT that took effect gets 412; the object found there is current."""
    pipeline.input.upload(KEY, P)
    real = pipeline.output.put

    def put(new: Object, *, replacing: str | None) -> bool:
        real(new, replacing=replacing)
        return False

    pipeline.output.put = put  # type: ignore[method-assign]
    assert pipeline.process() == Skipped("thumbnails are current")
    assert pipeline.shows(P)


@pytest.mark.parametrize("times", [1, 3])
def test_a_put_that_is_refused_although_no_object_exists_is_repeated(
    pipeline: Pipeline, times: int
) -> None:
    """S3 answers 409 while another request is under way. Nothing is there yet, so PUT again."""
    pipeline.input.upload(KEY, P)
    real = pipeline.output.put
    refused = 0

    def put(new: Object, *, replacing: str | None) -> bool:
        nonlocal refused
        if refused < times:
            refused += 1
            return False
        return real(new, replacing=replacing)

    pipeline.output.put = put  # type: ignore[method-assign]
    assert isinstance(pipeline.process(), Done)
    assert pipeline.shows(P)


@in_each_format
def test_an_overwrite_that_is_refused_starts_from_what_is_there_now(pipeline: Pipeline) -> None:
    """Another writer was faster between HEAD and PUT (412): check its thumbnail, and replace it."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    pipeline.input.upload(KEY, Q)
    state, body = pipeline.output.objects[pipeline.thumbnails[0]]
    puts = 0

    def before(request: str, key: str) -> None:
        nonlocal puts
        if request == "put" and key == pipeline.thumbnails[0]:
            puts += 1
            if puts == 2:  # with If-Match: somebody writes P's thumbnail again, with another etag
                headers = Headers("image/webp", "", state.metadata)
                pipeline.output.upload(key, body + b"\0", headers)

    pipeline.output.before = before
    pipeline.process()
    assert puts == 3
    assert pipeline.shows(Q)


def test_endlessly_refused_writes_are_a_transient_error(pipeline: Pipeline) -> None:
    """The number of attempts is limited; then the event is left to its retry."""
    pipeline.input.upload(KEY, P)
    pipeline.output.put = lambda *_args, **_kwargs: False  # type: ignore[method-assign]
    with pytest.raises(SourceUnsettled):
        pipeline.process()


def test_an_endlessly_changing_source_is_a_transient_error(pipeline: Pipeline) -> None:
    """A source that changes during every attempt is left to the retry of its event."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    pipeline.input.upload(KEY, Q)
    pipeline.input.after = lambda request, _key: (
        pipeline.input.upload(
            KEY, jpeg((64, 64), comment=str(len(pipeline.input.requests)).encode())
        )
        and None
        if request == "get"
        else None
    )
    with pytest.raises(SourceUnsettled):
        pipeline.process()


def test_a_source_that_is_gone_is_skipped(pipeline: Pipeline) -> None:
    """An event whose object has been deleted meanwhile leaves nothing to do."""
    assert pipeline.process() == Skipped("the source is gone")
    assert pipeline.output.requests == []


def test_a_source_deleted_while_it_is_processed_overwrites_nothing(pipeline: Pipeline) -> None:
    """Where the source is deleted between GET and overwrite, the older thumbnails stay."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    before = dict(pipeline.output.objects)
    pipeline.input.upload(KEY, Q)
    once(pipeline.output, "head", pipeline.input.objects.clear)
    assert pipeline.process() == Skipped("the source is gone")
    assert pipeline.output.objects == before


@in_each_format
@pytest.mark.parametrize("order", [("a.jpg", "a.png"), ("a.png", "a.jpg")])
def test_the_newer_of_two_colliding_sources_wins_in_any_order(
    pipeline: Pipeline, order: tuple[str, str]
) -> None:
    """The thumbnails of a.jpg and a.png have the same keys; they belong to the newer upload."""
    pipeline.input.upload("uploads/a.jpg", P)
    pipeline.input.upload("uploads/a.png", Q)
    for name in order:
        pipeline.process(f"uploads/{name}")
    assert pipeline.shows(Q, "uploads/a.png")


def test_of_colliding_sources_of_the_same_second_the_greater_key_wins(pipeline: Pipeline) -> None:
    """S3 reports whole seconds. The key decides a tie, so that all workers agree."""
    for name, body in (("uploads/a.jpg", P), ("uploads/a.png", Q)):
        state = pipeline.input.upload(name, body)
        moment = pipeline.input.objects["uploads/a.jpg"][0].modified
        pipeline.input.objects[name] = (replace(state, modified=moment), body)
    for name in ("uploads/a.png", "uploads/a.jpg", "uploads/a.png"):
        pipeline.process(name)
    assert pipeline.shows(Q, "uploads/a.png")


@in_each_format
def test_uploading_the_same_bytes_again_makes_a_source_the_newest(pipeline: Pipeline) -> None:
    """After a.jpg, a.png and a.jpg again, a.jpg wins, although its bytes and etag are the same.

    If its second event did not write the thumbnails again, the late event of a.png would win.
    """
    pipeline.input.upload("uploads/a.jpg", P)
    pipeline.process("uploads/a.jpg")
    pipeline.input.upload("uploads/a.png", Q)
    pipeline.input.upload("uploads/a.jpg", P)
    pipeline.process("uploads/a.jpg")
    pipeline.process("uploads/a.png")
    assert pipeline.shows(P, "uploads/a.jpg")


def test_a_collision_is_logged_once_for_each_upload(pipeline: Pipeline) -> None:
    """The log has both keys, whichever source wins."""
    pipeline.input.upload("uploads/a.jpg", P)
    pipeline.input.upload("uploads/a.png", Q)
    pipeline.process("uploads/a.jpg")
    logged: list[tuple[str, str, str]] = []
    reconciler = pipeline.reconciler()
    reconciler.telemetry.collided = (  # type: ignore[method-assign]
        lambda *names: logged.append(names)
    )
    reconciler.process(Upload("input", "uploads/a.png"))
    reconciler.process(Upload("input", "uploads/a.jpg"))
    assert logged == [
        ("input", "uploads/a.png", "uploads/a.jpg"),
        ("input", "uploads/a.jpg", "uploads/a.png"),
    ]


def test_the_reason_for_a_lost_collision_names_the_newer_source(pipeline: Pipeline) -> None:
    """The older source is skipped, and the reason has the key of the newer one."""
    pipeline.input.upload("uploads/a.jpg", P)
    pipeline.input.upload("uploads/a.png", Q)
    pipeline.process("uploads/a.png")
    outcome = pipeline.process("uploads/a.jpg")
    assert isinstance(outcome, Skipped)
    assert "uploads/a.png" in outcome.reason


BY_HAND = b"written by hand"


def key_occupied(pipeline: Pipeline, *keys: str, key: str = KEY, **options: Any) -> None:
    """Check that an upload fails with KeyOccupied, and that the message names exactly `keys`."""
    with pytest.raises(Failed) as raised:
        pipeline.process(key, **options)
    assert isinstance(raised.value.error, KeyOccupied)
    assert raised.value.etag == pipeline.input.objects[key][0].etag
    message = str(raised.value)
    assert message.endswith(": " + ", ".join(keys))
    assert "prune --adopt" in message


@in_each_format
@pytest.mark.parametrize(
    "metadata", [{}, {"owner": "site"}, {"recipe": "soup"}, {"source-key": "base64,damaged!"}]
)
def test_an_object_without_provenance_is_never_replaced(
    pipeline: Pipeline, metadata: dict[str, str]
) -> None:
    """It stays as it is, the other thumbnails are written, and the upload fails permanently."""
    foreign = pipeline.output.upload(
        pipeline.thumbnails[0], BY_HAND, Headers("text/plain", "", metadata)
    )
    pipeline.input.upload(KEY, P)
    for _ in range(2):
        key_occupied(pipeline, pipeline.thumbnails[0])
        assert pipeline.output.objects[pipeline.thumbnails[0]] == (foreign, BY_HAND)
        assert set(pipeline.output.objects) == set(pipeline.thumbnails)


@pytest.mark.parametrize("missing", [(), ("source-etag",), ("source-modified", "recipe")])
def test_an_object_whose_provenance_is_incomplete_is_replaced(
    pipeline: Pipeline, missing: tuple[str, ...]
) -> None:
    """As long as it names a source, this pipeline wrote it; so did every earlier version."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    state, body = pipeline.output.objects[THUMBNAILS[0]]
    rest = {name: value for name, value in state.metadata.items() if name not in missing}
    pipeline.output.objects[THUMBNAILS[0]] = (state._replace(metadata=rest), body)
    pipeline.input.upload(KEY, Q)
    assert isinstance(pipeline.process(), Done)
    assert pipeline.shows(Q)


def test_there_is_no_manifest_where_a_thumbnails_key_is_occupied(pipeline: Pipeline) -> None:
    """A manifest says that all thumbnails exist. An occupied manifest's key costs no thumbnail."""
    pipeline.settings = replace(SETTINGS, write_manifest=True)
    pipeline.input.upload(KEY, P)
    pipeline.output.upload(THUMBNAILS[1], BY_HAND)
    key_occupied(pipeline, THUMBNAILS[1])
    assert set(pipeline.output.objects) == set(THUMBNAILS)
    del pipeline.output.objects[THUMBNAILS[1]]
    pipeline.output.upload("a/photo.json", BY_HAND)
    key_occupied(pipeline, "a/photo.json")
    assert pipeline.shows(P)
    assert pipeline.output.objects["a/photo.json"][1] == BY_HAND


def test_occupied_keys_of_a_source_that_changes_meanwhile_are_no_failure(
    pipeline: Pipeline,
) -> None:
    """The failure is that of the bytes that were read, so they are checked once more."""
    pipeline.input.upload(KEY, P)
    pipeline.output.upload(THUMBNAILS[0], BY_HAND)
    once(pipeline.input, "head", pipeline.input.objects.clear)
    assert pipeline.process() == Skipped("the source is gone")


def test_the_message_about_occupied_keys_says_what_to_do_however_long_they_are(
    pipeline: Pipeline,
) -> None:
    """The advice comes before the keys, because a message has at most 2,000 characters."""
    key = "uploads/" + "x" * 1000 + ".jpg"
    pipeline.input.upload(key, P)
    for output in SETTINGS.outputs(key):
        pipeline.output.upload(output, BY_HAND)
    with pytest.raises(Failed) as raised:
        pipeline.process(key)
    shown = error_summary(raised.value.error)["message"]
    assert "prune --adopt" in shown
    assert SETTINGS.thumbnail_key(key, SETTINGS.sizes[0], "webp") in shown


@pytest.mark.parametrize("manifest", [False, True])
def test_only_missing_does_not_read_an_image_again_for_occupied_keys(
    pipeline: Pipeline,
    manifest: bool,  # noqa: FBT001 - parametrized
) -> None:
    """Where all other thumbnails are current, the message costs HEAD requests alone."""
    pipeline.settings = replace(SETTINGS, write_manifest=manifest)
    pipeline.input.upload(KEY, P)
    pipeline.output.upload(THUMBNAILS[0], BY_HAND)
    key_occupied(pipeline, THUMBNAILS[0])
    pipeline.requests()
    key_occupied(pipeline, THUMBNAILS[0], only_missing=True)
    heads = [("head", key) for key in THUMBNAILS]
    assert pipeline.requests() == [("head", KEY), ("head", KEY), *heads]


def test_only_missing_makes_what_is_missing_beside_occupied_keys(pipeline: Pipeline) -> None:
    """Then the image is read, and the upload still fails."""
    pipeline.input.upload(KEY, P)
    pipeline.output.upload(THUMBNAILS[0], BY_HAND)
    key_occupied(pipeline, THUMBNAILS[0], only_missing=True)
    assert set(pipeline.output.objects) == set(THUMBNAILS)


def test_only_missing_processes_a_source_that_is_not_what_the_backfill_listed(
    pipeline: Pipeline,
) -> None:
    """The etag of the listing no longer counts, neither for thumbnails nor for a failure."""
    listed = pipeline.input.upload(KEY, P).etag
    pipeline.output.upload(THUMBNAILS[0], BY_HAND)
    key_occupied(pipeline, THUMBNAILS[0])
    newer = pipeline.input.upload(KEY, Q).etag
    with pytest.raises(Failed) as raised:
        pipeline.reconciler().process(Upload("input", KEY, listed), only_missing=True)
    assert raised.value.etag == newer


def test_the_older_of_two_sources_does_not_fail_for_occupied_keys(pipeline: Pipeline) -> None:
    """The newer one has the other thumbnails, and so the failure."""
    pipeline.output.upload(THUMBNAILS[0], BY_HAND)
    pipeline.input.upload(KEY, P)
    pipeline.input.upload("uploads/a/photo.png", Q)
    key_occupied(pipeline, THUMBNAILS[0], key="uploads/a/photo.png")
    outcome = pipeline.process()
    assert isinstance(outcome, Skipped)
    assert "uploads/a/photo.png" in outcome.reason


@pytest.mark.parametrize("key", ["uploads/_image-pipeline/a.jpg", "uploads/_image-pipeline/b/c"])
@pytest.mark.parametrize("only_missing", [False, True])
def test_no_upload_gets_a_key_among_the_results_of_backfills(
    pipeline: Pipeline,
    key: str,
    only_missing: bool,  # noqa: FBT001 - parametrized
) -> None:
    """Such an upload fails permanently, before it is decoded, and nothing is written."""
    pipeline.input.upload(key, P)
    with pytest.raises(Failed, match="reserved") as raised:
        pipeline.process(key, only_missing=only_missing)
    assert isinstance(raised.value.error, KeyOccupied)
    assert pipeline.output.objects == {}


def test_a_manifest_and_a_thumbnail_of_one_source_never_share_a_key(pipeline: Pipeline) -> None:
    """Otherwise each would overwrite the other for ever."""
    template = "{stem}/{width}.json"
    pipeline.settings = replace(SETTINGS, write_manifest=True, output_key_template=template)
    pipeline.input.upload("uploads/128/128.jpg", P)
    with pytest.raises(Failed, match="OutputKeyTemplate") as raised:
        pipeline.process("uploads/128/128.jpg")
    assert isinstance(raised.value.error, KeyOccupied)
    assert pipeline.output.objects == {}


@pytest.mark.parametrize(
    ("upload", "reason"),
    [
        (Upload("input", "elsewhere/a.jpg"), "outside the prefix"),
        (Upload("input", "uploads/folder/"), "folder marker"),
        (Upload("output", "uploads/a.jpg"), "must differ"),
    ],
)
def test_an_upload_that_is_out_of_scope_is_skipped_without_a_request(
    pipeline: Pipeline, upload: Upload, reason: str
) -> None:
    """Other prefixes, folder markers and the output bucket are not read; the reason says why."""
    outcome = pipeline.reconciler().process(upload)
    assert isinstance(outcome, Skipped)
    assert reason in outcome.reason
    assert pipeline.requests() == []


def test_an_original_may_have_the_name_of_a_thumbnail(pipeline: Pipeline) -> None:
    """Outputs are recognised by their bucket and not by their name: x_128w.webp can be uploaded."""
    pipeline.input.upload("uploads/x_128w.webp", P)
    assert isinstance(pipeline.process("uploads/x_128w.webp"), Done)
    assert "x_128w_128w.webp" in pipeline.output.objects


def test_a_corrupt_upload_fails_with_the_etag_that_was_read(pipeline: Pipeline) -> None:
    """The etag identifies the damaged bytes, and nothing is written."""
    state = pipeline.input.upload(KEY, P[:2000])
    with pytest.raises(Failed) as raised:
        pipeline.process()
    assert isinstance(raised.value.error, CorruptImage)
    assert raised.value.etag == state.etag
    assert pipeline.output.objects == {}


def test_a_corrupt_upload_that_is_replaced_meanwhile_does_not_fail(pipeline: Pipeline) -> None:
    """Where corrupt bytes were replaced while they were decoded, the new ones are processed."""
    pipeline.input.upload(KEY, P[:2000])
    once(pipeline.input, "head", lambda: pipeline.input.upload(KEY, Q))
    assert isinstance(pipeline.process(), Done)
    assert pipeline.shows(Q)


def test_a_corrupt_upload_that_is_deleted_meanwhile_is_skipped(pipeline: Pipeline) -> None:
    """There is no failure, and so no dead-letter message, for an object that no longer exists."""
    pipeline.input.upload(KEY, P[:2000])
    once(pipeline.input, "head", pipeline.input.objects.clear)
    assert pipeline.process() == Skipped("the source is gone")


def test_a_corrupt_overwrite_keeps_the_earlier_thumbnails_and_says_so(pipeline: Pipeline) -> None:
    """The error message says that thumbnails of an earlier upload are still in place."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    pipeline.input.upload(KEY, b"not an image")
    with pytest.raises(Failed, match="earlier upload"):
        pipeline.process()
    assert pipeline.shows(P)


def test_thumbnails_of_another_source_are_not_called_those_of_an_earlier_upload(
    pipeline: Pipeline,
) -> None:
    """Where another source has the keys, nothing of the damaged upload is still in place."""
    pipeline.input.upload("uploads/a/photo.png", P)
    pipeline.process("uploads/a/photo.png")
    pipeline.input.upload(KEY, b"not an image")
    with pytest.raises(Failed) as raised:
        pipeline.process()
    assert "still in place" not in str(raised.value)


@pytest.mark.parametrize(("seconds", "starts"), [(4.4, False), (4.6, True)])
def test_an_upload_is_not_started_with_less_than_two_seconds_for_its_image(
    pipeline: Pipeline,
    seconds: float,
    starts: bool,  # noqa: FBT001
) -> None:
    """There is no request then, and the upload is left for another invocation."""
    pipeline.input.upload(KEY, P)
    pipeline.requests()
    reconciler = pipeline.reconciler()._replace(remaining=lambda: seconds)
    if starts:
        assert isinstance(reconciler.process(Upload("input", KEY)), Done)
        return
    with pytest.raises(OutOfTime):
        reconciler.process(Upload("input", KEY))
    assert pipeline.requests() == []


def test_a_file_with_too_many_bytes_is_refused_before_it_is_read(pipeline: Pipeline) -> None:
    """The body is not received, and the error says how much memory is enough."""
    state = pipeline.input.upload(KEY, bytes(10))

    def read() -> bytes:
        raise AssertionError

    big = replace(state, size=200_000_000)
    pipeline.input.objects[KEY] = (big, b"")
    pipeline.input.get = lambda _key: Stored(big, read)  # type: ignore[method-assign]
    with pytest.raises(Failed, match="Set LambdaMemorySize to at least 537") as raised:
        pipeline.process()
    assert isinstance(raised.value.error, ImageTooLarge)


def test_an_image_too_large_for_any_lambda_says_so(pipeline: Pipeline) -> None:
    """Where an image needs more than Lambda's maximum of 10,240 MB, no size is recommended."""
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
    data[18:26] = (60_000).to_bytes(4, "little") * 2
    pipeline.input.upload(KEY, bytes(data))
    with pytest.raises(Failed, match="No Lambda size is large enough"):
        pipeline.process()


@pytest.mark.parametrize(
    ("left", "available", "error"),
    [(22.0, 22.0, Failed), (20.0, 22.0, Failed), (10.0, 22.0, OutOfTime)],
)
def test_an_image_is_too_slow_only_if_it_had_the_time(
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
    left: float,
    available: float,
    error: type[Exception],
) -> None:
    """It fails permanently, with advice. Where other uploads took the time, it is retried."""
    given: list[float] = []

    def slow(_data: bytes, _specs: object, _memory_mb: int, seconds: float, _focus: None) -> Made:
        given.append(seconds)
        raise ImageTooSlow("The thumbnails were not made within 9 s.")

    monkeypatch.setattr(reconcile, "make_thumbnails", slow)
    pipeline.input.upload(KEY, P)
    reconciler = pipeline.reconciler()._replace(remaining=lambda: left, available=available)
    with pytest.raises(error, match="were not made within") as raised:
        reconciler.process(Upload("input", KEY))
    assert given == [left - available / 8]
    if isinstance(raised.value, Failed):
        assert isinstance(raised.value.error, ImageTooSlow)
        assert "LambdaTimeout" in str(raised.value)


def test_a_slow_image_is_reported_where_no_time_is_left_for_a_check(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry would only spend the same time again."""

    def slow(*_: object) -> Made:
        raise ImageTooSlow("slow")

    def unavailable(_key: str) -> State:
        raise StorageUnavailable("no answer")

    monkeypatch.setattr(reconcile, "make_thumbnails", slow)
    pipeline.input.upload(KEY, P)
    pipeline.input.head = unavailable  # type: ignore[method-assign]
    with pytest.raises(Failed, match="slow"):
        pipeline.process()


def test_a_thumbnail_key_beyond_the_limit_of_s3_is_a_permanent_error(pipeline: Pipeline) -> None:
    """S3 allows 1,024 bytes, which the thumbnail's key exceeds and the source's does not."""
    key = "uploads/" + "x" * 1016
    pipeline.input.upload(key, P)
    with pytest.raises(Failed) as raised:
        pipeline.process(key)
    assert isinstance(raised.value.error, KeyTooLong)


@in_each_format
def test_only_missing_costs_one_head_for_each_current_thumbnail(pipeline: Pipeline) -> None:
    """Where the event has the etag, as in a backfill, an upload that is current costs no GET."""
    etag = pipeline.input.upload(KEY, P).etag
    pipeline.process()
    pipeline.requests()
    upload = Upload("input", KEY, etag)
    outcome = pipeline.reconciler().process(upload, only_missing=True)
    assert outcome == Skipped("thumbnails are current")
    assert pipeline.requests() == [("head", key) for key in pipeline.thumbnails]


def test_only_missing_makes_missing_thumbnails(pipeline: Pipeline) -> None:
    """Where one thumbnail was deleted, an upload is processed."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    del pipeline.output.objects[THUMBNAILS[1]]
    assert isinstance(pipeline.process(only_missing=True), Done)
    assert pipeline.shows(P)


# --- provenance in the bytes, and the focus of a source -------------------------------------------
CROPS = parse_sizes("128,middle=64x64,eye=64x32:cover:attention")
LEFT, RIGHT = (
    Headers("image/jpeg", "", {"focus": focus, "name": "x"}) for focus in ("0.1,0.5", "0.9,0.5")
)


def crops_of(pipeline: Pipeline, **changes: Any) -> Pipeline:
    """Let a pipeline make CROPS."""
    pipeline.settings = pipeline.settings._replace(sizes=CROPS, **changes)
    return pipeline


def focuses(pipeline: Pipeline) -> dict[str, str | None]:
    """Return the focus that the metadata of each object of the output bucket names."""
    return {
        key.removeprefix("a/photo").strip("_").partition(".")[0]: state.metadata.get("source-focus")
        for key, (state, _) in pipeline.output.objects.items()
    }


def pictures(pipeline: Pipeline) -> dict[str, bytes]:
    """Return each thumbnail without the mark of its provenance, which must be at its end."""
    found = {}
    for key, (state, body) in pipeline.output.objects.items():
        provenance = Provenance.of(state.metadata)
        assert provenance is not None
        mark = ENCODERS[key.rpartition(".")[2]].mark_ending(provenance.digest())
        assert body.endswith(mark)
        found[key] = body.removesuffix(mark)
    return found


def degradations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the reasons that `degraded` lines will have."""
    reasons: list[str] = []
    monkeypatch.setattr(
        Telemetry, "degraded", lambda _self, _bucket, _key, reason: reasons.append(reason)
    )
    return reasons


@in_each_format
def test_equal_pictures_of_different_provenance_have_different_etags(pipeline: Pipeline) -> None:
    """So If-Match tells them apart: of a later upload, of another key, and of another focus."""
    crops_of(pipeline)
    square = jpeg((64, 64))  # no crop of the shape 64x64 cuts anything off
    etags: dict[str, set[str]] = {}
    shown: dict[str, set[bytes]] = {}
    for key, headers in ((KEY, None), (KEY, None), ("uploads/a/photo.png", None), (KEY, LEFT)):
        pipeline.input.upload(key, square, headers)
        assert isinstance(pipeline.process(key), Done)
        for output, picture in pictures(pipeline).items():
            etags.setdefault(output, set()).add(pipeline.output.objects[output][0].etag)
            shown.setdefault(output, set()).add(picture)
    assert [len(each) for each in etags.values()] == [4, 4, 4]
    whole, middle, eye = shown.values()
    assert (len(whole), len(middle)) == (1, 1)
    assert len(eye) <= 2  # 64x32 of the square is another part with a focus


@in_each_format
def test_each_format_has_its_content_type(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers go by it, whatever a key ends with."""
    written: list[str] = []
    real = pipeline.output.put

    def put(new: Object, *, replacing: str | None) -> bool:
        written.append(new.headers.content_type)
        return real(new, replacing=replacing)

    monkeypatch.setattr(pipeline.output, "put", put)
    pipeline.input.upload(KEY, P)
    pipeline.process()
    [name] = pipeline.settings.formats
    assert written == [f"image/{name}"] * 2


def test_a_wrong_focus_is_logged_once_and_ignored(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thumbnails are those without a focus, whatever an uploader wrote."""
    reasons = degradations(monkeypatch)
    crops_of(pipeline, write_manifest=True).input.tick = timedelta(0)
    pipeline.input.upload(KEY, P)
    pipeline.process()
    without = dict(objects_of(pipeline))
    assert reasons == []
    for focus in ("1.5,0", "nan,nan", "left", "", "0.5", "9" * 1500):
        pipeline.output.objects.clear()
        pipeline.input.upload(KEY, P, Headers("image/jpeg", "", {"focus": focus}))
        assert isinstance(pipeline.process(), Done)
        assert [body for _, body in pipeline.output.objects.values()] == [
            body for _, body in without.values()
        ]
        [reason] = reasons
        assert reason.startswith("the metadata focus is ignored: it must be two numbers between")
        reasons.clear()
        assert pipeline.process(only_missing=True) == Skipped("thumbnails are current")
        assert reasons == []


def test_a_focus_replaces_the_rules_of_all_crops(pipeline: Pipeline) -> None:
    """Of `center` and of `attention`. Whole pictures stay what they are."""
    crops_of(pipeline)
    portrait = jpeg((300, 600))  # each crop is a part of its height
    shown: list[list[bytes]] = []
    for focus in (None, (0.5, 0.1), (0.5, 0.9)):
        text = f"{focus[0]},{focus[1]}" if focus else None
        headers = Headers("image/jpeg", "", {"focus": text}) if text else None
        pipeline.input.upload(KEY, portrait, headers)
        assert isinstance(pipeline.process(), Done)
        assert focuses(pipeline) == {"128w": None, "middle": text, "eye": text}
        shown.append([decoded(body).tobytes() for _, body in pipeline.output.objects.values()])
        made = make_thumbnails(portrait, pipeline.settings.specs, 512, None, focus).thumbnails
        assert shown[-1] == [decoded(each.data).tobytes() for each in made]
    whole, middle, eye = (set(each) for each in zip(*shown, strict=True))
    assert (len(whole), len(middle)) == (1, 3)
    assert len(eye) >= 2  # attention may have chosen one of both itself


@pytest.mark.parametrize("sizes", ["128,512", "128,a=64x64:pad,b=64x64:contain"])
def test_a_focus_changes_nothing_where_nothing_is_cropped(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, sizes: str
) -> None:
    """No thumbnail and no manifest changes, in either version, and a wrong focus is not logged."""
    reasons = degradations(monkeypatch)
    pipeline.settings = SETTINGS._replace(sizes=parse_sizes(sizes), write_manifest=True)
    pipeline.input.tick = timedelta(0)
    pipeline.input.upload(KEY, P)
    pipeline.process()
    before = dict(objects_of(pipeline))
    pipeline.requests()
    for headers in (LEFT, RIGHT, Headers("image/jpeg", "", {"focus": "left"})):
        etag = pipeline.input.upload(KEY, P, headers).etag
        assert pipeline.process() == Skipped("thumbnails are current")
        pipeline.requests()
        upload = Upload("input", KEY, etag)
        assert pipeline.reconciler().process(upload, only_missing=True) == Skipped(
            "thumbnails are current"
        )
        assert ("head", KEY) not in pipeline.requests()  # the etag is enough
        assert dict(objects_of(pipeline)) == before
    assert reasons == []


@in_each_format
def test_only_missing_sees_a_changed_focus(pipeline: Pipeline) -> None:
    """The etag is what it was, so a HEAD of the source costs one request more, and no GET."""
    crops_of(pipeline, write_manifest=True)
    etag = pipeline.input.upload(KEY, P, LEFT).etag
    pipeline.process()
    upload = Upload("input", KEY, etag)
    pipeline.requests()
    assert pipeline.reconciler().process(upload, only_missing=True) == Skipped(
        "thumbnails are current"
    )
    heads = [("head", key) for key in pipeline.output.objects]
    assert pipeline.requests() == [("head", KEY), *heads]
    for headers in (RIGHT, None, LEFT):
        assert pipeline.input.upload(KEY, P, headers).etag == etag
        assert isinstance(pipeline.reconciler().process(upload, only_missing=True), Done)
        focus = headers.metadata["focus"] if headers else None
        assert focuses(pipeline) == {"128w": None, "middle": focus, "eye": focus, "": focus}
        assert pipeline.reconciler().process(upload, only_missing=True) == Skipped(
            "thumbnails are current"
        )


@in_each_format
def test_a_copy_in_place_with_the_same_focus_keeps_the_pictures(pipeline: Pipeline) -> None:
    """Its event records the new time; a backfill finds everything current."""
    crops_of(pipeline).input.upload(KEY, P, LEFT)
    pipeline.process()
    before = pictures(pipeline)
    spelt = Headers("image/jpeg", "", {"focus": " .10, 0.500"})
    etag = pipeline.input.upload(KEY, P, spelt).etag
    upload = Upload("input", KEY, etag)
    pipeline.requests()
    assert pipeline.reconciler().process(upload, only_missing=True) == Skipped(
        "thumbnails are current"
    )
    assert {request for request, _ in pipeline.requests()} == {"head"}
    assert isinstance(pipeline.process(), Done)
    assert pictures(pipeline) == before
    assert pipeline.process() == Skipped("thumbnails are current")


@in_each_format
def test_a_stalled_writer_of_an_older_focus_does_not_win(pipeline: Pipeline) -> None:
    """The focus is left, right and left again within a second, while a worker of right is stalled.

    As with bytes that come back, the worker of the second left finds nothing to do, and only the
    last check of the source shows the stalled one that it was late.
    """
    crops_of(pipeline).input.tick = timedelta(0)
    pipeline.input.upload(KEY, P, LEFT)
    pipeline.process()
    before = pictures(pipeline)
    pipeline.input.upload(KEY, P, RIGHT)
    puts: list[str] = []

    def revert(request: str, key: str) -> None:
        if request == "put":
            puts.append(key)
            if len(puts) > len(CROPS):  # the first ones find objects, and this one overwrites
                pipeline.output.before = lambda _request, _key: None
                pipeline.input.upload(KEY, P, LEFT)
                assert pipeline.process() == Skipped("thumbnails are current")

    pipeline.output.before = revert
    pipeline.process()
    assert len(puts) == len(CROPS) + 1
    assert pictures(pipeline) == before
    assert focuses(pipeline) == {"128w": None, "middle": "0.1,0.5", "eye": "0.1,0.5"}


def test_an_older_focus_overwrites_nothing(pipeline: Pipeline) -> None:
    """A worker that has read the older one finds the newer crops, checks, and starts again."""
    crops_of(pipeline).input.upload(KEY, P, LEFT)

    def overtake() -> None:
        pipeline.input.upload(KEY, P, RIGHT)
        pipeline.process()

    once(pipeline.output, "put", overtake)
    pipeline.process()
    assert focuses(pipeline) == {"128w": None, "middle": "0.9,0.5", "eye": "0.9,0.5"}


@pytest.mark.parametrize(("sizes", "gets"), [(CROPS, 2), (SETTINGS.sizes, 1)])
def test_a_changed_focus_starts_again_only_where_something_is_cropped(
    pipeline: Pipeline, sizes: tuple[Size, ...], gets: int
) -> None:
    """Of whole pictures, what was read is still right, and no work is done twice."""
    pipeline.settings = SETTINGS._replace(sizes=sizes)
    pipeline.input.upload(KEY, Q)
    pipeline.process()
    pipeline.input.upload(KEY, P, LEFT)
    pipeline.requests()
    once(pipeline.output, "head", lambda: pipeline.input.upload(KEY, P, RIGHT))
    assert isinstance(pipeline.process(), Done)
    assert pipeline.requests().count(("get", KEY)) == gets


def test_other_metadata_of_a_source_starts_nothing_again(pipeline: Pipeline) -> None:
    """Tags and names do not shape a thumbnail."""
    crops_of(pipeline).input.upload(KEY, Q, LEFT)
    pipeline.process()
    pipeline.input.upload(KEY, P, LEFT)
    pipeline.requests()
    renamed = Headers("image/jpeg", "", {"focus": "0.1,0.5", "name": "y"})
    once(pipeline.output, "head", lambda: pipeline.input.upload(KEY, P, renamed))
    assert isinstance(pipeline.process(), Done)
    assert pipeline.requests().count(("get", KEY)) == 1


# --- objects that S3 keeps in other ways ----------------------------------------------------------
def refuse(pipeline: Pipeline, error: Exception, *requests: str) -> None:
    """Let S3 answer `requests` for the source by `error`."""

    def before(request: str, _key: str) -> None:
        if request in requests:
            raise error

    pipeline.input.before = before


def test_an_archived_source_fails_permanently_with_its_etag(pipeline: Pipeline) -> None:
    """S3 answers its HEAD, so the etag and the earlier thumbnails are known; nothing is written."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    etag = pipeline.input.upload(KEY, Q).etag
    pipeline.requests()
    refuse(pipeline, SourceArchived("archived"), "get")
    with pytest.raises(Failed, match="still in place") as raised:
        pipeline.process()
    assert isinstance(raised.value.error, SourceArchived)
    assert raised.value.etag == etag
    assert [request for request, _ in pipeline.requests()].count("get") == 1
    assert pipeline.shows(P)


def test_an_archived_source_that_is_deleted_meanwhile_does_not_fail(pipeline: Pipeline) -> None:
    """As for any other permanent error, the source has the last word."""
    pipeline.input.upload(KEY, P)
    refuse(pipeline, SourceArchived("archived"), "get")

    def delete(request: str, key: str) -> None:
        pipeline.input.objects.pop(key, None)
        if request == "head":
            pipeline.input.before = lambda _request, _key: None
        else:
            raise SourceArchived("archived")

    pipeline.input.before = delete
    assert pipeline.process() == Skipped("the source is gone")


@pytest.mark.parametrize("only_missing", [False, True])
def test_an_encrypted_source_fails_permanently_though_its_head_is_refused(
    pipeline: Pipeline,
    only_missing: bool,  # noqa: FBT001 - parametrized
) -> None:
    """S3 answers every HEAD of an object with SSE-C by 400, without saying why."""
    pipeline.input.upload(KEY, P)

    def before(request: str, _key: str) -> None:
        raise SourceEncrypted("SSE-C") if request == "get" else StorageUnavailable("400")

    pipeline.input.before = before
    with pytest.raises(Failed) as raised:
        pipeline.process(only_missing=only_missing)
    assert isinstance(raised.value.error, SourceEncrypted)
    assert raised.value.etag is None


def upload_encoded(pipeline: Pipeline, body: bytes, encoding: str) -> None:
    """Upload a source with a Content-Encoding."""
    state = pipeline.input.upload(KEY, body)
    pipeline.input.objects[KEY] = (state._replace(encoding=encoding), body)


def test_a_source_with_content_encoding_gzip_is_inflated(pipeline: Pipeline) -> None:
    """Its thumbnails are those of the picture, and it costs no further request."""
    upload_encoded(pipeline, gzip.compress(P), "gzip")
    outcome = pipeline.process()
    assert isinstance(outcome, Done)
    assert outcome.size_in == len(gzip.compress(P))
    assert pipeline.requests() == [("get", KEY), *[("put", key) for key in THUMBNAILS]]
    assert pipeline.shows(P)


@pytest.mark.parametrize(
    ("body", "encoding", "error", "words"),
    [
        (gzip.compress(bytes(40 * 1024**2)), "gzip", ImageTooLarge, "gzip"),
        (gzip.compress(P)[:-100], "gzip", CorruptImage, "truncated"),
        (b"\x1b\x00\x80 brotli", "br", UnsupportedImage, "Content-Encoding 'br'"),
        (gzip.compress(P), "", UnsupportedImage, "Supported formats"),
    ],
)
def test_a_source_that_cannot_be_decoded_fails_permanently(
    pipeline: Pipeline, body: bytes, encoding: str, error: type[PermanentError], words: str
) -> None:
    """A gzip bomb is too large, half of it is corrupt, another encoding is not supported."""
    upload_encoded(pipeline, body, encoding)
    with pytest.raises(Failed, match=words) as raised:
        pipeline.process()
    assert type(raised.value.error) is error
    assert pipeline.output.objects == {}


# --- remake ---------------------------------------------------------------------------------------
REMAKE = Upload("input", KEY, remake=True)


def make_differently(monkeypatch: pytest.MonkeyPatch, to_differ: bytes = b"remade") -> None:
    """Let the same settings make other bytes, as a later version does for some pictures."""

    def made(*given: Any) -> Made:
        whole = make_thumbnails(*given)
        thumbnails = [each._replace(data=each.data + to_differ) for each in whole.thumbnails]
        return whole._replace(thumbnails=thumbnails)

    monkeypatch.setattr(reconcile, "make_thumbnails", made)
    mark = ENCODERS["webp"].mark
    monkeypatch.setitem(
        ENCODERS,
        "webp",
        ENCODERS["webp"]._replace(
            mark=lambda data, digest: mark(data.removesuffix(to_differ), digest)
            + to_differ * data.endswith(to_differ)
        ),
    )


def remade(pipeline: Pipeline) -> list[bool]:
    """Whether each thumbnail is one that `make_differently` made."""
    return [pipeline.output.objects[key][1].endswith(b"remade") for key in THUMBNAILS]


def test_a_remake_writes_current_thumbnails_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other event leaves them alone; the remake overwrites each over the etag that it found."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    make_differently(monkeypatch)
    assert pipeline.process() == Skipped("thumbnails are current")
    assert remade(pipeline) == [False, False]
    pipeline.requests()
    assert isinstance(pipeline.reconciler().process(REMAKE), Done)
    assert remade(pipeline) == [True, True]
    source, output = [("get", KEY), *[("head", KEY)] * 3], [("put", key) for key in THUMBNAILS]
    output += [each for key in THUMBNAILS for each in (("head", key), ("put", key))]
    assert pipeline.requests() == source + output


def test_a_remake_of_equal_bytes_can_be_repeated(pipeline: Pipeline) -> None:
    """Twice in a row, and with provenance that stays what it was: then nothing changes."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    before = {key: state._replace(modified=None) for key, (state, _) in objects_of(pipeline)}
    for _ in range(2):
        assert isinstance(pipeline.reconciler().process(REMAKE), Done)
    assert {
        key: state._replace(modified=None) for key, (state, _) in objects_of(pipeline)
    } == before
    assert pipeline.process() == Skipped("thumbnails are current")


def objects_of(pipeline: Pipeline) -> list[tuple[str, tuple[Any, bytes]]]:
    """The objects of the output bucket."""
    return list(pipeline.output.objects.items())


def test_a_remake_writes_the_manifest_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the sizes in bytes of the thumbnails, which a remake may change."""
    pipeline.settings = replace(SETTINGS, write_manifest=True)
    pipeline.input.upload(KEY, P)
    pipeline.process()
    key = pipeline.settings.manifest_key(KEY)
    earlier = pipeline.output.objects[key][1]
    make_differently(monkeypatch)
    pipeline.reconciler().process(REMAKE)
    assert pipeline.output.objects[key][1] != earlier


def test_a_remake_whose_replies_are_lost_writes_once(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that took effect looks like a refused condition, and then like another's object."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    make_differently(monkeypatch)
    real = pipeline.output.put

    def put(new: Object, *, replacing: str | None) -> bool:
        real(new, replacing=replacing)
        return False

    monkeypatch.setattr(pipeline.output, "put", put)
    pipeline.requests()
    pipeline.reconciler().process(REMAKE)
    assert remade(pipeline) == [True, True]
    puts = [key for request, key in pipeline.requests() if request == "put"]
    assert sorted(puts) == sorted(THUMBNAILS * 2)


def test_a_remake_does_not_overwrite_what_is_written_meanwhile(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that changes before its PUT is remade as it is now."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    make_differently(monkeypatch)

    def change() -> None:
        pipeline.input.upload(KEY, Q)
        pipeline.process()

    seen: list[str] = []

    def before(request: str, key: str) -> None:
        seen.append(request)
        if (request, key) == ("put", THUMBNAILS[0]) and seen.count("put") == 3:
            pipeline.output.before = lambda _request, _key: None
            change()

    pipeline.output.before = before
    pipeline.reconciler().process(REMAKE)
    monkeypatch.undo()
    for key in THUMBNAILS:
        provenance = Provenance.of(pipeline.output.objects[key][0].metadata)
        assert provenance is not None
        assert provenance.etag == pipeline.input.objects[KEY][0].etag


def test_a_remake_keeps_the_record_of_a_newer_upload_of_the_same_bytes(
    pipeline: Pipeline,
) -> None:
    """Otherwise an older upload of another source with these names would believe itself newer."""
    pipeline.input.upload(KEY, P)
    pipeline.process()

    def again() -> None:
        pipeline.input.upload(KEY, P)
        pipeline.process()

    once(pipeline.output, "head", again)
    pipeline.reconciler().process(REMAKE)
    newest = pipeline.input.objects[KEY][0].modified
    for key in THUMBNAILS:
        provenance = Provenance.of(pipeline.output.objects[key][0].metadata)
        assert provenance is not None
        assert provenance.modified == newest


def test_a_remake_leaves_newer_and_foreign_objects(pipeline: Pipeline) -> None:
    """A remake ignores what is current, and nothing else of the protocol."""
    pipeline.input.upload(KEY, P)
    pipeline.input.upload("uploads/a/photo.png", Q)
    pipeline.process("uploads/a/photo.png")
    outcome = pipeline.reconciler().process(REMAKE)
    assert isinstance(outcome, Skipped)
    assert "which is newer" in outcome.reason
    pipeline.output.upload(THUMBNAILS[0], BY_HAND)
    with pytest.raises(Failed) as raised:
        pipeline.reconciler().process(Upload("input", "uploads/a/photo.png", remake=True))
    assert isinstance(raised.value.error, KeyOccupied)
    assert pipeline.output.objects[THUMBNAILS[0]][1] == BY_HAND


@pytest.mark.parametrize("failing", ["get", "put", "head"])
def test_the_retry_after_a_failed_request_succeeds(pipeline: Pipeline, failing: str) -> None:
    """Whichever request fails, before or after it took effect, the retry makes the thumbnails."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    pipeline.input.upload(KEY, Q)

    def fail(request: str, _key: str) -> None:
        if request == failing:
            raise StorageUnavailable("503 Slow Down")

    for moment in ("before", "after"):
        for bucket in (pipeline.input, pipeline.output):
            setattr(bucket, moment, fail)
        with pytest.raises(StorageUnavailable):
            pipeline.process()
        for bucket in (pipeline.input, pipeline.output):
            setattr(bucket, moment, lambda _request, _key: None)
    pipeline.process()
    assert pipeline.shows(Q)


@in_each_format
def test_the_stored_objects_are_the_thumbnails(pipeline: Pipeline) -> None:
    """Each object is a picture that is as wide as its key says."""
    pipeline.input.upload(KEY, P)
    pipeline.process()
    for key, width in zip(pipeline.thumbnails, (128, 512), strict=True):
        assert decoded(pipeline.output.objects[key][1]).size == (width, width * 3 // 4)
