"""`image-pipeline prune` on the deployed stack: real function, real buckets, the command's output.

Deletion with the original is off, which is the default.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from home import Home
from pictures import jpeg
from serving import QUICK_AND_STRICT, until

from image_pipeline.local.stack import LocalStack
from image_pipeline.ports import free_port
from image_pipeline.stack.deployed import Stack

pytestmark = pytest.mark.local_stack

PHOTO = jpeg((640, 480))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack for this file alone, with manifests."""
    local = LocalStack(
        tmp_path_factory.mktemp("pruning"),
        parameters={"WriteManifest": "true"},
        variables=QUICK_AND_STRICT,
    )
    try:
        local.start(free_port(), detach=False, report=lambda _: None)
        yield local
    finally:
        local.stop()


@pytest.fixture
def home(local: LocalStack) -> Home:
    """The command that uses it."""
    return Home(local.directory, 0)


@pytest.fixture
def stack(local: LocalStack) -> Stack:
    """The stack that is deployed there."""
    return local.stack()


def upload(stack: Stack, name: str) -> dict[str, Any]:
    """Upload an image, and wait for its outputs; key → head."""
    stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=f"uploads/{name}.jpg", Body=PHOTO)
    until(lambda: len(heads(stack, name)) == 3)
    return heads(stack, name)


def heads(stack: Stack, name: str) -> dict[str, Any]:
    """Key and head of each object of an image in the output bucket."""
    bucket = stack.settings.output_bucket
    listed = stack.aws.s3.list_objects_v2(Bucket=bucket, Prefix=name).get("Contents", [])
    return {
        each["Key"]: stack.aws.s3.head_object(Bucket=bucket, Key=each["Key"]) for each in listed
    }


def copy_without_metadata(stack: Stack, key: str) -> None:
    """Copy an object over itself, as a restore does that loses metadata."""
    bucket = stack.settings.output_bucket
    stack.aws.s3.copy_object(
        Bucket=bucket,
        Key=key,
        CopySource={"Bucket": bucket, "Key": key},
        MetadataDirective="REPLACE",
        Metadata={},
    )


def test_thumbnails_of_a_deleted_original_are_pruned(stack: Stack, home: Home) -> None:
    """After a no they stay, after a yes they are gone; those of other images stay."""
    upload(stack, "here")
    upload(stack, "stays")
    stack.aws.s3.delete_object(Bucket=stack.input_bucket, Key="uploads/here.jpg")
    planned = home.json("prune", "--dry-run")
    assert planned["kinds"]["no_original"]["objects"] == 3
    code, shown = home.in_a_terminal("prune", answers={"Delete 3 objects?": b"n\n"})
    assert code == 1, shown
    assert len(heads(stack, "here")) == 3
    code, shown = home.in_a_terminal("prune", answers={"Delete 3 objects?": b"y\n"})
    assert code == 0, shown
    assert "3 deleted" in shown
    assert heads(stack, "here") == {}
    assert len(heads(stack, "stays")) == 3


def test_thumbnails_without_metadata_are_adopted(stack: Stack, home: Home) -> None:
    """What the function wrote is taken over as it was; what it did not, a backfill makes again."""
    before = upload(stack, "copied")
    for key in before:
        copy_without_metadata(stack, key)
    strange = "copied_512w.webp"
    stack.aws.s3.put_object(Bucket=stack.settings.output_bucket, Key=strange, Body=b"strange")
    done = home.json("prune", "--adopt", "--yes")
    assert (done["taken_over"], done["deleted"], done["changed"]) == (2, 1, 0)
    assert home.json("backfill", "--yes")["made"] == 1
    after = heads(stack, "copied")
    assert after.keys() == before.keys()
    for key, head in after.items():
        for name in ("ETag", "Metadata", "ContentType", "CacheControl"):
            assert head[name] == before[key][name], key
    assert home.json("backfill", "--dry-run")["to_make"] == 0
    left = home.json("prune", "--dry-run")
    assert left["objects"] == []
    assert left["kinds"]["foreign"]["objects"] == 0, "results of the backfill do not count"
