"""What `record` saves, and which rollbacks are refused before anything is deployed."""

import json
from pathlib import Path
from typing import Any

import pytest
from home import Home
from template import KEY, parameters

from image_pipeline.errors import CommandError
from image_pipeline.stack import rollback
from image_pipeline.stack.aws import AccessKey, Aws

OTHER_KEY = KEY.replace("1234abcd", "0000abcd")
VALUES = {
    "Quotes": 'it\'s "so" \\ \\\' \\"',
    "Spaces": "  a  b ",
    "Commas": "128, 512,,",
    "Dollars": "$HOME ${x} $(y) `z` %1",
    "Lines": "one\ntwo\n",
    "Letters": "日本語 é 🎈",
    "Empty": "",
}
"""Values with characters that shells, YAML or SAM give a meaning."""

TEMPLATE = """# é 🎈
Parameters:
  Secret: {Type: String, NoEcho: true}
"""
RESOURCES = """
Resources:
  Queue: {Type: "AWS::SQS::Queue"}
"""


@pytest.fixture
def account(aws: str) -> Aws:
    """An AWS with a stack that has VALUES and a secret."""
    account = Aws.local(aws, AccessKey("testing", "testing"))
    account.cloudformation.create_stack(
        StackName="recorded",
        TemplateBody=TEMPLATE
        + "".join(f"  {name}: {{Type: String}}\n" for name in VALUES)
        + RESOURCES,
        Parameters=[
            {"ParameterKey": name, "ParameterValue": value}
            for name, value in (VALUES | {"Secret": "hush"}).items()
        ],
    )
    return account


def test_the_template_and_every_parameter_are_recorded_exactly(
    account: Aws, tmp_path: Path
) -> None:
    """Whatever characters they have. tests/test_makefile.py deploys such values again, exactly."""
    recorded = rollback.Recorded.of(account, "recorded")
    recorded.save(tmp_path / "new" / "folder")
    template = (tmp_path / "new" / "folder" / "template.yaml").read_text(encoding="utf-8")
    assert template.startswith("# é 🎈\nParameters:\n  Secret: {Type: String, NoEcho: true}\n")
    saved = json.loads((tmp_path / "new" / "folder" / "parameters.json").read_text())
    assert saved == VALUES


def test_a_hidden_parameter_is_left_to_keep_its_value(account: Aws) -> None:
    """CloudFormation shows `****`, which must never be deployed as if it were the value."""
    recorded = rollback.Recorded.of(account, "recorded")
    assert recorded.hidden == ("Secret",)
    assert "Secret" not in recorded.parameters


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("UPDATE_IN_PROGRESS", "Wait until it is done"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "Wait until it is done"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name mine"),
        ("UPDATE_FAILED", "rollback-stack --stack-name mine"),
        ("ROLLBACK_COMPLETE", "Delete the stack"),
        ("CREATE_FAILED", "Delete the stack"),
        ("DELETE_FAILED", "Delete the stack"),
    ],
)
def test_a_stack_in_another_state_is_refused_with_what_to_do(status: str, advice: str) -> None:
    """The sentence names the stack, its state and the way out."""
    problem = rollback.unsettled("mine", status)
    assert problem
    assert f"'mine' is in the state {status}" in problem
    assert advice in problem


@pytest.mark.parametrize("status", rollback.SETTLED)
def test_a_settled_stack_can_be_recorded_and_rolled_back(status: str) -> None:
    """Also one whose last update was rolled back by CloudFormation."""
    assert rollback.unsettled("mine", status) is None


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ({}, {"ThumbnailSizes": "64", "LambdaMemorySize": "1024"}),
        ({"ExistingInputBucket": "true"}, {"ExistingInputBucket": "true"}),
        (  # the function reads another bucket, which no stack made
            {"ExistingInputBucket": "true"},
            {"ExistingInputBucket": "true", "InputBucketName": "another"},
        ),
        ({"KmsKeyArn": KEY}, {}),  # nothing is encrypted with another key
        ({"KmsKeyArn": KEY, "FormerKmsKeyArns": OTHER_KEY}, {"KmsKeyArn": OTHER_KEY}),
        ({"CreateKmsKey": "true"}, {"CreateKmsKey": "true", "DeleteBucketContents": "true"}),
        ({"BucketVersioning": "true"}, {}),
    ],
)
def test_what_a_deploy_can_undo_is_rolled_back(was: dict[str, str], now: dict[str, str]) -> None:
    """Any other parameter, and the user's own key as long as no other key was used since."""
    assert rollback.obstacles(parameters(**was), parameters(**now)) == []


@pytest.mark.parametrize(
    ("was", "now", "named"),
    [
        ({}, {"InputBucketName": "renamed"}, "my-input-bucket"),
        ({}, {"OutputBucketName": "renamed"}, "my-output-bucket"),
        ({}, {"ExistingInputBucket": "true"}, "my-input-bucket"),
        ({"KmsKeyArn": KEY}, {"KmsKeyArn": OTHER_KEY}, "KMS key was replaced"),
        ({}, {"KmsKeyArn": KEY}, "KMS key was replaced"),
        ({}, {"CreateKmsKey": "true"}, "KMS key was replaced"),
        ({"CreateKmsKey": "true"}, {}, "KMS key was replaced"),
        ({"CreateKmsKey": "true"}, {"KmsKeyArn": KEY}, "KMS key was replaced"),
    ],
)
def test_what_a_deploy_cannot_undo_is_named(
    was: dict[str, str], now: dict[str, str], named: str
) -> None:
    """One sentence for each, with the bucket's name or the parameters of the key."""
    (sentence,) = rollback.obstacles(parameters(**was), parameters(**now))
    assert named in sentence


def test_a_record_of_an_older_template_has_fewer_parameters() -> None:
    """A parameter that it did not have had its default."""
    was = {"InputBucketName": "my-input-bucket", "OutputBucketName": "my-output-bucket"}
    assert rollback.obstacles(was, parameters()) == []
    assert rollback.obstacles(was, parameters(CreateKmsKey="true"))


def test_the_check_names_what_it_refuses(account: Aws, tmp_path: Path) -> None:
    """And says what to do first if nothing is saved."""
    with pytest.raises(CommandError, match="Run `make record` first"):
        rollback.check(account, "recorded", tmp_path)
    with pytest.raises(CommandError, match="There is no stack 'missing'"):
        rollback.Recorded.of(account, "missing")


def test_the_command_saves_and_checks(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`image-pipeline record DIR --check` fails with the reason, and writes nothing."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws)
    account = Aws.local(aws, AccessKey("testing", "testing"))
    names = ("InputBucketName", "OutputBucketName")
    body = {
        "Parameters": {name: {"Type": "String"} for name in names},
        "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
    }

    def deploy(call: Any, suffix: str) -> None:
        given = [{"ParameterKey": each, "ParameterValue": f"{each}{suffix}"} for each in names]
        call(StackName="mine", TemplateBody=json.dumps(body), Parameters=given)

    deploy(account.cloudformation.create_stack, "")
    home, folder = Home(tmp_path, 0), tmp_path / "before"
    words = ("record", folder, "--stack", "mine")
    assert home.run(*words).returncode == 0
    assert home.run(*words, "--check").returncode == 0
    deploy(account.cloudformation.update_stack, "-renamed")
    refused = home.run(*words, "--check")
    assert refused.returncode == 1
    for name in names:
        assert f"The bucket '{name}' left the stack" in " ".join(refused.stderr.split())
    assert json.loads((folder / "parameters.json").read_text()) == {each: each for each in names}
