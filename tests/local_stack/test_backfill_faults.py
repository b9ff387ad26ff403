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

EXCEEDED = "States.ExceedToleratedFailureThreshold"

FUNCTION = """
import json, os, boto3

class QueueUnavailable(Exception):
    pass

class InvalidPackage(Exception):
    pass

def report(failed):
    sqs = boto3.client("sqs")
    try:
        url = sqs.get_queue_url(QueueName=failed["bucket"])["QueueUrl"]
    except sqs.exceptions.QueueDoesNotExist as error:
        raise QueueUnavailable(f"No message for {failed['key']}") from error
    if not failed["remake"]:
        del failed["remake"]
    failed["error"]["permanent"] = False
    more = {"version": 1, "attempts": 1, "etag": failed["etag"].strip('"')}
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps({**failed, **more}))
    return {"failed": 1}

def lambda_handler(event, context):
    if "broken" in str(event):
        raise InvalidPackage("not built")
    if "report" in event:
        if "endless" in str(event):
            os._exit(1)
        return report(event["report"])
    assert event["report_once"]
    assert event["remake"] is not event["only_missing"]
    done, left = 0, []
    for upload in event["uploads"]:
        if "crash" in upload["key"] or "endless" in upload["key"]:
            os._exit(1)
        if "never" in upload["key"] or done >= 2:
            left.append(upload)
        else:
            done += 1
    skipped = done if event["remake"] else 0
    return {"processed": done, "current": 0, "skipped": skipped, "failed": 0, "not_done": left}
"""
"""Makes two images per call, and never one whose key contains "never". What it makes in a remake
counts as skipped, too. It sends messages to a queue with the name of the bucket, and none about
"endless"; "broken" is a function that does not start."""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """A local AWS with the function, an output bucket and a queue."""
    directory = tmp_path_factory.mktemp("faults")
    with ministack(directory, SFN_WAIT_SCALE="0.01") as (local, _):
        create_function(local, "function", FUNCTION, Timeout=3)
        local.s3.create_bucket(Bucket="out")
        yield local


def backfill(
    aws: Aws, name: str, keys: list[str], *, function: str = "function", **given: Any
) -> tuple[Execution, Any]:
    """Run a backfill over a new bucket; how it ended, and its results by file name.

    A key may begin with the storage class of its object and a dash. Messages go to a queue of this
    name, unless the name begins with "lost".
    """
    if not name.startswith("lost"):
        aws.sqs.create_queue(QueueName=name)
    aws.s3.create_bucket(Bucket=name)
    for key in keys:
        kind: Any = key.partition("-")[0] if "-" in key else "STANDARD"
        aws.s3.put_object(Bucket=name, Key=f"uploads/{key}", Body=b"x", StorageClass=kind)
    filled = {
        "Partition": "aws",
        "FunctionArn": function,
        "InputBucket": name,
        "InputPrefix": "uploads/",
        "OutputBucket": "out",
        "ResultsPrefix": name,
        "Maximum": "1000",
        "Concurrency": "5",
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


def failed_batches(results: dict[str, Any]) -> set[str]:
    """The errors of the batches that failed."""
    return {each["Error"] for each in results["FAILED_0.json"]}


def test_a_message_that_cannot_be_sent_fails_the_backfill(aws: Aws) -> None:
    """The results name the image, which a redrive or another backfill tries again."""
    execution, results = backfill(aws, "lost", ["a.jpg", "crash.jpg", "z.jpg"])
    assert (execution.status, execution.error) == ("FAILED", EXCEEDED)
    (failed,) = results["FAILED_0.json"]
    assert failed["Error"] == "QueueUnavailable"
    assert "uploads/crash.jpg" in failed["Cause"]


def test_a_missing_function_fails_the_backfill_soon(aws: Aws) -> None:
    """After the first of 16 batches, and without a message."""
    keys = [f"{number}.jpg" for number in range(400)]
    execution, results = backfill(aws, "missing", keys, function="no-such", concurrency=1)
    assert (execution.status, execution.error) == ("FAILED", EXCEEDED)
    assert failed_batches(results) == {"Lambda.ResourceNotFoundException"}
    assert len(results["FAILED_0.json"]) == 1  # 5 % of 400 are less than ten batches
    assert messages(aws, "missing") == 0


def test_a_function_that_does_not_start_fails_the_backfill(aws: Aws) -> None:
    """Without a message, whatever the batch contains."""
    execution, results = backfill(aws, "broken", ["a.jpg", "b.jpg"])
    assert execution.error == EXCEEDED
    assert failed_batches(results) == {"InvalidPackage"}
    assert messages(aws, "broken") == 0


def test_a_function_that_ends_in_every_invocation_fails_the_backfill(aws: Aws) -> None:
    """Without a message: it would have to send the message itself."""
    execution, results = backfill(aws, "endless", ["endless.jpg"])
    assert execution.error == EXCEEDED
    assert failed_batches(results) == {"Runtime.ExitError"}
    assert messages(aws, "endless") == 0


def messages(aws: Aws, name: str) -> int:
    """The number of messages on a queue."""
    queue = aws.sqs.get_queue_url(QueueName=name)["QueueUrl"]
    return len(dead_letters.read(aws.sqs, queue))


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
    assert again.status == "FAILED"
    assert "gone" in again.cause
