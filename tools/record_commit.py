"""Build hook of the wheel: records the commit that it is built from, where that is known."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

RECORD: Final = "image_pipeline/_commit"
"""A file with a commit's hash and a line feed; `-dirty` follows the hash of a changed checkout."""


class RecordCommit(BuildHookInterface[Any]):
    """Adds the record to a wheel and to an sdist; a wheel that is built from an sdist keeps it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the record, unless the install is editable or no commit is known."""
        commit = commit_of(Path(self.root))
        if commit and version != "editable":
            self._folder = tempfile.TemporaryDirectory()
            path = Path(self._folder.name) / "commit"
            path.write_text(commit + "\n")
            build_data["force_include"][str(path)] = RECORD

    def finalize(self, *_: Any) -> None:
        """Remove what `initialize` has written."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def commit_of(root: Path) -> str | None:
    """The commit that is checked out in `root`; None without git, or outside of a checkout."""
    if not (root / ".git").exists():  # else git would find the repository of a folder above
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        ran = subprocess.run(  # noqa: S603 - fixed words
            command, cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return ran.stdout.strip()
