"""Runs `sam deploy` with parameters of any value, after the checks that SAM does not make."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from image_pipeline.errors import CommandError
from image_pipeline.stack.parameters import check

MIN_VERSION: Final = (1, 152, 0)
"""The SAM CLI must not be older. It is the first version that reads parameters from a file
(`file://` in samcli/cli/types.py), and it is the minimum that docs/deploy.md states."""

MAX_MINUTES: Final = 120
"""How long SAM waits. The slowest gradual deployment takes 100 minutes, SAM's default is 60."""

MAX_FUNCTION_NAME: Final = 64
"""Characters of a function's name, in Lambda and in CloudFront.
https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html,
https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_CreateFunction.html"""

FUNCTION: Final = "-thumbnail"
EMPTIER: Final = "-empty-buckets"
REGION: Final = "-ap-northeast-1"
"""What the template adds to the stack's name for a function's name; the second one exists only with
DeleteBucketContents=true. With Cdn=true CloudFront's function has the region, of which this is one
of the longest."""


def deploy(
    stack: str,
    parameters: Mapping[str, str],
    options: Sequence[str],
    *,
    program: str | None = None,
    output: IO[Any] | int | None = None,
) -> int:
    """Run `sam deploy` and return its exit code.

    SAM gets the parameters in a file, so every value arrives exactly as it is, and `options` as
    they are. `program` is its path, by default that on the PATH, whose version is checked. Its
    standard output goes to `output`.

    Raises CommandError if the stack's name is too long, a parameter is wrong, or the SAM CLI is
    missing or too old.
    """
    check_name(stack, parameters)
    check(parameters)
    program = program or check_version()
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "deploy", "--stack-name", stack, *options]
        command += ["--max-wait-duration", str(MAX_MINUTES)]
        if parameters:
            file = Path(folder) / "parameters.yaml"
            file.write_text(parameters_file(parameters), encoding="ascii")
            command += ["--parameter-overrides", f"file://{file}"]  # a path, not quoted as in a URL
        return subprocess.run(  # noqa: S603 - SAM
            command, check=False, env={"SAM_CLI_TELEMETRY": "0", **os.environ}, stdout=output
        ).returncode


def check_name(stack: str, parameters: Mapping[str, str]) -> None:
    """Raise CommandError if the names of functions, made from the stack's name, are too long.

    CloudFormation would say so only when it creates the function, and roll everything back.
    """
    suffixes = {FUNCTION: ""}
    if parameters.get("DeleteBucketContents") == "true":
        suffixes[EMPTIER] = " with DeleteBucketContents=true"
    if parameters.get("Cdn") == "true":
        suffixes[REGION] = " with Cdn=true"
    suffix = max(suffixes, key=len)
    longest = MAX_FUNCTION_NAME - len(suffix)
    if len(stack) > longest:
        raise CommandError(
            f"The stack's name has {len(stack)} characters, and at most {longest} are possible"
            f"{suffixes[suffix]}: AWS limits a function's name to {MAX_FUNCTION_NAME}, and the "
            f"stack has a function {stack}{'-REGION' if suffix == REGION else suffix}. Choose a "
            "shorter name."
        )


def check_version() -> str:
    """Return the path of the SAM CLI on the PATH.

    Raises CommandError if there is none, or if it is too old.
    """
    needed = ".".join(map(str, MIN_VERSION))
    program = shutil.which("sam")
    if program is None:
        raise CommandError(
            f"The SAM CLI is not on the PATH. Run `make setup` in the checkout, or install version "
            f"{needed} or later."
        )
    answer = subprocess.run(  # noqa: S603 - SAM
        [program, "--version"], check=False, capture_output=True, text=True
    ).stdout
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", answer)
    if found and tuple(map(int, found.groups())) < MIN_VERSION:
        raise CommandError(
            f"The SAM CLI on the PATH is version {found[0]}, and {needed} or later is needed. Run "
            "`make setup` in the checkout, or update yours: pip install --upgrade aws-sam-cli"
        )
    return program


def parameters_file(parameters: Mapping[str, str]) -> str:
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
