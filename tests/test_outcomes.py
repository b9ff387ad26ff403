"""What is found of an upload in the output bucket and on the queue, and how that is waited for."""

import json
from collections.abc import Generator
from copy import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aws_names import INPUT, OUTPUT
from botocore.exceptions import ClientError
from moto_stack import (
    moto_stack,
    process,
    refuse_originals,
    send_dead_letter,
    upload_with_thumbnails,
)
from pictures import jpeg

from image_pipeline.errors import CommandError
from image_pipeline.files import File
from image_pipeline.stack import backfill, dead_letters, thumbnails, uploads
from image_pipeline.stack.aws import head_object
from image_pipeline.stack.backfill import Survey
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.uploads import Outcome, State
from image_pipeline.stack.verification import Result, Run, verify
from image_pipeline.stack.verify import SMOKE
from thumbnailer.imaging import fingerprint, parse_sizes
from thumbnailer.provenance import LONG_AGO, Provenance, Standing

KEY = "uploads/a.jpg"


@pytest.fixture
def stack(s3: Any, aws: str) -> Stack:
    """Buckets and a queue, and nothing that runs."""
    del s3  # the buckets are there
    return moto_stack(aws)


def describe(stack: Stack, key: str = KEY) -> Outcome:
    """An upload as it is in the input bucket."""
    found = uploads.describe(stack, key)
    assert found
    return found


def test_one_request_finds_the_standing_of_a_thumbnail(stack: Stack) -> None:
    """Missing, current, outdated by bytes or settings, superseded by a newer source, foreign."""
    spec, *_ = stack.settings.specs
    name = stack.settings.thumbnail_key(KEY, spec.size, spec.format)
    upload_with_thumbnails(stack, KEY, jpeg())
    upload = describe(stack)
    wanted = Provenance(KEY, upload.etag, upload.uploaded_at, fingerprint(spec))
    later = wanted.modified + timedelta(seconds=1)
    earlier = wanted.modified - timedelta(seconds=1)
    current = thumbnails.describe(stack, name, wanted)
    assert current.standing is Standing.CURRENT
    head = head_object(stack.aws.s3, OUTPUT, name)
    assert head
    assert (current.size, current.owner) == (head["ContentLength"], KEY)
    for other, expected in (
        (wanted._replace(etag="other"), Standing.OUTDATED),
        (wanted._replace(fingerprint="other settings"), Standing.OUTDATED),
        (wanted._replace(key="uploads/a.png", modified=earlier), Standing.SUPERSEDED),
        (wanted._replace(key="uploads/a.png", modified=later), Standing.OUTDATED),
    ):
        assert thumbnails.describe(stack, name, other).standing is expected
    stack.aws.s3.put_object(Bucket=OUTPUT, Key=name, Body=b"foreign")
    assert thumbnails.describe(stack, name, wanted).standing is Standing.FOREIGN
    stack.aws.s3.delete_object(Bucket=OUTPUT, Key=name)
    assert thumbnails.describe(stack, name, wanted).standing is Standing.MISSING


def test_only_a_missing_object_is_none(stack: Stack) -> None:
    """Another refusal is an error: it must not pass for an object that is not there."""
    assert head_object(stack.aws.s3, INPUT, "no such") is None
    stack.aws.s3.meta.events.register("before-call.s3.HeadObject", _deny)
    with pytest.raises(ClientError, match="Forbidden"):
        head_object(stack.aws.s3, INPUT, "no such")


def _deny(**_: object) -> None:
    raise ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, "HeadObject")


def test_each_outcome_is_passed_on_once(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as it is known; at the end of the time the others, whose outcome is unknown."""
    monkeypatch.setattr(uploads, "FIRST_POLL_SECONDS", 0.01)
    upload_with_thumbnails(stack, "uploads/done.jpg", jpeg())
    for name in ("failed", "late", "never"):
        stack.aws.s3.put_object(Bucket=INPUT, Key=f"uploads/{name}.jpg", Body=name.encode())
    failed = describe(stack, "uploads/failed.jpg")
    send_dead_letter(stack, failed.key, failed.etag)
    keys = [f"uploads/{name}.jpg" for name in ("never", "late", "failed", "done")]
    sent = [describe(stack, key) for key in keys]
    outcomes = uploads.wait(stack, sent, 3)
    first = {each.key: each.state for each in (next(outcomes), next(outcomes))}
    assert first == {"uploads/failed.jpg": State.FAILED, "uploads/done.jpg": State.DONE}
    late = describe(stack, "uploads/late.jpg")
    send_dead_letter(stack, late.key, late.etag)
    assert next(outcomes).key == "uploads/late.jpg"
    assert [(each.key, each.state) for each in outcomes] == [("uploads/never.jpg", State.UNKNOWN)]


def test_files_are_uploaded_in_order_with_their_types(stack: Stack, tmp_path: Path) -> None:
    """Each is passed on once it is there, with its size upright."""
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg((300, 200)))
    files = [File(tmp_path / f"{n}.jpg", f"uploads/{n}.jpg") for n in range(20)]
    sent = list(uploads.upload(stack, files))
    assert [each.key for each in sent] == [file.key for file in files]
    assert {(each.content_type, each.state) for each in sent} == {("image/jpeg", State.UNKNOWN)}
    assert all(each.etag == describe(stack, each.key).etag for each in sent)


def test_a_survey_grows_to_its_last_sums(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums after every listing, the last ones complete; beyond the maximum nothing is counted."""
    monkeypatch.setattr(backfill, "LISTED", 2)
    upload_with_thumbnails(stack, "uploads/0.jpg", jpeg())
    for number in range(1, 5):
        stack.aws.s3.put_object(Bucket=INPUT, Key=f"uploads/{number}.jpg", Body=b"xy")
    stack.aws.s3.put_object(Bucket=INPUT, Key="uploads/5/", Body=b"")
    found = list(backfill.survey(stack, "uploads/", 100))
    assert [each.objects for each in found] == [2, 4, 6, 6]
    size = len(jpeg()) + 8
    assert found[-1] == Survey(6, size, to_make=4, to_make_size=8, current=1, skipped=1)
    *_, cut = backfill.survey(stack, "uploads/", 3)
    assert (cut.objects, cut.beyond) == (3, True)
    assert list(backfill.survey(stack, "uploads/none", 3)) == [Survey()]


def test_a_survey_counts_images_that_lack_only_occupied_keys(stack: Stack) -> None:
    """A backfill makes nothing of them. Where something else is missing too, it does."""
    stack = replace(stack, settings=replace(stack.settings, write_manifest=True))
    for name in ("done", "other"):
        upload_with_thumbnails(stack, f"uploads/{name}.jpg", jpeg())
        stack.aws.s3.put_object(Bucket=OUTPUT, Key=f"{name}_128w.webp", Body=b"by hand")
    stack.aws.s3.delete_object(Bucket=OUTPUT, Key="other_512w.webp")
    *_, found = backfill.survey(stack, "uploads/", 100)
    size = len(jpeg())
    assert found == Survey(2, 2 * size, to_make=1, to_make_size=size, occupied=1)


def test_a_survey_leaves_archived_objects_out(stack: Stack) -> None:
    """By the listing's storage class alone. S3 returns objects of GLACIER_IR at once."""
    for name in ("GLACIER", "DEEP_ARCHIVE", "GLACIER_IR", "STANDARD_IA", "INTELLIGENT_TIERING"):
        stack.aws.s3.put_object(
            Bucket=INPUT, Key=f"uploads/{name}.jpg", Body=b"xy", StorageClass=name
        )
    *_, found = backfill.survey(stack, "uploads/", 100)
    assert found == Survey(5, 10, to_make=3, to_make_size=6, archived=2)


def with_crops(stack: Stack) -> Stack:
    """The stack with a size that crops, in two formats."""
    sizes = parse_sizes("64,eye=32x16")
    return replace(stack, settings=stack.settings._replace(sizes=sizes, formats=("webp", "jpeg")))


def test_a_survey_counts_crops_of_another_focus(stack: Stack) -> None:
    """The etag of a copy in place is what it was, so each original costs a HEAD."""
    stack = with_crops(stack)
    for key, focus in (("uploads/a.jpg", "0.1,0.5"), ("uploads/b.jpg", "0.1, .50")):
        stack.aws.s3.put_object(Bucket=INPUT, Key=key, Body=jpeg(), Metadata={"focus": focus})
        process(stack, key)
    *_, found = backfill.survey(stack, "uploads/", 100)
    assert (found.current, found.to_make) == (2, 0)
    stack.aws.s3.put_object(
        Bucket=INPUT, Key="uploads/a.jpg", Body=jpeg(), Metadata={"focus": "0.9,0.5"}
    )
    *_, found = backfill.survey(stack, "uploads/", 100)
    assert (found.current, found.to_make) == (1, 1)


def test_a_survey_counts_originals_that_s3_has_no_key_for_as_to_make(stack: Stack) -> None:
    """With SSE-C, S3 answers a HEAD by 400. The function GETs such an original, and reports it."""
    stack = with_crops(stack)
    for key in ("uploads/a.jpg", "uploads/b.jpg"):
        stack.aws.s3.put_object(Bucket=INPUT, Key=key, Body=jpeg())
        process(stack, key)
    stack.aws.s3.meta.events.register("provide-client-params.s3.HeadObject", refuse_originals)
    *_, found = backfill.survey(stack, "uploads/", 100)
    assert (found.objects, found.to_make) == (2, 2)


def test_a_survey_that_is_denied_ends(stack: Stack) -> None:
    """Only the answer to an object without a key counts as one to make."""
    stack = with_crops(stack)
    stack.aws.s3.put_object(Bucket=INPUT, Key=KEY, Body=jpeg())
    stack.aws.s3.meta.events.register("before-call.s3.HeadObject", _deny)
    with pytest.raises(CommandError, match="Forbidden"):
        list(backfill.survey(stack, "uploads/", 100))


def test_an_upload_is_done_when_its_crops_have_its_focus(stack: Stack, tmp_path: Path) -> None:
    """Crops of an earlier copy of the same bytes are not its outcome."""
    stack = with_crops(stack)
    (tmp_path / "a.jpg").write_bytes(jpeg())
    file = File(tmp_path / "a.jpg", KEY)
    for focus in ("", "0.1,0.5", "0.9,0.5"):
        [sent] = uploads.upload(stack, [file], focus)
        assert sent.focus == focus
        head = stack.aws.s3.head_object(Bucket=INPUT, Key=KEY)
        assert head["Metadata"] == ({"focus": focus} if focus else {})
        assert uploads.outcome_of(stack, sent, list).state is State.UNKNOWN
        process(stack, KEY)
        done = uploads.outcome_of(stack, sent, list)
        assert done.state is State.DONE
        assert [(each.spec.size.name, each.spec.format) for each in done.thumbnails] == [
            *(("64w", "webp"), ("64w", "jpeg")),
            *(("eye", "webp"), ("eye", "jpeg")),
        ]


@pytest.fixture
def machine() -> SimpleNamespace:
    """Step Functions that know one state machine; its definition, and what it was started with."""
    known = SimpleNamespace(definition="{% $states.input.remake = true %}", given=[], running={})

    def start_execution(**request: str) -> dict[str, object]:
        known.given.append(json.loads(request["input"]))
        return {"executionArn": "arn:1", "startDate": LONG_AGO}

    return SimpleNamespace(
        known=known,
        describe_state_machine=lambda **_: {"definition": known.definition},
        start_execution=start_execution,
        list_executions=lambda **_: {
            "executions": [
                {"executionArn": arn, "status": "RUNNING", "startDate": LONG_AGO}
                for arn in known.running
            ]
        },
        describe_execution=lambda **request: {
            "status": "RUNNING",
            "startDate": LONG_AGO,
            "input": json.dumps(known.running[request["executionArn"]]),
        },
    )


def with_machine(stack: Stack, machine: SimpleNamespace) -> Stack:
    """The stack, with this state machine for backfills."""
    aws: Any = SimpleNamespace(s3=stack.aws.s3, states=machine)
    return replace(stack, aws=aws, outputs={"BackfillStateMachineArn": "arn:backfill"})


def test_a_remake_counts_and_asks_for_what_is_current(
    stack: Stack, machine: SimpleNamespace
) -> None:
    """A backfill without it does neither, and its input is what earlier state machines know."""
    stack = with_machine(stack, machine)
    upload_with_thumbnails(stack, "uploads/done.jpg", jpeg())
    upload_with_thumbnails(stack, "uploads/part.jpg", jpeg())
    stack.aws.s3.put_object(Bucket=OUTPUT, Key="part_128w.webp", Body=b"by hand")
    *_, found = backfill.survey(stack, "uploads/", 100, remake=True)
    assert (found.to_make, found.current, found.occupied) == (2, 0, 0)
    backfill.start(stack, "uploads/", None, 5, remake=True)
    backfill.start(stack, "uploads/", 10, 5, remake=False)
    assert machine.known.given == [
        {"prefix": "uploads/", "concurrency": 5, "remake": True},
        {"prefix": "uploads/", "max": 10, "concurrency": 5},
    ]


def test_a_remake_by_an_older_stack_fails_with_advice(
    stack: Stack, machine: SimpleNamespace
) -> None:
    """Its state machine would ignore the field, and report that everything is up to date."""
    stack = with_machine(stack, machine)
    machine.known.definition = '{"Comment": "Input: prefix, max, concurrency"}'
    with pytest.raises(CommandError, match="Deploy the stack again"):
        list(backfill.survey(stack, "uploads/", 100, remake=True))
    with pytest.raises(CommandError, match="Deploy the stack again"):
        backfill.start(stack, "uploads/", None, 5, remake=True)
    assert machine.known.given == []
    backfill.start(stack, "uploads/", None, 5, remake=False)


def test_a_remake_does_not_follow_a_backfill_that_is_none(
    stack: Stack, machine: SimpleNamespace
) -> None:
    """It would end without one picture made again. Any backfill follows a remake."""
    stack = with_machine(stack, machine)
    assert backfill.running(stack, remake=True) is None
    machine.known.running["arn:2"] = {"prefix": "uploads/"}
    with pytest.raises(CommandError, match="without --remake has been running"):
        backfill.running(stack, remake=True)
    machine.known.running["arn:2"] = {"remake": True}
    for remake in (True, False):
        found = backfill.running(stack, remake=remake)
        assert found is not None
        assert found.arn == "arn:2"


def test_a_smoke_test_that_fails_cleans_up_and_names_the_step(stack: Stack) -> None:
    """Nothing makes thumbnails here: the step is named, and the upload is removed all the same."""
    stack.aws.s3.put_object(Bucket=INPUT, Key=KEY, Body=b"somebody's")
    uploaded, waited, cleaned = smoke_test(stack)
    assert (uploaded.name, uploaded.error) == ("upload an image", "")
    assert waited.name == "wait for its thumbnails"
    assert "nothing happened within" in waited.error
    assert (cleaned.name, cleaned.error) == ("clean up", "")
    listed = stack.aws.s3.list_objects_v2(Bucket=INPUT)["Contents"]
    assert [each["Key"] for each in listed] == [KEY]


def test_a_smoke_test_that_is_left_cleans_up(stack: Stack) -> None:
    """Ctrl-C between two steps leaves no trace either."""
    steps = smoke_test(stack)
    assert next(steps).name == "upload an image"
    assert stack.aws.s3.list_objects_v2(Bucket=INPUT)["KeyCount"] == 1
    steps.close()
    assert stack.aws.s3.list_objects_v2(Bucket=INPUT)["KeyCount"] == 0
    assert dead_letters.count_messages(stack) == 0


def smoke_test(stack: Stack) -> Generator[Result]:
    """Run the smoke test, whose steps wait for a moment only."""
    return verify(Run(stack, 0.3, lambda _: None), SMOKE)
