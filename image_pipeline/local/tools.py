"""The machines that the local stack runs on, and the environment that its tools run in."""

import os
import platform
import sys
from pathlib import Path
from typing import Final

from image_pipeline.build import tools
from image_pipeline.errors import CommandError
from image_pipeline.ports import HOST
from thumbnailer.build_check import MACHINES

REPOSITORY: Final = Path(__file__).resolve().parents[2]
"""The checkout. Of an installed wheel it is site-packages, where no tools are."""

TOOLS: Final = REPOSITORY / ".tools"
MINISTACK: Final = TOOLS / "ministack" / "bin" / "python"
UV: Final = TOOLS / "uv" / "bin" / "uv"
"""A checkout's own tools, for what only a checkout runs; others ask image_pipeline.build.tools."""


def install_tools(report: tools.Report) -> None:
    """Install what the local stack needs and is missing; `report` is called with each step.

    Raises CommandError if something cannot be installed.
    """
    tools.find_uv(report)
    tools.install(tools.MINISTACK, report)
    tools.install(tools.SAM, report)


def tool_environment(*folders: Path) -> dict[str, str]:
    """The environment that sam and uv run in: this process's, less its AWS configuration.

    Programs in `folders` come first.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "SAM_CLI_"))
    }
    return inherited | {
        "PATH": os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)]),
        "NO_PROXY": f"{HOST},{os.environ.get('NO_PROXY', '')}",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.5",
    }


def sam_environment() -> dict[str, str]:
    """The same, with a checkout's own sam and uv, and a Python of the function's version."""
    return tool_environment(TOOLS / "sam" / "bin", UV.parent, REPOSITORY / ".venv" / "bin")


def check_machine() -> None:
    """Raise CommandError unless the local stack can run on this machine."""
    architecture()
    if sys.platform != "linux":
        raise CommandError(
            "The local stack needs Linux, because it runs the function that is built for Lambda. "
            "On Windows, use WSL 2; on macOS, use a Linux virtual machine or container. `thumbs`, "
            "`deploy` and every command with --stack work here."
        )


def architecture() -> str:
    """Lambda's name of this machine's architecture. Raises CommandError if Lambda has none."""
    try:
        return MACHINES[platform.machine()]
    except KeyError:
        raise CommandError(
            f"Lambda runs on x86-64 and arm64 machines, and this one is {platform.machine()}: the "
            "function cannot run here."
        ) from None
