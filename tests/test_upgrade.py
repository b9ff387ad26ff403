"""A stack of the last release can become one of this version without losing anything.

`tests/released/VERSION` has the template of the last release. tests/local_stack/test_updates.py
deploys both, one after the other.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest
import template
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from image_pipeline.build.function import project_version

REPOSITORY = Path(__file__).parents[1]
RELEASED = REPOSITORY / "tests" / "released"

VERSIONS: Final = sorted(path.name for path in RELEASED.iterdir())

RENEWED: Final = {"AWS::Lambda::Version", "AWS::AppConfig::HostedConfigurationVersion"}
"""Types of the resources that CloudFormation replaces to publish a version."""

VARIANTS: Final[Mapping[str, Mapping[str, str]]] = {
    "everything": {
        "CreateKmsKey": "true",
        "DeleteBucketContents": "true",
        "AlarmEmail": "a@b.example",
        "LambdaProvisionedConcurrency": "1",
    },
    "existing bucket": {"ExistingInputBucket": "true"},
}
"""Parameters that together create every resource of the release."""

REPLACED: Final = {"Dashboard"}
"""Resources with another name than in the release, which hold nothing; docs/upgrade.md says so."""


@contextmanager
def of_release(version: str) -> Iterator[None]:
    """Let `template` read the template of a release."""
    with patch.object(template, "PATH", RELEASED / version / "template.yaml"):
        template.source.cache_clear()
        try:
            yield
        finally:
            template.source.cache_clear()


def released_source(version: str) -> dict[str, Any]:
    """The template of a release, without the SAM transform."""
    with of_release(version):
        return template.source()


def test_the_last_release_is_kept() -> None:
    """The newest version of the changelog that is not this one; older ones need no folder."""
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    current = project_version(REPOSITORY / "pyproject.toml")
    versions = re.findall(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)
    last = next(each for each in versions if each != current)
    assert [last] == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_every_parameter_keeps_its_name_default_and_values(version: str) -> None:
    """An update keeps the values of parameters, so each must still be there and allowed."""
    now = template.source()["Parameters"]
    for name, before in released_source(version)["Parameters"].items():
        for part in ("Type", "Default"):
            assert now[name].get(part) == before.get(part), name
        assert {*before.get("AllowedValues", [])} <= {*now[name].get("AllowedValues", [])}, name


@pytest.mark.parametrize("version", VERSIONS)
def test_every_output_keeps_its_name(version: str) -> None:
    """Scripts and other stacks read them."""
    assert released_source(version)["Outputs"].keys() <= template.source()["Outputs"].keys()


def identity(resource: Mapping[str, Any]) -> dict[str, Any]:
    """What cannot change without a replacement, by CloudFormation's schema of the type."""
    kind = resource["Type"]
    found = {"Type": kind}
    if kind.startswith("AWS::") and kind != "AWS::CloudFormation::CustomResource":
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
        for pointer in schema.get("createOnlyProperties", []):
            value: Any = resource
            for part in pointer.removeprefix("/").split("/"):
                value = value.get(part[:1].upper() + part[1:] if part == "properties" else part, {})
            found[pointer] = value
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_no_resource_is_removed_or_replaced(version: str) -> None:
    """With the same parameters, each is still there and keeps what CloudFormation cannot change.

    Versions of the function and of its settings are made anew by design.
    """
    compared = set()
    for parameters in VARIANTS.values():
        with of_release(version):
            before = template.Deployed(**parameters).resources
        after = template.Deployed(**parameters).resources
        for name, each in before.items():
            if each["Type"] in RENEWED:
                continue
            compared.add(name)
            assert (identity(after[name]) == identity(each)) is (name not in REPLACED), name
            for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
                if each.get(policy, "Delete") != "Delete":
                    assert after[name].get(policy, "Delete") != "Delete", name
    source = released_source(version)["Resources"]
    assert source.keys() <= compared, "a resource that no variant creates"
    upgrade = (REPOSITORY / "docs" / "upgrade.md").read_text()
    assert all(f"`{name}`" in upgrade for name in REPLACED)
