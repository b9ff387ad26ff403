"""Everything that can go wrong, in one tree. Each class says whether a retry can help.

    PipelineError
    ├── ConfigurationError     the function cannot run; raised at init, never for an upload
    │   ├── InvalidSettings      the environment is wrong
    │   └── InvalidPackage       unbuilt, or built for another architecture
    ├── InvalidEvent           the event has no known shape
    ├── PermanentError         the upload can never become thumbnails: one message, no retry
    │   ├── UnsupportedImage     not an image, or of an unsupported format or kind
    │   ├── CorruptImage         of a known format, but damaged or truncated
    │   ├── ImageTooLarge        more bytes or pixels than the function's memory allows
    │   ├── ImageTooSlow         more work than the function's time and CPU allow
    │   ├── SourceArchived       in an archive storage class, so S3 does not return it
    │   ├── SourceEncrypted      encrypted with a key that only the uploader has (SSE-C)
    │   ├── KeyTooLong           a thumbnail's key would be longer than S3 allows
    │   └── KeyOccupied          a thumbnail's key belongs to something else
    └── TransientError         may succeed later: retried
        ├── StorageUnavailable   S3 failed, timed out, throttled or lost the connection
        ├── StorageDenied        S3 refused: a policy or credential must change
        ├── QueueUnavailable     SQS did not accept a dead-letter message
        ├── SourceUnsettled      the source or its thumbnails kept changing meanwhile
        ├── OutOfTime            the invocation's time is up
        └── UnexpectedError      an error that is not handled above

A library's exceptions are translated where they arise (`raise StorageUnavailable(...) from error`).
"""


class PipelineError(Exception):
    """Base of all errors of the pipeline."""


class ConfigurationError(PipelineError):
    """The function cannot run as it was deployed."""


class InvalidSettings(ConfigurationError):
    """One or more environment variables are wrong; the message names every one."""


class InvalidPackage(ConfigurationError):
    """The deployed code was not built, or was built for another architecture."""


class InvalidEvent(PipelineError):
    """The event has none of the known shapes; the message says what was expected."""


class PermanentError(PipelineError):
    """The upload can never become thumbnails, even when it is tried again."""


class UnsupportedImage(PermanentError):
    """The file is not an image, or is one of a format or kind that is not supported."""


class CorruptImage(PermanentError):
    """The file begins like an image, but cannot be decoded to the end."""


class ImageTooLarge(PermanentError):
    """The image needs more memory than there is.

    `need_mb` estimates how much, in MB, if that is known.
    """

    def __init__(self, message: str, need_mb: float | None = None) -> None:
        super().__init__(message)
        self.need_mb = need_mb


class ImageTooSlow(PermanentError):
    """The image needs more time than the function has."""


class SourceArchived(PermanentError):
    """S3 does not return the object before it is restored from an archive storage class."""


class SourceEncrypted(PermanentError):
    """S3 does not return the object without the key that its uploader encrypted it with (SSE-C)."""


class KeyTooLong(PermanentError):
    """A thumbnail's key would be longer than S3 allows."""


class KeyOccupied(PermanentError):
    """The key of a thumbnail or manifest belongs to something that this pipeline did not write."""


class TransientError(PipelineError):
    """Trying again later may succeed."""


class StorageUnavailable(TransientError):
    """S3 failed, timed out, throttled the request or lost the connection."""


class StorageDenied(TransientError):
    """S3 refused the request: a policy, a key policy or a credential must change."""


class QueueUnavailable(TransientError):
    """SQS did not accept a dead-letter message."""


class SourceUnsettled(TransientError):
    """The source or its thumbnails changed under every attempt."""


class OutOfTime(TransientError):
    """The invocation has not enough time left for the next step."""


class UnexpectedError(TransientError):
    """An unexpected error. It is retried, because its cause may be in the environment."""


def clear_tracebacks(error: BaseException) -> None:
    """Clear the tracebacks of `error` and its causes, so that the image they reference is freed.

    Otherwise the image stays in memory until the next garbage collection, which a few large
    pictures do not trigger.
    """
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__
