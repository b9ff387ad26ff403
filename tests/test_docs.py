"""The documents say what the code does: tables, links, commands and test names are checked."""

import copy
import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import aws_command_line
import pytest
import runbook
import template
from botocore.exceptions import ParamValidationError
from home import Home
from jmespath.exceptions import JMESPathError
from test_template import environment

from image_pipeline.cli.app import COMMANDS
from thumbnailer import errors
from tools import command_docs, parameter_docs

ROOT = Path(__file__).parent.parent
PARAMETERS = (ROOT / "docs" / "parameters.md").read_text()
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
MAX_README_BYTES = 10_000


def rows(heading: str) -> dict[str, list[str]]:
    """Read the tables under a heading: first column, without backticks → the other columns."""
    section = PARAMETERS.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    return {first.strip("`"): others for first, *others in cells}


def code_block(heading: str) -> str:
    """The first code block under a heading of docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    return text.partition(f"## {heading}\n")[2].split("```")[1]


def headings(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    return {
        re.sub(r"[^\w -]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
        for line in document.read_text().splitlines()
        if line.startswith("#")
    }


def test_the_readme_is_one_page() -> None:
    """Reference material belongs to docs/."""
    assert (ROOT / "README.md").stat().st_size <= MAX_README_BYTES


def test_every_parameter_is_documented_with_its_default() -> None:
    """docs/parameters.md lists every parameter of the template, and no other."""
    documented = {
        name: {"(required)": None, "(empty)": ""}.get(default, default.strip("`"))
        for name, (default, _, _) in rows("Parameters").items()
    }
    actual = {
        name: str(about["Default"]) if "Default" in about else None
        for name, about in template.source()["Parameters"].items()
    }
    assert documented == actual


def test_the_tables_of_the_parameters_are_those_of_the_template() -> None:
    """docs/parameters.md has the template's groups, defaults and allowed values as they are now."""
    made = parameter_docs.with_tables(PARAMETERS, template.source())
    assert made == PARAMETERS, "run `make parameters`"


def test_what_the_page_says_of_a_parameter_is_kept() -> None:
    """`make parameters` writes what the template has, keeps the text, and describes a new one."""
    changed = copy.deepcopy(template.source())
    changed["Parameters"]["WebPQuality"] |= {"Default": 90, "MaxValue": 1000}
    changed["Parameters"]["New"] = {"Description": "Some text", "AllowedValues": ["a", "b", "c"]}
    groups = changed["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    groups.append({"Label": {"default": "More"}, "Parameters": ["New"]})
    made = parameter_docs.with_tables(PARAMETERS, changed)
    before = PARAMETERS.splitlines()
    assert [line for line in made.splitlines() if line not in before] == [
        "| `WebPQuality` | `90` | WebP quality | 1 to 1,000 |",
        "### More",
        "| `New` | (required) | Some text | `a`, `b` or `c` |",
    ]
    del groups[-1]
    with pytest.raises(ValueError, match=r"In no group of the template: New\."):
        parameter_docs.with_tables(PARAMETERS, changed)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_other_sites_are_addresses(document: Path) -> None:
    """Every link to another site is https, with a host that can exist, and without other signs."""
    text = document.read_text()
    links = re.findall(
        r"\]\((https?:[^)]*)\)|^\[[^\]]+\]: (\S+)$|<(https?:[^>]*)>", text, re.MULTILINE
    )
    for link in filter(None, (each for found in links for each in found)):
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link
        assert re.fullmatch(r"[\w/.~%@:=&?#+,-]*", parts.path + parts.query + parts.fragment), link


EFFECTS = {"in place", "new version", "replaced", "refused"}
"""What a changed parameter can do to a deployed stack."""


def documented_effects() -> dict[str, str]:
    """The table in docs/deploy.md: parameter → effect."""
    text = (ROOT / "docs" / "deploy.md").read_text()
    section = text.partition("### What a changed parameter does\n")[2].partition("\n#")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([\w ]+) \|", section, re.MULTILINE))


def test_what_a_change_does_is_documented_for_every_parameter() -> None:
    """docs/deploy.md lists every parameter, with an effect that the page explains.

    tests/local_stack/test_updates.py observes each effect.
    """
    assert documented_effects().keys() == template.source()["Parameters"].keys()
    assert set(documented_effects().values()) <= EFFECTS


def test_every_variable_is_documented() -> None:
    """docs/parameters.md lists the variables that the template sets."""
    assert rows("Environment variables").keys() == environment(template.Deployed()).keys()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(document: Path) -> None:
    """Every relative link and anchor of the documents exists."""
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        found = document.parent / file if file else document
        assert found.exists(), target
        if anchor:
            assert anchor in headings(found), target


def test_every_page_is_in_the_index() -> None:
    """A reader finds each page of docs/ from docs/README.md."""
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    linked = {target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", index)}
    assert pages - {"README.md"} <= linked


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_in_the_documents_exists(document: Path) -> None:
    """Commands can be typed as they are printed."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    lines = re.findall(r"^make ([a-z -]+?)(?: +[A-Z#].*|)$", document.read_text(), re.MULTILINE)
    for line in lines:
        assert set(line.split()) <= targets, line


def test_the_diagram_of_the_packages_is_that_of_the_contracts() -> None:
    """docs/architecture.md shows the rows that import-linter checks, from top to bottom."""
    contracts = {
        contract["id"]: [set(layer.split(" | ")) for layer in contract["layers"]]
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
            "importlinter"
        ]["contracts"]
        if contract["type"] == "layers"
    }
    drawn: dict[str, list[set[str]]] = {}
    for line in code_block("Packages").splitlines():
        if name := line[:19].strip():
            drawn[name] = []
        if modules := line[19:].strip():
            drawn[list(drawn)[-1]].append(set(modules.split(" · ")))
    assert drawn == {
        "image_pipeline": contracts["command"],
        "thumbnailer": contracts["function"],
        "imaging": contracts["imaging"],
    }


def test_every_module_of_the_function_is_described() -> None:
    """docs/architecture.md says what each module of the function and each folder is for."""
    listed = set(re.findall(r"[\w.]+(?:\.py|/)", code_block("Folders")))
    function = ROOT / "lambda" / "thumbnailer"
    modules = {
        path.name
        for path in (*function.glob("*.py"), *(function / "imaging").glob("*.py"))
        if path.name != "__init__.py"
    }
    folders = {
        f"{path.parent.name}/"
        for root in ("lambda", "image_pipeline", "tools", "bench", "fuzz", "soak", "tests")
        for path in (*(ROOT / root).glob("*.py"), *(ROOT / root).glob("*/__init__.py"))
    }
    assert modules | folders <= listed


def test_the_runbook_has_every_error() -> None:
    """Each error that can end in a dead-letter message has a row, which says if it is permanent."""
    runbook = (ROOT / "docs" / "operations.md").read_text()
    documented = {
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
            assert documented[each.__name__] == permanent


def test_what_the_runbook_cannot_run_is_listed_and_exists(tmp_path: Path) -> None:
    """The listed commands are on the page, as many as it says, and have the options shown.

    tests/local_stack/test_operations.py runs all the others.
    """
    listed = runbook.exceptions()
    section = runbook.sections(level=2)["commands-that-need-aws"]
    assert f"Of these {len(listed)} " in section
    above = runbook.commands(runbook.TEXT.replace(section, ""))
    assert set(listed) <= set(above)
    for command in listed:
        program, name, *rest = runbook.words(command)
        match program:
            case "aws":
                aws_command_line.run([program, name, *rest], dry=True)
            case "make":
                assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            case _:
                done = Home(tmp_path, 1).run(name, *rest, "--help")
                assert done.returncode == 0, done.stderr


def test_every_command_that_the_runbook_mentions_exists() -> None:
    """Also those that it only names, without options."""
    makefile = (ROOT / "Makefile").read_text()
    for program, name in re.findall(r"`(image-pipeline|make) ([a-z-]+)", runbook.TEXT):
        exists = name in COMMANDS or re.search(rf"^{name}:", makefile, re.MULTILINE)
        assert exists, f"{program} {name}"


@pytest.mark.parametrize(
    "wrong",
    [
        "aws lambda get-policy --function-nam x",
        "aws lambda get-polcy --function-name x",
        "aws lamda get-policy --function-name x",
        "aws sqs get-queue-attributes --queue-url x --attribute-names KmsKey",
        "aws lambda get-policy --function-name x --query MetricAlarms[",
        "aws lambda get-policy --qualifier live",
        "aws s3 rm s3://bucket --recursiv",
    ],
)
def test_a_wrong_aws_command_would_be_found(wrong: str) -> None:
    """Service, operation, option, value, missing option and --query are checked by the models."""
    with pytest.raises((aws_command_line.Refused, ParamValidationError, JMESPathError)):
        aws_command_line.run(wrong.split(), dry=True)


def test_every_test_that_a_document_names_exists() -> None:
    """The last column of the threat model, and other pages, name tests that exist."""
    named = {
        found
        for document in DOCUMENTS
        for found in re.findall(r"\b(tests/[\w/]+\.py)(?:::(\w+))?", document.read_text())
    }
    assert named
    for path, test in sorted(named):
        text = (ROOT / path).read_text()
        assert not test or f"def {test}(" in text, f"{path}::{test}"


def test_every_command_and_option_is_in_the_docs() -> None:
    """docs/commands.md is the help of the commands as they are now."""
    kept = Path(__file__).parent.parent / "docs" / "commands.md"
    assert command_docs.markdown() == kept.read_text(), "run `make commands`"
