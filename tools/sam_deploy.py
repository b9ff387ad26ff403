"""Runs `sam deploy` with the parameters of `make plan`, `make deploy` and `make rollback`.

    python -m tools.sam_deploy [OPTIONS OF SAM]

STACK is the stack's name. PARAMETERS has parameters as `Name=value`, separated by spaces and quoted
as in a shell. PARAMETERS_FILE names a JSON object of parameters, to which PARAMETERS are added.
ARTEFACTS, BUCKET/PREFIX, is where SAM uploads the code; without it SAM creates a bucket for it.

All of them come from the environment, and SAM gets the parameters in a file, so every value
arrives exactly as it is, whatever characters it has.
"""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence

from image_pipeline.cli.app import run_app
from image_pipeline.errors import CommandError
from image_pipeline.stack import sam
from image_pipeline.stack.parameters import from_file, from_words


def main() -> None:
    """Run `sam deploy`, and exit with its exit code."""
    run_app(lambda: sys.exit(deploy(os.environ, sys.argv[1:])))


def deploy(environment: Mapping[str, str], options: Sequence[str]) -> int:
    """Deploy the stack of `environment`; return SAM's exit code.

    Raises CommandError if STACK or the parameters are missing or invalid, or if SAM is too old.
    """
    stack = environment.get("STACK")
    if not stack:
        raise CommandError("Set STACK to the stack's name.")
    return sam.deploy(stack, parameters(environment), [*artefacts(environment), *options])


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
    path = environment.get("PARAMETERS_FILE")
    try:
        words = shlex.split(environment.get("PARAMETERS", ""))
    except ValueError as error:
        raise CommandError(f"PARAMETERS is not quoted as in a shell: {error}.") from error
    return (from_file(path) if path else {}) | from_words(words, "PARAMETERS")


if __name__ == "__main__":
    main()
