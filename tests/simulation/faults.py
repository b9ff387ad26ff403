"""What may become of a request."""

from typing import Final

from simulation.wire import Answer

BROKEN: Final = Answer(500, "InternalError")
CONFLICT: Final = Answer(409, "ConditionalRequestConflict")
NO_BUCKET: Final = Answer(404, "NoSuchBucket")
LOST: Final = ("after 500", "after reset", "after hang", "late reset", "late hang")
"""What took effect, or will, though the client sees an error."""

FAULTS: Final[tuple[Answer | str, ...]] = (
    BROKEN,
    Answer(503, "SlowDown"),
    Answer(403, "AccessDenied"),
    NO_BUCKET,
    CONFLICT,
    "before reset",
    "before hang",
    *LOST,
    "cut short",
)
"""Answers in place of an effect; or what becomes of the effect, and what the client sees."""
