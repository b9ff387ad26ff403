"""The directory that a local stack lives in, and the command that uses it."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
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
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def console(self) -> Iterator[subprocess.Popen[str]]:
        """Run a console in the foreground for the block."""
        with self._started([COMMAND, "console", "--no-browser", "--port", "0"]) as process:
            yield process

    @contextmanager
    def up(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Run `up` in the foreground for the block."""
        with self._started([*(command or (COMMAND,)), "up", "--port", str(self.port)]) as process:
            yield process

    @contextmanager
    def _started(self, command: list[str | Path]) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(  # noqa: S603 - the command under test
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()
