"""What a seed decides beforehand: which keys and settings, and how much goes wrong."""

from copy import replace
from dataclasses import dataclass
from random import Random
from typing import Final, Self

from simulation.faults import CONFLICT, FAULTS, LOST
from simulation.wire import Answer

PLAIN: Final = ("uploads/a.jpg",)
COLLIDING: Final = ("uploads/a.jpg", "uploads/a.png")
AWKWARD: Final = ("uploads/b//c.jpg",)
"""obstore cannot name it: boto3 does."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """How a seed differs from others; numbers between 0 and 1 are chances, one for each occasion.

    Each has some kinds of trouble, and few have all: a rare order of events shows best where
    nothing else happens.
    """

    keys: tuple[str, ...]
    widths: str
    manifest: bool
    delete_with_original: bool
    actions: int
    """What users do: uploads, overwrites, reverts, deletions."""
    tick: float
    """Seconds that pass with a step, at most. With 0 all happens in the same second of S3's."""
    hurry: float
    """How eager users are, beside events and requests, which have 1."""
    corrupt: float
    stalled: float
    """An invocation waits before a request until hardly anything else is left to happen."""
    foreign: float
    """An upload has a header that obstore cannot read."""
    deletions: float
    doubled: float
    merged: float
    """An event comes with another one's record."""
    backfills: float
    replays: float
    """A letter is replayed before all is quiet; a chance for each step."""
    faults: float
    kinds: tuple[Answer | str, ...]
    """The faults that there are."""
    queue_faults: float
    crashes: float
    stalls: float
    """A request takes so long that little is left of the function's time."""
    quarrel: float
    """S3 refuses a conditional write by 409, as if there was another one."""
    restless: bool
    """A source is overwritten whenever the function has read it."""

    @classmethod
    def drawn(cls, rng: Random) -> Self:
        """The scenario of a seed."""
        keys = rng.choice((PLAIN, PLAIN, COLLIDING, COLLIDING, AWKWARD, COLLIDING + AWKWARD))
        deleting = rng.random() < 0.5
        extreme = rng.random()
        drawn = cls(
            keys=keys,
            widths=rng.choice(("128", "128,512")),
            manifest=rng.random() < 0.25,
            delete_with_original=deleting,
            actions=rng.randint(1, 5),
            tick=rng.choice((0.0, 0.0, 0.05, 1.0)),
            hurry=rng.choice((0.1, 0.5, 2.0)),
            corrupt=rng.choice((0.0, 0.0, 0.3)),
            stalled=rng.choice((0.0, 0.5)),
            foreign=rng.choice((0.0, 0.0, 0.0, 0.2)),
            deletions=rng.choice((0.0, 0.3, 0.5)),
            doubled=rng.choice((0.0, 0.3)),
            merged=rng.choice((0.0, 0.3)),
            backfills=rng.choice((0.0, 0.0, 0.3)),
            replays=rng.choice((0.0, 0.05)),
            faults=rng.choice((0.0, 0.0, 0.02, 0.1, 0.3)),
            kinds=tuple(rng.sample(FAULTS, rng.choice((1, 3, len(FAULTS))))),
            queue_faults=rng.choice((0.0, 0.0, 0.5)),
            crashes=rng.choice((0.0, 0.0, 0.02, 0.1)),
            stalls=rng.choice((0.0, 0.0, 0.05)),
            quarrel=rng.choice((0.9, 1.0)) if extreme < 0.02 else 0.0,
            restless=0.02 <= extreme < 0.04,
        )
        return drawn._race(rng) if rng.random() < 0.4 else drawn

    def _race(self, rng: Random) -> Self:
        """The same with little but uploads, deletions and lost replies, all in one second.

        What no time tells apart is where order alone decides.
        """
        return replace(
            self,
            keys=PLAIN if len(self.keys) == 1 else COLLIDING,
            widths="128",
            manifest=False,
            actions=max(3, self.actions),
            tick=0.0,
            hurry=0.1,
            deletions=0.4 if self.delete_with_original else 0.0,
            faults=rng.choice((0.0, 0.2)),
            kinds=rng.choice((("after 500",), LOST, (CONFLICT,))),
            stalled=0.9,
            corrupt=0.0,
            foreign=0.0,
            doubled=0.0,
            merged=0.0,
            backfills=0.0,
            crashes=0.0,
            stalls=0.0,
        )

    @property
    def environment(self) -> dict[str, str]:
        """The function's environment variables that depend on it."""
        return {
            "THUMB_SIZES": self.widths,
            "WRITE_MANIFEST": str(self.manifest),
            "DELETE_WITH_ORIGINAL": str(self.delete_with_original),
        }
