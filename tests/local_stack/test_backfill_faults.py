"""The backfill's state machine over a function that crashes, hangs and runs out of time.

The definition is the real one. The function is not: no image is known to make ours do this.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import create_function, ministack
from test_services_patches import create, run

from image_pipeline.stack import dead_letters
from image_pipeline.stack.aws import Aws
from image_pipeline.stack.executions import Execution

pytestmark = pytest.mark.local_stack

FUNCTION = """
import os, time

def lambda_handler(event, context):
    assert event["remake"] is not event["only_missing"]
    done, left = 0, []
    for upload in event["uploads"]:
        if "crash" in upload["key"]:
            os._exit(1)
        if "never" in upload["key"] or done >= 2:
            left.append(upload)
        else:
            done += 1
    skipped = done if event["remake"] else 0
    return {"processed": done, "current": 0, "skipped": skipped, "failed": 0, "not_done": left}
"""
"""Makes two images per call, and never one whose key contains "never". What it makes in a remake
counts as skipped, too."""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """A local AWS with the function, an output bucket and a queue."""
    directory = tmp_path_factory.mktemp("faults")
    with ministack(directory, SFN_WAIT_SCALE="0.01") as (local, _):
        create_function(local, "function", FUNCTION, Timeout=3)
        local.s3.create_bucket(Bucket="out")
        yield local


def backfill(
    aws: Aws, name: str, keys: list[str], queue: str = "", **given: Any
) -> tuple[Execution, Any]:
    """Run a backfill over a new bucket; how it ended, and its results by file name.

    A key may begin with the storage class of its object and a dash.
    """
    aws.s3.create_bucket(Bucket=name)
    for key in keys:
        kind: Any = key.partition("-")[0] if "-" in key else "STANDARD"
        aws.s3.put_object(Bucket=name, Key=f"uploads/{key}", Body=b"x", StorageClass=kind)
    filled = {
        "Partition": "aws",
        "FunctionArn": "function",
        "QueueUrl": queue or aws.sqs.create_queue(QueueName=name)["QueueUrl"],
        "InputBucket": name,
        "InputPrefix": "uploads/",
        "OutputBucket": "out",
        "ResultsPrefix": name,
        "Maximum": "1000",
    }
    text = (Path(__file__).parents[2] / "iac" / "backfill.asl.json").read_text()
    definition = json.loads(re.sub(r"\$\{(\w+)\}", lambda match: filled[match[1]], text))
    execution = run(aws, create(aws, name, definition["States"]), **given)
    listed = aws.s3.list_objects_v2(Bucket="out", Prefix=f"{name}/").get("Contents", [])
    results = {
        Path(each["Key"]).name: json.loads(
            aws.s3.get_object(Bucket="out", Key=each["Key"])["Body"].read()
        )
        for each in listed
    }
    return execution, results


def counts(results: dict[str, Any]) -> list[dict[str, int]]:
    """The counts of the batches that succeeded."""
    return [json.loads(each["Output"]) for each in results["SUCCEEDED_0.json"]]


def test_images_that_a_batch_has_no_time_for_are_tried_again(aws: Aws) -> None:
    """Seven images, two per call: four calls, and all are made."""
    execution, results = backfill(aws, "rest", [f"{n}.jpg" for n in range(7)])
    assert execution.status == "SUCCEEDED"
    assert counts(results) == [{"made": 7, "current": 0, "skipped": 0, "failed": 0, "archived": 0}]


def test_one_image_that_ends_the_function_fails_alone(aws: Aws) -> None:
    """The others of its batch are made one by one; it gets a message that names the error."""
    execution, results = backfill(aws, "crash", ["a.jpg", "crash é+1.jpg", "z.jpg"])
    assert execution.status == "SUCCEEDED"
    assert counts(results) == [{"made": 2, "current": 0, "skipped": 0, "failed": 1, "archived": 0}]
    queue = aws.sqs.get_queue_url(QueueName="crash")["QueueUrl"]
    (failure,) = dead_letters.read(aws.sqs, queue)
    assert (failure.bucket, failure.key) == ("crash", "uploads/crash é+1.jpg")
    assert failure.etag == "9dd4e461268c8034f5c8564e155c67a6"  # MD5 of what was put
    assert failure.error_type == "Runtime.ExitError"
    assert (failure.permanent, failure.attempts) == (False, 1)


def test_an_image_that_never_has_the_time_gets_a_message(aws: Aws) -> None:
    """A batch without progress is not tried for ever."""
    execution, results = backfill(aws, "never", ["a.jpg", "never.jpg"])
    assert execution.status == "SUCCEEDED"
    assert counts(results) == [{"made": 1, "current": 0, "skipped": 0, "failed": 1, "archived": 0}]
    queue = aws.sqs.get_queue_url(QueueName="never")["QueueUrl"]
    (failure,) = dead_letters.read(aws.sqs, queue)
    assert (failure.key, failure.error_type) == ("uploads/never.jpg", "OutOfTime")


def test_archived_objects_are_left_out_and_counted(aws: Aws) -> None:
    """The function is not called with them. A batch that has no other objects succeeds, too."""
    archived = [f"{kind}-{n}" for kind in ("GLACIER", "DEEP_ARCHIVE") for n in range(2)]
    execution, results = backfill(aws, "some-archived", ["crash.jpg", "GLACIER_IR-1", *archived])
    assert execution.status == "SUCCEEDED"
    assert counts(results) == [{"made": 1, "current": 0, "skipped": 0, "failed": 1, "archived": 4}]
    execution, results = backfill(aws, "all-archived", archived)
    assert execution.status == "SUCCEEDED"
    assert counts(results) == [{"made": 0, "current": 0, "skipped": 0, "failed": 0, "archived": 4}]


def test_a_remake_asks_the_function_for_it_and_its_messages_too(aws: Aws) -> None:
    """In a batch and one by one; the replay of such a message is then a remake as well."""
    for name, given in (("plain", {}), ("remade", {"remake": True})):
        execution, results = backfill(aws, name, ["a.jpg", "crash.jpg", "z.jpg"], **given)
        assert execution.status == "SUCCEEDED"
        (found,) = counts(results)
        assert (found["made"], found["skipped"]) == ((2, 2) if given else (2, 0))
        queue = aws.sqs.get_queue_url(QueueName=name)["QueueUrl"]
        (failure,) = dead_letters.read(aws.sqs, queue)
        assert json.loads(failure.body).get("remake") == given.get("remake")


def test_a_message_that_cannot_be_sent_fails_the_backfill(aws: Aws) -> None:
    """The other images are still tried, and the results name the one that is lost."""
    missing = "http://127.0.0.1/000000000000/no-such-queue"
    execution, results = backfill(aws, "lost", ["a.jpg", "crash.jpg", "z.jpg"], queue=missing)
    assert (execution.status, execution.error) == ("FAILED", "BackfillFailed")
    assert "ExceedToleratedFailureThreshold" in execution.cause
    (failed,) = results["FAILED_0.json"]
    assert failed["Error"] == "QueueUnavailable"
    assert "uploads/crash.jpg" in failed["Cause"]


def test_an_empty_bucket_is_no_failure(aws: Aws) -> None:
    """The execution succeeds without a batch."""
    execution, results = backfill(aws, "empty", [])
    assert execution.status == "SUCCEEDED"
    assert results["manifest.json"]["ResultFiles"]["SUCCEEDED"] == []


def test_a_missing_bucket_is_named(aws: Aws) -> None:
    """The execution fails, and its cause names the bucket."""
    execution, _ = backfill(aws, "gone", [])
    assert execution.status == "SUCCEEDED"
    aws.s3.delete_bucket(Bucket="gone")
    machine = execution.arn.replace(":execution:", ":stateMachine:").rpartition(":")[0]
    again = run(aws, machine)
    assert (again.status, again.error) == ("FAILED", "BackfillFailed")
    assert "gone" in again.cause
