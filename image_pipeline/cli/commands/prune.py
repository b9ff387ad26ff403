"""`image-pipeline prune`."""

from collections import Counter
from typing import Annotated, Any, Final

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.options import Json, Local, Profile, Region, StackName, Yes
from image_pipeline.cli.output import (
    confirm,
    err,
    foreign,
    out,
    print_json,
    progress_bar,
    tracked,
)
from image_pipeline.cli.tables import Table
from image_pipeline.errors import CommandError
from image_pipeline.stack import costs
from image_pipeline.stack import prune as prunes
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.prune import ORPHANED, Kind, Outcome, Survey

TITLES: Final = {
    Kind.IN_USE: "in use",
    Kind.NO_ORIGINAL: "their original is gone",
    Kind.EARLIER_SETTINGS: "made with earlier settings",
    Kind.FOREIGN: "not made by this pipeline",
    Kind.TO_TAKE_OVER: "without metadata, to take over",
    Kind.TO_REMAKE: "without metadata, to delete and make again",
}

MAX_SHOWN: Final = 10
"""Keys that are shown before the question."""


def prune(  # noqa: PLR0913 - options of a command
    *,
    prefix: Annotated[
        str,
        typer.Option(metavar="PREFIX", help="Only objects of the output bucket under this prefix."),
    ] = "",
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt",
            help="Do not delete orphaned objects. Instead, take over or delete objects without "
            "metadata that have the key of a thumbnail or manifest.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the count and the cost, and delete nothing.")
    ] = False,
    yes: Yes = False,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Delete thumbnails whose original is gone, or that earlier settings made.

    The command reads the metadata of every object in the output bucket. It compares them with the
    originals that exist, and with the stack's sizes, names and manifests. It shows the orphaned
    objects and the cost, and asks before it deletes anything. Objects that this pipeline did not
    make are only counted. An object that changes meanwhile stays. After Ctrl-C, run the command
    again to continue.

    If you changed sizes or names, run `image-pipeline backfill` first. If you delete originals and
    want to keep their thumbnails, do not run this command.

    --adopt is for a bucket that was restored or copied without metadata. The function does not
    overwrite objects without metadata. With --adopt, thumbnails that were made from the current
    original get their metadata back. Other objects with the key of a thumbnail are deleted, and
    `image-pipeline backfill` makes these thumbnails again. Objects with any other key stay.

    The exit code is 1 if you decline.

    **Examples**

    `image-pipeline prune --dry-run`

    `image-pipeline prune --stack my-pipeline --prefix 2024/`

    `image-pipeline prune --stack my-pipeline --adopt --yes --json`
    """
    target = targets.find_stack(local=local, name=stack, region=region, profile=profile)
    survey = survey_bucket(target, prefix, adopt=adopt)
    if not as_json or (survey.pending and not (dry_run or yes)):
        show(target, prefix, survey)
    outcomes: dict[str, Outcome] = {}
    if survey.pending and not dry_run:
        if not yes:
            confirm(question(survey))
        if (
            targets.find_stack(local=local, name=stack, region=region, profile=profile).settings
            != target.settings
        ):
            raise CommandError(
                "The stack's settings changed meanwhile, and nothing was deleted. Run the command "
                "again."
            )
        outcomes = carry_out(target, survey)
    if as_json:
        print_json(
            {"stack": target.name, "bucket": target.settings.output_bucket, "prefix": prefix}
            | {"adopt": adopt, **report(survey, outcomes)}
        )
    elif outcomes:
        show_outcomes(target, survey, outcomes, adopt=adopt)


def survey_bucket(stack: Stack, prefix: str, *, adopt: bool) -> Survey:
    """Survey the output bucket, behind a progress bar."""
    survey = Survey()
    with progress_bar() as bar:
        task = bar.add_task("Checking", total=None)
        for survey in prunes.survey(stack, prefix, adopt=adopt):
            bar.update(task, completed=survey.originals + survey.objects)
    return survey


def carry_out(stack: Stack, survey: Survey) -> dict[str, Outcome]:
    """Delete or take over what is pending, behind a progress bar; key → outcome.

    Raises KeyboardInterrupt after Ctrl-C.
    """
    outcomes: dict[str, Outcome] = {}
    steps = tracked(prunes.apply(stack, survey.pending), "Pruning", len(survey.pending))
    try:
        for found, outcome in steps:
            outcomes[found.key] = outcome
    except KeyboardInterrupt:
        err.print(
            f"Stopped after {len(outcomes):,} of {len(survey.pending):,} objects. To continue: "
            f"image-pipeline prune{stack.options}"
        )
        raise
    return outcomes


def saved_dollars(survey: Survey) -> float:
    """Dollars a month for storing what is deleted and not made again."""
    return costs.of_storage(sum(each.size for each in survey.pending if each.kind in ORPHANED))


def report(survey: Survey, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """As JSON for scripts; an object's outcome is null in a dry run."""
    counted = Counter(outcomes.values())
    return {
        "originals": survey.originals,
        "kinds": {
            kind.value: {"objects": survey.counts[kind], "bytes": survey.sizes[kind]}
            for kind in Kind
        },
        "estimated_dollars": round(costs.of_prune(survey), 4),
        "saved_dollars_month": round(saved_dollars(survey), 4),
        **{outcome.value: counted[outcome] for outcome in Outcome},
        "objects": [
            each.to_json() | {"outcome": outcomes.get(each.key)} for each in survey.pending
        ],
    }


def question(survey: Survey) -> str:
    """What is asked before anything is changed."""
    taken = survey.counts[Kind.TO_TAKE_OVER]
    if not taken:
        return f"Delete {len(survey.pending):,} objects?"
    return f"Take over {taken:,} objects and delete {len(survey.pending) - taken:,}?"


def show(stack: Stack, prefix: str, survey: Survey) -> None:
    """Print what the bucket holds, what is pending, and what that costs and saves."""
    bucket = stack.settings.output_bucket
    table = Table("", "objects", "bytes", title=f"s3://{bucket}/{foreign(prefix)}")
    for column in table.columns[1:]:
        column.justify = "right"
    pending = {each.kind for each in survey.pending}
    for kind, title in TITLES.items():
        if survey.counts[kind] or kind is Kind.IN_USE:
            shown = f"[bold]{title}[/]" if kind in pending else title
            table.add_row(shown, f"{survey.counts[kind]:,}", f"{survey.sizes[kind]:,}")
    err.print(table)
    for each in survey.pending[:MAX_SHOWN]:
        source = foreign(each.source or "")
        err.print(f"  {foreign(each.key)} of {source}: {TITLES[each.kind]}", soft_wrap=True)
    if len(survey.pending) > MAX_SHOWN:
        more = len(survey.pending) - MAX_SHOWN
        err.print(f"  … and {more:,} more. To list them all: --dry-run --json")
    err.print(
        f"About ${costs.of_prune(survey):,.4f} for requests. "
        f"Deleting saves about ${saved_dollars(survey):,.4f} of storage a month."
    )
    if not survey.pending:
        err.print("Nothing to do.")
    elif not survey.originals:
        err.print(
            f"[yellow]There is no original in s3://{stack.input_bucket}/"
            f"{foreign(stack.settings.input_prefix)}.[/] Check that this is the right bucket."
        )
    if Kind.EARLIER_SETTINGS in pending:
        err.print(
            "Pages and manifests may still use names of earlier settings. To make the current ones "
            f"first: image-pipeline backfill{stack.options}"
        )


def show_outcomes(
    stack: Stack, survey: Survey, outcomes: dict[str, Outcome], *, adopt: bool
) -> None:
    """Print the counts, and what to do next."""
    backfill = f"image-pipeline backfill{stack.options}"
    counted = Counter(outcomes.values())
    deleted = [each for each in survey.pending if outcomes.get(each.key) is Outcome.DELETED]
    taken = f"{counted[Outcome.TAKEN_OVER]:,} taken over, " if adopt else ""
    out.print(
        f"{taken}{len(deleted):,} deleted ({sum(each.size for each in deleted):,} bytes), "
        f"{counted[Outcome.CHANGED]:,} changed meanwhile and kept, "
        f"{counted[Outcome.GONE]:,} already gone"
    )
    if adopt:
        out.print(f"Make the thumbnails that are missing now: {backfill}", soft_wrap=True)
    elif survey.shared:
        out.print(
            f"{survey.shared:,} of these names belong to other originals too. Make their "
            f"thumbnails: {backfill}",
            soft_wrap=True,
        )
