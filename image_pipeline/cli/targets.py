"""The stack or the AWS that a command works on, as its options say."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from image_pipeline.cli.output import err
from image_pipeline.errors import CommandError
from image_pipeline.stack.aws import Aws
from image_pipeline.stack.deployed import Stack

if TYPE_CHECKING:
    from image_pipeline.local.stack import LocalStack
    from image_pipeline.stack.health import Subject


def find_stack(*, local: bool, name: str | None, region: str | None, profile: str | None) -> Stack:
    """Find the stack that the options --local, --stack, --region and --profile mean.

    Raises CommandError if there is none, or if a region or a profile is given for the local stack.
    """
    return Stack.find(*_find(local=local, name=name, region=region, profile=profile))


def find_subject(
    *, local: bool, name: str | None, region: str | None, profile: str | None
) -> "Subject":
    """Find the stack that the options mean, whatever of it is broken; the same options and errors.

    Only CloudFormation is asked.
    """
    from image_pipeline.stack.health import Subject  # noqa: PLC0415 - only `status` needs it

    return Subject.find(*_find(local=local, name=name, region=region, profile=profile))


def _find(
    *, local: bool, name: str | None, region: str | None, profile: str | None
) -> tuple[Aws, str, str | None]:
    """Find the AWS, the name and the profile of the stack that the options mean."""
    if name:
        _exclude_each_other(local, name)
        return Aws.account(region, profile), name, profile
    return *_find_local(local=local, region=region, profile=profile), None


def _find_local(*, local: bool, region: str | None, profile: str | None) -> tuple[Aws, str]:
    """Find the local AWS and the name of its stack.

    Raises CommandError if it is not there or not ready, or if a region or a profile is given.
    """
    if region or profile:
        raise CommandError(
            "--region and --profile are for a stack in your AWS account: name it with --stack NAME."
        )
    running = _local_stack()
    if not local and running.server() is None:
        raise CommandError(
            "No local stack is running. Start one with `image-pipeline up`, or name a deployed one "
            "with --stack NAME."
        )
    return running.deployed()


def find_aws(*, local: bool, name: str | None, region: str | None, profile: str | None) -> Aws:
    """Find the AWS that the options mean, whether or not a stack is deployed there.

    It is the local AWS with `local`, and also while one is running and none of `name`, `region`
    and `profile` is given; else the account. Raises CommandError if `local` is meant and none is
    running.
    """
    _exclude_each_other(local, name)
    if not local and (name or region or profile):
        return Aws.account(region, profile)
    server = _local_stack().server()
    if server:
        return server.aws
    if local:
        raise CommandError("No local AWS is running. Start one with `image-pipeline up`.")
    return Aws.account()


def find_name(
    *, local: bool, name: str | None, region: str | None, profile: str | None
) -> tuple[Aws, str]:
    """Find the AWS and the stack's name that the options mean, whatever state the stack is in.

    Raises CommandError if the local AWS is meant and none is running.
    """
    if name:
        return find_aws(local=local, name=name, region=region, profile=profile), name
    return _find_local(local=local, region=region, profile=profile)


def input_prefix(stack: Stack, prefix: str | None) -> str:
    """The prefix of the originals that the option --prefix means, all of them without it.

    Raises CommandError for a prefix of objects that the stack does not process.
    """
    whole = stack.settings.input_prefix
    within = whole if prefix is None else prefix
    if not within.startswith(whole):
        raise CommandError(
            f"Only objects under {whole} are processed. Did you mean --prefix {whole}{within}?"
        )
    return within


@contextmanager
def reporting() -> Iterator[Callable[[str], None]]:
    """Give what shows a few words about each step: in one line of a terminal, else as a log."""
    if not err.is_terminal:
        yield lambda doing: err.print(f"{doing} …")
        return
    with err.status("") as spinner:
        yield lambda doing: spinner.update(f"{doing} …")


def start(local: "LocalStack", port: int, *, detach: bool) -> None:
    """Start the local stack and show what it is doing."""
    with reporting() as report:
        local.start(port, detach=detach, report=report)


@contextmanager
def running(local: "LocalStack", port: int) -> Iterator[Stack]:
    """Give the local stack that is running, or one on `port` that is stopped after the block."""
    started = local.server() is None
    if started:
        start(local, port, detach=False)
    try:
        yield local.stack()
    finally:
        if started:
            local.stop()


def _exclude_each_other(local: bool, name: str | None) -> None:  # noqa: FBT001 - the --local flag
    if local and name:
        raise CommandError("--local and --stack exclude each other: pass one of them.")


def _local_stack() -> "LocalStack":
    from image_pipeline.local.stack import LocalStack  # noqa: PLC0415 - --stack needs none of it

    return LocalStack()
