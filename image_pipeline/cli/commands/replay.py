"""`image-pipeline replay`."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Final

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.options import ErrorType, Json, Local, Profile, Region, StackName
from image_pipeline.cli.output import err, foreign, out, print_json
from image_pipeline.cli.signals import leave_or_stop
from image_pipeline.stack import executions
from image_pipeline.stack.dead_letters import Failure, count_messages, failures
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.executions import Execution
from image_pipeline.stack.replay import OUTCOMES, replay_all

MAX_LISTED: Final = 1000
"""Messages that are read to say what a replay will retry; reading more takes long."""


def replay(  # noqa: PLR0913 - options of a command
    *,
    error: ErrorType = None,
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

    **Examples**

    `image-pipeline replay`

    `image-pipeline replay --error StorageUnavailable --max 100 --stack my-pipeline`
    """
    target = targets.find_stack(local=local, name=stack, region=region, profile=profile)
    running = executions.find_running(target.aws.states, target.output("ReplayStateMachineArn"))
    if running:
        err.print(f"A replay has been running since {running.started_at:%H:%M:%S}: following it.")
    else:
        planned = failures(target, MAX_LISTED, error)
        depth = count_messages(target)
        if not depth:
            if as_json:
                print_json({"stack": target.name, **dict.fromkeys(OUTCOMES, 0), "waiting": 0})
            else:
                out.print("No failed uploads.")
            return
        if not as_json:
            show_plan(planned, depth, maximum, target)
    ended = follow(target, running, error, maximum)
    totals = {name: sum(each.output[name] for each in ended) for name in OUTCOMES}
    depth = count_messages(target)
    if as_json:
        arns = [each.arn for each in ended]
        print_json({"stack": target.name, **totals, "waiting": depth, "executions": arns})
    else:
        out.print(
            f"{totals['done']:,} done, {totals['failed_again']:,} failed again, "
            f"{totals['left']:,} left, {totals['unreadable']:,} unreadable; "
            f"{depth:,} on the queue: image-pipeline dead-letters"
        )
    if totals["failed_again"] or totals["left"] or totals["unreadable"]:
        raise typer.Exit(1)


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
        leave_or_stop("replay", execution.name, partial(executions.stop, states, execution.arn))
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
