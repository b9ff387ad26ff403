"""The README says what the code does: its tables hold every parameter and variable, as they are."""

import re
from pathlib import Path

import pytest
import template
from test_template import environment

from thumbnailer import errors
from tools import command_docs

README = (Path(__file__).parent.parent / "README.md").read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """The table under a heading: its first column, without backticks, to the others."""
    section = README.partition(f"### {heading}\n")[2].partition("\n#")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    return {first.strip("`"): others for first, *others in cells}


def test_every_parameter_is_documented_with_its_default() -> None:
    """No parameter is missing from the README, and none is there that does not exist."""
    documented = {
        name: {"(required)": None, "(empty)": ""}.get(default, default.strip("`"))
        for name, (default, _) in rows("Parameters").items()
    }
    actual = {
        name: str(about["Default"]) if "Default" in about else None
        for name, about in template.source()["Parameters"].items()
    }
    assert documented == actual


def test_every_variable_is_documented() -> None:
    """The variables that the template sets are those in the README."""
    assert rows("Environment variables").keys() == environment(template.Deployed()).keys()


@pytest.mark.parametrize("path", ["README.md", *map(str, Path("docs").rglob("*.md"))])
def test_links_within_the_repository_lead_somewhere(path: str) -> None:
    """Every relative link and anchor of the documents exists."""
    root = Path(__file__).parent.parent
    text = (root / path).read_text()
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        if file:
            assert ((root / path).parent / file).exists(), target
        else:
            assert anchor in headings, target


def test_every_make_target_in_the_readme_exists() -> None:
    """Commands can be typed as they stand."""
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for line in re.findall(r"^make ([a-z ]+?)(?: +[A-Z#].*|)$", README, re.MULTILINE):
        assert set(line.split()) <= targets, line


def test_the_runbook_knows_every_error() -> None:
    """Each class of error that can end in a letter or a record has its row, and says the truth."""
    runbook = (Path(__file__).parent.parent / "docs" / "operations.md").read_text()
    told = {
        name: row.split("|")[2].strip()
        for row in runbook.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    abstract = ("PipelineError", "ConfigurationError", "PermanentError", "TransientError")
    for each in classes:
        if each.__name__ not in abstract:
            permanent = "yes" if issubclass(each, errors.PermanentError) else "no"
            assert told[each.__name__] == permanent


def test_every_test_that_a_document_names_is_there() -> None:
    """The threat model's last column, and others, name files and tests that exist."""
    root = Path(__file__).parent.parent
    named = {
        found
        for document in [root / "README.md", *(root / "docs").rglob("*.md")]
        for found in re.findall(r"\b(tests/[\w/]+\.py)(?:::(\w+))?", document.read_text())
    }
    assert named
    for path, test in sorted(named):
        text = (root / path).read_text()
        assert not test or f"def {test}(" in text, f"{path}::{test}"


def test_every_command_and_option_is_in_the_docs() -> None:
    """docs/commands.md is the help of the commands as they are now."""
    kept = Path(__file__).parent.parent / "docs" / "commands.md"
    assert command_docs.markdown() == kept.read_text(), "run `make commands`"
