"""URLs of thumbnails at the CDN: one function for both worlds."""

import pytest

from image_pipeline.stack.aws import AccessKey, Aws
from image_pipeline.stack.deployed import Stack
from thumbnailer.settings import Settings
from thumbnailer.urls import base_url, thumbnail_url

CLOUDFRONT = "https://d111111abcdef8.cloudfront.net"
LOCAL = "http://127.0.0.1:4566"


@pytest.mark.parametrize(
    ("url", "endpoint", "expected"),
    [
        (CLOUDFRONT, None, CLOUDFRONT),
        (f"{CLOUDFRONT}/", None, CLOUDFRONT),
        ("https://img.example.com", None, "https://img.example.com"),
        (CLOUDFRONT, LOCAL, "http://d111111abcdef8.cloudfront.localhost:4566"),
        ("https://img.example.com", LOCAL, "https://img.example.com"),
        (f"{CLOUDFRONT}.example.com", LOCAL, f"{CLOUDFRONT}.example.com"),
    ],
)
def test_the_base_is_what_a_browser_reaches(url: str, endpoint: str | None, expected: str) -> None:
    """CloudFront's domain or the stack's own, and the local AWS's port for CloudFront's."""
    assert base_url(url, endpoint) == expected


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a/photo_512w", "/a/photo_512w"),
        ("a b/ü,?#%.webp", "/a%20b/%C3%BC%2C%3F%23%25.webp"),
        ("/photo.webp", "/%2Fphoto.webp"),
        ("//evil.example/a.webp", "/%2F/evil.example/a.webp"),
    ],
)
def test_a_key_is_encoded_as_a_path(key: str, path: str) -> None:
    """No character of a key begins a query, a fragment or another host."""
    assert thumbnail_url(CLOUDFRONT, key) == CLOUDFRONT + path


def test_a_stack_knows_where_its_thumbnails_are_served() -> None:
    """None without a CDN; in the local stack by the distribution, whose domain resolves."""
    settings = Settings("out", "https://q.example/1")

    def url(aws: Aws, **outputs: str) -> str | None:
        return Stack(aws, "s", "in", "f", settings, "arm64", outputs).thumbnails_url

    local, account = Aws.local(LOCAL, AccessKey("a", "b")), Aws.local("", AccessKey("a", "b"))
    outputs = {
        "ThumbnailsUrl": "https://img.example.com",
        "DistributionDomain": CLOUDFRONT.removeprefix("https://"),
    }
    assert url(local) is None
    assert url(local, **outputs) == "http://d111111abcdef8.cloudfront.localhost:4566"
    assert url(account, **outputs) == "https://img.example.com"
