"""The limit on an image's time: its work is stopped, and what is slow runs in a child process."""

import faulthandler
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pictures import encoded, jpeg, quadrants, specs_of
from PIL import Image

from bench.slow_files import (
    SLOW,
    apng_of_noise,
    avif_of_frames,
    bmp_of_short_runs,
    heic_of_overlays,
    jpeg_of_arithmetic,
    jpeg_of_scans,
)
from thumbnailer.errors import CorruptImage, ImageTooLarge, ImageTooSlow, PermanentError
from thumbnailer.imaging import Made, make_thumbnails, thumbnails, time_limit

SPECS = specs_of([447])
ENOUGH = 60.0
"""Seconds: more than any of these images takes."""

PICTURE = quadrants((640, 480))


def save(kind: str, **options: Any) -> bytes:
    """Encode the picture."""
    return encoded(PICTURE, kind, **options)


def made_within(seconds: float | None, data: bytes, memory_mb: int = 512) -> Made:
    """Make a thumbnail within `seconds`."""
    return make_thumbnails(data, SPECS, memory_mb, seconds)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list of the seconds that each child process may take."""
    found: list[float] = []

    def counted(work: Callable[[], Made], seconds: float, spent: float) -> Made:
        found.append(seconds - spent)
        return time_limit.in_child(work, seconds, spent)

    monkeypatch.setattr(thumbnails, "in_child", counted)
    return found


# --- what is slow is stopped --------------------------------------------------------------------
STOPPED: dict[str, Callable[[], bytes]] = {
    "Python between two calls (BMP)": lambda: bmp_of_short_runs(4000, 3000),
    "a header of many parts (JPEG)": SLOW["comments.jpg"],
    "a header of many parts (PNG)": SLOW["texts-empty.png"],
    "one call (JPEG of 2,000 scans)": lambda: jpeg_of_scans(2000),
    "one call (AVIF with hidden frames)": lambda: avif_of_frames(500),
    "encoding (an animation with alpha)": lambda: apng_of_noise(60),
}


def child_processes() -> set[str]:
    """Return the ids of this process's children."""
    found = Path("/proc/self/task").glob("*/children")
    return {pid for each in found for pid in each.read_text().split()}


@pytest.mark.parametrize("kind", STOPPED)
def test_a_slow_image_is_stopped_and_the_next_one_works(kind: str) -> None:
    """Wherever its time goes, it ends with ImageTooSlow, and leaves no process and no alarm."""
    data, before = STOPPED[kind](), child_processes()
    with pytest.raises(ImageTooSlow, match=r"were not made within \d s\."):
        made_within(1.0, data)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert child_processes() == before
    assert made_within(ENOUGH, jpeg()).thumbnails


def test_a_swallowed_alarm_comes_again() -> None:
    """An exception in a finalizer is ignored by Python, so one alarm would not be enough."""

    def wait_twice() -> None:
        with time_limit.alarm(0.05):
            with suppress(ImageTooSlow):
                time.sleep(60)
            time.sleep(60)

    with pytest.raises(ImageTooSlow):
        wait_twice()


def test_an_alarm_is_restored() -> None:
    """Another user of SIGALRM keeps its handler."""
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        with time_limit.alarm(ENOUGH):
            assert signal.getsignal(signal.SIGALRM) is not signal.SIG_IGN
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_thread_can_make_thumbnails_too() -> None:
    """Only the main thread can have an alarm. In another one, the rest works."""
    made: list[Made] = []
    thread = threading.Thread(target=lambda: made.append(made_within(ENOUGH, jpeg())))
    thread.start()
    thread.join()
    assert made


# --- what runs where ----------------------------------------------------------------------------
def large(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """Encode a picture of 12 megapixels."""
    picture = quadrants((4000, 3000)).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


HERE: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: large("JPEG", quality=95),
    "progressive JPEG": lambda: large("JPEG", progressive=True),
    "PNG": lambda: large("PNG", compress_level=1),
    "WebP": lambda: large("WEBP", method=0),
    "lossless WebP": lambda: large("WEBP", method=0, lossless=True, quality=0),
    "GIF": lambda: large("GIF"),
    "AVIF": lambda: large("AVIF", speed=10),
    "AVIF with alpha": lambda: large("AVIF", "RGBA", speed=10),
    "TIFF": lambda: save("TIFF"),
    "BMP": lambda: save("BMP"),
}

IN_A_CHILD: dict[str, Callable[[], bytes]] = {
    "HEIC": lambda: save("HEIF"),
    "overlays of HEIC": lambda: heic_of_overlays(3, 640, 480),
    "JPEG 2000": lambda: save("JPEG2000"),
    "compressed TIFF": lambda: save("TIFF", compression="tiff_lzw"),
    "JPEG with arithmetic coding": lambda: jpeg_of_arithmetic(800),
    "animated AVIF": lambda: encoded(
        PICTURE, "AVIF", save_all=True, append_images=[PICTURE.rotate(90)]
    ),
}


@pytest.mark.parametrize("kind", HERE)
def test_a_usual_image_needs_no_child(kind: str, children: list[float]) -> None:
    """A photo of 12 megapixels is made in the function's own process, with 512 MB and 22 s."""
    assert made_within(22.0, HERE[kind]()).thumbnails
    assert children == []


@pytest.mark.parametrize("kind", IN_A_CHILD)
def test_an_image_of_unknown_time_is_made_in_a_child(kind: str, children: list[float]) -> None:
    """The child has the time that is left, and its thumbnail has the same bytes."""
    data = IN_A_CHILD[kind]()
    assert made_within(ENOUGH, data) == made_within(None, data)
    (seconds,) = children
    assert 0 < seconds <= ENOUGH


@pytest.mark.parametrize(("share", "forked"), [(1.0, 0), (0.1, 1)])
def test_the_share_of_a_cpu_decides(
    share: float, forked: int, children: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large AVIF that is quick enough for 22 s is made in a child with a tenth of the CPU."""
    monkeypatch.setattr(time_limit, "FULL_CPU_MB", time_limit.FULL_CPU_MB / share)
    assert made_within(22.0, large("AVIF", speed=10)).thumbnails
    assert len(children) == forked


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"av01", b"av02", 1),  # its type, in infe
        lambda data: data.replace(b"iloc", b"ilox"),
        lambda data: data[: data.index(b"mdat") + 4] + bytes(8) + data[data.index(b"mdat") + 12 :],
    ],
    ids=["no AV1 item", "no place", "no sequence header"],
)
def test_an_avif_whose_streams_are_not_found_is_made_in_a_child(
    change: Callable[[bytes], bytes], children: list[float]
) -> None:
    """What cannot be estimated may take any time, or cannot be decoded at all."""
    with pytest.raises(PermanentError):
        made_within(ENOUGH, change(save("AVIF")))
    assert len(children) <= 1


# --- errors of a child --------------------------------------------------------------------------
def test_a_child_reports_damage_as_the_function_does() -> None:
    """The error has the type and the words that it has without a child."""
    data = save("TIFF", compression="tiff_lzw")[:-200]
    with pytest.raises(CorruptImage) as here:
        made_within(None, data)
    with pytest.raises(CorruptImage) as there:
        made_within(ENOUGH, data)
    assert str(there.value) == str(here.value)


def test_a_child_counts_the_memory_that_it_copies(children: list[float]) -> None:
    """An image that just fits into the function may not fit beside a child's copies."""
    data = large("TIFF", compression="tiff_lzw")
    with pytest.raises(ImageTooLarge) as refused:
        made_within(None, data, 60)
    need = refused.value.need_mb
    assert need is not None
    assert made_within(None, data, int(need) + 1).thumbnails
    with pytest.raises(ImageTooLarge) as refused:
        made_within(ENOUGH, data, int(need) + 1)
    assert refused.value.need_mb == pytest.approx(need + time_limit.CHILD_MB)
    assert len(children) == 1


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGKILL, ImageTooLarge), (signal.SIGSEGV, CorruptImage)],
)
def test_a_child_that_dies_costs_one_image(
    number: signal.Signals, error: type[PermanentError]
) -> None:
    """The kernel kills a process without memory. A decoder's fault is damage, seen from here."""

    def die() -> None:
        faulthandler.disable()  # of pytest
        os.kill(os.getpid(), number)

    with pytest.raises(error):
        time_limit.in_child(die, ENOUGH)


def test_a_decoder_that_crashes_when_it_opens_a_file_costs_one_image() -> None:
    """pi-heif ends the process where an item's type is not text. The next file works."""
    exif = Image.Exif()
    exif[0x0112] = 1
    data = save("HEIF", exif=exif)
    at = data.index(b"Exif", data.index(b"infe"))
    with pytest.raises(CorruptImage, match="crashed"):
        made_within(ENOUGH, data[:at] + b"\xff\xfe\xff\xfe" + data[at + 4 :])
    assert made_within(ENOUGH, data).thumbnails


def test_an_error_that_cannot_be_sent_is_reported() -> None:
    """A child whose result is lost has failed: nothing is taken for a thumbnail."""
    with pytest.raises(CorruptImage, match="exit code 1"):
        time_limit.in_child(threading.Lock, ENOUGH)


def test_a_fork_beside_threads_warns_nobody() -> None:
    """The clients' threads make Python warn at each fork. In a child, only decoders run."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert time_limit.in_child(lambda: 1, ENOUGH) == 1
    finally:
        done.set()
        thread.join()


ORPHAN = """
import os, sys
sys.path.insert(0, "lambda")
from thumbnailer.imaging import time_limit

def work():
    print(os.getpid(), flush=True)
    while True:
        pass

time_limit.os.cpu_count = lambda: 1
time_limit.in_child(work, 1.0)
"""


def test_a_child_does_not_outlive_its_parent() -> None:
    """Where the function is killed, its child ends by a limit of CPU time."""
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


LIMITED = """
import json, sys
sys.path[:0] = ["lambda", "tests"]
from pictures import specs_of
from thumbnailer.errors import PermanentError
from thumbnailer.imaging import impose_hard_limit, limits, make_thumbnails
specs = specs_of([64])
data = sys.stdin.buffer.read()
impose_hard_limit(limits.BASE_MB + int(sys.argv[1]))
limits.refuse_over = lambda *_: None
outcomes = []
for _ in range(2):
    try:
        make_thumbnails(data, specs, 10_240, 60.0)
        outcomes.append("thumbnail")
    except PermanentError as error:
        outcomes.append(type(error).__name__)
print(json.dumps(outcomes))
"""


@pytest.mark.parametrize(("megabytes", "outcome"), [(400, "thumbnail"), (60, "ImageTooLarge")])
def test_the_hard_limit_holds_in_a_child(megabytes: int, outcome: str) -> None:
    """Where an estimate is too low, the child runs out of memory, and the function goes on."""
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", LIMITED, str(megabytes)],
        input=large("TIFF", compression="tiff_lzw", tiffinfo={278: 3000}),
        capture_output=True,
        check=True,
    )
    assert json.loads(ran.stdout) == [outcome, outcome]
