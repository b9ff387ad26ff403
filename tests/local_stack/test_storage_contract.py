"""The S3 of the local AWS passes the tests that the simulated S3 and moto pass."""

from collections.abc import Iterator

import boto3
import pytest
from aws_names import OUTPUT
from bucket_contract import (  # noqa: F401 - run with the fixture `bucket` below
    test_a_large_body_is_written_by_one_put,
    test_a_listing_says_whether_there_are_more_keys,
    test_a_missing_object_is_none,
    test_a_new_object_is_written_once,
    test_a_written_object_reads_back,
    test_each_of_several_objects_is_created_only_if_missing,
    test_each_of_several_objects_is_found_or_missing,
    test_equal_pictures_of_different_provenance_are_told_apart,
    test_keys_are_listed_by_prefix_in_the_order_of_their_bytes,
    test_only_the_version_with_the_etag_is_deleted,
    test_only_the_version_with_the_etag_is_replaced,
)
from serving import ministack

from image_pipeline.stack.aws import Aws
from thumbnailer.storage import Bucket
from thumbnailer.storage.boto3_bucket import Boto3Bucket
from thumbnailer.storage.obstore_bucket import ObstoreBucket

pytestmark = pytest.mark.local_stack


@pytest.fixture(scope="module")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """An empty local AWS."""
    with ministack(tmp_path_factory.mktemp("aws")) as (aws, _):
        yield aws


@pytest.fixture(params=[ObstoreBucket, Boto3Bucket])
def bucket(
    request: pytest.FixtureRequest, local_aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    """An empty bucket of the local AWS, by each client."""
    for variable, value in local_aws.environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it may have other credentials by now
    local_aws.s3.create_bucket(Bucket=OUTPUT)
    yield request.param(OUTPUT, 6.0)
    for found in local_aws.s3.list_objects_v2(Bucket=OUTPUT).get("Contents", []):
        local_aws.s3.delete_object(Bucket=OUTPUT, Key=found["Key"])
    local_aws.s3.delete_bucket(Bucket=OUTPUT)
