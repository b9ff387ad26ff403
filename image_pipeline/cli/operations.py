"""Commands for who runs a stack: dead letters, replay, backfill, cost."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from image_pipeline.cli.common import (
    Json,
    Local,
    Name,
    Region,
    app,
    bar,
    chosen,
    err,
    out,
    print_json,
    show_failures,
    where,
)
from image_pipeline.errors import CommandError
from image_pipeline.stack import backfill as backfilling
from image_pipeline.stack import costs, executions
from image_pipeline.stack.backfill import Survey
from image_pipeline.stack.dead_letters import Failure
from image_pipeline.stack.deployed import Stack, explained
from image_pipeline.stack.executions import Execution
from image_pipeline.stack.replay import NOTHING, letters, replays, waiting
from image_pipeline.stack.smoke import SmokeTest, Step

READ: Final = 1000
"""Letters that are read from a queue for a table; more take long, and nobody reads them."""

ErrorType = Annotated[
    str | None, typer.Option("--error", metavar="TYPE", help="Only letters with this error.")
]


@app.command()
def dead_letters(  # noqa: PLR0913 - options of a command
    *,
    error: ErrorType = None,
    maximum: Annotated[int, typer.Option("--max", min=1, help="Read at most so many.")] = READ,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write them to FILE, a JSON object a line."),
    ] = None,
    local: Local = False,
    stack: Name = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Show the uploads that failed, and why. Nothing is taken off the queue.

    A line of an export has the message itself as `body`, so that it can be sent again.

    **Examples**

    `image-pipeline dead-letters`

    `image-pipeline dead-letters --error CorruptImage --stack my-pipeline`

    `image-pipeline dead-letters --export letters.jsonl`
    """
    target = chosen(local=local, name=stack, region=region)
    found = letters(target, maximum, error)
    depth = waiting(target)
    if export:
        export.write_text(
            "".join(
                json.dumps(each.to_json() | {"body": each.body}, ensure_ascii=False) + "\n"
                for each in found
            )
        )
    if as_json:
        letters_json = [each.to_json() for each in found]
        print_json({"stack": target.name, "waiting": depth, "failures": letters_json})
        return
    if export:
        out.print(f"{len(found):,} failures written to {export}")
    elif found:
        show_failures(found)
    out.print(f"{depth:,} messages wait on the queue of {target.name} {where(target)}.")
    hidden = depth - len({each.message_id for each in found})
    if not error and hidden > 0 and len(found) < maximum:
        out.print(f"{hidden:,} are hidden for some minutes: a replay has them, or left them.")
    if found and not export:
        out.print("Try them again: image-pipeline replay")


@app.command()
def replay(  # noqa: PLR0913 - options of a command
    *,
    error: ErrorType = None,
    maximum: Annotated[
        int | None, typer.Option("--max", metavar="N", min=1, help="At most N letters.")
    ] = None,
    local: Local = False,
    stack: Name = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Try what failed again: letters whose upload now succeeds are gone, the rest stays.

    What fails for good again has a new letter, with one attempt more. Letters that come in
    meanwhile are left alone. The exit code is 1 if anything failed again or was left.

    **Examples**

    `image-pipeline replay`

    `image-pipeline replay --error StorageUnavailable --max 100 --stack my-pipeline`
    """
    target = chosen(local=local, name=stack, region=region)
    machine = target.output("ReplayStateMachineArn")
    current = executions.running(target.aws.states, machine)
    planned = letters(target, READ, error)
    if current:
        err.print(f"A replay runs since {current.started_at:%H:%M:%S}: waiting for it.")
    elif not waiting(target):
        say(as_json, {"stack": target.name, **NOTHING, "waiting": 0}, "No dead letters: well done.")
        return
    elif not as_json:
        show_plan(planned, waiting(target), maximum, target)
    totals = Counter(NOTHING)
    arns = []
    for outcome in replays(target, current, error, maximum, partial(followed_replay, target)):
        arns.append(outcome.arn)
        totals.update({name: outcome.output[name] for name in NOTHING})
    depth = waiting(target)
    say(
        as_json,
        {"stack": target.name, **totals, "waiting": depth, "executions": arns},
        f"{totals['done']:,} done, {totals['failed_again']:,} failed again, "
        f"{totals['left']:,} left, {totals['unreadable']:,} unreadable; "
        f"{depth:,} on the queue: image-pipeline dead-letters",
    )
    if totals["failed_again"] or totals["left"] or totals["unreadable"]:
        raise typer.Exit(1)


@app.command()
def backfill(  # noqa: PLR0913 - options of a command
    *,
    prefix: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Only objects under it.")
    ] = None,
    maximum: Annotated[
        int | None,
        typer.Option("--max", metavar="N", min=1, help="Look at the first N objects at most."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=1000, help="Batches of 25 images at a time.")
    ] = 5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and start nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start without asking.")] = False,
    local: Local = False,
    stack: Name = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Make the thumbnails of images that were in the bucket before, or under other settings.

    It counts first, says what it would cost, and asks. What is current already is not made again,
    so run it again to go on. Ctrl-C leaves it running, or stops it. The stack's parameter
    BackfillMaximum bounds the objects of a run. The exit code is 1 if images failed; they have
    their dead letters.

    **Examples**

    `image-pipeline backfill --dry-run`

    `image-pipeline backfill --prefix uploads/2024/ --max 5000`

    `image-pipeline backfill --stack my-pipeline --yes --json`
    """
    target = chosen(local=local, name=stack, region=region)
    machine = target.output("BackfillStateMachineArn")
    cap = int(target.output("BackfillMaximum"))
    within = prefix if prefix is not None else target.settings.input_prefix
    if not within.startswith(target.settings.input_prefix):
        raise CommandError(
            f"Only objects under {target.settings.input_prefix} are processed: "
            f"--prefix {target.settings.input_prefix}{within}?"
        )
    current = executions.running(target.aws.states, machine)
    if dry_run or not (current or yes):
        survey = surveyed(target, within, min(maximum or cap, cap))
        if dry_run and as_json:
            dollars = costs.of_backfill(costs.Rates.of(target), survey.objects, survey.to_make)
            told = asdict(survey) | {"estimated_dollars": round(dollars, 4)}
            print_json({"stack": target.name, "prefix": within, **told})
        else:
            show_survey(target, within, survey, maximum)
        if dry_run or not survey.to_make:
            return
        confirm_start()
    if current:
        err.print(f"A backfill runs since {current.started_at:%H:%M:%S}: waiting for it.")
    else:
        asked = {"prefix": within, "max": maximum, "concurrency": concurrency}
        current = executions.start(target.aws.states, machine, asked)
    ended = followed_backfill(target, current)
    done = backfilling.results(target, ended.output)
    say(
        as_json,
        {"stack": target.name, "execution": ended.arn, **asdict(done)},
        f"{done.made:,} made, {done.current:,} current before, {done.skipped:,} skipped, "
        f"{done.failed:,} failed{': image-pipeline dead-letters' if done.failed else ''}",
    )
    for reason in done.unreported:
        err.print(f"[bold red]A batch failed[/]: {escape(reason)}", soft_wrap=True)
    if done.failed or done.unreported:
        raise typer.Exit(1)


@app.command()
def cost(  # noqa: PLR0913 - options of a command
    *,
    images: Annotated[int, typer.Option(min=1, help="Images a month.")] = 10_000,
    duration: Annotated[
        float | None,
        typer.Option(metavar="MS", min=1, help="Billed milliseconds an image, if you know them."),
    ] = None,
    local: Local = False,
    stack: Name = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Reckon what images cost with the stack's memory, architecture and sizes.

    Without free tiers, storage and transfer; the prices and their date are in
    `image_pipeline/prices.json`. The duration is that of a photo of about 1 MB.

    **Examples**

    `image-pipeline cost --images 1000000`

    `image-pipeline cost --stack my-pipeline --duration 240 --json`
    """
    target = chosen(local=local, name=stack, region=region)
    rates = costs.Rates.of(target, duration)
    each, monthly = costs.of_images(rates, images), costs.of_cloudwatch(images)
    prices = {name: costs.PRICES[name] for name in ("as_of", "region", "currency")}
    if as_json:
        print_json(
            {"stack": target.name, "images": images, **asdict(rates), "prices": prices}
            | {"images_cost": each, "total": sum(each.values()), "cloudwatch_month": monthly}
        )
        return
    table = Table("", "dollars", title=f"{images:,} images with {target.name}")
    table.columns[1].justify = "right"
    for title, rows in (("images", each), ("CloudWatch, a month", monthly)):
        for name, dollars in rows.items():
            table.add_row(name, f"{dollars:.4f}")
        table.add_section()
        table.add_row(f"[bold]{title}[/]", f"[bold]{sum(rows.values()):.4f}[/]")
        table.add_section()
    out.print(table)
    out.print(
        f"{rates.memory_mb} MB on {rates.architecture}, {rates.duration_ms:.0f} ms and "
        f"{rates.writes} writes an image; prices of {prices['as_of']} in {prices['region']}."
    )


@app.command()
def smoke(
    *,
    seconds: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=1, help="Wait at most so long a step.")
    ] = 120.0,
    local: Local = False,
    stack: Name = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Check that a stack works: an image gets thumbnails, a broken file gets a dead letter.

    Everything that it uploads, and all that is made of it, is removed again. The exit code is 1,
    and the step is named, if anything fails.

    **Examples**

    `image-pipeline smoke`

    `image-pipeline smoke --stack my-pipeline --wait 60 --json`
    """
    target = chosen(local=local, name=stack, region=region)
    test = SmokeTest(target, seconds, lambda step: None if as_json else show_step(step))
    failure: CommandError | None = None
    try:
        test()
    except CommandError as error:
        failure = error
    if as_json:
        steps = [asdict(step) for step in test.steps]
        shown = str(failure) if failure else None
        print_json({"stack": target.name, "ok": not failure, "steps": steps, "error": shown})
    if failure:
        if as_json:
            raise typer.Exit(1)
        raise failure


@app.command()
def record(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the two files go.")],
    *,
    local: Local = False,
    stack: Name = None,
    region: Region = None,
) -> None:
    """Keep the template and the parameters of what is deployed, so that it can be deployed again.

    `make record` before a deploy and `make rollback` after one that went wrong use it.

    **Example**

    `image-pipeline record .aws-sam/before --stack my-pipeline`
    """
    target = chosen(local=local, name=stack, region=region)
    with explained():
        template = target.aws.cloudformation.get_template(
            StackName=target.name, TemplateStage="Original"
        )["TemplateBody"]
        found = target.aws.cloudformation.describe_stacks(StackName=target.name)["Stacks"][0]
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found["Parameters"]}
    directory.mkdir(parents=True, exist_ok=True)
    text = template if isinstance(template, str) else json.dumps(template)
    (directory / "template.yaml").write_text(text)
    (directory / "parameters.json").write_text(json.dumps(parameters, indent=2) + "\n")
    out.print(f"Recorded version {target.live_version()} of {target.name} in {directory}")


def show_step(step: Step) -> None:
    """A line a step."""
    out.print(f"[green]✓[/] {step.name} ({step.seconds} s)")


# --- what the commands share --------------------------------------------------------------------
def followed_replay(stack: Stack, execution: Execution) -> Execution:
    """Wait for a replay, and show how many letters are on the queue meanwhile."""
    with offering_to_stop(stack, execution, "replay"), err.status("Replaying") as spinner:

        def progress() -> None:
            spinner.update(f"Replaying: {waiting(stack):,} letters on the queue")

        return executions.follow(stack.aws.states, execution.arn, progress)


def followed_backfill(stack: Stack, execution: Execution) -> Execution:
    """Wait for a backfill behind a progress bar."""
    with offering_to_stop(stack, execution, "backfill"), bar() as progress_bar:
        task = progress_bar.add_task("Backfill", total=None)

        def progress() -> None:
            for run in executions.map_runs(stack.aws.states, execution.arn):
                counts = run["itemCounts"]
                ended = counts["succeeded"] + counts["failed"] + counts["aborted"]
                progress_bar.update(task, completed=ended, total=counts["total"] or None)

        return executions.follow(stack.aws.states, execution.arn, progress)


@contextmanager
def offering_to_stop(stack: Stack, execution: Execution, what: str) -> Iterator[None]:
    """Let Ctrl-C choose between stopping an execution and leaving it to itself."""
    try:
        yield
    except KeyboardInterrupt:
        name = execution.arn.rpartition(":")[2]
        if sys.stdin.isatty() and typer.confirm(f"\nStop the {what}?", default=True, err=True):
            executions.stop(stack.aws.states, execution.arn)
            err.print(f"Stopped {name}; nothing is lost. Go on: image-pipeline {what}")
        else:
            err.print(f"The {what} goes on as {name}. Follow it: image-pipeline {what}")
        raise typer.Exit(130) from None


def confirm_start() -> None:
    """Ask whether to start. Raises CommandError where nobody can be asked, typer.Exit for a no."""
    if not sys.stdin.isatty():
        raise CommandError("Nobody is there to be asked. Start it with --yes.")
    if not typer.confirm("Start?", err=True):
        raise typer.Exit(1)


def surveyed(stack: Stack, prefix: str, maximum: int) -> Survey:
    """Count what a backfill would do, behind a progress bar."""
    with bar() as progress_bar:
        task = progress_bar.add_task("Counting", total=None)
        advance: Callable[[int], None] = lambda more: progress_bar.advance(task, more)  # noqa: E731
        return backfilling.survey(stack, prefix, maximum, advance)


def show_survey(stack: Stack, prefix: str, survey: Survey, maximum: int | None) -> None:
    """Say what a backfill would do, what it would cost, and what it leaves out."""
    cap = int(stack.output("BackfillMaximum"))
    dollars = costs.of_backfill(costs.Rates.of(stack), survey.objects, survey.to_make)
    table = Table("", "objects", "bytes", title=f"s3://{stack.input_bucket}/{escape(prefix)}")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("looked at", f"{survey.objects:,}", f"{survey.size:,}")
    table.add_row("current", f"{survey.current:,}", "")
    table.add_row("skipped", f"{survey.skipped:,}", "")
    table.add_row("[bold]to make[/]", f"{survey.to_make:,}", f"{survey.to_make_size:,}")
    err.print(table)
    err.print(
        f"About ${dollars:,.4f} at {stack.settings.memory_mb} MB on {stack.architecture}, with "
        f"{len(stack.settings.widths)} sizes an image (how: image-pipeline cost)."
    )
    if survey.beyond and maximum and maximum < cap:
        err.print(f"There are more objects: --max {maximum} stops there.")
    elif survey.beyond:
        err.print(
            f"[yellow]There are more objects.[/] The stack's BackfillMaximum is {cap:,}: raise it, "
            "or take a part at a time with --prefix."
        )


def show_plan(planned: Sequence[Failure], depth: int, maximum: int | None, stack: Stack) -> None:
    """Say what a replay will try."""
    kinds = Counter(each.error_type for each in planned)
    listed = ", ".join(f"{count:,} {escape(kind)}" for kind, count in kinds.most_common())
    some = f" (of {depth:,} on the queue)" if depth != len(planned) else ""
    most = f", at most {maximum:,}" if maximum else ""
    err.print(f"Replaying with {stack.name} {where(stack)}: {listed or 'nothing'}{some}{most}.")


def say(as_json: bool, told: dict[str, Any], words: str) -> None:  # noqa: FBT001 - the --json flag
    """Print a result, for a script or for a person."""
    if as_json:
        print_json(told)
    else:
        out.print(words)
