"""A bucket through obstore: tens of milliseconds of cold start, where boto3 takes hundreds."""

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from thumbnailer.errors import PipelineError, StorageDenied, StorageUnavailable
from thumbnailer.storage.bucket import CONNECT_TIMEOUT, Object, State, Stored, unreadable

if TYPE_CHECKING:
    from obstore.store import S3Config

NO_BUCKET: Final = "<Code>NoSuchBucket</Code>"
"""Part of obstore's error text that distinguishes a missing bucket from a missing object."""

REFUSAL: Final = re.compile(r"<Code>([^<]*)</Code>\s*<Message>([^<]*)</Message>")
"""Code and message in the body of S3's answer, which obstore's error text ends with."""

AWKWARD_KEY: Final = re.compile(r"^/|/$|//|(?:^|/)\.{1,2}(?:/|$)|[\x00-\x1f\x7f]")
"""Legal S3 keys that obstore rejects or changes: empty and dot segments, control characters."""

STANDARD_ATTRIBUTES: Final = frozenset(
    {
        "Content-Disposition",
        "Content-Encoding",
        "Content-Language",
        "Content-Type",
        "Cache-Control",
        "Storage-Class",
    }
)
"""What obstore lists among an object's attributes beside the user metadata."""


URL_SUFFIX: Final = "amazonaws.com"
"""Domain of AWS's endpoints outside China, and the only one that obstore knows.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/pseudo-parameter-reference.html"""


CA_BUNDLES: Final = (
    "/etc/pki/tls/certs/ca-bundle.crt",  # Amazon Linux, and so Lambda
    "/etc/ssl/certs/ca-certificates.crt",  # Debian and Ubuntu
)
"""Where a machine has all its CA certificates in one file."""


class UnreadableHeaderError(StorageUnavailable):
    """obstore rejects an answer with a header outside UTF-8, such as a file name in Latin-1."""


def use_one_ca_bundle() -> None:
    """Let clients read the machine's CA certificates once each, unless the environment says where.

    Without SSL_CERT_FILE a client reads the bundle and also every file of the folder that it is in,
    which has the same certificates again: on Debian 5 ms of CPU time instead of 1.
    """
    if "SSL_CERT_FILE" in os.environ or "SSL_CERT_DIR" in os.environ:
        return
    for bundle in CA_BUNDLES:
        if os.path.exists(bundle):  # noqa: PTH110 - pathlib takes 3 ms of the init
            os.environ["SSL_CERT_FILE"] = bundle
            return


def _config() -> "S3Config":
    """The endpoint of S3 where obstore would take a wrong one: in China, with no other one set."""
    suffix = os.environ.get("URL_SUFFIX", URL_SUFFIX)
    if suffix == URL_SUFFIX or os.environ.get("AWS_ENDPOINT_URL"):
        return {}
    return {"endpoint": f"https://s3.{os.environ['AWS_REGION']}.{suffix}"}


class ObstoreBucket:
    """A bucket through obstore, which has no conditional delete. Keys must not match AWKWARD_KEY.

    Beside what Bucket says, `get` and `head` raise UnreadableHeaderError.
    """

    def __init__(self, name: str, budget: float) -> None:
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        attempt = budget / 3
        # obstore itself reads credentials, region and endpoint from the environment.
        self._name = name
        self._store = S3Store(
            name,
            config=_config(),
            client_options={
                "allow_http": endpoint.startswith("http:"),
                "connect_timeout": timedelta(seconds=min(CONNECT_TIMEOUT, attempt)),
                "timeout": timedelta(seconds=attempt),
            },
            # The last attempt begins at the latest after 1/2 of the budget and one wait of 1/12.
            retry_config={
                "max_retries": 4,
                "retry_timeout": timedelta(seconds=budget / 2),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=50),
                    "max_backoff": timedelta(seconds=budget / 12),
                    "base": 2,
                },
            },
        )

    def get(self, key: str) -> Stored | None:
        """See Bucket."""
        return self._request(key, head=False)

    def head(self, key: str) -> State | None:
        """See Bucket."""
        found = self._request(key, head=True)
        return found.state if found else None

    def _request(self, key: str, *, head: bool) -> Stored | None:
        try:
            found = obstore.get(self._store, key, options={"head": head})
        except FileNotFoundError as error:
            if NO_BUCKET in str(error):
                raise StorageUnavailable(f"Bucket {self._name} does not exist") from error
            return None
        except BaseError as error:
            raise self._translated(key, error) from error
        meta = found.meta
        state = State(
            etag=(meta["e_tag"] or "").strip('"'),
            modified=meta["last_modified"],
            size=meta["size"],
            metadata={
                name: value
                for name, value in found.attributes.items()
                if name not in STANDARD_ATTRIBUTES
            },
            encoding=found.attributes.get("Content-Encoding", ""),
        )

        def read() -> bytes:
            try:
                return found.bytes().to_bytes()
            except BaseError as error:
                raise self._translated(key, error) from error

        return Stored(state, read)

    def put(self, new: Object, *, replacing: str | None) -> bool:
        """See Bucket."""
        try:
            obstore.put(
                self._store,
                new.key,
                new.body,
                attributes={
                    "Content-Type": new.headers.content_type,
                    "Cache-Control": new.headers.cache_control,
                    **new.headers.metadata,
                },
                mode="create" if replacing is None else {"e_tag": f'"{replacing}"'},
                use_multipart=False,
            )
        except (AlreadyExistsError, FileNotFoundError, PreconditionError) as error:
            # S3 answers 404 to If-Match where the object is gone, and where the bucket is.
            if NO_BUCKET in str(error):
                raise StorageUnavailable(f"Bucket {self._name} does not exist") from error
            return False
        except BaseError as error:
            raise self._translated(new.key, error) from error
        return True

    def _translated(self, key: str, error: BaseError) -> PipelineError:
        reason = str(error).partition("\n\nDebug source")[0]
        where = f"s3://{self._name}/{key}"
        # The body comes last: a key, which the text names before it, may contain anything.
        if refused := REFUSAL.search(reason.rpartition("status code: ")[2]):
            permanent = unreadable(where, *refused.groups())
            if permanent is not None:
                return permanent
        kind: type[StorageDenied | StorageUnavailable] = StorageUnavailable
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            kind = StorageDenied
        elif "non UTF-8 characters" in reason:
            kind = UnreadableHeaderError
        return kind(f"{where}: {reason}")
