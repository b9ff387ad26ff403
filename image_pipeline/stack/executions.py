"""Executions of the stack's state machines: start, watch and stop them."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from image_pipeline.errors import CommandError
from image_pipeline.stack.aws import aws_errors_explained

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

POLL_SECONDS: Final = 0.5
"""Seconds between two requests for the state of an execution."""


@dataclass(frozen=True, slots=True)
class Execution:
    """The state of an execution; `output` is None until it has succeeded.

    `given` is its input, None where it was not asked for.
    """

    arn: str
    status: str
    started_at: datetime
    output: Any = None
    error: str = ""
    cause: str = ""
    given: Any = None

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.status in ("RUNNING", "PENDING_REDRIVE")

    @property
    def name(self) -> str:
        """The last part of its ARN."""
        return self.arn.rpartition(":")[2]


class ExecutionFailed(CommandError):
    """An execution that ended in any way but success; `execution` is its last state."""

    def __init__(self, execution: Execution) -> None:
        super().__init__(
            f"Execution {execution.name} ended as {execution.status}. "
            f"{execution.error} {execution.cause}\n"
            "Nothing is lost: run the command again to continue. docs/operations.md explains more."
        )
        self.execution = execution


def start(states: "SFNClient", machine: str, given: dict[str, Any]) -> Execution:
    """Start an execution with `given` as its input, without the entries that are None."""
    known = {name: value for name, value in given.items() if value is not None}
    with aws_errors_explained():
        answer = states.start_execution(stateMachineArn=machine, input=json.dumps(known))
    return Execution(answer["executionArn"], "RUNNING", answer["startDate"], given=known)


def find_running(states: "SFNClient", machine: str) -> Execution | None:
    """Find an execution that has not ended, whoever started it."""
    with aws_errors_explained():
        found = states.list_executions(stateMachineArn=machine, statusFilter="RUNNING")
    if not found["executions"]:
        return None
    first = found["executions"][0]
    return Execution(first["executionArn"], first["status"], first["startDate"])


def describe(states: "SFNClient", arn: str) -> Execution:
    """The state of an execution now."""
    with aws_errors_explained():
        found = states.describe_execution(executionArn=arn)
    return Execution(
        arn,
        found["status"],
        found["startDate"],
        json.loads(found["output"]) if found["status"] == "SUCCEEDED" else None,
        found.get("error", ""),
        found.get("cause", ""),
        json.loads(found.get("input", "null")),
    )


def watch(states: "SFNClient", arn: str) -> Iterator[Execution]:
    """Yield the state of an execution every POLL_SECONDS; the last one is that of its success.

    Raises ExecutionFailed if it ends in any other way.
    """
    while (execution := describe(states, arn)).running:
        yield execution
        time.sleep(POLL_SECONDS)
    if execution.status != "SUCCEEDED":
        raise ExecutionFailed(execution)
    yield execution


def stop(states: "SFNClient", arn: str) -> None:
    """Stop an execution, and the batches that it runs."""
    with aws_errors_explained():
        states.stop_execution(executionArn=arn, error="Stopped", cause="by image-pipeline")


def map_runs(states: "SFNClient", arn: str) -> Iterator[dict[str, Any]]:
    """The progress of each Distributed Map of an execution, as DescribeMapRun returns it."""
    with aws_errors_explained():
        for run in states.list_map_runs(executionArn=arn)["mapRuns"]:
            yield dict(states.describe_map_run(mapRunArn=run["mapRunArn"]))


def failed_child(states: "SFNClient", arn: str) -> Execution | None:
    """The latest child execution that failed in a Distributed Map of an execution, if any."""
    with aws_errors_explained():
        for run in states.list_map_runs(executionArn=arn)["mapRuns"]:
            children = states.list_executions(
                mapRunArn=run["mapRunArn"], statusFilter="FAILED", maxResults=1
            )["executions"]
            if children:
                return describe(states, children[0]["executionArn"])
    return None
