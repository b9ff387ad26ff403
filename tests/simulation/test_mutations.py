"""The simulation has teeth: a fault put into the real code breaks an invariant."""

import json

import pytest

from simulation.__main__ import CAUGHT
from simulation.mutations import MUTATIONS, Mutation
from simulation.seeds import broken

SHOWN_BY = json.loads(CAUGHT.read_text())


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_is_caught(mutation: Mutation) -> None:
    """A seed that shows it is known; `make simulate MUTATIONS=1` finds them again."""
    seed = SHOWN_BY[mutation.name]
    assert broken(seed, mutation.code())
    assert not broken(seed)


def test_a_mutation_that_does_not_fit_the_code_is_an_error() -> None:
    """Code that has changed meanwhile must not pass for code that was mutated."""
    with pytest.raises(ValueError, match="occurs 0 times"):
        Mutation("none", "thumbnailer.reconcile", "no such code", "").code()
