"""Lambda: how a Python function runs."""

# ruff: noqa: SLF001 - ministack offers no other place to hook in

import array
import fcntl
import hashlib
import hmac
import json
import os
import queue
import select
import shlex
import socket
import sys
import termios
import threading
import time
from pathlib import Path
from typing import IO, Any, Final

from ministack import app as ministack  # type: ignore[import-not-found]
from ministack.core import lambda_runtime  # type: ignore[import-not-found]
from ministack.services import cloudwatch, lambda_svc, sts  # type: ignore[import-not-found]

LOG_SECONDS: Final = 2.0
"""How long an answer waits for its log: a thread that the function left behind may never stop
writing."""


LOOPBACK: Final = "127.0.0.1"


def _owner(client: int, server: int) -> int | None:
    """The id of the user whose socket on the port `client` of loopback is connected to `server`."""
    address = int.from_bytes(socket.inet_aton(LOOPBACK), sys.byteorder)
    ends = [f"{address:08X}:{port:04X}" for port in (client, server)]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1:3] == ends:
            return int(fields[7])
    return None


class PythonEnvironment(lambda_runtime.ProvidedWorker):  # type: ignore[misc]
    """An execution environment that runs AWS's runtime client for Python, awslambdaric."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._reading = threading.Lock()

    def _spawn(self, init_timeout: float | None = None) -> None:
        code = Path(lambda_svc._provided_runtime_code_dir(self.code_zip))
        bootstrap = code / "bootstrap"
        if not bootstrap.exists():
            # Written whole: another environment of the same code may be starting it.
            draft = code / f".bootstrap-{threading.get_ident()}"
            draft.write_text(
                f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m awslambdaric "$_HANDLER"\n'
            )
            draft.chmod(0o755)
            draft.rename(bootstrap)
        super()._spawn(init_timeout)

    def invoke(self, event: Any, request_id: str, **options: Any) -> Any:
        """Run one invocation; after a failed init the answer is its error, with the log."""
        try:
            return super().invoke(event, request_id, **options)
        except RuntimeError:
            if not isinstance(self._init_error, dict):
                raise
            return {
                "status": "error",
                "error": self._init_error.get("errorMessage"),
                "error_payload": self._init_error,
                "cold_start": True,
                "log": self._drain_stderr(),
            }

    def _build_handler_class(self, *given: Any) -> Any:
        """The runtime API, for the function's own process only.

        It listens on a port of loopback, so web pages and other users reach it too.
        """

        class Handler(super()._build_handler_class(*given)):  # type: ignore[misc]
            def parse_request(self) -> bool:
                if not super().parse_request():
                    return False
                port = self.server.server_address[1]
                of_a_page = {"origin", "referer", "sec-fetch-mode"} & {
                    name.lower() for name in self.headers
                }
                if (
                    of_a_page
                    or self.headers.get("Host") != f"{LOOPBACK}:{port}"
                    or _owner(self.client_address[1], port) != os.getuid()
                ):
                    self.close_connection = True
                    self.send_error(403)
                    return False
                return True

        return Handler

    def _pump_output(self, stream: IO[bytes], log_queue: queue.Queue[str]) -> None:
        """Read the function's output into `log_queue` until the process ends.

        Whoever holds the lock finds every line either in the pipe or in the queue.
        """
        rest, chunk = b"", b"begin"
        while chunk:
            select.select([stream], [], [])
            with self._reading:
                chunk = os.read(stream.fileno(), 1 << 16)
                *lines, rest = (rest + (chunk or b"\n")).split(b"\n")
                for line in filter(None, lines):
                    if log_queue.full():
                        log_queue.get_nowait()  # drops the oldest line: the pipe must not fill up
                    log_queue.put_nowait(line.decode(errors="replace"))
        with self._reading:
            stream.close()

    def _drain_stderr_bounded(self, *_: float, **__: float) -> str:
        """Take all output so far: the log lines of this invocation, and of no other.

        The function wrote them before it answered, but the reading thread may be behind.
        """
        process = self._proc
        deadline = time.monotonic() + LOG_SECONDS
        while process and self._unread(process.stdout) and time.monotonic() < deadline:
            time.sleep(0.001)
        return str(self._drain_stderr())

    def _unread(self, stream: IO[bytes]) -> bool:
        with self._reading:
            if stream.closed:
                return False
            count = array.array("i", [0])
            fcntl.ioctl(stream, termios.FIONREAD, count)
            return count[0] > 0


def run_python_in_the_lambda_runtime_client() -> None:
    """Python functions run in awslambdaric: with its context, error types, failed inits and logs.

    https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html. ministack runs them in its
    own loop, where every error is a `Runtime.HandlerError`.
    """
    worker_class_for = lambda_runtime._worker_class_for
    execute_warm = lambda_svc._execute_function_warm

    def is_python(config: dict[str, Any]) -> bool:
        return str(config.get("Runtime", "")).startswith("python")

    def worker_class(config: dict[str, Any]) -> Any:
        return PythonEnvironment if is_python(config) else worker_class_for(config)

    def execute(func: dict[str, Any], event: Any, request_id: str) -> Any:
        runs = is_python(func.get("config") or func)
        run = lambda_svc._execute_function_provided_warm if runs else execute_warm
        return run(func, event, request_id)

    lambda_runtime._worker_class_for = worker_class
    lambda_svc._execute_function_warm = execute


def give_functions_the_environment_of_lambda() -> None:
    """A function sees the variables that Lambda defines and its own, and no others.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html. ministack leaves some
    out and passes on its own environment. No .pyc is written, as if /var/task were read-only.
    """
    build = lambda_svc._provided_worker_env

    def environment(config: dict[str, Any], code_dir: str, port: int) -> dict[str, str]:
        built: dict[str, str] = build(config, code_dir, port)
        known = (
            lambda_runtime._RESERVED_RUNTIME_ENV_VARS
            | {"_HANDLER", "AWS_LAMBDA_RUNTIME_API", "AWS_ENDPOINT_URL"}
            | lambda_svc._runtime_env_vars(config).keys()  # the function's own
        )
        logging = config.get("LoggingConfig") or {}
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{config.get('Runtime', '')}",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_FORMAT": logging.get("LogFormat", "Text"),
            "AWS_LAMBDA_LOG_GROUP_NAME": logging.get("LogGroup")
            or f"/aws/lambda/{config['FunctionName']}",
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "PYTHONDONTWRITEBYTECODE": "1",
            **{name: value for name, value in built.items() if name in known},
        }

    lambda_svc._provided_worker_env = environment


def give_functions_secret_keys() -> None:
    """A function gets credentials that nobody else can know.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html. ministack gives
    it the account's number as key, or with AUTH a session of its role whose secret is a hash of
    public names. Here it gets the stack's own key, or a session with a secret derived from it.
    """
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]

    def derived(purpose: str, names: str) -> str:
        return hmac.new(secret.encode(), f"{purpose}:{names}".encode(), hashlib.sha256).hexdigest()

    def credentials(config: dict[str, Any]) -> dict[str, str]:
        if not ministack.AUTH:
            return {
                "AWS_ACCESS_KEY_ID": os.environ["AWS_ACCESS_KEY_ID"],
                "AWS_SECRET_ACCESS_KEY": secret,
                "AWS_SESSION_TOKEN": "",
            }
        account, _ = lambda_runtime._account_region_from_function_config(config)
        names = f"{config['FunctionArn']}:{config['Role']}"
        role, session = config["Role"].rpartition("/")[2], config["FunctionName"][:64]
        key_id = f"ASIA{derived('key', names)[:16].upper()}"
        register = {
            "Arn": f"arn:aws:sts::{account}:assumed-role/{role}/{session}",
            "UserId": f"{role}:{session}",
            "SecretAccessKey": derived("secret", names),
            "SessionToken": derived("token", names),
        }
        sts.register_session(key_id, register)
        return {
            "AWS_ACCESS_KEY_ID": key_id,
            "AWS_SECRET_ACCESS_KEY": register["SecretAccessKey"],
            "AWS_SESSION_TOKEN": register["SessionToken"],
        }

    lambda_runtime.execution_credentials = credentials
    lambda_svc.execution_credentials = credentials


def _record_metrics(line: str) -> None:
    """Record the metrics of a log line in embedded metric format; any other line has none."""
    try:
        found = json.loads(line)
        directives = found["_aws"]["CloudWatchMetrics"]
    except (ValueError, TypeError, KeyError):
        return
    for directive in directives:
        for names in directive["Dimensions"]:
            dimensions = {name: found[name] for name in names}
            for metric in directive["Metrics"]:
                values = found[metric["Name"]]
                for value in values if isinstance(values, list) else [values]:
                    cloudwatch.record_metric(
                        directive["Namespace"],
                        metric["Name"],
                        value,
                        metric.get("Unit", "None"),
                        dimensions,
                    )


def make_metrics_of_log_lines() -> None:
    """CloudWatch makes metrics of log lines in embedded metric format.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    ministack keeps them as lines only.
    """
    emit = lambda_svc._emit_lambda_logs

    def emit_logs(
        function: dict[str, Any], request_id: str, text: str, *given: Any, **more: Any
    ) -> None:
        emit(function, request_id, text, *given, **more)
        for line in (text or "").splitlines():
            _record_metrics(line)

    lambda_svc._emit_lambda_logs = emit_logs


def let_a_period_be_the_whole_range() -> None:
    """A period of GetMetricData that is as long as the requested range gives one value.

    CloudWatch's periods begin at StartTime
    (https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html).
    ministack's begin at multiples of the period since 1970, so such a range has parts of two.
    """
    read = cloudwatch._get_metric_data

    def get_metric_data(parameters: Any, request: dict[str, Any], *given: Any) -> Any:
        for query in request.get("MetricDataQueries", []):
            start, end = (cloudwatch._parse_ts(request[name]) for name in ("StartTime", "EndTime"))
            statistic = query.get("MetricStat", {})
            if statistic.get("Period", 0) >= end - start:
                # Its only multiple within the range is StartTime itself.
                statistic["Period"] = int(start)
        return read(parameters, request, *given)

    cloudwatch._get_metric_data = get_metric_data
