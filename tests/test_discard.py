"""Commands about failed uploads: groups, filters, discarding, replaying a selection."""

import io
import json
import os
import threading
from contextlib import nullcontext
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
from aws_names import OUTPUT
from botocore.exceptions import ClientError
from home import Home
from moto_stack import moto_stack, send_dead_letter

from image_pipeline.cli import targets
from image_pipeline.errors import CommandError
from image_pipeline.stack import dead_letters, discard
from image_pipeline.stack.dead_letters import read_all
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.triage import MAX_GROUPS
from thumbnailer.dead_letters import mark_key
from thumbnailer.errors import StorageDenied, UnsupportedImage

RECORD = {
    "version": "1.0",
    "timestamp": "2026-01-01T00:00:01.000Z",
    "requestContext": {"approximateInvokeCount": 3, "condition": "RetriesExhausted"},
    "responsePayload": {"errorType": "StorageDenied", "errorMessage": "denied"},
}


@pytest.fixture
def stack(s3: Any, aws: str, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The stack that every command finds: buckets and a queue, without a function."""
    del s3  # it has created the buckets
    made = moto_stack(aws)
    monkeypatch.setattr(targets, "find_stack", lambda **_: made)
    return made


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The command, run in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return Home(tmp_path, 0)


def fail(stack: Stack, *names: str, error: Any = None) -> None:
    """Send a dead-letter message for each name."""
    for name in names:
        send_dead_letter(stack, f"uploads/{name}", "e", error)


def fail_together(stack: Stack, *names: str) -> None:
    """Send one OnFailure record that names several uploads."""
    records = [
        {"s3": {"bucket": {"name": "in"}, "object": {"key": f"uploads/{name}", "eTag": "e"}}}
        for name in names
    ]
    body = json.dumps(RECORD | {"requestPayload": {"Records": records}})
    stack.aws.sqs.send_message(QueueUrl=stack.queues[0], MessageBody=body)


def queued(stack: Stack) -> set[str]:
    """The names of the uploads on the queue."""
    return {each.key.removeprefix("uploads/") for each in read_all(stack).failures}


# --- dead-letters -------------------------------------------------------------------------------
def test_failures_are_shown_by_cause_or_each(stack: Stack, home: Home) -> None:
    """Groups name three of their keys; --list names all; the JSON has both, and what was read."""
    fail(stack, *(f"{n}.txt" for n in range(5)), error=UnsupportedImage("plain text"))
    fail(stack, "locked.jpg", error=StorageDenied("denied"))
    shown = home.run("dead-letters").stdout
    assert shown.count(".txt") == 3
    assert "of 5 uploads" in shown
    assert shown.index("plain text") < shown.index("StorageDenied")
    assert home.run("dead-letters", "--list").stdout.count(".txt") == 5
    found = home.json("dead-letters", "--error", "StorageDenied", "--prefix", "uploads/lock")
    assert (found["waiting"], found["read"], len(found["failures"])) == (6, 6, 1)
    (group,) = found["groups"]
    assert (group["cause"], group["examples"]) == ("denied", ["uploads/locked.jpg"])
    assert home.json("dead-letters", "--since", "1h", "--older-than", "1h")["failures"] == []
    assert "No failed upload" in home.run("dead-letters", "--older-than", "2d").stdout
    wrong = home.run("dead-letters", "--since", "yesterday")
    assert (wrong.returncode, "such as 90m" in wrong.stderr) == (2, True)


def test_every_command_to_run_names_the_stack(
    stack: Stack, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its region; and where there are too many causes, `discard` names a command that exists.

    It has no --list of its own.
    """
    monkeypatch.setattr(Stack, "options", " --stack x --region y")
    for cause in ascii_lowercase[: MAX_GROUPS + 1]:
        fail(stack, f"{cause}.jpg", error=StorageDenied(cause))
    assert "image-pipeline replay --stack x --region y" in home.run("dead-letters").stdout
    shown = home.run("discard", "--all", "--dry-run").stdout
    assert "in 1 groups: image-pipeline dead-letters --list --stack x --region y" in shown


def test_messages_that_were_not_read_are_counted(stack: Stack, home: Home) -> None:
    """The command says how many there are, and whether they are in flight or over the maximum."""
    fail(stack, *map(str, range(23)))
    limited = home.run("dead-letters", "--max", "20").stdout
    assert "20 of about 23 messages were read. To read more, pass --max." in limited
    stack.aws.sqs.receive_message(QueueUrl=stack.queues[0], MaxNumberOfMessages=3)
    text = " ".join(home.run("dead-letters").stdout.split())
    assert "20 of about 23 messages were read. The others are in flight" in text


def test_a_slow_queue_is_read_for_a_limited_time(
    stack: Stack, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not read in time is counted, and said; nothing stays hidden."""
    fail(stack, *map(str, range(20)))
    monkeypatch.setattr(dead_letters, "MAX_READ_SECONDS", 0)
    assert "0 of about 20 messages were read. Reading stops" in home.run("dead-letters").stdout
    monkeypatch.undo()
    assert len(queued(stack)) == 20


def test_many_messages_are_received_in_parallel(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests are under way at the same time, because one returns ten messages at most."""
    fail(stack, *map(str, range(20)))
    receive, both = stack.aws.sqs.receive_message, threading.Barrier(2, timeout=10)
    first_two = iter("12")

    def together(**request: Any) -> Any:
        if next(first_two, None):
            both.wait()
        return receive(**request)

    monkeypatch.setattr(stack.aws.sqs, "receive_message", together)
    assert read_all(stack).messages == 20


def test_a_message_that_sqs_delivers_twice_is_one(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages are counted by their id, across threads and requests."""
    fail(stack, *map(str, range(25)))
    receive = stack.aws.sqs.receive_message
    first: list[Any] = []

    def twice(**request: Any) -> Any:
        answer = receive(**request)
        first.extend(answer.get("Messages", [])[:1])
        return answer | {"Messages": [*answer.get("Messages", []), *first[:1]]}

    monkeypatch.setattr(stack.aws.sqs, "receive_message", twice)
    reading = read_all(stack)
    assert (reading.messages, len(reading.failures), reading.total) == (25, 25, 25)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AWS.SimpleQueueService.NonExistentQueue", "image-pipeline status"),
        ("QueueDoesNotExist", "does not exist any more"),
        ("KMS.DisabledException", "aws kms enable-key"),
        ("KmsInvalidState", "still on the queue"),
        ("AWS.SimpleQueueService.Other", "AWS refused the request"),
    ],
)
def test_an_unusable_queue_is_explained(
    stack: Stack, home: Home, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    """If the queue or its key is gone, every command says what it means and what to do."""

    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "GetQueueAttributes")

    monkeypatch.setattr(stack.aws.sqs, "get_queue_attributes", refuse)
    for command in (["dead-letters"], ["discard", "--all", "--yes"]):
        done = home.run(*command)
        assert done.returncode == 1
        assert words in " ".join(done.stderr.split())


# --- discard ------------------------------------------------------------------------------------
def test_what_matches_is_exported_and_then_deleted(
    stack: Stack, home: Home, tmp_path: Path
) -> None:
    """A dry run deletes nothing; then the file has the messages, and the queue has the others."""
    fail(stack, "a.txt", "b.txt", error=UnsupportedImage("plain text"))
    fail(stack, "c.jpg")
    chosen = ["discard", "--error", "UnsupportedImage"]
    assert "Nothing was deleted" in home.run(*chosen, "--dry-run").stdout
    assert (home.json(*chosen, "--dry-run")["matching"], list(tmp_path.iterdir())) == (2, [])
    asked = home.run(*chosen)
    assert (asked.returncode, "pass --yes" in asked.stderr) == (1, True)
    assert len(queued(stack)) == 3
    bodies = {each.body for each in read_all(stack).failures if each.key.endswith(".txt")}
    done = home.json(*chosen, "--yes")
    assert (done["discarded"], done["kept"], done["waiting"]) == (2, 0, 1)
    lines = [json.loads(line) for line in Path(done["export"]).read_text().splitlines()]
    assert {each["body"] for each in lines} == bodies
    assert {each["keys"][0] for each in lines} == {"uploads/a.txt", "uploads/b.txt"}
    assert queued(stack) == {"c.jpg"}
    assert home.json(*chosen, "--yes")["export"] is None


def test_a_message_is_discarded_only_if_all_its_uploads_match(stack: Stack, home: Home) -> None:
    """An upload that was not meant keeps its message, which names others too."""
    fail_together(stack, "keep/1.jpg", "drop/1.jpg")
    fail_together(stack, "drop/2.jpg", "drop/3.jpg")
    done = home.json("discard", "--prefix", "uploads/drop/", "--yes")
    assert (done["matching"], done["discarded"]) == (1, 1)
    assert queued(stack) == {"keep/1.jpg", "drop/1.jpg"}
    (line,) = Path(done["export"]).read_text().splitlines()
    assert json.loads(line)["keys"] == ["uploads/drop/2.jpg", "uploads/drop/3.jpg"]


def test_nothing_is_discarded_without_a_filter(stack: Stack, home: Home) -> None:
    """The whole queue needs --all."""
    fail(stack, "a.jpg")
    refused = home.run("discard", "--yes")
    assert (refused.returncode, "--all" in refused.stderr) == (1, True)
    assert queued(stack) == {"a.jpg"}


@pytest.mark.parametrize("broken", ["exists", "no folder", "full"])
def test_nothing_is_discarded_without_its_export(
    stack: Stack, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A file that exists, cannot be created or is not safe on disk stops the command in time."""
    path = tmp_path / "out.jsonl"
    fail(stack, "a.jpg")
    if broken == "exists":
        path.write_text("an earlier export")
    elif broken == "no folder":
        path = tmp_path / "missing" / "out.jsonl"
    else:

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
    done = home.run("discard", "--all", "--yes", "--export", path)
    assert (done.returncode, "Nothing was discarded" in done.stderr) == (1, True)
    assert queued(stack) == {"a.jpg"}
    if broken == "exists":
        assert path.read_text() == "an earlier export"


def test_a_backfill_reports_what_was_discarded_again(stack: Stack) -> None:
    """The mark of a discarded failure is deleted before its message, as after a replay."""
    fail(stack, "a.jpg")
    (failure,) = read_all(stack).failures
    mark = mark_key(failure.bucket, failure.key)
    stack.aws.s3.put_object(Bucket=OUTPUT, Key=mark, Body=b"{}")
    found = discard.discard(stack, [failure.message_id, "gone"], lambda _: None)
    assert (found.deleted, found.kept) == (1, 1)
    assert "Contents" not in stack.aws.s3.list_objects_v2(Bucket=OUTPUT)


def test_a_message_that_another_reader_has_is_kept(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither deleted nor counted as deleted, although it was found."""
    fail(stack, "a.jpg", "b.jpg")
    one, other = read_all(stack).failures
    hide = stack.aws.sqs.change_message_visibility_batch

    def lose_one(**request: Any) -> Any:
        answer = hide(**request)
        return answer | {"Failed": [{"Id": "0"}]} if len(request["Entries"]) == 2 else answer

    monkeypatch.setattr(stack.aws.sqs, "change_message_visibility_batch", lose_one)
    exported: list[Any] = []
    found = discard.discard(stack, [one.message_id, other.message_id], exported.extend)
    assert (found.deleted, found.kept, len(exported)) == (1, 1, 1)


def test_a_denied_mark_stops_the_discarding(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without s3:DeleteObject nothing is deleted, or a backfill would hide the failure."""
    fail(stack, "a.jpg")
    (failure,) = read_all(stack).failures
    fault = {"Key": "k", "Code": "AccessDenied", "Message": "no"}
    monkeypatch.setattr(stack.aws.s3, "delete_objects", lambda **_: {"Errors": [fault]})
    with pytest.raises(CommandError, match="s3:DeleteObject"):
        discard.discard(stack, [failure.message_id], lambda _: None)
    assert queued(stack) == {"a.jpg"}


# --- replay -------------------------------------------------------------------------------------
class Functions:
    """A Lambda client whose function makes every thumbnail, and remembers the bodies."""

    def __init__(self) -> None:
        self.bodies: list[str] = []

    def invoke(self, **request: Any) -> Any:
        """Answer that the upload is done."""
        self.bodies.append(json.loads(request["Payload"])["letter"])
        answer = {"processed": 1, "skipped": 0, "failed": 0}
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}


@pytest.fixture
def functions(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Functions:
    """The function of a stack whose state machine has no execution."""
    function = Functions()
    stack.aws.__dict__ |= {"invocations": function}
    monkeypatch.setattr(Stack, "output", lambda *_: "arn")
    monkeypatch.setattr("image_pipeline.stack.executions.find_running", lambda *_: None)
    return function


def test_a_selection_is_replayed_and_no_more(
    stack: Stack, home: Home, functions: Functions
) -> None:
    """Only messages that match are sent to the function, and taken off the queue."""
    fail(stack, *(f"new/{n}" for n in range(12)), "old/1")
    assert "No failed upload matches." in home.run("replay", "--older-than", "1h").stdout
    answer = home.json("replay", "--since", "1h", "--prefix", "uploads/new/")
    assert (answer["done"], answer["left"], answer["waiting"]) == (12, 0, 1)
    assert answer["executions"] == []
    assert sorted(json.loads(each)["key"] for each in functions.bodies) == sorted(
        f"uploads/new/{n}" for n in range(12)
    )
    assert queued(stack) == {"old/1"}


def test_messages_stay_hidden_while_they_wait_for_their_replay(
    stack: Stack, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each invocation, what would be hidden for too short a time is hidden again."""
    from image_pipeline.stack import replay  # noqa: PLC0415 - beside what it is about

    fail(stack, *map(str, range(4)))
    monkeypatch.setattr(replay, "LANES", 1)
    monkeypatch.setattr(replay, "RENEWAL_SECONDS", 0)
    times: list[tuple[int, int]] = []
    hide = dead_letters.hide

    def counted(sqs: Any, queue: str, messages: Any, seconds: int) -> set[str]:
        times.append((len(messages), seconds))
        return hide(sqs, queue, messages, seconds)

    monkeypatch.setattr(dead_letters, "hide", counted)
    ids = [each.message_id for each in read_all(stack).failures]
    times.clear()
    assert [each.outcome for each in replay.replay_each(stack, ids, nullcontext())] == ["done"] * 4
    minimum = stack.timeout + replay.MARGIN_SECONDS
    assert [count for count, seconds in times if seconds >= minimum] == [4, 4, 3, 2, 1]
    assert len(functions.bodies) == 4
