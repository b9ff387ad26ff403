"""The tools that `make setup` installs in a checkout, and the environment that they run in."""

import os
import platform
import sys
from pathlib import Path
from typing import Final

from image_pipeline.build.sources import CHECKOUT
from image_pipeline.errors import CommandError
from image_pipeline.ports import HOST
from thumbnailer.build_check import MACHINES

REPOSITORY: Final = Path(__file__).resolve().parents[2]
"""The checkout. Of an installed wheel it is site-packages, where no tools are."""

TOOLS: Final = REPOSITORY / ".tools"
MINISTACK: Final = TOOLS / "ministack" / "bin" / "python"
"""The Python that ministack, the local AWS, is installed in."""

SAM: Final = TOOLS / "sam" / "bin" / "sam"
UV: Final = TOOLS / "uv" / "bin" / "uv"
TOOL_FOLDERS: Final = (SAM.parent, UV.parent, REPOSITORY / ".venv" / "bin")
"""Folders of sam, of uv, and of a Python of the function's version."""


def check_tools() -> None:
    """Raise CommandError unless the local stack can run on this machine and is installed."""
    architecture()
    if sys.platform != "linux":
        raise CommandError(
            "The local stack needs Linux, because it runs the function that is built for Lambda. "
            "On Windows, use WSL 2; on macOS, use a Linux virtual machine or container."
        )
    if CHECKOUT is None:
        raise CommandError(
            "The local stack needs a checkout of the repository, and this command was installed "
            "without one. Clone the repository and run `make up` there."
        )
    if missing := [str(tool) for tool in (MINISTACK, SAM, UV) if not tool.exists()]:
        raise CommandError(f"Tools are missing ({', '.join(missing)}). Install them: `make setup`.")


def architecture() -> str:
    """Lambda's name of this machine's architecture. Raises CommandError if Lambda has none."""
    try:
        return MACHINES[platform.machine()]
    except KeyError:
        raise CommandError(
            f"Lambda runs on x86-64 and arm64 machines, and this one is {platform.machine()}: the "
            "function cannot run here."
        ) from None


def tool_path() -> str:
    """The PATH of this process, behind the folders of the tools that a checkout has."""
    return os.pathsep.join([*map(str, TOOL_FOLDERS), os.environ.get("PATH", os.defpath)])


def sam_environment() -> dict[str, str]:
    """The environment that sam and uv run in: this process's, less its AWS configuration."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "SAM_CLI_"))
    }
    return inherited | {
        "PATH": tool_path(),
        "NO_PROXY": f"{HOST},{os.environ.get('NO_PROXY', '')}",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.5",
    }
