"""The README's commands for users of SAM, against the local AWS."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pictures import jpeg
from samtranslator.yaml_helper import yaml_parse
from serving import ministack, until

from image_pipeline.build.function import build_function
from image_pipeline.local.tools import REPOSITORY, UV, architecture, sam_environment
from image_pipeline.stack.aws import LOCAL_REGION, Aws
from image_pipeline.stack.deployed import Stack
from image_pipeline.stack.sam import parameters_file

pytestmark = pytest.mark.local_stack

NAME = "my-image-pipeline"
PARAMETERS = [
    "InputBucketName=my-input-bucket",
    "OutputBucketName=my-output-bucket",
    "ThumbnailSizes=128,512",
    "WebPQuality=85",
    "LambdaMemorySize=512",
    "LambdaTimeout=30",
    "InputPrefix=uploads/",
]


class Checkout:
    """The files of the repository that a deploy needs, in a folder of their own, and an AWS."""

    def __init__(self, directory: Path, aws: Aws) -> None:
        self.directory = directory
        self.aws = aws
        for name in ("iac", "lambda", "image_pipeline/build"):
            shutil.copytree(REPOSITORY / name, directory / name)
        for name in ("pyproject.toml", "samconfig.toml"):
            shutil.copy(REPOSITORY / name, directory)

    def sam(self, *arguments: str, answers: str = "") -> subprocess.CompletedProcess[str]:
        """Run sam there, with `answers` typed in; a failure shows its output."""
        return self.run("sam", *arguments, answers=answers)

    def run(
        self, *command: str, answers: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there as a user of the local AWS; a failure shows its output."""
        ran = subprocess.run(  # noqa: S603 - our own tools
            command,
            cwd=self.directory,
            input=answers,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            env=sam_environment()
            | self.aws.environment
            | {"LAMBDA_ARCHITECTURE": architecture()}
            | variables,
        )
        assert ran.returncode == 0, ran.stdout
        return ran

    def deploy(self, *parameters: str) -> Stack:
        """Deploy the build with `parameters`, for this machine's architecture."""
        overrides = [*parameters, f"LambdaArchitecture={architecture()}"]
        self.sam(
            "deploy",
            "--stack-name",
            NAME,
            "--parameter-overrides",
            *overrides,
            "--capabilities",
            "CAPABILITY_NAMED_IAM",
            "--region",
            LOCAL_REGION,
            "--no-confirm-changeset",
        )
        return Stack.find(self.aws, NAME)

    def outputs(self, key: str, count: int, bucket: str = "my-output-bucket") -> list[str]:
        """Upload a picture as `key`; the keys of what is made of it, once there are `count`."""
        source = bucket.replace("output", "input")
        self.aws.s3.put_object(Bucket=source, Key=f"uploads/{key}.jpg", Body=jpeg())

        def keys() -> list[str]:
            listed = self.aws.s3.list_objects_v2(Bucket=bucket, Prefix=key)
            return [each["Key"] for each in listed.get("Contents", [])]

        until(lambda: len(keys()) == count)
        return keys()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A fresh checkout with a build of `sam build`, and an empty local AWS."""
    with ministack(tmp_path_factory.mktemp("aws")) as (aws, _process):
        fresh = Checkout(tmp_path_factory.mktemp("checkout"), aws)
        fresh.sam("build", "--template-file", "iac/template.yaml")
        yield fresh


def test_sam_build_makes_the_artefact_that_up_deploys(checkout: Checkout, tmp_path: Path) -> None:
    """The same files, byte for byte, whether SAM or the command builds."""
    build_function(REPOSITORY / "lambda", tmp_path / "artefact", architecture(), str(UV))

    def contents(folder: Path) -> dict[Path, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder): path.read_bytes() for path in files}

    built = checkout.directory / ".aws-sam" / "build" / "ThumbnailFunction"
    assert contents(built) == contents(tmp_path / "artefact")


def test_the_documented_deploy_makes_thumbnails(checkout: Checkout) -> None:
    """`sam build`, then `sam deploy` with the documented parameters, deploys the built function.

    So does the command of the project's first README, with provisioned concurrency.
    """
    stack = checkout.deploy(*PARAMETERS, "LambdaProvisionedConcurrency=1")
    stack = checkout.deploy(*PARAMETERS, "LambdaProvisionedConcurrency=0")
    assert [size.width for size in stack.settings.sizes] == [128, 512]
    assert checkout.outputs("first", 2) == ["first_128w.webp", "first_512w.webp"]


def test_a_changed_parameter_reaches_the_next_upload(checkout: Checkout) -> None:
    """After a change of ThumbnailSizes the alias has a new version, which processes uploads.

    A deploy without changes succeeds too, so that a CI pipeline can be run again.
    """
    checkout.deploy(*PARAMETERS)
    checkout.deploy(*PARAMETERS)

    def version() -> str:
        alias = checkout.aws.functions.get_alias(FunctionName=f"{NAME}-thumbnail", Name="live")
        return alias["FunctionVersion"]

    before = version()
    checkout.deploy(*PARAMETERS, "ThumbnailSizes=64,300", "WriteManifest=true")
    assert version() != before
    assert checkout.outputs("second", 3) == ["second.json", "second_300w.webp", "second_64w.webp"]


def test_the_guided_deploy_asks_for_what_it_needs(checkout: Checkout) -> None:
    """`sam deploy --guided` with Enter for every default but the buckets deploys the build."""
    template = yaml_parse((checkout.directory / "iac" / "template.yaml").read_text())
    answers = {
        "InputBucketName": "guided-input-bucket",
        "OutputBucketName": "guided-output-bucket",
        "LambdaArchitecture": architecture(),
    }
    typed = ["guided", LOCAL_REGION, *(answers.get(name, "") for name in template["Parameters"])]
    typed += ["n", "y", "n", "n"]  # confirm changes, allow roles, disable rollback, save
    checkout.sam("deploy", "--guided", answers="\n".join(typed) + "\n")
    assert Stack.find(checkout.aws, "guided").input_bucket == "guided-input-bucket"
    assert len(checkout.outputs("guided", 2, "guided-output-bucket")) == 2


BROKEN = """
Resources:
  Signal:
    Type: AWS::CloudFormation::WaitConditionHandle
  Broken:
    Type: AWS::CloudFormation::WaitCondition
    DependsOn: [InputBucket, OutputBucket, Key, BucketContents]
    Properties: {Handle: !Ref Signal, Timeout: 1}
"""
"""A resource that fails after all others: nobody sends the signal that it waits for."""


def test_a_failed_first_deploy_leaves_nothing_in_the_way(checkout: Checkout) -> None:
    """Buckets and key are deleted in the rollback, and the same deploy then succeeds.

    The function that deletes the buckets with the stack is called in the rollback too.
    """
    build = checkout.directory / ".aws-sam" / "build"
    template = (build / "template.yaml").read_text()
    assert template.count("\nResources:\n") == 1
    (build / "broken.yaml").write_text(template.replace("\nResources:\n", BROKEN))

    def deploy(name: str) -> None:
        checkout.run(
            *("image-pipeline", "deploy", "--stack", "twice"),
            *("--template", f".aws-sam/build/{name}.yaml", "--no-verify"),
            *("--parameter", "InputBucketName=twice-input"),
            *("--parameter", "OutputBucketName=twice-output"),
            *("--parameter", "CreateKmsKey=true"),
            *("--parameter", "DeleteBucketContents=true"),
            *("--parameter", f"LambdaArchitecture={architecture()}"),
        )

    def keys() -> set[str]:
        ids = [each["KeyId"] for each in checkout.aws.kms.list_keys()["Keys"]]
        about = [checkout.aws.kms.describe_key(KeyId=each)["KeyMetadata"] for each in ids]
        return {each["KeyId"] for each in about if each["KeyState"] == "Enabled"}

    before = keys()
    with pytest.raises(AssertionError, match="sam deploy"):
        deploy("broken")
    cloudformation = checkout.aws.cloudformation
    (failed,) = cloudformation.describe_stacks(StackName="twice")["Stacks"]
    assert failed["StackStatus"] == "ROLLBACK_COMPLETE"
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName="twice")
    happened = {
        (each["LogicalResourceId"], each["ResourceStatus"])
        for page in pages
        for each in page["StackEvents"]
    }
    for name in ("InputBucket", "OutputBucket", "Key", "BucketContents"):
        assert {(name, "CREATE_COMPLETE"), (name, "DELETE_COMPLETE")} <= happened
    there = {each["Name"] for each in checkout.aws.s3.list_buckets()["Buckets"]}
    assert there.isdisjoint({"twice-input", "twice-output"})
    assert keys() == before
    with pytest.raises(AssertionError, match="delete-stack --stack-name twice"):
        deploy("template")
    delete(checkout.aws, "twice")
    deploy("template")
    assert Stack.find(checkout.aws, "twice").input_bucket == "twice-input"
    assert len(keys() - before) == 1


def test_buckets_of_a_deleted_stack_are_taken_back(checkout: Checkout) -> None:
    """`image-pipeline deploy --import-buckets` makes the stack again, and nothing is lost.

    The apostrophe in the prefix reaches the function and the backfill, which finds an image that
    was uploaded while there was no stack. The stack's key is taken back too.
    """

    def deploy(*options: str) -> str:
        return checkout.run(
            *("image-pipeline", "deploy", "--stack", "again", "--no-verify"),
            *("--template", ".aws-sam/build/template.yaml"),
            *("--parameter", "InputBucketName=again-input"),
            *("--parameter", "OutputBucketName=again-output"),
            *("--parameter", "CreateKmsKey=true"),
            *("--parameter", "InputPrefix=it's/"),
            *("--parameter", f"LambdaArchitecture={architecture()}"),
            *options,
        ).stdout

    def thumbnails() -> int:
        return s3.list_objects_v2(Bucket="again-output")["KeyCount"]

    s3 = checkout.aws.s3
    deploy()
    key = Stack.find(checkout.aws, "again").output("KeyArn")
    # The local AWS does not encrypt buckets as the template says.
    default: Any = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    s3.put_bucket_encryption(
        Bucket="again-output",
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": default}]
        },
    )
    s3.put_object(Bucket="again-input", Key="it's/1.jpg", Body=jpeg())
    until(lambda: thumbnails() == 2)
    delete(checkout.aws, "again")
    s3.put_object(Bucket="again-input", Key="it's/2.jpg", Body=jpeg())
    with pytest.raises(AssertionError, match="--import-buckets"):
        deploy()
    shown = deploy("--import-buckets", "--yes")
    assert "InputBucket (AWS::S3::Bucket): again-input" in shown
    assert "Key (AWS::KMS::Key)" in shown
    stack = Stack.find(checkout.aws, "again")
    assert stack.output("KeyArn") == key
    assert thumbnails() == 2
    s3.put_object(Bucket="again-input", Key="it's/3.jpg", Body=jpeg())
    until(lambda: thumbnails() == 4)
    checkout.run("image-pipeline", "backfill", "--stack", "again", "--yes")
    keys = {each["Key"] for each in s3.list_objects_v2(Bucket="again-output")["Contents"]}
    assert {"1_128w.webp", "2_128w.webp", "2_512w.webp", "3_128w.webp"} <= keys
    deploy("--import-buckets")  # nothing is left to import, so there is no question


def delete(aws: Aws, name: str) -> None:
    """Delete a stack, and wait for the end."""
    aws.cloudformation.delete_stack(StackName=name)
    waiter = aws.cloudformation.get_waiter("stack_delete_complete")
    waiter.wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def test_unbuilt_source_fails_with_instructions(checkout: Checkout) -> None:
    """`sam deploy --template-file iac/template.yaml` deploys source: init says how to build."""
    checkout.sam(
        "deploy",
        "--template-file",
        "iac/template.yaml",
        "--resolve-s3",
        "--capabilities",
        "CAPABILITY_NAMED_IAM",
        "--stack-name",
        "unbuilt",
        "--parameter-overrides",
        "InputBucketName=unbuilt-input",
        "OutputBucketName=unbuilt-output",
        f"LambdaArchitecture={architecture()}",
        "--no-confirm-changeset",
        "--region",
        LOCAL_REGION,
    )
    answer = checkout.aws.functions.invoke(FunctionName="unbuilt-thumbnail", Payload=b"{}")
    error = json.loads(answer["Payload"].read())
    assert answer["FunctionError"]
    assert "sam build" in error["errorMessage"]


READ = """
import json, sys
from samcli.cli.types import CfnParameterOverridesType
print(json.dumps(CfnParameterOverridesType().convert(sys.argv[1:], None, None)))
"""
"""Prints the parameters that SAM reads from the values of --parameter-overrides."""


def test_sam_reads_any_value_exactly(tmp_path: Path) -> None:
    """A value in the file that a deploy writes is read as it was meant by this SAM."""
    alphabet = ("\\", '"', "'", " ", "a", "$", ",")
    texts = ["".join(each) for length in range(5) for each in product(alphabet, repeat=length)]
    meant = {
        f"P{number}": text
        for number, text in enumerate([*texts, "two\nlines", "é 🎈", "\x7f\x85\ufeff", "[a]^!#"])
    }
    file = tmp_path / "it's 100% a file.yaml"
    file.write_text(parameters_file(meant))
    read = subprocess.run(  # noqa: S603 - our own tools
        [REPOSITORY / ".tools" / "sam" / "bin" / "python", "-c", READ, f"file://{file}"],
        stdout=subprocess.PIPE,
        check=True,
    )
    assert json.loads(read.stdout) == meant


@pytest.mark.slow
def test_make_deploy_takes_parameters(checkout: Checkout) -> None:
    """`make plan` shows a change set, `make deploy` applies it; both take PARAMETERS.

    PARAMETERS is one text, quoted as in a shell. `make record` and `make rollback` undo a deploy
    and its parameters. PARAMETERS_FILE names a JSON file such as iac/params.dev.json; PARAMETERS
    can be added to it.
    """
    for name in ("Makefile", "pyproject.toml", "requirements"):
        target = checkout.directory / name
        if not target.exists():
            target.symlink_to(REPOSITORY / name)
    for name in (".venv", ".tools"):
        (checkout.directory / name).symlink_to(REPOSITORY / name)
    summary = checkout.directory / "summary.md"

    def make(*arguments: str) -> None:
        checkout.run(
            *("make", "--assume-old=.venv/.ready", *arguments),
            STACK="made",
            PARAMETERS="InputBucketName=made-input OutputBucketName=made-output "
            f'CacheControl="public, max-age=60" LambdaArchitecture={architecture()}',
        )

    make("plan", f"SUMMARY={summary}")
    assert "ThumbnailFunction" in summary.read_text()
    buckets = [each["Name"] for each in checkout.aws.s3.list_buckets()["Buckets"]]
    assert "made-input" not in buckets
    make("deploy")
    assert Stack.find(checkout.aws, "made").settings.cache_control == "public, max-age=60"
    make("record")
    make(
        "deploy",
        "PARAMETERS=InputBucketName=made-input OutputBucketName=made-output "
        f"CacheControl=no-store LambdaArchitecture={architecture()}",
    )
    assert Stack.find(checkout.aws, "made").settings.cache_control == "no-store"
    make("rollback")
    assert Stack.find(checkout.aws, "made").settings.cache_control == "public, max-age=60"
    make("smoke")
    make(
        "deploy",
        "STACK=dev",
        "PARAMETERS_FILE=iac/params.dev.json",
        f"PARAMETERS=LambdaArchitecture={architecture()}",
    )
    stack = Stack.find(checkout.aws, "dev")
    assert stack.input_bucket == "my-image-pipeline-dev-input"
    assert stack.settings.log_level == "DEBUG"
