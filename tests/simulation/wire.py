"""What goes between a client and a service: a request, and an answer or none."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; `bucket` is the queue's URL where `method` is SEND, and `key` is empty.

    `if_match` is an etag without quotes. `if_none_match` stands for If-None-Match: *. `attempt`
    counts from 1; beyond that it is a client's own retry.
    """

    method: str
    bucket: str
    key: str = ""
    body: bytes = b""
    metadata: dict[str, str] = field(default_factory=dict)
    if_match: str | None = None
    if_none_match: bool = False
    attempt: int = 1

    @property
    def conditional(self) -> bool:
        """Whether S3 may refuse it by 409 or 412."""
        return self.if_none_match or self.if_match is not None

    def __str__(self) -> str:
        condition = " if none" if self.if_none_match else ""
        if self.if_match is not None:
            condition = f" if {self.if_match[:6]}"
        again = f" (attempt {self.attempt})" if self.attempt > 1 else ""
        return f"{self.method:6} {self.bucket}/{self.key}{condition}{again}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: `etag` without quotes; `whole` is False where the connection breaks midway."""

    status: int = 200
    code: str = ""
    etag: str = ""
    modified: datetime | None = None
    body: bytes = b""
    metadata: dict[str, str] = field(default_factory=dict)
    whole: bool = True

    def __str__(self) -> str:
        told = " ".join(part for part in (str(self.status), self.code, self.etag[:6]) if part)
        return told if self.whole else f"{told}, cut short"


class Lost(Exception):
    """No answer: whether the request took effect nobody knows."""


class Reset(Lost):
    """The connection was reset."""


class Hang(Lost):
    """Nothing came until the client's time was up."""


class Network(Protocol):
    """How the clients reach the services, and how time passes for them."""

    def send(self, request: Request, timeout: float) -> Answer:
        """Make a request that the client waits for so many seconds. Raises Lost."""

    def wait(self, seconds: float) -> None:
        """Pass the time until a retry."""

    def now(self) -> float:
        """Seconds, on the caller's own clock."""
