"""Installs the programs that the command runs: the SAM CLI, the local AWS, and uv if there is none.

Each has an environment of its own, because their libraries exclude one another. A requirements file
pins everything in it by hash. In a checkout the environments are in `.tools`, where `make setup`
installs them with this module. An installed wheel has them in the user's cache folder, from the
first command on that needs them; after that, no network is used.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from image_pipeline.build.function import BuildError, run_uv, runtime_python
from image_pipeline.build.sources import CHECKOUT, REQUIREMENTS
from image_pipeline.errors import CommandError

SAM: Final = "sam"
MINISTACK: Final = "ministack"
UV: Final = "uv"
"""Names of environments, whose requirements are in NAME.txt in REQUIREMENTS."""

TITLES: Final = {SAM: "the SAM CLI", MINISTACK: "the local AWS", UV: "uv"}
"""Name of an environment → what is in it, in words."""

PROGRAMS: Final = "Scripts" if os.name == "nt" else "bin"
"""Folder of an environment's programs."""

READY: Final = ".ready"
"""File of a complete environment, with the SHA-256 of its requirements."""

KEPT_DAYS: Final = 30
"""Days that an environment of earlier requirements is kept in the cache after its last use."""

type Report = Callable[[str], None]


def _quietly(_step: str) -> None:
    """Report nothing."""


def install(name: str, report: Report = _quietly) -> Path:
    """Install the environment `name` unless it is there; return the folder of its programs.

    `report` is called with a few words about each step of an installation. An environment appears
    when it is complete. Of several processes one installs, and the others wait.

    Raises CommandError if it cannot be installed, OSError if its folder cannot be written.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    folder = _folder(name, digest)
    if not _is_ready(folder, digest):
        from filelock import FileLock, Timeout  # noqa: PLC0415 - 80 ms, once

        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f".{name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            report(f"Waiting for another command, which installs {TITLES.get(name, name)}")
            lock.acquire()
        try:
            if not _is_ready(folder, digest):
                _install(name, requirements, digest, folder, report)
        finally:
            lock.release()
    if not CHECKOUT:
        os.utime(folder / READY)
    return folder / PROGRAMS


def program(name: str, report: Report = _quietly) -> str:
    """The path of the program `name` of the environment `name`. Raises what `install` raises."""
    return str(install(name, report) / (f"{name}.exe" if os.name == "nt" else name))


def python(name: str, report: Report = _quietly) -> Path:
    """The path of the Python of the environment `name`. Raises what `install` raises."""
    return _python(install(name, report).parent)


def find_uv(report: Report = _quietly) -> str:
    """The path of uv: the checkout's own, the one that runs this command, or the one on the PATH.

    If there is none, the pinned one is installed. Raises what `install` raises.
    """
    own = [str(CHECKOUT / ".tools" / UV / PROGRAMS / "uv")] if CHECKOUT else []
    # `uvx` and `uv run` set UV: https://docs.astral.sh/uv/reference/environment/#uv
    for candidate in (*own, os.environ.get("UV"), "uv"):
        if candidate and (found := shutil.which(candidate)):
            return found
    return program(UV, report)


def _folder(name: str, digest: str) -> Path:
    if CHECKOUT:
        return CHECKOUT / ".tools" / name
    from platformdirs import user_cache_path  # noqa: PLC0415 - 20 ms, for an installed wheel only

    return user_cache_path("image-pipeline") / f"{name}-{digest[:12]}"


def _python(folder: Path) -> Path:
    return folder / PROGRAMS / ("python.exe" if os.name == "nt" else "python")


def _is_ready(folder: Path, digest: str) -> bool:
    """Whether the environment is complete, of these requirements, and its Python is still there."""
    try:
        return (folder / READY).read_text() == digest and _python(folder).exists()
    except FileNotFoundError:
        return False


def _install(name: str, requirements: Path, digest: str, folder: Path, report: Report) -> None:
    title = TITLES.get(name, name)
    report(f"Installing {title}")
    for draft in folder.parent.glob(f".{name}-draft-*"):  # of a process that was killed
        shutil.rmtree(draft, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-draft-", dir=folder.parent) as directory:
        environment = Path(directory) / name
        try:
            if name == UV:
                _install_with_pip(requirements, environment)
            else:
                _install_with_uv(requirements, environment, title, report)
        except BuildError as error:
            raise CommandError(str(error)) from error
        (environment / READY).write_text(digest)
        shutil.rmtree(folder, ignore_errors=True)  # of other requirements, or damaged
        environment.rename(folder)
    if not CHECKOUT:
        _remove_unused(name, folder)


def _install_with_uv(requirements: Path, environment: Path, title: str, report: Report) -> None:
    def progress(line: str) -> None:
        if not line.startswith((" ", "Using Python")):  # each package's line, and a draft's path
            report(f"Installing {title}: {line}")

    uv = find_uv(report)
    failure = f"{title[0].upper()}{title[1:]} could not be installed."
    python = f"--python={runtime_python()}"
    # Its scripts find their Python wherever the environment is moved.
    folder = environment.parent  # where no project has settings for uv
    run_uv(
        uv,
        *("venv", "--quiet", "--relocatable", python, str(environment)),
        failure=failure,
        folder=folder,
    )
    # Tests and benchmarks start these programs often, some without the right to write .pyc files.
    # Elsewhere each module is compiled when it is first imported, which is sooner done than all.
    compiled = ["--compile-bytecode"] if CHECKOUT else []
    run_uv(
        uv,
        *("pip", "sync", "--require-hashes", *compiled, f"--python={environment}"),
        str(requirements),
        failure=failure,
        folder=folder,
        report=progress,
    )


def _install_with_pip(requirements: Path, environment: Path) -> None:
    """Install uv itself. Raises CommandError with what Python or pip wrote."""
    pip = [_python(environment), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", environment],
        [*pip, "--require-hashes", "-r", requirements],
    ):
        ran = subprocess.run(  # noqa: S603 - this Python
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if ran.returncode:
            raise CommandError(
                f"uv is not on the PATH, and could not be installed.\n{ran.stdout.strip()}\n"
                "Check the network connection and the proxy settings (HTTPS_PROXY), or install uv "
                "yourself (https://docs.astral.sh/uv/), then run the command again."
            )


def _remove_unused(name: str, kept: Path) -> None:
    """Remove environments of other requirements that no command has used for KEPT_DAYS."""
    for other in kept.parent.glob(f"{name}-*"):
        ready = other / READY
        unused = time.time() - ready.stat().st_mtime if ready.exists() else float("inf")
        if other != kept and unused > KEPT_DAYS * 86_400:
            shutil.rmtree(other, ignore_errors=True)
