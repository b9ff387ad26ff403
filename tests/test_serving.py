"""The examples of docs/serving.md: each one runs, against a local S3, in Node or in Chromium.

What nothing here can run is checked for its syntax only: NOT_RUN.
"""

import base64
import fnmatch
import html
import json
import re
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from copy import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import botocore.session
import pytest
import requests
import template
from aws_names import INPUT, OUTPUT
from botocore import xform_name
from botocore.validate import ParamValidator
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from edge_function import NODE, needs_node
from moto_stack import moto_stack, process
from pictures import jpeg
from playwright.sync_api import Browser, Page, Route, expect
from pygments.lexers import RubyLexer
from pygments.token import Error

from thumbnailer.settings import Settings
from thumbnailer.srcset import Candidate, picture, url_path
from tools import browser as chromium

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "serving.md").read_text()
BASH = "/bin/bash"
BASE = "https://d111111abcdef8.cloudfront.net"
SETTINGS = Settings(OUTPUT, "https://sqs.us-east-1.amazonaws.com/1/queue", thumbnails_url=BASE)
BUCKET = "my-input-bucket"

NOT_RUN = {
    "upload.mjs": "the AWS SDK for JavaScript is not among the project's tools",
    "Thumbnail.jsx": "no tool of the project reads JSX",
    "page.jsx": "no tool of the project reads JSX",
    "app/helpers/thumbnails_helper.rb": "Ruby is not among the project's tools",
}

RUN = {
    "upload.py",
    "upload-form.js",
    "thumbnails.js",
    "image-loader.js",
    "next.config.mjs",
    "templatetags/thumbnails.py",
    "ready.py",
    "ready.js",
    "retry.js",
    "placeholder.js",
    "keys.sh",
    "signing.py",
    "negotiation.sh",
}
COMMANDS = {"ready.sh", "private.sh", "distribution.sh", "function.sh"}
"""Commands for an account: each call of `aws` is checked against the API's own description."""

NAMES = [
    "a/photo.jpg",
    "photo",
    "a.b/photo.tar.gz",
    ".profile",
    "a/.profile",
    "a/..jpg",
    "a//photo.jpg",
    "a/ä ö?#%&+=,'\"<>.jpg",
    "a/!(*)~@:$;.jpg",
    "日本/写真.jpg",
    "a/photo.",
]
"""Names of uploads, hostile ones among them."""

needs_chromium = pytest.mark.skipif(chromium.executable() is None, reason="no Chromium")


def blocks(language: str) -> list[str]:
    """The code blocks in a language, without the indentation of lists."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", PAGE, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(body) for _, body in found]


def named() -> dict[str, str]:
    """The code blocks whose first line names a file."""
    languages = ("python", "js", "jsx", "ruby", "bash")
    found = [block for language in languages for block in blocks(language)]
    first = {block: re.match(r"(?:#|//) (\S+)\n", block) for block in found}
    return {match[1]: block for block, match in first.items() if match}


def script(word: str) -> str:
    """The script of the one block of HTML that contains a word, with the HTML before it."""
    (found,) = (block for block in blocks("html") if word in block)
    return found


def run_python(name: str, **replaced: str) -> dict[str, Any]:
    """Run a Python example and return its names."""
    code = named()[name]
    for old, new in replaced.items():
        assert f'"{old}"' in code
        code = code.replace(f'"{old}"', f'"{new}"')
    names: dict[str, Any] = {}
    exec(compile(code, name, "exec"), names)  # noqa: S102 - our own documentation
    return names


@pytest.fixture
def node(tmp_path: Path) -> Any:
    """Run lines of JavaScript beside the examples, and return what `result` is then."""
    (tmp_path / "package.json").write_text('{"type": "module"}')
    for name, code in named().items():
        if name.endswith((".js", ".mjs")):
            (tmp_path / name).write_text(code)

    def run(code: str) -> Any:
        path = tmp_path / "test.mjs"
        path.write_text(f"let result;\n{code}\nconsole.log(JSON.stringify(result));\n")
        done = subprocess.run(  # noqa: S603 - our own documentation
            [str(NODE), str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def bucket(aws: str) -> Any:
    """An S3 client, with the bucket of the examples."""
    client = boto3.client("s3", region_name="eu-west-1", endpoint_url=aws)
    client.create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    return client


def test_every_example_is_tried() -> None:
    """Each block of code names its file, and is run, checked as a command, or named in NOT_RUN."""
    assert named().keys() == RUN | COMMANDS | NOT_RUN.keys()
    for language in ("python", "js", "jsx", "ruby"):
        for block in blocks(language):
            assert block in named().values()
    for block in blocks("bash"):
        assert block in named().values() or block.startswith("make ")


# --- upload ---------------------------------------------------------------------------------------


def test_python_signs_an_upload_that_a_browser_may_make(bucket: Any) -> None:
    """The PUT URL and the POST form write the key that they name, with the type that was asked."""
    upload = run_python("upload.py")
    put = upload["put_url"]("users/42", "image/png")
    assert re.fullmatch(r"users/42/[0-9a-f-]{36}\.png", put["name"])
    assert "content-type" in parse_qs(urlsplit(put["url"]).query)["X-Amz-SignedHeaders"][0]
    headers = {"Content-Type": "image/png"}
    requests.put(put["url"], b"put", headers=headers, timeout=10).raise_for_status()
    form = upload["post_form"]("users/42", "image/jpeg")
    files = {"file": ("a.jpg", b"post")}
    requests.post(form["url"], form["fields"], files=files, timeout=10).raise_for_status()
    for name, body, kind in (
        (put["name"], b"put", "image/png"),
        (form["name"], b"post", "image/jpeg"),
    ):
        found = bucket.get_object(Bucket=BUCKET, Key=f"uploads/{name}")
        assert (found["Body"].read(), found["ContentType"]) == (body, kind)
    with pytest.raises(KeyError):
        upload["put_url"]("users/42", "text/html")


def test_the_addresses_are_regional_and_the_form_limits_the_bytes() -> None:
    """S3 answers other addresses with a redirect. Its policy document refuses larger files."""
    upload = run_python("upload.py")
    url = upload["put_url"]("u", "image/jpeg")["url"]
    assert url.startswith(f"https://{BUCKET}.s3.eu-west-1.amazonaws.com/uploads/u/")
    form = upload["post_form"]("u", "image/jpeg", 5)
    assert form["url"] == f"https://{BUCKET}.s3.eu-west-1.amazonaws.com/"
    policy = json.loads(base64.b64decode(form["fields"]["policy"]))
    assert ["content-length-range", 1, 5] in policy["conditions"]
    assert {"Content-Type": "image/jpeg"} in policy["conditions"]


@needs_node
def test_a_page_uploads_with_what_the_back_end_signed(bucket: Any, node: Any) -> None:
    """By PUT and by POST, and what fails is an error with its status."""
    upload = run_python("upload.py")
    signed = {
        "uploadByPut": upload["put_url"]("u", "image/jpeg"),
        "uploadByPost": upload["post_form"]("u", "image/jpeg"),
    }
    for function, given in signed.items():
        found = node(f"""
            import {{ {function} as upload }} from "./upload-form.js";
            const real = globalThis.fetch;
            const asked = [];
            globalThis.fetch = (url, options) => {{
              if (url !== "/api/upload") return real(url, options);
              asked.push(JSON.parse(options.body));
              return Response.json({json.dumps(given)});
            }};
            const name = await upload(new File(["{function}"], "a.jpg", {{ type: "image/jpeg" }}));
            globalThis.fetch = (url) => url === "/api/upload"
              ? Response.json({json.dumps(given)}) : new Response("", {{ status: 403 }});
            const refused = await upload(new File(["x"], "a.jpg")).catch((error) => error.message);
            result = {{ asked, name, refused }};
            """)
        assert found["asked"] == [{"type": "image/jpeg"}]
        assert found["refused"] == "S3 refused the file (status 403)"
        stored = bucket.get_object(Bucket=BUCKET, Key=f"uploads/{found['name']}")
        assert (stored["Body"].read(), stored["ContentType"]) == (function.encode(), "image/jpeg")


def test_the_policy_allows_what_the_examples_do_and_no_more() -> None:
    """Writing under the prefix, and reading manifests."""
    (text,) = blocks("json")
    statements = {each["Sid"]: each for each in json.loads(text)["Statement"]}
    assert {sid: each["Action"] for sid, each in statements.items()} == {
        "Upload": "s3:PutObject",
        "ReadManifests": "s3:GetObject",
    }
    name = run_python("upload.py")["put_url"]("users/42", "image/jpeg")["name"]
    key = f"{SETTINGS.input_prefix}{name}"
    manifest = SETTINGS.manifest_key(key)
    allowed = {sid: str(each["Resource"]) for sid, each in statements.items()}
    assert fnmatch.fnmatchcase(f"arn:aws:s3:::{BUCKET}/{key}", allowed["Upload"])
    assert not fnmatch.fnmatchcase(f"arn:aws:s3:::{BUCKET}/other/a.jpg", allowed["Upload"])
    assert fnmatch.fnmatchcase(
        f"arn:aws:s3:::my-output-bucket/{manifest}", allowed["ReadManifests"]
    )


# --- on a page ------------------------------------------------------------------------------------


@needs_node
def test_javascript_knows_the_key_of_every_name(node: Any) -> None:
    """A URL means the key that the pipeline writes, at any name; a version is added as it is."""
    found = node(f"""
        import {{ thumbnailProps, thumbnailUrl, urlOf }} from "./thumbnails.js";
        result = {json.dumps(NAMES)}.map((name) =>
          [thumbnailUrl(name, "512w", "3fa2c91d"), thumbnailProps(name), urlOf(name)]);
        """)
    small, large = SETTINGS.sizes
    for name, (versioned, props, begins) in zip(NAMES, found, strict=True):
        source = f"uploads/{name}"
        url, _, version = versioned.partition("?v=")
        assert version == "3fa2c91d"
        assert f"{unquote(url)}.webp" == f"{BASE}/{SETTINGS.thumbnail_key(source, large, 'webp')}"
        assert f"{unquote(begins)}.json" == f"{BASE}/{SETTINGS.manifest_key(source)}"
        candidates = [each.split(" ") for each in props["srcSet"].split(", ")]
        assert [width for _, width in candidates] == ["128w", "512w"]
        assert [unquote(each) for each, _ in candidates] == [
            f"{BASE}/{SETTINGS.thumbnail_key(source, size, 'webp').removesuffix('.webp')}"
            for size in (small, large)
        ]
        assert props["src"] == candidates[1][0]


@needs_node
def test_next_asks_only_for_widths_that_exist(node: Any) -> None:
    """Its configuration has the default sizes, and its loader passes the version on."""
    found = node("""
        import config from "./next.config.mjs";
        import load from "./image-loader.js";
        const { imageSizes, deviceSizes, loaderFile } = config.images;
        const widths = [...imageSizes, ...deviceSizes];
        result = [loaderFile, widths,
          load({ src: "a/photo.jpg?v=3fa2c91d", width: 512, quality: 75 }),
          load({ src: "a/photo.jpg", width: 128 })];
        """)
    assert found == [
        "./image-loader.js",
        [size.width for size in SETTINGS.sizes],
        f"{BASE}/a/photo_512w?v=3fa2c91d",
        f"{BASE}/a/photo_128w",
    ]


@pytest.fixture
def django(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two names that the template tag takes from Django, which is not among our tools."""

    def format_html(text: str, *args: object, **kwargs: object) -> str:
        named = {key: html.escape(str(each)) for key, each in kwargs.items()}
        return text.format(*(html.escape(str(each)) for each in args), **named)

    library = SimpleNamespace(Library=lambda: SimpleNamespace(simple_tag=lambda tag: tag))
    for name, values in {
        "django": {"template": library},
        "django.utils": {},
        "django.utils.html": {"format_html": format_html},
    }.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("django")
def test_the_tag_of_django_knows_the_key_of_every_name() -> None:
    """Its URLs are those of the pipeline, and no description becomes markup."""
    tag = run_python("templatetags/thumbnails.py")["thumbnail"]
    for name in NAMES:
        found = tag(name, '"><script>', "3fa2c91d")
        keys = [SETTINGS.thumbnail_key(f"uploads/{name}", each, "webp") for each in SETTINGS.sizes]
        urls = [f"{BASE}/{url_path(key.removesuffix('.webp'))}?v=3fa2c91d" for key in keys]
        assert f' src="{urls[1]}" srcset="{urls[0]} 128w, {urls[1]} 512w"' in found
        assert 'alt="&quot;&gt;&lt;script&gt;"' in found
    assert "?v=" not in tag("a/photo.jpg", "")


def test_the_markup_is_that_of_the_manifest() -> None:
    """The page shows what `html` has, to the character."""
    thumbnails = [
        Candidate(name, f"{BASE}/a/photo_{width}w.{name}?v=3fa2c91d", width, height)
        for name in ("webp", "avif")
        for width, height in ((128, 96), (512, 384))
    ]
    assert picture(thumbnails, colour="#4a6b8c") + "\n" in blocks("html")


@needs_node
def test_what_cannot_run_here_is_at_least_well_formed() -> None:
    """Node reads the back end in JavaScript, and a Ruby lexer the helper of Rails."""
    code = named()
    done = subprocess.run(  # noqa: S603 - our own documentation
        [str(NODE), "--check", "--input-type=module", "-"],
        input=code["upload.mjs"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tokens = RubyLexer().get_tokens(code["app/helpers/thumbnails_helper.rb"])
    assert Error not in {kind for kind, _ in tokens}


# --- ready ----------------------------------------------------------------------------------------


def written(s3: Any, aws: str, **given: Any) -> tuple[str, dict[str, Any]]:
    """Key and content of a manifest that the pipeline's own code wrote, with a CDN."""
    stack = moto_stack(aws)
    settings = replace(
        stack.settings, thumbnails_url=BASE, write_manifest=True, formats=("webp", "avif"), **given
    )
    stack = replace(stack, settings=settings)
    s3.put_object(Bucket=INPUT, Key="uploads/a/photo.jpg", Body=jpeg((800, 600)))
    process(stack, "uploads/a/photo.jpg")
    key = settings.manifest_key("uploads/a/photo.jpg")
    return key, json.load(s3.get_object(Bucket=OUTPUT, Key=key)["Body"])


def test_a_function_stores_what_a_page_needs_when_a_manifest_is_written(s3: Any, aws: str) -> None:
    """It reads the manifest of the pipeline's own code, and ignores results of backfills."""
    key, manifest = written(s3, aws)
    ready, saved = run_python("ready.py"), []
    ready["handler"].__globals__["save"] = lambda **picture: saved.append(picture)
    for each in (key, "_image-pipeline/backfill/1.json"):
        event = {"detail": {"bucket": {"name": OUTPUT}, "object": {"key": each}}}
        ready["handler"](event, None)
    assert saved == [
        {
            "name": "a/photo.jpg",
            "v": manifest["v"],
            "html": manifest["html"],
            "colour": manifest["dominant_colour"],
            "thumbhash": manifest["thumbhash"],
        }
    ]
    assert saved[0]["html"].count('alt=""') == 1  # the page's advice for Django replaces it


@needs_node
def test_a_page_waits_for_a_manifest(node: Any) -> None:
    """It asks until there is one, of another version than the known, and not for ever."""
    found = node("""
        import { manifestOf } from "./ready.js";
        globalThis.setTimeout = (callback) => setImmediate(callback);
        const answers = [403, 404, { v: "old" }, { v: "new" }];
        const asked = [];
        globalThis.fetch = async (url) => {
          asked.push(url);
          const next = answers.shift();
          if (typeof next === "number") return new Response("", { status: next });
          return Response.json(next);
        };
        const first = await manifestOf("a/photo.jpg", "old");
        globalThis.fetch = async () => new Response("", { status: 403 });
        const late = await manifestOf("a/photo.jpg", "", 0.05).catch((error) => error.message);
        result = { first, asked, late };
        """)
    assert found["first"] == {"v": "new"}
    assert len(found["asked"]) == 4
    assert all(re.fullmatch(rf"{BASE}/a/photo\.json\?v=\d+", each) for each in found["asked"])
    assert found["late"] == "There are no thumbnails of a/photo.jpg after 0.05 seconds"


@needs_node
def test_a_placeholder_is_drawn_from_the_bytes_of_the_thumbhash(node: Any, tmp_path: Path) -> None:
    """The library, for which a stand-in is here, gets exactly the bytes."""
    library = tmp_path / "node_modules" / "thumbhash"
    library.mkdir(parents=True)
    (library / "package.json").write_text('{"type": "module", "exports": "./index.js"}')
    (library / "index.js").write_text(
        "export const thumbHashToDataURL = (bytes) => Buffer.from(bytes).toString('hex');"
    )
    thumbhash = "3OcRJYB4d3h/iIeHeEh3eIhw+j2w"
    found = node(
        f'import {{ placeholder }} from "./placeholder.js"; result = placeholder("{thumbhash}");'
    )
    assert bytes.fromhex(found) == base64.b64decode(thumbhash)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium.launched() as launched:
        yield launched


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab at the site of the examples, which has their files."""
    site = "http://localhost:1"
    context = browser.new_context(base_url=site)
    tab = context.new_page()

    def file(route: Route) -> None:
        name = urlsplit(route.request.url).path.removeprefix("/")
        code = named().get(name)
        route.fulfill(status=200 if code else 404, body=code or "", content_type="text/javascript")

    tab.route(f"{site}/*.js", file)
    yield tab
    context.close()


def show(page: Page, content: str) -> None:
    """Open a page of the site that consists of this HTML."""
    page.route(
        "http://localhost:1/page",
        lambda route: route.fulfill(
            body=f"<!doctype html><meta charset=utf-8>{content}", content_type="text/html"
        ),
    )
    page.goto("/page")


PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@needs_chromium
def test_the_form_of_the_page_uploads_the_file(bucket: Any, page: Page) -> None:
    """Its status says so, and says what went wrong."""
    upload, given = run_python("upload.py"), []

    def sign(route: Route) -> None:
        kind = json.loads(route.request.post_data or "{}")["type"]
        if given:
            route.fulfill(status=429)
        else:
            given.append(upload["put_url"]("u", kind))
            route.fulfill(json=given[0])

    def store(route: Route) -> None:
        """Do what the bucket's CORS rule allows; moto has no such rules."""
        asked = route.request
        kind = {"Content-Type": asked.headers["content-type"]}
        answer = requests.put(asked.url, asked.post_data_buffer, headers=kind, timeout=10)
        route.fulfill(status=answer.status_code, headers={"Access-Control-Allow-Origin": "*"})

    page.route("**/api/upload", sign)
    page.route("**/uploads/**", store)
    show(page, script('id="upload"'))
    page.set_input_files("input", {"name": "a.png", "mimeType": "image/png", "buffer": PNG})
    page.click("button")
    expect(page.locator("#status")).to_contain_text("Uploaded as u/")
    name = given[0]["name"]
    assert bucket.get_object(Bucket=BUCKET, Key=f"uploads/{name}")["Body"].read() == PNG
    page.click("button")
    expect(page.locator("#status")).to_have_text("The upload was not allowed (status 429)")


@needs_chromium
def test_a_page_shows_a_picture_when_it_is_there(s3: Any, aws: str, page: Page) -> None:
    """First the place for it, then the manifest's HTML with a description."""
    _, manifest = written(s3, aws)
    asked: list[str] = []

    def cdn(route: Route) -> None:
        asked.append(route.request.url)
        if ".json" not in route.request.url:
            route.fulfill(body=PNG, content_type="image/png")
        elif len(asked) > 1:
            route.fulfill(json=manifest, headers={"Access-Control-Allow-Origin": "*"})
        else:
            route.fulfill(status=403)

    page.route(f"{BASE}/**", cdn)
    show(page, script('id="picture"'))
    expect(page.locator("#picture")).to_have_text("Your picture is being made…")
    expect(page.locator("#picture picture img")).to_have_attribute("alt", "A lake at sunset")
    page.wait_for_function("document.querySelector('#picture img').naturalWidth")
    assert re.fullmatch(rf"{BASE}/a/photo_\d+w\.avif\?v={manifest['v']}", asked[-1])


@needs_chromium
def test_a_picture_that_is_not_there_yet_is_asked_for_again(page: Page) -> None:
    """Until it is there, also if it failed before the script ran."""
    asked: list[str] = []

    def cdn(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) < 3:
            route.fulfill(status=403)
        else:
            route.fulfill(body=PNG, content_type="image/png")

    page.route(f"{BASE}/**", cdn)
    (image,) = (each for each in blocks("html") if each.startswith("<img") and "lake" in each)
    show(page, image.replace(' loading="lazy"', ""))
    page.wait_for_function("document.images[0].complete")
    page.evaluate("import('./retry.js').then(({ retry }) => retry(document.images[0]))")
    page.wait_for_function("document.images[0].naturalWidth")
    assert len(asked) == 3
    assert len(set(asked)) == 1


# --- private --------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RSAPublicKey:
    """The public key of the pair that the commands of the page made, in the current folder."""
    monkeypatch.chdir(tmp_path)
    subprocess.run(  # noqa: S603 - our own documentation
        [BASH, "-ec", named()["keys.sh"]], check=True, capture_output=True, timeout=60
    )
    public = (tmp_path / "public.pem").read_bytes()
    assert template.accepts("CdnPublicKey", public.decode().rstrip("\n"))  # as $(cat …) gives it
    key = load_pem_public_key(public)
    assert isinstance(key, RSAPublicKey)
    return key


def decoded(text: str) -> bytes:
    """Base64 as CloudFront takes it in cookies and URLs."""
    assert re.fullmatch(r"[A-Za-z0-9_~-]+", text)
    return base64.b64decode(text.translate(str.maketrans("-_~", "+=/")))


def test_a_cookie_opens_one_folder_for_a_time(keys: RSAPublicKey) -> None:
    """The policy is signed with the private key, as CloudFront checks it."""
    found = run_python("signing.py")["cookies"]("users/42", 600)
    assert set(found) == {"CloudFront-Policy", "CloudFront-Signature", "CloudFront-Key-Pair-Id"}
    policy = decoded(found["CloudFront-Policy"])
    keys.verify(decoded(found["CloudFront-Signature"]), policy, PKCS1v15(), SHA1())  # noqa: S303
    (statement,) = json.loads(policy)["Statement"]
    assert statement["Resource"] == "https://img.example.com/users/42/*"
    until = statement["Condition"]["DateLessThan"]["AWS:EpochTime"]
    assert until - time.time() == pytest.approx(600, abs=30)


def test_a_signed_url_keeps_its_version(keys: RSAPublicKey) -> None:
    """The signature covers the whole URL, `?v=` included."""
    url = "https://img.example.com/users/42/photo_512w?v=3fa2c91d"
    signed = run_python("signing.py")["signed_url"](url)
    assert signed.startswith(f"{url}&Expires=")
    query = {name: values[0] for name, values in parse_qs(urlsplit(signed).query).items()}
    policy = (
        f'{{"Statement":[{{"Resource":"{url}","Condition":{{"DateLessThan":'
        f'{{"AWS:EpochTime":{query["Expires"]}}}}}}}]}}'
    )
    keys.verify(decoded(query["Signature"]), policy.encode(), PKCS1v15(), SHA1())  # noqa: S303


# --- a distribution of one's own, and commands ----------------------------------------------------


def test_the_filled_in_function_is_that_of_the_stack(tmp_path: Path) -> None:
    """`sed` gives what the template deploys for the same formats."""
    (tmp_path / "iac").symlink_to(ROOT / "iac")
    subprocess.run(  # noqa: S603 - our own documentation
        [BASH, "-ec", named()["negotiation.sh"]], check=True, cwd=tmp_path, timeout=60
    )
    deployed = template.Deployed(Cdn="true", ThumbnailFormats="webp,avif,jpeg")
    expected = deployed.properties("Negotiation")["FunctionCode"]
    assert (tmp_path / "thumbnails-function.js").read_text() == expected


def calls(text: str) -> list[list[str]]:
    """The words of each call of `aws` in a script, after `aws`."""
    lines = text.replace("\\\n", " ")
    lines = re.sub(r"(\w+)=\$\((.*?)\)$", r"\2", lines, flags=re.MULTILINE)
    words = shlex.split(lines, comments=True)
    starts = [at for at, word in enumerate(words) if word == "aws"]
    ends = [*starts[1:], len(words)]
    return [words[start + 1 : end] for start, end in zip(starts, ends, strict=True)]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_commands_are_those_of_the_api(name: str) -> None:
    """Each operation exists and has the options; JSON has the shape that the API describes."""
    found = calls(named()[name])
    assert found
    for service, operation, *options in found:
        model = botocore.session.get_session().get_service_model(service)
        (operation_name,) = (
            each for each in model.operation_names if xform_name(each, "-") == operation
        )
        shape = model.operation_model(operation_name).input_shape
        assert shape
        members = {xform_name(each, "-"): each for each in shape.members}
        given: dict[str, Any] = {}
        for option, value in pairwise(options):
            if option.startswith("--") and option not in ("--query", "--output"):
                member = members[option.removeprefix("--")]
                kind = shape.members[member].type_name
                if value.startswith("{"):
                    given[member] = json.loads(value) if kind == "structure" else value
                elif kind == "structure":
                    given[member] = dict(part.split("=", 1) for part in value.split(","))
                elif kind == "list":
                    given[member] = [dict(part.split("=", 1) for part in value.split(","))]
                elif kind == "blob":
                    given[member] = value.encode()
                else:
                    given[member] = value
        report = ParamValidator().validate(given, shape)
        assert not report.has_errors(), report.generate_report()


def test_the_policies_of_an_existing_distribution_are_those_of_the_stack() -> None:
    """Cache policy and origin access control have the values of the template's."""
    access, cache, headers = calls(named()["distribution.sh"])
    deployed = template.Deployed(Cdn="true")
    expected = deployed.properties("DistributionAccess")["OriginAccessControlConfig"]
    given = dict(part.split("=") for part in access[-1].split(","))
    assert given | {"Name": ""} == expected | {"Name": ""}
    config = json.loads(cache[-1])
    query = config["ParametersInCacheKeyAndForwardedToOrigin"]["QueryStringsConfig"]
    query["QueryStrings"] = query["QueryStrings"]["Items"]
    policy = deployed.properties("DistributionCache")["CachePolicyConfig"]
    assert config == {key: value for key, value in policy.items() if key != "Comment"} | {
        "Name": "thumbnails"
    }
    removed = json.loads(headers[-1])["RemoveHeadersConfig"]["Items"]
    made = deployed.properties("NegotiatedHeaders")["ResponseHeadersPolicyConfig"]
    assert made["RemoveHeadersConfig"]["Items"] == (
        sorted(removed, key=made["RemoveHeadersConfig"]["Items"].index)
    )
    assert json.loads(headers[-1])["CustomHeadersConfig"]["Items"] == (
        made["CustomHeadersConfig"]["Items"]
    )


def test_the_values_of_cache_control_are_accepted() -> None:
    """Those of the table and of the commands."""
    section = PAGE.partition("## Caching\n")[2].partition("\n## ")[0]
    values = re.findall(r"^\|[^|]*\| `([^`]+)`", section, re.MULTILINE)
    values = [value for value in values if value != "CacheControl"]
    assert "public, max-age=31536000, immutable" in values
    assert SETTINGS.cache_control in values
    assert all(template.accepts("CacheControl", value) for value in values)


def test_the_distribution_of_the_page_is_accepted() -> None:
    """The ARN in the command has the form that the parameter asks for."""
    (arn,) = re.findall(r"ExistingDistribution=([^\"]+)\"", PAGE)
    assert template.accepts("ExistingDistribution", arn)
