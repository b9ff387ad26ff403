"""Other sizes for another folder: stacks on one existing bucket, each with a prefix of its own.

They have the real template and function, as docs/deploy.md describes them. The tests are steps of
one story, in their order.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import pytest
from home import Home
from pictures import jpeg
from serving import QUICK_AND_STRICT, log_lines, ministack, until
from site_owner import Site

from image_pipeline.local.stack import LocalStack
from image_pipeline.stack import dead_letters
from image_pipeline.stack.deployed import Stack

pytestmark = [pytest.mark.local_stack, pytest.mark.slow]

BUCKET: Final = "site-uploads"
OTHER_PHOTO: Final = jpeg((480, 640))

STACKS: Final = {
    # Deletes what is its own when it is deleted: the strongest threat to the other one.
    "photos": {"InputPrefix": "uploads/", "ThumbnailSizes": "64", "DeleteBucketContents": "true"},
    "faces": {"InputPrefix": "avatars/", "ThumbnailSizes": "32", "DeleteWithOriginal": "true"},
}
"""The name of each stack, and its parameters beside the names of its buckets."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Both stacks, on a bucket that was there before, with a picture in each of its folders."""
    directory = tmp_path_factory.mktemp("site")
    with ministack(directory, **QUICK_AND_STRICT) as (aws, _):
        local = LocalStack(directory)
        local.build()
        site = Site(
            Home(directory, 0), aws, local.artefact.parent / "iac" / "template.yaml", BUCKET
        )
        aws.s3.create_bucket(Bucket=BUCKET)
        site.upload("uploads/old.jpg", "avatars/old.jpg", "elsewhere/old.jpg")
        for name, parameters in STACKS.items():
            site.deploy(name, **parameters)
        yield site


@pytest.fixture
def photos(site: Site) -> Stack:
    """The stack of uploads/."""
    return site.stack("photos")


@pytest.fixture
def faces(site: Site) -> Stack:
    """The stack of avatars/."""
    return site.stack("faces")


def thumbnails(stack: Stack) -> dict[str, str]:
    """Key and ETag of each object in the output bucket, but for the results of backfills."""
    listed = stack.aws.s3.list_objects_v2(Bucket=stack.settings.output_bucket).get("Contents", [])
    own = "_image-pipeline/"
    return {each["Key"]: each["ETag"] for each in listed if not each["Key"].startswith(own)}


def names(stack: Stack) -> list[str]:
    """Keys of the thumbnails."""
    return list(thumbnails(stack))


def invocations(stack: Stack) -> int:
    """How often the function was invoked so far, for whatever reason."""
    lines = log_lines(stack.aws, f"/aws/lambda/{stack.function_name}")
    return sum(line.startswith("START RequestId:") for line in lines)


def keys_in_the_log(stack: Stack) -> set[str]:
    """The keys of uploads that the function has logged anything about."""
    lines = log_lines(stack.aws, f"/aws/lambda/{stack.function_name}")
    logged = [json.loads(line) for line in lines if line.startswith("{")]
    return {each["key"] for each in logged if "key" in each}


def wait(stack: Stack, expected: Sequence[str]) -> None:
    """Wait until exactly these thumbnails are there."""
    until(lambda: names(stack) == list(expected))


def wait_for(stack: Stack, key: str) -> None:
    """Wait until this thumbnail is there."""
    until(lambda: key in names(stack))


def wait_for_invocations(*expected: tuple[Stack, int]) -> None:
    """Wait until each function has been invoked exactly this often."""
    until(lambda: all(invocations(stack) == number for stack, number in expected))


def test_one_adopted_bucket_serves_both(site: Site) -> None:
    """The second stack finds the bucket prepared: nothing is added twice."""
    first = site.json("adopt-bucket", BUCKET, "--stack", "photos", "--yes")
    assert (first["event_bridge"], first["changed"]) == (True, True)
    second = site.json("adopt-bucket", BUCKET, "--stack", "faces", "--yes")
    assert (second["event_bridge"], second["cors_rule"], second["changed"]) == (False, None, False)
    assert len(site.aws.s3.get_bucket_cors(Bucket=BUCKET)["CORSRules"]) == 1


def test_an_upload_invokes_only_the_stack_of_its_prefix(
    site: Site, photos: Stack, faces: Stack
) -> None:
    """Each output bucket has its own thumbnails, also of equal names. No event reaches both.

    An object outside both prefixes reaches neither.
    """
    before = invocations(photos), invocations(faces)
    site.upload("elsewhere/a.jpg", "uploads/a.jpg")
    site.upload("avatars/a.jpg", body=OTHER_PHOTO)
    site.upload("uploads/b.jpg")
    wait(photos, ["a_64w.webp", "b_64w.webp"])
    wait(faces, ["a_32w.webp"])
    wait_for_invocations((photos, before[0] + 2), (faces, before[1] + 1))
    assert keys_in_the_log(photos) == {"uploads/a.jpg", "uploads/b.jpg"}
    assert keys_in_the_log(faces) == {"avatars/a.jpg"}


def test_a_backfill_makes_what_its_prefix_lacks(site: Site, photos: Stack, faces: Stack) -> None:
    """It neither counts, reads nor makes anything for objects under the other prefix."""
    others = thumbnails(faces), invocations(faces)
    counted = site.json("backfill", "--stack", "photos", "--dry-run")
    assert (counted["objects"], counted["to_make"]) == (3, 1)
    assert site.json("backfill", "--stack", "photos", "--yes")["made"] == 1
    assert names(photos) == ["a_64w.webp", "b_64w.webp", "old_64w.webp"]
    assert (thumbnails(faces), invocations(faces)) == others

    others = thumbnails(photos), invocations(photos)
    assert site.json("backfill", "--stack", "faces", "--yes")["made"] == 1
    assert names(faces) == ["a_32w.webp", "old_32w.webp"]
    assert (thumbnails(photos), invocations(photos)) == others
    assert keys_in_the_log(photos) == {"uploads/a.jpg", "uploads/b.jpg", "uploads/old.jpg"}
    assert keys_in_the_log(faces) == {"avatars/a.jpg", "avatars/old.jpg"}


def test_a_backfill_of_the_other_prefix_is_refused(site: Site) -> None:
    """The message names the prefix of the stack."""
    words = ["backfill", "--stack", "photos", "--prefix", "avatars/", "--yes"]
    done = site.home.run(*words, **site.aws.environment)
    assert done.returncode == 1
    assert "Only objects under uploads/ are processed" in done.stderr


def test_a_deletion_reaches_only_the_stack_of_its_prefix(
    site: Site, photos: Stack, faces: Stack
) -> None:
    """With DeleteWithOriginal=true thumbnails go with an original of the own prefix only."""
    kept, before = thumbnails(photos), (invocations(photos), invocations(faces))
    site.delete("uploads/a.jpg", "avatars/a.jpg")
    wait(faces, ["old_32w.webp"])
    assert thumbnails(photos) == kept
    wait_for_invocations((photos, before[0]), (faces, before[1] + 1))


def test_a_prune_deletes_nothing_of_the_other_stack(
    site: Site, photos: Stack, faces: Stack
) -> None:
    """Of the originals that are gone, it finds the one under its prefix."""
    kept = thumbnails(faces)
    assert site.json("prune", "--stack", "photos", "--yes")["deleted"] == 1
    assert names(photos) == ["b_64w.webp", "old_64w.webp"]
    assert site.json("prune", "--stack", "faces", "--yes")["deleted"] == 0
    assert thumbnails(faces) == kept


def messages(stack: Stack) -> list[str | None]:
    """The keys that the messages on the stack's queue are about."""
    found = dead_letters.read(stack.aws.sqs, stack.settings.dead_letter_queue_url)
    return [each.key for each in found]


def test_a_failure_is_reported_by_the_stack_of_its_prefix(
    site: Site, photos: Stack, faces: Stack
) -> None:
    """On its queue, with its function's name; the smoke test of either works beside the other."""
    site.upload("avatars/broken.jpg", body=b"This is a text.")
    until(lambda: messages(faces) == ["avatars/broken.jpg"])
    for name in STACKS:
        assert site.json("smoke", "--stack", name)["ok"]
    assert (messages(photos), messages(faces)) == ([], ["avatars/broken.jpg"])
    site.delete("avatars/broken.jpg")


def test_within_another_prefix_both_stacks_make_thumbnails(site: Site, faces: Stack) -> None:
    """An object under avatars/staff/ is also under avatars/, so it has two sets of thumbnails.

    The smoke test of the inner stack leaves its failure on purpose on the queue of the outer one.
    """
    inner = site.deploy("staff", InputPrefix="avatars/staff/", ThumbnailSizes="16")
    site.upload("avatars/staff/c.jpg")
    wait(inner, ["c_16w.webp"])
    wait(faces, ["old_32w.webp", "staff/c_32w.webp"])
    site.upload("avatars/d.jpg")
    wait(faces, ["d_32w.webp", "old_32w.webp", "staff/c_32w.webp"])
    assert keys_in_the_log(inner) == {"avatars/staff/c.jpg"}
    before = messages(faces)
    assert site.json("smoke", "--stack", "staff")["ok"]
    (left,) = until(lambda: [each for each in messages(faces) if each not in before])
    assert left
    assert left.startswith("avatars/staff/")
    assert messages(inner) == []
    wait(faces, ["d_32w.webp", "old_32w.webp", "staff/c_32w.webp"])  # what the smoke test made


def test_the_bucket_and_the_other_stack_outlive_a_deleted_one(
    site: Site, photos: Stack, faces: Stack
) -> None:
    """Even if the deleted stack deletes its buckets: the shared bucket is not its own."""
    uploads = site.aws.s3.list_objects_v2(Bucket=BUCKET)["KeyCount"]
    kept = thumbnails(faces)
    site.aws.cloudformation.delete_stack(StackName=photos.name)
    waiter = site.aws.cloudformation.get_waiter("stack_delete_complete")
    waiter.wait(StackName=photos.name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    there = {each["Name"] for each in site.aws.s3.list_buckets()["Buckets"]}
    assert photos.settings.output_bucket not in there
    assert site.aws.s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == uploads
    assert site.json("adopt-bucket", BUCKET, "--dry-run")["event_bridge"] is False
    before = invocations(faces)
    site.upload("uploads/late.jpg", "avatars/late.jpg")
    wait(faces, sorted({*kept, "late_32w.webp"}))
    wait_for_invocations((faces, before + 1))
    assert site.json("smoke", "--stack", "faces")["ok"]


def test_a_stack_that_made_its_bucket_can_share_it(site: Site) -> None:
    """It lets go of the bucket in an update, with the events of EventBridge turned on before.

    Afterwards each upload is processed once, before and after the notification that is left on the
    bucket is removed: S3 has lost the permission to invoke the function by it.
    """
    shared = replace(site, bucket="first-uploads")
    first = shared.deploy("first", ExistingInputBucket="false", ThumbnailSizes="64")
    shared.upload("uploads/a.jpg")
    wait(first, ["a_64w.webp"])
    assert shared.json("adopt-bucket", shared.bucket, "--stack", "first", "--yes")["event_bridge"]
    first = shared.deploy("first", ThumbnailSizes="64")
    second = shared.deploy("second", InputPrefix="avatars/", ThumbnailSizes="32")
    s3, before = site.aws.s3, invocations(first)
    left = s3.get_bucket_notification_configuration(Bucket=shared.bucket)
    assert len(left["LambdaFunctionConfigurations"]) == 1
    for number, name in enumerate(("b", "c", "d"), 1):
        shared.upload(f"avatars/{name}.jpg", f"uploads/{name}.jpg")
        wait_for(first, f"{name}_64w.webp")
        wait_for(second, f"{name}_32w.webp")
        wait_for_invocations((first, before + number), (second, number))
        if name == "c":
            s3.put_bucket_notification_configuration(
                Bucket=shared.bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
            )
