"""The function in the template that empties the buckets when the stack is deleted."""

import json
import types
import urllib.request
from collections.abc import Callable
from typing import Any

import boto3
import pytest
import template
from aws_names import INPUT, OUTPUT

STACK = "arn:aws:cloudformation:us-east-1:123456789012:stack/s/1"


class Emptier:
    """Calls the handler and records its responses to CloudFormation and its own invocations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        function = template.source()["Resources"]["BucketEmptier"]["Properties"]
        module: dict[str, Any] = {}
        exec(function["InlineCode"], module)  # noqa: S102 - the code under test
        self._handler: Callable[[Any, Any], None] = module["handler"]
        self.status = "DELETE_IN_PROGRESS"
        self.responses: list[dict[str, Any]] = []
        self.invoked: list[dict[str, Any]] = []
        client = boto3.client

        def fake_client(service: str) -> Any:
            if service == "cloudformation":
                stacks = {"Stacks": [{"StackStatus": self.status}]}
                return types.SimpleNamespace(describe_stacks=lambda **_: stacks)
            if service == "lambda":
                return types.SimpleNamespace(invoke=lambda **call: self.invoked.append(call))
            return client(service)  # type: ignore[call-overload]  # S3

        monkeypatch.setattr(boto3, "client", fake_client)
        monkeypatch.setattr(
            urllib.request,
            "urlopen",
            lambda request, timeout: self.responses.append(
                json.loads(request.data) | {"t": timeout}
            ),
        )

    def __call__(self, kind: str = "Delete", remaining_ms: int = 900_000) -> dict[str, Any]:
        """Call the handler for both buckets; return the event."""
        event = {
            "RequestType": kind,
            "StackId": STACK,
            "RequestId": "r",
            "LogicalResourceId": "BucketContents",
            "ResponseURL": "https://cloudformation.example/response",
            "ResourceProperties": {"Buckets": [INPUT, OUTPUT]},
        }
        context = types.SimpleNamespace(
            get_remaining_time_in_millis=lambda: remaining_ms, invoked_function_arn="arn:itself"
        )
        self._handler(event, context)
        return event


@pytest.fixture
def emptier(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Emptier:
    """The handler and two buckets with objects, older versions and a delete marker."""
    for bucket in (INPUT, OUTPUT):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for number in range(3):
            s3.put_object(Bucket=bucket, Key=f"å/{number}", Body=b"1")
            s3.put_object(Bucket=bucket, Key=f"å/{number}", Body=b"2")
        s3.delete_object(Bucket=bucket, Key="å/0")
    return Emptier(monkeypatch)


def versions(s3: Any, bucket: str) -> int:
    """The number of versions and delete markers in a bucket."""
    found = s3.list_object_versions(Bucket=bucket)
    return len(found.get("Versions", [])) + len(found.get("DeleteMarkers", []))


def test_all_versions_are_deleted_with_the_stack(s3: Any, emptier: Emptier) -> None:
    """Delete markers too, and CloudFormation gets a response in the form that it expects."""
    emptier()
    assert versions(s3, INPUT) == versions(s3, OUTPUT) == 0
    (response,) = emptier.responses
    assert response["Status"] == "SUCCESS"
    assert {response[name] for name in ("StackId", "RequestId", "LogicalResourceId")} == {
        STACK,
        "r",
        "BucketContents",
    }
    assert response["PhysicalResourceId"] == "bucket-contents"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("Create", "CREATE_IN_PROGRESS"),
        ("Update", "UPDATE_IN_PROGRESS"),
        ("Delete", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"),
        ("Delete", "ROLLBACK_IN_PROGRESS"),
    ],
)
def test_nothing_is_deleted_unless_the_stack_is(
    s3: Any, emptier: Emptier, kind: str, status: str
) -> None:
    """Not on creation, update or rollback, and not when only this resource is deleted."""
    emptier.status = status
    emptier(kind)
    assert versions(s3, INPUT) == versions(s3, OUTPUT) == 7
    assert emptier.responses[0]["Status"] == "SUCCESS"


def test_another_invocation_continues_when_time_runs_out(s3: Any, emptier: Emptier) -> None:
    """The function invokes itself with the same event, and that invocation responds."""
    event = emptier(remaining_ms=1_000)
    assert emptier.responses == []
    (call,) = emptier.invoked
    assert (call["FunctionName"], call["InvocationType"]) == ("arn:itself", "Event")
    assert json.loads(call["Payload"]) == event
    assert versions(s3, OUTPUT) == 7


def test_a_missing_bucket_counts_as_empty(s3: Any, emptier: Emptier) -> None:
    """Someone may have deleted it by hand; the other bucket is still emptied."""
    emptier()
    s3.delete_bucket(Bucket=INPUT)
    s3.put_object(Bucket=OUTPUT, Key="k", Body=b"x")
    emptier()
    assert versions(s3, OUTPUT) == 0
    assert [each["Status"] for each in emptier.responses] == ["SUCCESS", "SUCCESS"]


def test_a_failure_is_reported_at_once(s3: Any, emptier: Emptier) -> None:
    """Without a response CloudFormation would wait for an hour."""
    assert s3
    emptier.status = "DELETE_IN_PROGRESS"
    boto3.client = lambda _service: 1 / 0  # type: ignore[assignment]  # monkeypatch restores it
    emptier()
    (response,) = emptier.responses
    assert response["Status"] == "FAILED"
    assert "ZeroDivisionError" in response["Reason"]
