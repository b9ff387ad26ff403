"""Prepares one invocation of the built function against the local stack.

tools/invoke_local.py is the command. The function works on the buckets and the queue of the local
stack, with the memory, the time-out and the variables of the deployed function.
"""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from image_pipeline.build.sources import find_sources
from image_pipeline.errors import CommandError
from image_pipeline.files import File
from image_pipeline.local import samples
from image_pipeline.local.stack import LocalStack
from image_pipeline.stack import uploads
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.uploads import State
from thumbnailer.build_check import STAMP
from thumbnailer.errors import InvalidEvent
from thumbnailer.events import parse
from thumbnailer.provenance import LONG_AGO

if TYPE_CHECKING:
    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef

SAMPLE_SIZE: Final = (1500, 1000)
"""Width and height in pixels of the picture that is uploaded where the event's is missing."""

RECENT_SECONDS: Final = 10.0
"""An object that was uploaded this recently may still be processed by the deployed function."""

SETTLE_SECONDS: Final = 60.0
"""For the deployed function to process the uploaded pictures, including its first cold start."""


def read_event(path: Path) -> Any:
    """Decode an event. Raises CommandError unless the function accepts it."""
    try:
        event = json.loads(path.read_text(encoding="utf-8"))
        parse(event)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    except InvalidEvent as error:
        raise CommandError(f"{path} is not an event that the function accepts. {error}.") from error
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path} is not JSON: {error}.") from error
    return event


def redirected(event: Any, bucket: str) -> Any:
    """The event with every bucket replaced by `bucket`, also within messages of SQS and SNS."""

    def part(name: str, value: Any) -> Any:
        match name, value:
            case "bucket", str():
                return bucket
            case "bucket", {"name": _}:
                arn = {"arn": f"arn:aws:s3:::{bucket}"} if "arn" in value else {}
                return {**value, "name": bucket, **arn}
            case "body" | "Message", str():
                try:
                    return json.dumps(redirected(json.loads(value), bucket))
                except ValueError:  # the function reports what is wrong with it
                    return value
        return redirected(value, bucket)

    match event:
        case dict():
            return {name: part(name, value) for name, value in event.items()}
        case list():
            return [redirected(value, bucket) for value in event]
    return event


def prepare(
    stack: Stack, keys: Iterable[str], directory: Path, note: Callable[[str], None]
) -> None:
    """Upload a picture for every key that is missing, and delete the up-to-date thumbnails.

    Every upload also invokes the deployed function, so this waits until that has finished: the
    result of the invocation then shows what the invocation did. The picture is drawn into
    `directory`; `note` is called with a sentence on everything that is changed.
    """
    sources = [key for key in dict.fromkeys(keys) if stack.settings.is_image_key(key)]
    found = {key: outcome for key in sources if (outcome := uploads.describe(stack, key))}
    missing = [key for key in sources if key not in found]
    newest = max((each.uploaded_at for each in found.values()), default=LONG_AGO)
    is_recent = (datetime.now(UTC) - newest).total_seconds() < RECENT_SECONDS
    outcomes = list(uploads.wait(stack, list(found.values()), RECENT_SECONDS * is_recent))
    if missing:
        picture = draw(directory)
        size = "{} × {}".format(*SAMPLE_SIZE)
        for key in missing:
            note(f"Uploading a drawn JPEG of {size} pixels as {key}, which does not exist yet")
        uploaded = list(uploads.upload(stack, [File(picture, key) for key in missing]))
        outcomes += uploads.wait(stack, uploaded, SETTLE_SECONDS)
        for outcome in outcomes[len(found) :]:
            if outcome.state is State.UNKNOWN:
                note(f"The deployed function is still processing {outcome.key}: it may interfere")
    current = [thumbnail.key for outcome in outcomes for thumbnail in outcome.thumbnails]
    for key in current:
        stack.aws.s3.delete_object(Bucket=stack.settings.output_bucket, Key=key)
    if current:
        note(f"Deleted {', '.join(current)}: the invocation makes them again")


def draw(directory: Path) -> Path:
    """Write the picture that is uploaded where one is missing, and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "landscape.jpg"
    samples.landscape(SAMPLE_SIZE).save(path, quality=90)
    return path


def built(local: LocalStack, note: Callable[[str], None]) -> Path:
    """The function as built for the local stack, after a new build if its source has changed."""
    stamp = local.artefact / STAMP
    source = find_sources().function
    files = (path for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc")
    changed = max(path.stat().st_mtime for path in files)
    if not stamp.exists() or stamp.stat().st_mtime < changed:
        note("Building the function again: its source has changed since the stack was deployed")
        local.build()
    return local.artefact


def environment(
    stack: Stack, configuration: "FunctionConfigurationResponseTypeDef"
) -> dict[str, str]:
    """The deployed function's variables, and the local AWS's endpoint and credentials."""
    return {
        **configuration["Environment"]["Variables"],
        **stack.aws.environment,
        "AWS_LAMBDA_FUNCTION_NAME": stack.function_name,
    }
