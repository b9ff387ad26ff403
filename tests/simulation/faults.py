"""What may become of a request."""

from typing import Final

from simulation.wire import Answer

BROKEN: Final = Answer(500, "InternalError")
FAULTS: Final[tuple[Answer | str, ...]] = (
    BROKEN,
    Answer(503, "SlowDown"),
    Answer(403, "AccessDenied"),
    Answer(404, "NoSuchBucket"),
    Answer(409, "ConditionalRequestConflict"),
    "before reset",
    "before hang",
    "after 500",
    "after reset",
    "after hang",
    "late reset",
    "late hang",
    "cut short",
)
"""Answers in place of an effect; or what becomes of the effect, and what the client sees."""
