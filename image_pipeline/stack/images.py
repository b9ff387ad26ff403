"""Delete uploaded images, and make the thumbnails of uploaded images again."""

from typing import Any

from botocore.exceptions import ClientError

from image_pipeline.errors import CommandError, NotPermitted
from image_pipeline.stack.aws import aws_errors_explained, is_missing
from image_pipeline.stack.deployed import Stack
from thumbnailer.s3_codes import CHANGED_CODES

CHANGED = "A newer upload has replaced it. Reload the page to see that one."


def delete(stack: Stack, key: str, etag: str) -> None:
    """Delete the original `key` if it still has the ETag `etag`; one that is gone is no error.

    With versioning, S3 keeps it as an earlier version. Raises CommandError if the original has
    changed or AWS refuses; then it is still there.
    """
    try:
        with aws_errors_explained():
            stack.aws.s3.delete_object(Bucket=stack.input_bucket, Key=key, IfMatch=f'"{etag}"')
    except NotPermitted as error:
        raise NotPermitted(
            f"{error} To delete images you need s3:DeleteObject on the input bucket."
        ) from error
    except CommandError as error:
        if isinstance(cause := error.__cause__, ClientError):
            if is_missing(cause):
                return
            if cause.response["Error"]["Code"] in CHANGED_CODES:
                raise CommandError(CHANGED) from error
        raise


def remake(stack: Stack, key: str) -> None:
    """Make the thumbnails of the image `key` again, even if they are up to date.

    Waits until the function has ended. Raises CommandError with the reason if there are no new
    thumbnails; then the failure has a dead-letter message where it concerns the image.
    """
    event = {
        "uploads": [{"bucket": stack.input_bucket, "key": key}],
        "remake": True,
        "report_once": True,
    }
    try:
        with aws_errors_explained():
            answer = stack.invoke(event)
    except NotPermitted as error:
        raise NotPermitted(
            f"{error} To make thumbnails again you need lambda:InvokeFunction on the function."
        ) from error
    if reason := _failure(answer):
        raise CommandError(reason)


def _failure(answer: dict[str, Any]) -> str | None:
    """Return why one upload has no new thumbnails, by the function's answer."""
    match answer:
        case {"processed": [_]}:
            return None
        case {"skipped": [{"reason": reason}]}:
            return f"The image was skipped: {reason}."
        case {"failed": [{"error": {"type": error_type, "message": message}}]}:
            return f"{error_type}: {message}"
        case {"not_done": [_]}:
            return "The image takes longer than the time-out of the function (LambdaTimeout)."
    return f"The function gave an unknown answer: {answer}"
