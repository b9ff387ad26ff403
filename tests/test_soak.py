"""The soak's own parts: its plan, its accounts, its faults."""

import http.client
from collections.abc import Callable
from typing import Any

import pytest
from aws_names import INPUT, OUTPUT
from moto_stack import letter_of, made, moto_stack
from pictures import thumbnails_of
from scripted_server import Reply, ScriptedServer

from image_pipeline.stack.deployed import Stack
from soak import faults
from soak.environments import Environments
from soak.faults import Fault, FaultyProxy
from soak.plan import BROKEN, DELETED, OVERWRITTEN, Upload, drawn
from soak.reconciliation import reconcile
from thumbnailer.errors import PermanentError, StorageUnavailable


# --- the plan -----------------------------------------------------------------------------------
def test_a_plan_is_its_seed_s() -> None:
    """The same seed uploads the same, another one something else; no key is there twice."""
    one, same, other = ([*drawn(250, seed, "uploads/")] for seed in (1, 1, 2))
    assert one == same != other
    keys = [upload.key for folder in one for upload in folder]
    assert len(set(keys)) == 250


def test_a_plan_has_its_shares() -> None:
    """Of many uploads 5 % are broken, 5 % overwritten, 2 % deleted."""
    uploads = [upload for folder in drawn(10_000, 1, "uploads/") for upload in folder]
    broken = sum(each.last is not None and not each.sound for each in uploads)
    overwritten = sum(len(each.bodies) > 1 and each.sound for each in uploads)
    deleted = sum(each.last is None for each in uploads)
    for count, share in ((broken, BROKEN), (overwritten, OVERWRITTEN), (deleted, DELETED)):
        assert count / 10_000 == pytest.approx(share, rel=0.2)


def test_what_a_plan_calls_sound_can_be_made() -> None:
    """Each kind of picture makes thumbnails, and no broken one does."""
    seen = set()
    for folder in drawn(600, 3, "uploads/"):
        for upload in folder:
            kind = (upload.sound, upload.key[-4:], len(upload.last or b"") // 2000)
            if upload.last is None or kind in seen:
                continue
            seen.add(kind)
            if upload.sound:
                assert len(thumbnails_of(upload.last, [128, 512], 85, 512).thumbnails) == 2
            else:
                with pytest.raises(PermanentError):
                    thumbnails_of(upload.last, [128, 512], 85, 512)


# --- the accounts -------------------------------------------------------------------------------
PICTURE = next(
    each.last
    for folder in drawn(50, 1, "uploads/")
    for each in folder
    if each.sound and each.last and each.key.endswith(".jpg")
)


@pytest.fixture
def stack(s3: Any, aws: str) -> Stack:
    """Buckets and a queue, and nothing that runs."""
    del s3  # the buckets are there
    return moto_stack(aws)


def sound(stack: Stack) -> list[Upload]:
    """A picture with thumbnails, a broken file with its letter, and one that is gone."""
    made(stack, "uploads/a.jpg", PICTURE)
    etag = stack.aws.s3.put_object(Bucket=INPUT, Key="uploads/b.jpg", Body=b"broken")["ETag"]
    letter_of(stack, "uploads/b.jpg", etag.strip('"'))
    return [
        Upload("uploads/a.jpg", (PICTURE,), sound=True),
        Upload("uploads/b.jpg", (b"broken",), sound=False),
        Upload("uploads/c.jpg", (PICTURE, None), sound=False),
    ]


def test_right_accounts_have_no_faults(stack: Stack) -> None:
    """Thumbnails, a letter, nothing for what is gone: all is accounted for, and counted."""
    accounts = reconcile(stack, sound(stack))
    assert accounts.faults == []
    assert (accounts.uploads, accounts.thumbnails, accounts.letters) == (3, 2, 1)


def missing_thumbnail(stack: Stack) -> None:
    stack.aws.s3.delete_object(Bucket=OUTPUT, Key="a_128w.webp")


def thumbnail_of_older_bytes(stack: Stack) -> None:
    made(stack, "uploads/a.jpg", PICTURE + b"older")
    stack.aws.s3.put_object(Bucket=INPUT, Key="uploads/a.jpg", Body=PICTURE)


def thumbnail_of_nobody(stack: Stack) -> None:
    stack.aws.s3.put_object(Bucket=OUTPUT, Key="a_128w.webp", Body=b"x")


def stranger(stack: Stack) -> None:
    stack.aws.s3.put_object(Bucket=OUTPUT, Key="z_128w.webp", Body=b"x")


def orphan(stack: Stack) -> None:
    made(stack, "uploads/c.jpg", PICTURE)
    stack.aws.s3.delete_object(Bucket=INPUT, Key="uploads/c.jpg")


def lost_letter(stack: Stack) -> None:
    stack.aws.sqs.purge_queue(QueueUrl=stack.settings.dead_letter_queue_url)


def letter_of_what_is_made(stack: Stack) -> None:
    etag = stack.aws.s3.head_object(Bucket=INPUT, Key="uploads/a.jpg")["ETag"]
    letter_of(stack, "uploads/a.jpg", etag.strip('"'))


def lost_upload(stack: Stack) -> None:
    stack.aws.s3.delete_object(Bucket=INPUT, Key="uploads/b.jpg")


@pytest.mark.parametrize(
    "harm",
    [
        missing_thumbnail,
        thumbnail_of_older_bytes,
        thumbnail_of_nobody,
        stranger,
        orphan,
        lost_letter,
        letter_of_what_is_made,
        lost_upload,
    ],
)
def test_every_kind_of_fault_is_found(stack: Stack, harm: Callable[[Stack], None]) -> None:
    """What is missing, stale, foreign, orphaned or lost is told: the accounts have teeth."""
    uploads = sound(stack)
    harm(stack)
    assert reconcile(stack, uploads).faults


def test_a_letter_of_replaced_bytes_is_no_fault(stack: Stack) -> None:
    """It was right when it was sent; it is counted apart."""
    uploads = sound(stack)
    letter_of(stack, "uploads/a.jpg", "an earlier etag")
    accounts = reconcile(stack, uploads)
    assert accounts.faults == []
    assert accounts.stale_letters == 1


def test_a_letter_that_a_replay_takes_away_is_counted(stack: Stack) -> None:
    """What failed for now has its thumbnails, for a reply was lost: no fault, but told."""
    uploads = sound(stack)
    etag = stack.aws.s3.head_object(Bucket=INPUT, Key="uploads/a.jpg")["ETag"].strip('"')
    letter_of(stack, "uploads/a.jpg", etag, StorageUnavailable("no answer"))
    accounts = reconcile(stack, uploads)
    assert accounts.faults == []
    assert accounts.needless_letters == 1


def test_a_leak_is_growth_and_an_allocator_s_whims_are_none() -> None:
    """What is lifted at its least has grown; what only swings, or was seen too briefly, has not."""
    environments = Environments(0)
    swing = [40.0, 65.0, 52.0, 41.0, 70.0] * 16
    environments._megabytes |= {  # noqa: SLF001
        1: swing,
        2: [each + number for number, each in enumerate(swing)],
        3: [10.0, 99.0],
    }
    growth = environments.growth_mb()
    assert growth.keys() == {1, 2}
    assert abs(growth[1]) < 2
    assert growth[2] > 15


# --- the faults ---------------------------------------------------------------------------------
REPLY = Reply(200, {"ETag": '"e"'}, b"0123456789")


def ask(port: int) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
    try:
        connection.request("PUT", "/bucket/key?a=b%2Fc", b"body", {"Host": "signed:1"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("fault", [None, *Fault])
def test_a_fault_is_what_its_name_says(
    fault: Fault | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after the service has the request, the client meets just that failure."""
    monkeypatch.setattr(FaultyProxy, "_draw", lambda _: fault)
    monkeypatch.setattr(faults, "SLOW_SECONDS", 0.05)
    with ScriptedServer(REPLY) as server, FaultyProxy(0, server.server_port, 1.0, 1) as proxy:
        match fault:
            case None | Fault.SLOW:
                assert ask(proxy.port) == (200, b"0123456789")
            case Fault.HANG:
                with pytest.raises(TimeoutError):
                    ask(proxy.port)
            case Fault.RESET | Fault.LOST:
                with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
                    ask(proxy.port)
            case Fault.TRUNCATED:
                with pytest.raises(http.client.IncompleteRead):
                    ask(proxy.port)
            case _:
                assert ask(proxy.port)[0] == (503 if fault is Fault.BUSY else 500)
    arrived = fault not in (Fault.HANG, Fault.RESET, Fault.ERROR, Fault.BUSY)
    assert len(server.requests) == arrived
    if arrived:
        (request,) = server.requests
        assert (request.method, request.path, request.headers["host"]) == (
            "PUT",
            "/bucket/key?a=b%2Fc",
            "signed:1",
        )


def test_faults_are_as_many_as_asked_for() -> None:
    """The share is that of all requests, and every kind comes; the same seed draws the same."""
    proxies = [FaultyProxy(0, 1, 0.25, seed) for seed in (1, 1, 2)]
    drawn_faults = [[proxy._draw() for _ in range(4000)] for proxy in proxies]  # noqa: SLF001
    for proxy in proxies:
        proxy.close()
    assert drawn_faults[0] == drawn_faults[1] != drawn_faults[2]
    assert sum(each is not None for each in drawn_faults[0]) == pytest.approx(1000, rel=0.1)
    assert set(proxies[0].met) == set(Fault)
