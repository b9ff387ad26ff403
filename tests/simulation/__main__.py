"""Run many seeds, or see one of them, or find seeds that show each mutation."""

import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Final

import typer

from image_pipeline.cli.app import new_app, run_app
from image_pipeline.cli.options import Json
from image_pipeline.cli.output import err, out
from simulation.mutations import MUTATIONS
from simulation.seeds import first_broken, portions, real_code, some_broken
from simulation.world import World

CAUGHT: Final = Path(__file__).with_name("caught.json")
"""Mutation → a seed that shows it."""

MOST_TOLD: Final = 3
"""Failing seeds whose traces are printed."""

app = new_app()


@app.command()
def simulate(  # noqa: PLR0913 - options
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 6000,
    first: Annotated[int, typer.Option(min=0, help="The first one.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Run this one and print it.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    mutation: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --seed: put this fault into the code.")
    ] = None,
    *,
    mutations: Annotated[
        bool, typer.Option("--mutations", help="Find a seed for every mutation; keep them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the function's real code over a simulated S3, SQS and Lambda, from seeds.

    Requests of concurrent invocations are interleaved, fail, time out and get lost; environments
    crash; events come late, twice and in any order. When all is quiet the invariants must hold: if
    they do not, the trace is printed and the exit code is 1.

    **Examples**

    `make simulate SEEDS=20000`

    `make simulate SEED=55`

    `PYTHONPATH=tests python -m simulation --seeds 100000 --first 20000 --json`

    `PYTHONPATH=tests python -m simulation --seed 55 --mutation "no last look"`
    """
    if seed is not None:
        one(seed, mutation)
    elif mutations:
        find(seeds, workers)
    else:
        many(first, seeds, workers, as_json=as_json)


def one(seed: int, mutation: str | None) -> None:
    """Run a seed and print all that happened."""
    by_name = {each.name: each for each in MUTATIONS}
    world = World(seed, by_name[mutation].code() if mutation else real_code())
    faults = world.run()
    print("\n".join(world.story()))
    print("\n".join(["", *faults] if faults else ["", "All invariants hold."]))
    sys.exit(1 if faults else 0)


def team(workers: int) -> ProcessPoolExecutor:
    """Processes that share nothing with this one."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def many(first: int, count: int, workers: int, *, as_json: bool) -> None:
    """Run seeds in several processes, with progress; print the first broken ones."""
    done, failing = 0, []
    began = shown = time.monotonic()
    with team(workers) as pool:
        for task in [pool.submit(some_broken, *each) for each in portions(first, count)]:
            ran, some = task.result()
            done += ran
            failing += some
            if time.monotonic() - shown > 5 and not as_json:
                shown = time.monotonic()
                rate = done / (shown - began)
                err.print(f"{done:,} of {count:,} seeds, {rate:.0f}/s, {len(failing)} broken")
    seconds = time.monotonic() - began
    for seed in failing[:MOST_TOLD]:
        world = World(seed, real_code())
        world.run()
        print("\n".join(world.story()), file=sys.stderr)
    told = {"first": first, "seeds": done, "broken": failing, "per_second": round(done / seconds)}
    if as_json:
        print(json.dumps(told))
    else:
        out.print(f"{done:,} seeds in {seconds:.0f} s ({done / seconds:.0f}/s)", end=": ")
        out.print("all invariants hold" if not failing else f"{len(failing)} broken: {failing}")
        if failing:
            out.print(f"See one again: make simulate SEED={failing[0]}")
    sys.exit(1 if failing else 0)


def find(count: int, workers: int) -> None:
    """Find a seed for each mutation and keep them for the tests; tell which have none."""
    found: dict[str, int] = {}
    with team(workers) as pool:
        tasks = {each.name: pool.submit(first_broken, each, count) for each in MUTATIONS}
        for name, task in tasks.items():
            seed = task.result()
            err.print(f"{'—' if seed is None else seed:>6}  {name}")
            if seed is not None:
                found[name] = seed
    CAUGHT.write_text(json.dumps(found, indent=2) + "\n")
    out.print(f"{len(found)} of {len(MUTATIONS)} mutations are caught by one of {count:,} seeds")
    sys.exit(1 if len(found) < len(MUTATIONS) else 0)


if __name__ == "__main__":
    run_app(app)
