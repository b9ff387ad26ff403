"""The code in the template that empties buckets when the stack is deleted."""

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
    """The handler, with what it says to CloudFormation and to itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        function = template.source()["Resources"]["BucketEmptier"]["Properties"]
        module: dict[str, Any] = {}
        exec(function["InlineCode"], module)  # noqa: S102 - the code under test
        self._handler: Callable[[Any, Any], None] = module["handler"]
        self.status = "DELETE_IN_PROGRESS"
        self.answers: list[dict[str, Any]] = []
        self.invoked: list[dict[str, Any]] = []
        client = boto3.client

        def made(service: str) -> Any:
            if service == "cloudformation":
                stacks = {"Stacks": [{"StackStatus": self.status}]}
                return types.SimpleNamespace(describe_stacks=lambda **_: stacks)
            if service == "lambda":
                return types.SimpleNamespace(invoke=lambda **about: self.invoked.append(about))
            return client(service)  # type: ignore[call-overload]  # S3

        monkeypatch.setattr(boto3, "client", made)
        monkeypatch.setattr(
            urllib.request,
            "urlopen",
            lambda request, timeout: self.answers.append(json.loads(request.data) | {"t": timeout}),
        )

    def __call__(self, kind: str = "Delete", remaining_ms: int = 900_000) -> dict[str, Any]:
        """Call it for both buckets; its event."""
        event = {
            "RequestType": kind,
            "StackId": STACK,
            "RequestId": "r",
            "LogicalResourceId": "BucketContents",
            "ResponseURL": "https://cloudformation.example/answer",
            "ResourceProperties": {"Buckets": [INPUT, OUTPUT]},
        }
        context = types.SimpleNamespace(
            get_remaining_time_in_millis=lambda: remaining_ms, invoked_function_arn="arn:itself"
        )
        self._handler(event, context)
        return event


@pytest.fixture
def emptier(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Emptier:
    """Over two buckets with objects, older versions and delete markers."""
    for bucket in (INPUT, OUTPUT):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for number in range(3):
            s3.put_object(Bucket=bucket, Key=f"å/{number}", Body=b"1")
            s3.put_object(Bucket=bucket, Key=f"å/{number}", Body=b"2")
        s3.delete_object(Bucket=bucket, Key="å/0")
    return Emptier(monkeypatch)


def versions(s3: Any, bucket: str) -> int:
    """Versions and delete markers in a bucket."""
    found = s3.list_object_versions(Bucket=bucket)
    return len(found.get("Versions", [])) + len(found.get("DeleteMarkers", []))


def test_all_versions_go_with_the_stack(s3: Any, emptier: Emptier) -> None:
    """Delete markers too, and CloudFormation is told of success, in the form that it wants."""
    emptier()
    assert versions(s3, INPUT) == versions(s3, OUTPUT) == 0
    (answer,) = emptier.answers
    assert answer["Status"] == "SUCCESS"
    assert {answer[name] for name in ("StackId", "RequestId", "LogicalResourceId")} == {
        STACK,
        "r",
        "BucketContents",
    }
    assert answer["PhysicalResourceId"] == "bucket-contents"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("Create", "CREATE_IN_PROGRESS"),
        ("Update", "UPDATE_IN_PROGRESS"),
        ("Delete", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"),
        ("Delete", "ROLLBACK_IN_PROGRESS"),
    ],
)
def test_nothing_goes_but_with_the_stack(s3: Any, emptier: Emptier, kind: str, status: str) -> None:
    """Not when the stack is made, changed or rolled back, nor when only this resource goes."""
    emptier.status = status
    emptier(kind)
    assert versions(s3, INPUT) == versions(s3, OUTPUT) == 7
    assert emptier.answers[0]["Status"] == "SUCCESS"


def test_too_little_time_is_gone_on_with(s3: Any, emptier: Emptier) -> None:
    """It calls itself with the same event, and CloudFormation waits for that one's answer."""
    event = emptier(remaining_ms=1_000)
    assert emptier.answers == []
    (again,) = emptier.invoked
    assert (again["FunctionName"], again["InvocationType"]) == ("arn:itself", "Event")
    assert json.loads(again["Payload"]) == event
    assert versions(s3, OUTPUT) == 7


def test_a_bucket_that_is_gone_is_empty(s3: Any, emptier: Emptier) -> None:
    """Somebody was quicker; the other is emptied all the same."""
    emptier()
    s3.delete_bucket(Bucket=INPUT)
    s3.put_object(Bucket=OUTPUT, Key="k", Body=b"x")
    emptier()
    assert versions(s3, OUTPUT) == 0
    assert [each["Status"] for each in emptier.answers] == ["SUCCESS", "SUCCESS"]


def test_a_failure_is_told_at_once(s3: Any, emptier: Emptier) -> None:
    """CloudFormation would wait an hour for an answer that never comes."""
    assert s3
    emptier.status = "DELETE_IN_PROGRESS"
    boto3.client = lambda _service: 1 / 0  # type: ignore[assignment]  # undone by monkeypatch
    emptier()
    (answer,) = emptier.answers
    assert answer["Status"] == "FAILED"
    assert "ZeroDivisionError" in answer["Reason"]
