"""The dev container: what is known of it without Docker."""

import json
import re
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest

from image_pipeline.cli.options import LOCAL_PORT

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / ".devcontainer"

PORT: Final = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "minLength": 1},
        "onAutoForward": {"enum": ["notify", "openBrowser", "openPreview", "silent", "ignore"]},
        "requireLocalPort": {"type": "boolean"},
    },
    "additionalProperties": False,
}
SCHEMA: Final = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "build": {
            "type": "object",
            "properties": {"dockerfile": {"type": "string"}},
            "required": ["dockerfile"],
            "additionalProperties": False,
        },
        "remoteUser": {"type": "string"},
        "hostRequirements": {
            "type": "object",
            "properties": {
                "cpus": {"type": "integer", "minimum": 1},
                "memory": {"type": "string", "pattern": r"^\d+([tgmk]b)?$"},
            },
            "additionalProperties": False,
        },
        "updateContentCommand": {"type": "string"},
        "remoteEnv": {"type": "object", "additionalProperties": {"type": "string"}},
        "forwardPorts": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": 65535},
            "uniqueItems": True,
        },
        "portsAttributes": {
            "type": "object",
            "propertyNames": {"pattern": r"^\d+$"},
            "additionalProperties": PORT,
        },
        "otherPortsAttributes": PORT,
    },
    "additionalProperties": False,
}
"""What https://containers.dev/implementors/json_reference allows of the properties that are used.
"""


@pytest.fixture
def container() -> Any:
    """The dev container's settings, decoded."""
    return json.loads((FOLDER / "devcontainer.json").read_text())


def test_the_settings_follow_the_specification(container: Any) -> None:
    """An unknown property, or a value of another type, would be ignored silently."""
    jsonschema.validate(container, SCHEMA)
    assert (FOLDER / container["build"]["dockerfile"]).is_file()


def test_every_forwarded_port_has_a_label(container: Any) -> None:
    """The local AWS and the console keep their ports: a signature covers the AWS's own port."""
    ports = container["portsAttributes"]
    assert [str(port) for port in container["forwardPorts"]] == list(ports)
    for port in (LOCAL_PORT, LOCAL_PORT + 1):
        assert ports[str(port)]["requireLocalPort"] is True


def test_the_image_has_the_projects_python_and_a_user(container: Any) -> None:
    """So uv need not download Python, and nothing runs as root."""
    dockerfile = (FOLDER / "Dockerfile").read_text()
    version = (ROOT / ".python-version").read_text().strip()
    assert re.search(rf"^FROM python:{re.escape(version)}-", dockerfile, re.MULTILINE)
    user = container["remoteUser"]
    assert re.search(rf"^USER {user}$", dockerfile, re.MULTILINE)
    assert re.search(rf"useradd .*\b{user}$", dockerfile, re.MULTILINE)


def test_its_set_up_is_a_make_target(container: Any) -> None:
    """What runs when a container is created exists in the Makefile."""
    program, target = container["updateContentCommand"].split()
    assert program == "make"
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
