"""The parts of the soak test: its plan, its reconciliation, its faults."""

import http.client
from collections.abc import Callable
from typing import Any

import pytest
from aws_names import INPUT, OUTPUT
from moto_stack import moto_stack, send_dead_letter, upload_with_thumbnails
from scripted_server import Reply, ScriptedServer

from image_pipeline.stack.deployed import Stack
from soak import faults
from soak.environments import Environments
from soak.faults import Fault, FaultyProxy
from soak.plan import BROKEN, DELETED, OVERWRITTEN, Upload, drawn
from soak.reconciliation import reconcile
from thumbnailer.errors import PermanentError, StorageUnavailable
from thumbnailer.imaging.thumbnails import make_thumbnails


# --- the plan -----------------------------------------------------------------------------------
def test_a_seed_determines_the_plan() -> None:
    """Equal seeds give equal plans, other seeds other plans; no key occurs twice."""
    one, same, other = ([*drawn(250, seed, "uploads/")] for seed in (1, 1, 2))
    assert one == same != other
    keys = [upload.key for folder in one for upload in folder]
    assert len(set(keys)) == 250


def test_a_plan_has_the_documented_shares() -> None:
    """Of many uploads 5 % are broken, 5 % overwritten, 2 % deleted."""
    uploads = [upload for folder in drawn(10_000, 1, "uploads/") for upload in folder]
    broken = sum(each.last is not None and not each.sound for each in uploads)
    overwritten = sum(len(each.bodies) > 1 and each.sound for each in uploads)
    deleted = sum(each.last is None for each in uploads)
    for count, share in ((broken, BROKEN), (overwritten, OVERWRITTEN), (deleted, DELETED)):
        assert count / 10_000 == pytest.approx(share, rel=0.2)


def test_sound_uploads_can_be_decoded_and_others_cannot() -> None:
    """Each kind of sound image gives thumbnails; each broken one gives a permanent error."""
    seen = set()
    for folder in drawn(600, 3, "uploads/"):
        for upload in folder:
            kind = (upload.sound, upload.key[-4:], len(upload.last or b"") // 2000)
            if upload.last is None or kind in seen:
                continue
            seen.add(kind)
            if upload.sound:
                assert len(make_thumbnails(upload.last, [128, 512], 85, 512).thumbnails) == 2
            else:
                with pytest.raises(PermanentError):
                    make_thumbnails(upload.last, [128, 512], 85, 512)


# --- the reconciliation -------------------------------------------------------------------------
PICTURE = next(
    each.last
    for folder in drawn(50, 1, "uploads/")
    for each in folder
    if each.sound and each.last and each.key.endswith(".jpg")
)


@pytest.fixture
def stack(s3: Any, aws: str) -> Stack:
    """Buckets and a queue without a function."""
    del s3  # it creates the buckets
    return moto_stack(aws)


def processed_uploads(stack: Stack) -> list[Upload]:
    """An image with thumbnails, a broken file with its message, and a deleted image."""
    upload_with_thumbnails(stack, "uploads/a.jpg", PICTURE)
    etag = stack.aws.s3.put_object(Bucket=INPUT, Key="uploads/b.jpg", Body=b"broken")["ETag"]
    send_dead_letter(stack, "uploads/b.jpg", etag.strip('"'))
    return [
        Upload("uploads/a.jpg", (PICTURE,), sound=True),
        Upload("uploads/b.jpg", (b"broken",), sound=False),
        Upload("uploads/c.jpg", (PICTURE, None), sound=False),
    ]


def test_correctly_processed_uploads_have_no_faults(stack: Stack) -> None:
    """An image has thumbnails, a broken file a message, a deleted image nothing."""
    accounts = reconcile(stack, processed_uploads(stack))
    assert accounts.faults == []
    assert (accounts.uploads, accounts.thumbnails, accounts.letters) == (3, 2, 1)


def delete_a_thumbnail(stack: Stack) -> None:
    stack.aws.s3.delete_object(Bucket=OUTPUT, Key="a_128w.webp")


def make_a_thumbnail_of_older_bytes(stack: Stack) -> None:
    upload_with_thumbnails(stack, "uploads/a.jpg", PICTURE + b"older")
    stack.aws.s3.put_object(Bucket=INPUT, Key="uploads/a.jpg", Body=PICTURE)


def overwrite_a_thumbnail_without_provenance(stack: Stack) -> None:
    stack.aws.s3.put_object(Bucket=OUTPUT, Key="a_128w.webp", Body=b"x")


def add_an_unknown_object(stack: Stack) -> None:
    stack.aws.s3.put_object(Bucket=OUTPUT, Key="z_128w.webp", Body=b"x")


def leave_an_orphan(stack: Stack) -> None:
    upload_with_thumbnails(stack, "uploads/c.jpg", PICTURE)
    stack.aws.s3.delete_object(Bucket=INPUT, Key="uploads/c.jpg")


def lose_the_message(stack: Stack) -> None:
    stack.aws.sqs.purge_queue(QueueUrl=stack.settings.dead_letter_queue_url)


def send_a_message_about_a_sound_image(stack: Stack) -> None:
    etag = stack.aws.s3.head_object(Bucket=INPUT, Key="uploads/a.jpg")["ETag"]
    send_dead_letter(stack, "uploads/a.jpg", etag.strip('"'))


def lose_an_upload(stack: Stack) -> None:
    stack.aws.s3.delete_object(Bucket=INPUT, Key="uploads/b.jpg")


@pytest.mark.parametrize(
    "damage",
    [
        delete_a_thumbnail,
        make_a_thumbnail_of_older_bytes,
        overwrite_a_thumbnail_without_provenance,
        add_an_unknown_object,
        leave_an_orphan,
        lose_the_message,
        send_a_message_about_a_sound_image,
        lose_an_upload,
    ],
)
def test_every_kind_of_fault_is_detected(stack: Stack, damage: Callable[[Stack], None]) -> None:
    """Missing, stale, unknown and orphaned thumbnails, lost and wrong messages, lost uploads."""
    uploads = processed_uploads(stack)
    damage(stack)
    assert reconcile(stack, uploads).faults


def test_a_message_about_replaced_bytes_is_no_fault(stack: Stack) -> None:
    """It was right when it was sent, so it is counted separately."""
    uploads = processed_uploads(stack)
    send_dead_letter(stack, "uploads/a.jpg", "an earlier etag")
    accounts = reconcile(stack, uploads)
    assert accounts.faults == []
    assert accounts.stale_letters == 1


def test_a_message_that_a_replay_would_delete_is_no_fault(stack: Stack) -> None:
    """A transient failure of an upload with thumbnails, as after a lost response, is counted."""
    uploads = processed_uploads(stack)
    etag = stack.aws.s3.head_object(Bucket=INPUT, Key="uploads/a.jpg")["ETag"].strip('"')
    send_dead_letter(stack, "uploads/a.jpg", etag, StorageUnavailable("no response"))
    accounts = reconcile(stack, uploads)
    assert accounts.faults == []
    assert accounts.needless_letters == 1


def test_only_a_rising_minimum_counts_as_growth() -> None:
    """Memory that only varies has not grown; too few measurements give no growth at all."""
    environments = Environments(0)
    varying = [40.0, 65.0, 52.0, 41.0, 70.0] * 16
    environments._megabytes |= {  # noqa: SLF001
        1: varying,
        2: [each + number for number, each in enumerate(varying)],
        3: [10.0, 99.0],
    }
    growth = environments.growth_mb()
    assert growth.keys() == {1, 2}
    assert abs(growth[1]) < 2
    assert growth[2] > 15


# --- the faults ---------------------------------------------------------------------------------
REPLY = Reply(200, {"ETag": '"e"'}, b"0123456789")


def request(port: int) -> tuple[int, bytes]:
    """Send a PUT request to the proxy; return status and body of the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
    try:
        connection.request("PUT", "/bucket/key?a=b%2Fc", b"body", {"Host": "signed:1"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("fault", [None, *Fault])
def test_each_fault_has_the_effect_that_its_name_says(
    fault: Fault | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sees that failure, and the service receives the request or does not."""
    monkeypatch.setattr(FaultyProxy, "_draw", lambda _: fault)
    monkeypatch.setattr(faults, "SLOW_SECONDS", 0.05)
    with ScriptedServer(REPLY) as server, FaultyProxy(0, server.server_port, 1.0, 1) as proxy:
        match fault:
            case None | Fault.SLOW:
                assert request(proxy.port) == (200, b"0123456789")
            case Fault.HANG:
                with pytest.raises(TimeoutError):
                    request(proxy.port)
            case Fault.RESET | Fault.LOST:
                with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
                    request(proxy.port)
            case Fault.TRUNCATED:
                with pytest.raises(http.client.IncompleteRead):
                    request(proxy.port)
            case _:
                assert request(proxy.port)[0] == (503 if fault is Fault.BUSY else 500)
    arrived = fault not in (Fault.HANG, Fault.RESET, Fault.ERROR, Fault.BUSY)
    assert len(server.requests) == arrived
    if arrived:
        (received,) = server.requests
        assert (received.method, received.path, received.headers["host"]) == (
            "PUT",
            "/bucket/key?a=b%2Fc",
            "signed:1",
        )


def test_the_share_of_faults_is_the_given_one() -> None:
    """It is a share of all requests; every kind of fault occurs, and equal seeds draw the same."""
    proxies = [FaultyProxy(0, 1, 0.25, seed) for seed in (1, 1, 2)]
    drawn_faults = [[proxy._draw() for _ in range(4000)] for proxy in proxies]  # noqa: SLF001
    for proxy in proxies:
        proxy.close()
    assert drawn_faults[0] == drawn_faults[1] != drawn_faults[2]
    assert sum(each is not None for each in drawn_faults[0]) == pytest.approx(1000, rel=0.1)
    assert set(proxies[0].met) == set(Fault)
