"""The bucket that the function uses: obstore where it can name the key, else boto3.

Both translate their errors into those of `thumbnailer.errors`, and limit every request, retries
included, by a time budget.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from thumbnailer.errors import OutOfTime
from thumbnailer.storage.bucket import MAX_WRITERS, Listing, Object, State, Stored
from thumbnailer.storage.obstore_bucket import AWKWARD_KEY, ObstoreBucket, UnreadableHeaderError

if TYPE_CHECKING:
    from thumbnailer.storage.boto3_bucket import Boto3Bucket

type Client = ObstoreBucket | Boto3Bucket

BUDGETS: Final = (22.0, 11.0, 5.5, 2.75, 1.4, 0.7)
"""Seconds that one request may take, retries included. A client keeps its time-outs for life, so
there is one client for each budget, made when it is first needed. Nearly every request uses the
first budget that the function's time-out allows, and so one pool of connections. The first is what
the default time-out of 30 s leaves; each further one is half of the one before."""

WRITERS: Final = ThreadPoolExecutor(MAX_WRITERS)
"""Threads for parallel requests, because a request to S3 waits far longer than it works. They are
reused: starting a thread costs as much as the request itself (`make bench-function`)."""


def _in_parallel[T](requests: Sequence[Callable[[], T]]) -> list[T]:
    """Return the results in order. All requests have ended when the first error is raised."""
    if len(requests) == 1:  # a manifest, or the only thumbnail
        return [requests[0]()]
    tasks: list[Future[T]] = []
    try:
        for request in requests:
            tasks.append(WRITERS.submit(request))  # noqa: PERF401 - those before an error count
    finally:
        wait(tasks)  # also those that were submitted before a thread could not be started
    return [task.result() for task in tasks]


def _head(client: Client, spare: Client, key: str) -> State | None:
    """HEAD an object, with the `spare` client if its headers are unreadable for the first one."""
    try:
        return client.head(key)
    except UnreadableHeaderError:
        return spare.head(key)


@cache
def kept_client(kind: Callable[[str, float], Any], name: str, budget: float) -> Any:
    """Make a client and keep it, with its connections, for the life of the environment."""
    return kind(name, budget)


def prepare(name: str) -> None:
    """Make the usual client of the bucket `name` before its first request.

    A client takes 1 to 5 ms of a CPU. During init a function has a whole CPU, independent of its
    memory (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html).
    """
    kept_client(ObstoreBucket, name, BUDGETS[0])


class S3Bucket:
    """The bucket `name`. Each request uses a client that can name its key and fits the time left.

    `remaining` returns the seconds that the invocation has left. Beside what Bucket says, requests
    raise OutOfTime when not even the shortest budget fits.
    """

    def __init__(self, name: str, remaining: Callable[[], float]) -> None:
        self.name = name
        self._remaining = remaining

    def get(self, key: str) -> Stored | None:
        """See Bucket."""
        try:
            return self._client_for(key).get(key)
        except UnreadableHeaderError:
            return self._boto3().get(key)

    def head(self, key: str) -> State | None:
        """See Bucket."""
        try:
            return self._client_for(key).head(key)
        except UnreadableHeaderError:
            return self._boto3().head(key)

    def put(self, new: Object, *, replacing: str | None) -> bool:
        """See Bucket."""
        return self._client_for(new.key).put(new, replacing=replacing)

    def create(self, new: Sequence[Object]) -> list[bool]:
        """See Bucket."""
        # Clients are not chosen in the threads: boto3 must not create clients in parallel.
        return _in_parallel(
            [partial(self._client_for(each.key).put, each, replacing=None) for each in new]
        )

    def delete(self, key: str, *, replacing: str) -> bool:
        """See Bucket."""
        return self._boto3().delete(key, replacing=replacing)

    def list_keys(self, prefix: str, limit: int) -> Listing:
        """See Bucket. obstore lists whole folders only."""
        return self._boto3().list_keys(prefix, limit)

    def head_all(self, keys: Sequence[str]) -> list[State | None]:
        """See Bucket."""
        spare = self._boto3()  # for headers that obstore cannot read
        return _in_parallel([partial(_head, self._client_for(key), spare, key) for key in keys])

    def _client_for(self, key: str) -> Client:
        return self._boto3() if AWKWARD_KEY.search(key) else self._fitting(ObstoreBucket)

    def _boto3(self) -> "Boto3Bucket":
        # Imported first: the import takes time, which the budget must not count on.
        from thumbnailer.storage.boto3_bucket import Boto3Bucket  # noqa: PLC0415 - rarely needed

        return self._fitting(Boto3Bucket)

    def _fitting[B](self, kind: Callable[[str, float], B]) -> B:
        left = self._remaining()
        for budget in BUDGETS:
            if budget <= left:
                client: B = kept_client(kind, self.name, budget)
                return client
        raise OutOfTime(f"{left:.1f} s left: too little for a request to s3://{self.name}")
