"""Replay failed uploads: all of them by the state machine, or chosen messages one by one."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from image_pipeline.errors import CommandError
from image_pipeline.stack import dead_letters, executions
from image_pipeline.stack.aws import aws_errors_explained
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.executions import Execution
from thumbnailer.dead_letters import UNREADABLE

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

OUTCOMES: Final = ("done", "failed_again", "left", UNREADABLE)
"""What a replay counts messages by, in the output of its execution (iac/replay.asl.json)."""

GONE: Final = "The message was deleted, or another reader or replay has it at the moment."
"""Why a chosen message was not replayed."""

MARGIN_SECONDS: Final = 30
"""Time beyond the function's time-out for which messages are hidden while one is replayed. If the
console is killed, they stay hidden for no longer. An assumption: requests to SQS are done by then.
"""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The outcome of one message: one of OUTCOMES, or `gone` if another reader had it."""

    message_id: str
    outcome: str
    why: str = ""


def replay_all(
    stack: Stack, error_type: str | None = None, maximum: int | None = None
) -> Iterator[Execution]:
    """Replay until none of the messages is left that were there at the start.

    One execution takes a limited number of messages, so that its history stays within AWS's limits;
    it is followed by another one until all are done. Yields the state of each execution as
    `executions.watch` does: the last state of each has its counts as `output`. Raises CommandError
    if an execution fails.
    """
    states, machine = stack.aws.states, stack.output("ReplayStateMachineArn")
    for queue in stack.queues:
        before: str | None = None
        with aws_errors_explained():
            more = bool(dead_letters.depth(stack.aws.sqs, queue))
        while more and maximum != 0:
            given = {
                "queue_url": queue,
                "error": error_type,
                "max": maximum,
                "failed_before": before,
            }
            started = executions.start(states, machine, given)
            yield started
            for execution in executions.watch(states, started.arn):
                yield execution
            before = before or execution.started_at.isoformat()
            if maximum is not None:
                taken = execution.output["done"] + execution.output["failed_again"]
                maximum = max(maximum - taken, 0)
            more = execution.output["more"]


def replay_each(
    stack: Stack, message_ids: Sequence[str], searching: AbstractContextManager[object]
) -> Iterator[Replayed]:
    """Replay the messages `message_ids` one by one; yields each outcome as it is known.

    As in the state machine (iac/replay.asl.json) a message is deleted once its upload has
    thumbnails or a new message, else it becomes visible again. `searching` is held while the
    messages are received: another read by the same process would hide them.
    """
    wanted = set(message_ids)
    for queue in stack.queues:
        if not wanted:
            return
        with aws_errors_explained(), ExitStack() as block:
            with searching:
                found = block.enter_context(dead_letters.received(stack.aws.sqs, queue, wanted))
                _hide_longer(stack, queue, found)
            for message_id in list(found):
                wanted.discard(message_id)
                _hide_longer(stack, queue, found)
                if message_id not in found:
                    yield Replayed(message_id, "gone", GONE)
                    continue
                message = found[message_id]
                replayed = _invoke(stack, message_id, message["Body"])
                if replayed.outcome in ("done", "failed_again"):
                    receipt = message["ReceiptHandle"]
                    stack.aws.sqs.delete_message(QueueUrl=queue, ReceiptHandle=receipt)
                    del found[message_id]
                yield replayed
    for message_id in sorted(wanted):
        yield Replayed(message_id, "gone", GONE)


def _hide_longer(stack: Stack, queue: str, messages: dict[str, "MessageTypeDef"]) -> None:
    """Hide messages for one more invocation, and drop those that another reader may have."""
    seconds = stack.timeout + MARGIN_SECONDS
    for message_id in dead_letters.hide(stack.aws.sqs, queue, list(messages.values()), seconds):
        del messages[message_id]


def _invoke(stack: Stack, message_id: str, body: str) -> Replayed:
    try:
        result = stack.invoke({"letter": body})
    except (BotoCoreError, ClientError, CommandError) as error:
        return Replayed(message_id, "left", str(error))
    if left := result.get("left"):
        return Replayed(message_id, UNREADABLE if left == UNREADABLE else "left", str(left))
    return Replayed(message_id, "failed_again" if result["failed"] else "done")
