"""The invariants hold for every seed, and a seed is the same run each time."""

import json

import pytest
from typer.testing import CliRunner

from simulation.__main__ import CAUGHT, app
from simulation.seeds import broken, real_code
from simulation.world import World

SEEDS = 600
"""Of the tens of thousands that `make simulate` runs."""

PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_the_invariants_hold(part: int) -> None:
    """Every source has its thumbnails or its letter, whatever was late, doubled, lost or broken."""
    for seed in range(part, SEEDS, PARTS):
        assert not broken(seed), f"see it with: make simulate SEED={seed}"


def test_a_seed_is_the_same_run_each_time() -> None:
    """No clock, no thread and no run before it has a part in what a seed does."""
    stories = []
    for _ in range(2):
        for seed in (3, 4, 5):
            world = World(seed, real_code())
            world.run()
            stories.append(list(world.story()))
    assert stories[:3] == stories[3:]


def test_a_trace_tells_who_asked_what_and_what_came_of_it() -> None:
    """A line each: time, invocation, request with its condition, outcome."""
    world = World(0, real_code())
    world.run()
    story = "\n".join(world.story())
    assert "seed 0: Scenario(" in story
    assert "  user  PUT    simulated-input/uploads/" in story
    assert "GET    simulated-input/uploads/" in story
    assert " if none " in story


def test_a_broken_seed_is_shown_by_its_trace() -> None:
    """Replayed with its fault in the code: exit code 1, and what is broken where it was seen."""
    name = "no last look"
    seed = json.loads(CAUGHT.read_text())[name]
    shown = CliRunner().invoke(app, ["--seed", str(seed), "--mutation", name])
    assert shown.exit_code == 1
    assert "check  BROKEN" in shown.output
    assert "not of the newest bytes" in shown.output
    assert CliRunner().invoke(app, ["--seed", str(seed)]).exit_code == 0


def test_many_seeds_are_told_as_json() -> None:
    """For scripts: how many, which are broken, how many a second."""
    shown = CliRunner().invoke(app, ["--seeds", "6", "--workers", "1", "--json"])
    told = json.loads(shown.output)
    assert (shown.exit_code, told["seeds"], told["broken"]) == (0, 6, [])
