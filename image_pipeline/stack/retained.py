"""Take back what an earlier stack left: its buckets, and the key that encrypts them.

Deleting a stack keeps its buckets, so a new stack of the same names fails with "already exists".
CloudFormation's resource import makes existing resources part of a stack. An import may contain
nothing but what it imports, so it comes first, with a template of names alone, and makes the stack.
The deploy that follows updates that stack to the whole template, which sets every property.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/import-resources-manually.html
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError, WaiterError

from image_pipeline.errors import CommandError
from image_pipeline.stack.aws import Aws, aws_errors_explained
from image_pipeline.stack.deployed import describe_if_there

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import ResourceToImportTypeDef, WaiterConfigTypeDef
    from mypy_boto3_s3.type_defs import ServerSideEncryptionRuleOutputTypeDef

BUCKETS: Final = {"InputBucket": "InputBucketName", "OutputBucket": "OutputBucketName"}
"""Logical id of each bucket in iac/template.yaml → the parameter that names it."""

KEY: Final = "Key"
KEY_DESCRIPTION: Final = "Encrypts uploads, thumbnails and dead-letter messages of {stack}"
"""Logical id and description of the stack's own key in iac/template.yaml."""

NOT_THERE: Final = ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE")
"""Statuses of a stack that has no resources, so that one of its name can be made."""

WAIT: "Final[WaiterConfigTypeDef]" = {"Delay": 2, "MaxAttempts": 300}
"""Seconds between two looks at CloudFormation, and how many: ten minutes. An import takes one."""


@dataclass(frozen=True, slots=True)
class Resource:
    """An existing resource, and the logical id that it gets in the stack."""

    logical_id: str
    kind: str
    named_by: str
    identifier: str

    @property
    def definition(self) -> dict[str, Any]:
        """The resource in a template of names alone.

        An import needs a DeletionPolicy, and Retain keeps the resource whatever happens next. The
        id of a key is no property that a template may set.
        """
        named = {self.named_by: self.identifier} if self.logical_id in BUCKETS else {}
        return {
            "Type": self.kind,
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": named,
        }

    @property
    def to_import(self) -> "ResourceToImportTypeDef":
        """What CreateChangeSet needs to find the resource."""
        return {
            "ResourceType": self.kind,
            "LogicalResourceId": self.logical_id,
            "ResourceIdentifier": {self.named_by: self.identifier},
        }


def find(aws: Aws, stack: str, parameters: Mapping[str, str]) -> list[Resource]:
    """Return what exists of the buckets and the key that a new stack of `parameters` would create.

    The list is empty if the stack exists: its resources are part of it already. Nothing is changed.

    Raises CommandError if a parameter is missing, a bucket belongs to another account or is in
    another region, the key is about to be deleted, or the stack cannot be deployed to as it is.
    """
    with aws_errors_explained():
        if _exists(aws, stack):
            return []
        logical_ids = dict(BUCKETS)
        if parameters.get("ExistingInputBucket") == "true":
            del logical_ids["InputBucket"]
        if missing := [name for name in logical_ids.values() if name not in parameters]:
            raise CommandError(
                f"There is no stack {stack} {aws.location} yet, so name its buckets: "
                + " ".join(f"--parameter {name}=NAME" for name in missing)
            )
        found = [
            Resource(logical_id, "AWS::S3::Bucket", "BucketName", parameters[name])
            for logical_id, name in logical_ids.items()
            if bucket_exists(aws, parameters[name])
        ]
        if parameters.get("CreateKmsKey") == "true":
            found += _keys(aws, stack, found)
    return found


def take_back(aws: Aws, stack: str, resources: Sequence[Resource]) -> None:
    """Make a stack of existing `resources`, and wait until it is there.

    Raises CommandError if CloudFormation refuses, for example because another stack has a resource.
    """
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Resources of an earlier stack. Deploy iac/template.yaml to complete it.",
        "Resources": {each.logical_id: each.definition for each in resources},
    }
    change_set = f"import-{secrets.token_hex(4)}"
    named: Any = {"StackName": stack, "ChangeSetName": change_set}
    cloudformation = aws.cloudformation
    with aws_errors_explained():
        cloudformation.create_change_set(
            StackName=stack,
            ChangeSetName=change_set,
            ChangeSetType="IMPORT",
            TemplateBody=json.dumps(template),
            ResourcesToImport=[each.to_import for each in resources],
        )
        try:
            cloudformation.get_waiter("change_set_create_complete").wait(**named, WaiterConfig=WAIT)
        except WaiterError as error:
            answer = cloudformation.describe_change_set(**named)
            raise CommandError(
                f"CloudFormation cannot import: {answer.get('StatusReason', answer['Status'])} "
                "Nothing was changed."
            ) from error
        cloudformation.execute_change_set(**named)
        try:
            cloudformation.get_waiter("stack_import_complete").wait(
                StackName=stack, WaiterConfig=WAIT
            )
        except WaiterError as error:
            raise CommandError(
                f"The import failed, and the resources are as they were: {_reasons(aws, stack)} "
                f"Delete the empty stack before you try again: aws cloudformation delete-stack "
                f"--stack-name {stack}"
            ) from error


def _exists(aws: Aws, stack: str) -> bool:
    """Whether the stack has resources that a deploy can update.

    Raises CommandError if its first deploy failed, or if something else happens to it now.
    """
    found = describe_if_there(aws, stack)
    if found is None or found["StackStatus"] in NOT_THERE:
        return False
    status = found["StackStatus"]
    if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"):
        raise CommandError(
            f"Stack {stack} is in the state {status} and cannot be updated. Delete it, then run "
            f"the command again: aws cloudformation delete-stack --stack-name {stack}"
        )
    if status.endswith("_IN_PROGRESS"):
        raise CommandError(f"Stack {stack} is in the state {status}. Wait until that is over.")
    return True


def bucket_exists(aws: Aws, bucket: str) -> bool:
    """Whether the account has a bucket of this name in the region of `aws`.

    Raises CommandError if it belongs to another account or is in another region, and ClientError.
    """
    try:
        region = aws.s3.head_bucket(Bucket=bucket).get("BucketRegion")
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("404", "NoSuchBucket"):
            return False
        if code in ("301", "403"):
            raise CommandError(
                f"Bucket {bucket} exists, but these credentials may not use it {aws.location}: it "
                "belongs to another account, is in another region, or a policy denies "
                "s3:ListBucket. Choose another name, or check credentials and --region."
            ) from error
        raise
    here = aws.s3.meta.region_name
    if region and region != here:
        raise CommandError(
            f"Bucket {bucket} is in {region}, and the stack would be in {here}. Pass --region "
            f"{region}, or choose another name."
        )
    return True


def _keys(aws: Aws, stack: str, buckets: Sequence[Resource]) -> list[Resource]:
    """The key of an earlier stack of this name, by which one of its buckets is encrypted."""
    for bucket in buckets:
        for rule in _encryption(aws, bucket.identifier):
            key = rule.get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID")
            if not key:
                continue
            about = aws.kms.describe_key(KeyId=key)["KeyMetadata"]
            if about.get("Description") != KEY_DESCRIPTION.format(stack=stack):
                continue
            if about["KeyState"] == "PendingDeletion":
                raise CommandError(
                    f"Key {about['KeyId']}, which encrypts bucket {bucket.identifier}, will be "
                    "deleted. To keep its objects readable, run `aws kms cancel-key-deletion "
                    f"--key-id {about['KeyId']}` and `aws kms enable-key --key-id "
                    f"{about['KeyId']}`, then this command again."
                )
            return [Resource(KEY, "AWS::KMS::Key", "KeyId", about["KeyId"])]
    return []


def _encryption(aws: Aws, bucket: str) -> "Sequence[ServerSideEncryptionRuleOutputTypeDef]":
    try:
        answer = aws.s3.get_bucket_encryption(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ServerSideEncryptionConfigurationNotFoundError":
            return []
        raise
    return answer["ServerSideEncryptionConfiguration"]["Rules"]


def _reasons(aws: Aws, stack: str) -> str:
    events = aws.cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    reasons = [
        f"{each['LogicalResourceId']}: {each['ResourceStatusReason']}"
        for each in events
        if each.get("ResourceStatus", "").endswith("FAILED") and "ResourceStatusReason" in each
    ]
    return "; ".join(reasons) or "CloudFormation gives no reason."
