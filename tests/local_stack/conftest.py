"""The real template, deployed to a local AWS: once, and with IAM enforced."""

from collections.abc import Iterator

import pytest
from serving import QUICK_RETRIES, free_port

from image_pipeline.local_stack import LocalStack
from image_pipeline.stack import Stack


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A local stack whose function may do what its own role allows, and nothing else."""
    local = LocalStack(tmp_path_factory.mktemp("stack"), variables=QUICK_RETRIES | {"AUTH": "true"})
    try:
        local.start(free_port(), detach=False, report=lambda _: None)
        yield local
    finally:
        local.stop()


@pytest.fixture(scope="session")
def stack(local: LocalStack) -> Stack:
    """The stack that is deployed there."""
    return local.stack()
