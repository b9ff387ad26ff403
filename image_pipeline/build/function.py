"""Builds the Lambda function: `python function.py SOURCE ARTEFACT [--architecture NAME]`.

SOURCE holds the function's modules and its requirements.txt; ARTEFACT becomes the folder that
Lambda gets as /var/task. `sam build` runs this file through lambda/Makefile, in whatever Python uv
finds, so it imports nothing but the standard library and runs under Python 3.9 and later.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

PLATFORMS = {"arm64": "aarch64-manylinux_2_28", "x86_64": "x86_64-manylinux_2_28"}
"""Lambda's name of an architecture → uv's name of the platform whose wheels run there.

The python3.13 runtime is Amazon Linux 2023, which has glibc 2.34
(https://docs.aws.amazon.com/linux/al2023/ug/compare-with-al2.html); manylinux_2_28 needs 2.28.
"""

RUNTIME_PYTHON = "3.13"
"""The runtime's version of Python (Runtime in iac/template.yaml): its bytecode is of no other."""

TASK_ROOT = "/var/task"
"""Where Lambda unpacks the artefact
(https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html)."""

STAMP = "build.json"
"""Architecture and version of the artefact: what thumbnailer.build_check reads at init."""

NOT_SHIPPED = ("__pycache__", "tests")
"""Names of folders that are removed wherever they are, in the function and in its libraries."""

ADVICE = {
    "Hash mismatch": "A download differs from the file that requirements.txt names. Run `uv cache "
    "clean` and try again. If the message stays, do not deploy: the package index serves another "
    "file under that name.",
    "python-build-standalone|No interpreter found": "There is no Python 3.13, and uv could not "
    "download it. Check the network connection and the proxy settings (HTTPS_PROXY), or install "
    "Python 3.13, then try again.",
    "error sending request|Failed to fetch|Failed to download": "uv could not download what it "
    "needs. Check the network connection and the proxy settings (HTTPS_PROXY), then try again.",
}
"""Pattern of uv's error → what to do about it; the first that matches counts."""


class BuildError(Exception):
    """The function cannot be built; the message says why and what to do next."""


def build_function(
    source: Path, artefact: Path, architecture: str = "arm64", uv: str | None = None
) -> None:
    """Build the function in `source` for `architecture`, and put the result at `artefact`.

    An earlier `artefact` is replaced once the new one is complete. `uv` is the path of that
    program; without it, the one on PATH is used. The same source gives the same bytes.

    Raises BuildError, or OSError where a file cannot be read or written; `artefact` is then as it
    was before.
    """
    if architecture not in PLATFORMS:
        raise BuildError(
            f"The architecture must be {' or '.join(PLATFORMS)}, not {architecture!r}. Set "
            "LAMBDA_ARCHITECTURE, or pass --architecture."
        )
    uv = uv or shutil.which("uv")
    if not uv:
        raise BuildError(
            "The build needs uv, which is not on PATH. In a checkout, run `make build`, which "
            "installs it; elsewhere, run `pip install uv` first."
        )
    requirements = source / "requirements.txt"
    project = source.parent / "pyproject.toml"
    for needed in (requirements, source / "handler.py", project):
        if not needed.is_file():
            raise BuildError(
                f"{needed} does not exist: the first argument must be the folder of the function's "
                "source, which is lambda/ in a checkout."
            )
    if artefact.exists() and any(artefact.iterdir()) and not (artefact / STAMP).is_file():
        raise BuildError(
            f"{artefact} has files in it and is not an earlier build: it is left as it is. Choose "
            "another folder for the artefact."
        )
    artefact.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=artefact.parent) as folder:
        draft = Path(folder) / "function"
        _install_libraries(uv, requirements, draft, architecture)
        _copy_modules(source, draft)
        _remove_what_is_not_shipped(draft)
        stamp = {"architecture": architecture, "version": project_version(project)}
        (draft / STAMP).write_text(json.dumps(stamp) + "\n")
        _compile(uv, draft)
        make_readable(draft)
        if artefact.exists():
            shutil.rmtree(artefact)
        draft.rename(artefact)


def project_version(project: Path) -> str:
    """Read the version from a pyproject.toml, whose other parts do not matter.

    Raises BuildError if it has none. (Python 3.9 has no tomllib.)
    """
    found = re.search(r'^version = "(.+)"$', project.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise BuildError(f'{project} has no line `version = "…"`: the build needs the version.')
    return found[1]


def _install_libraries(uv: str, requirements: Path, target: Path, architecture: str) -> None:
    """Install exactly the wheels that `requirements` names by hash, for Lambda's platform.

    uv asks the package index even for what it has. So the first try is without a network: hashes
    say what is installed, wherever it comes from.
    """
    arguments = (
        "pip",
        "install",
        "--quiet",
        f"--python={sys.executable}",  # any version: the next two options say what is installed
        f"--python-version={RUNTIME_PYTHON}",
        f"--python-platform={PLATFORMS[architecture]}",
        f"--target={target}",
        "--only-binary=:all:",
        "--no-deps",
        "--require-hashes",
        "--link-mode=copy",  # a link would give changes here to uv's cache
        f"--requirement={requirements}",
    )
    failure = "The function's libraries could not be installed."
    try:
        run_uv(uv, *arguments, "--offline", failure=failure)
    except BuildError:
        shutil.rmtree(target, ignore_errors=True)
        run_uv(uv, *arguments, failure=failure)


def _copy_modules(source: Path, target: Path) -> None:
    """Copy the modules and packages of `source`, and nothing else that lies there."""
    for path in source.iterdir():
        if path.suffix == ".py":
            shutil.copy(path, target)
        elif (path / "__init__.py").is_file():
            shutil.copytree(path, target / path.name)


def _remove_what_is_not_shipped(folder: Path) -> None:
    shutil.rmtree(folder / "bin", ignore_errors=True)  # scripts of libraries
    (folder / ".lock").unlink(missing_ok=True)  # uv's own
    for name in NOT_SHIPPED:
        for path in list(folder.rglob(name)):
            if path.is_dir():
                shutil.rmtree(path)
    # The lists of files have hashes of the scripts, which contain the path of this Python.
    for record in folder.glob("*.dist-info/RECORD"):
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if (folder / line.partition(",")[0]).exists()]
        record.write_text("".join(kept), encoding="utf-8")


def _compile(uv: str, folder: Path) -> None:
    """Write a .pyc of every module, which Python uses without checking the source (PEP 552).

    Without them every cold start would compile everything: AWS adds none, and /var/task is
    read-only.
    """
    run_uv(
        uv,
        *("run", "--quiet", "--no-project", f"--python={runtime_python()}"),
        *("python", "-I", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash"),
        *("-s", str(folder), "-p", TASK_ROOT, str(folder)),
        failure=f"The function could not be compiled with Python {RUNTIME_PYTHON}.",
    )


def make_readable(folder: Path) -> None:
    """Give everyone read access: Lambda runs the function as a user of its own.

    The modes of the source depend on the umask of whoever checked it out.
    """
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def runtime_python() -> str:
    """What uv takes as a Python of the runtime's version: this one if it is, else its number."""
    own = ".".join(map(str, sys.version_info[:2]))
    return sys.executable if own == RUNTIME_PYTHON else RUNTIME_PYTHON


def run_uv(
    uv: str,
    *arguments: str,
    failure: str,
    folder: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> None:
    """Run uv, in `folder`. `report` is called with each line that it writes, once it is there.

    Raises BuildError with `failure`, what uv wrote, and advice if there is any.
    """
    lines = []
    with subprocess.Popen(  # noqa: S603 - uv, with arguments of this project
        [uv, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as running:
        assert running.stdout  # noqa: S101 - a pipe, as requested
        try:
            for line in running.stdout:
                lines.append(line)
                if report:
                    report(line.rstrip())
        except BaseException:  # Ctrl-C and the like
            running.kill()
            raise
    if running.returncode:
        output = "".join(lines).strip()
        advice = (sentence for pattern, sentence in ADVICE.items() if re.search(pattern, output))
        raise BuildError("\n".join([failure, output, next(advice, "")]).rstrip())


def main() -> None:
    """Build the function that the command line names; a failure is one message and exit code 1."""
    parser = argparse.ArgumentParser(description="Build the Lambda function.")
    parser.add_argument("source", metavar="SOURCE", type=Path, help="folder of the function's code")
    parser.add_argument("artefact", metavar="ARTEFACT", type=Path, help="folder to build into")
    parser.add_argument(
        "--architecture",
        metavar="NAME",
        default=os.environ.get("LAMBDA_ARCHITECTURE", "arm64"),
        help="arm64 (the default) or x86_64; also LAMBDA_ARCHITECTURE",
    )
    parser.add_argument("--uv", metavar="PATH", help="the uv to use; by default the one on PATH")
    options = parser.parse_args()
    try:
        build_function(options.source, options.artefact, options.architecture, options.uv)
    except BuildError as error:
        sys.exit(f"Error: {error}")
    except OSError as error:
        sys.exit(f"Error: {error.strerror}: {error.filename}")


if __name__ == "__main__":
    main()
