"""The steps of a verification, its clean-up, its cost and its table, without a stack that works."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aws_names import INPUT, OUTPUT
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from home import Home
from moto_stack import moto_stack, process
from pictures import jpeg

from image_pipeline.cli.steps import run_steps
from image_pipeline.errors import CommandError, PartFailed
from image_pipeline.stack import traces, verification
from image_pipeline.stack.aws import AccessKey, Aws
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.uploads import State
from image_pipeline.stack.verification import CLEAN_UP, Result, Run, Step, verify
from image_pipeline.stack.verify import SMOKE, STEPS, choose, estimate
from thumbnailer.provenance import LONG_AGO

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
    run.unsettled.clear()  # the function is done with it
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
    run.unsettled.clear()
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


def test_after_ctrl_c_each_fact_is_reported(run: Run) -> None:
    """The interrupted step and what is left are reported, and the exit code is that of Ctrl-C.

    So it is with --json: no fact hides another.
    """

    def interrupt(_: Run) -> str:
        raise KeyboardInterrupt

    def stuck() -> None:
        raise ClientError({"Error": {"Code": "Busy", "Message": "later"}}, "DeleteQueue")

    run.traces.add("the queue of a test", stuck)
    ended = run_steps(run, [step("a"), step("b", interrupt), step("c")], quiet=True)
    assert ended.code == 130
    facts = ended.to_json("verification")
    assert (facts["ok"], facts["failed_step"]) == (False, "b")
    assert facts["left"].startswith("Left: the queue of a test (AWS refused the request")
    assert facts["error"].splitlines() == [
        "The verification failed at the step 'do b': it was interrupted",
        f"The verification failed at the step 'clean up': {facts['left']}",
    ]


# --- what Lambda still does with the uploads ----------------------------------------------------
@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lambda retries for a moment only, and nobody pauses between two looks."""
    monkeypatch.setattr(verification, "retry_seconds", lambda _: 0.5)
    for module in (traces, verification):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.01)


def send_record(stack: Stack, key: str) -> None:
    """Send what Lambda sends after its last attempt at the event of an upload."""
    stored = {"bucket": {"name": INPUT}, "object": {"key": key}}
    event = {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": stored}]}
    record = {
        "version": "1.0",
        "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
        "requestPayload": event,
        "responsePayload": {"errorType": "Runtime.ImportModuleError", "errorMessage": "no handler"},
    }
    stack.aws.sqs.send_message(
        QueueUrl=stack.settings.dead_letter_queue_url, MessageBody=json.dumps(record)
    )


def waiting(run: Run, act: Callable[[], None]) -> None:
    """Do something once, when the clean-up begins to wait."""

    def say(doing: str) -> None:
        if "waiting for Lambda's retries" in doing:
            run.say = lambda _: None
            act()

    run.say = say


def messages(stack: Stack) -> int:
    """Messages on the queue."""
    return len(
        stack.aws.sqs.receive_message(
            QueueUrl=stack.settings.dead_letter_queue_url, VisibilityTimeout=0
        ).get("Messages", [])
    )


@pytest.mark.usefixtures("impatient")
def test_a_record_of_a_broken_function_that_comes_late_is_removed(run: Run, stack: Stack) -> None:
    """The step gives up before Lambda does; the clean-up waits for the last retry."""
    run.expect_event(run.key("a.jpg"))
    waiting(run, lambda: send_record(stack, run.key("a.jpg")))
    failed, cleaned = results(run, step("a", fail))
    assert (failed.error, cleaned.error) == ("it is broken", "")
    assert (keys(stack), messages(stack)) == (["another"], 0)
    assert not run.unsettled


@pytest.mark.usefixtures("impatient")
def test_the_records_of_deletions_by_a_broken_function_are_removed(run: Run, stack: Stack) -> None:
    """With DeleteWithOriginal, the clean-up itself sends events, which fail as well."""
    settings = stack.settings._replace(delete_with_original=True)
    run.stack = run.traces.stack = replace(stack, settings=settings)
    run.expect_event(run.key("a.jpg"))
    send_record(stack, run.key("a.jpg"))
    events = stack.aws.sqs.meta.events

    def deletion_failed(**_: object) -> None:
        events.unregister("after-call.sqs.DeleteMessage", deletion_failed)
        send_record(stack, run.key("a.jpg"))

    events.register("after-call.sqs.DeleteMessage", deletion_failed)
    (cleaned,) = results(run)
    assert not cleaned.error
    assert messages(stack) == 0


@pytest.mark.usefixtures("impatient")
def test_ctrl_c_ends_the_wait_and_not_the_clean_up(run: Run, stack: Stack) -> None:
    """Everything that is there is removed, and what may still come is reported."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    run.expect_event(run.key("a.jpg"))
    waiting(run, interrupted)
    (cleaned,) = results(run)
    assert cleaned.error.startswith(f"Left: thumbnails or messages of {run.key('a.jpg')}, which")
    assert "image-pipeline replay" in cleaned.error
    assert keys(stack) == ["another"]


@pytest.mark.usefixtures("impatient")
def test_nothing_is_left_in_what_does_not_exist(run: Run, stack: Stack) -> None:
    """Without output bucket and queue, the clean-up has nothing to report but does the rest."""
    stack.aws.s3.delete_objects(
        Bucket=OUTPUT, Delete={"Objects": [{"Key": key} for key in keys(stack)]}
    )
    stack.aws.s3.delete_bucket(Bucket=OUTPUT)
    stack.aws.sqs.delete_queue(QueueUrl=stack.settings.dead_letter_queue_url)
    failed, cleaned = results(run, step("a", fail))
    assert (failed.error, cleaned.error) == ("it is broken", "")
    assert "Contents" not in stack.aws.s3.list_objects_v2(Bucket=INPUT)


@pytest.mark.usefixtures("impatient")
def test_a_queue_that_cannot_be_read_does_not_fail_the_step_of_the_thumbnails(
    run: Run, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported where there are none, and left to the step that needs it where there are."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", str(stack.aws.endpoint_url))
    run.upload({run.key("good.jpg"): jpeg((64, 48))})
    process(stack, run.key("good.jpg"))
    stack.aws.sqs.delete_queue(QueueUrl=stack.settings.dead_letter_queue_url)
    (outcome,) = run.expect([run.key("good.jpg")], State.DONE)
    assert outcome.state is State.DONE
    with pytest.raises(CommandError, match=r"(?s)nothing happened within.*cannot be read: .*queue"):
        run.expect([run.key("a.jpg")], State.DONE)
    with pytest.raises(CommandError, match="queue does not exist"):
        run.expect([run.key("a.jpg")], State.FAILED)


def test_the_wait_is_as_long_as_lambda_retries(stack: Stack) -> None:
    """A minute, then two, and three attempts of the function's time-out; seconds in a local stack.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
    """
    account = replace(stack, aws=cast("Any", SimpleNamespace(endpoint_url=None)), timeout=30)
    assert verification.retry_seconds(account) == 60 + 120 + 3 * 30
    once = replace(account, parameters={"MaximumRetryAttempts": "0"})
    assert verification.retry_seconds(once) == 30
    assert verification.retry_seconds(stack) < 5
    assert verification.retry_seconds(account) < verification.MAX_WAIT


def test_a_stack_without_its_function_is_not_verified() -> None:
    """It ends before the first step, so that nothing is made. `PartFailed` leads to `status`."""
    account = Aws.local("http://127.0.0.1:9", AccessKey("testing", "testing"))
    described = {
        "StackName": "broken",
        "StackStatus": "CREATE_COMPLETE",
        "CreationTime": LONG_AGO,
        "Outputs": [{"OutputKey": "FunctionName", "OutputValue": "gone"}],
    }
    with Stubber(account.cloudformation) as stacks, Stubber(account.functions) as functions:
        stacks.add_response("describe_stacks", {"Stacks": [described]})
        functions.add_client_error("get_function_configuration", "ResourceNotFoundException")
        with pytest.raises(PartFailed, match=r"function gone .* does not exist\."):
            Stack.find(account, "broken")


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
