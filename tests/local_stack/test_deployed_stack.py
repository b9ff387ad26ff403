"""End to end: the template is deployed with the built function, and images are uploaded to S3.

IAM is enforced, so everything that works here works with the permissions of the function's role.
"""

import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from conftest import MODES
from pictures import decoded, encoded, is_upright, jpeg, quadrants
from serving import client, log_lines, until

from image_pipeline.stack import dead_letters
from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.deployed import Stack
from thumbnailer.imaging import fingerprint

pytestmark = [
    pytest.mark.local_stack,
    pytest.mark.parametrize("local", MODES, indirect=True, scope="session"),
]

ROTATED = 6
"""EXIF orientation: the picture must be turned clockwise by 90 degrees."""


def put(stack: Stack, key: str, body: bytes) -> str:
    """Upload with one request; the etag, without quotes."""
    answer = stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=key, Body=body)
    return answer["ETag"].strip('"')


def thumbnails(stack: Stack, key: str, etag: str) -> dict[int, Any]:
    """Wait for all thumbnails of one upload: width in pixels → answer of GetObject."""

    def stored_thumbnails() -> dict[int, Any]:
        found = {}
        for size in stack.settings.sizes:
            try:
                stored = stack.aws.s3.get_object(
                    Bucket=stack.settings.output_bucket,
                    Key=stack.settings.thumbnail_key(key, size, "webp"),
                )
            except stack.aws.s3.exceptions.NoSuchKey:
                return {}
            if stored["Metadata"]["source-etag"] != etag:
                return {}
            found[size.width] = stored
        return found

    return until(stored_thumbnails)


def failures(stack: Stack, key: str) -> list[Failure]:
    """The messages on the dead-letter queue about a key."""
    queue = stack.settings.dead_letter_queue_url
    return [each for each in dead_letters.read(stack.aws.sqs, queue) if each.key == key]


def logged(stack: Stack, key: str) -> list[dict[str, Any]]:
    """The function's log entries about a key."""
    entries = []
    for line in log_lines(stack.aws, f"/aws/lambda/{stack.function_name}"):
        if line.startswith("{"):
            entry = json.loads(line)
            if entry.get("key") == key:
                entries.append(entry)
    return entries


def test_an_upload_becomes_thumbnails(stack: Stack) -> None:
    """Thumbnails of a rotated photo are upright, with the headers and metadata of the contract."""
    exif = quadrants().getexif()
    exif[0x0112] = ROTATED
    turned = quadrants((1200, 800)).rotate(90, expand=True)
    key = "uploads/trip/photo.jpg"
    etag = put(stack, key, encoded(turned, exif=exif))
    for width, stored in thumbnails(stack, key, etag).items():
        image = decoded(stored["Body"].read())
        assert (image.format, image.size) == ("WEBP", (width, round(width * 2 / 3)))
        assert is_upright(image)
        assert stored["ContentType"] == "image/webp"
        assert stored["CacheControl"] == stack.settings.cache_control
        assert stored["Metadata"]["source-key"] == key
        assert stored["Metadata"]["recipe"] == fingerprint(stack.settings.specs[0])
    listed = stack.aws.s3.list_objects_v2(Bucket=stack.settings.output_bucket, Prefix="trip/")[
        "Contents"
    ]
    assert [each["Key"] for each in listed] == ["trip/photo_128w.webp", "trip/photo_512w.webp"]


def test_a_multipart_upload_becomes_thumbnails(stack: Stack) -> None:
    """The etag of an object that was uploaded in parts is not an MD5; it works like any other."""
    key = "uploads/large.bmp"
    stack.aws.s3.upload_fileobj(
        io.BytesIO(encoded(quadrants((2000, 1800)), "BMP")),  # 10.8 MB
        stack.input_bucket,
        key,
        Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20),
    )
    etag = stack.aws.s3.head_object(Bucket=stack.input_bucket, Key=key)["ETag"].strip('"')
    assert etag.endswith("-3")
    assert thumbnails(stack, key, etag).keys() == {128, 512}


@pytest.mark.parametrize(
    "name",
    [
        "a b+c&d=e.jpg",
        "100%25.jpg",
        "ünï/日本/🎈.jpg",
        "a//b.jpg",
        "/leading.jpg",
        "x/../y/./z.jpg",
        "quote'\"<>#?;.jpg",
    ],
)
def test_any_key_works(stack: Stack, name: str) -> None:
    """Characters that are special in paths, forms or URLs have no effect in a key."""
    key = f"uploads/{name}"
    etag = put(stack, key, jpeg((200, 100)))
    assert decoded(thumbnails(stack, key, etag)[128]["Body"].read()).size == (128, 64)


def test_a_text_named_jpg_becomes_one_dead_letter(stack: Stack) -> None:
    """One message with a permanent error type; the invocation succeeds, so there is no retry."""
    key = "uploads/text.jpg"
    etag = put(stack, key, b"This is a text.")
    failure, *others = until(lambda: failures(stack, key))
    assert not others
    assert (failure.error_type, failure.permanent, failure.etag, failure.attempts) == (
        "UnsupportedImage",
        True,
        etag,
        1,
    )
    time.sleep(0.5)  # a retry would come after 0.1 s
    assert len(failures(stack, key)) == 1
    assert Counter(entry["action"] for entry in logged(stack, key))["failed"] == 1


def test_an_object_outside_the_prefix_is_ignored(stack: Stack) -> None:
    """S3 does not deliver an event for it."""
    put(stack, "elsewhere/outside.jpg", jpeg())
    put(stack, "uploads/inside.txt/", b"")  # a folder marker is delivered, and skipped
    until(lambda: logged(stack, "uploads/inside.txt/"))
    assert logged(stack, "elsewhere/outside.jpg") == []
    assert failures(stack, "uploads/inside.txt/") == []


def test_ten_identical_events_write_each_thumbnail_once(stack: Stack) -> None:
    """Ten copies of the event arrive along with it; every thumbnail is written once."""
    output = stack.settings.output_bucket
    stack.aws.s3.put_bucket_versioning(Bucket=output, VersioningConfiguration={"Status": "Enabled"})
    key = "uploads/ten.jpg"
    etag = put(stack, key, jpeg((1600, 1200)))
    event = {
        "Records": [
            {
                "eventSource": "aws:s3",
                "eventName": "ObjectCreated:Put",
                "s3": {
                    "bucket": {"name": stack.input_bucket},
                    "object": {"key": key, "eTag": etag},
                },
            }
        ]
    }

    def send(_number: int) -> Any:
        return stack.aws.functions.invoke(
            FunctionName=stack.function_name, InvocationType="Event", Payload=json.dumps(event)
        )["StatusCode"]

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(send, range(10))) == {202}
    until(
        lambda: sum(entry["action"] in ("complete", "skip") for entry in logged(stack, key)) == 11
    )
    stack.aws.s3.put_bucket_versioning(
        Bucket=output, VersioningConfiguration={"Status": "Suspended"}
    )
    versions = stack.aws.s3.list_object_versions(Bucket=output, Prefix="ten_")["Versions"]
    assert Counter(each["Key"] for each in versions) == {"ten_128w.webp": 1, "ten_512w.webp": 1}
    assert failures(stack, key) == []


def test_a_missing_output_bucket_ends_on_the_queue(stack: Stack) -> None:
    """The error is transient: three attempts, then one OnFailure record that names the bucket."""
    output, key = stack.settings.output_bucket, "uploads/nowhere.jpg"
    versions = stack.aws.s3.list_object_versions(Bucket=output).get("Versions", [])
    for each in versions:
        stack.aws.s3.delete_object(Bucket=output, Key=each["Key"], VersionId=each["VersionId"])
    stack.aws.s3.delete_bucket(Bucket=output)
    try:
        put(stack, key, jpeg())
        failure, *others = until(lambda: failures(stack, key))
    finally:
        stack.aws.s3.create_bucket(Bucket=output)
    assert not others
    assert (failure.error_type, failure.attempts) == ("StorageUnavailable", 3)
    assert output in failure.error_message


@pytest.fixture
def without(stack: Stack) -> Iterator[Callable[[str], None]]:
    """Remove a statement, by its Sid, from the policy of the function's role, for one test."""
    iam = client(stack.aws, "iam")
    role = stack.aws.functions.get_function_configuration(FunctionName=stack.function_name)["Role"]
    name = role.rpartition("/")[2]
    (policy,) = iam.list_role_policies(RoleName=name)["PolicyNames"]
    document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]

    def write(statements: list[Any]) -> None:
        changed = {**document, "Statement": statements}
        iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(changed))

    def remove(sid: str) -> None:
        kept = [each for each in document["Statement"] if each["Sid"] != sid]
        assert len(kept) == len(document["Statement"]) - 1
        write(kept)

    yield remove
    write(document["Statement"])


@pytest.mark.parametrize(
    "sid",
    ["ReadUploads", "ReadAndWriteThumbnails"],
)
def test_each_permission_is_needed(stack: Stack, without: Callable[[str], None], sid: str) -> None:
    """Without this statement of the role's policy, the upload fails after its retries."""
    key = f"uploads/without-{sid}.jpg"
    without(sid)
    put(stack, key, jpeg())
    failure, *others = until(lambda: failures(stack, key))
    assert not others
    assert (failure.error_type, failure.attempts) == ("StorageDenied", 3)


def test_without_the_permission_to_send_nothing_reaches_the_queue(
    stack: Stack, without: Callable[[str], None]
) -> None:
    """Every attempt fails with QueueUnavailable; Lambda has the same role, and no record arrives.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html. On AWS the
    alarm delivery-failed goes off.
    """
    key = "uploads/without-SendDeadLetters.jpg"
    without("SendDeadLetters")
    put(stack, key, b"This is a text.")

    def attempts() -> int:
        lines = log_lines(stack.aws, f"/aws/lambda/{stack.function_name}")
        return sum('"QueueUnavailable"' in line and key in line for line in lines)

    until(lambda: attempts() == 3)
    assert not failures(stack, key)


def test_thumbnails_are_deleted_with_their_original(stack: Stack) -> None:
    """With DeleteWithOriginal; the function's role allows it to delete thumbnails only."""
    if stack.outputs.get("UndeliveredEventsUrl") is None:
        return  # this mode keeps them: test_operations.py has a test of that
    key = "uploads/trip/deleted.jpg"
    thumbnails(stack, key, put(stack, key, jpeg((200, 100))))
    stack.aws.s3.delete_object(Bucket=stack.input_bucket, Key=key)
    until(lambda: not listed(stack, "trip/deleted"))
    until(lambda: "delete" in [entry["action"] for entry in logged(stack, key)])


def listed(stack: Stack, prefix: str) -> list[str]:
    """Keys in the output bucket."""
    found = stack.aws.s3.list_objects_v2(Bucket=stack.settings.output_bucket, Prefix=prefix)
    return [each["Key"] for each in found.get("Contents", [])]
