"""`image-pipeline replay`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Annotated, Final

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.failures import parse_filter, read_with_progress, unread_note
from image_pipeline.cli.options import (
    ErrorType,
    Json,
    KeyPrefix,
    Local,
    OlderThan,
    Profile,
    Region,
    Since,
    StackName,
)
from image_pipeline.cli.output import err, foreign, out, print_json, tracked
from image_pipeline.cli.signals import leave_or_stop
from image_pipeline.errors import CommandError
from image_pipeline.stack import executions
from image_pipeline.stack.dead_letters import MAX_READ, Failure, count_messages
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.executions import Execution
from image_pipeline.stack.replay import OUTCOMES, replay_all, replay_each
from image_pipeline.stack.triage import Filter

MAX_LISTED: Final = 1000
"""Messages that are read to say what a replay will retry; reading more takes long."""


def replay(  # noqa: PLR0913 - options of a command
    *,
    error: ErrorType = None,
    prefix: KeyPrefix = "",
    since: Since = None,
    older_than: OlderThan = None,
    maximum: Annotated[
        int | None,
        typer.Option("--max", metavar="N", min=1, help="Maximum number of messages to replay."),
    ] = None,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Process failed uploads again, and delete the messages of those that succeed.

    If an upload fails permanently again, a new message with one more attempt replaces its message.
    After any other failure the message stays on the queue. A replay does not process messages that
    arrive while it runs. The exit code is 1 if an upload failed again or a message could not be
    processed.

    A replay runs in AWS, and goes on if you leave the command. With --prefix, --since or
    --older-than, the command chooses the messages and sends them to the function itself, so it must
    stay open. After Ctrl-C, run it again to continue.

    **Examples**

    `image-pipeline replay`

    `image-pipeline replay --error StorageUnavailable --max 100 --stack my-pipeline`

    `image-pipeline replay --since 2h --prefix uploads/2026/ --stack my-pipeline`
    """
    chosen = parse_filter(error, prefix, since, older_than)
    target = targets.find_stack(local=local, name=stack, region=region, profile=profile)
    states = target.aws.states
    running = executions.find_running(states, target.output("ReplayStateMachineArn"))
    here = chosen != Filter(error_type=error)
    if running and here:
        raise CommandError(
            f"A replay has been running since {running.started_at:%H:%M:%S}, and has messages that "
            f"this one may need. To follow it: image-pipeline replay{target.options}"
        )
    counts = dict.fromkeys(OUTCOMES, 0)
    arns: list[str] = []
    if running:
        err.print(f"A replay has been running since {running.started_at:%H:%M:%S}: following it.")
    else:
        reading = read_with_progress(target, MAX_READ if here else MAX_LISTED)
        planned = chosen.matching(reading.failures)
        if not (planned if here else reading.total):
            if as_json:
                print_json({"stack": target.name, **counts, "waiting": reading.total})
            else:
                out.print("No failed upload matches." if reading.total else "No failed uploads.")
            return
        if not as_json:
            show_plan(planned, reading.total, maximum, target)
            if here and (note := unread_note(reading, "For the others, run the command again.")):
                err.print(note)
    if here:
        counts = replay_messages(target, planned, maximum)
    else:
        ended = follow(target, running, error, maximum)
        counts = {name: sum(each.output[name] for each in ended) for name in OUTCOMES}
        arns = [each.arn for each in ended]
    show_result(target, counts, arns, as_json=as_json)
    if counts["failed_again"] or counts["left"] or counts["unreadable"]:
        raise typer.Exit(1)


def show_result(
    stack: Stack, counts: Mapping[str, int], arns: Sequence[str], *, as_json: bool
) -> None:
    """Print how many messages had each outcome, and how many are on the queue now."""
    depth = count_messages(stack)
    if as_json:
        print_json({"stack": stack.name, **counts, "waiting": depth, "executions": list(arns)})
        return
    out.print(
        f"{counts['done']:,} done, {counts['failed_again']:,} failed again, "
        f"{counts['left']:,} left, {counts['unreadable']:,} unreadable; "
        f"{depth:,} on the queue: image-pipeline dead-letters{stack.options}",
        soft_wrap=True,
    )


def replay_messages(
    stack: Stack, planned: Sequence[Failure], maximum: int | None
) -> dict[str, int]:
    """Replay the messages of these failures from this process, at most `maximum` of them.

    Returns how many had each of OUTCOMES. A message that another reader has counts as left.
    """
    keys = {each.message_id: each.key for each in planned}
    chosen = list(keys)[:maximum]
    outcomes = replay_each(stack, chosen, nullcontext())
    counts = Counter(dict.fromkeys(OUTCOMES, 0))
    for each in tracked(outcomes, "Replaying", len(chosen)):
        counts["left" if each.outcome == "gone" else each.outcome] += 1
        if each.why:
            name = keys[each.message_id] or each.message_id  # which has no key if unreadable
            err.print(f"{foreign(name)}: {foreign(each.why)}", soft_wrap=True)
    return counts


def follow(
    stack: Stack, running: Execution | None, error: str | None, maximum: int | None
) -> list[Execution]:
    """Follow the `running` replay, or start one and follow it; the executions that ended.

    Raises CommandError if one fails, typer.Exit after Ctrl-C.
    """
    states = stack.aws.states
    if running:
        watched = executions.watch(states, running.arn)
    else:
        watched = replay_all(stack, error, maximum)
    ended = []
    execution = running
    try:
        with err.status("Replaying") as spinner:
            for execution in watched:
                if execution.running:
                    left = count_messages(stack)
                    spinner.update(f"Replaying: {left:,} messages on the queue")
                else:
                    ended.append(execution)
    except KeyboardInterrupt:
        if execution is None:
            raise
        stop = partial(executions.stop, states, execution.arn)
        leave_or_stop("replay", execution.name, stop, stack.options)
    return ended


def show_plan(planned: Sequence[Failure], depth: int, maximum: int | None, stack: Stack) -> None:
    """Print what a replay will retry; `depth` is the number of messages on the queues."""
    types = Counter(each.error_type for each in planned)
    listed = ", ".join(f"{count:,} {foreign(name)}" for name, count in types.most_common())
    of_all = f" (of {depth:,} on the queue)" if depth != len(planned) else ""
    at_most = f", at most {maximum:,}" if maximum else ""
    err.print(
        f"Replaying with {stack.name} {stack.aws.location}: "
        f"{listed or 'nothing'}{of_all}{at_most}."
    )
