"""The fuzzer detects faults. Its findings in the image code are tests in test_bombs.py."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import psutil
import pytest

from fuzz import __main__ as fuzz
from fuzz.formats import DAMAGES, gif, isobmff, jpeg, jpeg2000, png, webp
from fuzz.seeds import seeds
from fuzz.worker import Case, Outcome, attempt, memory_mb
from thumbnailer.imaging import identify, make_thumbnails

ROOT = Path(__file__).parents[1]

BROKEN = """
import os, subprocess, sys, time
from thumbnailer.errors import CorruptImage

def raises(data, *_):
    return [][len(data)]

def crashes(data, *_):
    os.abort()

def bloats(data, *_):
    bytearray(os.urandom(1)) * (600 * 2**20)

LEFT = []

def leaves_memory_behind(data, *_):
    LEFT.append(b"1" * (20 * 2**20))
    bytearray(os.urandom(1)) * (410 * 2**20)

def bloats_in_a_child(data, *_):
    subprocess.run([sys.executable, "-c", "bytearray(b'1') * (600 * 2**20)"], check=True)

def computes(*_):
    began = time.process_time()
    while time.process_time() - began < 0.6:
        pass

def computes_in_a_child(data, *_):
    subprocess.run([sys.executable, "-c", "import broken; broken.computes()"], check=True)

def never_ends(data, *_):
    while True:
        pass

def never_ends_in_a_child(data, *_):
    subprocess.run([sys.executable, "-c", "while True: pass"])

def sleeps(data, *_):
    time.sleep(60)

def computes_a_little(data, *_):
    began = time.process_time()
    while time.process_time() - began < 0.3:
        pass

def refuses(data, *_):
    raise CorruptImage("a permanent error")
"""


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("raises", "exception"),
        ("crashes", "crash"),
        pytest.param("bloats", "memory", marks=pytest.mark.slow),
        pytest.param("refuses", None, marks=pytest.mark.slow),
    ],
)
def test_the_fuzzer_detects_faults(target: str, kind: str | None, tmp_path: Path) -> None:
    """An exception, a crash and too much memory are findings, which are saved; an error is not."""
    (tmp_path / "broken.py").write_text(BROKEN)
    found = tmp_path / "findings"
    command = [sys.executable, "-m", "fuzz", "--target", f"broken:{target}", "--seed", "1"]
    ran = subprocess.run(  # noqa: S603
        [*command, "--minutes", "0.01", "--workers", "1", "--findings", str(found), "--json"],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(ran.stdout)
    assert sum(each["cases"] for each in report["counts"]) > 0, ran.stderr
    if kind is None:
        assert (ran.returncode, report["findings"]) == (0, [])
        return
    assert ran.returncode == 1
    file = report["findings"][0]
    assert Path(file).name.startswith(kind)
    assert json.loads(Path(file).with_suffix(".json").read_text())["seed"] == 1


@pytest.mark.slow
def test_a_finding_says_how_to_reproduce_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that is printed with a finding has the same outcome, from the file alone."""
    (tmp_path / "broken.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = tmp_path / "findings"
    target = ["--target", "broken:raises"]
    ran = _fuzz("--minutes", "0.05", "--workers", "1", "--findings", str(found), *target)
    (command,) = (line for line in ran.stdout.splitlines() if "--reproduce" in line)
    again = _fuzz(*command.split()[3:], *target)
    assert again.returncode == 1
    assert again.stdout.startswith("exception ")


def _fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fuzz", *arguments]
    return subprocess.run(  # noqa: S603
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., fuzz.Worker]]:
    """Starts a worker for a function of `broken`. By default a case may take 0.5 s of CPU time."""
    (tmp_path / "broken.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    workers = []

    def started(target: str, max_seconds: float = 0.5) -> fuzz.Worker:
        workers.append(fuzz.Worker(f"broken:{target}", 1, max_seconds, 0, 1))
        return workers[-1]

    yield started
    for worker in workers:
        worker.stop()


def _outcome_of_next_case(worker: fuzz.Worker) -> Outcome:
    while True:
        outcome = worker.read() if worker.pipe.poll(0.1) else worker.overdue()
        if outcome is not None:
            return outcome


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "detail"),
    [
        ("computes", "[0-9]* s of CPU time"),
        ("computes_in_a_child", "[0-9]* s of CPU time"),
        ("never_ends", "stopped after * s of CPU time"),
        ("never_ends_in_a_child", "stopped after * s of CPU time"),
    ],
)
def test_a_case_over_its_cpu_time_is_a_finding(
    target: str, detail: str, start: Callable[..., fuzz.Worker]
) -> None:
    """It is reported whether it ends or must be stopped, and whether it computes in a child."""
    outcome = _outcome_of_next_case(start(target))
    assert outcome.kind == "hang"
    assert fnmatch(outcome.detail, detail)
    assert outcome.seconds > 0.5


@pytest.mark.slow
def test_the_memory_of_a_child_counts(start: Callable[..., fuzz.Worker]) -> None:
    """A case whose child needs too much memory is a finding."""
    assert _outcome_of_next_case(start("bloats_in_a_child", 8.0)).kind == "memory"


@pytest.mark.slow
def test_what_earlier_cases_left_behind_does_not_count(
    start: Callable[..., fuzz.Worker],
) -> None:
    """A case that fits into a new process is no finding, whatever the last cases left."""
    worker = start("leaves_memory_behind", 8.0)
    outcomes = [_outcome_of_next_case(worker) for _ in range(4)]
    assert {outcome.kind for outcome in outcomes} == {"ok"}


def test_a_case_that_sleeps_is_a_finding(
    start: Callable[..., fuzz.Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A case that gains no CPU time is stopped by the clock, and reported."""
    monkeypatch.setattr(fuzz, "MAX_SLEEP_SECONDS", 1)
    outcome = _outcome_of_next_case(start("sleeps"))
    assert (outcome.kind, outcome.detail[:20]) == ("hang", "sleeps: no CPU time ")


@pytest.mark.slow
def test_a_busy_machine_gives_no_false_alarm(start: Callable[..., fuzz.Worker]) -> None:
    """A case that waits for a core for twice the CPU time it may take, and more, is no finding."""
    worker = start("computes_a_little")
    _outcome_of_next_case(worker)
    core = min(os.sched_getaffinity(0))
    competitors = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        for process in psutil.Process().children(recursive=True):
            os.sched_setaffinity(process.pid, {core})
        began = time.monotonic()
        outcomes = [_outcome_of_next_case(worker) for _ in range(2)]
        waited = time.monotonic() - began
    finally:
        for competitor in competitors:
            competitor.kill()
            competitor.wait()
    assert waited / len(outcomes) > fuzz.OVERTIME * 0.5
    assert {outcome.kind for outcome in outcomes} == {"ok"}


SPLIT_AND_JOINED = {
    "PNG": png,
    "JPEG": jpeg,
    "GIF": gif,
    "WEBP": webp,
    "JPEG2000": jpeg2000,
    "AVIF": isobmff,
    "HEIF": isobmff,
}


def _drawn(file_format: str) -> list[bytes]:
    """Intact files of a format that the fuzzer draws itself."""
    files = [data for name, data in seeds().items() if name.startswith("drawn/")]
    return [data for data in files if identify(data) == file_format]


@pytest.mark.parametrize("file_format", SPLIT_AND_JOINED)
def test_a_file_is_split_and_joined_without_a_change(file_format: str) -> None:
    """Only what is damaged differs from the intact file."""
    module = SPLIT_AND_JOINED[file_format]
    files = _drawn(file_format)
    assert files
    for data in files:
        assert module.join(module.split(data)) == data


CASES = 150
"""Damaged files of each format."""


def _kind(data: bytes) -> str:
    """Try a file in this process, which may be large."""
    return attempt(make_thumbnails, Case(data, (128,)), own_mb=memory_mb("VmRSS")).kind


LEAST_OPENED = 0.25
"""Share of the damaged files that still give thumbnails: in these, damage gets past the header."""


@pytest.mark.slow
@pytest.mark.parametrize("file_format", DAMAGES)
def test_damage_that_knows_the_format_leaves_files_of_it(file_format: str) -> None:
    """Damaged files differ, begin like their format, and a fair share still gives thumbnails."""
    rng = random.Random(1)  # noqa: S311 - reproducible
    files = _drawn(file_format)
    outcomes = []
    for _ in range(CASES):
        data = rng.choice(files)
        damaged = DAMAGES[file_format](data, files, rng)
        if damaged != data:
            recognised = identify(damaged) == file_format
            outcomes.append((recognised, _kind(damaged)))
    assert len(outcomes) > 0.6 * CASES
    assert sum(recognised for recognised, _ in outcomes) > 0.9 * len(outcomes)
    assert {kind for _, kind in outcomes} == {"ok", "refused"}
    assert sum(kind == "ok" for _, kind in outcomes) > LEAST_OPENED * len(outcomes)
