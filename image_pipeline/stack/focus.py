"""Choose what the crops of an uploaded image have in the middle: its user metadata `focus`.

S3 cannot change the metadata of an object, so the object is copied onto itself, over the ETag that
was read (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html). What becomes of the
rest:

- S3 keeps the bytes, and what TaggingDirective and AnnotationDirective copy by default: tags and
  annotations. For an object with tags it asks for s3:GetObjectTagging and s3:PutObjectTagging.
- S3 would drop all other metadata and headers, the storage class and the encryption. The copy names
  them again.
- Nobody can keep an ACL, a retention or a legal hold, or metadata that S3 does not return. Such an
  object is refused. So is one that S3 does not copy in one request: archived, or too large.

The ETag of an object that was uploaded in parts, or is encrypted with KMS, becomes another one.
With versioning, the earlier version stays.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from image_pipeline.errors import CommandError, NotPermitted
from image_pipeline.stack.aws import aws_errors_explained, head_object, is_missing
from image_pipeline.stack.backfill import ARCHIVES
from image_pipeline.stack.deployed import Stack
from thumbnailer.imaging import Point, focus_text
from thumbnailer.s3_codes import CHANGED_CODES
from thumbnailer.settings import FOCUS

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

MAX_COPY_BYTES: Final = 5 * 1024**3
"""What S3 copies in one request
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/copy-object.html)."""

KEPT: Final = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Expires",
    "WebsiteRedirectLocation",
    "StorageClass",
    "ServerSideEncryption",
    "SSEKMSKeyId",
    "BucketKeyEnabled",
)
"""What a copy must name to keep it, by the names of both HeadObject and CopyObject."""

COPY_REFUSED: Final = CHANGED_CODES | {"412", "409"}
"""With the status of an answer that has no code."""

CHANGED: Final = "The image has changed since this page was loaded. Reload the page and try again."

PERMISSIONS: Final = "s3:GetObject and s3:PutObject on the input bucket"


def set_focus(stack: Stack, key: str, etag: str, focus: Point | None) -> str:
    """Set the focus of the image `key`, or remove it with None; returns the image's ETag then.

    Its bytes must have the ETag `etag`. Raises CommandError if they have not, if the object cannot
    be copied without a loss, or if AWS refuses; then nothing has changed.
    """
    with _denial_explained():
        head = head_object(stack.aws.s3, stack.input_bucket, key)
        if head is None or not stack.settings.is_image_key(key):
            raise CommandError(f"{key} is not an image in {stack.input_bucket}.")
        if head["ETag"].strip('"') != etag:
            raise CommandError(CHANGED)
        metadata = {name: value for name, value in head["Metadata"].items() if name != FOCUS}
        if focus:
            metadata[FOCUS] = focus_text(focus)
        if metadata == head["Metadata"]:
            return etag
        if reason := _loss(head) or _acl_loss(stack, key):
            raise CommandError(f"The focus was not changed: {reason}.")
        return _copy_in_place(stack, key, head, metadata)


def _loss(head: "HeadObjectOutputTypeDef") -> str | None:
    """Return why a copy in place would fail or lose something, by the object's headers."""
    # A copy would make a restored object permanent, or archive it again.
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html
    if head.get("StorageClass") in ARCHIVES or head.get("ArchiveStatus"):
        return "the image is archived. Restore it, and copy it to another storage class first"
    if head["ContentLength"] > MAX_COPY_BYTES:
        return "the image has more than 5 GB, and S3 copies no larger object in one request"
    if head.get("ObjectLockMode") or "ON" in (
        head.get("ObjectLockLegalHoldStatus"),
        head.get("ObjectLockEventHold"),
    ):
        return (
            "the image is protected by Object Lock, and a copy would be a version without this "
            "protection. Upload the image again with the metadata focus"
        )
    if "Expires" not in head and head.get("ExpiresString"):
        return f"its header Expires, {head['ExpiresString']!r}, is not a date and would be lost"
    if head.get("MissingMeta"):
        return "the image has metadata that S3 does not return, and a copy would lose it"
    return None


def _acl_loss(stack: Stack, key: str) -> str | None:
    """Return why a copy in place would lose an ACL. In a bucket of the stack, ACLs are off."""
    if stack.parameters.get("ExistingInputBucket") != "true":
        return None
    acl = stack.aws.s3.get_object_acl(Bucket=stack.input_bucket, Key=key)
    owner = acl["Owner"].get("ID")
    if all(grant.get("Grantee", {}).get("ID") == owner for grant in acl["Grants"]):
        return None
    return (
        "the image has an ACL that gives others access, and a copy would lose it. Upload the image "
        "again with the metadata focus"
    )


def _copy_in_place(
    stack: Stack, key: str, head: "HeadObjectOutputTypeDef", metadata: Mapping[str, str]
) -> str:
    headers: Mapping[str, Any] = head
    try:
        copied = stack.aws.s3.copy_object(
            Bucket=stack.input_bucket,
            Key=key,
            CopySource={"Bucket": stack.input_bucket, "Key": key},
            CopySourceIfMatch=head["ETag"],
            IfMatch=head["ETag"],
            MetadataDirective="REPLACE",
            Metadata=metadata,
            **{name: headers[name] for name in KEPT if name in headers},
        )
    except ClientError as error:
        if is_missing(error) or error.response["Error"]["Code"] in COPY_REFUSED:
            raise CommandError(CHANGED) from error
        raise
    return copied["CopyObjectResult"]["ETag"].strip('"')


@contextmanager
def _denial_explained() -> Iterator[None]:
    try:
        with aws_errors_explained():
            yield
    except NotPermitted as error:
        raise NotPermitted(
            f"{error} The focus was not changed. To change it you need {PERMISSIONS}; "
            "s3:GetObjectAcl too if the stack did not create the bucket, and s3:GetObjectTagging "
            "and s3:PutObjectTagging if the image has tags."
        ) from error
