"""The console without a browser: who may use it, what its pages show, what its requests do."""

import html
import json
import re
import time
import webbrowser
from collections.abc import Iterator
from contextlib import nullcontext
from copy import replace
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import unquote, urlencode, urljoin, urlsplit

import pytest
import requests
from aws_names import INPUT, OUTPUT
from botocore.exceptions import ClientError, ReadTimeoutError
from console_server import KEY, Pages, address, secret_of, serving
from hypothesis import given
from hypothesis import strategies as st
from moto_stack import moto_stack, send_dead_letter, upload_with_thumbnails
from pictures import jpeg, thumbnails_of
from rich.console import Console
from starlette.routing import Route

from image_pipeline.cli import browser
from image_pipeline.console import app, details, gallery, process
from image_pipeline.console.dead_letters import DeadLetters
from image_pipeline.console.guard import SESSION_PATH
from image_pipeline.console.replays import Replays
from image_pipeline.console.session import new_address
from image_pipeline.errors import CommandError, NotPermitted
from image_pipeline.stack import dead_letters, images, replay
from image_pipeline.stack.aws import aws_errors_explained
from image_pipeline.stack.deployed import Stack
from thumbnailer import errors
from thumbnailer.imaging import ENCODERS, HEAD_BYTES, Size, parse_sizes
from thumbnailer.srcset import Candidate, picture, url_path

MARKUP = "uploads/<img src=x onerror=alert(1)>.jpg"


@pytest.fixture
def stack(s3: Any, aws: str) -> Stack:
    """Buckets and a queue, without a function."""
    del s3  # it has created the buckets
    return moto_stack(aws)


@pytest.fixture
def pages(stack: Stack) -> Iterator[Pages]:
    """The console of that stack, requested as its own pages request it."""
    with serving(stack) as url:
        yield Pages(url)


def put(stack: Stack, key: str, body: bytes = b"x") -> str:
    """Upload an object and return its ETag."""
    answer = stack.aws.s3.put_object(Bucket=INPUT, Key=key, Body=body)
    return answer["ETag"].strip('"')


# --- who may use it -----------------------------------------------------------------------------
POST_ROUTES = [
    "/dead-letters/export",
    "/discards",
    "/uploads",
    "/outcomes",
    "/replays",
    "/focus",
    "/links",
    "/deletions",
    "/remakes",
]


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1:1", "localhost:{port}", ""]
)
def test_other_host_names_are_refused(pages: Pages, host: str) -> None:
    """A page whose host name an attacker points to 127.0.0.1 (DNS rebinding) reads nothing.

    `localhost` is refused as well: it may mean ::1, where another user can have the port.
    """
    host = host.format(port=urlsplit(pages.url).port)
    answer = pages.get("/", headers={"Host": host})
    assert answer.status_code == 421
    assert INPUT not in answer.text


@pytest.mark.parametrize("path", [*POST_ROUTES, SESSION_PATH])
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost"]
)
def test_other_sites_change_nothing(pages: Pages, path: str, origin: str) -> None:
    """A POST from another origin is refused, even with the token, and opens no session."""
    body = {"secret": secret_of(address(pages.url))}
    assert pages.post(path, json=body, headers={"Origin": origin}).status_code == 403
    assert pages.post(SESSION_PATH, json=body).status_code == 200, "the address is still unused"


TOKENS = [
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer null"},
    {"Authorization": "Bearer guessed"},
    {"Authorization": "Bearer é".encode().decode("latin-1")},
    {"Authorization": f"Bearer {KEY}"},
    {"Authorization": "", "Cookie": "image-pipeline-token={token}"},
    {"Authorization": "Basic {token}"},
]


@pytest.mark.parametrize("headers", TOKENS)
def test_nothing_is_changed_without_the_token(pages: Pages, headers: dict[str, str]) -> None:
    """A POST of the console's own origin without the session's token is refused."""
    headers = {name: value.format(token=pages.token) for name, value in headers.items()}
    for path in POST_ROUTES:
        assert pages.post(path, json={}, headers=headers).status_code == 401, path


def test_every_route_that_changes_something_is_tested(stack: Stack) -> None:
    """The routes with other methods than GET and HEAD are exactly the ones tested above."""
    routes = [each for each in app.Console(stack).routes if isinstance(each, Route)]
    found = [each.path for each in routes if (each.methods or set()) - {"GET", "HEAD"}]
    assert found == POST_ROUTES


@pytest.mark.parametrize("headers", TOKENS)
def test_nothing_is_shown_without_the_token(pages: Pages, headers: dict[str, str]) -> None:
    """Another user of this machine can reach the port, but gets no page, and no token."""
    headers = {name: value.format(token=pages.token) for name, value in headers.items()}
    for path in ("/", "/image?key=a", "/view?key=a", "/dead-letters/list", "/replays/1"):
        answer = pages.get(path, headers=headers)
        assert answer.status_code == 401, path
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert INPUT not in answer.text
        assert pages.token not in answer.text


def test_a_browser_without_a_session_is_told_how_to_open_one(pages: Pages) -> None:
    """A request without a token gets a page that names the command, without JavaScript as well."""
    answer = requests.get(f"{pages.url}/image?key=a", headers={"Accept": "text/html"}, timeout=5)
    assert answer.status_code == 401
    assert "run <code>image-pipeline console</code>" in answer.text
    (without_script,) = re.findall("<noscript>(.*?)</noscript>", answer.text, re.DOTALL)
    assert "The console requires JavaScript" in without_script
    assert "image-pipeline --help" in without_script


def test_an_address_opens_one_session(pages: Pages) -> None:
    """The first use of an address returns the token; the second is refused. No cookie is set."""
    body = {"secret": secret_of(address(pages.url))}
    first, second = (pages.post(SESSION_PATH, json=body) for _ in range(2))
    assert first.json() == {"token": pages.token}
    assert second.status_code == 403
    assert "already been used" in second.text
    assert pages.token not in second.text
    for answer in (first, second, pages.get("/")):
        assert "Set-Cookie" not in answer.headers


def test_requesting_an_address_does_not_use_it(pages: Pages) -> None:
    """A browser that loads an address in advance, or a preview of it, does not use it up."""
    unused = address(pages.url)
    assert requests.get(unused, headers={"Accept": "text/html"}, timeout=5).status_code == 401
    answer = pages.post(SESSION_PATH, json={"secret": secret_of(unused)})
    assert answer.json() == {"token": pages.token}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff{",
        b"[]",
        b"{}",
        b'{"secret": null}',
        b'{"secret": ""}',
        b'{"secret": "."}',
        b'{"secret": "a.b"}',
        b'{"secret": "\\ud800.\\udfff"}',
        b'{"secret": "' + KEY.encode() + b'"}',
        b'{"secret": "' + b"x" * 100_000 + b'"}',
        b"[" * 10_000,
    ],
)
def test_a_guessed_secret_opens_no_session(pages: Pages, body: bytes) -> None:
    """Anything but the secret of a new address is refused, and is never a crash."""
    answer = pages.post(SESSION_PATH, data=body)
    assert answer.status_code == 403
    assert pages.token not in answer.text


def test_a_secret_of_another_key_opens_no_session(pages: Pages) -> None:
    """An address of another console is refused, and so is one whose random part was changed."""
    nonce, _, signature = secret_of(address(pages.url)).partition(".")
    other = new_address(1, "another key")
    for secret in (secret_of(other), f"{nonce}x.{signature}", f"{nonce}.{signature[:-1]}"):
        assert pages.post(SESSION_PATH, json={"secret": secret}).status_code == 403


def test_another_port_cannot_use_the_session(pages: Pages, stack: Stack) -> None:
    """The token of one console is refused by another, and no page of another port may send it."""
    with serving(stack) as url:
        token = {"Authorization": f"Bearer {pages.token}"}
        assert requests.get(url, headers=token, timeout=5).status_code == 401
        preflight = {
            "Origin": url,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization",
        }
        answer = requests.options(pages.url, headers=preflight, timeout=5)
        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers


# --- how it is opened ---------------------------------------------------------------------------
@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A desktop, as far as the command can tell."""
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(browser, "err", Console(stderr=True, force_terminal=True))


@pytest.mark.usefixtures("screen")
def test_the_secret_is_in_no_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser's arguments, which other users can read, name a private file with the address."""
    program, arguments, page = (tmp_path / name for name in ("browser", "arguments", "page"))
    program.write_text(
        f'#!/bin/sh\necho "$0 $*" >{arguments}.new\n'
        f'ls -l "${{1#file://}}" >{page}; cat "${{1#file://}}" >>{page}\n'
        f"ps -eo args >>{arguments}.new; mv {arguments}.new {arguments}\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(webbrowser, "_tryorder", ["fake"])
    monkeypatch.setattr(
        webbrowser, "_browsers", {"fake": [None, webbrowser.GenericBrowser(str(program))]}
    )
    url = new_address(4567, KEY)
    browser.open_page(url)
    assert url in page.read_text()
    assert page.read_text().startswith("-rw-------")
    assert str(program) in arguments.read_text()
    assert secret_of(url) not in arguments.read_text()


@pytest.mark.usefixtures("screen")
def test_the_file_that_redirects_is_private_and_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this user may read the file or list its folder, which is gone soon afterwards."""
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(browser, "REDIRECT_SECONDS", 0.5)
    browser.open_page("http://127.0.0.1:1/?a=1&b=<2>#secret=x")
    (url,) = opened
    file = Path(urlsplit(url).path)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert "url=http://127.0.0.1:1/?a=1&amp;b=&lt;2&gt;#secret=x" in file.read_text()
    deadline = time.monotonic() + 10
    while file.parent.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_console_process_has_its_key_in_no_argument_or_readable_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is in the process's environment and in a file of mode 0600; so is the log."""
    started: list[Any] = []

    class Ended:
        """A process that has ended at once."""

        pid = 1

        def __init__(self, arguments: list[str], **more: Any) -> None:
            started.append((arguments, more["env"][process.KEY_VARIABLE]))

        def poll(self) -> int:
            return 1

    monkeypatch.setattr(process.subprocess, "Popen", Ended)
    with pytest.raises(CommandError, match="did not start"):
        process.ConsoleProcess(tmp_path).start(0)
    ((arguments, key),) = started
    assert not [each for each in arguments if key in each]
    for path in tmp_path.iterdir():
        readable = path.stat().st_mode & 0o077
        assert not readable or key not in path.read_text()
    assert not (tmp_path / "console.log").stat().st_mode & 0o077
    assert key in (tmp_path / "console.json").read_text()


# --- headers ------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/", "/image?key=none", "/static/console.js", "/nothing"])
def test_every_response_has_a_strict_security_policy(pages: Pages, path: str) -> None:
    """The policy allows the console's files, and S3 for images and uploads; no inline script.

    Only the console's own pages may be framed, and only by the console's own pages.
    """
    headers = pages.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert policy.endswith("frame-src 'self'; frame-ancestors 'self'")
    assert "unsafe" not in policy
    assert "*" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_no_page_names_another_host(pages: Pages) -> None:
    """Pages, style sheet and script need nothing from outside this machine."""
    scripts = (app.HERE / "static").glob("*.[jc]s*")
    files = [f"/static/{file.name}" for file in scripts]
    assert len(files) > 1
    for path in ("/", "/dead-letters", "/metrics", *files):
        hosts = re.findall(r"https?://([^/\s\"'&]+)", pages.get(path).text)
        assert {host.partition(":")[0] for host in hosts} <= {"127.0.0.1"}, path


# --- what pages show ----------------------------------------------------------------------------
def test_names_are_shown_as_text(pages: Pages, stack: Stack) -> None:
    """A key that is markup is escaped on every page and in every fragment."""
    etag = put(stack, MARKUP)
    send_dead_letter(stack, MARKUP, etag)
    parts = [
        pages.get("/").text,
        pages.get("/", params={"find": "<img src=x"}).text,
        pages.get("/", params={"find": "<img none"}).text,
        pages.get("/", params={"folder": "<img none"}).text,
        pages.get("/view", params={"key": MARKUP}).text,
        pages.get("/image", params={"key": MARKUP}).text,
        pages.get("/image", params={"key": MARKUP + "none"}).text,
        pages.get("/dead-letters/list").text,
        pages.post("/outcomes", json={"keys": [MARKUP]}).json()["outcomes"][0]["html"],
    ]
    for part in parts:
        assert "<img src=x" not in part
        assert "<img none" not in part
        assert "&lt;img" in part or "%3Cimg" in part


@pytest.mark.parametrize("number", [0, 1, 3, 4, 10, 11, 25])
def test_paging_shows_every_image_once(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Following "Next page" shows each image once: by time, or by name if there are too many."""
    monkeypatch.setattr(gallery, "PAGE_SIZE", 3)
    monkeypatch.setattr(gallery, "MAX_SORTED", 10)
    keys = [f"uploads/{n:02d} & more.jpg" for n in range(number)]
    for key in keys:
        put(stack, key)
    put(stack, "uploads/")  # a folder marker is not an image
    shown: list[str] = []
    page = "/"
    while True:
        text = pages.get(page).text
        shown += re.findall(r'class="name" title=".*?">(.*?)</span>', text)
        next_page = re.search(r'rel="next" href="(.*?)"', text)
        if not next_page:
            break
        page = next_page[1].replace("&amp;", "&")
    assert sorted(shown) == [key.removeprefix("uploads/").replace("&", "&amp;") for key in keys]
    assert ("Sorted by name" in pages.get("/").text) == (number > 10)


def test_the_newest_image_comes_first(pages: Pages, stack: Stack) -> None:
    """Images are sorted by upload time, and objects outside the input prefix are not shown."""
    put(stack, "uploads/older.jpg")
    time.sleep(1)  # S3 has times in whole seconds
    put(stack, "uploads/a-newer.jpg")
    put(stack, "elsewhere/other.jpg")
    assert re.findall(r'class="name" title=".*?">(.*?)<', pages.get("/").text) == [
        "a-newer.jpg",
        "older.jpg",
    ]


def names_in(text: str) -> list[str]:
    """The names of the images on a page of the gallery."""
    return re.findall(r'class="name" title=".*?">(.*?)<', text)


def folders_in(text: str) -> list[tuple[str, str]]:
    """The URLs and names of the folders on a page of the gallery."""
    found = re.findall(r'<li><a href="([^"]*)"><svg.*?"folder-name">(.*?)<', text)
    return [(html.unescape(url), name) for url, name in found]


def test_search_finds_any_part_of_a_name_and_survives_paging(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text finds images and folders by any part of a name, in any case, below the folder."""
    monkeypatch.setattr(gallery, "PAGE_SIZE", 2)
    keys = ("A/IMG_1.jpg", "a/img_2.jpg", "img_3/x.jpg", "b/1.jpg", "u\u0308.jpg")
    for name in keys:
        put(stack, f"uploads/{name}")
    first = pages.get("/", params={"find": " Img_ "}).text
    assert "3 images found" in first
    assert folders_in(first) == [("/?folder=img_3%2F#gallery", "img_3")]
    next_page = re.search(r'rel="next" href="(.*?)"', first)
    assert next_page
    second = pages.get(html.unescape(next_page[1])).text
    assert sorted(names_in(first) + names_in(second)) == [*keys[:3]]
    assert names_in(pages.get("/", params={"find": "\u00dc"}).text) == ["u\u0308.jpg"]
    inside = pages.get("/", params={"find": "img", "folder": "a"}).text
    assert names_in(inside) == ["img_2.jpg"]
    assert "No name contains" in pages.get("/", params={"find": "zzz"}).text


def test_a_search_of_a_part_says_so(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of too many names the first are searched, and the beginnings of all; the page says so."""
    monkeypatch.setattr(gallery, "MAX_SEARCHED", 3)
    monkeypatch.setattr(app, "MAX_SEARCHED", 3)
    for name in ("a/1.jpg", "a/2.jpg", "a/3.jpg", "z2/4.jpg", "z2.jpg", "zz2.jpg"):
        put(stack, f"uploads/{name}")
    text = pages.get("/", params={"find": "z2"}).text
    assert names_in(text) == ["z2.jpg"]
    assert [name for _, name in folders_in(text)] == ["z2"]
    assert "Searched the first 3 images of more" in text
    assert names_in(pages.get("/", params={"find": "2"}).text) == ["a/2.jpg"]
    assert "Searched the first" in pages.get("/", params={"find": "none"}).text
    assert "Searched" not in pages.get("/", params={"find": "4", "folder": "z2/"}).text


def test_folders_are_opened_one_by_one(pages: Pages, stack: Stack) -> None:
    """Each folder shows its own images and folders, and has links to the folders that it is in."""
    for name in ("trip/day 1/a&b.jpg", "trip/cover.jpg", "trip//odd.jpg", "top.jpg"):
        put(stack, f"uploads/{name}")
    top = pages.get("/").text
    assert names_in(top) == ["top.jpg"]
    ((trip, name),) = folders_in(top)
    assert name == "trip"
    text = pages.get(trip).text
    assert names_in(text) == ["cover.jpg"]
    assert [name for _, name in folders_in(text)] == ["(no name)", "day 1"]
    odd, day = (pages.get(url).text for url, _ in folders_in(text))
    assert names_in(odd) == ["odd.jpg"]
    assert names_in(day) == ["a&amp;b.jpg"]
    (above,) = re.findall(r'aria-label="Folders">(.*?)</nav>', day, re.DOTALL)
    assert re.findall(r'href="([^"]*)">(.*?)<', above) == [("/", "All images"), (trip, "trip")]


def test_a_folder_of_many_folders_shows_all_by_name(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first page has some of them, and a link to pages that have each one once."""
    monkeypatch.setattr(gallery, "MAX_FOLDERS", 2)
    monkeypatch.setattr(gallery, "PAGE_SIZE", 2)
    for number in range(5):
        put(stack, f"uploads/{number}/x.jpg")
    text = pages.get("/").text
    assert "These are 2 of 5 folders" in text
    found = re.search(r'href="([^"]*)">Show all by name', text)
    shown: list[str] = []
    while found:
        text = pages.get(html.unescape(found[1])).text
        shown += [name for _, name in folders_in(text)]
        found = re.search(r'rel="next" href="(.*?)"', text)
    assert shown == [str(number) for number in range(5)]


@pytest.mark.parametrize(
    ("query", "limit"), [("", 3), ("?sort=name", 1), ("?find=0042", 4), ("?folder=a/", 1)]
)
def test_a_page_of_any_bucket_takes_a_limited_number_of_requests(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch, query: str, limit: int
) -> None:
    """The number of listings does not grow with the bucket; each returns up to LISTED names."""
    for name, value in (("LISTED", 10), ("MAX_SORTED", 20), ("MAX_SEARCHED", 20)):
        monkeypatch.setattr(gallery, name, value)
    monkeypatch.setattr(gallery, "PAGE_SIZE", 6)
    put(stack, "uploads/a/b.jpg")
    for number in range(60):
        put(stack, f"uploads/{number:04d}.jpg")
    requested: list[Any] = []
    stack.aws.s3.meta.events.register(
        "before-parameter-build.s3.*", lambda params, **_: requested.append(params)
    )
    assert pages.get(f"/{query}").status_code == 200
    assert len(requested) <= limit
    assert {each["Bucket"] for each in requested} == {INPUT}


@pytest.mark.parametrize("skip", ["-1", "x", "9" * 30, "²"])
def test_an_invalid_page_number_is_an_error(pages: Pages, skip: str) -> None:
    """A mistyped URL gets a 400 that says what to do, not a crash."""
    answer = pages.get("/", params={"skip": skip})
    assert answer.status_code == 400
    assert "invalid page number" in answer.text


def test_the_page_of_an_image_has_its_details(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page shows the original, every thumbnail and an `<img>`; EXIF orientation is applied."""
    monkeypatch.setattr(details, "read_log", lambda *_: details.Log([]))
    picture = jpeg((900, 600), exif=_turned())
    upload_with_thumbnails(stack, "uploads/trip/p+1.jpg", picture)
    text = pages.get("/image", params={"key": "uploads/trip/p+1.jpg"}).text
    assert "600 × 900" in text
    assert f"{len(picture):,}" in text
    assert "trip/p+1_512w.webp" in text
    assert "trip/p%2B1_128w.webp 128w, trip/p%2B1_512w.webp 512w" in text
    assert re.search(r"<h3>128w</h3>\s*<span>128 × 192 pixels</span>", text)
    assert re.search(r">WebP</a> · [\d,]+ bytes · -?\d+% (smaller|larger)", text)


def test_the_page_of_an_image_shows_the_manifest(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is shown, escaped, if there is one, even if it is not JSON."""
    monkeypatch.setattr(details, "read_log", lambda *_: details.Log([]))
    with_manifests = replace(stack, settings=replace(stack.settings, write_manifest=True))
    put(stack, "uploads/a/p.jpg", jpeg())
    with serving(with_manifests) as url:
        pages = Pages(url)
        path = "/image?key=uploads/a/p.jpg"
        assert "Manifest" not in pages.get(path).text
        manifest = json.dumps({"dominant_colour": "#4a6b8c", "note": "<b>"})
        stack.aws.s3.put_object(Bucket=OUTPUT, Key="a/p.json", Body=manifest.encode())
        text = pages.get(path).text
        stack.aws.s3.put_object(Bucket=OUTPUT, Key="a/p.json", Body=b"another program's")
        assert "another program&#39;s" in pages.get(path).text
    assert "#4a6b8c" in text
    assert "<b>" not in text


SHAPES = "128,512,avatar=256x256:cover:attention,card=300x200:pad"


@pytest.fixture
def shaped(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pages]:
    """The console of a stack with four sizes in three formats, and one image, `uploads/p.jpg`."""
    monkeypatch.setattr(details, "read_log", lambda *_: details.Log([]))
    shapes = stack.settings._replace(
        sizes=parse_sizes(SHAPES), formats=("avif", "jpeg", "webp"), background="#000000"
    )
    shaped = replace(stack, settings=shapes)
    upload_with_thumbnails(shaped, "uploads/p.jpg", jpeg((600, 400)))
    with serving(shaped) as url:
        yield Pages(url)


def test_a_size_is_shown_once_with_its_formats(shaped: Pages) -> None:
    """The page has one picture for each size, in WebP, and bytes and saving of each format."""
    text = shaped.get("/image?key=uploads/p.jpg").text
    section = text[text.index('id="thumbnails-content"') : text.index('id="focus"')]
    shown = re.findall(r'<img src="[^"]*?/(p_[^"?]+)\?', section)
    assert shown == ["p_128w.webp", "p_512w.webp", "p_avatar.webp", "p_card.webp"]
    assert re.findall(r"<h3>(.*?)</h3>\s*<span>(.*?)</span>", section) == [
        ("128w", "128 × 85 pixels"),
        ("512w", "512 × 341 pixels"),
        ("avatar", "256 × 256 pixels · cropped to 256 × 256"),
        ("card", "300 × 200 pixels · padded to 300 × 200"),
    ]
    formats = re.findall(
        r">(AVIF|JPEG|WebP)</a> · [\d,]+ bytes · -?\d+% (?:smaller|larger)", section
    )
    assert formats == 4 * ["AVIF", "JPEG", "WebP"]
    assert len(set(re.findall(r"<code>(.*?)</code>", section))) == 12


def test_the_page_of_an_image_has_html_for_each_view(shaped: Pages) -> None:
    """Widths share a `<picture>`; a crop and a padded picture have their own."""
    text = html.unescape(shaped.get("/image?key=uploads/p.jpg").text)
    section = text[text.index('id="html"') :]
    assert re.findall(r"<h3>(.*?)</h3>", section) == ["128w and 512w", "avatar", "card"]
    pictures = re.findall(r"<picture>.*?</picture>", section, re.DOTALL)
    assert [sorted(set(re.findall(r"p_(\w+)\.", each))) for each in pictures] == [
        ["128w", "512w"],
        ["avatar"],
        ["card"],
    ]


def test_uploads_and_cards_show_what_a_browser_shows(shaped: Pages) -> None:
    """An outcome and the gallery have pictures in WebP, if there is WebP, and no JPEG or AVIF."""
    outcome = shaped.post("/outcomes", json={"keys": ["uploads/p.jpg"]}).json()["outcomes"][0]
    assert len(re.findall(r'<img src="[^"]*?\.webp\?', outcome["html"])) == 4
    assert outcome["html"].count("<img") == 4
    assert re.findall(r"<span>(AVIF|JPEG|WebP) · ", outcome["html"])[:3] == ["AVIF", "JPEG", "WebP"]
    assert re.findall(r'<img src="[^"]*?/(p_[^"?]+)\?', shaped.get("/").text) == ["p_512w.webp"]


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ("128,512", "512w"),
        ("64,128", "128w"),
        ("avatar=256x256,card=600x400:pad,800", "800w"),
        ("128,avatar=256x256", "avatar"),
        ("avatar=300x300,2400", "avatar"),
        ("1600,2400", "1600w"),
        ("128,small=128x128", "128w"),
    ],
)
def test_a_card_shows_a_thumbnail_that_is_large_enough_and_not_too_large(
    sizes: str, shown: str
) -> None:
    """It is the smallest width from 256 to 1,024 pixels, or else the next best size."""
    assert details.card_size(parse_sizes(sizes)).name == shown


def test_the_images_page_names_sizes_and_formats(shaped: Pages, pages: Pages) -> None:
    """The text beside the upload form says what an image gets, under any settings."""

    def text_of(pages: Pages) -> str:
        return " ".join(re.sub(r"<.*?>", "", pages.get("/").text).split())

    assert (
        "Each image gets WebP thumbnails: 128w (128 pixels wide) and 512w (512 pixels wide)."
    ) in text_of(pages)
    assert (
        "Each image gets AVIF, JPEG and WebP thumbnails: 128w (128 pixels wide), 512w (512 pixels "
        "wide), avatar (cropped to 256 × 256) and card (padded to 300 × 200)."
    ) in text_of(shaped)


def test_an_image_with_crops_has_a_form_for_its_focus(shaped: Pages, stack: Stack) -> None:
    """The form shows the whole picture and its focus. A stack without crops has no such form."""
    text = shaped.get("/image?key=uploads/p.jpg").text
    etag = stack.aws.s3.head_object(Bucket=INPUT, Key="uploads/p.jpg")["ETag"].strip('"')
    assert f'data-key="uploads/p.jpg" data-etag="{etag}"' in text
    assert re.search(r'id="focus-picture">\s*<img src="[^"]*/p_512w.webp\?', text)
    assert "No focus is set" in text
    with serving(stack) as url:
        assert "focus-form" not in Pages(url).get("/image?key=uploads/p.jpg").text


def test_without_a_thumbnail_of_the_whole_picture_the_original_is_shown() -> None:
    """The form then has the original's URL."""
    crop, padded = parse_sizes("9x9,p=9x9:pad")
    made = [
        details.Thumbnail(size, (9, 9), [details.File("webp", "a", 1, 0, "thumbnail")])
        for size in (crop, padded)
    ]
    assert details.whole_picture(made, "original") == "original"


def test_a_focus_is_set_and_removed(shaped: Pages, stack: Stack) -> None:
    """The request changes the metadata, and returns the ETag; null removes the focus again."""
    etag = stack.aws.s3.head_object(Bucket=INPUT, Key="uploads/p.jpg")["ETag"].strip('"')
    for focus, metadata in (("0.500,0.250", {"focus": "0.5,0.25"}), (None, {})):
        answer = shaped.post("/focus", json={"key": "uploads/p.jpg", "etag": etag, "focus": focus})
        assert answer.json() == {"etag": etag}
        found = stack.aws.s3.head_object(Bucket=INPUT, Key="uploads/p.jpg")
        assert found["Metadata"] == metadata
        state = shaped.post("/outcomes", json={"keys": ["uploads/p.jpg"]}).json()["outcomes"][0]
        assert state["state"] == ("unknown" if focus else "done"), "the crops have to follow"


@pytest.mark.parametrize(
    "change",
    [
        {"focus": "1.5,0"},
        {"focus": "nan,0"},
        {"focus": ""},
        {"focus": [0.5, 0.5]},
        {"focus": 1},
        {"key": None},
        {"key": ""},
        {"key": "\ud800"},
        {"etag": 1},
        {"etag": "another"},
    ],
    ids=str,
)
def test_an_invalid_focus_is_refused(
    shaped: Pages, stack: Stack, change: dict[str, object]
) -> None:
    """A wrong place, key or ETag gets an error with a message, and nothing is written."""
    etag = stack.aws.s3.head_object(Bucket=INPUT, Key="uploads/p.jpg")["ETag"].strip('"')
    body = {"key": "uploads/p.jpg", "etag": etag, "focus": "0.5,0.5"} | change
    answer = shaped.post("/focus", data=json.dumps(body), headers={"Accept": "application/json"})
    assert answer.status_code == (502 if change == {"etag": "another"} else 400)
    assert answer.json()["message"]
    assert stack.aws.s3.head_object(Bucket=INPUT, Key="uploads/p.jpg")["Metadata"] == {}


def test_a_deleted_image_is_an_error(pages: Pages) -> None:
    """The page of an image that does not exist is a 404 that names the key."""
    answer = pages.get("/image", params={"key": "uploads/gone.jpg"})
    assert answer.status_code == 404
    assert "uploads/gone.jpg is not in" in answer.text


BOMB = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\x3f\0\xfe\x3f\0"
"""The header of a WebP of 16,383 × 16,383 pixels."""


@pytest.mark.parametrize(
    "body", [b"", b"text", jpeg()[:300], b"\xff\xd8\xff", b"RIFF1234WEBPVP8X", BOMB]
)
def test_a_file_that_is_no_image_has_a_page(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """Empty, damaged and unsupported files have a page like any other file."""
    monkeypatch.setattr(details, "read_log", lambda *_: details.Log([]))
    put(stack, "uploads/odd.jpg", body)
    answer = pages.get("/image", params={"key": "uploads/odd.jpg"})
    assert answer.status_code == 200
    assert "No thumbnails yet" in answer.text


def test_an_archived_image_has_a_page(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that the original is archived, and shows the thumbnails that it has."""
    monkeypatch.setattr(details, "read_log", lambda *_: details.Log([]))
    upload_with_thumbnails(stack, "uploads/old.jpg", jpeg())
    source = {"Bucket": INPUT, "Key": "uploads/old.jpg"}
    stack.aws.s3.copy_object(**source, CopySource=source, StorageClass="GLACIER")
    answer = pages.get("/image", params={"key": "uploads/old.jpg"})
    assert answer.status_code == 200
    assert "The original is archived" in answer.text


def test_empty_lists_say_so(pages: Pages) -> None:
    """Without images or failures, each list says that it is empty."""
    assert "No images yet" in pages.get("/").text
    assert "No failed uploads." in pages.get("/dead-letters/list").text


@pytest.mark.parametrize(
    ("error", "status", "title"),
    [
        (CommandError("it is down"), 502, "Request failed"),
        (NotPermitted("no"), 403, "Access denied"),
    ],
)
def test_failures_and_missing_permissions_are_pages(
    pages: Pages, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, title: str
) -> None:
    """A browser gets a page with the error and what to do; the script gets its text as JSON."""

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(gallery.Gallery, "page", refuse)
    page = pages.get("/")
    assert page.status_code == status
    assert title in page.text
    assert str(error) in page.text
    assert ("s3:ListBucket" in page.text) == (status == 403)
    script = pages.get("/", headers={"Accept": "application/json"})
    assert script.json()["message"] == str(error)


def test_a_missing_permission_hides_only_what_it_protects(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without access to log or queue an image is still shown, together with the error."""
    upload_with_thumbnails(stack, "uploads/a.jpg", jpeg())
    put(stack, "uploads/new.jpg")

    def refuse(*_: object) -> None:
        raise NotPermitted("AWS denies logs and queues")

    monkeypatch.setattr(details, "read_log", refuse)
    monkeypatch.setattr(dead_letters, "read_all", refuse)
    text = pages.get("/image?key=uploads/a.jpg").text
    assert "a_512w.webp" in text
    assert "AWS denies" in text
    answer = pages.post("/outcomes", json={"keys": ["uploads/a.jpg", "uploads/new.jpg"]}).json()
    assert [each["state"] for each in answer["outcomes"]] == ["done", "unknown"]
    assert "AWS denies" in answer["error"]


def test_an_unexpected_error_is_a_page(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 500 has a message, and the same headers as any page."""

    def fail(*_: object) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(gallery.Gallery, "page", fail)
    answer = pages.get("/")
    assert answer.status_code == 500
    assert "unforeseen" in answer.text
    assert "default-src" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "code", ["AccessDenied", "KMS.AccessDeniedException", "403", "KmsAccessDenied"]
)
def test_every_kind_of_denial_is_not_permitted(code: str) -> None:
    """Error codes of S3, of HEAD requests and of KMS all become NotPermitted."""
    with pytest.raises(NotPermitted), aws_errors_explained():
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "Operation")


def test_no_page_links_to_another_site(pages: Pages) -> None:
    """The link of an error page back to its own URL cannot lead to another host."""
    answer = pages.get("//evil.example/login")
    assert answer.status_code == 404
    assert 'href="//' not in answer.text


def test_a_deleted_bucket_is_an_error(pages: Pages, stack: Stack) -> None:
    """The error page says which bucket is gone."""
    stack.aws.s3.delete_bucket(Bucket=INPUT)
    answer = pages.get("/")
    assert answer.status_code == 502
    assert f"The bucket {INPUT} does not exist." in answer.text


@pytest.mark.parametrize("name", [each for each in vars(errors) if each[0].isupper()])
def test_every_error_type_is_explained(name: str) -> None:
    """Each error class of the function has an explanation; an unknown type has none."""
    assert app.explanation(name).endswith((".", "with"))
    assert app.explanation("States.Timeout") == ""
    assert app.explanation("__doc__") == ""


def test_failed_uploads_are_listed_with_error_attempts_and_time(pages: Pages, stack: Stack) -> None:
    """Each row has key, explanation, error, attempts and time; the newest comes first.

    Above them is the cause that they share, with their number.
    """
    for name in ("one", "two"):
        send_dead_letter(
            stack, f"uploads/{name}.jpg", put(stack, f"uploads/{name}.jpg", name.encode())
        )
        time.sleep(0.01)
    text = pages.get("/dead-letters/list").text
    assert re.findall(r"image\?key=uploads/(\w+)", text) == ["two", "one"]
    assert '"Failures">2<' in text
    assert "cannot be decoded to the end" in text
    assert "CorruptImage: damaged" in text
    assert '"Attempts">1<' in text
    assert "just now" in text


def many_failures(number: int) -> list[dead_letters.Failure]:
    """Failures of two causes, of which one is every tenth; a message each, a minute apart."""
    now = datetime.now(UTC)
    return [
        dead_letters.Failure(
            f"id-{n}",
            INPUT,
            f"uploads/Trip/IMG_{n}.jpg",
            "e",
            *(("StorageDenied", "denied") if n % 10 == 0 else ("CorruptImage", f"{n} bytes")),
            permanent=n % 10 != 0,
            attempts=1,
            sent_at=now - timedelta(minutes=number - n - 0.5),
            body="{}",
        )
        for n in range(number)
    ]


def test_ten_thousand_failures_are_a_short_page(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list has groups with their counts and 50 rows, and says what was not read."""
    found = many_failures(10_000)
    monkeypatch.setattr(
        dead_letters, "read_all", lambda _: dead_letters.Reading(found, 10_000, 12_000, "limit")
    )
    text = pages.get("/dead-letters/list").text
    assert len(text) < 80_000
    assert text.count("data-message=") == 50
    assert re.findall(r'"Failures">([\d,]+)<', text) == ["9,000", "1,000"]
    assert "1 to 50 of 10,000 failed uploads." in text
    assert "Only 10,000 of about 12,000 messages were read." in text
    last = pages.get("/dead-letters/list?page=999").text
    assert "Page 200 of 200" in last
    assert "IMG_0.jpg" in last


def test_failed_uploads_are_filtered_by_name_error_age_and_group(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filters are in the URL, and a group's link shows its uploads only; a wrong one is refused."""
    found = many_failures(120)
    monkeypatch.setattr(dead_letters, "read_all", lambda _: dead_letters.Reading(found, 120, 120))

    def rows(query: str) -> int:
        text = pages.get(f"/dead-letters/list?{query}").text
        return int(re.findall(r"(\d+) failed uploads?(?: of 120)?\.", text)[0])

    assert rows("name=img_11") == 11
    assert rows("error=StorageDenied") == 12
    assert rows("age=1h") == 60
    assert rows("age=older-1d&name=trip") == 0
    groups = re.findall(r'href="/dead-letters\?group=(\w+)"', pages.get("/dead-letters/list").text)
    assert [rows(f"group={each}") for each in groups] == [108, 12]
    assert pages.get("/dead-letters/list?page=2&error=CorruptImage").text.count("Newer") == 1
    for wrong in ("page=0", "page=x", "age=1y", "before=soon"):
        assert pages.get(f"/dead-letters/list?{wrong}").status_code == 400


def test_a_group_is_exported_and_then_discarded(pages: Pages, stack: Stack) -> None:
    """The export has the messages of the group, which are then deleted, and no later ones."""
    send_dead_letter(stack, "uploads/a.jpg", "e")
    send_dead_letter(stack, "uploads/b.jpg", "e", errors.StorageDenied("denied"))
    text = pages.get("/dead-letters/list").text
    matching = html.unescape(re.findall(r'data-matching="([^"]*)"', text)[0])
    chosen = {"matching": f"{matching}&error=CorruptImage"}
    (line,) = pages.post("/dead-letters/export", json=chosen).text.splitlines()
    assert json.loads(json.loads(line)["body"])["key"] == "uploads/a.jpg"
    time.sleep(0.01)
    send_dead_letter(stack, "uploads/later.jpg", "e")
    assert pages.post("/discards", json=chosen).json() == {"deleted": 1, "kept": 0}
    left = dead_letters.read_all(stack).failures
    assert {each.key for each in left} == {"uploads/b.jpg", "uploads/later.jpg"}
    ids = [each.message_id for each in left]
    assert pages.post("/discards", json={"messages": [*ids, "x"]}).json() == {
        "deleted": 2,
        "kept": 1,
    }
    for wrong in ({"matching": 1}, {"matching": "age=1y"}, {"messages": None}, {}):
        assert pages.post("/discards", json=wrong).status_code == 400


def test_bytes_in_an_error_are_shown_as_text(pages: Pages, stack: Stack) -> None:
    """Messages of an earlier version have bytes as Python writes them; nobody is shown those."""
    send_dead_letter(stack, "uploads/a.jpg", "e", errors.CorruptImage(r"begins b'hel\x00lo\n'"))
    assert "CorruptImage: begins “hel·lo”" in pages.get("/dead-letters/list").text


# --- what requests do ---------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["photo.jpg", "ä/b c+d&e?#%.jpg", "<b>.png", "no-ending"])
def test_a_file_is_uploaded_directly_to_s3(pages: Pages, stack: Stack, name: str) -> None:
    """The presigned URL stores the file under its key and with its content type."""
    target = pages.post("/uploads", json={"name": name}).json()
    assert target["key"] == f"uploads/{name}"
    headers = {"Content-Type": target["content_type"]}
    requests.put(target["url"], b"bytes", headers=headers, timeout=5).raise_for_status()
    found = stack.aws.s3.get_object(Bucket=INPUT, Key=f"uploads/{name}")
    assert found["Body"].read() == b"bytes"
    assert found["ContentType"] == target["content_type"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "names",
        {"name": ["a"]},
        {"name": None},
        {"name": 1},
        {"name": ""},
        {"name": "folder/"},
        {"name": "x" * 1020},
        {"name": "\ud800"},
    ],
)
def test_an_invalid_upload_is_refused(pages: Pages, body: object) -> None:
    """Any other body than a name that S3 accepts gets a 400 with a message, never a crash."""
    answer = pages.post("/uploads", data=json.dumps(body), headers={"Accept": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["message"]
    assert pages.post("/uploads", data=b"\xff{").status_code == 400


@pytest.mark.parametrize("keys", ["a", [1], ["\ud800"], ["a"] * 101, None])
def test_an_invalid_list_of_keys_is_refused(pages: Pages, keys: object) -> None:
    """Anything but a list of up to 100 strings gets a 400."""
    assert pages.post("/outcomes", data=json.dumps({"keys": keys})).status_code == 400


def test_outcomes_have_the_state_of_each_upload(pages: Pages, stack: Stack) -> None:
    """One response has uploads that are done, failed, unknown and gone, in the requested order."""
    upload_with_thumbnails(stack, "uploads/good.jpg", jpeg())
    send_dead_letter(stack, "uploads/bad.jpg", put(stack, "uploads/bad.jpg", b"bad"))
    put(stack, "uploads/new.jpg", b"new")
    keys = [f"uploads/{name}.jpg" for name in ("good", "bad", "new", "gone")]
    outcomes = pages.post("/outcomes", json={"keys": keys}).json()["outcomes"]
    assert [each["key"] for each in outcomes] == keys
    assert [each["state"] for each in outcomes] == ["done", "failed", "unknown", "gone"]
    assert "_512w.webp" in outcomes[0]["html"]
    assert "CorruptImage: damaged" in outcomes[1]["html"]
    assert [each["permanent"] for each in outcomes] == [False, True, False, False]
    assert outcomes[1]["reason"] == f"{app.explanation('CorruptImage')} CorruptImage: damaged"
    assert [each["reason"] for each in outcomes if each is not outcomes[1]] == [""] * 3


def test_links_are_renewed(pages: Pages, stack: Stack) -> None:
    """Each object gets a URL that works, in the order of the request; other names are refused."""
    put(stack, "uploads/a&b.jpg", b"original")
    stack.aws.s3.put_object(Bucket=OUTPUT, Key="a&b_512w.webp", Body=b"thumbnail")
    objects = ["output/a&b_512w.webp", "input/uploads/a&b.jpg"]
    links = pages.post("/links", json={"objects": objects}).json()["links"]
    assert [requests.get(each, timeout=5).content for each in links] == [b"thumbnail", b"original"]
    for wrong in ("other/x", "input", "output/"):
        assert pages.post("/links", json={"objects": [wrong]}).status_code == 400


def test_only_originals_that_are_as_shown_are_deleted(pages: Pages, stack: Stack) -> None:
    """A newer upload stays, and so does what is no image; what is gone already is no failure."""
    names = ("a.jpg", "newer.jpg", "gone.jpg", "folder/")
    keys = [*(f"uploads/{name}" for name in names), "elsewhere/a.jpg"]
    etags = [put(stack, key) for key in keys]
    put(stack, "uploads/newer.jpg", b"newer")
    stack.aws.s3.delete_object(Bucket=INPUT, Key="uploads/gone.jpg")
    answer = pages.post("/deletions", json={"keys": keys, "etags": etags}).json()["failures"]
    assert [answer[0], answer[2]] == [None, None]
    assert "A newer upload has replaced it" in answer[1]
    assert "is not an image" in answer[3]
    assert "is not an image" in answer[4]
    listed = stack.aws.s3.list_objects_v2(Bucket=INPUT)["Contents"]
    assert [each["Key"] for each in listed] == [keys[4], keys[3], keys[1]]
    assert pages.post("/deletions", json={"keys": keys, "etags": []}).status_code == 400


@pytest.mark.parametrize(
    ("path", "permission"),
    [("/deletions", "s3:DeleteObject"), ("/remakes", "lambda:InvokeFunction")],
)
def test_a_missing_permission_is_named(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch, path: str, permission: str
) -> None:
    """Where AWS denies an action, the reason beside each image names what is missing."""

    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "Operation")

    monkeypatch.setattr(stack.aws.s3, "delete_object", refuse)
    monkeypatch.setattr(stack.aws.invocations, "invoke", refuse)
    body = {"keys": ["uploads/a.jpg"], "etags": ["x"]}
    (reason,) = pages.post(path, json=body).json()["failures"]
    assert permission in reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"processed": [{"key": "a"}], "skipped": [], "failed": [], "not_done": []}, None),
        ({"processed": [], "skipped": [{"reason": "it is gone"}]}, "skipped: it is gone"),
        (
            {"failed": [{"error": {"type": "CorruptImage", "message": "it ends"}}]},
            "CorruptImage: it ends",
        ),
        (
            {"processed": [], "skipped": [], "failed": [], "not_done": [{"key": "a"}]},
            "LambdaTimeout",
        ),
        ({"errorType": "OutputDenied", "errorMessage": "no"}, "OutputDenied: no"),
        ({"odd": 1}, "unknown answer"),
    ],
)
def test_thumbnails_are_made_again_by_the_function(
    stack: Stack, answer: dict[str, Any], reason: str | None
) -> None:
    """The function is asked for the image even if it is up to date; a failure has its reason."""
    requested: list[Any] = []

    class Invoked:
        """A Lambda client whose function gives that answer."""

        def invoke(self, **request: Any) -> dict[str, Any]:
            requested.append(json.loads(request["Payload"]))
            error = {"FunctionError": "Unhandled"} if "errorType" in answer else {}
            return {"Payload": BytesIO(json.dumps(answer).encode()), **error}

    stack.aws.__dict__["invocations"] = Invoked()
    with nullcontext() if reason is None else pytest.raises(CommandError, match=reason):
        images.remake(stack, "uploads/a.jpg")
    assert requested == [
        {
            "uploads": [{"bucket": INPUT, "key": "uploads/a.jpg"}],
            "remake": True,
            "report_once": True,
        }
    ]


@pytest.mark.parametrize(
    ("parameters", "original", "with_original", "thumbnails"),
    [
        ({}, "Nobody can restore the originals", True, "Their thumbnails are deleted too"),
        ({"BucketVersioning": "true"}, "you can restore them", False, "image-pipeline prune"),
        ({"ExistingInputBucket": "true"}, "If the bucket", False, "image-pipeline prune"),
    ],
)
def test_the_question_before_a_deletion_says_what_happens(
    stack: Stack,
    parameters: dict[str, str],
    original: str,
    with_original: bool,  # noqa: FBT001 - a parameter of the test
    thumbnails: str,
) -> None:
    """It says whether originals can be restored, and what happens to their thumbnails."""
    settings = stack.settings._replace(delete_with_original=with_original)
    with serving(replace(stack, parameters=parameters, settings=settings)) as url:
        text = Pages(url).get("/").text
    dialog = " ".join(text[text.index('id="delete-dialog"') :].split())
    assert original in dialog
    assert thumbnails in dialog


def test_the_view_of_an_image_has_its_largest_thumbnail_and_bytes(
    shaped: Pages, stack: Stack
) -> None:
    """It shows the widest picture that is whole, and the bytes of each format of each size."""
    text = shaped.get("/view", params={"key": "uploads/p.jpg"}).text
    assert re.search(
        r'<img src="[^"]*/p_512w\.webp\?[^"]*" data-object="output/p_512w\.webp"', text
    )
    formats = re.findall(r">(AVIF|JPEG|WebP)</a> · [\d,]+ bytes · -?\d+% (?:smaller|larger)", text)
    assert formats == 4 * ["AVIF", "JPEG", "WebP"]
    assert 'href="/image?key=uploads/p.jpg"' in text
    put(stack, "uploads/new.jpg")
    text = shaped.get("/view", params={"key": "uploads/new.jpg"}).text
    assert "No thumbnails yet" in text
    assert 'data-object="input/uploads/new.jpg"' in text
    assert shaped.get("/view", params={"key": "uploads/gone.jpg"}).status_code == 404


def test_an_unknown_replay_is_an_error(pages: Pages) -> None:
    """A page that was loaded from an earlier console gets a 404."""
    assert pages.get("/replays/7", headers={"Accept": ""}).status_code == 404


def test_a_replay_that_fails_says_why(stack: Stack) -> None:
    """The error that ends a replay, here of a stack without state machine, is in its state."""
    dead_letters = DeadLetters(stack)
    replays = Replays(stack, dead_letters)
    assert dead_letters.read() == []
    send_dead_letter(stack, "uploads/a.jpg", "e")
    replay = replays.start(None)
    while not replay.ended:
        time.sleep(0.01)
    assert "ReplayStateMachineArn" in str(replay.error)
    assert len(dead_letters.read()) == 1, "the queue is read again"


@dataclass
class Function:
    """A Lambda client whose function returns `answers` in turn, or raises those that are errors."""

    answers: list[Any]
    bodies: list[str] = field(default_factory=list)

    def invoke(self, **request: Any) -> dict[str, Any]:
        """Record the message's body, and return the next answer."""
        self.bodies.append(json.loads(request["Payload"])["letter"])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        error = {"FunctionError": "Unhandled"} if "errorType" in answer else {}
        return {"Payload": BytesIO(json.dumps(answer).encode()), **error}


@pytest.mark.parametrize(
    ("answer", "outcome", "stays"),
    [
        ({"processed": 1, "skipped": 0, "failed": 0}, "done", False),
        ({"processed": 0, "skipped": 0, "failed": 1}, "failed_again", False),
        ({"left": "unreadable"}, "unreadable", True),
        ({"errorType": "StorageUnavailable", "errorMessage": "S3 is down"}, "left", True),
        (
            ClientError({"Error": {"Code": "TooManyRequests", "Message": ""}}, "Invoke"),
            "left",
            True,
        ),
        (ReadTimeoutError(endpoint_url="http://x"), "left", True),
    ],
)
def test_a_replay_deletes_a_message_only_once_it_is_settled(
    stack: Stack, answer: Any, outcome: str, stays: bool  # noqa: FBT001 - a parameter of the test
) -> None:
    """A message is deleted if its upload is done or has a new message; else it stays queued."""
    send_dead_letter(stack, "uploads/a.jpg", "e")
    send_dead_letter(stack, "uploads/b.jpg", "e")
    stack.aws.__dict__["invocations"] = function = Function([answer])
    one, other = dead_letters.failures(stack, 10)
    replayed = list(replay.replay_each(stack, [one.message_id], Lock()))
    assert [(each.message_id, each.outcome) for each in replayed] == [(one.message_id, outcome)]
    assert function.bodies == [one.body]
    queued = {each.message_id for each in dead_letters.failures(stack, 10)}
    assert queued == {other.message_id} | ({one.message_id} if stays else set())


def test_a_replay_reports_messages_that_are_gone(stack: Stack) -> None:
    """A message that is not on the queue is reported as gone, and the others are replayed."""
    send_dead_letter(stack, "uploads/a.jpg", "e")
    (one,) = dead_letters.failures(stack, 10)
    stack.aws.__dict__["invocations"] = Function([{"processed": 1, "failed": 0}])
    replayed = replay.replay_each(stack, ["no-such-message", one.message_id], Lock())
    assert {each.message_id: each.outcome for each in replayed} == {
        one.message_id: "done",
        "no-such-message": "gone",
    }


def test_a_replay_holds_the_lock_only_while_it_receives_messages(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No page can hide the messages that a replay receives, and pages can read during the rest."""
    dead_letters = DeadLetters(stack)
    send_dead_letter(stack, "uploads/a.jpg", "e")
    (one,) = dead_letters.read()
    held_while_receiving: list[bool] = []
    held_while_invoking: list[bool] = []
    receive = stack.aws.sqs.receive_message

    def watched_receive(**request: Any) -> Any:
        held_while_receiving.append(dead_letters.lock.locked())
        return receive(**request)

    class WatchedFunction(Function):
        """A function that notes whether the lock is held."""

        def invoke(self, **request: Any) -> dict[str, Any]:
            held_while_invoking.append(dead_letters.lock.locked())
            return super().invoke(**request)

    monkeypatch.setattr(stack.aws.sqs, "receive_message", watched_receive)
    stack.aws.__dict__["invocations"] = WatchedFunction([{"processed": 1, "failed": 0}])
    replayed = list(replay.replay_each(stack, [one.message_id], dead_letters.lock))
    assert [each.outcome for each in replayed] == ["done"]
    assert set(held_while_receiving) == {True}
    assert held_while_invoking == [False]


# --- markup for web pages -----------------------------------------------------------------------
HOSTILE_KEYS = [
    "/evil.example/x.webp",
    "//evil.example/x.webp",
    "///evil.example/x.webp",
    "/\\evil.example/x.webp",
    "\\\\evil.example/x.webp",
    "https://evil.example/x.webp",
    "javascript:alert(1)",
    "../../x.webp",
    "a//b.webp",
    '"><script>alert(1)</script>.webp',
    "' onerror='alert(1).webp",
    "&quot; onerror=alert(1).webp",
    "a, //evil.example/b 9w, c.webp",
    " leading and trailing ",
    "line\nbreak\tand tab.webp",
    "query?x=1#fragment.webp",
    "100%2F.webp",
    "日本語 ä é 🎈.webp",
]


class Tags(HTMLParser):
    """The start tags of HTML with their attributes, and the text of the element `pre#markup-1`."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.markup = ""
        self._inside = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record a tag."""
        self.found.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("id") == "markup-1"

    def handle_endtag(self, tag: str) -> None:
        """Leave the element."""
        self._inside &= tag != "pre"

    def handle_data(self, data: str) -> None:
        """Record the element's text."""
        if self._inside:
            self.markup += data


def keys_of(markup: str) -> tuple[str, list[tuple[str, int]]]:
    """Read an `<img>` as a browser does: the key of `src`, and keys and widths of `srcset`.

    Fails if there is any other tag or attribute, or a URL that leaves the page's host.
    """
    ((tag, attributes),) = Tags(markup).found
    assert tag == "img"
    names = {"src", "srcset", "sizes", "width", "height", "alt", "loading", "decoding"}
    assert set(attributes) == names

    def key(url: str) -> str:
        page = "https://page.example/blog/post.html"
        assert urljoin(page, url).startswith("https://page.example/")
        assert urlsplit(url) == ("", "", url, "", "")
        return unquote(url)

    candidates = [each.split(" ") for each in str(attributes["srcset"]).split(", ")]
    return key(str(attributes["src"])), [
        (key(url), int(width.removesuffix("w"))) for url, width in candidates
    ]


def thumbnail(key: str, width: int) -> Candidate:
    """A square thumbnail."""
    return Candidate("webp", url_path(key), width, width)


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_an_img_tag_never_leaves_the_page_s_host(key: str) -> None:
    """Whatever the keys are, `src` and `srcset` name the thumbnails, and nothing else is markup."""
    markup = picture([thumbnail(key, 128), thumbnail(f"{key}_512w", 512)])
    assert keys_of(markup) == (f"{key}_512w", [(key, 128), (f"{key}_512w", 512)])


@given(
    st.lists(st.tuples(st.integers(1, 99), st.text(min_size=1, max_size=9)), min_size=1, max_size=6)
)
def test_an_img_tag_has_each_real_width_once(made: list[tuple[int, str]]) -> None:
    """Of thumbnails with the same real width the first is named, for any keys; `src` is largest."""
    first_of_width: dict[int, str] = {}
    for width, key in made:
        first_of_width.setdefault(width, key)
    src, srcset = keys_of(picture([thumbnail(key, width) for width, key in made]))
    assert srcset == [(key, width) for width, key in sorted(first_of_width.items())]
    assert src == srcset[-1][0]


def test_without_thumbnails_there_is_no_img_tag() -> None:
    """No thumbnails, or none of a known size: no markup."""
    assert picture([]) == ""
    unread = details.Thumbnail(Size.of_width(128), None, [details.File("webp", "a", 1, 0, "")])
    assert details.markup([unread], url_path) == []


def test_the_html_of_an_animation_has_the_format_that_is_animated() -> None:
    """A browser takes the first source that it shows, and AVIF has the first frame only."""
    files = [details.File(name, f"a.{name}", 1, 0, "") for name in ("webp", "avif", "jpeg")]
    made = details.Thumbnail(Size.of_width(128), (9, 9), files, animated=True)
    [found] = details.markup([made], url_path)
    assert found.html.startswith('<img src="a.webp"')
    assert "avif" not in found.html


# moto cannot store a key with a line break.
@pytest.mark.parametrize("key", [key for key in HOSTILE_KEYS if "\n" not in key])
def test_no_page_of_a_hostile_key_leads_to_another_host(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Every link and image of the gallery and an image's page is the console's or in S3."""
    monkeypatch.setattr(details, "read_log", lambda *_: details.Log([]))
    upload_with_thumbnails(stack, f"uploads/{key}.jpg", jpeg())
    gallery_tags, image_tags = (
        Tags(pages.get(path).text)
        for path in ("/", f"/image?{urlencode({'key': f'uploads/{key}.jpg'})}")
    )
    hosts = {urlsplit(pages.url).netloc, urlsplit(str(stack.aws.endpoint_url)).netloc}
    for tag, attributes in gallery_tags.found + image_tags.found:
        assert not [name for name in attributes if name.startswith("on")]
        assert tag != "script"
        for name in ("href", "src", "action"):
            if url := attributes.get(name):
                assert urlsplit(urljoin(pages.url, url)).netloc in hosts
    src, _ = keys_of(image_tags.markup)
    assert src == stack.settings.thumbnail_key(f"uploads/{key}.jpg", Size.of_width(512), "webp")


HOSTILE_SIZES = [
    '"><script>alert(1)</script>',
    "' onerror='alert(1)",
    '" onload="alert(1)" x="',
    "&quot; onerror=alert(1)",
    "</pre><img src=//evil.example/x>",
    "100vw\r\n\tand more",
    "a" * 5000,
    "日本語 \u202e 🎈",
]


@pytest.mark.parametrize("sizes", HOSTILE_SIZES)
def test_any_sizes_stay_one_attribute(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch, sizes: str
) -> None:
    """In the HTML to copy and in the form, the text is a value and no markup."""
    monkeypatch.setattr(details, "read_log", lambda *_: details.Log([]))
    upload_with_thumbnails(stack, "uploads/p.jpg", jpeg())
    plain, tags = (
        Tags(pages.get("/image", params={"key": "uploads/p.jpg", "sizes": value}).text)
        for value in ("", sizes)
    )
    assert [tag for tag, _ in tags.found] == [tag for tag, _ in plain.found]
    assert keys_of(tags.markup) == keys_of(plain.markup)  # which has no other attribute
    ((_, attributes),) = Tags(tags.markup).found
    assert attributes["sizes"] == sizes
    (entry,) = (each for tag, each in tags.found if tag == "input" and each["name"] == "sizes")
    assert entry["value"] == sizes
    assert not [name for name in entry if name.startswith("on")]


def test_the_sizes_of_the_html_can_be_chosen(shaped: Pages) -> None:
    """The field's text is in each group's HTML; without it, each has its own default."""
    key = {"key": "uploads/p.jpg"}
    for empty in ("", "  "):
        text = html.unescape(shaped.get("/image", params=key | {"sizes": empty}).text)
        assert 'placeholder="(max-width: 512px) 100vw, 512px"' in text
        for width in (512, 256, 300):
            assert f'sizes="(max-width: {width}px) 100vw, {width}px"' in text
    text = html.unescape(shaped.get("/image", params=key | {"sizes": " 50vw "}).text)
    assert text.count('sizes="50vw"') == 3 * 3  # three groups, of two sources and an image each


def test_with_a_cdn_each_thumbnail_has_a_url_to_copy(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is that of the HTML, with the version; without a CDN there is none."""
    monkeypatch.setattr(details, "read_log", lambda *_: details.Log([]))
    base = "https://img.example.com"
    served = stack.settings._replace(thumbnails_url=base, formats=("webp", "avif"))
    served_stack = replace(stack, settings=served)
    upload_with_thumbnails(served_stack, "uploads/<p>.jpg", jpeg())
    etag = stack.aws.s3.head_object(Bucket=INPUT, Key="uploads/<p>.jpg")["ETag"].strip('"')
    path = f"/image?{urlencode({'key': 'uploads/<p>.jpg'})}"
    with serving(served_stack) as url:
        text = Pages(url).get(path).text
    shown = re.findall(r'<code id="(url-[^"]*)">(.*?)</code>', text)
    version = served.picture_version(etag, "")
    assert dict(shown) == {
        f"url-{size}-{name}": f"{base}/%3Cp%3E_{size}.{name}?v={version}"
        for size in ("128w", "512w")
        for name in ("webp", "avif")
    }
    assert [identifier for identifier, _ in shown] == re.findall(r'data-copy="(url-[^"]*)"', text)
    assert f"{base}/%3Cp%3E_128w.avif?v={version} 128w" in text
    with serving(stack) as url:
        assert "Copy URL" not in Pages(url).get(path).text


def _turned() -> bytes:
    from PIL import Image  # noqa: PLC0415

    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


# --- limits and formats -------------------------------------------------------------------------
@pytest.mark.parametrize("key", ["uploads/" + "x" * 1000, 'uploads/"' * 100, "\x01" * 1000])
def test_a_filter_pattern_has_at_most_1024_characters(key: str) -> None:
    """The pattern for any key is one that CloudWatch accepts; short keys are matched exactly."""
    assert len(details._filter_pattern(key)) <= 1024  # noqa: SLF001
    assert details._filter_pattern("a*") == '{ $.key = "a*" }'  # noqa: SLF001


def test_a_thumbnail_s_size_is_read_from_its_first_bytes() -> None:
    """The first HEAD_BYTES have the size of a thumbnail, marked or not."""
    (made,) = thumbnails_of(jpeg((300, 200)), [128]).thumbnails
    encoder = ENCODERS[made.spec.format]
    for data in (made.data, encoder.mark(made.data, b"12345678")):
        assert encoder.size_of(data[:HEAD_BYTES]) == (128, 85)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_234_567, "1.23 MB"), (-5e6, "-5 MB")],
)
def test_file_sizes_have_three_digits_and_a_unit(size: float, text: str) -> None:
    """Units are powers of 1,000."""
    assert app.filesize(size) == text


def test_times_have_the_largest_unit_that_fits() -> None:
    """Minutes, hours or days; a time in the future is "just now"."""
    for seconds, text in ((5, "just now"), (61, "1 minute ago"), (7300, "2 hours ago")):
        assert app.ago(datetime.now(UTC) - timedelta(seconds=seconds)) == text
    assert app.ago(datetime.now(UTC) - timedelta(days=3)) == "3 days ago"
    assert app.ago(datetime.now(UTC) + timedelta(days=3)) == "just now"
