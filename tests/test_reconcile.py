"""The write protocol: what the thumbnails are when all is quiet, whatever happened before."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from memory_bucket import MemoryBucket
from pictures import decoded, encoded, jpeg
from PIL import Image

from thumbnailer.errors import (
    CorruptImage,
    ImageTooLarge,
    KeyTooLong,
    SourceUnsettled,
    StorageUnavailable,
)
from thumbnailer.events import Upload
from thumbnailer.imaging import ENCODERS, Size, fingerprint, make_thumbnails
from thumbnailer.provenance import Provenance
from thumbnailer.reconcile import Done, Failed, Reconciler, Skipped
from thumbnailer.settings import Settings
from thumbnailer.storage import Object
from thumbnailer.telemetry import Telemetry

SETTINGS = Settings("output", "https://sqs.example/1/letters")
P = jpeg((640, 480), quality=90)
Q = jpeg((640, 480), quality=40)
KEY = "uploads/a/photo.jpg"
THUMBNAILS = ("a/photo_128w.webp", "a/photo_512w.webp")


class World:
    """An input and an output bucket, and pipelines over them."""

    def __init__(self) -> None:
        self.input = MemoryBucket("input")
        self.output = MemoryBucket("output")

    def pipeline(self, settings: Settings = SETTINGS, **buckets: MemoryBucket) -> Reconciler:
        named = {"input": self.input, "output": self.output} | buckets
        return Reconciler(settings, Telemetry("ERROR"), lambda name: named[name], lambda: 20.0)

    def process(self, key: str = KEY, **options: Any) -> Done | Skipped:
        return self.pipeline().process(Upload("input", key), **options)

    def requests(self) -> list[tuple[str, str]]:
        """What was asked of both buckets since the last call."""
        asked = self.input.requests + self.output.requests
        self.input.requests, self.output.requests = [], []
        return asked

    def shows(self, source: bytes, key: str = KEY) -> bool:
        """Whether both thumbnails are those of `source`, and say that they come from `key`."""
        made = make_thumbnails(source, SETTINGS.specs, SETTINGS.memory_mb)
        for thumbnail in made.thumbnails:
            state, body = self.output.objects[SETTINGS.thumbnail_key(key, thumbnail.spec.size)]
            told = Provenance.of(state.metadata)
            marked = ENCODERS["webp"].mark(thumbnail.data, told.digest()) if told else None
            if told is None or told.key != key or body != marked:
                return False
        return True


@pytest.fixture
def world() -> World:
    return World()


def once(bucket: MemoryBucket, request: str, act: Callable[[], object]) -> None:
    """Let `act` happen just before the next `request` to `bucket`, and not again."""

    def before(asked: str, _key: str) -> None:
        if asked == request:
            bucket.before = lambda _request, _key: None
            act()

    bucket.before = before


def test_the_common_case_costs_a_get_and_a_put_a_width(world: World) -> None:
    """A first upload: one GET, two PUTs, nothing else; the result tells keys and bytes."""
    world.input.upload(KEY, P)
    outcome = world.process()
    assert world.requests() == [("get", KEY), *[("put", key) for key in THUMBNAILS]]
    assert world.shows(P)
    assert isinstance(outcome, Done)
    assert [(t.size.width, t.key) for t in outcome.thumbnails] == list(
        zip((128, 512), THUMBNAILS, strict=True)
    )
    assert all(t.bytes == len(world.output.objects[t.key][1]) for t in outcome.thumbnails)


def test_metadata_tells_where_a_thumbnail_comes_from(world: World) -> None:
    """source-key (percent-encoded), source-etag, source-modified and recipe."""
    source = world.input.upload("uploads/å +.jpg", P)
    world.process("uploads/å +.jpg")
    state, _ = world.output.objects["å +_128w.webp"]
    assert dict(state.metadata) == {
        "source-key": "uploads/%C3%A5%20%2B.jpg",
        "source-etag": source.etag,
        "source-modified": source.modified.isoformat(),
        "recipe": fingerprint(SETTINGS.specs[0]),
    }


def test_a_key_of_1024_bytes_fits_into_metadata(world: World) -> None:
    """S3 allows 2 KB of metadata; a long key of emoji is still told, and known again."""
    key = "uploads/" + "😀" * 251
    world.input.upload(key, P)
    world.process(key)
    for state, _ in world.output.objects.values():
        assert sum(len(name) + len(value) for name, value in state.metadata.items()) < 2000
        assert all(value.isascii() for value in state.metadata.values())
    assert world.process(key) == Skipped("thumbnails are current")


def test_a_broken_profile_is_told_to_the_log(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an image lost on the way is logged with its key, and the thumbnails are made."""
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(
        Telemetry, "degraded", lambda _self, _bucket, key, reason: told.append((key, reason))
    )
    world.input.upload(KEY, jpeg((64, 48), icc_profile=b"not a profile"))
    assert isinstance(world.process(), Done)
    [(key, reason)] = told
    assert key == KEY
    assert "profile" in reason


def test_a_doubled_event_writes_nothing(world: World) -> None:
    """Ten times the same event: each thumbnail is written once."""
    world.input.upload(KEY, P)
    world.process()
    before = dict(world.output.objects)
    for _ in range(9):
        assert world.process() == Skipped("thumbnails are current")
    assert world.output.objects == before


def test_an_overwrite_replaces_the_thumbnails(world: World) -> None:
    """Q over P: thumbnails of Q, and the source is looked at after the last write."""
    world.input.upload(KEY, P)
    world.process()
    world.input.upload(KEY, Q)
    world.requests()
    world.process()
    assert world.shows(Q)
    assert world.requests().count(("head", KEY)) == 3  # before each overwrite, and at the end


def test_another_recipe_replaces_the_thumbnails(world: World) -> None:
    """A changed quality reaches what was there before when its source is next seen."""
    world.input.upload(KEY, P)
    world.process()
    lower = Settings("output", "https://sqs.example/1/letters", quality=10)
    assert isinstance(world.pipeline(lower).process(Upload("input", KEY)), Done)
    assert world.output.objects[THUMBNAILS[0]][0].metadata["recipe"] == fingerprint(lower.specs[0])


def test_an_older_event_that_finishes_last_does_not_win(world: World) -> None:
    """A stalled worker that read P must not put P's thumbnails over Q's."""
    world.input.upload(KEY, P)

    def overtake() -> None:
        world.input.upload(KEY, Q)
        world.process()

    once(world.output, "put", overtake)
    world.process()
    assert world.shows(Q)


def test_p_q_p_with_a_stalled_writer_ends_at_p(world: World) -> None:
    """The source goes P, Q, P while a worker holds Q ready to write over P's thumbnails.

    All in one second, as S3 counts: the worker of the second P finds P's thumbnails current and
    writes nothing, so If-Match cannot tell the stalled worker: only its last look at the source
    does.
    """
    world.input.tick = timedelta(0)
    world.input.upload(KEY, P)
    world.process()
    world.input.upload(KEY, Q)

    def revert(request: str, key: str) -> None:
        if request == "put" and key == THUMBNAILS[0] and len(world.output.requests) > 2:
            world.output.before = lambda _request, _key: None
            world.input.upload(KEY, P)
            assert world.process() == Skipped("thumbnails are current")

    world.output.requests = []
    world.output.before = revert
    world.process()
    assert world.shows(P)


def test_the_last_look_is_not_forgotten_with_a_lost_reply(world: World) -> None:
    """The stalled writer of P, Q, P again, with one width, and the reply to its write is lost.

    Its client's retry meets what it wrote itself; it looks current, as if nothing was overwritten.
    """
    one_width = Settings("output", "https://sqs.example/1/letters", sizes=(Size.of_width(512),))
    upload = Upload("input", KEY)
    world.input.tick = timedelta(0)
    world.input.upload(KEY, P)
    world.pipeline(one_width).process(upload)
    world.input.upload(KEY, Q)
    real = world.output.put

    def put(new: Object, *, replacing: str | None) -> bool:
        if replacing is None:
            return real(new, replacing=replacing)
        world.output.put = real  # type: ignore[method-assign]
        world.input.upload(KEY, P)
        assert world.pipeline(one_width).process(upload) == Skipped("thumbnails are current")
        assert real(new, replacing=replacing)
        return real(new, replacing=replacing)  # 412

    world.output.put = put  # type: ignore[method-assign]
    world.pipeline(one_width).process(upload)
    told = Provenance.of(world.output.objects[THUMBNAILS[1]][0].metadata)
    assert told is not None
    assert told.etag == world.input.objects[KEY][0].etag


def test_the_last_look_follows_any_overwrite(world: World) -> None:
    """One width overwritten, the next one new: the source is looked at once more all the same."""
    world.input.upload(KEY, P)
    world.process()
    del world.output.objects[THUMBNAILS[1]]
    world.input.upload(KEY, Q)
    world.requests()
    world.process()
    assert world.requests().count(("head", KEY)) == 2  # before the overwrite, and at the end


def test_a_lost_reply_is_not_taken_for_a_lost_race(world: World) -> None:
    """A PUT that took effect but whose retry gets 412 is seen to be ours, and current."""
    world.input.upload(KEY, P)
    real = world.output.put

    def put(new: Object, *, replacing: str | None) -> bool:
        real(new, replacing=replacing)
        return False

    world.output.put = put  # type: ignore[method-assign]
    assert world.process() == Skipped("thumbnails are current")
    assert world.shows(P)


@pytest.mark.parametrize("times", [1, 3])
def test_409_on_a_new_thumbnail_is_tried_again(world: World, times: int) -> None:
    """409 means that another request was under way: nothing there yet, so put again."""
    world.input.upload(KEY, P)
    real = world.output.put
    refused = 0

    def put(new: Object, *, replacing: str | None) -> bool:
        nonlocal refused
        if refused < times:
            refused += 1
            return False
        return real(new, replacing=replacing)

    world.output.put = put  # type: ignore[method-assign]
    assert isinstance(world.process(), Done)
    assert world.shows(P)


def test_412_on_an_overwrite_is_looked_at_again(world: World) -> None:
    """Another writer was quicker between HEAD and PUT: look, and settle what is there now."""
    world.input.upload(KEY, P)
    world.process()
    world.input.upload(KEY, Q)
    stale = world.output.objects[THUMBNAILS[0]]
    calls = 0

    def before(request: str, key: str) -> None:
        nonlocal calls
        if request == "put" and key == THUMBNAILS[0]:
            calls += 1
            if calls == 2:  # the If-Match write: someone writes P's thumbnail anew, other etag
                from thumbnailer.storage import Headers  # noqa: PLC0415

                headers = Headers("image/webp", "", stale[0].metadata)
                world.output.upload(key, stale[1] + b"\0", headers)

    world.output.before = before
    world.process()
    assert world.shows(Q)


def test_endless_rivals_end_as_transient(world: World) -> None:
    """Restarts are bounded: then the event is left to its retry."""
    world.input.upload(KEY, P)
    world.output.put = lambda *_args, **_kwargs: False  # type: ignore[method-assign]
    with pytest.raises(SourceUnsettled):
        world.process()


def test_an_endlessly_changing_source_ends_as_transient(world: World) -> None:
    """A source that is rewritten under every attempt is left to its retry."""
    world.input.upload(KEY, P)
    world.process()
    world.input.upload(KEY, Q)
    world.input.after = lambda request, _key: (
        world.input.upload(KEY, jpeg((64, 64), comment=str(len(world.input.requests)).encode()))
        and None
        if request == "get"
        else None
    )
    with pytest.raises(SourceUnsettled):
        world.process()


def test_a_source_that_is_gone_is_skipped(world: World) -> None:
    """A delete that overtakes its create leaves nothing to do."""
    assert world.process() == Skipped("the source is gone")
    assert world.output.requests == []


def test_a_source_gone_midway_stops_the_overwrite(world: World) -> None:
    """Deleted between GET and overwrite: the older thumbnails stay, nothing is written."""
    world.input.upload(KEY, P)
    world.process()
    before = dict(world.output.objects)
    world.input.upload(KEY, Q)
    once(world.output, "head", world.input.objects.clear)
    assert world.process() == Skipped("the source is gone")
    assert world.output.objects == before


@pytest.mark.parametrize("order", [("a.jpg", "a.png"), ("a.png", "a.jpg")])
def test_of_colliding_sources_the_newer_wins_in_any_order(
    world: World, order: tuple[str, str]
) -> None:
    """a.jpg and a.png share thumbnails: the newer upload has them, whichever event is last."""
    world.input.upload("uploads/a.jpg", P)
    world.input.upload("uploads/a.png", Q)
    for name in order:
        world.process(f"uploads/{name}")
    assert world.shows(Q, "uploads/a.png")


def test_colliding_sources_of_the_same_second_settle_by_key(world: World) -> None:
    """S3 tells whole seconds; a tie goes to the greater key, so that all workers agree."""
    from copy import replace  # noqa: PLC0415

    for name, body in (("uploads/a.jpg", P), ("uploads/a.png", Q)):
        state = world.input.upload(name, body)
        moment = world.input.objects["uploads/a.jpg"][0].modified
        world.input.objects[name] = (replace(state, modified=moment), body)
    for name in ("uploads/a.png", "uploads/a.jpg", "uploads/a.png"):
        world.process(name)
    assert world.shows(Q, "uploads/a.png")


def test_the_same_bytes_again_count_as_newer(world: World) -> None:
    """a.jpg, a.png, a.jpg again with the same bytes: a.jpg is the newest, in any order of events.

    If its second event left the thumbnails as they were, a.png's late one would take them.
    """
    world.input.upload("uploads/a.jpg", P)
    world.process("uploads/a.jpg")
    world.input.upload("uploads/a.png", Q)
    world.input.upload("uploads/a.jpg", P)
    world.process("uploads/a.jpg")
    world.process("uploads/a.png")
    assert world.shows(P, "uploads/a.jpg")


def test_a_collision_is_told_once_an_upload(world: World) -> None:
    """Both keys are named to the telemetry, whoever wins."""
    world.input.upload("uploads/a.jpg", P)
    world.input.upload("uploads/a.png", Q)
    world.process("uploads/a.jpg")
    told: list[tuple[str, str, str]] = []
    pipeline = world.pipeline()
    pipeline.telemetry.collided = lambda *names: told.append(names)  # type: ignore[method-assign]
    pipeline.process(Upload("input", "uploads/a.png"))
    pipeline.process(Upload("input", "uploads/a.jpg"))
    assert told == [
        ("input", "uploads/a.png", "uploads/a.jpg"),
        ("input", "uploads/a.jpg", "uploads/a.png"),
    ]


def test_the_owner_of_shared_thumbnails_is_named(world: World) -> None:
    """Whoever loses the name is told to whom."""
    world.input.upload("uploads/a.jpg", P)
    world.input.upload("uploads/a.png", Q)
    world.process("uploads/a.png")
    outcome = world.process("uploads/a.jpg")
    assert isinstance(outcome, Skipped)
    assert "uploads/a.png" in outcome.reason


def test_an_object_of_unknown_origin_is_replaced(world: World) -> None:
    """Something else that lies where a thumbnail belongs has no claim to the name."""
    world.output.upload(THUMBNAILS[0], b"not ours")
    world.input.upload(KEY, P)
    world.process()
    assert world.shows(P)


@pytest.mark.parametrize(
    ("upload", "reason"),
    [
        (Upload("input", "elsewhere/a.jpg"), "outside the prefix"),
        (Upload("input", "uploads/folder/"), "folder marker"),
        (Upload("output", "uploads/a.jpg"), "must differ"),
    ],
)
def test_what_is_not_ours_is_skipped_unread(world: World, upload: Upload, reason: str) -> None:
    """Each with its reason, and without a request."""
    outcome = world.pipeline().process(upload)
    assert isinstance(outcome, Skipped)
    assert reason in outcome.reason
    assert world.requests() == []


def test_an_original_may_be_called_like_a_thumbnail(world: World) -> None:
    """Own outputs are known by their bucket: x_128w.webp is a legal upload."""
    world.input.upload("uploads/x_128w.webp", P)
    assert isinstance(world.process("uploads/x_128w.webp"), Done)
    assert "x_128w_128w.webp" in world.output.objects


def test_a_corrupt_upload_fails_with_the_etag_that_was_read(world: World) -> None:
    """The failure names the very bytes that are at fault; nothing is written."""
    state = world.input.upload(KEY, P[:2000])
    with pytest.raises(Failed) as raised:
        world.process()
    assert isinstance(raised.value.error, CorruptImage)
    assert raised.value.etag == state.etag
    assert world.output.objects == {}


def test_a_superseded_corrupt_upload_does_not_fail(world: World) -> None:
    """Corrupt bytes that were replaced while they were read are no failure: the new ones count."""
    world.input.upload(KEY, P[:2000])
    once(world.input, "head", lambda: world.input.upload(KEY, Q))
    assert isinstance(world.process(), Done)
    assert world.shows(Q)


def test_a_corrupt_upload_that_is_gone_is_skipped(world: World) -> None:
    """Nobody needs a letter about what is no longer there."""
    world.input.upload(KEY, P[:2000])
    once(world.input, "head", world.input.objects.clear)
    assert world.process() == Skipped("the source is gone")


def test_thumbnails_of_an_earlier_upload_stay_and_the_failure_says_so(world: World) -> None:
    """A broken overwrite takes nothing away."""
    world.input.upload(KEY, P)
    world.process()
    world.input.upload(KEY, b"not an image")
    with pytest.raises(Failed, match="earlier upload"):
        world.process()
    assert world.shows(P)


def test_too_many_bytes_are_refused_unread(world: World) -> None:
    """A source that would not fit twice is not fetched; the error names what memory would do."""
    state = world.input.upload(KEY, bytes(10))
    from copy import replace  # noqa: PLC0415

    def read() -> bytes:
        raise AssertionError

    from thumbnailer.storage import Stored  # noqa: PLC0415

    big = replace(state, size=200_000_000)
    world.input.objects[KEY] = (big, b"")
    world.input.get = lambda _key: Stored(big, read)  # type: ignore[method-assign]
    with pytest.raises(Failed, match="Set LambdaMemorySize to at least 537") as raised:
        world.process()
    assert isinstance(raised.value.error, ImageTooLarge)


def test_an_image_too_large_for_any_lambda_says_so(world: World) -> None:
    """Beyond Lambda's 10,240 MB no memory size is recommended."""
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
    data[18:26] = (60_000).to_bytes(4, "little") * 2
    world.input.upload(KEY, bytes(data))
    with pytest.raises(Failed, match="No Lambda size is large enough"):
        world.process()


def test_a_thumbnail_key_beyond_s3s_limit_is_permanent(world: World) -> None:
    """1,024 bytes are the most; without a prefix to cut, a long name leaves no room."""
    key = "uploads/" + "x" * 1016
    world.input.upload(key, P)
    with pytest.raises(Failed) as raised:
        world.process(key)
    assert isinstance(raised.value.error, KeyTooLong)


def test_only_missing_costs_a_head_a_width_and_no_get(world: World) -> None:
    """With the etag known from a listing, what is already made costs HEADs alone."""
    etag = world.input.upload(KEY, P).etag
    world.process()
    world.requests()
    upload = Upload("input", KEY, etag)
    outcome = world.pipeline().process(upload, only_missing=True)
    assert outcome == Skipped("thumbnails are current")
    assert world.requests() == [("head", key) for key in THUMBNAILS]


def test_only_missing_makes_what_is_missing(world: World) -> None:
    """A width that was added, or lost, is made."""
    world.input.upload(KEY, P)
    world.process()
    del world.output.objects[THUMBNAILS[1]]
    assert isinstance(world.process(only_missing=True), Done)
    assert world.shows(P)


@pytest.mark.parametrize("request_name", ["get", "put", "head"])
def test_a_failing_request_is_healed_by_the_retry(world: World, request_name: str) -> None:
    """Whatever request fails, after it took effect or before: the event's retry ends right."""
    world.input.upload(KEY, P)
    world.process()
    world.input.upload(KEY, Q)

    def fail(asked: str, _key: str) -> None:
        if asked == request_name:
            raise StorageUnavailable("503 Slow Down")

    for moment in ("before", "after"):
        for bucket in (world.input, world.output):
            setattr(bucket, moment, fail)
        with pytest.raises(StorageUnavailable):
            world.process()
        for bucket in (world.input, world.output):
            setattr(bucket, moment, lambda _request, _key: None)
    world.process()
    assert world.shows(Q)


def test_thumbnails_are_what_is_stored(world: World) -> None:
    """The object in the bucket is a WebP of the width that its key tells."""
    world.input.upload(KEY, P)
    world.process()
    for key, width in zip(THUMBNAILS, (128, 512), strict=True):
        assert decoded(world.output.objects[key][1]).size == (width, width * 3 // 4)
