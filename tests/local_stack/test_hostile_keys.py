"""Hostile object keys, uploaded to the deployed stack, and what is made of them."""

import pytest
from pictures import jpeg
from serving import until

from image_pipeline.stack import dead_letters
from image_pipeline.stack.deployed import Stack
from thumbnailer import failure_marks
from thumbnailer.provenance import Provenance
from thumbnailer.settings import RESERVED_PREFIX

pytestmark = pytest.mark.local_stack

KEYS = {
    "climbs out": "uploads/../../etc/passwd.jpg",
    "climbs out, encoded": "uploads/%2e%2e/%2e%2e/passwd.jpg",
    "empty folders": "uploads//a//b.jpg",
    "a dot for a folder": "uploads/./a.jpg",
    "begins like a root": "uploads//etc/a.jpg",
    "NUL": "uploads/nul\0byte.jpg",
    "newline and tab": "uploads/new\nline\ttab.jpg",
    "escape sequence": "uploads/\x1b[31mred.jpg",
    "markup": "uploads/<script>alert(1)</script>.jpg",
    "quotes": "uploads/'\"`$(id);{x}{0}.jpg",
    "template fields": "uploads/{width}{dir}{stem.__class__}.jpg",
    "plus, per cent, question mark": "uploads/a+b%2Bc?d=e&f#g.jpg",
    "right to left": "uploads/\u202egpj.exe\u200f.jpg",
    "no ending": "uploads/no-ending",
    "dots only": "uploads/...",
    "named like a thumbnail": "uploads/a_128w.webp",
    "combining marks": "uploads/e\u0301\u0327" + "\u0300" * 50 + ".jpg",
    "emoji, as long as fits": "uploads/" + "😀" * 250 + ".jpg",
}
"""What it is → the key. The last has 1,012 bytes, and its longest thumbnail's key 1,018."""

TOO_LONG = "uploads/" + "😀" * 254
"""1,024 bytes, the most that S3 allows: the prefix is cut, but `_128w.webp` is longer."""


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_any_name_gets_its_thumbnails(stack: Stack, key: str) -> None:
    """They have exactly the expected keys and name their source; nothing else is written."""
    before = _outputs(stack)
    stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=key, Body=jpeg((200, 100)))
    wanted = {stack.settings.thumbnail_key(key, size, "webp") for size in stack.settings.sizes}
    until(lambda: wanted <= _outputs(stack).keys())
    assert _outputs(stack).keys() - before.keys() == wanted
    for thumbnail in wanted:
        head = stack.aws.s3.head_object(Bucket=stack.settings.output_bucket, Key=thumbnail)
        provenance = Provenance.of(head["Metadata"])
        assert provenance
        assert provenance.key == key


def test_a_key_too_long_for_its_thumbnails_fails(stack: Stack) -> None:
    """A key of 1,024 bytes whose thumbnails' keys would be longer: one message that says so."""
    stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=TOO_LONG, Body=jpeg((200, 100)))
    found = until(
        lambda: [each for each in dead_letters.failures(stack, 1000) if each.key == TOO_LONG]
    )
    assert [each.error_type for each in found] == ["KeyTooLong"]


def test_an_upload_never_replaces_an_object_that_the_pipeline_did_not_write(stack: Stack) -> None:
    """The object stays, the other thumbnail is written, and one message names the object's key."""
    source, taken = "uploads/site/hero.jpg", "site/hero_512w.webp"
    output = stack.settings.output_bucket
    stack.aws.s3.put_object(Bucket=output, Key=taken, Body=b"by hand")
    stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=source, Body=jpeg((200, 100)))
    (found,) = until(
        lambda: [each for each in dead_letters.failures(stack, 1000) if each.key == source]
    )
    assert (found.error_type, found.permanent, found.attempts) == ("KeyOccupied", True, 1)
    assert taken in found.error_message
    assert stack.aws.s3.get_object(Bucket=output, Key=taken)["Body"].read() == b"by hand"
    assert "site/hero_128w.webp" in _outputs(stack)


def test_an_upload_never_writes_among_the_results_of_backfills(stack: Stack) -> None:
    """The key of its thumbnails is reserved: one message that says so, and no thumbnail."""
    key = "uploads/_image-pipeline/backfill/a.jpg"
    stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=key, Body=jpeg((200, 100)))
    (found,) = until(
        lambda: [each for each in dead_letters.failures(stack, 1000) if each.key == key]
    )
    assert found.error_type == "KeyOccupied"
    reserved = {each for each in _outputs(stack) if each.startswith(RESERVED_PREFIX)}
    assert {each for each in reserved if not each.startswith(failure_marks.PREFIX)} == set()


def _outputs(stack: Stack) -> dict[str, str]:
    pages = stack.aws.s3.get_paginator("list_objects_v2").paginate(
        Bucket=stack.settings.output_bucket
    )
    return {each["Key"]: each["ETag"] for page in pages for each in page.get("Contents", [])}
