"""Runs `sam deploy` with the parameters of `make plan`, `make deploy` and `make rollback`.

    python -m tools.sam_deploy [OPTIONS OF SAM]

STACK is the stack's name. PARAMETERS has parameters as `Name=value`, separated by spaces and quoted
as in a shell. PARAMETERS_FILE names a JSON object of parameters, to which PARAMETERS are added.
ARTEFACTS, BUCKET/PREFIX, is where SAM uploads the code; without it SAM creates a bucket for it.

All of them come from the environment, and SAM gets the parameters in a file, so every value
arrives exactly as it is, whatever characters it has.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from image_pipeline.cli.app import run_app
from image_pipeline.errors import CommandError

MAX_MINUTES: Final = 120
"""How long SAM waits. The slowest gradual deployment takes 100 minutes, SAM's default is 60."""


def main() -> None:
    """Run `sam deploy`, and exit with its exit code."""
    run_app(lambda: sys.exit(deploy(os.environ, sys.argv[1:])))


def deploy(environment: Mapping[str, str], options: Sequence[str]) -> int:
    """Deploy the stack of `environment`; return SAM's exit code.

    Raises CommandError if STACK or the parameters are missing or invalid.
    """
    stack = environment.get("STACK")
    if not stack:
        raise CommandError("Set STACK to the stack's name.")
    given = parameters(environment)
    with tempfile.TemporaryDirectory() as folder:
        command = ["sam", "deploy", "--stack-name", stack, *artefacts(environment), *options]
        command += ["--max-wait-duration", str(MAX_MINUTES)]
        if given:
            file = Path(folder) / "parameters.yaml"
            file.write_text(sam_file(given), encoding="ascii")
            command += ["--parameter-overrides", f"file://{file}"]  # a path, not quoted as in a URL
        return subprocess.run(command, check=False).returncode  # noqa: S603 - SAM


def artefacts(environment: Mapping[str, str]) -> list[str]:
    """Return SAM's options for the bucket of artefacts.

    Raises CommandError if ARTEFACTS is not BUCKET/PREFIX.
    """
    where = environment.get("ARTEFACTS")
    if not where:
        return []  # SAM has resolve_s3 from samconfig.toml
    bucket, _, prefix = where.partition("/")
    if not (bucket and prefix):
        raise CommandError(f"ARTEFACTS is {where!r}, which is not BUCKET/PREFIX.")
    return ["--config-env", "artefacts", "--s3-bucket", bucket, "--s3-prefix", prefix]


def parameters(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of PARAMETERS_FILE and PARAMETERS; the latter come last.

    Raises CommandError if one of them is invalid, OSError if the file cannot be read.
    """
    found = {}
    if path := environment.get("PARAMETERS_FILE"):
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise CommandError(f"{path} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise CommandError(f"{path} must have a JSON object of parameters.")
        found = {name: str(value) for name, value in content.items()}
    try:
        words = shlex.split(environment.get("PARAMETERS", ""))
    except ValueError as error:
        raise CommandError(f"PARAMETERS is not quoted as in a shell: {error}.") from error
    for word in words:
        name, equals, value = word.partition("=")
        if not (equals and name.isalnum()):
            raise CommandError(
                f"PARAMETERS has {word!r}, which is not Name=value. Quote a value with spaces: "
                "Name='a value'."
            )
        found[name] = value
    return found


def sam_file(parameters: Mapping[str, str]) -> str:
    """Return a YAML file from which SAM reads exactly these parameters.

    SAM unquotes the values of a file twice (`CfnParameterOverridesType.convert` in
    samcli/cli/types.py of version 1.170).
    """
    return "".join(
        f"{yaml_string(name)}: {yaml_string(_quoted(_quoted(value)))}\n"
        for name, value in parameters.items()
    )


def _quoted(value: str) -> str:
    """Return the text that SAM's `_unquote_wrapped_quotes` turns into `value`.

    It removes quotes around a text, and a backslash before a space or a quote.
    """
    return '"' + re.sub(r"\\([ \"'])", r"\\\\\1", value) + '"'


def yaml_string(text: str) -> str:
    """Return `text` as a double-quoted string of YAML (1.2, 5.7) in printable ASCII."""
    return '"' + re.sub(r"[^ !#-\[\]-~]", lambda each: f"\\U{ord(each[0]):08x}", text) + '"'


if __name__ == "__main__":
    main()
