"""`image-pipeline prune`: what no original needs is deleted, and nothing else.

Thumbnails and manifests are made by the function's own code, in moto's buckets.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aws_names import INPUT, OUTPUT
from botocore.exceptions import ClientError
from home import Home
from moto_stack import moto_stack, process, refuse_originals
from pictures import jpeg
from template import source

from image_pipeline.cli import targets
from image_pipeline.cli.commands import prune as command
from image_pipeline.errors import CommandError, NotPermitted
from image_pipeline.stack import costs
from image_pipeline.stack import prune as prunes
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.prune import Found, Kind, Outcome, Survey
from thumbnailer.imaging import parse_sizes
from thumbnailer.provenance import LONG_AGO, Provenance
from thumbnailer.reconcile import CURRENT, Done, Skipped
from thumbnailer.settings import RESERVED_PREFIX

KEY = "uploads/a/photo.jpg"
THUMBNAILS = ["a/photo_128w.webp", "a/photo_512w.webp"]
MANIFEST = "a/photo.json"
PHOTO = jpeg((64, 48))

ODD = "uploads/ä +%2F/'\"\x1b[31m [b]../😀?&#.jpg"
"""A key with what must be encoded, in addresses, in headers and in the terminal."""


@pytest.fixture
def stack(s3: Any, aws: str) -> Stack:
    """Both buckets, empty, and manifests turned on."""
    del s3  # the buckets are there
    stack = moto_stack(aws)
    return replace(stack, settings=stack.settings._replace(write_manifest=True))


@pytest.fixture
def home(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The command, whose options all mean this stack."""
    monkeypatch.setattr(targets, "find_stack", lambda **_: stack)
    return Home(tmp_path / "home", 1)


def upload(stack: Stack, key: str = KEY, body: bytes = PHOTO, **metadata: str) -> None:
    """Upload an original, and make its outputs as the function does."""
    stack.aws.s3.put_object(Bucket=INPUT, Key=key, Body=body, Metadata=metadata)
    assert isinstance(process(stack, key), Done)


def remove(stack: Stack, key: str = KEY) -> None:
    """Delete an original; nothing follows."""
    stack.aws.s3.delete_object(Bucket=INPUT, Key=key)


def put(stack: Stack, key: str, body: bytes = b"somebody's") -> None:
    """Write an object without provenance into the output bucket."""
    stack.aws.s3.put_object(Bucket=OUTPUT, Key=key, Body=body)


def strip(stack: Stack, key: str) -> None:
    """Copy an object over itself without its metadata."""
    stack.aws.s3.copy_object(
        Bucket=OUTPUT,
        Key=key,
        CopySource={"Bucket": OUTPUT, "Key": key},
        MetadataDirective="REPLACE",
        Metadata={},
    )


def outputs(stack: Stack) -> list[str]:
    """Every key of the output bucket."""
    pages = stack.aws.s3.get_paginator("list_objects_v2").paginate(Bucket=OUTPUT)
    return [each["Key"] for page in pages for each in page.get("Contents", [])]


def owner(stack: Stack, key: str) -> str:
    """The original that the metadata of an object names, where that needs no decoding."""
    return stack.aws.s3.head_object(Bucket=OUTPUT, Key=key)["Metadata"]["source-key"]


def look(stack: Stack, prefix: str = "", *, adopt: bool = False) -> Survey:
    """The complete survey."""
    *_, last = prunes.survey(stack, prefix, adopt=adopt)
    return last


def kinds(survey: Survey) -> dict[str, Kind]:
    """The kind of each object that is pending."""
    return {each.key: each.kind for each in survey.pending}


def apply(stack: Stack, survey: Survey) -> dict[str, Outcome]:
    """The outcome of each object that was pending."""
    return {found.key: outcome for found, outcome in prunes.apply(stack, survey.pending)}


def changed(stack: Stack, **settings: Any) -> Stack:
    """The stack with other settings."""
    return replace(stack, settings=stack.settings._replace(**settings))


# --- what is orphaned ---------------------------------------------------------------------------
def test_thumbnails_and_manifest_of_a_deleted_original_are_deleted(stack: Stack) -> None:
    """Those of an original that exists stay, and so does the original."""
    upload(stack)
    upload(stack, "uploads/stays.jpg")
    kept = [key for key in outputs(stack) if key.startswith("stays")]
    assert len(kept) == 3
    remove(stack)
    survey = look(stack)
    assert kinds(survey) == dict.fromkeys([MANIFEST, *THUMBNAILS], Kind.NO_ORIGINAL)
    assert {each.source for each in survey.pending} == {KEY}
    assert survey.originals == 1
    assert survey.counts == {Kind.NO_ORIGINAL: 3, Kind.IN_USE: 3}
    assert survey.sizes[Kind.NO_ORIGINAL] == sum(each.size for each in survey.pending) > 0
    assert set(apply(stack, survey).values()) == {Outcome.DELETED}
    assert outputs(stack) == kept
    assert look(stack).pending == []


@pytest.mark.parametrize(
    ("settings", "orphaned"),
    [
        ({"sizes": parse_sizes("128,300")}, [THUMBNAILS[1]]),
        ({"write_manifest": False}, [MANIFEST]),
        ({"output_key_template": "{dir}{stem}.{ext}_{width}w.webp"}, [MANIFEST, *THUMBNAILS]),
        ({"input_prefix": "elsewhere/"}, [MANIFEST, *THUMBNAILS]),
    ],
)
def test_what_only_earlier_settings_name_is_deleted(
    stack: Stack, settings: dict[str, Any], orphaned: list[str]
) -> None:
    """An earlier size, a manifest turned off, another template, another prefix."""
    upload(stack)
    now = changed(stack, **settings)
    survey = look(now)
    assert kinds(survey) == dict.fromkeys(orphaned, Kind.EARLIER_SETTINGS)
    assert set(apply(now, survey)) == set(orphaned)
    assert outputs(stack) == [key for key in (MANIFEST, *THUMBNAILS) if key not in orphaned]


def test_what_is_only_out_of_date_stays(stack: Stack) -> None:
    """Other bytes of the original or another quality are a backfill's to make again."""
    upload(stack)
    stack.aws.s3.put_object(Bucket=INPUT, Key=KEY, Body=jpeg((65, 48)))
    survey = look(changed(stack, quality=30))
    assert survey.counts == {Kind.IN_USE: 3}
    assert survey.pending == []


def test_foreign_objects_are_counted_and_stay(stack: Stack) -> None:
    """Objects that the function did not write, at whatever key, also that of an original gone."""
    foreign = ["site/config.json", "a/photo_128w.webp", "index.html"]
    for key in foreign:
        put(stack, key)
    survey = look(stack)
    assert survey.counts == {Kind.FOREIGN: 3}
    assert survey.sizes == {Kind.FOREIGN: 3 * len(b"somebody's")}
    assert survey.pending == []


def test_the_results_of_backfills_are_not_even_read(stack: Stack) -> None:
    """They are no objects of originals, with metadata that says so or without."""
    results = source()["Resources"]["BackfillStateMachine"]["Properties"]
    assert results["DefinitionSubstitutions"]["ResultsPrefix"].startswith(RESERVED_PREFIX)
    upload(stack)
    head = stack.aws.s3.head_object(Bucket=OUTPUT, Key=MANIFEST)
    key = f"{RESERVED_PREFIX}backfill/run/manifest.json"
    stack.aws.s3.put_object(Bucket=OUTPUT, Key=key, Metadata=head["Metadata"])
    remove(stack)
    for prefix in ("", RESERVED_PREFIX):
        for adopt in (False, True):
            survey = look(stack, prefix, adopt=adopt)
            apply(stack, survey)
    assert outputs(stack) == [key]


def test_of_two_originals_that_share_names_the_owner_decides(stack: Stack) -> None:
    """Thumbnails of a deleted one are deleted, although the other needs the names: it is counted.

    They show the deleted picture. A backfill makes those of the other one.
    """
    upload(stack)
    upload(stack, "uploads/a/photo.png", jpeg((50, 50)))
    assert look(stack).pending == []
    remove(stack, owner(stack, MANIFEST))
    survey = look(stack)
    assert (len(survey.pending), survey.shared) == (3, 3)
    assert set(apply(stack, survey).values()) == {Outcome.DELETED}


def test_only_the_prefix_is_searched(stack: Stack) -> None:
    """It is that of the output bucket's keys."""
    for key in (KEY, "uploads/b/photo.jpg"):
        upload(stack, key)
        remove(stack, key)
    survey = look(stack, "b/")
    assert len(survey.pending) == survey.objects == 3
    apply(stack, survey)
    assert outputs(stack) == [MANIFEST, *THUMBNAILS]


@pytest.mark.parametrize("key", [ODD, "uploads/" + "😀" * 240 + ".jpg", "uploads//a/../b.jpg"])
def test_any_key_works(stack: Stack, key: str) -> None:
    """The original is found by its exact key, and its thumbnails are deleted by theirs."""
    upload(stack, key)
    assert look(stack).counts == {Kind.IN_USE: 3}
    remove(stack, key)
    assert set(apply(stack, look(stack)).values()) == {Outcome.DELETED}
    assert outputs(stack) == []


def test_empty_buckets_have_nothing_to_prune(stack: Stack) -> None:
    """Nothing is pending, and nothing is asked."""
    for adopt in (False, True):
        survey = look(stack, adopt=adopt)
        assert (survey.originals, survey.objects, survey.pending) == (0, 0, [])


@pytest.mark.slow
def test_more_objects_than_one_answer_lists(stack: Stack) -> None:
    """S3 lists 1,000 objects at a time: the one after them is found and counted too."""
    stack.aws.s3.put_object(Bucket=INPUT, Key=KEY)
    metadata = Provenance(KEY, "", LONG_AGO, "").to_metadata()

    def write(number: int) -> None:
        key = f"earlier/{number}.webp"
        stack.aws.s3.put_object(Bucket=OUTPUT, Key=key, Metadata=metadata)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(1001)))
    *seen, last = [(each.originals, each.objects, each) for each in prunes.survey(stack)]
    assert [counted[:2] for counted in seen] == [(1, 0), (1, 1000), (1, 1001)]
    assert last[2].counts == {Kind.EARLIER_SETTINGS: 1001}
    assert len(last[2].pending) == 1001


def test_every_batch_is_deleted(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the last one, which is not full."""
    monkeypatch.setattr(prunes, "LISTED", 2)
    upload(stack)
    upload(stack, "uploads/b.jpg")
    now = changed(stack, input_prefix="elsewhere/")
    assert set(apply(now, look(now)).values()) == {Outcome.DELETED}
    assert outputs(stack) == []


def test_more_originals_than_one_answer_lists(stack: Stack) -> None:
    """An original on the third page of a listing exists like one on the first."""
    stack.aws.s3.meta.events.register(
        "provide-client-params.s3.ListObjectsV2", lambda params, **_: params.update(MaxKeys=2)
    )
    for number in range(5):
        upload(stack, f"uploads/{number}.jpg")
    survey = look(stack)
    assert survey.originals == 5
    assert survey.counts == {Kind.IN_USE: 15}


# --- while others write -------------------------------------------------------------------------
def test_an_original_that_came_back_keeps_its_thumbnails(stack: Stack) -> None:
    """It is looked for directly before each deletion."""
    upload(stack)
    remove(stack)
    survey = look(stack)
    stack.aws.s3.put_object(Bucket=INPUT, Key=KEY, Body=PHOTO)
    assert set(apply(stack, survey).values()) == {Outcome.CHANGED}
    assert outputs(stack) == [MANIFEST, *THUMBNAILS]


def test_an_object_that_changed_or_vanished_is_left(stack: Stack) -> None:
    """A deletion is conditional on the ETag that was read."""
    upload(stack)
    now = changed(stack, sizes=parse_sizes("64"), write_manifest=False)
    survey = look(now)
    put(stack, THUMBNAILS[0])
    stack.aws.s3.delete_object(Bucket=OUTPUT, Key=MANIFEST)
    assert apply(now, survey) == {
        MANIFEST: Outcome.GONE,
        THUMBNAILS[0]: Outcome.CHANGED,
        THUMBNAILS[1]: Outcome.DELETED,
    }
    assert outputs(stack) == [THUMBNAILS[0]]


def test_an_object_that_vanishes_during_the_survey_is_not_counted(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was listed, but has no HEAD any more."""
    put(stack, "here.txt")
    listed = prunes.list_objects
    both = [{"Key": "gone.txt"}, {"Key": "here.txt"}]
    monkeypatch.setattr(
        prunes,
        "list_objects",
        lambda s3, bucket, prefix: iter(both) if bucket == OUTPUT else listed(s3, bucket, prefix),
    )
    assert look(stack).counts == {Kind.FOREIGN: 1}


def test_manifests_are_deleted_before_thumbnails(stack: Stack) -> None:
    """Where a manifest exists, all thumbnails that it names exist."""
    for key in (KEY, "uploads/b.jpg"):
        upload(stack, key)
        remove(stack, key)
    order = [found.key.endswith(".json") for found, _ in prunes.apply(stack, look(stack).pending)]
    assert order == [True, True, False, False, False, False]


def test_a_caller_that_stops_early_leaves_the_rest(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has not been started is not deleted."""
    monkeypatch.setattr(prunes, "CONNECTIONS", 1)
    for number in range(20):
        put(stack, f"{number}.txt")
    pending = [
        Found(f"{number}.txt", 1, _etag(stack, f"{number}.txt"), Kind.EARLIER_SETTINGS)
        for number in range(20)
    ]
    steps = prunes.apply(stack, pending)
    next(steps)
    steps.close()  # type: ignore[attr-defined]  # a generator
    assert len(outputs(stack)) > 10


def _etag(stack: Stack, key: str) -> str:
    return stack.aws.s3.head_object(Bucket=OUTPUT, Key=key)["ETag"].strip('"')


def test_a_denied_request_names_the_permissions(stack: Stack) -> None:
    """And what is denied ends the command: nothing counts as deleted."""

    def denied(**_: Any) -> Any:
        error = {"Error": {"Code": "AccessDenied", "Message": "no"}}
        raise ClientError(error, "DeleteObject")  # type: ignore[arg-type]  # as boto3 raises it

    s3: Any = SimpleNamespace(delete_object=denied)
    without: Any = replace(stack, aws=SimpleNamespace(s3=s3))
    with pytest.raises(NotPermitted, match="s3:DeleteObject on the output bucket"):
        list(prunes.apply(without, [Found("a", 1, "e", Kind.EARLIER_SETTINGS)]))


def test_a_missing_bucket_is_an_error(stack: Stack) -> None:
    """An input bucket that does not exist is not one without originals."""
    upload(stack)
    with pytest.raises(CommandError, match="The bucket no-such-bucket does not exist"):
        look(replace(stack, input_bucket="no-such-bucket"))


# --- adopt --------------------------------------------------------------------------------------
def test_thumbnails_that_lost_their_metadata_are_taken_over(stack: Stack) -> None:
    """Their bytes, and the manifest's, say what they were made of: metadata and headers are back.

    Afterwards they are current, so nothing is made again.
    """
    upload(stack)
    before = {key: stack.aws.s3.head_object(Bucket=OUTPUT, Key=key) for key in outputs(stack)}
    for key in before:
        strip(stack, key)
    assert look(stack).counts == {Kind.FOREIGN: 3}
    survey = look(stack, adopt=True)
    assert kinds(survey) == dict.fromkeys([MANIFEST, *THUMBNAILS], Kind.TO_TAKE_OVER)
    assert survey.counts == {Kind.TO_TAKE_OVER: 3, Kind.FOREIGN: 0}
    assert set(apply(stack, survey).values()) == {Outcome.TAKEN_OVER}
    for key, head in before.items():
        now = stack.aws.s3.head_object(Bucket=OUTPUT, Key=key)
        for name in ("ETag", "Metadata", "ContentType", "CacheControl"):
            assert now[name] == head[name]  # type: ignore[literal-required]
    assert look(stack).counts == {Kind.IN_USE: 3}
    assert look(stack, adopt=True).pending == []


SHAPED = {"sizes": parse_sizes("128,eye=64x32"), "formats": ("webp", "avif", "jpeg")}
SHAPES = [f"a/photo_{size}.{each}" for size in ("128w", "eye") for each in ("webp", "avif", "jpeg")]


@pytest.mark.parametrize("focus", [{}, {"focus": "0.2, .5"}, {"focus": "wrong"}], ids=str)
def test_thumbnails_of_each_format_and_focus_are_taken_over(
    stack: Stack, focus: dict[str, str]
) -> None:
    """Each format has the mark of its provenance at its end, and the manifest has the focus."""
    now = changed(stack, **SHAPED)
    upload(now, **focus)
    before = {key: stack.aws.s3.head_object(Bucket=OUTPUT, Key=key) for key in outputs(stack)}
    assert sorted(before) == sorted([MANIFEST, *SHAPES])
    for key in before:
        strip(stack, key)
    survey = look(now, adopt=True)
    assert kinds(survey) == dict.fromkeys(sorted(before), Kind.TO_TAKE_OVER)
    assert set(apply(now, survey).values()) == {Outcome.TAKEN_OVER}
    for key, head in before.items():
        again = stack.aws.s3.head_object(Bucket=OUTPUT, Key=key)
        for name in ("ETag", "Metadata", "ContentType", "CacheControl"):
            assert again[name] == head[name]  # type: ignore[literal-required]
        cropped = "source-focus" in again["Metadata"]
        assert cropped == (focus == {"focus": "0.2, .5"} and "128w" not in key)
    assert process(now, KEY) == Skipped(CURRENT)


def refocused(monkeypatch: pytest.MonkeyPatch, focus: str) -> None:
    """Let the original have another focus, and the time that it had: within the same second."""
    real = prunes.head_object

    def head_object(s3: Any, bucket: str, key: str) -> Any:
        head = real(s3, bucket, key)
        return head and head | ({"Metadata": {"focus": focus}} if bucket == INPUT else {})

    monkeypatch.setattr(prunes, "head_object", head_object)
    monkeypatch.setattr(prunes, "head_readable", head_object)


def test_crops_of_another_focus_are_deleted_to_be_made_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole pictures are what they were, so they are taken over. The manifest names the focus."""
    now = changed(stack, **SHAPED)
    upload(now, focus="0.2,0.5")
    for key in outputs(stack):
        strip(stack, key)
    refocused(monkeypatch, "0.8,0.5")
    whole = {key for key in SHAPES if "128w" in key}
    assert {
        key for key, kind in kinds(look(now, adopt=True)).items() if kind is Kind.TO_REMAKE
    } == ({MANIFEST, *SHAPES} - whole)


def test_an_original_whose_focus_changes_meanwhile_is_not_adopted_for(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its crops would name a focus that it no longer has."""
    now = changed(stack, **SHAPED)
    upload(now, focus="0.2,0.5")
    crop, whole = "a/photo_eye.avif", "a/photo_128w.avif"
    for key in (crop, whole):
        strip(stack, key)
    survey = look(now, adopt=True)
    refocused(monkeypatch, "0.8,0.5")
    assert apply(now, survey) == {crop: Outcome.CHANGED, whole: Outcome.TAKEN_OVER}


def test_an_original_that_s3_has_no_key_for_needs_nothing(stack: Stack) -> None:
    """With SSE-C, S3 answers its HEAD by 400. The function makes nothing of it."""
    upload(stack)
    strip(stack, THUMBNAILS[0])
    stack.aws.s3.meta.events.register("provide-client-params.s3.HeadObject", refuse_originals)
    survey = look(stack, adopt=True)
    assert survey.pending == []
    assert survey.counts[Kind.FOREIGN] == 1


def test_an_object_is_taken_over_only_as_it_was_read(stack: Stack) -> None:
    """The copy in place has the condition for what it reads and for what it replaces."""
    upload(stack)
    strip(stack, THUMBNAILS[0])
    given: list[dict[str, Any]] = []
    stack.aws.s3.meta.events.register(
        "provide-client-params.s3.CopyObject", lambda params, **_: given.append(params)
    )
    survey = look(stack, adopt=True)
    assert set(apply(stack, survey).values()) == {Outcome.TAKEN_OVER}
    etag = f'"{survey.pending[0].etag}"'
    assert [(each["CopySourceIfMatch"], each["IfMatch"]) for each in given] == [(etag, etag)]


@pytest.mark.parametrize(
    "settings", [{"quality": 30}, {"sizes": parse_sizes("128,512,600")}], ids=str
)
def test_what_other_settings_made_is_deleted_to_be_made_again(
    stack: Stack, settings: dict[str, Any]
) -> None:
    """Only bytes that the function would write now are taken over."""
    upload(stack)
    for key in outputs(stack):
        strip(stack, key)
    now = changed(stack, **settings)
    survey = look(now, adopt=True)
    stale = [MANIFEST, *(THUMBNAILS if "quality" in settings else [])]
    assert [key for key, kind in kinds(survey).items() if kind is Kind.TO_REMAKE] == stale
    outcomes = apply(now, survey)
    assert [key for key, each in outcomes.items() if each is Outcome.DELETED] == stale


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff", b'{"source": {"key": 1}}'])
def test_any_other_object_where_a_thumbnail_belongs_is_deleted(stack: Stack, body: bytes) -> None:
    """Whatever its bytes are. Foreign objects at other keys stay, also those of originals gone."""
    upload(stack)
    for key in (MANIFEST, *THUMBNAILS, "site/config.json", "gone_128w.webp"):
        put(stack, key, body)
    survey = look(stack, adopt=True)
    assert kinds(survey) == dict.fromkeys([MANIFEST, *THUMBNAILS], Kind.TO_REMAKE)
    assert survey.counts == {Kind.TO_REMAKE: 3, Kind.FOREIGN: 2}
    assert set(apply(stack, survey).values()) == {Outcome.DELETED}
    assert outputs(stack) == ["gone_128w.webp", "site/config.json"]


def test_a_large_object_is_not_read_as_a_manifest(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end alone is no manifest."""
    upload(stack)
    strip(stack, MANIFEST)
    size = stack.aws.s3.head_object(Bucket=OUTPUT, Key=MANIFEST)["ContentLength"]
    for limit, kind in ((size, Kind.TO_TAKE_OVER), (size - 1, Kind.TO_REMAKE)):
        monkeypatch.setattr(prunes, "MAX_MANIFEST_BYTES", limit)
        assert kinds(look(stack, adopt=True)) == {MANIFEST: kind}


def test_to_adopt_leaves_orphans(stack: Stack) -> None:
    """One run does one thing: orphans are counted, and wait for a run without --adopt."""
    upload(stack)
    remove(stack)
    survey = look(stack, adopt=True)
    assert survey.counts == {Kind.NO_ORIGINAL: 3}
    assert survey.pending == []
    stack.aws.s3.put_object(Bucket=INPUT, Key="uploads/a/photo.png", Body=PHOTO)
    survey = look(stack, adopt=True)  # another original needs these names
    assert survey.counts == {Kind.NO_ORIGINAL: 3}
    assert survey.pending == []


@pytest.mark.parametrize("kind", [Kind.TO_TAKE_OVER, Kind.TO_REMAKE])
def test_an_original_that_changed_is_not_adopted_for(stack: Stack, kind: Kind) -> None:
    """Other bytes, or none: what stands there is for the next run to judge."""
    upload(stack)
    key = THUMBNAILS[0]
    strip(stack, key)
    if kind is Kind.TO_REMAKE:
        put(stack, key)
    survey = look(stack, adopt=True)
    assert kinds(survey) == {key: kind}
    remove(stack)
    assert apply(stack, survey) == {key: Outcome.CHANGED}
    stack.aws.s3.put_object(Bucket=INPUT, Key=KEY, Body=jpeg((60, 60)))
    assert apply(stack, survey) == {key: Outcome.CHANGED}
    assert key in outputs(stack)


def test_an_original_that_vanishes_during_the_survey_needs_nothing(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the object stands at no key of an existing original, and stays."""
    upload(stack)
    strip(stack, THUMBNAILS[0])
    listed = [{"Key": KEY}]
    outputs_listed = [{"Key": THUMBNAILS[0]}]
    monkeypatch.setattr(
        prunes,
        "list_objects",
        lambda _s3, bucket, _prefix: iter(listed if bucket == INPUT else outputs_listed),
    )
    remove(stack)
    survey = look(stack, adopt=True)
    assert (survey.counts, survey.pending) == ({Kind.FOREIGN: 1}, [])


def test_the_newest_of_originals_that_share_names_is_adopted_for(stack: Stack) -> None:
    """As the function decides: within the same second the greater key wins."""
    upload(stack)
    upload(stack, "uploads/a/photo.png", jpeg((50, 50)))
    newest = owner(stack, THUMBNAILS[0])
    strip(stack, THUMBNAILS[0])
    (found,) = look(stack, adopt=True).pending
    assert (found.source, found.kind) == (newest, Kind.TO_TAKE_OVER)


def test_keys_with_any_character_are_adopted(stack: Stack) -> None:
    """The copy in place names them rightly too."""
    upload(stack, ODD)
    for key in outputs(stack):
        strip(stack, key)
    assert set(apply(stack, look(stack, adopt=True)).values()) == {Outcome.TAKEN_OVER}
    assert look(stack).counts == {Kind.IN_USE: 3}


# --- costs --------------------------------------------------------------------------------------
def test_the_cost_counts_each_request_that_is_made(stack: Stack) -> None:
    """Lists and copies at the price of a PUT, HEAD and GET at theirs; deletions are free."""
    upload(stack)
    remove(stack)
    upload(stack, "uploads/b.jpg")
    strip(stack, "b_128w.webp")
    put(stack, "b_512w.webp")
    for adopt in (False, True):
        made: list[str] = []

        def count(model: Any, made: list[str] = made, **_: Any) -> None:
            made.append(model.name)

        stack.aws.s3.meta.events.register("before-call.s3", count, unique_id=f"count{adopt}")
        survey = look(stack, adopt=adopt)
        apply(stack, survey)
        stack.aws.s3.meta.events.unregister("before-call.s3", unique_id=f"count{adopt}")
        writes = made.count("ListObjectsV2") + made.count("CopyObject")
        reads = made.count("HeadObject") + made.count("GetObject")
        assert costs.of_prune(survey) == pytest.approx(writes * 0.005 / 1000 + reads * 4e-7)
    assert costs.of_storage(2**30) == pytest.approx(0.023)


# --- the command --------------------------------------------------------------------------------
@pytest.fixture
def orphaned(stack: Stack) -> Stack:
    """Three orphaned objects, three of an earlier manifest or size, and a foreign one."""
    upload(stack)
    remove(stack)
    put(stack, "index.html")
    return stack


def test_a_dry_run_shows_and_deletes_nothing(home: Home, orphaned: Stack) -> None:
    """Counts, bytes, costs and the keys."""
    before = outputs(orphaned)
    done = home.run("prune", "--dry-run")
    assert done.returncode == 0
    assert re.search(r"their original is gone +│ +3 ", done.stderr)
    assert "not made by this pipeline" in done.stderr
    assert f"{MANIFEST} of {KEY}" in done.stderr
    assert "of storage a month" in done.stderr
    assert "no original in s3://test-input/uploads/" in done.stderr
    assert outputs(orphaned) == before


def test_the_json_of_a_dry_run_and_of_a_run_have_the_same_shape(
    home: Home, orphaned: Stack
) -> None:
    """Every object that is pending is listed, with its outcome, which is null in a dry run."""
    dry = home.json("prune", "--dry-run")
    done = home.json("prune", "--yes")
    assert dry.keys() == done.keys()
    assert (done["stack"], done["bucket"], done["prefix"]) == ("test", OUTPUT, "")
    assert (done["adopt"], done["originals"]) == (False, 0)
    assert done["kinds"] == dry["kinds"]
    assert set(done["kinds"]) == set(Kind)
    assert done["kinds"]["foreign"] == {"objects": 1, "bytes": len(b"somebody's")}
    assert [dry[each] for each in Outcome] == [0, 0, 0, 0]
    assert [done[each] for each in Outcome] == [3, 0, 0, 0]
    assert {each["outcome"] for each in dry["objects"]} == {None}
    assert done["objects"][0] == {
        "key": MANIFEST,
        "bytes": dry["objects"][0]["bytes"],
        "kind": "no_original",
        "source": KEY,
        "outcome": "deleted",
    }
    assert dry["estimated_dollars"] >= 0
    assert dry["saved_dollars_month"] >= 0
    assert outputs(orphaned) == ["index.html"]


def test_a_run_ends_with_counts(home: Home, orphaned: Stack) -> None:
    """And the second one has nothing to do, without a question."""
    assert "3 deleted" in home.run("prune", "--yes").stdout
    again = home.run("prune")
    assert (again.returncode, again.stdout) == (0, "")
    assert "Nothing to do" in again.stderr
    assert outputs(orphaned) == ["index.html"]


def test_without_a_terminal_the_command_asks_for_yes(home: Home, orphaned: Stack) -> None:
    """Nobody can answer: it says how to go on, and deletes nothing."""
    for words in ((), ("--json",), ("--adopt",)):
        if words == ("--adopt",):
            upload(orphaned, "uploads/b.jpg")
            strip(orphaned, "b_128w.webp")
        before = outputs(orphaned)
        done = home.run("prune", *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert "pass --yes" in done.stderr
        assert outputs(orphaned) == before


def test_to_adopt_says_what_comes_next(home: Home, stack: Stack) -> None:
    """A dry run changes nothing; a run takes over and deletes, and names the backfill."""
    upload(stack)
    put(stack, MANIFEST)
    for key in THUMBNAILS:
        strip(stack, key)
    dry = home.json("prune", "--adopt", "--dry-run")
    assert (dry["kinds"]["to_take_over"]["objects"], dry["kinds"]["to_remake"]["objects"]) == (2, 1)
    assert dry["saved_dollars_month"] == 0
    assert look(stack).counts == {Kind.FOREIGN: 3}
    done = home.run("prune", "--adopt", "--yes")
    assert "2 taken over, 1 deleted" in done.stdout
    assert "image-pipeline backfill" in done.stdout
    assert outputs(stack) == THUMBNAILS


def test_names_that_other_originals_need_are_mentioned(home: Home, stack: Stack) -> None:
    """A backfill makes their thumbnails."""
    upload(stack)
    upload(stack, "uploads/a/photo.png", jpeg((50, 50)))
    remove(stack, owner(stack, MANIFEST))
    done = home.run("prune", "--yes")
    assert "3 of these names belong to other originals too" in done.stdout
    assert "image-pipeline backfill" in done.stdout


def test_earlier_names_that_pages_still_use_are_mentioned(
    home: Home, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the question, the command says that a backfill should come first."""
    upload(stack)
    monkeypatch.setattr(
        targets, "find_stack", lambda **_: changed(stack, sizes=parse_sizes("128,300"))
    )
    assert "image-pipeline backfill" in home.run("prune", "--dry-run").stderr


def test_settings_that_change_before_the_deletion_stop_it(
    home: Home, orphaned: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deploy during the survey or the question may need what was orphaned."""
    found: Iterator[Stack] = iter([orphaned, changed(orphaned, sizes=parse_sizes("64"))])
    monkeypatch.setattr(targets, "find_stack", lambda **_: next(found))
    before = outputs(orphaned)
    done = home.run("prune", "--yes")
    assert done.returncode == 1
    assert "settings changed" in done.stderr
    assert outputs(orphaned) == before


def test_ctrl_c_says_how_far_it_came(
    home: Home, orphaned: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 130, no traceback, and how to continue."""

    def interrupted(stack: Stack, pending: list[Found]) -> Iterator[tuple[Found, Outcome]]:
        del stack
        yield pending[0], Outcome.DELETED
        raise KeyboardInterrupt

    monkeypatch.setattr(command.prunes, "apply", interrupted)
    done = home.run("prune", "--yes")
    assert (done.returncode, done.stdout) == (130, "")
    assert "Stopped after 1 of 3 objects" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Aborted" not in done.stderr
    assert len(outputs(orphaned)) == 4


def test_keys_are_printed_as_text(home: Home, stack: Stack) -> None:
    """A key's control characters and markup reach no terminal, and --json escapes them."""
    upload(stack, ODD)
    remove(stack, ODD)
    shown = home.run("prune", "--dry-run")
    assert "\x1b" not in shown.stderr
    lines = [line for line in shown.stderr.splitlines() if "_128w.webp" in line]
    assert [line.count("\\x1b[31m [b]") for line in lines] == [2], "the key and its original"
    done = home.run("prune", "--dry-run", "--json")
    assert "\x1b" not in done.stdout
    assert {each["source"] for each in json.loads(done.stdout)["objects"]} == {ODD}


def test_many_keys_are_cut_short(home: Home, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones are shown, and how many more there are."""
    monkeypatch.setattr(command, "MAX_SHOWN", 1)
    upload(stack)
    remove(stack)
    shown = home.run("prune", "--dry-run").stderr
    assert "and 2 more" in shown
    assert THUMBNAILS[0] not in shown
