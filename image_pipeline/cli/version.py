"""The version of this installation, and the commit that it was built from where that is known."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

NAME: Final = "image-pipeline"
PACKAGE: Final = Path(__file__).resolve().parents[1]

SHORT: Final = 7
"""Digits of a commit that are shown, as `git rev-parse --short` does."""

GIT_SECONDS: Final = 2.0
"""Time for git to name the commit. An assumption: it takes milliseconds."""


def version() -> str:
    """Name, version and commit: `image-pipeline 0.1.0 (commit abc1234)`.

    What is not known is left out. Raises nothing.
    """
    commit = next(_commits(), "")
    return f"{NAME} {number() or '(unknown version)'}" + f" (commit {commit[:SHORT]})" * bool(
        commit
    )


def number() -> str | None:
    """The version alone, such as 0.2.0; None if this is run from source that is not installed."""
    try:
        return distribution(NAME).version
    except PackageNotFoundError:
        return None


def _commits() -> Iterator[str]:
    """The commit, from each place that knows it."""
    if (PACKAGE.parent / ".git").exists():  # a checkout; in a worktree it is a file
        yield from _head(PACKAGE.parent)
    with suppress(OSError, ValueError):  # written into the wheel when it is built
        if recorded := (PACKAGE / "_commit").read_text(encoding="ascii").strip():
            yield recorded
    with suppress(PackageNotFoundError, ValueError, KeyError, TypeError):
        # https://packaging.python.org/en/latest/specifications/direct-url/
        source = distribution(NAME).read_text("direct_url.json") or "{}"
        yield str(json.loads(source)["vcs_info"]["commit_id"])


def _head(repository: Path) -> Iterator[str]:
    """The commit that is checked out, if git knows it."""
    # Variables such as GIT_DIR, which git sets in hooks, name another repository.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(  # noqa: S603 - the path of this package
            ["git", "-C", str(repository), "rev-parse", "HEAD"],  # noqa: S607 - the user's git
            env=environment,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
        yield done.stdout.strip()
