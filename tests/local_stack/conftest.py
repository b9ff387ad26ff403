"""The real template, deployed to a local AWS: once per session and mode, with IAM enforced."""

from collections.abc import Iterator

import pytest
from serving import QUICK_AND_STRICT

from image_pipeline.local.stack import LocalStack
from image_pipeline.ports import free_port
from image_pipeline.stack import adopt
from image_pipeline.stack.deployed import Stack

MODES: dict[str, dict[str, str]] = {
    "a bucket of the stack": {},
    "an existing bucket": {
        "ExistingInputBucket": "true",
        "DeleteWithOriginal": "true",
        "CreateKmsKey": "true",
    },
}
"""Parameters of the stacks that the tests of a mode run with."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that a fault of ministack is still there, so that it still needs its patch."""
    for item in items:
        if item.name.startswith("test_unpatched_"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def local(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[LocalStack]:
    """A local stack whose function may do what its own role allows, and nothing else."""
    mode = getattr(request, "param", "a bucket of the stack")
    local = LocalStack(
        tmp_path_factory.mktemp("stack"),
        parameters=MODES[mode],
        variables=QUICK_AND_STRICT,
    )
    try:
        local.start(free_port(), detach=False, report=lambda _: None)
        if "ExistingInputBucket" in MODES[mode]:
            make_existing_bucket(local.stack())
        yield local
    finally:
        local.stop()


def make_existing_bucket(stack: Stack) -> None:
    """A bucket that the stack did not make, prepared as `image-pipeline adopt-bucket` does it."""
    stack.aws.s3.create_bucket(Bucket=stack.input_bucket)
    adopt.apply(stack.aws, stack.input_bucket, adopt.plan(stack.aws, stack.input_bucket))


@pytest.fixture(scope="session")
def stack(local: LocalStack) -> Stack:
    """The stack that is deployed there."""
    return local.stack()
