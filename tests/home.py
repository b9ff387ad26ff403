"""The directory that a local stack lives in, and the command that uses it."""

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from image_pipeline.cli import main

COMMAND = Path(sys.executable).parent / "image-pipeline"


@dataclass
class Home:
    """A directory that a local stack lives in, and the command that uses it."""

    directory: Path
    port: int
    printed_by_up: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the command."""
        return os.environ | {"IMAGE_PIPELINE_DIRECTORY": str(self.directory), "COLUMNS": "100"}

    def run(self, *words: object, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end: in this process, because its imports take a second."""
        arguments = ["image-pipeline", *map(str, words)]
        with (
            patch.dict(os.environ, self.environment | variables),
            patch.object(sys, "argv", arguments),
            redirect_stdout(io.StringIO()) as stdout,
            redirect_stderr(io.StringIO()) as stderr,
            pytest.raises(SystemExit) as left,
        ):
            main()
        code = left.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(arguments, code, stdout.getvalue(), stderr.getvalue())

    def json(self, *words: object, code: int = 0, **variables: str) -> Any:
        """Run the command with --json; its output, decoded."""
        done = self.run(*words, "--json", **variables)
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout)

    def status(self) -> Any:
        """What `status --json` says of a stack; failed uploads that wait are no error here."""
        done = self.run("status", "--json")
        assert done.returncode in (0, 1), done.stderr + done.stdout
        return json.loads(done.stdout)

    @contextmanager
    def console(self) -> Iterator[subprocess.Popen[str]]:
        """Run a console in the foreground for the block."""
        command = [COMMAND, "console", "--no-browser", "--port", "0"]
        with started(command, self.environment) as process:
            yield process

    @contextmanager
    def up(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Run `up` in the foreground for the block."""
        words = [*(command or (COMMAND,)), "up", "--port", str(self.port)]
        with started(words, self.environment) as process:
            yield process

    def in_a_terminal(
        self, *words: str, answers: dict[str, bytes], **variables: str
    ) -> tuple[int, str]:
        """Run the command as a person does, who types an answer when its question is seen.

        Returns the exit code and what was printed. A command that is silent for a minute is killed.
        """
        child, terminal = pty.fork()
        if child == 0:
            environment = self.environment | variables
            os.execve(COMMAND, ["image-pipeline", *words], environment)  # noqa: S606
        seen = b""
        while select.select([terminal], [], [], 60)[0]:
            try:
                seen += os.read(terminal, 4096)
            except OSError:  # it has ended
                break
            for question in [each for each in answers if each.encode() in seen]:
                os.write(terminal, answers.pop(question))
        else:
            os.kill(child, signal.SIGKILL)
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), seen.decode(errors="replace")


@contextmanager
def started(
    command: Sequence[object], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside the test, for the block."""
    with subprocess.Popen(  # noqa: S603 - the command under test
        [str(word) for word in command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def press_ctrl_c(process: subprocess.Popen[str]) -> int:
    """Send SIGINT until the process ends, as a person does; return its exit code.

    A signal that comes just before a system call begins to wait is handled only after that wait.
    """
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.wait(15)
    raise AssertionError(f"{process.args} does not end")
