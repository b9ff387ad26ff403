"""`image-pipeline status`."""

from typing import Annotated, Any, Final

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.options import Json, Local, Profile, Region, StackName
from image_pipeline.cli.output import err, foreign, out, print_exports, print_json, show_failures
from image_pipeline.cli.version import number
from image_pipeline.console.process import ConsoleProcess
from image_pipeline.errors import CommandError
from image_pipeline.local.stack import LocalStack
from image_pipeline.stack import health
from image_pipeline.stack.health import Health, Level, Part

EXIT_CODES: Final = {Level.HEALTHY: 0, Level.ATTENTION: 1, Level.BROKEN: 2}
"""Level of a stack → exit code."""

MARKS: Final = {
    Level.HEALTHY: "[green]✓[/]",
    Level.UNKNOWN: "[yellow]?[/]",
    Level.ATTENTION: "[yellow]![/]",
    Level.BROKEN: "[bold red]✗[/]",
}
"""What stands before a part of each level."""

TITLES: Final = {"cdn": "CDN", "key": "KMS key"}
"""Titles of the parts whose name is not their title."""


def status(  # noqa: PLR0913 - options of a command
    *,
    limit: Annotated[int, typer.Option("--failures", min=0, help="Maximum failures to show.")] = 10,
    env: Annotated[
        bool, typer.Option("--env", help="Print only the variables that other AWS tools need.")
    ] = False,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Show the state of every part of a stack, and the latest failures.

    Each part is read by itself: the buckets, the queues, the function, the alarms, the errors and
    throttles of the last hour, the last replay and backfill, the CDN, the KMS key. A part that
    cannot be read says why, and the others are shown. A part that is not well says what to do next.

    The exit code is 0 if all is well. It is 1 if something needs attention, for example failed
    uploads that wait or an alarm that has gone off, or if a part cannot be read. It is 2 if a part
    is broken, for example if a bucket, a queue or the function does not exist.

    With --env, other AWS tools can use the local stack, whose key is secret and changes with each
    start.

    **Examples**

    `image-pipeline status`

    `eval "$(image-pipeline status --env)"`

    `image-pipeline status --stack my-pipeline --failures 50 --json`
    """
    if env:
        if stack or region or profile:
            raise CommandError("--env is for the local stack: --stack uses your own credentials.")
        show_environment(as_json=as_json)
        return
    if not (stack or local or region or profile or LocalStack().server()):
        if as_json:
            print_json({"running": False})
        else:
            out.print("No local stack is running. Start one: image-pipeline up")
        return
    subject = targets.find_subject(local=local, name=stack, region=region, profile=profile)
    with err.status("Reading every part"):
        found = health.examine(subject)
    console = None if stack else ConsoleProcess(LocalStack().directory).url
    failures = found.failures[:limit]
    if as_json:
        print_json(report(found, console) | {"failures": [each.to_json() for each in failures]})
    else:
        show(found)
        if not stack:
            shown = console or "not running; open one: image-pipeline console"
            out.print(f"console: {shown}", soft_wrap=True)
        if failures:
            show_failures(failures)
    raise typer.Exit(EXIT_CODES[found.level])


def report(found: Health, console: str | None) -> dict[str, Any]:
    """As JSON for scripts; what could not be read is null."""
    aws = found.subject.aws
    return {
        "running": True,
        "stack": found.subject.name,
        "health": found.level,
        "version": found.detail("function", "version"),
        "stack_version": found.subject.outputs.get("Version"),
        "command_version": number(),
        "endpoint_url": aws.endpoint_url,
        "region": aws.s3.meta.region_name,
        "console": console,
        "input": {
            name: found.detail("input_bucket", name) for name in ("bucket", "prefix", "objects")
        },
        "output": {name: found.detail("output_bucket", name) for name in ("bucket", "objects")},
        "dead_letters": found.detail("failed_uploads", "messages"),
        "undelivered_events": found.detail("undelivered_events", "messages"),
        "parts": {name: part.to_json() for name, part in found.parts.items()},
    }


def show(found: Health) -> None:
    """Print every part: its summary, what people copy from it, and what to do next."""
    subject = found.subject
    out.print(f"[bold]{subject.name}[/] {subject.aws.location}: {found.level}", soft_wrap=True)
    show_versions(subject.outputs.get("Version"), number())
    for name, part in found.parts.items():
        show_part(TITLES.get(name, name.replace("_", " ")), part)


def show_versions(stack: str | None, command: str | None) -> None:
    """Print the version of the stack, and what to do if that of the command is another.

    Stacks of version 0.1.0 do not tell theirs.
    """
    out.print(f"version: {foreign(stack or 'earlier than 0.2.0')}; this command: {command}")
    if stack != command:
        out.print("  [bold]→[/] Update the older of the two: docs/upgrade.md")


def show_part(title: str, part: Part) -> None:
    """Print one part. Lines that people copy are not broken: the terminal wraps them."""
    out.print(f"{MARKS[part.level]} {title}: {foreign(part.summary)}", soft_wrap=True)
    for line in part.copied:
        out.print(f"    {foreign(line)}", soft_wrap=True)
    for step in part.next_steps:
        out.print(f"  [bold]→[/] {foreign(step)}", soft_wrap=True)


def show_environment(*, as_json: bool) -> None:
    """Print the variables with which other AWS tools use the local AWS, as commands of a shell.

    Raises CommandError if none is running.
    """
    variables = targets.find_aws(local=True, name=None, region=None, profile=None).environment
    if as_json:
        print_json(dict(variables))
        return
    print_exports(variables)
