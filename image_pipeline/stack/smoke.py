"""The smoke test: one image and one broken file go through a deployed stack, and leave no trace."""

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from image_pipeline.errors import CommandError
from image_pipeline.files import File
from image_pipeline.stack import dead_letters, uploads
from image_pipeline.stack.aws import aws_errors_explained
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.uploads import Outcome, State

FOLDER: Final = "image-pipeline-smoke-test/"
"""Folder under the input prefix, apart from the users' images."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step that succeeded, and the seconds that it took."""

    name: str
    seconds: float


def smoke_test(stack: Stack, seconds: float) -> Iterator[Step]:
    """Run the steps of the test; yields each when it has succeeded.

    A step waits up to `seconds`. What was uploaded and made is removed in any case. Raises
    CommandError that names the step that failed.
    """
    name = f"{stack.settings.input_prefix}{FOLDER}{uuid.uuid4().hex}"
    image_key, broken_key = f"{name}-image.jpg", f"{name}-broken.jpg"
    sent: dict[str, Outcome] = {}
    failure: CommandError | None = None
    with tempfile.TemporaryDirectory() as folder:
        image, broken = _files(Path(folder))

        def upload(path: Path, key: str) -> None:
            (sent[key],) = uploads.upload(stack, [File(path, key)])

        def expect(key: str, state: State) -> None:
            _expect(stack, sent[key], state, seconds)

        steps: tuple[tuple[str, Callable[[], None]], ...] = (
            ("upload an image", lambda: upload(image, image_key)),
            ("wait for its thumbnails", lambda: expect(image_key, State.DONE)),
            ("upload a broken file", lambda: upload(broken, broken_key)),
            ("wait for its dead-letter message", lambda: expect(broken_key, State.FAILED)),
        )
        try:
            for step, action in steps:
                yield _timed(step, action)
        except CommandError as error:
            failure = error
        finally:  # after Ctrl-C as well
            cleaned = _timed("clean up", lambda: _clean_up(stack, (image_key, broken_key)))
    yield cleaned
    if failure:
        raise failure


def _files(folder: Path) -> tuple[Path, Path]:
    """Write a picture, and the same picture cut short."""
    image, broken = folder / "image.jpg", folder / "broken.jpg"
    Image.linear_gradient("L").convert("RGB").save(image)
    broken.write_bytes(image.read_bytes()[:400])
    return image, broken


def _timed(name: str, action: Callable[[], None]) -> Step:
    """Run a step. Raises CommandError with its name."""
    began = time.monotonic()
    try:
        action()
    except CommandError as error:
        raise CommandError(f"The smoke test failed at the step {name!r}: {error}") from error
    return Step(name, round(time.monotonic() - began, 2))


def _expect(stack: Stack, sent: Outcome, state: State, seconds: float) -> None:
    """Wait for the outcome of an upload. Raises CommandError unless it is `state`."""
    (outcome,) = uploads.wait(stack, [sent], seconds)
    failure = outcome.failure
    # A record of Lambda's instead of a permanent error: the function could not send its message.
    if failure and (state is not State.FAILED or not failure.permanent):
        raise CommandError(f"{failure.error_type}: {failure.error_message}")
    if outcome.state is state:
        return
    if outcome.state is State.DONE:
        raise CommandError("the broken file has thumbnails")
    raise CommandError(
        f"nothing happened within {seconds:.0f} s. Search /aws/lambda/{stack.function_name} for "
        f"log lines of {sent.key}; docs/operations.md explains more"
    )


def _clean_up(stack: Stack, keys: Sequence[str]) -> None:
    """Delete the uploads, what was made of them, and their dead-letter messages."""
    settings = stack.settings
    with aws_errors_explained():
        for key in keys:
            stack.aws.s3.delete_object(Bucket=stack.input_bucket, Key=key)
            for output_key in settings.outputs(key):
                stack.aws.s3.delete_object(Bucket=settings.output_bucket, Key=output_key)
        for queue in stack.queues:
            dead_letters.discard(stack.aws.sqs, queue, lambda failure: failure.key in keys)
