"""`image-pipeline verify`."""

from dataclasses import asdict
from typing import Annotated

import typer

from image_pipeline.cli import targets
from image_pipeline.cli.options import Json, Local, Profile, Region, StackName, Wait, Yes
from image_pipeline.cli.output import confirm, err, foreign, print_json
from image_pipeline.cli.steps import progress, run_steps
from image_pipeline.stack import costs
from image_pipeline.stack.verification import MAX_WAIT, Run
from image_pipeline.stack.verify import STEPS, choose, estimate, intended_effects


def known_steps(names: list[str] | None) -> list[str]:
    """The steps that were named. Raises typer.BadParameter for one that does not exist."""
    known = [step.option for step in STEPS]
    for name in names or []:
        if name not in known:
            raise typer.BadParameter(f"there is no step {name!r}. Steps: {', '.join(known)}.")
    return names or []


def verify(  # noqa: PLR0913 - options of a command
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="STEP",
            callback=known_steps,
            help="Only this step, and those that it needs.",
        ),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="STEP", callback=known_steps, help="Leave this step out."),
    ] = None,
    seconds: Wait = MAX_WAIT,
    yes: Yes = False,
    local: Local = False,
    stack: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Prove that a stack works, step by step: events, retries, replay, backfill, alarms.

    Each step uses what it proves: the event route, the roles, the queues, the state machines, an
    alarm, the KMS key, the CDN. The command says first what it will touch and what that costs, and
    asks. It costs less than one US cent in a stack with default settings, and takes about ten
    minutes on AWS.

    All objects are in a folder of their own under the input prefix. Failures on purpose may set
    off alarms, and one alarm is set off as a test. Everything is removed at the end, also after
    Ctrl-C, except for log lines and metrics. If a step fails, the command names it, what it proves
    and the AWS document that it rests on, cleans up, and exits with 1.

    The steps: identity, upload, thumbnails, url, twice, overwrite, fresh, missing, key, broken,
    message, archived, encrypted, logs, attempts, replay, backfill, alarm, metrics, deletion.
    docs/operations.md explains each. Repeat --only and --skip for more than one.

    **Examples**

    `image-pipeline verify --stack my-pipeline`

    `image-pipeline verify --stack my-pipeline --skip alarm --skip metrics --yes --json`

    `image-pipeline verify --only backfill`
    """
    steps = choose(only or [], skip or [])
    target = targets.find_stack(local=local, name=stack, region=region, profile=profile)
    with progress() as say:
        run = Run(target, seconds, say)
        effects = intended_effects(run, steps)
    dollars = estimate(target, steps)
    err.print(f"This verifies {foreign(target.name)} {target.aws.location}:")
    for effect in effects:
        err.print(f"- {foreign(effect)}", soft_wrap=True)
    err.print(
        f"It costs at most about ${dollars:.4f} (prices of {costs.PRICES['as_of']} in "
        f"{costs.PRICES['region']}, without free tiers)."
    )
    if not yes:
        confirm("Start?")
    with progress() as run.say:
        ended = run_steps(run, steps, quiet=as_json)
    if as_json:
        print_json(
            {
                "stack": target.name,
                "estimated_dollars": round(dollars, 4),
                "steps": [asdict(each) for each in ended.results],
                **ended.to_json("verification"),
            }
        )
    if ended.code:
        raise typer.Exit(ended.code)
