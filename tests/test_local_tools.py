"""image_pipeline.local.tools: on which machines the local stack runs."""

import platform
import sys
from pathlib import Path

import pytest

from image_pipeline.errors import CommandError
from image_pipeline.local.stack import LocalStack


@pytest.mark.parametrize(
    ("system", "machine", "message"),
    [
        ("win32", "AMD64", "On Windows, use WSL 2"),
        ("darwin", "arm64", "on macOS, use a Linux virtual machine"),
        ("linux", "riscv64", "x86-64 and arm64 machines, and this one is riscv64"),
    ],
)
def test_up_says_which_machines_it_runs_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, message: str
) -> None:
    """On every other one the message says what to use instead, and nothing is written.

    Of Windows and macOS it says what works there.
    """
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(CommandError, match=message) as raised:
        LocalStack(tmp_path / "home").start(4566, detach=True, report=lambda _: None)
    assert ("every command with --stack work here" in str(raised.value)) == (system != "linux")
    assert not (tmp_path / "home").exists()
