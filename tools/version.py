"""Sets the version of this project: `python -m tools.version [NUMBER]`.

pyproject.toml has the version. The template has a copy of it, because CloudFormation reads no other
file. Without NUMBER only the copy is written.
"""

import re
import sys
from pathlib import Path
from typing import Final

from image_pipeline.build.function import project_version
from image_pipeline.cli.app import run_app
from image_pipeline.errors import CommandError

REPOSITORY: Final = Path(__file__).resolve().parents[1]
PROJECT: Final = REPOSITORY / "pyproject.toml"
TEMPLATE: Final = REPOSITORY / "iac" / "template.yaml"

VERSION: Final = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
"""Three numbers, as in https://semver.org/#spec-item-2."""


def main() -> None:
    """Write the version into pyproject.toml, if it is given, and into the template.

    Raises CommandError if it is not three numbers.
    """
    version = sys.argv[1] if sys.argv[1:] else project_version(PROJECT)
    if not VERSION.fullmatch(version):
        raise CommandError(f"The version is {version!r}, and must be three numbers such as 1.2.3.")
    text = PROJECT.read_text(encoding="utf-8")
    written = re.sub(r'(?m)^version = ".*"$', f'version = "{version}"', text, count=1)
    PROJECT.write_text(written, encoding="utf-8")
    TEMPLATE.write_text(embedded(TEMPLATE.read_text(encoding="utf-8"), version), encoding="utf-8")


def embedded(template: str, version: str) -> str:
    """Return the template with `version` as its output Version. Raises ValueError without one."""
    made, count = re.subn(
        r'(\n  Version:\n    Description: .*\n    Value: )".*?"',
        lambda match: f'{match[1]}"{version}"',
        template,
    )
    if count != 1:
        raise ValueError("The template has no output Version.")
    return made


if __name__ == "__main__":
    run_app(main)
