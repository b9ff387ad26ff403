"""The local AWS's S3 keeps the contract that the simulated one and moto keep."""

from collections.abc import Iterator

import pytest
from aws_names import OUTPUT
from bucket_contract import (  # noqa: F401 - run for the fixture `bucket` below
    test_a_new_object_is_written_once,
    test_large_bodies_stay_whole,
    test_of_many_each_is_created_if_nothing_is_there,
    test_only_the_seen_version_is_deleted,
    test_only_the_seen_version_is_replaced,
    test_what_is_not_there_is_none,
    test_what_is_put_comes_back,
)
from serving import ministack

from image_pipeline.stack.aws import LOCAL_ACCESS_KEY, Aws
from thumbnailer.storage import Boto3Bucket, Bucket, ObstoreBucket

pytestmark = pytest.mark.local_stack


@pytest.fixture(scope="module")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """A local AWS with nothing in it."""
    with ministack(tmp_path_factory.mktemp("aws")) as (aws, _):
        yield aws


@pytest.fixture(params=[ObstoreBucket, Boto3Bucket])
def bucket(
    request: pytest.FixtureRequest, local_aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    """Each client, over an empty bucket of the local AWS."""
    assert local_aws.endpoint_url is not None
    monkeypatch.setenv("AWS_ENDPOINT_URL", local_aws.endpoint_url)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, LOCAL_ACCESS_KEY)
    local_aws.s3.create_bucket(Bucket=OUTPUT)
    yield request.param(OUTPUT, 6.0)
    for found in local_aws.s3.list_objects_v2(Bucket=OUTPUT).get("Contents", []):
        local_aws.s3.delete_object(Bucket=OUTPUT, Key=found["Key"])
    local_aws.s3.delete_bucket(Bucket=OUTPUT)
