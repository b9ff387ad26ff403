"""Runs many seeds, prints the trace of one, or finds the seeds that detect each mutation."""

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
from simulation.seeds import broken_seeds, first_broken, portions, real_code
from simulation.world import World

CAUGHT: Final = Path(__file__).with_name("caught.json")
"""Name of a mutation → a seed that detects it."""

MAX_TRACES: Final = 3
"""Broken seeds whose traces are printed."""

app = new_app()


@app.command()
def simulate(  # noqa: PLR0913 - options
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds to run.")] = 6000,
    first: Annotated[int, typer.Option(min=0, help="First seed to run.")] = 0,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Run only this seed and print its trace.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = os.cpu_count() or 1,
    mutation: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --seed: run the code with this fault.")
    ] = None,
    *,
    mutations: Annotated[
        bool, typer.Option("--mutations", help="Find and save a seed that detects each mutation.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the function's real code over a simulated S3, SQS and Lambda.

    Requests of concurrent invocations are interleaved, fail, time out and get lost. Environments
    crash. Events arrive late, twice and in any order. At the end of each seed the invariants must
    hold: if one does not, the trace of the seed is printed and the exit code is 1.

    **Examples**

    `make simulate SEEDS=20000`

    `make simulate SEED=55`

    `PYTHONPATH=tests python -m simulation --seeds 100000 --first 20000 --json`

    `PYTHONPATH=tests python -m simulation --seed 55 --mutation "no final check of the source"`
    """
    if seed is not None:
        run_one(seed, mutation)
    elif mutations:
        find_seeds(seeds, workers)
    else:
        run_many(first, seeds, workers, as_json=as_json)


def run_one(seed: int, mutation: str | None) -> None:
    """Run a seed, print its trace, and exit with 1 if an invariant is broken."""
    by_name = {each.name: each for each in MUTATIONS}
    world = World(seed, by_name[mutation].code() if mutation else real_code())
    broken = world.run()
    print("\n".join(world.trace_lines()))
    print("\n".join(["", *broken] if broken else ["", "All invariants hold."]))
    sys.exit(1 if broken else 0)


def processes(workers: int) -> ProcessPoolExecutor:
    """A pool of processes that share no state with this one."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def run_many(first: int, count: int, workers: int, *, as_json: bool) -> None:
    """Run seeds in several processes, print traces of broken ones, and exit with 1 if any is."""
    done, broken = 0, []
    began = shown = time.monotonic()
    with processes(workers) as pool:
        for task in [pool.submit(broken_seeds, *each) for each in portions(first, count)]:
            ran, broken_in_portion = task.result()
            done += ran
            broken += broken_in_portion
            if time.monotonic() - shown > 5 and not as_json:
                shown = time.monotonic()
                rate = done / (shown - began)
                err.print(f"{done:,} of {count:,} seeds, {rate:.0f}/s, {len(broken)} broken")
    seconds = time.monotonic() - began
    for seed in broken[:MAX_TRACES]:
        world = World(seed, real_code())
        world.run()
        print("\n".join(world.trace_lines()), file=sys.stderr)
    report = {"first": first, "seeds": done, "broken": broken, "per_second": round(done / seconds)}
    if as_json:
        print(json.dumps(report))
    else:
        out.print(f"{done:,} seeds in {seconds:.0f} s ({done / seconds:.0f}/s)", end=": ")
        out.print("all invariants hold" if not broken else f"{len(broken)} broken: {broken}")
        if broken:
            out.print(f"Print the trace of one: make simulate SEED={broken[0]}")
    sys.exit(1 if broken else 0)


def find_seeds(count: int, workers: int) -> None:
    """Find a seed for each mutation, save all for the tests, and exit with 1 if one has none."""
    found: dict[str, int] = {}
    with processes(workers) as pool:
        tasks = {each.name: pool.submit(first_broken, each, count) for each in MUTATIONS}
        for name, task in tasks.items():
            seed = task.result()
            err.print(f"{'—' if seed is None else seed:>6}  {name}")
            if seed is not None:
                found[name] = seed
    CAUGHT.write_text(json.dumps(found, indent=2) + "\n")
    out.print(f"{len(found)} of {len(MUTATIONS)} mutations are detected by one of {count:,} seeds")
    sys.exit(1 if len(found) < len(MUTATIONS) else 0)


if __name__ == "__main__":
    run_app(app)
