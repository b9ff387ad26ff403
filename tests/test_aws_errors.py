"""What goes wrong between a command and AWS is said in words, with what to do next."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    SSLError,
    SSOTokenLoadError,
    UnauthorizedSSOTokenError,
)
from home import Home
from moto_stack import moto_stack

from image_pipeline.cli import targets
from image_pipeline.cli.app import COMMANDS, LazyCommand
from image_pipeline.errors import CommandError, NotPermitted, PartFailed
from image_pipeline.stack.aws import AccessKey, Aws, aws_errors_explained
from image_pipeline.stack.aws_errors import RESERVED_LIMIT, explain
from image_pipeline.stack.deployed import Stack, describe

USER = "arn:aws:iam::111122223333:user/me"
FUNCTION = "arn:aws:lambda:eu-west-1:111122223333:function:f"
DENIAL = (
    f"User: {USER} is not authorized to perform: lambda:GetAlias on resource: {FUNCTION} because "
    "no identity-based policy allows the lambda:GetAlias action"
)
"""As Lambda words it."""

TRY = ["--quality", "50", "--out", "trial"]
"""Words that `try` needs."""

TEMPLATE: dict[str, Any] = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}


def refusal(code: str, message: str = "no", **more: Any) -> ClientError:
    """An error of a service."""
    answer: Any = {"Error": {"Code": code, "Message": message}} | more
    return ClientError(answer, "Operation")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoCredentialsError(), "aws configure"),
        (NoRegionError(), "aws configure set region NAME --profile work"),
        (PartialCredentialsError(provider="env", cred_var="secret"), "aws configure --profile"),
        (SSOTokenLoadError(error_msg="no token"), "`aws sso login --profile work`"),
        (UnauthorizedSSOTokenError(), "`aws sso login --profile work`"),
        (CredentialRetrievalError(provider="process", error_msg="x"), "Check the profile"),
        (
            EndpointConnectionError(endpoint_url="https://s3.eu-wset-1.amazonaws.com/"),
            "'eu-wset-1' is not a region that is known here. Did you mean 'eu-west-1'?",
        ),
        (ConnectTimeoutError(endpoint_url="https://s3.eu-west-1.amazonaws.com/"), "the network"),
        (SSLError(endpoint_url="https://x", error="self-signed"), "AWS_CA_BUNDLE"),
        (refusal("ExpiredToken"), "aws sso login"),
        (refusal("UnrecognizedClientException"), "aws sts get-caller-identity"),
        (refusal("SignatureDoesNotMatch"), "does not accept the credentials"),
        (refusal("RequestTimeTooSkewed"), "clock"),
        (refusal("SlowDown"), "Try again in a minute"),
        (refusal("Busy"), "AWS refused the request"),
    ],
)
def test_an_error_says_what_to_do(error: Exception, words: str) -> None:
    """With the profile in the command where one is used; the error is no more than a message."""
    found = explain(error, "work")
    assert words in str(found)
    assert type(found) is CommandError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (refusal("NoSuchBucket"), "The bucket does not exist."),
        (refusal("AWS.SimpleQueueService.NonExistentQueue"), "The queue does not exist."),
        (refusal("ResourceNotFoundException", "Function not found: f"), "Function not found: f"),
        (refusal("KmsDisabled", "k is disabled."), "The KMS key of the stack is disabled."),
        (refusal("KMS.DisabledException", "k is disabled."), "disabled."),
        (refusal("KMS.NotFoundException"), "The KMS key of the stack does not exist."),
        (refusal("KMS.KMSInvalidStateException"), "The KMS key of the stack cannot be used."),
        (refusal("TooManyRequestsException", Reason=RESERVED_LIMIT), "it is paused"),
    ],
)
def test_a_broken_part_is_told_from_other_errors(error: ClientError, words: str) -> None:
    """So that the command can name `status`, which says more."""
    with pytest.raises(PartFailed, match=re.escape(words)), aws_errors_explained():
        raise error


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (DENIAL, f"AWS denies lambda:GetAlias on {FUNCTION} to {USER}. Ask whoever"),
        ("Access Denied", "AWS denies Operation: Access Denied. Ask whoever"),
    ],
)
def test_a_denial_names_what_is_denied_to_whom(message: str, words: str) -> None:
    """As far as AWS says so."""
    found = explain(refusal("AccessDenied", message))
    assert isinstance(found, NotPermitted)
    assert words in str(found)


# --- profiles and regions -----------------------------------------------------------------------
SSO = """
[profile work]
sso_session = company
sso_account_id = 111122223333
sso_role_name = Operator
region = eu-west-1
[sso-session company]
sso_start_url = https://company.awsapps.com/start
sso_region = eu-west-1
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has never signed in to a profile of IAM Identity Center, and has nothing else."""
    (tmp_path / "config").write_text(SSO)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize(
    ("region", "profile", "words"),
    [
        (None, "work", r"`aws sso login --profile work`"),
        (None, "wrok", r"no profile 'wrok'.*Did you mean 'work'\?.*Your profiles: work\."),
        (None, None, r"There are no AWS credentials.*--profile NAME"),
    ],
)
def test_credentials_are_checked_before_anything_else(
    region: str | None, profile: str | None, words: str
) -> None:
    """A profile that is unknown or not signed in is named before the first request."""
    with pytest.raises(CommandError, match=words):
        Aws.account(region, profile)


def test_a_misspelt_region_is_corrected() -> None:
    """One that cannot be a region is refused without a request."""
    with pytest.raises(CommandError, match=r"'eu west-1'.*Did you mean 'eu-west-1'\?"):
        Stack.find(Aws.account("eu west-1"), "any")


@pytest.mark.parametrize(
    "name",
    [name for name in COMMANDS if name not in ("adopt-bucket", "deploy", "package")],
)
def test_a_region_without_a_stack_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By every command with --stack: it says to name the stack, and asks no AWS at all.

    `adopt-bucket` is about a bucket of the account, `package` makes files, and `deploy` requires a
    stack.
    """
    command = LazyCommand(name, "").load()
    if "--region" not in {option for each in command.params for option in each.opts}:
        return
    monkeypatch.setattr(targets, "Aws", None)
    words = {"upload": ["a.jpg"], "record": ["folder"], "try": TRY, "discard": ["--all"]}.get(
        name, []
    )
    done = Home(tmp_path, 0).run(name, *words, "--region", "eu-west-1")
    assert done.returncode == 1
    assert "name it with --stack NAME" in done.stderr


# --- stacks -------------------------------------------------------------------------------------
@pytest.fixture
def account(aws: str) -> Aws:
    """An account with one stack, which is not one of this pipeline."""
    account = Aws.local(aws, AccessKey("testing", "testing"))
    account.cloudformation.create_stack(
        StackName="holiday-photos", TemplateBody=json.dumps(TEMPLATE)
    )
    return account


def test_a_misspelt_stack_is_corrected(account: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a similar name; without one, and without the permission to list, it is only refused."""
    with pytest.raises(CommandError, match=r"no stack 'holiday-fotos'.*Did you mean 'holiday-ph"):
        describe(account, "holiday-fotos")
    with pytest.raises(CommandError, match=r"no stack 'x' in us-east-1\. Pass --region"):
        describe(account, "x")

    def deny(_: str) -> None:
        raise refusal("AccessDenied")

    monkeypatch.setattr(account.cloudformation, "get_paginator", deny)
    with pytest.raises(CommandError, match=r"'holiday-fotos' in us-east-1\. Pass --region"):
        describe(account, "holiday-fotos")


def test_a_stack_of_another_kind_is_named(account: Aws) -> None:
    """It has no output that a stack of this pipeline has."""
    with pytest.raises(CommandError, match=r"\(CREATE_COMPLETE\).*no output 'FunctionName'"):
        Stack.find(account, "holiday-photos")


def test_a_stack_without_its_function_is_broken(account: Aws) -> None:
    """Its name is in the outputs, but it was deleted."""
    outputs = {"Outputs": {"FunctionName": {"Value": "photos-thumbnail"}}}
    body = json.dumps(TEMPLATE | outputs)
    account.cloudformation.create_stack(StackName="photos", TemplateBody=body)
    with pytest.raises(PartFailed, match="function photos-thumbnail of stack photos does not ex"):
        Stack.find(account, "photos")


def test_a_command_names_status_where_a_part_is_broken(
    s3: Any, aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own options, ready to be run: here the output bucket is gone."""
    stack = moto_stack(aws)
    s3.delete_bucket(Bucket=stack.settings.output_bucket)
    monkeypatch.setattr(targets, "find_stack", lambda **_: stack)
    words = ("--stack", "photos", "--region", "eu-west-1", "--dry-run")
    done = Home(tmp_path, 0).run("prune", *words)
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: The bucket {stack.settings.output_bucket} does not exist. See the state of every "
        "part: image-pipeline status --stack photos --region eu-west-1\n"
    )
