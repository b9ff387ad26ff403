"""The patches of ministack for CloudFront; see test_ministack_patches.py."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.signers import CloudFrontSigner
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from serving import ministack
from web import at_distribution

from image_pipeline.stack.aws import Aws

pytestmark = pytest.mark.local_stack

BUCKET = "thumbnails"
PRIVATE_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_KEY = (
    PRIVATE_KEY.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
REWRITES = """
function handler(event) {
  event.request.uri = '/' + event.request.uri.slice(1).toLowerCase();
  return event.request;
}
"""


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Aws]]:
    """Start ministack without the named patches, or return the one that runs without them."""
    running: dict[Any, Aws] = {}
    with ExitStack() as stack:

        def started(*without: str, **variables: str) -> Aws:
            key = (without, *variables.items())
            if key not in running:
                context = ministack(tmp_path_factory.mktemp("ministack"), *without, **variables)
                running[key], _ = stack.enter_context(context)
                running[key].s3.create_bucket(Bucket=BUCKET)
            return running[key]

        yield started


def deploy(aws: Aws, name: str, resources: dict[str, Any], **behavior: Any) -> str:
    """Create a stack with a distribution over the bucket; return the distribution's domain."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "cloudfront.amazonaws.com"},
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{BUCKET}/*",
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    aws.s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
    access = {
        "Name": name,
        "OriginAccessControlOriginType": "s3",
        "SigningBehavior": "always",
        "SigningProtocol": "sigv4",
    }
    origin = {
        "Id": "s3",
        "DomainName": f"{BUCKET}.s3.us-east-1.amazonaws.com",
        "OriginAccessControlId": {"Ref": "Access"},
        "S3OriginConfig": {"OriginAccessIdentity": ""},
    }
    default = {
        "TargetOriginId": "s3",
        "ViewerProtocolPolicy": "redirect-to-https",
        "CachePolicyId": "658327ea-f89d-4fab-a63d-7e88639e58f6",
        **behavior,
    }
    template = {
        "Resources": {
            "Access": {
                "Type": "AWS::CloudFront::OriginAccessControl",
                "Properties": {"OriginAccessControlConfig": access},
            },
            "Distribution": {
                "Type": "AWS::CloudFront::Distribution",
                "Properties": {
                    "DistributionConfig": {
                        "Enabled": True,
                        "Origins": [origin],
                        "DefaultCacheBehavior": default,
                    }
                },
            },
            **resources,
        },
        "Outputs": {"Domain": {"Value": {"Fn::GetAtt": ["Distribution", "DomainName"]}}},
    }
    aws.cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    waiter = aws.cloudformation.get_waiter("stack_create_complete")
    waiter.wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    (stack,) = aws.cloudformation.describe_stacks(StackName=name)["Stacks"]
    return stack["Outputs"][0]["OutputValue"]


# --- find_node_in_this_environment ----------------------------------------------------------------
def rewritten(aws: Aws) -> int:
    """The status of a path that a function rewrites to the key of an object."""
    function = {
        "Type": "AWS::CloudFront::Function",
        "Properties": {
            "Name": "rewrites",
            "AutoPublish": True,
            "FunctionCode": REWRITES,
            "FunctionConfig": {"Comment": "", "Runtime": "cloudfront-js-2.0"},
        },
    }
    association = {
        "EventType": "viewer-request",
        "FunctionARN": {"Fn::GetAtt": ["Rewrites", "FunctionARN"]},
    }
    domain = deploy(aws, "node", {"Rewrites": function}, FunctionAssociations=[association])
    aws.s3.put_object(Bucket=BUCKET, Key="a", Body=b"a")
    return at_distribution(aws, domain, "GET", "/A").status


def test_a_function_runs_without_node_on_the_path(start: Callable[..., Aws]) -> None:
    """The one of ministack's environment runs it."""
    assert rewritten(start(PATH="/nonexistent")) == 200


def test_unpatched_a_function_needs_node_on_the_path(start: Callable[..., Aws]) -> None:
    """Plain ministack answers as if the function had failed."""
    assert rewritten(start("find_node_in_this_environment", PATH="/nonexistent")) == 503


# --- keep_slashes_at_the_beginning_of_keys --------------------------------------------------------
def with_slash(aws: Aws) -> set[int]:
    """The status of two ways to write a key that begins with a slash."""
    aws.s3.put_object(Bucket=BUCKET, Key="/slash", Body=b"a")
    domain = deploy(aws, "slash", {})
    return {at_distribution(aws, domain, "GET", path).status for path in ("/%2Fslash", "//slash")}


def test_a_key_may_begin_with_a_slash(start: Callable[..., Aws]) -> None:
    """Only the first slash of the path separates it from the host."""
    assert with_slash(start()) == {200}


def test_unpatched_a_key_cannot_begin_with_a_slash(start: Callable[..., Aws]) -> None:
    """Plain ministack looks for another object."""
    assert with_slash(start("keep_slashes_at_the_beginning_of_keys")) == {403}


# --- let_cors_write_vary --------------------------------------------------------------------------
def vary(aws: Aws) -> list[str | None]:
    """Vary by a policy with CORS and a custom Vary: without an origin in the request, and with."""
    cors = {
        "AccessControlAllowCredentials": False,
        "AccessControlAllowHeaders": {"Items": ["*"]},
        "AccessControlAllowMethods": {"Items": ["GET"]},
        "AccessControlAllowOrigins": {"Items": ["*"]},
        "OriginOverride": True,
    }
    custom = {"Items": [{"Header": "Vary", "Value": "Accept", "Override": True}]}
    config = {"Name": "vary", "CorsConfig": cors, "CustomHeadersConfig": custom}
    policy = {
        "Type": "AWS::CloudFront::ResponseHeadersPolicy",
        "Properties": {"ResponseHeadersPolicyConfig": config},
    }
    domain = deploy(aws, "vary", {"Policy": policy}, ResponseHeadersPolicyId={"Ref": "Policy"})
    aws.s3.put_object(Bucket=BUCKET, Key="a", Body=b"a")
    plain = at_distribution(aws, domain, "GET", "/a").headers
    cross = at_distribution(aws, domain, "GET", "/a", Origin="https://a.example").headers
    return [plain.get("vary"), cross.get("vary")]


def test_cors_decides_vary(start: Callable[..., Aws]) -> None:
    """A custom Vary is lost, as in AWS."""
    assert vary(start()) == ["Origin", None]


def test_unpatched_a_custom_vary_is_kept(start: Callable[..., Aws]) -> None:
    """Plain ministack sends it."""
    assert vary(start("let_cors_write_vary")) == ["Accept", "Accept"]


# --- create_public_keys_and_key_groups, refuse_unsigned_requests_to_private_distributions ---------
def private(aws: Aws, name: str) -> tuple[str, str]:
    """Deploy a distribution that trusts PUBLIC_KEY; return its domain and the key's id."""
    config = {"Name": name, "CallerReference": name, "EncodedKey": PUBLIC_KEY}
    group = {"Name": name, "Items": [{"Ref": "PublicKey"}]}
    resources = {
        "PublicKey": {
            "Type": "AWS::CloudFront::PublicKey",
            "Properties": {"PublicKeyConfig": config},
        },
        "Group": {"Type": "AWS::CloudFront::KeyGroup", "Properties": {"KeyGroupConfig": group}},
    }
    domain = deploy(aws, name, resources, TrustedKeyGroups=[{"Ref": "Group"}])
    aws.s3.put_object(Bucket=BUCKET, Key="a b.webp", Body=b"a")
    found = aws.cloudformation.describe_stack_resource(
        StackName=name, LogicalResourceId="PublicKey"
    )
    return domain, found["StackResourceDetail"]["PhysicalResourceId"]


def sign(message: bytes) -> bytes:
    """Sign as CloudFront expects it of RSA keys."""
    return PRIVATE_KEY.sign(message, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - CloudFront's


def test_only_signed_urls_are_served(start: Callable[..., Aws]) -> None:
    """By botocore's signer: for a URL and a time, or by a policy with a wildcard; else 403."""
    aws = start()
    domain, key = private(aws, "private")
    signer = CloudFrontSigner(key, sign)
    host = at_distribution(aws, domain, "GET", "/").host
    url, soon = f"http://{host}/a%20b.webp", int(time.time()) + 60

    def status(signed: str) -> int:
        return at_distribution(aws, domain, "GET", signed.removeprefix(f"http://{host}")).status

    assert status(url) == 403
    canned = signer.generate_presigned_url(url, policy=None, date_less_than=_time(soon))
    assert status(canned) == 200
    assert status(canned.replace("a%20b", "a%20c")) == 403
    assert status(canned.replace(key, "K0")) == 403
    assert status(canned.replace(str(soon), str(soon + 1))) == 403
    late = signer.generate_presigned_url(url, date_less_than=_time(soon - 120))
    assert status(late) == 403
    policy = signer.build_policy(f"http://{host}/a*", _time(soon), date_greater_than=_time(1))
    custom = signer.generate_presigned_url(url, policy=policy)
    assert status(custom) == 200
    assert status(custom.replace("/a%20b", "/b")) == 403
    early = signer.build_policy(f"http://{host}/a*", _time(soon), date_greater_than=_time(soon))
    assert status(signer.generate_presigned_url(url, policy=early)) == 403


def test_signed_cookies_are_a_signature_for_every_url(start: Callable[..., Aws]) -> None:
    """A policy in cookies, as a site sends them for all of its private pictures."""
    aws = start()
    domain, key = private(aws, "cookies")
    host = at_distribution(aws, domain, "GET", "/").host
    policy = CloudFrontSigner(key, sign).build_policy(
        f"http://{host}/*", _time(int(time.time()) + 60), date_greater_than=_time(1)
    )

    def cookie(policy: str, signature: bytes) -> str:
        text = {
            "Policy": base64.b64encode(policy.encode()),
            "Signature": base64.b64encode(signature),
        }
        encoded = {
            name: value.decode().translate(str.maketrans("+=/", "-_~"))
            for name, value in text.items()
        }
        values = encoded | {"Key-Pair-Id": key}
        return "; ".join(f"CloudFront-{name}={value}" for name, value in values.items())

    good, bad = cookie(policy, sign(policy.encode())), cookie(policy, sign(b"another"))
    assert at_distribution(aws, domain, "GET", "/a%20b.webp", Cookie=good).status == 200
    assert at_distribution(aws, domain, "GET", "/a%20b.webp", Cookie=bad).status == 403


def test_unpatched_everybody_is_served(start: Callable[..., Aws]) -> None:
    """Plain ministack does not look for a signature."""
    aws = start("refuse_unsigned_requests_to_private_distributions")
    domain, _ = private(aws, "private")
    assert at_distribution(aws, domain, "GET", "/a%20b.webp").status == 200


def test_unpatched_there_are_no_keys_in_a_stack(start: Callable[..., Aws]) -> None:
    """Plain ministack refuses a template with a public key."""
    with pytest.raises(ClientError, match="Unrecognized resource types"):
        private(start("create_public_keys_and_key_groups"), "private")


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
