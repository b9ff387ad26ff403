"""What a seed decides in advance: keys, settings and how much goes wrong.

The numbers are assumptions. They make every kind of event and fault frequent enough that some seed
detects each mutation (caught.json), which is far more often than any of them happens in AWS.
"""

from copy import replace
from dataclasses import dataclass
from random import Random
from typing import Final, Self

from simulation.faults import CONFLICT, FAULTS, LOST
from simulation.wire import Response

ONE_KEY: Final = ("uploads/a.jpg",)
COLLIDING_KEYS: Final = ("uploads/a.jpg", "uploads/a.png")
"""Two sources with the same thumbnail keys."""
AWKWARD_KEY: Final = ("uploads/b//c.jpg",)
"""A key that obstore cannot address, so boto3 is used."""


TEMPLATES: Final = ("{dir}{stem}_{width}w.webp", "{dir}{stem}.{ext}_{width}w.webp")
"""The default, and the one that keeps COLLIDING_KEYS apart."""

SHAPES: Final = ("128,64x64", "64x64", "64x64:cover:attention,64")
"""Sizes that crop, so that a focus counts, some of them beside plain widths."""

FORMATS: Final = ("webp", "webp,avif", "webp,avif,jpeg", "jpeg")

SHAPED_TEMPLATES: Final = ("{dir}{stem}_{width}w.webp", "{dir}{stem}.{ext}_{size}.{format}")
"""Like TEMPLATES, for several shapes and formats."""

FOCUSES: Final = {
    None: "",
    "0.25,0.5": "0.25,0.5",
    " .75 , 0.50000 ": "0.75,0.5",
    "0.5,1.01": "",
    "nan,0.5": "",
}
"""The user metadata `focus` of a source, and what it means: nothing where it is wrong."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings that change within a seed."""

    sizes: str
    quality: str
    template: str
    manifest: bool
    formats: str = "webp"

    @classmethod
    def drawn(cls, rng: Random) -> Self:
        """Draw settings, of which many differ in little from others that are drawn."""
        return cls(
            sizes=rng.choice(("128", "128,512", "64,128")),
            quality=rng.choice(("85", "85", "50")),
            template=rng.choice(TEMPLATES),
            manifest=rng.random() < 0.4,
        )

    def shaped(self, rng: Random) -> Self:
        """Draw a size that crops, and formats, beside the other settings."""
        return replace(
            self,
            sizes=rng.choice(SHAPES),
            formats=rng.choice(FORMATS),
            template=SHAPED_TEMPLATES[TEMPLATES.index(self.template)],
            manifest=self.manifest or rng.random() < 0.4,
        )

    @property
    def environment(self) -> dict[str, str]:
        """The function's environment variables for these settings."""
        return {
            "THUMB_SIZES": self.sizes,
            "THUMB_FORMATS": self.formats,
            "WEBP_QUALITY": self.quality,
            "OUTPUT_KEY_TEMPLATE": self.template,
            "WRITE_MANIFEST": str(self.manifest),
        }


@dataclass(frozen=True, slots=True)
class Scenario:
    """The settings of a seed. Numbers between 0 and 1 are probabilities, drawn on each occasion.

    Each scenario has some kinds of trouble, and few have all of them: a rare order of events shows
    best where nothing else happens.
    """

    keys: tuple[str, ...]
    configurations: tuple[Configuration, ...]
    """Of which the first is deployed at the beginning."""
    delete_with_original: bool
    actions: int
    """Number of user actions: uploads, overwrites, reverts, deletions."""
    max_step_seconds: float
    """Seconds that pass in a step, at most. With 0 everything has the same second in S3."""
    user_weight: float
    """How likely the next step is a user action; the delivery of an event has the weight 1."""
    corrupt: float
    stalled: float
    """An invocation waits before one of its requests until hardly anything else is left to do."""
    unreadable_headers: float
    """An upload has a header that obstore cannot read."""
    deletions: float
    duplicates: float
    """An event is delivered twice."""
    merged: float
    """Two events are delivered as the records of one."""
    backfills: float
    replays: float
    """A message is replayed while other events are still under way; drawn at each step."""
    faults: float
    fault_kinds: tuple[Response | str, ...]
    """The kinds of fault that happen, out of FAULTS."""
    queue_faults: float
    crashes: float
    stalls: float
    """A request takes so long that little is left of the function's time."""
    deployments: float
    """The user deploys another one of the configurations, perhaps one that there was before."""
    outgoing: float
    """A new invocation still runs in an environment of the configuration deployed before."""
    versioned: bool
    """The input bucket has versions: a deletion puts a delete marker before them."""
    restores: float
    """The user removes the latest version of an object, or its delete marker."""
    foreign: int
    """Number of objects in the output bucket that the function did not write."""
    intrusions: float
    """The user writes such an object to the key of a thumbnail or manifest."""
    conflicts: float
    """S3 refuses a conditional write by 409, as it does during another write."""
    overwritten_when_read: bool
    """A source is overwritten whenever the function has read it."""
    focused: float = 0.0
    """An upload has one of FOCUSES."""
    refocused: float = 0.0
    """The user gives a source another one, by a copy in place."""

    @classmethod
    def drawn(cls, rng: Random) -> Self:
        """Draw the scenario of a seed."""
        keys = rng.choice(
            (
                ONE_KEY,
                ONE_KEY,
                COLLIDING_KEYS,
                COLLIDING_KEYS,
                AWKWARD_KEY,
                COLLIDING_KEYS + AWKWARD_KEY,
            )
        )
        deleting = rng.random() < 0.5
        first = Configuration(
            rng.choice(("128", "128,512")), "85", TEMPLATES[0], manifest=rng.random() < 0.25
        )
        changing = rng.random() < 0.3
        others = tuple(Configuration.drawn(rng) for _ in range(rng.choice((1, 1, 2))))
        configurations = (first, *others) if changing else (first,)
        # Of two sources with one thumbnail, the restored one may become the older one without an
        # event of the other, which then only a backfill notices (docs/adr/0003).
        versioned = deleting and keys not in (COLLIDING_KEYS, COLLIDING_KEYS + AWKWARD_KEY)
        versioned = versioned and rng.random() < 0.5
        occupied = rng.random() < 0.15
        extreme = rng.random()
        drawn = cls(
            keys=keys,
            configurations=configurations,
            delete_with_original=deleting,
            actions=rng.randint(1, 5),
            max_step_seconds=rng.choice((0.0, 0.0, 0.05, 1.0)),
            user_weight=rng.choice((0.1, 0.5, 2.0)),
            corrupt=rng.choice((0.0, 0.0, 0.3)),
            stalled=rng.choice((0.0, 0.5)),
            unreadable_headers=rng.choice((0.0, 0.0, 0.0, 0.2)),
            deletions=rng.choice((0.3, 0.5) if changing and deleting else (0.0, 0.3, 0.5)),
            duplicates=rng.choice((0.0, 0.3)),
            merged=rng.choice((0.0, 0.3)),
            backfills=rng.choice((0.3, 0.5) if occupied else (0.0, 0.0, 0.3)),
            replays=rng.choice((0.0, 0.05)),
            faults=rng.choice((0.0, 0.0, 0.02, 0.1, 0.3)),
            fault_kinds=tuple(rng.sample(FAULTS, rng.choice((1, 3, len(FAULTS))))),
            queue_faults=rng.choice((0.0, 0.0, 0.5)),
            crashes=rng.choice((0.0, 0.0, 0.02, 0.1)),
            stalls=rng.choice((0.0, 0.0, 0.05)),
            deployments=0.4 if changing else 0.0,
            outgoing=rng.choice((0.0, 0.3)) if changing else 0.0,
            versioned=versioned,
            restores=rng.choice((0.0, 0.3)) if versioned else 0.0,
            foreign=rng.choice((0, 1, 1, 2)) if occupied else 0,
            intrusions=rng.choice((0.0, 0.2)) if occupied else 0.0,
            conflicts=rng.choice((0.9, 1.0)) if extreme < 0.02 else 0.0,
            overwritten_when_read=0.02 <= extreme < 0.04,
        )
        return drawn._race(rng) if rng.random() < 0.4 else drawn

    def perhaps_shaped(self, rng: Random) -> Self:
        """Let some configurations crop and have several formats, and sources a focus, or nothing.

        `rng` is for this alone, so that the other scenarios are what they would be without it.
        """
        if rng.random() < 0.75:
            return self
        shaped = (each.shaped(rng) for each in self.configurations)
        return replace(
            self,
            configurations=tuple(
                new if rng.random() < 0.8 else old
                for old, new in zip(self.configurations, shaped, strict=True)
            ),
            focused=rng.choice((0.3, 0.8)),
            refocused=rng.choice((0.3, 0.6)),
            actions=self.actions + rng.randint(0, 2),
        )

    def _race(self, rng: Random) -> Self:
        """Reduce the scenario to uploads, deletions and lost responses, mostly, in one second.

        With equal times, only the order of requests decides the outcome.
        """
        kept = len(self.configurations) if rng.random() < 0.3 else 1
        return replace(
            self,
            keys=ONE_KEY if len(self.keys) == 1 else COLLIDING_KEYS,
            configurations=tuple(
                replace(each, sizes=sizes, manifest=False)
                for each, sizes in zip(
                    self.configurations[:kept], ("128", "64,128", "64"), strict=False
                )
            ),
            deployments=0.4 if kept > 1 else 0.0,
            restores=0.0,
            foreign=0,
            intrusions=0.0,
            actions=max(3, self.actions),
            max_step_seconds=0.0,
            user_weight=0.1,
            deletions=0.4 if self.delete_with_original else 0.0,
            faults=rng.choice((0.0, 0.2)),
            fault_kinds=rng.choice((("after 500",), LOST, (CONFLICT,))),
            stalled=0.9,
            corrupt=0.0,
            unreadable_headers=0.0,
            duplicates=0.0,
            merged=0.0,
            backfills=0.0,
            crashes=0.0,
            stalls=0.0,
        )

    @property
    def environment(self) -> dict[str, str]:
        """The function's environment variables that depend on the scenario, and never change."""
        return {"DELETE_WITH_ORIGINAL": str(self.delete_with_original)}

    @property
    def changing(self) -> bool:
        """Whether settings change."""
        return len(self.configurations) > 1
