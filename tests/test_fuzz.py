"""The fuzzer sees what goes wrong. What it found in the image code stands in test_bombs.py."""

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
    raise CorruptImage("as it may")
"""


@pytest.mark.parametrize(
    ("target", "kind"),
    [("raises", "exception"), ("crashes", "crash"), ("bloats", "memory"), ("refuses", None)],
)
def test_the_fuzzer_sees_what_goes_wrong(target: str, kind: str | None, tmp_path: Path) -> None:
    """An exception, an abort and a bloated process are findings, kept to be tried again."""
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
    told = json.loads(ran.stdout)
    assert sum(each["cases"] for each in told["counts"]) > 0, ran.stderr
    if kind is None:
        assert (ran.returncode, told["findings"]) == (0, [])
        return
    assert ran.returncode == 1
    file = told["findings"][0]
    assert Path(file).name.startswith(kind)
    assert json.loads(Path(file).with_suffix(".json").read_text())["seed"] == 1


def test_a_hang_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not end is ended, and told."""
    from fuzz import __main__ as fuzz  # noqa: PLC0415

    (tmp_path / "broken.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    counts, kept = fuzz.run(6, 1, 1, "broken:hangs", tmp_path / "findings")
    assert {kind for _, kind in counts} == {"hang"}
    assert len(kept) == 1
