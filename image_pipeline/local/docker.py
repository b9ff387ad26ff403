"""One invocation of the built function in AWS's image of the runtime, by `sam local invoke`."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from image_pipeline.errors import CommandError
from image_pipeline.local.tools import sam_environment

if TYPE_CHECKING:
    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef

DOCKER_SECONDS: Final = 10.0
"""For a Docker daemon to answer."""


def check_docker() -> None:
    """Raise CommandError unless a Docker daemon answers."""
    docker = shutil.which("docker")
    try:
        answer = docker and subprocess.run(  # noqa: S603 - the user's own
            [docker, "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            timeout=DOCKER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        answer = None
    if not answer or answer.returncode:
        raise CommandError(
            "`sam local invoke` needs a Docker daemon, and none answers. Start one, or leave out "
            "--docker: the function then runs in the same runtime client without Docker."
        )


def invoke_in_docker(
    artefact: Path,
    configuration: "FunctionConfigurationResponseTypeDef",
    environment: Mapping[str, str],
    credentials: Mapping[str, str],
    event: Any,
) -> int:
    """Run `sam local invoke`, which prints the result and the log; return the exit code.

    SAM passes on only variables that the template names, so it gets a template of this function
    alone, with `environment` in it. SAM itself uses the AWS of `credentials`, which are variables.
    """
    function = {
        "Type": "AWS::Serverless::Function",
        "Properties": {
            "CodeUri": str(artefact),
            "Handler": configuration["Handler"],
            "Runtime": configuration["Runtime"],
            "Architectures": configuration["Architectures"],
            "MemorySize": configuration["MemorySize"],
            "Timeout": configuration["Timeout"],
            "Environment": {"Variables": environment},
        },
    }
    template = {
        "Transform": "AWS::Serverless-2016-10-31",
        "Resources": {"ThumbnailFunction": function},
    }
    with tempfile.TemporaryDirectory(prefix="invoke-local-") as directory:
        for name, content in (("template", template), ("event", event)):
            Path(directory, f"{name}.json").write_text(json.dumps(content))
        ran = subprocess.run(  # noqa: S603 - our own tool
            [
                *("sam", "local", "invoke", "ThumbnailFunction"),
                *("--template-file", "template.json", "--event", "event.json"),
                *("--docker-network", "host"),  # the local AWS listens on loopback only
            ],
            cwd=directory,
            env={**sam_environment(), **credentials},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    print(ran.stdout.strip())
    try:
        failed = "errorType" in json.loads(ran.stdout)
    except ValueError:  # sam has printed to standard error what went wrong
        failed = True
    return 1 if failed else ran.returncode
