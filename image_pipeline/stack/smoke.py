"""Does a deployed stack work? One image and one broken file go through it, and leave no trace."""

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from image_pipeline.errors import CommandError
from image_pipeline.stack import dead_letters, uploads
from image_pipeline.stack.deployed import Stack, explained
from image_pipeline.stack.uploads import File, Outcome, State

FOLDER = "image-pipeline-smoke-test/"
"""Under the input prefix; a name of its own, so that it meets nobody's image."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step that went well, and the seconds that it took."""

    name: str
    seconds: float


@dataclass(slots=True)
class SmokeTest:
    """A run through a stack; `report` is told of each step when it is done.

    Calling it raises CommandError that names the step that failed.
    """

    stack: Stack
    seconds: float
    report: Callable[[Step], None]
    steps: list[Step] = field(default_factory=list)

    def __call__(self) -> None:
        """Run every step; what was uploaded and made is removed, whatever happened."""
        name = f"{self.stack.settings.input_prefix}{FOLDER}{uuid.uuid4().hex}"
        keys = [f"{name}-image.jpg", f"{name}-broken.jpg"]
        with tempfile.TemporaryDirectory() as folder:
            image, broken = Path(folder) / "image.jpg", Path(folder) / "broken.jpg"
            Image.linear_gradient("L").convert("RGB").save(image)
            broken.write_bytes(image.read_bytes()[:400])
            try:
                with self._step("upload an image"):
                    (sent,) = self._upload(image, keys[0])
                with self._step("wait for its thumbnails"):
                    self._expect(sent, State.DONE)
                with self._step("upload a broken file"):
                    (sent,) = self._upload(broken, keys[1])
                with self._step("wait for its dead letter"):
                    self._expect(sent, State.FAILED)
            finally:
                with self._step("clean up"):
                    self._clean_up(keys)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        except CommandError as error:
            raise CommandError(f"The smoke test failed at the step {name!r}: {error}") from error
        step = Step(name, round(time.monotonic() - began, 2))
        self.steps.append(step)
        self.report(step)

    def _upload(self, path: Path, key: str) -> list[Outcome]:
        return uploads.upload(self.stack, [File(path, key)], lambda: None)

    def _expect(self, sent: Outcome, state: State) -> None:
        (outcome,) = uploads.wait(self.stack, [sent], self.seconds, lambda _: None)
        failure = outcome.failure
        # A record of Lambda's in place of a letter says that the letter could not be sent.
        if failure and (state is not State.FAILED or not failure.permanent):
            raise CommandError(f"{failure.error_type}: {failure.error_message}")
        if outcome.state is state:
            return
        if outcome.state is State.DONE:
            raise CommandError("it has thumbnails, though it is broken")
        raise CommandError(
            f"nothing within {self.seconds:.0f} s. Are there log lines of {sent.key} in "
            f"/aws/lambda/{self.stack.function_name}? docs/operations.md says more"
        )

    def _clean_up(self, keys: list[str]) -> None:
        stack, settings = self.stack, self.stack.settings
        with explained():
            for key in keys:
                stack.aws.s3.delete_object(Bucket=stack.input_bucket, Key=key)
                for made in settings.recipes(key):
                    stack.aws.s3.delete_object(Bucket=settings.output_bucket, Key=made)
            for queue in stack.queues:
                dead_letters.discard(stack.aws.sqs, queue, lambda letter: letter.key in keys)
