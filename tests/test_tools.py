"""image_pipeline.build.tools: programs that the installed command installs for itself."""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from filelock import FileLock
from installed_wheel import REPOSITORY, UV

from image_pipeline.build import tools
from image_pipeline.errors import CommandError

PACKAGE = re.compile(r"^iniconfig==.*?(?=^\S)", re.MULTILINE | re.DOTALL)
"""A small package with its hashes, in requirements/dev.txt: it stands for a tool."""

TOOL = "sam"

INSTALL = f"""
import functools, sys
from pathlib import Path
from image_pipeline.build import tools
tools.CHECKOUT, tools.REQUIREMENTS = None, Path(sys.argv[1])
print(tools.install({TOOL!r}, functools.partial(print, flush=True)))
"""


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The requirements of TOOL, for an installed wheel with an empty cache folder."""
    folder = tmp_path / "requirements"
    folder.mkdir()
    package = PACKAGE.search((REPOSITORY / "requirements" / "dev.txt").read_text())
    assert package
    (folder / f"{TOOL}.txt").write_text(package[0])
    monkeypatch.setattr(tools, "CHECKOUT", None)
    monkeypatch.setattr(tools, "REQUIREMENTS", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("UV", str(UV))
    return folder / f"{TOOL}.txt"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The cache folder."""
    return tmp_path / "cache" / "image-pipeline"


def ignore(_doing: str) -> None:
    """Report nothing."""


def environments(cache: Path) -> list[str]:
    """What is in the cache folder, the lock aside."""
    return sorted(each.name for each in cache.iterdir() if each.name != f".{TOOL}.lock")


@pytest.mark.usefixtures("requirements")
def test_a_tool_is_installed_once_and_then_needs_neither_network_nor_uv(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run reports its steps. The second one runs no program at all."""
    said: list[str] = []
    programs = tools.install(TOOL, said.append)
    assert said[0] == "Installing the SAM CLI"
    assert any(re.search("Installed 1 package", each) for each in said)
    installed = subprocess.run(  # noqa: S603 - the environment under test
        [programs / "python", "-c", "import iniconfig, sys; print(sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert installed.stdout == "(3, 13)\n"
    assert environments(cache) == [programs.parent.name]
    monkeypatch.setattr(tools, "run_uv", None)
    monkeypatch.setattr(tools, "find_uv", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    del said[:]
    assert tools.install(TOOL, said.append) == programs
    assert said == []


def test_other_requirements_are_another_environment(requirements: Path, cache: Path) -> None:
    """An older release of the command keeps its own, until it was not used for KEPT_DAYS."""
    first = tools.install(TOOL, ignore).parent
    text = requirements.read_text()
    requirements.write_text(f"{text}# newer\n")
    second = tools.install(TOOL, ignore).parent
    assert first != second
    assert environments(cache) == sorted([first.name, second.name])
    long_ago = time.time() - (tools.KEPT_DAYS + 1) * 86_400
    os.utime(first / tools.READY, (long_ago, long_ago))
    requirements.write_text(text)
    assert tools.install(TOOL, ignore).parent == first  # a use, which counts
    os.utime(second / tools.READY, (long_ago, long_ago))
    requirements.write_text(f"{text}# newest\n")
    third = tools.install(TOOL, ignore).parent
    assert environments(cache) == sorted([first.name, third.name])


@pytest.mark.usefixtures("requirements")
def test_an_interrupted_installation_leaves_nothing_and_is_repeated(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C the folder is as before. What a killed process left is removed, too."""
    (cache / f".{TOOL}-draft-of-a-killed-process" / TOOL).mkdir(parents=True)
    run_uv = tools.run_uv

    def interrupted(_uv: str, *arguments: str, **_options: object) -> None:
        Path(arguments[-1]).mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(tools, "run_uv", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tools.install(TOOL, ignore)
    assert environments(cache) == []
    monkeypatch.setattr(tools, "run_uv", run_uv)
    programs = tools.install(TOOL, ignore)
    assert environments(cache) == [programs.parent.name]


@pytest.mark.usefixtures("requirements")
@pytest.mark.parametrize("lost", ["bin/python", tools.READY])
def test_a_damaged_environment_is_replaced(lost: str) -> None:
    """Such as one whose Python was uninstalled, which is a link to nothing then."""
    environment = tools.install(TOOL, ignore).parent
    (environment / lost).unlink()
    tools.install(TOOL, ignore)
    assert (environment / lost).exists()


def test_of_several_processes_one_installs(requirements: Path, cache: Path) -> None:
    """The others wait while one has the lock, and all get the same environment."""
    command = [sys.executable, "-c", INSTALL, requirements.parent]
    cache.mkdir(parents=True)
    with ExitStack() as ended:
        with FileLock(cache / f".{TOOL}.lock"):
            both = [
                ended.enter_context(
                    subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
                )
                for _ in range(2)
            ]
            for each in both:
                assert each.stdout
                assert each.stdout.readline().startswith("Waiting for another command")
        printed = [each.communicate()[0].splitlines() for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert printed[0][-1] == printed[1][-1]
    assert sum("Installing the SAM CLI" in lines for lines in printed) == 1
    assert environments(cache) == [Path(printed[0][-1]).parent.name]


@pytest.mark.usefixtures("requirements", "no_network")
def test_without_a_network_the_first_installation_says_so(cache: Path) -> None:
    """In words, with what to check; and nothing is left."""
    with pytest.raises(CommandError, match=r"(?s)^The SAM CLI could not.*Check the network"):
        tools.install(TOOL, ignore)
    assert environments(cache) == []


@pytest.mark.usefixtures("requirements")
def test_a_missing_python_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where uv finds none and may download none."""
    monkeypatch.setattr(tools, "runtime_python", lambda: "3.99")
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    with pytest.raises(CommandError, match="or install Python 3"):
        tools.install(TOOL, ignore)


@pytest.mark.parametrize(
    ("pattern", "by", "message"),
    [
        ("sha256:....", "sha256:0000", "Hash mismatch"),
        (r" \\\n.*", "\n", "all requirements must"),
    ],
    ids=["another file", "no hash"],
)
def test_only_what_the_hashes_name_is_installed(
    requirements: Path, cache: Path, pattern: str, by: str, message: str
) -> None:
    """Whatever the package index and uv's cache have."""
    text = requirements.read_text()
    requirements.write_text(re.sub(pattern, by, text, flags=re.DOTALL if by == "\n" else 0))
    with pytest.raises(CommandError, match=message):
        tools.install(TOOL, ignore)
    assert environments(cache) == []


def test_uv_is_the_one_that_runs_the_command_or_the_one_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order; a checkout's own comes first. Without any, the pinned one is installed."""
    found = {}
    for name in ("checkout/.tools/uv/bin", "running", "path"):
        found[name] = tmp_path / name / "uv"
        found[name].parent.mkdir(parents=True)
        found[name].write_text("")
        found[name].chmod(0o755)
    monkeypatch.setenv("UV", str(found["running"]))
    monkeypatch.setenv("PATH", str(found["path"].parent))
    monkeypatch.setattr(tools, "install", lambda name, _report: tmp_path / name)
    monkeypatch.setattr(tools, "CHECKOUT", tmp_path / "checkout")
    for path in found.values():
        assert tools.find_uv(ignore) == str(path)
        path.unlink()
    assert tools.find_uv(ignore) == str(tmp_path / "uv" / "uv")


@pytest.mark.slow
def test_uv_is_installed_where_there_is_none(
    requirements: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By pip, from the pinned file; without a network the message says what to do."""
    monkeypatch.delenv("UV")
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    uv = requirements.with_name("uv.txt")
    uv.write_text("uv==0.0.0 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(
        CommandError, match=r"(?s)^uv is not on the PATH, and could not.*docs.astral"
    ):
        tools.find_uv(ignore)
    shutil.copy(REPOSITORY / "requirements" / "uv.txt", uv)
    program = Path(tools.find_uv(ignore))
    assert program.is_relative_to(cache)
    answer = subprocess.run([program, "--version"], capture_output=True, check=True)  # noqa: S603
    assert answer.stdout.startswith(b"uv ")
