"""Replay failed uploads: all of them by the state machine, or chosen messages one by one."""

import time
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from image_pipeline.errors import CommandError
from image_pipeline.stack import dead_letters, executions
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
"""Time beyond the function's time-out for which a message is hidden at least when its replay
begins. An assumption: requests to SQS are done by then."""

RENEWAL_SECONDS: Final = 60
"""Time after which the messages that still wait are hidden for longer. If the process is killed,
they stay hidden for this, the function's time-out and MARGIN_SECONDS."""

LANES: Final = 5
"""Messages that are replayed at the same time, as many as in the state machine."""


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
        with dead_letters.queue_errors_explained(queue):
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
    stack: Stack, message_ids: Collection[str], searching: AbstractContextManager[object]
) -> Iterator[Replayed]:
    """Replay the messages `message_ids`, LANES at a time; yields each outcome as it is known.

    As in the state machine (iac/replay.asl.json) a message is deleted once its upload has
    thumbnails or a new message, else it becomes visible again. `searching` is held while the
    messages are received: another read by the same process would hide them. Raises CommandError if
    AWS refuses a request to a queue.
    """
    wanted = set(message_ids)
    for queue in stack.queues:
        if not wanted:
            break
        with dead_letters.queue_errors_explained(queue), ExitStack() as block:
            with searching:
                found = block.enter_context(dead_letters.received(stack.aws.sqs, queue, wanted))
                wanted -= found.keys()
                hidden = _Hidden(stack, queue, found)
            yield from _replay(stack, queue, hidden)
    for message_id in sorted(wanted):
        yield Replayed(message_id, "gone", GONE)


class _Hidden:
    """Keeps received messages hidden for as long as they wait for their replay."""

    def __init__(self, stack: Stack, queue: str, messages: "dict[str, MessageTypeDef]") -> None:
        self.messages = messages
        """By id. Those that another reader may have are taken out."""
        self._stack = stack
        self._queue = queue
        self._renew_at = 0.0
        self.renew()

    def renew(self) -> None:
        """Hide them for one more invocation, if they would not be hidden for as long."""
        if time.monotonic() < self._renew_at:
            return
        self._renew_at = time.monotonic() + RENEWAL_SECONDS
        seconds = self._stack.timeout + MARGIN_SECONDS + RENEWAL_SECONDS
        messages = list(self.messages.values())
        for message_id in dead_letters.hide(self._stack.aws.sqs, self._queue, messages, seconds):
            del self.messages[message_id]


def _replay(stack: Stack, queue: str, hidden: _Hidden) -> Iterator[Replayed]:
    """Replay received messages, and delete those that are settled."""
    messages, waiting = hidden.messages, deque(hidden.messages)
    running: set[Future[Replayed]] = set()
    with ThreadPoolExecutor(LANES) as pool:
        while waiting or running:
            while waiting and len(running) < LANES:
                hidden.renew()
                message_id = waiting.popleft()
                if message_id in messages:
                    body = messages[message_id]["Body"]
                    running.add(pool.submit(_invoke, stack, message_id, body))
                else:
                    yield Replayed(message_id, "gone", GONE)
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for each in ended:
                replayed = each.result()
                message = messages.get(replayed.message_id)
                if message and replayed.outcome in ("done", "failed_again"):
                    receipt = message["ReceiptHandle"]
                    stack.aws.sqs.delete_message(QueueUrl=queue, ReceiptHandle=receipt)
                    del messages[replayed.message_id]
                yield replayed


def _invoke(stack: Stack, message_id: str, body: str) -> Replayed:
    try:
        result = stack.invoke({"letter": body})
    except (BotoCoreError, ClientError, CommandError) as error:
        return Replayed(message_id, "left", str(error))
    if left := result.get("left"):
        return Replayed(message_id, UNREADABLE if left == UNREADABLE else "left", str(left))
    return Replayed(message_id, "failed_again" if result["failed"] else "done")
