"""Writes the tables of the stack's parameters in docs/parameters.md, from the template.

    python -m tools.parameter_docs

Groups, names, defaults and allowed values are those of iac/template.yaml. The meaning is written
by hand in the page and is kept; a new parameter gets its description.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "parameters.md"
TEMPLATE: Final = ROOT / "iac" / "template.yaml"

SECTION: Final = re.compile(r"(?<=## Parameters\n)(.*?)(?=\n## )", re.DOTALL)
"""The part of the page that has the tables, after its heading."""

TABLES: Final = re.compile(r"^(### |\|)", re.MULTILINE)
"""Where in that part the tables begin: a heading, or a row."""

ROW: Final = re.compile(r"^\| `(\w+)` \|[^|]*\| (.*?) (?<!\\)\|", re.MULTILINE)
"""The first columns of a parameter: its name, its default and its meaning."""


def main() -> None:
    """Write the page again."""
    template = yaml_parse(TEMPLATE.read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_tables(page, template), encoding="utf-8")


def with_tables(page: str, template: dict[str, Any]) -> str:
    """Return the page with tables of the template's parameters.

    Raises ValueError if it has no section for them, or if a parameter is in none of the groups
    (AWS::CloudFormation::Interface) that AWS's console shows.
    """
    section = SECTION.search(page)
    if not section:
        raise ValueError("docs/parameters.md has no section Parameters.")
    meanings = dict(ROW.findall(section[0]))
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = {name for group in groups for name in group["Parameters"]}
    if missing := template["Parameters"].keys() - grouped:
        raise ValueError(f"In no group of the template: {', '.join(sorted(missing))}.")
    introduction = TABLES.split(section[0])[0].rstrip()
    lines = [introduction, *_tables(groups, template["Parameters"], meanings), ""]
    return page[: section.start()] + "\n".join(lines) + page[section.end() :]


def _tables(
    groups: list[Any], parameters: dict[str, Any], meanings: dict[str, str]
) -> Iterator[str]:
    """Yield the lines of the tables, one for each group, with a heading."""
    for group in groups:
        yield from ("", f"### {group['Label']['default']}", "")
        yield from ("| Parameter | Default | Meaning | Allowed |", "|---|---|---|---|")
        for name in group["Parameters"]:
            parameter = parameters[name]
            meaning = meanings.get(name, parameter["Description"])
            yield f"| `{name}` | {_default(parameter)} | {meaning} | {_allowed(parameter)} |"


def _default(parameter: dict[str, Any]) -> str:
    """Return the default of a parameter, as Markdown."""
    if "Default" not in parameter:
        return "(required)"
    return f"`{parameter['Default']}`" if parameter["Default"] != "" else "(empty)"


def _allowed(parameter: dict[str, Any]) -> str:
    """Return which values of a parameter CloudFormation accepts, as Markdown."""
    match parameter:
        case {"AllowedValues": [*others, last]}:
            return f"{', '.join(f'`{each}`' for each in others)} or `{last}`"
        case {"MinValue": least, "MaxValue": most}:
            return f"{least:,} to {most:,}"
    text: str = parameter["ConstraintDescription"]
    return text.removeprefix("must be ")


if __name__ == "__main__":
    main()
