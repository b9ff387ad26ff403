"""What a seed decides beforehand: which keys and settings, and how much goes wrong."""

from dataclasses import dataclass
from random import Random
from typing import Final, Self

PLAIN: Final = ("uploads/a.jpg",)
COLLIDING: Final = ("uploads/a.jpg", "uploads/a.png")
AWKWARD: Final = ("uploads/b//c.jpg",)
"""obstore cannot name it: boto3 does."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Each seed has some kinds of trouble, and few have all: a rare order of events shows best
    where nothing else happens. Numbers between 0 and 1 are chances, one for each occasion.
    """

    keys: tuple[str, ...]
    manifest: bool
    delete_with_original: bool
    actions: int
    """What users do: uploads, overwrites, reverts, deletions."""
    tick: float
    """Seconds that pass with a step, at most. With 0 all happens in the same second of S3's."""
    hurry: float
    """How eager users are, beside events and requests, which have 1."""
    corrupt: float
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
    queue_faults: float
    crashes: float
    stalls: float
    """A request takes so long that little is left of the function's time."""
    quarrel: bool
    """S3 refuses every conditional write by 409, as if there was always another one."""
    restless: bool
    """A source is overwritten whenever the function has read it."""

    @classmethod
    def drawn(cls, rng: Random) -> Self:
        """The scenario of a seed."""
        keys = rng.choice((PLAIN, PLAIN, COLLIDING, COLLIDING, AWKWARD, COLLIDING + AWKWARD))
        deleting = rng.random() < 0.5  # noqa: PLR2004 - one of two
        extreme = rng.random()
        return cls(
            keys=keys,
            manifest=rng.random() < 0.25,  # noqa: PLR2004
            delete_with_original=deleting,
            actions=rng.randint(1, 5),
            tick=rng.choice((0.0, 0.0, 0.05, 1.0)),
            hurry=rng.choice((0.1, 0.5, 2.0)),
            corrupt=rng.choice((0.0, 0.0, 0.3)),
            foreign=rng.choice((0.0, 0.0, 0.0, 0.2)),
            deletions=rng.choice((0.0, 0.3, 0.5)),
            doubled=rng.choice((0.0, 0.3)),
            merged=rng.choice((0.0, 0.3)),
            backfills=rng.choice((0.0, 0.0, 0.3)),
            replays=rng.choice((0.0, 0.05)),
            faults=rng.choice((0.0, 0.0, 0.02, 0.1, 0.3)),
            queue_faults=rng.choice((0.0, 0.0, 0.5)),
            crashes=rng.choice((0.0, 0.0, 0.02, 0.1)),
            stalls=rng.choice((0.0, 0.0, 0.05)),
            quarrel=extreme < 0.01,  # noqa: PLR2004
            restless=0.01 <= extreme < 0.02,  # noqa: PLR2004
        )

    @property
    def environment(self) -> dict[str, str]:
        """The function's environment variables that depend on it."""
        return {
            "WRITE_MANIFEST": str(self.manifest),
            "DELETE_WITH_ORIGINAL": str(self.delete_with_original),
        }
