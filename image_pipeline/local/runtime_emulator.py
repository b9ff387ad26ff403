"""Runs a built function as Lambda does: in AWS's runtime client, under AWS's emulator.

The Runtime Interface Emulator (https://github.com/aws/aws-lambda-runtime-interface-emulator, here
the one inside the SAM CLI) takes the part of the Lambda service, and awslambdaric, the client that
every Python runtime of Lambda contains, loads the handler. So the context, the error types, the
time-out and the suppressed second init are those of Lambda, without Docker. Not emulated: the
memory limit, the share of a CPU, the read-only /var/task, IAM.
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
from image_pipeline.local.tools import MINISTACK, TOOLS, architecture
from image_pipeline.ports import HOST, free_ports

PYTHON: Final = MINISTACK
"""A Python with awslambdaric and boto3, like the runtime's. It has more libraries than that, so a
library that is missing in an artefact can go unnoticed here."""

EMULATORS: Final = "sam/lib/python3.*/site-packages/samcli/local/rapid/aws-lambda-rie-"
INVOCATIONS: Final = "/2015-03-31/functions/function/invocations"

START_SECONDS: Final = 10.0
"""For the emulator to listen, which takes milliseconds."""
STOP_SECONDS: Final = 5.0
INIT_SECONDS: Final = 60.0
"""How long an answer may take beyond the function's time-out. Lambda allows 10 s for an init; a
small share of a busy CPU may need longer."""

PROCESS_CLOCK: Final = 2
"""Lowest bits of the number of the clock that counts the CPU time of a process, as in
clock_getcpuclockid(3) of Linux: Python has a function for the clocks of threads only."""

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
    "PYTHONDONTWRITEBYTECODE": "1",  # /var/task is read-only
}
"""Variables that Lambda sets (https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html),
with credentials that are not valid anywhere."""


@dataclass(frozen=True, slots=True)
class FunctionError:
    """What the caller of a failed function receives; e.g. of type `Sandbox.Timedout`."""

    type: str
    message: str
    stack: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Invocation:
    """One event's outcome; times in ms, measured by the emulator.

    `result` is the decoded JSON answer, None with an `error`. `log` has the lines that the function
    wrote, including those of its init. `init_ms` is the time from the start of the process until it
    requests an event, None in a warm environment; `duration_ms` from there to the answer.
    `billed_ms` is their sum, rounded up
    (https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/).
    `max_memory_mb` is the peak RSS of the process, None if it has ended.
    """

    result: Any
    error: FunctionError | None
    log: tuple[str, ...]
    init_ms: float | None
    duration_ms: float
    billed_ms: int
    max_memory_mb: int | None


class RuntimeEmulator:
    """One execution environment of the built function in the folder `artefact`.

        with RuntimeEmulator(artefact, {"OUTPUT_BUCKET": "thumbnails", ...}) as emulator:
            invocation = emulator.invoke({"Records": [...]})

    The first `invoke` initialises it, later ones find it warm. The function has the variables that
    Lambda sets and those of `environment`, which take precedence, and none of this process.
    `command` precedes the command of the runtime, to run it within limits; it must `exec`.
    `timeout` is in seconds and includes the init, as always in the emulator.

    Entering raises CommandError if a tool is missing or the emulator does not start.
    """

    def __init__(  # noqa: PLR0913 - a function has that many settings
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
            raise CommandError(
                f"{self._artefact} does not exist. Build the function: `make build`."
            )
        self._files = tempfile.TemporaryDirectory(prefix="runtime-emulator-")
        files = Path(self._files.name)
        # Files, not pipes: they never fill up, and what was written before an answer can be read
        # after it. The output has the function's lines and Lambda's START, END and REPORT lines.
        self._output = _Tail(files / "output")
        self._trace = _Tail(files / "trace")
        self._port, runtime_api_port = free_ports(2)
        with self._output.path.open("wb") as output, self._trace.path.open("wb") as trace:
            self._process = subprocess.Popen(  # noqa: S603 - our own tools
                [
                    str(emulator),
                    *("--log-level", "debug"),  # otherwise the function's LOG_LEVEL decides
                    *("--runtime-interface-emulator-address", f"{HOST}:{self._port}"),
                    *("--runtime-api-address", f"{HOST}:{runtime_api_port}"),
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
        """Id of the emulator's process; the function runs in another one."""
        return self._process.pid

    def cpu_ms(self) -> float:
        """CPU time of the function's process so far in ms, of all its threads; 0 if it has ended.

        It includes the init.
        """
        for pid in self._runtimes():
            with suppress(OSError):
                return time.clock_gettime_ns(~pid << 3 | PROCESS_CLOCK) / 1e6
        return 0.0

    def close(self) -> None:
        """Stop the emulator, the function and every process that it started."""
        runtimes = self._runtimes()
        self._process.terminate()  # the emulator then kills the runtime, a group of its own
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
        """Send an event (any JSON value) and wait for its outcome; one at a time, as in Lambda.

        If the function fails, the outcome has an `error`. Raises CommandError if the emulator
        itself fails.
        """
        with self._one_at_a_time:
            began = time.perf_counter()
            status, body = self._post(json.dumps(event).encode())
            wall_ms = (time.perf_counter() - began) * 1000
            return self._report(status, body, wall_ms)

    def _post(self, body: bytes) -> tuple[int, str]:
        connection = http.client.HTTPConnection(
            HOST, self._port, timeout=self._timeout + INIT_SECONDS
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
        died = status != http.client.OK  # during init, or because the function ended its process
        # The REPORT line comes after the answer, everything else before. A death has no such line.
        output = self._output.read() if died else self._output.read_until("\nREPORT RequestId: ")
        trace = self._trace.read()
        inits = [float(ms) for ms in re.findall(r"INIT REPORT\(durationMs: ([\d.]+)\)", trace)]
        init_ms = sum(inits) if inits else None
        done = re.search(r"INVOKE RTDONE\(.*duration: ([\d.]+)ms\)", trace)
        # An invocation that timed out or died has no such line.
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
                socket.create_connection((HOST, self._port)).close()
                return
            time.sleep(0.005)
        raise CommandError(
            f"The Runtime Interface Emulator did not start: {self._trace.read()[:500]}"
        )

    def _runtimes(self) -> list[int]:
        """Ids of the emulator's child processes; Linux lists them for each thread."""
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
    """A text file that another process writes, read piece by piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0

    def read(self) -> str:
        """The text that was written since the last call."""
        with self.path.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        self._position += len(new)
        return new.decode(errors="replace")

    def read_until(self, mark: str, seconds: float = 2.0) -> str:
        """The same, but wait up to `seconds` for a complete line that contains `mark`."""
        text = self.read()
        deadline = time.monotonic() + seconds
        while "\n" not in text.rpartition(mark)[2] or mark not in text:
            if time.monotonic() > deadline:
                break
            time.sleep(0.001)
            text += self.read()
        return text

    def last(self) -> str:
        """The last line, or in words why there is none."""
        if not self.path.exists():
            return "it was closed"
        return (self.path.read_text(errors="replace").splitlines() or ["it wrote nothing"])[-1]


def _lines(output: str) -> tuple[str, ...]:
    """The lines that the function wrote, without Lambda's START, END and REPORT."""
    output = re.sub(r"^START RequestId: .*\n", "", output, count=1)
    output = re.sub(r"END RequestId: .*\nREPORT RequestId: .*\n$", "", output)
    # The runtime client separates the lines of one message with \r.
    return tuple(line for line in re.split(r"[\r\n]", output) if line)


def _error(trace: str, body: str, *, died: bool) -> FunctionError | None:
    """The error in `body`; None if it is a result.

    A result can look like an error, so this reads the trace: the runtime client posts results and
    errors to different addresses.
    """
    if re.fullmatch(r"Task timed out after [\d.]+ seconds", body):  # plain text, not JSON
        return FunctionError("Sandbox.Timedout", body)
    if not died and not re.search(r"POST /2018-06-01/runtime/invocation/[^/]+/error", trace):
        return None
    error = json.loads(body)
    return FunctionError(
        error["errorType"], error["errorMessage"], tuple(error.get("stackTrace") or ())
    )


def _emulator() -> Path:
    """The emulator's program for this machine."""
    if sys.platform != "linux":
        raise CommandError("AWS's Runtime Interface Emulator runs on Linux only.")
    found = next(TOOLS.glob(EMULATORS + architecture()), None)
    if found is None or not PYTHON.exists():
        raise CommandError("AWS's Runtime Interface Emulator is missing. Install it: `make setup`.")
    if not os.access(found, os.X_OK):
        found.chmod(0o755)
    return found
