"""Executions of state machines, watched to their end, and replays one after another."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from image_pipeline.errors import CommandError
from image_pipeline.stack import backfill, executions
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.replay import replay_all

STARTED = datetime(2026, 11, 1, tzinfo=UTC)


class States:
    """Step Functions whose executions run for two polls, and then end with the next output."""

    def __init__(self, outputs: Sequence[dict[str, Any]], status: str = "SUCCEEDED") -> None:
        self.given: list[dict[str, Any]] = []
        self._outputs = outputs
        self._status = status
        self._polls: dict[str, Iterator[str]] = {}

    def start_execution(self, *, stateMachineArn: str, input: str) -> Any:  # noqa: A002, N803
        """Start one, and keep its input."""
        self.given.append(json.loads(input))
        arn = f"{stateMachineArn}:{len(self.given)}"
        self._polls[arn] = iter(["RUNNING", "RUNNING", self._status])
        return {"executionArn": arn, "startDate": STARTED}

    def describe_execution(self, *, executionArn: str) -> Any:  # noqa: N803 - as boto3 has it
        """Its next state."""
        output = self._outputs[int(executionArn.rpartition(":")[2]) - 1]
        status = next(self._polls[executionArn])
        return {
            "status": status,
            "startDate": STARTED,
            "output": json.dumps(output),
            "error": "Some.Error",
            "cause": "this and that",
        }


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll at once."""
    monkeypatch.setattr(executions, "POLL_SECONDS", 0)


def test_a_watched_execution_is_seen_in_every_state() -> None:
    """Running, as often as it is polled, and at last with its output."""
    states: Any = States([{"made": 1}])
    started = executions.start(states, "machine", {"max": 1, "prefix": None})
    assert states.given == [{"max": 1}]
    seen = list(executions.watch(states, started.arn))
    assert [each.running for each in seen] == [True, True, False]
    assert seen[-1].output == {"made": 1}
    assert seen[0].output is None


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "ABORTED"])
def test_a_watched_execution_that_does_not_succeed_is_an_error(status: str) -> None:
    """The message names it, says how it ended and why."""
    states: Any = States([{}], status)
    started = executions.start(states, "arn:machine", {})
    with pytest.raises(CommandError, match=f"1 ended as {status}. Some.Error this and that"):
        list(executions.watch(states, started.arn))


def counts(*, more: bool = False, **counted: int) -> dict[str, Any]:
    """The output of a replay."""
    return {"done": 0, "failed_again": 0, "left": 0, "unreadable": 0, "more": more} | counted


def stack(states: States, depths: dict[str, int]) -> Stack:
    """A stack with these queues and their messages."""

    def attributes(*, QueueUrl: str, **_: object) -> Any:  # noqa: N803 - as boto3 has it
        return {"Attributes": {"ApproximateNumberOfMessages": str(depths[QueueUrl])}}

    aws = SimpleNamespace(states=states, sqs=SimpleNamespace(get_queue_attributes=attributes))
    return cast(
        "Stack", SimpleNamespace(aws=aws, queues=list(depths), output=lambda name: f"arn:{name}")
    )


def test_a_replay_continues_until_no_message_is_left() -> None:
    """One execution after another, each limited to what failed before the first; empty queues none.

    Every state of each is passed on, so that whoever watches can show the progress.
    """
    states = States([counts(done=600, more=True), counts(done=5)])
    replayed = list(replay_all(stack(states, {"letters": 605, "undelivered": 0})))
    assert [each.running for each in replayed] == 2 * [True, True, True, False]
    assert [each.output["done"] for each in replayed if not each.running] == [600, 5]
    queue = {"queue_url": "letters"}
    assert states.given == [queue, queue | {"failed_before": STARTED.isoformat()}]


def test_a_replay_stops_at_its_maximum() -> None:
    """What was retried counts, over all queues; nothing is started for the rest."""
    states = States([counts(done=3, failed_again=1, left=7, more=True), counts(done=1)])
    list(replay_all(stack(states, {"a": 50, "b": 50}), "CorruptImage", 5))
    assert [given["max"] for given in states.given] == [5, 1]
    assert {given["error"] for given in states.given} == {"CorruptImage"}
    assert {given["queue_url"] for given in states.given} == {"a"}


class FailedStates:
    """Step Functions with an execution whose Map Run has failed children, or none."""

    def __init__(self, error: str | None) -> None:
        self._error = error

    def list_map_runs(self, *, executionArn: str) -> Any:  # noqa: N803 - as boto3 has it
        """The one Map Run."""
        return {"mapRuns": [{"mapRunArn": f"{executionArn}/Images:1"}]}

    def list_executions(self, **given: Any) -> Any:
        """Its children that failed."""
        assert (given["statusFilter"], given["maxResults"]) == ("FAILED", 1)
        child = {"executionArn": f"{given['mapRunArn']}:child"}
        return {"executions": [child] if self._error else []}

    def describe_execution(self, *, executionArn: str) -> Any:  # noqa: N803
        """A child that failed."""
        assert executionArn.endswith(":child")
        return {
            "status": "FAILED",
            "startDate": STARTED,
            "error": self._error,
            "cause": "this and that",
        }


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (
            "Lambda.ResourceNotFoundException",
            "is missing. docs/operations.md#a-part-of-the-stack-was-deleted",
        ),
        ("Lambda.AccessDeniedException", "may not invoke the function"),
        ("Lambda.AWSLambdaException", "may not invoke the function"),
        ("Lambda.TooManyRequestsException", "Lower --concurrency"),
        ("Lambda.KMSDisabledException", "KMS key"),
        ("Lambda.ServiceException", "state in the Lambda console"),
        ("QueueUnavailable", "policy of the dead-letter queue"),
        ("States.QueryEvaluationError", "do not fit together"),
        ("InvalidPackage", "does not start"),
    ],
)
def test_a_backfill_that_ended_early_says_why_and_what_to_do(error: str, fix: str) -> None:
    """In words, by the error of a batch; the execution's own error says only that many failed."""
    failed = executions.Execution("arn", "FAILED", STARTED)
    states: Any = FailedStates(error)
    stack = cast("Stack", SimpleNamespace(aws=SimpleNamespace(states=states)))
    explained = backfill.explain(stack, failed)
    assert explained is not None
    assert f"{error}: this and that" in str(explained)
    assert fix in str(explained)
    assert "run this command again" in str(explained)


def test_a_backfill_without_a_failed_batch_keeps_its_own_error() -> None:
    """For example where the bucket cannot be listed."""
    failed = executions.Execution("arn", "FAILED", STARTED)
    states: Any = FailedStates(None)
    stack = cast("Stack", SimpleNamespace(aws=SimpleNamespace(states=states)))
    assert backfill.explain(stack, failed) is None
