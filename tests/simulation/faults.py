"""What can happen to a request."""

from typing import Final

from simulation.wire import Response

SERVER_ERROR: Final = Response(500, "InternalError")
CONFLICT: Final = Response(409, "ConditionalRequestConflict")
NO_BUCKET: Final = Response(404, "NoSuchBucket")
LOST: Final = ("after 500", "after reset", "after hang", "late reset", "late hang")
"""The request takes effect, at once or later, although the client sees an error."""

FAULTS: Final[tuple[Response | str, ...]] = (
    SERVER_ERROR,
    Response(503, "SlowDown"),
    Response(403, "AccessDenied"),
    NO_BUCKET,
    CONFLICT,
    "before reset",
    "before hang",
    *LOST,
    "cut short",
)
"""A response instead of an effect; or when the effect happens, and what the client sees."""
