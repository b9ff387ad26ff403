"""The invariants detect faults: each deliberate fault in the real code breaks one of them."""

import json

import pytest

from simulation.__main__ import CAUGHT
from simulation.mutations import MUTATIONS, Mutation
from simulation.seeds import broken_invariants

DETECTED_BY = json.loads(CAUGHT.read_text())
"""Name of a mutation → a seed that detects it."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_is_detected(mutation: Mutation) -> None:
    """Its seed breaks an invariant with the fault and none without it.

    `make simulate MUTATIONS=1` finds the seeds again.
    """
    seed = DETECTED_BY[mutation.name]
    assert broken_invariants(seed, mutation.code())
    assert not broken_invariants(seed)


def test_a_mutation_that_does_not_fit_the_code_is_an_error() -> None:
    """Otherwise an outdated mutation would leave the code unchanged without notice."""
    with pytest.raises(ValueError, match="occurs 0 times"):
        Mutation("none", "thumbnailer.reconcile", "no such code", "").code()
