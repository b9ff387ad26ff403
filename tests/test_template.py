"""The template: the effect of each parameter, and the properties that no emulator enforces."""

import json
import re
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import template
from hypothesis import given, settings
from hypothesis import strategies as st
from template import CERTIFICATE, KEY, PUBLIC_KEY, Deployed, accepts

from thumbnailer.failure_marks import PREFIX, VALID
from thumbnailer.settings import MAX_PREFIX_BYTES, Settings

LOG_STREAMS = (
    "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/my-image-pipeline-thumbnail:*"
)
INPUT, OUTPUT = "arn:aws:s3:::my-input-bucket", "arn:aws:s3:::my-output-bucket"


def environment(deployed: Deployed) -> dict[str, str]:
    """The environment variables of the function, as text."""
    variables = deployed.properties("ThumbnailFunction")["Environment"]["Variables"]
    return {name: str(value) for name, value in variables.items()}


def statements(deployed: Deployed) -> dict[str, dict[str, Any]]:
    """The policy statements of the function's role, by Sid."""
    (policy,) = deployed.properties("ThumbnailRole")["Policies"]
    return {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"]}


# --- parameters: accepted values ----------------------------------------------------------------
GOOD_AND_BAD: dict[str, tuple[list[str], list[str]]] = {
    "InputBucketName": (
        ["abc", "my.bucket-1", "a" * 63, "1.2.3", "192.168.0.1a"],
        ["", "ab", "A-Bucket", "-abc", "a" * 64, "a..b", "192.168.0.1", "xn--abc"],
    ),
    "OutputBucketName": (
        ["abc", "my.bucket-1", "a" * 63],
        ["", "ab", "A-Bucket", "abc-", "a_c", "a..b", "10.0.0.255", "xn--abc"],
    ),
    "InputPrefix": (
        ["uploads/", "a", "it's/", "in/2026/img-"],
        ["", "a*", "a?", "${x}", "a b", "a" * 513],
    ),
    "UploadOrigins": (
        ["https://a.example", "http://127.0.0.1:*,https://*.a.example", "http://localhost:8080"],
        [
            *("", "*", "a.example", "https://a.example/", "https://a.example,*", "http://"),
            *("https://*.*.example", "https://*.a.example:*", "https://*:*", "https://:99999"),
        ],
    ),
    "BucketVersioning": (["true", "false"], ["", "yes"]),
    "ThumbnailSizes": (
        [
            *("128", "128,512", " 64, 16383 ", "1,2,3", "avatar=256x256:cover:attention"),
            *("128,512,avatar=256x256:cover:attention,card=600x400:pad", "9x9:contain,a.b-c_d=1"),
        ],
        [
            *("", "0", "16384", "128,", "128;512", "-1", "1e3", "99999", ",", "128,,512"),
            *("1x0", "1x16384", "1:pad", "1x1:fill", "1x1:pad:center", "1x1:cover:top", "=1"),
            *("a/b=1", "a{b=1", "a b=1", f"{'n' * 65}=1", "1X1", "x1"),
        ],
    ),
    "ThumbnailFormats": (
        ["webp", "avif,webp,jpeg"],
        ["", "png", "webp,", "WEBP", "webp;avif", "webp,webp"],
    ),
    "AvifQuality": (["1", "68", "100"], ["0", "101", "high", ""]),
    "JpegQuality": (["1", "86", "100"], ["0", "101", "high", ""]),
    "BackgroundColor": (["#ffffff", "#1A2b3c"], ["", "white", "#fff", "ffffff", "#ffffff "]),
    "Cdn": (["true", "false"], ["", "1"]),
    "CdnFormats": (
        ["", "webp", "webp,avif", "jpeg,webp,avif"],
        ["webp,", "png", "auto", "jpg", "avif,avif"],
    ),
    "CdnDomain": (
        ["", "img.example.com", "a-1.b.c"],
        ["localhost", "https://a.example", "A.example", "*.a.example", "a..b", "-a.b", "a.b/"],
    ),
    "CdnCertificateArn": (
        ["", CERTIFICATE],
        [
            CERTIFICATE.replace("us-east-1", "eu-west-1"),
            "arn:aws:iam::123456789012:server-certificate/x",
        ],
    ),
    "CdnInvalidate": (["true", "false"], ["", "1"]),
    "ExistingDistribution": (
        ["", template.DISTRIBUTION, "arn:aws-cn:cloudfront::123456789012:distribution/E1"],
        [
            "EDFDVBD6EXAMPLE",
            "arn:aws:cloudfront::123456789012:distribution/",
            "arn:aws:cloudfront::123456789012:distribution/*",
            "arn:aws:cloudfront::*:distribution/EDFDVBD6EXAMPLE",
            template.KEY,
        ],
    ),
    "CdnPriceClass": (["PriceClass_100", "PriceClass_200", "PriceClass_All"], ["", "100"]),
    "CdnAllowedOrigins": (
        ["*", "https://a.example", "https://*.a.example,http://localhost:*"],
        ["", "a.example", "https://a.example/", "https://*.*.example", "**"],
    ),
    "CdnPublicKey": (
        ["", PUBLIC_KEY, PUBLIC_KEY.strip()],
        ["APKA1234", PUBLIC_KEY.replace("PUBLIC", "PRIVATE"), PUBLIC_KEY.replace("\n", " ")],
    ),
    "WebPQuality": (["1", "85", "100"], ["0", "101", "high", ""]),
    "OutputKeyTemplate": (
        [
            *("{dir}{stem}_{width}w.webp", "{stem}{width}", "t/{width}/{dir}{stem}.{ext}.webp"),
            *("{dir}{stem}_{size}.{format}", "{size}/{dir}{stem}.{ext}.{format}"),
        ],
        [
            *("", "{stem}.webp", "{width}.webp", "{stem}{width}{x}", "{stem}{width"),
            *("{stem}{width}}", "_image-pipeline/{stem}{width}"),
        ],
    ),
    "Animated": (["true", "false"], ["", "yes"]),
    "WriteManifest": (["true", "false"], ["", "1"]),
    "DeleteWithOriginal": (["true", "false"], ["", "1"]),
    "OutputEvents": (["true", "false"], ["", "1"]),
    "ExistingInputBucket": (["true", "false"], ["", "1"]),
    "DeleteBucketContents": (["true", "false"], ["", "1"]),
    "GradualDeployment": (["true", "false"], ["", "1"]),
    "GradualDeploymentType": (["Canary10Percent5Minutes"], ["", "AllAtOnce"]),
    "AlarmEmail": (["", "a@b.example"], ["a", "a@b", "a b@c.de", "@b.example"]),
    "BackfillMaximum": (["1", "100000", "100000000"], ["0", "100000001", "all"]),
    "BackfillConcurrency": (["1", "5", "10000"], ["0", "10001", "all"]),
    "CacheControl": (["", "no-store", "public, max-age=86400"], ["a\nb", "é", "x" * 257]),
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
    "FormerKmsKeyArns": (["", KEY, f"{KEY},{KEY}"], ["alias/mine", f"{KEY}, {KEY}", "1234abcd"]),
    "PermissionsBoundaryArn": (
        ["", "arn:aws:iam::123456789012:policy/a/limit", "arn:aws-cn:iam::aws:policy/Limit"],
        ["limit", "arn:aws:iam::123456789012:role/limit", "arn:aws:iam::1:policy/limit"],
    ),
    "LogLevel": (["DEBUG", "INFO", "WARNING", "ERROR"], ["", "info", "TRACE"]),
    "LogRetentionDays": (["1", "30", "3653"], ["0", "2", "31", "forever"]),
    "XRayTracing": (["true", "false"], ["", "on"]),
}
"""Values of each parameter that must be accepted, and values that must be rejected."""


@pytest.mark.parametrize("name", sorted(template.source()["Parameters"]))
def test_an_invalid_value_fails_the_change_set(name: str) -> None:
    """The template constrains every parameter, so a typing error changes no resource."""
    good, bad = GOOD_AND_BAD[name]
    assert [value for value in good if not accepts(name, value)] == []
    assert [value for value in bad if accepts(name, value)] == []


def test_the_defaults_are_accepted_and_equal_the_defaults_of_the_function() -> None:
    """A stack with only the bucket names set has the same settings as the function's defaults."""
    for name, value in template.parameters().items():
        assert accepts(name, value), name
    deployed = Settings.from_environment(
        environment(Deployed()) | {"DLQ_URL": "https://q.example/1"}
    )
    assert deployed == Settings(
        deployed.output_bucket, deployed.dead_letter_queue_url, input_bucket=deployed.input_bucket
    )


def accepted_values(parameter: str) -> st.SearchStrategy[str]:
    """Values of a text parameter that the template accepts."""
    definition = template.source()["Parameters"][parameter]
    longest = definition.get("MaxLength", 63)
    pattern = re.compile(
        re.sub(
            r"\(\?<?[=!][^)]*\)", "", definition["AllowedPattern"]
        ),  # hypothesis knows no lookaround
        re.ASCII,
    )
    return st.from_regex(pattern, fullmatch=True).filter(
        lambda value: len(value) <= longest and accepts(parameter, value)
    )


def has_distinct_names(sizes: str) -> bool:
    """Whether no two sizes have one name, given or by default."""
    names = [
        name if named else shape + "w" * shape.isdigit()
        for name, named, shape in (
            (*each.strip().partition("=")[:2], each.strip().partition(":")[0])
            for each in sizes.split(",")
        )
    ]
    return len({each.casefold() for each in names}) == len(names)


@settings(max_examples=50)
@given(
    st.fixed_dictionaries(
        {
            "ThumbnailSizes": accepted_values("ThumbnailSizes").filter(has_distinct_names),
            "InputPrefix": accepted_values("InputPrefix"),
            "CacheControl": accepted_values("CacheControl"),
            "InputBucketName": accepted_values("InputBucketName"),
            "OutputBucketName": accepted_values("OutputBucketName"),
            "WebPQuality": st.integers(1, 100).map(str),
        }
    )
)
def test_the_function_accepts_every_value_that_the_template_accepts(values: dict[str, str]) -> None:
    """No value passes the change set and then stops the function at init.

    The one exception is a name that two sizes have, which no pattern can detect.
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


def test_two_buckets_with_the_same_name_are_rejected() -> None:
    """Thumbnails in the input bucket would be uploads again; the rule names both parameters."""
    assert Deployed().broken_rules() == []
    (message,) = Deployed(OutputBucketName="my-input-bucket").broken_rules()
    assert "InputBucketName and OutputBucketName must differ" in message


def test_an_existing_and_a_new_key_together_are_rejected() -> None:
    """The stack uses KmsKeyArn or creates a key, not both."""
    assert Deployed(KmsKeyArn=KEY).broken_rules() == []
    assert Deployed(CreateKmsKey="true").broken_rules() == []
    assert len(Deployed(KmsKeyArn=KEY, CreateKmsKey="true").broken_rules()) == 1


# --- parameters: effects ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("parameter", "value", "variable"),
    [
        ("InputBucketName", "somewhere", "INPUT_BUCKET"),
        ("OutputBucketName", "elsewhere", "OUTPUT_BUCKET"),
        ("ThumbnailSizes", "64,256", "THUMB_SIZES"),
        ("ThumbnailFormats", "webp,avif", "THUMB_FORMATS"),
        ("WebPQuality", "70", "WEBP_QUALITY"),
        ("AvifQuality", "60", "AVIF_QUALITY"),
        ("JpegQuality", "80", "JPEG_QUALITY"),
        ("BackgroundColor", "#000000", "BACKGROUND_COLOR"),
        ("InputPrefix", "in/", "INPUT_PREFIX"),
        ("OutputKeyTemplate", "{stem}-{width}", "OUTPUT_KEY_TEMPLATE"),
        ("CacheControl", "no-store", "CACHE_CONTROL"),
        ("Animated", "false", "ANIMATED"),
        ("WriteManifest", "true", "WRITE_MANIFEST"),
        ("DeleteWithOriginal", "true", "DELETE_WITH_ORIGINAL"),
        ("LogLevel", "DEBUG", "LOG_LEVEL"),
    ],
)
def test_a_parameter_sets_its_environment_variable(
    parameter: str, value: str, variable: str
) -> None:
    """The function receives the value that was deployed."""
    assert environment(Deployed(**{parameter: value}))[variable] == value


def test_the_domain_of_the_partition_reaches_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """China's endpoints end with amazonaws.com.cn."""
    monkeypatch.setitem(template.PSEUDO_PARAMETERS, "AWS::URLSuffix", "amazonaws.com.cn")
    assert environment(Deployed())["URL_SUFFIX"] == "amazonaws.com.cn"


def test_the_function_reads_every_variable_that_the_template_sets() -> None:
    """The function would ignore a name that is misspelt in the template."""
    read = set(re.findall(r'read\(\s*"([A-Z_]+)"', _settings_source()))
    storage = Path("lambda/thumbnailer/storage/obstore_bucket.py").read_text()
    read |= set(re.findall(r'environ\.get\("([A-Z_]+)"', storage)) - {"AWS_ENDPOINT_URL"}
    set_by_lambda, not_for_the_code = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE"}, {"SETTINGS_VERSION"}
    assert set(environment(Deployed())) - not_for_the_code == read - set_by_lambda


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
def test_a_parameter_sets_its_property_of_the_function(
    parameter: str, value: str, name: str, expected: object
) -> None:
    """Memory, time-out, architecture, concurrency and tracing reach the function."""
    found = Deployed(**{parameter: value}).properties("ThumbnailFunction")[name]
    assert str(found) == str(expected)


def test_the_buckets_have_the_given_names() -> None:
    """The statements of the role name the same buckets."""
    deployed = Deployed(InputBucketName="in-1", OutputBucketName="out-1")
    assert deployed.properties("InputBucket")["BucketName"] == "in-1"
    assert deployed.properties("OutputBucket")["BucketName"] == "out-1"
    assert statements(deployed)["ReadUploads"]["Resource"] == "arn:aws:s3:::in-1/uploads/*"
    assert statements(deployed)["ReadAndWriteThumbnails"]["Resource"] == "arn:aws:s3:::out-1/*"


def test_the_default_stack_has_no_optional_features() -> None:
    """No reserved or provisioned concurrency, no key, no versioning, no active tracing."""
    deployed = Deployed()
    function = deployed.properties("ThumbnailFunction")
    assert "ReservedConcurrentExecutions" not in function
    assert function["TracingConfig"] == {"Mode": "PassThrough"}
    assert "ProvisionedConcurrencyConfig" not in deployed.properties("ThumbnailFunctionAliaslive")
    assert deployed.of_type("AWS::KMS::Key") == {}
    assert "VersioningConfiguration" not in deployed.properties("InputBucket")


def test_provisioned_concurrency_is_set_on_the_alias() -> None:
    """S3 invokes the alias."""
    alias = Deployed(LambdaProvisionedConcurrency=2).properties("ThumbnailFunctionAliaslive")
    config = alias["ProvisionedConcurrencyConfig"]
    assert str(config["ProvisionedConcurrentExecutions"]) == "2"


def test_retries_and_maximum_age_are_set_on_the_alias() -> None:
    """The invoke config of the unqualified function would not apply to events sent to its alias."""
    config = Deployed(MaximumRetryAttempts=1, MaximumEventAge=3600).properties(
        "ThumbnailFunctionEventInvokeConfig"
    )
    assert config["Qualifier"] == "live"
    assert str(config["MaximumRetryAttempts"]) == "1"
    assert str(config["MaximumEventAgeInSeconds"]) == "3600"
    assert config["DestinationConfig"]["OnFailure"]["Destination"] == "DeadLetterQueue.Arn"


def test_logs_are_json_and_have_a_retention() -> None:
    """The stack creates the log group, so it sets the retention; no log level filters metrics."""
    deployed = Deployed(LogRetentionDays=7)
    logging = deployed.properties("ThumbnailFunction")["LoggingConfig"]
    assert logging == {"LogFormat": "JSON", "LogGroup": "FunctionLogs"}
    group = deployed.properties("FunctionLogs")
    assert str(group["RetentionInDays"]) == "7"
    assert group["LogGroupName"] == "/aws/lambda/my-image-pipeline-thumbnail"


@pytest.mark.parametrize("bucket", ["InputBucket", "OutputBucket"])
def test_versioning_covers_both_buckets(bucket: str) -> None:
    """BucketVersioning=true turns on versioning for uploads and thumbnails."""
    found = Deployed(BucketVersioning="true").properties(bucket)["VersioningConfiguration"]
    assert found == {"Status": "Enabled"}


# --- a changed parameter reaches the alias ------------------------------------------------------
CHANGES = {
    "ThumbnailSizes": "64",
    "ThumbnailFormats": "webp,avif",
    "WebPQuality": "70",
    "AvifQuality": "60",
    "JpegQuality": "80",
    "BackgroundColor": "#000000",
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
    "InputBucketName": "somewhere",
    "Cdn": "true",
    "CdnDomain": "img.example.com",
    "CdnInvalidate": "true",
}
"""Each parameter that a version of the function depends on, with another value than its default."""


@pytest.mark.parametrize("parameter", CHANGES)
def test_a_changed_parameter_publishes_a_version(parameter: str) -> None:
    """A parameter that is part of a version changes the text whose number a version names."""

    def text(**given: object) -> str:
        content: str = Deployed(**given).properties("SettingsVersion")["Content"]
        return content

    assert text(**{parameter: CHANGES[parameter]}) != text()


NOT_VERSIONED = {
    "FunctionName",
    "AutoPublishAlias",
    "ReservedConcurrentExecutions",
    "ProvisionedConcurrencyConfig",
    "DeploymentPreference",
    "EventInvokeConfig",
}
"""Properties that are the function's or the alias's own: they take effect without a new version."""


def parameters_in(node: Any) -> set[str]:
    """The parameters that a part of the source refers to, also through conditions."""
    document = template.source()
    if isinstance(node, list):
        return set().union(*map(parameters_in, node))
    if not isinstance(node, dict):
        return set()
    found = set().union(*map(parameters_in, node.values()))
    names: set[str] = set()
    if "Fn::Sub" in node:
        text = node["Fn::Sub"] if isinstance(node["Fn::Sub"], str) else node["Fn::Sub"][0]
        names = set(re.findall(r"\$\{([\w:]+)\}", text))
    if isinstance(node.get("Ref"), str):
        names.add(node["Ref"])
    condition = node.get("Condition") or (node["Fn::If"][0] if "Fn::If" in node else None)
    if isinstance(condition, str):
        found |= parameters_in(document["Conditions"][condition])
    return found | (names & document["Parameters"].keys())


def test_every_parameter_of_the_function_makes_a_new_version() -> None:
    """All parameters that a version depends on are in the text, and no other is.

    One that is missing would not reach the alias. One too many would publish versions for nothing.
    """
    function = template.source()["Resources"]["ThumbnailFunction"]["Properties"]
    versioned = {name: each for name, each in function.items() if name not in NOT_VERSIONED}
    text = template.source()["Resources"]["SettingsVersion"]["Properties"]["Content"]
    assert parameters_in(text) == parameters_in(versioned) == set(CHANGES)


def test_the_number_of_the_settings_is_in_the_version_and_in_the_function() -> None:
    """The version is replaced with the number, and the function then differs from the last version.

    Lambda publishes nothing for a function that is as it was when the last version was published.
    """
    deployed = Deployed()
    (version,) = deployed.of_type("AWS::Lambda::Version").values()
    assert version["Description"] == "Settings SettingsVersion.VersionNumber"
    assert environment(deployed)["SETTINGS_VERSION"] == "SettingsVersion.VersionNumber"


def test_an_old_version_is_deleted() -> None:
    """After an update the version before goes, and after a rollback the one that failed.

    If that stayed, a second try would publish what exists, which Lambda refuses with status 409.
    The attribute is documented; AWS's own translator need not know VersionDeletionPolicy.
    """
    deployed = Deployed()
    (name,) = deployed.of_type("AWS::Lambda::Version")
    assert deployed.resources[name]["DeletionPolicy"] == "Delete"
    assert deployed.resources[name]["UpdateReplacePolicy"] == "Delete"
    function = template.source()["Resources"]["ThumbnailFunction"]
    assert "VersionDeletionPolicy" not in function["Properties"]


MAX_ENVIRONMENT_BYTES = 4096
"""https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""


def test_the_longest_parameters_fit_into_the_functions_environment() -> None:
    """Measured as JSON, as in Lambda's own error, with the characters that are longest there."""
    definitions = template.source()["Parameters"]
    worst = {"CacheControl": '"', "OutputKeyTemplate": "\x00"}
    longest = {
        name: worst.get(name, "x") * each["MaxLength"]
        for name, each in definitions.items()
        if "MaxLength" in each
    } | {
        "ThumbnailFormats": "webp,avif,jpeg",
        "WebPQuality": "100",
        "AvifQuality": "100",
        "JpegQuality": "100",
        "Animated": "false",
        "LogLevel": "WARNING",
    }
    queue = "https://sqs.ap-southeast-1.amazonaws.com/123456789012/" + 80 * "q"
    variables = environment(Deployed(**longest)) | {"DLQ_URL": queue, "SETTINGS_VERSION": "9" * 9}
    assert len(json.dumps(variables, ensure_ascii=False).encode()) <= MAX_ENVIRONMENT_BYTES


def test_the_longest_prefix_is_the_longest_that_the_function_accepts() -> None:
    """One limit, in the template and in the code."""
    assert template.source()["Parameters"]["InputPrefix"]["MaxLength"] == MAX_PREFIX_BYTES


# --- properties that no emulator enforces -------------------------------------------------------
@pytest.mark.parametrize("bucket", ["InputBucket", "OutputBucket"])
def test_buckets_are_private_encrypted_and_owned(bucket: str) -> None:
    """Public access blocked in all four ways, SSE-S3, no ACLs, TLS only, retained on deletion."""
    deployed = Deployed()
    found = deployed.properties(bucket)
    assert set(found["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(found["PublicAccessBlockConfiguration"]) == 4
    (rule,) = found["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    assert found["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert deployed.resources[bucket]["DeletionPolicy"] == "RetainExceptOnCreate"
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
def test_a_customer_managed_key_encrypts_buckets_and_queue(given: dict[str, str], key: str) -> None:
    """The existing or new key encrypts the buckets and the queue, and the role may use it."""
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


@pytest.mark.parametrize("now", [{}, {"KmsKeyArn": KEY}, {"CreateKmsKey": "true"}])
def test_what_was_written_under_a_former_key_stays_readable(now: dict[str, str]) -> None:
    """The roles that read objects and messages may decrypt with it, and do nothing else with it."""
    former = [KEY.replace("1234abcd", "0000abcd"), KEY.replace("1234abcd", "1111abcd")]
    deployed = Deployed(**now, FormerKmsKeyArns=",".join(former))
    for role in ("ThumbnailRole", "ReplayRole"):
        (policy,) = deployed.properties(role)["Policies"]
        found = {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"]}
        statement = found["UseFormerKeys"]
        assert (statement["Effect"], statement["Action"]) == ("Allow", "kms:Decrypt")
        assert statement["Resource"] == former
        assert ("UseKey" in found) == bool(now)
    (rule,) = deployed.properties("OutputBucket")["BucketEncryption"][
        "ServerSideEncryptionConfiguration"
    ]
    assert not set(former) & set(rule["ServerSideEncryptionByDefault"].values())
    assert "UseFormerKeys" not in statements(Deployed(**now))


def test_alarms_may_use_the_key_of_the_stack() -> None:
    """Without this statement CloudWatch cannot publish to the encrypted topic, and nobody hears."""
    policy = Deployed(CreateKmsKey="true").properties("Key")["KeyPolicy"]["Statement"]
    (alarms,) = (each for each in policy if each["Sid"] == "Alarms")
    assert alarms["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert alarms["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert alarms["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def test_the_documented_key_policy_has_the_statements_of_the_stacks_own_key() -> None:
    """docs/security.md tells owners of a key the same that CreateKmsKey=true would create."""
    text = (template.PATH.parents[1] / "docs" / "security.md").read_text()
    block = text.partition("## Encryption with your own key")[2].partition("```json\n")[2]
    documented = json.loads(block.partition("```")[0].replace("111122223333", "123456789012"))
    made = Deployed(ExistingInputBucket="true", CreateKmsKey="true", Cdn="true").properties("Key")
    assert documented == made["KeyPolicy"]["Statement"]


def test_a_key_of_the_stack_rotates_and_is_retained() -> None:
    """Without the key, the objects in the retained buckets could not be read any more."""
    deployed = Deployed(CreateKmsKey="true")
    assert deployed.properties("Key")["EnableKeyRotation"] is True
    assert deployed.resources["Key"]["DeletionPolicy"] == "RetainExceptOnCreate"


def test_the_queue_is_encrypted_retained_for_14_days_and_tls_only() -> None:
    """The default key is alias/aws/sqs, and 14 days are the maximum of SQS."""
    queue = Deployed().properties("DeadLetterQueue")
    assert queue["KmsMasterKeyId"] == "alias/aws/sqs"
    assert queue["MessageRetentionPeriod"] == 14 * 24 * 3600
    policy = Deployed().properties("DeadLetterQueuePolicy")
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Deny", "sqs:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == "DeadLetterQueue.Arn"


def test_only_the_input_bucket_of_this_account_may_invoke_the_alias() -> None:
    """The notification, for keys under the prefix, and the permission both name the alias."""
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
    """The Lambda notifications of the input bucket."""
    found: list[dict[str, Any]] = deployed.properties("InputBucket")["NotificationConfiguration"][
        "LambdaConfigurations"
    ]
    return found


def test_delete_with_original_adds_the_events_and_the_permission_for_deletions() -> None:
    """With DeleteWithOriginal=true S3 also notifies of removals and expirations."""
    deployed = Deployed(DeleteWithOriginal="true", InputPrefix="in/")
    configured = notifications(deployed)
    assert [each["Event"] for each in configured] == [
        "s3:ObjectCreated:*",
        "s3:ObjectRemoved:*",
        "s3:LifecycleExpiration:*",
    ]
    for each in configured:
        assert each["Function"] == "ThumbnailFunctionAliaslive"
        assert each["Filter"]["S3Key"]["Rules"] == [{"Name": "prefix", "Value": "in/"}]
    statement = statements(deployed)["DeleteThumbnails"]
    assert (statement["Action"], statement["Resource"]) == ("s3:DeleteObject", f"{OUTPUT}/*")


def test_only_pages_of_the_upload_origins_may_upload() -> None:
    """Their CORS rule on the input bucket allows PUT and POST; the output bucket has no rule."""
    deployed = Deployed(UploadOrigins="https://a.example,https://b.example")
    (rule,) = deployed.properties("InputBucket")["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedOrigins"] == ["https://a.example", "https://b.example"]
    assert rule["AllowedMethods"] == ["PUT", "POST"]
    assert "CorsConfiguration" not in deployed.properties("OutputBucket")


def test_an_existing_input_bucket_is_not_changed() -> None:
    """No bucket, policy or notification is created: a rule sends its events to the alias."""
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


def test_two_stacks_share_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one existing bucket, in one account and region, neither is in the other's way.

    Names that two stacks do have in common are names within a resource of each.
    """

    def names(stack: str) -> set[tuple[str, str, str]]:
        monkeypatch.setitem(template.PSEUDO_PARAMETERS, "AWS::StackName", stack)
        buckets = {"OutputBucketName": f"{stack}-thumbnails"}
        deployed = Deployed(**template.SWITCHES | buckets)
        return {
            (each["Type"], name, value)
            for each in deployed.resources.values()
            for name, value in each.get("Properties", {}).items()
            if name.endswith("Name")
            and name not in ("MetricName", "DeploymentConfigName")  # of what it refers to
            and isinstance(value, str)
            and value.partition(".")[0] not in deployed.resources
        }

    photos, faces = names("photos"), names("faces")
    assert len(photos) == len(faces) > 10
    assert photos & faces == {
        ("AWS::Lambda::Alias", "Name", "live"),
        ("AWS::AppConfig::ConfigurationProfile", "Name", "thumbnail"),
    }


def test_undelivered_events_are_retained_and_encrypted() -> None:
    """For 14 days, TLS only, only from this rule, and with a key that EventBridge may use."""
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
    # With a condition KMS would refuse EventBridge: its requests have no source account.
    assert "Condition" not in granted


def test_each_written_thumbnail_sends_an_event_if_asked() -> None:
    """Other systems need not poll then. EventBridge bills these events, so they are off."""
    assert "NotificationConfiguration" not in Deployed().properties("OutputBucket")
    sends = Deployed(OutputEvents="true").properties("OutputBucket")
    assert sends["NotificationConfiguration"] == {
        "EventBridgeConfiguration": {"EventBridgeEnabled": True}
    }


def test_marks_of_failures_expire_with_the_messages() -> None:
    """A mark counts as long as the queue keeps a message; then S3 deletes it."""
    deployed = Deployed(BucketVersioning="true")
    retention = deployed.properties("DeadLetterQueue")["MessageRetentionPeriod"]
    assert timedelta(seconds=retention) == VALID
    rules = deployed.properties("OutputBucket")["LifecycleConfiguration"]["Rules"]
    (marks,) = (rule for rule in rules if rule["Id"] == "FailureMarks")
    assert marks["Prefix"] == PREFIX
    assert timedelta(days=marks["ExpirationInDays"]) == VALID
    assert marks["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert [rule for rule in rules if rule != marks] == (
        deployed.properties("InputBucket")["LifecycleConfiguration"]["Rules"]
    )


def test_the_default_role_has_only_the_permissions_it_needs() -> None:
    """Every statement is listed here by action and resource."""
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
    """The one exception, only with tracing, are X-Ray's two actions, which support no resource."""
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
    "list_objects_v2": "s3:ListBucket",
    "send_message": "sqs:SendMessage",
}
"""Requests to AWS in the function's code, and the IAM action that each needs."""


def test_the_role_allows_exactly_the_requests_of_the_code() -> None:
    """Read from the code: a new request needs a permission, and an unused permission must go."""
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
    # Lambda itself writes the log lines.
    not_in_code = {"logs:CreateLogStream", "logs:PutLogEvents"}
    assert {CALLS[each] for each in called} == allowed - not_in_code


def test_every_statement_of_the_role_has_a_comment() -> None:
    """The comment before a statement says what it is for."""
    lines = template.PATH.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "ThumbnailRole:")
    end = next(i for i, line in enumerate(lines) if i > start and line.startswith("  # ---"))
    for index in range(start, end):
        if re.match(r" +- Sid:| +- !If$", lines[index]) and "- Sid" not in lines[index - 1]:
            before = lines[index - 1].strip() + lines[index - 2].strip()
            conditions = (
                "HasKey",
                "HasFormerKeys",
                "Traced",
                "DeletesWithOriginal",
                "InvalidatesCdn",
            )
            assert "#" in before or any(each in before for each in conditions), lines[index]


def test_the_default_stack_has_these_outputs() -> None:
    """Users and tools find the resources by them."""
    assert Deployed().outputs.keys() == {
        "Version",
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


def test_the_dashboard_names_its_region() -> None:
    """Dashboards are global in an account: stacks of one name in two regions must not share one."""
    name = Deployed().properties("Dashboard")["DashboardName"]
    assert name == "my-image-pipeline-us-east-1"


def test_the_parameters_of_quotas_name_them() -> None:
    """The console and `sam deploy --guided` show the description where the value is typed."""
    definitions = template.source()["Parameters"]
    assert "3,008" in definitions["LambdaMemorySize"]["Description"]
    for name in ("LambdaProvisionedConcurrency", "LambdaReservedConcurrency"):
        assert "quota" in definitions[name]["Description"]
        assert "10" in definitions[name]["Description"]


def test_the_function_has_the_documented_name() -> None:
    """It is ${AWS::StackName}-thumbnail, which is also the dimension of the metrics."""
    name = Deployed().properties("ThumbnailFunction")["FunctionName"]
    assert name == "my-image-pipeline-thumbnail"


@pytest.mark.parametrize("given", template.VARIANTS.values(), ids=template.VARIANTS)
def test_every_service_principal_is_limited_to_this_account(given: dict[str, str]) -> None:
    """No confused deputy: a condition limits each service to this account or to one resource.

    The roles of Lambda and CodeDeploy need no condition: iam:PassRole works only in one account.
    The key cannot have one for EventBridge (docs/security.md); the policy of the queue that it
    encrypts does.
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
            if node.get("Sid") == "UndeliveredEvents":
                assert service == "events.amazonaws.com"
                assert node["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
            elif service and service not in ("codedeploy.amazonaws.com", "lambda.amazonaws.com"):
                found += 1
                limited_by = {key for each in node["Condition"].values() for key in each}
                assert limited_by & {"aws:SourceAccount", "aws:SourceArn"}, node
            for each in node.values():
                check(each)

    deployed = Deployed(**given)
    check(deployed.resources)
    assert found >= 3
    for permission in deployed.of_type("AWS::Lambda::Permission").values():
        assert permission["SourceArn"] in ("arn:aws:s3:::my-input-bucket", "UploadRule.Arn")
        # Another account may create a bucket of that name later. A rule's ARN names the account.
        assert "SourceAccount" in permission or permission["SourceArn"] == "UploadRule.Arn"


def test_deletion_policies_are_plain_and_no_transform_comes_before_sam() -> None:
    """AWS refuses RetainExceptOnCreate together with AWS::LanguageExtensions.

    https://github.com/aws-cloudformation/cfn-language-discussion/issues/139. Emulators accept the
    pair, so no other test would see it. Without that transform, no document says that a policy may
    be an intrinsic function.
    """
    source = template.source()
    assert source["Transform"] == "AWS::Serverless-2016-10-31"
    for name, each in source["Resources"].items():
        for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
            assert isinstance(each.get(policy, ""), str), f"{name}: {policy}"


@pytest.mark.parametrize("value", ["false", "true"])
def test_buckets_and_key_outlive_the_stack_but_not_a_failed_creation(value: str) -> None:
    """The rollback of a first deploy deletes them, so that the next one finds the names free.

    After that CloudFormation itself deletes none of them, whatever the parameters are.
    """
    deployed = Deployed(DeleteBucketContents=value, CreateKmsKey="true")
    for name in ("InputBucket", "OutputBucket", "Key"):
        assert deployed.resources[name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert deployed.resources[name]["UpdateReplacePolicy"] == "Retain"


def test_buckets_are_deleted_only_with_delete_bucket_contents() -> None:
    """Then a function of the stack deletes its buckets and its key, and may delete nothing else.

    The policies of the buckets are deleted before, because they refer to it.
    """
    for name in ("BucketEmptier", "BucketContents", "BucketEmptierRole"):
        assert name not in Deployed().resources
    deployed = Deployed(DeleteBucketContents="true", CreateKmsKey="true")
    emptier = deployed.properties("BucketContents")
    assert emptier["Buckets"] == ["InputBucket", "OutputBucket"]
    assert emptier["Key"] == "Key"
    assert "Key" not in Deployed(DeleteBucketContents="true").properties("BucketContents")
    (policy,) = deployed.properties("BucketEmptierRole")["Policies"]
    allowed = {
        each["Sid"]: (each["Action"], each["Resource"])
        for each in policy["PolicyDocument"]["Statement"]
    }
    assert allowed == {
        "DeleteBuckets": (["s3:ListBucketVersions", "s3:DeleteBucket"], [INPUT, OUTPUT]),
        "DeleteContents": (
            ["s3:DeleteObject", "s3:DeleteObjectVersion"],
            [f"{INPUT}/*", f"{OUTPUT}/*"],
        ),
        "DeleteKey": ("kms:ScheduleKeyDeletion", "Key.Arn"),
        "SeeStack": ("cloudformation:DescribeStacks", template.PSEUDO_PARAMETERS["AWS::StackId"]),
        "InvokeItself": (
            "lambda:InvokeFunction",
            "arn:aws:lambda:us-east-1:123456789012:function:my-image-pipeline-empty-buckets",
        ),
        "WriteLogs": (["logs:CreateLogStream", "logs:PutLogEvents"], LOG_STREAMS),
    }
    for name in ("InputBucketPolicy", "OutputBucketPolicy"):
        assert deployed.resources[name]["Metadata"]["DeletedBefore"] == "BucketContents"
        assert Deployed().resources[name]["Metadata"]["DeletedBefore"] == ""
    existing = Deployed(DeleteBucketContents="true", ExistingInputBucket="true")
    assert existing.properties("BucketContents")["Buckets"] == ["OutputBucket"]
    for each in existing.properties("BucketEmptierRole")["Policies"][0]["PolicyDocument"][
        "Statement"
    ]:
        assert "my-input-bucket" not in json.dumps(each["Resource"])


@pytest.mark.parametrize(
    "parameter", sorted(set(GOOD_AND_BAD) - {"InputBucketName", "OutputBucketName"})
)
def test_only_its_name_parameter_replaces_a_bucket(parameter: str) -> None:
    """Of a bucket's properties, only a change of the name makes CloudFormation replace it."""
    before = Deployed()
    for value in GOOD_AND_BAD[parameter][0]:
        for name in ("InputBucket", "OutputBucket"):
            after = Deployed(**{parameter: value}).resources.get(name)
            if after:
                assert after["Properties"]["BucketName"] == before.properties(name)["BucketName"]


def test_the_alarm_function_errors_rolls_back_a_gradual_deployment() -> None:
    """Off by default. When on, CodeDeploy shifts the alias and rolls back if the alarm goes off."""
    assert Deployed().of_type("AWS::CodeDeploy::DeploymentGroup") == {}
    gradual = Deployed(
        GradualDeployment="true", GradualDeploymentType="Linear10PercentEvery1Minute"
    )
    (group,) = gradual.of_type("AWS::CodeDeploy::DeploymentGroup").values()
    assert group["AlarmConfiguration"] == {"Enabled": True, "Alarms": [{"Name": "FunctionErrors"}]}
    assert "Linear10PercentEvery1Minute" in json.dumps(group["DeploymentConfigName"])
    assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]


def test_the_dev_parameters_are_accepted() -> None:
    """iac/params.dev.json names parameters that exist, and their values are accepted."""
    given = json.loads((template.PATH.parent / "params.dev.json").read_text())
    for name, value in given.items():
        assert accepts(name, str(value)), name
    assert Deployed(**given).broken_rules() == []


def test_the_variants_have_each_two_switches_in_all_four_ways() -> None:
    """So `make validate` lints a resource that depends on two of them in all of its shapes."""
    switches = template.SWITCHES
    for one, other in combinations(switches, 2):
        seen = {(one in given, other in given) for given in template.VARIANTS.values()}
        assert len(seen) == 4, (one, other)


def test_the_variants_switch_every_condition() -> None:
    """Each condition of the template holds in one variant, and does not in another."""
    deployed = [Deployed(**given) for given in template.VARIANTS.values()]
    for condition in template.source()["Conditions"]:
        assert {each.holds(condition) for each in deployed} == {True, False}, condition
