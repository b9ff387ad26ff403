"""The smoke test passes on a stack that works, and names the step that fails on another."""

import json
from collections.abc import Callable, Iterator

import pytest
from home import Home
from serving import client, until

from image_pipeline.local.stack import LocalStack
from image_pipeline.stack import dead_letters
from image_pipeline.stack.deployed import Stack

pytestmark = pytest.mark.local_stack


@pytest.fixture
def home(local: LocalStack) -> Home:
    """The command that uses the stack."""
    return Home(local.directory, 0)


@pytest.fixture
def without(stack: Stack) -> Iterator[Callable[[str], None]]:
    """Remove a statement, by its Sid, from the policy of the function's role for one test."""
    iam = client(stack.aws, "iam")
    role = stack.aws.functions.get_function_configuration(FunctionName=stack.function_name)["Role"]
    named = {"RoleName": role.rpartition("/")[2], "PolicyName": "thumbnails"}
    document = iam.get_role_policy(**named)["PolicyDocument"]

    def remove(sid: str) -> None:
        kept = [each for each in document["Statement"] if each["Sid"] != sid]
        changed = {**document, "Statement": kept}
        iam.put_role_policy(**named, PolicyDocument=json.dumps(changed))

    yield remove
    iam.put_role_policy(**named, PolicyDocument=json.dumps(document))


def left(stack: Stack) -> tuple[int, int, int]:
    """Objects in both buckets, and messages on the queue."""
    counts = (
        stack.aws.s3.list_objects_v2(Bucket=bucket)["KeyCount"]
        for bucket in (stack.input_bucket, stack.settings.output_bucket)
    )
    queue = stack.settings.dead_letter_queue_url
    return (*counts, dead_letters.depth(stack.aws.sqs, queue))  # type: ignore[return-value]  # two


def test_a_stack_that_works_passes_and_is_left_as_it_was(stack: Stack, home: Home) -> None:
    """Five steps; its objects and message are removed again, another message is not."""
    queue = stack.settings.dead_letter_queue_url
    stack.aws.sqs.send_message(QueueUrl=queue, MessageBody="another message")
    before = left(stack)
    answer = home.json("smoke")
    assert answer["ok"] is True
    assert [each["name"] for each in answer["steps"]] == [
        "upload an image",
        "wait for its thumbnails",
        "upload a broken file",
        "wait for its dead-letter message",
        "clean up",
    ]
    assert left(stack) == before
    assert "wait for its thumbnails" in home.run("smoke").stdout
    stack.aws.sqs.purge_queue(QueueUrl=queue)


@pytest.mark.parametrize(
    ("sid", "step"),
    [
        ("ReadUploads", "wait for its thumbnails"),
        ("ReadAndWriteThumbnails", "wait for its thumbnails"),
        ("SendDeadLetters", "wait for its dead-letter message"),
    ],
)
def test_a_missing_permission_is_named_by_its_step(
    stack: Stack, home: Home, without: Callable[[str], None], sid: str, step: str
) -> None:
    """What cannot be read, written or sent fails the step that needs it; nothing is left."""
    before = left(stack)
    without(sid)
    answer = home.json("smoke", "--wait", "8", code=1)
    assert answer["ok"] is False
    assert f"the step {step!r}" in answer["error"]
    until(lambda: left(stack) == before)


def test_a_function_that_does_not_start_is_named_by_its_step(stack: Stack, home: Home) -> None:
    """The test fails at the step that waits for it."""
    functions, name = stack.aws.functions, stack.function_name
    version = stack.live_version()
    handler = functions.get_function_configuration(FunctionName=name)["Handler"]
    functions.update_function_configuration(FunctionName=name, Handler="nothing.here")
    broken = functions.publish_version(FunctionName=name)["Version"]
    functions.update_alias(FunctionName=name, Name="live", FunctionVersion=broken)
    try:
        done = home.run("smoke", "--wait", "10")
    finally:
        functions.update_function_configuration(FunctionName=name, Handler=handler)
        functions.update_alias(FunctionName=name, Name="live", FunctionVersion=version)
    assert done.returncode == 1
    assert "wait for its thumbnails" in done.stderr
    assert "nothing" in done.stderr


def test_a_queue_that_is_gone_is_named_by_its_step(stack: Stack, home: Home) -> None:
    """A message has nowhere to go."""
    url = stack.settings.dead_letter_queue_url
    stack.aws.sqs.delete_queue(QueueUrl=url)
    try:
        answer = home.json("smoke", "--wait", "4", code=1)
    finally:
        stack.aws.sqs.create_queue(QueueName=url.rpartition("/")[2])
    assert "the step " in answer["error"]
