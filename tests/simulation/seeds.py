"""Runs seeds, one at a time or in portions: the work of the processes of a long run."""

from collections.abc import Iterator
from functools import cache
from typing import Final

from simulation.isolation import Code
from simulation.mutations import Mutation
from simulation.world import World

PORTION: Final = 250
"""Seeds that a process takes at a time: an assumption, about a second of work."""


@cache
def real_code() -> Code:
    """The unchanged code of the function, imported once per process."""
    return Code()


def broken_invariants(seed: int, code: Code | None = None) -> list[str]:
    """Run a seed and return the invariants that broke, in words."""
    return World(seed, code or real_code()).run()


def broken_seeds(first: int, last: int) -> tuple[int, list[int]]:
    """The number of seeds from `first` up to but without `last`, and those that are broken."""
    return last - first, [seed for seed in range(first, last) if broken_invariants(seed)]


def portions(first: int, count: int) -> Iterator[tuple[int, int]]:
    """Divide `count` seeds into (first, last) portions, without `last`."""
    end = first + count
    return ((start, min(start + PORTION, end)) for start in range(first, end, PORTION))


def first_broken(mutation: Mutation, count: int) -> int | None:
    """The first of `count` seeds that detects a mutation."""
    code = mutation.code()
    return next((seed for seed in range(count) if broken_invariants(seed, code)), None)
