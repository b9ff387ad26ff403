"""Everything that can go wrong, in one tree; each class says whether trying again can help.

    PipelineError
    ├── ConfigurationError     the function cannot run; raised at init, never for an upload
    │   ├── InvalidSettings      the environment is wrong
    │   └── InvalidPackage       unbuilt, or built for another architecture
    ├── InvalidEvent           the event is none that the function knows
    ├── PermanentError         the upload can never become thumbnails: a dead letter, no retry
    │   ├── UnsupportedImage     not an image, or of a format that is not decoded
    │   ├── CorruptImage         of a known format, but damaged or truncated
    │   ├── ImageTooLarge        more bytes or pixels than the function's memory allows
    │   └── KeyTooLong           a thumbnail's key would be longer than S3 allows
    └── TransientError         may go well later: retried
        ├── StorageUnavailable   S3 failed, timed out, throttled or lost the connection
        ├── StorageDenied        S3 refused: mended by a policy, not by the upload
        ├── QueueUnavailable     SQS did not take a dead letter
        ├── SourceUnsettled      the source or its thumbnails kept changing meanwhile
        ├── OutOfTime            the invocation's time is up
        └── UnexpectedError      a fault that nobody foresaw

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
    """The upload can never become thumbnails, however often it is tried."""


class UnsupportedImage(PermanentError):
    """The bytes are not an image of a format that is decoded here."""


class CorruptImage(PermanentError):
    """The bytes begin like an image but cannot be decoded to the end."""


class ImageTooLarge(PermanentError):
    """The image needs more memory than the function has."""


class KeyTooLong(PermanentError):
    """A thumbnail's key would be longer than S3 allows."""


class TransientError(PipelineError):
    """Trying again later may succeed."""


class StorageUnavailable(TransientError):
    """S3 failed, timed out, throttled the request or lost the connection."""


class StorageDenied(TransientError):
    """S3 refused the request: a policy, a key policy or a credential must change."""


class QueueUnavailable(TransientError):
    """SQS did not take a dead letter."""


class SourceUnsettled(TransientError):
    """The source or its thumbnails changed under every attempt."""


class OutOfTime(TransientError):
    """The invocation has not enough time left for the next step."""


class UnexpectedError(TransientError):
    """A fault that nobody foresaw: retried, for it may lie in the environment."""


def release_frames(error: BaseException) -> None:
    """Let go of the frames where `error`, and what led to it, came up.

    They hold an image's file and pixels, and the error them: until garbage is collected, which a
    few large pictures do not bring about.
    """
    led: BaseException | None = error
    while led is not None:
        led.__traceback__ = None
        led = led.__cause__ or led.__context__
