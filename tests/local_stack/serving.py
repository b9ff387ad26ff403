"""ministack and its processes, as tests start and watch them."""

import contextlib
import io
import json
import os
import socket
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3

from image_pipeline.local.stack import PATCHES, LocalStack
from image_pipeline.local.tools import MINISTACK
from image_pipeline.ports import HOST, free_port
from image_pipeline.stack.aws import LOCAL_REGION, AccessKey, Aws

QUICK_RETRIES = {"LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.1"}
"""Seconds before the first retry of a failed event; the second waits twice as long."""

QUICK_AND_STRICT = QUICK_RETRIES | {
    "AUTH": "true",
    "SFN_WAIT_SCALE": "0.1",
    "LAMBDA_ACCOUNT_CONCURRENCY": "5",
}
"""IAM enforced, waits of state machines a tenth, and cores left for the tests beside it: one
invocation for each lane of a replay. With fewer, a lane that waits so shortly would give up."""

ROLE = "arn:aws:iam::000000000000:role/test"


def until[T](check: Callable[[], T], seconds: float = 20) -> T:
    """Wait until `check` returns something true, and return that; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s: last saw {found!r}"
        time.sleep(0.05)
    return found


def processes_of(directory: Path) -> list[int]:
    """Ids of the live processes that have `directory` in their environment.

    ministack has its temporary files there, a function's environment its code, and sam inherits
    the variable that names it.
    """
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # ended meanwhile, or not a process
            environment = (entry / "environ").read_bytes()  # empty for a zombie
            if os.fsencode(directory) in environment:
                found.append(int(entry.name))
    return found


@contextlib.contextmanager
def ministack(
    directory: Path, *without: str, **variables: str
) -> Iterator[tuple[Aws, subprocess.Popen[bytes]]]:
    """Run ministack, patched but for the patches named, with nothing deployed to it."""
    port = free_port()
    key = AccessKey.random()
    environment = LocalStack(directory, variables=QUICK_RETRIES | variables).environment(port, key)
    (directory / "tmp").mkdir()
    options = [word for patch in without for word in ("--without", patch)]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own tool
            [str(MINISTACK), "-P", str(PATCHES), "--end-with-stdin", *options],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        until(lambda: _listens(port) or process.poll() is not None)
        assert process.poll() is None, (directory / "log").read_text()
        yield Aws.local(f"http://{HOST}:{port}", key), process
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait()


def create_function(aws: Aws, name: str, source: str, **configuration: Any) -> None:
    """Create a Python function from the source of its one module."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("handler.py", source)
    aws.functions.create_function(
        FunctionName=name,
        Runtime="python3.13",
        Handler="handler.lambda_handler",
        Role=ROLE,
        Code={"ZipFile": archive.getvalue()},
        **configuration,
    )
    until(lambda: aws.functions.get_function_configuration(FunctionName=name)["State"] == "Active")


def invoke(aws: Aws, name: str, event: object = None) -> Any:
    """Invoke a function synchronously; its result, decoded."""
    answer = aws.functions.invoke(FunctionName=name, Payload=json.dumps(event))
    return json.loads(answer["Payload"].read())


def client(aws: Aws, service: str, key: str | None = None, secret: str | None = None) -> Any:
    """A client of a service that the command does not use, or with another user's key."""
    return boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=aws.endpoint_url,
        region_name=LOCAL_REGION,
        aws_access_key_id=key or aws.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=secret or aws.environment["AWS_SECRET_ACCESS_KEY"],
    )


def log_lines(aws: Aws, group: str) -> list[str]:
    """Every line of a log group, stream by stream."""
    logs = client(aws, "logs")
    pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=group)
    try:
        streams = [stream for page in pages for stream in page["logStreams"]]
    except logs.exceptions.ResourceNotFoundException:  # it comes with the first invocation
        return []
    return [
        event["message"].rstrip()
        for stream in streams
        for event in logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])[
            "events"
        ]
    ]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
