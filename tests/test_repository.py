"""What GitHub reads: .github/dependabot.yml, and the settings that workflows need."""

import re
import subprocess
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parent.parent
UPDATES: list[dict[str, Any]] = yaml_parse((ROOT / ".github" / "dependabot.yml").read_text())[
    "updates"
]
ECOSYSTEMS = {
    "Dockerfile": "docker",
    "package.json": "npm",
    ".in": "pip",
}
"""The end of the name of a file with pinned dependencies → Dependabot's name of its ecosystem:
https://docs.github.com/code-security/reference/supply-chain-security/supported-ecosystems-and-repositories
"""


def folders(ecosystem: str) -> set[str]:
    """The folders in which Dependabot updates an ecosystem."""
    found = [each for each in UPDATES if each["package-ecosystem"] == ecosystem]
    return {folder for each in found for folder in each.get("directories", [each.get("directory")])}


def test_every_file_with_pinned_dependencies_is_updated() -> None:
    """Each is in a folder that Dependabot looks into, and each such folder has one.

    `make validate` checks the file itself: zizmor reads it by Dependabot's schema.
    """
    listed = subprocess.run(
        ["git", "ls-files"],  # noqa: S607 - git on PATH
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    pinned: dict[str, set[str]] = {"github-actions": {"/"}}
    for path in map(Path, listed.splitlines()):
        for end, ecosystem in ECOSYSTEMS.items():
            if path.name.endswith(end):
                pinned.setdefault(ecosystem, set()).add(f"/{path.parent}")
    assert pinned == {ecosystem: folders(ecosystem) for ecosystem in pinned}
    assert {each["package-ecosystem"] for each in UPDATES} == pinned.keys()


def test_updates_come_in_one_pull_request_per_ecosystem_after_a_week() -> None:
    """A release that is withdrawn within days is never proposed."""
    for each in UPDATES:
        assert each["cooldown"] == {"default-days": 7}
        if each["package-ecosystem"] != "docker":  # one image
            assert [group["patterns"] for group in each["groups"].values()] == [["*"]]


def test_maintainers_find_every_setting_that_a_workflow_reads() -> None:
    """CONTRIBUTING.md names each variable, secret and environment of .github/workflows/."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## For maintainers\n")[2]
    read: set[str] = set()
    for path in (ROOT / ".github" / "workflows").glob("*.yaml"):
        workflow = yaml_parse(path.read_text())
        read.update(re.findall(r"\b(?:vars|secrets)\.(\w+)", path.read_text()))
        read.update(
            f"{start}{each.upper()}"
            for start in re.findall(
                r"vars\[format\('(\w+)\{0\}', inputs\.environment", str(workflow)
            )
            for each in choices(workflow)
        )
        for job in workflow["jobs"].values():
            environment = job.get("environment", {})
            name = environment if isinstance(environment, str) else environment.get("name", "")
            read.update(choices(workflow) if name == "${{ inputs.environment }}" else {name})
    assert {"production", "AWS_DEPLOY_ROLE", "AWS_PLAN_ROLE_STAGING"} <= read
    assert {each for each in read if each and f"`{each}`" not in section} == set()


def choices(workflow: dict[Any, Any]) -> list[str]:
    """The environments from which whoever starts a workflow chooses; none if it does not ask."""
    started = workflow.get("on", workflow.get(True))  # YAML 1.1 reads `on` as true
    found: list[str] = started["workflow_dispatch"]["inputs"]["environment"]["options"]
    return found


def test_the_check_that_a_ruleset_requires_exists() -> None:
    """GitHub waits forever for a required check that no job reports, so the names are the same."""
    jobs = yaml_parse((ROOT / ".github" / "workflows" / "ci.yaml").read_text())["jobs"]
    required = re.findall(r'the check "([^"]+)"', (ROOT / "CONTRIBUTING.md").read_text())
    assert required == [each["name"] for each in jobs.values()]
