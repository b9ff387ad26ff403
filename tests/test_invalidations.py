"""Invalidations in the CDN: exactly what was overwritten or deleted, and never a failure."""

import boto3
import pytest
from botocore.stub import ANY, Stubber
from memory_bucket import MemoryBucket
from pictures import jpeg

from thumbnailer import cdn
from thumbnailer.errors import StorageUnavailable
from thumbnailer.events import Upload
from thumbnailer.reconcile import Reconciler
from thumbnailer.settings import Settings
from thumbnailer.storage import Headers, Object
from thumbnailer.telemetry import Telemetry

KEY = "uploads/a/photo.jpg"
MADE = ["a/photo_128w.webp", "a/photo_512w.webp"]


class Pipeline:
    """A function's work on two buckets in memory."""

    def __init__(self, **given: object) -> None:
        self.input, self.output = MemoryBucket("input"), MemoryBucket("output")
        self.changed: list[str] = []
        self.settings = Settings("output", "https://sqs.example/1/q")._replace(**given)

    def process(self, *, remake: bool = False) -> list[str]:
        """Process an event of KEY; the keys that it reports as changed."""
        self.changed.clear()
        Reconciler(
            self.settings,
            Telemetry("ERROR"),
            bucket={"input": self.input, "output": self.output}.__getitem__,
            remaining=lambda: 20.0,
            available=20.0,
            changed=self.changed.append,
        ).process(Upload("input", KEY, remake=remake))
        return sorted(self.changed)


def test_only_what_was_overwritten_is_reported() -> None:
    """Nothing for a first upload or an event that comes twice; each thumbnail for new bytes."""
    pipeline = Pipeline()
    pipeline.input.upload(KEY, jpeg((640, 480)))
    assert pipeline.process() == []
    assert pipeline.process() == []
    pipeline.input.upload(KEY, jpeg((480, 640)))
    assert pipeline.process() == MADE
    assert pipeline.process() == []
    assert pipeline.process(remake=True) == MADE


def test_a_changed_setting_reports_what_it_changes() -> None:
    """A new format is no change of what was there; another quality is."""
    pipeline = Pipeline()
    pipeline.input.upload(KEY, jpeg())
    pipeline.process()
    pipeline.settings = pipeline.settings._replace(formats=("webp", "avif"))
    assert pipeline.process() == []
    pipeline.settings = pipeline.settings._replace(avif_quality=40)
    assert pipeline.process() == [key.replace("webp", "avif") for key in MADE]


def test_a_moved_focus_reports_the_crops() -> None:
    """Pixels of the whole picture stay, but its object records the newer upload."""
    pipeline = Pipeline()
    pipeline.settings = Settings.from_environment(
        {
            "OUTPUT_BUCKET": "output",
            "DLQ_URL": "https://sqs.example/1/q",
            "THUMB_SIZES": "avatar=64x64",
        }
    )
    pipeline.input.upload(KEY, jpeg())
    assert pipeline.process() == []
    headers = Headers("image/jpeg", "", {"focus": "0.1,0.1"})
    pipeline.input.upload(KEY, jpeg(), headers)
    assert pipeline.process() == ["a/photo_avatar.webp"]


def test_what_is_deleted_with_its_original_is_reported() -> None:
    """Thumbnails of earlier settings too; another original's are not."""
    pipeline = Pipeline(delete_with_original=True)
    pipeline.input.upload(KEY, jpeg())
    pipeline.process()
    del pipeline.input.objects[KEY]
    assert pipeline.process() == MADE


def test_a_write_whose_reply_was_lost_is_reported() -> None:
    """It took effect: a cache may hold what was there before."""
    pipeline = Pipeline()
    pipeline.input.upload(KEY, jpeg((640, 480)))
    pipeline.process()
    pipeline.input.upload(KEY, jpeg((480, 640)))
    put = pipeline.output.put

    def lose(new: Object, *, replacing: str | None) -> bool:
        put(new, replacing=replacing)
        return False

    pipeline.output.put = lose  # type: ignore[method-assign]
    assert pipeline.process() == MADE


def test_what_may_have_been_replaced_before_a_failure_is_reported() -> None:
    """A retry would find it current, and report nothing: a cache would keep the older picture."""
    pipeline = Pipeline(delete_with_original=True)
    pipeline.input.upload(KEY, jpeg((640, 480)))
    pipeline.process()
    pipeline.input.upload(KEY, jpeg((480, 640)))
    put = pipeline.output.put

    def fail(what: Object | str, *, replacing: str | None) -> bool:
        if isinstance(what, Object) and replacing is None:
            return put(what, replacing=None)
        raise StorageUnavailable("no answer")

    pipeline.output.put = pipeline.output.delete = fail  # type: ignore[method-assign]
    with pytest.raises(StorageUnavailable):
        pipeline.process()
    assert pipeline.changed == MADE[:1]
    del pipeline.input.objects[KEY]
    with pytest.raises(StorageUnavailable):
        pipeline.process()
    assert pipeline.changed == MADE[:1]


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> Stubber:
    """CloudFront, which answers what a test says."""
    client = boto3.client("cloudfront", region_name=cdn.REGION)
    stub = Stubber(client)
    monkeypatch.setattr(cdn.boto3, "client", lambda *_, **__: client)
    stub.activate()
    return stub


def test_paths_are_the_urls_of_the_keys(stubbed: Stubber) -> None:
    """Each once, in the spellings that pages use: an asterisk in a key is no wildcard."""
    keys = ["a/b c.webp", "a/*.webp", "/x.webp", "é.webp", "a/b c.webp", "a (1)~.webp"]
    paths = ["/a/b%20c.webp", "/a/%2A.webp", "/%2Fx.webp", "/%C3%A9.webp"]
    paths += ["/a%20%281%29%7E.webp", "/a%20(1)%7E.webp"]
    stubbed.add_response(
        "create_invalidation",
        {},
        {
            "DistributionId": "E1",
            "InvalidationBatch": {
                "Paths": {"Quantity": 6, "Items": paths},
                "CallerReference": ANY,
            },
        },
    )
    assert cdn.invalidate("E1", keys, "request", 20) is None
    stubbed.assert_no_pending_responses()


def test_many_paths_are_sent_in_batches(stubbed: Stubber) -> None:
    """A distribution has at most 3,000 paths in progress."""
    for _ in range(2):
        stubbed.add_response("create_invalidation", {})
    assert cdn.invalidate("E1", [f"{n}.webp" for n in range(cdn.MAX_PATHS + 1)], "r", 20) is None
    stubbed.assert_no_pending_responses()


def test_a_refused_invalidation_is_told_and_no_error(stubbed: Stubber) -> None:
    """Throttling, a distribution that is gone, or too little time: the thumbnails are right."""
    stubbed.add_client_error("create_invalidation", "TooManyInvalidationsInProgress", "too many")
    fault = cdn.invalidate("E1", ["a.webp", "b.webp"], "r", 20)
    assert fault
    assert "2 objects" in fault
    assert "too many" in fault
    assert "s left" in (cdn.invalidate("E1", ["a.webp"], "r", 1) or "")
