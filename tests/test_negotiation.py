"""iac/negotiate.js: which thumbnail a URL without a format means, for what a client accepts."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from edge_function import SOURCE, EdgeFunction, edge_function, needs_node
from hypothesis import given, settings
from hypothesis import strategies as st

from thumbnailer.imaging import ENCODERS, OUTPUT_FORMATS

pytestmark = needs_node

BEST_FIRST = ("avif", "webp", "jpeg")
CHOICES = (
    "webp,avif,jpeg",
    "avif,webp",
    "webp, jpeg",
    "jpeg,avif",
    "webp",
    "jpeg",
    "avif",
)
"""Values of CdnFormats. Their order means nothing."""

MAX_FUNCTION_BYTES = 10 * 1024
"""https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html"""


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, EdgeFunction]]:
    """The function for each of CHOICES, in one process each."""
    folder = tmp_path_factory.mktemp("functions")
    with ExitStack() as stack:
        yield {each: stack.enter_context(edge_function(folder, each)) for each in CHOICES}


@pytest.fixture(scope="module")
def negotiated(functions: dict[str, EdgeFunction]) -> EdgeFunction:
    """The function for all three formats."""
    return functions["webp,avif,jpeg"]


CLIENTS = {
    # Browsers: https://developer.mozilla.org/en-US/docs/Web/HTTP/Guides/Content_negotiation/List_of_default_Accept_values
    "Chrome": ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "avif"),
    "Chrome, the picture alone in a tab": (
        (
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,"
            "*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
        ),
        "avif",
    ),
    "Chrome 80": ("image/webp,image/apng,image/*,*/*;q=0.8", "webp"),
    "Safari 18": (
        (
            "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,image/png,"
            "image/svg+xml,image/*;q=0.8,*/*;q=0.5"
        ),
        "avif",
    ),
    "Safari 15": (
        "image/webp,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5",
        "webp",
    ),
    "Safari 13": ("image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5", "jpeg"),
    "Firefox 128": (
        "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5",
        "avif",
    ),
    "Firefox 91": ("image/webp,*/*", "webp"),
    "Firefox 60": ("*/*", "jpeg"),
    "Internet Explorer 11": (
        "image/png, image/svg+xml, image/jxr, image/*;q=0.8, */*;q=0.5",
        "jpeg",
    ),
    # Programs that name no image format.
    "curl": ("*/*", "jpeg"),
    "Slack's link previews": ("*/*", "jpeg"),
    "Outlook for Windows": ("*/*", "jpeg"),
    "Googlebot": (
        (
            "text/html,application/xhtml+xml,application/signed-exchange;v=b3,"
            "application/xml;q=0.9,*/*;q=0.8"
        ),
        "jpeg",
    ),
    "a feed reader": ("text/html, application/rss+xml", "jpeg"),
}
"""What a client sends, and the format that it gets where there are all three."""


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_gets_the_best_format_that_it_shows(client: str, negotiated: EdgeFunction) -> None:
    """AVIF before WebP before JPEG, by Accept alone."""
    accept, expected = CLIENTS[client]
    assert negotiated.uri("/a/photo_512w", accept) == f"/a/photo_512w.{expected}"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("image/avif;q=0, image/webp", "webp"),
        ("image/avif;q=0.000,image/webp;Q=0.,*/*", "jpeg"),
        ("image/avif;q=0.001", "avif"),
        ("image/avif;q=1;q=0,image/webp", "webp"),
        ("IMAGE/AVIF", "avif"),
        ("image/avif ; level=1", "avif"),
        ('image/png;title=", image/avif", image/webp', "webp"),
        ("image/*;q=0, */*", "jpeg"),
        ("image/jpeg;q=0, image/*", "webp"),
        ("image/jpeg;q=0, image/webp;q=0, */*", "avif"),
        ("image/avifs, ximage/webp", "jpeg"),
        ("image/avif;q=0, image/webp;q=0, image/jpeg;q=0", "jpeg"),
        (',;="', "jpeg"),
        ("", "jpeg"),
    ],
)
def test_quality_zero_and_wildcards_are_understood(
    accept: str, expected: str, negotiated: EdgeFunction
) -> None:
    """q=0 denies a format, the most specific range counts, and a wildcard promises only JPEG."""
    assert negotiated.uri("/a", accept) == f"/a.{expected}"


def test_a_client_without_accept_gets_the_safest_format(functions: dict[str, EdgeFunction]) -> None:
    """JPEG if it is made, else WebP: any picture is better than status 406."""
    assert functions["webp,avif,jpeg"].uri("/a") == "/a.jpeg"
    assert functions["avif,webp"].uri("/a") == "/a.webp"
    assert functions["webp"].uri("/a", "text/html") == "/a.webp"


def test_only_the_configured_formats_are_chosen(functions: dict[str, EdgeFunction]) -> None:
    """Chrome gets the best of CdnFormats, in whatever order they are listed."""
    accept, _ = CLIENTS["Chrome"]
    assert {name: function.uri("/a", accept) for name, function in functions.items()} == {
        "webp,avif,jpeg": "/a.avif",
        "avif,webp": "/a.avif",
        "webp, jpeg": "/a.webp",
        "jpeg,avif": "/a.avif",
        "webp": "/a.webp",
        "jpeg": "/a.jpeg",
        "avif": "/a.avif",
    }


def test_two_accept_headers_are_one_list(negotiated: EdgeFunction) -> None:
    """CloudFront gives a repeated header as a list of values."""
    assert negotiated.uri("/a", "image/png", "image/webp") == "/a.webp"


@pytest.mark.parametrize(
    "uri", ["/a/photo_512w.webp", "/b.avif", "/c.jpeg", "/a/photo.json", "/%20%2C.webp", "/.webp"]
)
def test_exact_keys_are_passed_through(uri: str, negotiated: EdgeFunction) -> None:
    """A path that ends with the extension of a thumbnail or a manifest is the key itself."""
    assert negotiated.uri(uri, CLIENTS["Chrome"][0]) == uri


@pytest.mark.parametrize(
    "uri", ["/v1.5", "/a.b/c", "/photo.jpg_512w", "/a.webp/b", "//", "/a.WEBP"]
)
def test_any_other_path_gets_a_format(uri: str, negotiated: EdgeFunction) -> None:
    """Dots in names of folders, images and sizes are no extensions."""
    assert negotiated.uri(uri, "image/webp") == uri + ".webp"


def test_nothing_is_negotiated_where_keys_do_not_end_with_the_format(tmp_path: Path) -> None:
    """With such a key template every path is a key, and the root is still no key."""
    with edge_function(tmp_path, negotiates=False) as function:
        assert function.uri("/a/photo-512", "image/webp") == "/a/photo-512"
        assert function({"uri": "/", "headers": {}})["statusCode"] == 404


def test_the_root_does_not_reach_s3(negotiated: EdgeFunction) -> None:
    """It would list the bucket if somebody allowed that; query strings do not matter."""
    query = {"list-type": {"value": "2"}}
    answer = negotiated({"method": "GET", "uri": "/", "querystring": query, "headers": {}})
    assert answer["statusCode"] == 404
    assert answer["headers"]["cache-control"] == {"value": "max-age=1"}


def test_the_rest_of_a_request_is_not_changed(negotiated: EdgeFunction) -> None:
    """Method, headers and query string are the viewer's, `v` among them."""
    request = {
        "method": "HEAD",
        "uri": "/a",
        "querystring": {"v": {"value": "12345678"}},
        "headers": {"accept": {"value": "image/webp"}, "range": {"value": "bytes=0-1"}},
        "cookies": {},
    }
    assert negotiated(request) == request | {"uri": "/a.webp"}


# --- the same by another implementation -----------------------------------------------------------
def items(header: str) -> Iterator[str]:
    """Split at commas outside of quoted strings, and leave these out. Character by character."""
    item, position = "", 0
    while position < len(header):
        if header[position] == '"':
            end = position + 1
            while end < len(header) and header[end] != '"':
                end += 2 if header[end] == "\\" else 1
            if end < len(header):
                position = end + 1
                continue
        if header[position] == ",":
            yield item
            item = ""
        else:
            item += header[position]
        position += 1
    yield item


def reference(formats: str, header: str) -> str:
    """The format by the rules of RFC 9110, 12.5.1, and of docs/adr/0030."""
    made = [name for name in BEST_FIRST if name in formats]
    weights: dict[str, float] = {}
    for item in items(header.lower()):
        media_range, *parameters = (part.strip(" \t") for part in item.split(";"))
        refused = any(re.fullmatch(r"q=0(\.0*)?", each) for each in parameters)
        weights[media_range] = 0 if refused else 1

    def weight(name: str) -> float:
        for media_range in (f"image/{name}", "image/*", "*/*"):
            if media_range in weights:
                return weights[media_range]
        return 0

    for name in made:
        if weights.get(f"image/{name}"):
            return name
    for name in reversed(made):
        if weight(name):
            return name
    return made[-1]


RANGES = st.sampled_from(
    ["image/avif", "image/webp", "image/jpeg", "image/*", "*/*", "image/png", "IMAGE/WebP", "x", ""]
)
PARAMETERS = st.sampled_from(
    [
        "q=0",
        "q=0.0",
        "Q=0.",
        "q=1",
        "q=0.5",
        "q=00",
        "q",
        "v=b3",
        'a=",image/avif;q=0"',
        'a="',
        '"\\"',
    ]
)
SPACE = st.sampled_from(["", " ", "\t", "  "])
ITEMS = st.builds(
    lambda media_range, parameters, space: f"{space};{space}".join([media_range, *parameters]),
    RANGES,
    st.lists(PARAMETERS, max_size=3),
    SPACE,
)
HEADERS = st.one_of(
    st.lists(ITEMS, max_size=6).map(", ".join),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
    st.text(st.sampled_from('image/webp*,;=q01. "\\'), max_size=30),
)


@settings(max_examples=1000)
@given(st.sampled_from(CHOICES), HEADERS)
def test_any_accept_header_gives_what_the_reference_gives(
    functions: dict[str, EdgeFunction], formats: str, header: str
) -> None:
    """Well-formed or not, a header leads to one of the configured formats, and to the same one."""
    assert functions[formats].uri("/a", header) == f"/a.{reference(formats, header)}"


# --- CORS -----------------------------------------------------------------------------------------
def test_scripts_of_every_origin_may_read_by_default(negotiated: EdgeFunction) -> None:
    """The header is the same for all, so that a browser can use what it has cached for an <img>."""
    for origin in (None, "https://a.example", "null"):
        assert negotiated.allowed_origin(origin) == "*"


def test_scripts_of_some_origins_may_read(tmp_path: Path) -> None:
    """By name, by subdomain and by port; a dot is a dot, and the whole origin must match."""
    origins = "https://a.example,https://*.b.example,http://localhost:*"
    with edge_function(tmp_path, origins=origins) as function:
        for origin in ("https://a.example", "https://x.y.b.example", "http://localhost:5173"):
            assert function.allowed_origin(origin) == origin
        for other in (
            *(None, "null", "http://a.example", "https://aXexample", "https://a.example.evil"),
            *("https://evil.example/https://a.example", "https://b.example", "http://localhost"),
        ):
            assert function.allowed_origin(other) is None


# --- what the edge accepts ------------------------------------------------------------------------
def test_the_file_is_what_cloudfront_runs() -> None:
    """Under 10 KB, without logging, and without what its JavaScript does not have.

    https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/functions-javascript-runtime-20.html
    """
    source = SOURCE.read_text()
    code = re.sub(r"//.*", "", source)
    assert len(source.encode()) < MAX_FUNCTION_BYTES
    assert "console" not in code
    assert "`" not in code  # Fn::Sub would take ${} of a template literal
    assert set(re.findall(r"\$\{\w*\}", source)) == {
        "${Formats}",
        "${Negotiates}",
        "${Origins}",
    }
    for missing in (
        r"\bof\b",
        r"\.\.\.",
        r"\?\.",
        r"\?\?",
        r"\bclass\b",
        r"\bimport\b",
        r"\blet\b",
    ):
        assert not re.search(missing, code), missing


def test_the_function_knows_every_extension() -> None:
    """The names of formats are their extensions, and both are those of the encoders."""
    assert set(OUTPUT_FORMATS) == set(BEST_FIRST)
    assert all(ENCODERS[name].extension == name for name in OUTPUT_FORMATS)
