"""Parameters of a deploy, as users give them: a JSON file, and `Name=value`."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from image_pipeline.errors import CommandError
from thumbnailer.errors import InvalidSettings
from thumbnailer.settings import Settings

VARIABLES: Final = {
    "ThumbnailSizes": "THUMB_SIZES",
    "ThumbnailFormats": "THUMB_FORMATS",
    "WebPQuality": "WEBP_QUALITY",
    "AvifQuality": "AVIF_QUALITY",
    "JpegQuality": "JPEG_QUALITY",
    "BackgroundColor": "BACKGROUND_COLOR",
    "OutputKeyTemplate": "OUTPUT_KEY_TEMPLATE",
}
"""Parameter that shapes thumbnails → environment variable of the function (iac/template.yaml)."""

PATTERNS: Final = {
    "InputBucketName": (
        r"^(?!.*\.\.)(?!\d+\.\d+\.\d+\.\d+$)(?!xn--)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        (
            "must be an S3 bucket name, 3 to 63 characters from a-z, 0-9, dot and hyphen, without "
            "two dots in a row, not an IP address and not beginning with xn--"
        ),
    ),
    "AlarmEmail": (
        r"^([^@\s]+@[^@\s]+\.[^@\s]+)?$",
        "must be empty or an e-mail address",
    ),
}
"""Parameter → AllowedPattern and ConstraintDescription of iac/template.yaml, to check an answer."""

OF_THE_STACK: Final = {"OUTPUT_BUCKET": "output", "DLQ_URL": "https://sqs.example/1/queue"}
"""Variables that the stack sets by itself, with values that the function accepts."""


def from_file(path: str) -> dict[str, str]:
    """Read a JSON object of parameters; every value becomes text as it is.

    Raises CommandError if the file holds anything else, OSError if it cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CommandError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CommandError(f"{path} must have a JSON object of parameters.")
    return {name: str(value) for name, value in content.items()}


def from_words(words: Iterable[str], source: str) -> dict[str, str]:
    """Read parameters that are each `Name=value`; of a repeated name the last value counts.

    Raises CommandError if one is not, which says that it comes from `source`.
    """
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (equals and name.isalnum()):
            raise CommandError(
                f"{source} has {word!r}, which is not Name=value. Quote a value with spaces: "
                "Name='a value'."
            )
        found[name] = value
    return found


def check(parameters: Mapping[str, str]) -> None:
    """Check by the function's own rules what shapes thumbnails, also what no pattern can tell.

    Without it a stack would be deployed whose function cannot start: of two sizes with one name, or
    keys that do not tell sizes and formats apart. What is left out has its default.

    Raises CommandError, which names every fault.
    """
    given = {
        variable: parameters[name] for name, variable in VARIABLES.items() if name in parameters
    }
    try:
        Settings.from_environment(OF_THE_STACK | given)
    except InvalidSettings as error:
        faults = str(error).partition(": ")[2]
        for name, variable in VARIABLES.items():
            faults = re.sub(rf"\b{variable}\b", name, faults)
        raise CommandError(f"Invalid parameters: {faults}") from error
