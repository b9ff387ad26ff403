"""Seeds, one at a time or in portions: what the processes of a long run do."""

from collections.abc import Iterator
from functools import cache
from typing import Final

from simulation.isolation import Code
from simulation.mutations import Mutation
from simulation.world import World

PORTION: Final = 250
"""Seeds that a process takes at a time."""


@cache
def real_code() -> Code:
    """The function's code as it is, imported once a process."""
    return Code()


def broken(seed: int, code: Code | None = None) -> list[str]:
    """What is wrong with a seed."""
    return World(seed, code or real_code()).run()


def some_broken(first: int, last: int) -> tuple[int, list[int]]:
    """How many seeds there are from `first` up to `last`, and which of them are broken."""
    return last - first, [seed for seed in range(first, last) if broken(seed)]


def portions(first: int, count: int) -> Iterator[tuple[int, int]]:
    """The seeds in portions, each from one up to another."""
    end = first + count
    return ((start, min(start + PORTION, end)) for start in range(first, end, PORTION))


def first_broken(mutation: Mutation, count: int) -> int | None:
    """The first of `count` seeds that shows a mutation."""
    code = mutation.code()
    return next((seed for seed in range(count) if broken(seed, code)), None)
