"""What the make targets install, and what they say when they cannot."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

LOCAL_STACK = ["requirements/sam.txt", "requirements/ministack.txt"]
"""What is installed for the local stack."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh checkout, as far as make can tell: nothing is installed in it."""
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    for name in ("pyproject.toml", "requirements", "tests"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    return tmp_path


def make(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run make in `checkout`."""
    program = shutil.which("make")
    assert program
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    return subprocess.run(  # noqa: S603 - our own Makefile
        [program, *words],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("selected", "installed"),
    [
        ("", LOCAL_STACK),
        ("-k keys", LOCAL_STACK),
        ("tests/test_settings.py", []),
        ("-x tests/test_settings.py tests/test_events.py::test_one", []),
        ("tests/local_stack/test_uploading.py", []),
        ("tests/test_runtime_emulator.py", LOCAL_STACK),
        ("tests/local_stack/test_smoke.py::test_a_stack_that_works", LOCAL_STACK),
        ("tests/test_settings.py tests/local_stack", LOCAL_STACK),
    ],
)
def test_the_local_stack_is_installed_for_tests_that_need_it(
    checkout: Path, selected: str, installed: list[str]
) -> None:
    """`make test PYTEST=PATH` installs SAM and ministack only if a test in PATH is marked."""
    done = make(checkout, "--dry-run", "test", f"PYTEST={selected}")
    assert done.returncode == 0, done.stderr
    assert f"pytest -n auto --dist loadscope {selected}".strip() in done.stdout
    assert "requirements/dev.txt" in done.stdout
    assert [name for name in LOCAL_STACK if name in done.stdout] == installed


def test_a_missing_python_is_said_in_a_sentence(checkout: Path) -> None:
    """Where uv finds no Python 3.13 and cannot download one, its message gets an explanation."""
    uv = checkout / ".tools" / "uv" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text("#!/bin/sh\necho 'error: Request failed after 3 retries' >&2\nexit 1\n")
    uv.chmod(0o755)
    for target in (".venv/.ready", ".tools/sam/.ready"):
        done = make(checkout, f"--assume-old={uv.relative_to(checkout)}", target)
        assert done.returncode
        assert "error: Request failed" in done.stderr
        assert "There is no Python 3.13, and uv could not download it" in done.stderr
        assert not (checkout / target).exists()
