"""The invariants hold for every seed, and a seed runs the same each time."""

import json

import pytest
from typer.testing import CliRunner

from simulation.__main__ import CAUGHT, app
from simulation.seeds import broken_invariants, real_code
from simulation.world import World

SEEDS = 600
"""Number of seeds; `make simulate` runs more."""

PARTS = 4
"""Tests that share the seeds, so that they can run in parallel."""


@pytest.mark.parametrize("part", range(PARTS))
def test_the_invariants_hold(part: int) -> None:
    """Each source gets thumbnails or a message, even if events or requests are late or lost."""
    for seed in range(part, SEEDS, PARTS):
        assert not broken_invariants(seed), f"print its trace: make simulate SEED={seed}"


def test_a_seed_runs_the_same_each_time() -> None:
    """It does not depend on the clock, on the scheduling of threads or on earlier runs."""
    traces = []
    for _ in range(2):
        for seed in (3, 4, 5):
            world = World(seed, real_code())
            world.run()
            traces.append(list(world.trace_lines()))
    assert traces[:3] == traces[3:]


def test_a_trace_shows_every_request_and_its_outcome() -> None:
    """Each line has the time, the invocation, the request with its condition, and the outcome."""
    world = World(0, real_code())
    world.run()
    trace = "\n".join(world.trace_lines())
    assert "seed 0: Scenario(" in trace
    assert "  user  PUT    simulated-input/uploads/" in trace
    assert "GET    simulated-input/uploads/" in trace
    assert " if none " in trace


def test_a_trace_shows_where_an_invariant_broke() -> None:
    """With a mutation the exit code is 1, and the trace names the broken invariant."""
    name = "no final check of the source"
    seed = json.loads(CAUGHT.read_text())[name]
    shown = CliRunner().invoke(app, ["--seed", str(seed), "--mutation", name])
    assert shown.exit_code == 1
    assert "check  BROKEN" in shown.output
    assert "not of the newest bytes" in shown.output
    assert CliRunner().invoke(app, ["--seed", str(seed)]).exit_code == 0


def test_the_report_can_be_json() -> None:
    """It has the number of seeds, the broken ones and the seeds per second."""
    shown = CliRunner().invoke(app, ["--seeds", "6", "--workers", "1", "--json"])
    report = json.loads(shown.output)
    assert (shown.exit_code, report["seeds"], report["broken"]) == (0, 6, [])
