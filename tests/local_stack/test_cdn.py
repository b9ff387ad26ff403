"""Thumbnails by their URLs: the real template with Cdn=true, as browsers and other clients ask."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from botocore.signers import CloudFrontSigner
from pictures import encoded, jpeg, quadrants
from serving import QUICK_AND_STRICT, client, until
from test_cloudfront_patches import PUBLIC_KEY, sign
from test_negotiation import CLIENTS
from test_updates import Updated
from web import Answer, at_distribution

from image_pipeline.local.stack import LocalStack
from image_pipeline.ports import free_port
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.verification import Run, verify
from image_pipeline.stack.verify import SMOKE, choose
from thumbnailer.imaging import ENCODERS
from thumbnailer.urls import thumbnail_url

pytestmark = pytest.mark.local_stack

FORMATS: Final = ("webp", "avif", "jpeg")
SOURCE: Final = "uploads/a/photo.jpg"
HOSTILE: Final = "uploads/ü ,?#&%2F+'//..é/it's.a\"<b>.jpg"
PAGE: Final = "https://www.example.com"

type Fetch = Callable[..., Answer]


@pytest.fixture(scope="module")
def updated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Updated]:
    """A stack with a CDN, its own key, and an image in three formats. IAM is enforced."""
    local = LocalStack(
        tmp_path_factory.mktemp("stack"),
        parameters={
            "Cdn": "true",
            "CdnInvalidate": "true",
            "CreateKmsKey": "true",
            "ThumbnailFormats": ",".join(FORMATS),
        },
        variables=QUICK_AND_STRICT,
    )
    try:
        local.start(free_port(), detach=False, report=lambda _: None)
        stack = local.stack()
        for key in (SOURCE, HOSTILE):
            stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=key, Body=jpeg())
            wait_for(stack, key)
        yield Updated(stack)
    finally:
        local.stop()


def wait_for(stack: Stack, source: str) -> None:
    """Wait for an image's thumbnails. Those that the function does not make are put there."""
    bucket = stack.settings.output_bucket
    for size in stack.settings.sizes:
        for name in set(FORMATS).difference(stack.settings.formats):
            stack.aws.s3.put_object(
                Bucket=bucket,
                Key=stack.settings.thumbnail_key(source, size, name),
                Body=encoded(quadrants((size.width, size.width)), name.upper()),
                ContentType=ENCODERS[name].content_type,
                CacheControl=stack.settings.cache_control,
                Metadata={"source-key": "secret"},
            )

    def there() -> bool:
        found = stack.aws.s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        keys = {each["Key"] for each in found}
        return keys >= {
            stack.settings.thumbnail_key(source, size, name)
            for size in stack.settings.sizes
            for name in stack.settings.formats
        }

    until(there)


@pytest.fixture(scope="module")
def stack(updated: Updated) -> Stack:
    """The stack itself."""
    return updated.stack


@pytest.fixture(scope="module")
def fetch(stack: Stack) -> Fetch:
    """Ask its distribution: method, path, headers by names with underscores."""
    domain = stack.output("DistributionDomain")
    return lambda method, path, **headers: at_distribution(
        stack.aws, domain, method, path, **headers
    )


@pytest.fixture(scope="module")
def paths(stack: Stack) -> dict[str, str]:
    """The path of one thumbnail in each format, and as "" that without a format."""
    return paths_of(stack, SOURCE)


def paths_of(stack: Stack, source: str) -> dict[str, str]:
    """The paths of an image's thumbnails of the last size."""
    size = stack.settings.sizes[-1]
    found = {
        name: thumbnail_url("", stack.settings.thumbnail_key(source, size, name))
        for name in FORMATS
    }
    return found | {"": found["webp"].removesuffix(".webp")}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_gets_the_best_format_at_one_url(
    client: str, fetch: Fetch, paths: dict[str, str]
) -> None:
    """The bytes are those of the exact key, and only the negotiated answer varies by Accept."""
    accept, expected = CLIENTS[client]
    chosen = fetch("GET", paths[""], Accept=accept)
    exact = fetch("GET", paths[expected])
    assert (chosen.status, chosen.body) == (200, exact.body)
    assert chosen.headers["content-type"] == f"image/{expected}"
    assert chosen.headers["vary"] == "Accept, Origin"


@pytest.mark.parametrize("name", FORMATS)
def test_an_exact_key_is_that_file_for_everybody(
    name: str, fetch: Fetch, paths: dict[str, str], stack: Stack
) -> None:
    """Whatever the client accepts; its content type is the format's, and Accept is not in Vary."""
    answer = fetch("GET", paths[name], Accept="image/png")
    assert (answer.status, answer.headers["vary"]) == (200, "Origin")
    assert answer.headers["content-type"] == f"image/{name}"
    assert answer.headers["cache-control"] == stack.settings.cache_control
    assert ENCODERS[name].extension == paths[name].rpartition(".")[2]


def test_any_legal_key_has_a_url(fetch: Fetch, stack: Stack) -> None:
    """Slashes, quotes, percent signs and other scripts, with a format and without."""
    found = paths_of(stack, HOSTILE)
    assert fetch("GET", found["webp"]).status == 200
    answer = fetch("GET", found[""], Accept="image/webp")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/webp")


def test_head_and_ranges_and_conditions_work(fetch: Fetch, paths: dict[str, str]) -> None:
    """HEAD has the headers of GET, a range its part, and an unchanged picture no body."""
    whole = fetch("GET", paths[""], Accept="image/avif")
    head = fetch("HEAD", paths[""], Accept="image/avif")
    same = ("content-type", "content-length", "etag", "cache-control", "vary")
    assert (head.status, head.body) == (200, b"")
    assert [head.headers[name] for name in same] == [whole.headers[name] for name in same]
    part = fetch("GET", paths[""], Accept="image/avif", Range="bytes=4-11")
    assert (part.status, part.body) == (206, whole.body[4:12])
    assert part.headers["content-range"] == f"bytes 4-11/{len(whole.body)}"
    etag = whole.headers["etag"]
    known = fetch("GET", paths[""], Accept="image/avif", If_None_Match=etag)
    assert (known.status, known.body) == (304, b"")
    assert fetch("GET", paths[""], Accept="image/webp", If_None_Match=etag).status == 200


ANSWERS: Final = [
    ("GET", "", {}, 200),
    ("GET", "webp", {}, 200),
    ("HEAD", "jpeg", {}, 200),
    ("GET", "webp", {"Range": "bytes=0-1"}, 206),
    ("GET", "webp", {"If_Modified_Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 304),
    ("GET", "missing.webp", {}, 403),
    ("GET", "missing", {}, 403),
]
"""Method, format or name, headers and status."""


@pytest.mark.parametrize("asked", ANSWERS)
def test_every_answer_has_the_right_headers(
    asked: tuple[str, str, dict[str, str], int], fetch: Fetch, paths: dict[str, str], stack: Stack
) -> None:
    """CORS and nosniff, a lifetime on pictures only, and nothing that S3 keeps inside.

    CloudFront runs no function on an error, so one of a negotiated URL has no CORS.
    """
    method, name, headers, status = asked
    answer = fetch(method, paths.get(name, f"/a/{name}"), Origin=PAGE, **headers)
    assert answer.status == status
    allowed = None if name == "missing" else "*"
    assert answer.headers.get("access-control-allow-origin") == allowed
    assert answer.headers["x-content-type-options"] == "nosniff"
    negotiated = name in ("", "missing")
    assert answer.headers.get("vary") == ("Accept, Origin" if negotiated else None)
    expected = stack.settings.cache_control if status < 400 else None
    assert answer.headers.get("cache-control") == expected
    inside = [name for name in answer.headers if re.match(r"x-amz-(?!cf-)", name)]
    assert inside == []


@pytest.mark.parametrize(
    "query",
    ["v=1234abcd", "versionId=null", "acl", "response-content-type=text/html", "v=1&list-type=2"],
)
def test_query_strings_change_nothing(query: str, fetch: Fetch, paths: dict[str, str]) -> None:
    """S3 would answer otherwise to all of these but `v`, which it does not know."""
    answer = fetch("GET", f"{paths['webp']}?{query}")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/webp")
    chosen = fetch("GET", f"{paths['']}?{query}", Accept="image/avif")
    assert (chosen.status, chosen.headers["content-type"]) == (200, "image/avif")


@pytest.mark.parametrize("path", ["/", "/?list-type=2", "/?prefix=a", "/?v=1"])
def test_the_bucket_is_not_listed(path: str, fetch: Fetch) -> None:
    """Status 404 without a body, which nobody keeps for long."""
    answer = fetch("GET", path, Origin=PAGE)
    assert (answer.status, answer.body) == (404, b"")
    assert answer.headers["cache-control"] == "max-age=1"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_reports_of_the_stack_are_private(fetch: Fetch, stack: Stack) -> None:
    """Results of backfills name originals. They are refused however the path is written."""
    key = "_image-pipeline/backfill/results.json"
    stack.aws.s3.put_object(Bucket=stack.settings.output_bucket, Key=key, Body=b"{}")
    for path in (f"/{key}", f"/%5Fimage-pipeline{key.removeprefix('_image-pipeline')}"):
        assert fetch("GET", path).status == 403


def test_a_picture_appears_as_soon_as_it_is_there(fetch: Fetch, stack: Stack) -> None:
    """403 before, 200 after, at one URL. ministack has no cache; AWS keeps the 403 for a second."""
    source = "uploads/late.jpg"
    path = paths_of(stack, source)["webp"]
    assert fetch("GET", path).status == 403
    stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=source, Body=jpeg())
    until(lambda: fetch("GET", path).status == 200)


def test_a_manifest_may_be_read_by_the_cdn(fetch: Fetch, stack: Stack) -> None:
    """It is a file beside the thumbnails, with an exact key."""
    bucket = stack.settings.output_bucket
    stack.aws.s3.put_object(
        Bucket=bucket, Key="a/photo.json", Body=b"{}", ContentType="application/json"
    )
    answer = fetch("GET", "/a/photo.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")


def invalidated(stack: Stack) -> list[list[str]]:
    """The paths of every invalidation of the stack's distribution, the oldest first."""
    cloudfront = client(stack.aws, "cloudfront")
    of = {"DistributionId": stack.settings.distribution}
    found = cloudfront.list_invalidations(**of)["InvalidationList"].get("Items", [])
    return [
        sorted(
            cloudfront.get_invalidation(**of, Id=each["Id"])["Invalidation"]["InvalidationBatch"][
                "Paths"
            ]["Items"]
        )
        for each in found
    ]


def test_an_overwrite_invalidates_exactly_what_it_replaced(stack: Stack) -> None:
    """One invalidation with the path of each thumbnail; none for a first upload, or twice.

    The function's own role has to allow it.
    """
    source = "uploads/b/new ü.jpg"
    before = invalidated(stack)
    stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=source, Body=jpeg((640, 480)))
    wait_for(stack, source)
    run = Run(stack, 60, lambda _: None)
    stack.invoke(run.event(source, "0" * 32))  # after it, the first event was handled, too
    stack.aws.s3.put_object(Bucket=stack.input_bucket, Key=source, Body=jpeg((480, 640)))
    until(lambda: invalidated(stack) != before)
    stack.invoke(run.event(source, "0" * 32))
    paths = [thumbnail_url("", key) for key in stack.settings.outputs(source)]
    assert len(paths) == 6
    assert invalidated(stack) == [*before, sorted(paths)]


def test_the_verification_fetches_by_url(stack: Stack) -> None:
    """Each step of the CDN passes: exact, negotiated, and the newer picture after an overwrite."""
    results = list(verify(Run(stack, 60, lambda _: None), choose(only=["fresh"])))
    assert [each.error or each.skipped for each in results] == [""] * len(results)
    found = {each.step: each.found for each in results}
    assert found["url"] == f"its exact URL, {', '.join(FORMATS)}"
    assert found["fresh"] == "its versioned URL shows it, and the plain one too"


def test_the_verification_names_a_cdn_that_may_not_read(stack: Stack) -> None:
    """Without its statement in the policy of the bucket, the step fails and says so."""
    s3, bucket = stack.aws.s3, stack.settings.output_bucket
    deployed = s3.get_bucket_policy(Bucket=bucket)["Policy"]
    policy = json.loads(deployed)
    policy["Statement"] = [each for each in policy["Statement"] if each["Sid"] != "CdnReads"]
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    try:
        results = list(verify(Run(stack, 60, lambda _: None), choose(only=["url"])))
    finally:
        s3.put_bucket_policy(Bucket=bucket, Policy=deployed)
    failed, cleaned = results[-2:]
    assert (failed.step, cleaned.error) == ("url", "")
    assert "has the status 403. Check the bucket's policy (CdnReads)" in failed.error


def test_the_url_of_the_stack_is_that_of_the_local_aws(stack: Stack) -> None:
    """The output names CloudFront's domain, and a browser reaches it on the local AWS's port."""
    label = stack.output("ThumbnailsUrl").removeprefix("https://").partition(".")[0]
    port = str(stack.aws.endpoint_url).rpartition(":")[2]
    assert stack.thumbnails_url == f"http://{label}.cloudfront.localhost:{port}"


def test_a_format_that_is_not_made_is_refused(updated: Updated) -> None:
    """By a rule of the template, before anything changes."""
    with pytest.raises(Exception, match="CdnFormats has avif, so ThumbnailFormats must have it"):
        updated.update(ThumbnailFormats="webp", CdnFormats="avif,webp")


def test_with_a_public_key_only_signed_urls_are_served(
    updated: Updated, fetch: Fetch, paths: dict[str, str]
) -> None:
    """Exact and negotiated URLs alike. Without the key everybody is served again."""
    stack = updated.stack
    assert updated.effect(CdnPublicKey=PUBLIC_KEY) == "in place"
    resource = stack.aws.cloudformation.describe_stack_resource(
        StackName=stack.name, LogicalResourceId="DistributionKey"
    )
    key = resource["StackResourceDetail"]["PhysicalResourceId"]
    signer, soon = CloudFrontSigner(key, sign), datetime.now(UTC) + timedelta(minutes=1)
    base = str(stack.thumbnails_url)
    for path in (paths[""], paths["avif"]):
        assert fetch("GET", path, Accept="image/avif").status == 403
        signed = signer.generate_presigned_url(base + path, date_less_than=soon)
        answer = fetch("GET", signed.removeprefix(base), Accept="image/avif")
        assert (answer.status, answer.headers["content-type"]) == (200, "image/avif")
    assert updated.effect(CdnPublicKey="") == "in place"
    assert fetch("GET", paths[""]).status == 200


def test_a_cdn_that_is_turned_off_serves_nothing(
    updated: Updated, fetch: Fetch, paths: dict[str, str]
) -> None:
    """The URL ends and the thumbnails stay; turned on again, they are served under another."""
    stack = updated.stack
    assert updated.effect(Cdn="false") == "new version"
    assert fetch("GET", paths["webp"]).status == 403  # the gate: there is no such distribution
    found = Stack.find(stack.aws, stack.name)
    assert found.thumbnails_url is None
    policy = str(stack.aws.s3.get_bucket_policy(Bucket=stack.settings.output_bucket)["Policy"])
    assert "cloudfront" not in policy
    assert updated.effect(Cdn="true") == "new version"
    domain = Stack.find(stack.aws, stack.name).output("DistributionDomain")
    answer = at_distribution(stack.aws, domain, "GET", paths[""], Accept="image/webp")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/webp")


def test_the_verification_of_a_private_cdn_needs_a_refusal(updated: Updated) -> None:
    """With CdnPublicKey, a URL without a signature has to be refused, which is what is checked."""
    assert updated.update(CdnPublicKey=PUBLIC_KEY) == "UPDATE_COMPLETE"
    stack = Stack.find(updated.stack.aws, updated.stack.name)
    results = {each.step: each for each in verify(Run(stack, 60, lambda _: None), SMOKE)}
    assert not any(each.error for each in results.values())
    assert results["url"].found == "a URL without a signature is refused"
