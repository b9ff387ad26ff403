"""The stack on this machine: ministack, with the built function deployed to it.

Whoever serves holds a lock on `.local/lock` for life, so a lock that is free says that nothing
runs, whatever the state file says, and a recycled process id is never signalled. ministack is the
leader of a process group that holds all workers of the function too: killing the group leaves
nothing behind. It keeps nothing on disk, so it needs no gentle end.
"""

import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from image_pipeline.errors import CommandError
from image_pipeline.locks import locked
from image_pipeline.stack.aws import LOCAL_ACCESS_KEY, LOCAL_REGION, Aws
from image_pipeline.stack.deployed import Stack
from thumbnailer.build_check import MACHINES

REPOSITORY: Final = Path(__file__).resolve().parents[2]
TOOLS: Final = REPOSITORY / ".tools"
MINISTACK: Final = TOOLS / "ministack" / "bin" / "python"
TOOL_FOLDERS: Final = (TOOLS / "sam" / "bin", TOOLS / "uv" / "bin", REPOSITORY / ".venv" / "bin")
"""Where sam is, and what sam calls: uv, and a Python of the function's version."""

LIFELINE: Final = Path(__file__).with_name("lifeline.py")
PATCHES: Final = Path(__file__).with_name("patches.py")

HOST: Final = "127.0.0.1"
NAME: Final = "image-pipeline"
INPUT_BUCKET: Final = "image-pipeline-input"
OUTPUT_BUCKET: Final = "image-pipeline-output"

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10.0
CONCURRENCY: Final = 10
"""Invocations at a time: the limit of a new AWS account, and bearable for a laptop."""

CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": LOCAL_ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": LOCAL_ACCESS_KEY,
    "AWS_DEFAULT_REGION": LOCAL_REGION,
}
"""What any AWS tool needs in its environment to use the local AWS."""


@dataclass(frozen=True, slots=True)
class Server:
    """A local AWS that runs: the leader of its process group, and its port on loopback."""

    pid: int
    port: int
    ready: bool = False
    """Whether the stack is deployed, and not being stopped."""

    @property
    def endpoint_url(self) -> str:
        """Where every AWS service answers."""
        return f"http://{HOST}:{self.port}"


class LocalStack:
    """The local stack of one directory, which holds lock, state, logs, build and temporary files.

    `template` is what is deployed, with `parameters` beside those that it must have; `variables`
    are further settings of ministack.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        template: Path = REPOSITORY / "iac" / "template.yaml",
        parameters: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        # The variable lets tests and a second checkout's stack keep out of each other's way.
        self.directory = directory or Path(
            os.environ.get("IMAGE_PIPELINE_DIRECTORY", REPOSITORY / ".local")
        )
        self._template = template
        self._parameters = parameters or {}
        self._variables = variables or {}
        self._lock = self.directory / "lock"
        self._state = self.directory / "state.json"
        self._temporary = self.directory / "tmp"
        self._log = self.directory / "ministack.log"
        self._process: subprocess.Popen[bytes] | None = None

    def server(self) -> Server | None:
        """Tell who runs, or None; what a dead process left behind is ignored."""
        if not self.directory.is_dir():
            return None
        with locked(self._lock) as free:
            return None if free else self._read()

    def stack(self) -> Stack:
        """Find the deployed stack. Raises CommandError if none runs, or it is not ready."""
        server = self.server()
        if server is None:
            raise CommandError("No local stack is running. Start one with `image-pipeline up`.")
        if not server.ready:
            raise CommandError("The local stack is still being deployed. Try again in a moment.")
        return Stack.find(Aws.local(server.endpoint_url), NAME)

    def start(self, port: int, *, detach: bool, report: Callable[[str], None]) -> Server:
        """Start a local AWS on `port` of loopback, and deploy the stack to it.

        Without `detach` it ends with this process, however that ends. `report` is told what is
        being done. Raises CommandError; then, as after any other exception, nothing is left
        running.
        """
        check_tools()
        self.directory.mkdir(parents=True, exist_ok=True)
        with locked(self._lock) as lock:
            if lock is None:
                raise CommandError(self._already_running())
            check_port(port)
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir()
            try:
                report("Starting the local AWS")
                server = self._launch(port, lock, detach=detach)
                report("Building the function (sam build)")
                self.build()
                report("Deploying the stack (sam deploy)")
                self.deploy(server)
                server = replace(server, ready=True)
                self._write(server)
            except BaseException:
                self.stop()
                raise
        return server

    def stop(self) -> bool:
        """Kill the local AWS and all that it started, and clear up; whether one was running."""
        server = self.server()
        own, self._process = self._process, None
        if own:
            if own.poll() is None:
                os.killpg(own.pid, signal.SIGKILL)
                own.wait()
            if own.stdin:
                own.stdin.close()
        elif server:
            self._write(replace(server, ready=False))  # so `up` in another terminal can tell
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            deadline = time.monotonic() + STOP_SECONDS
            while self.server() and time.monotonic() < deadline:
                time.sleep(0.02)
        self._state.unlink(missing_ok=True)
        shutil.rmtree(self._temporary, ignore_errors=True)
        return server is not None

    def wait(self) -> None:
        """Block until the local AWS started here ends. Raises CommandError if by itself."""
        if self._process:
            self._process.wait()
        server = self._read()
        if server and server.ready:  # `stop` says otherwise
            raise CommandError(f"The local AWS ended by itself.\n{_tail(self._log)}")

    @property
    def artefact(self) -> Path:
        """The built function, once `build` has made it."""
        return self.directory / "build" / "ThumbnailFunction"

    def build(self, target: str | None = None) -> None:
        """Build the function for the architecture `target`, which is this machine's by default.

        Raises CommandError with the end of the log.
        """
        self._run(
            "sam",
            "build",
            f"--template-file={self._template}",
            f"--build-dir={self.artefact.parent}",
            log="sam-build.log",
            environment={"LAMBDA_ARCHITECTURE": target or architecture()},
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
            "sam",
            "deploy",
            f"--template-file={self.artefact.with_name('template.yaml')}",
            f"--stack-name={NAME}",
            f"--region={LOCAL_REGION}",
            "--resolve-s3",
            "--no-confirm-changeset",
            "--no-progressbar",
            "--capabilities",
            "CAPABILITY_IAM",
            "CAPABILITY_NAMED_IAM",
            "CAPABILITY_AUTO_EXPAND",
            "--parameter-overrides",
            *(f"{name}={value}" for name, value in parameters.items()),
            log="sam-deploy.log",
            environment={"AWS_ENDPOINT_URL": server.endpoint_url, **CREDENTIALS},
        )

    def _already_running(self) -> str:
        server = self.server()
        where = f" on {server.endpoint_url}" if server else ""
        return (
            f"A local stack is already running{where}. Use it as it is "
            "(`image-pipeline status`), or stop it first: `image-pipeline down`."
        )

    def _launch(self, port: int, lock: int, *, detach: bool) -> Server:
        """Start ministack as the leader of its own group, with `lock` held as long as it lives."""
        lifeline = [] if detach else ["--end-with-stdin"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own tool
                [
                    str(MINISTACK),
                    "-P",  # this package's modules must not shadow ministack's
                    str(PATCHES),
                    *lifeline,
                ],
                stdin=subprocess.DEVNULL if detach else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._temporary,
                env=self.environment(port),
                pass_fds=[lock],
                start_new_session=True,
            )
        server = Server(self._process.pid, port)
        self._write(server)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                with opener.open(f"{server.endpoint_url}/_ministack/health", timeout=1):
                    return server
            except OSError:
                time.sleep(0.05)
        raise CommandError(f"The local AWS did not start.\n{_tail(self._log)}")

    def environment(self, port: int) -> dict[str, str]:
        """What ministack is told; nothing else of this process's environment reaches it."""
        return {
            "PATH": os.defpath,
            "TMPDIR": str(self._temporary),
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(port),
            "MINISTACK_HOST": HOST,  # stands in the queue's URL; localhost may mean ::1
            "MINISTACK_REGION": LOCAL_REGION,
            "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",  # the function's way back
            **CREDENTIALS,
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "LAMBDA_ACCOUNT_CONCURRENCY": str(CONCURRENCY),
            "REQUEST_LOG": str(self.directory / "requests.log"),
            # It would tidy up containers, which are none of its business here.
            "DOCKER_HOST": "unix:///nonexistent",
            **self._variables,
        }

    def _read(self) -> Server | None:
        """Read the state file, or tell None where it is not written yet, or removed just now."""
        try:
            return Server(**json.loads(self._state.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _write(self, server: Server) -> None:
        draft = self._state.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(server)) + "\n")
        draft.replace(self._state)

    def _run(self, *command: str, log: str, environment: Mapping[str, str]) -> None:
        """Run a command of sam's with its output in a log."""
        path = self.directory / log
        with path.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own tool
                [sys.executable, LIFELINE, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,  # no samconfig.toml is found here
                env={**sam_environment(), **environment},
                start_new_session=True,
            )
            try:
                while (code := process.poll()) is None:
                    if self._process and self._process.poll() is not None:
                        raise CommandError("The local stack was stopped while it was starting.")
                    time.sleep(0.05)
            finally:  # after Ctrl-C and the like sam and its children must not go on
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                assert process.stdin  # noqa: S101 - a pipe, as asked for
                process.stdin.close()
        if code:
            raise CommandError(f"`{' '.join(command[:2])}` failed.\n{_tail(path)}")


def architecture() -> str:
    """Name this machine's architecture as Lambda does. Raises CommandError if Lambda has none."""
    try:
        return MACHINES[platform.machine()]
    except KeyError:
        raise CommandError(
            f"Lambda runs on arm64 and x86_64, not on {platform.machine()}: the function cannot be "
            "run on this machine."
        ) from None


def sam_environment() -> dict[str, str]:
    """What sam needs in its environment to run on loopback, without anything of the user's AWS."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "SAM_CLI_"))
    }
    places = [*map(str, TOOL_FOLDERS), os.environ.get("PATH", os.defpath)]
    return inherited | {
        "PATH": os.pathsep.join(places),
        "NO_PROXY": f"{HOST},{os.environ.get('NO_PROXY', '')}",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.5",
    }


def check_tools() -> None:
    """Raise CommandError unless `make setup` has installed what the local stack is made of."""
    tools = [MINISTACK, TOOLS / "sam" / "bin" / "sam", TOOLS / "uv" / "bin" / "uv"]
    if missing := [str(tool) for tool in tools if not tool.exists()]:
        raise CommandError(f"Tools are missing ({', '.join(missing)}). Install them: `make setup`.")


def check_port(port: int) -> None:
    """Raise CommandError if `port` of loopback is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise CommandError(
                f"Port {port} cannot be used ({error.strerror}): another program has it. "
                f"Choose another one: `image-pipeline up --port {port + 1}`."
            ) from error


def _tail(log: Path, lines: int = 15) -> str:
    """The end of a log, and where to find the rest."""
    text = log.read_text(errors="replace").rstrip().splitlines()
    return "\n".join([*text[-lines:], f"(The whole log: {log})"])
