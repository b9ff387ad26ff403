"""The simulated S3 without faults, to be held to the same contract as the real ones."""

from datetime import UTC, datetime
from typing import Any, Final

from simulation.isolation import BUCKETS, OUTPUT, Code
from simulation.s3 import S3
from simulation.wire import Request, Response

SIMULATED: Final = {
    "simulated obstore": ("obstore_bucket", "ObstoreBucket"),
    "simulated boto3": ("boto3_bucket", "Boto3Bucket"),
}
"""Name of a simulated client → module and class of thumbnailer.storage that use it."""


class CalmNetwork:
    """A network to S3 without faults, in which no time passes."""

    def __init__(self) -> None:
        self._s3 = S3(BUCKETS, lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def send(self, request: Request, _: float) -> Response:
        """See Network."""
        return self._s3.handle(request)

    def wait(self, _: float) -> None:
        """See Network."""

    def now(self) -> float:
        """See Network."""
        return 0.0


def simulated_bucket(name: str) -> Any:
    """An empty bucket: the real storage code over a simulated client, one of SIMULATED."""
    code = Code()
    code.network = CalmNetwork()
    module, client = SIMULATED[name]
    return getattr(code.module(f"thumbnailer.storage.{module}"), client)(OUTPUT, 6.0)
