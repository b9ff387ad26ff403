"""`image-pipeline backfill`."""

from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.options import Json, Local, Profile, Region, StackName, Yes
from image_pipeline.cli.output import confirm, err, foreign, out, print_json, progress_bar
from image_pipeline.cli.signals import leave_or_stop
from image_pipeline.cli.tables import Table
from image_pipeline.stack import backfill as backfills
from image_pipeline.stack import costs, executions
from image_pipeline.stack.backfill import Survey
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.executions import Execution

ARCHIVED = (
    "S3 does not return these objects (S3 Glacier Flexible Retrieval or Deep Archive). Restore "
    "them and copy them to another storage class, then run this command again."
)
"""What to do about archived objects."""


def backfill(  # noqa: PLR0913 - options of a command
    *,
    prefix: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Only objects under this prefix.")
    ] = None,
    maximum: Annotated[
        int | None,
        typer.Option("--max", metavar="N", min=1, help="Maximum number of objects."),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=backfills.MAX_CONCURRENCY,
            help="Number of batches at a time, of 25 images each.  "
            "[default: the stack's BackfillConcurrency]",
        ),
    ] = None,
    remake: Annotated[
        bool, typer.Option("--remake", help="Also make thumbnails again that are up to date.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the count and the cost, and start nothing.")
    ] = False,
    yes: Yes = False,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Make the thumbnails that are missing or were made with other settings.

    The command counts the images, estimates the cost, and asks before it starts. Thumbnails that
    are up to date are not made again. After Ctrl-C, you choose whether the backfill stops or
    continues in AWS. If it stopped, run the command again to continue.

    An update may change the thumbnails of some images. To make these again, use --remake, one
    prefix at a time: a remake that stopped begins again at the start of its prefix. Archived
    objects (S3 Glacier Flexible Retrieval and Deep Archive) are counted and left out.

    The stack's parameter BackfillMaximum limits the number of objects, and BackfillConcurrency is
    the number of batches at a time. `image-pipeline cost --backfill N` estimates cost and time of a
    large backfill, with --yes this command does not count first. The exit code is 1 if an
    image failed. `image-pipeline dead-letters` shows why. If the function itself fails, the
    backfill ends early, without a message for each image, and says what to do.

    **Examples**

    `image-pipeline backfill --dry-run`

    `image-pipeline backfill --prefix uploads/2024/ --max 5000`

    `image-pipeline backfill --prefix uploads/scans/ --remake`

    `image-pipeline backfill --stack my-pipeline --yes --json`
    """
    target = targets.find_stack(local=local, name=stack, region=region, profile=profile)
    cap = int(target.output("BackfillMaximum"))
    within = targets.input_prefix(target, prefix)
    execution = None if dry_run else backfills.running(target, remake=remake)
    if dry_run or not (execution or yes):
        survey = count(target, within, min(maximum or cap, cap), remake=remake)
        if dry_run and as_json:
            dollars = estimate(target, survey, remake=remake)
            counts = asdict(survey) | {"estimated_dollars": round(dollars, 4)}
            print_json({"stack": target.name, "prefix": within, "remake": remake, **counts})
        else:
            show_survey(target, within, survey, maximum, remake=remake)
        if dry_run or not survey.to_make:
            return
        confirm("Start?")
    if execution:
        err.print(
            f"A backfill has been running since {execution.started_at:%H:%M:%S}: following it."
        )
    else:
        execution = backfills.start(target, within, maximum, concurrency, remake=remake)
    ended = follow(target, execution)
    result = backfills.result(target, ended.output)
    if as_json:
        print_json({"stack": target.name, "execution": ended.arn, **asdict(result)})
    else:
        out.print(
            f"{result.made:,} made, {result.current:,} up to date, {result.skipped:,} skipped,"
            f" {result.failed:,} failed"
            + f": image-pipeline dead-letters{target.options}" * bool(result.failed),
            soft_wrap=True,
        )
        if result.archived:
            err.print(f"{result.archived:,} left out: {ARCHIVED}")
    for reason in result.unreported:
        err.print(f"[bold red]A batch failed[/]: {foreign(reason)}", soft_wrap=True)
    if result.failed or result.unreported:
        raise typer.Exit(1)


def count(stack: Stack, prefix: str, maximum: int, *, remake: bool) -> Survey:
    """Count what a backfill would do, behind a progress bar."""
    survey = Survey()
    with progress_bar() as bar:
        task = bar.add_task("Counting", total=None)
        for survey in backfills.survey(stack, prefix, maximum, remake=remake):
            bar.update(task, completed=survey.objects)
    return survey


def follow(stack: Stack, execution: Execution) -> Execution:
    """Follow a backfill to its end, behind a progress bar.

    Raises CommandError if it fails, which says what to do; typer.Exit after Ctrl-C.
    """
    states = stack.aws.states
    try:
        with progress_bar() as bar:
            task = bar.add_task("Backfill", total=None)
            for latest in executions.watch(states, execution.arn):
                for run in executions.map_runs(states, latest.arn):
                    counts = run["itemCounts"]
                    ended = counts["succeeded"] + counts["failed"] + counts["aborted"]
                    bar.update(task, completed=ended, total=counts["total"] or None)
    except executions.ExecutionFailed as failed:
        raise backfills.explain(stack, failed.execution) or failed from failed
    except KeyboardInterrupt:
        stop = partial(executions.stop, states, execution.arn)
        leave_or_stop("backfill", execution.name, stop, stack.options)
    return latest


def estimate(stack: Stack, survey: Survey, *, remake: bool) -> float:
    """Dollars for a backfill of what was counted."""
    rates = costs.Rates.of(stack)
    dollars = costs.of_backfill(rates, survey.objects, survey.to_make, remake=remake)
    if stack.settings.distribution:  # at most: what is missing has nothing to invalidate
        dollars += costs.of_invalidations(rates, survey.to_make)
    return dollars


def show_survey(
    stack: Stack, prefix: str, survey: Survey, maximum: int | None, *, remake: bool = False
) -> None:
    """Print what a backfill would do, what it would cost, and what it leaves out."""
    cap = int(stack.output("BackfillMaximum"))
    dollars = estimate(stack, survey, remake=remake)
    table = Table("", "objects", "bytes", title=f"s3://{stack.input_bucket}/{foreign(prefix)}")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("checked", f"{survey.objects:,}", f"{survey.size:,}")
    table.add_row("up to date", f"{survey.current:,}", "")
    table.add_row("skipped", f"{survey.skipped:,}", "")
    table.add_row("[bold]to make[/]", f"{survey.to_make:,}", f"{survey.to_make_size:,}")
    if survey.occupied:
        table.add_row("occupied", f"{survey.occupied:,}", "")
    if survey.archived:
        table.add_row("archived", f"{survey.archived:,}", "")
    err.print(table)
    if survey.archived:
        err.print(f"Archived: {ARCHIVED}")
    if survey.occupied:
        err.print(
            "Occupied: everything else is up to date, but objects that this pipeline did not write "
            "have the keys of thumbnails. Take them over or remove them: image-pipeline prune "
            f"--adopt{stack.options}"
        )
    err.print(
        f"About ${dollars:,.4f} with {stack.settings.memory_mb} MB on {stack.architecture} and "
        f"{len(stack.settings.sizes)} × {len(stack.settings.formats)} thumbnails per image "
        f"(sizes × formats; details: image-pipeline cost{stack.options})."
    )
    if survey.beyond and maximum and maximum < cap:
        err.print(f"There are more objects: --max {maximum} stops there.")
    elif survey.beyond:
        err.print(
            f"[yellow]There are more objects.[/] The stack's BackfillMaximum is {cap:,}: raise it, "
            "or process one part at a time with --prefix."
        )
