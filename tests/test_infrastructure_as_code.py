"""docs/infrastructure-as-code.md: the Terraform configuration and the CDK app as they stand."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import hcl2
import pytest
import template
from hcl2.utils import SerializationOptions
from template import Deployed

from image_pipeline.build.package import packaged_template

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "infrastructure-as-code.md").read_text(encoding="utf-8")
NPM = ROOT / ".tools" / "npm"

PACKAGE_URL: Final = (
    "https://s3.eu-west-1.amazonaws.com/my-artefacts/image-pipeline/"
    r"image-pipeline-\d+\.\d+\.\d+-template\.json"
)
"""The address of a package that the two commands of the page upload, as a pattern."""

STACK_ARGUMENTS: Final = {
    "capabilities",
    "disable_rollback",
    "iam_role_arn",
    "name",
    "notification_arns",
    "on_failure",
    "parameters",
    "policy_body",
    "policy_url",
    "tags",
    "template_body",
    "template_url",
    "timeout_in_minutes",
    "timeouts",
}
"""What aws_cloudformation_stack takes:
https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/cloudformation_stack"""


def block(language: str) -> str:
    """The only code block of a language on the page."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def needed_capabilities() -> set[str]:
    """What CloudFormation asks for: the transform, and roles, with names of their own or not."""
    resources = Deployed(**template.SWITCHES).resources.values()
    iam = [each for each in resources if each["Type"].startswith("AWS::IAM::")]
    named = any(
        {"RoleName", "ManagedPolicyName"} & each.get("Properties", {}).keys() for each in iam
    )
    assert iam
    assert template.source()["Transform"]
    return {"CAPABILITY_AUTO_EXPAND", "CAPABILITY_NAMED_IAM" if named else "CAPABILITY_IAM"}


def check(parameters: dict[str, str], outputs: set[str]) -> None:
    """Fail unless a stack of the template takes these parameters, and then has these outputs."""
    for name, value in parameters.items():
        assert name in template.source()["Parameters"]
        assert isinstance(value, str), f"{name} is not text"
        assert template.accepts(name, value), f"{name}={value}"
    package = packaged_template(
        ROOT / "iac", "${LambdaArchitecture}.zip", "0" * 64, ["arm64", "x86_64"], "my-artefacts"
    )
    required = {name for name, each in package["Parameters"].items() if "Default" not in each}
    assert required <= parameters.keys()
    deployed = Deployed(**parameters)
    assert deployed.broken_rules() == []
    assert outputs
    assert outputs <= deployed.outputs.keys()


def test_the_terraform_configuration_fits_the_template() -> None:
    """It names parameters with values that the template accepts, and outputs that the stack has.

    Its arguments are those of the provider, and its capabilities are enough.
    """
    text = block("hcl")
    read: dict[str, Any] = hcl2.loads(
        text, serialization_options=SerializationOptions(strip_string_quotes=True)
    )
    (stack,) = [
        each["aws_cloudformation_stack"]["images"]
        for each in read["resource"]
        if "aws_cloudformation_stack" in each
    ]
    stack.pop("__is_block__")
    assert stack.keys() <= STACK_ARGUMENTS
    assert re.fullmatch(PACKAGE_URL, stack["template_url"])
    given = {*stack["capabilities"]}
    if "CAPABILITY_NAMED_IAM" in given:
        given.add("CAPABILITY_IAM")  # which it includes
    assert needed_capabilities() <= given
    uses = re.findall(r'aws_cloudformation_stack\.(\w+)\.outputs\["(\w+)"\]', text)
    assert len(uses) == text.count("aws_cloudformation_stack.")
    assert {resource for resource, _ in uses} == {"images"}
    check(stack["parameters"], {output for _, output in uses})


@pytest.mark.skipif(not NPM.exists(), reason="`make validate` installs aws-cdk-lib")
def test_the_cdk_app_makes_a_nested_stack_that_fits_the_template(tmp_path: Path) -> None:
    """The real CDK runs the app, and what it writes names parameters and outputs that exist."""
    (tmp_path / "app.ts").write_text(block("typescript"), encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(NPM / "node_modules")
    subprocess.run(  # noqa: S603 - the page's own app
        [NPM / "node", "app.ts"], cwd=tmp_path, env={"CDK_OUTDIR": "out"}, check=True, timeout=120
    )
    written = json.loads((tmp_path / "out" / "my-site.template.json").read_text(encoding="utf-8"))
    ((logical_id, nested),) = [
        (name, each["Properties"])
        for name, each in written["Resources"].items()
        if each["Type"] == "AWS::CloudFormation::Stack"
    ]
    assert re.fullmatch(PACKAGE_URL, nested["TemplateURL"])
    uses = re.findall(
        r'"Fn::GetAtt": \["(\w+)", "Outputs\.(\w+)"\]', json.dumps(written, indent=None)
    )
    assert {resource for resource, _ in uses} == {logical_id}
    check(nested["Parameters"], {output for _, output in uses})


def test_a_nested_stack_has_a_name_that_its_resources_can_have() -> None:
    """The page's limit for the parent's name leaves room for what CloudFormation adds to it.

    A stack with a CDN has at most 49 characters (docs/deploy.md).
    """
    found = re.search(r"give your stack at most (\d+) characters", PAGE)
    assert found
    assert int(found[1]) + len("-Images-") + 13 == 49


def test_the_table_of_outputs_is_that_of_the_template() -> None:
    """Every output that the page names exists, and those that need a parameter say so."""
    always = Deployed().outputs.keys()
    for line in PAGE.partition("## Outputs\n")[2].partition("\n## ")[0].splitlines():
        if line.startswith("| `"):
            named, use = line.strip("| ").split(" | ", 1)
            for name in re.findall(r"`(\w+)`", named):
                assert name in template.source()["Outputs"]
                assert (name in always) == ("only with" not in use), name
