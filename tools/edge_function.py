"""Copies iac/negotiate.js into the template, because CloudFormation reads no other file.

python -m tools.edge_function
"""

import re
from pathlib import Path
from typing import Final

IAC: Final = Path(__file__).resolve().parents[1] / "iac"
INDENT: Final = " " * 10


def main() -> None:
    """Write iac/template.yaml again."""
    path = IAC / "template.yaml"
    path.write_text(
        embedded(path.read_text(encoding="utf-8"), (IAC / "negotiate.js").read_text("utf-8")),
        encoding="utf-8",
    )


def embedded(template: str, code: str) -> str:
    """Return the template with `code` as the function's. Raises ValueError if it has no place."""
    lines = "".join(f"{INDENT}{line}".rstrip() + "\n" for line in code.splitlines())
    made, count = re.subn(
        r"(FunctionCode: !Sub\n +- \|\n).*?(\n? +- Formats:)",
        lambda match: match[1] + lines + match[2].removeprefix("\n"),
        template,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError("The template has no FunctionCode with Formats after it.")
    return made


if __name__ == "__main__":
    main()
