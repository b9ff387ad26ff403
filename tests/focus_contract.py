"""What a focus does to an object, on any S3: moto and the local AWS run these with `stack`.

moto does not check the conditions of a copy, so it does not run the test of them.
"""

import io
from copy import replace
from typing import Any

import pytest
from pictures import jpeg

from image_pipeline.errors import CommandError
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.focus import CHANGED, set_focus

KEY = "uploads/ä +%2F/'\"&photo?.jpg"
"""A key with what must be encoded in the header that names the source of a copy."""

HEADERS: dict[str, Any] = {
    "CacheControl": "private, max-age=60",
    "ContentDisposition": 'attachment; filename="photo.jpg"',
    "ContentEncoding": "identity",
    "ContentLanguage": "de",
    "ContentType": "image/x-photo",
    "Expires": "Wed, 01 Jan 2031 00:00:00 GMT",
    "WebsiteRedirectLocation": "/elsewhere",
    "StorageClass": "STANDARD_IA",
    "ServerSideEncryption": "AES256",
}


def put(stack: Stack, body: bytes = b"bytes", **more: Any) -> str:
    """Upload an object and return its ETag."""
    answer = stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=KEY, Body=body, **more)
    return answer["ETag"].strip('"')


def head(stack: Stack) -> dict[str, Any]:
    """What S3 says of the object, but for what every copy changes."""
    found: dict[str, Any] = dict(stack.aws.s3.head_object(Bucket=stack.input_bucket, Key=KEY))
    return {
        name: value
        for name, value in found.items()
        if name not in {"ResponseMetadata", "LastModified", "VersionId"}
    }


def test_only_the_focus_changes(stack: Stack) -> None:
    """Bytes, other metadata, headers, storage class, encryption and tags are as they were."""
    etag = put(stack, jpeg(), Metadata={"owner": "me"}, Tagging="a=1&b=2", **HEADERS)
    before = head(stack)
    assert {name: before[name] for name in HEADERS if name != "Expires"} == {
        name: value for name, value in HEADERS.items() if name != "Expires"
    }
    assert set_focus(stack, KEY, etag, (0.5, 0.25)) == etag
    assert head(stack) == before | {"Metadata": {"owner": "me", "focus": "0.5,0.25"}}
    assert set_focus(stack, KEY, etag, (0.1, 1)) == etag
    assert head(stack)["Metadata"]["focus"] == "0.1,1"
    assert set_focus(stack, KEY, etag, None) == etag
    assert head(stack) == before
    tags = stack.aws.s3.get_object_tagging(Bucket=stack.input_bucket, Key=KEY)["TagSet"]
    assert {each["Key"]: each["Value"] for each in tags} == {"a": "1", "b": "2"}
    body = stack.aws.s3.get_object(Bucket=stack.input_bucket, Key=KEY)["Body"].read()
    assert body == jpeg()


def test_a_changed_object_is_refused(stack: Stack) -> None:
    """An ETag that the page read earlier is no longer the object's: nothing is written."""
    etag = put(stack, b"earlier")
    put(stack, b"later", Metadata={"owner": "me"})
    with pytest.raises(CommandError, match=CHANGED):
        set_focus(stack, KEY, etag, (0.5, 0.5))
    assert head(stack)["Metadata"] == {"owner": "me"}


def test_an_object_that_changes_meanwhile_is_refused(stack: Stack) -> None:
    """S3 refuses the copy if the object was replaced after its metadata was read."""
    etag = put(stack, b"earlier")

    def replace_it(**_: object) -> None:
        put(stack, b"later", Metadata={"owner": "me"})

    events = stack.aws.s3.meta.events
    events.register_first("before-call.s3.CopyObject", replace_it)
    try:
        with pytest.raises(CommandError, match=CHANGED):
            set_focus(stack, KEY, etag, (0.5, 0.5))
    finally:
        events.unregister("before-call.s3.CopyObject", replace_it)
    assert head(stack)["Metadata"] == {"owner": "me"}


def test_an_acl_is_not_lost(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a bucket of somebody else's, an object that others may read is refused; a plain one not.

    A stack's own bucket has no ACLs, so none is read.
    """
    s3, bucket = stack.aws.s3, "a-bucket-with-acls"
    s3.create_bucket(Bucket=bucket, ObjectOwnership="ObjectWriter")
    s3.delete_public_access_block(Bucket=bucket)
    existing = replace(stack, input_bucket=bucket, parameters={"ExistingInputBucket": "true"})
    etag = put(existing)
    assert set_focus(existing, KEY, etag, (0.5, 0.5)) == etag
    s3.put_object_acl(Bucket=bucket, Key=KEY, ACL="public-read")
    with pytest.raises(CommandError, match="ACL"):
        set_focus(existing, KEY, etag, (0.1, 0.1))
    assert head(existing)["Metadata"] == {"focus": "0.5,0.5"}
    monkeypatch.setattr(s3, "get_object_acl", None)
    own = put(stack)
    assert set_focus(stack, KEY, own, (0.5, 0.5)) == own


def test_the_etag_of_an_upload_in_parts_becomes_another_one(stack: Stack) -> None:
    """The ETag that is returned is the one that the object has then."""
    s3, target = stack.aws.s3, {"Bucket": stack.input_bucket, "Key": KEY}
    part = {**target, "UploadId": s3.create_multipart_upload(**target)["UploadId"]}
    tag = s3.upload_part(**part, PartNumber=1, Body=io.BytesIO(b"x" * 1000))["ETag"]
    s3.complete_multipart_upload(
        **part, MultipartUpload={"Parts": [{"ETag": tag, "PartNumber": 1}]}
    )
    etag = head(stack)["ETag"].strip('"')
    now = set_focus(stack, KEY, etag, (0.5, 0.5))
    assert head(stack)["ETag"] == f'"{now}"'
    assert head(stack)["Metadata"] == {"focus": "0.5,0.5"}
