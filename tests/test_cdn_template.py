"""The template with Cdn=true: what the CDN may read, what it answers, and where nothing changes."""

import json
import re
from typing import Any

import pytest
import template
from edge_function import SOURCE
from template import CERTIFICATE, PUBLIC_KEY, Deployed

from thumbnailer.failure_marks import PREFIX
from thumbnailer.provenance import LONG_AGO, Provenance
from thumbnailer.settings import RESERVED_PREFIX
from tools.edge_function import embedded

DISTRIBUTION = "arn:aws:cloudfront::123456789012:distribution/Distribution"
OUTPUT = "arn:aws:s3:::my-output-bucket"
MAX_NAME = {
    "AWS::CloudFront::Function": 64,
    "AWS::CloudFront::OriginAccessControl": 64,
    "AWS::CloudFront::CachePolicy": 128,
    "AWS::CloudFront::ResponseHeadersPolicy": 128,
    "AWS::CloudFront::PublicKey": 128,
    "AWS::CloudFront::KeyGroup": 128,
}
"""Characters of names, by CloudFormation's and CloudFront's references of each type."""


def config(**given: str) -> dict[str, Any]:
    """The configuration of the distribution."""
    found: dict[str, Any] = Deployed(Cdn="true", **given).properties("Distribution")[
        "DistributionConfig"
    ]
    return found


def behaviors(**given: str) -> dict[str, dict[str, Any]]:
    """The distribution's cache behaviors by path pattern, `*` for the default one."""
    made = config(**given)
    return {"*": made["DefaultCacheBehavior"]} | {
        each["PathPattern"]: each for each in made["CacheBehaviors"]
    }


def statements(**given: str) -> dict[str, dict[str, Any]]:
    """The statements of the output bucket's policy by Sid."""
    policy = Deployed(**given).properties("OutputBucketPolicy")["PolicyDocument"]
    return {each["Sid"]: each for each in policy["Statement"]}


def test_the_template_has_the_function_as_it_is_in_its_file() -> None:
    """`make edge-function` copies it. Fn::Sub fills in three values and nothing else."""
    text = template.PATH.read_text()
    assert embedded(text, SOURCE.read_text()) == text
    code = template.source()["Resources"]["Negotiation"]["Properties"]["FunctionCode"]["Fn::Sub"]
    assert code[0] == SOURCE.read_text()
    made = Deployed(Cdn="true", ThumbnailFormats="webp,avif").properties("Negotiation")
    expected = SOURCE.read_text().replace("${Formats}", "webp,avif").replace("${Origins}", "*")
    assert made["FunctionCode"] == expected.replace("${Negotiates}", "true")
    assert made["AutoPublish"] is True


def test_a_template_without_the_place_for_the_function_is_an_error() -> None:
    """Nothing is written then."""
    with pytest.raises(ValueError, match="no FunctionCode"):
        embedded("Resources: {}", "x")


@pytest.mark.parametrize(
    ("key_template", "negotiates"),
    [
        ("{dir}{stem}_{width}w.webp", "true"),  # the default, which means the next one
        ("{dir}{stem}_{size}.{format}", "true"),
        ("t/{stem}.{ext}.{size}.{format}", "true"),
        ("{dir}{stem}-{width}", "false"),
        ("{format}/{dir}{stem}_{size}", "false"),
        ("{stem}_{size}.{format}.bin", "false"),
        ("{stem}_{size}.webp", "false"),
        ("it's\\\n{stem}`${width}", "false"),
    ],
)
def test_negotiation_needs_keys_that_end_with_the_format(
    key_template: str, negotiates: str
) -> None:
    """With any other key template every URL is an exact key, and no character becomes code."""
    made = Deployed(Cdn="true", OutputKeyTemplate=key_template).properties("Negotiation")
    assert f"const NEGOTIATES = '{negotiates}' === 'true';" in made["FunctionCode"]


def test_the_formats_are_those_of_the_thumbnails_unless_chosen() -> None:
    """CdnFormats is empty by default."""
    for given, formats in (
        ({}, "webp"),
        ({"ThumbnailFormats": "webp,avif"}, "webp,avif"),
        ({"ThumbnailFormats": "webp,avif", "CdnFormats": "avif"}, "avif"),
    ):
        made = Deployed(Cdn="true", **given).properties("Negotiation")
        assert f"=> '{formats}'.includes" in made["FunctionCode"]


FORMATS = ("webp", "avif", "jpeg", "webp,avif", "avif,jpeg", "jpeg,avif,webp")


@pytest.mark.parametrize("made", FORMATS)
@pytest.mark.parametrize("chosen", FORMATS)
def test_a_format_that_is_not_made_is_refused(made: str, chosen: str) -> None:
    """The rule fails exactly where CdnFormats has one that ThumbnailFormats has not."""
    missing = set(chosen.split(",")) - set(made.split(","))
    given = {"ThumbnailFormats": made, "CdnFormats": chosen}
    broken = Deployed(Cdn="true", **given).broken_rules()
    assert [each.split()[2].rstrip(",") for each in broken] == [
        each for each in ("webp", "avif", "jpeg") if each in missing
    ]
    assert Deployed(**given).broken_rules() == []


def test_a_domain_needs_a_certificate_and_the_other_way_round() -> None:
    """One without the other is refused before anything changes."""
    both = {"CdnDomain": "img.example.com", "CdnCertificateArn": CERTIFICATE}
    assert Deployed(Cdn="true", **both).broken_rules() == []
    for name, value in both.items():
        assert len(Deployed(Cdn="true", **{name: value}).broken_rules()) == 1


def test_without_a_cdn_nothing_of_it_is_there() -> None:
    """The bucket's and the key's policies, the resources and the outputs are as before."""
    deployed = Deployed(CreateKmsKey="true", CdnPublicKey=PUBLIC_KEY, CdnFormats="webp")
    assert not [each for each in deployed.resources.values() if "CloudFront" in each["Type"]]
    assert set(statements()) == {"TlsOnly"}
    key = deployed.properties("Key")["KeyPolicy"]["Statement"]
    assert {each["Sid"] for each in key} == {"AccountDecides", "Alarms"}
    assert not {"ThumbnailsUrl", "DistributionDomain", "DistributionId"} & deployed.outputs.keys()


@pytest.mark.parametrize(
    "given", [{}, {"CreateKmsKey": "true", "DeleteBucketContents": "true"}], ids=["plain", "key"]
)
def test_turning_the_cdn_on_touches_no_bucket_and_no_queue(given: dict[str, str]) -> None:
    """It changes policies, the function's settings and the dashboard, and nothing else."""
    before, after = Deployed(**given).resources, Deployed(Cdn="true", **given).resources
    changed = {name for name, each in before.items() if after[name] != each}
    settings = {"ThumbnailFunction", "SettingsVersion"}
    assert changed == {"OutputBucketPolicy", "Dashboard"} | settings | ({"Key"} if given else set())


def test_no_resource_refers_to_itself_through_others() -> None:
    """With its own key: the key's policy names the distribution, which does not name the bucket."""
    made = template.translated(template.parameters(Cdn="true", CreateKmsKey="true"))["Resources"]

    def mentioned(node: Any) -> set[str]:
        if isinstance(node, dict):
            found = set().union(*map(mentioned, node.values()))
            if isinstance(node.get("Ref"), str):
                found.add(node["Ref"])
            if "Fn::GetAtt" in node:
                found.add(str(node["Fn::GetAtt"][0]))
            if "Fn::Sub" in node:
                text = node["Fn::Sub"]
                text = text if isinstance(text, str) else text[0]
                found |= set(re.findall(r"\$\{(\w+)", text))
            return found & made.keys()
        return set().union(*map(mentioned, node)) if isinstance(node, list) else set()

    reached = {name: mentioned(each) for name, each in made.items()}
    for _ in made:
        reached = {
            name: each.union(*(reached[one] for one in each)) for name, each in reached.items()
        }
    for name in ("Distribution", "Key", "OutputBucket"):
        assert name not in reached[name]
    assert "Distribution" in reached["Key"]


def test_only_this_distribution_may_read_thumbnails() -> None:
    """It may read objects, list none, and read no report of a backfill, which names originals."""
    found = statements(Cdn="true")
    assert set(found) == {"TlsOnly", "CdnReads", "CdnReadsNoReports"}
    condition = {"StringEquals": {"aws:SourceArn": DISTRIBUTION}}
    for sid, effect, resource in (
        ("CdnReads", "Allow", f"{OUTPUT}/*"),
        ("CdnReadsNoReports", "Deny", f"{OUTPUT}/{RESERVED_PREFIX}*"),
    ):
        assert found[sid] == {
            "Sid": sid,
            "Effect": effect,
            "Principal": {"Service": "cloudfront.amazonaws.com"},
            "Action": "s3:GetObject",
            "Resource": resource,
            "Condition": condition,
        }
    assert PREFIX.startswith(RESERVED_PREFIX)


def test_the_distribution_may_use_the_key_of_the_stack() -> None:
    """Without it, every URL would answer 403."""
    policy = Deployed(Cdn="true", CreateKmsKey="true").properties("Key")["KeyPolicy"]["Statement"]
    (found,) = (each for each in policy if each["Sid"] == "CdnDecrypts")
    assert found["Action"] == "kms:Decrypt"
    assert found["Condition"] == {"StringEquals": {"aws:SourceArn": DISTRIBUTION}}


def test_a_distribution_of_ones_own_may_do_what_the_stacks_may() -> None:
    """The same statements with its ARN, in the bucket's policy and the key's, and nothing else."""
    own = {"ExistingDistribution": template.DISTRIBUTION}

    def with_own_arn(node: Any) -> Any:
        return json.loads(json.dumps(node).replace(DISTRIBUTION, template.DISTRIBUTION))

    assert statements(**own) == with_own_arn(statements(Cdn="true"))
    keys = [
        Deployed(CreateKmsKey="true", **each).properties("Key")["KeyPolicy"]["Statement"]
        for each in (own, {"Cdn": "true"})
    ]
    assert keys[0] == with_own_arn(keys[1])
    before, after = (Deployed(CreateKmsKey="true", **each) for each in ({}, own))
    changed = {name for name, each in before.resources.items() if after.resources[name] != each}
    assert changed == {"OutputBucketPolicy", "Key"}
    assert before.resources.keys() == after.resources.keys()
    assert before.outputs == after.outputs


def test_one_distribution_serves_the_thumbnails() -> None:
    """The stack's own or another: both together are refused."""
    own = {"ExistingDistribution": template.DISTRIBUTION}
    assert Deployed(**own).broken_rules() == []
    (broken,) = Deployed(Cdn="true", **own).broken_rules()
    assert broken == "Set either Cdn=true or ExistingDistribution, not both"


def test_only_urls_without_a_format_run_the_function_and_vary() -> None:
    """Exact keys have behaviors of their own, so a cache keeps one answer for all clients."""
    found = behaviors()
    assert set(found) == {"*", "*.webp", "*.avif", "*.jpeg", "*.json"}
    deployed = Deployed(Cdn="true")
    for pattern, behavior in found.items():
        exact = pattern != "*"
        assert ("FunctionAssociations" in behavior) is not exact
        policy = deployed.properties(behavior["ResponseHeadersPolicyId"])
        headers = policy["ResponseHeadersPolicyConfig"]
        # With CorsConfig, CloudFront writes Vary itself, and a custom one is lost.
        assert ("CorsConfig" in headers) is exact
        vary = [{"Header": "Vary", "Value": "Accept, Origin", "Override": True}]
        assert headers.get("CustomHeadersConfig") == (None if exact else {"Items": vary})
        assert behavior["ViewerProtocolPolicy"] == "redirect-to-https"
        assert behavior["AllowedMethods"] == ["GET", "HEAD"]
        assert "TrustedKeyGroups" not in behavior


def test_only_the_query_string_v_is_in_the_cache_key() -> None:
    """Accept is not, because the function runs before the cache is asked."""
    policy = Deployed(Cdn="true").properties("DistributionCache")["CachePolicyConfig"]
    assert policy["ParametersInCacheKeyAndForwardedToOrigin"] == {
        "EnableAcceptEncodingBrotli": False,
        "EnableAcceptEncodingGzip": False,
        "CookiesConfig": {"CookieBehavior": "none"},
        "HeadersConfig": {"HeaderBehavior": "none"},
        "QueryStringsConfig": {"QueryStringBehavior": "whitelist", "QueryStrings": ["v"]},
    }
    assert (policy["MinTTL"], policy["MaxTTL"]) == (0, 31536000)


def test_a_missing_picture_is_asked_for_again_after_a_second() -> None:
    """CloudFront's default is ten seconds, in which a picture that is ready would stay broken."""
    assert config()["CustomErrorResponses"] == [
        {"ErrorCode": 403, "ErrorCachingMinTTL": 1},
        {"ErrorCode": 404, "ErrorCachingMinTTL": 1},
    ]


@pytest.mark.parametrize("name", ["ExactHeaders", "NegotiatedHeaders"])
def test_answers_hide_what_s3_tells(name: str) -> None:
    """The original's key, etag and time, the version, and the KMS key's ARN with the account."""
    policy = Deployed(
        Cdn="true", CdnAllowedOrigins="https://a.example,http://b.example"
    ).properties(name)["ResponseHeadersPolicyConfig"]
    removed = {each["Header"] for each in policy["RemoveHeadersConfig"]["Items"]}
    written = Provenance("a.jpg", "0", LONG_AGO, "0").to_metadata()
    assert {f"x-amz-meta-{each}" for each in written} <= removed
    assert "x-amz-server-side-encryption-aws-kms-key-id" in removed
    assert len(removed) <= 10  # CloudFront's quota
    assert policy["SecurityHeadersConfig"] == {"ContentTypeOptions": {"Override": True}}


def test_the_same_origins_are_allowed_at_every_path() -> None:
    """By the response headers policy for exact keys, by the function for negotiated URLs."""
    deployed = Deployed(Cdn="true", CdnAllowedOrigins="https://a.example,http://b.example")
    policy = deployed.properties("ExactHeaders")["ResponseHeadersPolicyConfig"]
    cors = policy["CorsConfig"]
    assert cors["AccessControlAllowOrigins"] == {"Items": ["https://a.example", "http://b.example"]}
    assert cors["AccessControlAllowCredentials"] is False
    code = deployed.properties("Negotiation")["FunctionCode"]
    assert "ORIGINS = 'https://a.example,http://b.example'.split" in code
    runs = [each["EventType"] for each in behaviors()["*"]["FunctionAssociations"]]
    assert runs == ["viewer-request", "viewer-response"]


def test_a_public_key_makes_every_path_private() -> None:
    """Each behavior trusts the one key, and nobody else."""
    for behavior in behaviors(CdnPublicKey=PUBLIC_KEY).values():
        assert behavior["TrustedKeyGroups"] == ["DistributionKeys"]
    deployed = Deployed(Cdn="true", CdnPublicKey=PUBLIC_KEY)
    assert deployed.properties("DistributionKeys")["KeyGroupConfig"]["Items"] == ["DistributionKey"]
    key = deployed.properties("DistributionKey")["PublicKeyConfig"]
    assert key["EncodedKey"] == PUBLIC_KEY


def test_the_url_is_that_of_the_domain_if_there_is_one() -> None:
    """Otherwise CloudFront's. A minimum version of TLS is possible with a domain only."""
    plain, own = config(), {"CdnDomain": "img.example.com", "CdnCertificateArn": CERTIFICATE}
    assert plain["ViewerCertificate"] == {"CloudFrontDefaultCertificate": True}
    assert "Aliases" not in plain
    assert Deployed(Cdn="true").outputs["ThumbnailsUrl"] == "https://Distribution.DomainName"
    deployed = Deployed(Cdn="true", **own)
    assert deployed.outputs["ThumbnailsUrl"] == "https://img.example.com"
    assert deployed.outputs["DistributionDomain"] == "Distribution.DomainName"
    made = config(**own)
    assert made["Aliases"] == ["img.example.com"]
    assert made["ViewerCertificate"]["MinimumProtocolVersion"] == "TLSv1.2_2021"


def test_names_are_unique_in_the_account_and_not_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have stack and region, and fit with the longest name that `deploy` allows."""
    monkeypatch.setitem(template.PSEUDO_PARAMETERS, "AWS::StackName", "s" * 49)
    monkeypatch.setitem(template.PSEUDO_PARAMETERS, "AWS::Region", "ap-southeast-1")
    deployed = Deployed(Cdn="true", CdnPublicKey=PUBLIC_KEY)
    for kind, longest in MAX_NAME.items():
        for properties in deployed.of_type(kind).values():
            name = properties.get("Name") or next(iter(properties.values()))["Name"]
            assert name.startswith(f"{'s' * 49}-ap-southeast-1")
            assert len(name) <= longest
    assert len(deployed.properties("Distribution")["DistributionConfig"]["Comment"]) <= 128
