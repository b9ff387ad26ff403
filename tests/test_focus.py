"""Choosing what crops show: what a focus does to the original, and that its crops follow."""

from copy import replace
from typing import Any

import pytest
from aws_names import INPUT, OUTPUT
from botocore.exceptions import ClientError
from focus_contract import (
    KEY,
    head,
    put,
    test_a_changed_object_is_refused,  # noqa: F401 - run with the fixture `stack` below
    test_an_acl_is_not_lost,  # noqa: F401
    test_only_the_focus_changes,  # noqa: F401
    test_the_etag_of_an_upload_in_parts_becomes_another_one,  # noqa: F401
)
from moto_stack import moto_stack
from pictures import BLUE, RED, decoded, jpeg, near

from image_pipeline.errors import CommandError, NotPermitted
from image_pipeline.stack import focus as focuses
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.focus import CHANGED, set_focus
from image_pipeline.stack.uploads import State, describe, outcome_of
from thumbnailer.events import Upload
from thumbnailer.imaging import parse_sizes
from thumbnailer.reconcile import Reconciler
from thumbnailer.storage import S3Bucket
from thumbnailer.telemetry import Telemetry


@pytest.fixture
def stack(s3: Any, aws: str) -> Stack:
    """A stack that makes a width and a crop."""
    del s3  # the buckets are there
    made = moto_stack(aws)
    sizes = parse_sizes("128,wide=64x16")
    return replace(made, settings=made.settings._replace(sizes=sizes))


def make_thumbnails(stack: Stack) -> None:
    """Do what the function does with the event of an upload or of a copy."""
    Reconciler(
        stack.settings,
        Telemetry("ERROR"),
        lambda name: S3Bucket(name, lambda: 20.0),
        lambda: 20.0,
        20.0,
    ).process(Upload(INPUT, KEY))


def test_the_crops_follow(stack: Stack) -> None:
    """An image with another focus has no outcome until its crops are made again."""
    etag = put(stack, jpeg((400, 400)))
    size = stack.settings.sizes[1]
    for focus, colour in (((0.25, 0), RED), ((0.25, 1), BLUE)):
        set_focus(stack, KEY, etag, focus)
        stored = describe(stack, KEY)
        assert stored is not None
        assert outcome_of(stack, stored, list).state is State.UNKNOWN
        make_thumbnails(stack)
        assert outcome_of(stack, stored, list).state is State.DONE
        key = stack.settings.thumbnail_key(KEY, size, "webp")
        crop = decoded(stack.aws.s3.get_object(Bucket=OUTPUT, Key=key)["Body"].read())
        assert crop.size == (64, 16)
        assert near(crop.convert("RGB").getpixel((8, 8)), colour)  # type: ignore[arg-type]


def test_the_copy_has_both_conditions_and_names_what_s3_would_drop(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is over the ETag that was read, and repeats a key of KMS and its bucket key."""
    etag = put(stack)
    encryption = {
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "arn:aws:kms:us-east-1:123456789012:key/1",
        "BucketKeyEnabled": True,
    }
    found = focuses.head_object(stack.aws.s3, INPUT, KEY)
    monkeypatch.setattr(focuses, "head_object", lambda *_: {**(found or {}), **encryption})
    given: list[dict[str, Any]] = []
    stack.aws.s3.meta.events.register(
        "provide-client-params.s3.CopyObject", lambda params, **_: given.append(dict(params))
    )
    set_focus(stack, KEY, etag, (0.5, 0.5))
    (request,) = given
    assert (request["CopySourceIfMatch"], request["IfMatch"]) == (f'"{etag}"', f'"{etag}"')
    assert request.items() >= encryption.items()
    assert "TaggingDirective" not in request, "S3 copies the tags by default"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"StorageClass": "GLACIER"}, "archived"),
        ({"StorageClass": "DEEP_ARCHIVE", "Restore": 'ongoing-request="false"'}, "archived"),
        (
            {"StorageClass": "INTELLIGENT_TIERING", "ArchiveStatus": "ARCHIVE_ACCESS"},
            "archived",
        ),
        ({"ContentLength": 5 * 1024**3 + 1}, "more than 5 GB"),
        ({"ObjectLockMode": "GOVERNANCE"}, "Object Lock"),
        ({"ObjectLockLegalHoldStatus": "ON"}, "Object Lock"),
        ({"ExpiresString": "0"}, "Expires, '0', is not a date"),
        ({"MissingMeta": 2}, "metadata that S3 does not return"),
    ],
    ids=str,
)
def test_an_object_that_a_copy_would_damage_is_refused(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, headers: dict[str, Any], reason: str
) -> None:
    """The reason is given in words, and no copy is requested."""
    etag = put(stack)
    found = focuses.head_object(stack.aws.s3, INPUT, KEY)
    monkeypatch.setattr(focuses, "head_object", lambda *_: {**(found or {}), **headers})
    with pytest.raises(CommandError, match=reason):
        set_focus(stack, KEY, etag, (0.5, 0.5))
    assert head(stack)["Metadata"] == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"StorageClass": "GLACIER_IR"},
        {"ContentLength": 5 * 1024**3},
        {"ObjectLockLegalHoldStatus": "OFF"},
    ],
    ids=str,
)
def test_an_object_that_can_be_copied_is_not_refused(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, headers: dict[str, Any]
) -> None:
    """Instant retrieval, exactly 5 GB, and a legal hold that has ended are no obstacle."""
    etag = put(stack)
    found = focuses.head_object(stack.aws.s3, INPUT, KEY)
    monkeypatch.setattr(focuses, "head_object", lambda *_: {**(found or {}), **headers})
    set_focus(stack, KEY, etag, (0.5, 0.5))
    assert head(stack)["Metadata"] == {"focus": "0.5,0.5"}


@pytest.mark.parametrize("key", ["uploads/gone.jpg", "elsewhere/photo.jpg", "uploads/folder/"])
def test_only_an_image_of_the_stack_gets_a_focus(stack: Stack, key: str) -> None:
    """A missing object, one outside the prefix and a folder marker are refused."""
    etag = ""
    if key != "uploads/gone.jpg":
        etag = stack.aws.s3.put_object(Bucket=INPUT, Key=key, Body=b"x")["ETag"].strip('"')
    with pytest.raises(CommandError, match="is not an image in"):
        set_focus(stack, key, etag, (0.5, 0.5))


def test_the_same_focus_again_writes_nothing(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """No copy is made where the metadata would not change, so no event follows."""
    etag = put(stack, Metadata={"focus": "0.5,0.5"})
    monkeypatch.setattr(stack.aws.s3, "copy_object", None)
    assert set_focus(stack, KEY, etag, (0.5, 0.5)) == etag


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"])
def test_a_copy_that_s3_refuses_says_that_the_image_has_changed(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """So S3 answers if the object was replaced or deleted after its metadata was read.

    moto ignores the conditions of a copy; the local AWS does not (focus_contract.py).
    """
    etag = put(stack)

    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "CopyObject")

    monkeypatch.setattr(stack.aws.s3, "copy_object", refuse)
    with pytest.raises(CommandError, match=CHANGED):
        set_focus(stack, KEY, etag, (0.5, 0.5))


@pytest.mark.parametrize("operation", ["HeadObject", "CopyObject"])
def test_a_denied_request_names_the_permissions(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Without permission the error says that nothing was changed, and what is needed."""
    etag = put(stack)

    def deny(*_: object, **__: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)

    if operation == "HeadObject":
        monkeypatch.setattr(focuses, "head_object", deny)
    else:
        monkeypatch.setattr(stack.aws.s3, "copy_object", deny)
    with pytest.raises(NotPermitted, match=r"not changed.*s3:GetObject and s3:PutObject"):
        set_focus(stack, KEY, etag, (0.5, 0.5))
