"""The stack on this machine: ministack, with the built function deployed to it.

ministack holds a lock on `.local/lock` for life. While that lock is free nothing runs, even if a
state file is left over, so a process id that another process has got meanwhile is never signalled.
ministack leads a process group that contains all workers of the function: killing the group leaves
nothing behind. It keeps nothing on disk, so it can be killed at any time.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from image_pipeline.build import function, tools
from image_pipeline.build.sources import CHECKOUT, Sources, find_sources
from image_pipeline.errors import CommandError
from image_pipeline.local.tools import (
    architecture,
    check_machine,
    install_tools,
    tool_environment,
)
from image_pipeline.locks import locked
from image_pipeline.ports import HOST, check_port
from image_pipeline.stack.aws import LOCAL_REGION, AccessKey, Aws
from image_pipeline.stack.deployed import Stack

LIFELINE: Final = Path(__file__).with_name("lifeline.py")
PATCHES: Final = Path(__file__).with_name("patches") / "__main__.py"
"""The program that starts ministack."""

NAME: Final = "image-pipeline"
INPUT_BUCKET: Final = "image-pipeline-input"
OUTPUT_BUCKET: Final = "image-pipeline-output"

START_SECONDS: Final = 60.0
"""For ministack to answer: it needs one to three seconds on a laptop, and the first time four
seconds of CPU time, because Python compiles it. If it ends before, nobody waits."""

STOP_SECONDS: Final = 10.0
"""For killed processes to be gone, which takes milliseconds."""

CONCURRENCY: Final = 10
"""Invocations at a time: the limit of a new AWS account
(https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html), and few enough for a
laptop."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running local AWS: the id of its process group's leader, and its port on loopback."""

    pid: int
    port: int
    key_id: str
    secret: str = field(repr=False)
    ready: bool = False
    """Whether the stack is deployed, and not being stopped."""

    @property
    def endpoint_url(self) -> str:
        """Where every AWS service answers."""
        return f"http://{HOST}:{self.port}"

    @property
    def aws(self) -> Aws:
        """Its clients, which have its key."""
        return Aws.local(self.endpoint_url, AccessKey(self.key_id, self.secret))


class LocalStack:
    """The local stack of one directory, which holds lock, state, logs, build and temporary files.

    `sources` are built and deployed, those of this installation by default; the stack gets
    `parameters` in addition to those that it requires. `variables` are more settings of ministack.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        sources: Sources | None = None,
        parameters: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory or default_directory()
        self._sources = sources
        self._parameters = parameters or {}
        self._variables = variables or {}
        self._lock = self.directory / "lock"
        self._state = self.directory / "state.json"
        self._temporary = self.directory / "tmp"
        self._log = self.directory / "ministack.log"
        self._build = self.directory / "build"
        self._process: subprocess.Popen[bytes] | None = None

    def server(self) -> Server | None:
        """The local AWS that runs, or None; the state of a process that is gone is ignored."""
        if not self.directory.is_dir():
            return None
        with locked(self._lock) as free:
            return None if free else self._read()

    def stack(self) -> Stack:
        """The deployed stack. Raises CommandError if none is running, or if it is not ready."""
        return Stack.find(*self.deployed())

    def deployed(self) -> tuple[Aws, str]:
        """Where the stack is deployed, and its name. Raises CommandError as `stack` does."""
        server = self.server()
        if server is None:
            raise CommandError("No local stack is running. Start one with `image-pipeline up`.")
        if not server.ready:
            raise CommandError("The local stack is still being deployed. Try again in a moment.")
        return server.aws, NAME

    def start(self, port: int, *, detach: bool, report: Callable[[str], None]) -> Server:
        """Start a local AWS on `port` of loopback, and deploy the stack to it.

        Without `detach` it ends when this process ends, even if that is killed. `report` is called
        with a few words at the start of each step. Raises CommandError if a step fails; after any
        exception, nothing is left running.
        """
        check_machine()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)  # logs have presigned URLs in them
        with locked(self._lock) as lock:
            if lock is None:
                raise CommandError(self._already_running())
            check_port(port)
            install_tools(report)
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir()
            try:
                report("Starting the local AWS")
                server = self._launch(port, lock, detach=detach)
                report("Building the function")
                self.build()
                report("Deploying the stack")
                self.deploy(server)
                server = replace(server, ready=True)
                self._write(server)
            except BaseException:
                self.stop()
                raise
        return server

    def stop(self) -> bool:
        """Kill the local AWS and everything that it started; return whether one was running."""
        server = self.server()
        own, self._process = self._process, None
        if own:
            if own.poll() is None:
                os.killpg(own.pid, signal.SIGKILL)
                own.wait()
            if own.stdin:
                own.stdin.close()
        elif server:
            # So that `up` in another terminal does not report a failure.
            self._write(replace(server, ready=False))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            deadline = time.monotonic() + STOP_SECONDS
            while self.server() and time.monotonic() < deadline:
                time.sleep(0.02)
        self._state.unlink(missing_ok=True)
        shutil.rmtree(self._temporary, ignore_errors=True)
        return server is not None

    def wait(self) -> None:
        """Wait until the local AWS started here ends. Raises CommandError if nobody stopped it."""
        if self._process:
            self._process.wait()
        server = self._read()
        if server and server.ready:  # `stop` would have written that it is not
            raise CommandError(f"The local AWS ended unexpectedly.\n{_tail(self._log)}")

    @property
    def artefact(self) -> Path:
        """The built function, once `build` has made it."""
        return self._build / "lambda"

    def build(self, target: str | None = None) -> None:
        """Build what `deploy` deploys, for the architecture `target` (this machine's by default).

        The build folder is laid out as the sources are, so the template in it names the built
        function. Raises CommandError with the end of the log.
        """
        sources = self._sources or find_sources()
        shutil.rmtree(self._build, ignore_errors=True)
        shutil.copytree(sources.iac, self._build / "iac")
        self._run(
            sys.executable,
            function.__file__,
            str(sources.function),
            str(self.artefact),
            f"--architecture={target or architecture()}",
            f"--uv={tools.find_uv()}",
            failure="The function could not be built.",
            log="build.log",
            variables=tool_environment(),
        )

    def deploy(self, server: Server) -> None:
        """Deploy what was built. Raises CommandError with the end of the log."""
        parameters = {
            "InputBucketName": INPUT_BUCKET,
            "OutputBucketName": OUTPUT_BUCKET,
            "LambdaArchitecture": architecture(),
            **self._parameters,
        }
        self._run(
            tools.program(tools.SAM),
            "deploy",
            f"--template-file={self._build / 'iac' / 'template.yaml'}",
            f"--stack-name={NAME}",
            f"--region={LOCAL_REGION}",
            "--resolve-s3",
            "--no-confirm-changeset",
            "--no-progressbar",
            "--capabilities",
            "CAPABILITY_NAMED_IAM",
            "--parameter-overrides",
            *(f"{name}={value}" for name, value in parameters.items()),
            failure="The stack could not be deployed: `sam deploy` failed.",
            log="sam-deploy.log",
            variables=tool_environment() | server.aws.environment,
        )

    def _already_running(self) -> str:
        server = self.server()
        where = f" on {server.endpoint_url}" if server else ""
        return (
            f"A local stack is already running{where}. Use it (`image-pipeline status`), or stop "
            "it first (`image-pipeline down`)."
        )

    def _launch(self, port: int, lock: int, *, detach: bool) -> Server:
        """Start ministack as the leader of a process group; it inherits `lock`, and so holds it."""
        lifeline = [] if detach else ["--end-with-stdin"]
        key = AccessKey.random()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own tool
                [
                    str(tools.python(tools.MINISTACK)),
                    "-P",  # this project's modules must not shadow ministack's
                    str(PATCHES),
                    *lifeline,
                ],
                stdin=subprocess.DEVNULL if detach else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._temporary,
                env=self.environment(port, key),
                pass_fds=[lock],
                start_new_session=True,
            )
        server = Server(self._process.pid, port, key.key_id, key.secret)
        self._write(server)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                opener.open(server.endpoint_url, timeout=1)
            except urllib.error.HTTPError as refused:  # unsigned: the gate is up
                refused.close()
                return server
            except OSError:
                time.sleep(0.05)
        raise CommandError(f"The local AWS did not start.\n{_tail(self._log)}")

    def environment(self, port: int, key: AccessKey) -> dict[str, str]:
        """The environment of ministack, which gets nothing of this process's environment.

        Requests to it must be signed with `key`, which the function gets too.
        """
        return {
            "PATH": os.defpath,
            "TMPDIR": str(self._temporary),
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(port),
            "MINISTACK_HOST": HOST,  # in URLs of queues; `localhost` could be ::1
            "MINISTACK_REGION": LOCAL_REGION,
            **key.environment(f"http://{HOST}:{port}"),  # for the function
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "LAMBDA_ACCOUNT_CONCURRENCY": str(CONCURRENCY),
            "REQUEST_LOG": str(self.directory / "requests.log"),
            # Otherwise it would remove containers of the user's Docker.
            "DOCKER_HOST": "unix:///nonexistent",
            **self._variables,
        }

    def _read(self) -> Server | None:
        """Read the state file; None if there is none, or another process is removing it."""
        try:
            return Server(**json.loads(self._state.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _write(self, server: Server) -> None:
        draft = self._state.with_suffix(".draft")
        draft.unlink(missing_ok=True)  # its mode may be another
        draft.touch(mode=0o600)  # before the secret is in it
        draft.write_text(json.dumps(asdict(server)) + "\n")
        draft.replace(self._state)

    def _run(
        self,
        *command: str,
        failure: str,
        log: str,
        variables: Mapping[str, str],
    ) -> None:
        """Run a tool with its output in a log. Raises CommandError with `failure` and its end."""
        path = self.directory / log
        with path.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own tools
                [sys.executable, LIFELINE, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,  # holds no samconfig.toml
                env=variables,
                start_new_session=True,
            )
            try:
                while (code := process.poll()) is None:
                    if self._process and self._process.poll() is not None:
                        raise CommandError("The local stack was stopped while it was starting.")
                    time.sleep(0.05)
            finally:  # after Ctrl-C and the like, the tool and its children must not go on
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                assert process.stdin  # noqa: S101 - a pipe, as requested
                process.stdin.close()
        if code:
            raise CommandError(f"{failure}\n{_tail(path)}")


def default_directory() -> Path:
    """Where the local stack of this checkout, or of this installed wheel, has its files."""
    # The variable keeps the stacks of tests, and of a second checkout, apart.
    if directory := os.environ.get("IMAGE_PIPELINE_DIRECTORY"):
        return Path(directory)
    if CHECKOUT:
        return CHECKOUT / ".local"
    from platformdirs import user_state_path  # noqa: PLC0415 - 20 ms, for an installed wheel only

    return user_state_path("image-pipeline")


def _tail(log: Path, lines: int = 15) -> str:
    """The end of a log, and where to find the rest."""
    text = log.read_text(errors="replace").rstrip().splitlines()
    return "\n".join([*text[-lines:], f"(The whole log: {log})"])
