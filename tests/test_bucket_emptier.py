"""The function in the template that deletes buckets and key when the stack is deleted."""

import json
import time
import types
import urllib.request
from collections.abc import Callable
from typing import Any

import boto3
import pytest
import template
from aws_names import INPUT, OUTPUT

MAX_INLINE_BYTES = 4096
"""Of code within a template: the limit that CloudFormation had for ZipFile for years. Today it is
4 MB of a zip file, which other tools may not know yet:
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-lambda-function-code.html"""

STACK = "arn:aws:cloudformation:us-east-1:123456789012:stack/s/1"


class Emptier:
    """Calls the handler and records its responses to CloudFormation and its own invocations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        function = template.source()["Resources"]["BucketEmptier"]["Properties"]
        module: dict[str, Any] = {}
        exec(function["InlineCode"], module)  # noqa: S102 - the code under test
        self._handler: Callable[[Any, Any], None] = module["handler"]
        self.status = "DELETE_IN_PROGRESS"
        self.key: str | None = None
        self.s3: Any = None
        self.kms: Any = None
        self.responses: list[dict[str, Any]] = []
        self.invoked: list[dict[str, Any]] = []
        client = boto3.client

        def fake_client(service: str) -> Any:
            if service == "cloudformation":
                stacks = {"Stacks": [{"StackStatus": self.status}]}
                return types.SimpleNamespace(describe_stacks=lambda **_: stacks)
            if service == "lambda":
                return types.SimpleNamespace(invoke=lambda **call: self.invoked.append(call))
            if given := {"s3": self.s3, "kms": self.kms}.get(service):
                return given
            return client(service)  # type: ignore[call-overload]  # S3 or KMS

        monkeypatch.setattr(boto3, "client", fake_client)
        monkeypatch.setattr(
            urllib.request,
            "urlopen",
            lambda request, timeout: self.responses.append(
                json.loads(request.data) | {"t": timeout}
            ),
        )

    def __call__(
        self, kind: str = "Delete", remaining_ms: int = 900_000, **more: Any
    ) -> dict[str, Any]:
        """Call the handler for both buckets and the key, if there is one; return the event."""
        event = {
            "RequestType": kind,
            "StackId": STACK,
            "RequestId": "r",
            "LogicalResourceId": "BucketContents",
            "ResponseURL": "https://cloudformation.example/response",
            "ResourceProperties": {"Buckets": [INPUT, OUTPUT]}
            | ({"Key": self.key} if self.key else {}),
        } | more
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


def there(s3: Any) -> set[str]:
    """The buckets that exist."""
    return {each["Name"] for each in s3.list_buckets()["Buckets"]}


def versions(s3: Any, bucket: str) -> int:
    """The number of versions and delete markers in a bucket."""
    found = s3.list_object_versions(Bucket=bucket)
    return len(found.get("Versions", [])) + len(found.get("DeleteMarkers", []))


def test_the_buckets_are_deleted_with_the_stack(s3: Any, emptier: Emptier) -> None:
    """With all versions and delete markers; CloudFormation gets the response that it expects."""
    emptier()
    assert there(s3) == set()
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
    emptier.key = key()
    emptier(kind)
    assert versions(s3, INPUT) == versions(s3, OUTPUT) == 7
    assert state(emptier.key) == "Enabled"
    assert emptier.responses[0]["Status"] == "SUCCESS"


def test_another_invocation_continues_when_time_runs_out(s3: Any, emptier: Emptier) -> None:
    """The function invokes itself with the same event, and that invocation responds.

    The event has the number of invocations: CloudFormation waits for an hour, so the last one
    responds with what is kept.
    """
    event = emptier(remaining_ms=1_000)
    assert emptier.responses == []
    (call,) = emptier.invoked
    assert (call["FunctionName"], call["InvocationType"]) == ("arn:itself", "Event")
    assert json.loads(call["Payload"]) == event | {"Round": 2}
    assert versions(s3, OUTPUT) == 7
    emptier(remaining_ms=1_000, Round=4)
    (response,) = emptier.responses
    assert len(emptier.invoked) == 1
    assert response["Status"] == "FAILED"
    assert response["Reason"] == f"Not deleted: bucket {INPUT} (still not empty after an hour)"


def test_a_missing_bucket_counts_as_deleted(s3: Any, emptier: Emptier) -> None:
    """Someone may have deleted it by hand; the other bucket and the key are still deleted."""
    for each in s3.list_object_versions(Bucket=INPUT)["Versions"]:
        s3.delete_object(Bucket=INPUT, Key=each["Key"], VersionId=each["VersionId"])
    for each in s3.list_object_versions(Bucket=INPUT)["DeleteMarkers"]:
        s3.delete_object(Bucket=INPUT, Key=each["Key"], VersionId=each["VersionId"])
    s3.delete_bucket(Bucket=INPUT)
    emptier.key = key()
    emptier()
    assert there(s3) == set()
    assert state(emptier.key) == "PendingDeletion"
    assert [each["Status"] for each in emptier.responses] == ["SUCCESS"]


def test_the_same_deletion_again_succeeds(s3: Any, emptier: Emptier) -> None:
    """CloudFormation may send a request twice. The key is scheduled already, or even gone."""
    emptier.key = key()
    emptier()
    # moto would schedule the deletion again; KMS refuses it in this state.
    emptier.kms = Refusing(boto3.client("kms"), "schedule_key_deletion", "KMSInvalidStateException")
    emptier()
    emptier.kms = None
    emptier.key = "00000000-0000-0000-0000-000000000000"
    emptier()
    assert there(s3) == set()
    assert [each["Status"] for each in emptier.responses] == ["SUCCESS"] * 3


def test_the_key_is_scheduled_for_deletion_last(s3: Any, emptier: Emptier) -> None:
    """Within the 30 days of KMS it can be had back; while a bucket is kept, it is not touched."""
    emptier.key = key()
    emptier.s3 = Refusing(s3, "delete_bucket", "AccessDenied", bucket=INPUT)
    emptier()
    assert there(s3) == {INPUT}
    assert state(emptier.key) == "Enabled"
    (response,) = emptier.responses
    assert response["Status"] == "FAILED"
    assert f"bucket {INPUT} (" in response["Reason"]
    assert "AccessDenied" in response["Reason"]
    assert f"key {emptier.key} (it encrypts what is kept)" in response["Reason"]
    assert OUTPUT not in response["Reason"]
    emptier.s3 = None
    emptier()
    assert there(s3) == set()
    assert state(emptier.key) == "PendingDeletion"


def test_objects_written_during_the_deletion_go_too(
    s3: Any, emptier: Emptier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 then refuses to delete the bucket, so it is emptied again."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    emptier.s3 = Refusing(
        s3,
        "delete_bucket",
        "BucketNotEmpty",
        bucket=OUTPUT,
        times=2,
        meanwhile=lambda: s3.put_object(Bucket=OUTPUT, Key="late", Body=b"x"),
    )
    emptier()
    assert there(s3) == set()
    assert waits == [1, 1]
    assert [each["Status"] for each in emptier.responses] == ["SUCCESS"]


def test_an_object_that_cannot_be_deleted_is_named(s3: Any, emptier: Emptier) -> None:
    """An object lock keeps a version: S3 says so for each object."""
    emptier.s3 = Refusing(s3, "delete_objects", None, bucket=INPUT)
    emptier()
    (response,) = emptier.responses
    assert response["Status"] == "FAILED"
    assert "'Key': 'locked'" in response["Reason"]
    assert there(s3) == {INPUT}


def test_the_code_fits_into_the_template() -> None:
    """CloudFormation has refused longer code."""
    code = template.source()["Resources"]["BucketEmptier"]["Properties"]["InlineCode"]
    assert len(code.encode()) <= MAX_INLINE_BYTES


class Refusing:
    """A client that refuses one operation, always or some times; one of S3 on one bucket.

    Without a `code` it succeeds but names an object that it did not delete.
    """

    def __init__(  # noqa: PLR0913 - what to refuse
        self,
        client: Any,
        operation: str,
        code: str | None,
        *,
        bucket: str | None = None,
        times: int | None = None,
        meanwhile: Callable[[], Any] = lambda: None,
    ) -> None:
        self._client = client
        self._operation = operation
        self._code = code
        self._bucket = bucket
        self._times = times
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)
        if name != self._operation or self._times == 0:
            return real

        def refuse(**given: Any) -> Any:
            if given.get("Bucket") != self._bucket:
                return real(**given)
            self._meanwhile()
            if self._times:
                self._times -= 1
            if self._code:
                kind = self._client.exceptions.from_code(self._code)
                raise kind({"Error": {"Code": self._code, "Message": "no"}}, name)
            return {"Errors": [{"Key": "locked", "Code": "AccessDenied"}]}

        return refuse


def key() -> str:
    """A new key of KMS; return its id."""
    return str(boto3.client("kms").create_key()["KeyMetadata"]["KeyId"])


def state(key_id: str) -> str:
    """The state of a key."""
    return str(boto3.client("kms").describe_key(KeyId=key_id)["KeyMetadata"]["KeyState"])


def test_a_failure_is_reported_at_once(s3: Any, emptier: Emptier) -> None:
    """Without a response CloudFormation would wait for an hour."""
    assert s3
    emptier.status = "DELETE_IN_PROGRESS"
    boto3.client = lambda _service: 1 / 0  # type: ignore[assignment]  # monkeypatch restores it
    emptier()
    (response,) = emptier.responses
    assert response["Status"] == "FAILED"
    assert "ZeroDivisionError" in response["Reason"]
