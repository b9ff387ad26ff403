"""Locks: one process at a time, and none left over from a process that has ended."""

import subprocess
import sys
from pathlib import Path

import pytest

from image_pipeline.errors import CommandError
from image_pipeline.folders.writing import LOCK, WORK, writing_to
from image_pipeline.locks import locked


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    """Whoever comes second gets None, until the block of the first ends."""
    path = tmp_path / "lock"
    with locked(path) as first, locked(path) as second:
        assert first is not None
        assert second is None
    with locked(path) as third:
        assert third is not None


def test_a_child_keeps_the_lock_that_it_inherits(tmp_path: Path) -> None:
    """Even if it is killed: so a free lock means that the local stack is gone."""
    path = tmp_path / "lock"
    with locked(path) as lock:
        assert lock is not None
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock]
        )
    with child, locked(path) as taken:
        assert taken is None
        child.kill()
        child.wait()
        with locked(path) as free:
            assert free is not None


def test_a_run_of_thumbs_leaves_no_lock_behind(tmp_path: Path) -> None:
    """The output folder has nothing but thumbnails after a run; a killed one is no obstacle."""
    out = tmp_path / "out"
    killed = f"""
import os, signal
from pathlib import Path
from image_pipeline.folders.writing import writing_to
with writing_to(Path({str(out)!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", killed], check=False)  # noqa: S603 - this Python
    assert {path.name for path in out.iterdir()} == {WORK, LOCK}
    with writing_to(out):
        with pytest.raises(CommandError, match="Another run writes to"), writing_to(out):
            pass
        assert (out / WORK).is_dir()
    assert list(out.iterdir()) == []
