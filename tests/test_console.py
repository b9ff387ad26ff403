"""The console without a browser: who may ask it, what it shows, and what it takes."""

import json
import re
import time
from collections.abc import Iterator
from copy import replace
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from threading import Lock
from typing import Any

import pytest
import requests
from aws_names import INPUT, OUTPUT
from botocore.exceptions import ClientError, ReadTimeoutError
from console_server import SECRET, Pages, serving
from hypothesis import given
from hypothesis import strategies as st
from moto_stack import moto_stack
from moto_stack import send_dead_letter as letter_of
from moto_stack import upload_with_thumbnails as made
from pictures import jpeg
from starlette.routing import Route

from image_pipeline.console import app, gallery
from image_pipeline.console.dead_letters import Letters
from image_pipeline.console.gallery import Thumbnail, srcset
from image_pipeline.console.guard import TOKEN_HEADER
from image_pipeline.console.metrics import LATE, Figures
from image_pipeline.console.replays import Replays
from image_pipeline.errors import CommandError, NotPermitted
from image_pipeline.stack import replay
from image_pipeline.stack.deployed import Stack, explained
from thumbnailer import errors
from thumbnailer.imaging.encoders import webp
from thumbnailer.imaging.thumbnails import make_thumbnails

MARKUP = "uploads/<img src=x onerror=alert(1)>.jpg"


@pytest.fixture
def stack(s3: Any, aws: str) -> Stack:
    """Buckets and a queue, and nothing that runs."""
    del s3  # the buckets are there
    return moto_stack(aws)


@pytest.fixture
def pages(stack: Stack) -> Iterator[Pages]:
    """The console of that stack, asked as its own pages ask it."""
    with serving(stack) as url:
        yield Pages(url)


def put(stack: Stack, key: str, body: bytes = b"x") -> str:
    """Upload an object; its etag."""
    answer = stack.aws.s3.put_object(Bucket=INPUT, Key=key, Body=body)
    return answer["ETag"].strip('"')


# --- who may ask --------------------------------------------------------------------------------
CHANGING = ["/uploads", "/outcomes", "/replays"]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1:1", ""])
def test_other_host_names_are_refused(pages: Pages, host: str) -> None:
    """A name of somebody else's that leads to 127.0.0.1 (DNS rebinding) reads nothing."""
    answer = pages.get("/", headers={"Host": host})
    assert answer.status_code == 421
    assert INPUT not in answer.text


@pytest.mark.parametrize("path", CHANGING)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {TOKEN_HEADER: "guessed"},
        {TOKEN_HEADER: ""},
        {TOKEN_HEADER: "é".encode().decode("latin-1")},
    ],
)
def test_other_pages_change_nothing(pages: Pages, path: str, headers: dict[str, str]) -> None:
    """Without the console's own origin and the token of its pages every change is refused."""
    assert pages.post(path, json={}, headers=headers).status_code == 403


def test_every_method_that_is_not_for_reading_is_guarded(stack: Stack) -> None:
    """The routes that change something are those tested above, and all of them."""
    routes = [each for each in app.Console(stack, "token").routes if isinstance(each, Route)]
    changing = [each.path for each in routes if (each.methods or set()) - {"GET", "HEAD"}]
    assert changing == CHANGING


@pytest.mark.parametrize("path", ["/", "/image?key=a", "/letters/list", "/static/console.js"])
@pytest.mark.parametrize("given", ["", "?secret=", "?secret=guessed"])
def test_without_the_secret_nothing_is_shown(pages: Pages, path: str, given: str) -> None:
    """Another user of this machine can reach the port, and gets no page, no token and no link."""
    answer = requests.get(
        pages.url + path + given.replace("?", "&" if "?" in path else "?"), timeout=5
    )
    assert answer.status_code == 401
    assert "csrf" not in answer.text
    assert not answer.cookies


def test_the_secret_becomes_a_cookie_for_this_site_alone(pages: Pages) -> None:
    """It leaves the address at once; no script reads the cookie, no other site's page sends it."""
    answer = requests.get(f"{pages.url}/?secret={SECRET}", timeout=5, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


@pytest.mark.parametrize("path", ["/", "/image?key=none", "/static/console.js", "/nothing"])
def test_every_answer_forbids_scripts_and_frames_of_others(pages: Pages, path: str) -> None:
    """The policy allows the console's own files and S3 for pictures and uploads; no inline code."""
    headers = pages.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_no_page_names_another_host(pages: Pages) -> None:
    """Pages, style and script need nothing from outside this machine."""
    for path in ("/", "/letters", "/figures", "/static/console.js", "/static/console.css"):
        hosts = re.findall(r"https?://([^/\s\"'&]+)", pages.get(path).text)
        assert {host.partition(":")[0] for host in hosts} <= {"127.0.0.1"}, path


# --- what is shown ------------------------------------------------------------------------------
def test_names_are_shown_as_text(pages: Pages, stack: Stack) -> None:
    """A key that is markup is escaped in the gallery, the detail view, outcomes and letters."""
    etag = put(stack, MARKUP)
    letter_of(stack, MARKUP, etag)
    parts = [
        pages.get("/").text,
        pages.get("/", params={"prefix": "<img src=x"}).text,
        pages.get("/", params={"prefix": "<img none"}).text,
        pages.get("/image", params={"key": MARKUP}).text,
        pages.get("/image", params={"key": MARKUP + "none"}).text,
        pages.get("/letters/list").text,
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
    """Following "More images" meets all of them, however many: by time, or by name if too many."""
    monkeypatch.setattr(gallery, "PAGE", 3)
    monkeypatch.setattr(gallery, "SORTED", 10)
    keys = [f"uploads/{n:02d} & more.jpg" for n in range(number)]
    for key in keys:
        put(stack, key)
    put(stack, "uploads/folder/")  # a marker is no image
    seen: list[str] = []
    page = "/"
    while True:
        text = pages.get(page).text
        seen += re.findall(r'class="name">(.*?)</span>', text)
        further = re.search(r'rel="next" href="(.*?)"', text)
        if not further:
            break
        page = further[1].replace("&amp;", "&")
    assert sorted(seen) == [
        key.removeprefix("uploads/").replace("&", "&amp;") for key in keys
    ], "each once"
    assert ("by name" in pages.get("/").text.lower()) == (number > 10)


def test_the_newest_comes_first(pages: Pages, stack: Stack) -> None:
    """What was uploaded last is what people look for."""
    put(stack, "uploads/older.jpg")
    time.sleep(1)  # S3 tells whole seconds
    put(stack, "uploads/a-newer.jpg")
    put(stack, "elsewhere/other.jpg")
    assert re.findall(r'class="name">(.*?)<', pages.get("/").text) == ["a-newer.jpg", "older.jpg"]


def test_search_is_by_prefix_and_survives_paging(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only names that begin so are shown, on all pages; nothing found is said."""
    monkeypatch.setattr(gallery, "PAGE", 2)
    for name in ("a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg"):
        put(stack, f"uploads/{name}")
    first = pages.get("/", params={"prefix": "a/"}).text
    assert "b/1.jpg" not in first
    further = re.search(r'rel="next" href="(.*?)"', first)
    assert further
    second = pages.get(further[1].replace("&amp;", "&")).text
    assert "a/" in second
    assert "b/1.jpg" not in second
    assert "No name begins with" in pages.get("/", params={"prefix": "zzz"}).text


@pytest.mark.parametrize("skip", ["-1", "x", "9" * 30, "²"])
def test_a_wrong_page_number_is_told(pages: Pages, skip: str) -> None:
    """An address that was typed wrong is answered with what to do, not with a crash."""
    answer = pages.get("/", params={"skip": skip})
    assert answer.status_code == 400
    assert "begin at Images" in answer.text


def test_the_detail_view_tells_all_about_an_image(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Source facts, every size with what it saves, and a srcset; a photo on its side is upright."""
    monkeypatch.setattr(gallery, "log", lambda *_: [])
    picture = jpeg((900, 600), exif=_lying())
    made(stack, "uploads/trip/p+1.jpg", picture)
    text = pages.get("/image", params={"key": "uploads/trip/p+1.jpg"}).text
    assert "600 × 900" in text
    assert f"{len(picture):,}" in text
    assert "trip/p+1_512w.webp" in text
    assert "/trip/p%2B1_128w.webp 128w, /trip/p%2B1_512w.webp 512w" in text
    assert re.search(r"128w · 128 × 192 · [\d,]+ bytes", text)


def test_the_detail_view_shows_the_manifest(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where manifests are written it is there to read, and missed by nobody where it is not yet."""
    monkeypatch.setattr(gallery, "log", lambda *_: [])
    writing = replace(stack, settings=replace(stack.settings, write_manifest=True))
    put(stack, "uploads/a/p.jpg", jpeg())
    with serving(writing) as url:
        pages = Pages(url)
        path = "/image?key=uploads/a/p.jpg"
        assert "Manifest" not in pages.get(path).text
        told = json.dumps({"dominant_colour": "#4a6b8c", "note": "<b>"})
        stack.aws.s3.put_object(Bucket=OUTPUT, Key="a/p.json", Body=told.encode())
        text = pages.get(path).text
        stack.aws.s3.put_object(Bucket=OUTPUT, Key="a/p.json", Body=b"somebody else's")
        assert "somebody else&#39;s" in pages.get(path).text
    assert "#4a6b8c" in text
    assert "<b>" not in text


def test_an_image_that_is_gone_is_told(pages: Pages) -> None:
    """A link to what was deleted says so."""
    answer = pages.get("/image", params={"key": "uploads/gone.jpg"})
    assert answer.status_code == 404
    assert "There is no uploads/gone.jpg" in answer.text


BOMB = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\x3f\0\xfe\x3f\0"
"""The head of a WebP of 16,383 × 16,383 pixels."""


@pytest.mark.parametrize(
    "body", [b"", b"text", jpeg()[:300], b"\xff\xd8\xff", b"RIFF1234WEBPVP8X", BOMB]
)
def test_any_bytes_have_a_detail_view(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """Empty, damaged and foreign files are shown like others, with their size unknown."""
    monkeypatch.setattr(gallery, "log", lambda *_: [])
    put(stack, "uploads/odd.jpg", body)
    answer = pages.get("/image", params={"key": "uploads/odd.jpg"})
    assert answer.status_code == 200
    assert "None yet" in answer.text


def test_what_is_empty_says_so(pages: Pages) -> None:
    """No images, no letters: each page says what to do, or that all is well."""
    assert "No images yet" in pages.get("/").text
    assert "No dead letters" in pages.get("/letters/list").text


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [(CommandError("it is down"), 502, "did not work"), (NotPermitted("no"), 403, "Not permitted")],
)
def test_failures_and_missing_permissions_are_pages(
    pages: Pages, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, words: str
) -> None:
    """A person gets a page that says what and what next, the script JSON with the same words."""

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(gallery.Gallery, "page", refuse)
    page = pages.get("/")
    assert page.status_code == status
    assert words in page.text
    assert str(error) in page.text
    assert ("s3:ListBucket" in page.text) == (status == 403)
    script = pages.get("/", headers={"Accept": "application/json"})
    assert script.json()["message"] == str(error)


def test_a_missing_right_hides_only_what_it_is_for(
    pages: Pages, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without log or queue an image is shown all the same, and what is missing is said."""
    made(stack, "uploads/a.jpg", jpeg())
    put(stack, "uploads/new.jpg")

    def refuse(*_: object) -> None:
        raise NotPermitted("AWS denies logs and letters")

    monkeypatch.setattr(gallery, "log", refuse)
    monkeypatch.setattr(replay, "letters", refuse)
    text = pages.get("/image?key=uploads/a.jpg").text
    assert "a_512w.webp" in text
    assert "AWS denies" in text
    told = pages.post("/outcomes", json={"keys": ["uploads/a.jpg", "uploads/new.jpg"]}).json()
    assert [each["state"] for each in told["outcomes"]] == ["done", "unknown"]
    assert "AWS denies" in told["problem"]


def test_a_fault_of_the_console_s_own_is_told(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 500 has words, and the same headers as any page."""

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
def test_every_kind_of_denial_is_one(code: str) -> None:
    """S3, a HEAD of S3, SQS with a key of one's own: all are "not permitted"."""
    with pytest.raises(NotPermitted), explained():
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "Operation")


def test_no_page_leads_to_another_site(pages: Pages) -> None:
    """What was typed as an address is no link to elsewhere."""
    answer = pages.get("//evil.example/login")
    assert answer.status_code == 404
    assert 'href="//' not in answer.text


def test_a_bucket_that_is_gone_is_a_page(pages: Pages, stack: Stack) -> None:
    """What S3 refuses is shown in its own words."""
    stack.aws.s3.delete_bucket(Bucket=INPUT)
    answer = pages.get("/")
    assert answer.status_code == 502
    assert "NoSuchBucket" in answer.text


@pytest.mark.parametrize("name", [each for each in vars(errors) if each[0].isupper()])
def test_every_error_is_explained_in_words(name: str) -> None:
    """The dead letters say what each class of error means; an unknown one is left as it is."""
    assert app.explanation(name).endswith((".", "with"))
    assert app.explanation("States.Timeout") == ""
    assert app.explanation("__doc__") == ""


def test_letters_are_listed_with_error_attempts_and_time(pages: Pages, stack: Stack) -> None:
    """Key, error in words and as it is, attempts, when: the newest first."""
    for name in ("one", "two"):
        letter_of(stack, f"uploads/{name}.jpg", put(stack, f"uploads/{name}.jpg", name.encode()))
        time.sleep(0.01)
    text = pages.get("/letters/list").text
    assert re.findall(r"image\?key=uploads/(\w+)", text) == ["two", "one"]
    assert "cannot be decoded to the end" in text
    assert "CorruptImage: damaged" in text
    assert '"Attempts">1<' in text
    assert "just now" in text


# --- what is taken ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["photo.jpg", "ä/b c+d&e?#%.jpg", "<b>.png", "no-ending"])
def test_a_file_goes_straight_to_s3(pages: Pages, stack: Stack, name: str) -> None:
    """The URL that a page gets takes the file under its key, with its type; the pages show it."""
    target = pages.post("/uploads", json={"name": name}).json()
    assert target["key"] == f"uploads/{name}"
    headers = {"Content-Type": target["content_type"]}
    requests.put(target["url"], b"bytes", headers=headers, timeout=5).raise_for_status()
    found = stack.aws.s3.get_object(Bucket=INPUT, Key=f"uploads/{name}")
    assert found["Body"].read() == b"bytes"
    assert found["ContentType"] == target["content_type"]


@pytest.mark.parametrize(
    "asked",
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
def test_what_is_no_upload_is_refused(pages: Pages, asked: object) -> None:
    """A clear 400, never a crash."""
    answer = pages.post("/uploads", data=json.dumps(asked), headers={"Accept": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["message"]
    assert pages.post("/uploads", data=b"\xff{").status_code == 400


@pytest.mark.parametrize("keys", ["a", [1], ["\ud800"], ["a"] * 101, None])
def test_what_is_no_list_of_keys_is_refused(pages: Pages, keys: object) -> None:
    """A clear 400 here too."""
    assert pages.post("/outcomes", data=json.dumps({"keys": keys})).status_code == 400


def test_outcomes_tell_what_became_of_each(pages: Pages, stack: Stack) -> None:
    """Done with thumbnails, failed with the reason, waiting, and gone, in one answer."""
    made(stack, "uploads/good.jpg", jpeg())
    letter_of(stack, "uploads/bad.jpg", put(stack, "uploads/bad.jpg", b"bad"))
    put(stack, "uploads/new.jpg", b"new")
    keys = [f"uploads/{name}.jpg" for name in ("good", "bad", "new", "gone")]
    told = pages.post("/outcomes", json={"keys": keys}).json()["outcomes"]
    assert [each["key"] for each in told] == keys
    assert [each["state"] for each in told] == ["done", "failed", "unknown", "gone"]
    assert "_512w.webp" in told[0]["html"]
    assert "CorruptImage: damaged" in told[1]["html"]


def test_an_unknown_replay_is_told(pages: Pages) -> None:
    """A page that is left over from an earlier console learns it."""
    assert pages.get("/replays/7", headers={"Accept": ""}).status_code == 404


def test_a_replay_that_fails_says_why(stack: Stack) -> None:
    """What stops a replay, here a stack without the state machine, reaches the page."""
    letters = Letters(stack)
    replays = Replays(stack, letters)
    assert letters.read() == []
    letter_of(stack, "uploads/a.jpg", "e")
    replay = replays.start(None)
    while not replay.ended:
        time.sleep(0.01)
    assert "ReplayStateMachineArn" in str(replay.error)
    assert len(letters.read()) == 1, "they are read again"


@dataclass
class Invoked:
    """Answers of the function, one a call; an exception is raised."""

    answers: list[Any]
    bodies: list[str] = field(default_factory=list)

    def invoke(self, **asked: Any) -> dict[str, Any]:
        """The next answer."""
        self.bodies.append(json.loads(asked["Payload"])["letter"])
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
def test_a_letter_goes_only_when_it_is_settled(
    stack: Stack, answer: Any, outcome: str, stays: bool  # noqa: FBT001 - a parameter of the test
) -> None:
    """Done, or replaced by a new letter, it is deleted; whatever else happens it is there again."""
    letter_of(stack, "uploads/a.jpg", "e")
    letter_of(stack, "uploads/b.jpg", "e")
    stack.aws.__dict__["invocations"] = invoked = Invoked([answer])
    one, other = replay.letters(stack, 10, None)
    told = list(replay.replay_each(stack, [one.message_id], Lock()))
    assert [(each.message_id, each.outcome) for each in told] == [(one.message_id, outcome)]
    assert invoked.bodies == [one.body]
    left = {each.message_id for each in replay.letters(stack, 10, None)}
    assert left == {other.message_id} | ({one.message_id} if stays else set())


def test_a_letter_that_is_not_there_is_told(stack: Stack) -> None:
    """Somebody else was quicker: nothing is invoked, and the others go on."""
    letter_of(stack, "uploads/a.jpg", "e")
    (one,) = replay.letters(stack, 10, None)
    stack.aws.__dict__["invocations"] = Invoked([{"processed": 1, "failed": 0}])
    told = replay.replay_each(stack, ["no-such-message", one.message_id], Lock())
    assert {each.message_id: each.outcome for each in told} == {
        one.message_id: "done",
        "no-such-message": "gone",
    }


def test_a_look_waits_for_the_search_of_a_replay(stack: Stack) -> None:
    """While letters are searched for no other look of this console hides them."""
    letters = Letters(stack)
    letter_of(stack, "uploads/a.jpg", "e")
    (one,) = letters.read()
    letters.forget()
    looks: list[bool] = []
    stack.aws.__dict__["invocations"] = Invoked([{"processed": 1, "failed": 0}])

    class Watched:
        """The lock, asked whether it is held when messages are received."""

        def __enter__(self) -> None:
            letters.lock.acquire()
            looks.append(letters.lock.locked())

        def __exit__(self, *_: object) -> None:
            letters.lock.release()

    told = list(replay.replay_each(stack, [one.message_id], Watched()))
    assert [each.outcome for each in told] == ["done"]
    assert looks == [True]
    assert not letters.lock.locked(), "it is free while the function works"


# --- srcset and figures -------------------------------------------------------------------------
@given(
    st.lists(
        st.tuples(st.integers(1, 99), st.integers(1, 99), st.text(min_size=1, max_size=5)),
        max_size=6,
    )
)
def test_a_srcset_names_each_real_width_once(made: list[tuple[int, int, str]]) -> None:
    """The browser chooses by width, so none is there twice, and any key is a URL."""
    thumbnails = [Thumbnail(width, (width, height), key, 1, 0, "") for width, height, key in made]
    text = srcset(thumbnails)
    widths = [int(each) for each in re.findall(r" (\d+)w\b", text)]
    assert widths == sorted({width for width, _, _ in made})
    assert (text == "") == (not made)
    assert not re.search(r"[<>&]", text.strip("<>"))


def _lying() -> bytes:
    from PIL import Image  # noqa: PLC0415

    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


@dataclass
class Log:
    """What is asked of CloudWatch Logs: events from a time on, a page of at most two each."""

    events: list[dict[str, Any]] = field(default_factory=list)
    refusing: bool = False

    def add(self, when: datetime, message: str, stream: str = "s") -> None:
        """Log a line."""
        milliseconds = int(when.timestamp() * 1000)
        name = f"{stream} {len(self.events)}"
        self.events.append(
            {"eventId": name, "logStreamName": stream}
            | {"timestamp": milliseconds, "message": message}
        )

    def filter_log_events(self, **asked: Any) -> dict[str, Any]:
        """A page, and the token of the next."""
        if self.refusing:
            raise ClientError({"Error": {"Code": "InvalidParameter", "Message": "token"}}, "Filter")
        found = [each for each in self.events if each["timestamp"] >= asked["startTime"]]
        first = int(asked.get("nextToken", 0))
        more = {"nextToken": str(first + 2)} if len(found) > first + 2 else {}
        return {"events": found[first : first + 2], **more}

    class exceptions:  # noqa: N801, D106 - as boto3 has it
        class ResourceNotFoundException(Exception):  # noqa: D106
            pass


def metrics(duration: float, *, failed: int = 0, cold: int = 0) -> str:
    """A line of an invocation, as telemetry.py flushes it."""
    told = {"_aws": {"Timestamp": 1}, "duration_ms": [duration], "size_in_bytes": [1000.0]}
    return json.dumps(told | {"size_out_bytes": 100, "failed_count": failed, "cold_starts": cold})


def test_figures_count_every_line_once(stack: Stack) -> None:
    """However often they are read, and whatever comes late; other lines are passed over."""
    now = datetime.now(UTC)
    log = Log()
    stack.aws.__dict__["logs"] = log
    figures = Figures(stack)
    assert figures.read().images == 0
    for number in range(5):
        log.add(now - timedelta(seconds=number), metrics(100 + number), str(number))
    log.add(now, '{"message": "start"}')
    log.add(now, "REPORT _aws")
    for _ in range(3):
        assert figures.read().images == 5
    log.add(now - timedelta(seconds=LATE / 2), metrics(500, failed=2, cold=1))
    log.add(now - timedelta(hours=2), metrics(9000))
    found = figures.read()
    assert (found.images, found.failed, found.cold_starts) == (6, 2, 1)
    assert found.p50 == pytest.approx(102.5)
    assert found.saved == 6 * 900
    assert found.images_a_minute == pytest.approx(6 / 5)
    assert found.cost > 0


def test_a_long_log_is_read_in_parts(stack: Stack) -> None:
    """The page comes at once, says that it is not all yet, and is whole in the end."""
    log = Log()
    stack.aws.__dict__["logs"] = log
    for number in range(30):
        log.add(datetime.now(UTC), metrics(100), str(number))
    figures = Figures(stack)
    first = figures.read()
    assert first.behind
    assert first.images == 10
    while (found := figures.read()).behind:
        pass
    assert found.images == 30


def test_a_refused_look_at_the_log_is_begun_anew(stack: Stack) -> None:
    """A token that has expired is not used for ever."""
    log = Log()
    stack.aws.__dict__["logs"] = log
    for number in range(30):
        log.add(datetime.now(UTC), metrics(100), str(number))
    figures = Figures(stack)
    assert figures.read().behind
    log.refusing = True
    with pytest.raises(CommandError):
        figures.read()
    log.refusing = False
    while (found := figures.read()).behind:
        pass
    assert found.images == 30


def test_many_pages_look_at_the_log_once(stack: Stack) -> None:
    """A glance within two seconds costs no request."""
    log = Log()
    stack.aws.__dict__["logs"] = log
    figures = Figures(stack)
    assert figures.glance().images == 0
    log.add(datetime.now(UTC), metrics(100))
    assert figures.glance().images == 0
    assert figures.read().images == 1


@pytest.mark.parametrize("key", ["uploads/" + "x" * 1000, 'uploads/"' * 100, "\x01" * 1000])
def test_a_pattern_for_the_log_fits_whatever_the_key(key: str) -> None:
    """CloudWatch takes 1,024 characters."""
    assert len(gallery._pattern(key)) <= 1024  # noqa: SLF001
    assert gallery._pattern("a*") == '{ $.key = "a*" }'  # noqa: SLF001


def test_a_thumbnail_s_size_is_read_from_its_head() -> None:
    """64 bytes tell the pixels of every kind of WebP that is written here."""
    (made,) = make_thumbnails(jpeg((300, 200)), [128], 85, 512).thumbnails
    assert webp.size_of(webp.stamped(made.data, b"12345678")[:64]) == (128, 85)


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_234_567, "1.23 MB"), (-5e6, "-5 MB")],
)
def test_bytes_are_for_people(size: float, words: str) -> None:
    """Three digits and a unit."""
    assert app.filesize(size) == words


def test_times_are_for_people() -> None:
    """The largest unit that fits."""
    for seconds, words in ((5, "just now"), (61, "1 minute ago"), (7300, "2 hours ago")):
        assert app.ago(datetime.now(UTC) - timedelta(seconds=seconds)) == words
    assert app.ago(datetime.now(UTC) - timedelta(days=3)) == "3 days ago"
    assert app.ago(datetime.now(UTC) + timedelta(days=3)) == "just now"
