"""`image-pipeline thumbs`: thumbnails of local folders, with no AWS."""

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from home import COMMAND, Home
from hypothesis import given
from hypothesis import strategies as st
from pictures import decoded, is_upright, jpeg, thumbnails_of

from image_pipeline.errors import CommandError
from image_pipeline.folders import thumbnails
from image_pipeline.folders.thumbnails import State
from thumbnailer.imaging import make_thumbnails
from thumbnailer.imaging.encoders.webp import MARK_CHUNK
from thumbnailer.settings import Settings

SETTINGS = Settings(output_bucket="", dead_letter_queue_url="")
PHOTOS = Path(__file__).parent.parent.parent / "shared" / "corpus" / "photos"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """The command, where there is no local stack."""
    return Home(tmp_path / "home", 1)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder with a picture, one in a folder below, and what is no picture."""
    folder = tmp_path / "album"
    (folder / "a").mkdir(parents=True)
    (folder / "one.jpg").write_bytes(jpeg())
    (folder / "a" / "two.png").write_bytes(jpeg((300, 200)))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.jpg").write_bytes(b"")
    return folder


def files(folder: Path) -> set[str]:
    """Paths of all files below `folder`, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for `condition`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_folders_are_kept_and_names_are_those_of_the_pipeline(home: Home, album: Path) -> None:
    """Every picture, whatever its name's ending, has its thumbnails, and nothing else is there."""
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


def test_options_are_those_of_the_stack(home: Home, album: Path) -> None:
    """Sizes, quality and names may be chosen, and quality is that of the encoder."""
    out = album.parent / "out"
    source = album / "one.jpg"
    words = ("--sizes", "64", "--quality", "30", "--key-template", "{width}/{stem}.{ext}.webp")
    home.json("thumbs", source, "--out", out, *words)
    assert files(out) == {"64/one.jpg.webp"}
    expected = thumbnails_of(source.read_bytes(), (64,), 30, 512).thumbnails[0].data
    assert decoded((out / "64" / "one.jpg.webp").read_bytes()).tobytes() == (
        decoded(expected).tobytes()
    )


def test_what_is_up_to_date_is_left_alone(home: Home, album: Path) -> None:
    """A second run writes nothing; other bytes, a lost thumbnail or other settings are made."""
    out = album.parent / "out"
    home.json("thumbs", album, "--out", out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.webp")}
    assert home.json("thumbs", album, "--out", out)["counts"]["current"] == 2
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.webp")}
    (album / "one.jpg").write_bytes(jpeg((900, 600)))
    assert home.json("thumbs", album, "--out", out)["counts"]["made"] == 1
    (out / "album" / "a" / "two_128w.webp").unlink()
    assert home.json("thumbs", album, "--out", out)["counts"]["made"] == 1
    assert home.json("thumbs", album, "--out", out, "--quality", 20)["counts"]["made"] == 2


def test_an_older_file_put_in_place_is_made_again(home: Home, album: Path) -> None:
    """What is up to date is no matter of which time is later: a restored backup is seen."""
    out = album.parent / "out"
    home.json("thumbs", album, "--out", out)
    (album / "one.jpg").write_bytes(jpeg((640, 480)))
    os.utime(album / "one.jpg", (1, 1))
    assert home.json("thumbs", album, "--out", out)["counts"]["made"] == 1


def test_failures_are_listed_and_the_rest_is_made(home: Home, album: Path) -> None:
    """Exit code 1, a line in failed.jsonl with the pipeline's words; healed, it is gone."""
    out = album.parent / "out"
    broken = album / "broken.jpg"
    broken.write_bytes(jpeg()[:300])
    done = home.run("thumbs", album, "--out", out)
    assert done.returncode == 1
    assert "CorruptImage" in done.stdout
    assert str(out / "failed.jsonl") in done.stdout.replace("\n", "")
    (line,) = (out / "failed.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert told["path"] == str(broken)
    assert told["error"]["type"] == "CorruptImage"
    assert told["error"]["permanent"] is True
    assert (out / "album" / "one_512w.webp").exists()
    broken.write_bytes(jpeg())
    assert home.run("thumbs", album, "--out", out).returncode == 0
    assert not (out / "failed.jsonl").exists()


def test_a_file_that_is_named_fails_where_one_in_a_folder_is_skipped(
    home: Home, album: Path
) -> None:
    """Who names a file means it; and a picture's name in a folder is meant, too."""
    out = album.parent / "out"
    assert home.json("thumbs", album / "notes.txt", "--out", out, code=1)["counts"]["failed"] == 1
    (album / "drawing.svg").write_text("<svg/>")
    done = home.json("thumbs", album, "--out", out, code=1)
    assert (done["counts"]["failed"], done["counts"]["skipped"]) == (1, 1)


@pytest.mark.parametrize("newer", ["one.png", "one.jpg"])
def test_the_newer_file_has_the_name(home: Home, album: Path, newer: str) -> None:
    """Two files with the same thumbnails do not take turns, run by run: the newer has them."""
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


def test_thumbnails_within_the_folder_are_no_originals(home: Home, album: Path) -> None:
    """DIR may lie in the folder; then its own files are left out, and nothing grows."""
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
def test_a_mistake_is_told_and_nothing_is_left(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str], message: str
) -> None:
    """One message, exit code 1, and no empty folder."""
    monkeypatch.chdir(tmp_path)
    done = home.run("thumbs", *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("words", [("--sizes", "0"), ("--key-template", "{stem}")])
def test_a_wrong_option_is_a_usage_error(home: Home, album: Path, words: tuple[str, str]) -> None:
    """The option is named, and the exit code is that of a wrong command line."""
    done = home.run("thumbs", album, "--out", album.parent / "out", *words)
    assert done.returncode == 2
    assert words[0] in done.stderr


def test_another_run_is_not_disturbed(home: Home, album: Path) -> None:
    """Two runs that write to the same folder would remove each other's unfinished files."""
    out = album.parent / "out"
    with thumbnails.writing_to(out):
        done = home.run("thumbs", album, "--out", out)
    assert done.returncode == 1
    assert "Another run writes to" in done.stderr
    assert home.run("thumbs", album, "--out", out).returncode == 0


def test_what_cannot_be_read_or_written_is_a_failure_of_one_file(home: Home, album: Path) -> None:
    """A link to nowhere is no file; a folder in a thumbnail's place costs that picture only."""
    (album / "gone.jpg").symlink_to(album / "nowhere.jpg")
    out = album.parent / "out"
    (out / "album" / "one_512w.webp" / "x").mkdir(parents=True)
    done = home.json("thumbs", album, "--out", out, code=1)
    assert (done["counts"]["made"], done["counts"]["failed"]) == (1, 1)
    (failed,) = (each for each in done["files"] if each["state"] == "failed")
    assert failed["error"]["type"] == "IsADirectoryError"
    assert not (out / thumbnails.WORK).exists()


def test_an_enormous_file_is_not_read(tmp_path: Path) -> None:
    """What is no picture is told from its first bytes; a picture beyond memory is refused."""
    for head, state in ((b"\x1aE\xdf\xa3", State.SKIPPED), (b"II*\0", State.FAILED)):
        film = tmp_path / "album" / "film.mkv"
        film.parent.mkdir(exist_ok=True)
        with film.open("wb") as file:
            file.write(head)
            file.truncate(20 * 1024**3)  # sparse
        (job,) = thumbnails.plan([film.parent], tmp_path / "out", SETTINGS, 1)
        assert thumbnails.make(job).state is state


def test_a_process_that_dies_takes_only_its_file_along(tmp_path: Path) -> None:
    """The others are made; the guilty one is told by trying those in question alone."""
    album = tmp_path / "album"
    album.mkdir()
    for index in range(6):
        (album / f"{index}.jpg").write_bytes(jpeg())
    jobs = thumbnails.plan([album], tmp_path / "out", SETTINGS, 2)
    deadly = [job for job in jobs if job.path.name == "3.jpg"]
    with thumbnails.writing_to(tmp_path / "out"), patch.object(thumbnails, "make", dying_at_3):
        results = list(thumbnails.run(jobs, 2))
    assert {each.path for each in results if each.error_type == "ProcessDied"} == {deadly[0].path}
    assert sum(each.state is State.MADE for each in results) == 5


REAL_MAKE = thumbnails.make


def dying_at_3(job: thumbnails.Job) -> thumbnails.Result:
    """Stands for a decoder that crashes on a file."""
    if job.path.name == "3.jpg":
        os.kill(os.getpid(), signal.SIGKILL)
    return REAL_MAKE(job)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder that takes some seconds."""
    folder = tmp_path / "many"
    folder.mkdir()
    picture = jpeg((4000, 3000))
    for index in range(120):
        (folder / f"{index}.jpg").write_bytes(picture)
    return folder


def family(process: int) -> set[int]:
    """All processes whose ancestor `process` is."""
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_at_any_time_it_leaves_whole_files_and_goes_on(
    home: Home, many: Path, number: signal.Signals
) -> None:
    """No thumbnail is cut, no process stays behind, and the next run makes only the rest."""
    out = many.parent / "out"
    with subprocess.Popen(  # noqa: S603 - the command under test
        [COMMAND, "thumbs", many, "--out", out],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        until(lambda: len(list(out.rglob("*.webp"))) > 4)
        started = family(process.pid)
        assert started
        if number is signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        _, said = process.communicate(timeout=30)
    expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
    assert process.returncode == expected[number]
    assert "Traceback" not in said
    if number is signal.SIGINT:
        assert "Run it again to go on" in said
    until(lambda: not any(Path(f"/proc/{each}").exists() for each in started))
    made = list(out.rglob("*.webp"))
    for path in made:
        decoded(path.read_bytes())
        assert MARK_CHUNK in path.read_bytes()[-24:]
    assert len(made) < 240
    done = home.json("thumbs", many, "--out", out)
    assert done["counts"]["current"] >= len(made) // 2 - 2  # a picture may have one of two
    assert len(files(out)) == 240


def test_all_workers_work(many: Path) -> None:
    """Two processes make thumbnails at the same time."""
    out = many.parent / "out"
    jobs = thumbnails.plan([many], out, SETTINGS, 2)[:12]
    with thumbnails.writing_to(out), patch.object(thumbnails, "make", telling_its_process):
        told = {each.error_message for each in thumbnails.run(jobs, 2)}
    assert len(told) == 2


def telling_its_process(job: thumbnails.Job) -> thumbnails.Result:
    """A result that names the process that it comes from."""
    time.sleep(0.05)
    return thumbnails.Result(job.path, State.MADE, error_message=str(os.getpid()))


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, watching an empty folder `inbox`."""
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


def test_a_watched_folder_has_its_thumbnails_as_files_come(
    watching: subprocess.Popen[str], tmp_path: Path
) -> None:
    """A new file, a folder moved in, a broken file and its mending; each a line of JSON."""
    assert watching.stdout is not None
    inbox, out = tmp_path / "inbox", tmp_path / "out"

    def told() -> tuple[str, str]:
        assert watching.stdout is not None
        line = json.loads(watching.stdout.readline())
        return Path(line["path"]).name, line["state"]

    (inbox / "one.jpg").write_bytes(jpeg())
    assert told() == ("one.jpg", "made")
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "two.jpg").write_bytes(jpeg())
    (tmp_path / "later").rename(inbox / "later")
    assert told() == ("two.jpg", "made")
    assert (out / "inbox" / "later" / "two_512w.webp").exists()
    (inbox / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    assert told() == ("bad.jpg", "failed")
    until((out / "failed.jsonl").exists)
    (inbox / "bad.jpg").write_bytes(jpeg())
    assert told() == ("bad.jpg", "made")
    until(lambda: not (out / "failed.jsonl").exists())
    watching.send_signal(signal.SIGINT)
    assert watching.wait(timeout=30) == 0


NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=40
).filter(lambda name: name not in (".", "..") and not name.startswith("."))


@given(parts=st.lists(NAMES, min_size=1, max_size=3))
def test_every_name_stays_within_the_folder(parts: list[str]) -> None:
    """A thumbnail's path is the file's own folders, a name, a width: never outside of DIR."""
    out = Path("/out")
    key = SETTINGS.input_prefix + "/".join(parts)
    job = thumbnails.Job(Path("/x"), key, True, out, SETTINGS, 512)  # noqa: FBT003
    for spec, target in job.targets.items():
        assert Path(os.path.normpath(target)).is_relative_to(out)
        assert target.parent == out.joinpath(*parts[:-1])
        assert target.name.endswith(f"_{spec.size.name}.webp")


def test_a_name_that_is_no_text_is_a_name_all_the_same(home: Home, album: Path) -> None:
    """Old discs have names in Latin-1; their thumbnails keep them, and output is still UTF-8."""
    (album / "one.jpg").rename(album / os.fsdecode(b"caf\xe9.jpg"))
    (album / os.fsdecode(b"b\xe9d.jpg")).write_bytes(b"\xff\xd8\xff")
    out = album.parent / "out"
    done = home.json("thumbs", album, "--out", out, code=1)
    assert done["counts"] == dict.fromkeys(State, 0) | {"made": 2, "failed": 1, "skipped": 1}
    assert (out / "album" / os.fsdecode(b"caf\xe9_128w.webp")).exists()
    assert "b?d.jpg" in (out / "failed.jsonl").read_text()
    assert home.run("thumbs", album, "--out", out).returncode == 1


def test_a_folder_that_is_gone_is_told() -> None:
    """As is one that never was."""
    with pytest.raises(CommandError, match="no file or folder"):
        thumbnails.plan([Path("/nowhere")], Path("/out"), SETTINGS, 1)


@pytest.mark.skipif(not PHOTOS.exists(), reason="the corpus is not here")
def test_photos_are_those_of_the_function(tmp_path: Path) -> None:
    """Byte for byte what the function stores, but for the stamp at the end."""
    jobs = thumbnails.plan([PHOTOS], tmp_path, SETTINGS, 2)[:2]
    with thumbnails.writing_to(tmp_path):
        results = list(thumbnails.run(jobs, 2))
    for job, result in itertools.product(jobs, results):
        if job.path != result.path or result.thumbnails is None:
            continue
        made = make_thumbnails(job.path.read_bytes(), SETTINGS.specs, 512)
        for thumbnail in made.thumbnails:
            stored = result.thumbnails[thumbnail.spec.size][0].read_bytes()
            assert decoded(stored).tobytes() == decoded(thumbnail.data).tobytes()
