"""Requests between a client and a service, and their responses or the lack of one."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Where `method` is SEND, `bucket` is the URL of a queue and `key` is empty.

    Where it is LIST, `key` is a prefix, and `limit` the number of keys at most.
    `if_match` is an etag without quotes. `if_none_match` means the header If-None-Match: *.
    `attempt` counts from 1; higher numbers are the client's own retries.
    """

    method: str
    bucket: str
    key: str = ""
    body: bytes = b""
    metadata: dict[str, str] = field(default_factory=dict)
    if_match: str | None = None
    if_none_match: bool = False
    attempt: int = 1
    limit: int = 0

    @property
    def conditional(self) -> bool:
        """Whether S3 may refuse it by 409 or 412."""
        return self.if_none_match or self.if_match is not None

    def __str__(self) -> str:
        condition = " if none" if self.if_none_match else ""
        if self.if_match is not None:
            condition = f" if {self.if_match[:6]}"
        retry = f" (attempt {self.attempt})" if self.attempt > 1 else ""
        return f"{self.method:6} {self.bucket}/{self.key}{condition}{retry}"


@dataclass(frozen=True, slots=True)
class Response:
    """A response. `etag` has no quotes; `whole` is False if the connection breaks in the body.

    `keys` are the answer to LIST, and `more` says whether others follow.
    """

    status: int = 200
    code: str = ""
    etag: str = ""
    modified: datetime | None = None
    body: bytes = b""
    metadata: dict[str, str] = field(default_factory=dict)
    whole: bool = True
    keys: tuple[str, ...] = ()
    more: bool = False

    def __str__(self) -> str:
        summary = " ".join(part for part in (str(self.status), self.code, self.etag[:6]) if part)
        return summary if self.whole else f"{summary}, cut short"


class Lost(Exception):
    """No response: the client cannot know whether the request took effect."""


class Reset(Lost):
    """The connection was reset."""


class Hang(Lost):
    """Nothing arrived before the client's time-out."""


class Network(Protocol):
    """How clients reach the services, and how time passes for them."""

    def send(self, request: Request, timeout: float) -> Response:
        """Make a request with a time-out in seconds. Raises Lost."""

    def wait(self, seconds: float) -> None:
        """Let time pass before a retry."""

    def now(self) -> float:
        """The caller's own clock, in seconds."""
