"""Deleting a stack: DeleteBucketContents leaves nothing; without it no image is lost."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.exceptions import WaiterError
from pictures import jpeg
from scripted_server import Reply, ScriptedServer
from serving import QUICK_AND_STRICT, client, until

from image_pipeline.local.stack import LocalStack
from image_pipeline.ports import free_port
from image_pipeline.stack.deployed import Stack

pytestmark = pytest.mark.local_stack


@contextmanager
def deployed(directory: Path, **parameters: str) -> Iterator[tuple[LocalStack, Stack]]:
    """A stack with an image, its thumbnails, and an older version of each."""
    local = LocalStack(directory, parameters=parameters, variables=QUICK_AND_STRICT)
    try:
        local.start(free_port(), detach=False, report=lambda _: None)
        stack = local.stack()
        for width in (400, 300):
            stack.aws.s3.put_object(
                Bucket=stack.input_bucket, Key="uploads/a.jpg", Body=jpeg((width, 200))
            )
            until(lambda: objects(stack, stack.settings.output_bucket) == 2)
        yield local, stack
    finally:
        local.stop()


def objects(stack: Stack, bucket: str) -> int:
    """Objects in a bucket."""
    return stack.aws.s3.list_objects_v2(Bucket=bucket)["KeyCount"]


def buckets(stack: Stack) -> set[str]:
    """The buckets of the stack that exist."""
    there = {each["Name"] for each in stack.aws.s3.list_buckets()["Buckets"]}
    return there & {stack.input_bucket, stack.settings.output_bucket}


def delete(stack: Stack) -> None:
    """Delete the stack, and wait for the end. Raises WaiterError if that fails."""
    cloudformation = stack.aws.cloudformation
    cloudformation.delete_stack(StackName=stack.name)
    waiter = cloudformation.get_waiter("stack_delete_complete")
    waiter.wait(StackName=stack.name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def test_a_stack_can_be_deleted_with_its_buckets(tmp_path: Path) -> None:
    """Object versions, delete markers, functions, queues, roles and topics are gone too.

    The stack's key is deleted in 30 days. The same stack can be deployed again.
    """
    with deployed(
        tmp_path, DeleteBucketContents="true", BucketVersioning="true", CreateKmsKey="true"
    ) as (local, stack):
        key = stack.output("KeyArn")
        assert stack.aws.kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"
        stack.aws.s3.delete_object(Bucket=stack.input_bucket, Key="uploads/a.jpg")
        delete(stack)
        assert buckets(stack) == set()
        assert stack.aws.functions.list_functions()["Functions"] == []
        assert stack.aws.sqs.list_queues().get("QueueUrls", []) == []
        assert stack.aws.states.list_state_machines()["stateMachines"] == []
        assert client(stack.aws, "sns").list_topics()["Topics"] == []
        assert client(stack.aws, "cloudwatch").describe_alarms()["MetricAlarms"] == []
        roles = client(stack.aws, "iam").list_roles()["Roles"]
        assert [each["RoleName"] for each in roles if stack.name in each["RoleName"]] == []
        about = stack.aws.kms.describe_key(KeyId=key)["KeyMetadata"]
        assert about["KeyState"] == "PendingDeletion"
        assert round((about["DeletionDate"] - datetime.now(UTC)).total_seconds() / 86400) == 30
        server = local.server()
        assert server
        local.deploy(server)
        assert local.stack().output("KeyArn") != key
        assert objects(stack, stack.input_bucket) == 0


def test_by_default_buckets_and_images_are_kept(tmp_path: Path) -> None:
    """Everything else of the stack is deleted."""
    with deployed(tmp_path) as (_, stack):
        delete(stack)
        assert buckets(stack) == {stack.input_bucket, stack.settings.output_bucket}
        assert objects(stack, stack.input_bucket) == 1
        assert objects(stack, stack.settings.output_bucket) == 2
        assert stack.aws.functions.list_functions()["Functions"] == []


def test_a_bucket_with_objects_is_not_deleted(tmp_path: Path) -> None:
    """If the emptier may not delete, the buckets and their objects stay, and the event says why.

    AWS keeps the function for the next attempt, because the failed resource depends on it. The
    local AWS deletes it, so tests/test_bucket_emptier.py shows that a second attempt succeeds.
    """
    with deployed(tmp_path, DeleteBucketContents="true") as (_, stack):
        iam = client(stack.aws, "iam")
        (role,) = (
            each["RoleName"]
            for each in iam.list_roles()["Roles"]
            if "BucketEmptierRole" in each["RoleName"]
        )
        named = {"RoleName": role, "PolicyName": "empty-buckets"}
        policy = iam.get_role_policy(**named)["PolicyDocument"]
        without = [each for each in policy["Statement"] if each["Sid"] != "DeleteContents"]
        iam.put_role_policy(**named, PolicyDocument=json.dumps({**policy, "Statement": without}))
        with pytest.raises(WaiterError):
            delete(stack)
        assert buckets(stack) == {stack.input_bucket, stack.settings.output_bucket}
        assert objects(stack, stack.input_bucket) == 1
        events = stack.aws.cloudformation.describe_stack_events(StackName=stack.name)
        (reason,) = {
            each["ResourceStatusReason"]
            for each in events["StackEvents"]
            if each.get("ResourceStatus") == "DELETE_FAILED"
            and each["LogicalResourceId"] == "BucketContents"
        }
        assert f"Not deleted: bucket {stack.input_bucket} (" in reason
        assert f"bucket {stack.settings.output_bucket} (" in reason


def test_turning_off_the_parameter_empties_nothing(tmp_path: Path) -> None:
    """The update deletes the emptier, which must not treat that as the stack's deletion.

    Called with the event of a deletion while the stack stays, it does nothing but answer.
    """
    with (
        deployed(tmp_path, DeleteBucketContents="true") as (local, stack),
        ScriptedServer(Reply(200)) as server,
    ):
        found = stack.aws.cloudformation.describe_stacks(StackName=stack.name)["Stacks"][0]
        assert found["StackStatus"] == "CREATE_COMPLETE"
        event = {
            "RequestType": "Delete",
            "StackId": found["StackId"],
            "RequestId": "r",
            "LogicalResourceId": "BucketContents",
            "ResponseURL": f"{server.url}/answer",
            "ResourceProperties": {"Buckets": [stack.input_bucket, stack.settings.output_bucket]},
        }
        answer = stack.aws.functions.invoke(
            FunctionName=f"{stack.name}-empty-buckets", Payload=json.dumps(event)
        )
        assert "FunctionError" not in answer
        assert [each.method for each in server.requests] == ["PUT"]
        assert objects(stack, stack.input_bucket) == 1
        assert objects(stack, stack.settings.output_bucket) == 2
        running = local.server()
        assert running
        # ministack does not see that a condition changes, so something else changes too.
        changed = {"DeleteBucketContents": "false", "LogLevel": "DEBUG"}
        LocalStack(tmp_path, parameters=changed).deploy(running)
        assert [
            each["FunctionName"] for each in stack.aws.functions.list_functions()["Functions"]
        ] == [stack.function_name]
        assert objects(stack, stack.input_bucket) == 1
        assert objects(stack, stack.settings.output_bucket) == 2
