"""What a changed parameter does to a deployed stack, as the table in docs/deploy.md says.

The tests deploy one stack again and again, each time with another parameter and the same template.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import template
from botocore.exceptions import ClientError
from pictures import jpeg
from samtranslator.yaml_helper import yaml_parse
from serving import QUICK_AND_STRICT, client, log_lines, until
from test_docs import documented_effects
from test_upgrade import RELEASED, RENEWED, REPLACED, VERSIONS

from image_pipeline.build.package import packaged_template
from image_pipeline.local.stack import LocalStack
from image_pipeline.local.tools import architecture
from image_pipeline.ports import free_port
from image_pipeline.stack.deployed import ALIAS, Stack

pytestmark = pytest.mark.local_stack

OTHER_ARCHITECTURE: Final = {"arm64": "x86_64", "x86_64": "arm64"}[architecture()]
FAILED_UPDATE: Final = "UPDATE_ROLLBACK_COMPLETE"


BOUNDARY: Final = "arn:aws:iam::aws:policy/PowerUserAccess"


class Change(NamedTuple):
    """A change of parameters, and where it can be seen.

    `seen` is a value of the running stack, which is `expected` after the change and not before.
    """

    to: Mapping[str, str]
    seen: Callable[[Stack], Any]
    expected: Any


def live(stack: Stack) -> dict[str, Any]:
    """The configuration of the version that events invoke."""
    found: dict[str, Any] = stack.aws.functions.get_function_configuration(
        FunctionName=stack.function_name, Qualifier=ALIAS
    )  # type: ignore[assignment]
    return found


def variable(name: str) -> Callable[[Stack], Any]:
    """An environment variable of the version that events invoke."""
    return lambda stack: live(stack)["Environment"]["Variables"][name]


def invoke_config(name: str) -> Callable[[Stack], Any]:
    """A property of the alias's configuration for asynchronous events."""
    return lambda stack: stack.aws.functions.get_function_event_invoke_config(
        FunctionName=stack.function_name, Qualifier=ALIAS
    ).get(name)


def resources(stack: Stack) -> dict[str, tuple[str, str]]:
    """The stack's resources: logical id → type and physical id."""
    pages = stack.aws.cloudformation.get_paginator("list_stack_resources")
    return {
        each["LogicalResourceId"]: (each["ResourceType"], each["PhysicalResourceId"])
        for page in pages.paginate(StackName=stack.name)
        for each in page["StackResourceSummaries"]
    }


def output(name: str) -> Callable[[Stack], Any]:
    """An output of the stack as it is now."""
    return lambda stack: Stack.find(stack.aws, stack.name).outputs.get(name)


def encryption(stack: Stack) -> str:
    """The key that encrypts messages from now on; ministack's buckets have no encryption."""
    attributes = stack.aws.sqs.get_queue_attributes(
        QueueUrl=output("DeadLetterQueueUrl")(stack), AttributeNames=["KmsMasterKeyId"]
    )
    return attributes["Attributes"]["KmsMasterKeyId"]


def kept_ready(stack: Stack) -> int:
    """Execution environments that are kept ready for the alias."""
    functions = stack.aws.functions
    try:
        found = functions.get_provisioned_concurrency_config(
            FunctionName=stack.function_name, Qualifier=ALIAS
        )
    except functions.exceptions.ProvisionedConcurrencyConfigNotFoundException:
        return 0
    return found["RequestedProvisionedConcurrentExecutions"]


def former_keys(stack: Stack) -> list[str]:
    """What the function's role may decrypt in addition to its present key."""
    role = live(stack)["Role"].rpartition("/")[2]
    policy = client(stack.aws, "iam").get_role_policy(RoleName=role, PolicyName="thumbnails")
    statements = {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"]}
    return list(statements["UseFormerKeys"]["Resource"]) if "UseFormerKeys" in statements else []


def sends_events(stack: Stack) -> bool:
    """Whether the output bucket sends its events to EventBridge."""
    found = stack.aws.s3.get_bucket_notification_configuration(Bucket=output("OutputBucket")(stack))
    return "EventBridgeConfiguration" in found


def bucket_reader(stack: Stack) -> str | None:
    """ARN of the distribution that may read the output bucket."""
    policy = stack.aws.s3.get_bucket_policy(Bucket=output("OutputBucket")(stack))["Policy"]
    statements = {each["Sid"]: each for each in json.loads(policy)["Statement"]}
    reads = statements.get("CdnReads", {"Condition": {"StringEquals": {}}})
    found: str | None = reads["Condition"]["StringEquals"].get("aws:SourceArn")
    return found


def batches_at_a_time(stack: Stack) -> str:
    """The concurrency of a backfill that is started without one."""
    machine = stack.aws.states.describe_state_machine(
        stateMachineArn=output("BackfillStateMachineArn")(stack)
    )
    plan = json.loads(machine["definition"])["States"]["Plan"]["Output"]["concurrency"]
    return str(plan).removesuffix(" %}").rpartition(": ")[2]


def subscribers(stack: Stack) -> list[str]:
    """The endpoints that receive alarms."""
    topic = output("AlarmTopicArn")(stack)
    found = client(stack.aws, "sns").list_subscriptions_by_topic(TopicArn=topic)
    return [each["Endpoint"] for each in found["Subscriptions"]]


def log_retention(stack: Stack) -> int | None:
    """Days."""
    group = f"/aws/lambda/{stack.function_name}"
    (found,) = stack.aws.logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    return found.get("retentionInDays")


def upload_origins(stack: Stack) -> list[str]:
    """Origins whose pages may upload."""
    cors = stack.aws.s3.get_bucket_cors(Bucket=output("InputBucket")(stack))
    (rule,) = cors["CORSRules"]
    return rule["AllowedOrigins"]


FUNCTION: Final[dict[str, Change]] = {
    "ThumbnailSizes": Change({"ThumbnailSizes": "64"}, variable("THUMB_SIZES"), "64"),
    "ThumbnailFormats": Change(
        {"ThumbnailFormats": "webp,avif"}, variable("THUMB_FORMATS"), "webp,avif"
    ),
    "WebPQuality": Change({"WebPQuality": "70"}, variable("WEBP_QUALITY"), "70"),
    "AvifQuality": Change({"AvifQuality": "60"}, variable("AVIF_QUALITY"), "60"),
    "JpegQuality": Change({"JpegQuality": "80"}, variable("JPEG_QUALITY"), "80"),
    "BackgroundColor": Change(
        {"BackgroundColor": "#000000"}, variable("BACKGROUND_COLOR"), "#000000"
    ),
    "InputPrefix": Change({"InputPrefix": "in/"}, variable("INPUT_PREFIX"), "in/"),
    "OutputKeyTemplate": Change(
        {"OutputKeyTemplate": "{dir}{stem}-{size}.{format}"},
        variable("OUTPUT_KEY_TEMPLATE"),
        "{dir}{stem}-{size}.{format}",
    ),
    "CacheControl": Change({"CacheControl": "no-store"}, variable("CACHE_CONTROL"), "no-store"),
    "Animated": Change({"Animated": "false"}, variable("ANIMATED"), "false"),
    "WriteManifest": Change({"WriteManifest": "true"}, variable("WRITE_MANIFEST"), "true"),
    "DeleteWithOriginal": Change(
        {"DeleteWithOriginal": "true"}, variable("DELETE_WITH_ORIGINAL"), "true"
    ),
    "LogLevel": Change({"LogLevel": "DEBUG"}, variable("LOG_LEVEL"), "DEBUG"),
    "LambdaMemorySize": Change(
        {"LambdaMemorySize": "1024"}, lambda stack: live(stack)["MemorySize"], 1024
    ),
    "LambdaTimeout": Change({"LambdaTimeout": "60"}, lambda stack: live(stack)["Timeout"], 60),
    "XRayTracing": Change(
        {"XRayTracing": "true"}, lambda stack: live(stack)["TracingConfig"]["Mode"], "Active"
    ),
}
"""Parameters of a version of the function, each of which an upload can show."""

OTHERS: Final[dict[str, Change]] = {
    "LambdaArchitecture": Change(
        {"LambdaArchitecture": OTHER_ARCHITECTURE},
        lambda stack: live(stack)["Architectures"],
        [OTHER_ARCHITECTURE],
    ),
    "LambdaReservedConcurrency": Change(
        {"LambdaReservedConcurrency": "3"},
        lambda stack: stack.aws.functions.get_function_concurrency(
            FunctionName=stack.function_name
        ).get("ReservedConcurrentExecutions"),
        3,
    ),
    "LambdaProvisionedConcurrency": Change({"LambdaProvisionedConcurrency": "1"}, kept_ready, 1),
    "MaximumRetryAttempts": Change(
        {"MaximumRetryAttempts": "1"}, invoke_config("MaximumRetryAttempts"), 1
    ),
    "MaximumEventAge": Change(
        {"MaximumEventAge": "3600"}, invoke_config("MaximumEventAgeInSeconds"), 3600
    ),
    "OutputEvents": Change({"OutputEvents": "true"}, sends_events, expected=True),
    "AlarmEmail": Change({"AlarmEmail": "a@b.example"}, subscribers, ["a@b.example"]),
    "ExistingDistribution": Change(
        {"ExistingDistribution": template.DISTRIBUTION}, bucket_reader, template.DISTRIBUTION
    ),
    "BackfillMaximum": Change({"BackfillMaximum": "7"}, output("BackfillMaximum"), "7"),
    "BackfillConcurrency": Change({"BackfillConcurrency": "9"}, batches_at_a_time, "9"),
    "LogRetentionDays": Change({"LogRetentionDays": "7"}, log_retention, 7),
    "UploadOrigins": Change(
        {"UploadOrigins": "https://a.example"}, upload_origins, ["https://a.example"]
    ),
    "BucketVersioning": Change(
        {"BucketVersioning": "true"},
        lambda stack: stack.aws.s3.get_bucket_versioning(Bucket=output("OutputBucket")(stack)).get(
            "Status"
        ),
        "Enabled",
    ),
}
"""The other parameters whose change can be seen in one place."""


def distribution(stack: Stack) -> dict[str, Any]:
    """The configuration of the distribution."""
    front = client(stack.aws, "cloudfront")
    found: dict[str, Any] = front.get_distribution_config(Id=output("DistributionId")(stack))
    return found["DistributionConfig"]  # type: ignore[no-any-return]


def allowed_origins(stack: Stack) -> list[str]:
    """Origins whose scripts may read what the distribution serves."""
    exact = distribution(stack)["CacheBehaviors"]["Items"][0]
    policy = exact["ResponseHeadersPolicyId"]
    found = client(stack.aws, "cloudfront").get_response_headers_policy_config(Id=policy)
    cors = found["ResponseHeadersPolicyConfig"]["CorsConfig"]
    return list(cors["AccessControlAllowOrigins"]["Items"])


def negotiated(stack: Stack) -> str:
    """The line of the published function that has the formats."""
    name = resources(stack)["Negotiation"][1]
    code = client(stack.aws, "cloudfront").get_function(Name=name, Stage="LIVE")["FunctionCode"]
    return next(line for line in code.read().decode().splitlines() if "FORMATS =" in line)


OTHER_CERTIFICATE: Final = template.CERTIFICATE.replace("1234abcd", "0000abcd")
OWN_DOMAIN: Final = {"CdnDomain": "img.example.com", "CdnCertificateArn": template.CERTIFICATE}

CDN: Final[dict[str, Change]] = {
    "CdnFormats": Change(
        {"CdnFormats": "avif"},
        lambda stack: "=> 'avif'.includes" in negotiated(stack),
        expected=True,
    ),
    "CdnPriceClass": Change(
        {"CdnPriceClass": "PriceClass_100"},
        lambda stack: distribution(stack)["PriceClass"],
        "PriceClass_100",
    ),
    "CdnAllowedOrigins": Change(
        {"CdnAllowedOrigins": "https://a.example"}, allowed_origins, ["https://a.example"]
    ),
    "CdnDomain": Change(OWN_DOMAIN, output("ThumbnailsUrl"), "https://img.example.com"),
    "CdnCertificateArn": Change(
        OWN_DOMAIN | {"CdnCertificateArn": OTHER_CERTIFICATE},
        lambda stack: distribution(stack)["ViewerCertificate"].get("ACMCertificateArn"),
        OTHER_CERTIFICATE,
    ),
    "CdnInvalidate": Change(
        {"CdnInvalidate": "true"},
        lambda stack: bool(variable("CDN_DISTRIBUTION")(stack)),
        expected=True,
    ),
    "CdnPublicKey": Change(
        {"CdnPublicKey": template.PUBLIC_KEY},
        lambda stack: "TrustedKeyGroups" in distribution(stack)["DefaultCacheBehavior"],
        expected=True,
    ),
}
"""Parameters that need Cdn=true."""


class Updated:
    """A stack that is updated again and again."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        body: Any = stack.aws.cloudformation.get_template(
            StackName=stack.name, TemplateStage="Original"
        )["TemplateBody"]
        self.template: dict[str, Any] = yaml_parse(body) if isinstance(body, str) else body
        stack.aws.s3.create_bucket(Bucket="templates")

    def update(self, **parameters: str) -> str:
        """Deploy with changed parameters; return the status of the stack afterwards.

        It is UPDATE_COMPLETE if there is nothing to change, too.
        """
        cloudformation, s3 = self.stack.aws.cloudformation, self.stack.aws.s3
        where = {"Bucket": "templates", "Key": "template.json"}
        s3.put_object(**where, Body=json.dumps(self.template).encode())
        names = template.source()["Parameters"]
        try:
            cloudformation.update_stack(
                StackName=self.stack.name,
                TemplateURL=s3.generate_presigned_url("get_object", Params=where),
                Parameters=[
                    (
                        {"ParameterKey": name, "ParameterValue": parameters[name]}
                        if name in parameters
                        else {"ParameterKey": name, "UsePreviousValue": True}
                    )
                    for name in names
                ],
                Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
            )
        except ClientError as error:
            if "No updates are to be performed" not in str(error):
                raise
            return "UPDATE_COMPLETE"

        def status() -> str | None:
            found = cloudformation.describe_stacks(StackName=self.stack.name)["Stacks"][0]
            done = not found["StackStatus"].endswith("_IN_PROGRESS")
            return found["StackStatus"] if done else None

        return str(until(status, seconds=60))

    def effect(self, **parameters: str) -> str:
        """Change parameters; return the effect by the words of the table in docs/deploy.md."""
        before, version = resources(self.stack), self.stack.live_version()
        status = self.update(**parameters)
        after = resources(self.stack)
        if status != "UPDATE_COMPLETE":
            assert (status, after) == (FAILED_UPDATE, before)
            return "refused"
        gone = {
            name
            for name, each in before.items()
            if each[0] not in RENEWED and after.get(name) != each
        }
        if gone & {"InputBucket", "OutputBucket"}:
            return "replaced"
        cdn = {name for name in gone - after.keys() if "CloudFront" in before[name][0]}
        assert gone == cdn, "replaced without being in the table"
        return "in place" if self.stack.live_version() == version else "new version"


@pytest.fixture(scope="module")
def updated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Updated]:
    """A stack with the default parameters."""
    local = LocalStack(tmp_path_factory.mktemp("stack"), variables=QUICK_AND_STRICT)
    try:
        local.start(free_port(), detach=False, report=lambda _: None)
        yield Updated(local.stack())
    finally:
        local.stop()


def check(updated: Updated, parameter: str, change: Change) -> None:
    """Make the change; what the table says happens, and what runs shows it."""
    assert change.seen(updated.stack) != change.expected
    assert updated.effect(**change.to) == documented_effects()[parameter]
    assert change.seen(updated.stack) == change.expected


@pytest.mark.parametrize("parameter", FUNCTION)
def test_a_setting_of_the_function_reaches_the_alias(updated: Updated, parameter: str) -> None:
    """Alone, without new code: the alias moves to a new version, which has it."""
    check(updated, parameter, FUNCTION[parameter])


def test_uploads_get_all_of_the_changed_settings(updated: Updated) -> None:
    """An upload under the new prefix gets the new width, formats, name, header and manifest."""
    updated.update(**{name: value for each in FUNCTION.values() for name, value in each.to.items()})
    stack = Stack.find(updated.stack.aws, updated.stack.name)
    s3, bucket = stack.aws.s3, stack.settings.output_bucket
    s3.put_object(Bucket=stack.input_bucket, Key="in/a.jpg", Body=jpeg())

    def keys() -> list[str]:
        found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        return [each["Key"] for each in found]

    until(lambda: keys() == ["a-64w.avif", "a-64w.webp", "a.json"])
    assert s3.head_object(Bucket=bucket, Key="a-64w.avif")["CacheControl"] == "no-store"


def test_only_one_version_is_kept(updated: Updated) -> None:
    """However many versions have been published: the one that the alias uses."""
    assert versions(updated.stack) == ["$LATEST", updated.stack.live_version()]


def versions(stack: Stack) -> list[str]:
    """The versions of the function that exist."""
    answer = stack.aws.functions.list_versions_by_function(FunctionName=stack.function_name)
    return [each["Version"] for each in answer["Versions"]]


BROKEN: Final = {
    "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
    "Broken": {
        "Type": "AWS::CloudFormation::WaitCondition",
        "DependsOn": "ThumbnailFunctionAliaslive",
        "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": "1"},
    },
}
"""Resources that fail once the alias has moved to a new version, because nobody signals."""


def test_an_update_that_failed_can_be_repeated(updated: Updated) -> None:
    """It is rolled back after its version was published, and leaves nothing in the way of a retry.

    The same update fails for the same reason only, and succeeds when that is fixed. On AWS a
    version that is left over would fail it: Lambda does not publish the same twice.
    """
    stack, kept = updated.stack, versions(updated.stack)
    whole, quality = updated.template, variable("WEBP_QUALITY")(stack)
    updated.template = {**whole, "Resources": whole["Resources"] | BROKEN}
    for _ in range(2):
        assert updated.effect(WebPQuality="50") == "refused"
        assert failures(stack) == {"Broken"}
        assert variable("WEBP_QUALITY")(stack) == quality
        assert versions(stack) == kept
    updated.template = whole
    assert updated.effect(WebPQuality="50") == "new version"
    assert variable("WEBP_QUALITY")(stack) == "50"


def failures(stack: Stack) -> set[str]:
    """The resources that failed in any update so far."""
    events = stack.aws.cloudformation.describe_stack_events(StackName=stack.name)["StackEvents"]
    ends = ("CREATE_FAILED", "UPDATE_FAILED")
    return {
        each["LogicalResourceId"]
        for each in events
        if each["ResourceStatus"] in ends and each["LogicalResourceId"] != stack.name
    }


def without_a_number(whole: dict[str, Any]) -> dict[str, Any]:
    """The template as earlier versions had it: with parameters in the version's description."""
    older: dict[str, Any] = json.loads(json.dumps(whole))
    for name in ("SettingsApplication", "SettingsProfile", "SettingsVersion"):
        del older["Resources"][name]
    function = older["Resources"]["ThumbnailFunction"]
    del function["DeletionPolicy"], function["UpdateReplacePolicy"]
    properties = function["Properties"]
    properties["VersionDescription"] = {"Fn::Sub": "${ThumbnailSizes}|${WebPQuality}"}
    del properties["Environment"]["Variables"]["SETTINGS_VERSION"]
    return older


def test_a_stack_of_an_earlier_template_updates_in_place(updated: Updated) -> None:
    """And back, as a rollback does: each makes a version, and no other resource is replaced."""
    whole, stack = updated.template, updated.stack
    before, published = resources(stack), {stack.live_version()}
    for each in (without_a_number(whole), whole):
        updated.template = each
        assert updated.update() == "UPDATE_COMPLETE"
        assert stack.live_version() not in published
        published.add(stack.live_version())
    settings = {"SettingsApplication", "SettingsProfile"}
    after = resources(stack)
    lost = {
        name
        for name, each in before.items()
        if each[0] not in RENEWED and name not in settings and after.get(name) != each
    }
    assert not lost


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stack_of_the_last_release_becomes_one_of_this_package(
    updated: Updated, version: str
) -> None:
    """No thumbnail is made again, nothing is replaced but what docs/upgrade.md names.

    Both are packaged templates, which CloudFormation takes by their URL. Both get the code of this
    version, because that of the release is not kept.
    """
    aws, name = updated.stack.aws, "released"
    code = updated.template["Resources"]["ThumbnailFunction"]["Properties"]["CodeUri"]
    bucket, _, key = code.removeprefix("s3://").partition("/")
    names = {"InputBucketName": "released-input", "OutputBucketName": "released-output"}

    def deploy(iac: Path, action: Callable[..., object], parameters: list[dict[str, Any]]) -> Stack:
        whole = packaged_template(iac, key, "0" * 64, [architecture()], bucket)
        where = {"Bucket": "templates", "Key": "packaged.json"}
        aws.s3.put_object(**where, Body=json.dumps(whole).encode())
        action(
            StackName=name,
            TemplateURL=aws.s3.generate_presigned_url("get_object", Params=where),
            Parameters=parameters,
            Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        )

        def status() -> str | None:
            found = aws.cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
            return None if found.endswith("_IN_PROGRESS") else found

        assert until(status, seconds=60) in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
        return Stack.find(aws, name)

    def thumbnails(picture: str) -> dict[str, str]:
        """Key → ETag."""
        found = aws.s3.list_objects_v2(Bucket=names["OutputBucketName"], Prefix=picture)
        return {each["Key"]: each["ETag"] for each in found.get("Contents", [])}

    def upload(picture: str) -> dict[str, str]:
        aws.s3.put_object(
            Bucket=names["InputBucketName"], Key=f"uploads/{picture}.jpg", Body=jpeg()
        )
        until(lambda: len(thumbnails(picture)) == 2)
        return thumbnails(picture)

    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in names.items()]
    old = deploy(RELEASED / version, aws.cloudformation.create_stack, given)
    assert "Version" not in old.outputs
    made, before = upload("old"), resources(old)
    kept = [{"ParameterKey": each, "UsePreviousValue": True} for each in old.parameters]
    new = deploy(template.PATH.parent, aws.cloudformation.update_stack, kept)
    assert new.outputs["Version"] == template.source()["Outputs"]["Version"]["Value"]
    after = resources(new)
    replaced = {
        each
        for each, found in before.items()
        if found[0] not in RENEWED and after.get(each) != found
    }
    assert replaced == REPLACED
    assert old.parameters.items() <= new.parameters.items()
    assert old.outputs.keys() <= new.outputs.keys()
    assert thumbnails("old") == made
    assert sorted(upload("new")) == ["new_128w.webp", "new_512w.webp"]
    started = '"action":"init","version":"' + new.outputs["Version"]
    assert [line for line in log_lines(aws, f"/aws/lambda/{new.function_name}") if started in line]


def test_a_name_that_is_taken_is_refused(updated: Updated) -> None:
    """The bucket of that name stays as it is, and so does the stack."""
    updated.stack.aws.s3.create_bucket(Bucket="taken")
    for parameter in ("InputBucketName", "OutputBucketName"):
        assert updated.effect(**{parameter: "taken"}) == "refused"


@pytest.mark.parametrize("parameter", OTHERS)
def test_any_other_parameter_takes_effect(updated: Updated, parameter: str) -> None:
    """As the table says; no resource is replaced that the table does not name."""
    check(updated, parameter, OTHERS[parameter])


def test_the_cdn_is_added_to_a_stack(updated: Updated) -> None:
    """Nothing is replaced."""
    updated.update(ExistingDistribution="")  # the other way to have one
    change = Change(
        {"Cdn": "true"}, lambda stack: "Distribution" in resources(stack), expected=True
    )
    check(updated, "Cdn", change)


@pytest.mark.parametrize("parameter", CDN)
def test_a_setting_of_the_cdn_takes_effect(updated: Updated, parameter: str) -> None:
    """The distribution stays, so its domain does."""
    updated.update(Cdn="true", ThumbnailFormats="webp,avif")
    before = resources(updated.stack)["Distribution"]
    check(updated, parameter, CDN[parameter])
    assert resources(updated.stack)["Distribution"] == before


def test_the_cdn_is_removed_from_a_stack(updated: Updated) -> None:
    """With everything that belongs to it. Another public key is refused while it is there."""
    updated.update(Cdn="true", CdnPublicKey=template.PUBLIC_KEY)
    other = template.PUBLIC_KEY.replace("EfRCfm", "EfRCfn")
    assert updated.effect(CdnPublicKey=other) == "refused"
    assert updated.effect(Cdn="false") == documented_effects()["Cdn"]
    assert not [kind for kind, _ in resources(updated.stack).values() if "CloudFront" in kind]
    assert output("ThumbnailsUrl")(updated.stack) is None
    assert updated.effect(CdnFormats="", ThumbnailFormats="webp") != "refused"


@pytest.mark.parametrize("parameter", ["InputBucketName", "OutputBucketName"])
def test_a_renamed_bucket_is_a_new_one(updated: Updated, parameter: str) -> None:
    """The old bucket stays with its objects; the function uses the new one."""
    stack = updated.stack
    name = {"InputBucketName": "InputBucket", "OutputBucketName": "OutputBucket"}[parameter]
    old = output(name)(stack)
    stack.aws.s3.put_object(Bucket=old, Key="kept", Body=b"kept")
    change = Change({parameter: f"renamed-{name.lower()}"}, output(name), f"renamed-{name.lower()}")
    check(updated, parameter, change)
    assert stack.aws.s3.get_object(Bucket=old, Key="kept")["Body"].read() == b"kept"
    environment = live(stack)["Environment"]["Variables"]
    assert change.expected in (environment["INPUT_BUCKET"], environment["OUTPUT_BUCKET"])


def test_a_key_that_is_changed_or_removed_is_kept(updated: Updated) -> None:
    """The key that the stack made is enabled afterwards, and the role may decrypt with it.

    Its removal comes with the ARN in FormerKmsKeyArns, as docs/security.md asks.
    """
    stack, kms = updated.stack, client(updated.stack.aws, "kms")
    own = kms.create_key()["KeyMetadata"]["Arn"]
    check(updated, "KmsKeyArn", Change({"KmsKeyArn": own}, encryption, own))
    both = {"KmsKeyArn": "", "CreateKmsKey": "true", "FormerKmsKeyArns": own}
    assert updated.effect(**both) == documented_effects()["CreateKmsKey"]
    made = output("KeyArn")(stack)
    assert encryption(stack) == made != own
    assert former_keys(stack) == [own]
    removed = {"CreateKmsKey": "false", "FormerKmsKeyArns": f"{own},{made}"}
    update = updated.update(**removed)
    assert update == "UPDATE_COMPLETE"
    assert documented_effects()["FormerKmsKeyArns"] == "in place"
    assert former_keys(stack) == [own, made]
    assert encryption(stack) == "alias/aws/sqs"
    assert "Key" not in resources(stack)
    assert kms.describe_key(KeyId=made)["KeyMetadata"]["KeyState"] == "Enabled"


def test_an_existing_bucket_stays_and_cannot_become_the_stacks(updated: Updated) -> None:
    """The bucket leaves the stack; back, the update is refused, because the bucket exists."""
    stack = updated.stack
    bucket = output("InputBucket")(stack)
    change = Change(
        {"ExistingInputBucket": "true"},
        lambda stack: "UploadRule" in resources(stack),
        expected=True,
    )
    check(updated, "ExistingInputBucket", change)
    stack.aws.s3.head_bucket(Bucket=bucket)
    assert updated.effect(ExistingInputBucket="false") == "refused"
    stack.aws.s3.head_bucket(Bucket=bucket)


def test_the_deletion_of_the_contents_is_for_the_end(updated: Updated) -> None:
    """The parameter adds what deletes them, and deletes nothing now."""
    stack = updated.stack
    objects = stack.aws.s3.list_objects_v2(Bucket=output("InputBucket")(stack))["KeyCount"]
    change = Change(
        {"DeleteBucketContents": "true"},
        lambda stack: "BucketContents" in resources(stack),
        expected=True,
    )
    check(updated, "DeleteBucketContents", change)
    found = stack.aws.s3.list_objects_v2(Bucket=output("InputBucket")(stack))["KeyCount"]
    assert found == objects


def test_a_permissions_boundary_is_for_all_roles(updated: Updated) -> None:
    """Only roles change, and all of them. ministack's roles of a template have no boundary."""
    assert updated.effect(PermissionsBoundaryArn=BOUNDARY) == "in place"
    one = template.Deployed().resources
    other = template.Deployed(PermissionsBoundaryArn=BOUNDARY).resources
    changed = {name for name in {*one, *other} if one.get(name) != other.get(name)}
    assert changed == {name for name, each in one.items() if each["Type"] == "AWS::IAM::Role"}
    assert documented_effects()["PermissionsBoundaryArn"] == "in place"


@pytest.mark.parametrize(
    ("parameter", "before", "after"),
    [
        ("GradualDeployment", {}, {"GradualDeployment": "true"}),
        (
            "GradualDeploymentType",
            {"GradualDeployment": "true"},
            {"GradualDeployment": "true", "GradualDeploymentType": "Linear10PercentEvery1Minute"},
        ),
    ],
)
def test_a_gradual_deployment_is_for_the_next_version(
    parameter: str, before: dict[str, str], after: dict[str, str]
) -> None:
    """Only CodeDeploy's resources and the alias's policy change. ministack has no CodeDeploy."""
    one, other = template.Deployed(**before).resources, template.Deployed(**after).resources
    changed = {name for name in {*one, *other} if one.get(name) != other.get(name)}
    assert changed
    assert changed <= {
        "ServerlessDeploymentApplication",
        "ThumbnailFunctionDeploymentGroup",
        "DeploymentRole",
        "ThumbnailFunctionAliaslive",
    }
    assert documented_effects()[parameter] == "in place"


def test_every_parameter_is_changed_here() -> None:
    """A new parameter needs a row in the table and a test that changes it."""
    buckets = {"InputBucketName", "OutputBucketName", "ExistingInputBucket", "DeleteBucketContents"}
    others = {"GradualDeployment", "GradualDeploymentType", "PermissionsBoundaryArn"}
    keys = {"KmsKeyArn", "CreateKmsKey", "FormerKmsKeyArns"}
    others |= {"Cdn", *CDN}
    assert {*FUNCTION, *OTHERS} | buckets | keys | others == template.source()["Parameters"].keys()
