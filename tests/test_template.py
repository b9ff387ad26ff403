"""The template: what each parameter does, and what no emulator enforces."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import template
from hypothesis import given, settings
from hypothesis import strategies as st
from template import Deployed, accepts

from thumbnailer.settings import Settings

KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
LOG_STREAMS = (
    "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/my-image-pipeline-thumbnail:*"
)
INPUT, OUTPUT = "arn:aws:s3:::my-input-bucket", "arn:aws:s3:::my-output-bucket"


def environment(deployed: Deployed) -> dict[str, str]:
    variables = deployed.properties("ThumbnailFunction")["Environment"]["Variables"]
    return {name: str(value) for name, value in variables.items()}


def statements(deployed: Deployed) -> dict[str, dict[str, Any]]:
    (policy,) = deployed.properties("ThumbnailRole")["Policies"]
    return {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"]}


# --- parameters: what is taken ------------------------------------------------------------------
GOOD_AND_BAD: dict[str, tuple[list[str], list[str]]] = {
    "InputBucketName": (["abc", "my.bucket-1", "a" * 63], ["", "ab", "A-Bucket", "-abc", "a" * 64]),
    "OutputBucketName": (["abc", "my.bucket-1", "a" * 63], ["", "ab", "A-Bucket", "abc-", "a_c"]),
    "InputPrefix": (["uploads/", "a", "in/2026/img-"], ["", "a*", "a?", "${x}", "a b", "a" * 33]),
    "UploadOrigins": (
        ["https://a.example", "http://127.0.0.1:*,https://*.a.example", "http://localhost:8080"],
        [
            *("", "*", "a.example", "https://a.example/", "https://a.example,*", "http://"),
            *("https://*.*.example", "https://*.a.example:*", "https://*:*", "https://:99999"),
        ],
    ),
    "BucketVersioning": (["true", "false"], ["", "yes"]),
    "ThumbnailSizes": (
        ["128", "128,512", " 64, 16383 ", "1,2,3"],
        ["", "0", "16384", "128,", "128;512", "-1", "1e3", "99999"],
    ),
    "WebPQuality": (["1", "85", "100"], ["0", "101", "high", ""]),
    "OutputKeyTemplate": (
        ["{dir}{stem}_{width}w.webp", "{stem}{width}", "t/{width}/{dir}{stem}.{ext}.webp"],
        ["", "{stem}.webp", "{width}.webp", "{stem}{width}{x}", "{stem}{width", "{stem}{width}}"],
    ),
    "Animated": (["true", "false"], ["", "yes"]),
    "WriteManifest": (["true", "false"], ["", "1"]),
    "DeleteWithOriginal": (["true", "false"], ["", "1"]),
    "ExistingInputBucket": (["true", "false"], ["", "1"]),
    "DeleteBucketContents": (["true", "false"], ["", "1"]),
    "GradualDeployment": (["true", "false"], ["", "1"]),
    "GradualDeploymentType": (["Canary10Percent5Minutes"], ["", "AllAtOnce"]),
    "AlarmEmail": (["", "a@b.example"], ["a", "a@b", "a b@c.de", "@b.example"]),
    "BackfillMaximum": (["1", "100000", "100000000"], ["0", "100000001", "all"]),
    "CacheControl": (["", "no-store", "public, max-age=86400"], ["a\nb", "é", "x" * 41]),
    "LambdaMemorySize": (["256", "512", "10240"], ["128", "10241", "lots"]),
    "LambdaTimeout": (["10", "900"], ["9", "901"]),
    "LambdaArchitecture": (["arm64", "x86_64"], ["", "amd64"]),
    "LambdaProvisionedConcurrency": (["0", "1", "1000"], ["-1", "1001"]),
    "LambdaReservedConcurrency": (["", "1", "9999"], ["0", "-1", "ten", "10000"]),
    "MaximumRetryAttempts": (["0", "2"], ["3", "-1"]),
    "MaximumEventAge": (["60", "21600"], ["59", "21601"]),
    "KmsKeyArn": (
        ["", KEY, KEY.replace("arn:aws:", "arn:aws-us-gov:")],
        ["alias/mine", KEY.replace("key/", "alias/"), "1234abcd-12ab-34cd-56ef-1234567890ab"],
    ),
    "CreateKmsKey": (["true", "false"], ["", "1"]),
    "LogLevel": (["DEBUG", "INFO", "WARNING", "ERROR"], ["", "info", "TRACE"]),
    "LogRetentionDays": (["1", "30", "3653"], ["0", "2", "31", "forever"]),
    "XRayTracing": (["true", "false"], ["", "on"]),
}


@pytest.mark.parametrize("name", sorted(template.source()["Parameters"]))
def test_a_wrong_value_fails_at_the_change_set(name: str) -> None:
    """Every parameter is bounded by the template itself, so a typing error touches nothing."""
    good, bad = GOOD_AND_BAD[name]
    assert [value for value in good if not accepts(name, value)] == []
    assert [value for value in bad if accepts(name, value)] == []


def test_the_defaults_are_accepted_and_are_those_of_the_function() -> None:
    """A stack with only its buckets named runs as a function with only its buckets named."""
    for name, value in template.parameters().items():
        assert accepts(name, value), name
    deployed = Settings.from_environment(
        environment(Deployed()) | {"DLQ_URL": "https://q.example/1"}
    )
    assert deployed == Settings(
        deployed.output_bucket, deployed.dead_letter_queue_url, input_bucket=deployed.input_bucket
    )


def text(parameter: str) -> st.SearchStrategy[str]:
    about = template.source()["Parameters"][parameter]
    longest = about.get("MaxLength", 63)
    pattern = re.compile(
        about["AllowedPattern"].replace("(?=.*\\{stem\\})(?=.*\\{width\\})", ""), re.ASCII
    )
    return st.from_regex(pattern, fullmatch=True).filter(
        lambda value: len(value) <= longest and accepts(parameter, value)
    )


@settings(max_examples=50)
@given(
    st.fixed_dictionaries(
        {
            "ThumbnailSizes": text("ThumbnailSizes").filter(
                lambda value: len({int(each) for each in value.split(",")}) == value.count(",") + 1
            ),
            "InputPrefix": text("InputPrefix"),
            "CacheControl": text("CacheControl"),
            "InputBucketName": text("InputBucketName"),
            "OutputBucketName": text("OutputBucketName"),
            "WebPQuality": st.integers(1, 100).map(str),
        }
    )
)
def test_what_the_template_takes_the_function_takes(values: dict[str, str]) -> None:
    """No value passes the change set only to stop the function at init.

    One exception is known: a width named twice, which no pattern can see.
    """
    variables = {
        "THUMB_SIZES": values["ThumbnailSizes"],
        "INPUT_PREFIX": values["InputPrefix"],
        "CACHE_CONTROL": values["CacheControl"],
        "INPUT_BUCKET": values["InputBucketName"],
        "OUTPUT_BUCKET": values["OutputBucketName"],
        "WEBP_QUALITY": values["WebPQuality"],
        "DLQ_URL": "https://sqs.example/1/q",
    }
    assert Settings.from_environment(variables)


def test_equal_buckets_are_refused() -> None:
    """Thumbnails in the input bucket would be uploads: the rule names both parameters."""
    assert Deployed().broken_rules() == []
    (why,) = Deployed(OutputBucketName="my-input-bucket").broken_rules()
    assert "InputBucketName and OutputBucketName must differ" in why


def test_two_keys_are_refused() -> None:
    """Either a key of one's own or a new one."""
    assert Deployed(KmsKeyArn=KEY).broken_rules() == []
    assert Deployed(CreateKmsKey="true").broken_rules() == []
    assert len(Deployed(KmsKeyArn=KEY, CreateKmsKey="true").broken_rules()) == 1


# --- parameters: what they do -------------------------------------------------------------------
@pytest.mark.parametrize(
    ("parameter", "value", "variable"),
    [
        ("InputBucketName", "somewhere", "INPUT_BUCKET"),
        ("OutputBucketName", "elsewhere", "OUTPUT_BUCKET"),
        ("ThumbnailSizes", "64,256", "THUMB_SIZES"),
        ("WebPQuality", "70", "WEBP_QUALITY"),
        ("InputPrefix", "in/", "INPUT_PREFIX"),
        ("OutputKeyTemplate", "{stem}-{width}", "OUTPUT_KEY_TEMPLATE"),
        ("CacheControl", "no-store", "CACHE_CONTROL"),
        ("Animated", "false", "ANIMATED"),
        ("WriteManifest", "true", "WRITE_MANIFEST"),
        ("DeleteWithOriginal", "true", "DELETE_WITH_ORIGINAL"),
        ("LogLevel", "DEBUG", "LOG_LEVEL"),
    ],
)
def test_a_parameter_is_the_function_s_variable(parameter: str, value: str, variable: str) -> None:
    """What the function is told is what was deployed."""
    assert environment(Deployed(**{parameter: value}))[variable] == value


def test_every_variable_is_one_that_the_function_reads() -> None:
    """A name misspelt in the template would be ignored by the function."""
    read = set(re.findall(r'read\(\s*"([A-Z_]+)"', _settings_source()))
    assert set(environment(Deployed())) == read - {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE"}


def _settings_source() -> str:
    from thumbnailer import settings as module  # noqa: PLC0415

    return Path(str(module.__file__)).read_text()


@pytest.mark.parametrize(
    ("parameter", "value", "name", "expected"),
    [
        ("LambdaMemorySize", "1024", "MemorySize", 1024),
        ("LambdaTimeout", "60", "Timeout", 60),
        ("LambdaArchitecture", "x86_64", "Architectures", ["x86_64"]),
        ("LambdaReservedConcurrency", "10", "ReservedConcurrentExecutions", 10),
        ("XRayTracing", "true", "TracingConfig", {"Mode": "Active"}),
    ],
)
def test_a_parameter_is_the_function_s_property(
    parameter: str, value: str, name: str, expected: object
) -> None:
    """Memory, time-out, architecture, concurrency and tracing reach the function."""
    found = Deployed(**{parameter: value}).properties("ThumbnailFunction")[name]
    assert str(found) == str(expected)


def test_the_buckets_have_the_names_that_were_given() -> None:
    """And the role, the notification and the function follow them."""
    deployed = Deployed(InputBucketName="in-1", OutputBucketName="out-1")
    assert deployed.properties("InputBucket")["BucketName"] == "in-1"
    assert deployed.properties("OutputBucket")["BucketName"] == "out-1"
    assert statements(deployed)["ReadUploads"]["Resource"] == "arn:aws:s3:::in-1/uploads/*"
    assert statements(deployed)["ReadAndWriteThumbnails"]["Resource"] == "arn:aws:s3:::out-1/*"


def test_what_is_off_by_default_is_not_there() -> None:
    """No reserved and no provisioned concurrency, no key, no versioning, no active tracing."""
    deployed = Deployed()
    function = deployed.properties("ThumbnailFunction")
    assert "ReservedConcurrentExecutions" not in function
    assert function["TracingConfig"] == {"Mode": "PassThrough"}
    assert "ProvisionedConcurrencyConfig" not in deployed.properties("ThumbnailFunctionAliaslive")
    assert deployed.of_type("AWS::KMS::Key") == {}
    assert "VersioningConfiguration" not in deployed.properties("InputBucket")


def test_provisioned_concurrency_keeps_the_alias_warm() -> None:
    """It belongs to the alias, which is what S3 invokes."""
    alias = Deployed(LambdaProvisionedConcurrency=2).properties("ThumbnailFunctionAliaslive")
    config = alias["ProvisionedConcurrencyConfig"]
    assert str(config["ProvisionedConcurrentExecutions"]) == "2"


def test_retries_and_age_are_the_alias_s() -> None:
    """An event invoke config of the function would not hold for events to its alias."""
    config = Deployed(MaximumRetryAttempts=1, MaximumEventAge=3600).properties(
        "ThumbnailFunctionEventInvokeConfig"
    )
    assert config["Qualifier"] == "live"
    assert str(config["MaximumRetryAttempts"]) == "1"
    assert str(config["MaximumEventAgeInSeconds"]) == "3600"
    assert config["DestinationConfig"]["OnFailure"]["Destination"] == "DeadLetterQueue.Arn"


def test_logs_are_json_and_kept_as_long_as_told() -> None:
    """The group is the stack's, so that it has a retention; metrics pass at every level."""
    deployed = Deployed(LogRetentionDays=7)
    logging = deployed.properties("ThumbnailFunction")["LoggingConfig"]
    assert logging == {"LogFormat": "JSON", "LogGroup": "FunctionLogs"}
    group = deployed.properties("FunctionLogs")
    assert str(group["RetentionInDays"]) == "7"
    assert group["LogGroupName"] == "/aws/lambda/my-image-pipeline-thumbnail"


@pytest.mark.parametrize("bucket", ["InputBucket", "OutputBucket"])
def test_versioning_is_kept_for_both_buckets(bucket: str) -> None:
    """BucketVersioning=true protects uploads and thumbnails alike."""
    found = Deployed(BucketVersioning="true").properties(bucket)["VersioningConfiguration"]
    assert found == {"Status": "Enabled"}


# --- a changed parameter reaches what runs ------------------------------------------------------
CHANGES = {
    "ThumbnailSizes": "64",
    "WebPQuality": "70",
    "InputPrefix": "in/",
    "OutputKeyTemplate": "{stem}-{width}",
    "CacheControl": "no-store",
    "LambdaMemorySize": "1024",
    "LambdaTimeout": "60",
    "LogLevel": "DEBUG",
    "XRayTracing": "true",
    "Animated": "false",
    "WriteManifest": "true",
    "DeleteWithOriginal": "true",
    "LambdaArchitecture": "x86_64",
    "OutputBucketName": "elsewhere",
}


@pytest.mark.parametrize("parameter", CHANGES)
def test_a_changed_parameter_publishes_a_version(parameter: str) -> None:
    """Whatever is part of a version changes its description, so that the alias gets a new one."""

    def version(**given: object) -> str:
        (found,) = Deployed(**given).of_type("AWS::Lambda::Version").values()
        description: str = found["Description"]
        return description

    assert version(**{parameter: CHANGES[parameter]}) != version()


def test_the_description_holds_the_longest_parameters() -> None:
    """Lambda takes 256 characters: at the longest values that are accepted it still fits."""
    about = template.source()["Parameters"]
    longest = {
        name: (
            max(map(len, map(str, each["AllowedValues"])))
            if "AllowedValues" in each
            else each.get("MaxLength", len(str(each.get("MaxValue", ""))))
        )
        for name, each in about.items()
    }
    description = template.source()["Resources"]["ThumbnailFunction"]["Properties"][
        "VersionDescription"
    ]["Fn::Sub"]
    text, flags = description
    longest |= dict.fromkeys(flags, 1)
    filled = re.sub(r"\$\{(\w+)\}", lambda match: "x" * longest[match[1]], text)
    assert len(filled) <= 256


# --- what no emulator enforces ------------------------------------------------------------------
@pytest.mark.parametrize("bucket", ["InputBucket", "OutputBucket"])
def test_buckets_are_private_encrypted_and_owned(bucket: str) -> None:
    """Public access blocked in all four ways, SSE-S3, ACLs off, TLS only, kept on deletion."""
    deployed = Deployed()
    found = deployed.properties(bucket)
    assert set(found["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(found["PublicAccessBlockConfiguration"]) == 4
    (rule,) = found["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    assert found["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert deployed.resources[bucket]["DeletionPolicy"] == "Retain"
    assert deployed.resources[bucket]["UpdateReplacePolicy"] == "Retain"
    arn = {"InputBucket": INPUT, "OutputBucket": OUTPUT}[bucket]
    (statement,) = deployed.properties(f"{bucket}Policy")["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Principal"] == "*"
    assert statement["Action"] == "s3:*"
    assert statement["Resource"] == [arn, f"{arn}/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@pytest.mark.parametrize(
    ("given", "key"), [({"KmsKeyArn": KEY}, KEY), ({"CreateKmsKey": "true"}, "Key.Arn")]
)
def test_a_key_of_ones_own_encrypts_buckets_and_queue(given: dict[str, str], key: str) -> None:
    """The given or made key: buckets with a bucket key, the queue, and the role may use it."""
    deployed = Deployed(**given)
    for bucket in ("InputBucket", "OutputBucket"):
        encryption = deployed.properties(bucket)["BucketEncryption"]
        (rule,) = encryption["ServerSideEncryptionConfiguration"]
        default = rule["ServerSideEncryptionByDefault"]
        assert default == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
        assert rule["BucketKeyEnabled"] is True
    assert deployed.properties("DeadLetterQueue")["KmsMasterKeyId"] == key
    assert statements(deployed)["UseKey"]["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert statements(deployed)["UseKey"]["Resource"] == key
    assert deployed.outputs["KeyArn"] == key


def test_a_made_key_rotates_and_outlives_the_stack() -> None:
    """Without its key what is in the retained buckets would be lost."""
    deployed = Deployed(CreateKmsKey="true")
    assert deployed.properties("Key")["EnableKeyRotation"] is True
    assert deployed.resources["Key"]["DeletionPolicy"] == "Retain"


def test_the_queue_is_encrypted_kept_longest_and_tls_only() -> None:
    """alias/aws/sqs by default, 14 days."""
    queue = Deployed().properties("DeadLetterQueue")
    assert queue["KmsMasterKeyId"] == "alias/aws/sqs"
    assert queue["MessageRetentionPeriod"] == 14 * 24 * 3600
    policy = Deployed().properties("DeadLetterQueuePolicy")
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Deny", "sqs:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == "DeadLetterQueue.Arn"


def test_s3_invokes_the_alias_and_only_from_this_account() -> None:
    """The notification goes to the alias, under the prefix, and the permission is the alias's."""
    deployed = Deployed(InputPrefix="in/")
    (notification,) = notifications(deployed)
    assert notification["Function"] == "ThumbnailFunctionAliaslive"
    assert notification["Event"] == "s3:ObjectCreated:*"
    assert notification["Filter"]["S3Key"]["Rules"] == [{"Name": "prefix", "Value": "in/"}]
    (permission,) = deployed.of_type("AWS::Lambda::Permission").values()
    assert permission["FunctionName"] == "ThumbnailFunctionAliaslive"
    assert permission["Principal"] == "s3.amazonaws.com"
    assert permission["SourceAccount"] == "123456789012"
    assert permission["SourceArn"] == INPUT
    assert deployed.resources["InputBucket"]["DependsOn"] == "UploadPermission"


def notifications(deployed: Deployed) -> list[dict[str, Any]]:
    """What the input bucket tells of."""
    found: list[dict[str, Any]] = deployed.properties("InputBucket")["NotificationConfiguration"][
        "LambdaConfigurations"
    ]
    return found


def test_deletions_are_told_only_where_they_matter() -> None:
    """With DeleteWithOriginal: removals and expirations too, and the right to delete."""
    deployed = Deployed(DeleteWithOriginal="true", InputPrefix="in/")
    told = notifications(deployed)
    assert [each["Event"] for each in told] == [
        "s3:ObjectCreated:*",
        "s3:ObjectRemoved:*",
        "s3:LifecycleExpiration:*",
    ]
    for each in told:
        assert each["Function"] == "ThumbnailFunctionAliaslive"
        assert each["Filter"]["S3Key"]["Rules"] == [{"Name": "prefix", "Value": "in/"}]
    right = statements(deployed)["DeleteThumbnails"]
    assert (right["Action"], right["Resource"]) == ("s3:DeleteObject", f"{OUTPUT}/*")


def test_pages_of_the_origins_given_may_upload_and_no_others_may() -> None:
    """The input bucket has a CORS rule for them, PUT and POST alone; the output bucket none."""
    deployed = Deployed(UploadOrigins="https://a.example,https://b.example")
    (rule,) = deployed.properties("InputBucket")["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedOrigins"] == ["https://a.example", "https://b.example"]
    assert rule["AllowedMethods"] == ["PUT", "POST"]
    assert "CorsConfiguration" not in deployed.properties("OutputBucket")


def test_an_existing_input_bucket_is_left_alone() -> None:
    """No bucket, no policy, no notification: a rule takes its events to the alias instead."""
    deployed = Deployed(ExistingInputBucket="true", InputPrefix="in/")
    assert list(deployed.of_type("AWS::S3::Bucket")) == ["OutputBucket"]
    assert list(deployed.of_type("AWS::S3::BucketPolicy")) == ["OutputBucketPolicy"]
    rule = deployed.properties("UploadRule")
    assert rule["EventPattern"] == {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {
            "bucket": {"name": ["my-input-bucket"]},
            "object": {"key": [{"prefix": "in/"}]},
        },
    }
    (target,) = rule["Targets"]
    assert target["Arn"] == "ThumbnailFunctionAliaslive"
    assert target["DeadLetterConfig"] == {"Arn": "UndeliveredEvents.Arn"}
    (permission,) = deployed.of_type("AWS::Lambda::Permission").values()
    assert permission["FunctionName"] == "ThumbnailFunctionAliaslive"
    assert permission["Principal"] == "events.amazonaws.com"
    assert permission["SourceArn"] == "UploadRule.Arn"
    assert deployed.outputs["InputBucket"] == "my-input-bucket"
    assert deployed.outputs["UndeliveredEventsUrl"] == "UndeliveredEvents"
    both = Deployed(ExistingInputBucket="true", DeleteWithOriginal="true")
    assert both.properties("UploadRule")["EventPattern"]["detail-type"] == [
        "Object Created",
        "Object Deleted",
    ]


def test_undelivered_events_are_kept_encrypted() -> None:
    """14 days, TLS only, from this rule alone, and with a key that EventBridge may use."""
    deployed = Deployed(ExistingInputBucket="true")
    queue = deployed.properties("UndeliveredEvents")
    assert queue["MessageRetentionPeriod"] == 1_209_600
    assert queue["SqsManagedSseEnabled"] is True
    (policy,) = (
        each
        for each in deployed.of_type("AWS::SQS::QueuePolicy").values()
        if each["Queues"] == ["UndeliveredEvents"]
    )
    allow, deny = policy["PolicyDocument"]["Statement"]
    assert allow["Principal"] == {"Service": "events.amazonaws.com"}
    assert allow["Condition"] == {"ArnEquals": {"aws:SourceArn": "UploadRule.Arn"}}
    assert (deny["Effect"], deny["Condition"]) == (
        "Deny",
        {"Bool": {"aws:SecureTransport": "false"}},
    )
    made = Deployed(ExistingInputBucket="true", CreateKmsKey="true")
    assert made.properties("UndeliveredEvents")["KmsMasterKeyId"] == "Key.Arn"
    granted = made.properties("Key")["KeyPolicy"]["Statement"][1]
    assert granted["Principal"] == {"Service": "events.amazonaws.com"}
    assert granted["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def test_a_written_thumbnail_is_an_event() -> None:
    """EventBridge is on for the output bucket: "thumbnail written" needs no polling."""
    notification = Deployed().properties("OutputBucket")["NotificationConfiguration"]
    assert notification["EventBridgeConfiguration"] == {"EventBridgeEnabled": True}


def test_the_role_may_do_just_this() -> None:
    """Action by action and resource by resource: no more than the code asks for."""
    assert {
        sid: (each["Action"], each["Resource"]) for sid, each in statements(Deployed()).items()
    } == {
        "ReadUploads": ("s3:GetObject", f"{INPUT}/uploads/*"),
        "ReadAndWriteThumbnails": (["s3:GetObject", "s3:PutObject"], f"{OUTPUT}/*"),
        "TellMissingFromForbidden": ("s3:ListBucket", [INPUT, OUTPUT]),
        "SendDeadLetters": ("sqs:SendMessage", "DeadLetterQueue.Arn"),
        "WriteLogs": (
            ["logs:CreateLogStream", "logs:PutLogEvents"],
            LOG_STREAMS,
        ),
    }
    role = Deployed().properties("ThumbnailRole")
    assert "ManagedPolicyArns" not in role


@pytest.mark.parametrize(
    "given", [{}, {"KmsKeyArn": KEY}, {"CreateKmsKey": "true"}, {"XRayTracing": "true"}]
)
def test_no_statement_has_a_wildcard_resource_or_action(given: dict[str, str]) -> None:
    """X-Ray's two actions, which take no resource, are the one exception, and only when traced."""
    for sid, each in statements(Deployed(**given)).items():
        actions = each["Action"] if isinstance(each["Action"], list) else [each["Action"]]
        assert not any("*" in action for action in actions)
        if sid == "WriteTraces":
            assert given == {"XRayTracing": "true"}
            assert actions == ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
        else:
            assert each["Resource"] != "*"


CALLS = {
    "obstore.get": "s3:GetObject",
    "obstore.put": "s3:PutObject",
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "put_object": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "send_message": "sqs:SendMessage",
}
"""Requests to AWS in the function's code, and the action that each takes."""


def test_the_role_allows_what_the_code_calls_and_no_more() -> None:
    """Derived from the code: a new request needs a new right, and an old right must go."""
    code = "".join(path.read_text() for path in sorted(Path("lambda").rglob("*.py")))
    called = set(re.findall(r"(?:_client|_connected\(\))\.(\w+)\b", code)) - {"meta"}
    called |= {
        f"obstore.{each}" for each in re.findall(r"\bobstore\.(get|put|delete|list|copy)", code)
    }
    allowed = {
        action
        for each in statements(Deployed(DeleteWithOriginal="true")).values()
        for action in ([each["Action"]] if isinstance(each["Action"], str) else each["Action"])
    }
    # Without s3:ListBucket S3 answers 403, not 404; the log lines are written by Lambda itself.
    unseen = {"s3:ListBucket", "logs:CreateLogStream", "logs:PutLogEvents"}
    assert {CALLS[each] for each in called} == allowed - unseen


def test_every_statement_says_why_it_is_there() -> None:
    """A comment stands before each statement of the role."""
    lines = template.PATH.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "ThumbnailRole:")
    end = next(i for i, line in enumerate(lines) if i > start and line.startswith("  # ---"))
    for index in range(start, end):
        if re.match(r" +- Sid:| +- !If$", lines[index]) and "- Sid" not in lines[index - 1]:
            before = lines[index - 1].strip() + lines[index - 2].strip()
            conditions = ("HasKey", "Traced", "DeletesWithOriginal")
            assert "#" in before or any(each in before for each in conditions), lines[index]


def test_outputs_name_what_users_and_tools_need() -> None:
    """Buckets, prefix, queue, function, alias, role, logs, namespace."""
    assert Deployed().outputs.keys() == {
        "InputBucket",
        "InputPrefix",
        "OutputBucket",
        "DeadLetterQueueUrl",
        "DeadLetterQueueArn",
        "FunctionName",
        "FunctionAliasArn",
        "FunctionRoleArn",
        "LogGroupName",
        "MetricsNamespace",
        "ReplayStateMachineArn",
        "BackfillStateMachineArn",
        "BackfillResults",
        "BackfillMaximum",
        "AlarmTopicArn",
        "DashboardName",
    }


def test_the_function_has_the_documented_name() -> None:
    """${AWS::StackName}-thumbnail, as the metrics' dimension says."""
    name = Deployed().properties("ThumbnailFunction")["FunctionName"]
    assert name == "my-image-pipeline-thumbnail"


@pytest.mark.parametrize("given", template.VARIANTS.values(), ids=template.VARIANTS)
def test_no_service_is_let_in_without_saying_for_whom(given: dict[str, str]) -> None:
    """The confused deputy: each service principal is bound to this account or resource.

    Roles for Lambda and CodeDeploy are bound by iam:PassRole, which knows no other account.
    """
    found = 0

    def check(node: Any) -> None:
        nonlocal found
        if isinstance(node, list):
            for each in node:
                check(each)
        if isinstance(node, dict):
            service = (
                node["Principal"].get("Service")
                if isinstance(node.get("Principal"), dict)
                else None
            )
            if service and service not in (["codedeploy.amazonaws.com"], "lambda.amazonaws.com"):
                found += 1
                named = {key for each in node["Condition"].values() for key in each}
                assert named & {"aws:SourceAccount", "aws:SourceArn"}, node
            for each in node.values():
                check(each)

    deployed = Deployed(**given)
    check(deployed.resources)
    assert found >= 3
    for permission in deployed.of_type("AWS::Lambda::Permission").values():
        assert permission["SourceArn"] in ("arn:aws:s3:::my-input-bucket", "UploadRule.Arn")
        # A bucket's name may pass to another account; a rule's ARN names its own.
        assert "SourceAccount" in permission or permission["SourceArn"] == "UploadRule.Arn"


def test_buckets_are_deleted_only_where_that_is_asked_for() -> None:
    """DeleteBucketContents takes buckets and key with the stack; an update never takes one."""
    for asked, policy in (("false", "Retain"), ("true", "Delete")):
        deployed = Deployed(DeleteBucketContents=asked, CreateKmsKey="true")
        for name in ("InputBucket", "OutputBucket", "Key"):
            assert deployed.resources[name]["DeletionPolicy"] == policy
            assert deployed.resources[name]["UpdateReplacePolicy"] == "Retain"
    assert "BucketEmptier" not in Deployed().resources
    emptier = Deployed(DeleteBucketContents="true").properties("BucketContents")
    assert emptier["Buckets"] == ["InputBucket", "OutputBucket"]
    existing = Deployed(DeleteBucketContents="true", ExistingInputBucket="true")
    assert existing.properties("BucketContents")["Buckets"] == ["OutputBucket"]
    for each in existing.properties("BucketEmptierRole")["Policies"][0]["PolicyDocument"][
        "Statement"
    ]:
        assert "my-input-bucket" not in json.dumps(each["Resource"])


@pytest.mark.parametrize(
    "parameter", sorted(set(GOOD_AND_BAD) - {"InputBucketName", "OutputBucketName"})
)
def test_no_parameter_but_its_name_replaces_a_bucket(parameter: str) -> None:
    """A bucket's name is the one property of it whose change makes another bucket."""
    before = Deployed()
    for value in GOOD_AND_BAD[parameter][0]:
        for name in ("InputBucket", "OutputBucket"):
            after = Deployed(**{parameter: value}).resources.get(name)
            if after:
                assert after["Properties"]["BucketName"] == before.properties(name)["BucketName"]


def test_a_gradual_deployment_is_braked_by_the_errors() -> None:
    """Off by default; on, CodeDeploy shifts the alias, and goes back when the alarm goes off."""
    assert Deployed().of_type("AWS::CodeDeploy::DeploymentGroup") == {}
    gradual = Deployed(
        GradualDeployment="true", GradualDeploymentType="Linear10PercentEvery1Minute"
    )
    (group,) = gradual.of_type("AWS::CodeDeploy::DeploymentGroup").values()
    assert group["AlarmConfiguration"] == {"Enabled": True, "Alarms": [{"Name": "FunctionErrors"}]}
    assert "Linear10PercentEvery1Minute" in json.dumps(group["DeploymentConfigName"])
    assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]


def test_the_dev_parameters_are_accepted() -> None:
    """iac/params.dev.json names parameters that exist, with values that are taken."""
    given = json.loads((template.PATH.parent / "params.dev.json").read_text())
    for name, value in given.items():
        assert accepts(name, str(value)), name
    assert Deployed(**given).broken_rules() == []
