"""Thumbnails by their URLs: how they are asked for, and which wrong answers `verify` finds."""

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote

import pytest
from aws_names import OUTPUT
from moto_stack import moto_stack, upload_with_thumbnails
from pictures import jpeg

from image_pipeline.errors import CommandError
from image_pipeline.ports import HOST, free_port
from image_pipeline.stack import distribution, verify
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.distribution import Answer
from image_pipeline.stack.uploads import describe
from image_pipeline.stack.verification import Run

OUTPUTS: Final = {
    "ThumbnailsUrl": "https://d1.cloudfront.net",
    "DistributionDomain": "d1.cloudfront.net",
}
PRIVATE: Final = {"CdnPublicKey": "-----BEGIN PUBLIC KEY-----"}


class Page(http.server.BaseHTTPRequestHandler):
    """Tells what it was asked; asked for /moved, it names another place."""

    def do_GET(self) -> None:
        """Answer a GET request."""
        self.send_response(302 if self.path == "/moved" else 403)
        self.send_header("Location", "/elsewhere")
        self.send_header("X-Host", str(self.headers["Host"]))
        self.send_header("X-Accept", str(self.headers["Accept"]))
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a server of Page."""
    with http.server.HTTPServer((HOST, 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_local_url_is_asked_at_loopback_by_its_host(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No resolver is needed, no proxy is used, and a status other than 200 is an answer."""
    monkeypatch.setenv("HTTP_PROXY", f"http://{HOST}:{free_port()}")
    host = f"d1.cloudfront.localhost:{port}"
    found = distribution.send("GET", f"http://{host}/a%20%C3%A9.webp?v=1", Accept="image/avif")
    assert (found.status, found.body) == (403, b"/a%20%C3%A9.webp?v=1")
    assert (found.headers["x-host"], found.headers["x-accept"]) == (host, "image/avif")
    assert distribution.send("GET", f"http://{host}/moved").status == 302


def test_no_answer_is_an_error_that_names_the_url(port: int) -> None:
    """A domain without a DNS record, or a local stack that has stopped."""
    del port
    url = f"http://d1.cloudfront.localhost:{free_port()}/a.webp"
    with pytest.raises(CommandError, match=f"no answer from {url}"):
        distribution.send("GET", url)


def test_the_formats_that_are_negotiated_are_those_of_the_template(s3: Any, aws: str) -> None:
    """`CdnFormats`, or all that are made; none for keys that do not end with `.{format}`."""
    del s3
    stack = moto_stack(aws)
    settings = stack.settings._replace(formats=("webp", "avif", "jpeg"))
    served = replace(stack, settings=settings, outputs=OUTPUTS)
    assert served.negotiated_formats == ("webp", "avif", "jpeg")
    assert replace(served, parameters={"CdnFormats": ""}).negotiated_formats == settings.formats
    given = replace(served, parameters={"CdnFormats": "avif,webp"})
    assert given.negotiated_formats == ("avif", "webp")
    fixed = settings._replace(output_key_template="{dir}{stem}_{size}_{format}")
    assert replace(given, settings=fixed).negotiated_formats == ()


class Edge:
    """A stand-in for a distribution: the objects of the bucket, cached for ever by their URLs.

    A test gives it a fault: another `status`, or `headers` instead of the right ones.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.status = 200
        self.headers: dict[str, str] = {}
        self.cached: dict[tuple[str, str], bytes] = {}

    def send(self, method: str, url: str, *, Accept: str = "*/*") -> Answer:  # noqa: N803
        """Answer as `distribution.send` does."""
        assert method == "GET"
        path, query = url.removeprefix(str(self.stack.thumbnails_url)), ""
        path, _, query = path.partition("?")
        exact = path.endswith((".webp", ".avif", ".jpeg"))
        path = path if exact else f"{path}.{Accept.removeprefix('image/')}"
        if (path, query) not in self.cached:
            stored = self.stack.aws.s3.get_object(Bucket=OUTPUT, Key=unquote(path[1:]))
            self.cached[path, query] = stored["Body"].read()
        headers = {
            "content-type": f"image/{path.rpartition('.')[2]}",
            "x-content-type-options": "nosniff",
            "cache-control": self.stack.settings.cache_control,
            "vary": "Origin" if exact else "Accept, Origin",
        }
        return Answer(self.status, headers | self.headers, self.cached[path, query])


@pytest.fixture
def run(s3: Any, aws: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A verification of a stack with a CDN, after its image has become thumbnails."""
    del s3
    stack = replace(moto_stack(aws), outputs=OUTPUTS)
    stack = replace(stack, settings=stack.settings._replace(formats=("webp", "avif")))
    run = Run(stack, 0.1, lambda _: None)
    upload(run, (64, 48))
    monkeypatch.setattr(distribution, "send", Edge(stack).send)
    return run


def edge() -> Edge:
    """The distribution of `run`, which a test may change."""
    found: Edge = distribution.send.__self__  # type: ignore[attr-defined]
    return found


def upload(run: Run, size: tuple[int, int]) -> None:
    """Put an image and its thumbnails there."""
    key = run.key(verify.PHOTO)
    upload_with_thumbnails(run.stack, key, jpeg(size))
    sent = describe(run.stack, key)
    assert sent
    run.sent[key] = sent


STEPS: Final = {step.option: step for step in verify.STEPS}


def test_a_right_distribution_passes(run: Run) -> None:
    """Its exact URL, and the URL without a format in each format, show what the bucket has."""
    assert STEPS["url"].action(run) == "its exact URL, webp, avif"
    assert sorted(path.rpartition(".")[2] for path, _ in edge().cached) == ["avif", "webp"]


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (403, {}, "has the status 403.*CdnReads.*CdnDecrypts"),
        (200, {"content-type": "binary/octet-stream"}, "content-type: binary"),
        (200, {"x-content-type-options": ""}, "x-content-type-options:  instead of nosniff"),
        (200, {"cache-control": "no-store"}, "cache-control: no-store"),
        (200, {"vary": "Origin"}, "Vary does not say so"),
    ],
)
def test_a_wrong_answer_is_named(
    run: Run, status: int, headers: dict[str, str], reason: str
) -> None:
    """Status, content type, nosniff, lifetime, and Vary where the answer depends on Accept."""
    edge().status, edge().headers = status, headers
    with pytest.raises(CommandError, match=reason):
        STEPS["url"].action(run)


def test_another_picture_is_named(run: Run) -> None:
    """What is cached of an earlier image, at a URL that should show the newer one."""
    STEPS["url"].action(run)
    upload(run, (48, 64))
    with pytest.raises(CommandError, match="shows another picture"):
        STEPS["url"].action(run)


def test_a_private_distribution_has_to_refuse(run: Run) -> None:
    """With CdnPublicKey status 403 passes, and a picture fails; `fresh` does not apply."""
    private = run.stack = replace(run.stack, parameters=PRIVATE)
    with pytest.raises(CommandError, match="no signature, but its status is 200"):
        STEPS["url"].action(run)
    edge().status = 403
    assert "refused" in STEPS["url"].action(run)
    assert not STEPS["url"].unless(private)
    assert STEPS["fresh"].unless(private)


def test_both_steps_need_a_cdn(run: Run) -> None:
    """They are skipped without one, and say why."""
    plain = replace(run.stack, outputs={})
    assert [STEPS[name].unless(plain) for name in ("url", "fresh")] == ["Cdn is false"] * 2
    assert [STEPS[name].unless(run.stack) for name in ("url", "fresh")] == ["", ""]


def test_the_versioned_url_shows_the_newer_picture(run: Run) -> None:
    """Although the distribution still has the older one at the URL without a version."""
    STEPS["url"].action(run)
    upload(run, (48, 64))
    assert STEPS["fresh"].action(run) == "its versioned URL shows it"
    with pytest.raises(CommandError, match="shows another picture"):
        STEPS["url"].action(run)


def test_with_invalidations_the_plain_url_has_to_show_it_too(run: Run) -> None:
    """It is waited for; where nothing was invalidated, the step fails."""
    run.stack = replace(run.stack, settings=run.stack.settings._replace(distribution="E1"))
    STEPS["url"].action(run)
    upload(run, (48, 64))
    with pytest.raises(CommandError, match="was invalidated, but did not show the newer picture"):
        STEPS["fresh"].action(run)
    edge().cached.clear()
    assert STEPS["fresh"].action(run).endswith("the plain one too")


def test_invalidations_are_in_the_estimate(run: Run) -> None:
    """Half a cent for each object that is made of the files, each replaced or deleted once."""
    settings = run.stack.settings._replace(distribution="E1")
    steps = [STEPS["upload"], STEPS["overwrite"]]
    stacks = (replace(run.stack, settings=settings), run.stack)
    with_them, without = (verify.estimate(each, steps) for each in stacks)
    assert with_them - without == pytest.approx(2 * 4 * 0.005)
