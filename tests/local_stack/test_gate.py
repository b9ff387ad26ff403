"""The gate in front of the local AWS: who holds a key of the stack is admitted, nobody else.

The local AWS runs here as `up` starts it. Requests are sent as a web page of another port or host,
another user of the machine, or somebody with half of the key would send them.
"""

import base64
import http.client
import json
import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import S3Store
from serving import client, create_function, invoke, ministack

from image_pipeline.ports import HOST
from image_pipeline.stack.aws import Aws
from tools import browser as chromium

pytestmark = pytest.mark.local_stack

BUCKET = "private"
KEY = "uploads/a b+ü%2F&=~'!.jpg"
BODY = b"not for pages"
PAGE = "http://localhost:5173"
"""The origin of a page that some other server of the machine serves."""

FOREIGN_ORIGINS = [PAGE, "http://evil.example", "null", None]

NEW_FUNCTION = json.dumps(
    {
        "FunctionName": "drive-by",
        "Runtime": "python3.13",
        "Handler": "index.handler",
        "Role": "arn:aws:iam::000000000000:role/any",
        "Code": {"ZipFile": base64.b64encode(b"PK\x05\x06" + bytes(18)).decode()},
    }
)
FUNCTIONS = "/2015-03-31/functions"

type Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """A local AWS with an object in a bucket."""
    with ministack(tmp_path_factory.mktemp("gate")) as (aws, _):
        aws.s3.create_bucket(Bucket=BUCKET)
        aws.s3.put_object(Bucket=BUCKET, Key=KEY, Body=BODY)
        yield aws


def port_of(aws: Aws) -> int:
    """Where it listens."""
    port = urlsplit(str(aws.endpoint_url)).port
    assert port
    return port


def send(
    aws: Aws, method: str, path: str, body: bytes | str = b"", **headers: str | None
) -> Answer:
    """Send a request exactly as given, with headers by names with underscores."""
    connection = http.client.HTTPConnection(HOST, port_of(aws), timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items() if value}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read()
    finally:
        connection.close()


def signed(
    aws: Aws, method: str, path: str, body: bytes = b"", *, host: str | None = None, **headers: str
) -> dict[str, str]:
    """The headers of a request that is signed with the stack's key, for `host`."""
    url = f"http://{host or f'{HOST}:{port_of(aws)}'}{path}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method, url, named, body)
    key = aws.environment
    credentials = Credentials(key["AWS_ACCESS_KEY_ID"], key["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(credentials, "lambda", "us-east-1").add_auth(request)
    return {"Host": urlsplit(url).netloc, **dict(request.headers.items())}


def presigned(aws: Aws, method: str = "get_object", **more: Any) -> str:
    """Path and query of a presigned URL of the object."""
    url = aws.s3_links.generate_presigned_url(
        method, Params={"Bucket": BUCKET, "Key": KEY, **more}, ExpiresIn=60
    )
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def status_for_another_user(url: str) -> str:
    """The status of an answer to a GET by the user `nobody`, if there is one."""
    curl = ("curl", "--silent", "--max-time", "5", "--output", os.devnull)
    ran = subprocess.run(  # noqa: S603 - a GET
        [*curl, "--write-out", "%{http_code}", url],
        user=65534,
        env={"PATH": os.defpath},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout


def assert_refused(answer: Answer, reason: str = "") -> None:
    """It is a 403 with a sentence, which no page can read, and nothing of the object."""
    status, headers, body = answer
    assert status == 403
    assert not [name for name in headers if name.startswith("access-control-")]
    assert reason in body.decode()
    assert body.decode().strip().endswith(("</ErrorResponse>", "}"))
    assert BODY not in body


# --- pages and strangers --------------------------------------------------------------------------
@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
def test_nobody_creates_a_function_without_the_key(
    aws: Aws, origin: str | None, content_type: str
) -> None:
    """A page needs no preflight to POST text: the request itself is refused."""
    answer = send(aws, "POST", FUNCTIONS, NEW_FUNCTION, Origin=origin, Content_Type=content_type)
    assert_refused(answer, "not signed")
    assert aws.functions.list_functions()["Functions"] == []


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
@pytest.mark.parametrize("path", ["/", f"/{BUCKET}", f"/{BUCKET}?list-type=2", "/health"])
def test_nobody_reads_without_the_key(aws: Aws, origin: str | None, path: str) -> None:
    """Buckets, keys and health are closed, to pages and to programs."""
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
        assert_refused(send(aws, method, path, Origin=origin))
    status, _, body = send(aws, "HEAD", path, Origin=origin)
    assert (status, body) == (403, b"")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        HOST,
        "localhost",
        "127.0.0.1:1",
        "0.0.0.0:{port}",
        "{bucket}.localhost:{port}",
        "127.0.0.1.evil.example:{port}",
        "[::1]:{port}",
        "127.1:{port}",
    ],
)
def test_the_host_is_exact(aws: Aws, host: str) -> None:
    """A name that an attacker's DNS leads to loopback is not answered, even if it is signed."""
    host = host.format(port=port_of(aws), bucket=BUCKET)
    headers = signed(aws, "GET", FUNCTIONS, host=host)
    assert_refused(send(aws, "GET", FUNCTIONS, **headers), "answers to the host")
    assert_refused(send(aws, "GET", "/", Host=host), "answers to the host")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_both_names_of_loopback_are_answered(aws: Aws, host: str) -> None:
    """A request that is signed for localhost is admitted as well."""
    headers = signed(aws, "GET", FUNCTIONS, host=f"{host}:{port_of(aws)}")
    assert send(aws, "GET", FUNCTIONS, **headers)[0] == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_of_the_machine_is_refused(aws: Aws) -> None:
    """Neither the key nor an answer is within reach of another user."""
    assert status_for_another_user(str(aws.endpoint_url)) == "403"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/_ministack/reset"),
        ("POST", "/_ministack/config"),
        ("GET", "/_ministack/health"),
        ("GET", "/_ministack/ready"),
        ("GET", "/_ministack/sqs/messages"),
        ("GET", "/_ministack/lambda-code/any"),
        ("PUT", "/_ministack/cfn-signal/any"),
        ("PUT", "/_ministack/cfn-response/"),
        ("PUT", "/_ministack/cfn-response/11111111-1111-4111-8111-111111111111"),
        ("PUT", "/%5Fministack/cfn-response/any"),
        ("POST", "/%5fministack/reset"),
        ("GET", "/_localstack/health"),
        ("GET", "/health"),
        ("GET", "/_aws/execute-api/any/stage"),
    ],
)
def test_the_emulators_own_paths_are_closed(aws: Aws, method: str, path: str) -> None:
    """They are closed to everybody, signed or not: one deletes all that is there."""
    for headers in ({}, {"Origin": PAGE}, signed(aws, method, path)):
        assert_refused(send(aws, method, path, **headers), "own paths are closed")
    assert aws.s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == BODY


def test_web_sockets_are_refused(aws: Aws) -> None:
    """A page may open a WebSocket to any origin, so none is accepted."""
    status, _, _ = send(
        aws,
        "GET",
        "/",
        Origin=PAGE,
        Connection="Upgrade",
        Upgrade="websocket",
        Sec_WebSocket_Version="13",
        Sec_WebSocket_Key=base64.b64encode(bytes(16)).decode(),
    )
    assert status == 403


# --- signatures -----------------------------------------------------------------------------------
def test_the_secret_must_be_right(aws: Aws) -> None:
    """The key's name is in every presigned URL, so it alone opens nothing."""
    key_id = aws.environment["AWS_ACCESS_KEY_ID"]
    for service in ("s3", "lambda", "sqs", "stepfunctions", "cloudformation"):
        with pytest.raises(ClientError, match="signature we calculated does not match"):
            first_list(client(aws, service, key_id, "wrong"))


@pytest.mark.parametrize("key_id", ["test", "000000000000", "123456789012", "AKIAIOSFODNN7EXAMPLE"])
def test_the_emulators_own_keys_are_refused(aws: Aws, key_id: str) -> None:
    """For ministack `test` and every account's number are root's, with any secret."""
    for secret in ("test", aws.environment["AWS_SECRET_ACCESS_KEY"]):
        for service in ("s3", "lambda", "sqs", "stepfunctions", "cloudformation"):
            with pytest.raises(ClientError, match="not one of this stack"):
                first_list(client(aws, service, key_id, secret))


def first_list(service: Any) -> None:
    """Send the request of a service that lists something."""
    names = ("list_buckets", "list_functions", "list_queues", "list_state_machines", "list_stacks")
    next(getattr(service, name) for name in names if hasattr(service, name))()


def test_a_key_that_iam_has_given_out_is_admitted(aws: Aws) -> None:
    """A user's own key works with its own secret only."""
    iam = client(aws, "iam")
    iam.create_user(UserName="somebody")
    key = iam.create_access_key(UserName="somebody")["AccessKey"]
    client(aws, "s3", key["AccessKeyId"], key["SecretAccessKey"]).list_buckets()
    with pytest.raises(ClientError, match="does not match"):
        client(
            aws, "s3", key["AccessKeyId"], aws.environment["AWS_SECRET_ACCESS_KEY"]
        ).list_buckets()


def test_a_session_token_of_another_account_is_ignored(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell may export one, and then it is sent with the pasted key."""
    for name, value in (aws.environment | {"AWS_SESSION_TOKEN": "other"}).items():
        monkeypatch.setenv(name, value)
    assert boto3.Session().client("s3").list_buckets()["Buckets"]


def test_a_signed_body_is_the_one_that_was_signed(aws: Aws) -> None:
    """Another body under the same signature is refused, with and without a header for its hash."""
    body = b'{"FunctionName": "x"}'
    headers = signed(aws, "POST", FUNCTIONS, body)
    assert_refused(send(aws, "POST", FUNCTIONS, b'{"FunctionName": "y"}', **headers))
    store = f"/{BUCKET}/other.jpg"
    captured: list[AWSRequest] = []
    probe = client(aws, "s3")
    probe.meta.events.register("before-send", lambda request, **_: captured.append(request))
    probe.put_object(Bucket=BUCKET, Key="other.jpg", Body=b"one")
    headers = {name: _text(value) for name, value in captured[0].headers.items()}
    headers.pop("Expect", None)
    assert send(aws, "PUT", store, b"one", **headers)[0] == 200
    assert_refused(send(aws, "PUT", store, b"two", **headers), "not the one that was signed")


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("days", [-2, -0.02, 0.02, 2])
def test_a_signature_of_another_time_is_refused(
    aws: Aws, days: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is good for 15 minutes."""
    then = datetime.now(UTC) + timedelta(days=days)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_: then.replace(tzinfo=None))
    headers = signed(aws, "GET", FUNCTIONS)
    assert_refused(send(aws, "GET", FUNCTIONS, **headers), "signature")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Authorization": "AWS4-HMAC-SHA256"}, "requires"),
        ({"Authorization": "AWS4-HMAC-SHA256 Credential=a, Signature=b, SignedHeaders=c"}, ""),
        ({"Authorization": "AWS test:c2ln"}, "Signature Version 4"),
        ({"Authorization": "Bearer x"}, "Signature Version 4"),
        ({"Authorization": "AWS4-ECDSA-P256-SHA256 Credential=a/b/c/d"}, "Signature Version 4"),
    ],
)
def test_an_incomplete_signature_is_refused(aws: Aws, headers: dict[str, str], reason: str) -> None:
    """Version 2, version 4A and fragments are not signatures here."""
    assert_refused(send(aws, "GET", FUNCTIONS, **headers), reason)


@given(st.text(st.characters(codec="latin-1", exclude_categories=["Cc"])), st.booleans())
@settings(max_examples=100)
def test_no_text_is_a_signature(aws: Aws, text: str, in_query: bool) -> None:  # noqa: FBT001
    """Any other Authorization header or query gets 403, never an error of the server."""
    if in_query:
        query = "X-Amz-Signature=" + "".join(
            c for c in text if (c.isascii() and c.isalnum()) or c in "&=%/+"
        )
        assert_refused(send(aws, "GET", f"/{BUCKET}?{query}"))
    else:
        value = f"AWS4-HMAC-SHA256 {text}".strip()
        assert_refused(send(aws, "GET", f"/{BUCKET}", Authorization=value))


# --- presigned URLs -------------------------------------------------------------------------------
def test_presigned_urls_pass(aws: Aws) -> None:
    """GET, HEAD and PUT work from a page, without the key."""
    status, headers, body = send(aws, "GET", presigned(aws), Origin=PAGE)
    assert (status, body) == (200, BODY)
    assert not [name for name in headers if name.startswith("access-control-")]
    assert send(aws, "HEAD", presigned(aws, "head_object"))[0] == 200
    put = presigned(aws, "put_object", ContentType="image/jpeg")
    assert send(aws, "PUT", put, BODY, Content_Type="image/jpeg")[0] == 200
    plain = client(aws, "s3").generate_presigned_url(
        "put_object", {"Bucket": BUCKET, "Key": KEY, "ContentType": "image/jpeg"}
    )
    path = plain.removeprefix(str(aws.endpoint_url))
    assert send(aws, "PUT", path, BODY, Content_Type="image/jpeg")[0] == 200
    assert_refused(send(aws, "PUT", path, BODY, Content_Type="text/html"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (BUCKET, "another"),
        ("uploads/", "uploads/x"),
        ("X-Amz-Expires=60", "X-Amz-Expires=61"),
        ("X-Amz-Expires=60", "X-Amz-Expires=604801"),
        ("X-Amz-Expires=60", "X-Amz-Expires=-1"),
        ("X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Expires=61"),
        ("X-Amz-Expires=60&", ""),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
        ("X-Amz-Signature=", "uploadId=1&X-Amz-Signature="),
        ("X-Amz-Signature=", "acl&X-Amz-Signature="),
        ("X-Amz-Signature=", "X-Amz-Signature=0&X-Amz-Signature="),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders="),
        ("us-east-1", "us-east-2"),
        ("X-Amz-Credential=LOCAL", "X-Amz-Credential=OTHER"),
    ],
)
def test_a_changed_presigned_url_is_refused(aws: Aws, old: str, new: str) -> None:
    """Path, query, expiry and key are signed."""
    url = presigned(aws)
    assert old in url
    assert_refused(send(aws, "GET", url.replace(old, new)))


def test_a_presigned_url_is_for_its_method_and_headers(aws: Aws) -> None:
    """A GET is no DELETE, and no header of S3's can be added: a copy's source, for one."""
    assert_refused(send(aws, "DELETE", presigned(aws)))
    assert_refused(send(aws, "POST", presigned(aws)))
    put = presigned(aws, "put_object")
    copied = {"x-amz-copy-source": f"/{BUCKET}/{KEY}"}
    assert_refused(send(aws, "PUT", put, **copied), "does not cover x-amz-copy-source")
    assert_refused(send(aws, "GET", presigned(aws), **signed(aws, "GET", "/")), "signed twice")


FORM = "application/x-www-form-urlencoded"
ACTION = b"Action=ListStacks&Version=2010-05-15"


def test_a_presigned_url_is_for_s3_whatever_its_body(aws: Aws) -> None:
    """Who was given a URL to upload to stores a form there, and no service acts on it."""
    status, _, _ = send(aws, "PUT", presigned(aws, "put_object"), ACTION, Content_Type=FORM)
    assert status == 200
    assert aws.s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == ACTION
    aws.s3.put_object(Bucket=BUCKET, Key=KEY, Body=BODY)
    status, _, body = send(aws, "GET", presigned(aws), ACTION, Content_Type=FORM)
    assert (status, body) == (200, BODY)


def test_a_presigned_url_expires(aws: Aws) -> None:
    """After its seconds it is refused."""
    url = aws.s3_links.generate_presigned_url(
        "get_object", Params={"Bucket": BUCKET, "Key": KEY}, ExpiresIn=1
    )
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}"
    assert send(aws, "GET", path)[0] == 200
    time.sleep(2.1)
    assert_refused(send(aws, "GET", path), "expired")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        (BUCKET, "another"),
        ("uploads/", "uploads/x"),
        ("Expires=", "Expires=1"),
        ("Signature=", "Signature=0"),
        ("AWSAccessKeyId=LOCAL", "AWSAccessKeyId=OTHER"),
        ("?", "?acl&"),
        ("?", "?attributes&"),
        ("?", "?Action=ListUsers&"),
        ("?", "?Expires=1&"),
        ("?", "?X-Amz-Signature=1&"),
        ("?", "?response-content-type=a+b&"),
    ],
)
def test_presigned_urls_of_version_2_pass_unchanged(aws: Aws, old: str, new: str) -> None:
    """boto3 makes them by default: a plain client's URL works, and no other."""
    s3 = client(aws, "s3")
    url = urlsplit(s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": KEY}))
    path = f"{url.path}?{url.query}"
    assert "AWSAccessKeyId=" in path
    assert old in path
    answer = send(aws, "GET", path.replace(old, new) if old else path)
    if old:
        assert_refused(answer)
    else:
        assert (answer[0], answer[2]) == (200, BODY)
        assert_refused(send(aws, "DELETE", path))
        assert_refused(send(aws, "GET", path, **{"x-amz-copy-source": "x"}))
        expired = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": KEY}, -5)
        assert_refused(send(aws, "GET", expired.removeprefix(str(aws.endpoint_url))), "expired")


# --- CORS -----------------------------------------------------------------------------------------
def test_only_the_buckets_rule_opens_it_to_pages(aws: Aws) -> None:
    """Preflights and answers follow the bucket's rule; without one, no page may do anything."""
    aws.s3.create_bucket(Bucket="open")
    asked = {
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }
    assert send(aws, "OPTIONS", "/open/x", Origin=PAGE, **asked)[0] == 403
    rule = {"AllowedOrigins": [PAGE], "AllowedMethods": ["PUT"], "AllowedHeaders": ["content-type"]}
    aws.s3.put_bucket_cors(Bucket="open", CORSConfiguration={"CORSRules": [rule]})  # type: ignore[typeddict-item]
    status, headers, _ = send(aws, "OPTIONS", "/open/x", Origin=PAGE, **asked)
    assert (status, headers["access-control-allow-origin"]) == (200, PAGE)
    put = urlsplit(
        aws.s3_links.generate_presigned_url("put_object", Params={"Bucket": "open", "Key": "x"})
    )
    path = f"{put.path}?{put.query}"
    for origin, allowed in ((PAGE, PAGE), ("http://evil.example", None), (None, None)):
        status, headers, _ = send(aws, "PUT", path, b"x", Origin=origin)
        assert (status, headers.get("access-control-allow-origin")) == (200, allowed)
    for refused in (
        send(aws, "OPTIONS", "/open/x", Origin="http://evil.example", **asked),
        send(aws, "OPTIONS", "/open/x", Origin=PAGE, Access_Control_Request_Method="DELETE"),
        send(aws, "OPTIONS", "/open/x", Origin=PAGE),
        send(aws, "OPTIONS", "/", Origin=PAGE, **asked),
        send(aws, "OPTIONS", "/none/x", Origin=PAGE, **asked),
        send(aws, "OPTIONS", FUNCTIONS, Origin=PAGE, **asked),
        send(aws, "OPTIONS", "/_ministack/reset", Origin=PAGE, **asked),
    ):
        assert refused[0] == 403
        assert not [name for name in refused[1] if name.startswith("access-control-")]


def test_answers_to_other_services_have_no_cors_headers(aws: Aws) -> None:
    """They get the `*` of ministack no more."""
    headers = signed(aws, "GET", FUNCTIONS) | {"Origin": PAGE}
    status, found, _ = send(aws, "GET", FUNCTIONS, **headers)
    assert status == 200
    assert not [name for name in found if name.startswith("access-control-")]


# --- clients that pass ----------------------------------------------------------------------------
@given(st.text(min_size=1, max_size=40))
@settings(max_examples=100)
def test_any_key_passes_by_boto3_and_by_a_presigned_url(aws: Aws, text: str) -> None:
    """The gate reads paths, queries and metadata as clients sign them."""
    key = "k/" + re.sub(r"[\x00-\x1f\ud800-\udfff\ufffe\uffff\x7f]", "", text)
    aws.s3.put_object(Bucket=BUCKET, Key=key, Body=BODY, Metadata={"note": "two  spaces "})
    assert aws.s3.list_objects_v2(Bucket=BUCKET, Prefix=key)["KeyCount"] >= 1
    url = aws.s3_links.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": key})
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - of loopback
        assert answer.read() == BODY
    aws.s3.delete_object(Bucket=BUCKET, Key=key)


@pytest.mark.parametrize("key", ["plain.jpg", "a b/ü+&=~.jpg"])
def test_obstore_passes(aws: Aws, key: str) -> None:
    """The function's own client reads and writes."""
    given_key = aws.environment
    store = S3Store(
        BUCKET,
        endpoint=given_key["AWS_ENDPOINT_URL"],
        access_key_id=given_key["AWS_ACCESS_KEY_ID"],
        secret_access_key=given_key["AWS_SECRET_ACCESS_KEY"],
        region=given_key["AWS_DEFAULT_REGION"],
        client_options={"allow_http": True},
    )
    store.put(key, BODY)
    assert bytes(store.get(key).bytes()) == BODY


@pytest.mark.parametrize("megabytes", [0, 1, 30])
def test_large_bodies_pass(aws: Aws, megabytes: int) -> None:
    """In one PUT, in parts, and with a checksum behind the body."""
    body = os.urandom(megabytes << 20)
    s3 = client(aws, "s3")
    s3.put_object(Bucket=BUCKET, Key="large", Body=body, ChecksumAlgorithm="SHA256")
    assert s3.get_object(Bucket=BUCKET, Key="large")["Body"].read() == body
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="large")["UploadId"]
    part = s3.upload_part(Bucket=BUCKET, Key="large", UploadId=upload, PartNumber=1, Body=body)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=BUCKET, Key="large", UploadId=upload, MultipartUpload=parts)


def test_a_large_body_with_the_wrong_key_gets_the_sentence(aws: Aws) -> None:
    """The refusal is sent before the body is read, and the client still reads it."""
    wrong = client(aws, "s3", aws.environment["AWS_ACCESS_KEY_ID"], "wrong")
    with pytest.raises(ClientError, match="does not match"):
        wrong.put_object(Bucket=BUCKET, Key="large", Body=bytes(20 << 20))


def test_a_distribution_is_open_to_everybody(aws: Aws) -> None:
    """GET and HEAD of its own host only; nothing else of the local AWS is behind that host.

    Loopback counts as TLS, so a distribution that redirects to HTTPS serves it.
    """
    aws.s3.put_object(Bucket=BUCKET, Key="public.txt", Body=b"served", ContentType="text/plain")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "cloudfront.amazonaws.com"},
                "Action": "s3:GetObject",
                "Resource": f"arn:aws:s3:::{BUCKET}/*",
            }
        ],
    }
    aws.s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
    front = client(aws, "cloudfront")
    access = front.create_origin_access_control(
        OriginAccessControlConfig={
            "Name": "gate",
            "SigningProtocol": "sigv4",
            "SigningBehavior": "always",
            "OriginAccessControlOriginType": "s3",
        }
    )["OriginAccessControl"]["Id"]
    origin = {
        "Id": "s3",
        "DomainName": f"{BUCKET}.s3.us-east-1.amazonaws.com",
        "S3OriginConfig": {"OriginAccessIdentity": ""},
        "OriginAccessControlId": access,
    }
    name = front.create_distribution(
        DistributionConfig={
            "CallerReference": "gate",
            "Comment": "",
            "Enabled": True,
            "Origins": {"Quantity": 1, "Items": [origin]},
            "DefaultCacheBehavior": {
                "TargetOriginId": "s3",
                "ViewerProtocolPolicy": "redirect-to-https",
                "CachePolicyId": "658327ea-f89d-4fab-a63d-7e88639e58f6",
            },
        }
    )["Distribution"]["DomainName"]
    label = name.partition(".")[0]
    host = f"{label}.cloudfront.localhost:{port_of(aws)}"
    status, _, body = send(aws, "GET", "/public.txt", Host=host, Origin=PAGE)
    assert (status, body) == (200, b"served")
    assert send(aws, "HEAD", "/public.txt", Host=host)[0] == 200
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert_refused(send(aws, method, "/public.txt", Host=host), "GET, HEAD and OPTIONS")
    for path in (
        "/_ministack/health",
        "/_ministack/lambda-code/x",
        FUNCTIONS,
        "/iceberg/v1/config",
    ):
        status, _, body = send(aws, "GET", path, Host=host)
        assert status in {403, 404}
        assert b"running" not in body
        assert b"Functions" not in body
    other = f"dunknown.cloudfront.localhost:{port_of(aws)}"
    assert_refused(send(aws, "GET", "/public.txt", Host=other), "no distribution")
    assert_refused(send(aws, "GET", "/public.txt", Host=f"{label}.cloudfront.net"))


# --- functions ------------------------------------------------------------------------------------
REPORTS = """
import os
def lambda_handler(event, context):
    return {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
"""


@pytest.fixture(scope="module")
def variables(aws: Aws) -> dict[str, str]:
    """The AWS variables of a function that is waiting for its next event."""
    create_function(aws, "reports", REPORTS)
    found: dict[str, str] = invoke(aws, "reports")
    return found


def test_a_function_has_the_key_of_the_stack(aws: Aws, variables: dict[str, str]) -> None:
    """Its own clients pass the gate."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        assert variables[name] == aws.environment[name]


def test_a_role_s_session_cannot_be_guessed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With IAM enforced, two stacks give one function's role two secrets."""
    found = []
    for name in ("one", "other"):
        with ministack(tmp_path_factory.mktemp(name), AUTH="true") as (aws, _):
            trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}}
            document = {
                "Version": "2012-10-17",
                "Statement": [trust | {"Action": "sts:AssumeRole"}],
            }
            client(aws, "iam").create_role(
                RoleName="test", AssumeRolePolicyDocument=json.dumps(document)
            )
            create_function(aws, "reports", REPORTS)
            found.append(invoke(aws, "reports"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        assert found[0][name] != found[1][name]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": PAGE},
        {"Sec-Fetch-Mode": "no-cors"},
        {"Referer": PAGE},
        {"Host": "evil.example"},
    ],
)
def test_a_page_cannot_answer_for_a_function(
    aws: Aws, variables: dict[str, str], headers: dict[str, str]
) -> None:
    """The runtime API listens on a port of its own, and serves the function's process only."""
    api = f"http://{variables['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime"
    for path, body in (("/init/error", b"{}"), ("/invocation/next", None)):
        request = urllib.request.Request(f"{api}{path}", body, headers)  # noqa: S310 - of loopback
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=5)  # noqa: S310
    assert invoke(aws, "reports")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_cannot_answer_for_a_function(aws: Aws, variables: dict[str, str]) -> None:
    """The other end of the connection must belong to the user who runs the stack."""
    api = f"http://{variables['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation/next"
    assert status_for_another_user(api) == "403"
    assert invoke(aws, "reports")


# --- a real page ----------------------------------------------------------------------------------
ATTACK = """
async ([endpoint, functions, body]) => {
  const tried = {};
  const attempt = async (name, work) => {
    try { tried[name] = await work(); } catch (error) { tried[name] = error.name; }
  };
  await attempt("create", async () =>
    (await fetch(endpoint + functions, {method: "POST", mode: "no-cors", body})).type);
  await attempt("reset", async () =>
    (await fetch(endpoint + "/_ministack/reset", {method: "POST", mode: "no-cors"})).type);
  await attempt("read", async () => (await fetch(endpoint + "/private")).text());
  await attempt("preflight", async () =>
    (await fetch(endpoint + functions, {
      method: "POST", body, headers: {"Content-Type": "application/json"}})).text());
  const form = document.createElement("form");
  Object.assign(form, {method: "POST", enctype: "text/plain", target: "frame"});
  form.action = endpoint + functions;
  const input = document.createElement("input");
  Object.assign(input, {name: body.slice(0, -2) + ', "x": "', value: '"}'});
  const frame = document.createElement("iframe");
  frame.name = "frame";
  form.append(input);
  document.body.append(form, frame);
  const loaded = new Promise((resolve) => { frame.onload = resolve; });
  form.submit();
  await Promise.race([loaded, new Promise((resolve) => setTimeout(resolve, 3000))]);
  return tried;
}
"""


class Page(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        """Serve it."""
        body = b"<!doctype html><title>A page</title><body></body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def page_port() -> Iterator[int]:
    """The port of another server of this machine, with a page."""
    with ThreadingHTTPServer((HOST, 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.skipif(chromium.executable() is None, reason="no Chromium (see tools/browser.py)")
def test_a_real_page_of_another_port_gets_nothing(aws: Aws, page_port: int) -> None:
    """Fetches with and without CORS, and a form, neither read nor change anything."""
    answers: list[tuple[str, int]] = []
    endpoint = str(aws.endpoint_url)
    with chromium.launched() as browser:
        page = browser.new_page()
        page.on(
            "response",
            lambda answer: (
                answers.append((answer.request.method, answer.status))
                if answer.url.startswith(endpoint)
                else None
            ),
        )
        page.goto(f"http://{HOST}:{page_port}/")
        tried = page.evaluate(ATTACK, [endpoint, FUNCTIONS, NEW_FUNCTION])
    assert tried["read"] == "TypeError", "a page may not read a refusal either"
    assert tried["preflight"] == "TypeError"
    assert {tried["create"], tried["reset"]} <= {"opaque", "TypeError"}
    assert answers
    assert {status for _, status in answers} == {403}
    assert aws.functions.list_functions()["Functions"] == [] or {
        each["FunctionName"] for each in aws.functions.list_functions()["Functions"]
    } == {"reports"}
    assert aws.s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == BODY


# --- without the patches --------------------------------------------------------------------------
def test_unpatched_anybody_creates_a_function(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Plain ministack serves everybody, and lets every page read its answers."""
    directory = tmp_path_factory.mktemp("plain")
    with ministack(directory, "admit_only_signed_requests") as (aws, _):
        status, headers, _ = send(
            aws, "POST", FUNCTIONS, NEW_FUNCTION, Origin=PAGE, Content_Type="text/plain"
        )
        assert (status, headers["access-control-allow-origin"]) == (201, "*")
        assert send(aws, "POST", "/_ministack/reset", Host="evil.example")[0] == 200


def test_unpatched_a_presigned_url_reaches_other_services(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Plain ministack sends the form to CloudFormation."""
    directory = tmp_path_factory.mktemp("plain")
    with ministack(directory, "keep_presigned_urls_at_s3") as (aws, _):
        aws.s3.create_bucket(Bucket=BUCKET)
        answer = send(aws, "PUT", presigned(aws, "put_object"), ACTION, Content_Type=FORM)
        assert b"cloudformation" in answer[2]


def test_unpatched_a_function_has_a_key_of_the_emulator(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Plain ministack gives it the account's number, which the gate does not admit."""
    directory = tmp_path_factory.mktemp("plain")
    with ministack(directory, "give_functions_secret_keys") as (aws, _):
        create_function(aws, "reports", REPORTS)
        assert invoke(aws, "reports")["AWS_ACCESS_KEY_ID"] == "000000000000"
