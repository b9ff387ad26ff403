"""The fuzzer detects faults. Its findings in the image code are tests in test_bombs.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BROKEN = """
import os, time
from thumbnailer.errors import CorruptImage

def raises(data, *_):
    return [][len(data)]

def crashes(data, *_):
    os.abort()

def bloats(data, *_):
    bytearray(os.urandom(1)) * (600 * 2**20)

def hangs(data, *_):
    time.sleep(60)

def refuses(data, *_):
    raise CorruptImage("a permanent error")
"""


@pytest.mark.parametrize(
    ("target", "kind"),
    [("raises", "exception"), ("crashes", "crash"), ("bloats", "memory"), ("refuses", None)],
)
def test_the_fuzzer_detects_faults(target: str, kind: str | None, tmp_path: Path) -> None:
    """An exception, a crash and too much memory are findings, which are saved; an error is not."""
    (tmp_path / "broken.py").write_text(BROKEN)
    found = tmp_path / "findings"
    command = [sys.executable, "-m", "fuzz", "--target", f"broken:{target}", "--seed", "1"]
    ran = subprocess.run(  # noqa: S603
        [*command, "--minutes", "0.1", "--workers", "1", "--findings", str(found), "--json"],
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


def test_a_hang_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case that does not end is stopped and reported."""
    from fuzz import __main__ as fuzz  # noqa: PLC0415

    (tmp_path / "broken.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(fuzz, "MAX_SECONDS", 0.2)
    counts, saved = fuzz.run(6, 1, 1, "broken:hangs", tmp_path / "findings")
    assert {kind for _, kind in counts} == {"hang"}
    assert len(saved) == 1
