"""The command line itself: what is imported when, the version, and Ctrl-C at any moment."""

import ast
import gc
import importlib
import inspect
import json
import os
import re
import socket
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import NoReturn
from unittest.mock import ANY, Mock, call

import pytest
from home import COMMAND, Home, press_ctrl_c, started
from pictures import jpeg
from PIL import Image

from image_pipeline import cli
from image_pipeline.cli import app, version
from image_pipeline.cli.app import (
    COMMANDS,
    LazyCommand,
    command_line,
    python_name,
    run_app,
)
from image_pipeline.cli.commands import thumbs
from image_pipeline.errors import CommandError
from image_pipeline.folders import workers
from image_pipeline.stack.aws import Aws

UNIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios"}

IMPORTED = """
import sys
sys.argv = ["image-pipeline", *sys.argv[1:]]
from image_pipeline.cli import main
try:
    main()
finally:
    print(sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""
"""Runs the command, and prints the top-level modules that it has imported."""

BLOCKED = """
import sys
for name in ("boto3", "botocore", "s3transfer"):
    sys.modules[name] = None
"""
"""A sitecustomize.py: in every Python that inherits its path an import of these fails."""

SLOW = """
import pathlib, sys, time
if not any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    pathlib.Path({marker!r}).touch()
    time.sleep(60)
"""
"""A module whose import takes long in the command, and that says when it has begun.

In the server that forks workers it fails: the server ends only when its imports have ended.
"""


def run(*command: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(  # noqa: S603 - our own command
        [str(word) for word in command],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


# --- what is imported ---------------------------------------------------------------------------
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_neither_boto3_nor_pillow(option: str) -> None:
    """They answer at once: no command is imported for them."""
    done = run(sys.executable, "-c", IMPORTED, option)
    assert done.returncode == 0
    imported = set(ast.literal_eval(done.stderr.splitlines()[-1]))
    assert not imported & {"boto3", "botocore", "PIL", "thumbnailer"}


def test_thumbs_never_imports_boto3(tmp_path: Path) -> None:
    """A whole run, its workers included, works where boto3 and botocore cannot be imported."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(BLOCKED)
    (tmp_path / "a.jpg").write_bytes(jpeg())
    words = ("thumbs", tmp_path / "a.jpg", "--out", tmp_path / "out", "--json")
    done = run(COMMAND, *words, PYTHONPATH=str(tmp_path / "path"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["made"] == 1
    blocked = run(COMMAND, "status", PYTHONPATH=str(tmp_path / "path"))
    assert "boto3" in blocked.stderr, "the block works"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_summary_is_the_first_line_of_the_help(name: str) -> None:
    """What the group's help shows of a command cannot differ from the command's own help."""
    module = importlib.import_module(f"image_pipeline.cli.commands.{python_name(name)}")
    function = getattr(module, python_name(name))
    assert (inspect.getdoc(function) or "").splitlines()[0] == COMMANDS[name]


def test_every_command_module_is_in_the_table() -> None:
    """A command cannot be forgotten in it."""
    modules = Path(cli.__file__).parent.joinpath("commands").glob("[a-z]*.py")
    assert {path.stem for path in modules} == set(map(python_name, COMMANDS))


def test_every_command_is_loaded_with_its_name_and_options() -> None:
    """The command that stands for it gives the real one."""
    for name, command in command_line().commands.items():
        assert isinstance(command, LazyCommand)
        assert command.params == []
        assert command.load().name == name


@pytest.mark.parametrize("words", [["thumbs", "album"], ["thumbs", "--help"], ["status"], []])
def test_workers_start_before_the_command_is_imported(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """They import the image code meanwhile. They do not start where nothing is made."""
    calls = Mock()
    monkeypatch.setattr(sys, "argv", ["image-pipeline", *words])
    monkeypatch.setattr(workers, "start_server", calls.start_server)
    monkeypatch.setattr(app, "run_app", calls.run_app)
    cli.main()
    begun = [call.start_server("image_pipeline.folders.thumbnails")] * (words[-1:] == ["album"])
    assert calls.mock_calls == [*begun, call.run_app(ANY)]


def test_garbage_is_collected_while_a_command_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And after a mistake too: only while modules are imported there is nothing to collect."""
    collected = []

    def plan(*_: object, **__: object) -> NoReturn:
        collected.append(gc.isenabled())
        raise CommandError("enough")

    monkeypatch.setattr(thumbs, "plan", plan)
    home = Home(tmp_path, 1)
    assert home.run("thumbs", tmp_path, "--out", tmp_path / "out", "--dry-run").returncode == 1
    assert home.run("thumbs").returncode == 2
    assert [*collected, gc.isenabled()] == [True, True]


def test_no_module_of_the_command_line_needs_unix() -> None:
    """What exists on Unix only is imported, or used, where it is needed."""
    for path in Path(cli.__file__).parent.rglob("*.py"):
        text = path.read_text()
        imported = {
            name.partition(".")[0]
            for node in ast.walk(ast.parse(text))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )
        }
        assert not imported & UNIX_ONLY, path
        assert not re.search(r"\bsignal\.(SIGHUP|SIGKILL|SIGUSR\d|alarm)\b", text), path


def test_a_misspelt_command_is_corrected() -> None:
    """Commands that are not loaded yet are suggested all the same."""
    done = run(COMMAND, "thums")
    assert done.returncode == 2
    assert "Did you mean 'thumbs'?" in done.stderr


def test_the_module_is_the_command() -> None:
    """`python -m image_pipeline.cli` does the same."""
    done = run(sys.executable, "-m", "image_pipeline.cli", "--version")
    assert done.stdout == run(COMMAND, "--version").stdout


@pytest.mark.parametrize(
    ("error", "printed"),
    [
        (CommandError("It is [down]. Start it."), "Error: It is [down]. Start it.\n"),
        (PermissionError(13, "Permission denied", "/a"), "Error: Permission denied: /a\n"),
    ],
)
def test_an_error_is_one_message(
    capsys: pytest.CaptureFixture[str], error: Exception, printed: str
) -> None:
    """Without a traceback, as it is, on standard error, with exit code 1."""

    def fail() -> None:
        raise error

    with pytest.raises(SystemExit, match="1"):
        run_app(fail)
    assert capsys.readouterr() == ("", printed)


def test_a_large_picture_is_no_warning(tmp_path: Path) -> None:
    """Only headers are read, so Pillow's warning of a bomb does not reach the user."""
    Image.new("1", (10_000, 10_000)).save(tmp_path / "large.png")
    run_app(lambda: Image.open(tmp_path / "large.png").close())


# --- the version --------------------------------------------------------------------------------
def test_the_version_names_the_commit_of_the_checkout() -> None:
    """Version of the package and commit, on one line."""
    done = run(COMMAND, "--version")
    assert re.fullmatch(r"image-pipeline \d+\.\d+\.\d+ \(commit [0-9a-f]{7}\)\n", done.stdout)


def test_a_wheel_may_know_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the file that its build wrote; the commit of a repository around it is not taken."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "_commit").write_text("0123456789abcdef\n")
    monkeypatch.setattr(version, "PACKAGE", tmp_path / "package")
    assert version.version().endswith("(commit 0123456)")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ('{"vcs_info": {"vcs": "git", "commit_id": "fedcba9876543210"}}', " (commit fedcba9)"),
        ('{"dir_info": {"editable": true}}', ""),
        ("not JSON", ""),
        (None, ""),
    ],
)
def test_an_installation_from_git_knows_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, shown: str
) -> None:
    """The installer has written it down; where it has not, the version is all."""

    class Installed:
        version = "1.2.3"

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return source

    monkeypatch.setattr(version, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(version, "distribution", lambda _: Installed())
    assert version.version() == f"image-pipeline 1.2.3{shown}"


def test_the_version_never_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without git, in a broken repository and without metadata there is still an answer."""

    def not_installed(name: str) -> None:
        raise PackageNotFoundError(name)

    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(version, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(version, "distribution", not_installed)
    assert version.version() == "image-pipeline (unknown version)"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert version.version() == "image-pipeline (unknown version)"


# --- Ctrl-C -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("typer", ["--version"]),
        ("rich", ["--help"]),
        ("boto3", ["status"]),
        ("botocore", ["upload", "a.jpg"]),
        ("PIL", ["thumbs", "a.jpg", "--out", "out"]),
    ],
)
def test_ctrl_c_during_imports_leaves_no_traceback(
    tmp_path: Path, module: str, words: list[str]
) -> None:
    """Whatever is being imported: exit code 130, and nothing is printed."""
    marker = tmp_path / "begun"
    (tmp_path / f"{module}.py").write_text(SLOW.format(marker=str(marker)))
    with started([COMMAND, *words], os.environ | {"PYTHONPATH": str(tmp_path)}) as process:
        deadline = time.monotonic() + 30
        while not marker.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        code = press_ctrl_c(process)
        printed = process.communicate(timeout=30)
    assert (code, *printed) == (130, "", "")


def test_ctrl_c_during_work_leaves_no_traceback() -> None:
    """While a request waits for its answer."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        command = [COMMAND, "cost", "--stack", "any"]
        with started(command, os.environ | {"AWS_ENDPOINT_URL": endpoint}) as process:
            silent.settimeout(30)
            with silent.accept()[0]:
                code = press_ctrl_c(process)
                printed = process.communicate(timeout=30)
    assert (code, *printed) == (130, "", "")


def test_a_profile_counts_more_than_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--profile takes the credentials of the profile; one that is not there is named."""
    config = tmp_path / "config"
    config.write_text("[profile photos]\naws_access_key_id = P\naws_secret_access_key = S\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "E")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S")

    def key(profile: str | None) -> str:
        address = Aws.account("eu-west-3", profile).s3.generate_presigned_url("list_buckets")
        (found,) = re.findall(r"(?:AWSAccessKeyId=|Credential=)(\w+)", address)
        return str(found)

    assert (key("photos"), key(None)) == ("P", "E")
    with pytest.raises(CommandError, match="none"):
        key("none")


@pytest.mark.parametrize("option", ["--region", "--profile"])
def test_an_account_is_not_taken_for_the_local_stack(option: str) -> None:
    """`status --region eu-west-1` without --stack is refused, not answered by the local stack."""
    done = run(COMMAND, "status", option, "eu-west-1")
    assert done.returncode == 1
    assert "--stack NAME" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_with_a_stack_has_a_profile() -> None:
    """Whoever names a stack in an account can say with which credentials."""
    with_stack = []
    for name, summary in COMMANDS.items():
        params = LazyCommand(name, summary).load().params
        options = {option for each in params for option in each.opts}
        assert ("--stack" in options) == ("--profile" in options), name
        with_stack += [name] if "--stack" in options else []
    assert len(with_stack) > 10
