"""Replay and backfill: the real state machines, deployed, run by the commands that drive them."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aws_command_line
import pytest
import runbook
from home import COMMAND, Home
from pictures import jpeg
from serving import QUICK_AND_STRICT, client, until

from image_pipeline.local.stack import LocalStack
from image_pipeline.ports import free_port
from image_pipeline.stack import dead_letters, executions
from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.deployed import ALIAS, Stack

pytestmark = pytest.mark.local_stack

PHOTO = jpeg((64, 48))
CORRUPT = b"This is a text."

WITH_PROGRESS = "xterm-256color"
"""A kind of terminal that can show progress."""


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack for this file alone, which counts every message and object; IAM is enforced."""
    local = LocalStack(
        tmp_path_factory.mktemp("operations"),
        parameters={"DeleteWithOriginal": "true", "WriteManifest": "true"},
        variables=QUICK_AND_STRICT,
    )
    try:
        local.start(free_port(), detach=False, report=lambda _: None)
        yield local
    finally:
        local.stop()


@pytest.fixture(scope="module")
def home(local: LocalStack) -> Home:
    """The command that uses it."""
    return Home(local.directory, 0)


@pytest.fixture
def stack(local: LocalStack) -> Iterator[Stack]:
    """The stack, with both buckets and the queue empty."""
    stack = local.stack()
    yield stack
    settle(stack)
    with silent(stack):
        for bucket in (stack.input_bucket, stack.settings.output_bucket):
            for page in stack.aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                if keys := [{"Key": each["Key"]} for each in page.get("Contents", [])]:
                    stack.aws.s3.delete_objects(Bucket=bucket, Delete={"Objects": keys})
    stack.aws.sqs.purge_queue(QueueUrl=stack.settings.dead_letter_queue_url)


def settle(stack: Stack) -> None:
    """Wait until the function is idle: nothing was written for a while."""
    seen: list[object] = []

    def quiet() -> bool:
        seen.append((count(stack), messages_on_the_queue(stack)))
        return len(seen) > 20 and len(set(map(str, seen[-20:]))) == 1

    until(quiet, 60)


def put(stack: Stack, bodies: dict[str, bytes]) -> None:
    """Upload objects, by their names under the prefix."""

    def one(name: str) -> None:
        stack.aws.s3.put_object(
            Bucket=stack.input_bucket, Key=f"uploads/{name}.jpg", Body=bodies[name]
        )

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, bodies))


def count(stack: Stack, prefix: str = "") -> int:
    """Objects in the output bucket, but for the results of backfills."""
    pages = stack.aws.s3.get_paginator("list_objects_v2").paginate(
        Bucket=stack.settings.output_bucket, Prefix=prefix
    )
    keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
    return sum(not key.startswith("_image-pipeline/") for key in keys)


def messages_on_the_queue(stack: Stack) -> int:
    """Messages on the queue, hidden ones included."""
    return dead_letters.depth(stack.aws.sqs, stack.settings.dead_letter_queue_url)


def failures(stack: Stack) -> list[Failure]:
    """The failures on the queue."""
    return dead_letters.read(stack.aws.sqs, stack.settings.dead_letter_queue_url)


@contextmanager
def failing(stack: Stack, prefix: str) -> Iterator[None]:
    """S3 denies the function every object under `prefix` during the block."""
    iam = client(stack.aws, "iam")
    role = stack.aws.functions.get_function_configuration(FunctionName=stack.function_name)["Role"]
    deny = {
        "Effect": "Deny",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{stack.input_bucket}/uploads/{prefix}*",
    }
    named = {"RoleName": role.rpartition("/")[2], "PolicyName": "fault"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    iam.put_role_policy(**named, PolicyDocument=policy)
    try:
        yield
    finally:
        iam.delete_role_policy(**named)


@contextmanager
def silent(stack: Stack) -> Iterator[None]:
    """Uploads send no events, like those before the pipeline was there."""
    configuration = stack.aws.s3.get_bucket_notification_configuration(Bucket=stack.input_bucket)
    del configuration["ResponseMetadata"]
    stack.aws.s3.put_bucket_notification_configuration(
        Bucket=stack.input_bucket, NotificationConfiguration={}
    )
    try:
        yield
    finally:
        stack.aws.s3.put_bucket_notification_configuration(
            Bucket=stack.input_bucket,
            NotificationConfiguration=configuration,  # type: ignore[arg-type]  # as it was given
        )


PER_IMAGE = 3
"""Objects made for an image: two thumbnails and a manifest."""


# --- replay -------------------------------------------------------------------------------------
@pytest.mark.slow
def test_two_hundred_uploads_and_a_replay(stack: Stack, home: Home) -> None:
    """130 succeed, 50 are corrupt, S3 denies 20; a replay makes those 20 once S3 allows them."""
    with failing(stack, "down"):
        put(
            stack,
            {f"good{n}": PHOTO for n in range(130)}
            | {f"bad{n}": CORRUPT for n in range(50)}
            | {f"down{n}": PHOTO for n in range(20)},
        )
        until(lambda: (count(stack), messages_on_the_queue(stack)) == (130 * PER_IMAGE, 70), 90)
        kinds = Counter((each.error_type, each.attempts) for each in failures(stack))
        assert kinds == {("UnsupportedImage", 1): 50, ("StorageDenied", 3): 20}
    answer = home.json("replay", code=1)
    assert (answer["done"], answer["failed_again"]) == (20, 50)
    assert (answer["left"], answer["unreadable"], answer["waiting"]) == (0, 0, 50)
    found = home.json("dead-letters")["failures"]
    assert Counter((each["error_type"], each["attempts"]) for each in found) == {
        ("UnsupportedImage", 2): 50
    }
    assert {each["key"] for each in found} == {f"uploads/bad{n}.jpg" for n in range(50)}
    assert count(stack) == 150 * PER_IMAGE


def test_a_transient_failure_stays_on_the_queue_unchanged(stack: Stack, home: Home) -> None:
    """While S3 denies them the records stay, and none is added; afterwards they are done."""
    with failing(stack, "down"):
        put(stack, {f"down{n}": PHOTO for n in range(3)})
        until(lambda: messages_on_the_queue(stack) == 3)
        before = sorted(each.body for each in failures(stack))
        answer = home.json("replay", code=1)
        assert (answer["done"], answer["failed_again"], answer["left"]) == (0, 0, 3)
        assert sorted(each.body for each in failures(stack)) == before
    answer = home.json("replay")
    assert (answer["done"], answer["left"], answer["waiting"]) == (3, 0, 0)
    assert count(stack) == 3 * PER_IMAGE


def test_a_foreign_message_is_kept_and_reported(stack: Stack, home: Home) -> None:
    """Both commands report it, and it stays on the queue."""
    queue = stack.settings.dead_letter_queue_url
    for body in ("foreign", '{"Records": "none"}'):
        stack.aws.sqs.send_message(QueueUrl=queue, MessageBody=body)
    put(stack, {"bad": CORRUPT})
    until(lambda: messages_on_the_queue(stack) == 3)
    put(stack, {"bad": PHOTO})
    until(lambda: count(stack) == PER_IMAGE)
    answer = home.json("replay", code=1)
    assert (answer["done"], answer["unreadable"], answer["waiting"]) == (1, 2, 2)
    assert {each.body for each in failures(stack)} == {"foreign", '{"Records": "none"}'}
    assert {each.error_type for each in failures(stack)} == {"Unreadable"}


def test_a_replay_is_limited_by_its_options(stack: Stack, home: Home) -> None:
    """--error, --prefix and --since leave other messages alone; --max stops after that number."""
    put(stack, {f"bad{n}": CORRUPT for n in range(4)} | {f"cut{n}": PHOTO[:300] for n in range(3)})
    until(lambda: messages_on_the_queue(stack) == 7)
    answer = home.json("replay", "--error", "CorruptImage", code=1)
    assert (answer["failed_again"], answer["left"]) == (3, 0)
    attempts = Counter((each.error_type, each.attempts) for each in failures(stack))
    assert attempts == {("UnsupportedImage", 1): 4, ("CorruptImage", 2): 3}
    answer = home.json("replay", "--max", "2", code=1)
    assert answer["failed_again"] == 2
    assert Counter(each.attempts for each in failures(stack))[1] in (2, 3, 4)
    assert messages_on_the_queue(stack) == 7
    answer = home.json("replay", "--prefix", "uploads/cut1", "--since", "1h", code=1)
    assert (answer["failed_again"], answer["waiting"]) == (1, 7)


def test_failures_can_be_exported(stack: Stack, home: Home, tmp_path: Path) -> None:
    """One JSON object per line, with the message itself; the queue stays as it was."""
    put(stack, {f"bad{n}": CORRUPT for n in range(3)})
    until(lambda: messages_on_the_queue(stack) == 3)
    done = home.run("dead-letters", "--export", tmp_path / "failures.jsonl")
    assert done.returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert sorted(each["key"] for each in lines) == [f"uploads/bad{n}.jpg" for n in range(3)]
    assert all(json.loads(each["body"])["key"] == each["key"] for each in lines)
    assert messages_on_the_queue(stack) == len(failures(stack)) == 3
    shown = home.run("dead-letters").stdout
    assert "uploads/bad1.jpg" in shown
    assert "UnsupportedImage" in shown


def test_what_was_discarded_can_be_put_back(stack: Stack, home: Home, tmp_path: Path) -> None:
    """The message leaves the queue for the file, and its body is a message that can be replayed."""
    put(stack, {f"bad{n}": CORRUPT for n in range(2)})
    until(lambda: messages_on_the_queue(stack) == 2)
    copy = tmp_path / "copy.jsonl"
    answer = home.json("discard", "--prefix", "uploads/bad1", "--yes", "--export", copy)
    assert (answer["discarded"], answer["waiting"]) == (1, 1)
    assert [each.key for each in failures(stack)] == ["uploads/bad0.jpg"]
    body = json.loads(copy.read_text())["body"]
    stack.aws.sqs.send_message(QueueUrl=stack.queues[0], MessageBody=body)
    put(stack, {"bad1": PHOTO})
    until(lambda: count(stack) == PER_IMAGE)
    assert home.json("replay", code=1)["done"] == 1


def test_an_empty_queue_starts_no_replay(stack: Stack, home: Home) -> None:
    """The command says that there are no failed uploads."""
    before = runs(stack, "ReplayStateMachineArn")
    assert home.json("replay")["done"] == 0
    assert "No failed uploads." in home.run("replay").stdout
    assert runs(stack, "ReplayStateMachineArn") == before


def runs(stack: Stack, machine: str) -> int:
    """How many executions a state machine had."""
    listed = stack.aws.states.list_executions(stateMachineArn=stack.output(machine))
    return len(listed["executions"])


type Change = Callable[[dict[str, Any]], None]


@contextmanager
def variant(stack: Stack, change: Change) -> Iterator[str]:
    """The deployed replay with a change, as another state machine."""
    deployed = stack.aws.states.describe_state_machine(
        stateMachineArn=stack.output("ReplayStateMachineArn")
    )
    machine = json.loads(deployed["definition"])
    change(machine)
    arn = stack.aws.states.create_state_machine(
        name="variant", definition=json.dumps(machine), roleArn=deployed["roleArn"]
    )["stateMachineArn"]
    try:
        yield arn
    finally:
        stack.aws.states.delete_state_machine(stateMachineArn=arn)


def lane(machine: dict[str, Any]) -> dict[str, Any]:
    """The states of a lane."""
    found: dict[str, Any] = machine["States"]["Lanes"]["ItemProcessor"]["States"]
    return found


def make_quick(machine: dict[str, Any]) -> None:
    """Without waiting: received messages become visible again after two seconds."""
    lane(machine)["Receive"]["Arguments"] |= {"WaitTimeSeconds": 0, "VisibilityTimeout": 2}
    lane(machine)["Hide"]["Arguments"]["VisibilityTimeout"] = 2


def test_a_replay_that_is_stopped_anywhere_loses_nothing(stack: Stack) -> None:
    """It dies before each of its states in turn; then a whole run completes the work.

    There is a message whose image can be made now, one that fails permanently, and a foreign one.
    Wherever the run dies, each ends as it should; the second may be there twice, but is never lost.
    """
    queue = stack.settings.dead_letter_queue_url
    steps = list(lane(json.loads((REPOSITORY_ASL).read_text())))
    assert {"Receive", "Replay", "Delete", "Hide", "Report"} <= set(steps)
    for step in steps:
        put(stack, {"bad": CORRUPT, "fixed": CORRUPT})
        stack.aws.sqs.send_message(QueueUrl=queue, MessageBody="foreign")
        until(lambda: messages_on_the_queue(stack) >= 3)  # a busy machine's SQS may get one twice
        put(stack, {"fixed": PHOTO})
        until(lambda: count(stack) == PER_IMAGE)

        def die_at(machine: dict[str, Any], step: str = step) -> None:
            make_quick(machine)
            lane(machine)[step] = {"Type": "Fail", "Error": "Stopped", "Cause": step}
            del machine["States"]["Lanes"]["Retry"], machine["States"]["Lanes"]["Catch"]

        with variant(stack, die_at) as arn:
            ended = run(stack, arn)
            assert ended.status == "FAILED" or step == "Stopped", step
        until(
            lambda: len(failures(stack)) == messages_on_the_queue(stack)
        )  # what was received is visible again
        with variant(stack, make_quick) as arn:
            ended = run(stack, arn)
            assert ended.status == "SUCCEEDED", (step, ended.cause)
        until(lambda: len(failures(stack)) == messages_on_the_queue(stack))
        found = Counter(each.key or each.error_type for each in failures(stack))
        assert found.pop("Unreadable") == 1, step
        assert found.pop("uploads/bad.jpg") >= 1, step
        assert not found, step
        assert count(stack) == PER_IMAGE
        stack.aws.sqs.purge_queue(QueueUrl=queue)
        stack.aws.s3.delete_object(Bucket=stack.input_bucket, Key="uploads/fixed.jpg")
        until(lambda: count(stack) == 0)


REPOSITORY_ASL = Path(__file__).parents[2] / "iac" / "replay.asl.json"


def run(stack: Stack, machine: str, **given: Any) -> executions.Execution:
    """Run a state machine to its end."""
    arn = executions.start(stack.aws.states, machine, given).arn
    return until(
        lambda: (None if (found := executions.describe(stack.aws.states, arn)).running else found),
        60,
    )  # type: ignore[return-value]  # `until` returns what is true


def test_a_replay_without_its_queue_fails(stack: Stack) -> None:
    """An execution that cannot do its work is not a success, and the command says so."""
    ended = run(
        stack, stack.output("ReplayStateMachineArn"), queue_url="http://127.0.0.1/000000000000/no"
    )
    assert (ended.status, ended.error) == ("FAILED", "ReplayFailed")
    assert "Sqs." in ended.cause


# --- backfill -----------------------------------------------------------------------------------
REQUEST = re.compile(r'"([A-Z]+) (\S+) [\d.]+" \d')


def requests_of(local: LocalStack, bucket: str, since: int) -> Counter[str]:
    """Requests for objects of a bucket by method, after the first `since` bytes of the log."""
    log = (local.directory / "requests.log").read_bytes()[since:].decode()
    return Counter(
        method
        for method, path in REQUEST.findall(log)
        if path.startswith(f"/{bucket}/") and "/_image-pipeline/" not in path
    )


@pytest.mark.slow
def test_a_backfill_of_a_thousand_objects(stack: Stack, local: LocalStack, home: Home) -> None:
    """300 are done: it makes the other 700. The second run makes none, by HEADs and lists alone."""
    put(stack, {f"done{n}": PHOTO for n in range(300)})
    until(lambda: count(stack) == 300 * PER_IMAGE, 120)
    with silent(stack):
        put(stack, {f"old/{n}": PHOTO for n in range(700)})
    planned = home.json("backfill", "--dry-run")
    assert planned["objects"] == 1000
    assert planned["size"] == 1000 * len(PHOTO)
    assert (planned["to_make"], planned["current"]) == (700, 300)
    assert planned["estimated_dollars"] > 0
    assert count(stack) == 300 * PER_IMAGE
    done = home.json("backfill", "--yes")
    assert (done["made"], done["current"]) == (planned["to_make"], planned["current"])
    assert (done["skipped"], done["failed"], done["unreported"]) == (0, 0, [])
    assert count(stack) == 1000 * PER_IMAGE

    log = local.directory / "requests.log"
    since = log.stat().st_size
    again = home.json("backfill", "--yes")
    assert (again["made"], again["current"]) == (0, 1000)
    until(lambda: requests_of(local, stack.settings.output_bucket, since)["HEAD"] == 3000)
    assert requests_of(local, stack.settings.output_bucket, since) == {"HEAD": 3000}
    assert requests_of(local, stack.input_bucket, since) == {}
    assert home.json("backfill", "--dry-run")["to_make"] == 0


def test_a_backfill_is_capped_and_keeps_to_its_prefix(stack: Stack, home: Home) -> None:
    """--max and --prefix limit it; folder markers are skipped, failures are reported."""
    with silent(stack):
        put(stack, {f"a/{n}": PHOTO for n in range(5)} | {f"b/{n}": PHOTO for n in range(5)})
        put(stack, {"b/bad": CORRUPT})
        stack.aws.s3.put_object(Bucket=stack.input_bucket, Key="uploads/b/", Body=b"")
    assert home.json("backfill", "--max", "3", "--yes")["made"] == 3
    assert count(stack, "a/") == 3 * PER_IMAGE
    planned = home.json("backfill", "--prefix", "uploads/b/", "--dry-run")
    assert (planned["to_make"], planned["skipped"], planned["beyond"]) == (6, 1, False)
    done = home.json("backfill", "--prefix", "uploads/b/", "--yes", code=1)
    assert (done["made"], done["failed"], done["skipped"]) == (5, 1, 1)
    (failure,) = until(lambda: failures(stack))
    assert (failure.key, failure.error_type) == ("uploads/b/bad.jpg", "UnsupportedImage")
    again = home.json("backfill", "--prefix", "uploads/b/", "--yes", code=1)
    assert (again["made"], again["failed"]) == (0, 1)
    assert messages_on_the_queue(stack) == 1  # a second backfill adds no second message
    assert home.json("replay", code=1)["failed_again"] == 1
    home.json("backfill", "--prefix", "uploads/b/", "--yes", code=1)
    (failure,) = until(lambda: failures(stack))
    assert failure.attempts == 2
    assert home.json("backfill", "--max", "3", "--dry-run")["beyond"] is True
    wrong = home.run("backfill", "--prefix", "elsewhere/")
    assert wrong.returncode == 1
    assert "uploads/" in wrong.stderr
    asked = home.run("backfill")
    assert asked.returncode == 1
    assert "--yes" in asked.stderr


def test_a_backfill_of_a_missing_function_says_what_to_do(stack: Stack, home: Home) -> None:
    """It ends without a message for each image; the next one makes them."""
    with silent(stack):
        put(stack, {f"{n}": PHOTO for n in range(3)})
    functions, alias = stack.aws.functions, {"FunctionName": stack.function_name, "Name": ALIAS}
    version = functions.get_alias(**alias)["FunctionVersion"]
    where = {"FunctionName": stack.function_name, "Qualifier": ALIAS}
    retries = functions.get_function_event_invoke_config(**where)
    functions.delete_alias(**alias)
    try:
        failed = home.run("backfill", "--yes")
    finally:
        functions.create_alias(**alias, FunctionVersion=version)
        kept = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
        functions.put_function_event_invoke_config(
            **where, **{name: retries[name] for name in kept}
        )
    assert failed.returncode == 1
    assert "Lambda.ResourceNotFoundException" in failed.stderr
    assert "a-part-of-the-stack-was-deleted" in failed.stderr
    assert messages_on_the_queue(stack) == 0
    assert home.json("backfill", "--yes")["made"] == 3


def written_at(stack: Stack) -> dict[str, tuple[str, datetime]]:
    """Etag and time of every object in the output bucket, but for the results of backfills."""
    listed = stack.aws.s3.list_objects_v2(Bucket=stack.settings.output_bucket)["Contents"]
    return {
        each["Key"]: (each["ETag"], each["LastModified"])
        for each in listed
        if not each["Key"].startswith("_image-pipeline/")
    }


def test_a_remake_makes_what_is_current_within_its_limits(stack: Stack, home: Home) -> None:
    """Previewed and capped like any backfill; all objects of the images are written, equal here."""
    put(stack, {f"{name}/{n}": PHOTO for name in ("a", "b") for n in range(3)})
    until(lambda: count(stack) == 6 * PER_IMAGE)
    settle(stack)
    before = written_at(stack)
    words = ("backfill", "--prefix", "uploads/a/", "--remake")
    assert home.json("backfill", "--dry-run")["to_make"] == 0
    planned = home.json(*words, "--dry-run")
    assert (planned["remake"], planned["to_make"], planned["current"]) == (True, 3, 0)
    assert written_at(stack) == before
    time.sleep(1.1)  # S3 reports whole seconds
    assert home.json(*words, "--max", "2", "--yes")["made"] == 2
    after = written_at(stack)
    assert {key: etag for key, (etag, _) in after.items()} == {
        key: etag for key, (etag, _) in before.items()
    }
    changed = {key for key in after if after[key] != before[key]}
    assert len(changed) == 2 * PER_IMAGE
    assert all(key.startswith("a/") for key in changed)


def test_objects_that_s3_keeps_in_other_ways(stack: Stack, home: Home) -> None:
    """Archived and with SSE-C: one message after one attempt; gzip: thumbnails. No other failures.

    A backfill leaves the archived one out, counts it, and sends no further message for it.
    """
    key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "0123456789abcdef" * 2}
    kinds: dict[str, dict[str, Any]] = {
        "archived": {"StorageClass": "DEEP_ARCHIVE"},
        "secret": key,
        "inflated": {"ContentEncoding": "gzip", "Body": gzip.compress(PHOTO)},
        "instant": {"StorageClass": "GLACIER_IR"},
    }
    for name, kind in kinds.items():
        stack.aws.s3.put_object(
            Bucket=stack.input_bucket, Key=f"uploads/{name}.jpg", **{"Body": PHOTO, **kind}
        )
    until(lambda: (count(stack), messages_on_the_queue(stack)) == (2 * PER_IMAGE, 2), 60)
    found = {(each.key, each.error_type, each.attempts) for each in failures(stack)}
    assert found == {
        ("uploads/archived.jpg", "SourceArchived", 1),
        ("uploads/secret.jpg", "SourceEncrypted", 1),
    }
    planned = home.json("backfill", "--dry-run")
    assert (planned["archived"], planned["current"], planned["to_make"]) == (1, 2, 1)
    done = home.json("backfill", "--yes", code=1)
    assert (done["archived"], done["current"], done["failed"]) == (1, 2, 1)
    assert Counter(each.error_type for each in failures(stack)) == {
        "SourceArchived": 1,
        "SourceEncrypted": 2,
    }


def test_transient_failures_of_a_backfill_are_put_on_the_queue(stack: Stack, home: Home) -> None:
    """S3 denies half of the images: each gets a message, and a replay makes it later."""
    with silent(stack):
        put(stack, {f"down{n}": PHOTO for n in range(4)} | {f"up{n}": PHOTO for n in range(4)})
    with failing(stack, "down"):
        done = home.json("backfill", "--yes", code=1)
    assert (done["made"], done["failed"]) == (4, 4)
    assert Counter(each.error_type for each in failures(stack)) == {"StorageDenied": 4}
    assert home.json("replay")["done"] == 4
    assert count(stack) == 8 * PER_IMAGE


def test_a_backfill_can_be_stopped_and_continued(stack: Stack, home: Home) -> None:
    """Its batches stop with it; another run makes what is missing."""
    with silent(stack):
        put(stack, {str(n): jpeg((1600, 1200)) for n in range(200)})
    started = executions.start(
        stack.aws.states, stack.output("BackfillStateMachineArn"), {"concurrency": 1}
    )
    until(lambda: count(stack) > 0)
    executions.stop(stack.aws.states, started.arn)
    assert executions.describe(stack.aws.states, started.arn).status == "ABORTED"
    settle(stack)
    made = count(stack)
    assert 0 < made < 200 * PER_IMAGE
    done = home.json("backfill", "--yes")
    assert done["made"] + done["current"] == 200
    assert done["current"] == made // PER_IMAGE
    assert count(stack) == 200 * PER_IMAGE


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL]
)
@pytest.mark.parametrize("name", ["backfill", "replay"])
def test_a_killed_command_is_run_again(
    stack: Stack, home: Home, name: str, number: signal.Signals
) -> None:
    """What it started continues in AWS; the next call follows that, or finds it done."""
    words = ["backfill", "--yes", "--concurrency", "1"] if name == "backfill" else ["replay"]
    images = {str(n): jpeg((1600, 1200)) for n in range(60)}
    if name == "replay":
        put(stack, dict.fromkeys(images, CORRUPT))
        until(lambda: messages_on_the_queue(stack) == len(images))
    with silent(stack):
        put(stack, images)
    with subprocess.Popen(  # noqa: S603 - the command under test
        [COMMAND, *words], env=home.environment, stdout=subprocess.DEVNULL
    ) as process:
        until(lambda: count(stack) > 0, 30)
        process.send_signal(number)
        process.wait(10)
    home.json(*words)
    until(lambda: count(stack) == len(images) * PER_IMAGE, 60)
    until(lambda: messages_on_the_queue(stack) == 0, 60)


def test_ctrl_c_offers_to_stop_a_backfill(stack: Stack, home: Home) -> None:
    """A no leaves it running, and the next call follows it; a yes stops it."""
    with silent(stack):
        put(stack, {str(n): jpeg((1600, 1200)) for n in range(250)})

    def statuses() -> list[str]:
        arn = stack.output("BackfillStateMachineArn")
        listed = stack.aws.states.list_executions(stateMachineArn=arn)["executions"]
        return [each["status"] for each in listed if each["startDate"] >= began]

    began = datetime.now(UTC) - timedelta(seconds=1)
    leave = {"Start?": b"y\n", "0/250": b"\x03", "Stop the backfill?": b"n\n"}
    words = ["backfill", "--concurrency", "1"]
    code, shown = home.in_a_terminal(*words, answers=leave, TERM=WITH_PROGRESS)
    assert (code, statuses()) == (130, ["RUNNING"]), shown
    stop = {"/250": b"\x03", "Stop the backfill?": b"y\n"}
    code, shown = home.in_a_terminal("backfill", answers=stop, TERM=WITH_PROGRESS)
    assert (code, statuses()) == (130, ["ABORTED"]), shown
    assert "nothing is lost" in shown


def test_a_running_backfill_is_followed(stack: Stack, home: Home) -> None:
    """No second one is started beside it."""
    with silent(stack):
        put(stack, {str(n): jpeg((1600, 1200)) for n in range(60)})
    started = executions.start(
        stack.aws.states, stack.output("BackfillStateMachineArn"), {"concurrency": 1}
    )
    done = home.run("backfill", "--yes", "--json")
    assert "has been running since" in done.stderr
    assert json.loads(done.stdout)["execution"] == started.arn
    assert json.loads(done.stdout)["made"] == 60


# --- the runbook --------------------------------------------------------------------------------
ASKING = {
    "backfill": ("--dry-run",),
    "prune": ("--dry-run",),
    "verify": ("--yes", "--only", "identity"),
    "try": ("--no-browser", "--no-score"),
}
"""What is added to commands that would ask, open a browser, or take long."""


@pytest.fixture
def as_an_account(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """`--stack NAME` means the local stack, in an empty folder; values of the placeholders."""
    for name, value in stack.aws.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    ended = run(stack, stack.output("BackfillStateMachineArn"))
    return {
        "NAME": stack.name,
        "QUEUE_URL": stack.settings.dead_letter_queue_url,
        "OUTPUT-BUCKET": stack.settings.output_bucket,
        "REPLAY_ARN": stack.output("ReplayStateMachineArn"),
        "BACKFILL_ARN": stack.output("BackfillStateMachineArn"),
        "ROLE_ARN": stack.output("FunctionRoleArn"),
        "EXECUTION_ARN": ended.arn,
        "MAP_RUN_ARN": next(executions.map_runs(stack.aws.states, ended.arn))["mapRunArn"],
    }


def test_every_command_of_the_runbook_runs(
    stack: Stack, home: Home, as_an_account: dict[str, str], tmp_path: Path
) -> None:
    """Each succeeds as it is printed, but for what needs AWS, which the runbook lists.

    There is a message about an image that can be made now, so that the first replay has work.
    """
    put(stack, {"fixed": CORRUPT})
    until(lambda: messages_on_the_queue(stack) == 1)
    (failure,) = failures(stack)
    put(stack, {"fixed": PHOTO})
    until(lambda: count(stack) == PER_IMAGE)
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").write_bytes(PHOTO)
    listed = set(runbook.exceptions())
    queue = stack.settings.dead_letter_queue_url
    for command in runbook.commands():
        if command in listed:
            continue
        if command.endswith("--max 100000"):  # what it exports, the next command sends again
            stack.aws.sqs.send_message(QueueUrl=queue, MessageBody=failure.body)
        filled = runbook.PLACEHOLDERS.sub(lambda found: as_an_account[found[0]], command)
        run_as_printed(home, filled, tmp_path)
        if runbook.is_shell(command):
            assert [each.body for each in failures(stack)] == [failure.body] * 2
            stack.aws.sqs.purge_queue(QueueUrl=queue)
    assert messages_on_the_queue(stack) == 0


def run_as_printed(home: Home, command: str, folder: Path) -> None:
    """Run a command of the runbook; a pipe by a shell that has `aws`."""
    if runbook.is_shell(command):
        script = folder / "aws"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {aws_command_line.__file__} "$@"\n')
        script.chmod(0o755)
        subprocess.run(  # noqa: S603 - a line of the runbook
            ["/bin/bash", "-o", "pipefail", "-c", command],
            env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
            check=True,
        )
        return
    words = runbook.words(command)
    if words[0] == "aws":
        aws_command_line.run(words)
        return
    program, name, *rest = words
    assert program == "image-pipeline", command
    done = home.run(name, *rest, *ASKING.get(name, ()))
    waiting = name == "status"  # a message is on the queue, which `status` reports with 1
    assert done.returncode == int(waiting), (command, done.stdout, done.stderr)


def test_from_the_text_of_an_alarm_to_a_verified_fix(
    stack: Stack, home: Home, as_an_account: dict[str, str]
) -> None:
    """The dead-letter alarm, with nothing but its text: its commands, and the section it links.

    S3 denies two images. The first command says so, the linked page says what to do about that
    error, and after the fix the replay makes them, the queue is empty and the stack works.
    """
    del as_an_account  # `--stack` and `--region` are in the text
    (alarm,) = stack.aws.cloudwatch.describe_alarms(AlarmNames=[f"{stack.name}-letters-waiting"])[
        "MetricAlarms"
    ]
    text = alarm["AlarmDescription"]
    see, replay, check = (
        command.split() for command in re.findall(r"^image-pipeline (.+)$", text, re.MULTILINE)
    )
    section = runbook.sections()[re.search(r"^Runbook: \S+#(\S+)$", text, re.MULTILINE)[1]]  # type: ignore[index]  # it is there
    with failing(stack, "down"):
        put(stack, {"down1": PHOTO, "down2": PHOTO})
        until(lambda: messages_on_the_queue(stack) == 2)
        found = home.json(*see)["failures"]
        assert {each["error_type"] for each in found} == {"StorageDenied"}
        assert "(#what-each-error-means)" in section
        assert re.search(r"^\| `StorageDenied` \|.*FunctionRoleArn", runbook.TEXT, re.MULTILINE)
    assert home.json(*replay)["done"] == 2
    checked = home.run(*check, "--json")
    assert checked.returncode in (
        0,
        1,
    ), checked.stderr  # other tests have left errors in the metrics
    assert json.loads(checked.stdout)["dead_letters"] == 0
    assert count(stack) == 2 * PER_IMAGE
    smoke = next(each for each in runbook.commands(section) if "smoke" in each)
    _, name, *_ = smoke.split()
    assert home.json(name, *check[1:])["ok"] is True


# --- the rest -----------------------------------------------------------------------------------
def test_what_earlier_settings_made_goes_with_the_original(stack: Stack) -> None:
    """A thumbnail of a size and one of a template that the stack no longer has; others' stay."""
    put(stack, {"old": PHOTO, "old2": PHOTO})
    until(lambda: count(stack) == 2 * PER_IMAGE)
    output = stack.settings.output_bucket
    made = {"Bucket": output, "Key": "old_128w.webp"}
    for key in ("old_64w.webp", "old.jpg-128.webp", "old.jpg.json"):
        stack.aws.s3.copy_object(Bucket=output, Key=key, CopySource=made)
    stack.aws.s3.put_object(Bucket=output, Key="old_by-hand.webp", Body=b"by hand")
    stack.aws.s3.delete_object(Bucket=stack.input_bucket, Key="uploads/old.jpg")
    until(lambda: count(stack) == PER_IMAGE + 1)
    assert count(stack, "old2") == PER_IMAGE
    assert count(stack, "old_by-hand.webp") == 1


def test_thumbnails_go_with_their_original(stack: Stack) -> None:
    """An upload, its deletion and its return, through the bucket's own notifications."""
    put(stack, {"here": PHOTO, "stays": PHOTO})
    until(lambda: count(stack) == 2 * PER_IMAGE)
    stack.aws.s3.delete_object(Bucket=stack.input_bucket, Key="uploads/here.jpg")
    until(lambda: count(stack) == PER_IMAGE)
    assert count(stack, "stays") == PER_IMAGE
    put(stack, {"here": PHOTO})
    until(lambda: count(stack) == 2 * PER_IMAGE)


def test_costs_are_estimated_for_the_stack(stack: Stack, home: Home) -> None:
    """Writes are counted by the stack's sizes and manifest, compute by its memory."""
    answer = home.json("cost", "--images", "10000", "--duration", "200")
    assert answer["writes"] == PER_IMAGE
    assert answer["images_cost"]["S3, writes"] == pytest.approx(10_000 * 3 * 0.005 / 1000)
    price = {"arm64": 0.0000133334, "x86_64": 0.0000166667}[stack.architecture]
    assert answer["images_cost"]["Lambda, time"] == pytest.approx(10_000 * 0.2 * 0.5 * price)
    assert answer["total"] == pytest.approx(sum(answer["images_cost"].values()))
    assert "CloudWatch" in home.run("cost").stdout


def test_try_makes_what_the_deployed_function_makes(
    stack: Stack, home: Home, tmp_path: Path
) -> None:
    """By the current settings, each thumbnail is as large as in the bucket, which is as before."""
    put(stack, {"photo": jpeg((900, 600))})
    until(lambda: count(stack) == 3)
    before = objects(stack)
    found = home.json("try", "--out", tmp_path, "--formats", "webp,avif", "--no-browser")
    assert objects(stack) == before
    (compared,) = found["compared"]
    stored = {key: size for key, size in before if key.endswith(".webp")}
    assert {
        f"photo_{each['size']}.{each['format']}": each["bytes"]
        for each in compared["current"]["thumbnails"]
    } == stored
    assert (found["backfill"]["missing"], found["backfill"]["images"]) == (2, 1)
    assert (tmp_path / "contact-sheet.html").exists()


def objects(stack: Stack) -> list[tuple[str, int]]:
    """Key and bytes of every object of the output bucket."""
    found = stack.aws.s3.list_objects_v2(Bucket=stack.settings.output_bucket).get("Contents", [])
    return [(each["Key"], each["Size"]) for each in found]
