"""Parameters of a deploy, as users give them: a JSON file, and `Name=value`."""

import json
from collections.abc import Iterable
from pathlib import Path

from image_pipeline.errors import CommandError


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
