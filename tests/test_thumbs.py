"""`image-pipeline thumbs`: thumbnails of local folders, without AWS."""

import errno
import json
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from home import COMMAND, Home, press_ctrl_c
from hypothesis import given
from hypothesis import strategies as st
from pictures import decoded, is_upright, jpeg, near, thumbnails_of
from PIL import Image

from image_pipeline.cli.commands import thumbs
from image_pipeline.errors import CommandError
from image_pipeline.files import File
from image_pipeline.folders import thumbnails
from image_pipeline.folders.plan import Job, Plan, plan
from image_pipeline.folders.results import Result, Results, State
from image_pipeline.folders.workers import in_processes
from image_pipeline.folders.writing import LOCK, WORK, DiskFull, write_all, writing_to
from thumbnailer.imaging import ENCODERS, OUTPUT_FORMATS, make_thumbnails, parse_sizes
from thumbnailer.imaging.encoders.webp import MARK_CHUNK
from thumbnailer.settings import Settings

SETTINGS = Settings(output_bucket="", dead_letter_queue_url="")
PHOTOS = Path(__file__).parent.parent.parent / "shared" / "corpus" / "photos"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return the command, in a directory without a local stack."""
    return Home(tmp_path / "home", 1)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Create a folder with a picture, another one in a subfolder, a text and a hidden file."""
    folder = tmp_path / "album"
    (folder / "a").mkdir(parents=True)
    (folder / "one.jpg").write_bytes(jpeg())
    (folder / "a" / "two.png").write_bytes(jpeg((300, 200)))
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.jpg").write_bytes(b"")
    return folder


def files(folder: Path) -> set[str]:
    """Return the relative paths of all files below `folder`, including hidden ones."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until `condition` is true, for at most `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_thumbnails_have_the_folders_of_their_originals_and_the_names_of_the_pipeline(
    home: Home, album: Path
) -> None:
    """Every picture has thumbnails, whatever its extension, and there are no other files."""
    out = album.parent / "out"
    done = home.json("thumbs", album, "--out", out)
    assert files(out) == {
        "album/one_128w.webp",
        "album/one_512w.webp",
        "album/a/two_128w.webp",
        "album/a/two_512w.webp",
    }
    assert done["counts"] == {"made": 2, "current": 0, "failed": 0, "skipped": 1, "superseded": 0}
    picture = decoded((out / "album" / "one_512w.webp").read_bytes())
    assert picture.size == (512, 384)
    assert is_upright(picture)


def test_options_set_sizes_quality_and_names(home: Home, album: Path) -> None:
    """The thumbnail is the one that the image code makes with the same settings."""
    out = album.parent / "out"
    source = album / "one.jpg"
    words = ("--sizes", "64", "--quality", "30", "--key-template", "{width}/{stem}.{ext}.webp")
    home.json("thumbs", source, "--out", out, *words)
    assert files(out) == {"64/one.jpg.webp"}
    expected = thumbnails_of(source.read_bytes(), (64,), 30, 512).thumbnails[0].data
    assert decoded((out / "64" / "one.jpg.webp").read_bytes()).tobytes() == (
        decoded(expected).tobytes()
    )


def test_shapes_and_formats_are_written_under_their_names(home: Home, album: Path) -> None:
    """Each size in each format, with the right content; a second run makes nothing."""
    out = album.parent / "out"
    source = album / "one.jpg"
    words = ("--sizes", "64,avatar=50x50:cover:attention,card=60x60:pad")
    words += ("--formats", "webp,avif,jpeg", "--background", "#102030")
    done = home.json("thumbs", source, "--out", out, *words)
    names = {"64w": (64, 48), "avatar": (50, 50), "card": (60, 60)}
    assert files(out) == {f"one_{size}.{name}" for size in names for name in OUTPUT_FORMATS}
    for path in out.iterdir():
        picture = decoded(path.read_bytes())
        assert str(picture.format).lower() == path.suffix[1:]
        assert picture.size == names[path.stem.partition("_")[2]]
    card = decoded((out / "one_card.jpeg").read_bytes())
    assert near(card.getpixel((30, 2)), (16, 32, 48))  # type: ignore[arg-type]
    [file] = done["files"]
    assert [(each["size"], each["format"]) for each in file["thumbnails"]] == [
        (size, name) for size in names for name in OUTPUT_FORMATS
    ]
    assert home.json("thumbs", source, "--out", out, *words)["counts"]["current"] == 1
    for name in OUTPUT_FORMATS:  # each is recognised by the mark at its end
        path = out / f"one_64w.{name}"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        assert home.json("thumbs", source, "--out", out, *words)["counts"]["made"] == 1
        assert path.read_bytes() == whole
    words += ("--avif-quality", "20")
    assert home.json("thumbs", source, "--out", out, *words)["counts"]["made"] == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--sizes", "128,card=600x"), "item 2, 'card=600x'"),
        (("--sizes", "16384"), "between 1 and 16383"),
        (("--formats", "webp,gif"), "such as webp,avif"),
        (("--avif-quality", "0"), "--avif-quality"),
        (("--jpeg-quality", "101"), "--jpeg-quality"),
        (("--background", "white"), "a colour such as #ffffff"),
        (("--formats", "avif", "--key-template", "{stem}_{size}.webp"), "names avif files .webp"),
        (("--formats", "webp,avif", "--key-template", "{stem}_{size}"), "put {format} into it"),
        (("--sizes", "9,9x9", "--key-template", "{stem}_{width}"), "put {size} into it"),
        (("--key-template", "{dir}{stem}_{size}.jpg"), "names webp files .jpg"),
        (("--key-template", "{dir}{stem}_{size}.{ext}"), "end it with .{format}"),
        (("--key-template", "../{stem}_{size}.webp"), "a path inside --out"),
        (("--key-template", "a/../../{stem}_{size}.webp"), "a path inside --out"),
        (("--key-template", "/{stem}_{size}.webp"), "a path inside --out"),
        (("--watch", "--dry-run"), "excludes --dry-run and --prune"),
    ],
)
def test_wrong_options_are_refused_in_words(
    home: Home, album: Path, words: tuple[str, ...], error: str
) -> None:
    """The message says what is wrong and what to write; nothing is made."""
    out = album.parent / "out"
    done = home.run("thumbs", album, "--out", out, *words)
    assert done.returncode == 2
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.stderr).split())
    assert error in shown
    assert "Traceback" not in shown
    assert not out.exists()


def test_a_second_run_makes_only_what_has_changed(home: Home, album: Path) -> None:
    """It writes nothing, unless a file, a thumbnail or a setting has changed."""
    out = album.parent / "out"
    home.json("thumbs", album, "--out", out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.webp")}
    assert len(before) == 4
    assert home.json("thumbs", album, "--out", out)["counts"]["current"] == 2
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.webp")}
    (album / "one.jpg").write_bytes(jpeg((900, 600)))
    assert home.json("thumbs", album, "--out", out)["counts"]["made"] == 1
    (out / "album" / "a" / "two_128w.webp").unlink()
    assert home.json("thumbs", album, "--out", out)["counts"]["made"] == 1
    assert home.json("thumbs", album, "--out", out, "--quality", 20)["counts"]["made"] == 2


def test_a_file_replaced_by_an_older_one_is_made_again(home: Home, album: Path) -> None:
    """Times are compared for equality, so that a restored backup counts as changed."""
    out = album.parent / "out"
    home.json("thumbs", album, "--out", out)
    (album / "one.jpg").write_bytes(jpeg((640, 480)))
    os.utime(album / "one.jpg", (1, 1))
    assert home.json("thumbs", album, "--out", out)["counts"]["made"] == 1


def test_failures_are_listed_and_the_other_files_are_processed(home: Home, album: Path) -> None:
    """The exit code is 1, and failed.jsonl has the error; it is removed when nothing fails."""
    out = album.parent / "out"
    broken = album / "broken.jpg"
    broken.write_bytes(jpeg()[:300])
    done = home.run("thumbs", album, "--out", out)
    assert done.returncode == 1
    assert "CorruptImage" in done.stdout
    assert str(out / "failed.jsonl") in done.stdout.replace("\n", "")
    (line,) = (out / "failed.jsonl").read_text().splitlines()
    failure = json.loads(line)
    assert failure["path"] == str(broken)
    assert failure["error"]["type"] == "CorruptImage"
    assert failure["error"]["permanent"] is True
    assert (out / "album" / "one_512w.webp").exists()
    broken.write_bytes(jpeg())
    assert home.run("thumbs", album, "--out", out).returncode == 0
    assert not (out / "failed.jsonl").exists()


def test_an_unsupported_file_fails_if_it_was_named_or_has_the_name_of_an_image(
    home: Home, album: Path
) -> None:
    """Any other unsupported file in a folder is skipped."""
    out = album.parent / "out"
    assert home.json("thumbs", album / "notes.txt", "--out", out, code=1)["counts"]["failed"] == 1
    (album / "drawing.psd").write_text("8BPS")
    done = home.json("thumbs", album, "--out", out, code=1)
    assert (done["counts"]["failed"], done["counts"]["skipped"]) == (1, 1)


@pytest.mark.parametrize("newer", ["one.png", "one.jpg"])
def test_thumbnails_that_two_files_share_belong_to_the_newer_one(
    home: Home, album: Path, newer: str
) -> None:
    """The older file is superseded in every run, and does not write the thumbnails by turns."""
    (album / "one.png").write_bytes(jpeg((100, 100)))
    for path in ("one.jpg", "one.png"):
        os.utime(album / path, (2000, 2000) if path == newer else (1000, 1000))
    out = album.parent / "out"
    for expected in ({"made": 2}, {"current": 2}):
        done = home.json("thumbs", album, "--out", out)
        assert done["counts"] == dict.fromkeys(State, 0) | expected | {
            "superseded": 1,
            "skipped": 1,
        }
    size = {"one.png": (100, 100), "one.jpg": (512, 384)}[newer]
    assert decoded((out / "album" / "one_512w.webp").read_bytes()).size == size


def test_thumbnails_inside_the_folder_are_not_processed(home: Home, album: Path) -> None:
    """--out may be inside the folder: its files do not count as originals."""
    for _ in range(2):
        done = home.json("thumbs", album, "--out", album / "web")
        assert len(done["files"]) == 3
    done = home.run("thumbs", album / "web" / "album", "--out", album / "web")
    assert "Choose another --out" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere", "--out", "o"), "There is no file or folder nowhere"),
        ((".", "--out", "o"), "There are no files in ."),
        ((__file__, "--out", "o", "--watch"), "name its folder"),
        ((__file__, __file__, "--out", "o"), "would all become"),
    ],
)
def test_a_mistake_is_reported_and_leaves_no_files(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str], message: str
) -> None:
    """There is one message, the exit code is 1, and no folder is created."""
    monkeypatch.chdir(tmp_path)
    done = home.run("thumbs", *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("words", [("--sizes", "0"), ("--key-template", "{stem}")])
def test_an_invalid_option_is_a_usage_error(
    home: Home, album: Path, words: tuple[str, str]
) -> None:
    """The message names the option, and the exit code is 2."""
    done = home.run("thumbs", album, "--out", album.parent / "out", *words)
    assert done.returncode == 2
    assert words[0] in done.stderr


def test_a_second_run_into_the_same_folder_is_refused(home: Home, album: Path) -> None:
    """Two runs at the same time would remove each other's unfinished files."""
    out = album.parent / "out"
    with writing_to(out):
        done = home.run("thumbs", album, "--out", out)
    assert done.returncode == 1
    assert "Another run writes to" in done.stderr
    assert home.run("thumbs", album, "--out", out).returncode == 0


def test_a_thumbnail_that_cannot_be_written_fails_only_its_own_file(
    home: Home, album: Path
) -> None:
    """Here a folder is in the place of a thumbnail. A broken link does not count as a file."""
    (album / "gone.jpg").symlink_to(album / "nowhere.jpg")
    out = album.parent / "out"
    (out / "album" / "one_512w.webp" / "x").mkdir(parents=True)
    done = home.json("thumbs", album, "--out", out, code=1)
    assert (done["counts"]["made"], done["counts"]["failed"]) == (1, 1)
    (failure,) = (each for each in done["files"] if each["state"] == "failed")
    assert failure["error"]["type"] == "IsADirectoryError"
    assert not (out / WORK).exists()


def test_an_enormous_file_is_not_read(tmp_path: Path) -> None:
    """A video is recognised by its first bytes, and a picture is refused because of its size."""
    for head, state in ((b"\x1aE\xdf\xa3", State.SKIPPED), (b"II*\0", State.FAILED)):
        film = tmp_path / "album" / "film.mkv"
        film.parent.mkdir(exist_ok=True)
        with film.open("wb") as file:
            file.write(head)
            file.truncate(20 * 1024**3)  # sparse
        with plan([film.parent], tmp_path / "out", SETTINGS, 512) as planned:
            (job,) = planned
        assert thumbnails.make(job).state is state


def test_a_process_that_dies_fails_only_its_own_file(tmp_path: Path) -> None:
    """Files that were being processed are tried again alone, which shows the one that is deadly."""
    album = tmp_path / "album"
    album.mkdir()
    for index in range(6):
        (album / f"{index}.jpg").write_bytes(jpeg())
    out = tmp_path / "out"
    with (
        plan([album], out, SETTINGS, 512) as jobs,
        writing_to(out),
        patch.object(thumbnails, "make", die_at_3),
    ):
        results = list(thumbnails.run(jobs, 2))
    assert {each.path for each in results if each.error_type == "ProcessDied"} == {album / "3.jpg"}
    others = [each.state for each in results if each.path != album / "3.jpg"]
    assert len(others) == 5
    # A process may die after it has made a set, and before it has said so.
    assert {*others} <= {State.MADE, State.CURRENT}


REAL_MAKE = thumbnails.make


def die_at_3(job: Job) -> Result:
    """Make thumbnails with a decoder that crashes on one of the files."""
    if job.path.name == "3.jpg":
        os.kill(os.getpid(), signal.SIGKILL)
    return REAL_MAKE(job)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Create a folder that takes some seconds."""
    folder = tmp_path / "many"
    folder.mkdir()
    picture = jpeg((4000, 3000))
    for index in range(120):
        (folder / f"{index}.jpg").write_bytes(picture)
    return folder


def descendants(process: int) -> set[int]:
    """Return the ids of all child processes, and of their children."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    queue = [process]
    while queue:
        more = children.get(queue.pop(), [])
        found |= set(more)
        queue += more
    return found


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL],
)
def test_a_run_that_is_stopped_leaves_complete_files_and_can_be_continued(
    home: Home, many: Path, number: signal.Signals
) -> None:
    """No thumbnail is truncated, no process is left, and the next run makes only the rest."""
    out = many.parent / "out"
    with subprocess.Popen(  # noqa: S603 - the command under test
        [COMMAND, "thumbs", many, "--out", out],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        until(lambda: len(list(out.rglob("*.webp"))) > 4)
        started = descendants(process.pid)
        assert started
        if number is signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
    assert process.returncode == expected[number]
    assert "Traceback" not in stderr
    if number is signal.SIGINT:
        assert "Run it again to continue" in stderr
    until(lambda: not any(Path(f"/proc/{each}").exists() for each in started))
    made = list(out.rglob("*.webp"))
    for path in made:
        decoded(path.read_bytes())
        assert MARK_CHUNK in path.read_bytes()[-24:]
    assert len(made) < 240
    done = home.json("thumbs", many, "--out", out)
    assert done["counts"]["current"] >= len(made) // 2 - 2  # a picture may have only one of its two
    assert len(files(out)) == 240


SLOW_START = """
import os, sys, time
if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    while {locked} and not os.path.exists({lock!r}):
        time.sleep(0.02)
    time.sleep({locked})
    open({marker!r}, "w").close()
    time.sleep(1)
elif not {locked}:
    class Slow:
        def find_spec(name, *_):
            if name == "image_pipeline.cli.commands.thumbs":
                time.sleep(5)
    sys.meta_path.insert(0, Slow)
"""
"""A sitecustomize.py that makes the server which forks the workers start slowly.

It begins `locked` seconds after the command has locked its folder. With 0, the command imports its
modules slowly too.
"""


@pytest.mark.parametrize(("locked", "later"), [(0, 0.0), (1, 0.0), (1, 1.1)])
def test_ctrl_c_while_the_workers_start_leaves_no_traceback_and_no_process(
    many: Path, tmp_path: Path, locked: int, later: float
) -> None:
    """Neither the command nor the server that forks its workers prints one, at any moment."""
    marker, out = tmp_path / "starting", tmp_path / "out"
    (tmp_path / "sitecustomize.py").write_text(
        SLOW_START.format(marker=str(marker), lock=str(out / LOCK), locked=locked)
    )
    with subprocess.Popen(  # noqa: S603 - the command under test
        [COMMAND, "thumbs", many, "--out", out],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        until(marker.exists)
        time.sleep(later)  # in the last case the server imports its modules
        started = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stdout == ""
    stopped = "Stopped after 0 of 120. Run it again to continue."
    assert stderr.strip() == (stopped if locked else "")
    until(lambda: not any(Path(f"/proc/{each}").exists() for each in started))


def test_all_workers_are_used(many: Path) -> None:
    """With two workers, two processes make thumbnails."""
    out = many.parent / "out"
    for extra in sorted(many.iterdir())[12:]:
        extra.unlink()
    with (
        plan([many], out, SETTINGS, 512) as jobs,
        writing_to(out),
        patch.object(thumbnails, "make", return_process_id),
    ):
        processes = {each.error_message for each in thumbnails.run(jobs, 2)}
    assert len(processes) == 2


def test_workers_keep_memory_for_the_next_picture() -> None:
    """Buffers of 16 MB that were used before cause no page faults, of 8,192 without the setting."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("the allocator of another C library has other settings")
    _, second = in_processes(page_faults, (2**24, 2**24), 1, int)
    assert second < 100


def page_faults(size: int) -> int:
    """Allocate, fill and free two buffers of `size` bytes; return the page faults."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytes(bytearray(b"x") * size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def return_process_id(job: Job) -> Result:
    """Return a result whose message is the id of the process."""
    time.sleep(0.05)
    return Result(job.path, State.MADE, error_message=str(os.getpid()))


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the command, which watches an empty folder `inbox`, and yield its process."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    command = [COMMAND, "thumbs", inbox, "--out", tmp_path / "out", "--watch", "--json"]
    with subprocess.Popen(  # noqa: S603 - the command under test
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "Watching" in process.stderr.readline()
        yield process
        process.kill()


def test_watching_makes_thumbnails_of_new_files(
    watching: subprocess.Popen[str], tmp_path: Path
) -> None:
    """A new file, a folder moved in, a broken file and its repair are each a line of JSON."""
    assert watching.stdout is not None
    inbox, out = tmp_path / "inbox", tmp_path / "out"

    def next_result() -> tuple[str, str]:
        assert watching.stdout is not None
        line = json.loads(watching.stdout.readline())
        return Path(line["path"]).name, line["state"]

    (inbox / "one.jpg").write_bytes(jpeg())
    assert next_result() == ("one.jpg", "made")
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "two.jpg").write_bytes(jpeg())
    (tmp_path / "later").rename(inbox / "later")
    assert next_result() == ("two.jpg", "made")
    assert (out / "inbox" / "later" / "two_512w.webp").exists()
    (inbox / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    assert next_result() == ("bad.jpg", "failed")
    until((out / "failed.jsonl").exists)
    (inbox / "bad.jpg").write_bytes(jpeg())
    assert next_result() == ("bad.jpg", "made")
    until(lambda: not (out / "failed.jsonl").exists())
    assert press_ctrl_c(watching) == 0


NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=40
).filter(lambda name: name not in (".", "..") and not name.startswith("."))


@given(parts=st.lists(NAMES, min_size=1, max_size=3))
def test_thumbnails_of_any_name_are_inside_the_output_folder(parts: list[str]) -> None:
    """The path of a thumbnail has the folders of its original, and a name with the width."""
    out = Path("/out")
    key = SETTINGS.input_prefix + "/".join(parts)
    job = Job(Path("/x"), key, True, out, SETTINGS, 512)  # noqa: FBT003
    assert len(job.targets) == 2
    for spec, target in job.targets.items():
        assert Path(os.path.normpath(target)).is_relative_to(out)
        assert target.parent == out.joinpath(*parts[:-1])
        assert target.name.endswith(f"_{spec.size.width}w.webp")


def test_a_name_that_is_not_utf_8_is_kept(home: Home, album: Path) -> None:
    """Names on old disks are in Latin-1. Thumbnails keep them, and the output is still UTF-8."""
    (album / "one.jpg").rename(album / os.fsdecode(b"caf\xe9.jpg"))
    (album / os.fsdecode(b"b\xe9d.jpg")).write_bytes(b"\xff\xd8\xff")
    out = album.parent / "out"
    done = home.json("thumbs", album, "--out", out, code=1)
    assert done["counts"] == dict.fromkeys(State, 0) | {"made": 2, "failed": 1, "skipped": 1}
    assert (out / "album" / os.fsdecode(b"caf\xe9_128w.webp")).exists()
    assert "b?d.jpg" in (out / "failed.jsonl").read_text()
    assert home.run("thumbs", album, "--out", out).returncode == 1


def test_a_missing_folder_is_an_error() -> None:
    """The error says that there is no such file or folder."""
    with pytest.raises(CommandError, match="no file or folder"):
        plan([Path("/nowhere")], Path("/out"), SETTINGS, 512)


@pytest.mark.skipif(not PHOTOS.exists(), reason="the corpus of real images is not here")
def test_thumbnails_are_those_of_the_function(tmp_path: Path) -> None:
    """They are the function's, byte for byte, but for the provenance mark at the end."""
    settings = SETTINGS._replace(
        sizes=parse_sizes("128,eye=64x32:cover:attention"), formats=OUTPUT_FORMATS
    )
    out = tmp_path / "out"
    with plan(sorted(PHOTOS.iterdir())[:2], out, settings, 512) as planned, writing_to(out):
        jobs = list(planned)
        results = {each.path: each for each in thumbnails.run(planned, 2)}
    assert len(jobs) == 2
    for job in jobs:
        stored = results[job.path].thumbnails
        assert stored is not None
        for thumbnail in make_thumbnails(job.path.read_bytes(), settings.specs, 512).thumbnails:
            body = stored[thumbnail.spec][0].read_bytes()
            encoder = ENCODERS[thumbnail.spec.format]
            until_mark = -len(encoder.mark_ending(bytes(8)))
            assert body[:until_mark] == encoder.mark(thumbnail.data, bytes(8))[:until_mark]


# --- all thumbnails of a picture, or none -------------------------------------------------------
@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 128 kB, which only root can, on Linux."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, check=False).returncode:  # noqa: S603
        pytest.skip("no permission to mount a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)  # noqa: S603, S607


def test_a_full_disk_is_told_in_words_and_leaves_no_half_set(
    home: Home, tmp_path: Path, small_disk: Path
) -> None:
    """The run stops, says which disk, what is free and what is left; a second run continues."""
    album = tmp_path / "album"
    album.mkdir()
    noise = Image.effect_noise((700, 500), 90).convert("RGB")
    for index in range(6):
        noise.save(album / f"{index}.jpg")
    out = small_disk / "out"
    one_by_one = ("thumbs", album, "--out", out, "--workers", 1)
    done = home.json(*one_by_one, code=1)
    (failure,) = (each for each in done["files"] if each["state"] == "failed")
    assert failure["error"]["type"] == "DiskFull"
    told = rf"The disk of {out}\S* is full: \d+ \w+ free.* Free some space or choose another --out"
    assert re.match(told, failure["error"]["message"])
    assert done["left"] > 0
    made = {name.partition("_")[0] for name in files(out) if name.endswith("webp")}
    assert made
    for each in made:
        assert {f"{each}_128w.webp", f"{each}_512w.webp"} <= files(out)
    assert not any(".part" in name for name in files(out))
    again = home.run(*one_by_one)
    assert again.returncode == 1
    assert f"{done['counts']['made']} current, 1 failed" in again.stdout
    assert re.search(r"Stopped because the disk is full: [1-5] files are left", again.stdout)


def one_job(tmp_path: Path, settings: Settings = SETTINGS, memory_mb: int = 512) -> Job:
    """Create a picture and the folder `out`; return the picture's job."""
    source = tmp_path / "album" / "one.jpg"
    source.parent.mkdir()
    source.write_bytes(jpeg())
    out = tmp_path / "out"
    return Job(source, "uploads/album/one.jpg", True, out, settings, memory_mb)  # noqa: FBT003


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_set_is_written_whole_or_not_at_all(
    tmp_path: Path, step: str, earlier: bool  # noqa: FBT001 - a parameter of the test
) -> None:
    """Whether the second file cannot be written or not be renamed: no new one is left.

    An earlier set stays as it was.
    """
    out = tmp_path / "out"
    paths = [out / "a" / "one_128w.webp", out / "a" / "one_512w.webp"]
    real, calls = getattr(Path, step), iter(range(9))

    def fail_second(self: Path, *words: Any) -> Any:
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, *words)

    with writing_to(out):
        if earlier:
            write_all(out, dict.fromkeys(paths, b"earlier"))
        with patch.object(Path, step, fail_second), pytest.raises(DiskFull) as found:
            write_all(out, dict.fromkeys(paths, b"new"))
    assert found.value.filename == str(paths[1])
    assert files(out) == ({"a/one_128w.webp", "a/one_512w.webp"} if earlier else set())
    assert all(path.read_bytes() == b"earlier" for path in paths if earlier)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "free, or your quota is used up. Free some space or choose another --out"),
        (errno.EACCES, "no permission to write to the folder"),
        (errno.EROFS, "is read-only. Choose another --out"),
        (errno.EIO, "could not be written: Input/output error"),
    ],
)
def test_what_prevents_writing_is_told_in_words(tmp_path: Path, number: int, words: str) -> None:
    """The message names the folder, the cause and what to do, for a picture and for the start."""
    job = one_job(tmp_path)
    error = OSError(number, os.strerror(number))
    with writing_to(job.out), patch.object(Path, "write_bytes", side_effect=error):
        result = thumbnails.make(job)
    assert result.state is State.FAILED
    assert words in result.error_message
    assert str(job.out) in result.error_message
    with (
        patch.object(Path, "mkdir", side_effect=error),
        pytest.raises(CommandError, match=re.escape(words)),
        writing_to(job.out),
    ):
        pass


@pytest.mark.parametrize(
    ("key", "template"),
    [
        ("...jpg", "{stem}/{size}.webp"),
        ("album/...jpg", "{dir}{stem}/{size}.{format}"),
        ("photo", "{ext}/{stem}_{size}.{format}"),
        ("a.jpg.x", "{size}_{stem}"),
    ],
)
def test_no_name_leads_out_of_the_output_folder_or_to_a_wrong_extension(
    tmp_path: Path, key: str, template: str
) -> None:
    """Whatever an original is called: it fails, and the message has the name."""
    settings = SETTINGS._replace(output_key_template=template)
    job = replace(one_job(tmp_path, settings), key=SETTINGS.input_prefix + key)
    result = thumbnails.make(job)
    assert result.error_type == "UnusableName"
    assert "With this --key-template the thumbnail would be " in result.error_message
    assert not job.out.exists()


def test_a_link_inside_the_output_folder_is_not_followed_out_of_it(tmp_path: Path) -> None:
    """The picture fails, and nothing is written where the link leads to."""
    job = one_job(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    job.out.mkdir()
    (job.out / "album").symlink_to(tmp_path / "elsewhere")
    with writing_to(job.out):
        result = thumbnails.make(job)
    assert result.error_type == "OutsideOutput"
    assert "outside the output folder. Remove this link" in result.error_message
    assert not files(tmp_path / "elsewhere")


def test_a_thumbnail_never_overwrites_an_original(home: Home, tmp_path: Path) -> None:
    """Where --out is the folder of the originals, and one has the name of another's thumbnail."""
    for name in ("one.jpg", "one_128w.webp"):
        (tmp_path / name).write_bytes(jpeg())
    done = home.run("thumbs", *sorted(tmp_path.glob("one*")), "--out", tmp_path)
    assert done.returncode == 1
    assert "would overwrite" in done.stderr
    assert (tmp_path / "one_128w.webp").read_bytes() == jpeg()


# --- originals that cannot be read --------------------------------------------------------------
def test_a_folder_that_cannot_be_read_fails(home: Home, album: Path) -> None:
    """It is not left out without a word: it counts as failed, and the rest is made."""
    real = os.scandir

    def denied(path: Any) -> Any:
        if str(path) == str(album / "a"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    with patch.object(os, "scandir", denied):
        done = home.json("thumbs", album, "--out", album.parent / "out", code=1)
    assert (done["counts"]["made"], done["counts"]["failed"]) == (1, 1)
    (failure,) = (each for each in done["files"] if each["state"] == "failed")
    assert failure["path"] == str(album / "a")
    assert "no permission to read" in failure["error"]["message"]


def test_originals_that_change_or_vanish_meanwhile_fail(tmp_path: Path) -> None:
    """A file that is being copied does not become thumbnails of its first half."""
    job = one_job(tmp_path)

    def grow(_: bytes) -> None:
        with job.path.open("ab") as file:
            file.write(b"more")

    with patch.object(thumbnails, "check_supported", grow):
        result = thumbnails.make(job)
    assert result.error_type == "SourceUnsettled"
    assert "changed while it was read. Run the command again" in result.error_message
    job.path.unlink()
    assert "was removed while the command ran" in thumbnails.make(job).error_message


@pytest.mark.parametrize(
    ("computer_mb", "words"), [(2000, "with --workers 15."), (100, "a computer with more memory")]
)
def test_too_large_an_image_is_told_by_this_computers_memory(
    tmp_path: Path, computer_mb: int, words: str
) -> None:
    """The advice is the number of workers that helps, if any does."""
    job = one_job(tmp_path, memory_mb=61)
    with (
        patch.object(thumbnails, "memory_of_computer", lambda: computer_mb),
        patch.object(thumbnails, "DEFAULT_MEMORY_MB", 61),
    ):
        result = thumbnails.make(job)
    assert result.error_type == "ImageTooLarge"
    assert f"This computer has {computer_mb:,} MB" in result.error_message
    assert words in result.error_message


# --- what is shown ------------------------------------------------------------------------------
def test_what_libraries_print_belongs_to_their_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """C code that writes to file descriptor 2 does not disturb the progress bar."""
    job = one_job(tmp_path)

    def noisy(*words: Any) -> Any:
        os.write(2, b"TIFFReadDirectory: odd\xff\nsecond\n")
        return make_thumbnails(*words)

    with writing_to(job.out), patch.object(thumbnails, "make_thumbnails", noisy):
        result = thumbnails.make(job)
    assert result.state is State.MADE
    assert result.to_json()["stderr"] == ("TIFFReadDirectory: odd\ufffd", "second")
    assert capfd.readouterr().err == ""
    for verbose, expected in ((True, "one.jpg: second"), (False, "1 files: --verbose shows them")):
        with Results() as results:
            results.add(result)
            thumbs._report(  # noqa: SLF001
                thumbs.Run(1, results, done=1), job.out, as_json=False, verbose=verbose
            )
        assert expected in capfd.readouterr().out


@pytest.mark.parametrize(
    ("encoding", "words"), [("ascii", ("--workers", "1")), ("latin-1", ("--dry-run", "--json"))]
)
def test_any_terminal_can_show_the_summary(
    tmp_path: Path, encoding: str, words: tuple[str, ...]
) -> None:
    """Names that the terminal's encoding does not have are escaped, in text and in JSON."""
    album, out = tmp_path / "album", tmp_path / "日"
    album.mkdir()
    (album / "one.jpg").write_bytes(jpeg())
    (album / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"broken")
    done = subprocess.run(  # noqa: S603 - the command under test
        [COMMAND, "thumbs", album, "--out", out, *words],
        env=os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "200"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    shown = done.stdout.decode(encoding)
    assert r"\u65e5" in shown
    assert "caf?.jpg" in shown
    assert ("bytes became" in shown) == (encoding == "ascii")


def test_a_dry_run_says_what_a_run_makes_and_writes_nothing(home: Home, album: Path) -> None:
    """Counts and names are those of the run that follows; the exit code reports failures."""
    out = album.parent / "out"
    planned = home.json("thumbs", album, "--out", out, "--dry-run")
    assert not out.exists()
    done = home.json("thumbs", album, "--out", out)
    assert planned["counts"] == done["counts"]
    assert (planned["dry_run"], done["dry_run"]) == (True, False)
    assert planned["totals"]["made"]["thumbnails"] == 4
    assert done["totals"]["made"]["thumbnail_bytes"] == sum(
        path.stat().st_size for path in out.rglob("*.webp")
    )

    def paths(summary: Any) -> list[str]:
        return [each["path"] for file in summary["files"] for each in file.get("thumbnails", [])]

    assert paths(planned) == paths(done)
    (album / "new.jpg").write_text("not a picture")
    shown = home.run("thumbs", album, "--out", out, "--dry-run")
    assert shown.returncode == 1
    assert "2 current, 1 failed, 1 skipped. 0 thumbnails would be written." in shown.stdout
    assert not (out / "failed.jsonl").exists()


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    """What is known of 400 files and their results is on disk, not in Python's memory."""
    job = one_job(tmp_path)
    written = {spec: (path, 1) for spec, path in job.targets.items()}
    own = tracemalloc.Filter(inclusive=False, filename_pattern="*/pathlib/*")  # its intern table
    tracemalloc.start()
    with Plan(job.out, SETTINGS, 512) as planned, Results() as results:
        before = tracemalloc.take_snapshot().filter_traces([own])
        for index in range(400):
            path = job.path.with_name(f"{index}.jpg")
            planned.add(File(path, f"uploads/{index}.jpg"), named=False)
            results.add(Result(path, State.MADE, 1, written))
        assert sum(1 for each in planned if planned.newer_than(each) is None) == 400
        assert sum(1 for _ in results.every()) == 400
        grown = tracemalloc.take_snapshot().filter_traces([own]).compare_to(before, "filename")
    tracemalloc.stop()
    assert sum(each.size_diff for each in grown) < 100_000


# --- thumbnails of originals that are gone ------------------------------------------------------
def test_prune_deletes_thumbnails_of_originals_that_are_gone_and_nothing_else(
    home: Home, tmp_path: Path
) -> None:
    """Not those of other folders, and no file that this pipeline did not make.

    A sidecar such as `one.xmp` is no original.
    """
    album, other, out = tmp_path / "album", tmp_path / "other", tmp_path / "out"
    for path in (
        album / "a" / "one.jpg",
        album / "one.jpg",
        album / "one_edit.jpg",
        other / "x.jpg",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg((300, 200)))
    formats = ("--formats", "webp,avif,jpeg", "--sizes", "64,card=32x32")
    home.json("thumbs", album, other, "--out", out, *formats)
    (out / "album" / "gone_64w.webp").write_bytes(jpeg())  # without a mark
    (out / "album" / "link_64w.webp").symlink_to(out / "album" / "one_64w.webp")
    before = files(out)
    assert home.json("thumbs", album, "--out", out, "--prune", *formats)["orphaned"] == 0
    (album / "a" / "one.jpg").rename(album / "a" / "one.xmp")
    (album / "a" / "one.xmp").write_text("<x/>")
    (album / "one_edit.jpg").unlink()
    (other / "x.jpg").unlink()
    planned = home.json("thumbs", album, "--out", out, "--prune", "--dry-run", *formats)
    assert (planned["orphaned"], planned["deleted"]) == (12, 0)
    refused = home.run("thumbs", album, "--out", out, "--prune", *formats)
    assert refused.returncode == 1
    assert "pass --yes" in refused.stderr
    assert files(out) == before
    done = home.run("thumbs", album, "--out", out, "--prune", "--yes", *formats)
    assert done.returncode == 0
    assert "12 deleted" in done.stdout
    expected = {name for name in before if "/a/" not in name and "one_edit" not in name}
    assert files(out) == expected
    assert not (out / "album" / "a").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("album/one.jpg",), "--prune takes folders"),
        (("album", "--key-template", "{stem}_{size}.webp"), "--prune needs {dir}"),
        (("album", "--yes"), "Check that their disk is connected"),
        (("other", "album", "--yes"), "There are no files in album."),
    ],
)
def test_prune_refuses_what_it_cannot_decide(
    home: Home, album: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    """Files, names without folders, and folders that may be those of a disk that is missing."""
    monkeypatch.chdir(album.parent)
    home.json("thumbs", "album", "--out", "out")
    before = files(album.parent / "out")
    Path("other").mkdir()
    Path("other", "note.txt").touch()
    if "--yes" in words:
        shutil.rmtree(album)
        album.mkdir()
    done = home.run("thumbs", *words, "--out", "out", "--prune")
    assert done.returncode == 1
    assert message in " ".join(done.stderr.split())
    assert files(album.parent / "out") == before
