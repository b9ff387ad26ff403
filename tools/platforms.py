"""Checks that what users install has wheels for their systems: `python -m tools.platforms`.

uv resolves for each platform, and installs nothing. It asks the package index.
"""

import subprocess
import tempfile
from pathlib import Path
from typing import Final

from image_pipeline.build.function import RUNTIME_PYTHON
from image_pipeline.build.tools import find_uv
from image_pipeline.cli.app import run_app
from image_pipeline.cli.output import out
from image_pipeline.errors import CommandError

ROOT: Final = Path(__file__).resolve().parents[1]

COMMAND: Final = ("pyproject.toml", "requirements/sam.txt", "requirements/uv.txt")
"""What `thumbs`, `deploy` and every command with --stack need."""

LOCAL_STACK: Final = (*COMMAND, "requirements/ministack.txt")
"""What `up` and `demo` need too."""

PLATFORMS: Final = {
    "aarch64-apple-darwin": COMMAND,
    "x86_64-pc-windows-msvc": COMMAND,
    "x86_64-manylinux_2_28": LOCAL_STACK,
    "aarch64-manylinux_2_28": LOCAL_STACK,
}
"""uv's name of a platform → the files whose packages must be there as wheels."""


def main() -> None:
    """Check every platform. Raises CommandError with what is missing where."""
    uv = find_uv()
    failures = []
    for platform, files in PLATFORMS.items():
        for file in files:
            with tempfile.TemporaryDirectory() as nowhere:
                reason = missing(uv, platform, file, nowhere)
            if reason:
                failures.append(f"{file} on {platform}: {reason}")
            else:
                out.print(f"[green]✓[/] {platform}: {file}")
    if failures:
        raise CommandError("\n".join(["Not everything can be installed.", *failures]))


def missing(uv: str, platform: str, file: str, nowhere: str) -> str:
    """Why the packages of `file` cannot be installed on `platform`; empty if they can.

    `nowhere` is an empty folder, which uv takes for the environment.
    """
    pinned = ("--no-deps", "--require-hashes") if file.endswith(".txt") else ()
    done = subprocess.run(  # noqa: S603 - uv
        [
            *(uv, "pip", "install", "--dry-run", "--quiet", "--only-binary=:all:", *pinned),
            *(f"--python-version={RUNTIME_PYTHON}", f"--python-platform={platform}"),
            f"--target={nowhere}",  # not this environment, which has some of them
            f"--requirement={file}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip() if done.returncode else ""


if __name__ == "__main__":
    run_app(main)
