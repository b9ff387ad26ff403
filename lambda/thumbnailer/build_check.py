"""Checks that the deployed code was built, and for this machine.

Only the standard library may be imported here: an unbuilt package has no other libraries.
"""

import json
import os
from typing import Final

from thumbnailer.errors import InvalidPackage

STAMP: Final = "build.json"
"""Written by the build: `{"architecture": "arm64" | "x86_64", "version": "0.2.0"}`."""

MACHINES: Final = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64", "AMD64": "x86_64"}
"""Names of machines as they report themselves → as Lambda names them."""


def check(directory: str | os.PathLike[str]) -> str:
    """Return the version of the artefact in `directory`.

    Raises InvalidPackage unless it was built for this machine.
    """
    # Without pathlib and platform, which take 4 ms of the init.
    try:
        with open(os.path.join(directory, STAMP)) as file:  # noqa: PTH118, PTH123
            stamp = json.load(file)
    except FileNotFoundError:
        raise InvalidPackage(
            "This is the unbuilt source, without its libraries. Deploy what `sam build` made: run "
            "`sam build --template-file iac/template.yaml`, then `sam deploy` without "
            "--template-file"
        ) from None
    built = stamp["architecture"]
    machine = MACHINES.get(os.uname().machine, os.uname().machine)
    if built != machine:
        raise InvalidPackage(
            f"Built for {built}, running on {machine}. Build with LAMBDA_ARCHITECTURE={machine}, "
            f"or deploy with the parameter LambdaArchitecture={built}"
        )
    version: str = stamp["version"]
    return version
