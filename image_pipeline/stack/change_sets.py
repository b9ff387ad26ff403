"""Change sets of a stack that are shown before they are executed."""

from collections.abc import Set as AbstractSet
from typing import Final

from botocore.exceptions import ClientError

from image_pipeline.stack.aws import Aws, aws_errors_explained
from image_pipeline.stack.deployed import describe_if_there

CREATED: Final = "CREATE_COMPLETE"
"""Status of a change set that can be executed. One without a change is FAILED.
https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeChangeSet.html"""

EMPTY: Final = "REVIEW_IN_PROGRESS"
"""Status of a stack that has nothing but change sets."""


def executable(aws: Aws, stack: str) -> set[str]:
    """Return the ids of the change sets of `stack` that can be executed; none without a stack.

    Raises CommandError if AWS refuses.
    """
    with aws_errors_explained():
        try:
            pages = aws.cloudformation.get_paginator("list_change_sets").paginate(StackName=stack)
            return {
                each["ChangeSetId"]
                for page in pages
                for each in page["Summaries"]
                if each["Status"] == CREATED
            }
        except ClientError as error:
            if "does not exist" in str(error):
                return set()
            raise


def discard(aws: Aws, stack: str, change_sets: AbstractSet[str]) -> None:
    """Delete change sets, and `stack` if nothing else is in it. Raises CommandError."""
    with aws_errors_explained():
        for each in change_sets:
            aws.cloudformation.delete_change_set(StackName=stack, ChangeSetName=each)
        found = describe_if_there(aws, stack)
        if found and found["StackStatus"] == EMPTY:
            aws.cloudformation.delete_stack(StackName=stack)
