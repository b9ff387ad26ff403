"""The steps of a verification, its clean-up, its cost and its table, without a stack that works."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aws_names import INPUT, OUTPUT
from botocore.exceptions import ClientError
from home import Home
from moto_stack import moto_stack

from image_pipeline.errors import CommandError
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.verification import CLEAN_UP, Result, Run, Step, verify
from image_pipeline.stack.verify import SMOKE, STEPS, choose, estimate

RUNBOOK = (Path(__file__).parent.parent / "docs" / "operations.md").read_text()
MAX_DOLLARS = 0.01


@pytest.fixture
def stack(s3: Any, aws: str) -> Stack:
    """Buckets and a queue, and nothing that runs."""
    del s3  # the buckets are there
    return moto_stack(aws)


@pytest.fixture
def run(stack: Stack) -> Run:
    """A verification that has uploaded a file and made what the stack would make of it."""
    run = Run(stack, 0.3, lambda _: None)
    run.upload({run.key("a.jpg"): b"first"})
    for key in run.traces.made_of(run.traces.keys):
        stack.aws.s3.put_object(Bucket=OUTPUT, Key=key, Body=b"made")
    stack.aws.s3.put_object(Bucket=OUTPUT, Key="another", Body=b"somebody's")
    return run


def keys(stack: Stack) -> list[str]:
    """Every version of every object in both buckets."""
    pages = [stack.aws.s3.list_object_versions(Bucket=bucket) for bucket in (INPUT, OUTPUT)]
    return [
        each["Key"]
        for page in pages
        for each in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
    ]


def step(option: str, action: Any = lambda _: "", **more: Any) -> Step:
    """A step that does nothing but what a test wants."""
    return Step(option, f"do {option}", action, "It works.", "https://docs.aws.amazon.com/", **more)


def fail(_: Run) -> str:
    """Fail as a step does."""
    raise CommandError("it is broken")


def results(run: Run, *steps: Step) -> list[Result]:
    """Run steps to the end."""
    return list(verify(run, steps))


def test_the_runbook_has_the_table_of_the_steps() -> None:
    """Each step has its row: what it does, what it proves, and the documents it rests on."""
    section = RUNBOOK.partition("## Verify a stack\n")[2].partition("\n## ")[0]
    documented = {}
    for row in re.findall(r"^\| `([a-z-]+)` \| (.*) \| (.*) \| (.*) \|$", section, re.MULTILINE):
        option, does, proves, documents = row
        documented[option] = (does, proves, " ".join(re.findall(r"\((https[^)]+)\)", documents)))
    assert documented == {
        each.option: (each.name[0].upper() + each.name[1:], each.proves, each.document)
        for each in (*STEPS, CLEAN_UP)
    }


def test_it_costs_less_than_a_cent_and_the_help_says_so(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate is that of the table; its help names what it must stay below."""
    assert 0 < estimate(stack, SMOKE) < estimate(stack, STEPS) < MAX_DOLLARS
    monkeypatch.setenv("COLUMNS", "100")
    text = " ".join(Home(tmp_path, 0).run("verify", "--help").stdout.split())
    assert "less than one US cent" in text
    for each in STEPS:
        assert each.option in text


def test_only_runs_what_a_step_needs_and_nothing_else() -> None:
    """--only and --skip keep the order, and a step never runs without those that it needs."""
    assert [each.option for each in choose(only=["logs"])] == ["broken", "message", "logs"]
    assert [each.option for each in choose(only=["replay"])] == ["attempts", "replay"]
    assert len(choose(without=["alarm"])) == len(STEPS) - 1
    with pytest.raises(CommandError, match="The step replay needs attempts"):
        choose(without=["attempts"])
    known: set[str] = set()
    for each in STEPS:
        assert set(each.needs) <= known
        known.add(each.option)


def test_a_step_is_skipped_with_those_that_need_it(run: Run) -> None:
    """What does not apply to a stack says why, and so do the steps that would build on it."""
    found = results(
        run,
        step("a", fail, unless=lambda _: "there is no a"),
        step("b", fail, needs=("a",)),
        step("c"),
    )
    assert [each.skipped for each in found] == ["there is no a", "it needs a", "", ""]
    assert not any(each.error for each in found)


def test_a_failure_ends_it_and_is_named_before_a_clean_up_that_fails(
    run: Run, stack: Stack
) -> None:
    """First the step, second its clean-up, which says what is left and removes the rest."""

    def stuck() -> None:
        raise ClientError({"Error": {"Code": "Busy", "Message": "later"}}, "DeleteQueue")

    run.traces.add("the queue of a test", stuck)
    failed, cleaned = results(run, step("a", fail), step("b"))
    assert (failed.step, failed.error) == ("a", "it is broken")
    assert cleaned.step == "clean-up"
    assert cleaned.error.startswith("Left: the queue of a test (AWS refused the request")
    assert keys(stack) == ["another"]


def test_every_version_is_removed_where_there_are_versions(run: Run, stack: Stack) -> None:
    """No version and no delete marker of a verification's object stays in a versioned bucket."""
    for bucket in (INPUT, OUTPUT):
        stack.aws.s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )
    run.upload({run.key("a.jpg"): b"second"})
    (cleaned,) = results(run)
    assert not cleaned.error
    assert keys(stack) == ["another"]


def test_ctrl_c_in_the_clean_up_says_what_may_be_left(run: Run) -> None:
    """Folder, thumbnails and queue are named, and what was made besides."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    run.traces.add("the first", lambda: None)
    run.traces.add("the second", interrupted)
    (cleaned,) = results(run)
    assert cleaned.error.startswith("Interrupted. Left, or in part: the second; the first; s3://")
    assert f"s3://{INPUT}/{run.traces.folder}*" in cleaned.error
    assert f"thumbnails of {run.traces.folder}* in {OUTPUT}" in cleaned.error
    assert run.stack.settings.dead_letter_queue_url in cleaned.error


def test_ctrl_c_in_a_step_cleans_up(run: Run, stack: Stack) -> None:
    """Everything is removed, and the interruption goes on."""

    def interrupt(_: Run) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        results(run, step("a", interrupt))
    assert keys(stack) == ["another"]


@pytest.mark.parametrize(
    "template", ["{stem}_{width}.webp", "{width}/{stem}", "{dir}{stem}{width}"]
)
def test_no_thumbnail_can_have_the_name_of_another_image(stack: Stack, template: str) -> None:
    """Under any template, the keys of what is made have the random part that the folder has.

    They also have the word by which iac/github/roles.yaml allows them.
    """
    settings = stack.settings._replace(output_key_template=template, write_manifest=True)
    run = Run(replace(stack, settings=settings), 1, lambda _: None)
    made = run.traces.made_of([run.key("a.jpg"), run.key("backfill/00.jpg")])
    assert all(f"image-pipeline-{run.token}" in key for key in made)


def test_another_message_stays_on_the_queue(run: Run, stack: Stack) -> None:
    """Only messages about the verification's own folder are discarded."""
    queue = stack.settings.dead_letter_queue_url
    stack.aws.sqs.send_message(QueueUrl=queue, MessageBody="somebody's")
    (cleaned,) = results(run)
    assert not cleaned.error
    answer = stack.aws.sqs.receive_message(QueueUrl=queue)
    assert [each["Body"] for each in answer["Messages"]] == ["somebody's"]
