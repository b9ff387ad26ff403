"""Dead letters, tried again: by the state machine, or some of them one by one."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from image_pipeline.stack import dead_letters, executions
from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.deployed import ALIAS, Stack, explained
from image_pipeline.stack.executions import Execution

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

NOTHING: Final = {"done": 0, "failed_again": 0, "left": 0, "unreadable": 0}
"""What a replay counts, of no letters."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one letter: a name of NOTHING, or `gone` where somebody else took it."""

    message_id: str
    outcome: str
    why: str = ""


def letters(stack: Stack, maximum: int, error: str | None) -> list[Failure]:
    """Failures of all queues, oldest first, of one type of error if that is given."""
    with explained():
        found = [
            each
            for queue in stack.queues
            for each in dead_letters.look(stack.aws.sqs, queue, maximum)
            if error in (None, each.error_type)
        ]
    return sorted(found, key=lambda each: each.sent_at)[:maximum]


def waiting(stack: Stack) -> int:
    """Messages on all queues, hidden ones included, as SQS counts them: approximately."""
    with explained():
        return sum(dead_letters.depth(stack.aws.sqs, queue) for queue in stack.queues)


def replays(
    stack: Stack,
    current: Execution | None,
    error: str | None,
    maximum: int | None,
    follow: Callable[[Execution], Execution],
) -> Iterator[Execution]:
    """Run replays until no letter is left that was there before; each as it ended.

    A replay takes a limited number of messages, so that its history stays within AWS's limits.
    `follow` waits for the end of one; with `current`, that is waited for instead.
    """
    states, machine = stack.aws.states, stack.output("ReplayStateMachineArn")
    if current:
        yield follow(current)
        return
    for queue in stack.queues:
        before: str | None = None
        more = bool(dead_letters.depth(stack.aws.sqs, queue))
        while more and maximum != 0:
            asked = {"queue_url": queue, "error": error, "max": maximum, "failed_before": before}
            ended = follow(executions.start(states, machine, asked))
            before = before or ended.started_at.isoformat()
            if maximum is not None:
                taken = ended.output["done"] + ended.output["failed_again"]
                maximum = max(maximum - taken, 0)
            more = ended.output["more"]
            yield ended


def replay_each(
    stack: Stack, message_ids: Sequence[str], looking: AbstractContextManager[object]
) -> Iterator[Replayed]:
    """Try the uploads of some letters again; each outcome as it is known.

    As in the state machine (iac/replay.asl.json): a message is deleted once its upload has
    thumbnails or a new letter, else it is put back. `looking` is held while they are searched for:
    another look of the same process would hide them.
    """
    wanted = set(message_ids)
    for queue in stack.queues:
        if not wanted:
            return
        with ExitStack() as block, explained():
            with looking:
                found = block.enter_context(dead_letters.received(stack.aws.sqs, queue, wanted))
                _keep(stack, queue, found)
            for message_id in list(found):
                wanted.discard(message_id)
                _keep(stack, queue, found)
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


GONE: Final = "It was deleted, or somebody else looks at it or replays it just now."

MARGIN_SECONDS: Final = 30
"""Beyond the function's time-out, for which messages are hidden while one is replayed: a console
that is killed then leaves them hidden for no longer."""


def _keep(stack: Stack, queue: str, messages: dict[str, "MessageTypeDef"]) -> None:
    """Hide messages for one more invocation, and drop those that others may have by now."""
    seconds = stack.timeout + MARGIN_SECONDS
    for message_id in dead_letters.hide(stack.aws.sqs, queue, list(messages.values()), seconds):
        del messages[message_id]


def _invoke(stack: Stack, message_id: str, body: str) -> Replayed:
    try:
        answer = stack.aws.invocations.invoke(
            FunctionName=stack.function_name,
            Qualifier=ALIAS,
            Payload=json.dumps({"letter": body}).encode(),
        )
    except (BotoCoreError, ClientError) as error:
        return Replayed(message_id, "left", str(error))
    told: dict[str, Any] = json.loads(answer["Payload"].read())
    if answer.get("FunctionError"):
        why = f"{told.get('errorType')}: {told.get('errorMessage')}"
        return Replayed(message_id, "left", why)
    if left := told.get("left"):
        return Replayed(message_id, "unreadable" if left == "unreadable" else "left", str(left))
    return Replayed(message_id, "failed_again" if told["failed"] else "done")
