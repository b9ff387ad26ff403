"""`image-pipeline deploy`: checks before it, and what an earlier stack left is taken back."""

import io
import json
import re
import sys
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import boto3
import moto.core
import pytest
import template
import typer
from aws_names import INPUT, OUTPUT
from botocore.stub import Stubber

from image_pipeline.build import tools
from image_pipeline.cli import questions
from image_pipeline.cli.app import command_line
from image_pipeline.errors import CommandError
from image_pipeline.stack import change_sets, retained, sam
from image_pipeline.stack.aws import AccessKey, Aws
from image_pipeline.stack.deployed import describe_if_there
from image_pipeline.stack.parameters import OF_THE_STACK, PATTERNS, VARIABLES, check
from image_pipeline.stack.retained import Resource
from thumbnailer import settings

ROOT = Path(__file__).parents[1]
STACK = "my-pipeline"
NAMES = {"InputBucketName": INPUT, "OutputBucketName": OUTPUT}
BOTH = [
    Resource("InputBucket", "AWS::S3::Bucket", "BucketName", INPUT),
    Resource("OutputBucket", "AWS::S3::Bucket", "BucketName", OUTPUT),
]


@pytest.fixture
def account(aws: str) -> Aws:
    """An empty account."""
    return Aws.local(aws, AccessKey("testing", "testing"))


# --- checks -------------------------------------------------------------------------------------
def function_names(**given: str) -> list[str]:
    """The names of the functions that the template makes for a stack without a name."""
    deployed = template.Deployed(**given)
    names = [each["FunctionName"] for each in deployed.of_type("AWS::Lambda::Function").values()]
    names += [each["Name"] for each in deployed.of_type("AWS::CloudFront::Function").values()]
    stack = template.PSEUDO_PARAMETERS["AWS::StackName"]
    return [each.removeprefix(stack) for each in names]


@pytest.mark.parametrize(
    ("given", "longest"),
    [
        ({"DeleteBucketContents": "false"}, 54),
        ({"DeleteBucketContents": "true"}, 50),
        ({"Cdn": "true", "DeleteBucketContents": "true"}, 49),
    ],
)
def test_a_name_that_is_too_long_is_told_before_anything_is_done(
    given: dict[str, str], longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest function name of the template decides. CloudFormation would roll back."""
    monkeypatch.setitem(template.PSEUDO_PARAMETERS, "AWS::Region", "ap-southeast-1")
    assert longest == sam.MAX_FUNCTION_NAME - max(map(len, function_names(**given)))
    sam.check_name("a" * longest, given)
    with pytest.raises(CommandError, match=f"has {longest + 1} characters, and at most {longest}"):
        sam.check_name("a" * (longest + 1), given)


def test_a_variable_that_is_checked_is_set_from_its_parameter() -> None:
    """The names are those of the template."""
    function = template.source()["Resources"]["ThumbnailFunction"]["Properties"]
    variables = function["Environment"]["Variables"]
    for name, variable in VARIABLES.items():
        assert variables[variable] == {"Ref": name}
    settings.Settings.from_environment(OF_THE_STACK)


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        ({}, []),
        ({"ThumbnailSizes": "128,a=9x9", "ThumbnailFormats": "webp,avif"}, []),
        (
            {"ThumbnailSizes": "128,128"},
            ["ThumbnailSizes item 2, '128', has the same name as '128'", "example: 128,512"],
        ),
        ({"ThumbnailFormats": "webp,webp"}, ["ThumbnailFormats must not contain a format twice"]),
        (
            {"JpegQuality": "0", "AvifQuality": "101"},
            ["JpegQuality must be", "AvifQuality must be"],
        ),
        (
            {"ThumbnailFormats": "webp,avif", "OutputKeyTemplate": "{stem}_{size}"},
            ["OutputKeyTemplate cannot tell the formats webp and avif apart", "{format}"],
        ),
        (
            {"ThumbnailSizes": "64,a=64x64", "OutputKeyTemplate": "{stem}_{width}"},
            ["OutputKeyTemplate cannot tell the sizes 64w and a apart", "{size}"],
        ),
        (
            {"ThumbnailFormats": "avif", "OutputKeyTemplate": "{stem}_{size}.webp"},
            ["OutputKeyTemplate names avif files .webp", "{format}"],
        ),
    ],
)
def test_parameters_are_checked_by_the_rules_of_the_function(
    given: dict[str, str], messages: list[str]
) -> None:
    """Every fault is named, by its parameter, in words that say what to do."""
    if not messages:
        check(given)
        return
    with pytest.raises(CommandError, match="Invalid parameters: ") as raised:
        check(given)
    assert all(message in str(raised.value) for message in messages)
    assert not any(variable in str(raised.value) for variable in VARIABLES.values())


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("1.151.9", "version 1.151.9, and 1.152.0 or later is needed"),
        ("1.9.0", "version 1.9.0, and"),
        ("1.152.0", None),
        ("2.0.0", None),
        (None, "not on the PATH"),
    ],
)
def test_a_sam_cli_that_is_missing_or_too_old_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, message: str | None
) -> None:
    """With what to do about it, and before anything is deployed."""
    if version:
        (tmp_path / "sam").write_text(f"#!/bin/sh\necho SAM CLI, version {version}\n")
        (tmp_path / "sam").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    if message is None:
        sam.check_version()
        return
    with pytest.raises(CommandError, match=message):
        sam.check_version()


def test_one_minimum_version_of_sam_is_stated() -> None:
    """docs/deploy.md states it, no other page has another one, and the pinned SAM is not older."""
    minimum = ".".join(map(str, sam.MIN_VERSION))
    stated = {
        (page.name, found)
        for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for found in re.findall(r"SAM CLI\S* (?:version )?(\d+\.\d+\.\d+)", page.read_text())
    }
    assert stated == {("deploy.md", minimum)}
    pinned = re.search(
        r"aws-sam-cli==(\d+)\.(\d+)\.(\d+)", (ROOT / "requirements/sam.txt").read_text()
    )
    assert pinned
    assert tuple(map(int, pinned.groups())) >= sam.MIN_VERSION


@pytest.mark.parametrize("page", ["README.md", "docs/deploy.md"])
def test_the_documented_deploy_fits_a_new_account(page: str) -> None:
    """Ten concurrent executions and 3,008 MB: no command reserves or provisions concurrency."""
    commands = "".join(re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(), re.DOTALL))
    assert "deploy" in commands
    assert "Concurrency" not in commands
    sizes = [int(each) for each in re.findall(r"LambdaMemorySize=(\d+)", commands)]
    assert all(each <= 3008 for each in sizes)


# --- what an earlier stack left -----------------------------------------------------------------
def test_existing_buckets_are_found(account: Aws) -> None:
    """Those that the new stack would create; an existing input bucket is not the stack's."""
    assert retained.find(account, STACK, NAMES) == []
    account.s3.create_bucket(Bucket=OUTPUT)
    assert retained.find(account, STACK, NAMES) == BOTH[1:]
    account.s3.create_bucket(Bucket=INPUT)
    assert retained.find(account, STACK, NAMES) == BOTH
    existing = {"ExistingInputBucket": "true"}
    assert retained.find(account, STACK, NAMES | existing) == BOTH[1:]


def test_a_new_stack_needs_the_names_of_its_buckets(account: Aws) -> None:
    """The error says how to give them."""
    with pytest.raises(CommandError, match="--parameter OutputBucketName=NAME"):
        retained.find(account, STACK, {"InputBucketName": INPUT})


def test_a_bucket_in_another_region_is_not_taken(account: Aws) -> None:
    """CloudFormation imports only what is in its own region."""
    account.s3.create_bucket(
        Bucket=OUTPUT, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    with pytest.raises(CommandError, match=r"is in eu-west-1.*Pass --region eu-west-1"):
        retained.find(account, STACK, NAMES)


def bucket_with_key(account: Aws, description: str) -> str:
    """Make the output bucket, encrypted with a key; return the key's id."""
    about = account.kms.create_key(Description=description)["KeyMetadata"]
    account.s3.create_bucket(Bucket=OUTPUT)
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": about["Arn"]}
    account.s3.put_bucket_encryption(
        Bucket=OUTPUT,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": default}]  # type: ignore[typeddict-item]
        },
    )
    return str(about["KeyId"])


def description() -> str:
    """The description of the template's key, for STACK."""
    text: str = template.source()["Resources"]["Key"]["Properties"]["Description"]["Fn::Sub"]
    return text.replace("${AWS::StackName}", STACK)


def test_the_key_of_the_earlier_stack_is_found(account: Aws) -> None:
    """By the bucket that it encrypts and by its description, if the stack is to create a key."""
    key = bucket_with_key(account, description())
    assert retained.find(account, STACK, NAMES) == BOTH[1:]
    own = NAMES | {"CreateKmsKey": "true"}
    assert retained.find(account, STACK, own)[1:] == [
        Resource("Key", "AWS::KMS::Key", "KeyId", key)
    ]
    account.kms.schedule_key_deletion(KeyId=key)
    with pytest.raises(CommandError, match=f"cancel-key-deletion --key-id {key}"):
        retained.find(account, STACK, own)


def test_a_key_of_somebody_else_is_not_taken(account: Aws) -> None:
    """Such as one that encrypted the bucket by KmsKeyArn."""
    bucket_with_key(account, "Ours")
    assert retained.find(account, STACK, NAMES | {"CreateKmsKey": "true"}) == BOTH[1:]


class Stubbed:
    """An account whose CloudFormation gives prepared responses, and checks the requests."""

    def __init__(self) -> None:
        self.aws = Aws.local("http://127.0.0.1:9", AccessKey("testing", "testing"))
        client = boto3.client("cloudformation")
        self.stub = Stubber(client)
        self.aws.__dict__["cloudformation"] = client

    def answer(self, operation: str, response: Mapping[str, Any], expected: Any = None) -> None:
        """Expect a request; the next one."""
        self.stub.add_response(operation, dict(response), expected)


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> Stubbed:
    """A change set of a known name."""
    monkeypatch.setattr(retained.secrets, "token_hex", lambda _: "1")
    found = Stubbed()
    found.stub.activate()
    return found


CHANGE_SET = {"StackName": STACK, "ChangeSetName": "import-1"}
KEY = Resource("Key", "AWS::KMS::Key", "KeyId", "k-1")
TEMPLATE = {
    "AWSTemplateFormatVersion": "2010-09-09",
    "Description": "Resources of an earlier stack. Deploy iac/template.yaml to complete it.",
    "Resources": {
        "OutputBucket": {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {"BucketName": OUTPUT},
        },
        "Key": {
            "Type": "AWS::KMS::Key",
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {},
        },
    },
}
IMPORT = CHANGE_SET | {
    "ChangeSetType": "IMPORT",
    "TemplateBody": json.dumps(TEMPLATE),
    "ResourcesToImport": [
        {
            "ResourceType": "AWS::S3::Bucket",
            "LogicalResourceId": "OutputBucket",
            "ResourceIdentifier": {"BucketName": OUTPUT},
        },
        {
            "ResourceType": "AWS::KMS::Key",
            "LogicalResourceId": "Key",
            "ResourceIdentifier": {"KeyId": "k-1"},
        },
    ],
}


def stack_is(status: str) -> dict[str, Any]:
    """DescribeStacks's answer."""
    created = "2026-01-01T00:00:00Z"
    return {"Stacks": [{"StackName": STACK, "CreationTime": created, "StackStatus": status}]}


def test_an_import_has_nothing_but_what_it_imports(stubbed: Stubbed) -> None:
    """Retained, each with its identifier; CloudFormation accepts no other resource in it."""
    stubbed.answer("create_change_set", {}, IMPORT)
    stubbed.answer("describe_change_set", {"Status": "CREATE_COMPLETE"}, CHANGE_SET)
    stubbed.answer("execute_change_set", {}, CHANGE_SET)
    stubbed.answer("describe_stacks", stack_is("IMPORT_COMPLETE"), {"StackName": STACK})
    retained.take_back(stubbed.aws, STACK, [BOTH[1], KEY])
    stubbed.stub.assert_no_pending_responses()


def test_a_refused_import_says_why(stubbed: Stubbed) -> None:
    """For example a bucket that another stack has. Nothing is executed."""
    failed = {"Status": "FAILED", "StatusReason": "already exists in stack other."}
    stubbed.answer("create_change_set", {})
    stubbed.answer("describe_change_set", failed)
    stubbed.answer("describe_change_set", failed)
    with pytest.raises(CommandError, match=r"already exists in stack other\. Nothing was changed"):
        retained.take_back(stubbed.aws, STACK, BOTH)
    stubbed.stub.assert_no_pending_responses()


def test_a_failed_import_says_why_and_what_to_do(stubbed: Stubbed) -> None:
    """The reason is in the stack's events."""
    event = {
        "StackId": "id",
        "EventId": "1",
        "StackName": STACK,
        "Timestamp": "2026-01-01T00:00:00Z",
        "LogicalResourceId": "OutputBucket",
        "ResourceStatus": "IMPORT_FAILED",
        "ResourceStatusReason": "no access",
    }
    stubbed.answer("create_change_set", {})
    stubbed.answer("describe_change_set", {"Status": "CREATE_COMPLETE"})
    stubbed.answer("execute_change_set", {})
    stubbed.answer("describe_stacks", stack_is("IMPORT_ROLLBACK_COMPLETE"))
    stubbed.answer("describe_stack_events", {"StackEvents": [event]})
    with pytest.raises(CommandError, match=r"OutputBucket: no access.*delete-stack"):
        retained.take_back(stubbed.aws, STACK, BOTH)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("CREATE_COMPLETE", None),
        ("IMPORT_COMPLETE", None),
        ("UPDATE_ROLLBACK_COMPLETE", None),
        ("ROLLBACK_COMPLETE", "delete-stack --stack-name my-pipeline"),
        ("DELETE_FAILED", "delete-stack --stack-name my-pipeline"),
        ("DELETE_IN_PROGRESS", "Wait until that is over"),
    ],
)
def test_a_stack_that_exists_has_its_buckets(
    stubbed: Stubbed, status: str, message: str | None
) -> None:
    """So nothing is imported, also when a deploy failed after an import and is repeated."""
    stubbed.answer("describe_stacks", stack_is(status))
    if message is None:
        assert retained.find(stubbed.aws, STACK, NAMES) == []
        return
    with pytest.raises(CommandError, match=message):
        retained.find(stubbed.aws, STACK, NAMES)


def test_a_bucket_of_another_account_is_not_taken(stubbed: Stubbed) -> None:
    """S3 answers 403, and the error says that the name is taken."""
    stubbed.stub.add_client_error("describe_stacks", "ValidationError", "it does not exist")
    client = boto3.client("s3")
    stubbed.aws.__dict__["s3"] = client
    with Stubber(client) as s3:
        s3.add_client_error("head_bucket", "403", http_status_code=403)
        with pytest.raises(CommandError, match="belongs to another account"):
            retained.find(stubbed.aws, STACK, NAMES)


# --- the command --------------------------------------------------------------------------------
@pytest.fixture
def command(tmp_path: Path, account: Aws, aws: str, monkeypatch: pytest.MonkeyPatch) -> "Command":
    """The command in a folder with a build, with a SAM that records its arguments."""
    return Command(tmp_path, account, aws, monkeypatch)


class Command:
    """Runs `image-pipeline deploy` with a SAM of the test."""

    def __init__(
        self, folder: Path, account: Aws, endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.account = account
        self.taken: list[list[Resource]] = []
        self.code: int | None = None
        """What a command that ends before its end exits with."""

        self.change_sets: list[str] = []
        """Change sets that SAM makes."""

        self.discarded: list[AbstractSet[str]] = []
        self._calls = folder / "calls"
        program = folder / "bin" / "sam"
        program.parent.mkdir()
        program.write_text(
            '#!/bin/sh\n[ "$1" = --version ] && echo SAM CLI, version 1.170.0 && exit\n'
            f'echo "$@" >> {self._calls}\necho deployed\nexit ${{SAM_EXIT:-0}}\n'
        )
        program.chmod(0o755)
        (folder / "template.yaml").touch()
        monkeypatch.chdir(folder)
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setattr(tools, "install", lambda _name, _report: program.parent)
        monkeypatch.setattr(
            change_sets, "executable", lambda *_: set(self.change_sets if self.calls else ())
        )
        monkeypatch.setattr(
            change_sets, "discard", lambda _aws, _stack, found: self.discarded.append(found)
        )
        monkeypatch.setattr(
            retained, "take_back", lambda _aws, _stack, found: self.taken.append(found)
        )

    def __call__(self, *options: str) -> str | None:
        """Run it for NAMES; return the message of the error, if there is one."""
        names = [f"--parameter={name}={value}" for name, value in NAMES.items()]
        given = ["deploy", "--stack", STACK, "--template", "template.yaml", "--no-verify"]
        return self.run(*given, *names, *options)

    def run(self, *words: str) -> str | None:
        """Run any command; return the message of the error, if there is one."""
        try:
            self.code = command_line()(list(words), standalone_mode=False)
        except CommandError as error:
            return str(error)
        return None

    def type(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        """Let the command run on a terminal, where these lines are typed."""
        terminal = io.StringIO("".join(f"{answer}\n" for answer in answers))
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", terminal)

    @property
    def calls(self) -> list[str]:
        """What SAM was called with."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []


def test_existing_buckets_stop_a_deploy_unless_it_imports_them(command: Command) -> None:
    """The error names them and the option, and SAM is not called."""
    command.account.s3.create_bucket(Bucket=OUTPUT)
    error = command()
    assert error
    assert f"cannot create them: {OUTPUT}." in error
    assert "--import-buckets" in error
    assert command.calls == command.taken == []


def test_an_import_comes_before_the_deploy(
    command: Command, capfd: pytest.CaptureFixture[str]
) -> None:
    """After --yes; with --json, only JSON is on standard output."""
    command.account.s3.create_bucket(Bucket=OUTPUT)
    assert command("--import-buckets", "--yes", "--json") is None
    assert command.taken == [BOTH[1:]]
    (call,) = command.calls
    assert call.startswith(
        f"deploy --stack-name {STACK} --template-file template.yaml --region us-"
    )
    imported = {"logical_id": "OutputBucket", "type": "AWS::S3::Bucket", "id": OUTPUT}
    captured = capfd.readouterr()
    assert json.loads(captured.out) == {"stack": STACK, "imported": [imported], "deployed": True}
    assert captured.err == "deployed\n"


def test_an_import_is_shown_and_asked_for(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal to ask on, --yes is needed; nothing is imported."""
    command.account.s3.create_bucket(Bucket=INPUT)
    assert "pass --yes" in (command("--import-buckets") or "")
    assert f"InputBucket (AWS::S3::Bucket): {INPUT}" in capsys.readouterr().out
    assert command.calls == command.taken == []


def test_without_an_earlier_stack_it_just_deploys(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --import-buckets too, and without a question. A failure of SAM is one of the command."""
    assert command("--import-buckets") is None
    assert command.taken == []
    assert len(command.calls) == 1
    monkeypatch.setenv("SAM_EXIT", "3")
    assert "exit code 3" in (command() or "")


# --- what it asks -------------------------------------------------------------------------------
def test_questions_have_the_checks_and_defaults_of_the_template() -> None:
    """An answer that is accepted is accepted by CloudFormation."""
    parameters = template.source()["Parameters"]
    for name, (pattern, meaning) in PATTERNS.items():
        described = parameters[name]
        assert (described["AllowedPattern"], described["ConstraintDescription"]) == (
            pattern,
            meaning,
        )
    named = parameters["OutputBucketName"]
    assert named["AllowedPattern"] == PATTERNS["InputBucketName"][0]
    assert {name: parameters[name]["Default"] for name in questions.DEFAULTS} == questions.DEFAULTS


def test_a_new_stack_is_asked_for_and_shown_before_it_is_made(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong answer is explained and asked again. Answers that are defaults are not passed.

    SAM first shows the change set, then deploys it.
    """
    command.account.s3.create_bucket(Bucket="taken")
    command.change_sets = ["a-change"]
    command.type(
        monkeypatch,
        *("1st", "a-stack", "taken", "UPPER", "an-input", "an-input", ""),
        *("128,128", "64", "", "nobody", "me@example.com", "y", "y"),
    )
    assert command.run("deploy", "--template", "template.yaml", "--no-verify") is None
    shown, made = command.calls
    assert shown.startswith("deploy --stack-name a-stack --template-file template.yaml")
    assert "--no-execute-changeset" in shown
    assert "--no-confirm-changeset" in made
    captured = capsys.readouterr()
    for complaint in (
        "a letter is first",
        "You have a bucket taken",
        "'UPPER' must be an S3 bucket name",
        "must have different names",
        "has the same name as '128'",
        "'nobody' must be empty or an e-mail address",
    ):
        assert complaint in captured.err
    words = [
        "InputBucketName=an-input",
        f"OutputBucketName=a-stack-output-{moto.core.DEFAULT_ACCOUNT_ID}",
        "ThumbnailSizes=64",
        "AlarmEmail=me@example.com",
        "Cdn=true",
    ]
    again = " ".join(f"--parameter={word}" for word in words)
    assert f"image-pipeline deploy {again} --stack a-stack --region us-" in captured.err
    assert "confirm the e-mail that AWS sends to me@example.com" in captured.out


def test_a_bucket_of_ones_own_must_exist(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ExistingInputBucket=true, a name that is not there is asked for again."""
    command.account.s3.create_bucket(Bucket="mine")
    command.type(monkeypatch, "not-mine", "mine", *[""] * 5)
    given = ("--stack", STACK, "--parameter", "ExistingInputBucket=true", "--no-verify")
    assert command.run("deploy", *given, "--template", "template.yaml") is None
    captured = capsys.readouterr()
    assert "There is no bucket not-mine" in captured.err
    assert "--parameter=InputBucketName=mine" in captured.err
    assert f"image-pipeline adopt-bucket --stack {STACK}" in captured.out


def test_whoever_declines_the_changes_changes_nothing(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change set that was shown is deleted, and no other."""
    command.change_sets = ["a-change"]
    command.type(monkeypatch, "n")
    assert command() is None
    assert command.code == 1
    assert [call for call in command.calls if "--no-execute-changeset" not in call] == []
    assert command.discarded == [{"a-change"}]


def test_without_changes_nothing_is_asked(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAM says that the stack is up to date."""
    command.change_sets = []
    command.type(monkeypatch)
    assert command() is None
    assert len(command.calls) == 1
    assert command.discarded == []


@pytest.mark.parametrize("option", ["--yes", "--json"])
def test_whoever_says_so_is_asked_nothing(
    command: Command, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """Also on a terminal."""
    command.type(monkeypatch)
    assert command(option) is None
    (call,) = command.calls
    assert "--no-confirm-changeset" in call


def test_without_a_terminal_what_is_missing_is_named(command: Command) -> None:
    """The name of the stack, and the names of its buckets."""
    with pytest.raises(typer.BadParameter, match="name the stack"):
        command.run("deploy")
    error = command.run("deploy", "--stack", "a-stack")
    assert error
    assert "--parameter InputBucketName=NAME --parameter OutputBucketName=NAME" in error
    assert command.calls == []


def test_change_sets_are_told_apart_and_deleted(account: Aws) -> None:
    """A stack that has only change sets is deleted with them; its name is free again."""
    assert change_sets.executable(account, STACK) == set()
    text = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    account.cloudformation.create_change_set(
        StackName=STACK, ChangeSetName="shown", ChangeSetType="CREATE", TemplateBody=text
    )
    (shown,) = change_sets.executable(account, STACK)
    change_sets.discard(account, STACK, {shown})
    assert change_sets.executable(account, STACK) == set()
    assert describe_if_there(account, STACK) is None


def test_a_missing_build_is_an_instruction(command: Command) -> None:
    """SAM is not called."""
    assert "make build" in (command("--template", "elsewhere.yaml") or "")
    assert command.calls == []


def test_wrong_parameters_stop_a_deploy_before_anything_is_done(command: Command) -> None:
    """Also beside what the stack has already: the function could not start."""
    command.account.cloudformation.create_stack(
        StackName=STACK,
        TemplateBody=json.dumps(
            {
                "Parameters": {"OutputKeyTemplate": {"Type": "String"}},
                "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
            }
        ),
        Parameters=[{"ParameterKey": "OutputKeyTemplate", "ParameterValue": "{stem}_{width}.webp"}],
    )
    assert command("--parameter=ThumbnailSizes=64") is None
    before = len(command.calls)
    error = command("--parameter=ThumbnailFormats=webp,avif")
    assert error
    assert "OutputKeyTemplate cannot tell the formats webp and avif apart" in error
    assert len(command.calls) == before
