"""The shell blocks of the pages that a newcomer reads; `make shell-blocks` runs them."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tools.shell_blocks import REASONS, UNTIL_CTRL_C, Block, blocks, script

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = ("README.md", "docs/getting-started.md")
"""The pages that `make shell-blocks` runs."""
TARGETS: Final = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_run_or_says_why_not(name: str) -> None:
    """A block of a kind that is not known, or an unknown reason, would be left out silently."""
    text = (ROOT / name).read_text()
    found = blocks(ROOT / name)
    assert len(found) == len(re.findall(r"^ *```(?:bash|sh|shell|console)$", text, re.MULTILINE))
    known = {None, UNTIL_CTRL_C, *(f"not run: {reason}" for reason in REASONS)}
    assert {block.note for block in found} <= known
    assert any(block.runs for block in found)


@pytest.mark.parametrize("name", PAGES)
def test_make_runs_the_page(name: str) -> None:
    """The target has each of the pages."""
    (recipe,) = re.findall(
        r"^shell-blocks:.*\n\t(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    assert name in recipe.split()


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_a_script_and_names_targets_that_exist(name: str) -> None:
    """Also of the blocks that are not run."""
    for block in blocks(ROOT / name):
        done = run(["-n"], block.text)
        assert done.returncode == 0, done.stderr
        for target in re.findall(r"^make ([a-z-]+)", block.text, re.MULTILINE):
            assert target in TARGETS


def run(options: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
    """Run bash with a script."""
    return subprocess.run(  # noqa: S603 - bash, with the scripts of this file and of the pages
        ["/bin/bash", *options], input=text, capture_output=True, text=True, check=False
    )


def block(text: str, note: str | None = None, line: int = 1) -> Block:
    """A block of a page."""
    return Block("page.md", line, text, note)


def test_the_blocks_of_a_page_share_a_shell() -> None:
    """A variable of one block is there in the next, and the blocks are named."""
    done = run([], script([block("export X=2"), block("echo $((X + 3))", line=7)]))
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["=== page.md:1", "=== page.md:7", "5"]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("false", None),
        ("false | cat", None),
        ("echo $UNSET", None),
        ("false", UNTIL_CTRL_C),
    ],
)
def test_a_command_that_fails_ends_the_run(text: str, note: str | None) -> None:
    """Nothing after it runs, and the exit code says so."""
    done = run([], script([block(text, note), block("echo after")]))
    assert done.returncode != 0
    assert "after" not in done.stdout


def test_a_block_with_a_reason_is_not_run() -> None:
    """The output says that it is left out, and why."""
    done = run([], script([block("false", "not run: needs an AWS account"), block("echo after")]))
    assert done.returncode == 0
    assert "Left out: needs an AWS account" in done.stdout
    assert "after" in done.stdout


def test_a_command_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that would run for a minute gets Ctrl-C, and the next block runs."""
    monkeypatch.setattr("tools.shell_blocks.FIRST_SECONDS", 0.2)
    waiting = block("sh -c 'trap \"exit 130\" INT; while :; do sleep 0.05; done'", UNTIL_CTRL_C)
    done = run([], script([waiting, block("echo after")]))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "after")
