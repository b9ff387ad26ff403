"""The simulated S3 where nothing goes wrong, for the contract that real ones are held to."""

from datetime import UTC, datetime
from typing import Any, Final

from simulation.isolation import BUCKETS, OUTPUT, Code
from simulation.s3 import S3
from simulation.wire import Answer, Request

SIMULATED: Final = {
    "simulated obstore": "ObstoreBucket",
    "simulated boto3": "Boto3Bucket",
}
"""Name of an implementation → its class in storage.py."""


class Calm:
    """A network to S3 without faults, where no time passes."""

    def __init__(self) -> None:
        self._s3 = S3(BUCKETS, lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def send(self, request: Request, _: float) -> Answer:
        """See Network."""
        return self._s3.handle(request)

    def wait(self, _: float) -> None:
        """See Network."""

    def now(self) -> float:
        """See Network."""
        return 0.0


def simulated_bucket(name: str) -> Any:
    """An empty bucket: the real storage over the simulated clients."""
    code = Code()
    code.network = Calm()
    return getattr(code.module("thumbnailer.storage"), SIMULATED[name])(OUTPUT, 6.0)
