"""Runs the shell blocks of pages as a reader types them, in fresh clones of this checkout.

    python -m tools.shell_blocks README.md docs/getting-started.md

Each page has a clone of the commit that is checked out, with the files that a reader has
(READERS_FILES). Its blocks run in one shell, one after the other, and the first command that fails
ends the run. A comment before a block says what is special about it:

    <!-- not run: REASON -->     only its syntax is checked
    <!-- until Ctrl-C -->        each of its commands is interrupted after some seconds
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from image_pipeline.cli.app import run_app
from image_pipeline.cli.signals import stopped_by_signals
from image_pipeline.errors import CommandError
from image_pipeline.local import samples

ROOT: Final = Path(__file__).resolve().parents[1]

REASONS: Final = ("needs an AWS account", "needs a release", "needs the AWS CLI", "runs this")
"""Why a block is not run. `make test` checks the blocks too, and would not end."""

UNTIL_CTRL_C: Final = "until Ctrl-C"

FIRST_SECONDS: Final = 20
"""How long a command runs before its Ctrl-C. The slowest one needs two seconds to start."""

READERS_FILES: Final = {
    "photo.jpg": "JPEG",
    "path/to/photos/one.jpg": "JPEG",
    "path/to/your/photos/one.jpg": "JPEG",
    "holiday/one.jpg": "JPEG",
    "portraits/one.jpg": "JPEG",
    "inbox/one.jpg": "JPEG",
    "scans/one.tif": "TIFF",
}
"""Pictures that the pages speak of, in the folder where the commands run, and their formats."""

READERS_EVENT: Final = "path/to/event.json"

_BLOCK: Final = re.compile(
    r"^(?:<!-- (?P<note>.+?) -->\n)?```bash\n(?P<text>.*?)\n```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A block of a page; `line` is the number of its first command, and `note` its comment."""

    page: str
    line: int
    text: str
    note: str | None = None

    @property
    def runs(self) -> bool:
        """Whether its commands are run, and not only checked."""
        return not (self.note or "").startswith("not run: ")


def blocks(page: Path) -> list[Block]:
    """Read the shell blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page.name, text[: match.start("text")].count("\n") + 1, match["text"], match["note"])
        for match in _BLOCK.finditer(text)
    ]


def script(found: list[Block]) -> str:
    """Write the shell script that runs blocks, and says which one it runs, and which one fails."""
    lines = [
        "set -Eeuo pipefail",
        "trap 'echo \"The block at $at fails.\" >&2' ERR",
        # 130: what a command returns after Ctrl-C.
        f'interrupt() {{ timeout --signal=INT --preserve-status {FIRST_SECONDS} "$@"; }}',
        'until_ctrl_c() { interrupt "$@" || [ $? = 130 ]; }',
    ]
    for block in found:
        lines += [f"at={block.page}:{block.line}", 'echo "=== $at"']
        if block.note == UNTIL_CTRL_C:
            lines += [f"until_ctrl_c {line}" for line in block.text.splitlines()]
        elif block.runs:
            lines.append(block.text)
        else:
            lines.append(f"echo 'Left out: {str(block.note).removeprefix('not run: ')}'")
    return "\n".join(lines) + "\n"


def prepare(folder: Path) -> None:
    """Clone the checkout into `folder`, with the files that a reader has."""
    git = ["git", "clone", "--quiet", str(ROOT), str(folder)]
    subprocess.run(git, check=True)  # noqa: S603 - fixed words
    picture = samples.landscape((1200, 800))
    for name, file_format in READERS_FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, file_format)
    shutil.copy(ROOT / "tests" / "sample_event.json", folder / READERS_EVENT)


def readers_environment(home: Path, programs: Sequence[Path]) -> dict[str, str]:
    """The environment of this process without make's variables and this checkout's programs.

    `programs` are folders of programs that the reader has: Python, and uv. Downloads that uv has
    already are used again.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("VIRTUAL_ENV", "MFLAGS") and not name.startswith(("MAKE", "IMAGE_PIPELINE"))
    }
    path = [
        folder
        for folder in kept.get("PATH", os.defpath).split(os.pathsep)
        if not Path(folder).is_relative_to(ROOT)
    ]
    return {
        "UV_CACHE_DIR": str(Path.home() / ".cache" / "uv"),
        **kept,
        "HOME": str(home),
        "PATH": os.pathsep.join([*map(str, programs), *path]),
    }


def run(page: Path) -> int:
    """Run the blocks of a page, and return the exit code of its shell."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clone, home, python = (folder / each for each in ("clone", "home", "python"))
        home.mkdir()
        prepare(clone)
        # `pip install` is for an environment of the reader's.
        venv = [sys.executable, "-m", "venv", str(python)]
        subprocess.run(venv, check=True)  # noqa: S603 - fixed words
        program = folder / "blocks.sh"
        program.write_text(script(blocks(page)), encoding="utf-8")
        environment = readers_environment(home, [python / "bin", ROOT / ".tools" / "uv" / "bin"])
        shell = subprocess.Popen(  # noqa: S603 - the blocks of this project's own pages
            ["/bin/bash", str(program)], cwd=clone, env=environment, start_new_session=True
        )
        try:
            return shell.wait()
        finally:  # what a page starts and does not stop
            down = [str(clone / ".venv" / "bin" / "image-pipeline"), "down"]
            if Path(down[0]).exists():
                subprocess.run(down, check=False, env=environment)  # noqa: S603 - fixed words
            if shell.returncode is None:
                os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()


def main() -> None:
    """Run the blocks of the pages that the command line names."""
    with stopped_by_signals():
        for name in sys.argv[1:]:
            if code := run(ROOT / name):
                raise CommandError(f"{name}: its commands failed with exit code {code}.")


if __name__ == "__main__":
    run_app(main)
