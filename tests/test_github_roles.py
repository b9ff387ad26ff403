"""The roles of the GitHub workflow: who may assume them, and what they may do."""

import fnmatch
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cfnlint
import pytest
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]
from template import VARIANTS, Deployed, source

from image_pipeline.errors import CommandError
from image_pipeline.stack.sam import MAX_MINUTES
from tools.github_policies import policies
from tools.sam_deploy import artefacts

FOLDER = Path(__file__).parents[1] / "iac" / "github"
WORKFLOW = FOLDER.parents[1] / ".github" / "workflows" / "sam-deploy.yaml"
MAX_MANAGED_POLICY = 6144
"""Characters of a managed policy without white space, by
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""
LONGEST = {
    "AWS::Partition": "aws-us-gov",
    "AWS::Region": "ap-southeast-2",
    "AWS::AccountId": "1" * 12,
    "StackName": "m" * 24,
    "InputBucketName": "i" * 63,
    "OutputBucketName": "o" * 63,
    "Artefacts": "a" * 63,
    "Boundary": "b" * 100,
}
NAMES = {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "123456789012",
    "StackName": "my-image-pipeline",
    "InputBucketName": "my-input-bucket",
    "OutputBucketName": "my-output-bucket",
}
"""The names of the deployments of tests/template.py."""
UNUSED = {
    # Services: the template uses no VPC, file system, table or stream.
    "ec2",
    "elasticfilesystem",
    "firehose",
    "s3files",
    "s3tables",
    # No tenants, private origins or staging distributions. Tags need cloudfront:TagResource.
    "cloudfront:CreateConnectionGroup",
    "cloudfront:CreateDistributionWithTags",
    "cloudfront:GetConnectionGroup",
    "cloudfront:GetVpcOrigin",
    "cloudfront:UpdateDistributionWithStagingConfig",
    # No data protection, runtime alias, capacity provider, and no keys of functions and logs.
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "lambda:AssociateRuntimeAlias",
    "lambda:PassCapacityProvider",
    "logs:AssociateKmsKey",
    "logs:CreateLogDelivery",
    "logs:DisassociateKmsKey",
    "sns:PutDataProtectionPolicy",
    # Of objects, of metadata tables, and names of API calls that are no actions of IAM.
    "s3:CreateBucketMetadataTableConfiguration",
    "s3:DeleteBucketAnalyticsConfiguration",
    "s3:DeleteBucketCors",
    "s3:DeleteBucketEncryption",
    "s3:DeleteBucketLifecycle",
    "s3:DeleteBucketMetadataTableConfiguration",
    "s3:DeleteBucketMetricsConfiguration",
    "s3:DeleteBucketReplication",
    "s3:DeleteBucketWebsite",
    "s3:DeleteObject",
    "s3:PutObjectAcl",
    "s3:REST.PUT.OBJECT",
    "s3:UpdateBucketMetadataAnnotationTableConfiguration",
    "s3:UpdateBucketMetadataInventoryTableConfiguration",
    "s3:UpdateBucketMetadataJournalTableConfiguration",
    "codedeploy:RegisterOnPremisesInstance",
    # Must not be allowed.
    "iam:DeleteRolePermissionsBoundary",
}
"""Services and actions that a schema names for features which the template does not use."""
WITHOUT_USE = {
    "logs:DeleteIndexPolicy",
    "logs:DeleteResourcePolicy",
    "logs:PutIndexPolicy",
    "logs:PutResourcePolicy",
}
"""Actions, without a resource type, for index and resource policies of logs, which no stack has."""


def documents() -> dict[str, Any]:
    """The policy documents of roles.yaml by the names of their files, with placeholders."""
    return {name: json.loads(text) for name, text in policies(FOLDER / "roles.yaml").items()}


def filled(document: Any, values: dict[str, str]) -> Any:
    """The document with `values` for its placeholders."""
    text = re.sub(
        r"\$\{([\w:]+)\}", lambda match: values.get(match[1], match[0]), json.dumps(document)
    )
    return json.loads(text)


def listed(value: str | list[str]) -> list[str]:
    """A policy's string or list of strings as a list."""
    return value if isinstance(value, list) else [value]


def allows(document: Any, action: str, resource: str = "") -> bool:
    """Whether a statement allows the action (on the resource, if given); conditions are ignored."""
    return any(
        any(
            fnmatch.fnmatchcase(action.lower(), each.lower())
            for each in listed(statement["Action"])
        )
        and (
            not resource
            or any(fnmatch.fnmatchcase(resource, each) for each in listed(statement["Resource"]))
        )
        for statement in document["Statement"]
        if statement["Effect"] == "Allow"
    )


def deploying() -> dict[str, Any]:
    """All statements of the deploy role, with the names of the deployments of tests/template.py."""
    found = documents()
    names = (
        "deploy-permissions",
        "deploy-roles-permissions",
        "deploy-cdn-permissions",
        "check-permissions",
    )
    return {
        "Statement": [
            each for name in names for each in filled(found[f"{name}.json"], NAMES)["Statement"]
        ]
    }


def test_the_files_are_the_policies_of_the_template() -> None:
    """Each JSON file has what roles.yaml has. `make github-policies` writes them again."""
    expected = policies(FOLDER / "roles.yaml")
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == expected


def test_the_template_has_no_aliases() -> None:
    """CloudFormation reads the file as it is, and it reads no YAML aliases."""
    assert not re.findall(r"[:\[,-] [&*][a-z]\w*", (FOLDER / "roles.yaml").read_text())


def test_no_managed_policy_is_too_long() -> None:
    """Each policy fits with the longest names that the parameters allow."""
    for name, document in documents().items():
        assert (
            len(json.dumps(filled(document, LONGEST), separators=(",", ":"))) <= MAX_MANAGED_POLICY
        ), name


@pytest.mark.parametrize(
    ("file", "subject"),
    [
        ("plan-trust.json", "repo:${Repository}:ref:refs/heads/${Branch}"),
        ("deploy-trust.json", "repo:${Repository}:environment:${Environment}"),
    ],
)
def test_a_role_trusts_one_subject(file: str, subject: str) -> None:
    """Planning is bound to one branch, deploying to one environment, and neither by a pattern."""
    (statement,) = documents()[file]["Statement"]
    assert statement["Condition"] == {
        "StringEquals": {
            "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
            "token.actions.githubusercontent.com:sub": subject,
        }
    }


def test_the_plan_role_only_makes_change_sets() -> None:
    """It may not execute a change set, pass a role, or write what the deploy role would deploy."""
    plan = documents()["plan-permissions.json"]
    services = {
        action.split(":")[0] for each in plan["Statement"] for action in listed(each["Action"])
    }
    assert services == {"cloudformation", "s3"}
    for action in (
        "ExecuteChangeSet",
        "CreateStack",
        "UpdateStack",
        "DeleteStack",
        "SetStackPolicy",
    ):
        assert not allows(plan, f"cloudformation:{action}"), action
    writes = [each["Resource"] for each in plan["Statement"] if "s3:PutObject" in each["Action"]]
    assert writes == ["arn:${AWS::Partition}:s3:::${Artefacts}/plan/*"]


def schemas() -> dict[str, Any]:
    """CloudFormation's schemas by resource type, as cfn-lint has them."""
    folder = Path(cfnlint.__file__).parent / "data" / "schemas" / "resources"
    found = (json.loads(path.read_text()) for path in folder.glob("*.json"))
    return {each["typeName"]: each for each in found}


def handler_actions(schema: Any) -> Iterator[str]:
    """The actions that CloudFormation needs to create, read, update and delete a resource."""
    for handler in ("create", "read", "update", "delete"):
        for action in schema.get("handlers", {}).get(handler, {}).get("permissions", []):
            if action not in UNUSED and action.split(":")[0] not in UNUSED:
                yield action


def needed_actions() -> set[tuple[str, str]]:
    """Each resource type of any deployment but a key, with each action that its schema names."""
    types = {
        each["Type"]
        for given in [*VARIANTS.values(), {"LambdaProvisionedConcurrency": "1"}]
        for each in Deployed(**given).resources.values()
    }
    known = schemas()
    assert len(types & known.keys()) > 15  # so that the schemas were found
    types -= {"AWS::KMS::Key"}
    return {(kind, action) for kind in types for action in handler_actions(known.get(kind, {}))}


def test_the_deploy_role_has_what_cloudformation_needs() -> None:
    """It allows each action that the schemas name for the resource types of any deployment."""
    role = deploying()
    assert not {(kind, action) for kind, action in needed_actions() if not allows(role, action)}


def test_the_deploy_role_changes_no_key() -> None:
    """No name could limit that to the stack's own key, so it only reads keys."""
    role = deploying()
    for action in handler_actions(schemas()["AWS::KMS::Key"]):
        reads = re.match(r"kms:(Describe|Get|List)", action)
        assert allows(role, action) == bool(reads), action


def test_an_action_without_a_resource_type_is_allowed_on_everything() -> None:
    """IAM knows no resource for some actions, so a statement with an ARN never allows them."""
    folder = Path(cfnlint.__file__).parent / "data" / "AdditionalSpecs"
    known = json.loads((folder / "Policies.json").read_text())
    role = deploying()
    without = {
        action
        for _, action in needed_actions()
        for service, name in [action.lower().split(":")]
        if known.get(service, {}).get("Actions", {}).get(name, {"Resources": ["?"]}) == {}
    }
    assert "appconfig:CreateApplication" in without
    assert [each for each in sorted(without - WITHOUT_USE) if not allows(role, each, "*")] == []


@pytest.mark.parametrize("given", VARIANTS.values(), ids=VARIANTS)
def test_the_boundary_allows_what_the_roles_of_the_stack_are_allowed(given: dict[str, str]) -> None:
    """No action of a role is cut by the boundary, so a stack with it works like one without."""
    boundary = filled(documents()["permissions-boundary.json"], NAMES)
    deployed = Deployed(**given)
    for name, role in deployed.of_type("AWS::IAM::Role").items():
        for policy in role.get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                for action in listed(statement["Action"]):
                    assert allows(boundary, action), (name, action)


@pytest.mark.parametrize("given", VARIANTS.values(), ids=VARIANTS)
def test_every_role_of_the_stack_gets_the_boundary(given: dict[str, str]) -> None:
    """With PermissionsBoundaryArn each role has it, CodeDeploy's too; by default none has."""
    arn = "arn:aws:iam::123456789012:policy/limit"
    roles = Deployed(**given | {"PermissionsBoundaryArn": arn}).of_type("AWS::IAM::Role")
    assert {role.get("PermissionsBoundary") for role in roles.values()} == {arn}
    roles = Deployed(**given | {"PermissionsBoundaryArn": ""}).of_type("AWS::IAM::Role")
    assert not any("PermissionsBoundary" in role for role in roles.values())


def test_the_deploy_role_changes_roles_only_within_the_boundary() -> None:
    """What widens a role needs the boundary, which cannot be removed. GitHub's roles are denied."""
    document = documents()["deploy-roles-permissions.json"]
    widening = {
        "iam:CreateRole",
        "iam:PutRolePolicy",
        "iam:AttachRolePolicy",
        "iam:PutRolePermissionsBoundary",
    }
    for statement in document["Statement"]:
        if statement["Effect"] == "Allow" and widening & set(listed(statement["Action"])):
            assert statement["Condition"] == {
                "StringEquals": {"iam:PermissionsBoundary": "${Boundary}"}
            }
    assert all(allows(document, action) for action in widening)
    assert not allows(document, "iam:DeleteRolePermissionsBoundary")
    (denied,) = (each for each in document["Statement"] if each["Effect"] == "Deny")
    assert denied["Resource"].endswith(":role/${StackName}-github-*")
    assert not any("iam:*" in listed(each.get("Action", [])) for each in document["Statement"])


def test_the_workflow_waits_for_the_slowest_deployment() -> None:
    """The job, its role's session and SAM wait long enough for a deployment and its rollback."""
    slowest = max(
        int(minutes) * (10 if kind == "Linear" else 1)  # ten steps of 10 %
        for name in source()["Parameters"]["GradualDeploymentType"]["AllowedValues"]
        for kind, minutes in re.findall(r"^(Linear|Canary)10Percent(?:Every)?(\d+)Minutes?$", name)
    )
    workflow = WORKFLOW.read_text()
    assert slowest == 100
    (minutes,) = re.findall(r"timeout-minutes: (\d+) # the slowest", workflow)
    assert slowest < MAX_MINUTES
    (seconds,) = re.findall(r"role-duration-seconds: (\d+)", workflow)
    assert int(minutes) > 2 * slowest
    assert int(seconds) == int(minutes) * 60
    assert f"MaxSessionDuration: {seconds} " in (FOLDER / "roles.yaml").read_text()


def test_the_deploy_role_may_verify_the_stack() -> None:
    """It has each permission that docs/operations.md names for `verify` and `smoke`."""
    page = (FOLDER.parents[1] / "docs" / "operations.md").read_text()
    table = page.partition("### Permissions for verify")[2].partition("`smoke` needs")[0]
    actions = set(re.findall(r"`([a-z0-9]+:[A-Z]\w+)`", table)) - {"sts:GetCallerIdentity"}
    role = deploying()
    assert len(actions) > 20
    assert [action for action in sorted(actions) if not allows(role, action)] == []


def test_the_artefacts_go_where_the_role_may_write() -> None:
    """ARTEFACTS becomes SAM's options, without resolve_s3; a bucket alone is refused."""
    options = artefacts({"ARTEFACTS": "bucket/plan"})
    assert options == ["--config-env", "artefacts", "--s3-bucket", "bucket", "--s3-prefix", "plan"]
    assert artefacts({}) == artefacts({"ARTEFACTS": ""}) == []
    with pytest.raises(CommandError, match="BUCKET/PREFIX"):
        artefacts({"ARTEFACTS": "bucket"})
    settings = tomllib.loads((FOLDER.parents[1] / "samconfig.toml").read_text())
    usual = settings["default"]["deploy"]["parameters"]
    assert settings["artefacts"]["deploy"]["parameters"] | {"resolve_s3": True} == usual


@pytest.mark.parametrize("given", VARIANTS.values(), ids=VARIANTS)
def test_the_deploy_role_may_call_the_function_of_a_custom_resource(given: dict[str, str]) -> None:
    """CloudFormation invokes it with the permissions of the caller."""
    deployed = Deployed(**given)
    role = deploying()
    account = f"{NAMES['AWS::Region']}:{NAMES['AWS::AccountId']}"
    for custom in deployed.of_type("AWS::CloudFormation::CustomResource").values():
        name = deployed.properties(custom["ServiceToken"].removesuffix(".Arn"))["FunctionName"]
        assert allows(role, "lambda:InvokeFunction", f"arn:aws:lambda:{account}:function:{name}")


def test_the_deploy_role_may_find_alarms_by_a_prefix() -> None:
    """DescribeAlarms with AlarmNamePrefix, as `verify` sends it, is authorised for alarm:*."""
    every = f"arn:aws:cloudwatch:{NAMES['AWS::Region']}:{NAMES['AWS::AccountId']}:alarm:*"
    assert allows(deploying(), "cloudwatch:DescribeAlarms", every)


def test_a_failed_creation_of_the_roles_leaves_nothing_that_blocks_the_next() -> None:
    """An account can have one OIDC provider for GitHub, so one that stayed would be in the way."""
    resources = yaml_parse((FOLDER / "roles.yaml").read_text())["Resources"]
    for name in ("Provider", "Artefacts"):
        assert resources[name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert resources[name]["UpdateReplacePolicy"] == "Retain"
