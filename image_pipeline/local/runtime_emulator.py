"""Runs a built function as Lambda does: in AWS's own runtime client, under AWS's own emulator.

The Runtime Interface Emulator (https://github.com/aws/aws-lambda-runtime-interface-emulator, here
the one inside the SAM CLI) plays the Lambda service, and awslambdaric, the client that is in every
Python runtime of Lambda, loads the handler. So the context, the typed errors, the time-out and the
suppressed second init are the real ones; no Docker is needed. Not emulated: the memory limit, the
share of a CPU, the read-only /var/task, IAM.
"""

import http.client
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Final, Self

from image_pipeline.errors import CommandError
from image_pipeline.local.stack import MINISTACK, TOOLS, architecture

PYTHON: Final = MINISTACK
"""A Python with awslambdaric and boto3, like the runtime's. It has more than that, so what an
artefact lacks can go unnoticed here."""

EMULATORS: Final = "sam/lib/python3.*/site-packages/samcli/local/rapid/aws-lambda-rie-"
INVOCATIONS: Final = "/2015-03-31/functions/function/invocations"

START_SECONDS: Final = 10.0
"""For the emulator to listen: it takes milliseconds."""
STOP_SECONDS: Final = 5.0
INIT_SECONDS: Final = 60.0
"""What an answer may take beyond the function's time-out. Lambda allows an init 10 s; a fraction of
a CPU that others use too may need longer."""

LAMBDA: Final = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "en_US.UTF-8",
    "TZ": ":UTC",
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "AWS_LAMBDA_FUNCTION_NAME": "function",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/function",
    "AWS_LAMBDA_LOG_STREAM_NAME": "local",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_SESSION_TOKEN": "local",
    "PYTHONDONTWRITEBYTECODE": "1",  # /var/task is read-only: no start gains by an earlier one
}
"""What Lambda itself sets (https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html),
with credentials that open nothing."""


@dataclass(frozen=True, slots=True)
class FunctionError:
    """What the caller of a failed function is told: e.g. `ValueError`, `Sandbox.Timedout`."""

    type: str
    message: str
    stack: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Invocation:
    """One event's outcome; times in ms by the emulator's clock.

    `result` is the decoded JSON answer, None with an `error`. `log` holds the lines that the
    function wrote, those of its init included. `init_ms` runs from the start of the process until
    it asks for an event, None in a warm environment; `duration_ms` from there to the answer.
    `billed_ms` is their sum, rounded up
    (https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/).
    `max_memory_mb` is the most that the process has taken, None if it did not survive.
    """

    result: Any
    error: FunctionError | None
    log: tuple[str, ...]
    init_ms: float | None
    duration_ms: float
    billed_ms: int
    max_memory_mb: int | None


class RuntimeEmulator:
    """One execution environment of the function in `artefact`, a directory that `sam build` made.

        with RuntimeEmulator(artefact, {"OUTPUT_BUCKET": "thumbnails", ...}) as emulator:
            invocation = emulator.invoke({"Records": [...]})

    The first `invoke` initialises it, later ones find it warm. The function sees what Lambda sets
    and `environment`, which wins, and nothing of ours. `command` precedes the command of the
    runtime, for one that runs it confined (it must `exec`). `timeout` is in seconds and, in the
    emulator, covers the init too.

    Entering raises CommandError if a tool is missing or the emulator does not start.
    """

    def __init__(  # noqa: PLR0913 - the configuration of a function has so many parts
        self,
        artefact: Path,
        environment: Mapping[str, str],
        *,
        handler: str = "handler.lambda_handler",
        memory_mb: int = 512,
        timeout: int = 30,
        command: Sequence[str] = (),
    ) -> None:
        self._artefact = artefact.resolve()
        self._timeout = timeout
        self._command = [*command, str(PYTHON), "-m", "awslambdaric", handler]
        self._environment = {
            **LAMBDA,
            "LAMBDA_TASK_ROOT": str(self._artefact),
            "_HANDLER": handler,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
            **environment,
        }
        self._one_at_a_time = Lock()

    def __enter__(self) -> Self:
        """Start the emulator; the function starts with its first event."""
        emulator = _emulator()
        if not self._artefact.is_dir():
            raise CommandError(f"{self._artefact} is not there: run `make build` first")
        self._files = tempfile.TemporaryDirectory(prefix="runtime-emulator-")
        files = Path(self._files.name)
        # To files, not pipes: nobody has to read along, and what was written before an answer can
        # be read after it.
        self._output = _Tail(files / "output")  # of the function, and START, END and REPORT lines
        self._trace = _Tail(files / "trace")  # of the emulator
        self._port, runtime_api_port = free_ports(2)
        with self._output.path.open("wb") as output, self._trace.path.open("wb") as trace:
            self._process = subprocess.Popen(  # noqa: S603 - our own tools
                [
                    *(
                        str(emulator),
                        "--log-level",
                        "debug",
                    ),  # not what the function's LOG_LEVEL says
                    *("--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"),
                    *("--runtime-api-address", f"127.0.0.1:{runtime_api_port}"),
                    *self._command,
                ],
                cwd=self._artefact,  # first on sys.path, as /var/task is
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=trace,
                start_new_session=True,
            )
        try:
            self._wait_until_listening()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Id of the emulator's process; the function's is another."""
        return self._process.pid

    def close(self) -> None:
        """Stop the emulator, the function and all that it started."""
        runtimes = self._runtimes()
        self._process.terminate()  # it then kills the runtime, which has a process group of its own
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for group in (self._process.pid, *runtimes):
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        self._files.cleanup()

    def invoke(self, event: object) -> Invocation:
        """Send an event (of JSON) and wait for its outcome; one at a time, as in Lambda.

        A failed function is an `error` of the invocation. Raises CommandError if the emulator
        itself fails.
        """
        with self._one_at_a_time:
            began = time.perf_counter()
            status, body = self._post(json.dumps(event).encode())
            wall_ms = (time.perf_counter() - began) * 1000
            return self._report(status, body, wall_ms)

    def _post(self, body: bytes) -> tuple[int, str]:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=self._timeout + INIT_SECONDS
        )
        try:
            connection.request("POST", INVOCATIONS, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(
                f"The Runtime Interface Emulator does not answer ({error}): {self._trace.last()}"
            ) from error
        finally:
            connection.close()

    def _report(self, status: int, body: str, wall_ms: float) -> Invocation:
        died = status != http.client.OK  # at init, or by leaving the process
        # The answer comes before the REPORT line, and after all else. Nothing follows a death.
        output = self._output.read() if died else self._output.read_until("\nREPORT RequestId: ")
        trace = self._trace.read()
        inits = [float(ms) for ms in re.findall(r"INIT REPORT\(durationMs: ([\d.]+)\)", trace)]
        init_ms = sum(inits) if inits else None
        done = re.search(r"INVOKE RTDONE\(.*duration: ([\d.]+)ms\)", trace)
        # There is no such line of an invocation that timed out or died.
        duration_ms = float(done[1]) if done else max(0.0, wall_ms - (init_ms or 0))
        error = _error(trace, body, died=died)
        return Invocation(
            result=None if error else json.loads(body),
            error=error,
            log=_lines(output),
            init_ms=init_ms,
            duration_ms=duration_ms,
            billed_ms=math.ceil((init_ms or 0) + duration_ms),
            max_memory_mb=self._max_memory_mb(),
        )

    def _wait_until_listening(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self._port)).close()
                return
            time.sleep(0.005)
        raise CommandError(
            f"The Runtime Interface Emulator did not start: {self._trace.read()[:500]}"
        )

    def _runtimes(self) -> list[int]:
        """Ids of the emulator's child processes, of which Linux keeps a list for each thread."""
        pids: list[int] = []
        for children in Path(f"/proc/{self._process.pid}/task").glob("*/children"):
            with suppress(OSError):
                pids += map(int, children.read_text().split())
        return pids

    def _max_memory_mb(self) -> int | None:
        for pid in self._runtimes():
            with suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                if peak := re.search(r"VmHWM:\s+(\d+) kB", status):
                    return math.ceil(int(peak[1]) / 1024)
        return None


class _Tail:
    """A growing text file, read piece by piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0

    def read(self) -> str:
        """What was written since the last call."""
        with self.path.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        self._position += len(new)
        return new.decode(errors="replace")

    def read_until(self, mark: str, seconds: float = 2.0) -> str:
        """The same, once a line with `mark` is whole; after `seconds` what there is."""
        text = self.read()
        deadline = time.monotonic() + seconds
        while "\n" not in text.rpartition(mark)[2] or mark not in text:
            if time.monotonic() > deadline:
                break
            time.sleep(0.001)
            text += self.read()
        return text

    def last(self) -> str:
        """The last line of all."""
        if not self.path.exists():
            return "it was closed"
        return (self.path.read_text(errors="replace").splitlines() or ["it wrote nothing"])[-1]


def _lines(output: str) -> tuple[str, ...]:
    """What the function wrote, without the lines that Lambda frames it with."""
    output = re.sub(r"^START RequestId: .*\n", "", output, count=1)
    output = re.sub(r"END RequestId: .*\nREPORT RequestId: .*\n$", "", output)
    # The runtime client separates the lines of one message with \r.
    return tuple(line for line in re.split(r"[\r\n]", output) if line)


def _error(trace: str, body: str, *, died: bool) -> FunctionError | None:
    """The error that `body` tells; None if it is a result.

    A result may look like an error. The trace tells them apart: to which address the runtime
    client posted it.
    """
    if re.fullmatch(r"Task timed out after [\d.]+ seconds", body):  # as it stands: no JSON
        return FunctionError("Sandbox.Timedout", body)
    if not died and not re.search(r"POST /2018-06-01/runtime/invocation/[^/]+/error", trace):
        return None
    told = json.loads(body)
    return FunctionError(
        told["errorType"], told["errorMessage"], tuple(told.get("stackTrace") or ())
    )


def _emulator() -> Path:
    """The emulator's program for this machine."""
    if sys.platform != "linux":
        raise CommandError("AWS's Runtime Interface Emulator runs on Linux only")
    found = next(TOOLS.glob(EMULATORS + architecture()), None)
    if found is None or not PYTHON.exists():
        raise CommandError("AWS's Runtime Interface Emulator is not installed: run `make setup`")
    if not os.access(found, os.X_OK):
        found.chmod(0o755)
    return found


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nothing listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
