"""Executions of the stack's state machines: started, followed, stopped."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from image_pipeline.errors import CommandError
from image_pipeline.stack.deployed import explained

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

POLL: Final = 0.5
"""Seconds between two looks at an execution."""


@dataclass(frozen=True, slots=True)
class Execution:
    """An execution as it is now; `output` is None until it succeeded."""

    arn: str
    status: str
    started_at: datetime
    output: Any = None
    error: str = ""
    cause: str = ""

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self.status in ("RUNNING", "PENDING_REDRIVE")


def start(states: "SFNClient", machine: str, given: dict[str, Any]) -> Execution:
    """Start an execution with `given` as its input; what is None is left out."""
    known = {name: value for name, value in given.items() if value is not None}
    with explained():
        answer = states.start_execution(stateMachineArn=machine, input=json.dumps(known))
    return Execution(answer["executionArn"], "RUNNING", answer["startDate"])


def running(states: "SFNClient", machine: str) -> Execution | None:
    """Find an execution that somebody started and that has not ended."""
    with explained():
        found = states.list_executions(stateMachineArn=machine, statusFilter="RUNNING")
    if not found["executions"]:
        return None
    first = found["executions"][0]
    return Execution(first["executionArn"], first["status"], first["startDate"])


def look(states: "SFNClient", arn: str) -> Execution:
    """Tell how an execution is."""
    with explained():
        found = states.describe_execution(executionArn=arn)
    return Execution(
        arn,
        found["status"],
        found["startDate"],
        json.loads(found["output"]) if found["status"] == "SUCCEEDED" else None,
        found.get("error", ""),
        found.get("cause", ""),
    )


def follow(states: "SFNClient", arn: str, progress: Callable[[], None]) -> Execution:
    """Wait for the end of an execution; `progress` is called at every look.

    Raises CommandError if it did not succeed.
    """
    while (execution := look(states, arn)).runs:
        progress()
        time.sleep(POLL)
    progress()
    if execution.status != "SUCCEEDED":
        name = arn.rpartition(":")[2]
        raise CommandError(
            f"Execution {name} ended as {execution.status}. {execution.error} {execution.cause}\n"
            "Nothing is lost: run the command again to go on. docs/operations.md says more."
        )
    return execution


def stop(states: "SFNClient", arn: str) -> None:
    """Stop an execution, and the batches that it runs."""
    with explained():
        states.stop_execution(executionArn=arn, error="Stopped", cause="by image-pipeline")


def map_runs(states: "SFNClient", arn: str) -> Iterator[dict[str, Any]]:
    """What each Distributed Map of an execution has done so far, as DescribeMapRun tells it."""
    with explained():
        for run in states.list_map_runs(executionArn=arn)["mapRuns"]:
            yield dict(states.describe_map_run(mapRunArn=run["mapRunArn"]))
