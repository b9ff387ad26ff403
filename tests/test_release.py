"""`make release`: what is checked before a release, and its text."""

import re
from pathlib import Path

import pytest

from image_pipeline.errors import CommandError
from tools import release
from tools.readme import with_addresses
from tools.release import CHECKSUMS, checked, clear, section

REPOSITORY = Path(__file__).parents[1]
WORKFLOW = (REPOSITORY / ".github" / "workflows" / "release.yaml").read_text()

CHANGELOG = """# Changelog

## [Unreleased]

- Next.

## [1.2.3] - 2026-01-02

### Added

- See [this](docs/a.md#b), [that](https://example.com/c) and [there](#added).

## [1.2.30] - 2026-01-01

- Old.
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of version 1.2.3 that may be released."""
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nversion = "1.2.3"\n'
        'urls.Documentation = "https://github.com/me/it/blob/main/docs"\n'
    )
    (tmp_path / "template.yaml").write_text(
        'Outputs:\n  Version:\n    Description: Its version\n    Value: "1.2.3"\n'
    )
    monkeypatch.setattr(release, "REPOSITORY", tmp_path)
    monkeypatch.setattr(release, "PROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(release, "TEMPLATE", tmp_path / "template.yaml")
    return tmp_path


@pytest.mark.usefixtures("project")
def test_the_text_of_a_release_is_its_section_of_the_changelog() -> None:
    """Its links lead to the files of the tag, because a release page resolves none."""
    version, notes = checked("v1.2.3")
    assert version == "1.2.3"
    assert notes == (
        "### Added\n\n- See [this](https://github.com/me/it/blob/v1.2.3/docs/a.md#b), "
        "[that](https://example.com/c) and [there](#added).\n"
    )


def test_a_rehearsal_takes_what_is_unreleased(project: Path) -> None:
    """Where the version has no section yet. A tag must have one."""
    (project / "CHANGELOG.md").write_text(CHANGELOG.replace("[1.2.3]", "[1.2.2]"))
    assert checked(None) == ("1.2.3", "- Next.\n")
    with pytest.raises(CommandError, match=r"CHANGELOG\.md has nothing about 1\.2\.3"):
        checked("v1.2.3")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("pyproject.toml", "1.2.3", "1.2.4", r"The tag is v1\.2\.3, and the version"),
        ("template.yaml", "1.2.3", "1.2.2", "Run `make version`"),
        ("pyproject.toml", "/me/", "/OWNER/", "Put its owner into pyproject.toml"),
        ("CHANGELOG.md", "See", "x" * release.MAX_NOTES, "125,000"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused(
    project: Path, file: str, old: str, new: str, message: str
) -> None:
    """Before anything is made, with what to do."""
    path = project / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(CommandError, match=message):
        checked("v1.2.3")


def test_the_project_itself_may_be_rehearsed() -> None:
    """Its files agree, and the text of the next release is not empty."""
    version, notes = checked(None)
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert notes.startswith("### ")
    assert "](docs/" not in notes


def test_sections_are_found_by_their_whole_name() -> None:
    """1.2.3 is not 1.2.30, and the last section ends with the file."""
    assert section(CHANGELOG, "1.2.30") == "- Old.\n"
    assert section(CHANGELOG, "1.2") is None
    assert with_addresses("[a](b)", "https://c", "https://d") == "[a](https://c/b)"


def test_only_an_earlier_release_is_removed(tmp_path: Path) -> None:
    """A folder with other files stays as it is."""
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(CommandError, match="has other files"):
        clear(tmp_path)
    (tmp_path / CHECKSUMS).touch()
    clear(tmp_path)
    assert not tmp_path.exists()


def test_a_job_of_the_workflow_has_only_the_permissions_of_its_work() -> None:
    """Code of the project runs only where nothing can be written, signed or published."""
    jobs = re.split(r"^  (?=[a-z]+:$)", WORKFLOW.partition("\njobs:\n")[2], flags=re.MULTILINE)[1:]
    granted = {
        job.partition(":")[0]: set(
            re.findall(r"^      ([a-z-]+): (?:read|write)", job, re.MULTILINE)
        )
        for job in jobs
    }
    assert granted == {
        "test": {"contents"},
        "build": {"contents"},
        "attest": {"id-token", "attestations"},
        "pypi": {"id-token"},
        "github": {"contents"},
    }
    runs_code = {job.partition(":")[0] for job in jobs if "run: make" in job or "uses: ./" in job}
    assert runs_code == {"test", "build"}
    assert not any("write" in job for job in jobs if job.partition(":")[0] in runs_code)
    assert re.findall(r"uses: (?!\./)\S+@(?![0-9a-f]{40} # v)", WORKFLOW) == []
