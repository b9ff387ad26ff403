"""The version: in pyproject.toml, and the same wherever else it is."""

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
import template

from image_pipeline.build.function import BuildError, project_version
from tools.version import VERSION, embedded

REPOSITORY = Path(__file__).parents[1]


def test_the_template_and_the_command_have_the_version_of_the_project() -> None:
    """`make version` copies it. The build reads it without a TOML library."""
    project = REPOSITORY / "pyproject.toml"
    version = tomllib.loads(project.read_text())["project"]["version"]
    assert VERSION.fullmatch(version)
    assert project_version(project) == version
    assert template.Deployed().outputs["Version"] == version
    assert importlib.metadata.version("image-pipeline") == version


def test_the_copy_replaces_nothing_else() -> None:
    """Only the value of the output Version, however often it is copied."""
    text = template.PATH.read_text()
    changed = embedded(text, "12.0.1")
    assert [each for each in changed.splitlines() if each not in text.splitlines()] == [
        '    Value: "12.0.1"  # copied from pyproject.toml by `make version`'
    ]
    assert embedded(changed, template.source()["Outputs"]["Version"]["Value"]) == text
    with pytest.raises(ValueError, match="no output Version"):
        embedded("Outputs: {}", "1.0.0")


def test_a_project_without_a_version_is_not_built(tmp_path: Path) -> None:
    """The message names the file and the line that is missing."""
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "other"\ndynamic = ["version"]\n')
    with pytest.raises(BuildError, match=r"pyproject\.toml has no line `version"):
        project_version(project)
